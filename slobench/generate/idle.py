"""Connections that wait for their next request: of everybody, or each of its own session."""

from __future__ import annotations

from slobench.generate.connection import Connection


class Idle:
    """Open connections without an exchange."""

    def __init__(self, *, by_session: bool) -> None:
        """by_session: a session is only given connections that were its own."""
        self._by_session = by_session
        # Ordered sets: when a server closes thousands that wait, each is found at once.
        self._of: dict[int | None, dict[Connection, None]] = {}

    def take(self, session: int) -> Connection | None:
        """The connection that was used last, None where there is none."""
        waiting = self._of.get(session if self._by_session else None)
        return waiting.popitem()[0] if waiting else None

    def put(self, connection: Connection) -> None:
        """Keep a connection whose exchange has ended."""
        self._of.setdefault(connection.session if self._by_session else None, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was closed, whether it is here or not."""
        self._of.get(connection.session if self._by_session else None, {}).pop(connection, None)

    def end_session(self, session: int) -> list[Connection]:
        """Forget the connections of a session, and return them."""
        return list(self._of.pop(session, ()))
