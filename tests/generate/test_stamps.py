"""Receive stamps: the kernel's where it gives one that can be believed, else the user's, and counted."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from slobench.clock import MonotonicClock
from slobench.generate import stamps
from slobench.generate.exchange import ReadCounters
from slobench.generate.stamps import Receiver

S, MS = 10**9, 10**6
linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel receive stamps are Linux's")


@contextmanager
def connected(receiver: Receiver) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection over loopback: (the server's end, our end with stamps asked for)."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
        receiver.prepare(ours)
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()
        with theirs:
            yield theirs, ours


class Told:
    """A socket that gives bytes with the wall-clock stamp that it is told to, or with none."""

    def __init__(self, stamp_ns: int | None, data: bytes = b"data") -> None:
        self._stamp_ns, self._data = stamp_ns, data

    def recvmsg_into(self, buffers: list[memoryview], _size: int) -> tuple[int, list[object], int, None]:
        buffers[0][: len(self._data)] = self._data
        stamp = [] if self._stamp_ns is None else [(1, 35, struct.pack("@qq", *divmod(self._stamp_ns, S)))]
        return len(self._data), stamp, 0, None


def stepped_by(monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    """Step the wall clock as the receiver sees it."""
    monkeypatch.setattr(
        stamps, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + step_ns, monotonic_ns=time.monotonic_ns)
    )


@linux
def test_t12_the_stamp_is_when_it_came_not_when_we_looked() -> None:
    """Bytes that lay 20 ms in the socket are dated before the send returned, and the wait is our lag."""
    counters = ReadCounters()
    receiver = Receiver(MonotonicClock(), counters)
    with connected(receiver) as (theirs, ours):
        for _ in range(100):  # the kernel stamps from a little after the first socket asks for it
            theirs.send(b"token")
            sent_ns = time.monotonic_ns()
            time.sleep(0.02)
            looked_ns = time.monotonic_ns()
            data, t_ns, lag_ns = receiver.read(ours)
            assert data == b"token"
            if t_ns < looked_ns - 10 * MS:  # not merely by what a busy machine puts between two readings of the clock
                break
        # 1 ms: the kernel stamps while send() runs; stamp and user time are of two clocks, read one after the other.
        assert t_ns <= sent_ns + MS
        assert lag_ns >= looked_ns - sent_ns - MS
    assert (counters.stamps, counters.clock_steps) == ("kernel", 0)


@linux
@pytest.mark.parametrize("step_ns", [-S, -3600 * S, 6 * S, 3600 * S], ids=["-1 s", "-1 h", "+6 s", "+1 h"])
def test_t47_a_step_of_the_wall_clock_changes_no_time(monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    """A stamp from before the step is not believable: user time, no lag, and the step is counted."""
    counters = ReadCounters()
    receiver = Receiver(MonotonicClock(), counters)
    with connected(receiver) as (theirs, ours):
        theirs.send(b"token")
        ours.setblocking(True)
        ours.recv(1, socket.MSG_PEEK)  # it is here, with its stamp
        stepped_by(monkeypatch, step_ns)
        before_ns = time.monotonic_ns()
        data, t_ns, lag_ns = receiver.read(ours)
        assert (data, lag_ns, counters.clock_steps) == (b"token", 0, 1)
        assert before_ns <= t_ns <= time.monotonic_ns()


@linux
def test_t47_what_comes_after_a_step_is_dated_by_the_kernel_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamp and user time are read under the same wall clock, so a step between two reads costs nothing."""
    counters = ReadCounters()
    receiver = Receiver(MonotonicClock(), counters)
    for step_ns in (0, -3600 * S, 1800 * S):
        stepped_by(monkeypatch, step_ns)
        stamp_ns = time.time_ns() + step_ns - 7 * MS
        before_ns = time.monotonic_ns()
        _, t_ns, lag_ns = receiver.read(Told(stamp_ns))  # type: ignore[arg-type]
        after_ns = time.monotonic_ns()
        assert lag_ns >= 7 * MS
        assert before_ns - lag_ns <= t_ns <= after_ns - lag_ns
    assert counters.clock_steps == 0


@linux
def test_a_read_without_a_stamp_takes_user_time_and_is_counted() -> None:
    """No stamp: normal, counted apart from steps; the end of the stream has none and is not counted."""
    counters = ReadCounters()
    receiver = Receiver(MonotonicClock(), counters)
    before_ns = time.monotonic_ns()
    _, t_ns, lag_ns = receiver.read(Told(None))  # type: ignore[arg-type]
    assert before_ns <= t_ns <= time.monotonic_ns()
    assert lag_ns == 0
    assert receiver.read(Told(None, b""))[0] == b""  # type: ignore[arg-type]
    assert (counters.reads, counters.unstamped, counters.clock_steps) == (2, 1, 0)


@pytest.mark.parametrize(("lag_ns", "believed"), [(0, True), (4 * S, True), (5 * S + MS, False)])
@linux
def test_the_largest_believable_lag_is_five_seconds(lag_ns: int, *, believed: bool) -> None:
    """On both sides of the bound; 1 s is room for a busy machine between two readings of the clock."""
    counters = ReadCounters()
    receiver = Receiver(MonotonicClock(), counters)
    _, _, seen_ns = receiver.read(Told(time.time_ns() - lag_ns))  # type: ignore[arg-type]
    assert (seen_ns >= lag_ns) is believed or not lag_ns
    assert counters.clock_steps == (not believed)


def test_other_platforms_use_user_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kernel stamps each read is dated when it returns, and run.json can say so."""
    monkeypatch.setattr(stamps.sys, "platform", "darwin")
    counters = ReadCounters()
    receiver = Receiver(MonotonicClock(), counters)
    with connected(receiver) as (theirs, ours):
        theirs.send(b"token")
        before_ns = time.monotonic_ns()
        data, t_ns, lag_ns = receiver.read(ours)
        assert (data, lag_ns, counters.stamps) == (b"token", 0, "user")
        assert before_ns <= t_ns <= time.monotonic_ns()
