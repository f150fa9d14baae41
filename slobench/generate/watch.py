"""When sockets are looked at: as soon as one is ready, or in a busy moment a little later, many at once."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

_LEAST_PAUSE_NS, _MOST_PAUSE_NS = 1_000_000, 4_000_000
_WINDOW_NS = 50_000_000
_BUSY_PER_WINDOW = 100  # ready sockets, 2,000/s: with fewer, hardly any two would be found by one look
_ARMED = select.EPOLLIN | select.EPOLLONESHOT


class Watch:
    """An epoll nested in the event loop's, so that one callback serves many ready sockets.

    serve: looks at the sockets; returns how many were ready, and how many events shared a read with a later one.
    patient: nothing waits for what is read (an open loop, reads dated by the kernel), so while much is read, the first
    socket that is ready is kept waiting and found together with others: a wake-up costs more than a read.
    It waits 4 ms. Where that joined two events of one stream in one read, which blurs a time, it waits half as long
    from then on, and 1 ms at least.
    What connects or writes is never kept waiting.
    """

    def __init__(self, serve: Callable[[], tuple[int, int]], now_ns: Callable[[], int], *, patient: bool) -> None:
        self.epoll = select.epoll()
        self._gate = select.epoll()  # armed anew after each look: cheaper than to tell the event loop
        self._gate.register(self.epoll.fileno(), _ARMED)
        self._serve = serve
        self._now_ns = now_ns
        self._patient = patient
        self._loop = asyncio.get_running_loop()
        self._urgent: set[int] = set()  # descriptors that connect or write
        self._pause: asyncio.TimerHandle | None = None
        self._pause_ns = _MOST_PAUSE_NS
        self._goes_on = False  # something was ready again as soon as it had been looked at
        self._last_ns = self._window_ns = now_ns()
        self._window_ready = 0
        self._busy = False
        self._loop.add_reader(self._gate.fileno(), self._on_ready)

    def hurry(self, fd: int) -> None:
        """This socket must not be kept waiting."""
        self._urgent.add(fd)
        if self._pause is not None:
            self._pause.cancel()
            self._arm()

    def calm(self, fd: int) -> None:
        """This socket may be kept waiting, or is gone."""
        self._urgent.discard(fd)

    def flush(self) -> None:
        """Look now at what is kept waiting."""
        if self._pause is not None:
            self._pause.cancel()
            self._look()
            self._arm()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._gate.fileno())
        self._gate.close()
        self.epoll.close()

    def _on_ready(self) -> None:
        self._gate.poll(0, 1)
        if self._busy and not self._urgent:
            self._goes_on = self._now_ns() - self._last_ns < self._pause_ns
            self._wait()
            return
        self._look()
        self._arm()

    def _after_pause(self) -> None:
        if self._look() and self._goes_on and self._busy and not self._urgent:
            self._wait()
        else:
            self._arm()

    def _wait(self) -> None:
        self._pause = self._loop.call_later(self._pause_ns / 1e9, self._after_pause)

    def _look(self) -> int:
        ready, joined = self._serve()
        if self._patient:
            if joined:
                self._pause_ns = max(self._pause_ns // 2, _LEAST_PAUSE_NS)
            now_ns = self._last_ns = self._now_ns()
            self._window_ready += ready
            if now_ns - self._window_ns > _WINDOW_NS:
                self._busy = self._window_ready * _WINDOW_NS > _BUSY_PER_WINDOW * (now_ns - self._window_ns)
                self._window_ns, self._window_ready = now_ns, 0
        return ready

    def _arm(self) -> None:
        self._pause = None
        self._gate.modify(self.epoll.fileno(), _ARMED)
