"""Configurations: YAML files checked against pydantic models before any work."""

import inspect
import re
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import UserError, first_line

Model = TypeVar("Model", bound=BaseModel)
Value = TypeVar("Value")

_UNRECORDED = object()
# A field that a run's record leaves out: another value of it gives the same result (`Unrecorded[int]`), or the record
# holds the content of what it names.
Unrecorded = Annotated[Value, _UNRECORDED]

# Far beyond any configuration, and little enough to be refused at once.
_MOST_BYTES, _MOST_NODES, _MOST_DEPTH, _MOST_DIGITS = 2**20, 100_000, 32, 30
_TEXT = "tag:yaml.org,2002:str"
_KINDS = {
    _TEXT: "text",
    "tag:yaml.org,2002:int": "an integer",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:seq": "a list",
    "tag:yaml.org,2002:map": "a section",
}
# YAML 1.1 also has octal and binary numbers, some in base 60, and those that are none.
_WRITTEN = {
    "an integer": re.compile(r"[-+]?(0|[1-9][0-9_]*)"),
    "a number": re.compile(r"[-+]?([0-9][0-9_]*\.?|[0-9_]*\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?"),
}


class Config(BaseModel):
    """Base of every configuration section: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
    # What fields were called before: not read any more, but named to who still writes them.
    former_names: ClassVar[dict[str, str]] = {}


def recorded(config: Config) -> dict[str, Any]:
    """The settings that decide a run's result, as JSON values: all fields but those that are `Unrecorded`."""
    unrecorded = {name for name, field in type(config).model_fields.items() if _UNRECORDED in field.metadata}
    return config.model_dump(mode="json", exclude=unrecorded)


def load_config(path: str, model: type[Model]) -> Model:
    """Reads a YAML file (safe loading) into `model`.

    Raises:
      UserError: the file is missing, too large, is not YAML, or does not fit `model`. The
        message names the file, the line and the field of the first fault.
    """
    root = _compose(path)
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: expected `field: value` lines at the top level")
    _check_nodes(path, root)
    content = yaml.SafeLoader("").construct_document(root)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A misspelt field is often also a missing one: name the spelling first.
        fault = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")[0]
        field = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        line, node = _find(root, fault["loc"])
        if fault["type"] == "extra_forbidden":
            message = _unknown_field(model, fault["loc"])
        elif fault["type"] == "string_type" and isinstance(node, yaml.ScalarNode):
            message = _quote_it(node)
        raise UserError(f"{path}:{line}: {field + ': ' if field else ''}{message}") from None


def _unknown_field(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """What to say of a field that its section does not have."""
    *sections, field = location
    for section in sections:
        known = model.model_fields.get(section) if isinstance(section, str) else None
        model = (known and nested_config(known.annotation)) or model
    if new := getattr(model, "former_names", {}).get(field):
        return f"is called `{new}` now"
    return "unknown field; `--help` lists the known ones"


def _compose(path: str) -> yaml.Node | None:
    """The nodes of a YAML file of a single document; None where it is empty."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise UserError(f"{path}: the configuration is not UTF-8 text") from None
        raise UserError(
            f"{path}: cannot read the configuration ({getattr(error, 'strerror', None) or first_line(error)})"
        ) from None
    if len(content) > _MOST_BYTES:
        raise UserError(f"{path}: more than {_MOST_BYTES:,} bytes are no configuration")
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise UserError(f"{path}: nested too deeply") from None
    except yaml.YAMLError as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
        line = mark.line + 1 if mark else text.count("\n", 0, position) + 1 if isinstance(position, int) else None
        place = f"{path}:{line}" if line else path
        raise UserError(f"{place}: not valid YAML ({getattr(error, 'problem', None) or first_line(error)})") from None


def _check_nodes(path: str, root: yaml.Node) -> None:
    """Refuses what YAML would read as something else than it looks like, or as something enormous. UserError.

    Nodes are counted as often as aliases repeat them, so that a small file does not stand for billions of values.
    """
    count = 0
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        where = f"{path}:{node.start_mark.line + 1}"
        if depth > _MOST_DEPTH:
            raise UserError(f"{where}: nested too deeply, or in itself")
        if count > _MOST_NODES:
            raise UserError(f"{where}: aliases repeat so much that there are more than {_MOST_NODES:,} values")
        if node.tag not in _KINDS:
            raise UserError(f"{where}: {_quote_it(node)}")
        if isinstance(node, yaml.MappingNode):
            _check_keys(path, node)
            waiting += [(value, depth + 1) for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(value, depth + 1) for value in node.value]
        else:
            _check_scalar(where, node)


def _check_keys(path: str, node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{where}: a list or a section cannot be the name of a field")
        if key.tag != _TEXT:
            raise UserError(f"{where}: {_quote_it(key)}")
        _check_scalar(where, key)
        # YAML would silently keep the last of two equal keys.
        if key.value in seen:
            raise UserError(f"{where}: {key.value}: given twice")
        seen.add(key.value)


def _check_scalar(where: str, node: yaml.ScalarNode) -> None:
    kind, value = _KINDS[node.tag], node.value
    pattern = _WRITTEN.get(kind)
    if pattern and not pattern.fullmatch(value):
        raise UserError(
            f"{where}: {_short(value)} is {kind} to YAML, in an unusual form; write it plainly, or quote it"
        )
    if kind == "an integer" and len(value) > _MOST_DIGITS:
        raise UserError(f"{where}: an integer of {len(value):,} digits")
    if kind in ("true or false", "nothing") and node.tag != yaml.SafeLoader("").resolve(
        yaml.ScalarNode, value, (True, False)
    ):
        raise UserError(f"{where}: {_short(value)} is not {kind}")
    if "\0" in value:
        raise UserError(f"{where}: a NUL character")


def _quote_it(node: yaml.Node) -> str:
    """What YAML takes a node for that should be text."""
    kind = _KINDS.get(node.tag, f"a {node.tag.removeprefix('tag:yaml.org,2002:')}")
    if not isinstance(node, yaml.ScalarNode):
        return f"{kind}, not text"
    if not node.value:
        return "is empty; expected text"
    return f'{_short(node.value)} is {kind} to YAML; to make it text, put it into quotes: "{_short(node.value, "")}"'


def _short(value: str, quote: str = "`") -> str:
    return quote + (value if len(value) <= 60 else value[:60] + "...") + quote


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


def _find(node: yaml.Node, location: tuple[int | str, ...]) -> tuple[int, yaml.Node | None]:
    """The 1-based line of the deepest part of `location` that the YAML has, and the node there if it has all of it."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            matching = [(key, value) for key, value in node.value if key.value == str(part)]
            if not matching:
                return line, None
            line, node = matching[0][0].start_mark.line + 1, matching[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line, None
    return line, node
