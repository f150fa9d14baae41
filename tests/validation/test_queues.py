"""Quantiles of waits against queueing theory: of the engine in virtual time, and of the product's intervals for them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from slobench.engine.virtual import queue_waits_ns
from slobench.metrics.estimate import Windows, latency_table
from slobench.stats.jackknife import Grouped, jackknife_t
from tests.engine.test_virtual import (
    RUN,
    S,
    constant_tokens,
    engine_waits_s,
    erlang_c_wait,
    exponential_tokens,
    poisson_ns,
)
from tests.stats.binomial import fewest

SEEDS = 40
LEVEL = 0.999
QUANTILES = {"p75": 0.75, "p90": 0.9, "p99": 0.99}
QUEUES = ("M/M/1", "M/D/1", "M/M/4")


def waits_s(queue: str, seed: int) -> np.ndarray:
    """Waits of one run in mean service times, without the tenth that warmed up."""
    match queue:
        case "M/M/1":
            waits = engine_waits_s(0.6, exponential_tokens, seed)
        case "M/D/1":
            waits = engine_waits_s(0.7, constant_tokens, seed)
        case _:
            rng = np.random.default_rng(seed)
            service = np.rint(rng.exponential(S, RUN)).astype(np.int64)
            waits = queue_waits_ns(poisson_ns(rng, 2.8, RUN), service, 4) / S
    return waits[RUN // 10 :]


def p_longer(queue: str, x: float) -> float:
    """P(wait > x) in mean service times."""
    match queue:
        case "M/M/1":
            return 0.6 * math.exp(-(1 - 0.6) * x)
        case "M/D/1":  # Erlang, 1909; Crommelin, 1932: an alternating sum, to 1e-9 for x <= 12
            terms = [(-0.7 * (x - k)) ** k / math.factorial(k) * math.exp(0.7 * (x - k)) for k in range(int(x) + 1)]
            return 1 - 0.3 * math.fsum(terms)
        case _:  # Erlang's C, spread exponentially: mean wait = C/(c - load)
            return erlang_c_wait(2.8, 4) * (4 - 2.8) * math.exp(-(4 - 2.8) * x)


def quantile(longer: Callable[[float], float], q: float) -> float:
    """The x with P(wait > x) = 1 - q, by bisection."""
    low, high = 0.0, 12.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if longer(middle) > 1 - q else (low, middle)
    return low


@pytest.mark.parametrize("queue", QUEUES)
def test_quantiles_are_those_of_theory(queue: str) -> None:
    """p75, p90 and p99 over 40 independent runs lie within their own 99.9 % interval, which is narrow.

    The interval is the delete-one-run jackknife's; it must be able to refuse a quantile that is a tenth off.
    """
    runs = [waits_s(queue, seed) for seed in range(SEEDS)]
    pooled = Grouped.sort(np.concatenate(runs), np.repeat(np.arange(SEEDS), [len(run) for run in runs]), SEEDS)
    for q in QUANTILES.values():
        truth = math.log(quantile(lambda x: p_longer(queue, x), q))
        low, high = jackknife_t(math.log(pooled.quantile(q)), np.log(pooled.quantile_without_each(q)), LEVEL)
        assert low <= truth <= high, q
        assert high - low < 0.2, q


@pytest.mark.parametrize("queue", QUEUES)
def test_a_run_s_own_interval_holds_them(queue: str) -> None:
    """The product's 95 % intervals for one run of ten windows hold the true p75, p90 and p99 in at least 88 % of runs."""
    windows = Windows(np.arange(RUN - RUN // 10) * 10 // (RUN - RUN // 10), 10, optimistic=False)
    tables = [latency_table(waits_s(queue, seed), windows, QUANTILES) for seed in range(SEEDS)]
    for name, q in QUANTILES.items():
        truth = quantile(lambda x: p_longer(queue, x), q)
        seen = [table[name] for table in tables]
        assert all(one.low is not None and one.high is not None for one in seen)
        covered = sum(one.low <= truth <= one.high for one in seen)  # type: ignore[operator]
        assert covered >= fewest(SEEDS, 0.88), (name, covered)
