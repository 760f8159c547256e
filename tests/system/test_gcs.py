"""Cloud Storage over HTTP: text and output in a bucket where every fifth request is refused, dropped, lost or hangs."""

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pyarrow.parquet as pq
import pytest

from pipeline.config import PipelineConfig
from pipeline.job.launcher import dry_run, finish_run, run_part, run_pipeline
from schemas import storage
from schemas.errors import UserError
from schemas.predictions import open_predictions
from tests.support import gcs
from tests.support.commands import run as run_command
from tests.support.outputs import files, rows

OUTPUT = f"gs://{gcs.BUCKET}/out/predictions"
SHARE = 0.2


@pytest.fixture(scope="module")
def server():
    with gcs.bucket() as server:
        yield server


@pytest.fixture(scope="module")
def run(server, text, pipeline_settings):
    """A function that runs stage one through faults, on text in the bucket, and returns the manifest."""
    settings = pipeline_settings(OUTPUT)
    settings["text"] = {language: [f"gs://{gcs.BUCKET}/text/{language}/*.txt"] for language in settings["text"]}
    for language in settings["text"]:
        name = f"{language}.txt"
        storage.write_bytes(f"gs://{gcs.BUCKET}/text/{language}/{name}", (text / name).read_bytes())

    def run():
        with server.trouble(SHARE):
            return run_pipeline(PipelineConfig.model_validate(settings), [])

    return run


@pytest.fixture(scope="module")
def manifest(run):
    """The manifest of a whole run."""
    return run()


def objects(field: str) -> dict:
    """Returns one field of each object below the output."""
    fs, root = storage.filesystem(OUTPUT)
    fs.invalidate_cache()
    return {name.removeprefix(f"{root}/"): info[field] for name, info in fs.find(root, detail=True).items()}


def contents() -> dict[str, bytes]:
    return {name: storage.read_bytes(storage.join(OUTPUT, name)) for name in objects("size")}


def of_the_run(written: dict[str, bytes]) -> dict[str, bytes]:
    """Removes the files whose content depends on the storage of the text."""
    return {
        name: content for name, content in written.items() if not name.startswith(("_text/", "_run.json", "_checked/"))
    }


def test_a_run_through_faults_gives_the_local_bytes(server, manifest, predictions):
    assert {kind for _, kind in server.faults} == set(gcs.FAULTS)
    assert {method for method, _ in server.faults} == {"GET", "POST"}
    assert of_the_run(contents()) == of_the_run(files(predictions))
    opened = open_predictions(OUTPUT)
    assert [manifest] == opened.manifests == open_predictions(str(predictions)).manifests
    ids = []
    for file in opened.files:
        with fsspec.open(file.url) as stream:
            ids += pq.read_table(stream, columns=["example_id"])["example_id"].to_pylist()
    assert sorted(ids) == rows(predictions).example_id.to_list() and len(set(ids)) == len(ids)


def test_a_rerun_through_faults_does_only_what_is_missing(server, run, manifest, predictions):
    lost = manifest.files[0].path
    before = objects("generation")
    for name in (lost, "_manifest.json"):
        storage.filesystem(OUTPUT)[0].rm(storage.join(OUTPUT, name))
    assert run() == manifest
    assert server.faults.total() > 5
    after = objects("generation")
    assert {file.path for file in manifest.files if after[file.path] != before[file.path]} == {lost}
    assert of_the_run(contents()) == of_the_run(files(predictions))


def commands(output: str, text: str) -> list[Callable]:
    """Returns the commands of stage one. All but the dry run begin with the output."""
    config = PipelineConfig.model_validate(
        {"output": output, "teachers": {"t": {"model": "/no/model", "languages": ["en"]}}, "text": {"en": text}}
    )
    return [
        lambda: dry_run(config, []),
        lambda: run_pipeline(config, []),
        lambda: run_part(config, 1, 2),
        lambda: finish_run(config),
    ]


@pytest.fixture
def denies(server, monkeypatch):
    """A function that makes the bucket answer all requests, or those of some methods, with a status."""

    def denies(status: int, methods: tuple[str, ...] = ("GET", "POST", "PUT", "DELETE")) -> None:
        def answer(handler):
            content = json.dumps({"error": {"code": status, "message": "denied"}}).encode()
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            handler._answer(status, {"Content-Type": "application/json"}, content, len(content))

        for method in methods:
            monkeypatch.setattr(gcs.Proxy, f"do_{method}", answer)

    return denies


@pytest.mark.parametrize(
    ("status", "message"), [(401, r"\(HttpError: denied, 401\)"), (403, r"\(OSError: Forbidden: b/\S+\)")]
)
def test_storage_that_denies_access_is_one_line(denies, tmp_path, status, message):
    denies(status)
    text = f"gs://{gcs.BUCKET}/text/en/*.txt"
    for command in commands(str(tmp_path / "local"), text)[:3]:
        with pytest.raises(
            UserError, match=rf"^text.en: {re.escape(text)} cannot be reached {message}; check the connect"
        ):
            command()
    (tmp_path / "en.txt").write_text("the river\n")
    for command in commands(OUTPUT, str(tmp_path / "en.txt"))[1:]:
        with pytest.raises(
            UserError, match=rf"^{OUTPUT}\S* cannot be reached {message}; check the connection and the acc"
        ):
            command()


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_bucket_that_cannot_be_written_is_refused_before_any_work(denies, tmp_path, method):
    (tmp_path / "en.txt").write_text("the river\n")
    run = commands(f"gs://{gcs.BUCKET}/denied", str(tmp_path / "en.txt"))[1]
    with pytest.raises(UserError, match="its tokenizer cannot be loaded"):
        run()
    assert not storage.list_files(f"gs://{gcs.BUCKET}/denied")
    denies(403, (method,))
    with pytest.raises(UserError, match=rf"^gs://{gcs.BUCKET}/denied/\S+ cannot be reached \(OSError: Forbidden"):
        run()


def test_the_log_adds_nothing_to_the_line(denies, tmp_path):
    denies(401)
    teachers = {"t": {"model": "/no/model", "languages": ["en"]}}
    settings = {"output": "gs://bucket/out", "teachers": teachers, "text": {"en": "gs://bucket/text"}}
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    done = run_command("pipeline", tmp_path / "config.yaml")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: gs://bucket/out") and done.stderr.count("\n") == 1


def test_a_missing_bucket_is_one_line(server, tmp_path):
    text = "gs://no-bucket/text/en/*.txt"
    for command in commands(str(tmp_path / "local"), text)[:3]:
        with pytest.raises(
            UserError, match=rf"^text.en: {re.escape(text)}: there is no such bucket or folder; create it"
        ):
            command()
    (tmp_path / "en.txt").write_text("the river\n")
    for command in commands("gs://no-bucket/out", str(tmp_path / "en.txt"))[1:]:
        with pytest.raises(UserError, match=r"^gs://no-bucket/out\S*: there is no such bucket or folder; create it"):
            command()


def test_silence_is_not_waited_out(server, monkeypatch):
    monkeypatch.setattr(gcs, "FAULTS", ("hang",))
    url = f"gs://{gcs.BUCKET}/small"
    start = time.monotonic()
    with server.trouble(1.0):
        storage.write_bytes(url, b"content")
        assert storage.read_bytes(url) == b"content"
    assert server.faults == {("POST", "hang"): 2, ("GET", "hang"): 2}
    assert time.monotonic() - start < gcs.HANG_SECONDS


def test_large_objects_go_in_parts_through_faults(server, monkeypatch):
    """gcsfs sends objects larger than 50 MiB, such as the file of a full shard, in several requests."""
    monkeypatch.setattr(storage, "SILENCE_SECONDS", 5.0)
    content = bytes(range(256)) * (55 * 2**12)
    url = f"gs://{gcs.BUCKET}/large"
    with server.trouble(0.7):
        storage.write_bytes(url, content)
        assert storage.read_bytes(url) == content
    assert server.faults["POST", "refuse"] + server.faults["POST", "close"] > 0


def test_of_many_who_create_one_file_at_once_one_does(server):
    """A caller that is told it did not create the file may still find its own, if the first response was lost."""
    url = f"gs://{gcs.BUCKET}/claimed"
    claims = [f"claim {i}".encode() for i in range(12)]
    with server.trouble(0.6), ThreadPoolExecutor(len(claims)) as pool:
        told = list(pool.map(lambda claim: storage.create_bytes(url, claim), claims))
    assert server.faults.total() > 2
    actual = storage.read_bytes(url)
    assert [claim for claim, created in zip(claims, told, strict=True) if created] in ([], [actual])
    assert not storage.create_bytes(url, b"late") and storage.read_bytes(url) == actual in claims
