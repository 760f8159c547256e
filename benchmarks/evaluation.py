"""`python -m benchmarks.evaluation`: pseudo-likelihoods by this project, by minicons, and by a plain loop.

All three score the same made-up sentences within words from left to right (Kauf and Ivanova 2023), with a BERT of random
weights, and must return the same figures. In each round, every way scores all sentences once, so that other load on the
machine affects all ways. The loop and minicons run the head at every position; minicons has one batch per sentence, so it
has no padding.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from minicons.scorer import MaskedLMScorer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from schemas.tables import format_table
from trainer.evaluation.config import ModelConfig
from trainer.evaluation.models import Model
from trainer.evaluation.pseudo_likelihood import score_texts

# The size of bert-base-multilingual-cased, and that of a student for quick trials.
SHAPES = {
    "base": {},
    "tiny": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512},
}
_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ENDINGS = 1000


def make_model(folder: Path, shape: str, vocabulary: int) -> None:
    """Writes a BERT with random weights, and a WordPiece tokenizer of made-up words and word endings."""
    words = [f"w{number}" for number in range(vocabulary - _ENDINGS - len(_SPECIALS))]
    endings = [f"##x{number}" for number in range(_ENDINGS)]
    tokens = {token: number for number, token in enumerate([*_SPECIALS, *words, *endings])}
    backend = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", tokens["[SEP]"]), ("[CLS]", tokens["[CLS]"]))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(names, _SPECIALS, strict=True))).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=vocabulary, **SHAPES[shape])).save_pretrained(folder)


def make_sentences(count: int, vocabulary: int) -> list[str]:
    """Returns sentences of 5 to 40 words, 15 in the median; a third of the words have one or two endings."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(math.log(15), 0.5, count).astype(int), 5, 40)
    return [" ".join(_word(random, vocabulary) for _ in range(length)) for length in lengths]


def _word(random: np.random.Generator, vocabulary: int) -> str:
    endings = "".join(f"x{number}" for number in random.integers(_ENDINGS, size=random.choice(3, p=[0.67, 0.22, 0.11])))
    return f"w{random.integers(vocabulary - _ENDINGS - len(_SPECIALS))}{endings}"


def plain_loop(model: Model, sentence: str) -> float:
    """Returns the bits of a sentence, computed one masked variant at a time."""
    tokenizer = model.tokenizer(None)
    encoded = tokenizer(sentence, return_tensors="pt")
    ids, words = encoded["input_ids"], encoded.word_ids()
    bits = 0.0
    for position, word in enumerate(words):
        if word is None:
            continue
        masked = ids.clone()
        masked[0, [later for later, other in enumerate(words) if other == word and later >= position]] = (
            tokenizer.mask_token_id
        )
        with torch.inference_mode():
            logits = model.masked_lm(input_ids=masked).logits[0, position]
        bits -= logits.log_softmax(0)[ids[0, position]].item() / math.log(2)
    return bits


def with_minicons(scorer: MaskedLMScorer, sentence: str) -> float:
    """Returns the bits of a sentence."""
    # Encode here, because minicons calls a tokenizer method that transformers 5 has removed.
    encoded = scorer.tokenizer([sentence])
    (nats,) = scorer.sequence_score(encoded, lambda scores: -scores.sum().item(), PLL_metric="within_word_l2r")
    return nats / math.log(2)


def main() -> int:
    """Prints a table: rates, speed-up, and the largest relative difference of a sentence's bits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--vocabulary", type=int, default=119_547)
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, default=4096, help="batch size of this project, in tokens")
    arguments = parser.parse_args()
    disable_progress_bar()
    sentences = make_sentences(arguments.sentences, arguments.vocabulary)
    with tempfile.TemporaryDirectory() as scratch:
        make_model(Path(scratch), arguments.shape, arguments.vocabulary)
        model = Model("model", ModelConfig(model=scratch), torch.device("cpu"))
        model.masked_lm  # noqa: B018, loads it
        tokenizer = model.tokenizer(None)
        scorer = MaskedLMScorer(model.masked_lm, "cpu", tokenizer=tokenizer)
        ways: dict[str, Callable[[], np.ndarray]] = {
            "mergedistill": lambda: score_texts(sentences, model, "x", 128, arguments.batch_tokens).bits_N,
            "minicons": lambda: np.array([with_minicons(scorer, sentence) for sentence in sentences]),
            "plain loop": lambda: np.array([plain_loop(model, sentence) for sentence in sentences]),
        }
        seconds, bits = dict.fromkeys(ways, 0.0), {}
        for _ in range(arguments.rounds):
            for name, score in ways.items():
                start = time.perf_counter()
                bits[name] = score()
                seconds[name] += time.perf_counter() - start
        tokens = arguments.rounds * sum(len(tokenizer.tokenize(sentence)) for sentence in sentences)
    print(
        f"{arguments.shape}, {arguments.vocabulary:,} tokens; {len(sentences)} sentences, {torch.get_num_threads()} threads"
    )
    rows = [
        [
            name,
            f"{tokens / seconds[name]:.1f}",
            f"{seconds[name] / seconds['mergedistill']:.2f}",
            f"{np.abs(bits[name] / bits['mergedistill'] - 1).max():.1e}",
        ]
        for name in ways
    ]
    print(format_table(["", "scored tokens/s", "times our seconds", "largest difference"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
