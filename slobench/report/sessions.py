"""Sessions as a table: how many, how they ended, how long a whole one took."""

from __future__ import annotations

from slobench.metrics.summary import SessionFacts
from slobench.report import words
from slobench.report.tables import Cell, Table
from slobench.report.view import RunView

_COLUMNS = ("class", "begun", "begun/s", "each", "complete", "broken", "open", "not sent", "E2E p50", "p99")
_NOTES = (
    "counts of the whole run; begun/s and E2E of sessions that began in the window; each: requests sent of a session",
    "E2E of complete ones: from the first request's scheduled time to the last token, with all thinking and tools",
)
_BROKEN = (
    "broken: a request failed or its user gave up; what would have followed was not sent, and stands in no attainment "
    "or rate"
)
_OPEN = "open: the run ended before they did"


def session_table(view: RunView) -> Table | None:
    """One row a class that has sessions; None where none has."""
    found = view.summary.sessions
    if not found:
        return None
    notes = [
        *_NOTES,
        *([_BROKEN] if any(each.broken_off for each in found.values()) else []),
        *([_OPEN] if any(each.unfinished for each in found.values()) else []),
    ]
    return Table(
        "Sessions",
        _COLUMNS,
        tuple(_row(name, each) for name, each in found.items()),
        notes=tuple(notes),
    )


def _row(name: str, facts: SessionFacts) -> tuple[Cell, ...]:
    counts = (facts.complete, facts.broken_off, facts.unfinished, facts.not_sent)
    times = (facts.e2e_s.get(quantile) for quantile in ("p50", "p99"))
    return (
        Cell(words.clean(name, 60), "strong"),
        Cell(words.count(facts.begun)),
        Cell(words.three(facts.per_s)),
        Cell(words.ABSENT if facts.requests_mean is None else words.three(facts.requests_mean)),
        *(Cell(words.count(value)) for value in counts),
        *(Cell(words.ABSENT if each is None else words.latency(each)) for each in times),
    )


def not_sent(view: RunView) -> int:
    """Requests that never came, as their session was broken off."""
    return sum(facts.not_sent for facts in view.summary.sessions.values())
