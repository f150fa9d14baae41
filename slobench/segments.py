"""Plan segments: a plan that grows, one piece for each load that a search steps to, on one clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from slobench.config.arrivals import Burst, Poisson, at_rate, is_level, mean_rate
from slobench.config.lengths import EmpiricalLength, PairedLength
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.plan import Plan, plan_of
from slobench.workload.arrivals import is_steady, offsets_ns
from slobench.workload.class_content import with_content, with_known_prefixes
from slobench.workload.lengths import draw, draw_stratified
from slobench.workload.rows import Rows
from slobench.workload.variates import IntArray, child, raw, uniforms


@dataclass(frozen=True, slots=True)
class Start:
    """Where a segment begins: the first index, and the time from which its first gap counts."""

    index: int = 0
    at_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Some rows of a growing plan; the first `settle` of them do not count. `next` is where the one after begins."""

    plan: Plan
    settle: int
    next: Start


def build_segment(  # each is one fact of the load
    workload: Workload, *, rate: float, n: int, settle: int, seed: int, vr: bool, start: Start
) -> Segment:
    """Plan `settle + n` requests at a total rate, the classes in the proportions of their mean rates.

    The first arrival comes a gap of its process after `start.at_ns`. vr (variance reduction): of the n that count,
    Poisson arrivals are n uniform times, sorted, in exactly n / rate seconds (what Poisson arrivals are, given their
    number), each class has its share of n, and lengths are stratified; other processes keep their own gaps. The
    requests before them are never conditioned.
    Raises ConfigError where a class has no rate that could be held: a closed loop, a burst, a load meant to change.
    """
    times, codes, end_ns = _settling(workload, rate, settle, seed, start.at_ns)
    reduced = vr and all(isinstance(spec.arrivals, Poisson) for spec in workload.classes.values())
    counted = _conditioned if reduced else _as_they_come
    more_times, more_codes, end_ns = counted(workload, rate, n, seed, end_ns)
    times, codes = np.concatenate([times, more_times]), np.concatenate([codes, more_codes])
    index = np.arange(start.index, start.index + len(times))
    columns = {}
    for purpose, side in (("input_tokens", "input"), ("output_tokens", "output")):
        settling = _lengths(workload, f"settling {purpose}", codes[:settle], seed, stratified=False)
        counting = _lengths(workload, purpose, codes[settle:], seed, stratified=vr)
        columns[side] = np.concatenate([settling, counting])
    rows = replace(Rows.single(times, columns["input"], columns["output"]), session=index)
    rows = with_content(rows, codes, with_known_prefixes(workload), seed)
    plan = plan_of(rows, codes, workload, seed, first=start.index)
    return Segment(plan, settle, Start(start.index + len(times), end_ns))


def shares(workload: Workload) -> dict[str, float]:
    """Part of each class in the workload's total mean rate. Raises ConfigError where there is none to be held."""
    rates: dict[str, float] = {}
    for name, spec in workload.classes.items():
        process = spec.arrivals
        if process is None or not is_level(process):
            meant = "has no arrival rate that could be varied"
            if spec.recorded is not None:
                meant = "replays a recording, whose load is what it was"
            if process is not None and not isinstance(process, Burst):
                meant = f"has a load that is meant to change ({process.process}): there is no level of it to be found"
            raise ConfigError(
                f"class {name} {meant}\n"
                "  expected  arrivals whose rate can be held: poisson, gamma, weibull, constant, on-off, mmpp or hawkes"
            )
        rates[name] = mean_rate(process)
    total = sum(rates.values())
    return {name: rate / total for name, rate in rates.items()}


def _settling(workload: Workload, rate: float, n: int, seed: int, start_ns: int) -> tuple[IntArray, IntArray, int]:
    if n == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), start_ns
    return _superposed(workload, rate, n, seed, start_ns, "settling arrivals")


def _as_they_come(workload: Workload, rate: float, n: int, seed: int, start_ns: int) -> tuple[IntArray, IntArray, int]:
    return _superposed(workload, rate, n, seed, start_ns, "arrivals")


def _superposed(  # private, and each is one fact
    workload: Workload, rate: float, n: int, seed: int, start_ns: int, purpose: str
) -> tuple[IntArray, IntArray, int]:
    """Times, class codes and end of the first n arrivals of all classes; each process begins with a gap."""
    times = []
    for name, share in shares(workload).items():
        nominal = workload.classes[name].arrivals
        assert nominal is not None  # `shares` has refused it
        process = at_rate(nominal, share * rate)
        due = offsets_ns(process, n=n, horizon_ns=None, rng=child(seed, purpose, name))
        # Evenly spaced arrivals begin at 0: here they go on from the segment before.
        times.append(due + round(1e9 / (share * rate)) if is_steady(process) else due)
    codes = np.repeat(np.arange(len(times)), [len(each) for each in times])
    due = np.concatenate(times)
    order = np.argsort(due, kind="stable")[:n]
    return start_ns + due[order], codes[order], start_ns + int(due[order[-1]])


def _conditioned(workload: Workload, rate: float, n: int, seed: int, start_ns: int) -> tuple[IntArray, IntArray, int]:
    """n arrivals of Poisson processes, given that there are n and how many are of each class."""
    length_ns = round(n / rate * 1e9)
    due = np.sort((uniforms(n, child(seed, "arrivals")) * length_ns).astype(np.int64))
    edges = np.rint(np.cumsum([0.0, *shares(workload).values()]) * n).astype(np.int64)
    edges[-1] = n
    ordered = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    shuffled = np.argsort(raw(n, child(seed, "classes")), kind="stable")
    return start_ns + due, ordered[shuffled], start_ns + length_ns


def _lengths(workload: Workload, purpose: str, codes: IntArray, seed: int, *, stratified: bool) -> IntArray:
    """Input or output tokens of the rows with these class codes; paired outputs from the same draw as their inputs."""
    result = np.empty(len(codes), dtype=np.int64)
    drawn = draw_stratified if stratified else draw
    for code, (name, spec) in enumerate(workload.classes.items()):
        rows = np.flatnonzero(codes == code)
        lengths, stream = spec.lengths[0 if purpose.endswith("input_tokens") else 1], purpose
        if isinstance(lengths, PairedLength):
            lengths = EmpiricalLength.model_construct(values=lengths.values)
            stream = purpose.replace("output_tokens", "input_tokens")
        result[rows] = drawn(lengths, len(rows), child(seed, stream, name))
    return result
