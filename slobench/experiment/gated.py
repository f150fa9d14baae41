"""The result of a gate, whichever way it was come by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from slobench.metrics.arm import Identity
from slobench.metrics.gate import Judgement, Pair, Terms, Tested
from slobench.names import Exit, first_exit
from slobench.stats.changes import ChangePoint

Mode = Literal["pairs", "stored", "aa"]


@dataclass(frozen=True, slots=True)
class Gated:
    """A gate that has ended. names: base and new, as the user gave them.

    command: what would decide, or go on. failure: how a target failed. invalid: the instrument spoiled too many runs.
    changes: of the baseline's level, (class, metric, first run of the new level, change).
    """

    mode: Mode
    names: tuple[str, str]
    judgement: Judgement
    terms: Terms
    base: Identity
    new: Identity
    settings: tuple[tuple[str, str, str], ...] = ()
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()
    changes: tuple[tuple[str, str, str, ChangePoint], ...] = ()
    command: str = ""
    failure: str = ""
    interrupted: bool = False
    invalid: bool = False

    @property
    def exits(self) -> set[Exit]:
        """Every exit code that holds."""
        codes = {Exit.INTERRUPTED} if self.interrupted else set()
        codes |= {Exit.TARGET} if self.failure else set()
        codes |= {Exit.INVALID} if self.invalid else set()
        match self.judgement.decision:
            case "FAIL":
                codes.add(Exit.REGRESSION)
            case "INCONCLUSIVE":
                codes.add(Exit.UNDECIDED)
            case None if not codes:
                codes.add(Exit.UNDECIDED)
        return codes

    @property
    def exit(self) -> Exit:
        """The code to end with."""
        return first_exit(self.exits)


def noise_of(judged: Judgement, terms: Terms) -> Judgement:
    """Turn the pairs of a target with itself into a verdict on its noise: can the planned pairs see the margin.

    PASS: every metric's margin is seen, with chance 95 % at 1 %, by no more pairs than are planned.
    """
    most = terms.looks[-1].pairs
    if judged.pairs < most:
        return replace(judged, decision=None)
    blind = tuple(_blind(judged, most))
    return replace(judged, decision="INCONCLUSIVE" if blind else "PASS", reasons=blind)


def _blind(judged: Judgement, most: int) -> Iterator[str]:
    for test in judged.tests:
        if test.decides and (test.needed is None or test.needed > most):
            more = "more than 1,000" if test.needed is None else f"{test.needed}"
            yield (
                f"{test.quantity.key} of {test.of_class} varies by {test.sd * 100:.2g} % a pair: "
                f"{(test.margin - 1) * 100:.2g} % takes {more} pairs, not {most}"
            )


def detectable(test: Tested, pairs: int) -> float:
    """Return the smallest change, as a ratio, that so many pairs see with chance 95 % at 1 %."""
    import math

    from slobench.stats.paired import pairs_needed

    low, high = 0.0, max(test.sd * 7, 1e-9)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if pairs_needed(test.sd, middle) > pairs else (low, middle)
    return math.exp(high)
