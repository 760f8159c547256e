"""Curves and steps to a given loss, from metrics that the tests write."""

import json

import pytest

from trainer.evaluation.report.training import MEAN, Line, curves, exported_steps, reaches, speed, training_lines


def heldout(step: int, sha256: str = "1f", **nll: float) -> Line:
    return Line(step=step, heldout={name: {"nll": value} for name, value in nll.items()}, heldout_sha256=sha256)


def training(step: int, mlm: float) -> Line:
    return Line(step=step, train={"de": {"mlm": mlm}}, tokens_per_second=step)


def test_curves_are_of_the_last_held_out_data():
    lines = [heldout(1, "old", de=9), heldout(1, de=8), training(1, 5), heldout(2, de=7)]
    (curve,) = curves({"a": lines})
    assert (curve.language, curve.heldout_sha256, curve.steps, curve.losses) == ("de", "1f", [1, 2], [8, 7])


def test_languages_are_in_the_order_of_the_configuration():
    made = curves({"a": [heldout(1, de=1, fi=1, tr=1, en=1)]}, ["tr", "fi"])
    assert [curve.language for curve in made] == ["tr", "fi", "de", "en"]


def test_curves_of_training_where_nothing_was_held_out():
    lines = [training(step, 9 - step) for step in (1, 2, 6)]
    (curve,) = curves({"a": lines})
    assert (curve.heldout_sha256, curve.steps, curve.losses) == (None, [1, 2, 6], [8, 7, 3])
    assert speed(lines) == 2 and speed([heldout(1, de=1)]) is None
    assert reaches([curve, curve], {}) == []


def test_steps_to_the_final_loss_of_another():
    slow = [heldout(step, de=9 - step, fi=10 - step) for step in (1, 2, 3, 4)]
    fast = [heldout(step, de=9 - 2 * step, fi=9.5 - step) for step in (1, 2, 3, 4)]
    rows = {(r.model, r.language): r for r in reaches(curves({"slow": slow, "fast": fast}), {})}
    assert rows["slow", "de"].loss == 5 and rows["slow", "de"].reached == {"fast": 2}
    # `slow` ends at 6, which `fast` falls below at step 4; `fast` ends at 5.5, which `slow` does not reach.
    assert rows["slow", "fi"].reached == {"fast": 4} and rows["fast", "fi"].reached == {"slow": None}
    # `slow` ends at a mean of 5.5; the mean of `fast` is 7.75 - 1.5 * (step - 1).
    assert (rows["slow", MEAN].loss, rows["slow", MEAN].reached) == (5.5, {"fast": 3})
    assert len(rows) == 6


def test_the_final_loss_is_that_of_the_exported_weights():
    """With `export: best`, the weights may be those of an earlier step."""
    best = [heldout(1, de=5), heldout(2, de=3), heldout(3, de=4)]
    other = [heldout(1, de=4), heldout(2, de=3.5), heldout(3, de=3)]
    first, second = reaches(curves({"best": best, "other": other}), {"best": 2, "other": 3})
    assert (first.loss, first.steps, first.reached) == (3, 2, {"other": 3})
    assert (second.loss, second.steps, second.reached) == (3, 3, {"best": 2})
    # No evaluation of the weights: no target, but other models have one.
    (only,) = reaches(curves({"best": best, "other": other}), {"best": 4})
    assert (only.model, only.reached) == ("other", {"best": 2})


def test_the_step_of_exported_weights(tmp_path):
    contents = {"student": {"step": 600}, "of-another": {"accuracy": 0.5}, "bad": {"step": "x"}}
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        fields = {"heldout_sha256": None, "languages": {}} | content
        (tmp_path / name / "evaluation.json").write_text(json.dumps(fields))
    (tmp_path / "teacher").mkdir()
    assert exported_steps({name: str(tmp_path / name) for name in (*contents, "teacher")}) == {"student": 600}


def test_other_held_out_data_or_languages_are_not_compared():
    first, second = [heldout(1, "1f", de=1)], [heldout(1, "2e", de=1)]
    assert reaches(curves({"a": first, "b": second}), {}) == []
    made = reaches(curves({"a": first, "b": second, "c": first, "d": second}), {})
    assert [(r.heldout_sha256, r.model, r.reached) for r in made] == [
        ("1f", "a", {"c": 1}), ("1f", "c", {"a": 1}), ("2e", "b", {"d": 1}), ("2e", "d", {"b": 1})
    ]  # fmt: skip
    two = [heldout(1, de=1, fi=1)]
    assert {r.language for r in reaches(curves({"a": two, "b": [heldout(1, de=1, fi=1, tr=1)]}), {})} == {"de", "fi"}


def test_lines_of_folders_that_have_any(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.jsonl").write_text(heldout(1, de=1).model_dump_json() + '\n{"step": 2, "he')
    assert training_lines({"a": str(tmp_path / "a"), "b": str(tmp_path)}) == {"a": [heldout(1, de=1)]}


@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        b"{}",
        b'{"step": 1, "train": {"de": 3}}',
        b'{"step": 1, "heldout": {"<script>": {"nll": 1}}}',
        b"\xff\xfe",
    ],
)
def test_metrics_of_something_else_are_left_out(tmp_path, caplog, content):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "metrics.jsonl").write_bytes(content + b"\n")
    (tmp_path / "b" / "metrics.jsonl").write_text(heldout(1, de=1).model_dump_json())
    assert training_lines({name: str(tmp_path / name) for name in ("a", "b")}) == {"b": [heldout(1, de=1)]}
    (line,) = caplog.messages
    assert "metrics.jsonl: left out of the report" in line
