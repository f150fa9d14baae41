"""SLO presets: files of clauses with a source, and their names in a list of clauses replaced by what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from slobench.config.base import Model
from slobench.config.clause import parse_clause, quantity
from slobench.config.document import finder, read_document, shown
from slobench.config.find import find
from slobench.config.problems import config_error
from slobench.config.slo import parse_slo, split_clauses
from slobench.errors import ConfigError

_NAME = re.compile(r"[^\s<>=≤≥()]+")  # what cannot be a clause: no comparison, no deadline


class SloPreset(Model):
    """A set of clauses that is used by its file's name."""

    kind: Literal["slo"]
    about: Annotated[str, Field(min_length=1)]
    """Who is promised this, and what the numbers mean to them."""
    source: Annotated[str, Field(min_length=1)]
    """Where the numbers come from."""
    clauses: Annotated[tuple[str, ...], Field(min_length=1)]
    """SLO clauses without a class, and without other presets."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """Clauses with the presets among them replaced, and the names that were replaced."""

    clauses: tuple[str, ...]
    presets: tuple[str, ...]


def load_preset(name_or_path: str) -> SloPreset:
    """Read a preset by name or file; ConfigError with its place where it is not one."""
    path = find("slo", name_or_path)
    document = read_document(path)
    where = finder(document.places(shown(path)), shown(path))
    try:
        preset = TypeAdapter(SloPreset).validate_python(document.value, strict=True)
    except ValidationError as error:
        raise config_error(error, data=document.value, schema=SloPreset, where=where) from None
    for at, clause in enumerate(preset.clauses):
        try:
            parse_clause(clause)
        except ConfigError as error:
            raise ConfigError(f"{where(('clauses', at))}: {error}") from None
    try:
        parse_slo(preset.clauses)
    except ConfigError as error:
        raise ConfigError(f"{where(('clauses',))}: {error}") from None
    return preset


def expand(texts: Sequence[str]) -> Expanded:
    """Replace the names of presets by their clauses; a text without a name stays as it is.

    `class=NAME PRESET` gives the clauses to that class. A clause written out replaces the preset's of the same
    quantity and class: `chat, ttft<300ms` is chat with another TTFT limit.
    """
    parts = [list(split_clauses(text)) for text in texts]
    written = {
        (name, quantity(parse_clause(part))) for group in parts for name, part in group if not _NAME.fullmatch(part)
    }
    clauses: list[str] = []
    presets: dict[str, None] = {}
    for text, group in zip(texts, parts, strict=True):
        if not any(_NAME.fullmatch(part) for _, part in group):
            clauses.append(text)
            continue
        for name, part in group:
            held: Sequence[str] = (part,)
            if _NAME.fullmatch(part):
                presets[part] = None
                held = [
                    each for each in load_preset(part).clauses if (name, quantity(parse_clause(each))) not in written
                ]
            clauses += [f"class={name} {each}" if name else each for each in held]
    return Expanded(tuple(clauses), tuple(presets))
