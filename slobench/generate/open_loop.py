"""Open loop: requests leave when the plan says, whatever the server does.

Not a semaphore anywhere: waiting here would turn an open loop into a closed one exactly when it matters.
"""

from __future__ import annotations

from slobench.clock import Clock
from slobench.generate.exchange import Exchange
from slobench.generate.sender import SENDS_PER_PASS, Sender
from slobench.pacer import NEVER, Pacer


class OpenLoop:
    """Sends each row of the shard at its scheduled time; a late row is sent at once and charged for it.

    A stalled loop never moves the schedule: absolute deadlines, no re-anchoring.
    """

    def __init__(self, sender: Sender, clock: Clock, epoch_ns: int) -> None:
        self._sender = sender
        self._now_ns = clock.now_ns
        self._epoch_ns = epoch_ns
        scheduled = sender.plan.scheduled_ns
        assert scheduled is not None
        self._scheduled: list[int] = scheduled.tolist()
        self._next = 0
        self._stop_ns = NEVER
        self.pacer: Pacer

    @property
    def finished(self) -> bool:
        """Whether every row has been sent or will not be."""
        return self._next >= len(self._scheduled) or self._scheduled[self._next] >= self._stop_ns

    def start(self) -> None:
        """Arm the first deadline."""
        self._arm()

    def stop(self, at_ns: int) -> None:
        """Offer nothing that is scheduled at or after `at_ns`."""
        self._stop_ns = min(self._stop_ns, at_ns)
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

    def after_end(self, exchange: Exchange, row: int) -> None:
        """An open loop does not care when a reply ends."""

    def _arm(self) -> None:
        due_ns = NEVER if self.finished else self._scheduled[self._next]
        self._sender.transport.next_send_ns = due_ns
        self.pacer.arm(NEVER if due_ns == NEVER else due_ns + self._epoch_ns)
