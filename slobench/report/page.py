"""A verdict with what it rests on, as plain values; console, Markdown and HTML each draw the same page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slobench.report.drawing import Figure
from slobench.report.tables import Table, Tone


@dataclass(frozen=True, slots=True)
class Page:
    """One page. word, meaning, tone: the verdict ("FAIL", why, bad).

    statement: what can be read alone. notes: what limits the result. files: where it was written, "" nowhere.
    """

    heading: str
    headline: str
    word: str
    meaning: str
    tone: Tone
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    statement: str
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    facts_title: str = "What was compared"
    files: str = ""
