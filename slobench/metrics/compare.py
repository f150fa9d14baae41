"""What changed between two sets of runs, how much, and how sure: a verdict for each quantity of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slobench.config.margins import Margins
from slobench.metrics.arm import Arm
from slobench.metrics.comparable import changed
from slobench.metrics.contrast import FEWEST, Change, Unit
from slobench.metrics.contrasts import Contrast, contrasts, sides_of
from slobench.metrics.quantities import COMPARED, Quantity, from_send
from slobench.stats.paired import holm

Verdict = Literal["better", "worse", "same", "cannot tell"]
LEVEL = 0.05
"""Chance of any false better or worse in one comparison, if the unit were all that varies."""
RUN_NOISE = 0.03
"""Assumed sd of ln(new/base) between two runs of one server: 1 % of noise in its speed, doubled by the batches that
grow with it, in both runs (docs/decisions/090-gate.md). `gate --aa` measures it."""
MOST = 1000.0
"""Times as many requests beyond which it is no use to ask for more."""


@dataclass(frozen=True, slots=True)
class Row:
    """One contrast with its verdict. p: two-sided, Holm over all rows.

    needed: how many pairs, runs or requests in all would tell, None where it is told or no number would.
    """

    contrast: Contrast
    p: float
    verdict: Verdict
    needed: int | None
    needed_unit: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """BASE against one NEW. assumed: with too few runs to see what differs from one to the next, the sd that was taken
    for it (of ln(new/base) of a latency); None where the runs show it.

    refused: what should have been alike and was not (the comparison was forced). settings: (name, base, new).
    """

    base: tuple[str, ...]
    new: tuple[str, ...]
    rows: tuple[Row, ...]
    unit: Unit
    paired: bool
    assumed: float | None
    requests: tuple[int, int]
    settings: tuple[tuple[str, str, str], ...]
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def count(self, verdict: Verdict) -> int:
        """How many rows have this verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def compare(
    base: Sequence[Arm],
    news: Sequence[Sequence[Arm]],
    margins: Margins,
    refused: Sequence[tuple[str, ...]] = (),
    run_noise: float = RUN_NOISE,
) -> tuple[Comparison, ...]:
    """Compare BASE with each NEW. `refused`: for each NEW what was overlooked by force.

    Better or worse needs both: p <= 5 % (Holm over every row of every comparison), and a change of at least
    `margins.least` (of attainment: `margins.attainment` points). Same needs the whole 95 % interval within the margin.
    """
    cuts = [sides_of(base, new, run_noise) for new in news]
    found = [list(contrasts(base, new, _shown(base, new), cut)) for new, cut in zip(news, cuts, strict=True)]
    adjusted = iter(holm([each.change.p for one in found for each in one]))
    made = []
    for position, (new, rows) in enumerate(zip(news, found, strict=True)):
        sides = cuts[position]
        counts = tuple(sum(len(one.index) for one in side.runs) for side in (sides.base, sides.new))
        judged = tuple(_row(each, next(adjusted), margins, (max(counts), sides.noise > 0)) for each in rows)
        made.append(
            Comparison(
                base=tuple(arm.identity.name for arm in base),
                new=tuple(arm.identity.name for arm in new),
                rows=judged,
                unit=sides.unit,
                paired=sides.paired,
                assumed=sides.noise if sides.unit == "windows" else None,
                requests=(counts[0], counts[1]),
                settings=changed(base[0].identity, new[0].identity),
                refused=refused[position] if refused else (),
            )
        )
    return tuple(made)


def _shown(base: Sequence[Arm], new: Sequence[Arm]) -> Sequence[Quantity]:
    """Latencies from the schedule, or from the send where a run of another tool has no schedule."""
    scheduled = all("ttft" in arm.requests.seconds for arm in (*base, *new))
    return COMPARED if scheduled else from_send(COMPARED)


def _row(contrast: Contrast, p: float, margins: Margins, size: tuple[int, bool]) -> Row:
    margin, least = sizes(contrast, margins)
    seen = contrast.change
    worse = seen.value if contrast.kind == "latency" else -seen.value
    if p <= LEVEL and abs(worse) >= least:
        return Row(contrast, p, "worse" if worse > 0 else "better", None)
    if max(abs(seen.low), abs(seen.high)) < margin:
        return Row(contrast, p, "same", None)
    times = _times(seen, margin, least)
    if times is None:
        return Row(contrast, p, "cannot tell", None)
    requests, noisy = size
    if seen.unit == "windows" and noisy:  # longer runs would not show what differs between runs
        return Row(contrast, p, "cannot tell", max(math.ceil(times), FEWEST + 1), "pairs tell")
    whole = requests if seen.unit == "windows" else seen.n
    return Row(contrast, p, "cannot tell", math.ceil(times * whole), _WORDS[seen.unit])


_WORDS = {"windows": "requests tell", "pairs": "pairs tell", "runs": "runs tell"}


def sizes(contrast: Contrast, margins: Margins) -> tuple[float, float]:
    """(margin, least) of a contrast, on the scale of its change."""
    if contrast.kind == "share":
        return margins.attainment, margins.attainment
    own = margins.metrics.get(contrast.key, margins.margin)
    value = contrast.base.value or math.inf
    allowed = max(own.relative, own.absolute_s / value if contrast.kind == "latency" else 0.0)
    return math.log1p(allowed), math.log1p(min(margins.least, allowed))


def _times(seen: Change, margin: float, least: float) -> float | None:
    """How many times as much data would narrow the interval enough to say same, or better or worse.

    The half-width shrinks as the root of it; same needs it within what the margin leaves beside the estimate.
    """
    size, half = abs(seen.value), (seen.high - seen.low) / 2
    wanted = max(margin - size, size if size >= least else 0.0)
    if wanted <= 0 or half <= 0:
        return None
    times = max((half / wanted) ** 2, 1.1)
    return times if times <= MOST else None
