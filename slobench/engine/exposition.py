"""The simulated server's own numbers, under vLLM's names, in the Prometheus text format."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from slobench.engine.model import EngineCore, Step

# vLLM's own bounds, so that a reader of its histograms needs no other case.
_TTFT_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_GAP_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_REQUEST_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_LATE_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1)


class Histogram:
    """Counts by upper bound, and the sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count `value`, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Yield the samples of the histogram `name`."""
        yield f"# TYPE {name} histogram"
        below = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            below += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {below}'
        yield f"{name}_sum{{{labels}}} {self.total!r}"
        yield f"{name}_count{{{labels}}} {below}"


@dataclass(frozen=True, slots=True)
class Times:
    """When things happened to one request that was served whole, in ns on one clock."""

    received_ns: int
    admitted_ns: int
    first_ns: int
    last_ns: int


@dataclass(slots=True)
class ServerMetrics:
    """Everything that the server counts. Times are those of the engine's steps, not of the socket."""

    model: str
    started_s: float = field(default_factory=time.time)
    prompt_tokens: int = 0
    generation_tokens: int = 0
    ended: dict[str, int] = field(default_factory=lambda: {"stop": 0, "length": 0, "abort": 0, "error": 0})
    ttft_s: Histogram = field(default_factory=lambda: Histogram(_TTFT_S))
    gap_s: Histogram = field(default_factory=lambda: Histogram(_GAP_S))
    tpot_s: Histogram = field(default_factory=lambda: Histogram(_GAP_S))
    e2e_s: Histogram = field(default_factory=lambda: Histogram(_REQUEST_S))
    queue_s: Histogram = field(default_factory=lambda: Histogram(_REQUEST_S))
    prefill_s: Histogram = field(default_factory=lambda: Histogram(_REQUEST_S))
    decode_s: Histogram = field(default_factory=lambda: Histogram(_REQUEST_S))
    inference_s: Histogram = field(default_factory=lambda: Histogram(_REQUEST_S))
    step_tokens: Histogram = field(default_factory=lambda: Histogram(_STEP_TOKENS))
    input_lengths: Histogram = field(default_factory=lambda: Histogram(_LENGTHS))
    output_lengths: Histogram = field(default_factory=lambda: Histogram(_LENGTHS))
    step_late_s: Histogram = field(default_factory=lambda: Histogram(_LATE_S))

    def count_step(self, step: Step) -> None:
        """Count a step that has ended. Each of its decodes had its token before when it began."""
        self.step_tokens.add(step.tokens)
        self.prompt_tokens += step.prompt_tokens
        self.generation_tokens += step.decodes + len(step.prefilled)
        if step.decodes:
            self.gap_s.add(step.duration_ns / 1e9, step.decodes)

    def count_reply(self, times: Times, prompt_tokens: int, output_tokens: int, finish_reason: str) -> None:
        """Count a reply that was served whole."""
        self.ended[finish_reason] += 1
        self.e2e_s.add((times.last_ns - times.received_ns) / 1e9)
        self.queue_s.add((times.admitted_ns - times.received_ns) / 1e9)
        self.prefill_s.add((times.first_ns - times.admitted_ns) / 1e9)
        self.decode_s.add((times.last_ns - times.first_ns) / 1e9)
        self.inference_s.add((times.last_ns - times.admitted_ns) / 1e9)
        if output_tokens > 1:
            self.tpot_s.add((times.last_ns - times.first_ns) / 1e9 / (output_tokens - 1))
        self.input_lengths.add(prompt_tokens)
        self.output_lengths.add(output_tokens)

    def render(self, core: EngineCore) -> bytes:
        """Return the whole exposition."""
        labels = f'engine="0",model_name="{self.model}"'
        lines = []
        for name, value in (
            ("num_requests_running", len(core.running)),
            ("num_requests_waiting", core.waiting),
            ("kv_cache_usage_perc", core.kv.usage()),
        ):
            lines += [f"# TYPE vllm:{name} gauge", f"vllm:{name}{{{labels}}} {value}"]
        for name, count in (
            ("num_preemptions", core.preemptions),
            ("prefix_cache_queries", core.prefix_queries),
            ("prefix_cache_hits", core.prefix_hits),
            ("prompt_tokens", self.prompt_tokens),
            ("generation_tokens", self.generation_tokens),
        ):
            lines += [f"# TYPE vllm:{name}_total counter", f"vllm:{name}_total{{{labels}}} {count}"]
        lines.append("# TYPE vllm:request_success_total counter")
        for reason, count in self.ended.items():
            lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}')
        for name, histogram in (
            ("vllm:time_to_first_token_seconds", self.ttft_s),
            ("vllm:inter_token_latency_seconds", self.gap_s),
            ("vllm:request_time_per_output_token_seconds", self.tpot_s),
            ("vllm:e2e_request_latency_seconds", self.e2e_s),
            ("vllm:request_queue_time_seconds", self.queue_s),
            ("vllm:request_prefill_time_seconds", self.prefill_s),
            ("vllm:request_decode_time_seconds", self.decode_s),
            ("vllm:request_inference_time_seconds", self.inference_s),
            ("vllm:iteration_tokens_total", self.step_tokens),
            ("vllm:request_prompt_tokens", self.input_lengths),
            ("vllm:request_generation_tokens", self.output_lengths),
            ("slobench_sim:step_late_seconds", self.step_late_s),
        ):
            lines += histogram.lines(name, labels)
        cache = (
            f'block_size="{core.spec.block_tokens}",num_gpu_blocks="{core.kv.blocks}",'
            f'enable_prefix_caching="{core.spec.prefix_cache}"'
        )
        lines += [
            "# TYPE vllm:cache_config_info gauge",
            f"vllm:cache_config_info{{{labels},{cache}}} 1",
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self.started_s!r}",
        ]
        return "\n".join([*lines, ""]).encode()
