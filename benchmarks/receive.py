"""What one read of a token costs in CPU: by the parsers, by the bypass in Python, by the native one.

    .venv/bin/python benchmarks/receive.py [--streams 64] [--rounds 300]

One process, no event loop: the server's end writes one event to each of many connections, then the client's end
looks once at each. Only the client's CPU is counted (CLOCK_THREAD_CPUTIME_ID), as the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from slobench.generate import native
from tests.conformance.dialect import Dialect, chunk, head
from tests.generate.plain_rig import Kind, Line


def cost_us(kind: Kind, streams: int, rounds: int) -> float:
    """CPU µs of one read of one event, with what is recorded of it."""
    speaks = Dialect("completions")
    lines = [Line(kind, index=index) for index in range(streams)]
    event = chunk(speaks.text(" tok"))
    taken: list[int] = []
    for each in lines:
        for piece in (head(), event):
            each.server.sendall(piece)
            each.step()
    for _ in range(rounds):
        for each in lines:
            each.server.sendall(event)
        start = time.thread_time_ns()
        for each in lines:
            each.step()
        taken.append(time.thread_time_ns() - start)
        for each in lines:
            each.chunks.take()
    for each in lines:
        each.close()
    return statistics.median(taken) / streams / 1e3


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    kinds: list[Kind] = ["none", "python", *(["native"] if native.find()[0] else [])]  # type: ignore[list-item]
    for kind in kinds:
        print(
            f"{'parsers' if kind == 'none' else kind}: {cost_us(kind, args.streams, args.rounds):.2f} µs a read",
            flush=True,
        )


if __name__ == "__main__":
    main()
