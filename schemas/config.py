"""Configurations: YAML files checked against pydantic models before any work."""

import inspect
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


class Config(BaseModel):
    """Base of every configuration section: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def load_config(path: str, model: type[Model]) -> Model:
    """Reads a YAML file (safe loading) into `model`.

    Raises:
      UserError: the file is missing, is not YAML, or does not fit `model`. The
        message names the file, the line and the field of the first fault.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the configuration is not UTF-8 text") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeats(path, root)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        raise UserError(f"{place}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `field: value` lines at the top level")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A misspelt field is often also a missing one: name the spelling first.
        fault = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")[0]
        field = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown field; `--help` lists the known ones"
        line = _line_of(root, fault["loc"])
        raise UserError(f"{path}:{line}: {field + ': ' if field else ''}{message}") from None


def _refuse_repeats(path: str, node: yaml.Node | None) -> None:
    """YAML would silently keep the last of two equal keys."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise UserError(f"{path}:{key.start_mark.line + 1}: {key.value}: given twice")
            seen.add(key.value)
            _refuse_repeats(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(path, value)


def describe_fields(model: type[BaseModel], indent: str = "  ") -> str:
    """The fields of a configuration as text for `--help`: name, type, default, meaning."""
    lines = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"default {field.get_default(call_default_factory=True)!r}"
        nested = _nested_config(field.annotation)
        if nested and not field.is_required():
            default = "optional section"
        lines.append(f"{indent}{name}  ({default})")
        if field.description:
            lines.append(f"{indent}    {' '.join(inspect.cleandoc(field.description).split())}")
        if nested:
            lines.append(describe_fields(nested, indent + "    "))
    return "\n".join(lines)


def _nested_config(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if nested := _nested_config(argument):
            return nested
    return None


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The 1-based line of the deepest part of `location` that the YAML has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
