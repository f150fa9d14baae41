"""The hosts that offered the load, where they were several: what each had, and how far its clock is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slobench.names import Outcome
from slobench.report import words
from slobench.report.tables import Cell, Table
from slobench.report.view import RunView

_NOTE = (
    "clock error: by how much times of that worker may be off the run's clock: half the round trip to it, and what its "
    "clock had drifted by the end"
)


def seats_of(view: RunView) -> list[Mapping[str, Any]]:
    """Where each worker ran; empty where all ran beside the parent."""
    found = view.at("hosts")
    return [seat for seat in found if isinstance(seat, Mapping)] if isinstance(found, list | tuple) else []


def hosts_table(view: RunView) -> Table | None:
    """One row a worker of a cluster; None where there was none."""
    seats = seats_of(view)
    if not seats:
        return None
    requests = view.records.requests
    lost = view.at("run", "workers_lost") or {}
    return Table(
        "Hosts that offered the load",
        ("worker", "host", "node", "requests", "lost", "clock error", "drift"),
        tuple(
            (
                Cell(str(seat.get("worker")), "strong"),
                Cell(words.clean(seat.get("host") or words.ABSENT, 60)),
                Cell(words.clean(seat.get("node") or words.ABSENT, 20)),
                Cell(words.count(_rows(requests, seat, Outcome.UNSENT, equal=False))),
                Cell(
                    words.count(_rows(requests, seat, Outcome.LOST, equal=True)),
                    "bad" if str(seat.get("worker")) in lost else "",
                ),
                Cell(_ms(seat.get("error_ns"), "±")),
                Cell(_ms(seat.get("drift_ns"), "")),
            )
            for seat in seats
        ),
        notes=(_NOTE,),
        left=frozenset({"host", "node"}),
    )


def clock_line(view: RunView) -> str:
    """`4 hosts by Ray, their clocks known to ±0.31 ms`; "" where all ran beside the parent."""
    seats = seats_of(view)
    if not seats:
        return ""
    hosts = len({seat.get("node") for seat in seats})
    worst = max((seat["error_ns"] for seat in seats if isinstance(seat.get("error_ns"), int)), default=None)
    return f"{hosts} node{'s'[: hosts > 1]} of a Ray cluster, clocks known to {_ms(worst, '±')}"


def _rows(requests: Mapping[str, Any], seat: Mapping[str, Any], outcome: Outcome, *, equal: bool) -> int:
    mine = requests["worker"] == seat.get("worker")
    return int((mine & ((requests["outcome"] == outcome.value) == equal)).sum())


def _ms(ns: Any, sign: str) -> str:
    return f"{sign}{ns / 1e6:.3f} ms" if isinstance(ns, int) else words.ABSENT
