"""Accuracy on minimal pairs, in a whole evaluation."""

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests.support import world
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.run import run_evaluation
from trainer.evaluation.tasks.minimal_pairs import preferences
from trainer.evaluation.tasks.task import Job


def evaluate(tmp_path, model, pairs):
    (tmp_path / "pairs.tsv").write_text("sen\twrong_sen\n" + "".join(f"{a}\t{b}\n" for a, b in pairs))
    fields = {"models": {"m": {"model": str(model)}}, "minimal_pairs": {"en": str(tmp_path / "pairs.tsv")}}
    evaluation = run_evaluation(EvaluationConfig(output=str(tmp_path / "out"), **fields))
    (scores,) = evaluation.scores[Job("minimal_pairs", "m", "en")]
    assert evaluation.tasks["minimal_pairs"].test_files(scores.language) == [str(tmp_path / "pairs.tsv")]
    return scores.ratios["accuracy"]


def plain(folder, sentence):
    """The pseudo-log-likelihood of a sentence whose words are one token each."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    ids = tokenizer(sentence, return_tensors="pt")["input_ids"]
    assert ids.shape[1] - 2 == len(sentence.split())
    total = 0.0
    for at in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, at] = tokenizer.mask_token_id
        with torch.no_grad():
            total += model(input_ids=masked).logits[0, at].log_softmax(0)[ids[0, at]].item()
    return total


def test_the_likelier_sentence_is_preferred(teachers, tmp_path):
    folder = teachers / "en-wordpiece"
    words = [word for word in AutoTokenizer.from_pretrained(folder).get_vocab() if word.isalpha() and len(word) > 2]
    generator = np.random.default_rng(0)
    pairs = [[" ".join(generator.choice(sorted(words), 4)) for _ in range(2)] for _ in range(12)]
    ratio = evaluate(tmp_path, folder, pairs)
    expected = [float(plain(folder, right) > plain(folder, wrong)) for right, wrong in pairs]
    assert 0 < sum(expected) < 12
    assert ratio.numerators_U.tolist() == expected and ratio.denominators_U.tolist() == [1] * 12


def test_a_tie_counts_half(teachers, tmp_path):
    line, other = world.sentences("en", 2)
    assert evaluate(tmp_path, teachers / "en-wordpiece", [(line, line), (other, other)]).value == 0.5
    assert preferences(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).tolist() == [0.5, 1, 0]
