"""The native module, where one was built: what it is, and which reader of plain streams is taken."""

from __future__ import annotations

import importlib
import select
from types import ModuleType
from typing import Literal

from slobench.clock import EpochClock
from slobench.errors import UsageError
from slobench.generate.exchange import ReadCounters
from slobench.generate.plain import PlainReader, PythonPlainReader, Ready, Taken
from slobench.pacer import SetTimer

Choice = Literal["auto", "native", "python"]
_VERSION = 3
"""Of `_receive.c`: a module built from other sources than these is not used."""


def find() -> tuple[ModuleType | None, str]:
    """The native module, or None and why it is not there."""
    try:
        module = importlib.import_module("slobench.generate._receive")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        return None, "it was not built" if missing else f"it cannot be loaded: {error}"
    if module.VERSION != _VERSION:
        return None, f"it was built from other sources (version {module.VERSION}, expected {_VERSION})"
    return module, ""


def kind() -> Literal["native", "python"]:
    """Which reader `auto` takes."""
    return "python" if find()[0] is None else "native"


def find_set_timer(choice: Choice) -> SetTimer | None:
    """What sets a timerfd, of the native module where that is asked for and there; None: pacer.py has its own."""
    module = None if choice == "python" else find()[0]
    found: SetTimer | None = None if module is None else module.set_timer
    return found


def make_reader(choice: Choice, epoll: select.epoll, clock: EpochClock, counters: ReadCounters) -> PlainReader:
    """The reader asked for; `auto`: the native one where it can be had.

    Raises UsageError where `native` cannot be had.
    """
    if choice != "python":
        module, why = find()
        if module is not None:
            native: PlainReader = module.PlainReader(epoll.fileno(), clock, counters, Ready, Taken)
            return native
        if choice == "native":
            raise UsageError(
                f"no native receiver: {why}\n"
                "  expected  a C compiler and Python's headers when slobench was installed (slobench doctor)\n"
                "  or        --set talk.receiver=auto"
            )
    return PythonPlainReader(epoll, clock, counters)
