"""Checkpoints: folders that are renamed into place when complete, from which a run resumes exactly.

    checkpoints/00000500/
      model.safetensors      the student's weights, by name
      optimizer.safetensors  AdamW's moments and step counts, `<weight's name>/<field>`
      state.json             `trainer.artifacts.checkpoint_state`

Their content does not depend on the number of processes or on FSDP.

They need no random states: every micro-batch's dropout is seeded by (seed, step, lane).
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from schemas.errors import UserError, first_line
from schemas.storage import write_bytes
from trainer.artifacts.checkpoint_state import CheckpointState

FOLDER = "checkpoints"
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
# AdamW's state of each parameter: a scalar, and tensors of the parameter's shape.
_STEP_COUNT, _MOMENTS = "step", ("exp_avg", "exp_avg_sq")
Content = TypeVar("Content")


class CheckpointWriter:
    """Writes checkpoints from copies in another thread while training continues; keeps the last few.

    Every process has a writer, because with FSDP each of them has a shard of the tensors; only the one with `writes`
    writes.
    """

    def __init__(self, output: str, keep: int, writes: bool):
        self._output = output
        self._keep = keep
        self._writes = writes
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future | None = None

    def save(
        self,
        step: int,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        state: CheckpointState,
        best: int | None,
    ) -> None:
        """Copies the tensors and starts writing; first waits for an earlier checkpoint that is still being written.

        Args:
          state: everything else that the run needs to resume.
          best: the step of a checkpoint to keep, however old.
        """
        self.wait()
        weights = _copies(_unique(model), self._writes)
        moments = _copies(_moments(model, optimizer), self._writes)
        if self._writes:
            self._writing = self._thread.submit(_write, self._output, step, weights, moments, state, self._keep, best)

    def wait(self) -> None:
        """Waits until the last checkpoint is complete. Raises UserError if it cannot be written."""
        if self._writing:
            try:
                self._writing.result()
            except (OSError, SafetensorError) as error:
                raise UserError(
                    f"{self._output}: the checkpoint could not be written ({first_line(error)}); free disk space, then run the "
                    "same command again to go on from the previous one"
                ) from None
            self._writing = None

    def close(self) -> None:
        """Waits for the last checkpoint and ends the thread."""
        self.wait()
        self._thread.shutdown()


def checkpoint_steps(output: str) -> list[int]:
    """Returns the steps of the complete checkpoints, ascending."""
    folder = Path(output) / FOLDER
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def latest_checkpoint(output: str) -> int | None:
    """Returns the step of the newest complete checkpoint, or None."""
    return max(checkpoint_steps(output), default=None)


def load_state(output: str, step: int) -> CheckpointState:
    """Returns the part of a checkpoint that is not tensors. Raises UserError if it cannot be read."""
    return _read(_folder(output, step) / _STATE, lambda path: CheckpointState.from_json(json.loads(path.read_text())))


@torch.no_grad()
def load_weights(output: str, step: int, model: torch.nn.Module) -> None:
    """Loads a checkpoint's weights into `model`. Raises UserError if they cannot be read or one is missing."""
    targets = _unique(model)
    shapes = {name: target.shape for name, target in targets.items()}
    with _open_tensors(_folder(output, step) / _WEIGHTS, shapes) as file:
        for name, target in targets.items():
            target.copy_(_local_part(file, name, target))


def load_checkpoint(output: str, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Loads a checkpoint's tensors into `model` and `optimizer`. Raises UserError like `load_weights`."""
    load_weights(output, step, model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    shapes = {
        f"{name}/{field}": torch.Size() if field == _STEP_COUNT else parameter.shape
        for name, parameter in trained.items()
        for field in (_STEP_COUNT, *_MOMENTS)
    }
    with _open_tensors(_folder(output, step) / _OPTIMIZER, shapes) as file:
        for name, parameter in trained.items():
            of_parameter = optimizer.state[parameter]
            of_parameter[_STEP_COUNT] = file.get_tensor(f"{name}/{_STEP_COUNT}").to(parameter.device)
            for field in _MOMENTS:
                of_parameter[field] = _local_part(file, f"{name}/{field}", parameter).to(parameter.device)


def _write(
    output: str, step: int, weights: dict, moments: dict, state: CheckpointState, keep: int, best: int | None
) -> None:
    final = _folder(output, step)
    content = json.dumps(state.to_json(), indent=2)
    if final.exists():
        # The weights after a step do not change, but an evaluation of them may be new.
        write_bytes(str(final / _STATE), content.encode())
        return
    remove_partial(output)
    temporary = _hidden(final)
    temporary.mkdir(parents=True)
    save_file(weights, temporary / _WEIGHTS)
    save_file(moments, temporary / _OPTIMIZER)
    (temporary / _STATE).write_text(content)
    for path in (*temporary.iterdir(), temporary):
        _flush(path)
    temporary.rename(final)
    # The new checkpoint must be on disk before an old one is removed, in case the machine crashes.
    _flush(final.parent)
    for old in checkpoint_steps(output)[:-keep]:
        if old != best:
            # Rename first, so that a kill does not leave a partial folder that looks complete.
            shutil.rmtree(_folder(output, old).rename(_hidden(_folder(output, old))))


def remove_partial(output: str) -> None:
    """Removes unfinished checkpoints, left because the run was killed or the disk was full."""
    for left in (Path(output) / FOLDER).glob(".*.tmp"):
        if re.fullmatch(r"\.\d+\.tmp", left.name):
            shutil.rmtree(left)


def _hidden(folder: Path) -> Path:
    """The temporary name of an incomplete checkpoint."""
    return folder.with_name(f".{folder.name}.tmp")


def _flush(path: Path) -> None:
    """Waits until a file's content, or a folder's list of files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, load: Callable[[Path], Content]) -> Content:
    with _readable(path):
        return load(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises UserError if a file cannot be read or lacks the expected content."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(path, f"cannot be read ({type(error).__name__}: {first_line(error)})") from None


@contextmanager
def _open_tensors(path: Path, shapes: dict[str, torch.Size]) -> Iterator[Any]:
    """Opens a file of tensors without reading any. Raises UserError if it is unreadable or does not match `shapes`."""
    with _readable(path), safe_open(path, "pt") as file:
        names = set(file.keys())
        for name, shape in shapes.items():
            if name not in names:
                raise _unusable(path, f"the tensor {name} is missing")
            if (there := file.get_slice(name).get_shape()) != list(shape):
                raise _unusable(path, f"its tensor {name} has the shape {there}, not {list(shape)}")
        yield file


def _unusable(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}; remove the folder {path.parent} to go on from the previous checkpoint")


def _folder(output: str, step: int) -> Path:
    return Path(output) / FOLDER / f"{step:08d}"


def _unique(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors, each under a single name: tied weights have several names."""
    seen: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in tensors.items() if seen.setdefault(id(tensor), name) == name}


def _moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{field}": tensor
        for name, parameter in model.named_parameters()
        for field, tensor in optimizer.state.get(parameter, {}).items()
    }


def _copies(tensors: dict[str, torch.Tensor], wanted: bool) -> dict[str, torch.Tensor]:
    """Returns full copies on the CPU if `wanted`. All processes must call this to gather what FSDP has sharded."""
    copies = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if wanted:
            copies[name] = whole.detach().to("cpu", copy=True).contiguous()
    return copies


def _local_part(file: Any, name: str, target: torch.Tensor) -> torch.Tensor:
    """Reads a tensor from a file; if `target` is sharded over the processes (FSDP), only this process's shard."""
    if not isinstance(target, DTensor):
        return file.get_tensor(name)
    # FSDP shards rows like `torch.chunk`: if a tensor has few rows, the last processes have none.
    local, rows, mesh = target.to_local(), len(target), target.device_mesh
    start = mesh.get_local_rank() * -(-rows // mesh.size())
    part = file.get_slice(name)[start : start + len(local)] if len(local) else torch.empty_like(local)
    return DTensor.from_local(
        part.to(local.device),
        mesh,
        target.placements,
        run_check=False,
        shape=target.shape,
        stride=target.stride(),
    )
