"""A trace as a page and as JSON: arrivals, lengths, sharing, sessions, and what looks like the recorder's doing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from slobench.report import trace_charts, words
from slobench.report.page import Page
from slobench.report.tables import Cell, Table
from slobench.units import format_s
from slobench.workload.trace_facts import ArrivalFacts, LengthFacts, TraceFacts

_MOST_LABELS = 12
MEANINGS = {
    "cv": "standard deviation of the gaps between arrivals over their mean; 0 evenly spaced, 1 Poisson",
    "dispersion": "variance over mean of the arrivals in windows of that width; 1 Poisson, above it bursts",
    "block hit": "share of prompt blocks that an infinite prefix cache would find, by leading match",
    "rank correlation": "of input and output lengths, by their ranks; 0: one says nothing about the other",
}


def page_of(facts: TraceFacts, name: str) -> Page:
    """Put a trace on a page."""
    return Page(
        heading=name,
        headline=name,
        word=facts.format,
        meaning=_meaning(facts),
        tone="good",
        facts=tuple(_facts(facts)),
        tables=tuple(_tables(facts)),
        statement=statement(facts, name),
        notes=(*facts.artefacts, *facts.notes),
        figures=trace_charts.figures(facts),
        meanings=MEANINGS,
        facts_title="The trace",
    )


def statement(facts: TraceFacts, name: str) -> str:
    """Return what can be read alone."""
    told = [f"{name}: {facts.rows:,} requests"]
    if facts.span_s is not None and facts.arrivals.rate is not None:
        told.append(
            f"over {format_s(facts.span_s)}, {words.rate(facts.arrivals.rate)}, cv {_number(facts.arrivals.cv)}"
        )
    for label, lengths in (("input", facts.input_tokens), ("output", facts.output_tokens)):
        if lengths is not None:
            told.append(f"{label} mean {words.three(lengths.mean)}, p99 {words.count(lengths.p99)} tokens")
    if facts.sharing is not None:
        told.append(f"block hit rate {words.percent(facts.sharing.block_hit_rate)}")
    return ", ".join(told)


def to_json(facts: TraceFacts, name: str) -> dict[str, Any]:
    """Return plain data; docs/reference.md lists the keys."""
    data = asdict(facts)
    arrivals, sharing = data.pop("arrivals"), data.pop("sharing")
    return {
        "file": name,
        **data,
        **arrivals,
        "block_hit_rate": None if sharing is None else sharing.pop("block_hit_rate"),
        "token_hit_rate": None if sharing is None else sharing.pop("token_hit_rate"),
        "sharing": sharing,
    }


def _meaning(facts: TraceFacts) -> str:
    told = f"{facts.rows:,} requests"
    if facts.span_s is None:
        return f"{told}, no times of arrival"
    rate = "" if facts.arrivals.rate is None else f", {words.rate(facts.arrivals.rate)} on average"
    return f"{told} over {format_s(facts.span_s)}{rate}"


def _facts(facts: TraceFacts) -> Iterator[tuple[str, str]]:
    yield "requests", words.count(facts.rows) + (f", {facts.failed:,} failed" if facts.failed else "")
    if facts.span_s is not None:
        yield "span", format_s(facts.span_s)
    if facts.bin_s:
        yield "steps of time", format_s(facts.bin_s)
    if facts.images:
        yield "images", words.count(facts.images)
    if facts.sessions is not None:
        several = f"{facts.sessions.with_several_turns:,} with several turns"
        yield "sessions", f"{facts.sessions.sessions:,}, {several}"
    if len(facts.classes) > 1:
        shown = [f"{words.clean(label or 'none', 40)} {n:,}" for label, n in facts.classes.items()]
        more = f" and {len(shown) - _MOST_LABELS} more" if len(shown) > _MOST_LABELS else ""
        yield "labels", ", ".join(shown[:_MOST_LABELS]) + more


def _tables(facts: TraceFacts) -> Iterator[Table]:
    if facts.span_s is not None:
        yield _arrival_table(facts)
    lengths = [(name, each) for name, each in (("input", facts.input_tokens), ("output", facts.output_tokens)) if each]
    if lengths:
        yield _length_table(lengths, facts)
    if facts.sharing is not None:
        yield _sharing_table(facts)
    if facts.sessions is not None:
        yield _session_table(facts)


def _arrival_table(facts: TraceFacts) -> Table:
    rows = [_arrival_row("as recorded", facts.arrivals)]
    if facts.spread is not None:
        rows.append(_arrival_row("spread in its steps", facts.spread))
    scales = tuple(f"{scale} s" for scale in facts.arrivals.dispersion)
    return Table(
        "Arrivals",
        ("", "rate /s", "cv", *scales),
        tuple(rows),
        notes=("by width of windows: dispersion, variance over mean of their counts; 1 is Poisson",),
    )


def _arrival_row(name: str, arrivals: ArrivalFacts) -> tuple[Cell, ...]:
    return (
        Cell(name, "strong"),
        Cell(_number(arrivals.rate)),
        Cell(_number(arrivals.cv)),
        *(Cell(_number(value)) for value in arrivals.dispersion.values()),
    )


def _length_table(lengths: list[tuple[str, LengthFacts]], facts: TraceFacts) -> Table:
    rows = tuple(
        (
            Cell(name, "strong"),
            Cell(words.three(each.mean)),
            *(Cell(words.count(value)) for value in (each.min, each.p50, each.p90, each.p99, each.max)),
            Cell(words.count(each.total)),
        )
        for name, each in lengths
    )
    notes = []
    if facts.joint is not None:
        both = f"{_number(facts.joint.pearson)}, of their ranks {_number(facts.joint.spearman)}"
        notes.append(f"correlation of input and output {both}")
    return Table("Lengths in tokens", ("", "mean", "min", "p50", "p90", "p99", "max", "total"), rows, tuple(notes))


def _sharing_table(facts: TraceFacts) -> Table:
    sharing = facts.sharing
    assert sharing is not None
    row = (
        Cell(f"blocks of {sharing.block_tokens} tokens", "strong"),
        Cell(words.count(sharing.blocks)),
        Cell(words.count(sharing.different_blocks)),
        Cell(words.percent(sharing.block_hit_rate)),
        Cell(words.percent(sharing.token_hit_rate)),
    )
    return Table(
        "Sharing of prefixes, infinite cache",
        ("", "blocks", "different", "block hit", "token hit"),
        (row,),
    )


def _session_table(facts: TraceFacts) -> Table:
    each = facts.sessions
    assert each is not None
    row = (
        Cell("turns", "strong"),
        Cell(words.three(each.turns_mean)),
        Cell(words.count(each.turns_max)),
        Cell(words.seconds(each.gap_p50_s)),
        Cell(words.seconds(each.gap_p90_s)),
    )
    return Table("Sessions", ("", "mean", "max", "p50 to the next turn", "p90"), (row,))


def _number(value: float | None) -> str:
    return words.ABSENT if value is None else words.three(value)
