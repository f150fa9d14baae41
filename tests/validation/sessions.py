"""Searches for a capacity in sessions on the reference engine in virtual time, against long runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from slobench.config.slo import parse_slo
from slobench.config.workload import Workload
from slobench.experiment.criteria import asked_of
from slobench.experiment.drive import Ended, drive
from slobench.experiment.found import found_of
from slobench.experiment.search_state import History, Settings
from slobench.experiment.session_load import Extent, extent_of
from slobench.experiment.stream import Probe
from slobench.experiment.virtual_sessions import VirtualSessions
from slobench.stats.intervals import logit
from tests.validation.reference import engine

TARGET = 0.9
SLO = ("ttft<500ms", "tpot<30ms", f"attainment>={TARGET:.0%}")
AROUND = (0.98, 1.0, 1.02)  # of a first guess: where long runs are made
CLASSES = {
    "chat": {
        "arrivals": {"process": "poisson", "rate": 2},
        "input_tokens": {"dist": "lognormal", "mean": 256, "sigma": 0.6, "min": 8, "max": 2000},
        "output_tokens": {"dist": "uniform", "low": 1, "high": 200},
        "session": {
            "turns": {"dist": "uniform", "low": 2, "high": 6},
            "think_time": {"dist": "exponential", "mean": "20s"},
            "history": "none",
        },
    }
}


@dataclass(frozen=True, slots=True)
class Search:
    """How one search ended, in sessions/s."""

    rate: float
    low: float
    high: float
    certified: float | None
    requests: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Many searches against the truth."""

    truth: float
    n: int
    bias: float
    bias_se: float
    rmse: float
    over: float  # share more than 5 % too high
    cover: float
    overcertified: float  # share that certified more than 1.02 of the truth
    certified: float
    requests: float


def workload() -> Workload:
    """Conversations of four turns on average, with 20 s to think."""
    return Workload.model_validate({"name": "sessions", "duration": "60s", "slo": SLO, "classes": CLASSES})


def _stream(seed: int) -> VirtualSessions:
    offered, slo = workload(), parse_slo(SLO, tuple(CLASSES))
    counted = asked_of(slo, tuple(CLASSES), target=None, per_class=False).counted
    return VirtualSessions(engine(), offered, slo, counted, seed)


def attainment(rate: float, seed: int, n: int, extent: Extent) -> float:
    """Attainment of one long run at a rate of sessions."""
    probe = Probe(0, "refine", rate, n, 2 * extent.waits_s, seed, vr=False, requests_each=extent.requests)
    with closing(_stream(seed)) as stream:
        for _ in stream.step(probe):
            pass
        return stream.finished()[0].attainment() or 0.0


def truth(guess: float, seeds: Sequence[int], n: int) -> float:
    """The rate at which long runs meet the target, by a line in log odds over ln(rate)."""
    extent = extent_of(workload())
    rates = [guess * part for part in AROUND]
    met = [float(np.mean([attainment(rate, seed, n, extent) for seed in seeds])) for rate in rates]
    slope, level = np.polyfit(np.log(rates), [logit(each) for each in met], 1)
    return math.exp((logit(TARGET) - level) / slope)


def search(seed: int) -> Search:
    """One search to its end."""
    extent = extent_of(workload())
    asked = asked_of(parse_slo(SLO, tuple(CLASSES)), tuple(CLASSES), target=None, per_class=False)
    settings = Settings(
        asked.criteria,
        start_rate=2.0,
        seed=seed,
        vr=False,
        requests_each=extent.requests,
        waits_s=extent.waits_s,
        replies=extent.replies,
    )
    with closing(_stream(seed)) as stream:
        *_, ended = drive(settings, stream, History())
    assert isinstance(ended, Ended)
    found = found_of(settings, asked.limits, ended.history, ended.reason)
    return Search(
        found.rate or math.nan, found.low or 0.0, found.high or math.inf, found.certified, ended.history.requests
    )


def accuracy(true: float, searches: Sequence[Search]) -> Accuracy:
    """How far off they were."""
    off = np.array([each.rate / true - 1 for each in searches])
    held = [each.low <= true <= each.high for each in searches]
    proven = [each.certified for each in searches if each.certified is not None]
    return Accuracy(
        truth=true,
        n=len(searches),
        bias=float(off.mean()),
        bias_se=float(off.std(ddof=1) / math.sqrt(len(off))),
        rmse=float(np.sqrt(np.mean(off**2))),
        over=float(np.mean(off > 0.05)),
        cover=float(np.mean(held)),
        overcertified=sum(each > 1.02 * true for each in proven) / len(searches),
        certified=len(proven) / len(searches),
        requests=float(np.mean([each.requests for each in searches])),
    )
