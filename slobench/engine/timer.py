"""One absolute wake-up time on CLOCK_MONOTONIC, never early."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1


class StepTimer:
    """Calls `on_due` once, when the armed time has come.

    On Linux a timerfd watched by the loop: the loops' own timers are up to a millisecond off either way, which is
    more than the steps of a fast engine may be. Elsewhere the loop's timer, asked again where it fired early.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._due_ns = 0
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = int(self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
            if self._fd < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._setting = (ctypes.c_long * 4)()  # interval s, ns; value s, ns
            loop.add_reader(self._fd, self._read)

    def arm(self, due_ns: int) -> None:
        """Wake at `due_ns`; at once where that has passed."""
        self._due_ns = due_ns
        if self._fd < 0:
            self._loop.call_later(max(0.0, (due_ns - time.monotonic_ns()) / 1e9), self._check)
            return
        self._setting[2], self._setting[3] = divmod(max(1, due_ns), 10**9)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._setting, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Stop waking."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # armed anew between the wake-up and this read
        self._on_due()

    def _check(self) -> None:
        if time.monotonic_ns() < self._due_ns:
            self.arm(self._due_ns)
        else:
            self._on_due()
