"""Self-exciting arrivals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slobench.config.arrivals import Hawkes
from slobench.workload.bounds import Bounds
from slobench.workload.variates import IntArray, exp_of, exponentials, uniforms

_BLOCK = 512  # candidates drawn at a time


def hawkes_ns(process: Hawkes, bounds: Bounds, rng: np.random.Generator) -> IntArray:
    """λ(t) = µ + Σ branching · decay · exp(-decay (t - tᵢ)) over the arrivals before t [Hawkes, Biometrika 58, 1971].

    Exact, by thinning [Ogata, IEEE Transactions on Information Theory 27, 1981]: between arrivals the intensity only
    falls, so the present one bounds it until the next candidate, which is kept with the part that is left of it.
    µ = rate (1 - branching). It begins with the excitation that it has on average, rate · branching, so that the
    expected intensity is `rate` from the first moment on.
    """
    blocks = [np.zeros(0, dtype=np.int64)]
    last_ns, drawn = 0, 0
    for times in _blocks(process, rng):
        if not bounds.want_more(drawn, last_ns):
            break
        blocks.append(bounds.to_ns(times, last_ns))
        last_ns, drawn = int(blocks[-1][-1]), drawn + len(times)
    return bounds.cut(np.concatenate(blocks))


def _blocks(process: Hawkes, rng: np.random.Generator) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Times in s of the arrivals among each block of candidates."""
    base, jump, decay = process.rate * (1 - process.branching), process.branching * process.decay, process.decay
    time, excited = 0.0, process.rate * process.branching
    while True:
        kept = []
        for wait, chance in zip(exponentials(_BLOCK, rng).tolist(), uniforms(_BLOCK, rng).tolist(), strict=True):
            bound = base + excited
            passed = wait / bound
            time += passed
            excited *= exp_of(-decay * passed)
            if chance * bound <= base + excited:
                kept.append(time)
                excited += jump
        if kept:
            yield np.array(kept)
