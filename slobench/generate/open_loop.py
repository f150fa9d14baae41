"""Open loop: requests leave when the plan says, whatever the server does.

Not a semaphore anywhere: waiting here would turn an open loop into a closed one exactly when it matters.
"""

from __future__ import annotations

import numpy as np

from slobench.clock import Clock
from slobench.generate.exchange import Exchange
from slobench.generate.sender import SENDS_PER_PASS, Sender
from slobench.generate.tally import Tally
from slobench.pacer import NEVER, Pacer
from slobench.plan import Plan


class OpenLoop:
    """Sends each row of the shard at its scheduled time; a late row is sent at once and charged for it.

    A stalled loop never moves the schedule: absolute deadlines, no re-anchoring.
    grows: more rows may come until the stop is ordered.
    """

    def __init__(self, sender: Sender, clock: Clock, epoch_ns: int, *, grows: bool = False) -> None:
        self._sender = sender
        self._now_ns = clock.now_ns
        self._epoch_ns = epoch_ns
        scheduled = sender.plan.scheduled_ns
        assert scheduled is not None
        self._scheduled: list[int] = scheduled.tolist()
        self._next = 0
        self._stop_ns = NEVER
        self._grows = grows
        self.pacer: Pacer

    @property
    def finished(self) -> bool:
        """Whether every row has been sent or will not be, and none will come."""
        return self._idle and (not self._grows or self._stop_ns < NEVER)

    @property
    def _idle(self) -> bool:
        return self._next >= len(self._scheduled) or self._scheduled[self._next] >= self._stop_ns

    def start(self) -> None:
        """Arm the first deadline."""
        self._arm()

    def stop(self, at_ns: int) -> None:
        """Offer nothing that is scheduled at or after `at_ns`."""
        self._stop_ns = min(self._stop_ns, at_ns)
        self._arm()

    def extend(self, more: Plan, tally: Tally | None = None) -> None:
        """Go on with these rows, none scheduled before those that are there; `tally` counts them.

        Rows that were sent are forgotten, so that a stream of any length takes the memory of two segments.
        """
        scheduled = more.scheduled_ns
        assert scheduled is not None
        if len(scheduled) and self._scheduled and scheduled[0] < self._scheduled[-1]:
            raise ValueError(
                f"a segment that begins at {scheduled[0]} ns, before the last row at {self._scheduled[-1]}"
            )
        self._sender.replace_rows(slice(self._next, None), more, tally)
        self._scheduled = self._scheduled[self._next :] + scheduled.tolist()
        self._next = 0
        self._arm()

    def curtail(self) -> None:
        """Give up the rows that have not been sent."""
        self._sender.replace_rows(slice(self._next), self._sender.plan.take(np.empty(0, np.int64)))
        del self._scheduled[self._next :]
        self._arm()

    def on_due(self) -> None:
        """Send the rows whose time has come; what is left of a burst follows after the sockets were served."""
        scheduled, sender = self._scheduled, self._sender
        limit_ns = min(self._now_ns(), self._stop_ns - 1)
        last = min(len(scheduled), self._next + SENDS_PER_PASS)
        while self._next < last and scheduled[self._next] <= limit_ns:
            row = self._next
            self._next += 1
            sender.send(row, scheduled[row])
        self._arm()

    def after_end(self, exchange: Exchange) -> None:
        """An open loop does not care when a reply ends."""

    def _arm(self) -> None:
        due_ns = NEVER if self._idle else self._scheduled[self._next]
        self._sender.transport.next_send_ns = due_ns
        self.pacer.arm(NEVER if due_ns == NEVER else due_ns + self._epoch_ns)
