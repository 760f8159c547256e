"""Stage two as a whole, in real processes: from predictions to a student that plain transformers loads."""

import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from schemas.manifest import open_predictions
from tests.support import world
from tests.support.commands import SECONDS, wait_until
from tests.support.training import (
    TWO,
    assert_same_weights,
    has_logged,
    launch,
    launch_two,
    spoil,
    start,
    steps_of,
    train,
    write_config,
)
from trainer.__main__ import main
from trainer.artifacts.checkpoint import latest_checkpoint
from trainer.artifacts.metrics import Metrics
from trainer.config import TrainerConfig
from trainer.distributed import Runtime


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
    process = start(config)
    wait_until(lambda: latest_checkpoint(str(tmp_path / "student")) is not None, process)
    process.kill()
    process.communicate(timeout=SECONDS)
    assert not (tmp_path / "student" / "model.safetensors").exists()
    assert train(config).returncode == 0
    assert_same_weights(student, tmp_path / "student")
    assert steps_of(tmp_path / "student") == steps_of(student)
    again = train(config)
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_a_checkpoint_that_cannot_be_read_is_named(student, predictions, heldout, tmp_path):
    """Without it the run goes on from the one before."""
    config = write_config(tmp_path, predictions, heldout)
    shutil.copytree(student / "checkpoints", tmp_path / "student" / "checkpoints")
    last = tmp_path / "student" / "checkpoints" / "00000040"
    whole = (last / "optimizer.safetensors").read_bytes()
    (last / "optimizer.safetensors").write_bytes(whole[: len(whole) // 2])
    refused = train(config)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert f"{last}/optimizer.safetensors: cannot be read" in refused.stderr
    assert f"remove the folder {last} to go on from the checkpoint before" in refused.stderr
    shutil.rmtree(last)
    assert train(config).returncode == 0
    assert_same_weights(student, tmp_path / "student")


def test_a_full_disk_is_one_line(predictions, tmp_path):
    """No file may become larger than the logs are, but smaller than the weights."""
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000));"
    limited += "from trainer.__main__ import main; sys.exit(main(sys.argv[1:]))"
    done = launch(write_config(tmp_path, predictions, None), "-c", limited)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "no checkpoint written (" in done.stderr and latest_checkpoint(str(tmp_path / "student")) is None


def test_sigterm_saves_and_says_so(student, predictions, heldout, tmp_path):
    """At a step that is no multiple of `save_steps`, in a process whose exit code is 75."""
    config = write_config(tmp_path, predictions, heldout, save_steps=1000, logging_steps=1)
    process = start(config)
    wait_until(lambda: has_logged(tmp_path / "student"), process)
    process.terminate()
    errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 75 and "run the same command again to go on" in errors, errors
    assert 1 <= latest_checkpoint(str(tmp_path / "student")) < 40
    assert train(config).returncode == 0
    assert_same_weights(student, tmp_path / "student")


def test_steps_whose_gradient_is_not_finite_are_left_out(predictions, tmp_path, monkeypatch, capfd):
    # No such row passes the reader, but one is a sure way to such a gradient.
    spoiled = spoil(predictions, tmp_path / "spoiled", 1)
    monkeypatch.setattr("schemas.row_groups.find_fault", lambda rows, expected: None)
    changes = {"max_steps": 20, "logging_steps": 4}
    handlers = list(map(signal.getsignal, signal.valid_signals()))

    def run(name: str, limit: int) -> tuple[int, str]:
        folder = tmp_path / name
        code = main([str(write_config(folder, tmp_path / "spoiled", None, max_skipped_steps=limit, **changes))])
        # Training in a process of someone else's leaves that as it was.
        assert list(map(signal.getsignal, signal.valid_signals())) == handlers
        return code, "".join(capfd.readouterr())

    code, printed = run("lenient", 20)
    assert code == 0, printed
    student = tmp_path / "lenient" / "student"
    lines = list(map(json.loads, (student / "metrics.jsonl").read_text().splitlines()))
    assert 0 < lines[-1]["skipped_steps"] <= 20
    assert "warning: the gradient was not finite at step" in printed
    weights = load_file(student / "model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    # The losses of the other positions are still there to look at.
    assert all(np.isfinite(list(row.values())).all() for line in lines for row in line["train"].values())
    code, printed = run("strict", 0)
    assert code == 2 and "more than max_skipped_steps (0)" in printed
    assert any(name in printed for name in spoiled)
    assert "Traceback" not in printed


def test_two_processes_save_when_one_is_asked_to_end(predictions, tmp_path):
    """SIGTERM to torchrun, which passes it on; one process goes on alone, as if they had been one all along."""
    changes = {"max_steps": 30, "save_steps": 1000, "logging_steps": 1}
    config = write_config(tmp_path / "two", predictions, None, **changes)
    process = start(config, *TWO)
    wait_until(lambda: has_logged(tmp_path / "two" / "student"), process)
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert 1 <= latest_checkpoint(str(tmp_path / "two" / "student")) < 30
    assert train(config).returncode == 0
    one = write_config(tmp_path / "one", predictions, None, micro_batches=2, **changes)
    assert train(one).returncode == 0
    # The sum of two terms is the same in any order.
    assert_same_weights(tmp_path / "one" / "student", tmp_path / "two" / "student")


def test_torchrun_starts_again_after_a_process_was_killed(predictions, tmp_path, capsys):
    """The folder, which nobody else gets meanwhile, is taken over from the killed one at once."""
    config = write_config(tmp_path, predictions, None, max_steps=60, save_steps=10, logging_steps=1)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1", "-m", "trainer"]
    process = start(config, *launcher)
    wait_until(lambda: has_logged(tmp_path / "student"), process)
    assert main([str(config)]) == 2
    owner = re.search("is being written by process ([0-9]+) on ", capsys.readouterr().err)
    os.kill(int(owner[1]), signal.SIGKILL)
    errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 0 and "being written" not in errors, errors
    assert steps_of(tmp_path / "student") == list(range(1, 61))


def test_processes_share_a_step_evenly(predictions, tmp_path):
    config = write_config(tmp_path, predictions, None, micro_batches=3)
    done = launch_two(config)
    assert done.returncode and "micro_batches is 3, which 2 processes cannot share evenly" in done.stderr


def test_another_configuration_does_not_go_on(student, predictions, heldout, tmp_path):
    config = write_config(tmp_path, predictions, heldout, output=str(student), seed=9)
    done = train(config)
    assert done.returncode == 2
    assert "seed was 0, now 9" in done.stderr and "Traceback" not in done.stderr


def test_two_processes_give_the_gradients_of_one(predictions, tmp_path):
    """Two with one micro-batch each, one with two: the same batches and dropout, so the same weights, bit for bit."""
    changes = {"max_steps": 6, "save_steps": 6}
    one = write_config(tmp_path / "one", predictions, None, micro_batches=2, **changes)
    two = write_config(tmp_path / "two", predictions, None, micro_batches=2, **changes)
    assert train(one).returncode == 0
    done = launch_two(two)
    assert done.returncode == 0, done.stderr
    ours = load_file(tmp_path / "one" / "student" / "model.safetensors")
    theirs = load_file(tmp_path / "two" / "student" / "model.safetensors")
    # The sum of two terms, scaled by powers of two, is the same in any order.
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


def test_mlm_only_needs_no_predictions(run_pipeline, tmp_path):
    masked = run_pipeline(tmp_path / "masked", top_k=0)
    done = train(write_config(tmp_path, masked, masked, distillation={"kd_weight": 0}, max_steps=6))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "student" / "evaluation.json").read_text())["languages"]
    assert all(row["teacher_nll"] is None and row["nll"] > 0 for row in result.values())
    line = json.loads((tmp_path / "student" / "metrics.jsonl").read_text().splitlines()[0])
    assert all(row.keys() == {"mlm", "accuracy"} for row in line["train"].values())
    refused = train(write_config(tmp_path / "kd", masked, None))
    assert refused.returncode == 2 and "top_k: 0" in refused.stderr


def test_heldout_over_another_vocabulary_is_refused(predictions, run_pipeline, tmp_path):
    other = run_pipeline(tmp_path / "other", token_identity="string")
    done = train(write_config(tmp_path, predictions, other))
    assert done.returncode == 2
    for folder in (predictions, other):
        assert open_predictions(str(folder)).vocabulary.sha256 in done.stderr


def test_heldout_sequences_must_fit_the_student(run_pipeline, heldout, tmp_path):
    short = run_pipeline(tmp_path / "short", max_length=16)
    settings = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 16}
    done = train(write_config(tmp_path, short, heldout, student={"settings": settings}))
    assert done.returncode == 2 and f"give it at least {world.MAX_LENGTH}" in done.stderr


def test_metrics_are_logged(student):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(student / "logs")).Reload()
    tags = events.Tags()["scalars"]
    for language in world.WORDS:
        assert {f"mlm/{language}", f"kd/{language}", f"heldout_nll/{language}"} <= set(tags)
        assert [event.step for event in events.Scalars(f"mlm/{language}")] == [10, 20, 30, 40]


def test_a_log_has_few_lines_of_progress(tmp_path, capsys):
    """Not ten a second, for a week."""
    config = TrainerConfig(output=str(tmp_path), predictions="p", student={"architecture_from": "m"}, max_steps=100)
    metrics = Metrics(config, ["en"], 0, Runtime(0, 1, torch.device("cpu"), torch.float32))
    for _ in range(100):
        time.sleep(0.005)
        metrics.step()
    metrics.close()
    progress = capsys.readouterr().err
    assert "100/100" in progress and progress.count("step/s") <= 2


def test_weights_and_biases(predictions, heldout, tmp_path):
    """The real package, offline: it records the figures; a run that goes on is the same run."""
    changes = {"max_steps": 20, "wandb_project": "merge", "eval_steps": 20}
    config = write_config(tmp_path, predictions, heldout, **changes)
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = launch(config, **environment)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "student" / "checkpoints" / "00000020")
    (tmp_path / "student" / "evaluation.json").unlink()
    assert launch(config, **environment).returncode == 0
    folder = tmp_path / "student" / "logs"
    recorded = [path.read_bytes() for path in (folder / "wandb").glob("offline-run-*/*.wandb")]
    assert len(recorded) == 2
    for content in recorded:
        assert all(text in content for text in (b"merge", (folder / "wandb_run").read_bytes(), b"heldout_nll"))
        assert all(name in content for name in (b"mlm/en", b"kd/hi", b"distillation_weight/ru", b"tokens_per_second"))
