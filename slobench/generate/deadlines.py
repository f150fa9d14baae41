"""When exchanges time out or are given up; those of many on one timer, which sleeps until the earliest still open."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from slobench.generate.exchange import Exchange
from slobench.names import Outcome
from slobench.pacer import NEVER
from slobench.records.schema import NULL
from slobench.wire.endpoint import Endpoint

_LEAST_NS = 20_000_000  # between two looks: each wake-up costs 0.1 ms of CPU


class Timeouts:
    """The timeouts that an endpoint asks for, and the patience of users. Times in ns on the run's clock."""

    __slots__ = ("_earliest_ns", "_endpoint")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        asked = (endpoint.connect_timeout_ns, endpoint.first_token_timeout_ns, endpoint.idle_timeout_ns)
        self._earliest_ns = min((endpoint.total_timeout_ns, *(each for each in asked if each is not None)))

    def first_look(self, exchange: Exchange) -> int:
        """When to judge it for the first time: no timeout of it comes before."""
        due_ns = exchange.started_ns + self._earliest_ns
        return due_ns if exchange.give_up_ns == NULL else min(due_ns, exchange.give_up_ns)

    def first(self, exchange: Exchange, last_read_ns: int) -> tuple[int, Outcome]:
        """The next time at which this exchange times out, and as what. last_read_ns: NULL where nothing was read."""
        endpoint, reply, started = self._endpoint, exchange.reply, exchange.started_ns
        found = (started + endpoint.total_timeout_ns, Outcome.TIMEOUT_TOTAL)
        if endpoint.connect_timeout_ns is not None and exchange.sent_ns == NULL:
            found = min(found, (started + endpoint.connect_timeout_ns, Outcome.TIMEOUT_CONNECT))
        if endpoint.first_token_timeout_ns is not None and reply.stream and reply.first_token_ns == NULL:
            found = min(found, (started + endpoint.first_token_timeout_ns, Outcome.TIMEOUT_FIRST_TOKEN))
        if endpoint.idle_timeout_ns is not None and exchange.sent_ns != NULL:
            idle_since = exchange.sent_ns if last_read_ns == NULL else last_read_ns
            found = min(found, (idle_since + endpoint.idle_timeout_ns, Outcome.TIMEOUT_IDLE))
        if exchange.give_up_ns != NULL and not (exchange.until_first_token and reply.first_token_ns != NULL):
            found = min(found, (exchange.give_up_ns, Outcome.CANCELLED))
        return found

    def next_look(self, exchange: Exchange, last_read_ns: int, now_ns: int) -> int:
        """When to judge it: idleness begins to count with the send, at any time, so at least that often."""
        deadline_ns, _ = self.first(exchange, last_read_ns)
        idle_ns = self._endpoint.idle_timeout_ns
        return deadline_ns if idle_ns is None else min(deadline_ns, now_ns + idle_ns)


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
