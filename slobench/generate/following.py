"""Which requests of a session become due when one of it has ended."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slobench.names import NULL
from slobench.plan import Plan


class Following:
    """What each row of a plan waits for, and what has ended of it. Rows are positions in the plan.

    Rows of a session stand together; a row waits for at most as many rows as its `after` has bits.
    """

    def __init__(self, plan: Plan) -> None:
        after = np.zeros(len(plan), np.int64) if plan.after is None else plan.after
        delay_ns = np.zeros(len(plan), np.int64) if plan.delay_ns is None else plan.delay_ns
        waits, back = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for bit in range(int(after.max(initial=0)).bit_length()):
            rows = np.flatnonzero(after >> bit & 1)
            waits.append(rows)
            back.append(np.full(len(rows), bit + 1))
        followers = np.concatenate(waits)
        before = followers - np.concatenate(back)
        order = np.lexsort((followers, before))
        self._followers: list[int] = followers[order].tolist()
        self._first: list[int] = np.searchsorted(before[order], np.arange(len(plan) + 1)).tolist()
        self._left: list[int] = np.bincount(followers, minlength=len(plan)).tolist()
        self._delay_ns: list[int] = np.where(delay_ns == NULL, 0, delay_ns).tolist()
        self._latest_ns: dict[int, int] = {}  # of a row that waits for several, the last end so far

    def ended(self, row: int, end_ns: int) -> Iterator[tuple[int, int]]:
        """(row, scheduled_ns) of those that waited for this one and for no other any more."""
        for follower in self._followers[self._first[row] : self._first[row + 1]]:
            self._left[follower] -= 1
            latest_ns = max(self._latest_ns.pop(follower, end_ns), end_ns)
            if self._left[follower]:
                self._latest_ns[follower] = latest_ns
            else:
                yield follower, latest_ns + self._delay_ns[follower]
