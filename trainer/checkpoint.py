"""Checkpoints: whole folders that appear at once, from which a run goes on exactly."""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model

from schemas.errors import UserError, differences
from trainer.runtime import Runtime

FOLDER = "checkpoints"


def save_checkpoint(output: str, step: int, model: torch.nn.Module, training: dict, state: dict, keep: int) -> None:
    """Writes `checkpoints/<step>/` and removes all but the last `keep`.

    Args:
      training: tensors and numbers for `torch.save` (optimizer, scheduler, random states).
      state: JSON: the reader's state and the identity of the run.
    """
    folder = Path(output) / FOLDER
    final = folder / f"{step:08d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_model(model, str(temporary / "model.safetensors"))
    torch.save(training, temporary / "training.pt")
    (temporary / "state.json").write_text(json.dumps(state, indent=2))
    for file in temporary.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    for old in _steps(output)[:-keep]:
        shutil.rmtree(folder / f"{old:08d}")


def latest_checkpoint(output: str) -> int | None:
    """The step of the newest whole checkpoint."""
    steps = _steps(output)
    return steps[-1] if steps else None


def load_checkpoint(
    output: str, step: int, model: torch.nn.Module, identity: dict, runtime: Runtime
) -> tuple[dict, dict]:
    """Loads a checkpoint's weights into `model`; returns its (training, state).

    Raises:
      UserError: the checkpoint is of another configuration or vocabulary; says which fields differ.
    """
    folder = Path(output) / FOLDER / f"{step:08d}"
    state = json.loads((folder / "state.json").read_text())
    if changed := differences(state["identity"], identity):
        raise UserError(
            f"{folder}: is a checkpoint of another run ({changed}); remove the output folder or choose another"
        )
    load_model(model, str(folder / "model.safetensors"), device=str(runtime.device))
    # weights_only: nothing in the file is executed.
    training = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
    return training, state


def _steps(output: str) -> list[int]:
    folder = Path(output) / FOLDER
    return sorted(int(path.name) for path in folder.glob("[0-9]*")) if folder.is_dir() else []
