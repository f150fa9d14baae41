"""What a token's read and a request's steps cost the generator in CPU, by each receiver; no event loop, no other process.

    .venv/bin/python benchmarks/receive.py [--streams 48] [--rounds 300]

A token: the server's end writes one event to each of many connections, then the client's end looks once at all.
A request: send, head, first token, end; warm, as one after the other finds its code in the caches, and cold, with the
caches emptied before each step: a run at 100 requests/s lies between the two.
Only the client's CPU is counted (CLOCK_THREAD_CPUTIME_ID), as medians. Each call adds a line to
benchmarks/history/receive.jsonl.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import history
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from slobench.clock import MonotonicClock
from slobench.generate import native
from slobench.generate.exchange import ReadCounters
from slobench.generate.native import Choice, make_reader
from slobench.generate.plain import READABLE
from slobench.generate.sender import Sender
from slobench.generate.transport_fast import FastTransport
from slobench.records.counters import Counters
from slobench.records.spool import SpoolWriter
from slobench.wire.endpoint import Endpoint
from tests.conformance.dialect import Dialect, chunk
from tests.generate import rig
from tests.generate.plain_rig import Line, usual

SPEAKS = Dialect("completions")
TOKENS = 4
STEPS = ("send", "head", "first", "plain", "end")
LARGER_THAN_CACHES = 3_000_000  # of 8 bytes


def token_us(kind: Choice, streams: int, rounds: int) -> float:
    """CPU µs of one read of one event, with what is recorded of it."""
    lines = [Line("none", index=index) for index in range(streams)]
    event = chunk(SPEAKS.text(" tok"))
    taken: list[float] = []
    with select.epoll() as epoll:
        reader = make_reader(kind, epoll, lines[0].clock, lines[0].counters)
        for each in lines:
            for piece in usual(SPEAKS, 3)[:2]:
                each.server.sendall(piece)
                each.step()
            shape = each.reply.plain_shape
            assert shape is not None
            epoll.register(each.connection.fd, READABLE)
            reader.begin(each.connection.sock, 0, shape, True, lines[0].chunks)
        for _ in range(rounds):
            for each in lines:
                each.server.sendall(event)
            start = time.thread_time_ns()
            handed = reader.poll(streams)
            taken.append((time.thread_time_ns() - start) / streams / 1e3)
            assert not handed
            assert reader.ready == streams
            lines[0].chunks.take()
    for each in lines:
        each.close()
    return statistics.median(taken)


async def request_us(kind: Choice, rounds: int, *, cold: bool) -> dict[str, float]:
    """CPU µs of each step of a request."""
    filler = np.zeros(LARGER_THAN_CACHES, dtype=np.int64)
    found: dict[str, list[float]] = {step: [] for step in STEPS}

    def timed(step: str, work: Callable[[], object]) -> None:
        if cold:
            np.add(filler, 1, out=filler)
        start = time.thread_time_ns()
        work()
        found[step].append((time.thread_time_ns() - start) / 1e3)

    with tempfile.TemporaryDirectory(prefix="receive-") as text, socket.create_server(("127.0.0.1", 0)) as listener:
        folder = Path(text)
        endpoint = Endpoint(url=f"http://127.0.0.1:{listener.getsockname()[1]}", model="tiny", receiver=kind)
        job = rig.job_of(folder, endpoint=endpoint)
        Counters.create(Path(job.counters), 1).close()
        spool, clock = SpoolWriter(Path(job.spool), 0), MonotonicClock()
        plan = rig.plan_of(range(rounds), input_tokens=64, output_tokens=TOKENS)
        sender = Sender(plan, job, clock, spool, Counters.attach(Path(job.counters), 0))
        sender.transport = transport = FastTransport((endpoint,), clock, sender.ended, "bench", ReadCounters())
        await transport.open()
        sender.bodies.work_ahead()
        await asyncio.sleep(0.3)
        head, first, *plain, end = usual(SPEAKS, TOKENS)
        server: socket.socket | None = None
        for row in range(rounds):
            timed("send", lambda row=row: sender.send(row, clock.now_ns()))  # type: ignore[misc]
            if server is None:
                server, _ = listener.accept()
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.sleep(0.01)
            server.recv(1 << 16)
            pieces = [("head", head), ("first", first), *(("plain", each) for each in plain), ("end", end)]
            for step, piece in pieces:
                server.sendall(piece)
                timed(step, transport._serve)  # noqa: SLF001 (what the event loop calls)
            assert not sender.in_flight
        await transport.close()
        spool.close()
    return {step: statistics.median(values) for step, values in found.items()}


def main() -> None:
    """Print a line for each receiver, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    kinds: list[Choice] = ["python", *(["native"] if native.find()[0] else [])]  # type: ignore[list-item]
    figures: dict[str, object] = {}
    for kind in kinds:
        values = {"token_us": token_us(kind, args.streams, args.rounds)}
        for name, cold in (("warm", False), ("cold", True)):
            steps = asyncio.run(request_us(kind, args.rounds, cold=cold))
            values |= {f"{name}_{step}_us": us for step, us in steps.items()}
            values[f"{name}_request_us"] = sum(us for step, us in steps.items() if step != "plain")
        figures[kind] = {name: round(us, 2) for name, us in values.items()}
        print(kind, json.dumps(figures[kind]), flush=True)
    history.append("receive", figures)


if __name__ == "__main__":
    main()
