"""A step's gradient does not depend on how its rows are split into micro-batches and over processes."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from schemas.predictions import open_predictions
from tests.support.columns import read_columns
from trainer.config import DistillationConfig, StudentConfig
from trainer.data.batches import Batch, Piece, make_batches
from trainer.distributed import Runtime
from trainer.loop.step import accumulate_gradients
from trainer.student.model import DistilledStudent, build_student, student_config

ROWS = 32
SETTINGS = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 24, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def micro_batches(folder: Path, size: int) -> list[Batch]:
    """The first rows of a file, in micro-batches of `size` rows with their own padding and numbers of positions."""
    opened = open_predictions(str(folder))
    file = opened.files[0]
    columns = read_columns(file, 0, opened.top_k)
    pad_id = opened.vocabulary.id_of("pad")
    pieces = [Piece(columns, slice(start, start + size), 0, 0, file, 0) for start in range(0, ROWS, size)]
    return [batch for piece in pieces for batch in make_batches([piece], 10**6, pad_id)]


def gradients(
    folder: Path, size: int, dtype: torch.dtype, runtime: Runtime, shard: bool = False
) -> dict[str, torch.Tensor]:
    """Runs this process's part of the step with the trainer's code; returns the gradient over all processes."""
    opened = open_predictions(str(folder))
    model = build_student(student_config(StudentConfig(settings=SETTINGS), opened.vocabulary, opened.max_length), 0)
    student = DistilledStudent(model).to(dtype)
    batches = micro_batches(folder, size)
    positions = sum(len(batch.labels_M) for batch in batches)
    local = {lane: batches[lane] for lane in range(runtime.rank, len(batches), runtime.world_size)}
    weights = torch.tensor([0.7], dtype=dtype)
    parallel = runtime.parallel(student, student.layers() if shard else None)
    list(accumulate_gradients(parallel, local, positions, weights, DistillationConfig(), None, (0, 1), runtime))
    actual = {name: parameter.grad for name, parameter in student.named_parameters()}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in actual.items()}


# Rows of a micro-batch, and whether the model is sharded.
OF_TWO_PROCESSES = [(16, False), (8, False), (8, True)]
DTYPES = [torch.float64, torch.float32]


def process(rank: int, folder: Path, result: Path) -> None:
    """One of two processes. It computes all cases, because starting it takes longer than they do."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{result}.rendezvous", rank=rank, world_size=2)
    actual = {
        dtype: [
            gradients(folder, size, dtype, Runtime(rank, 2, torch.device("cpu"), torch.float32), shard)
            for size, shard in OF_TWO_PROCESSES
        ]
        for dtype in DTYPES
    }
    if rank == 0:
        torch.save(actual, result)
    dist.barrier()
    # Ends like the trainer, for the same reason (`trainer/__main__.py`).
    os._exit(0)


@pytest.fixture(scope="module")
def of_two_processes(predictions, tmp_path_factory):
    """Gradients by dtype, one for each of `OF_TWO_PROCESSES`."""
    result = tmp_path_factory.mktemp("gradients") / "found.pt"
    torch.multiprocessing.spawn(process, (predictions, result), nprocs=2)
    return torch.load(result)


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_batch_two_processes_or_accumulated(predictions, of_two_processes, dtype):
    """One batch of 32, two processes with 16 each, four accumulated 8s, two processes with two 8s, these sharded."""
    alone = Runtime(0, 1, torch.device("cpu"), torch.float32)
    counts = [len(batch.labels_M) for batch in micro_batches(predictions, 8)]
    # The counts must differ, or a mean of means would pass.
    assert len(set(counts)) > 1
    expected = gradients(predictions, ROWS, dtype, alone)
    actual = [gradients(predictions, 8, dtype, alone), *of_two_processes[dtype]]
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    for other in actual:
        for name, gradient in expected.items():
            tolerance = 1e-14 if dtype == torch.float64 else 1e-6
            torch.testing.assert_close(other[name], gradient, rtol=0, atol=tolerance * scale)
            if dtype == torch.float64:
                # Sums in another order differ in the last of 53 bits, but not in the 24 bits that training keeps.
                # (The keys' biases have no gradient, because they cancel in the softmax: theirs is only rounding.)
                same = (other[name].float() == gradient.float()) | (gradient.abs() < 1e-12 * scale)
                assert same.all(), name
