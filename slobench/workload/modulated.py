"""Arrivals at a rate that changes: as planned (varying), or by chance (on-off, Markov-modulated)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slobench.config.arrivals import Mmpp, OnOff, Varying, mean_rate
from slobench.config.workload import MAX_REQUESTS
from slobench.errors import ConfigError
from slobench.units import format_s
from slobench.workload.bounds import BLOCK, LAST_NS, Bounds, too_many, too_slow
from slobench.workload.clocks import clock_of
from slobench.workload.gaps import EXPONENTIAL, Law, draw_first, draw_gaps, gamma_law, law_of
from slobench.workload.variates import FloatArray, IntArray, exponentials, offshoot, uniforms

_STAYS = 1024  # stays of a path drawn at a time
_MOST_CYCLES = 10_000_000
_PATH, _GAPS, _OFF_GAPS = range(3)  # what each stream of random numbers is for


def varying_ns(process: Varying, bounds: Bounds, rng: np.random.Generator) -> IntArray:
    """Arrivals of rate 1 moved through Λ; exact for Poisson and, in the sense of workload/clocks.py, for gamma gaps.

    The first wait is that of a process long under way, so that Λ(t) arrivals are expected by t from the start on; even
    gaps begin at 0.
    """
    clock, law = clock_of(process.rate), law_of(process)
    if bounds.n is None and float(clock.amount(np.array([bounds.horizon_s]))[0]) > 2 * MAX_REQUESTS:
        raise too_many(f"a varying load over {bounds.horizon_s:g} s")
    unit = 0.0 if law.family == "even" else draw_first(law, rng)
    blocks = [bounds.to_ns(clock.when(np.array([unit])))]
    drawn = 1
    while bounds.want_more(drawn, int(blocks[-1][-1])) and blocks[-1][-1] < LAST_NS:
        units = unit + np.cumsum(draw_gaps(law, BLOCK, rng))
        blocks.append(bounds.to_ns(clock.when(units), int(blocks[-1][-1])))
        unit, drawn = float(units[-1]), drawn + BLOCK
    return bounds.cut(np.concatenate(blocks))


def mmpp_ns(process: Mmpp, bounds: Bounds, rng: np.random.Generator) -> IntArray:
    """Poisson arrivals at the rate of the state; begins in a state by its share of the time [Fischer, Meier-Hellstern].

    The MMPP cookbook, Performance Evaluation 18, 1993. Exact: given its path of states it is Poisson with that rate.
    """
    _refuse_flicker(bounds, mean_rate(process), sum(process.mean_stay) / 1e9)
    return _along(_mmpp_path(process, offshoot(rng, _PATH)), EXPONENTIAL, bounds, offshoot(rng, _GAPS))


def on_off_ns(process: OnOff, bounds: Bounds, rng: np.random.Generator) -> IntArray:
    """Bursts and silence: gamma gaps on a clock that runs while on, and Poisson arrivals while off.

    An interrupted renewal process [Kuczura, Bell System Technical Journal 52, 1973, for Poisson gaps]. It begins on or
    off by their shares of the time, as one that has been going on for ever.
    """
    while_on = (process.on_rate, 0.0), gamma_law(process.on_cv), _GAPS
    while_off = (0.0, process.off_rate), EXPONENTIAL, _OFF_GAPS
    parts = [while_on, while_off] if process.off_rate > 0 else [while_on]
    if process.off_rate * process.mean_off > process.on_rate * process.mean_on:
        parts.reverse()  # the busier one first: its nth arrival bounds what is drawn of the other
    _refuse_flicker(bounds, mean_rate(process), (process.mean_on + process.mean_off) / 1e9)
    found = []
    for rates, law, stream in parts:
        path = _on_off_path(process, rates, offshoot(rng, _PATH))
        found.append(_along(path, law, bounds, offshoot(rng, stream)))
        if bounds.n is not None and len(found[-1]) == bounds.n:
            bounds = Bounds(bounds.n, int(found[-1][-1]) + 1)
    return np.sort(np.concatenate(found), kind="stable")[: bounds.n]


@dataclass(frozen=True, slots=True, eq=False)
class _Stays:
    """Times in s that a path stays at rates in 1/s, one after another."""

    length_s: FloatArray
    rate: FloatArray


def _mmpp_path(process: Mmpp, rng: np.random.Generator) -> Iterator[_Stays]:
    """The states in turn, from one drawn by its share of the time; what is left of its stay is exponential too."""
    mean_s, rates = np.array(process.mean_stay) / 1e9, np.array(process.rates, np.float64)
    at = float(uniforms(1, rng)[0]) * float(np.cumsum(mean_s)[-1])
    state = min(int(np.searchsorted(np.cumsum(mean_s), at)), len(rates) - 1)
    while True:
        states = (state + np.arange(_STAYS)) % len(rates)
        yield _Stays(exponentials(_STAYS, rng) * mean_s[states], rates[states])
        state = (state + _STAYS) % len(rates)


def _on_off_path(process: OnOff, rates: tuple[float, float], rng: np.random.Generator) -> Iterator[_Stays]:
    """On and off in turn, at the rates given for them."""
    on_s, off_s, law = process.mean_on / 1e9, process.mean_off / 1e9, gamma_law(process.off_cv)
    if float(uniforms(1, rng)[0]) * (on_s + off_s) >= on_s:
        yield _Stays(np.array([draw_first(law, rng) * off_s]), np.array(rates[1:]))
    while True:
        pairs = np.empty(2 * _STAYS)
        pairs[0::2] = exponentials(_STAYS, rng) * on_s
        pairs[1::2] = draw_gaps(law, _STAYS, rng) * off_s
        yield _Stays(pairs, np.tile(rates, _STAYS))


def _along(path: Iterator[_Stays], law: Law, bounds: Bounds, rng: np.random.Generator) -> IntArray:
    """Arrivals of rate 1, long under way, moved through the Λ of a path that is drawn as far as it is needed."""
    blocks = [np.zeros(0, dtype=np.int64)]
    last_ns, drawn = 0, 0
    knot_s, knot, rate = np.zeros(1), np.zeros(1), np.zeros(0)
    units = np.array([draw_first(law, rng)])
    last_unit = float(units[-1])
    while bounds.want_more(drawn, last_ns):
        if not len(units):
            units = last_unit + np.cumsum(draw_gaps(law, BLOCK, rng))
            last_unit = float(units[-1])
        here = units[: np.searchsorted(units, knot[-1], side="left")]
        if len(here):
            k = np.searchsorted(knot, here, side="right") - 1
            blocks.append(bounds.to_ns(knot_s[k] + (here - knot[k]) / rate[k], last_ns))
            last_ns, drawn, units = int(blocks[-1][-1]), drawn + len(here), units[len(here) :]
        elif knot_s[-1] < bounds.horizon_s:
            stays = next(path)
            rate = stays.rate
            knot_s = knot_s[-1] + np.concatenate([[0.0], np.cumsum(stays.length_s)])
            knot = knot[-1] + np.concatenate([[0.0], np.cumsum(stays.length_s * rate)])
        elif bounds.horizon_ns is None:
            raise too_slow(bounds.n or 0)
        else:
            break
    return bounds.cut(np.concatenate(blocks))


def _refuse_flicker(bounds: Bounds, rate: float, cycle_s: float) -> None:
    """Raise ConfigError where a path would hold more stays than anyone would draw."""
    span_s = bounds.horizon_s if bounds.n is None else min(bounds.n / rate, bounds.horizon_s)
    if span_s > _MOST_CYCLES * cycle_s:
        raise ConfigError(
            f"states that change every {format_s(cycle_s)} over {format_s(span_s)}\n"
            f"  expected  at most {_MOST_CYCLES:,} rounds: longer stays, a shorter duration, or fewer requests"
        )
