"""A rate that changes with time: straight lines between knots, fitted by the likelihood of Poisson arrivals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slobench.stats.observed import BoolArray, IntArray, Observed
from slobench.stats.quantiles import FloatArray

_BEND = 0.5
_ROUNDS, _SHORTEST, _CLOSE = 30, 1e-3, 1e-9
_LOWEST = 1e-4  # of the mean rate: a knot is never at 0, so that what comes there is unlikely and not impossible


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Rates at knots that are evenly spaced over [0, end], straight lines between them."""

    end: float
    rates: FloatArray

    def at(self, t: FloatArray) -> FloatArray:
        """Rate at each time, 1/s."""
        cell, share = _place(t, self.end, len(self.rates))
        return self.rates[cell] * (1 - share) + self.rates[cell + 1] * share

    def integral(self, t: FloatArray) -> FloatArray:
        """Expected events before each time."""
        width = self.end / (len(self.rates) - 1)
        whole = np.concatenate([[0.0], np.cumsum((self.rates[:-1] + self.rates[1:]) / 2 * width)])
        cell, share = _place(t, self.end, len(self.rates))
        low, rise = self.rates[cell], self.rates[cell + 1] - self.rates[cell]
        return np.asarray(whole[cell] + width * share * (low + rise * share / 2))

    def between(self, start: FloatArray, length: FloatArray) -> FloatArray:
        """Expected events in each stretch; of a short one not a difference of two large numbers."""
        stop = start + length
        same = _place(start, self.end, len(self.rates))[0] == _place(stop, self.end, len(self.rates))[0]
        within = (self.at(start) + self.at(stop)) / 2 * length
        return np.where(same, within, self.integral(stop) - self.integral(start))


def fit_curve(seen: Observed, knots: int, *, without: int | None = None, near: FloatArray | None = None) -> FloatArray:
    """Rates at the knots that make all blocks, or all but one, likeliest under Poisson arrivals. near: where to start.

    For arrivals that are not Poisson it still estimates their mean rate. A weak prior (second differences of the
    logarithms of the rates are normal with deviation 1/2) says what comes where nothing was seen. By Newton's steps on
    the logarithms, with the expected curvature. knots: at least 2.
    """
    keep = np.arange(seen.blocks) != (-1 if without is None else without)
    events = keep[seen.block] & seen.event
    cell, share = _place(seen.start[events] + seen.length[events], seen.end, knots)
    exposure = _exposure(seen, keep, knots)
    prior = np.diff(np.eye(knots), 2, axis=0)
    prior = prior.T @ prior / _BEND**2
    lowest = np.log(_LOWEST * float(events.sum()) / float(exposure.sum()))
    logs = np.full(knots, lowest - np.log(_LOWEST)) if near is None else np.log(near)
    loss = _loss(logs, cell, share, exposure, prior)
    for _ in range(_ROUNDS):
        slope, curve = _slopes(logs, cell, share, exposure)
        step = np.linalg.solve(curve + prior + 1e-9 * np.eye(knots), -(slope + prior @ logs))
        size, last = 1.0, loss
        while size > _SHORTEST:
            moved = np.maximum(logs + size * np.clip(step, -2, 2), lowest)
            lost = _loss(moved, cell, share, exposure, prior)
            if lost < loss:
                logs, loss = moved, lost
                break
            size /= 2
        if last - loss < _CLOSE * (1 + abs(loss)):
            break
    return np.asarray(np.exp(logs), dtype=np.float64)


def _loss(logs: FloatArray, cell: IntArray, share: FloatArray, exposure: FloatArray, prior: FloatArray) -> float:
    rates = np.exp(logs)
    intensity = rates[cell] * (1 - share) + rates[cell + 1] * share
    return float(rates @ exposure - np.log(intensity).sum() + logs @ prior @ logs / 2)


def _slopes(logs: FloatArray, cell: IntArray, share: FloatArray, exposure: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient of the loss in the logarithms, and a positive matrix near its second derivative."""
    knots = len(logs)
    rates = np.exp(logs)
    intensity = rates[cell] * (1 - share) + rates[cell + 1] * share
    left, right = rates[cell] * (1 - share) / intensity, rates[cell + 1] * share / intensity
    slope = rates * exposure - np.bincount(cell, left, knots) - np.bincount(cell + 1, right, knots)
    curve = np.diag(np.bincount(cell, left * left, knots) + np.bincount(cell + 1, right * right, knots))
    across = np.bincount(cell, left * right, knots)[:-1]
    curve += np.diag(across, 1) + np.diag(across, -1)
    return slope, curve


def _place(t: FloatArray, end: float, knots: int) -> tuple[IntArray, FloatArray]:
    """Cell between two knots that each time lies in, and its place in it, from 0 to 1."""
    at = np.clip(t / end, 0.0, 1.0) * (knots - 1)
    cell = np.minimum(at.astype(np.int64), knots - 2)
    return cell, at - cell


def _exposure(seen: Observed, keep: BoolArray, knots: int) -> FloatArray:
    """Integral of each knot's hat function over the windows of the kept blocks."""
    total = np.zeros(knots)
    at = np.linspace(0.0, seen.end, knots)
    for low, high in seen.windows[keep]:
        edges = np.concatenate([[low], at[(at > low) & (at < high)], [high]])
        cell, share = _place((edges[:-1] + edges[1:]) / 2, seen.end, knots)
        width = np.diff(edges)
        total += np.bincount(cell, width * (1 - share), knots) + np.bincount(cell + 1, width * share, knots)
    return total
