"""Checks of the run against what the server says of itself (V14, V15, V17); silent where it says nothing.

The server's values are telemetry rows whose source is `server` and whose names are records.schema.SERVER_METRICS.
A probe of a capacity search shares its server's totals with its neighbours: it is not held against them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slobench.metrics.case import Case, Check, percent
from slobench.metrics.columns import is_ok, number, seconds
from slobench.metrics.fidelity import sharing
from slobench.metrics.summary import Finding
from slobench.metrics.told import Told, grown
from slobench.units import format_s

V14, RESTART = Check("V14", "workload"), Check("V14", "server")
V15, V17, V20 = Check("V15", "instrument"), Check("V17", "workload"), Check("V20", "workload")
FEW = 20  # first tokens, under which a difference of means is chance
BATCHES = 10


def foreign_load(case: Case) -> Iterator[Finding]:
    """V14: did the server answer others too, and did it restart."""
    told = Told.of(case.records.telemetry)
    if in_turn(told):
        yield V14.warning(
            "several servers answer in turn at the address of the metrics", "one",
            "their totals cannot be held against the requests that were sent: V14 and V15 are not judged",
            "name the address of each replica in the target's `telemetry.urls`",
        )  # fmt: skip
        return
    restarts = _restarts(told)
    if restarts:
        yield RESTART.past(
            f"the server restarted {'once' if restarts == 1 else f'{restarts} times'} during the run", "0",
            "replies in flight were lost, and what came after met an empty cache and a cold server",
            "see the server's log for why; raise its memory or lower its load, then run again",
        )  # fmt: skip
        return
    counted = grown(_told(case), "requests_total")
    if counted is None:
        return
    least, most = ended_between(case, counted.start_s, counted.end_s, unsure_s=half_a_scrape_s(told))
    step = case.ask.thresholds.v14_foreign
    others, unseen = strangers(counted.by, least, most)
    yield from V14.graded(
        others, step, limit=percent, seen=f"the server ended {percent(others)} more requests than were sent",
        text="others' requests took of its time: latencies are not those of this load alone",
        advice="keep other clients, health probes that generate and warm-up scripts off the server during a run",
    )  # fmt: skip
    yield from V14.graded(
        unseen, step, limit=percent, seen=f"the server counted {percent(unseen)} fewer requests than were answered",
        text="its metrics are not, or not all, of the server that was measured: they explain nothing here",
        advice="give the metrics address of every replica behind this address",
    )  # fmt: skip


def _told(case: Case) -> Told:
    """What is compared with the records; nothing in a probe, whose window was given, and of servers told in turn."""
    told = Told({}) if case.ask.window_s is not None else Told.of(case.records.telemetry)
    return Told({}) if in_turn(told) else told


def in_turn(told: Told) -> bool:
    """Whether one address was answered by several servers: a process that began earlier came after a later one."""
    return any(bool(np.any(np.diff(one.value) < -0.5)) for one in told.series("process_start_s"))


def _restarts(told: Told) -> int:
    began = sum(int(np.sum(np.diff(one.value) > 0.5)) for one in told.series("process_start_s"))
    counted = grown(told, "requests_total")
    return max(began, counted.resets if counted else 0)


def half_a_scrape_s(told: Told) -> float:
    """By how much a sample's time may be off that at which the server counted: it is the middle of its scrape."""
    return max((float(one.value.max()) / 2 for one in told.series("scrape_s") if len(one.value)), default=0.0)


def ended_between(case: Case, start_s: float, end_s: float, *, unsure_s: float = 0.0) -> tuple[int, int]:
    """(least, most) requests of ours that the server can have ended between two moments, known to within `unsure_s`.

    Least: those that we saw succeed in between. Most: all that were with the server at any time in between, as
    one that failed here may or may not have been counted there.
    """
    sent, ended = seconds(case.requests, "sent_ns"), seconds(case.requests, "end_ns")
    least = is_ok(case.requests) & (sent >= start_s + unsure_s) & (ended <= end_s - unsure_s)
    most = (sent <= end_s + unsure_s) & ~(ended < start_s - unsure_s)
    return int(least.sum()), int(most.sum())


def strangers(counted: float, least: int, most: int) -> tuple[float, float]:
    """(share that the server ended beyond the most that can be ours, share of the least of ours that it lacks)."""
    return max(counted - most, 0.0) / max(most, 1), max(least - counted, 0.0) / max(least, 1)


@dataclass(frozen=True, slots=True)
class Cross:
    """Mean TTFT as seen here and there, s; connect_s: a round trip; error_s: standard error of the client's."""

    client_s: float
    server_s: float
    connect_s: float
    error_s: float

    @property
    def apart_s(self) -> float:
        """What a round trip does not explain."""
        return self.client_s - self.connect_s - self.server_s

    def sure_below(self, errors: float) -> bool:
        """Whether tokens seem to have come before the server made them, beyond chance."""
        return self.client_s - self.server_s < -errors * self.error_s


def first_tokens(case: Case) -> Iterator[Finding]:
    """V15: the mean TTFT of the client, from sent, against the server's own over the same requests."""
    seen = cross_check(case)
    if seen is None:
        return
    limits = case.ask.thresholds
    if seen.sure_below(limits.v15_errors):
        yield V15.past(
            f"mean TTFT {format_s(seen.client_s)}, the server's own {format_s(seen.server_s)}",
            f"no less than the server's, within {limits.v15_errors:g} standard errors",
            "a token cannot come before it is made: the clock, or the server's metric, is not what it seems",
            "see that the metrics are of this server and of this run alone; else report it with the run's folder",
        )
        return
    for level, own, share in (
        (V15.past, limits.v15_apart_s.past, limits.v15_apart.past),
        (V15.warning, limits.v15_apart_s.warning, limits.v15_apart.warning),
    ):
        bound = max(own, share * seen.server_s)
        if seen.apart_s > bound:
            yield level(
                f"mean TTFT {format_s(seen.apart_s)} above the server's own {format_s(seen.server_s)}, "
                f"a round trip of {format_s(seen.connect_s)} taken off",
                f"{format_s(bound)} (the larger of {format_s(own)} and {percent(share)})",
                "something between the server's clock and this one takes that long: a proxy, the network, its HTTP "
                "front end or this client; TTFT is not the engine's alone",
                "measure from beside the server, go round proxies, and compare `talk.transport` fast and aiohttp",
            )
            return


def cross_check(case: Case) -> Cross | None:
    """Both sides' mean TTFT over the time that the server's totals cover; None where they cannot be compared."""
    told = _told(case)
    total, count = grown(told, "ttft_sum_s"), grown(told, "ttft_count")
    if total is None or count is None or count.by <= 0 or total.resets or count.resets:
        return None
    requests = case.requests
    first, sent = seconds(requests, "first_token_ns"), seconds(requests, "sent_ns")
    mine = (sent >= count.start_s) & (first <= count.end_s)
    own = (first - sent)[mine][np.argsort(sent[mine], kind="stable")]
    if len(own) < FEW:
        return None
    batches = np.array([batch.mean() for batch in np.array_split(own, BATCHES)])
    took = (seconds(requests, "connected_ns") - seconds(requests, "started_ns"))[
        number(requests, "connection_new") == 1
    ]
    took = took[~np.isnan(took)]
    return Cross(
        client_s=float(own.mean()),
        server_s=total.by / count.by,
        connect_s=float(np.median(took)) if len(took) else 0.0,
        error_s=float(batches.std(ddof=1)) / math.sqrt(BATCHES),
    )


def prefix_hits(case: Case) -> Iterator[Finding]:
    """V17: prompt tokens that the server had in its prefix cache though no two prompts were to begin alike."""
    if not case.ask.unique_prompts:
        return
    each = _template_tokens(case)
    shares = [hit_share(hits, into, template=each * prompts) for hits, into, prompts in _looked_up(case)]
    if not shares:
        return
    share = max(shares)
    yield from V17.graded(
        share, case.ask.thresholds.v17_hits, limit=percent,
        seen=f"{percent(share)} of prompt tokens were in the server's prefix cache",
        text="these were not computed: TTFT is shorter and capacity larger than with prompts that are new",
        advice="set `talk.cache_salt` where the server takes it, restart the server, or switch its prefix cache off",
    )  # fmt: skip


def hit_share(hits: float, looked_up: float, *, template: float) -> float:
    """Share of prompt tokens found in the cache beyond those of a template that every prompt begins with."""
    return max(hits - template, 0.0) / looked_up if looked_up > 0 else 0.0


def _looked_up(case: Case) -> Iterator[tuple[float, float, int]]:
    """(tokens found, tokens looked up, prompts) by the server's counters, and by the usage of its replies.

    The two need not agree: a cache outside of the engine has counters of its own.
    """
    server = _told(case)
    hits, looked_up = grown(server, "prefix_hit_tokens"), grown(server, "prefix_query_tokens")
    if hits is not None and looked_up is not None:
        _, prompts = ended_between(case, looked_up.start_s, looked_up.end_s)
        yield hits.by, looked_up.by, prompts
    cached, into = number(case.requests, "cached_tokens"), number(case.requests, "input_tokens")
    told = is_ok(case.requests) & ~np.isnan(cached) & ~np.isnan(into)
    if told.any():
        yield float(cached[told].sum()), float(into[told].sum()), int(told.sum())


def _template_tokens(case: Case) -> float:
    """Tokens of a chat template for each prompt: the least that any chat's reply counts beyond its plan."""
    chats, ok = np.isin(case.requests["class"], list(case.ask.chats)), is_ok(case.requests)
    more = number(case.requests, "input_tokens") - number(case.requests, "input_tokens_planned")
    more = more[chats & ok & ~np.isnan(more)]
    return max(float(more.min()), 0.0) * float(chats[ok].mean()) if len(more) else 0.0


def sharing_kept(case: Case) -> Iterator[Finding]:
    """V20: prompt tokens that the server had in its prefix cache, against those that the plan has it find."""
    found, limit = sharing(case), case.ask.thresholds.v20_sharing
    if found is None or found.expected is None or found.measured is None or case.ask.unique_prompts:
        return
    apart = found.measured - found.expected
    if abs(apart) <= limit:
        return
    fewer = "its cache is off, or held others' prompts too, or prompts came before the one that they repeat was done"
    if found.limited is None:
        fewer = "its cache is smaller than the traffic needs, works in larger blocks, or is off"
    more = "others' prompts, or those of an earlier run, were in its cache"
    kept = "" if found.limited is None else f" in {found.cache_blocks:,} blocks of {found.block_tokens} tokens"
    yield V20.warning(
        f"the server's prefix cache had {percent(found.measured)} of the prompt tokens, the plan repeats "
        f"{percent(found.expected)}{kept}",
        f"{limit * 100:g} points apart",
        f"prefill was another share of the work than the traffic's own: {fewer if apart < 0 else more}",
        "look at its cache settings; a result, where the cache is what is tested" if apart < 0 else
        "send `talk.cache_salt: true` where the server takes it, or restart it before the run",
    )  # fmt: skip
