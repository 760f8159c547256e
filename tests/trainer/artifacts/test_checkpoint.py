"""Checkpoints that cannot be read or written."""

import shutil

import pytest

from tests.support.training import (
    assert_same_weights,
    launch,
    train,
    write_config,
)
from trainer.artifacts.checkpoint import latest_checkpoint


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


@pytest.mark.heavy
def test_a_full_disk_is_one_line(predictions, tmp_path):
    """No file may become larger than the logs are, but smaller than the weights."""
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000));"
    limited += "from trainer.__main__ import main; sys.exit(main(sys.argv[1:]))"
    done = launch(write_config(tmp_path, predictions, None), "-c", limited)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "no checkpoint written (" in done.stderr and latest_checkpoint(str(tmp_path / "student")) is None
