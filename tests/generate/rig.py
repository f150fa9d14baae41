"""The sending loops without sockets and without waiting: a virtual clock, a pacer and a transport that are told."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slobench.clock import VirtualClock
from slobench.generate.closed_loop import ClosedLoop
from slobench.generate.exchange import Exchange
from slobench.generate.job import Job
from slobench.generate.open_loop import OpenLoop
from slobench.generate.open_sessions import OpenSessions
from slobench.generate.sender import Sender
from slobench.names import NULL, OUTCOMES, Outcome
from slobench.pacer import NEVER
from slobench.plan import Plan
from slobench.records.counters import Counters
from slobench.records.schema import SPOOL_REQUESTS
from slobench.wire.endpoint import Endpoint

MS, S = 10**6, 10**9
NONCE = "0123456789abcdef"
EPOCH_NS = 7 * S + 3
"""Not 0, so that a mix-up of the run's clock and the pacer's shows."""
NEVER_ENDS = None


def plan_of(
    scheduled_ns: Sequence[int] | None, *, rows: int = 0, users: int = 0, input_tokens: int = 4, output_tokens: int = 2
) -> Plan:
    """An open plan with these times, or a closed one of `rows` dealt to `users`."""
    n = rows if scheduled_ns is None else len(scheduled_ns)
    index = np.arange(n)
    return Plan(
        index=index,
        scheduled_ns=None if scheduled_ns is None else np.asarray(scheduled_ns, dtype=np.int64),
        class_code=np.zeros(n, dtype=np.int32),
        session=index if scheduled_ns is not None else index % users,
        turn=np.zeros(n, dtype=np.int32) if scheduled_ns is not None else (index // users).astype(np.int32),
        prompt=index,
        input_tokens=np.full(n, input_tokens),
        output_tokens=np.full(n, output_tokens),
        priority=np.full(n, NULL),
        class_names=("only",),
    )


def job_of(folder: Path, *, worker: int = 0, workers: int = 1, **changes: Any) -> Job:
    """A job whose files are in `folder`."""
    settings: dict[str, Any] = {
        "worker": worker,
        "workers": workers,
        "plan": str(folder / "spool" / "plan.arrow"),
        "spool": str(folder / "spool"),
        "counters": str(folder / "spool" / "counters.bin"),
        "endpoint": Endpoint(url="http://127.0.0.1:1", model="tiny"),
        "seed": 0,
        "nonce": NONCE,
        "shared_prefix_tokens": {},
        "limits": {},
        "closed": False,
        "think_ns": 0,
        "max_in_flight": 10**6,
    }
    return Job(**(settings | changes))


class FakePacer:
    """Remembers when it was asked to wake; the simulation does the waking."""

    def __init__(self) -> None:
        self.due_ns = NEVER

    def arm(self, due_ns: int) -> None:
        self.due_ns = due_ns

    def close(self) -> None:
        self.due_ns = NEVER


class Rows:
    """A spool stream that keeps its rows."""

    packed = None

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def add(self, *row: Any) -> None:
        self.rows.append(row)


@dataclass
class Spool:
    """A spool in memory."""

    starts: Rows = field(default_factory=Rows)
    chunks: Rows = field(default_factory=Rows)
    requests: Rows = field(default_factory=Rows)


Service = Callable[[Exchange, int], int | None]
"""When the reply to an exchange that arrives at `now_ns` ends; None: never."""


def takes(service_ns: int) -> Service:
    """Every reply takes as long, however many there are."""
    return lambda _, now_ns: now_ns + service_ns


class OneAtATime:
    """A server with one permit: the others wait in line."""

    def __init__(self, service_ns: int) -> None:
        self._service_ns = service_ns
        self._free_ns = 0

    def __call__(self, _exchange: Exchange, now_ns: int) -> int:
        self._free_ns = max(self._free_ns, now_ns) + self._service_ns
        return self._free_ns


class FakeTransport:
    """Ends each exchange when its service says so."""

    def __init__(self, clock: VirtualClock, service: Service) -> None:
        self.next_send_ns = NEVER
        self.send_due: Callable[[], None] = lambda: None
        self.on_end: Callable[[Exchange], None]
        self.open_now: dict[int, Exchange] = {}
        self.most_open = 0
        self.sent: list[Exchange] = []
        self.ended_sessions: list[int] = []
        self.failing: dict[int, Outcome] = {}  # by index; the others end well
        self._clock = clock
        self._service = service
        self._ends: list[tuple[int, int, Exchange]] = []

    def start(self, exchange: Exchange) -> None:
        now_ns = self._clock.now_ns()
        self.sent.append(exchange)
        self.open_now[exchange.index] = exchange
        self.most_open = max(self.most_open, len(self.open_now))
        exchange.connected_ns = exchange.sent_ns = now_ns
        end_ns = self._service(exchange, now_ns)
        if end_ns is not None:
            heapq.heappush(self._ends, (end_ns, len(self.sent), exchange))

    def end_session(self, session: int) -> None:
        self.ended_sessions.append(session)

    def abort(self, exchange: Exchange, outcome: Outcome) -> None:
        if exchange.index in self.open_now:
            self._end(exchange, outcome, self._clock.now_ns())

    @property
    def next_end_ns(self) -> int:
        while self._ends and self._ends[0][2].outcome is not None:
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else NEVER

    def end_next(self) -> None:
        """End the exchange whose time has come; its end is dated by the stamp, not by when we look."""
        end_ns, _, exchange = heapq.heappop(self._ends)
        self._end(exchange, self.failing.get(exchange.index, Outcome.OK), end_ns)

    def _end(self, exchange: Exchange, outcome: Outcome, end_ns: int) -> None:
        del self.open_now[exchange.index]
        exchange.outcome, exchange.end_ns = outcome, end_ns
        reply = exchange.reply
        if outcome is Outcome.OK:
            reply.first_token_ns = reply.first_output_ns = reply.last_token_ns = end_ns
            reply.output_tokens = 2
        self.on_end(exchange)


class Simulation:
    """One worker's loop in virtual time. Times on the run's clock, in ns."""

    def __init__(self, folder: Path, plan: Plan, service: Service, *, late: Callable[[], int] = lambda: 0, **job: Any):
        self.clock = VirtualClock()
        self.spool = Spool()
        self.transport = FakeTransport(self.clock, service)
        self.pacer = FakePacer()
        self.stalls: list[tuple[int, int]] = []
        self._late = late
        Counters.create(folder / "counters.bin", 1).close()
        self.counters = Counters.open(folder / "counters.bin")
        made = job_of(folder, closed=plan.scheduled_ns is None, **job)
        writer = Counters.attach(folder / "counters.bin", 0)
        self.sender = Sender(plan, made, self.clock, self.spool, writer)  # type: ignore[arg-type]  # Spool
        self.sender.transport = self.transport  # type: ignore[assignment]  # no sockets: no open, no close
        self.transport.on_end = self.sender.ended
        self.load: OpenLoop | ClosedLoop | OpenSessions
        if made.closed:
            self.load = ClosedLoop(self.sender, self.clock, EPOCH_NS, made.think_ns, goes_on=made.goes_on)
        elif plan.after is not None:
            self.load = OpenSessions(self.sender, self.clock, EPOCH_NS, goes_on=made.goes_on)
        else:
            self.load = OpenLoop(self.sender, self.clock, EPOCH_NS, grows=made.grows)
        self.sender.after_end = self.load.after_end
        self.load.pacer = self.pacer
        self.load.start()

    def run(self, until_ns: int = NEVER - 1) -> None:
        """Let everything happen that happens until then; a stall swallows the time it lies in."""
        while True:
            wake_ns = self.pacer.due_ns if self.pacer.due_ns == NEVER else self.pacer.due_ns - EPOCH_NS
            end_ns = self.transport.next_end_ns
            next_ns = min(wake_ns, end_ns)
            if next_ns > until_ns:
                break
            woken_ns = max(self.clock.now_ns(), next_ns) + (self._late() if wake_ns <= end_ns else 0)
            woken_ns = next((after for start, after in self.stalls if start <= woken_ns < after), woken_ns)
            self.clock.advance_to(max(woken_ns, self.clock.now_ns()))
            if wake_ns <= end_ns:
                self.pacer.due_ns = NEVER
                self.load.on_due()
            else:
                self.transport.end_next()
        if until_ns < NEVER - 1:
            self.clock.advance_to(max(until_ns, self.clock.now_ns()))

    @property
    def ended(self) -> list[dict[str, Any]]:
        """The end records, in the order in which they were written."""
        return [dict(zip(SPOOL_REQUESTS, row, strict=True)) for (row,) in self.spool.requests.rows]

    def outcomes(self) -> dict[Outcome, list[int]]:
        """Indices by outcome."""
        found: dict[Outcome, list[int]] = {}
        for row in self.ended:
            found.setdefault(OUTCOMES[row["outcome"]], []).append(row["index"])
        return found
