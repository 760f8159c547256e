"""A small, evenly spread part of a language's text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.shard.shard import Shard
from schemas.corpus.records import Decompressor, Record

_SHARDS = 64


@dataclass(frozen=True)
class Sample:
    """Records, some of them cut: `bytes` of text, out of the `whole_bytes` that these records have uncut."""

    records: list[Record]
    bytes: int
    whole_bytes: int


def sample_records(shards: Sequence[Shard], size: int) -> Sample:
    """Records from the beginnings of up to 64 evenly spread shards, about `size` bytes of text in all.

    A record may be a whole book, so it is cut where the sample is full.
    """
    chosen = [shards[i] for i in np.unique(np.linspace(0, len(shards) - 1, _SHARDS).round().astype(int))]
    share = -(-size // len(chosen))
    decompressor = Decompressor()
    sampled, whole = [], 0
    for shard in chosen:
        taken = 0
        for record in shard.read(decompressor):
            text = record.text[: max(1, share - taken)]
            sampled.append(record._replace(text=text))
            whole += len(record.text.encode())
            taken += len(text.encode()) + 1
            if taken >= share:
                break
    return Sample(sampled, sum(len(record.text.encode()) for record in sampled), whole)
