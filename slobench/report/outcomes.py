"""How requests ended: counts, and what was said about each kind of failure."""

from __future__ import annotations

from slobench.names import Outcome
from slobench.records.schema import Columns
from slobench.report import words
from slobench.report.sessions import not_sent
from slobench.report.tables import Cell, Table
from slobench.report.view import RunView

_MOST_SPANS = 20


def error_table(view: RunView, *, most: int | None = None) -> Table | None:
    """Each kind of failure and what was said, most frequent first; None where nothing failed."""
    kinds = [
        (times, outcome, message)
        for outcome, messages in view.summary.errors.items()
        for message, times in messages.items()
        if times
    ]
    if not kinds:
        return None
    kinds.sort(key=lambda kind: (-kind[0], kind[1], kind[2]))
    shown = kinds[:most]
    due = max(1, sum(n for outcome, n in outcome_counts(view) if outcome != Outcome.UNSENT))
    rows = tuple(
        (
            Cell(words.clean(outcome, 40), "bad"),
            Cell(words.count(times)),
            Cell(words.percent(times / due)),
            Cell(words.clean(message) or words.ABSENT),
        )
        for times, outcome, message in shown
    )
    more = len(kinds) - len(shown)
    return Table(
        title="Errors (whole run)",
        columns=("outcome", "requests", "share", "message"),
        rows=rows,
        notes=(f"{more} more kinds in report.html and requests.parquet",) if more else (),
        left=frozenset({"message"}),
    )


def outcome_counts(view: RunView) -> tuple[tuple[str, int], ...]:
    """Outcome -> requests over the whole run, `ok` first, then by frequency."""
    counts = dict(view.summary.outcomes.get(view.total, {}))
    rest = sorted((item for item in counts.items() if item[0] != Outcome.OK and item[1]), key=lambda item: -item[1])
    return ((Outcome.OK.value, counts.get(Outcome.OK, 0)), *rest)


def outcome_words(view: RunView, separator: str) -> str:
    """`ok 1,617 · unsent 760 (spare, for a longer drain)`: all outcomes on one line."""
    return separator.join(
        f"{outcome} {words.count(n)}" + (_why_unsent(view, n) if outcome == Outcome.UNSENT else "")
        for outcome, n in outcome_counts(view)
    )


def _why_unsent(view: RunView, n: int) -> str:
    how = view.run.get("run") or {}
    broken = not_sent(view)
    whole = how.get("by") == "duration" and how.get("stop") == "complete"
    parts = [f"{words.count(broken)} of sessions broken off"] if broken else []
    if whole and n > broken:
        parts.append("spare, for a longer drain" if not broken else f"{words.count(n - broken)} spare")
    return f" ({', '.join(parts)})" if parts else ""


def lost_requests(requests: Columns, worker: int) -> str:
    """`17, 21–24, 30 and 12 more`: the indices of a worker's lost requests; "" where it lost none."""
    mine = (requests["outcome"] == Outcome.LOST.value) & (requests["worker"] == worker)
    index = requests["index"][mine].tolist()
    spans: list[list[int]] = []
    for each in index:
        if spans and each == spans[-1][1] + 1:
            spans[-1][1] = each
        else:
            spans.append([each, each])
    shown = [str(low) if low == high else f"{low}–{high}" for low, high in spans[:_MOST_SPANS]]
    rest = sum(high - low + 1 for low, high in spans[_MOST_SPANS:])
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
