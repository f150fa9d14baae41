"""The line that can be read alone (docs/metrics.md, Wording)."""

from __future__ import annotations

from collections.abc import Mapping

from slobench.metrics.ask import Ask
from slobench.metrics.case import percent
from slobench.metrics.summary import Estimate, Load, SloResult
from slobench.metrics.window import Window
from slobench.units import format_s


def statement(
    ask: Ask, window: Window, load: Load, result: SloResult, *, verdict: str, tokens_source: Mapping[str, int]
) -> str:
    """Everything that a result needs to be understood, in one sentence."""
    offered = (
        f"offered by {ask.users} users in a closed loop (seed {ask.seed}), {load.offered_rps:.3g} req/s came of it"
        if ask.closed
        else f"offered {load.offered_rps:.3g} req/s ({ask.arrivals}, seed {ask.seed}, vr off)"
    )
    lag = "unknown" if load.send_lag_p99_s is None else format_s(load.send_lag_p99_s)
    return (
        f"{offered}, window [{window.start_s:.3g}, {window.end_s:.3g}) s, {_sample(result)}, {_attainment(result)}, "
        f"TTFT from intended send time, TPOT = (last − first)/(n − 1) from {_source(tokens_source)}, "
        f"send lag p99 {lag}, verdict {verdict}"
    )


def _sample(result: SloResult) -> str:
    seen = result.attainment
    if seen.n_eff is None or seen.design_effect is None:
        return f"n = {seen.n}, n_eff n/a"
    return f"n = {seen.n}, n_eff = {seen.n_eff:.0f} (D = {seen.design_effect:.3g})"


def _attainment(result: SloResult) -> str:
    seen = result.attainment
    if seen.value is None:
        return "joint attainment n/a"
    what = "joint attainment" if result.marginal else "success (no limit was given)"
    return (
        f"{what} {percent_of(seen.value)} {_interval(seen)} of *scheduled* requests (errors and timeouts count against)"
    )


def _interval(seen: Estimate) -> str:
    if seen.low is None or seen.high is None:
        return "[no interval]"
    words = f", {seen.note}" if seen.note else ""
    return f"[{percent_of(seen.low)}, {percent_of(seen.high)}{words}]"


def percent_of(share: float) -> str:
    """Word a share near 100 %, told from it: `99.93 %`."""
    return f"{share * 100:.2f} %" if share < 1 else percent(share)


def _source(tokens_source: Mapping[str, int]) -> str:
    return " and ".join(sorted(tokens_source)) or "no reply"
