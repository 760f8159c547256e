"""Text files as the pipeline plans and reads them."""

import bz2
import gzip
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa

from pipeline.shard.shard import Shard
from pipeline.shard.shares import ShareInterval
from schemas.corpus.files import TextFile
from schemas.corpus.records import FilePlan, plan_file, read_records

# Two members, as `cat a.gz b.gz` makes them: a reader must not stop after the first.
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": partial(pa.Codec("zstd").compress, asbytes=True)}


def plan(path, shard_bytes: int, field: str = "text") -> FilePlan:
    with ThreadPoolExecutor(2) as pool:
        return plan_file(TextFile(str(path), path.name, field), shard_bytes, pool)


def records(file: FilePlan) -> list[tuple[int, str, str]]:
    return [tuple(record) for part in file.ranges for record in read_records(part)]


def make_shards(
    path, shard_bytes: int, max_records: int | None = None, share: ShareInterval | None = None
) -> list[Shard]:
    """The shards of one file, of which `max_records` records are read; default all."""
    parts = plan(path, shard_bytes).ranges
    total = sum(part.records for part in parts)
    return [
        Shard("en", "bert", index, part, part.first_record, max_records or total, total, 0, 2**20, share)
        for index, part in enumerate(parts)
    ]
