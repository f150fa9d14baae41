"""The engine in virtual time: arrivals in, times of first and last tokens out."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slobench.config.engine import Engine
from slobench.engine.model import EngineCore, Request

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered, one entry a request, in the order of arrival; times in ns."""

    arrival_ns: IntArray
    input_tokens: IntArray
    output_tokens: IntArray
    priority: IntArray | None = None
    block_hashes: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """When the first and the last token of each request came, in ns on the arrivals' clock."""

    first_token_ns: IntArray
    last_token_ns: IntArray
    steps: int
    preemptions: int


def serve(spec: Engine, offer: Offer, seed: int | None = None) -> Served:
    """Serve every request of `offer` and return when its tokens came.

    `seed` replaces the engine's own for the noise of its steps. ValueError where a request can never run, or where
    arrivals are out of order.
    """
    n = len(offer.arrival_ns)
    if n and bool(np.any(np.diff(offer.arrival_ns) < 0)):
        raise ValueError("arrivals must be in the order of time")
    core = EngineCore(spec, seed)
    arrivals = offer.arrival_ns.tolist()
    requests = iter(_requests(offer))
    first, last = [-1] * n, [-1] * n
    now = arrived = 0
    while True:
        step = core.step(now)
        if step is None:
            if arrived == n:
                break
            now = arrivals[arrived]
        else:
            now += step.duration_ns
            for request in step.prefilled:
                if first[request.index] < 0:
                    first[request.index] = now
            for request in step.finished:
                last[request.index] = now
        while arrived < n and arrivals[arrived] <= now:
            core.add(next(requests))
            arrived += 1
    return Served(np.array(first, np.int64), np.array(last, np.int64), core.steps, core.preemptions)


def queue_waits_ns(arrival_ns: IntArray, service_ns: IntArray, servers: int) -> IntArray:
    """Wait of each request in a queue of `servers` equal servers, first come first served: the textbook's engine."""
    free = [0] * servers
    waits = np.empty(len(arrival_ns), np.int64)
    for i, (arrival, service) in enumerate(zip(arrival_ns.tolist(), service_ns.tolist(), strict=True)):
        start = max(arrival, free[0])
        heapq.heapreplace(free, start + service)
        waits[i] = start - arrival
    return waits


def _requests(offer: Offer) -> Iterator[Request]:
    columns = zip(offer.input_tokens.tolist(), offer.output_tokens.tolist(), strict=True)
    priorities = None if offer.priority is None else offer.priority.tolist()
    for i, (prompt, output) in enumerate(columns):
        hashes = () if offer.block_hashes is None else offer.block_hashes[i]
        yield Request(i, prompt, output, 0 if priorities is None else priorities[i], hashes)
