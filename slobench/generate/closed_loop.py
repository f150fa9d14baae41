"""Closed loop: N users, each sending its next request when its last reply ended and it has thought.

Where users go through sessions, a request that follows others of its session has a time to think of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from slobench.clock import Clock
from slobench.generate.exchange import Exchange
from slobench.generate.sender import SENDS_PER_PASS, Sender
from slobench.names import Outcome
from slobench.pacer import NEVER, Pacer


class ClosedLoop:
    """Walks each user through its rows; scheduled = end of the user's last reply + think time.

    After a failure a user begins its next session at once: what would have followed is not sent, unless its class
    goes on.
    """

    def __init__(
        self, sender: Sender, clock: Clock, epoch_ns: int, think_ns: int, *, goes_on: Collection[str] = ()
    ) -> None:
        self._sender = sender
        self._now_ns = clock.now_ns
        self._epoch_ns = epoch_ns
        self._think_ns = think_ns
        self._stop_ns = NEVER
        plan = sender.plan
        self._follows = None if plan.after is None else (plan.after != 0).tolist()
        self._delay_ns = None if plan.delay_ns is None else plan.delay_ns.tolist()
        self._goes_on = {code for code, name in enumerate(plan.class_names) if name in goes_on}
        self._rows: dict[int, list[int]] = {}
        for row, session in enumerate(sender.plan.session.tolist()):
            self._rows.setdefault(session, []).append(row)
        for rows in self._rows.values():
            rows.reverse()  # the next turn is popped from the end
        self._due: list[tuple[int, int]] = []  # (scheduled_ns, user)
        self.pacer: Pacer

    @property
    def finished(self) -> bool:
        """Whether no user has anything left to send on its own."""
        return not self._due and not self._sender.in_flight

    def start(self) -> None:
        """All users begin at time 0."""
        self._due = [(0, user) for user in self._rows]
        heapq.heapify(self._due)
        self._arm()

    def stop(self, at_ns: int) -> None:
        """Offer nothing that is scheduled at or after `at_ns`."""
        self._stop_ns = min(self._stop_ns, at_ns)
        self._due = [(due_ns, user) for due_ns, user in self._due if due_ns < self._stop_ns]
        heapq.heapify(self._due)
        self._arm()

    def on_due(self) -> None:
        """Send for the users whose time has come; what is left follows after the sockets were served."""
        now_ns = self._now_ns()
        for _ in range(SENDS_PER_PASS):
            if not self._due or self._due[0][0] > now_ns:
                break
            due_ns, user = heapq.heappop(self._due)
            self._sender.send(self._rows[user].pop(), due_ns)
        self._arm()

    def after_end(self, exchange: Exchange) -> None:
        """The user's reply ended: think, then go on."""
        rows = self._rows[exchange.session]
        if exchange.outcome is not Outcome.OK and exchange.class_code not in self._goes_on:
            while rows and self._follows is not None and self._follows[rows[-1]]:
                self._sender.bodies.give_up(rows.pop())
        if not rows:
            return
        scheduled_ns = exchange.end_ns + self._thinks_ns(rows[-1])
        if scheduled_ns >= self._stop_ns:
            return
        if scheduled_ns <= self._now_ns():
            self._sender.send(rows.pop(), scheduled_ns)
        else:
            heapq.heappush(self._due, (scheduled_ns, exchange.session))
            if self._follows is not None:
                self._sender.bodies.want(rows[-1])
            self._arm()

    def _thinks_ns(self, row: int) -> int:
        """How long a user thinks before this row."""
        if self._follows is None or self._delay_ns is None or not self._follows[row]:
            return self._think_ns
        return int(self._delay_ns[row])

    def _arm(self) -> None:
        due_ns = self._due[0][0] if self._due else NEVER
        self._sender.transport.next_send_ns = due_ns
        self.pacer.arm(NEVER if due_ns == NEVER else due_ns + self._epoch_ns)
