"""What a sweep's rows are ranked by: the runs of each point put together, and each config by the best of its loads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from slobench.config.experiment import Scalar
from slobench.experiment.sweep_file import Numbers, Row

By = Literal["goodput", "capacity", "cost"]


@dataclass(frozen=True, slots=True)
class Point:
    """A config with a workload at a load: its runs that count. values: by repeat, what it is ranked by, more = better.

    holds: no run missed the SLO or showed overload. means: of each number over the runs.
    """

    config: str
    target: str
    settings: Mapping[str, Scalar]
    workload: str
    load_kind: str
    load: float | None
    gpus: int | None
    price_per_hour: float | None
    rows: tuple[Row, ...]
    values: Mapping[int, float]
    holds: bool

    @property
    def value(self) -> float | None:
        """Geometric mean of its values; None where there is none, 0 where one is."""
        known = list(self.values.values())
        if not known:
            return None
        return 0.0 if min(known) <= 0 else math.exp(math.fsum(map(math.log, known)) / len(known))

    def mean(self, name: str) -> float | None:
        """Return the mean of a number over its runs; None where some run has none."""
        seen = [getattr(row.numbers, name) for row in self.rows]
        known = [float(value) for value in seen if value is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(seen) else None

    @property
    def units(self) -> int:
        """GPUs, or 1 server where they are not known."""
        return self.gpus or 1

    @property
    def per_user(self) -> float | None:
        """Tokens a second that a user sees: 1 / TPOT p50."""
        tpot = self.mean("tpot_p50_s")
        return 1 / tpot if tpot else None

    @property
    def throughput(self) -> float | None:
        """Output tokens a second for each GPU, or of the server."""
        value = self.mean("output_tokens_per_s")
        return None if value is None else value / self.units


def by_what(rows: Sequence[Row]) -> By:
    """Return what a sweep is ranked by: cost where every target has a price, else capacity or goodput."""
    if rows and all(row.price_per_hour is not None for row in rows):
        return "cost"
    return "capacity" if any(row.load_kind == "capacity" for row in rows) else "goodput"


def points_of(rows: Iterable[Row], by: By) -> list[Point]:
    """Put the runs of each point together; those of cells that failed or do not count are left out."""
    grouped: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.state == "done":
            grouped.setdefault(row.point, []).append(row)
    points = []
    for found in grouped.values():
        first = found[0]
        values = {
            row.repeat: value for row in found if (value := value_of(row.numbers, by, row.price_per_hour)) is not None
        }
        points.append(
            Point(
                first.config, first.target, first.settings, first.workload, first.load_kind, first.load, first.gpus,
                first.price_per_hour, tuple(found), values, not any(row.saturated for row in found),
            )
        )  # fmt: skip
    return points


def value_of(numbers: Numbers, by: By, price_per_hour: float | None) -> float | None:
    """Return what a run is ranked by: requests/s, or good tokens for a $; 0 where nothing was good."""
    if by == "goodput":
        return numbers.goodput_rps
    if by == "capacity":
        return numbers.capacity or 0.0
    tokens = numbers.good_tokens_per_s
    if tokens is None and numbers.output_tokens_mean is not None:
        tokens = (numbers.capacity or 0.0) * numbers.output_tokens_mean * (numbers.attainment or 0.0)
    return None if tokens is None or not price_per_hour else tokens * 3600 / price_per_hour


def cost_of(value: float | None) -> float | None:
    """$ for a million good tokens, of good tokens for a $."""
    return 1e6 / value if value else None


def best_loads(points: Sequence[Point]) -> list[Point]:
    """Each config of each workload at its best load: the highest value among those that hold, else among all."""
    grouped: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.value is not None:
            grouped.setdefault((point.workload, point.config), []).append(point)
    chosen = [max(found, key=lambda point: (point.holds, point.value or 0.0)) for found in grouped.values()]
    return sorted(chosen, key=lambda point: (point.workload, not point.holds, -(point.value or 0.0), point.config))


FRONTS = {"per_user": False, "ttft_p90_s": True}
"""What throughput is set against, and whether less of it is better."""


def fronts(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the front of each of FRONTS, of each workload by itself."""
    workloads = list(dict.fromkeys(point.workload for point in points))
    return {
        axis: [p for name in workloads for p in front([each for each in points if each.workload == name], axis)]
        for axis in FRONTS
    }


def front(points: Sequence[Point], axis: str) -> list[Point]:
    """Return the points that no other beats in both: throughput, and their place on an axis of FRONTS."""
    placed = [(point, point.throughput, place_on(point, axis)) for point in points]
    known = [(point, y, -v if FRONTS[axis] else v) for point, y, v in placed if y is not None and v is not None]
    return [
        point
        for point, y, v in known
        if not any(b >= y and w >= v and (b > y or w > v) for _, b, w in known)
    ]  # fmt: skip


def place_on(point: Point, name: str) -> float | None:
    """Return a point's place on an axis: `per_user`, or the mean of a number."""
    return point.per_user if name == "per_user" else point.mean(name)
