"""Streams whose truth is known: attainment as a function of load, and the queue of c servers."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from slobench.experiment.criteria import Criterion
from slobench.experiment.drive import Ended, drive
from slobench.experiment.events import Event, Step
from slobench.experiment.search_state import History, Settings
from slobench.experiment.stream import BATCHES, Probe, Probed, futile
from slobench.experiment.virtual_stream import virtual_progress

E2E_S = 1.0


class CurveStream:
    """Attainment is a function of the load; requests are worth n/effect; a probe ends during the next one."""

    names: tuple[str, ...] = ("total",)  # of the shares, all counted alike

    def __init__(self, attainment: Callable[[float], float], *, effect: float = 60.0, seed: int = 0) -> None:
        self.attainment, self.effect = attainment, effect
        self.rng = np.random.default_rng(seed)
        self.clock_s = 0.0
        self.offered: list[Probe] = []
        self.given_up: list[int] = []
        self.spoiled: set[int] = set()
        self._late: list[Probed] = []
        self._ready: list[Probed] = []
        self.closed = False

    def step(self, probe: Probe) -> Iterator[Event]:
        self.offered.append(probe)
        start_s = self.clock_s + probe.settle_s
        self.clock_s = start_s + probe.n / probe.rate
        self._ready, self._late = self._late, []
        try:
            yield Step("a tenth")
            yield Step("the rest")
        except GeneratorExit:
            self.given_up.append(probe.number)
            raise
        self._late.append(self.outcome(probe, start_s))

    def outcome(self, probe: Probe, start_s: float) -> Probed:
        share = min(max(self.attainment(probe.rate), 1e-9), 1 - 1e-9)
        n = probe.n
        if n > 2 * self.effect:
            strength = (n - self.effect) / (self.effect - 1)
            share = self.rng.beta(share * strength, (1 - share) * strength)
        sizes = np.full(BATCHES, n // BATCHES) + (np.arange(BATCHES) < n % BATCHES)
        good = self.rng.binomial(sizes, share)
        total = tuple(zip(good.tolist(), sizes.tolist(), strict=True))
        curtailed = probe.target is not None and futile(int(good.sum()), n, n, probe.target)
        return Probed(
            probe=probe,
            digest="0" * 64,
            tallies=dict.fromkeys(self.names, total),
            in_flight=(5.0,) * BATCHES,
            errors=0,
            mean_e2e_s=E2E_S,
            p99_e2e_s=4 * E2E_S,
            start_s=start_s,
            end_s=self.clock_s,
            mean_ttft_s=0.1,
            mean_tpot_s=0.01,
            curtailed=curtailed,
            instrument=("V01 send lag p99 80 ms > 25 ms",) if probe.number in self.spoiled else (),
        )

    def finished(self) -> list[Probed]:
        ready, self._ready = self._ready, []
        return ready

    def drain(self) -> Iterator[Event]:
        self._ready += self._late
        self._late = []
        yield Step("drained")

    def now_s(self) -> float:
        return self.clock_s

    def close(self) -> None:
        self.closed = True


class QueueStream(CurveStream):
    """c servers with exponential service, first come first served, Poisson arrivals; good = waited at most `limit_s`."""

    def __init__(self, servers: int, service_rate: float, limit_s: float, *, seed: int = 0) -> None:
        super().__init__(lambda _: 1.0, seed=seed)
        self.service_rate, self.limit_s = service_rate, limit_s
        self.free = [0.0] * servers
        self.leaving: list[float] = []  # departures of those still there, a heap
        self.now = 0.0
        self.sent = 0

    def step(self, probe: Probe) -> Iterator[Event]:
        settle = round(probe.rate * probe.settle_s)
        waits, spent, seen = self._serve(probe.rate, settle + probe.n)
        self.clock_s = self.now
        self.sent += settle + probe.n
        self.offered.append(probe)
        self._ready, self._late = self._late, []
        yield virtual_progress(self.now, self.sent, sum(end > self.now for end in self.leaving))
        good = waits[settle:] <= self.limit_s
        batch = np.arange(probe.n) * BATCHES // probe.n
        hits, sizes = np.bincount(batch[good], minlength=BATCHES), np.bincount(batch, minlength=BATCHES)
        made = replace(
            self.outcome(probe, self.now),
            tallies={"total": tuple(zip(hits.tolist(), sizes.tolist(), strict=True))},
            in_flight=tuple(float(part.mean()) for part in np.array_split(seen[settle:], BATCHES))
            if probe.n > 9
            else (),
            mean_e2e_s=float(spent[settle:].mean()),
            p99_e2e_s=float(np.quantile(spent[settle:], 0.99)),
            curtailed=probe.target is not None and futile(int(good.sum()), probe.n, probe.n, probe.target),
        )
        self._late.append(made)

    def drain(self) -> Iterator[Event]:
        self.now = max(self.now, *self.free)
        self.leaving.clear()
        yield from super().drain()

    def _serve(self, rate: float, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Waits, times in the system, and how many were there at each arrival."""
        gaps = self.rng.exponential(1 / rate, n).tolist()
        service = self.rng.exponential(1 / self.service_rate, n).tolist()
        waits, spent, seen = [], [], []
        leaving = self.leaving
        for gap, work in zip(gaps, service, strict=True):
            self.now += gap
            while leaving and leaving[0] <= self.now:
                heapq.heappop(leaving)
            seen.append(len(leaving))
            start = max(self.now, self.free[0])
            heapq.heapreplace(self.free, start + work)
            heapq.heappush(leaving, start + work)
            waits.append(start - self.now)
            spent.append(start + work - self.now)
        return np.array(waits), np.array(spent), np.array(seen, dtype=float)


def waits_longer(servers: int, service_rate: float, limit_s: float, rate: float) -> float:
    """P(wait > limit) of M/M/c: Erlang's C times exp(−(cµ − λ)·limit) (Kleinrock, Queueing Systems, 1975, §3.5)."""
    load = rate / service_rate
    if load >= servers:
        return 1.0
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) / (1 - load / servers)
    return last / (sum(terms) + last) * math.exp(-(servers * service_rate - rate) * limit_s)


def knee(servers: int, service_rate: float, limit_s: float, target: float) -> float:
    """The load at which exactly `target` of all waits are within the limit."""
    low, high = 1e-6, servers * service_rate
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if waits_longer(servers, service_rate, limit_s, middle) <= 1 - target else (low, middle)
        )
    return low


def asked(target: float = 0.9, **changes: object) -> Settings:
    """Settings of a search for one target on all requests."""
    return Settings(**{"criteria": (Criterion("total", target),), "start_rate": 20.0, **changes})


def searched(settings: Settings, stream: CurveStream, history: History | None = None) -> Ended:
    """Run a search to its end."""
    for event in drive(settings, stream, history or History()):
        if isinstance(event, Ended):
            return event
    raise AssertionError("a search that did not end")
