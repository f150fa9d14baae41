"""One request on its way, and the two-sided contract between the loops and a transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from slobench.names import Outcome
from slobench.records.schema import NULL
from slobench.wire.reply import Reply


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and what was seen of its reply. Times: ns on the run's clock, NULL = never seen.

    The loop fills the first block; the transport fills the rest and calls `on_end` exactly once.
    """

    index: int
    session: int
    scheduled_ns: int
    started_ns: int
    body: bytes
    reply: Reply
    class_code: int = 0  # which of the job's endpoints it goes to

    give_up_ns: int = NULL  # when its user disconnects; NULL: never
    until_first_token: bool = False  # but not once there is a token

    connected_ns: int = NULL
    sent_ns: int = NULL
    headers_ns: int = NULL
    end_ns: int = NULL
    connection_new: bool | None = None
    reconnects: int = 0
    reads: int = 0
    receive_lag_max_ns: int = NULL
    outcome: Outcome | None = None
    error: str = ""


class Transport(Protocol):
    """Sends exchanges and reports each one's end; never blocks, never waits for a free slot.

    next_send_ns: when the loop will send next, on the run's clock; work that can wait is put off around it.
    send_due: sends what is due by then; for transports to call between two pieces of their work.
    """

    next_send_ns: int
    send_due: Callable[[], None]

    async def open(self) -> None:
        """Resolve the name, load TLS settings. Raises UsageError where that cannot be done."""
        ...

    def start(self, exchange: Exchange) -> None:
        """Begin to send. `on_end(exchange)` is called later, from the event loop."""
        ...

    def abort(self, exchange: Exchange, outcome: Outcome) -> None:
        """End it now with this outcome and close its connection; no effect once it has ended."""
        ...

    def end_session(self, session: int) -> None:
        """Close the idle connections of a session, of which nothing more comes."""
        ...

    async def close(self) -> None:
        """Close every connection; exchanges still open end as `cut`."""
        ...


OnEnd = Callable[[Exchange], None]


@dataclass(slots=True)
class ReadCounters:
    """What the read path saw over the run, for the validity checks."""

    reads: int = 0
    unstamped: int = 0
    clock_steps: int = 0
    stamps: str = "user"  # kernel | user
    receiver: str | None = None  # native | python; None: the transport has no such choice
