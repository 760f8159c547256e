"""An evaluation reads text in the same way as the pipeline."""

import gzip
import json

import pytest

from pipeline.config import PipelineConfig
from pipeline.engine.tasks import in_threads
from pipeline.text.survey import find_text, survey_text
from pipeline.text.units import TeacherText
from schemas.corpus.config import TextConfig
from schemas.errors import UserError
from trainer.evaluation.formats.text import open_text


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"line {number}\n" for number in range(50)) + "\n  \n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.writelines(
            json.dumps({"body": f"body {number}", "text": f"object {number}"}) + "\n" for number in range(40)
        )
    return tmp_path


@pytest.mark.parametrize("max_records", [None, 1, 7, 91, 10_000])
def test_records_are_those_of_the_pipeline(folder, max_records):
    section = {"files": [str(folder)], "max_records": max_records}
    config = PipelineConfig(output="out", text={"x": section}, teachers={"t": {"model": "m", "languages": ["x"]}})
    text = TeacherText.of("x", "t", survey_text(config, find_text(config), in_threads)["x"], config)
    shards = [shard for unit in text.units for shard in text.shards(unit.number)]
    expected = [record.text for shard in shards for record in shard.records if not record.fault]
    assert list(open_text("x", TextConfig(**section))) == expected


def test_text_is_known_by_what_is_read(folder):
    def sha256(**section):
        return open_text("x", TextConfig(files=[str(folder)], **section)).sha256

    assert sha256() == sha256() == sha256(max_records=10_000)
    assert len({sha256(), sha256(max_records=3), sha256(field="body")}) == 3
    before = sha256()
    (folder / "a.txt").write_text("other\n")
    assert sha256() != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "text.x: no file matches"),
        ("", "text.x: its files have no text"),
        ("\n \n", "text.x: its files have no text"),
    ],
)
def test_no_text_is_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        open_text("x", TextConfig(files=[str(tmp_path / "a.txt")]))
