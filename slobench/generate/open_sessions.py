"""Open arrivals of sessions: what begins one leaves when the plan says, what follows when the replies came.

Not a semaphore here either: sessions come however many are still under way.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

import numpy as np

from slobench.clock import Clock
from slobench.generate.exchange import Exchange
from slobench.generate.following import Following
from slobench.generate.sender import SENDS_PER_PASS, Sender
from slobench.names import NULL, Outcome
from slobench.pacer import NEVER, Pacer


class OpenSessions:
    """Sends the first rows of sessions at their scheduled times, and the others after what they wait for.

    A row that follows others is scheduled at the last of their ends + its delay. Where one of its session failed,
    was given up or dropped, the rest of the session is not sent, unless its class goes on.
    """

    def __init__(self, sender: Sender, clock: Clock, epoch_ns: int, *, goes_on: Collection[str] = ()) -> None:
        """goes_on: classes whose sessions go on after a failure as if the reply had come."""
        plan = sender.plan
        assert plan.scheduled_ns is not None
        self._sender = sender
        self._now_ns = clock.now_ns
        self._epoch_ns = epoch_ns
        self._index = plan.index
        self._session: list[int] = plan.session.tolist()
        fixed = np.flatnonzero(plan.scheduled_ns != NULL)
        fixed = fixed[np.argsort(plan.scheduled_ns[fixed], kind="stable")]
        self._fixed: list[int] = fixed.tolist()
        self._fixed_ns: list[int] = plan.scheduled_ns[fixed].tolist()
        self._next = 0
        self._due: list[tuple[int, int]] = []  # (scheduled_ns, row) of rows that follow others
        self._following = Following(plan)
        self._goes_on = {code for code, name in enumerate(plan.class_names) if name in goes_on}
        self._ended_sessions: set[int] = set()  # by a failure: nothing more of them is sent
        self._under_way: dict[int, int] = {}  # of each session, rows that are due later or in flight
        self._stop_ns = NEVER
        self.pacer: Pacer

    @property
    def finished(self) -> bool:
        """Whether nothing will be sent any more."""
        return self._next_ns() == NEVER and not self._sender.in_flight

    def start(self) -> None:
        """Arm the first deadline."""
        self._arm()

    def stop(self, at_ns: int) -> None:
        """Offer nothing that is scheduled at or after `at_ns`."""
        self._stop_ns = min(self._stop_ns, at_ns)
        self._arm()

    def on_due(self) -> None:
        """Send what is due, in order of time; what is left follows after the sockets were served."""
        limit_ns = self._now_ns()
        for _ in range(SENDS_PER_PASS):
            due_ns = self._next_ns()
            if due_ns > limit_ns:
                break
            if self._due and self._due[0][0] == due_ns:
                _, row = heapq.heappop(self._due)
            else:
                row = self._fixed[self._next]
                self._next += 1
                self._begin(row)
            self._send(row, due_ns)
        self._arm()

    def after_end(self, exchange: Exchange) -> None:
        """A reply ended: those that waited for it are due, at once or after their delay."""
        row = int(np.searchsorted(self._index, exchange.index))
        ok = exchange.outcome is Outcome.OK
        self._end(row, exchange.class_code, exchange.end_ns, ok=ok)
        self.on_due()

    def _begin(self, row: int) -> None:
        session = self._session[row]
        self._under_way[session] = self._under_way.get(session, 0) + 1

    def _finish(self, row: int) -> None:
        session = self._session[row]
        self._under_way[session] -= 1
        if not self._under_way[session]:
            del self._under_way[session]
            self._sender.transport.end_session(session)

    def _send(self, row: int, due_ns: int) -> None:
        if self._session[row] in self._ended_sessions:
            self._sender.bodies.give_up(row)
            self._finish(row)
        elif not self._sender.send(row, due_ns):
            self._end(row, int(self._sender.plan.class_code[row]), self._now_ns(), ok=False)

    def _end(self, row: int, class_code: int, end_ns: int, *, ok: bool) -> None:
        """A row ended, or was dropped: the rows that it makes due, or the end of its session."""
        if not ok and class_code not in self._goes_on:
            self._ended_sessions.add(self._session[row])
        if self._session[row] not in self._ended_sessions:
            now_ns = self._now_ns()
            for follower, due_ns in self._following.ended(row, end_ns):
                if due_ns < self._stop_ns:
                    self._begin(follower)
                    heapq.heappush(self._due, (due_ns, follower))
                    if due_ns > now_ns:
                        self._sender.bodies.want(follower)
        self._finish(row)

    def _next_ns(self) -> int:
        """When the next row is due, NEVER where none is before the stop."""
        follows_ns = self._due[0][0] if self._due else NEVER
        begins_ns = self._fixed_ns[self._next] if self._next < len(self._fixed) else NEVER
        due_ns = min(follows_ns, begins_ns)
        return due_ns if due_ns < self._stop_ns else NEVER

    def _arm(self) -> None:
        due_ns = self._next_ns()
        self._sender.transport.next_send_ns = due_ns
        self.pacer.arm(NEVER if due_ns == NEVER else due_ns + self._epoch_ns)
