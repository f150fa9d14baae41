"""Markov-modulated Poisson arrivals with two states: likelihood by the forward recursion of hidden Markov models.

Between events the state moves by exp((Q - Λ)x), at an event Λ = diag(rates) is applied (Fischer and Meier-Hellstern,
Performance Evaluation 18, 1993). The recursion runs over √n stretches side by side: √n steps of numpy, not n of Python.
"""

from __future__ import annotations

import math

import numpy as np

from slobench.stats.observed import BoolArray, Observed
from slobench.stats.quantiles import FloatArray

Two = tuple[float, float]


def mmpp_pieces(rates: Two, stays: Two, seen: Observed) -> tuple[FloatArray, FloatArray]:
    """Log-likelihood and integrated intensity of each piece, given everything before it.

    rates: requests/s of either state; stays: their mean lengths, s. The first event comes while the state is as events
    find it in the long run.
    """
    moves, logs = _between(rates, stays, seen.length)
    at_end = np.array([np.where(seen.event, rate, 1.0) for rate in rates])
    share = rates[0] * stays[0] / (rates[0] * stays[0] + rates[1] * stays[1])
    first = _filtered(_forgetting([moves[i, j] * at_end[j] for i in (0, 1) for j in (0, 1)], seen.cut, share), share)
    second = 1 - first
    ended = [first * moves[0, j] + second * moves[1, j] for j in (0, 1)]
    hazard = -(np.log(ended[0] + ended[1]) + logs)
    intensity = np.maximum(ended[0] * rates[0] + ended[1] * rates[1], 1e-300)
    return np.where(seen.event, np.log(intensity) + logs, -hazard), hazard


def _between(rates: Two, stays: Two, length: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return exp((Q - Λ)x) for each x as (2, 2, n) with a factor taken out, and the logarithm of the factor.

    With m = tr/2 and d = √(((A₁₁ - A₂₂)/2)² + A₁₂A₂₁), exp(Ax) = e^(mx) (cosh(dx) I + sinh(dx)/d (A - mI)).
    """
    leave, back = 1 / stays[0], 1 / stays[1]
    a, b = -(leave + rates[0]), -(back + rates[1])
    half = (a - b) / 2
    d = math.sqrt(half * half + leave * back)
    shrink = np.exp(-2 * d * length)
    even, odd = (1 + shrink) / 2, (1 - shrink) / (2 * d)
    return np.array([[even + odd * half, odd * leave], [odd * back, even - odd * half]]), ((a + b) / 2 + d) * length


def _forgetting(step: list[FloatArray], cut: BoolArray, share: float) -> tuple[FloatArray, ...]:
    """Let the state begin anew after a cut, whatever it was before."""
    one, two = step[0] + step[1], step[2] + step[3]
    anew = (one * share, one * (1 - share), two * share, two * (1 - share))
    return tuple(np.where(cut, fresh, kept) for fresh, kept in zip(anew, step, strict=True))


def _filtered(step: tuple[FloatArray, ...], start: float) -> FloatArray:
    """Return the chance of the first state before each step, where each multiplies by its matrix and is normalised.

    step: the matrices' entries 11, 12, 21, 22; start: the chance before the first.
    """
    n = len(step[0])
    width = max(1, math.isqrt(n) // 3)
    rows = -(-n // width)
    p, q, r, s = (
        np.concatenate([entry, np.full(rows * width - n, spare)]).reshape(rows, width).T.copy()
        for entry, spare in zip(step, (1.0, 0.0, 0.0, 1.0), strict=True)
    )
    prefix = np.empty((width, 4, rows))  # product of the steps of a stretch before each of them
    a, b, c, d = np.ones(rows), np.zeros(rows), np.zeros(rows), np.ones(rows)
    for k in range(width):
        prefix[k] = a, b, c, d
        a, b = a * p[k] + b * r[k], a * q[k] + b * s[k]
        c, d = c * p[k] + d * r[k], c * q[k] + d * s[k]
        size = a + b + c + d
        a, b, c, d = a / size, b / size, c / size, d / size
    came = np.empty(rows)
    chance = start
    for row, (first, second, third, fourth) in enumerate(np.column_stack([a, b, c, d]).tolist()):
        came[row] = chance
        one, two = chance * first + (1 - chance) * third, chance * second + (1 - chance) * fourth
        chance = one / (one + two)
    first_state = came * prefix[:, 0] + (1 - came) * prefix[:, 2]
    second_state = came * prefix[:, 1] + (1 - came) * prefix[:, 3]
    return np.asarray((first_state / (first_state + second_state)).T.reshape(-1)[:n], dtype=np.float64)
