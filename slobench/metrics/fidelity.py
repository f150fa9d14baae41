"""How true the traffic was to what was asked: arrivals, lengths and prompt sharing, asked, planned and as they were."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from slobench.config.arrivals import Arrivals, Burst
from slobench.errors import ConfigError
from slobench.metrics.case import Case
from slobench.metrics.columns import BoolArray, is_ok, number, seconds
from slobench.metrics.summary import ArrivalFacts, Fidelity, LengthFacts, SharingFacts
from slobench.metrics.told import measured_hit_rate
from slobench.metrics.window import Window
from slobench.stats.arrivals import counts, dispersion, ks_distance
from slobench.stats.quantiles import FloatArray
from slobench.workload.moments import cv_of_gaps, dispersion_of, rate_at

WIDTHS_S = (1.0, 10.0, 60.0)
FEW_BINS = 20  # fewer counts say nothing of their dispersion
POINT_MASS = 0.1  # gaps with a smaller cv are evenly spaced
_GRID = 1000  # points of the window at which a planned rate is averaged


@dataclass(frozen=True, slots=True)
class Arrived:
    """Planned and sent times in s of what arrived on its own in the window, each in order."""

    planned: FloatArray
    sent: FloatArray


def fidelity(case: Case) -> dict[str, Fidelity]:
    """Each class and "all": what was asked for, what the plan drew, what was sent and counted, over the window."""
    names = sorted({str(name) for name in case.requests["class"]})
    total = replace(_of(case, names), sharing=sharing(case))
    return {"all": total, **({name: _of(case, [name]) for name in names} if len(names) > 1 else {})}


def sharing(case: Case) -> SharingFacts | None:
    """Share of prompt tokens that the plan repeats, and that the server's cache had; None where neither says of any."""
    found, planned = measured_hit_rate(case.records), case.ask.sharing
    measured = None if found is None else found.share
    if planned is None and not measured:
        return None
    if planned is None:
        return SharingFacts(planned=0.0 if case.ask.unique_prompts else None, measured=measured)
    return SharingFacts(planned.share, measured, planned.block_tokens, planned.cache_blocks, planned.limited)


def arrived(case: Case, names: Collection[str] | None = None) -> Arrived:
    """Arrivals of some classes (None: of all) that were sent: of a session the first request, the rest follows."""
    requests = case.requests
    started = seconds(requests, "started_ns")
    chosen = case.main & ~np.isnan(started) & (requests["turn"] == 0)
    if names is not None:
        chosen &= np.isin(requests["class"], list(names))
    return Arrived(np.sort(seconds(requests, "scheduled_ns")[chosen]), np.sort(started[chosen]))


def gap_distance(times: Arrived, tolerance: float) -> float:
    """KS distance of sent gaps from planned ones; gaps may differ by `tolerance` x their mean.

    A point mass has no distance from its jittered copy but with a tolerance: evenly spaced gaps get POINT_MASS.
    NaN where all came at once.
    """
    gaps = np.diff(times.planned)
    mean = float(gaps.mean()) if len(gaps) else 0.0
    if mean <= 0:
        return math.nan
    share = POINT_MASS if gaps.std() < POINT_MASS * mean else tolerance
    return ks_distance(np.diff(times.sent), gaps, mean * share)


def dispersion_in(times: FloatArray, width_s: float, window: Window) -> float:
    """Index of dispersion of counts over the window; NaN where it holds too few bins, or nothing."""
    counted = counts(times, width_s, window.start_s, window.end_s)
    return dispersion(counted) if len(counted) >= FEW_BINS else math.nan


def _of(case: Case, names: list[str]) -> Fidelity:
    requests, ask = case.requests, case.ask
    chosen = case.main & is_ok(requests) & np.isin(requests["class"], names)
    times = None if ask.closed else arrived(case, names)
    processes = {name: ask.processes[name] for name in names if name in ask.processes}
    few = times is None or len(times.planned) < FEW_BINS
    return Fidelity(
        asked=_asked(processes, case.window) if times and len(processes) == len(names) else None,
        planned=None if times is None else _facts(times.planned, case.window),
        sent=None if times is None else _facts(times.sent, case.window),
        gap_distance=None if few or times is None else _known(gap_distance(times, ask.thresholds.v18_ks.warning)),
        input_tokens=_lengths(case, "input_tokens", chosen & ~np.isin(requests["class"], list(ask.images))),
        output_tokens=_lengths(case, "output_tokens", chosen),
    )


def _asked(processes: Mapping[str, Arrivals], window: Window) -> ArrivalFacts | None:
    """What the processes promise over the window: of several that are independent, the sums and what follows."""
    if not processes or any(isinstance(each, Burst) for each in processes.values()):
        return None
    at_s = window.start_s + (np.arange(_GRID) + 0.5) / _GRID * window.length_s
    try:
        rates = {name: float(rate_at(each, at_s).mean()) for name, each in processes.items()}
    except ConfigError:  # a client pool whose files are not where the run is reported
        return None
    total = sum(rates.values())
    spread: dict[str, float] = {}
    for width in WIDTHS_S:
        # Counts of independent processes add up, and so do their variances.
        each = {name: dispersion_of(process, width) for name, process in processes.items()}
        known = {name: found for name, found in each.items() if found is not None}
        if len(known) == len(each) and total > 0:
            spread[f"{width:g}s"] = sum(rates[name] * found for name, found in known.items()) / total
    alone = next(iter(processes.values()))
    poisson = all(each.process == "poisson" for each in processes.values())
    cv = 1.0 if poisson else cv_of_gaps(alone) if len(processes) == 1 else math.nan
    return ArrivalFacts(rate=total, cv=_known(cv), dispersion=spread)


def _facts(times: FloatArray, window: Window) -> ArrivalFacts:
    gaps = np.diff(times)
    mean = float(gaps.mean()) if len(gaps) else 0.0
    spread = {f"{width:g}s": dispersion_in(times, width, window) for width in WIDTHS_S}
    return ArrivalFacts(
        rate=len(times) / window.length_s if window.length_s > 0 else None,
        cv=float(gaps.std()) / mean if mean > 0 and len(gaps) >= FEW_BINS else None,
        dispersion={width: found for width, found in spread.items() if not math.isnan(found)},
    )


def _lengths(case: Case, name: str, chosen: BoolArray) -> LengthFacts | None:
    """Planned and counted tokens of successful requests of which the server gave a count; None where it gave none."""
    counted, asked = number(case.requests, name)[chosen], number(case.requests, f"{name}_planned")[chosen]
    known = ~np.isnan(counted) & ~np.isnan(asked)
    if not known.any():
        return None
    counted, asked = counted[known], asked[known]
    return LengthFacts(
        n=int(known.sum()),
        asked_mean=float(asked.mean()),
        counted_mean=float(counted.mean()),
        ratio=float(counted.sum() / asked.sum()) if asked.sum() > 0 else None,
        exact_share=float(np.mean(counted == asked)),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
