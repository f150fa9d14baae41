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
_unpack = _TIMESPEC.unpack
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0
_BELIEVABLE_LAG_NS = 5 * 10**9  # a larger or negative lag is a step of the wall clock
_READ_BYTES = 256 * 1024


class Receiver:
    """Reads sockets into one buffer and dates each read.

    The kernel's stamp is wall time, so it is carried over to the run's clock by the lag
    between stamp and user time, both taken now: a step of the wall clock in between two
    reads changes nothing.
    """

    __slots__ = ("_buffers", "_counters", "_view", "buffer", "kernel", "now_ns")

    def __init__(self, clock: Clock, counters: ReadCounters) -> None:
        self.now_ns = clock.now_ns
        self._counters = counters
        self.buffer = bytearray(_READ_BYTES)
        """Where `read_here` puts what it read."""
        self._view = memoryview(self.buffer)
        self._buffers = [self._view]
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
        count, t_ns, lag_ns = self.read_here(sock)
        return bytes(self._view[:count]), t_ns, lag_ns

    def read_here(self, sock: socket.socket) -> tuple[int, int, int]:
        """As `read`, but the bytes are left in `buffer` until the next read; return their number."""
        if not self.kernel:
            return sock.recv_into(self._view), self.now_ns(), 0
        count, ancillary, _, _ = sock.recvmsg_into(self._buffers, _ANCILLARY_BYTES)
        # Both clocks at once: were this process stopped between the two, the read would be dated as much too early.
        now_ns, wall_ns = self.now_ns(), time.time_ns()
        counters = self._counters
        counters.reads += 1
        if ancillary:
            seconds, nanoseconds = _unpack(ancillary[0][2])
            lag_ns = wall_ns - (seconds * 1_000_000_000 + nanoseconds)
            if 0 <= lag_ns <= _BELIEVABLE_LAG_NS:
                return count, now_ns - lag_ns, lag_ns
            counters.clock_steps += 1
        elif count:
            counters.unstamped += 1  # the read at EOF never has a stamp
        return count, now_ns, 0
