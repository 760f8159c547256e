"""CHANGELOG.md names every field that was called otherwise, and the name it has now."""

from pipeline.config import PipelineConfig
from schemas.config import nested_config
from tests.support.documents import table
from tests.support.paths import ROOT
from trainer.config import TrainerConfig


def former_names(model, path: str):
    """(section, old name, new name) of a configuration and of the sections in it."""
    for old, new in model.former_names.items():
        yield path, f"`{old}`", f"`{new}`"
    for name, field in model.model_fields.items():
        # What `distillation.languages` overrides has the names of `distillation`.
        if (section := nested_config(field.annotation)) and " `" not in path:
            yield from former_names(section, f"{path} `{name}`")


def test_the_table_of_renamed_fields():
    rows = {(row["section"], row["old"], row["new"]) for row in table(ROOT / "CHANGELOG.md", "section")}
    assert rows == {*former_names(PipelineConfig, "pipeline"), *former_names(TrainerConfig, "trainer")}
