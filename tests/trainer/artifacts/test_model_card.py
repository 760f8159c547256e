"""The model card."""

import json
import re
from dataclasses import replace

import yaml
from huggingface_hub import ModelCard

from schemas.config import load_config
from schemas.manifest import MixedModelRecord, TeacherRecord
from schemas.predictions import Predictions, open_predictions
from tests.support.training import write_config
from trainer.artifacts.model_card import _cell, _text, model_card
from trainer.config import TrainerConfig
from trainer.data.stages import open_stages


def card_of(settings: dict, predictions: Predictions) -> ModelCard:
    config = TrainerConfig.model_validate(settings)
    return ModelCard(model_card(config, predictions, open_stages(config, predictions), 1, 2, {}))


def test_the_model_card(stopped, predictions):
    output = stopped.parent / "student"
    card = ModelCard.load(output / "README.md")
    # Without the spaces that align the tables.
    body = re.sub(" +", " ", card.text)
    assert card.data.language == ["en", "hi", "ru"] and card.data.license == "other"
    assert card.data.pipeline_tag == "fill-mask" and card.data.metrics == ["accuracy", "nll"]
    # The teachers are local folders, and the configuration names no data sets.
    assert card.data.base_model is None and card.data.datasets is None
    opened = open_predictions(str(predictions))
    for name, teacher in opened.manifests[0].teachers.items():
        assert f"| {name} | {teacher.model} |" in body
    for language in opened.language_names:
        rows = sum(file.record.rows for file in opened.files if file.record.language == language)
        assert f"| {language} | {opened.teacher_of(language)} | {rows:,} |" in body
    for language, row in json.loads((output / "evaluation.json").read_text())["languages"].items():
        results = {r.metric_type: r.metric_value for r in card.data.eval_results if r.dataset_config == language}
        assert results == {key: row[key] for key in ("accuracy", "nll")}
        assert f"| {language} | {row['accuracy']:.3f} | {row['nll']:.3f} |" in body
    settings = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert settings["optimizer"]["learning_rate"] == 0.05 and "output" not in settings


def test_a_card_has_only_the_languages_that_were_read(predictions, stopped):
    settings = yaml.safe_load(stopped.read_text()) | {"sampling": {"languages": ["hi"]}}
    card = card_of(settings, open_predictions(str(predictions)))
    assert card.data.language == ["hi"]
    data = card.text.split("## Training data")[1].split("## ")[0]
    assert "| hi " in data and "| en " not in data


def test_metadata_of_hub_teachers(predictions, stopped):
    """Licence and ids of the teachers, and overrides by the configuration."""
    opened = open_predictions(str(predictions))
    records = [record.model_copy(update={"model": f"org/{n}"}) for n, record in enumerate(opened.teachers.values())]
    teachers = dict(zip(opened.teachers, records, strict=True))
    hub_models = [record.model for record in records]
    manifest = opened.manifests[0].model_copy(update={"teachers": teachers, "hub_models": hub_models})
    from_hub = replace(opened, manifests=[manifest])
    settings = yaml.safe_load(stopped.read_text())
    data = card_of(settings, from_hub).data
    assert data.base_model == [f"org/{number}" for number in range(len(records))]
    assert data.license == "other" and data.eval_results is None and data.metrics is None
    # A model name is only needed with results.
    assert "model_name" not in data.to_dict()
    settings["model_card"] = {"license": "mit", "datasets": ["org/data"]}
    card = card_of(settings, from_hub)
    assert (card.data.license, card.data.datasets) == ("mit", ["org/data"])
    assert "mit, according to its makers" in card.text and "model_card" not in card.text


def test_the_licence_that_all_teachers_have(predictions, stopped, tmp_path):
    opened = open_predictions(str(predictions))
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    teachers = {name: t.model_copy(update={"model": str(tmp_path)}) for name, t in opened.teachers.items()}
    manifest = opened.manifests[0].model_copy(update={"teachers": teachers})
    card = card_of(yaml.safe_load(stopped.read_text()), replace(opened, manifests=[manifest]))
    assert card.data.license == "apache-2.0"


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


def test_a_model_card_lists_the_stages_that_ran(predictions, tmp_path):
    stages = [{"until": 0.2}, {"until": 0.6, "alpha": 0}, {"alpha": 1}]
    path = write_config(tmp_path, predictions, None, max_steps=100, stages=stages)
    config, opened = load_config(str(path), TrainerConfig), open_predictions(str(predictions))

    def stages_of(step: int) -> list[str]:
        card = model_card(config, opened, open_stages(config, opened), step, 2, {})
        return re.findall("^Stage .*?(?=:)", card, re.MULTILINE)

    assert stages_of(20) == ["Stage 1, steps 1 to 20"]
    assert stages_of(21) == ["Stage 1, steps 1 to 20", "Stage 2, steps 21 to 21"]
    assert stages_of(100) == ["Stage 1, steps 1 to 20", "Stage 2, steps 21 to 60", "Stage 3, steps 61 to 100"]
