"""Teacher inference, compared with plain transformers: full logits, one sequence at a time."""

import gc
import threading
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from pipeline.config import TeacherConfig
from pipeline.teachers.predictor import NotFinite, Predictor
from tests.support.training import NEEDS_COMPILER

TOP_K = 5
FLOAT32 = TeacherConfig(model="t", languages=["en"], dtype="float32")


class Tokenizer:
    """The part of a `TeacherTokenizer` that predicting reads; ids 90.. have no token."""

    name = "t"
    tokens = {token_id: str(token_id) for token_id in range(90)}
    roles = {"pad": 1, "mask": 4}
    pad_id = 1
    ordinary_ids = np.arange(5, 90, dtype=np.int32)


def tiny(model_type: str, vocabulary: int = 100):
    settings = {
        "vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 40, "pad_token_id": 1, "initializer_range": 0.5, "embedding_size": 16,
    }  # fmt: skip
    if model_type == "distilbert":
        settings |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    if model_type == "modernbert":
        settings |= {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()


def ragged(count: int, seed: int = 0):
    """(input ids, lengths, targets, labels) of `count` rows, as masking gives them."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 30, count)
    ids = random.integers(5, 90, lengths.sum()).astype(np.int32)
    targets = np.flatnonzero(random.random(len(ids)) < 0.3)
    return ids, lengths, targets, random.integers(5, 90, len(targets)).astype(np.int32)


MODEL_TYPES = [
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "albert",
    "deberta-v2",
    "modernbert",
]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@torch.no_grad()
def test_predictions_are_the_full_forwards(model_type):
    model = tiny(model_type)
    ids, lengths, targets, labels = ragged(12)
    # The expected values come first, because predicting adds hooks to the model.
    logprobs = []
    for start, length in zip(np.cumsum(lengths) - lengths, lengths, strict=True):
        row = torch.from_numpy(ids[start : start + length].astype(np.int64))[None]
        logprobs.append(model(input_ids=row).logits[0].log_softmax(-1))
    expected = torch.cat(logprobs)[targets]
    actual = Predictor(model, Tokenizer, FLOAT32, TOP_K).predict(ids, lengths, targets, labels, batch_tokens=64)
    np.testing.assert_allclose(actual.label_logprobs, expected[range(len(labels)), labels], atol=2e-4)
    # Ids without a token count in the normaliser but are never among the top-k.
    top, top_ids = expected[:, :90].topk(TOP_K)
    np.testing.assert_allclose(actual.topk_logprobs, top, atol=2e-4, rtol=2**-11)
    assert (np.diff(actual.topk_logprobs.astype(np.float32), axis=1) <= 0).all()
    gap = (top[:, :-1] - top[:, 1:]).min(1).values > 1e-3
    assert gap.float().mean() > 0.5
    assert (actual.topk_ids[gap] == top_ids[gap].numpy()).all()


@pytest.mark.heavy
@NEEDS_COMPILER
def test_a_compiled_pass_predicts_the_same():
    """Several threads use it, but it is compiled once."""
    model, arguments = tiny("bert", 300), ragged(40)
    plain = Predictor(model, Tokenizer, FLOAT32, TOP_K).predict(*arguments, batch_tokens=64)
    config = FLOAT32.model_copy(update={"torch_compile": True})
    compiled = Predictor(model, Tokenizer, config, TOP_K, threads=3).predict(*arguments, batch_tokens=64)
    np.testing.assert_allclose(compiled.label_logprobs, plain.label_logprobs, atol=2e-6)
    np.testing.assert_allclose(compiled.topk_logprobs, plain.topk_logprobs, rtol=2**-10)
    assert (compiled.topk_ids == plain.topk_ids).all()


@pytest.mark.parametrize("batch_tokens", [1, 64, 400])
@torch.no_grad()
def test_samples_are_drawn_from_the_full_forwards_tail(batch_tokens):
    """Each sample is the inverse of the cumulative distribution, whatever batch its row is in."""
    model = tiny("bert")
    ids, lengths, targets, labels = ragged(12)
    rows = torch.from_numpy(ids.astype(np.int64)).split(lengths.tolist())
    logits = torch.cat([model(input_ids=row[None]).logits[0] for row in rows])[targets].double()
    uniforms, asked = np.random.default_rng(1).random((len(targets), 6)), []

    def uniforms_of(index_M: np.ndarray) -> np.ndarray:
        asked.append(len(index_M))
        return uniforms[index_M]

    actual = Predictor(model, Tokenizer, FLOAT32, TOP_K).predict(
        ids, lengths, targets, labels, batch_tokens, tail_samples=6, tail_uniforms=uniforms_of
    )
    # It never asks for all targets at once, which may be those of a whole shard.
    assert sum(asked) == len(targets) and (batch_tokens == 400 or max(asked) < len(targets))
    assert actual.tail_ids.shape == uniforms.shape and actual.tail_ids.dtype == np.int32
    # Neither the padding of the vocabulary nor the stored top-k are drawn.
    tail = logits.softmax(-1).numpy()
    tail[:, 90:] = 0
    np.put_along_axis(tail, actual.topk_ids.astype(np.int64), 0, 1)
    ends = (tail / tail.sum(1, keepdims=True)).cumsum(1)
    starts = np.pad(ends, ((0, 0), (1, 0)))[:, :-1]
    for number, samples in enumerate(actual.tail_ids):
        assert (tail[number, samples] > 0).all()
        assert (starts[number, samples] - 1e-5 <= uniforms[number]).all()
        assert (uniforms[number] <= ends[number, samples] + 1e-5).all()


def test_not_a_number_stops_the_run():
    model = tiny("bert")
    # Untied, so that only the sequences with token 50 are affected.
    weights = model.get_input_embeddings().weight.detach().clone()
    weights[50] = torch.nan
    model.get_input_embeddings().weight = torch.nn.Parameter(weights)
    predictor = Predictor(model, Tokenizer, FLOAT32, TOP_K)
    ids, lengths, targets, labels = ragged(12)
    with pytest.raises(NotFinite) as caught:
        predictor.predict(ids, lengths, targets, labels, batch_tokens=64)
    row = np.searchsorted(np.cumsum(lengths), targets[caught.value.target], side="right")
    assert 50 in np.split(ids, np.cumsum(lengths)[:-1])[row]


class Mixed(torch.nn.Module):
    """A head that reads neighbouring positions, so that it cannot be run at selected positions only."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, hidden):
        return self.head(hidden + hidden.roll(1, dims=1))


class Inner(torch.nn.Module):
    """An encoder that returns a bare tuple, on which the hook fails."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, *arguments, **named):
        return Bare(self.encoder(*arguments, **named))


class Bare(tuple):
    """The part of a model output that BertForMaskedLM reads."""

    hidden_states = attentions = None

    def __new__(cls, output):
        return super().__new__(cls, (output.last_hidden_state,))


@pytest.mark.parametrize(("part", "wrapper"), [("cls", Mixed), ("bert", Inner)])
@torch.no_grad()
def test_where_masked_positions_alone_would_be_wrong_the_full_forward_is_run(part, wrapper, caplog):
    model = tiny("bert")
    embeddings = model.get_input_embeddings()
    setattr(model, part, wrapper(getattr(model, part)))
    model.get_input_embeddings = lambda: embeddings
    ids, lengths, targets, labels = ragged(6)
    rows = torch.from_numpy(ids.astype(np.int64)).split(lengths.tolist())
    expected = torch.cat([model(input_ids=row[None]).logits[0] for row in rows])
    predictor = Predictor(model, Tokenizer, FLOAT32, TOP_K)
    assert "runs its head at every position" in caplog.text
    # One row at a time, because padding would affect a head that mixes positions.
    actual = predictor.predict(ids, lengths, targets, labels, batch_tokens=1)
    by_label = expected.log_softmax(-1)[targets][range(len(labels)), labels]
    np.testing.assert_allclose(actual.label_logprobs, by_label, atol=2e-4)


def test_threads_give_the_same_bits():
    ids, lengths, targets, labels = ragged(60)
    uniforms = np.random.default_rng(1).random((len(targets), 4))
    results = [
        Predictor(tiny("bert"), Tokenizer, FLOAT32, TOP_K, threads).predict(
            ids, lengths, targets, labels, 64, tail_samples=4, tail_uniforms=lambda index_M: uniforms[index_M]
        )
        for threads in (1, 2, 5)
    ]
    for other in results[1:]:
        assert (other.label_logprobs == results[0].label_logprobs).all()
        assert (other.topk_ids == results[0].topk_ids).all()
        assert (other.topk_logprobs == results[0].topk_logprobs).all()
        assert (other.tail_ids == results[0].tail_ids).all()


def test_batches_that_are_launched_ahead_give_the_same_bits(monkeypatch):
    """Batches are launched ahead on a GPU, so that results are fetched while it works on the next batches."""
    ids, lengths, targets, labels = ragged(40)
    predictor = Predictor(tiny("bert"), Tokenizer(), FLOAT32, TOP_K)
    expected = predictor.predict(ids, lengths, targets, labels, 64)
    monkeypatch.setattr(predictor, "_device_kind", "other")
    done = []
    actual = predictor.predict(ids, lengths, targets, labels, 64, done.append)
    assert len(done) > 10 and sum(done) == lengths.sum()
    for name in ("label_logprobs", "topk_ids", "topk_logprobs"):
        assert (getattr(actual, name) == getattr(expected, name)).all()


def test_rows_without_padding_have_no_mask(monkeypatch):
    model = tiny("bert")
    predictor = Predictor(model, Tokenizer(), FLOAT32, TOP_K)
    masks = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda **given: masks.append("attention_mask" in given) or forward(**given))
    ids = np.arange(5, 45, dtype=np.int32)
    for lengths, has_mask in (([20, 20], False), ([15, 25], True)):
        predictor.predict(ids, np.array(lengths), np.array([3, 30]), ids[[3, 30]])
        assert masks.pop() == has_mask and not masks


@pytest.fixture
def without_collector():
    """Turns the garbage collector off, so that only objects whose last reference is gone are freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_teacher_is_gone_with_its_last_user(without_collector):
    model = tiny("bert")
    predictor = Predictor(model, Tokenizer(), FLOAT32, TOP_K)
    predictor.predict(*ragged(5))
    alive = weakref.ref(model)
    del model, predictor
    assert alive() is None


@pytest.mark.heavy
def test_of_two_teachers_one_predicts_at_a_time(monkeypatch):
    """The number of threads per operation is global to the process: a teacher that ends would change it for others."""
    forward, lock, busy, most = Predictor._predict_batch, threading.Lock(), Counter(), []

    def watched(self, *arguments):
        with lock:
            busy[self] += 1
            most.append((len(+busy), torch.get_num_threads()))
        try:
            return forward(self, *arguments)
        finally:
            with lock:
                busy[self] -= 1

    monkeypatch.setattr(Predictor, "_predict_batch", watched)
    before = torch.get_num_threads()
    predictors = [Predictor(tiny("bert"), Tokenizer(), FLOAT32, TOP_K, threads=2) for _ in range(2)]
    shards = [
        threading.Thread(target=predictor.predict, args=(*ragged(400, number), 64))
        for number in range(3)
        for predictor in predictors
    ]
    for shard in shards:
        shard.start()
    for shard in shards:
        shard.join()
    assert len(most) > 100 and set(most) == {(1, 1)} and torch.get_num_threads() == before
