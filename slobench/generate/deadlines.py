"""Timeouts of many exchanges on one timer that sleeps until the earliest of those still open."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from slobench.pacer import NEVER

_LEAST_NS = 20_000_000  # between two looks: each wake-up costs 0.1 ms of CPU


class Deadlines:
    """Calls `judge(index)` when an exchange's time has come, at most 20 ms late.

    judge: ends the exchange, or returns when to look again. is_open: whether it has not ended; the times of
    ended ones are passed over, so that in a healthy run the timer hardly ever fires.
    """

    def __init__(
        self, now_ns: Callable[[], int], is_open: Callable[[int], bool], judge: Callable[[int], int | None]
    ) -> None:
        self._now_ns = now_ns
        self._is_open = is_open
        self._judge = judge
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[int, int]] = []
        self._handle: asyncio.TimerHandle | None = None
        self._planned_ns = NEVER

    def watch(self, index: int, due_ns: int) -> None:
        """Judge this exchange at `due_ns`."""
        heapq.heappush(self._heap, (due_ns, index))
        if due_ns < self._planned_ns:
            self._plan(due_ns)

    def close(self) -> None:
        """Judge nothing any more."""
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()

    def _plan(self, due_ns: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._planned_ns = due_ns
        self._handle = self._loop.call_later(max(due_ns - self._now_ns(), 0) / 1e9, self._look)

    def _look(self) -> None:
        now_ns, heap = self._now_ns(), self._heap
        self._planned_ns = NEVER
        again: list[tuple[int, int]] = []
        while heap and (heap[0][0] <= now_ns or not self._is_open(heap[0][1])):
            _, index = heapq.heappop(heap)
            if self._is_open(index):
                due_ns = self._judge(index)
                if due_ns is not None:
                    again.append((due_ns, index))
        for entry in again:
            heapq.heappush(heap, entry)
        if heap:
            self._plan(max(heap[0][0], now_ns + _LEAST_NS))
