"""What is wrong with a value, worded for the person who wrote it: place, fault, what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from slobench.config.document import KeyPath
from slobench.errors import ConfigError

SHOWN = 5  # problems told at once

_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text (in quotes where it looks like a number)",
    "tuple_type": "a list, e.g. [a, b]",
    "dict_type": "a mapping, e.g. {key: value}",
    "model_type": "a mapping, e.g. {key: value}",
    "model_attributes_type": "a mapping, e.g. {key: value}",
    "finite_number": "a finite number",
}


_YAML_WORDS = {"None": "null", "True": "true", "False": "false"}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was most likely meant to be, or None."""
    found = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown(what: str, word: str, known: Sequence[str]) -> str:
    """Word an error about a word that is none of the known ones, with the nearest."""
    lines = [
        f"{what} {clip(word)}",
        f"  expected  {'one of ' if len(known) > 1 else ''}{', '.join(known) or 'nothing'}",
    ]
    if guess := nearest(word, known):
        lines.append(f"  nearest   {guess}")
    return "\n".join(lines)


def clip(value: object) -> str:
    """Show a value of the user's on one line, at most 60 characters of it."""
    text = _YAML_WORDS.get(repr(value)) or repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def dotted(path: KeyPath) -> str:
    """Word a path as `--set` takes it: a.b.0, with a part in quotes where it holds a dot, a quote or `=`."""
    return ".".join(_part(part) for part in path)


def _part(part: str | int) -> str:
    text = str(part)
    if re.fullmatch(r"[^\s.\"\\=]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def config_error(error: ValidationError, *, data: Any, schema: Any, where: Callable[[KeyPath], str]) -> ConfigError:
    """Build one ConfigError from all that pydantic found wrong with `data`, read as `schema`.

    `where` names the place of a path: "chat.yaml:7", "--set".
    """
    by_path: dict[KeyPath, list[tuple[ErrorDetails, Any]]] = {}
    for details in error.errors(include_url=False):
        path, found = _in_data(details["loc"], data)
        if details["type"] == "missing":
            path = (*path, details["loc"][-1])
        by_path.setdefault(path, []).append((details, found))
    told = [_tell(path, entries, schema=schema, where=where) for path, entries in by_path.items()]
    if len(told) > SHOWN:
        told[SHOWN:] = [f"and {len(told) - SHOWN} more problems"]
    return ConfigError("\n".join(told))


def _in_data(loc: tuple[int | str, ...], data: Any) -> tuple[KeyPath, Any]:
    """Split off what pydantic adds to a location (union tags): the path of keys in the data, and the value there."""
    path: list[int | str] = []
    for part in loc:
        is_list = isinstance(data, Sequence) and not isinstance(data, str)
        if (isinstance(part, int) and is_list and part < len(data)) or (isinstance(data, Mapping) and part in data):
            data = data[part]
            path.append(part)
    return tuple(path), data


def _tell(
    path: KeyPath, entries: list[tuple[ErrorDetails, Any]], *, schema: Any, where: Callable[[KeyPath], str]
) -> str:
    details, value = entries[0]
    place, name = where(path), dotted(path)
    kind = details["type"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        told = unknown("unknown key", str(path[-1]), sorted(_fields_at(schema, details["loc"][:-1])))
        holder = dotted(path[:-1])
        return f"{place}: {told}".replace("\n", f" in `{holder}`\n" if holder else "\n", 1)
    if kind == "missing":
        return f"{place}: `{name}` is missing\n  expected  a value for it"
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        key = str(context["discriminator"]).strip("'")
        known = re.findall(r"'([^']*)'", str(context.get("expected_tags", ""))) or [
            tag for _, tag in _tags_at(schema, details["loc"])
        ]
        inner = f"{name}.{key}" if name else key
        place = where((*path, key))
        if kind == "union_tag_invalid":
            return f"{place}: {unknown(f'`{inner}` cannot be', str(context['tag']), known)}"
        return f"{place}: `{inner}` is missing\n  expected  one of {', '.join(known)}"
    if kind == "value_error":
        reason = str(context["error"])
        if "\n" not in reason:
            fault, _, expected = reason.partition("expected ")
            fault = fault.rstrip(" :;,") or (f"cannot be {clip(value)}" if name else "does not fit together")
            reason = f"{fault}\n  expected  {expected or 'values that fit together'}"
        return f"{place}: `{name}`: {reason}" if name else f"{place}: {reason}"
    tags = _tags_at(schema, details["loc"])
    if kind == "model_attributes_type" and len(tags) > 1:
        choices = ", ".join(f"{{{key}: {tag}, ...}}" for key, tag in tags)
        return f"{place}: `{name}` cannot be {clip(value)}\n  expected  one of {choices}"
    expected = " or ".join(dict.fromkeys(_expected(each) for each, _ in entries))
    told = f"{place}: `{name}` cannot be {clip(value)}" if name else f"{place}: cannot use {clip(value)}"
    guess = (
        nearest(value, re.findall(r"'([^']*)'", expected))
        if kind == "literal_error" and isinstance(value, str)
        else None
    )
    return f"{told}\n  expected  {expected}" + (f"\n  nearest   {guess}" if guess else "")


def _expected(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    return _WORDS.get(kind) or details["msg"].removeprefix("Input should be ").removeprefix("a valid ")


def _fields_at(schema: Any, loc: tuple[int | str, ...]) -> set[str]:
    """Return the keys that the schema knows at a location of pydantic's."""
    for part in loc:
        schema = _step(schema, part)
    return set().union(*(_keys(member) for member in _members(schema) if _is_model(member)))


def _tags_at(schema: Any, loc: tuple[int | str, ...]) -> list[tuple[str, str]]:
    for part in loc:
        schema = _step(schema, part)
    return [tag for member in _members(schema) if (tag := _tag(member))]


def _step(schema: Any, part: int | str) -> Any:
    """Return the type one location part further down: a field's, an item's, or a union's member by its tag."""
    members = _members(schema)
    tagged = [member for member in members if (_tag(member) or ("", ""))[1] == part]
    if len(members) > 1 and tagged:
        return tagged[0]
    for member in members:
        if _is_model(member) and part in _keys(member):
            return _keys(member)[str(part)].annotation
        if get_origin(member) in {dict, tuple}:
            inner = [each for each in get_args(member) if each is not Ellipsis]
            return inner[-1] if inner else Any
    return Any


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a model's fields by the keys that a file has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _members(schema: Any) -> list[Any]:
    """Return the types that a value may have, unions and Annotated taken apart; None left out."""
    if get_origin(schema) is Annotated:
        return _members(get_args(schema)[0])
    if get_origin(schema) in {Union, UnionType}:
        return [each for member in get_args(schema) for each in _members(member)]
    return [] if schema is type(None) else [schema]


def _tag(member: Any) -> tuple[str, str] | None:
    """Return the key and name by which a discriminated union knows a model: its first Literal field, of one value."""
    if not _is_model(member):
        return None
    literals = [(key, get_args(field.annotation)) for key, field in member.model_fields.items() if _is_literal(field)]
    return (literals[0][0], str(literals[0][1][0])) if literals and len(literals[0][1]) == 1 else None


def _is_literal(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal


def _is_model(schema: Any) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModel)
