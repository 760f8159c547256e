"""Every configuration in the documents is valid, and the README shows those of examples/local."""

import re

import pytest
import yaml

from pipeline.config import PipelineConfig
from schemas.config import load_config
from tests.support.documents import blocks
from tests.support.paths import ROOT
from trainer.config import TrainerConfig
from trainer.evaluation.config import EvaluationConfig

ROUTING = "# routing.yaml\n"
BLOCKS = [block for block in blocks("yaml") if not block.code.startswith(ROUTING)]
# The required fields, which are added to blocks that show only a few fields.
LEAST = {
    PipelineConfig: {"output": "o", "teachers": {"t": {"model": "m", "languages": ["en"]}}, "text": {"en": ["a"]}},
    TrainerConfig: {"output": "o", "predictions": "p", "student": {"start_from": "s"}, "max_steps": 100000},
    EvaluationConfig: {"output": "o", "models": {"m": {"model": "m"}}, "text": {"en": ["a"]}},
}


def model_of(fields: dict) -> type:
    """The first configuration that has these fields."""
    return next(model for model in LEAST if fields.keys() <= model.model_fields.keys())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_configurations_are_valid(block, tmp_path):
    fields = yaml.safe_load(block.code)
    model = model_of(fields)
    path = tmp_path / "shown.yaml"
    # The text exactly as shown, so that `load_config` also checks its form.
    rest = {name: value for name, value in LEAST[model].items() if name not in fields}
    path.write_text(block.code + (yaml.safe_dump(rest) if "output" not in fields else ""), encoding="utf-8")
    load_config(str(path), model)


def test_a_file_of_teachers_is_valid(tmp_path):
    (routing,) = [block.code for block in blocks("yaml") if block.code.startswith(ROUTING)]
    (tmp_path / "routing.yaml").write_text(routing)
    (tmp_path / "c.yaml").write_text("output: o\nteachers: routing.yaml\ntext: {de: [a], fr: [b]}\n")
    assert len(load_config(str(tmp_path / "c.yaml"), PipelineConfig).teachers) == 2


def test_the_readme_shows_the_real_examples():
    shown = [block.code for block in BLOCKS if block.where.startswith("README.md:")]
    assert len(shown) == 3
    for code in shown:
        name = re.search(r"^# (\S+\.yaml)$", code, re.MULTILINE)[1]
        assert yaml.safe_load(code) == yaml.safe_load((ROOT / "examples" / "local" / name).read_text(encoding="utf-8"))


def test_the_readme_runs_all_files_of_the_example():
    commands = "\n".join(block.code for block in blocks("bash") if block.where.startswith("README.md:"))
    run = re.findall(r"^mergedistill \w+ (\S+\.yaml)", commands, re.MULTILINE)
    assert set(run) == {path.name for path in (ROOT / "examples" / "local").iterdir()}
