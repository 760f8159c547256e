"""Checkpoints: whole folders that appear at once, from which a run goes on exactly.

    checkpoints/00000500/
      model.safetensors      the student's weights, by name
      optimizer.safetensors  AdamW's moments and step counts, `<weight's name>/<field>`
      state.json             step, identity, reader, schedule, skipped steps

There are no random states: every micro-batch's dropout is seeded by (seed, step, lane).
"""

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from schemas.errors import UserError, differences

FOLDER = "checkpoints"
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"


class CheckpointWriter:
    """Writes checkpoints by another thread, from copies, while training goes on; keeps the last few."""

    def __init__(self, output: str, keep: int):
        self._output = output
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future | None = None

    def save(self, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
        """Takes copies and starts writing; waits for an earlier checkpoint that is still being written.

        Args:
          state: JSON; what else the run needs to go on, and its `identity`.
        """
        self.wait()
        weights = {name: _copy(tensor) for name, tensor in _unique(model).items()}
        moments = {name: _copy(tensor) for name, tensor in _moments(model, optimizer).items()}
        self._writing = self._thread.submit(_write, self._output, step, weights, moments, state, self._keep)

    def wait(self) -> None:
        """Returns when the last checkpoint is whole. UserError where it cannot be written."""
        if self._writing:
            try:
                self._writing.result()
            except OSError as error:
                raise UserError(f"{error.filename or self._output}: {error.strerror}; no checkpoint written") from None
            self._writing = None

    def close(self) -> None:
        """Waits, as above, and ends the thread."""
        self.wait()
        self._thread.shutdown()


def latest_checkpoint(output: str) -> int | None:
    """The step of the newest whole checkpoint."""
    steps = _steps(output)
    return steps[-1] if steps else None


def load_checkpoint(
    output: str, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, identity: dict
) -> dict:
    """Loads a checkpoint into `model` and `optimizer`; returns its state.

    Raises:
      UserError: the checkpoint is of another configuration or vocabulary; says which fields differ.
    """
    folder = Path(output) / FOLDER / f"{step:08d}"
    state = json.loads((folder / _STATE).read_text())
    if changed := differences(state["identity"], identity):
        raise UserError(
            f"{folder}: is a checkpoint of another run ({changed}); remove the output folder or choose another"
        )
    weights = load_file(folder / _WEIGHTS)
    with torch.no_grad():
        for name, tensor in _unique(model).items():
            tensor.copy_(weights[name])
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(folder / _OPTIMIZER).items():
        weight, field = name.rsplit("/", 1)
        moments.setdefault(weight, {})[field] = tensor
    parameters = dict(model.named_parameters())
    for name, fields in moments.items():
        device = parameters[name].device
        optimizer.state[parameters[name]] = {field: tensor.to(device) for field, tensor in fields.items()}
    return state


def _write(output: str, step: int, weights: dict, moments: dict, state: dict, keep: int) -> None:
    folder = Path(output) / FOLDER
    final = folder / f"{step:08d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(weights, temporary / _WEIGHTS)
    save_file(moments, temporary / _OPTIMIZER)
    (temporary / _STATE).write_text(json.dumps(state, indent=2))
    for file in temporary.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    for old in _steps(output)[:-keep]:
        shutil.rmtree(folder / f"{old:08d}")


def _unique(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors by name, each once: tied weights have several names."""
    seen: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in tensors.items() if seen.setdefault(id(tensor), name) == name}


def _moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{field}": tensor
        for name, parameter in model.named_parameters()
        for field, tensor in optimizer.state.get(parameter, {}).items()
    }


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _steps(output: str) -> list[int]:
    folder = Path(output) / FOLDER
    return sorted(int(path.name) for path in folder.glob("[0-9]*")) if folder.is_dir() else []
