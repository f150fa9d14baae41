"""Self-exciting arrivals with an exponential kernel: one pass (Ozaki, Ann. Inst. Stat. Math. 31, 1979)."""

from __future__ import annotations

import math

import numpy as np

from slobench.stats.observed import Observed
from slobench.stats.quantiles import FloatArray


def hawkes_pieces(rate: float, branching: float, decay: float, seen: Observed) -> tuple[FloatArray, FloatArray]:
    """Log-likelihood and integrated intensity of each piece, given everything before it.

    Intensity at t: rate·(1 - branching) + branching·decay·Σ exp(-decay·(t - tᵢ)) over the events before t.
    rate: requests/s in the long run, followers included.
    """
    fade = np.exp(-decay * seen.length)
    jump = np.where(seen.cut, 1.0, seen.event)  # after a cut as at first: one event, nothing known before it
    level = _before(np.where(seen.cut, 0.0, fade), jump)
    base = rate * (1 - branching)
    hazard = base * seen.length + branching * level * (1 - fade)
    intensity = base + branching * decay * level * fade
    return np.where(seen.event, np.log(np.maximum(intensity, 1e-300)), 0.0) - hazard, hazard


def _before(fade: FloatArray, jump: FloatArray) -> FloatArray:
    """Return the level before each piece, where a piece multiplies it by `fade` and then adds `jump`; 1 at first.

    Over √n stretches side by side, each from 0, with what came before each of them added afterwards.
    """
    n = len(fade)
    width = max(1, math.isqrt(n) // 3)
    rows = -(-n // width)
    factor, added = np.ones(rows * width), np.zeros(rows * width)
    factor[:n], added[:n] = fade, jump
    factor, added = (np.ascontiguousarray(each.reshape(rows, width).T) for each in (factor, added))
    own, kept = np.empty((width, rows)), np.empty((width, rows))  # from 0, and the share left of what came in
    level, share = np.zeros(rows), np.ones(rows)
    for k in range(width):
        own[k], kept[k] = level, share
        level = level * factor[k] + added[k]
        share = share * factor[k]
    came = np.empty(rows)
    state = 1.0
    for row, (left, gained) in enumerate(zip(share.tolist(), level.tolist(), strict=True)):
        came[row] = state
        state = state * left + gained
    return np.asarray((own + kept * came).T.reshape(-1)[:n])
