"""Operational time: how many arrivals a rate brings by a time, and back (Λ and its inverse).

A process of rate 1 becomes one of rate λ(t) when its arrivals u are moved to the times t with Λ(t) = u, where Λ is the
integral of λ. For Poisson arrivals that is exact; for other gaps it is what "gamma arrivals at a changing rate" is
here: between two arrivals passes a gamma amount of Λ [Çınlar, Introduction to Stochastic Processes, 1975, §4.7;
Gerhardt and Nelson, INFORMS Journal on Computing 21, 2009].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from slobench.config.rates import Lines, RateFunction, Wave, curve
from slobench.workload.variates import FloatArray, cosine

_TURN = 6.283185307179586
_GRID = 1024  # parts of a period in which the inverse is first looked for
_STEPS = 30  # where the rate is nearly 0; elsewhere four of them are enough


class Clock(Protocol):
    """Λ of one rate function; times in s from 0, amounts in arrivals."""

    def rate(self, t_s: FloatArray) -> FloatArray:
        """λ(t), 1/s."""

    def amount(self, t_s: FloatArray) -> FloatArray:
        """Λ(t)."""

    def when(self, amount: FloatArray) -> FloatArray:
        """The first t with Λ(t) = amount, or the last where none arrive for a while; inf where Λ stays below."""


def clock_of(function: RateFunction) -> Clock:
    """Make the clock of a rate function."""
    seen = curve(function)
    return LineClock.of(seen) if isinstance(seen, Lines) else WaveClock(seen)


@dataclass(frozen=True, slots=True, eq=False)
class LineClock:
    """A rate in straight lines from knot to knot, level after the last: Λ in parabolas, inverted by a square root."""

    at_s: FloatArray
    before: FloatArray  # Λ at each knot
    first: FloatArray  # rate from each knot on
    slope: FloatArray  # and how it changes, 1/s²

    @classmethod
    def of(cls, lines: Lines) -> LineClock:
        """Sum up the areas below the lines."""
        at, rate = np.array(lines.at_s, np.float64), np.array(lines.rate, np.float64)
        if at[0] > 0:
            at, rate = np.concatenate([[0.0], at]), np.concatenate([rate[:1], rate])
        width = np.diff(at)
        slope = np.divide(np.diff(rate), width, out=np.zeros_like(width), where=width > 0)
        area = (rate[:-1] + rate[1:]) / 2 * width
        return cls(at, np.concatenate([[0.0], np.cumsum(area)]), rate, np.append(slope, 0.0))

    def rate(self, t_s: FloatArray) -> FloatArray:
        """λ(t); at a jump the rate after it."""
        k, x = self._since(t_s)
        rate: FloatArray = self.first[k] + self.slope[k] * x
        return rate

    def amount(self, t_s: FloatArray) -> FloatArray:
        """Λ(t)."""
        k, x = self._since(t_s)
        amount: FloatArray = self.before[k] + (self.first[k] + self.slope[k] * x / 2) * x
        return amount

    def when(self, amount: FloatArray) -> FloatArray:
        """Inverse of Λ."""
        k = np.searchsorted(self.before, amount, side="right") - 1
        rest = amount - self.before[k]
        first = self.first[k]
        root = first + np.sqrt(np.maximum(first * first + 2 * self.slope[k] * rest, 0.0))
        never = np.where(rest > 0, np.inf, 0.0)
        t_s = self.at_s[k] + np.divide(2 * rest, root, out=never, where=root > 0)
        end_s = np.append(self.at_s[1:], np.inf)[k]
        upto: FloatArray = np.minimum(t_s, end_s)
        return upto

    def _since(self, t_s: FloatArray) -> tuple[np.ndarray, FloatArray]:
        k = np.searchsorted(self.at_s, t_s, side="right") - 1
        return k, t_s - self.at_s[k]


@dataclass(frozen=True, slots=True)
class WaveClock:
    """A rate that is one wave for ever: Λ a line and a wave, inverted by Newton's method within a bracket."""

    wave: Wave

    def rate(self, t_s: FloatArray) -> FloatArray:
        """λ(t)."""
        return self.wave.mean + self.wave.amplitude * cosine((t_s - self.wave.peak_s) / self.wave.period_s)

    def amount(self, t_s: FloatArray) -> FloatArray:
        """Λ(t)."""
        return self.wave.period_s * self._of_turns(t_s / self.wave.period_s)

    def when(self, amount: FloatArray) -> FloatArray:
        """Inverse of Λ: whole periods first, then the part of one."""
        wave = self.wave
        turns = np.floor(amount / (wave.mean * wave.period_s))
        rest = amount / wave.period_s - turns * wave.mean
        grid = np.arange(_GRID + 1) / _GRID
        k = np.clip(np.searchsorted(self._of_turns(grid), rest, side="right") - 1, 0, _GRID - 1)
        low, high = grid[k], grid[k + 1]
        x = (low + high) / 2
        for _ in range(_STEPS):
            over = self._of_turns(x) - rest
            low, high = np.where(over < 0, x, low), np.where(over < 0, high, x)
            steep = self.rate(x * wave.period_s)
            newton = x - np.divide(over, steep, out=np.full_like(x, np.inf), where=steep > 0)
            x = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        return (turns + x) * wave.period_s

    def _of_turns(self, x: FloatArray) -> FloatArray:
        """Λ over a period's length, after x periods."""
        top = self.wave.peak_s / self.wave.period_s + 0.25  # a sine is a cosine a quarter of a turn later
        swing = cosine(x - top) - cosine(np.array(-top))
        return self.wave.mean * x + self.wave.amplitude / _TURN * swing
