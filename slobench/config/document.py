"""YAML text to plain values, each with the line it stands on.

A subset of YAML 1.2's core schema: only true/false are booleans (`no` and `on` are text), 1:30 and 2023-11-16
are text, keys are text. No tags, no duplicate keys, bounded depth and size: a hostile file ends in one ConfigError.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from slobench.errors import ConfigError

KeyPath = tuple[str | int, ...]

MAX_BYTES = 2**20
MAX_NODES = 100_000  # counted after aliases are expanded: a few lines of them can stand for 10^9 values
MAX_DEPTH = 32

_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_STR = "tag:yaml.org,2002:str"
_SCALARS = (  # PyYAML matches these from the start only: \Z is what makes 10s text
    (_NULL, re.compile(r"(?:~|null|)\Z"), ("~", "n", "")),
    (_BOOL, re.compile(r"(?:true|false)\Z"), ("t", "f")),
    (_INT, re.compile(r"[-+]?[0-9]+\Z"), tuple("-+0123456789")),
    (_FLOAT, re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"), tuple("-+.0123456789")),
)


@dataclass(frozen=True, slots=True)
class Document:
    """Values of one file (sequences as tuples), and the line of each by its path of keys."""

    value: Any
    lines: Mapping[KeyPath, int]

    def places(self, source: str) -> dict[KeyPath, str]:
        """Where each value stands: the file as it is shown, and the line."""
        return {path: f"{source}:{line}" for path, line in self.lines.items()}


def finder(places: Mapping[KeyPath, str], source: str) -> Callable[[KeyPath], str]:
    """Make what tells the place of a value, or of what is to hold it; `source` where none of them has one."""

    def where(path: KeyPath) -> str:
        while path and path not in places:
            path = path[:-1]
        return places.get(path, source)

    return where


class _Loader(yaml.SafeLoader):
    """Composes nodes only; refuses tags and nesting that would exhaust the stack."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {  # type: ignore[misc]
        first: [(tag, regexp) for tag, regexp, firsts in _SCALARS if first in firsts]
        for first in {first for _, _, firsts in _SCALARS for first in firsts}
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags (!...) are not used here", problem_mark=event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Builder:
    """Turns the nodes of one document into values; `lines` fills on the way."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self.nodes = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise self.refuse(
                node, "too much of it", f"at most {MAX_NODES:,} values, {MAX_DEPTH} deep, aliases expanded"
            )
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.build(item, (*path, position)) for position, item in enumerate(node.value))
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.refuse(key, "a key that is itself a list or mapping", "text as key, e.g. rate: 5")
            name = self._text(key)
            if name in values:
                first = self.lines[(*path, name)]
                raise self.refuse(key, f"`{name}` is there twice (first on line {first})", "each key once")
            self.lines[(*path, name)] = key.start_mark.line + 1
            values[name] = self.build(value, (*path, name))
        return values

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag == _NULL:
            return None
        text = self._text(node)
        if node.tag == _BOOL:
            return text == "true"
        try:
            number = int(text) if node.tag == _INT else float(text) if node.tag == _FLOAT else text
            too_large = isinstance(number, float) and not math.isfinite(number)
        except ValueError:  # more digits than Python converts
            too_large = True
        if too_large:
            raise self.refuse(
                node, f"the number {text[:20]}... is too large", "a number below 1e308, as few digits as needed"
            )
        return number

    def _text(self, node: yaml.Node) -> str:
        text = str(node.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.refuse(node, "half of a surrogate pair", "text that can be written as UTF-8")
        return text

    def refuse(self, node: yaml.Node, problem: str, expected: str) -> ConfigError:
        return ConfigError(f"{self.source}:{node.start_mark.line + 1}: {problem}\n  expected  {expected}")


def read_document(path: Path) -> Document:
    """Read one YAML file; every fault of the file is a ConfigError that names it."""
    return parse_document(_read_text(path), shown(path))


def parse_document(text: str, source: str) -> Document:
    """Parse YAML text that came from `source` (shown in errors)."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        told = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(
            f"{where}: not readable as YAML: {told}\n  expected  `key: value` lines, indented by spaces"
        ) from None
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"{source}: not readable as YAML: {told}\n  expected  a text file") from None
    if node is None:
        return Document(None, {})
    builder = _Builder(source)
    return Document(builder.build(node, ()), builder.lines)


def shown(path: Path) -> str:
    """Word a path as the user would type it: relative where it lies below the working directory."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _read_text(path: Path) -> str:
    name = shown(path)
    try:
        if path.is_dir():
            raise ConfigError(f"{name} is a folder\n  expected  a YAML file")
        if not path.is_file():
            raise ConfigError(f"{name}: no such file\n  expected  a YAML file that exists")
        # Bytes are bounded at the read, not by stat: files under /proc say 0.
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigError(f"cannot read {name[:200]!r}: {reason}\n  expected  a YAML file that can be read") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{name} is too large\n  expected  at most {MAX_BYTES // 1024} KiB of YAML")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8 text\n  expected  YAML, encoded as UTF-8") from None
