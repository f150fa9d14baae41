"""The self-test in words: what was tried, what held, and what that says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from slobench.experiment.selftest import Envelope
from slobench.experiment.selftest_step import GOOD_S, ON_TIME, USABLE_S, Kind, Seen
from slobench.report import words

_KINDS: dict[Kind, tuple[str, str]] = {
    "requests": ("requests/s", "replies of 2 tokens, Poisson arrivals"),
    "tokens": ("tokens/s", "replies of 100 tokens/s each, in step, and 50 short requests/s"),
    "streams": ("streams", "replies of 1 token/s each, begun one after another and left open"),
}
_HEAD = ("level", "on time", "send lag p99", "TTFT error p50", "p99", "client CPU", "server CPU", "")


def opening(workers: int, total_s: float) -> str:
    """Say what is about to happen, and how long it takes."""
    return f"self-test with {_workers(workers)}: about {total_s:.0f} s; leave the machine alone meanwhile"


def progress(seen: Seen) -> str:
    """One level that was tried, on one line."""
    unit, _ = _KINDS[seen.kind]
    return f"{seen.level:,.0f} {unit}: {_result(seen)}"


def lines(envelope: Envelope) -> Iterator[str]:
    """Everything: a table for each kind of load, the envelope, what it holds for, and where it was kept."""
    cores = f"{envelope.cores} core{'s'[: envelope.cores > 1]}"
    yield (
        f"self-test: {_workers(envelope.workers)} ({envelope.receiver} receiver) on {cores}, "
        "which the null server shares"
    )
    for kind, (unit, what) in _KINDS.items():
        yield f"\n{unit}: {what}"
        yield from _table([each for each in envelope.levels if each.kind == kind])
    yield "\nenvelope"
    for kind, (unit, _) in _KINDS.items():
        yield f"  {unit:10}  {_held(envelope, kind)}"
    yield ""
    yield from _meaning(envelope)


def to_json(envelope: Envelope) -> dict[str, Any]:
    """The same for programs; times in seconds, CPU as a share of one core."""
    return {
        "workers": envelope.workers,
        "cores": envelope.cores,
        "receiver": envelope.receiver,
        "complete": envelope.complete,
        "busy": envelope.busy,
        "envelope": {
            kind: {
                "usable": envelope.held[kind],
                "good": envelope.exact[kind],
                "open_ended": kind in envelope.open_ended,
            }
            for kind in _KINDS
        },
        "limits": {"on_time": ON_TIME, "good_ttft_error_s": GOOD_S, "usable_ttft_error_s": USABLE_S},
        "levels": [asdict(each) for each in envelope.levels],
        "load_average": envelope.load_average,
        "took_s": envelope.took_s,
        "saved": None if envelope.path is None else str(envelope.path),
    }


def _table(levels: list[Seen]) -> Iterator[str]:
    rows = [_HEAD, *(_row(each) for each in levels)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD) - 1)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=False))
        yield f"  {'  '.join((*cells, row[-1]))}".rstrip()


def _row(seen: Seen) -> tuple[str, ...]:
    return (
        f"{seen.level:,.0f}",
        _share(seen.on_time, digits=1),
        words.seconds(seen.send_lag_p99_s),
        words.seconds(seen.ttft_error_p50_s),
        words.seconds(seen.ttft_error_p99_s),
        _share(seen.client_cpu),
        _share(seen.server_cpu),
        _result(seen),
    )


def _result(seen: Seen) -> str:
    return f"past: {seen.why}" if seen.grade == "past" else seen.grade


def _share(share: float | None, digits: int = 0) -> str:
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def _held(envelope: Envelope, kind: Kind) -> str:
    held, exact = envelope.held[kind], envelope.exact[kind]
    if held is None:
        return "not even the lowest level held"
    more = " or more: no level failed in the time there was" if kind in envelope.open_ended else ""
    good = "none within" if exact is None else "all of it within" if exact == held else f"{exact:,.0f} within"
    return f"{held:,.0f}{more} (TTFT error p99 within {words.seconds(USABLE_S)}; {good} {words.seconds(GOOD_S)})"


def _meaning(envelope: Envelope) -> Iterator[str]:
    workers = _workers(envelope.workers)
    yield f"It holds for {workers} beside a local target, each kind of load with little of the others."
    if envelope.path is not None:
        yield "Runs are held against it (V16), and `slobench doctor` shows it."
        yield f"saved  {envelope.path}"
    elif envelope.busy:
        yield (
            f"Not kept: others were using this machine (load average {envelope.load_average:.1f} at the start), "
            "and runs would be held against what they left. Stop what else runs here and try again."
        )
    elif not envelope.complete:
        yield "Not kept: a kind of load did not hold at its lowest level. `slobench doctor` may say why."


def _workers(workers: int) -> str:
    return f"{workers} worker{'s'[: workers > 1]}"
