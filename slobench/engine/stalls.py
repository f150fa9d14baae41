"""Pauses of the engine: work that falls into one goes on when it is over."""

from __future__ import annotations

from collections.abc import Sequence

from slobench.config.engine import Stall


def end_of_work(stalls: Sequence[Stall], start_ns: int, work_ns: int) -> int:
    """When work of `work_ns` ends that begins at `start_ns`, if nothing is done during a stall; ns from the start.

    Time: O(stalls x their number in the span).
    """
    now, left = start_ns, work_ns
    while True:
        begin, end = min((_next(stall, now) for stall in stalls), default=(now + left, now + left))
        if now + left <= begin:
            return now + left
        left -= max(0, begin - now)
        now = max(now, end)


def _next(stall: Stall, now_ns: int) -> tuple[int, int]:
    """(begin, end) of the stall that is on at `now_ns`, else of the next one; far away where none is left."""
    begin = stall.at
    if stall.every is not None and now_ns >= begin + stall.lasts:
        begin += -(-(now_ns - begin - stall.lasts + 1) // stall.every) * stall.every
    if now_ns >= begin + stall.lasts:
        return _NEVER, _NEVER
    return begin, begin + stall.lasts


_NEVER = 2**62
