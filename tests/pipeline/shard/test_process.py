"""Processing a shard: rejected records, copies, and faulty teachers."""

import json

import pytest

from pipeline.config import PipelineConfig
from schemas.errors import UserError
from tests.support.outputs import rows
from tests.support.teachers import broken_teacher


@pytest.mark.heavy
def test_a_teacher_gone_wrong_ends_the_run_with_one_line_and_the_others_are_kept(pipeline_settings, teachers, tmp_path):
    from pipeline.job.launcher import run_pipeline

    settings = pipeline_settings(tmp_path / "p")
    settings["teachers"]["en-wordpiece"]["model"] = str(broken_teacher(teachers, tmp_path / "broken"))
    with pytest.raises(
        UserError,
        match=r"shards? failed: en/\S+: teacher 'en-wordpiece' gave a NaN[^\n\[]* in example 'en:en-wordpiece:en.txt:",
    ):
        run_pipeline(PipelineConfig.model_validate(settings), [])
    assert not (tmp_path / "p" / "_manifest.json").exists()
    done = {
        path.relative_to(tmp_path / "p" / "_units").parts[0] for path in (tmp_path / "p" / "_units").rglob("*.arrow")
    }
    assert done == {"hi", "ru"}
    assert {path.suffix for path in (tmp_path / "p" / "_failed" / "en").rglob("*.*")} == {".json", ".arrow"}


def test_unusable_lines_are_set_aside_and_counted(pipeline_settings, teachers, tmp_path):
    from pipeline.job.launcher import run_pipeline

    lines = [
        b"the river writes a 1999 song.",
        b"",
        b"\xff\xfe broken",
        b"  ",
        b"a",
        b"my house remembers (the sea)",
        "我 我 我 我 我".encode(),
    ]
    (tmp_path / "en.txt").write_bytes(b"\n".join(lines))
    settings = pipeline_settings(tmp_path / "p") | {
        "teachers": {"en-wordpiece": {"model": str(teachers / "en-wordpiece"), "languages": ["en"]}},
        "text": {"en": [str(tmp_path / "en.txt")]},
    }
    (record,) = run_pipeline(PipelineConfig.model_validate(settings), []).languages
    assert (record.records, record.used) == (7, 2)
    assert record.rejected == {"empty": 2, "invalid UTF-8": 1, "nothing to mask": 1, "too short": 1}
    (path,) = (tmp_path / "p" / "_rejects").rglob("*.jsonl")
    rejects = [json.loads(line) for line in path.read_text().splitlines()]
    starts = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]
    assert [(starts.index(reject["record"]), reject["reason"]) for reject in rejects] == [
        (1, "empty"), (2, "invalid UTF-8"), (3, "empty"), (4, "too short"), (6, "nothing to mask"),
    ]  # fmt: skip
    assert {reject["source"] for reject in rejects} == {"en.txt"}
    assert {example_id.split(":")[3] for example_id in rows(tmp_path / "p").example_id} == {"0", str(starts[5])}


@pytest.mark.heavy
def test_copies_are_masked_differently(run_pipeline, tmp_path):
    masking = {"mlm_probability": 0.3, "copies": 3}
    frame = rows(run_pipeline(tmp_path / "p", masking=masking, top_k=0))
    copies = frame.example_id.str.rsplit(":", n=1)
    frame["segment"], frame["copy"] = copies.str[0], copies.str[1].astype(int)
    assert (frame.groupby("segment").copy.apply(sorted).map(tuple) == (0, 1, 2)).all()
    places = frame.groupby("segment").masked_positions.apply(lambda column: len({tuple(x) for x in column}))
    assert places.mean() > 2
    # With top_k: 0 no teacher is run, so there are no predictions.
    assert (frame.topk_ids.str.len() == 0).all() and (frame.label_logprobs.str.len() == 0).all()
