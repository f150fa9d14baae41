"""Reads that carry the time the kernel received them (design: Stamp, then parse)."""

from __future__ import annotations

import socket
import struct
import sys
import time

from slobench.clock import Clock
from slobench.generate.exchange import ReadCounters

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python's socket module has no name for it
_TIMESPEC = struct.Struct("@qq")
stamp_of = _TIMESPEC.unpack
"""Seconds and nanoseconds of a stamp."""
ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0
BELIEVABLE_LAG_NS = 5 * 10**9  # a larger or negative lag is a step of the wall clock
_READ_BYTES = 256 * 1024

Ancillary = list[tuple[int, int, bytes]]


class Receiver:
    """Reads sockets into one buffer and dates each read.

    The kernel's stamp is wall time, so it is carried over to the run's clock by the lag
    between stamp and user time, both taken now: a step of the wall clock in between two
    reads changes nothing.
    """

    __slots__ = ("_counters", "buffer", "into", "kernel", "now_ns")

    def __init__(self, clock: Clock, counters: ReadCounters) -> None:
        self.now_ns = clock.now_ns
        self._counters = counters
        self.buffer = bytearray(_READ_BYTES)
        self.into = [memoryview(self.buffer)]
        self.kernel = sys.platform == "linux"
        counters.stamps = "kernel" if self.kernel else "user"

    def prepare(self, sock: socket.socket) -> None:
        """Ask the kernel to stamp what this socket receives."""
        if self.kernel:
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def read(self, sock: socket.socket) -> tuple[bytes, int, int]:
        """Read once: the bytes (b"" at EOF), when they were received, and our lag behind that, in ns.

        Raises BlockingIOError where there is nothing, OSError where the connection failed.
        """
        ancillary: Ancillary = []
        if self.kernel:
            count, ancillary, _, _ = sock.recvmsg_into(self.into, ANCILLARY_BYTES)
        else:
            count = sock.recv_into(self.into[0])
        # Both clocks at once: were this process stopped between the two, the read would be dated as much too early.
        t_ns, lag_ns = self.date(count, ancillary, self.now_ns(), time.time_ns())
        return bytes(self.into[0][:count]), t_ns, lag_ns

    def date(self, count: int, ancillary: Ancillary, now_ns: int, wall_ns: int) -> tuple[int, int]:
        """When a read that ended now was received, and our lag behind that."""
        counters = self._counters
        counters.reads += 1
        if ancillary:
            seconds, nanoseconds = stamp_of(ancillary[0][2])
            lag_ns = wall_ns - (seconds * 1_000_000_000 + nanoseconds)
            if 0 <= lag_ns <= BELIEVABLE_LAG_NS:
                return now_ns - lag_ns, lag_ns
            counters.clock_steps += 1
        elif count and self.kernel:
            counters.unstamped += 1  # the read at EOF never has a stamp
        return now_ns, 0
