"""What a closed loop hides: a stall of the server seen by arrivals that do not wait, and by users who do.

The experiment of docs/closed-vs-open.md in virtual time.
"""

from __future__ import annotations

import heapq
from functools import cache

import numpy as np
import pytest

from slobench.config.engine import Engine
from slobench.config.lengths import LognormalLength
from slobench.config.load import load_target
from slobench.config.target import SimTarget
from slobench.engine.model import EngineCore, Request
from slobench.engine.virtual import Offer, serve
from slobench.stats.quantiles import inverted_cdf
from slobench.workload.lengths import draw
from slobench.workload.variates import child

S = 10**9
STALL_S, PERIOD_S = 3.0, 60.0
SECONDS = 600  # ten stalls
RATE, USERS = 10.0, 9
PROMPTS = LognormalLength(mean=512, sigma=0.9, min=8, max=8000)
REPLY = 100
WARM_S = 10.0


def engine() -> Engine:
    """The engine of targets/sim-stall.yaml."""
    target = load_target("sim-stall").value
    assert isinstance(target, SimTarget)
    (stall,) = target.engine.stalls
    assert (stall.lasts, stall.every) == (STALL_S * S, PERIOD_S * S)
    return target.engine


def prompts(n: int) -> np.ndarray:
    """Lengths of the first n prompts; the same in both."""
    return draw(PROMPTS, n, child(0, "input_tokens"))


@cache
def open_loop() -> tuple[np.ndarray, np.ndarray]:
    """(arrivals, TTFT) in s at a constant rate."""
    at = np.arange(round(RATE * SECONDS)) * round(S / RATE)
    n = len(at)
    served = serve(engine(), Offer(at, prompts(n), np.full(n, REPLY)))
    return at / S, (served.first_token_ns - at) / S


@cache
def closed_loop() -> tuple[np.ndarray, np.ndarray]:
    """(times of asking, TTFT) in s of users who ask again when their reply has ended."""
    core = EngineCore(engine())
    lengths = prompts(10 * SECONDS * round(RATE)).tolist()
    asked: list[int] = []
    first: list[int] = []
    due = [0] * USERS
    now = 0
    while now < SECONDS * S:
        while due and due[0] <= now:
            core.add(Request(len(asked), lengths[len(asked)], REPLY))
            asked.append(heapq.heappop(due))
            first.append(-1)
        step = core.step(now)
        assert step is not None
        now += step.duration_ns
        for request in step.prefilled:
            first[request.index] = now
        for _ in step.finished:
            heapq.heappush(due, now)
    seen = np.array(first) >= 0
    return np.array(asked)[seen] / S, (np.array(first) - np.array(asked))[seen] / S


def p99_s(run: tuple[np.ndarray, np.ndarray]) -> float:
    """p99 of TTFT after the warm-up."""
    at, ttft = run
    return inverted_cdf(ttft[at >= WARM_S], 0.99)


def test_both_offer_the_same_load() -> None:
    """Within 5 %: what they say differs for another reason."""
    rates = [np.sum(at >= WARM_S) / (SECONDS - WARM_S) for at, _ in (open_loop(), closed_loop())]
    assert rates[1] == pytest.approx(rates[0], rel=0.05)


@pytest.mark.parametrize("x", [0.5, 1.0, 2.0, 2.5])
def test_arrivals_that_do_not_wait_are_delayed_as_the_formula_says(x: float) -> None:
    """A stall of S every P delays at least the share (S - x)/P by more than x; here to one arrival a stall."""
    at, ttft = open_loop()
    whole = at < SECONDS // PERIOD_S * PERIOD_S
    least = (STALL_S - x) / PERIOD_S
    assert np.mean(ttft[whole] > x) >= least - 1 / (RATE * PERIOD_S)


def test_the_open_loop_shows_the_stall_and_the_closed_one_hides_it() -> None:
    """p99 of TTFT: at least S - (1 - q)P = 2.4 s against a tenth of that or less; each user waits once a stall."""
    assert p99_s(open_loop()) >= STALL_S - 0.01 * PERIOD_S
    assert p99_s(closed_loop()) < 0.24
    _, ttft = closed_loop()
    assert np.sum(ttft > 1) <= USERS * SECONDS / PERIOD_S
