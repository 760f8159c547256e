"""Every masked LM of transformers as a teacher, against plain transformers: one row at a time, no padding, no mask."""

import numpy as np
import pytest
import torch

from pipeline.config import TeacherConfig
from pipeline.teachers.model import longest_exact_sequence
from pipeline.teachers.predictor import Predictor, try_forward
from schemas.errors import UserError
from tests.support.architectures import LONGEST, MODEL_TYPES, VOCABULARY, tiny
from tests.support.paths import ROOT

MATRIX = ROOT / "docs" / "teachers.md"
FLOAT32 = TeacherConfig(model="t", languages=["en"], dtype="float32")
TOP_K = 5
CPU = torch.device("cpu")
# The logits are about 10, and float32 keeps 24 bits of each term of the sums that produce them.
ROUNDING = 10 * 2**-24 * 2**8


class Tokenizer:
    """The part of a `TeacherTokenizer` that predicting reads; the last ten ids have no token."""

    name = "t"
    tokens = {token_id: str(token_id) for token_id in range(VOCABULARY - 10)}
    roles = {"pad": 1, "mask": 4}
    pad_id = 1
    ordinary_ids = np.arange(5, 90, dtype=np.int32)


def ragged(count: int = 24):
    """(input ids, lengths, targets, labels) of rows as masking gives them; several rows have the same length."""
    random = np.random.default_rng(1)
    lengths = random.choice([3, 5, 6, 8, 17, 30, 47, 48], count)
    ids = random.integers(5, 90, lengths.sum()).astype(np.int32)
    targets = np.flatnonzero(random.random(len(ids)) < 0.3)
    ids[targets[::2]] = 4
    return ids, lengths, targets, random.integers(5, 90, len(targets)).astype(np.int32)


@torch.no_grad()
def plain(model, ids, lengths) -> torch.Tensor:
    """float32 [T, V]: log-probabilities at every position, with each row run alone."""
    rows = torch.from_numpy(ids.astype(np.int64)).split(lengths.tolist())
    return torch.cat([model(input_ids=row[None]).logits[0].log_softmax(-1) for row in rows])


def outcome(model_type: str) -> str:
    """What the matrix should say about an architecture."""
    try:
        forward = try_forward(tiny(model_type), Tokenizer, CPU, 48)
    except UserError as refusal:
        return "refused: " + str(refusal).split("): ", 1)[1]
    batches = "one length a batch" if forward.padding_reaches else "padded batches"
    return f"exact, {batches}, head at {'every position' if forward.head_everywhere else 'masked positions only'}"


def matrix() -> dict[str, str]:
    """The document's table: model type -> outcome."""
    lines = [line.split("|") for line in MATRIX.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {cells[1].strip(" `"): cells[2].strip() for cells in lines}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_document_says_what_is_measured(model_type):
    assert matrix()[model_type] == outcome(model_type)
    assert list(matrix()) == sorted(MODEL_TYPES)


@pytest.mark.parametrize("model_type", [name for name, said in matrix().items() if said.startswith("exact")])
def test_predictions_are_those_of_each_row_by_itself(model_type):
    ids, lengths, targets, labels = ragged()
    expected = plain(tiny(model_type), ids, lengths)[targets]
    predictor = Predictor(tiny(model_type), Tokenizer, FLOAT32, TOP_K, threads=2)
    actual = predictor.predict(ids, lengths, targets, labels, batch_tokens=400)
    tolerance = ROUNDING * max(1, float(expected.abs().max()) / 10)
    np.testing.assert_allclose(actual.label_logprobs, expected[range(len(labels)), labels], atol=tolerance)
    top, top_ids = expected[:, :90].topk(TOP_K)
    np.testing.assert_allclose(actual.topk_logprobs, top, atol=tolerance, rtol=2**-11)
    # Ids may swap only where the teacher's probabilities are almost equal.
    by_id = expected.gather(1, torch.from_numpy(actual.topk_ids.astype(np.int64)))
    np.testing.assert_allclose(by_id, top, atol=2 * tolerance)
    assert (actual.topk_ids == top_ids.numpy()).mean() > 0.99


@pytest.mark.parametrize("model_type", ["funnel", "bert"])
def test_the_same_bits_by_any_number_of_threads(model_type):
    """A Funnel stores the length of its row in its modules, which threads share."""
    results = [
        Predictor(tiny(model_type), Tokenizer, FLOAT32, TOP_K, threads).predict(*ragged(), batch_tokens=40)
        for threads in (1, 4)
    ]
    assert (results[0].label_logprobs == results[1].label_logprobs).all()
    assert (results[0].topk_logprobs == results[1].topk_logprobs).all()


@pytest.mark.parametrize(
    ("model_type", "longest"), [("big_bird", 56), ("reformer", 64), ("yoso", LONGEST + 2), ("ibert", LONGEST)]
)
def test_rows_that_are_too_long_to_be_exact(model_type, longest):
    assert longest_exact_sequence(tiny(model_type).config) == longest


def test_a_precision_that_it_does_not_run_in():
    config = TeacherConfig(model="t", languages=["en"], dtype="bfloat16")
    with pytest.raises(UserError, match="does not run in bfloat16 on cpu .*; set `dtype: float32` for it"):
        Predictor(tiny("fnet"), Tokenizer, config, TOP_K)


def test_padding_that_reaches_tokens_is_told(caplog):
    Predictor(tiny("fnet"), Tokenizer, FLOAT32, TOP_K)
    assert "batches have only rows of equal length, which is slower, because padding changes its logits" in caplog.text


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("bert", {"is_decoder": True}, "do not depend on the tokens that follow, so it is not a masked LM"),
        (
            "reformer",
            {"lsh_attn_chunk_length": 4, "local_attn_chunk_length": 32},
            "different predictions for the same text each time",
        ),
        ("xmod", {"default_language": None}, "does not run on token ids alone .ValueError: Input language unknown"),
    ],
)
def test_what_cannot_be_exact_is_refused(model_type, settings, message, monkeypatch):
    monkeypatch.setattr("pipeline.teachers.predictor.longest_exact_sequence", lambda config: 40)
    with pytest.raises(UserError, match=message) as refusal:
        try_forward(tiny(model_type, **settings), Tokenizer, CPU, 40)
    assert "\n" not in str(refusal.value)
