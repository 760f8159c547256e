"""Stage one as a whole: rejects, reruns, several teachers, and settings that do not change the rows."""

import gzip
import json
import shutil
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import PipelineConfig
from pipeline.text.corpus import Corpus
from schemas.corpus.files import find_files
from schemas.manifest import read_manifest
from tests.support import world
from tests.support.outputs import files, rows, same


def test_the_same_run_gives_the_same_bytes(predictions, run_pipeline, tmp_path):
    assert files(run_pipeline(tmp_path / "again")) == files(predictions)


def test_shards_do_not_decide_the_masks(predictions, run_pipeline, tmp_path):
    """Other shards of the text give the same inputs and targets; only batches, and so rounding, may differ."""
    columns = ["example_id", "input_ids", "masked_positions", "labels"]
    assert same(rows(run_pipeline(tmp_path / "one", shard_bytes=2**20))[columns], rows(predictions)[columns])


@pytest.fixture
def many_files(tmp_path) -> Path:
    """A folder of one language: small files, an empty one, one without a final line end, JSON lines, Parquet, gzip."""
    folder = tmp_path / "text"
    folder.mkdir()
    lines = iter(world.sentences("en", 900))

    def text(count: int) -> str:
        return "".join(f"{line}\n" for line in islice(lines, count))

    for number, count in enumerate((1, 30, 3, 0, 70, 2)):
        (folder / f"{number}.txt").write_text(text(count))
    (folder / "6.txt").write_text(text(20).rstrip("\n"))
    (folder / "7.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in islice(lines, 60)))
    pq.write_table(pa.table({"text": list(islice(lines, 200))}), folder / "8.parquet", row_group_size=50)
    (folder / "9.txt.gz").write_bytes(gzip.compress(text(500).encode(), mtime=0))
    return folder


def test_neither_shards_nor_units_decide_the_rows_of_many_files(many_files, run_pipeline, teachers, tmp_path):
    """Small files are read together, large ones in parts, and a compressed one by one or several units."""
    english = {"model": str(teachers / "en-wordpiece"), "languages": ["en"], "dtype": "float32"}
    changes = {
        "teachers": {"en-wordpiece": english},
        "text": {"en": [str(many_files)]},
        "top_k": 0,
        "masking": {"copies": 2},
    }
    actual = {}
    for shard_bytes in (300, 5000, 2**20):
        folder = run_pipeline(tmp_path / f"{shard_bytes}", shard_bytes=shard_bytes, **changes)
        actual[shard_bytes] = rows(folder)[["example_id", "input_ids", "masked_positions", "labels"]]
        assert read_manifest(str(folder)).languages[0].records == 886
    assert same(actual[300], actual[2**20]) and same(actual[5000], actual[2**20])
    # The shards really differed.
    files = find_files("en", [str(many_files)])
    readers = [
        sum(piece.part.file.codec == "gzip" for unit in corpus.working_units for piece in corpus.pieces(int(unit)))
        for corpus in (Corpus.of(files, 300), Corpus.of(files, 2**20))
    ]
    assert readers[0] > 2 and readers[1] == 1
    assert len(list((tmp_path / "300").rglob("0*.parquet"))) > 50
    assert len(list((tmp_path / f"{2**20}").rglob("0*.parquet"))) == 1


def test_a_rerun_does_only_what_is_missing(predictions, run_pipeline, tmp_path):
    folder = tmp_path / "p"
    shutil.copytree(predictions, folder)
    manifest = read_manifest(str(folder))
    lost, kept = manifest.files[0].path, manifest.files[1].path
    (folder / lost).unlink()
    (folder / "_manifest.json").unlink()
    before = (folder / kept).stat().st_mtime_ns
    run = json.loads((folder / "_run.json").read_text())
    run_pipeline(folder)
    assert (folder / kept).stat().st_mtime_ns == before
    assert json.loads((folder / "_run.json").read_text()) == run
    assert files(folder) == files(predictions)


def test_threads_give_the_same_bytes(predictions, pipeline_settings, tmp_path):
    from pipeline.job.launcher import run_pipeline

    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    run_pipeline(config, ["--direct_running_mode=multi_threading", "--direct_num_workers=4"])
    assert files(tmp_path / "p") == files(predictions)


def test_any_fsspec_url(pipeline_settings, text, predictions):
    """Text and output in another filesystem, here fsspec's in-memory one, give the same rows."""
    import fsspec

    from pipeline.job.launcher import run_pipeline
    from schemas.predictions import open_predictions
    from tests.support.readers import reader, take

    memory = fsspec.filesystem("memory")
    memory.put(f"{text}/", "/text/", recursive=True)
    settings = pipeline_settings("memory://out")
    settings["text"] = {language: [f"memory://text/{language}.txt"] for language in settings["text"]}
    manifest = run_pipeline(PipelineConfig.model_validate(settings), [])
    assert [manifest] == open_predictions("memory://out").manifests == open_predictions(str(predictions)).manifests
    ours, theirs = take(reader("memory://out"), 3), take(reader(predictions), 3)
    assert all((a.input_ids_BL == b.input_ids_BL).all() for a, b in zip(ours, theirs, strict=True))
