"""How far a count may be off by chance: what simulated claims are held against."""

from __future__ import annotations

from scipy.special import bdtr

CHANCE = 0.001  # of a failed test where the claim just holds


def fewest(runs: int, share: float, chance: float = CHANCE) -> int:
    """Return the count below which so few of `runs` come with at most this chance, if each has chance `share`."""
    return next(k for k in range(runs + 1) if bdtr(k, runs, share) > chance)


def most(runs: int, share: float, chance: float = CHANCE) -> int:
    """Return the count above which so many come with at most this chance."""
    return runs - fewest(runs, 1 - share, chance)
