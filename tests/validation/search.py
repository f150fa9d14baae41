"""Many capacity searches on the reference engine in virtual time, against the capacity found by long runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.config.arrivals import Gamma, Poisson
from slobench.config.slo import parse_slo
from slobench.config.workload import RequestClass, Workload
from slobench.experiment.certificate import certified
from slobench.experiment.criteria import asked_of
from slobench.experiment.drive import Advanced, Ended, drive
from slobench.experiment.found import Found, found_of
from slobench.experiment.search_state import History, Settings
from slobench.experiment.stream import Probe
from slobench.experiment.virtual_stream import VirtualStream
from tests.validation.reference import INPUT, OUTPUT, engine

SLO = ("ttft<500ms", "tpot<30ms")
CERTIFY_N, CERTIFY_WARM_S = 10_000, 50.0  # more than 2 x p99 E2E at the knee


@dataclass(frozen=True, slots=True)
class Cell:
    """One question asked of the reference engine; truth: its capacity by long runs, requests/s."""

    name: str
    target: float
    truth: float
    cv: float = 1.0
    slo: tuple[str, ...] = SLO
    start: float = 20.0


@dataclass(frozen=True, slots=True)
class Search:
    """How one search ended; requests: before the certificate."""

    rate: float
    low: float
    high: float
    certified: float | None
    requests: int
    certificate_requests: int
    probes: int
    monotone: bool


def workload(cv: float = 1.0) -> Workload:
    """The reference workload; gamma gaps with this coefficient of variation, 1 = Poisson."""
    arrivals = Poisson(rate=20) if cv == 1 else Gamma(rate=20, cv=cv)
    spec = RequestClass(arrivals=arrivals, input_tokens=INPUT, output_tokens=OUTPUT)
    return Workload(name="reference", classes={"all": spec}, requests=1)


def search(cell: Cell, seed: int) -> Search:
    """One search to its end."""
    offered = workload(cell.cv)
    slo = parse_slo(cell.slo, tuple(offered.classes))
    asked = asked_of(slo, tuple(offered.classes), target=cell.target, per_class=False)
    settings = Settings(asked.criteria, start_rate=cell.start, seed=seed, conditioned=cell.cv == 1)
    stream = VirtualStream(engine(), offered, slo, asked.counted, seed)
    before = 0
    for event in drive(settings, stream, History()):
        if isinstance(event, Advanced) and event.history.issued[-1].purpose != "certify":
            before = event.history.requests
        if isinstance(event, Ended):
            found = found_of(settings, asked.limits, event.history, event.reason)
            return _search(found, event.history, before)
    raise AssertionError("a search that did not end")


def _search(found: Found, history: History, before: int) -> Search:
    return Search(
        rate=found.rate if found.rate is not None else math.nan,
        low=found.low or 0.0,
        high=found.high if found.high is not None else math.inf,
        certified=found.certified,
        requests=before,
        certificate_requests=history.requests - before,
        probes=len(found.used),
        monotone=bool(found.monotone),
    )


def certifies(cell: Cell, rate: float, seed: int) -> bool:
    """Whether one certifying probe at a rate shows that it keeps the target."""
    offered = workload(cell.cv)
    slo = parse_slo(cell.slo, tuple(offered.classes))
    asked = asked_of(slo, tuple(offered.classes), target=cell.target, per_class=False)
    stream = VirtualStream(engine(), offered, slo, asked.counted, seed)
    for _ in stream.step(Probe(0, "certify", rate, CERTIFY_N, CERTIFY_WARM_S, seed, vr=False)):
        pass
    for _ in stream.drain():
        pass
    (probed,) = stream.finished()
    return certified(asked.criteria, probed, None)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What many searches of one cell came to; shares of the truth."""

    cell: Cell
    n: int
    bias: float
    bias_se: float
    rmse: float
    over: float  # share that said more than 5 % too much
    cover: float
    requests: float
    certificate_requests: float
    probes: float
    certified: float  # share of searches that ended certified
    overcertified: float  # share that certified more than 1.02 of the truth
    not_monotone: float


def accuracy(cell: Cell, searches: Sequence[Search]) -> Accuracy:
    """Hold searches against the truth."""
    error = np.array([each.rate for each in searches]) / cell.truth - 1
    certified_rates = [each.certified for each in searches if each.certified is not None]
    n = len(searches)
    return Accuracy(
        cell=cell,
        n=n,
        bias=float(error.mean()),
        bias_se=float(error.std(ddof=1)) / math.sqrt(n),
        rmse=float(np.sqrt(np.mean(error**2))),
        over=float(np.mean(error > 0.05)),
        cover=float(np.mean([each.low <= cell.truth <= each.high for each in searches])),
        requests=float(np.mean([each.requests for each in searches])),
        certificate_requests=float(np.mean([each.certificate_requests for each in searches])),
        probes=float(np.mean([each.probes for each in searches])),
        certified=len(certified_rates) / n,
        overcertified=sum(rate > 1.02 * cell.truth for rate in certified_rates) / n,
        not_monotone=float(np.mean([not each.monotone for each in searches])),
    )
