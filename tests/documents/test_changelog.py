"""CHANGELOG.md names every renamed field, with its old and its new name."""

from pipeline.config import PipelineConfig
from schemas.config import nested_config
from tests.support.documents import table
from tests.support.paths import ROOT
from trainer.config import TrainerConfig


def former_names(model, path: str):
    """Yields (section, old name, new name) for a configuration and the sections in it."""
    for old, new in model.former_names.items():
        yield path, f"`{old}`", f"`{new}`"
    for name, field in model.model_fields.items():
        # The fields of `distillation.languages` have the same names as those of `distillation`.
        if (section := nested_config(field.annotation)) and " `" not in path:
            yield from former_names(section, f"{path} `{name}`")


def test_the_table_of_renamed_fields():
    rows = {(row["section"], row["old"], row["new"]) for row in table(ROOT / "CHANGELOG.md", "section")}
    assert rows == {*former_names(PipelineConfig, "pipeline"), *former_names(TrainerConfig, "trainer")}
