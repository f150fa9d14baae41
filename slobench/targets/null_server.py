"""The null server as a process: `python -m slobench.targets.null_server`.

It computes nothing: replies are bytes made beforehand, sent at fixed times, so that what a client reports can be held
against when each token truly left. Reads one JSON line on stdin, {"host": "127.0.0.1", "port": 0, "model": "null",
"first_ns": N, "gap_ns": N, "step_ns": N, "log": PATH or null}; prints {"port": N} when it listens; ends when stdin
closes or on SIGTERM. `log`: a CSV file with one line a request, id,recv_ns,first_ns,last_ns,tokens,status
(done|closed): when the kernel had its last byte, and when its first and last token were about to be given to the
kernel, on CLOCK_MONOTONIC.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import orjson
import uvloop

from slobench import open_files
from slobench.pacer import make_pacer
from slobench.targets.null_wire import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    STREAM_HEAD,
    Asked,
    UnreadableError,
    Words,
    asked_of,
    reply,
    request_of,
)

_BACKLOG = 4096
_READ_BYTES = 1 << 18
_MAX_UNSENT_BYTES = 16 << 20  # a client that does not read is dropped here
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_STAMP = struct.Struct("=qq")
_MAX_STAMP_LAG_NS = 5 * 10**9  # beyond it the wall clock was set meanwhile


@dataclass(frozen=True, slots=True)
class Order:
    """What to serve, and when tokens leave. Times in ns.

    first: from a request to its first token at the earliest; gap: between the tokens of a reply; all tokens that are
    due leave together at the multiples of `step`, as those of a batch do. gap is a multiple of step.
    """

    first_ns: int
    gap_ns: int
    step_ns: int
    host: str = "127.0.0.1"
    port: int = 0
    model: str = "null"
    log: str | None = None


class Client:
    """One connection and the reply in progress on it. Times: ns on CLOCK_MONOTONIC, 0 = not yet."""

    __slots__ = ("asked", "first_ns", "inbox", "label", "left", "recv_ns", "send", "sock", "unsent", "words")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send = sock.send
        self.inbox = bytearray()
        self.unsent = b""
        self.left = 0  # tokens still to be sent; 0: no reply in progress
        self.recv_ns = self.first_ns = 0
        self.label = ""
        self.asked: Asked
        self.words: Words


class NullServer:
    """Accepts, reads requests, and sends what is due at each step."""

    def __init__(self, order: Order, loop: asyncio.AbstractEventLoop, log: TextIO | None) -> None:
        self._order = order
        self._loop = loop
        self._log = log
        self._timer = make_pacer(loop, self._step)
        self._words = {chat: Words(order.model, chat=chat) for chat in (False, True)}
        model = {"id": order.model, "object": "model", "created": 1_700_000_000, "owned_by": "slobench"}
        self._models = reply("200 OK", orjson.dumps({"object": "list", "data": [model]}))
        self._start_ns = time.monotonic_ns()
        self._at = 0  # the last step that was done
        self._wheel: dict[int, list[Client]] = {}  # by step: the replies of which a token is due then
        self._every = order.gap_ns // order.step_ns
        self._running = 0
        self._arrivals = 0
        self._listener = socket.create_server((order.host, order.port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        loop.add_reader(self._listener.fileno(), self._accept)
        if log:
            log.write("id,recv_ns,first_ns,last_ns,tokens,status\n")

    # --- connections

    def _accept(self) -> None:
        for _ in range(64):  # then others are served
            try:
                sock, _ = self._listener.accept()
            except OSError:  # none left, or one that gave up
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._loop.add_reader(sock.fileno(), self._read, Client(sock))

    def _read(self, client: Client) -> None:
        try:
            data, ancillary, _, _ = client.sock.recvmsg(_READ_BYTES, 64)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._lose(client)
            return
        client.inbox += data
        if len(client.inbox) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            self._lose(client)
        elif not client.left:
            self._take(client, _received_ns(ancillary))

    def _lose(self, client: Client) -> None:
        """Forget a connection, and the reply in progress on it."""
        if client.sock.fileno() < 0:
            return
        self._loop.remove_reader(client.sock.fileno())
        self._loop.remove_writer(client.sock.fileno())
        client.sock.close()
        if client.left:
            self._note(client, time.monotonic_ns(), "closed")
            self._running -= 1
            client.left = 0  # what stands in the wheel is passed over

    def _say(self, client: Client, data: bytes) -> None:
        """Send, and keep what the kernel does not take."""
        if client.unsent:
            client.unsent += data
            if len(client.unsent) > _MAX_UNSENT_BYTES:
                self._lose(client)
            return
        try:
            sent = client.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose(client)
            return
        if sent < len(data):
            client.unsent = data[sent:]
            self._loop.add_writer(client.sock.fileno(), self._say_rest, client)

    def _say_rest(self, client: Client) -> None:
        data, client.unsent = client.unsent, b""
        self._loop.remove_writer(client.sock.fileno())
        self._say(client, data)

    # --- requests

    def _take(self, client: Client, recv_ns: int) -> None:
        """Answer a request once it is complete; one at a time, as clients without pipelining ask."""
        try:
            request = request_of(client.inbox)
        except UnreadableError as error:
            self._say(client, reply("400 Bad Request", orjson.dumps({"error": str(error)})))
            self._lose(client)
            return
        if request is None:
            return
        head, body = request
        path = head.split(b" ", 2)[1]
        if path.endswith(b"/completions") and head.startswith(b"POST "):
            self._begin(client, asked_of(head, body), recv_ns)
        elif path.endswith(b"/models"):
            self._say(client, self._models)
        elif path == b"/health":
            self._say(client, reply("200 OK", b"{}"))
        else:
            self._say(client, reply("404 Not Found", b'{"error":"no such path"}'))

    def _begin(self, client: Client, asked: Asked, recv_ns: int) -> None:
        self._arrivals += 1
        order = self._order
        client.asked, client.words = asked, self._words[asked.chat]
        client.label = asked.label or str(self._arrivals)
        client.recv_ns, client.first_ns = recv_ns, 0
        if not self._running:
            self._at = (time.monotonic_ns() - self._start_ns) // order.step_ns
            self._timer.arm(self._start_ns + (self._at + 1) * order.step_ns)
        self._running += 1
        due_ns = recv_ns + order.first_ns - self._start_ns
        client.left = asked.tokens
        if not asked.streamed:
            client.left = 1
            due_ns += (asked.tokens - 1) * order.gap_ns
        self._wheel.setdefault(max(self._at + 1, -(-due_ns // order.step_ns)), []).append(client)

    # --- tokens

    def _step(self) -> None:
        """Send a token of each reply that is due; steps that were missed are made up in this one."""
        step_ns = self._order.step_ns
        at = (time.monotonic_ns() - self._start_ns) // step_ns
        due = [client for step in range(self._at + 1, at + 1) for client in self._wheel.pop(step, ())]
        self._at = at
        later = self._wheel.setdefault(at + self._every, [])
        now_ns = time.monotonic_ns
        for client in due:
            left = client.left
            if not left:  # lost meanwhile
                continue
            if left == 1:
                self._end(client)
                continue
            data = client.words.event
            if not client.first_ns:
                client.first_ns = now_ns()
                data = STREAM_HEAD + data
            client.left = left - 1
            later.append(client)
            self._say(client, data)
        if self._running:
            self._timer.arm(self._start_ns + (at + 1) * step_ns)
        else:
            self._wheel.clear()
            if self._log:
                self._log.flush()

    def _end(self, client: Client) -> None:
        last_ns = time.monotonic_ns()
        words, asked = client.words, client.asked
        if not asked.streamed:
            data = reply("200 OK", words.whole(asked.prompt_tokens, asked.tokens))
        else:
            data = words.last + words.end(asked.prompt_tokens, asked.tokens, usage=asked.usage)
            if not client.first_ns:
                data = STREAM_HEAD + data
        client.first_ns = client.first_ns or last_ns
        client.left = 0
        self._running -= 1
        self._say(client, data)
        self._note(client, last_ns, "done")
        if client.inbox:  # it asked again before it had its answer
            self._take(client, last_ns)

    def _note(self, client: Client, last_ns: int, status: str) -> None:
        if self._log:
            sent = client.asked.tokens - client.left
            self._log.write(f"{client.label},{client.recv_ns},{client.first_ns},{last_ns},{sent},{status}\n")


def _received_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """When the kernel received what was just read; now, where it does not say or the wall clock was set."""
    now_ns = time.monotonic_ns()
    for _, kind, data in ancillary:
        if kind == _SO_TIMESTAMPNS and len(data) == _STAMP.size:
            seconds, ns = _STAMP.unpack(data)
            lag_ns: int = time.time_ns() - seconds * 10**9 - ns
            if 0 <= lag_ns <= _MAX_STAMP_LAG_NS:
                return now_ns - lag_ns
    return now_ns


async def _serve(order: Order, log: TextIO | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which may still drain
    server = NullServer(order, loop, log)

    def stdin_readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), stdin_readable)
    sys.stdout.write(f'{{"port": {server.port}}}\n')
    sys.stdout.flush()
    gc.collect()
    gc.disable()  # nothing here makes cycles, and a pause would stand in the truth
    await stop.wait()


def main() -> int:
    """Run the server; return the exit code of the process."""
    open_files.raise_limit()
    open_files.make_room()
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        order = Order(**orjson.loads(pipe.readline()))  # unbuffered: the loop watches the rest
    try:
        with Path(order.log).open("w", encoding="utf-8") if order.log else contextlib.nullcontext() as log:
            uvloop.run(_serve(order, log))
    except OSError as error:
        sys.stderr.write(f"cannot serve on {order.host}:{order.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
