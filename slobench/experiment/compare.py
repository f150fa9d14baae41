"""Comparing stored runs: what they are, whether they may be compared, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slobench.config.margins import Margins
from slobench.errors import InvalidRunError, UsageError
from slobench.experiment.arms import find_arms
from slobench.metrics.arm import Arm
from slobench.metrics.comparable import differences
from slobench.metrics.compare import RUN_NOISE, Comparison, compare

MOST_TOLD = 12


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """BASE and every NEW with the runs behind them. names: as the user gave them."""

    names: tuple[str, ...]
    base: tuple[Arm, ...]
    news: tuple[tuple[Arm, ...], ...]
    margins: Margins
    comparisons: tuple[Comparison, ...]


def compare_runs(
    base: str, news: Sequence[str], margins: Margins, *, force: bool, run_noise: float = RUN_NOISE
) -> Compared:
    """Read BASE and every NEW, and compare them.

    Raises UsageError that names all differences where they are not comparable, InvalidRunError where a run is invalid;
    with `force` the differences are kept with the result instead.
    """
    ours = tuple(find_arms(base))
    theirs = tuple(tuple(find_arms(each)) for each in news)
    apart = tuple(differences([a.identity for a in ours], [a.identity for a in each]) for each in theirs)
    if not force:
        for name, each in zip(news, apart, strict=True):
            refuse(base, name, each)
    found = compare(ours, theirs, margins, apart, run_noise)
    return Compared((base, *news), ours, theirs, margins, found)


def refuse(base: str, new: str, apart: Sequence[str]) -> None:
    """Raise where there is a difference that forbids a comparison."""
    if not apart:
        return
    told = [*apart[:MOST_TOLD], *([f"and {len(apart) - MOST_TOLD} more"] if len(apart) > MOST_TOLD else [])]
    listed = "\n".join(f"  differs   {each}" for each in told)
    kind = InvalidRunError if any(" is INVALID" in each for each in apart) else UsageError
    raise kind(
        f"{base} and {new} cannot be compared\n{listed}\n  expected  runs that differ in the server only; or --force"
    )
