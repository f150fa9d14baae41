"""What the server, its GPUs and the host told of themselves, in the numbers of one window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from slobench.metrics.summary import Range, ServerSide
from slobench.metrics.told import Put, Told, buckets
from slobench.records.schema import GPU, HOST, SERVER, Columns
from slobench.stats.quantiles import FloatArray


def server_side(telemetry: Columns, start_s: float, end_s: float, output_tokens: float) -> ServerSide | None:
    """Sum up the samples of a window; output_tokens: those received in it. None where nothing was sampled."""
    told = Told.of(telemetry)
    if not told.by_name or end_s <= start_s:
        return None
    window = _Window(told, start_s, end_s)
    return _host(_gpu(_times(_server(ServerSide(), window), window), window, output_tokens), window)


class _Window:
    """One window of what was told."""

    def __init__(self, told: Told, start_s: float, end_s: float) -> None:
        self.told, self.start_s, self.end_s = told, start_s, end_s

    def levels(self, name: str, put: Put, source: str = SERVER) -> FloatArray | None:
        """A level at each time at which it was told."""
        levels = self.told.level(name, self.told.times(name, source, self.start_s, self.end_s), put, source)
        return None if levels is None or not len(levels) else levels

    def gained(self, name: str, source: str = SERVER) -> float | None:
        """By how much a running total grew."""
        gained = self.told.gained(name, self.edges(name, source), source)
        return None if gained is None or np.isnan(gained).any() else float(gained[0])

    def edges(self, name: str, source: str) -> FloatArray:
        """The window, or as much of it as was sampled."""
        spans = [(one.at[0], one.at[-1]) for one in self.told.series(name, source)]
        first, last = max((low for low, _ in spans), default=np.nan), min((high for _, high in spans), default=np.nan)
        return np.array([max(self.start_s, first), min(self.end_s, last)])

    def ratio(self, part: str, whole: str) -> float | None:
        """Growth of one total over that of another."""
        above, below = self.gained(part), self.gained(whole)
        return above / below if above is not None and below else None

    def quantile(self, name: str, q: float) -> Range | None:
        """Where a quantile of one of the server's histograms lies."""
        held = buckets(self.told, name, self.start_s, self.end_s)
        return held.quantile(q) if held is not None else None

    def replicas(self, source: str) -> int:
        """How many different ones told something."""
        each = [one for series in self.told.by_name.values() for one in series if "le=" not in one.labels]
        own = {(o.source, o.labels) for o in each if o.source == source or o.source.startswith(f"{source}-")}
        return len({pair for pair in own if pair[1]} or own)


def _of(values: FloatArray | None, how: Callable[[FloatArray], float]) -> float | None:
    return None if values is None else float(how(values))


def _server(side: ServerSide, window: _Window) -> ServerSide:
    running, waiting = (window.levels(name, "sum") for name in ("running", "waiting"))
    usage, share = window.levels("kv_usage", "max"), window.gained("iteration_tokens_count")
    low, high = window.edges("iteration_tokens_count", SERVER)
    return replace(
        side,
        replicas=window.replicas(SERVER),
        running_mean=_of(running, np.mean),
        running_max=_of(running, np.max),
        waiting_mean=_of(waiting, np.mean),
        waiting_max=_of(waiting, np.max),
        kv_usage_mean=_of(usage, np.mean),
        kv_usage_max=_of(usage, np.max),
        preemptions=window.gained("preemptions_total"),
        prefix_hit_share=window.ratio("prefix_hit_tokens", "prefix_query_tokens"),
        tokens_per_iteration=window.ratio("iteration_tokens_sum", "iteration_tokens_count"),
        iterations_per_s=share / float(high - low) if share is not None and high > low else None,
    )


def _times(side: ServerSide, window: _Window) -> ServerSide:
    return replace(
        side,
        queue_mean_s=window.ratio("queue_sum_s", "queue_count"),
        queue_p50_s=window.quantile("queue", 0.5),
        queue_p99_s=window.quantile("queue", 0.99),
        prefill_mean_s=window.ratio("prefill_sum_s", "prefill_count"),
        prefill_p50_s=window.quantile("prefill", 0.5),
        prefill_p99_s=window.quantile("prefill", 0.99),
        decode_mean_s=window.ratio("decode_sum_s", "decode_count"),
        decode_p50_s=window.quantile("decode", 0.5),
        decode_p99_s=window.quantile("decode", 0.99),
    )


def _gpu(side: ServerSide, window: _Window, output_tokens: float) -> ServerSide:
    gpus = {one.source for series in window.told.by_name.values() for one in series if one.source.startswith(GPU)}
    if not gpus:
        return side
    used, memory = (window.levels(name, "max", GPU) for name in ("gpu_memory_used_bytes", "gpu_memory_bytes"))
    throttled = window.levels("gpu_throttled", "max", GPU)
    power_w = _of(window.levels("gpu_power_w", "sum", GPU), np.mean)
    energy_j = window.gained("gpu_energy_j", GPU)
    if energy_j is None and power_w is not None:  # a GPU without a meter of energy
        energy_j = power_w * (window.end_s - window.start_s)
    return replace(
        side,
        gpus=len(gpus),
        gpu_utilisation_mean=_of(window.levels("gpu_utilisation", "mean", GPU), np.mean),
        gpu_memory_used_share_max=float(used.max() / memory.max()) if used is not None and memory is not None else None,
        gpu_power_w_mean=power_w,
        gpu_throttled_share=_of(throttled, np.mean),
        gpu_energy_j=energy_j,
        j_per_output_token=energy_j / output_tokens if energy_j is not None and output_tokens else None,
    )


def _host(side: ServerSide, window: _Window) -> ServerSide:
    share = window.levels("host_cpu_share", "max", HOST)
    spent, (low, high) = window.gained("telemetry_cpu_s", HOST), window.edges("telemetry_cpu_s", HOST)
    return replace(
        side,
        host_cpu_share_mean=_of(share, np.mean),
        host_cpu_share_max=_of(share, np.max),
        telemetry_cpu_share=spent / float(high - low) if spent is not None and high > low else None,
    )
