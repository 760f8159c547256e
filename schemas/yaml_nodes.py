"""YAML nodes that know their source, so that an error names the line or the override.

Stricter than YAML: refuses values that YAML would read differently from how they look.
"""

import os
import re
from collections.abc import Sequence

import yaml

from schemas.errors import UserError, first_line

# Far beyond any configuration, yet small enough to refuse at once.
_MOST_BYTES, _MOST_NODES, _MOST_DEPTH, _MOST_DIGITS = 2**20, 100_000, 32, 30
_TEXT, _NULL, _LIST, _SECTION = (f"tag:yaml.org,2002:{tag}" for tag in ("str", "null", "seq", "map"))
_NODES = {_LIST: yaml.SequenceNode, _SECTION: yaml.MappingNode}
_KINDS = {
    _TEXT: "text",
    "tag:yaml.org,2002:int": "an integer",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    _NULL: "nothing",
    _LIST: "a list",
    _SECTION: "a section",
}
# Plain decimal forms only: YAML 1.1 also has octal, binary and base-60 numbers, infinities and NaN.
_WRITTEN = {
    "an integer": re.compile(r"[-+]?(0|[1-9][0-9_]*)"),
    "a number": re.compile(r"[-+]?([0-9][0-9_]*\.?|[0-9_]*\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?"),
}


class Override(str):
    """`key=value` as written. Its nodes have it as the name of their source, as a file's nodes have the path."""


def read_nodes(path: str, overrides: Sequence[str] = (), sections: Sequence[str] = ()) -> yaml.MappingNode:
    """Reads the nodes of a single-document YAML file and applies `overrides` (`key=value`). Raises UserError.

    Args:
      sections: fields that may give the path, relative to the file's folder, of another YAML file with their content.
    """
    root = _with_files(_read_mapping(path), path, sections)
    keys = set()
    for override in map(Override, overrides):
        key, separator, text = override.partition("=")
        parts = key.split(".")
        if not separator or not all(parts):
            raise UserError(f"{override}: expected KEY=VALUE, for example max_steps=100")
        if key in keys:
            raise UserError(f"{override}: given twice")
        keys.add(key)
        mark = yaml.Mark(override, 0, 0, 0, None, 0)
        root = _with_value(root, parts, _compose(text, override) or yaml.ScalarNode(_NULL, "", mark), mark)
        root = _with_files(root, path, sections)
    _check_nodes(root)
    return root


def place(node: yaml.Node) -> str:
    """The source of a node: `file:line`, or the override."""
    mark = node.start_mark
    return mark.name if isinstance(mark.name, Override) else f"{mark.name}:{mark.line + 1}"


def find(root: yaml.Node, location: tuple[int | str, ...]) -> tuple[str, yaml.Node | None]:
    """Returns the `place` of the deepest existing part of `location`, and the node if all of `location` exists."""
    where, node = f"{root.start_mark.name}:1", root
    for part in location:
        if isinstance(node, yaml.MappingNode):
            matching = [(key, value) for key, value in node.value if key.value == str(part)]
            if not matching:
                return where, None
            where, node = place(matching[0][0]), matching[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            where = place(node)
        else:
            return where, None
    return where, node


def _read_mapping(path: str) -> yaml.MappingNode:
    root = _compose(_read(path), path)
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: expected `field: value` lines at the top level")
    return root


def _with_files(root: yaml.MappingNode, path: str, sections: Sequence[str]) -> yaml.MappingNode:
    """Replaces paths in `sections` of `root`, the nodes of the file `path`, by the content of these files."""

    def content(key: yaml.Node, value: yaml.Node) -> yaml.Node:
        if key.value not in sections or value.tag != _TEXT or not isinstance(value, yaml.ScalarNode):
            return value
        file = os.path.join(os.path.dirname(path), os.path.expanduser(value.value))
        if not os.path.isfile(file):
            raise UserError(
                f"{place(value)}: {key.value}: there is no file {file}; give the section itself, or the path of a YAML "
                "file that holds it, relative to the folder of the configuration"
            )
        section = _read_mapping(file)
        names = [name for name, _ in section.value]
        if len(names) == 1 and names[0].value == key.value:
            raise UserError(
                f"{place(names[0])}: remove the line `{key.value}:`; this file holds only what would be below it"
            )
        return section

    pairs = [(key, content(key, value)) for key, value in root.value]
    return yaml.MappingNode(root.tag, pairs, root.start_mark, root.end_mark)


def _read(path: str) -> str:
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
        raise UserError(f"{path}: has more than {_MOST_BYTES:,} bytes, too many for a configuration")
    return text


def _compose(text: str, source: str) -> yaml.Node | None:
    """Returns the nodes of a YAML document, or None if it is empty. `source` is a path or an `Override`."""
    try:
        loader = yaml.SafeLoader(text)
        loader.name = source
        return loader.get_single_node()
    except RecursionError:
        raise UserError(f"{source}: nested too deeply") from None
    except yaml.YAMLError as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
        line = mark.line + 1 if mark else text.count("\n", 0, position) + 1 if isinstance(position, int) else None
        where = source if isinstance(source, Override) or not line else f"{source}:{line}"
        raise UserError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or first_line(error)})") from None


def _with_value(section: yaml.Node, parts: list[str], value: yaml.Node, mark: yaml.Mark) -> yaml.MappingNode:
    """Copies `section`, because an alias may refer to it, and sets `value` at the key path `parts` in the copy."""
    if not isinstance(section, yaml.MappingNode):
        raise UserError(f"{mark.name}: sets a field of what is {_kind(section)} at {place(section)}, not a section")
    known = {key.value: (key, inner) for key, inner in section.value if isinstance(key, yaml.ScalarNode)}
    # A teacher's or a language's name may contain dots.
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    name = next((prefix for prefix in prefixes if prefix in known), parts[0])
    rest = parts[name.count(".") + 1 :]
    key = yaml.ScalarNode(_TEXT, name, mark)
    if rest:
        key, inner = known.get(name, (key, yaml.MappingNode(_SECTION, [], mark)))
        value = _with_value(inner, rest, value, mark)
    pairs = [(key, value) if old.value == name else (old, inner) for old, inner in section.value]
    if name not in known:
        pairs.append((key, value))
    return yaml.MappingNode(section.tag, pairs, section.start_mark, section.end_mark)


def _check_nodes(root: yaml.Node) -> None:
    """Raises UserError for values that YAML would read differently from how they look, or that are enormous.

    A node counts once for each alias that repeats it, so that a small file cannot expand to billions of values.
    """
    count = 0
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        where = place(node)
        if depth > _MOST_DEPTH:
            raise UserError(f"{where}: nested too deeply, or an alias contains itself")
        if count > _MOST_NODES:
            raise UserError(f"{where}: repeated aliases give more than {_MOST_NODES:,} values; use fewer")
        if node.tag not in _KINDS:
            raise UserError(f"{where}: {expected_text(node)}")
        if not isinstance(node, _NODES.get(node.tag, yaml.ScalarNode)):
            raise UserError(f"{where}: the value is not {_kind(node)}, as the tag before it says; remove the tag")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            waiting += [(value, depth + 1) for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(value, depth + 1) for value in node.value]
        elif isinstance(node, yaml.ScalarNode):
            _check_scalar(where, node)


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        where = place(key)
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{where}: a list or a section cannot be the name of a field")
        if key.tag != _TEXT:
            raise UserError(f"{where}: {expected_text(key)}")
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
            f"{where}: {_short(value)} is {kind} to YAML, in an unusual form; write it in plain decimal form, or quote it"
        )
    if kind == "an integer" and len(value) > _MOST_DIGITS:
        raise UserError(f"{where}: an integer of {len(value):,} digits is too long")
    if kind in ("true or false", "nothing") and node.tag != yaml.SafeLoader("").resolve(
        yaml.ScalarNode, value, (True, False)
    ):
        raise UserError(f"{where}: {_short(value)} is not {kind}")
    if "\0" in value:
        raise UserError(f"{where}: contains a NUL character; remove it")


def expected_text(node: yaml.Node) -> str:
    """Describes what YAML reads a node as that should be text."""
    kind = _kind(node)
    if not isinstance(node, yaml.ScalarNode):
        return f"{kind}, not text"
    if not node.value:
        return "is empty; expected text"
    return f'{_short(node.value)} is {kind} to YAML; to make it text, put it into quotes: "{_short(node.value, "")}"'


def _kind(node: yaml.Node) -> str:
    return _KINDS.get(node.tag, f"a {node.tag.removeprefix('tag:yaml.org,2002:')}")


def _short(value: str, quote: str = "`") -> str:
    return quote + (value if len(value) <= 60 else value[:60] + "...") + quote
