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


class TimerfdPacer:
    """A timerfd watched by the event loop.

    Not loop.call_at: uvloop's millisecond clock fires up to 1.2 ms early, asyncio's up to 1 ms late.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = loop
        self._on_due = on_due
        self._fd = int(self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC))
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_create: {os.strerror(code)}")
        self._setting = (ctypes.c_long * 4)()  # struct itimerspec: interval s, ns; value s, ns
        self.due_ns = NEVER
        loop.add_reader(self._fd, self._fired)

    def arm(self, due_ns: int) -> None:
        """Wake at `due_ns`; a time that has passed wakes at once."""
        self.due_ns = due_ns
        # An all-zero value would disarm, so the earliest time is 1 ns.
        self._setting[2], self._setting[3] = (0, 0) if due_ns >= NEVER else divmod(max(due_ns, 1), 10**9)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._setting, None) < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_settime: {os.strerror(code)}")

    def _fired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # re-armed between the wake-up and this read
        self.due_ns = NEVER
        self._on_due()

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


def make_pacer(loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> Pacer:
    """The best pacer that this host has."""
    return TimerfdPacer(loop, on_due) if sys.platform == "linux" else LoopPacer(loop, on_due)
