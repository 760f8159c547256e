"""Checkpoints: loading restores what was saved, and a checkpoint that lacks a tensor is refused in one line."""

import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import UserError
from tests.support.training import assert_same_weights, launch, train, write_config
from trainer.artifacts.checkpoint import CheckpointWriter, latest_checkpoint, load_checkpoint, load_state
from trainer.artifacts.checkpoint_state import CheckpointState
from trainer.artifacts.early_stopping import EarlyStopping


def model_and_optimizer(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model with a frozen weight, for which the optimizer has no moments."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    return model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, fused=True)


def state(step: int) -> CheckpointState:
    return CheckpointState(
        step=step,
        run_spec={"seed": 0},
        configuration={},
        reader={"version": 2, "lanes": {}},
        scheduler={},
        skipped_steps=0,
        early_stopping=EarlyStopping(None),
    )


@pytest.fixture
def saved(tmp_path) -> tuple[Path, torch.nn.Module, torch.optim.Optimizer]:
    model, optimizer = model_and_optimizer(0)
    for _ in range(3):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    with closing(CheckpointWriter(str(tmp_path), 2, True)) as writer:
        writer.save(3, model, optimizer, state(3), None)
    return tmp_path, model, optimizer


def test_what_is_saved_comes_back(saved):
    folder, model, optimizer = saved
    other, other_optimizer = model_and_optimizer(1)
    load_checkpoint(str(folder), 3, other, other_optimizer)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        moments, others = optimizer.state.get(one, {}), other_optimizer.state.get(another, {})
        assert moments.keys() == others.keys() and all(torch.equal(moments[field], others[field]) for field in moments)
    assert load_state(str(folder), 3) == state(3)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model.safetensors", "0.weight"),
        ("model.safetensors", "1.bias"),
        ("optimizer.safetensors", "0.weight/exp_avg"),
        ("optimizer.safetensors", "1.weight/step"),
    ],
)
@pytest.mark.parametrize("replacement", [None, torch.zeros(7)])
def test_a_tensor_that_is_missing_or_of_another_shape(file, name, replacement, saved):
    folder, _, _ = saved
    path = folder / "checkpoints" / "00000003" / file
    tensors = load_file(path)
    shape = list(tensors[name].shape)
    if replacement is None:
        del tensors[name]
        fault = f"the tensor {name} is missing"
    else:
        tensors[name] = replacement
        fault = f"its tensor {name} has the shape [7], not {shape}"
    save_file(tensors, path)
    mend = f"{path}: {fault}; remove the folder {path.parent} to go on from the previous checkpoint"
    with pytest.raises(UserError, match=f"^{re.escape(mend)}$"):
        load_checkpoint(str(folder), 3, *model_and_optimizer(1))


def test_a_checkpoint_that_cannot_be_read_is_named(student, predictions, heldout, tmp_path):
    """If it is removed, the run continues from the checkpoint before."""
    config = write_config(tmp_path, predictions, heldout)
    shutil.copytree(student / "checkpoints", tmp_path / "student" / "checkpoints")
    last = tmp_path / "student" / "checkpoints" / "00000040"
    whole = (last / "optimizer.safetensors").read_bytes()
    (last / "optimizer.safetensors").write_bytes(whole[: len(whole) // 2])
    refused = train(config)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert f"{last}/optimizer.safetensors: cannot be read" in refused.stderr
    assert f"remove the folder {last} to go on from the previous checkpoint" in refused.stderr
    shutil.rmtree(last)
    assert train(config).returncode == 0
    assert_same_weights(student, tmp_path / "student")


@pytest.mark.heavy
def test_a_full_disk_is_one_line(predictions, tmp_path):
    """The limit on the size of files is above the logs' size and below that of the weights."""
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000));"
    limited += "from trainer.__main__ import main; sys.exit(main(sys.argv[1:]))"
    done = launch(write_config(tmp_path, predictions, None), "-c", limited)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        "the checkpoint could not be written (" in done.stderr and latest_checkpoint(str(tmp_path / "student")) is None
    )
