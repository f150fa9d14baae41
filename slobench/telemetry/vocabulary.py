"""What each server calls the quantities of records.schema.SERVER_METRICS.

Names as of vLLM 0.32 (its /metrics; those of 0.6 to 0.10 where they differ), SGLang 0.5 (docs.sglang.io, Production
Metrics; srt/metrics/collector.py), TGI 3 (huggingface.co/docs/text-generation-inference, Metrics).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

KEPT_LABELS = ("engine", "dp_rank")
"""Labels that tell replicas behind one address apart; series that differ in others are put together."""

RANK_LABELS = ("tp_rank", "pp_rank", "moe_ep_rank")
"""Parts of one replica that each tell the same: only the lowest one that is there is read."""

WHOLE = {"cache_source": "total"}
"""A series that repeats what others of its name tell in parts: left out where these are there."""


@dataclass(frozen=True, slots=True)
class Term:
    """One quantity: where it is read, in the order of preference, and how series of one replica are put together."""

    name: str
    seen_as: tuple[tuple[str, ...], ...]  # the samples of each inner tuple are added
    put: Literal["sum", "max"] = "sum"


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram: `name`_sum, `name`_count and `name`_bucket; sum_name where the sum has a unit."""

    name: str
    sum_name: str
    seen_as: tuple[str, ...]


TERMS = (
    Term(
        "requests_total",
        (
            ("vllm:request_success_total",),
            ("sglang:num_requests_total",),
            ("tgi_request_success", "tgi_request_failure"),
            ("tgi_request_success_total", "tgi_request_failure_total"),
        ),
    ),
    Term("process_start_s", (("process_start_time_seconds",),), "max"),
    Term("running", (("vllm:num_requests_running",), ("sglang:num_running_reqs",), ("tgi_batch_current_size",))),
    Term("waiting", (("vllm:num_requests_waiting",), ("sglang:num_queue_reqs",), ("tgi_queue_size",))),
    Term(
        "kv_usage",
        (("vllm:kv_cache_usage_perc",), ("vllm:gpu_cache_usage_perc",), ("sglang:token_usage",)),
        "max",
    ),
    Term("preemptions_total", (("vllm:num_preemptions_total",), ("sglang:num_retracted_requests_total",))),
    Term(
        "prefix_query_tokens",
        (
            ("vllm:prefix_cache_queries_total",),
            ("vllm:gpu_prefix_cache_queries_total",),
            ("sglang:prompt_tokens_total",),
        ),
    ),
    Term(
        "prefix_hit_tokens",
        (("vllm:prefix_cache_hits_total",), ("vllm:gpu_prefix_cache_hits_total",), ("sglang:cached_tokens_total",)),
    ),
    Term(
        "input_tokens_total",
        (("vllm:prompt_tokens_total",), ("sglang:prompt_tokens_total",), ("tgi_request_input_length_sum",)),
    ),
    Term(
        "output_tokens_total",
        (("vllm:generation_tokens_total",), ("sglang:generation_tokens_total",), ("tgi_request_generated_tokens_sum",)),
    ),
)

HISTOGRAMS = (
    Histogram("ttft", "ttft_sum_s", ("vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds")),
    Histogram(
        "queue",
        "queue_sum_s",
        ("vllm:request_queue_time_seconds", "sglang:queue_time_seconds", "tgi_request_queue_duration"),
    ),
    Histogram("prefill", "prefill_sum_s", ("vllm:request_prefill_time_seconds",)),
    Histogram("decode", "decode_sum_s", ("vllm:request_decode_time_seconds",)),
    Histogram("iteration_tokens", "iteration_tokens_sum", ("vllm:iteration_tokens_total",)),
)


CACHE_INFO = {
    "vllm:cache_config_info": ("block_size", "num_gpu_blocks"),
    "sglang:cache_config_info": ("page_size", "num_pages"),
}
"""Gauges whose labels tell the size of a replica's prefix cache: of a block in tokens, and how many blocks."""


def _wanted() -> Iterator[str]:
    for term in TERMS:
        for names in term.seen_as:
            yield from names
    for histogram in HISTOGRAMS:
        for name in histogram.seen_as:
            yield from (f"{name}_{part}" for part in ("sum", "count", "bucket"))


WANTED = frozenset(_wanted())
"""Every sample that is read."""

KINDS = {"vllm:": "vLLM", "sglang:": "SGLang", "tgi_": "TGI"}
"""How the samples of each kind of server begin."""
