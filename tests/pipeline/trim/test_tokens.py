"""Which tokens are kept, and rows in the trimmed vocabulary."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from pipeline.shard.masking import example_keys
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.trim.tokens import Usage, kept_tokens, trim_rows, trim_vocabulary
from schemas.predictions import open_predictions
from schemas.rows import ROW_SCHEMA, row_schema
from schemas.vocabulary import CONTINUATION, Vocabulary


def test_no_rows_at_all():
    table = np.array([0, 1], np.int32)
    assert len(trim_rows(ROW_SCHEMA.empty_table(), table, 0, 8)) == 0
    assert (Usage(np.zeros(2), np.ones(2)) + Usage(np.ones(2), np.ones(2))).predicted.tolist() == [2, 2]


def test_samples_are_drawn_from_what_the_kept_predictions_leave():
    """The samples are distributed as if the removed predictions had been in the tail when it was sampled."""
    samples = 200_000
    probabilities = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
    tail = probabilities[2:] / probabilities[2:].sum()
    drawn = np.random.default_rng(0).choice([2, 3, 4], samples, p=tail).astype(np.int32)
    row = {
        "example_id": "x", "language": "l", "teacher": "t", "input_ids": [0], "masked_positions": [0], "labels": [0],
        "label_logprobs": [-1.0], "topk_ids": [0, 1], "topk_logprobs": np.log(probabilities[:2]).astype(np.float16),
        "tail_ids": drawn,
    }  # fmt: skip
    rows = pa.Table.from_pylist([row], row_schema(samples))
    # The second prediction and one token of the tail are removed first, then the other prediction, so both draws count.
    once = trim_rows(rows, np.array([0, -1, 1, 2, -1], np.int32), 0, 2, samples, example_keys(0, ["once"]))
    once = once.set_column(5, "labels", pa.array([[1]], pa.list_(pa.int32())))
    twice = trim_rows(once, np.array([-1, 0, 1], np.int32), 0, 2, samples, example_keys(0, ["twice"]))
    for trimmed, rest in ((once, {1: 0.2, 2: 0.1, -1: 0.3}), (twice, {0: 0.2, 1: 0.1, -1: 0.7})):
        counts = Counter(trimmed["tail_ids"][0].as_py())
        assert counts.keys() == rest.keys()
        for token, mass in rest.items():
            share = mass / sum(rest.values())
            # Five standard errors plus the rounding of log-probabilities to float16.
            tolerance = 5 * np.sqrt(share * (1 - share) / samples) + 2**-11
            assert abs(counts[token] / samples - share) < tolerance, token


def test_trimming_nothing_changes_nothing(predictions):
    vocabulary = open_predictions(str(predictions)).vocabulary
    same, table = trim_vocabulary(vocabulary, np.ones(len(vocabulary), bool))
    assert same.sha256 == vocabulary.sha256 and (table == np.arange(len(vocabulary))).all()


PIECES = ["<pad>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "r", "i", "ri", "v"]


@pytest.mark.parametrize(
    "model",
    [
        models.Unigram([(piece, -float(number)) for number, piece in enumerate(PIECES)], unk_id=1, byte_fallback=True),
        models.BPE({p: n for n, p in enumerate(PIECES)}, [("r", "i")], unk_token="<unk>", byte_fallback=True),
    ],
    ids=["Unigram", "BPE"],
)
def test_bytes_to_fall_back_on_are_kept(model):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), pad_token="<pad>", unk_token="<unk>", mask_token="<mask>"
    )
    roles = ["pad", "unknown", "mask", *[CONTINUATION] * (len(PIECES) - 3)]
    vocabulary = Vocabulary(PIECES, roles, {"t": np.arange(len(PIECES), dtype=np.int32)})
    emitted = np.array([piece == "ri" for piece in PIECES])
    kept = kept_tokens(Usage(emitted, np.zeros(len(PIECES))), vocabulary, {"t": tokenizer})
    _, table = trim_vocabulary(vocabulary, kept)
    trimmed = remap_tokenizer(tokenizer, table)
    assert trimmed.tokenize("riж") == tokenizer.tokenize("riж") == ["ri", "<0xD0>", "<0xB6>"]
    dropped = {PIECES[merged] for merged in np.flatnonzero(~kept)}
    assert dropped == ({"r", "i"} if isinstance(model, models.Unigram) else {"v"})
