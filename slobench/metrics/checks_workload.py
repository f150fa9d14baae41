"""Checks of the workload as it really was, and of what the numbers rest on (V08, V09, V11, V12, V18, V19)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from slobench.metrics.case import Case, Check, more_workers, percent
from slobench.metrics.columns import BoolArray, is_ok, number, seconds
from slobench.metrics.fidelity import FEW_BINS, arrived, dispersion_in, gap_distance
from slobench.metrics.latency import tokens_per_event
from slobench.metrics.summary import Finding, LatencyTable
from slobench.metrics.window import Window
from slobench.stats.warmup import mser5
from slobench.units import format_s

V08, V09, V11 = Check("V08", "workload"), Check("V09", "workload"), Check("V11", "workload")
V12, V18, V19 = Check("V12", "instrument"), Check("V18", "instrument"), Check("V19", "workload")

MANY_TOKENS = 32  # a reply this long cannot truly arrive at one instant
FEW_E2E = 200  # replies, under which half of them are too few to be unlike the rest


def length(case: Case) -> Iterator[Finding]:
    """V08: is the window long enough, and after a warm-up."""
    limits, window = case.ask.thresholds, case.window
    if window.mean_e2e_s is None:
        return
    lengths, length_s = window.lengths_of_e2e(), window.mean_e2e_s
    chance = "what happens within a reply's time decides the numbers: they are a matter of chance"
    if case.ask.claim and lengths < limits.v08_claim_of_e2e:
        yield V08.past(
            f"window of {lengths:.3g} mean E2E", f"at least {limits.v08_claim_of_e2e:g} where a claim rests on it",
            chance, f"run longer: --duration {_at_least(window, limits.v08_claim_of_e2e * length_s)}",
        )  # fmt: skip
    elif window.whole_run:
        yield V08.warning(
            f"the window is the whole run of {format_s(window.length_s)}",
            f"a warm-up of {format_s(window.warmup_s)} (2 x p99 E2E, or as asked) and as much again",
            "filling and emptying of the server are part of the numbers",
            f"run longer: --duration {_at_least(window, max(window.warmup_s, limits.v08_window_of_e2e * length_s))}",
        )
    elif lengths < limits.v08_window_of_e2e:
        least_s = limits.v08_window_of_e2e * length_s
        yield V08.warning(
            f"window of {lengths:.3g} mean E2E",
            f"at least {limits.v08_window_of_e2e:g} ({format_s(least_s)})",
            chance,
            f"run longer: --duration {_at_least(window, least_s)}",
        )
    else:
        filled = len(np.unique(window.batch(seconds(case.requests, "scheduled_ns")[case.main])))
        if filled < limits.v08_batches:
            yield V08.warning(
                f"requests in {filled} tenths of the window",
                f"all {limits.v08_batches}",
                "no intervals can be given",
                "run longer, or offer more",
            )


def settled(case: Case) -> Iterator[Finding]:
    """V08: MSER-5 over E2E in order of arrival, as an alarm: it cuts too little, so silence is no proof."""
    limit = case.ask.thresholds.v08_unsettled
    if case.window.whole_run:
        return
    order = np.argsort(seconds(case.requests, "scheduled_ns")[case.main], kind="stable")
    e2e = case.derived["e2e_s"][case.main][order]
    e2e = e2e[~np.isnan(e2e)]
    if len(e2e) < FEW_E2E:
        return
    cut = mser5(e2e)
    if cut is None or cut > limit * len(e2e):
        share = "half or more" if cut is None else percent(cut / len(e2e))
        yield V08.warning(
            f"the first {share} of the window is unlike the rest (MSER-5 over E2E)", percent(limit),
            "the server was still filling, or changed on the way: numbers are a mixture of both",
            "use a longer --warmup, and look at the charts over time",
        )  # fmt: skip


def _at_least(window: Window, length_s: float) -> str:
    """Words for a duration that leaves a window of at least `length_s` after the warm-up and before the end."""
    return f"{math.ceil(window.warmup_s + length_s + (window.p99_e2e_s or 0.0))}s or more"


def precision(case: Case, latency: Mapping[str, LatencyTable]) -> Iterator[Finding]:
    """V09: are there enough effective requests beyond each quantile that the SLO judges."""
    names, limit = ["all", *dict(case.slo.by_class)], case.ask.thresholds.v09_tail
    for name in names:
        asked = case.slo.for_class(name) if name != "all" else case.slo.common
        for objective in asked.objectives:
            if objective.quantile is None:
                continue
            quantile = f"p{objective.quantile * 100:g}"
            seen = latency.get(name, {}).get(objective.metric, {}).get(quantile)
            if seen is None or seen.n_eff is None:
                continue
            tail = seen.n_eff * (1 - objective.quantile)
            if tail < limit:
                yield V09.warning(
                    f"{objective.metric} {quantile} of {name} rests on {tail:.2g} effective requests beyond it",
                    f"at least {limit:g}",
                    "the quantile is a matter of chance",
                    f"run about {limit / max(tail, 0.01):.2g} times as long, or judge attainment instead",
                )


def tokens(case: Case) -> Iterator[Finding]:
    """V11: tokens that came out and went in, against the plan."""
    limits = case.ask.thresholds.v11_tokens
    ok = is_ok(case.requests)
    forced = ~np.isin(case.requests["class"], list(case.ask.free)) & case.ask.forces_length
    out = _ratio(case, "output_tokens", case.main & ok & forced)
    if out is not None:
        yield from V11.graded(
            abs(out - 1),
            limits,
            seen=f"output tokens {percent(out)} of the plan's",
            limit=_off,
            text="the server did not make the replies that were asked for: it had other work than planned",
            advice="see whether it caps `max_tokens` or ignores `ignore_eos`; --no-ignore-eos if it is meant to",
        )
    out = _ratio(case, "output_tokens", case.main & ok & ~forced)
    if out is not None and abs(out - 1) > limits.warning:
        yield V11.warning(
            f"output tokens {percent(out)} of the plan's",
            _off(limits.warning),
            "lengths were not forced: planned ones are upper limits, and the load is another than planned",
            "use --ignore-eos where the server honours it; compare runs by tokens, not by requests",
        )
    as_ids = ~np.isin(case.requests["class"], list(case.ask.chats | case.ask.texts)) & case.ask.ids_sent
    into = _ratio(case, "input_tokens", case.main & ok & as_ids)
    if into is not None:
        seen = f"input tokens {percent(into)} of the plan's"
        yield from V11.graded(
            abs(into - 1),
            limits,
            seen=seen,
            limit=_off,
            text="the server read other prompts than were planned: TTFT is that of other lengths",
            advice="see whether it cuts prompts, or adds to them; `talk.token_ids` must lie within its vocabulary",
        )
    into = _ratio(case, "input_tokens", case.main & ok & ~as_ids)
    before = (seconds(case.requests, "scheduled_ns") < case.window.start_s) & ok & ~as_ids
    calibrated = _ratio(case, "input_tokens", before)
    if into and calibrated and np.sum(before) >= FEW_BINS and abs(into / calibrated - 1) > limits.warning:
        yield V11.warning(
            f"input tokens per planned one {percent(into)}, in warm-up {percent(calibrated)}", _off(limits.warning),
            "the length of text prompts drifted: later requests asked for another amount of work",
            "send token ids (`talk.token_ids`) where the server takes them",
        )  # fmt: skip


def _off(share: float) -> str:
    return f"{percent(share)} off"


def _ratio(case: Case, name: str, chosen: BoolArray) -> float | None:
    seen, planned = number(case.requests, name)[chosen], number(case.requests, f"{name}_planned")[chosen]
    known = ~np.isnan(seen) & (planned > 0)
    return float(seen[known].sum() / planned[known].sum()) if known.any() else None


def stream_shape(case: Case) -> Iterator[Finding]:
    """V12: do tokens come one by one, as they are made."""
    limits, requests = case.ask.thresholds, case.requests
    ok = case.main & is_ok(requests) & ~np.isnan(number(requests, "first_token_ns"))
    if not case.ask.stream or not ok.any():
        return
    first, last = seconds(requests, "first_token_ns")[ok], seconds(requests, "last_token_ns")[ok]
    n = number(requests, "output_tokens")[ok]
    spread = last - first
    at_once = (n > MANY_TOKENS) & (spread <= limits.v12_at_once_s) | (n >= 4) & (spread <= 0)
    share = float(at_once.mean())
    if share > limits.v12_at_once_share:
        yield V12.past(
            f"{percent(share)} of replies arrived whole", percent(limits.v12_at_once_share),
            "something buffers the stream: TTFT and token gaps are not the server's, E2E is",
            "go round the proxy, or switch its buffering and compression off (nginx: proxy_buffering off)",
        )  # fmt: skip
    each = tokens_per_event(requests, ok_mask(case))
    if each is not None and each > limits.v12_tokens_per_event and share <= limits.v12_at_once_share:
        yield V12.warning(
            f"{each:.3g} tokens per event", f"{limits.v12_tokens_per_event:g}",
            "single tokens cannot be timed: gaps are shared out over an event's tokens, TPOT counts tokens by usage",
            "none is needed for TTFT, TPOT and E2E; for gaps let the server send each token (no speculative decoding, "
            "no stream interval)",
        )  # fmt: skip
    tail = seconds(requests, "end_ns")[ok] - last
    typical = float(np.median(tail[~np.isnan(tail)])) if not np.all(np.isnan(tail)) else 0.0
    if typical > limits.v12_tail_s:
        yield V12.warning(
            f"replies ended {format_s(typical)} after their last token (median)", format_s(limits.v12_tail_s),
            "a late usage event or end of stream: it is not part of E2E here, but of a connection's time",
            "none, unless users wait for the end of the stream: then it is the server's to mend",
        )  # fmt: skip


def ok_mask(case: Case) -> BoolArray:
    """Return the window's successful requests."""
    return case.main & is_ok(case.requests)


def arrivals(case: Case) -> Iterator[Finding]:
    """V18: were requests sent at the planned gaps; open loop only, and of a session its first request."""
    if case.ask.closed:
        return
    times = arrived(case)
    if len(times.planned) < FEW_BINS:
        return
    limits = case.ask.thresholds
    distance = gap_distance(times, limits.v18_ks.warning)
    if not math.isnan(distance):
        yield from V18.graded(
            distance, limits.v18_ks, limit="{:g}".format,
            seen=f"sent gaps differ from planned ones by {distance:.2g} (KS distance)",
            text="the arrival process was not the planned one: bursts of our own making met the server",
            advice=more_workers(case.ask),
        )  # fmt: skip
    for width in (1.0, 10.0):
        by_plan, by_send = (dispersion_in(each, width, case.window) for each in (times.planned, times.sent))
        if math.isnan(by_plan) or math.isnan(by_send):
            continue
        # + 0.1: counts of evenly spaced arrivals have no dispersion that could be compared as a ratio
        ratio = (by_send + 0.1) / (by_plan + 0.1)
        yield from V18.graded(
            abs(ratio - 1), limits.v18_dispersion, limit=lambda x: f"±{x * 100:g} %",
            seen=f"dispersion of sends per {width:g} s {ratio:.3g} times the planned",
            text="the arrival process was not the planned one: bursts of our own making met the server",
            advice=more_workers(case.ask),
        )  # fmt: skip


def judgeable(case: Case) -> Iterator[Finding]:
    """V19: successful replies whose SLO could not be judged."""
    ok = ok_mask(case)
    if not ok.any():
        return
    share = float(np.mean(case.judged.unjudgeable[ok]))
    yield from V19.graded(
        share,
        case.ask.thresholds.v19_not_judged,
        seen=f"SLO of {percent(share)} of replies could not be judged",
        limit=percent,
        text="a limit's quantity does not exist for them (hidden reasoning, no stream): attainment leaves them out",
        advice="use limits that exist for such replies: `ttfo` or `e2e`",
    )
