"""How true the traffic was, as tables: what was asked for, what the plan drew, what was sent and counted."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.metrics.summary import ArrivalFacts, Fidelity, LengthFacts, SharingFacts
from slobench.report import words
from slobench.report.tables import Cell, Table, Tone
from slobench.report.view import RunView

TITLE = "Traffic: asked, planned, as it was"
NOTE = "arrivals of the window (of a session its first request); tokens of its successful requests, planned and counted"
SHARING_NOTE = "prefix cache: share of prompt tokens, planned for an endless cache, measured by the server's counters"
WIDTHS = ("1s", "10s", "60s")
_OFF = 0.01  # of tokens: worth a look

Row = tuple[str, str, str, str, Tone]


def traffic_table(view: RunView, name: str | None = None) -> Table | None:
    """Asked, planned and real traffic of one class (default: the total); None where the run has none to tell."""
    key = name or view.total
    found = view.summary.fidelity.get(key)
    rows = [] if found is None else list(_rows(found))
    if found is None or not rows:
        return None
    notes = (NOTE, *((_sharing_note(found.sharing),) if found.sharing is not None else ()))
    return Table(
        TITLE + ("" if key == view.total else f": {words.clean(key, 60)}"),
        ("", "asked", "planned", "real"),
        tuple((Cell(what, "strong"), Cell(a), Cell(p), Cell(real, tone)) for what, a, p, real, tone in rows),
        notes=notes,
    )


def traffic_tables(view: RunView) -> Iterator[Table]:
    """Yield the total's table, then that of each class where there are several."""
    for name in (None, *(view.classes if len(view.classes) > 1 else ())):
        table = traffic_table(view, name)
        if table is not None:
            yield table


def traffic_line(view: RunView) -> str:
    """`arrivals/s 25 asked, 24.6 planned, 24.6 sent; gap cv 1, 1.01, 1.01; tokens in 100 %, out 99.8 %`; "" without."""
    found = view.summary.fidelity.get(view.total)
    if found is None:
        return ""
    parts = []
    if found.planned is not None and found.sent is not None:
        asked, *drawn = ((_rate(each), _cv(each)) for each in (found.asked, found.planned, found.sent))
        (planned_rate, planned_cv), (sent_rate, sent_cv) = drawn
        parts.append(f"arrivals/s {asked[0]} asked, {planned_rate} planned, {sent_rate} sent")
        parts.append(f"gap cv {asked[1]}, {planned_cv}, {sent_cv}")
    lengths = {"in": found.input_tokens, "out": found.output_tokens}
    ratios = {side: each.ratio for side, each in lengths.items() if each is not None}
    shares = [f"{side} {ratio * 100:.4g} %" for side, ratio in ratios.items() if ratio is not None]
    if shares:
        parts.append(f"tokens {', '.join(shares)} of the plan's")
    if found.sharing is not None:
        shown = f"{_planned(found.sharing)} planned, {_share(found.sharing.measured)} measured"
        parts.append(f"prefix cache {shown}")
    return "; ".join(parts)


def _rows(found: Fidelity) -> Iterator[Row]:
    asked, planned, sent = found.asked, found.planned, found.sent
    if planned is not None and sent is not None:
        yield "arrivals/s", _rate(asked), _rate(planned), _rate(sent), ""
        yield "gap cv", _cv(asked), _cv(planned), _cv(sent), ""
        for width in (each for each in WIDTHS if each in planned.dispersion):
            told = (_dispersion(asked, width), _dispersion(planned, width), _dispersion(sent, width))
            yield f"dispersion per {width[:-1]} s", *told, ""
        if found.gap_distance is not None:
            yield "gaps, KS distance", "", "", _three(found.gap_distance), ""
    for what, lengths in (("input tokens", found.input_tokens), ("output tokens", found.output_tokens)):
        if lengths is not None:
            yield what, "", words.three(lengths.asked_mean), _counted(lengths), _tone(lengths)
    if found.sharing is not None:
        yield "prefix cache", "", _planned(found.sharing), _share(found.sharing.measured), ""


def _planned(sharing: SharingFacts) -> str:
    """`37.4 %`, or `37.4 % (29 % in its size)` where the server's cache is too small for all of it."""
    endless, limited = _share(sharing.planned), _share(sharing.limited)
    return endless if limited in (endless, words.ABSENT) else f"{endless} ({limited} in its size)"


def _sharing_note(sharing: SharingFacts) -> str:
    if sharing.cache_blocks is None:
        return SHARING_NOTE
    return f"{SHARING_NOTE}; its own holds {sharing.cache_blocks:,} blocks of {sharing.block_tokens} tokens"


def _counted(lengths: LengthFacts) -> str:
    ratio = "" if lengths.ratio is None else f" ({lengths.ratio * 100:.4g} %)"
    return f"{words.three(lengths.counted_mean)}{ratio}"


def _tone(lengths: LengthFacts) -> Tone:
    return "warn" if lengths.ratio is not None and abs(lengths.ratio - 1) > _OFF else ""


def _rate(facts: ArrivalFacts | None) -> str:
    return words.ABSENT if facts is None else _three(facts.rate)


def _cv(facts: ArrivalFacts | None) -> str:
    return words.ABSENT if facts is None else _three(facts.cv)


def _dispersion(facts: ArrivalFacts | None, width: str) -> str:
    return words.ABSENT if facts is None else _three(facts.dispersion.get(width))


def _three(value: float | None) -> str:
    return words.ABSENT if value is None else words.three(value)


def _share(value: float | None) -> str:
    return words.ABSENT if value is None else f"{value * 100:.3g} %"
