"""Who sends what in a closed loop: users, their turns, and the class of each request."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slobench.workload.variates import FloatArray, IntArray, child, exponentials

FASTEST_REPLY_NS = 10_000_000
FASTEST_TOKEN_NS = 1_000_000
MAX_CLOSED_ROWS = 1_000_000


def deal(n: int, users: int) -> tuple[IntArray, IntArray]:
    """Session and turn of n requests in plan order: every user's first turn, then every second one."""
    index = np.arange(n, dtype=np.int64)
    return index % users, index // users


def turns_for(duration_ns: int, think_ns: int, *, users: int, mean_output_tokens: float) -> int:
    """How many turns each user is planned for, where a closed loop is bound by time.

    As many as it could take if a reply took 10 ms and 1 ms for each output token, faster than what is measured; the
    rest stays `unsent`. At most MAX_CLOSED_ROWS over all users; with more than that, the window ends when the first
    user runs out.
    """
    fastest_ns = think_ns + FASTEST_REPLY_NS + FASTEST_TOKEN_NS * mean_output_tokens
    return max(1, min(int(duration_ns / fastest_ns) + 1, MAX_CLOSED_ROWS // users))


def classes_by_share(n: int, shares: Mapping[str, float], seed: int) -> IntArray:
    """Class code of n requests, drawn by share.

    Each class races with exponential clocks of its own seed, the first to ring wins: a class that is added takes
    requests from the others and changes nothing else.
    """
    if len(shares) == 1:
        return np.zeros(n, dtype=np.int64)
    best: FloatArray = np.full(n, np.inf)
    codes = np.zeros(n, dtype=np.int64)
    for code, (name, share) in enumerate(shares.items()):
        rings = exponentials(n, child(seed, "classes", name)) / share
        codes[rings < best] = code
        best = np.minimum(best, rings)
    return codes
