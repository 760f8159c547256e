"""Readers of predictions, and the content of their batches."""

from pathlib import Path

import torch

from schemas.predictions import open_predictions
from trainer.config import SamplingConfig
from trainer.data.reader import Reader


def reader(
    folder, seed: int = 3, batch_tokens: int = 400, lanes: int = 1, local_lanes=(0,), threads: int = 2, **sampling
):
    opened = open_predictions(*([str(folder)] if isinstance(folder, str | Path) else map(str, folder)))
    sampling = SamplingConfig(**{"shuffle_rows": 100} | sampling)
    return Reader(opened, sampling, batch_tokens, seed, lanes=lanes, local_lanes=local_lanes, threads=threads)


def steps(source: Reader, count: int) -> list[list]:
    """Returns the next `count` steps."""
    iterator = iter(source)
    return [next(iterator) for _ in range(count)]


def take(source: Reader, count: int) -> list:
    """Returns the next `count` batches of a reader with one lane."""
    return [batch for (batch,) in steps(source, count)]


def equal(one, other) -> bool:
    tensors = [name for name, value in vars(one).items() if torch.is_tensor(value)]
    assert len(tensors) == 10
    # Values are NaN if no teacher was run.
    return all(torch.equal(getattr(one, name).nan_to_num(9), getattr(other, name).nan_to_num(9)) for name in tensors)


def sequences(batches) -> list[tuple[int, ...]]:
    """Returns every row of the batches without its padding."""
    return [
        tuple(ids[mask.bool()].tolist())
        for batch in batches
        for ids, mask in zip(batch.input_ids_BL, batch.attention_mask_BL, strict=True)
    ]
