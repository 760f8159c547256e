"""The model card."""

import json

import yaml

from schemas.manifest import MixedModelRecord, TeacherRecord, open_predictions
from trainer.artifacts.model_card import _cell, _text


def test_the_model_card(stopped, predictions):
    output = stopped.parent / "student"
    _, front, body = (output / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["language"] == ["en", "hi", "ru"]
    opened = open_predictions(str(predictions))
    for name, teacher in opened.manifests[0].teachers.items():
        assert f"| {name} | {teacher.model} |" in body
    for language in opened.language_names:
        rows = sum(file.record.rows for file in opened.files if file.record.language == language)
        assert f"| {language} | {opened.teacher_of(language)} | {rows:,} |" in body
    for language, row in json.loads((output / "evaluation.json").read_text())["languages"].items():
        assert f"| {language} | {row['accuracy']:.3f} | {row['nll']:.3f} |" in body
    settings = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert settings["optimizer"]["learning_rate"] == 0.05 and "output" not in settings


def test_a_model_card_shows_names_as_they_are():
    hostile = "a|b <script>[x](http://y) `c`\n# d\x1b"
    assert _text(hostile) == (r"a&#124;b &#60;script&#62;&#91;x&#93;(http://y) &#96;c&#96;&#92;n# d&#92;x1b")
    assert _text("org/model-name_v1.0") == "org/model-name_v1.0"


def test_a_model_card_lists_all_models_of_a_teacher():
    mixed_with = [MixedModelRecord(model="org/b|c", revision=None, weight=0.3)]
    record = TeacherRecord(
        model="org/a",
        revision="abc",
        mixed_with=mixed_with,
        family="f",
        languages=[],
        vocabulary_size=1,
        fingerprint="",
    )
    assert _cell(record, "model") == "org/a<br>org/b&#124;c (weight 0.3)"
    assert _cell(record, "revision") == "abc<br>- (weight 0.3)"
