"""The columns of every record file, in order; columns are added, never renamed (design: Files)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench import names

VERSION = 1
NULL = names.NULL
"""What stands for "never seen" in the int64 buffers of the spool; null in every file that others read."""

Columns = Mapping[str, NDArray[Any]]
"""Columns by name, of one length. Numbers that can be null are float64 with NaN (ns are exact up to
104 days); strings are numpy str arrays with "" for null (`error` and `finish_reason`: objects, as one long text would
widen every row)."""

_TIMES = [
    *("scheduled_ns", "started_ns", "connected_ns", "sent_ns", "headers_ns"),
    *("first_token_ns", "first_output_ns", "last_token_ns", "end_ns"),
]
_COUNTS = [
    *("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"),
    *("first_chunk_tokens", "chunks", "reads"),
]
DERIVED = ["ttft_s", "ttfo_s", "tpot_s", "e2e_s", "ttft_sent_s", "e2e_sent_s", "send_lag_s", "max_gap_s"]

PLAN = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("scheduled_ns", pa.int64()),  # null where the loop is closed
        pa.field("class", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("session", pa.int64(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("prompt", pa.int64(), nullable=False),  # prompt ref: what the prompt is made from
        pa.field("input_tokens", pa.int64(), nullable=False),
        pa.field("output_tokens", pa.int64(), nullable=False),
        pa.field("priority", pa.int64()),
    ],
    metadata={"slobench.schema": str(VERSION)},
)

PLAN_OPTIONAL = pa.schema(
    [
        # bit k: waits for the row of its session k + 1 rows before it; scheduled_ns is null then, until those ended
        pa.field("after", pa.int64(), nullable=False),
        pa.field("delay_ns", pa.int64()),  # from the last end of those to its own scheduled time
        pa.field("patience_ns", pa.int64()),  # from its scheduled time until it is given up
        pa.field("images", pa.int32(), nullable=False),
        pa.field("content_key", pa.large_list(pa.int64()), nullable=False),  # parts of the prompt, by stream …
        pa.field("content_tokens", pa.large_list(pa.int32()), nullable=False),  # … and what is taken of each
    ]
)
"""Columns of a plan that are there only where some row uses them, after those of PLAN."""

REQUESTS = pa.schema(
    [
        ("index", pa.int64()),
        ("class", pa.string()),
        ("session", pa.int64()),
        ("turn", pa.int32()),
        ("worker", pa.int32()),
        ("backend", pa.string()),
        ("phase", pa.string()),
        *((name, pa.int64()) for name in _TIMES),
        ("input_tokens_planned", pa.int64()),
        ("output_tokens_planned", pa.int64()),
        *((name, pa.int64()) for name in _COUNTS),
        ("tokens_source", pa.string()),
        ("priority", pa.int64()),
        ("outcome", pa.string()),
        ("http_status", pa.int32()),
        ("error", pa.string()),
        ("finish_reason", pa.string()),
        ("connection_new", pa.bool_()),
        ("reconnects", pa.int32()),
        ("receive_lag_max_ns", pa.int64()),
        ("first_token_error_ns", pa.int64()),
        ("follows", pa.bool_()),
        *((name, pa.float64()) for name in DERIVED),
        ("slo_met", pa.bool_()),
    ],
    metadata={"slobench.schema": str(VERSION)},
)

CHUNKS = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("t_ns", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("channel", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("lag_ns", pa.int64(), nullable=False),
        pa.field("coalesced", pa.bool_(), nullable=False),
    ],
    metadata={"slobench.schema": str(VERSION)},
)

TELEMETRY = pa.schema(
    [
        ("t_ns", pa.int64()),
        ("source", pa.string()),
        ("name", pa.string()),
        ("labels", pa.string()),
        ("value", pa.float64()),
    ],
    metadata={"slobench.schema": str(VERSION)},
)

# The spool: what a worker appends, buffer by buffer ("q" int64, "d" float64, "b" int8; str: Python strings).
SPOOL_STARTS = {"index": "q", "scheduled_ns": "q", "started_ns": "q"}
SPOOL_CHUNKS = {
    "index": "q", "t_ns": "q", "tokens": "q", "bytes": "q", "channel": "b", "lag_ns": "q", "coalesced": "b",
}  # fmt: skip
SPOOL_REQUESTS = {
    "index": "q",
    **dict.fromkeys(_TIMES, "q"),
    **dict.fromkeys(_COUNTS, "q"),
    "tokens_source": "b",  # code in TokensSource order, -1 null
    "outcome": "b",  # code in names.OUTCOMES
    "http_status": "q",
    "error": "str",
    "finish_reason": "str",
    "connection_new": "b",  # 0, 1, -1 null
    "reconnects": "q",
    "receive_lag_max_ns": "q",
    "first_token_error_ns": "q",
}
SPOOL_TELEMETRY = {"t_ns": "q", "name": "b", "value": "d"}

WORKER_METRICS = (
    "heartbeat_overshoot_ns",  # how late a 50 ms timer fired, each
    "cpu_s",  # process CPU seconds so far
    "gc_pause_ns",  # one garbage collection, each
    "throttled_s",  # cgroup throttled time so far
    "steal_share",  # host CPU stolen since the last sample
    "open_fds",
    "fd_limit",
    "in_flight",
    "clock_steps",  # reads whose kernel stamp was not believable, so far
    "unstamped_reads",  # so far
    "reads",  # so far
    "wall_step_ns",  # a step of the wall clock against the monotonic one, each
)
"""Names of worker telemetry by code; source is `worker-K`."""

RESERVED_FDS = 64
"""Open files of a worker that are not for connections: no more are in flight than its limit leaves beside them."""

SERVER = "server"
"""Source of what a server says of itself; of several, `server-K`. Where it has replicas, `labels` tells them apart."""

SERVER_METRICS = (
    "requests_total",  # requests that it ended, whatever the reason, so far
    "process_start_s",  # when its process began, s since 1970
    "ttft_sum_s",  # its own times to first token, their sum so far
    "ttft_count",  # and their number so far
    "prefix_query_tokens",  # prompt tokens that it looked up in its prefix cache so far
    "prefix_hit_tokens",  # and those that it found there
    "running",  # requests in its batch, at that moment
    "waiting",  # requests in its queue, at that moment
    "kv_usage",  # share of its KV cache in use, at that moment
    "preemptions_total",  # requests put back into the queue to free their KV cache, so far
    "input_tokens_total",  # prompt tokens so far
    "output_tokens_total",  # tokens generated so far
    "ttft_bucket",  # times to first token up to `le` and above the bucket before it, so far
    "queue_sum_s",  # times that requests waited in its queue
    "queue_count",
    "queue_bucket",
    "prefill_sum_s",  # times from a request's admission to its first token
    "prefill_count",
    "prefill_bucket",
    "decode_sum_s",  # times from a request's first token to its last
    "decode_count",
    "decode_bucket",
    "iteration_tokens_sum",  # tokens of each of its iterations, prompts and outputs
    "iteration_tokens_count",
    "iteration_tokens_bucket",
    "scrape_s",  # how long it took to answer the scrape
)
"""Names of a server's metrics, whatever the server calls them. A bucket is written only where its count has changed."""

GAUGES = frozenset({"process_start_s", "running", "waiting", "kv_usage", "scrape_s"})
"""Those of SERVER_METRICS that are no running totals."""

GPU = "gpu"
"""Source of a GPU's samples: `gpu-K`, K as the driver counts."""

GPU_METRICS = (
    "gpu_utilisation",  # share of time in which a kernel ran, as the driver last measured it
    "gpu_memory_used_bytes",
    "gpu_memory_bytes",  # in all
    "gpu_power_w",
    "gpu_power_limit_w",
    "gpu_sm_clock_mhz",
    "gpu_memory_clock_mhz",
    "gpu_temperature_c",
    "gpu_throttled",  # 1: clocks are held down by power or heat
    "gpu_energy_j",  # so far
)

HOST = "host"
"""Source of the samples of the client's machine."""

HOST_METRICS = (
    "host_cpu_share",  # of all its cores, since the last sample
    "host_memory_used_bytes",
    "host_memory_bytes",  # in all
    "host_received_bytes",  # by all its network interfaces, so far
    "host_sent_bytes",
    "telemetry_cpu_s",  # CPU time of the thread that samples the source `lane`, so far
)

SPOOL_SAMPLES = {"t_ns": "q", "source": "str", "name": "str", "labels": "str", "value": "d"}
"""What the sampler appends, beside the workers' streams: rows of TELEMETRY."""


@dataclass(frozen=True, slots=True)
class Records:
    """All that a run recorded: a row for each planned request, each token event, each telemetry sample.

    requests: sorted by index, the columns of REQUESTS that are not derived (no phase, no slo_met).
    chunks: sorted by index then t_ns; channel is the int8 code in names.CHANNELS, tokens float64.
    telemetry: the columns of TELEMETRY.
    """

    requests: Columns
    chunks: Columns
    telemetry: Columns


def plan_schema(present: Collection[str]) -> pa.Schema:
    """Columns of a plan that has these optional ones; others are passed over."""
    return reduce(pa.Schema.append, (field for field in PLAN_OPTIONAL if field.name in present), PLAN)


def empty(schema: Mapping[str, str]) -> dict[str, NDArray[np.generic]]:
    """No rows of a spool stream."""
    kinds = {"q": np.int64, "d": np.float64, "b": np.int8, "str": np.str_}
    return {name: np.empty(0, dtype=kinds[kind]) for name, kind in schema.items()}
