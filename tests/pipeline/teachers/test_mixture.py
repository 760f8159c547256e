"""A teacher of several models: its predictions are the plain mean of each model's output in plain transformers."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from pipeline.config import PipelineConfig, TeacherConfig
from pipeline.job.launcher import dry_run, run_pipeline
from pipeline.teachers.mixture import add_distribution, mixture_fingerprint
from pipeline.teachers.predictor import Predictor
from schemas.errors import UserError
from schemas.manifest import read_manifest
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.support.checked import checked

TOP_K = 5


class Tokenizer:
    """The part of a `TeacherTokenizer` that predicting reads; ids 90.. have no token."""

    name = "t"
    tokens = {token_id: str(token_id) for token_id in range(90)}
    roles = {"pad": 1, "mask": 4}
    pad_id = 1
    ordinary_ids = np.arange(5, 90, dtype=np.int32)


def mixed(*weights: float, **settings) -> TeacherConfig:
    others = [{"model": f"m{number}", "weight": weight} for number, weight in enumerate(weights)]
    return TeacherConfig.model_validate({"model": "t", "languages": ["en"], "mixed_with": others} | settings)


def tiny(model_type: str, seed: int, vocab_size: int = 100) -> torch.nn.Module:
    torch.manual_seed(seed)
    settings = {
        "vocab_size": vocab_size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 40, "pad_token_id": 1, "initializer_range": 0.5,
        "embedding_size": 16,
    }  # fmt: skip
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()


# Different architectures, different numbers of padding columns, and a model in which padding affects tokens.
MODELS = {
    "equal": [("bert", 100), ("bert", 100)],
    "other": [("bert", 96), ("roberta", 100), ("electra", 90)],
    "padding reaches": [("bert", 100), ("fnet", 100)],
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", MODELS)
@torch.no_grad()
def test_predictions_are_the_weighted_mean(case, threads):
    models = [tiny(model_type, seed, size) for seed, (model_type, size) in enumerate(MODELS[case])]
    config = mixed(*[0.3, 0.2][: len(models) - 1], dtype="float32")
    random = np.random.default_rng(0)
    lengths = random.integers(3, 30, 12)
    ids = random.integers(5, 90, lengths.sum()).astype(np.int32)
    targets = np.flatnonzero(random.random(len(ids)) < 0.3)
    labels = random.integers(5, 90, len(targets)).astype(np.int32)
    # The expected values come first, because predicting adds hooks to the models.
    mean = torch.zeros(len(ids), 100, dtype=torch.float64)
    for model, weight in zip(models, [0.7, 0.3] if len(models) == 2 else [0.5, 0.3, 0.2], strict=True):
        rows = torch.from_numpy(ids.astype(np.int64)).split(lengths.tolist())
        probabilities = torch.cat([model(input_ids=row[None]).logits[0].double().softmax(-1) for row in rows])
        mean[:, : probabilities.shape[1]] += weight * probabilities
    expected = mean[targets].log()

    first, *others = models
    predictor = Predictor(first, Tokenizer, config, TOP_K, threads, mixed_with=others)
    predicted = predictor.predict(ids, lengths, targets, labels, batch_tokens=64)
    np.testing.assert_allclose(predicted.label_logprobs, expected[range(len(labels)), labels], atol=2e-4)
    top, top_ids = expected[:, :90].topk(TOP_K)
    np.testing.assert_allclose(predicted.topk_logprobs, top, atol=2e-4, rtol=2**-11)
    gap = (top[:, :-1] - top[:, 1:]).min(1).values > 1e-3
    assert gap.float().mean() > 0.5 and (predicted.topk_ids[gap] == top_ids[gap].numpy()).all()
    # The full distributions that the audit uses.
    full = predictor.log_distributions(ids[: lengths[0]], targets[targets < lengths[0]])
    np.testing.assert_allclose(full, expected[: len(full)], atol=2e-4)
    alone = [Predictor(model, Tokenizer, config, TOP_K) for model in models]
    flops = [one.flops(ids, lengths, len(targets)) for one in (predictor, *alone)]
    assert flops[0] == sum(flops[1:])


@torch.no_grad()
def test_samples_are_drawn_from_the_means_tail():
    """Each is the inverse of the cumulative distribution of the averaged tail."""
    models = [tiny("bert", 0), tiny("roberta", 1)]
    random = np.random.default_rng(0)
    ids = random.integers(5, 90, 20).astype(np.int32)
    targets, labels = np.arange(2, 20, 3), np.full(6, 7, np.int32)
    uniforms = random.random((6, 8))
    rows = torch.from_numpy(ids.astype(np.int64))[None]
    mean = sum(w * m(input_ids=rows).logits[0].double().softmax(-1) for w, m in zip((0.7, 0.3), models, strict=True))
    predicted = Predictor(models[0], Tokenizer, mixed(0.3, dtype="float32"), TOP_K, mixed_with=models[1:]).predict(
        ids, np.array([20]), targets, labels, tail_samples=8, tail_uniforms=lambda index_M: uniforms[index_M]
    )
    tail = mean[targets].numpy()
    tail[:, 90:] = 0
    np.put_along_axis(tail, predicted.topk_ids.astype(np.int64), 0, 1)
    ends = np.pad((tail / tail.sum(1, keepdims=True)).cumsum(1), ((0, 0), (1, 0)))
    drawn = predicted.tail_ids.astype(np.int64)
    assert (np.take_along_axis(tail, drawn, 1) > 0).all()
    assert (np.take_along_axis(ends, drawn, 1) - 1e-5 <= uniforms).all()
    assert (uniforms <= np.take_along_axis(ends, drawn + 1, 1) + 1e-5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [0, 1, 7000])
def test_no_probability_is_too_small(rows, dtype):
    torch.manual_seed(0)
    # Far below the smallest float32 probability: exp(-104) is 0. The rows take more than one chunk.
    parts = [(torch.randn(rows, width) * 200).to(dtype) for width in (90, 100)]
    mixed_MV = torch.full((rows, 100), -torch.inf)
    for logits_MV, weight in zip(parts, (0.25, 0.75), strict=True):
        add_distribution(mixed_MV, logits_MV, weight)
    exact = [
        torch.nn.functional.pad(logits_MV.double().log_softmax(-1), (0, 100 - logits_MV.shape[1]), value=-torch.inf)
        for logits_MV in parts
    ]
    expected = torch.logsumexp(torch.stack([exact[0] + math.log(0.25), exact[1] + math.log(0.75)]), 0)
    assert torch.isfinite(mixed_MV).all()
    # The spacing of float32 near 1,000.
    torch.testing.assert_close(mixed_MV, expected.float(), atol=5e-4, rtol=0)


def make_sibling(teacher: Path, folder: Path, seed: int) -> None:
    """Writes a model with other random weights but a teacher's tokenizer and configuration."""
    torch.manual_seed(seed)
    AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(teacher)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)


@pytest.fixture
def settings(pipeline_settings, teachers, tmp_path):
    """A configuration with one teacher of two models; writes the second model."""
    make_sibling(teachers / "en-wordpiece", tmp_path / "second", seed=1)
    teacher = {
        "model": str(teachers / "en-wordpiece"),
        "mixed_with": [{"model": str(tmp_path / "second"), "weight": 0.4}],
        "languages": ["en"],
        "dtype": "float32",
    }
    configuration = pipeline_settings(tmp_path / "p")
    return configuration | {"teachers": {"both": teacher}, "text": {"en": configuration["text"]["en"]}}


@pytest.mark.heavy
@torch.no_grad()
def test_rows_of_a_run(settings, teachers, tmp_path):
    (estimate,) = dry_run(PipelineConfig.model_validate(settings), [])
    alone = {"both": settings["teachers"]["both"] | {"mixed_with": []}}
    (estimate_alone,) = dry_run(PipelineConfig.model_validate(settings | {"teachers": alone}), [])
    assert estimate.flops == pytest.approx(2 * estimate_alone.flops)

    manifest = run_pipeline(PipelineConfig.model_validate(settings), [])
    assert read_manifest(str(tmp_path / "p")) == manifest
    (further,) = manifest.teachers["both"].mixed_with
    assert (further.model, further.revision, further.weight) == (str(tmp_path / "second"), None, 0.4)
    assert 0 <= manifest.languages[0].audit.kl_top_k < 1 and manifest.languages[0].audit.rows == 64
    teacher_ids = pd.read_parquet(tmp_path / "p" / VOCABULARY_FILE).set_index("id")["both"]
    models = [AutoModelForMaskedLM.from_pretrained(path).eval() for path in (teachers / "en-wordpiece", further.model)]
    for row in pd.read_parquet(tmp_path / "p" / "en").head(40).itertuples():
        input_ids = torch.tensor(teacher_ids[row.input_ids].to_numpy(np.int64))[None]
        probabilities = [model(input_ids=input_ids).logits[0].softmax(-1) for model in models]
        logprobs = (0.6 * probabilities[0] + 0.4 * probabilities[1]).log()[row.masked_positions.tolist()]
        labels = torch.tensor(teacher_ids[row.labels].to_numpy(np.int64))
        np.testing.assert_allclose(row.label_logprobs, logprobs.gather(1, labels[:, None])[:, 0], atol=1e-4)
        np.testing.assert_allclose(row.topk_logprobs.reshape(-1, 8), logprobs.topk(8)[0], rtol=2**-11, atol=1e-4)

    settings["teachers"]["both"]["mixed_with"][0]["weight"] = 0.5
    with pytest.raises(UserError, match="holds another run .*teachers.both.mixed_with.0.weight was 0.4, now 0.5"):
        run_pipeline(PipelineConfig.model_validate(settings), [])


def test_another_vocabulary_is_refused(settings, teachers, tmp_path):
    world.make_tokenizer("wordpiece", world.sentences("ru", 100)).save_pretrained(tmp_path / "second")
    with pytest.raises(
        UserError, match=r"^teacher 'both': \S+/second has another vocabulary than \S+ \(token \d+ is '"
    ):
        checked(PipelineConfig.model_validate(settings))
    settings["teachers"]["both"]["mixed_with"][0]["model"] = str(tmp_path / "none")
    with pytest.raises(UserError, match=r"^teacher 'both' \(\S+/none\): its tokenizer cannot be loaded"):
        checked(PipelineConfig.model_validate(settings))


def test_all_models_are_fingerprinted(settings, tmp_path):
    def fingerprint(**changes) -> str:
        teachers = {"both": settings["teachers"]["both"] | changes}
        return (
            checked(PipelineConfig.model_validate(settings | {"teachers": teachers})).run.teachers["both"].fingerprint
        )

    first, second = settings["teachers"]["both"]["model"], str(tmp_path / "second")
    before = fingerprint()
    alone, other = fingerprint(mixed_with=[]), fingerprint(model=second, mixed_with=[])
    assert before == mixture_fingerprint([alone, other], [0.6, 0.4]) and mixture_fingerprint([alone], [1.0]) == alone
    assert fingerprint(model=second, mixed_with=[{"model": first, "weight": 0.6}]) != before
    make_sibling(Path(first), tmp_path / "second", seed=2)
    assert fingerprint() != before


def test_a_teacher_of_one_model_is_recorded_as_before(predictions):
    for name in ("_manifest.json", "_run.json"):
        for teacher in json.loads((predictions / name).read_text())["teachers"].values():
            assert set(teacher) == {"model", "revision", "family", "languages", "vocabulary_size", "fingerprint"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [((0.5, 0.5), "the weights sum to 1, which leaves nothing for `model`"), ((1,), "less than 1"), ((0,), "than 0")],
)
def test_weights_that_are_none(weights, message):
    with pytest.raises(ValidationError, match=message):
        mixed(*weights)
