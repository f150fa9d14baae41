"""The search for a capacity as a pure function: what has been offered and seen in, what to do next out.

It knows no stream and no clock. The procedure is docs/capacity.md: bracket, refine on one continuous stream, certify.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slobench.experiment.certificate import certificate_size, certified
from slobench.experiment.locate import Located, binding_of, locate
from slobench.experiment.search_state import PROBE_N, History, Reason, Settings, cost
from slobench.experiment.steady import piles_up
from slobench.experiment.stream import Probe, Probed, Purpose, futile

BRACKET_N, BRACKET_SETTLE_S = 300, 20.0
BRACKET_RATIO = 1.3
SETTLE_S, SETTLE_E2E = 10.0, 4.0  # after a step of load: at least so long, and so many mean E2E
WARM_P99 = 2.0  # p99 E2E of load before the first probe that counts
OVERLOADED = 2.0  # times as many in flight as when steps usually begin: the last one left a queue
PRECISION = 0.03  # that steps and probe sizes are made for
STEP_LEAST, STEP_MOST = 0.025, 0.06
SESSION_LOOK = 4  # times as many requests as elsewhere, at most
STEP_WIDEST = 0.15  # within what the fit can take for a line
LEAST_PROBES = 4
FLOOR_N = 10
LONE = 0.2  # requests in flight on average below which a request is practically alone
RETRY = 0.95
_SPOILED, _SPOILED_SHARE = 3, 0.25  # probes that the client spoiled, at least both, before the search gives up


@dataclass(frozen=True, slots=True)
class Offer:
    """Offer this probe next."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until everything in flight has ended."""


@dataclass(frozen=True, slots=True)
class End:
    """The search is over."""

    reason: Reason


Move = Offer | Drain | End


@dataclass(frozen=True, slots=True)
class Bracket:
    """Loads that passed and failed a short look; None = none yet. `by_queue`: all that failed did so by a growing
    queue alone, with the SLO met.
    """

    low: float | None
    high: float | None
    by_queue: bool

    @property
    def closed(self) -> bool:
        """Whether the root lies, to all appearance, between two loads that are near enough."""
        return self.low is not None and self.high is not None and self.high / self.low <= BRACKET_RATIO


def decide(settings: Settings, history: History) -> Move:
    """Return what to do next."""
    spoiled = sum(bool(each.instrument) for each in history.done)
    if spoiled >= _SPOILED and spoiled > _SPOILED_SHARE * len(history.done):
        return Drain() if history.waiting else End("instrument")
    begun = {probe.purpose for probe in history.issued} | {each.probe.purpose for each in history.done}
    if not begun & {"warmup", "refine", "certify"}:
        move = _bracket_move(settings, history)
        if move is not None:
            return move
    if bracket_of(settings, history).by_queue:
        return _certify_move(settings, history)
    if history.refined is None and refined_by(settings, history) is None:
        return _refine_move(settings, history)
    return _certify_move(settings, history)


def refined_by(settings: Settings, history: History) -> Reason | None:
    """Why refining should end now, None where it should go on. Whoever drives the search keeps the first answer."""
    refined = [each for each in history.of("refine") if not each.instrument]
    found = root_of(settings, history)
    if found is not None and len(found.used) >= LEAST_PROBES and found.half <= settings.precision:
        return "precise"
    if len(refined) >= settings.max_probes:
        return "probes"
    if not _affordable(settings, history, _refine_probe(settings, history)):
        return "budget"
    return None


def bracket_of(settings: Settings, history: History) -> Bracket:
    """The bracket so far."""
    passed: list[float] = []
    failed: list[float] = []
    queues: list[bool] = []
    looked = [each for each in history.of("bracket") if not each.instrument]
    for each in {each.probe.rate: each for each in looked}.values():  # the last of each load
        missed, queue = misses(settings, each), piles_up(each)
        (failed if missed or queue else passed).append(each.probe.rate)
        if missed or queue:
            queues.append(queue and not missed)
    high = min(failed, default=None)
    low = max((rate for rate in passed if high is None or rate < high), default=None)
    return Bracket(low, high, bool(queues) and all(queues))


def misses(settings: Settings, probed: Probed) -> bool:
    """Whether any criterion fell below its target in a probe."""
    if probed.curtailed:
        return True
    shares = [(probed.attainment(each.name), each.target) for each in settings.criteria]
    return any(share is not None and share < target for share, target in shares)


def root_of(settings: Settings, history: History) -> Located | None:
    """The root as the refining probes give it: that of the criterion which fails first."""
    return binding_of(found) if (found := roots_of(settings, history)) else None


def roots_of(settings: Settings, history: History) -> list[Located]:
    """The root of each criterion, as far as the refining probes say anything of it."""
    start = _first_root(settings, history)
    refined = history.of("refine")
    each = [locate(one, refined, start, conditioned=settings.conditioned) for one in settings.criteria]
    return [one for one in each if one is not None]


def _first_root(settings: Settings, history: History) -> float:
    bracket = bracket_of(settings, history)
    low, high = bracket.low or settings.start_rate, bracket.high or settings.start_rate
    return math.log(low * high) / 2


def _bracket_move(settings: Settings, history: History) -> Move | None:
    """The next move of the first phase; None when it is over."""
    if not history.emptied:
        return Drain()
    bracket = bracket_of(settings, history)
    ratio, n = BRACKET_RATIO, BRACKET_N
    if bracket.by_queue:  # the SLO never binds: find where the queue begins to grow, as exactly as was asked
        ratio, n = 1 + 2 * settings.precision, PROBE_N
    if bracket.low is None and bracket.high is None:
        rate = settings.start_rate
    elif bracket.high is not None and bracket.by_queue and _last_n(history, bracket.high) < n:
        rate = bracket.high  # does it still grow when looked at for longer?
    elif bracket.high is None:
        assert bracket.low is not None
        if bracket.low >= settings.max_rate:
            return End("not reached")
        rate = min(2 * bracket.low, settings.max_rate)
    elif bracket.low is None:
        move = _towards_the_floor(settings, history, bracket.high)
        if move is not None:
            return move
        rate = bracket.high / 2
    elif bracket.high / bracket.low > ratio and not (settings.whole and bracket.high - bracket.low <= 1):
        rate = math.sqrt(bracket.low * bracket.high)
    else:
        return None
    settle_s = _warm_s(settings, history) if bracket.by_queue else _bracket_settle_s(history)
    probe = _probe(settings, history, "bracket", rate, n, settle_s)
    return Offer(probe) if _affordable(settings, history, probe) else End("budget")


def _last_n(history: History, rate: float) -> int:
    return next(each.probe.n for each in reversed(history.of("bracket")) if each.probe.rate == rate)


def _bracket_settle_s(history: History) -> float:
    """20 s from empty; less where replies are known to be short, as after any step of load."""
    seen = [each.mean_e2e_s for each in history.of("bracket") if each.mean_e2e_s is not None]
    return BRACKET_SETTLE_S if not seen else min(BRACKET_SETTLE_S, max(SETTLE_S, SETTLE_E2E * seen[-1]))


def _towards_the_floor(settings: Settings, history: History, high: float) -> Move | None:
    """No load has passed: see whether a single request can, then whether the least load can; None = go on halving."""
    lone = history.of("floor")
    if len(lone) < FLOOR_N:
        return Offer(_probe(settings, history, "floor", min(high, 1.0), 1, 0.0))
    if any(
        futile(sum(p.good(c.name) for p in lone), sum(p.n(c.name) for p in lone), FLOOR_N, c.target)
        for c in settings.criteria
    ):
        return End("hopeless")
    lowest = min(history.of("bracket"), key=lambda each: each.probe.rate)
    alone = lowest.mean_e2e_s is not None and lowest.probe.rate * settings.requests_each * lowest.mean_e2e_s < LONE
    return End("hopeless") if alone or (settings.whole and high <= 1) else None


def _refine_move(settings: Settings, history: History) -> Move:
    """Warm up where nothing runs, else the next probe, at once: its load comes from the probes that have ended."""
    warm = settings.requests_each > 1  # each probe of sessions begins from empty and warms up by itself
    begun = any(probe.purpose in {"warmup", "refine"} for probe in history.issued)
    if not warm and not history.emptied and (not begun or _stuck(settings, history)):
        return Drain()
    if not warm and history.emptied:
        rate = math.exp(found.x if (found := root_of(settings, history)) else _first_root(settings, history))
        return Offer(_probe(settings, history, "warmup", rate, max(1, round(rate * _warm_s(settings, history))), 0.0))
    return Offer(_recovery(settings, history) or _refine_probe(settings, history))


def _refine_probe(settings: Settings, history: History) -> Probe:
    found = root_of(settings, history)
    x = found.x if found else _first_root(settings, history)
    se = found.se if found else math.inf
    tried = {each.probe.number for each in history.of("refine")}
    tried |= {probe.number for probe in history.issued if probe.purpose == "refine"}
    side = -1 if len(tried) % 2 == 0 else 1
    coarse = max(1.0, settings.precision / PRECISION)  # few requests a probe tell a slope only over wider steps
    step = min(max(se, STEP_LEAST * coarse), STEP_MOST * coarse, STEP_WIDEST)
    rate = math.exp(x + side * step)
    tried_rates = [probe.rate for probe in history.issued if probe.purpose in {"warmup", "refine"}]
    if tried_rates:  # no further above what was tried than one step: what lies there may never drain
        rate = min(rate, max(tried_rates) * math.exp(STEP_MOST * coarse))
    if settings.whole:
        rate = max(1.0, math.floor(rate) if side < 0 else math.ceil(rate))
    settle_s = max(SETTLE_S, SETTLE_E2E * (_mean_e2e_s(history) or 0.0))
    return _probe(settings, history, "refine", rate, settings.probe_n, settle_s)


def _recovery(settings: Settings, history: History) -> Probe | None:
    """Half the load for as long as the queue that an overloaded step has left takes to go; None where it left none."""
    if not history.issued or history.issued[-1].purpose != "refine" or history.in_flight is None:
        return None
    begun = zip(history.issued, history.found_in_flight, strict=True)
    usual = [level for probe, level in begun if probe.purpose == "refine" and level is not None]
    excess = history.in_flight - float(np.median(usual)) if usual else 0.0
    if not usual or history.in_flight <= OVERLOADED * max(float(np.median(usual)), 1.0):
        return None
    found = root_of(settings, history)
    root = math.exp(found.x if found else _first_root(settings, history))
    # At half the load the server ends about `root` and gets root/2 a second: excess/(root/2) seconds of it.
    return _probe(settings, history, "warmup", root / 2, max(1, round(excess)), 0.0)


def _stuck(settings: Settings, history: History) -> bool:
    """Whether a recovery did not help: the server keeps its queue at half the load too, and has to be emptied.

    One that preempts much computes the same again and again, and never comes out of it by itself (metastable failure:
    Bronson et al., HotOS 2021).
    """
    purposes = [probe.purpose for probe in history.issued[-3:]]
    return purposes == ["refine", "warmup", "refine"] and _recovery(settings, history) is not None


def _certify_move(settings: Settings, history: History) -> Move:
    """Refining is over: certify below the root, once more a little lower if that fails, and end."""
    if not history.emptied:
        return Drain()
    tried = [each for each in history.of("certify") if not each.instrument]
    found = root_of(settings, history)
    if tried and certified(settings.criteria, tried[-1], found):
        return End("certified")
    if len(tried) >= 2:
        return End("uncertified")
    rate = certificate_rate(settings, history)
    if rate is None:
        return End(history.refined or "unclear")
    wanted = certificate_size(settings.precision, rate * settings.requests_each, _mean_e2e_s(history), found)
    for n in (wanted, round(0.3 * wanted)):  # 10,000 recommended, 3,000 at least
        probe = _probe(settings, history, "certify", rate * RETRY ** len(tried), n, _warm_s(settings, history))
        if _affordable(settings, history, probe):
            return Offer(probe)
    return End("budget")


def certificate_rate(settings: Settings, history: History) -> float | None:
    """The load that is to be certified: the root, less its precision (or its interval, where that is wider).

    No more than twice the precision below: the certificate proves itself, and an interval that reaches far down, as
    Fieller's does, would have it prove what nobody doubts.
    """
    bracket = bracket_of(settings, history)
    if bracket.by_queue and bracket.low is not None:
        return bracket.low * math.exp(-settings.precision)
    found = root_of(settings, history)
    if found is None or not math.isfinite(found.low):
        return None
    below = min(max(found.x - found.low, settings.precision), 2 * settings.precision)
    rate = math.exp(found.x - below)
    return max(1.0, math.floor(rate)) if settings.whole else rate


def _probe(settings: Settings, history: History, purpose: Purpose, rate: float, n: int, settle_s: float) -> Probe:
    number = history.next_number
    if purpose != "floor" and settings.requests_each > 1:  # until then later requests of sessions are missing
        settle_s += settings.waits_s + settings.replies * (_mean_e2e_s(history) or 0.0)
        if purpose == "refine":  # what took so long to warm up is worth as long a look: requests come in clusters
            n = max(n, min(SESSION_LOOK * n, round(settle_s * rate * settings.requests_each)))
    return Probe(
        number=number,
        purpose=purpose,
        rate=max(1.0, round(rate)) if settings.whole else rate,
        n=n,
        settle_s=settle_s,
        # Plain Poisson wherever something absolute is claimed.
        seed=settings.seed * 10_000 + number,
        vr=settings.vr and purpose in {"bracket", "refine"},
        target=settings.target() if purpose == "bracket" else None,
        requests_each=settings.requests_each,
    )


def _affordable(settings: Settings, history: History, probe: Probe) -> bool:
    requests, seconds = cost(probe)
    budget = settings.budget
    if budget.requests is not None and history.requests + requests > budget.requests:
        return False
    return budget.seconds is None or history.seconds + seconds <= budget.seconds


def _steady(history: History) -> Sequence[Probed]:
    """Probes whose latencies tell those near the root, the best last."""
    near = [*history.of("warmup"), *history.of("refine")]
    return near or [each for each in history.of("bracket") if not each.curtailed]


def _mean_e2e_s(history: History) -> float | None:
    seen = [each.mean_e2e_s for each in _steady(history) if each.mean_e2e_s is not None]
    return seen[-1] if seen else None


def _warm_s(settings: Settings, history: History) -> float:
    seen = [each.p99_e2e_s for each in _steady(history)[-3:] if each.p99_e2e_s is not None]
    return max(settings.warmup_s, SETTLE_S, WARM_P99 * max(seen, default=0.0))
