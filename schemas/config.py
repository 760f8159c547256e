"""Configurations: YAML files checked against pydantic models before any work."""

import inspect
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from schemas.errors import UserError
from schemas.yaml_nodes import expected_text, find, read_nodes

Model = TypeVar("Model", bound=BaseModel)
Value = TypeVar("Value")

_UNRECORDED = object()
# A field that a run's record leaves out (`Unrecorded[int]`), because its value does not change the result or the record
# has the content that it points to.
Unrecorded = Annotated[Value, _UNRECORDED]


class _FileMark:
    """The marker that `OrFile` adds to a field's annotation."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "string"}]}


_FILE = _FileMark()
# A section that may be in its own YAML file: if the field is a path, `load_config` reads the section from there.
OrFile = Annotated[Value, _FILE]

# The `--help` text of commands that take overrides.
OVERRIDES_HELP = "replaces the file's value of a field, in YAML: max_steps=100 optimizer.learning_rate=1e-3"


class Config(BaseModel):
    """Base of every configuration section: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
    # Former names of fields: no longer accepted, but the error gives the new name.
    former_names: ClassVar[dict[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `yes`, `on` and `true` as numbers, which pydantic would read as 1."""
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, bool) and info.field_name:
                types = _types(cls.model_fields[info.field_name].annotation)
                if types.isdisjoint((bool, str)) and not types.isdisjoint((int, float)):
                    raise ValueError(f"expected a number, not {str(part).lower()}")
        return value


def _types(annotation: Any) -> set[Any]:
    """An annotation and all the types inside it."""
    return {annotation}.union(*map(_types, get_args(annotation)))


def fault_at(*location: int | str, message: str) -> ValidationError:
    """Returns an error that a section's validator raises about a nested field, so that `load_config` names its line."""
    context = {"error": ValueError(message)}
    return ValidationError.from_exception_data(
        "", [{"type": "value_error", "loc": location, "input": None, "ctx": context}]
    )


def may_be_file(field: FieldInfo) -> bool:
    """Returns whether a field is an `OrFile`."""
    return _FILE in field.metadata


def recorded(config: Config) -> dict[str, Any]:
    """The settings that decide a run's result, as JSON values: all fields that are not `Unrecorded`."""
    unrecorded = {name for name, field in type(config).model_fields.items() if _UNRECORDED in field.metadata}
    return config.model_dump(mode="json", exclude=unrecorded)


def load_config(path: str, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Reads a YAML file (safe loading) into `model`, including the files that it names for `OrFile` sections.

    Args:
      overrides: `key=value`, with dots between sections in the key and the value in YAML; they replace or add to what
        the file says.

    Raises:
      UserError: the file is missing, too large or not YAML, or with the overrides it does not fit `model`. The message
        names the first faulty field, and the file and line or the override that sets it.
    """
    sections = [name for name, field in model.model_fields.items() if may_be_file(field)]
    root = read_nodes(path, overrides, sections)
    content = yaml.SafeLoader("").construct_document(root)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A misspelt field often causes a missing one too: report the spelling first.
        fault = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")[0]
        field = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        where, node = find(root, fault["loc"])
        if fault["type"] == "extra_forbidden":
            message = _unknown_field(model, fault["loc"])
        elif fault["type"] == "model_type":
            message = f"expected a section with fields of {', '.join(_section(model, fault['loc']).model_fields)}"
        elif fault["type"] == "string_type" and isinstance(node, yaml.ScalarNode):
            message = expected_text(node)
        names_field = not field or where.startswith(f"{field}=")
        raise UserError(f"{where}: {message}" if names_field else f"{where}: {field}: {message}") from None


def _unknown_field(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The message about a field that its section does not have."""
    *sections, field = location
    if new := getattr(_section(model, sections), "former_names", {}).get(field):
        return f"was renamed to `{new}`"
    return "unknown field; `--help` lists the known ones"


def _section(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The innermost section that a location in `model` leads to."""
    for part in location:
        known = model.model_fields.get(part) if isinstance(part, str) else None
        model = (known and nested_config(known.annotation)) or model
    return model


def describe_fields(model: type[BaseModel], indent: str = "  ") -> str:
    """The fields of a configuration as text for `--help`: name, type, default, meaning."""
    lines = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"default {field.get_default(call_default_factory=True)!r}"
        nested = nested_config(field.annotation)
        if nested and not field.is_required():
            default = "optional section"
        lines.append(f"{indent}{name}  ({default})")
        if field.description:
            lines.append(f"{indent}    {' '.join(inspect.cleandoc(field.description).split())}")
        if nested:
            lines.append(describe_fields(nested, indent + "    "))
    return "\n".join(lines)


def nested_config(annotation: Any) -> type[Config] | None:
    """The section that a field's annotation holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if nested := nested_config(argument):
            return nested
    return None
