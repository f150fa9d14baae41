"""When sockets are looked at: as soon as one is ready, or once a millisecond while they are busy."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from slobench.names import NULL

_PAUSE_NS = 1_000_000


class Watch:
    """An epoll nested in the event loop's, so that one callback serves many ready sockets.

    serve: looks at the sockets, and returns how many were ready.
    patient: nothing waits for what is read (an open loop, reads dated by the kernel), so while reads come less than
    1 ms apart they are fetched once each millisecond: a wake-up costs more than a read. What connects or writes
    is never kept waiting.
    """

    def __init__(self, serve: Callable[[], int], now_ns: Callable[[], int], *, patient: bool) -> None:
        self.epoll = select.epoll()
        self._serve = serve
        self._now_ns = now_ns
        self._patient = patient
        self._loop = asyncio.get_running_loop()
        self._urgent: set[int] = set()  # descriptors that connect or write
        self._last_ns = NULL
        self._pause: asyncio.TimerHandle | None = None  # while the event loop does not watch
        self._loop.add_reader(self.epoll.fileno(), self._on_ready)

    def hurry(self, fd: int) -> None:
        """This socket must not be kept waiting."""
        self._urgent.add(fd)
        self._resume()

    def calm(self, fd: int) -> None:
        """This socket may be kept waiting, or is gone."""
        self._urgent.discard(fd)

    def close(self) -> None:
        """Watch nothing any more."""
        self._resume()
        self._loop.remove_reader(self.epoll.fileno())
        self.epoll.close()

    def _on_ready(self) -> None:
        self._serve()
        if self._patient and not self._urgent:
            now_ns = self._now_ns()
            if now_ns - self._last_ns < _PAUSE_NS:
                self._loop.remove_reader(self.epoll.fileno())
                self._pause = self._loop.call_later(_PAUSE_NS / 1e9, self._after_pause)
            self._last_ns = now_ns

    def _after_pause(self) -> None:
        ready = self._serve()
        if self._pause is None:
            return  # something became urgent meanwhile
        if ready:
            self._pause = self._loop.call_later(_PAUSE_NS / 1e9, self._after_pause)
        else:
            self._resume()

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._loop.add_reader(self.epoll.fileno(), self._on_ready)
