"""What a path means is the same everywhere; secrets in URLs are shown nowhere."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import pipeline.drift
import pipeline.trim.__main__
import trainer.export
from pipeline.config import PipelineConfig
from pipeline.corpus.files import TextFile, find_files
from pipeline.corpus.records import plan_file, read_records
from pipeline.job.launcher import run_pipeline
from pipeline.job.plan import plan_text
from schemas.errors import UserError
from schemas.paths import check_output_folder, path_option
from schemas.process import exit_code_of
from schemas.secrets import without_secrets
from schemas.storage import filesystem
from tests.support.commands import run_python
from trainer.config import TrainerConfig

STUDENT = {"student": {"settings": {"model_type": "bert"}}, "max_steps": 1}


def sources(*patterns) -> list[str]:
    return [file.source for file in find_files("en", [str(pattern) for pattern in patterns])]


@pytest.mark.parametrize("name", ["a[1].txt", "a*.txt", "a?.txt", "A::B.txt", "a b.txt", "[en] corpus/a.txt", "x::y/[z]/a.txt"])  # fmt: skip
def test_a_name_that_exists_is_taken_literally(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("one\n")
    for other in ("a1.txt", "axx.txt"):
        (tmp_path / other).write_text("two\n")
    base = os.path.basename(name)
    assert sources(tmp_path / name) == [base]
    if "/" in name:
        folder = (tmp_path / name).parent
        assert sources(folder) == sources(folder / "*.txt") == [base]
    found = find_files("en", [f"file://{tmp_path}/{name}"])
    assert [file.url for file in found] == [str(tmp_path / name)]
    with ThreadPoolExecutor() as pool:
        parts = plan_file(found[0], 10, pool).ranges
    assert [record.text for part in parts for record in read_records(part)] == ["one"]


def test_colons_in_a_name_on_another_filesystem_are_no_chain():
    fsspec.filesystem("memory").pipe_file("/colons/a::b.txt", b"one\n")
    (file,) = find_files("en", ["memory://colons"])
    with ThreadPoolExecutor() as pool:
        (part,) = plan_file(file, 10, pool).ranges
    assert [record.text for record in read_records(part)] == ["one"]


def test_one_file_is_taken_once_however_it_is_spelt(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "link.txt").symlink_to("a.txt")
    monkeypatch.chdir(tmp_path)
    spellings = ["a.txt", "./a.txt", tmp_path / "a.txt", "*.txt", ".", f"file://{tmp_path}/a.txt"]
    assert sources(*spellings) == ["a.txt"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "real/a.txt").write_text("one\n")
    (tmp_path / "real/deep/b.txt").write_text("two\n")
    (tmp_path / "real/deep/loop").symlink_to(tmp_path / "real")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert sources(tmp_path / "link") == ["a.txt", "deep/b.txt"]
    assert sources(tmp_path / "corpus") == ["linked/a.txt", "linked/deep/b.txt"]


def test_names_that_are_no_utf8_are_refused(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt"), "wb") as file:
        file.write(b"one\n")
    with pytest.raises(UserError, match=r"caf\\udce9.txt' is not UTF-8; rename"):
        sources(tmp_path)


def test_home_is_expanded_and_empty_paths_are_refused(pipeline_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = pipeline_settings("~/p", extends="~/e")
    settings["text"]["en"] = ["~/*.txt"]
    settings["teachers"]["en-wordpiece"]["model"] = "~/model"
    config = PipelineConfig.model_validate(settings)
    found = [config.output, config.extends, config.text["en"].files[0], config.teachers["en-wordpiece"].model]
    assert found == [f"{tmp_path}/{name}" for name in ("p", "e", "*.txt", "model")]
    fields = {
        "output": "~/o",
        "predictions": "~/p",
        "heldout": ["~/h"],
        "student": {"architecture_from": "~/l"},
        "max_steps": 1,
    }
    trainer = TrainerConfig.model_validate(fields)
    found = [trainer.output, *trainer.predictions, *trainer.heldout, trainer.student.architecture_from]
    assert found == [f"{tmp_path}/{name}" for name in "ophl"]
    assert path_option("~/x", "--to") == f"{tmp_path}/x"
    for empty in ("", " "):
        with pytest.raises(ValueError, match="is empty; give a path"):
            PipelineConfig.model_validate(pipeline_settings(empty))
        with pytest.raises(ValueError, match="is empty; give a path"):
            TrainerConfig.model_validate({**STUDENT, "output": "o", "predictions": empty})
        with pytest.raises(UserError, match="--to: is empty"):
            path_option(empty, "--to")


@pytest.mark.parametrize("name", ["file", "file/below/it", "x" * 300, "/proc/nothing", "/proc"])
def test_an_output_that_cannot_be_is_refused_before_any_work(pipeline_settings, predictions, tmp_path, name):
    from trainer.distributed import start_runtime
    from trainer.loop.train import train

    (tmp_path / "file").write_text("precious")
    output = os.path.join(tmp_path, name)
    config = PipelineConfig.model_validate(pipeline_settings(output))
    with pytest.raises(UserError, match="choose another output"):
        run_pipeline(config, [])
    with pytest.raises(UserError, match="choose another output"):
        fields = {**STUDENT, "output": output, "predictions": str(predictions)}
        train(TrainerConfig.model_validate(fields), start_runtime("float32"))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("name", ["", "file/below", "x" * 230, "/proc/x.json"])
def test_a_report_that_cannot_be_written_is_refused_before_any_work(predictions, text, tmp_path, name, capsys):
    (tmp_path / "file").write_text("precious")
    report = os.path.join(tmp_path, name)
    assert pipeline.trim.__main__.main([str(predictions), "--output", str(tmp_path / "trimmed"), "--json", report]) == 2
    assert pipeline.drift.main([str(predictions), "--text", f"en={text / 'en.txt'}", "--json", report]) == 2
    shown = capsys.readouterr()
    assert [line.startswith("error: ") and "choose another" in line for line in shown.err.splitlines()] == [True] * 2
    assert not shown.out and not (tmp_path / "trimmed").exists()


def test_a_student_is_not_exported_to_a_url(predictions, tmp_path, capsys):
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(STUDENT | {"output": "o", "predictions": str(predictions)}))
    assert trainer.export.main([str(tmp_path / "t.yaml"), "--to", "gs://bucket/student"]) == 2
    assert "must be a local folder" in capsys.readouterr().err


def test_an_output_with_colons_is_a_folder_of_that_name(tmp_path):
    (tmp_path / "runs").write_text("precious")
    assert filesystem(f"{tmp_path}/runs::1")[1] == f"{tmp_path}/runs::1"
    check_output_folder(f"{tmp_path}/runs::1")
    assert not (tmp_path / "runs::1").exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/a.txt", "s3://***@bucket/a.txt"),
        ("https://h/a.gz?X-Goog-Signature=secret&X-Goog-Date=secret", "https://h/a.gz?X-Goog-Signature=***&X-Goog-Date=***"),
        ("abfs://box@account/a?sig=secret%2F", "abfs://box@account/a?sig=***"),
        ("hf_secretsecretsecretsecret", "hf_***"),
        ("gs://bucket/a?.txt", "gs://bucket/a?.txt"),
        ("/data/a?b=c/x@y.txt", "/data/a?b=c/x@y.txt"),
        ("s3://key:sec/ret@bucket/a", "s3://***@bucket/a"),
        ("s3://key:s/e@cret@bucket/a", "s3://***@bucket/a"),
        ("https://user:p@ss@host/a", "https://***@host/a"),
        ("https://host:8080/a@b/c", "https://host:8080/a@b/c"),
        ("az://container@account/a", "az://container@account/a"),
    ],
)  # fmt: skip
def test_secrets_are_masked(url, shown, capsys):
    assert without_secrets(url) == shown

    def fails():
        raise UserError(f"{url}: cannot be read")

    assert exit_code_of(fails) == 2
    assert "secret" not in capsys.readouterr().err


def test_a_renewed_signature_is_the_same_file():
    memory = fsspec.filesystem("memory")
    found = []
    for signature in ("secret", "other"):
        memory.pipe_file(f"/signed/a.txt?sig={signature}", b"one\n")
        (file,) = find_files("en", [f"memory://signed/a.txt?sig={signature}"])
        assert memory.cat_file(file.url) == b"one\n"
        found.append(file.source)
    assert found == ["a.txt?sig=***"] * 2


def test_endings_are_looked_for_before_a_query_and_in_any_case():
    file = TextFile("https://h/A.JSONL.GZ?sig=a.parquet", "a")
    assert file.codec == "gzip" and file.is_json_lines and not file.is_parquet
    assert "sig=***" in file.shown


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_long_records_are_rejected_and_the_others_kept(tmp_path, pipeline_settings, name):
    import gzip

    lines = ["one", "x" * 101, "y" * 100 + "\r", "two", "z" * 5000]
    if "json" in name:
        lines = [json.dumps({"text": line.strip()}) for line in lines]
    content = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    settings = pipeline_settings(tmp_path / "p", shard_bytes=50, max_record_bytes=100 + 12 * ("json" in name))
    settings["text"]["en"] = [str(tmp_path / name)]
    (found,) = plan_text(PipelineConfig.model_validate(settings))["en"].values()
    faults = [r.fault for part in found.ranges for r in read_records(part, settings["max_record_bytes"])]
    assert faults == ["", "too long", "", "", "too long"]


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["txt.gz", "parquet"])
def test_memory_is_bounded_whatever_a_small_file_says(tmp_path, kind):
    """512 MiB without a line end, and 2 GB of strings in a few hundred bytes."""
    if kind == "parquet":
        value = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array(["x" * (5 * 2**20)]))
        pq.write_table(pa.table({"text": value}), tmp_path / "a.parquet", compression="zstd")
    else:
        import zlib

        pack = zlib.compressobj(1, wbits=31)
        with (tmp_path / "a.txt.gz").open("wb") as file:
            for _ in range(128):
                file.write(pack.compress(b"x" * 2**22))
            file.write(pack.flush())
    program = (
        "import sys, resource; from pathlib import Path; from tests.support.text_files import plan, records;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "found = records(plan(Path(sys.argv[1]), 2**22));"
        "print(len(found), {fault for _, _, fault in found}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = run_python("-c", program, tmp_path / f"a.{kind}")
    assert done.returncode == 0, done.stderr
    count, *_, grown = done.stdout.split()
    assert int(count) == (400 if kind == "parquet" else 1) and "{'too long'}" in done.stdout
    assert int(grown) * 1024 < 200 * 2**20
