"""Client pools: the arrivals of many clients, each with its own rate and law of gaps in each window, all together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from slobench.config.arrivals import Pool
from slobench.config.pool import Client, ends_s, read_pool, recorded_rate
from slobench.config.workload import MAX_REQUESTS
from slobench.workload.bounds import Bounds, too_many
from slobench.workload.gaps import Law, draw_first, draw_gaps
from slobench.workload.variates import FloatArray, IntArray, offshoot

_GAPS = 4096  # of a client drawn at a time, at most


def pool_ns(pool: Pool, bounds: Bounds, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Due times of all clients in order, and the number of each one's client [Xiang and others, arXiv:2505.09999].

    A client's gaps have the window's law with mean 1, moved through the integral of its recorded rate: a gap that is
    under way when a window ends goes on in the next, and nothing is stretched to fill a window. (The sampler published
    with the data begins anew in each window and stretches the gaps to fill it, so that counts do not vary; and the
    scale of its Weibull windows does not give the recorded rate.) Each client has a stream of random numbers of its
    own. Where the record ends it begins again.
    Raises ConfigError where the files cannot be read.
    """
    clients, factor = read_pool(pool.folder), _factor(pool)
    horizon_s = bounds.horizon_s if bounds.n is None else min(1.5 * bounds.n / pool.rate + 1.0, bounds.horizon_s)
    while True:
        times = [_client_s(pool, client, factor, horizon_s, offshoot(rng, client.number)) for client in clients]
        if sum(map(len, times)) > 2 * MAX_REQUESTS:
            raise too_many("a client pool")
        due_s = np.concatenate(times)
        inside = np.flatnonzero(due_s < horizon_s)
        if bounds.n is None or len(inside) >= bounds.n or horizon_s >= bounds.horizon_s:
            break
        horizon_s = min(2 * horizon_s, bounds.horizon_s)
    numbers = np.repeat([client.number for client in clients], [len(each) for each in times])
    order = inside[np.argsort(due_s[inside], kind="stable")]
    due_ns = bounds.cut(bounds.to_ns(due_s[order]))
    return due_ns, numbers[order][: len(due_ns)]


def pool_rate(pool: Pool, t_s: FloatArray) -> FloatArray:
    """λ(t) of the whole pool, requests/s, at times in s from the start of the run."""
    total = np.zeros(len(t_s))
    period_s, factor = _end_s(pool), _factor(pool)
    at_s = np.mod(t_s + pool.from_ / 1e9, period_s)
    for client in read_pool(pool.folder):
        starts = np.array([window.start_s for window in client.windows])
        rates = np.array([0.0, *(window.rate for window in client.windows)])
        rates = np.where(at_s < client.end_s, rates[np.searchsorted(starts, at_s, side="right")], 0.0)
        total += rates * factor
    return total


def _factor(pool: Pool) -> float:
    """What recorded rates are multiplied by; exactly 1 where the pool's rate is the recorded one."""
    return pool.rate / recorded_rate(pool.folder, pool.from_ / 1e9, None if pool.to is None else pool.to / 1e9)


def _end_s(pool: Pool) -> float:
    return max(client.end_s for client in read_pool(pool.folder))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A client's rate and law from one time of the run to another, in s."""

    begin_s: float
    end_s: float
    rate: float
    law: Law


def _stretches(pool: Pool, client: Client, factor: float) -> Iterator[_Stretch]:
    """The client's windows in which it is active, from the start of the run on, round after round of the record."""
    from_s, period_s = pool.from_ / 1e9, _end_s(pool)
    active = [(window, end_s) for window, end_s in zip(client.windows, ends_s(client), strict=True) if window.rate > 0]
    for turn in count() if active else ():
        for window, end_s in active:
            begin = max(turn * period_s + window.start_s - from_s, 0.0)
            end = turn * period_s + end_s - from_s
            if end > begin:
                law = Law("weibull" if window.law == "Weibull" else "gamma", window.shape)
                yield _Stretch(begin, end, window.rate * factor, law)


def _client_s(pool: Pool, client: Client, factor: float, horizon_s: float, rng: np.random.Generator) -> FloatArray:
    """One client's arrivals in s up to the horizon, and perhaps some after it."""
    blocks = [np.zeros(0)]
    wait: float | None = None
    for stretch in _stretches(pool, client, factor):
        if stretch.begin_s >= horizon_s:
            break
        wait = draw_first(stretch.law, rng) if wait is None else wait
        whole = stretch.rate * (stretch.end_s - stretch.begin_s)
        while wait < whole and stretch.begin_s + wait / stretch.rate < horizon_s:
            units = wait + np.cumsum(draw_gaps(stretch.law, min(int(1.2 * whole) + 16, _GAPS), rng))
            units = np.concatenate([[wait], units])
            within = min(int(np.searchsorted(units, whole, side="left")), len(units) - 1)
            blocks.append(stretch.begin_s + units[:within] / stretch.rate)
            wait = float(units[within])
        wait -= whole
    return np.concatenate(blocks)
