"""Stage two as a whole, in real processes: from predictions to a student that plain transformers loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from schemas.manifest import open_predictions
from tests import world
from tests.test_reader import reader, take
from trainer.checkpoint import latest_checkpoint
from trainer.config import StudentConfig
from trainer.student import DistilledStudent, build_student, student_config

ROOT = Path(__file__).parent.parent


def write_config(folder: Path, predictions, heldout, shape=(), **changes) -> Path:
    settings = {
        "output": str(folder / "student"),
        "predictions": list(map(str, predictions)) if isinstance(predictions, list) else str(predictions),
        "heldout": heldout and str(heldout),
        "student": {
            "settings": {
                "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 64, "max_position_embeddings": world.MAX_LENGTH, **dict(shape),
            }
        },
        "sampling": {"shuffle_rows": 256},
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 5},
        "steps": 30,
        "batch_tokens": 1024,
        "precision": "float32",
        "checkpoint_every": 10,
        "log_every": 10,
    } | changes  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def train(config: Path, *launcher: str, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, *(launcher or ("-m", "trainer")), str(config)]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        **kwargs,
    )


@pytest.fixture(scope="module")
def student(predictions, heldout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    done = train(write_config(folder, predictions, heldout))
    assert done.returncode == 0, done.stderr
    return folder / "student"


def test_plain_transformers_loads_the_student(student, predictions):
    opened = open_predictions(str(predictions))
    (manifest,), vocabulary = opened.manifests, opened.vocabulary
    model = AutoModelForMaskedLM.from_pretrained(student)
    assert model.config.vocab_size == len(vocabulary)
    assert model.config.pad_token_id == vocabulary.id_of("pad")
    tokenizer = AutoTokenizer.from_pretrained(student)
    assert len(tokenizer) == len(vocabulary) and tokenizer.model_max_length == world.MAX_LENGTH
    for language, name in ((language, name) for name, language in world.TEACHERS.items()):
        own = AutoTokenizer.from_pretrained(student / "tokenizers" / language)
        line = world.sentences(language, 3)[2]
        teacher = AutoTokenizer.from_pretrained(manifest.teachers[name].model)
        assert own(line)["input_ids"] == vocabulary.to_merged(name)[teacher(line)["input_ids"]].tolist()
    guesses = pipeline("fill-mask", model=str(student))(f"the {tokenizer.mask_token} writes")
    assert len(guesses) == 5


@torch.no_grad()
def test_evaluation_is_what_plain_transformers_gives(student, heldout):
    """Accuracy and NLL of student and teacher, from the rows, one at a time."""
    import pandas as pd

    model = AutoModelForMaskedLM.from_pretrained(student).eval()
    frame = pd.read_parquet(heldout)
    for language, result in json.loads((student / "evaluation.json").read_text())["languages"].items():
        rows = frame[frame.language == language]
        right = nll = positions = teacher_right = teacher_nll = 0
        for row in rows.itertuples():
            logits = model(input_ids=torch.tensor(row.input_ids)[None].long()).logits[0, row.masked_positions.tolist()]
            labels = torch.tensor(row.labels).long()
            positions += len(labels)
            right += (logits.argmax(-1) == labels).sum().item()
            nll += functional.cross_entropy(logits, labels, reduction="sum").item()
            teacher_right += (row.topk_ids[::8] == row.labels).sum()
            teacher_nll -= row.label_logprobs.sum()
        assert result["positions"] == positions
        assert result["accuracy"] == pytest.approx(right / positions, abs=1.5 / positions)
        assert result["nll"] == pytest.approx(nll / positions, rel=1e-4)
        assert result["teacher_accuracy"] == pytest.approx(teacher_right / positions)
        assert result["teacher_nll"] == pytest.approx(teacher_nll / positions, rel=1e-5)


def test_training_learns(student, predictions):
    """Even these few steps beat a student that knows nothing by a wide margin."""
    vocabulary = open_predictions(str(predictions)).vocabulary
    know_nothing = torch.tensor(float(len(vocabulary))).log().item()
    for result in json.loads((student / "evaluation.json").read_text())["languages"].values():
        assert result["nll"] < know_nothing - 1


def test_a_killed_run_goes_on_to_the_same_weights(student, predictions, heldout, tmp_path):
    config = write_config(tmp_path, predictions, heldout)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", str(config)], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    while latest_checkpoint(str(tmp_path / "student")) is None:
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not (tmp_path / "student" / "model.safetensors").exists()
    assert train(config).returncode == 0
    theirs, ours = load_file(student / "model.safetensors"), load_file(tmp_path / "student" / "model.safetensors")
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[key], ours[key]) for key in theirs)
    again = train(config)
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_another_configuration_does_not_go_on(student, predictions, heldout, tmp_path):
    config = write_config(tmp_path, predictions, heldout, output=str(student), seed=9)
    done = train(config)
    assert done.returncode == 2
    assert "seed was 0, now 9" in done.stderr and "Traceback" not in done.stderr


def test_two_processes_give_the_gradients_of_one(predictions, tmp_path):
    """Two with one micro-batch each, one with two: the same batches, so the same weights, bit for bit."""
    # Dropout, seeded a process, would differ.
    shape = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    changes = {"steps": 6, "checkpoint_every": 6, "shape": shape}
    one = write_config(tmp_path / "one", predictions, None, accumulation=2, **changes)
    two = write_config(tmp_path / "two", predictions, None, accumulation=1, **changes)
    assert train(one).returncode == 0
    done = train(two, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "trainer")
    assert done.returncode == 0, done.stderr
    ours = load_file(tmp_path / "one" / "student" / "model.safetensors")
    theirs = load_file(tmp_path / "two" / "student" / "model.safetensors")
    # The sum of two terms, scaled by powers of two, is the same in any order.
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


def test_mlm_only_needs_no_predictions(run_pipeline, tmp_path):
    masked = run_pipeline(tmp_path / "masked", top_k=0)
    done = train(write_config(tmp_path, masked, masked, distillation={"weight": 0}, steps=6))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "student" / "evaluation.json").read_text())["languages"]
    assert all(row["teacher_nll"] is None and row["nll"] > 0 for row in result.values())
    refused = train(write_config(tmp_path / "kd", masked, None))
    assert refused.returncode == 2 and "top_k: 0" in refused.stderr


def test_heldout_over_another_vocabulary_is_refused(predictions, run_pipeline, tmp_path):
    other = run_pipeline(tmp_path / "other", identity="string")
    done = train(write_config(tmp_path, predictions, other))
    assert done.returncode == 2
    for folder in (predictions, other):
        assert open_predictions(str(folder)).vocabulary.sha256 in done.stderr


def test_heldout_sequences_must_fit_the_student(run_pipeline, heldout, tmp_path):
    short = run_pipeline(tmp_path / "short", max_length=16)
    settings = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 16}
    done = train(write_config(tmp_path, short, heldout, student={"settings": settings}))
    assert done.returncode == 2 and f"give it at least {world.MAX_LENGTH}" in done.stderr


def test_a_student_like_a_bfloat16_model_is_float32(teachers, predictions, tmp_path):
    opened = open_predictions(str(predictions))
    AutoModelForMaskedLM.from_pretrained(teachers / "en-wordpiece").bfloat16().save_pretrained(tmp_path)
    config = student_config(StudentConfig(like=str(tmp_path)), opened.vocabulary, opened.max_length)
    model = build_student(config, 0)
    assert config.hidden_size == 16 and model.dtype == torch.float32


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "distilbert", "electra"])
def test_students_of_other_architectures(model_type, predictions):
    """The training view's loss is that of the plain model, for each architecture."""
    opened = open_predictions(str(predictions))
    settings = {"model_type": model_type, "max_position_embeddings": 40}
    settings |= (
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
        if model_type == "distilbert"
        else {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    )
    config = student_config(StudentConfig(settings=settings), opened.vocabulary, opened.max_length)
    batch = take(reader(predictions), 1)[0]
    plain = build_student(config, 0).eval()
    with torch.no_grad():
        logits = plain(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
        expected = functional.cross_entropy(logits.flatten(0, 1)[batch.rows_M], batch.labels_M, reduction="none")
        found = DistilledStudent(build_student(config, 0)).eval()(batch, 0.5, "bucket").mlm_M
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_metrics_are_logged(student):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(student / "logs")).Reload()
    tags = events.Tags()["scalars"]
    for language in world.WORDS:
        assert {f"mlm/{language}", f"kd/{language}", f"heldout_nll/{language}"} <= set(tags)
        assert [event.step for event in events.Scalars(f"mlm/{language}")] == [10, 20, 30]
