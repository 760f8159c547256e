"""The trainer on Cloud Storage: the same batches despite faults, no needless bytes, and otherwise one clear error."""

import gc
import io
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest

from benchmarks.made_up import make_predictions
from pipeline.shard.parquet import encode_rows
from schemas import storage
from schemas.errors import UserError
from schemas.predictions import open_predictions
from schemas.row_groups import RowGroupReader
from schemas.rows import RUN_KEY
from tests.support import gcs
from tests.support.columns import read_columns
from tests.support.commands import SECONDS
from tests.support.outputs import files
from tests.support.readers import equal, reader, take
from tests.support.training import assert_same_weights, write_config
from trainer.__main__ import main
from trainer.artifacts.checkpoint import latest_checkpoint
from trainer.data.batches import Batch, Columns, columns_read
from trainer.data.reader import Reader

PREDICTIONS = f"gs://{gcs.BUCKET}/predictions"
HELDOUT = f"gs://{gcs.BUCKET}/heldout"
ALL_COLUMNS = ["input_ids", "masked_positions", "labels", "label_logprobs", "topk_ids", "topk_logprobs"]


@pytest.fixture(scope="module")
def server(predictions, heldout):
    with gcs.bucket() as server:
        for folder, url in ((predictions, PREDICTIONS), (heldout, HELDOUT)):
            upload(folder, url)
        yield server


@pytest.fixture
def down(monkeypatch):
    """Makes faults permanent, rather than at most twice in a row."""
    monkeypatch.setattr(gcs, "_IN_A_ROW", 10**9)


def upload(folder, url: str) -> None:
    for name, content in files(folder).items():
        storage.write_bytes(storage.join(url, name), content)


def ranges(server) -> list[tuple[str, int, int]]:
    """Returns (object, start, stop) of every request; each must be for a part of an object."""
    asked = []
    for method, path, header in server.requests:
        assert method == "GET" and header, (method, path, header)
        first, last = header.removeprefix("bytes=").split("-")
        asked.append((unquote(path.partition("?")[0].rpartition("/")[2]), int(first), int(last) + 1))
    return asked


def of_row_groups(asked: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Returns the requests that are not for a footer, which ends where the object does."""
    fs, _ = storage.filesystem(PREDICTIONS)
    return [(name, start, stop) for name, start, stop in asked if stop != fs.info(f"{gcs.BUCKET}/{name}")["size"]]


@contextmanager
def reading(**sampling) -> Iterator[Reader]:
    """Yields a reader of the bucket, and closes it so that it makes no requests in the next test."""
    with closing(reader(PREDICTIONS, **sampling)) as source:
        yield source


def test_batches_are_those_of_local_files(server, predictions):
    local = take(reader(predictions), 60)
    with reading() as source:
        assert all(equal(one, other) for one, other in zip(take(source, 60), local, strict=True))


def test_batches_are_the_same_through_faults(server, predictions):
    local = take(reader(predictions), 60)
    with server.trouble(0.4), reading() as source:
        assert all(equal(one, other) for one, other in zip(take(source, 60), local, strict=True))
    assert set(server.faults) == {("GET", kind) for kind in gcs.FAULTS}


@pytest.mark.parametrize("top_k", [8, 0])
def test_a_row_group_is_one_request_of_the_bytes_needed(server, tmp_path, top_k):
    """Uses real sizes: 16,384 rows in 8 row groups. The footer costs one more request per file, once."""
    make_predictions(str(tmp_path), 5000, 16_384, 1)
    url = f"gs://{gcs.BUCKET}/sizes/{top_k}"
    upload(tmp_path, url)
    (file,) = open_predictions(url).files
    # The trainer opens held-out data too; this must not drop the cached listing with the sizes of files.
    open_predictions(HELDOUT)
    metadata = pq.read_metadata(tmp_path / file.record.path)
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(8)
        for column in range(metadata.num_columns)
        if metadata.schema.column(column).path.split(".")[0] in ALL_COLUMNS[: 6 if top_k else 3]
    ]
    needed = sum(chunk.total_compressed_size for chunk in chunks)
    rows = RowGroupReader(columns_read(top_k))
    with server.trouble(0.0):
        for group in range(8):
            rows.read(file, group)
    asked = ranges(server)
    assert len(asked) == 9 and len(of_row_groups(asked)) == 8
    assert sum(stop - start for _, start, stop in of_row_groups(asked)) == needed
    assert sum(stop - start for _, start, stop in asked) < 1.1 * needed


def test_reads_ahead_as_far_as_planned_and_no_further(server, predictions):
    """Two threads prepare two pools of 100 rows ahead of the current one."""
    planned = reader(predictions, shuffle_rows=100)
    iterator = iter(planned)
    (first,) = next(iterator)
    while planned.state()["lanes"]["0"]["pool"] < 3:
        next(iterator)
    # The start of the fourth pool: (row group, row in it) of each language.
    positions = planned.state()["lanes"]["0"]["streams"].values()
    groups_of_three_pools = sum(group + (row > 0) for group, row in positions)
    with reading(shuffle_rows=100) as source, server.trouble(0.0):
        assert equal(*take(source, 1), first)
        deadline = time.monotonic() + 60
        while len(of_row_groups(ranges(server))) < groups_of_three_pools and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        assert len(of_row_groups(ranges(server))) == groups_of_three_pools


def test_memory_does_not_grow(server):
    """Only the planned pools are in memory, however many were read."""
    alive = []
    with reading(shuffle_rows=100) as source:
        iterator = iter(source)
        for pool in (2, 60):
            while source.state()["lanes"]["0"]["pool"] < pool:
                next(iterator)
            for made in source._buffers[0]._pools:
                made.batches.result()
            gc.collect()
            alive.append(Counter(type(thing) for thing in gc.get_objects() if type(thing) in (Batch, Columns)))
    assert alive[0][Batch] and alive[0][Columns]
    # One row group of each of the three languages may or may not be partly used.
    assert alive[1][Columns] <= alive[0][Columns] + 3 and alive[1][Batch] < 1.5 * alive[0][Batch]


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def not_parquet(content: bytes) -> bytes:
    return b"no Parquet\n" * 1000


def empty(content: bytes) -> bytes:
    return b""


def rewritten(content: bytes, vocabulary_sha256: str | None = None, group_rows: int = 32, rows: int | None = None):
    """Returns the file with fewer rows, other row groups, or another vocabulary."""
    table = pq.read_table(io.BytesIO(content))
    known = table.schema.metadata[b"mergedistill.vocabulary_sha256"].decode()
    run = table.schema.metadata[RUN_KEY.encode()].decode()
    return encode_rows(table[:rows], 8, vocabulary_sha256 or known, run, "{}", group_rows)


BROKEN = {
    "truncated": (truncated, "cannot be read .*; remove the file and rerun the pipeline"),
    "empty": (empty, "cannot be read .*; remove the file and rerun the pipeline"),
    "not Parquet": (not_parquet, "cannot be read .*; remove the file and rerun the pipeline"),
    "another vocabulary": (
        lambda content: rewritten(content, vocabulary_sha256="another"),
        "mergedistill.vocabulary_sha256 is another, but the manifest says .*remove it",
    ),
    "fewer row groups": (
        lambda content: rewritten(content, group_rows=10**6),
        r"the file has row groups of \[\d+\] rows, but the manifest says \[32, .*remove it",
    ),
    "fewer rows": (
        lambda content: rewritten(content, rows=-1),
        r"the file has row groups of \[32, .*\] rows, but the manifest says \[32, .*remove it",
    ),
}


@pytest.mark.parametrize("where", ["gs", "local"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_or_foreign_file_is_named_with_the_row_group(server, predictions, tmp_path, where, kind):
    file = next(file for file in open_predictions(PREDICTIONS).files if len(file.record.row_groups) > 1)
    url = f"gs://{gcs.BUCKET}/broken/{kind}.parquet" if where == "gs" else str(tmp_path / "broken.parquet")
    spoil, message = BROKEN[kind]
    storage.write_bytes(url, spoil(storage.read_bytes(file.url)))
    with pytest.raises(UserError, match=f"{url}: row group 1:? {message}"):
        read_columns(replace(file, url=url), 1, 8)


def test_a_file_that_is_gone_is_named(server):
    file = replace(open_predictions(PREDICTIONS).files[0], url=f"gs://{gcs.BUCKET}/gone.parquet")
    with pytest.raises(UserError, match=f"{file.url}: row group 0: the file is missing; rerun the pipeline"):
        read_columns(file, 0, 8)


@pytest.mark.parametrize("cached", [True, False], ids=["row group", "footer"])
def test_half_an_answer_is_no_data(server, down, monkeypatch, cached):
    """For an object that shrank, the server sends the remaining bytes as a complete response."""
    monkeypatch.setattr(gcs, "FAULTS", ("shorten",))
    file = open_predictions(PREDICTIONS).files[1]
    url = f"gs://{gcs.BUCKET}/shrunk/{cached}.parquet"
    storage.write_bytes(url, storage.read_bytes(file.url))
    file = replace(file, url=url)
    rows = RowGroupReader()
    if cached:
        rows.read(file, 0)
    with server.trouble(1.0), pytest.raises(UserError, match=f"{url}: row group 0 cannot be read"):
        rows.read(file, 0)
    assert len(rows.read(file, 0))


@pytest.mark.parametrize("fault", gcs.FAULTS)
def test_a_connection_that_stays_down_ends_in_one_error(server, down, monkeypatch, fault):
    monkeypatch.setattr(gcs, "FAULTS", (fault,))
    file = open_predictions(PREDICTIONS).files[0]
    with (
        server.trouble(1.0),
        pytest.raises(UserError, match=f"{file.url}: row group 0 cannot be reached .*run the same"),
    ):
        read_columns(file, 0, 8)
    assert server.faults["GET", fault] < 20


def test_row_groups_that_are_planned_are_not_all_tried_in_vain(server, down, monkeypatch):
    monkeypatch.setattr(gcs, "FAULTS", ("refuse",))
    with reading(threads=2) as source, server.trouble(1.0):
        with pytest.raises(UserError, match="row group .* cannot be reached"):
            next(iter(source))
        source.close()
        # gcsfs makes six attempts.
        assert len(server.requests) <= 2 * 6


@pytest.fixture
def run(tmp_path):
    """A function that runs the trainer in this process: (name of the run, predictions, held-out) -> (code, output)."""

    def run(name: str, predictions, heldout, **changes):
        config = write_config(tmp_path / name, predictions, heldout, **changes)
        return main([str(config)]), tmp_path / name / "student"

    return run


def test_a_run_through_faults_gives_the_local_weights(server, predictions, heldout, run):
    code, local = run("local", predictions, heldout)
    assert code == 0
    with server.trouble(0.2):
        code, remote = run("remote", PREDICTIONS, HELDOUT)
    assert code == 0 and {kind for _, kind in server.faults} == set(gcs.FAULTS)
    assert_same_weights(local, remote)
    assert (local / "evaluation.json").read_bytes() == (remote / "evaluation.json").read_bytes()


def test_a_run_whose_bucket_goes_away_says_so_and_goes_on_when_it_is_back(server, down, predictions, run, capfd):
    steps = {"max_steps": 100}
    _, local = run("local", predictions, None, **steps)
    capfd.readouterr()
    output = local.parent.parent / "remote" / "student"

    def break_off() -> None:
        deadline = time.monotonic() + SECONDS
        while latest_checkpoint(str(output)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        server.share = 1.0

    with server.trouble(0.0), ThreadPoolExecutor(1) as other:
        broken = other.submit(break_off)
        code, _ = run("remote", PREDICTIONS, None, **steps)
        broken.result()
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line.lower() or "Traceback" in line]
    assert code == 2 and len(errors) == 1
    assert f"error: {PREDICTIONS}/" in errors[0] and "row group" in errors[0] and "run the same command" in errors[0]
    assert latest_checkpoint(str(output)) < 100

    with server.trouble(1.0):
        assert run("remote", PREDICTIONS, None, **steps)[0] == 2
    error = capfd.readouterr().err
    assert error.startswith(f"error: {PREDICTIONS}/_manifest.json cannot be reached") and error.count("\n") == 1

    assert run("remote", PREDICTIONS, None, **steps)[0] == 0
    assert_same_weights(local, output)
