"""`python -m docs.reference`: writes docs/configuration.md from the fields of the configurations.

A test compares the file with the output of this module (`tests/documents/test_reference.py`).
"""

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from pipeline.config import PipelineConfig
from schemas.config import Config, may_be_file, nested_config
from trainer.config import TrainerConfig
from trainer.evaluation.config import EvaluationConfig

REFERENCE = Path(__file__).parent / "configuration.md"
STAGES = {
    "predictions.yaml": ("The pipeline", PipelineConfig),
    "student.yaml": ("The trainer", TrainerConfig),
    "evaluation.yaml": ("The evaluation", EvaluationConfig),
}
_HEAD = """\
# Configuration

<!-- Written by `make docs` from pipeline/config.py, trainer/config.py and trainer/evaluation/config.py. Edit those. -->

Each command reads one YAML file. This page lists every field; `--help` of each command prints the same. For how the fields
work together see [Running the pipeline](running-the-pipeline.md) and [Training](training.md).

- Nothing is guessed. An unknown field, a field given twice, a value of the wrong type or a number that YAML reads as
  something else gives one line with the file, the line and the field, and exit code 2, before any work.
- YAML reads an unquoted `no` as false. Write `"no"` for Norwegian.
- A path is local or an fsspec URL (`gs://...`). A name that exists is taken literally. `~` is your home. A relative path is
  relative to the folder where the command runs, not to that of the configuration.
- `teachers` may be the path of another YAML file that holds that section. Only this path is relative to the folder of the
  configuration.
- `key=value` after the file overrides a field for one run: `max_steps=1000`, `optimizer.learning_rate=1e-4`.
- Editors that read the line `# yaml-language-server: $schema=PATH` at the top of a file complete and check the fields while
  you type. Every file in `examples/` has it. PATH is `pipeline/config.schema.json`, `trainer/config.schema.json` or
  `trainer/evaluation/config.schema.json`, or where you put what `mergedistill schema pipeline`, `mergedistill schema trainer`
  or `mergedistill schema evaluation` prints.
"""


def reference() -> str:
    """Returns the whole page."""
    parts = [_HEAD]
    for file, (title, model) in STAGES.items():
        parts.append(f"## {title}: {file}\n")
        for path, section in _sections(model):
            heading = f"### `{path}`\n\n" if path else ""
            parts.append(f"{heading}{_sentence(section)}\n\n{_table(section)}\n")
    return "\n".join(parts)


def _sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields a configuration and, in order, its sections, each with its path of fields."""
    yield path, model
    for name, field in model.model_fields.items():
        if section := nested_config(field.annotation):
            key = ".NAME" if typing.get_origin(field.annotation) is dict else ""
            yield from _sections(section, f"{path}.{name}{key}".removeprefix("."))


def _sentence(section: type[BaseModel]) -> str:
    return " ".join((section.__doc__ or "").split())


def _table(section: type[BaseModel]) -> str:
    rows = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in section.model_fields.items():
        nested = nested_config(field.annotation)
        meaning = field.description or (_sentence(nested) if nested else "")
        rows.append(f"| `{name}` | {_type_of_field(field)} | {_default(field)} | {_cell(meaning)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _type_of_field(field: FieldInfo) -> str:
    """Returns the type to write in a configuration, which may be shorter than the validated type."""
    written = [entry.json_schema_input_type for entry in field.metadata if isinstance(entry, BeforeValidator)]
    return _type(written[0] if written else field.annotation) + (" or a path" if may_be_file(field) else "")


def _type(annotation: Any) -> str:
    """Returns the type to write in YAML for a field with this annotation."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not types.NoneType)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[1])} by name" if nested_config(arguments[1]) else "values by name"
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "section"
    return {bool: "true or false", int: "integer", float: "number", str: "text"}[annotation]


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
