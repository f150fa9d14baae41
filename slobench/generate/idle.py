"""Connections that wait for their next request: of everybody, or each of its own session."""

from __future__ import annotations

from slobench.generate.connection import Connection


class Idle:
    """Open connections without an exchange."""

    def __init__(self, *, by_session: bool) -> None:
        """by_session: a session is only given connections that were its own."""
        self._by_session = by_session
        self._of: dict[int | None, list[Connection]] = {}

    def take(self, session: int) -> Connection | None:
        """The connection that was used last, None where there is none."""
        waiting = self._of.get(session if self._by_session else None)
        return waiting.pop() if waiting else None

    def put(self, connection: Connection) -> None:
        """Keep a connection whose exchange has ended."""
        self._of.setdefault(connection.session if self._by_session else None, []).append(connection)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was closed, whether it is here or not."""
        waiting = self._of.get(connection.session if self._by_session else None, [])
        if connection in waiting:
            waiting.remove(connection)

    def end_session(self, session: int) -> list[Connection]:
        """Forget the connections of a session, and return them."""
        return self._of.pop(session, [])
