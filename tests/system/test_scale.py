"""Features for larger students: sharding over processes, gradient checkpointing, compiled layers."""

import shutil
from pathlib import Path

import pytest

from schemas.predictions import open_predictions
from tests.support.commands import SECONDS, wait_until
from tests.support.training import (
    NEEDS_COMPILER,
    TWO,
    assert_close_weights,
    assert_same_weights,
    has_logged,
    heldout_nll,
    launch,
    launch_two,
    spoil,
    start,
    train,
    write_config,
)
from trainer.artifacts.checkpoint import latest_checkpoint

CHANGES = {"max_steps": 12, "micro_batches": 4, "eval_steps": 4, "save_steps": 4}


@pytest.fixture(scope="module")
def whole(predictions, heldout, tmp_path_factory) -> Path:
    """A student trained in one process, without sharding."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(write_config(folder, predictions, heldout, **CHANGES)).returncode == 0
    return folder / "student"


@pytest.fixture(scope="module")
def sharded(predictions, heldout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    done = launch_two(write_config(folder, predictions, heldout, fsdp=True, **CHANGES))
    assert done.returncode == 0, done.stderr
    return folder / "student"


def test_sharded_training_is_that_of_one_process(whole, sharded):
    assert_close_weights(whole, sharded)
    ours, theirs = heldout_nll(whole), heldout_nll(sharded)
    assert list(ours) == [4, 8, 12] and theirs == pytest.approx(ours, rel=1e-4)


@pytest.mark.slow
def test_sharded_training_in_bfloat16(predictions, heldout, tmp_path):
    """Weights are sent in bfloat16, and gradients are rounded to it before they are summed."""
    changes = CHANGES | {"precision": "bfloat16"}
    assert train(write_config(tmp_path / "one", predictions, heldout, **changes)).returncode == 0
    done = launch_two(write_config(tmp_path / "two", predictions, heldout, fsdp=True, **changes))
    assert done.returncode == 0, done.stderr
    ours, theirs = (heldout_nll(tmp_path / name / "student") for name in ("one", "two"))
    assert theirs == pytest.approx(ours, rel=1e-3)


def test_a_sharded_run_is_resumed_bit_for_bit(sharded, predictions, heldout, tmp_path):
    config = write_config(tmp_path, predictions, heldout, fsdp=True, **CHANGES)
    shutil.copytree(sharded / "checkpoints", tmp_path / "student" / "checkpoints")
    # The remaining checkpoint is from a step with an evaluation, for which the sharded student was gathered.
    shutil.rmtree(tmp_path / "student" / "checkpoints" / "00000012")
    assert latest_checkpoint(str(tmp_path / "student")) == 8
    assert launch_two(config).returncode == 0
    assert_same_weights(sharded, tmp_path / "student")


def test_sharded_or_not_goes_on_from_the_same_checkpoint(whole, sharded, predictions, heldout, tmp_path):
    """One process continues the sharded run of two, and two continue that of one."""
    for name, source, run, shard in [("one", sharded, train, False), ("two", whole, launch_two, True)]:
        output = tmp_path / name / "student"
        shutil.copytree(source / "checkpoints", output / "checkpoints")
        shutil.rmtree(output / "checkpoints" / "00000012")
        done = run(write_config(tmp_path / name, predictions, heldout, fsdp=shard, **CHANGES))
        assert done.returncode == 0, done.stderr
        assert_close_weights(whole, output)


def test_sharded_steps_whose_gradient_is_not_finite_are_left_out(predictions, tmp_path):
    spoil(predictions, tmp_path / "spoiled", 1)
    changes = {"max_steps": 8, "micro_batches": 2, "max_skipped_steps": 8, "logging_steps": 8}
    alone = write_config(tmp_path / "one", tmp_path / "spoiled", None, **changes)
    both = write_config(tmp_path / "two", tmp_path / "spoiled", None, fsdp=True, **changes)
    assert launch(alone, "-m", "tests.support.unchecked_trainer").returncode == 0
    done = launch(both, *TWO[:-1], "tests.support.unchecked_trainer")
    assert done.returncode == 0, done.stderr
    assert "warning: skipped, because the gradient was NaN or infinite: step" in done.stderr + done.stdout
    assert_close_weights(tmp_path / "one" / "student", tmp_path / "two" / "student")


def test_of_two_processes_one_says_what_is_wrong(predictions, tmp_path):
    """One of them cannot read a file; the other prints no traceback."""
    folder = tmp_path / "broken"
    shutil.copytree(predictions, folder)
    path = Path(open_predictions(str(folder)).files[0].url)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[: middle - 500] + bytes(1000) + content[middle + 500 :])
    done = launch_two(write_config(tmp_path, folder, None, max_steps=400, micro_batches=2))
    assert done.returncode == 1 and f"error: {path}: row group" in done.stderr
    assert "[rank" not in done.stderr


def test_checkpointed_gradients_are_the_same(whole, predictions, heldout, tmp_path):
    """The run has dropout, whose masks must be the same in the recomputation."""
    config = write_config(tmp_path, predictions, heldout, gradient_checkpointing=True, **CHANGES)
    assert train(config).returncode == 0
    assert_same_weights(whole, tmp_path / "student")


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_compiled_run_is_resumed_bit_for_bit(predictions, tmp_path):
    changes = {"max_steps": 10, "torch_compile": True, "save_steps": 1000, "logging_steps": 1}
    whole = write_config(tmp_path / "whole", predictions, None, **changes)
    assert launch(whole).returncode == 0
    config = write_config(tmp_path / "stopped", predictions, None, **changes)
    process = start(config)
    wait_until(lambda: has_logged(tmp_path / "stopped" / "student"), process)
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert launch(config).returncode == 0
    assert_same_weights(tmp_path / "whole" / "student", tmp_path / "stopped" / "student")
