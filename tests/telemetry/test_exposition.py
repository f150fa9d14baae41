"""Prometheus expositions of vLLM, SGLang, TGI and our engine, read into one vocabulary."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slobench.config.engine import Engine
from slobench.engine.exposition import ServerMetrics, Times
from slobench.engine.model import EngineCore
from slobench.records.schema import SERVER_METRICS
from slobench.telemetry.exposition import parse
from slobench.telemetry.vocabulary import HISTOGRAMS, TERMS
from slobench.workload.sharing import Cache

SGLANG = """
# HELP sglang:num_requests_total Number of requests processed.
# TYPE sglang:num_requests_total counter
sglang:num_requests_total{engine_type="unified",model_name="m"} 40.0
sglang:prompt_tokens_total{engine_type="unified",model_name="m"} 8.0e+03
sglang:generation_tokens_total{engine_type="unified",model_name="m"} 700.0
sglang:cached_tokens_total{cache_source="device",model_name="m"} 300.0
sglang:cached_tokens_total{cache_source="host",model_name="m"} 20.0
sglang:cached_tokens_total{cache_source="total",model_name="m"} 320.0
sglang:num_running_reqs{dp_rank="0",moe_ep_rank="0",model_name="m",pp_rank="0",tp_rank="0"} 3.0
sglang:num_running_reqs{dp_rank="0",moe_ep_rank="0",model_name="m",pp_rank="0",tp_rank="1"} 3.0
sglang:num_running_reqs{dp_rank="1",moe_ep_rank="0",model_name="m",pp_rank="0",tp_rank="2"} 5.0
sglang:num_queue_reqs{dp_rank="0",tp_rank="0"} 1.0
sglang:token_usage{dp_rank="0",tp_rank="0"} 0.28
sglang:num_retracted_requests_total{dp_rank="0",tp_rank="0"} 2.0
sglang:time_to_first_token_seconds_bucket{le="0.1",model_name="m"} 10.0
sglang:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 40.0
sglang:time_to_first_token_seconds_sum{model_name="m"} 12.5
sglang:time_to_first_token_seconds_count{model_name="m"} 40.0
"""

TGI = """
# TYPE tgi_request_success counter
tgi_request_success 39
# TYPE tgi_request_failure counter
tgi_request_failure{err="overloaded"} 4
tgi_request_failure{err="validation"} 2
# TYPE tgi_queue_size gauge
tgi_queue_size 7
tgi_batch_current_size 4
tgi_request_input_length_sum 5000
tgi_request_generated_tokens_sum 8123
# TYPE tgi_request_queue_duration histogram
tgi_request_queue_duration_bucket{le="0.001"} 30
tgi_request_queue_duration_bucket{le="1"} 44
tgi_request_queue_duration_bucket{le="+Inf"} 45
tgi_request_queue_duration_sum 3.5
tgi_request_queue_duration_count 45
"""


def told(text: str) -> dict[tuple[str, str], float]:
    """Values by name and labels."""
    readings = parse(text).readings
    found = {(each.name, each.labels): each.value for each in readings}
    assert len(found) == len(readings)
    return found


def test_sglang_is_read_by_its_own_names() -> None:
    """Ranks of one replica count once, replicas stay apart, a sum beside its parts is left out."""
    assert parse(SGLANG).kind == "SGLang"
    found = told(SGLANG)
    assert found["requests_total", ""] == 40
    assert (found["prefix_query_tokens", ""], found["prefix_hit_tokens", ""]) == (8000, 320)
    assert (found["input_tokens_total", ""], found["output_tokens_total", ""]) == (8000, 700)
    assert (found["running", 'dp_rank="0"'], found["running", 'dp_rank="1"']) == (3, 5)
    assert (found["waiting", 'dp_rank="0"'], found["kv_usage", 'dp_rank="0"']) == (1, 0.28)
    assert found["preemptions_total", 'dp_rank="0"'] == 2
    assert (found["ttft_sum_s", ""], found["ttft_count", ""]) == (12.5, 40)
    assert (found["ttft_bucket", 'le="0.1"'], found["ttft_bucket", 'le="+Inf"']) == (10, 30)


def test_sglang_with_the_sum_alone() -> None:
    """Where no part is told, the sum is read."""
    assert told('sglang:cached_tokens_total{cache_source="total"} 5\n')["prefix_hit_tokens", ""] == 5


def test_tgi_is_read_by_its_own_names() -> None:
    """Failures are requests that it ended too; counters without `_total` keep their names."""
    assert parse(TGI).kind == "TGI"
    found = told(TGI)
    assert found["requests_total", ""] == 45
    assert (found["running", ""], found["waiting", ""]) == (4, 7)
    assert (found["input_tokens_total", ""], found["output_tokens_total", ""]) == (5000, 8123)
    assert (found["queue_sum_s", ""], found["queue_count", ""]) == (3.5, 45)
    assert [found["queue_bucket", f'le="{le}"'] for le in ("0.001", "1", "+Inf")] == [30, 14, 1]


def test_older_vllm_is_read_too() -> None:
    """Names that vLLM has given up, and of two that tell the same only one."""
    found = told(
        'vllm:gpu_cache_usage_perc{engine="0"} 0.5\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.5\n'
        'vllm:gpu_prefix_cache_queries_total{engine="0"} 7\n'
    )
    assert found == {("kv_usage", 'engine="0"'): 0.5, ("prefix_query_tokens", 'engine="0"'): 7}


@pytest.mark.parametrize(
    ("text", "caches"),
    [
        ('vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="500"} 1.0', (Cache(32, 500),)),
        ('vllm:cache_config_info{block_size="16",num_cpu_blocks="None",num_gpu_blocks="None"} 1.0', (Cache(16),)),
        (
            (
                'vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="7"} 1.0\n'
                'vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="8"} 1.0'
            ),
            (Cache(16, 7), Cache(16, 8)),
        ),
        (
            (
                'sglang:cache_config_info{page_size="1",num_pages="900",tp_rank="0"} 1.0\n'
                'sglang:cache_config_info{page_size="1",num_pages="900",tp_rank="1"} 1.0'
            ),
            (Cache(1, 900),),
        ),
        ('vllm:cache_config_info{block_size="None",num_gpu_blocks="7"} 1.0', ()),
        ("vllm:num_requests_running 1.0", ()),
    ],
    ids=["vLLM", "before it is made", "two engines", "SGLang's ranks", "no block size", "untold"],
)
def test_the_size_of_prefix_caches_is_read(text: str, caches: tuple[Cache, ...]) -> None:
    """Block size and number of blocks of each replica, as far as they are told."""
    assert parse(f"{text}\n").caches == caches


def test_our_engine_tells_everything_but_the_time_of_the_scrape() -> None:
    """Its exposition has a value for each name of the vocabulary."""
    metrics = ServerMetrics("sim")
    metrics.count_reply(Times(0, 10**9, 3 * 10**9, 6 * 10**9), 100, 16, "length")
    exposed = parse(metrics.render(EngineCore(Engine(), seed=0)).decode())
    assert exposed.kind == "vLLM"
    assert {each.name for each in exposed.readings} == set(SERVER_METRICS) - {"scrape_s"}
    found = {(each.name, each.labels): each.value for each in exposed.readings}
    sums = [found[f"{name}_sum_s", 'engine="0"'] for name in ("queue", "prefill", "decode")]
    assert sums == [1, 2, 3]


def test_the_vocabulary_is_the_schemas() -> None:
    """No name is told that the schema does not document, and none twice."""
    parts = [part for h in HISTOGRAMS for part in (h.sum_name, f"{h.name}_count", f"{h.name}_bucket")]
    names = [term.name for term in TERMS] + parts
    assert len(names) == len(set(names))
    assert {*names, "scrape_s"} == set(SERVER_METRICS)


@pytest.mark.parametrize(
    "text", ["", "<html>not found</html>", "# TYPE up gauge\nup 1\nprocess_start_time_seconds 5\n"]
)
def test_what_is_not_known_tells_nothing(text: str) -> None:
    """A page, or another program's metrics."""
    assert (parse(text).kind, parse(text).readings) == ("", ())


LABEL = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=8)
VALUE = st.integers(0, 2**40)


def escaped(value: str) -> str:
    """A label's value as the text format has it."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@given(st.lists(st.tuples(st.sampled_from(["0", "1", "2"]), LABEL, VALUE), min_size=1, max_size=12))
def test_series_of_one_engine_are_added_whatever_their_other_labels_hold(series: list[tuple[str, str, int]]) -> None:
    """Quotes, commas, braces, line ends and other scripts in a label's value change nothing."""
    text = "".join(
        f'vllm:request_success_total{{engine="{engine}",finished_reason="{escaped(label)}"}} {value}\n'
        for engine, label, value in series
    )
    wanted: dict[tuple[str, str], float] = {}
    for engine, _, value in series:
        key = ("requests_total", f'engine="{engine}"')
        wanted[key] = wanted.get(key, 0) + value
    assert told(text) == wanted


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_buckets_hold_what_lies_between_their_bounds(counts: list[int]) -> None:
    """The counts below each bound become those of each bucket, whose sum is the count."""
    bounds = [*(f"{0.1 * 2**k:g}" for k in range(len(counts) - 1)), "+Inf"]
    lines = [
        f'vllm:request_queue_time_seconds_bucket{{le="{b}"}} {n}'
        for b, n in zip(bounds, accumulate(counts), strict=True)
    ]
    text = "\n".join(
        ["vllm:request_queue_time_seconds_sum 1", f"vllm:request_queue_time_seconds_count {sum(counts)}", *lines]
    )
    found = told(text)
    assert [found["queue_bucket", f'le="{bound}"'] for bound in bounds] == counts


@example('_bucket{engine="0",="0.5"} 4')  # not even the parser's own kind of error
@given(st.text(max_size=60))
def test_a_line_without_form_is_told_as_such(rest: str) -> None:
    """Whatever follows a name that is wanted: values, or ValueError."""
    try:
        exposed = parse(f"vllm:num_requests_running{rest}")
    except ValueError:
        return
    assert all(math.isfinite(each.value) for each in exposed.readings)
