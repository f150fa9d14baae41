"""Wakes the loop at absolute times on CLOCK_MONOTONIC, never early."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC if hasattr(os, "O_CLOEXEC") else 0
NEVER = 2**63 - 1


class Pacer(Protocol):
    """Calls `on_due()` once each time the armed time has come."""

    due_ns: int

    def arm(self, due_ns: int) -> None:
        """Wake at `due_ns` on CLOCK_MONOTONIC; replaces an earlier time. NEVER disarms."""
        ...

    def close(self) -> None:
        """Stop waking."""
        ...


SetTimer = Callable[[int, int], None]
"""(descriptor of a timerfd, time on CLOCK_MONOTONIC in ns, 0 = never): let it come then. Raises OSError."""


def _set_timer_of(libc: ctypes.CDLL) -> SetTimer:
    setting = (ctypes.c_long * 4)()  # struct itimerspec: interval s, ns; value s, ns

    def set_timer(fd: int, due_ns: int) -> None:
        setting[2], setting[3] = divmod(due_ns, 10**9)
        if libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME, setting, None) < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_settime: {os.strerror(code)}")

    return set_timer


class TimerfdPacer:
    """A timerfd watched by the event loop.

    Not loop.call_at: uvloop's millisecond clock fires up to 1.2 ms early, asyncio's up to 1 ms late.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None], set_timer: SetTimer | None = None
    ) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._set_timer = set_timer or _set_timer_of(libc)
        self._loop = loop
        self._on_due = on_due
        self._fd = int(libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC))
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_create: {os.strerror(code)}")
        self.due_ns = NEVER
        loop.add_reader(self._fd, self._fired)

    def arm(self, due_ns: int) -> None:
        """Wake at `due_ns`; a time that has passed wakes at once."""
        self.due_ns = due_ns
        # 0 would disarm, so the earliest time is 1 ns.
        self._set_timer(self._fd, 0 if due_ns >= NEVER else max(due_ns, 1))

    def _fired(self) -> None:
        if time.monotonic_ns() < self.due_ns:
            return  # re-armed between the wake-up and now
        self.due_ns = NEVER
        self._on_due()
        if self.due_ns == NEVER and self._fd >= 0:  # else arming made the timer unreadable again
            self._set_timer(self._fd, 0)

    def close(self) -> None:
        """Stop waking."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class LoopPacer:
    """The event loop's own timer, checked so that it is never early (hosts without timerfd)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._handle: asyncio.TimerHandle | None = None
        self.due_ns = NEVER

    def arm(self, due_ns: int) -> None:
        """Wake at `due_ns`; a time that has passed wakes at once."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.due_ns = due_ns
        if due_ns < NEVER:
            self._handle = self._loop.call_later(max(0.0, (due_ns - time.monotonic_ns()) / 1e9), self._fired)

    def _fired(self) -> None:
        if time.monotonic_ns() < self.due_ns:
            self.arm(self.due_ns)
            return
        self.due_ns = NEVER
        self._on_due()

    def close(self) -> None:
        """Stop waking."""
        self.arm(NEVER)


def make_pacer(loop: asyncio.AbstractEventLoop, on_due: Callable[[], None], set_timer: SetTimer | None = None) -> Pacer:
    """The best pacer that this host has; `set_timer`: what sets a timerfd, None = the C library through ctypes."""
    return TimerfdPacer(loop, on_due, set_timer) if sys.platform == "linux" else LoopPacer(loop, on_due)
