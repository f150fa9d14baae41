"""What the server, its GPUs and the host told of themselves, in words: one line, facts, a table of times."""

from __future__ import annotations

import math
from collections.abc import Iterator

from slobench.metrics.summary import Range, ServerSide
from slobench.report import words
from slobench.report.tables import Cell, Table
from slobench.report.view import RunView

Facts = tuple[tuple[str, str], ...]
TIMES_NOTE = (
    "of requests, by the server's own histograms: a quantile lies within its bucket, and no histogram tells more"
)


def server_line(view: RunView) -> str:
    """The numbers that explain latency, on one line; "" where the server told none."""
    side = view.summary.server
    if side is None:
        return ""
    return ", ".join(f"{name} {value}" for name, value in _brief(side))


def _brief(side: ServerSide) -> Iterator[tuple[str, str]]:
    if side.running_mean is not None:
        yield "batch", _levels(side.running_mean, side.running_max)
    if side.waiting_mean is not None:
        yield "queue", _levels(side.waiting_mean, side.waiting_max)
    if side.queue_mean_s is not None:
        yield "waited", f"{words.seconds(side.queue_mean_s)} mean"
    if side.kv_usage_max is not None:
        yield "KV cache", f"{words.percent(side.kv_usage_max)} max"
    if side.preemptions is not None:
        yield "preemptions", words.count(side.preemptions)
    if side.tokens_per_iteration is not None:
        yield "tokens/iteration", words.three(side.tokens_per_iteration)
    if side.prefix_hit_share is not None:
        yield "prefix hits", words.percent(side.prefix_hit_share)
    if side.gpu_utilisation_mean is not None:
        yield "GPU", words.percent(side.gpu_utilisation_mean)
    if side.j_per_output_token is not None:
        yield "energy", f"{words.three(side.j_per_output_token)} J/token"


def _levels(mean: float | None, most: float | None) -> str:
    return f"{words.three(mean or 0.0)} (max {words.count(most)})"


def server_facts(view: RunView) -> Facts:
    """(name, value) of all that was told in the window; empty where nothing was."""
    side = view.summary.server
    return () if side is None else (*_brief(side), *_more(side, view))


def _more(side: ServerSide, view: RunView) -> Iterator[tuple[str, str]]:
    servers = view.at("telemetry", "servers")
    if isinstance(servers, list) and servers:
        told = [f"{each.get('kind')} at {each.get('url')}" for each in servers if isinstance(each, dict)]
        many = f" ({side.replicas} replicas)" if side.replicas > 1 else ""
        yield "told by", words.clean(", ".join(told), 300) + many
    if side.iterations_per_s is not None:
        yield "iterations", words.rate(side.iterations_per_s, "/s")
    if side.gpus:
        yield "GPUs", _gpus(side, view)
    elif absent := view.at("telemetry", "gpus_absent"):
        yield "GPUs", words.clean(f"none sampled: {absent}", 200)
    if side.gpu_energy_j is not None:
        yield "GPU energy", f"{words.three(side.gpu_energy_j)} J, {words.three(side.gpu_power_w_mean or 0.0)} W mean"
    if side.gpu_memory_used_share_max is not None:
        yield "GPU memory", f"{words.percent(side.gpu_memory_used_share_max)} max"
    if side.gpu_throttled_share is not None:
        yield "GPU throttled", f"{words.percent(side.gpu_throttled_share)} of samples"
    if side.host_cpu_share_mean is not None:
        most = f"{words.percent(side.host_cpu_share_mean)} mean, {words.percent(side.host_cpu_share_max)} max"
        yield "CPU of this host", most
    if side.telemetry_cpu_share is not None:
        yield "cost of sampling", f"{words.percent(side.telemetry_cpu_share)} of a core"


def _gpus(side: ServerSide, view: RunView) -> str:
    found = view.at("telemetry", "gpus")
    names = [str(each.get("name")) for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    kinds = [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)]
    return words.clean(", ".join(kinds) or str(side.gpus), 200)


def server_times(view: RunView) -> Table | None:
    """Where a request's time went inside the server; None where it told none of it."""
    side = view.summary.server
    if side is None:
        return None
    found = (
        ("in the queue", side.queue_mean_s, side.queue_p50_s, side.queue_p99_s),
        ("prefill", side.prefill_mean_s, side.prefill_p50_s, side.prefill_p99_s),
        ("decode", side.decode_mean_s, side.decode_p50_s, side.decode_p99_s),
    )
    rows = tuple(
        (Cell(name, "strong"), Cell(words.seconds(mean)), Cell(_range(half)), Cell(_range(tail)))
        for name, mean, half, tail in found
        if mean is not None
    )
    columns = ("time in the server", "mean", "p50 within", "p99 within")
    return Table("Where the time went in the server", columns, rows, notes=(TIMES_NOTE,)) if rows else None


def _range(within: Range | None) -> str:
    if within is None:
        return words.ABSENT
    low, high = within
    return f"> {words.seconds(low)}" if math.isinf(high) else f"{words.seconds(low)} – {words.seconds(high)}"
