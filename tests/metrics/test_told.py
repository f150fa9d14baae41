"""Series of what servers tell: resets, rates, histograms by window, hit rates, and the numbers of one window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.server_side import server_side
from slobench.metrics.told import Buckets, Told, buckets, measured_hit_rate
from slobench.records.schema import Columns, Records

Row = tuple[float, str, str, str, float]


def telemetry(rows: Iterable[Row]) -> Columns:
    """(t s, source, name, labels, value) as columns."""
    held = list(rows)
    return {
        "t_ns": np.array([int(row[0] * 1e9) for row in held], dtype=np.int64),
        **{
            name: np.array([row[at] for row in held], dtype=np.str_)
            for at, name in ((1, "source"), (2, "name"), (3, "labels"))
        },
        "value": np.array([row[4] for row in held], dtype=np.float64),
    }


def series(
    name: str, values: Iterable[float], source: str = "server", labels: str = "", start: float = 0.0
) -> list[Row]:
    """One value a second."""
    return [(start + k, source, name, labels, value) for k, value in enumerate(values)]


def test_series_are_by_source_and_labels_and_workers_are_left_out() -> None:
    """In order of time, whatever the order of the rows."""
    rows = [*series("running", [1, 2, 3], "server-0"), *series("running", [5], "server-0", 'engine="1"')]
    rows += [*series("running", [9], "server-1"), *series("cpu_s", [7], "worker-0"), *series("running", [8], "servers")]
    told = Told.of(telemetry(reversed(rows)))
    found = {(one.source, one.labels): one.value.tolist() for one in told.series("running")}
    assert found == {("server-0", ""): [1, 2, 3], ("server-0", 'engine="1"'): [5], ("server-1", ""): [9]}
    assert set(told.by_name) == {"running"}


def test_nothing_was_sampled() -> None:
    """No row at all."""
    told = Told.of(telemetry([]))
    assert list(told.series("running")) == []
    assert told.level("running", np.array([0.0]), "sum") is None
    assert told.gained("requests_total", np.array([0.0, 1.0])) is None
    assert buckets(told, "queue", 0, 1) is None
    assert server_side(telemetry([]), 0, 10, 5) is None


@given(
    steps=st.lists(st.integers(0, 50), min_size=2, max_size=30),
    resets=st.sets(st.integers(1, 29)),
    cuts=st.lists(st.floats(0, 1), max_size=4),
)
def test_what_a_total_gained_is_the_same_however_it_is_cut(
    steps: list[int], resets: set[int], cuts: list[float]
) -> None:
    """The parts of a window add up to the whole, and a total that began anew counts from 0."""
    value, values, grew = 100.0, [100.0], 0.0
    for at, step in enumerate(steps, start=1):
        value = float(step) if at in resets and step < value else value + step
        grew += step
        values.append(value)
    told = Told.of(telemetry(series("requests_total", values)))
    end = float(len(steps))
    edges = np.unique(np.array([0.0, *(end * cut for cut in cuts), end]))
    gained = told.gained("requests_total", edges)
    assert gained is not None
    assert gained.sum() == pytest.approx(grew)
    assert (gained >= -1e-9).all()


def test_a_rate_between_samples_is_in_proportion() -> None:
    """10 within 1 s, of which a quarter lies in the first 250 ms; outside of what was sampled nothing is known."""
    told = Told.of(telemetry(series("requests_total", [0, 10, 30])))
    gained = told.gained("requests_total", np.array([-1.0, 0.0, 0.25, 1.0, 2.0, 3.0]))
    assert gained is not None
    assert np.isnan(gained[[0, 4]]).all()
    assert gained[1:4].tolist() == [2.5, 7.5, 20]


def test_levels_of_replicas_are_put_together() -> None:
    """Each one's last value; one that told nothing yet is left out."""
    rows = series("running", [1, 3], "server-0") + series("running", [10], "server-1", start=1)
    told = Told.of(telemetry(rows))
    at = np.array([-0.5, 0.5, 1.5])
    for put, wanted in (("sum", [1, 13]), ("max", [1, 10]), ("mean", [1, 6.5])):
        level = told.level("running", at, put)  # type: ignore[arg-type]
        assert level is not None
        assert np.isnan(level[0])
        assert level[1:].tolist() == wanted


def bucket_rows(observations: list[tuple[float, float]], bounds: list[float]) -> list[Row]:
    """What a sampler writes of (time, value) pairs: a bucket's count at each second at which it has changed."""
    rows: list[Row] = []
    edges = [-math.inf, *bounds, math.inf]
    for low, high in pairwise(edges):
        label = f'engine="0",le="{"+Inf" if math.isinf(high) else f"{high:g}"}"'
        before = None
        for second in range(-1, 12):
            count = float(sum(t <= second and low < value <= high for t, value in observations))
            if count != before:
                rows.append((float(second), "server", "queue_bucket", label, count))
            before = count
    return rows


@given(
    observations=st.lists(st.tuples(st.floats(0, 10), st.floats(0.001, 20)), max_size=40),
    start=st.integers(0, 9),
    length=st.integers(1, 10),
    q=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_a_quantile_of_a_window_lies_in_its_bucket(
    observations: list[tuple[float, float]], start: int, length: int, q: float
) -> None:
    """The bucket holds the inverse-ECDF quantile of exactly the observations between the two times."""
    held = buckets(Told.of(telemetry(bucket_rows(observations, [0.1, 1.0, 5.0]))), "queue", start, start + length)
    assert held is not None
    inside = sorted(value for t, value in observations if start < t <= start + length)
    assert held.counts.sum() == len(inside)
    found = held.quantile(q)
    if not inside:
        assert found is None
        return
    exact = inside[math.ceil(q * len(inside) - 1e-9) - 1]
    assert found is not None
    assert found[0] < exact <= found[1]


def test_a_histogram_without_a_last_bound_says_so() -> None:
    """Beyond the last bound only the lower end is known."""
    assert Buckets(np.array([1.0, math.inf]), np.array([1.0, 9.0])).quantile(0.5) == (1.0, math.inf)
    assert Buckets(np.array([]), np.array([])).quantile(0.5) is None


def records(rows: list[Row]) -> Records:
    """Records of which only the telemetry matters."""
    return Records({}, {}, telemetry(rows))


def test_the_measured_hit_rate_is_by_server() -> None:
    """Growth over the whole run, engines of a server added; a server that was not sampled twice tells nothing."""
    rows = [
        *series("prefix_query_tokens", [1000, 1500, 2000], "server-0", 'engine="0"'),
        *series("prefix_hit_tokens", [500, 600, 700], "server-0", 'engine="0"'),
        *series("prefix_query_tokens", [0, 1000], "server-0", 'engine="1"'),
        *series("prefix_hit_tokens", [0, 50], "server-0", 'engine="1"'),
        *series("prefix_query_tokens", [0, 500], "server-1"),
        *series("prefix_hit_tokens", [0, 500], "server-1"),
        *series("prefix_query_tokens", [77], "server-2"),
    ]
    found = measured_hit_rate(records(rows))
    assert found is not None
    assert found.by_server == {"server-0": (250, 2000), "server-1": (500, 500)}
    assert (found.hit_tokens, found.query_tokens, found.share) == (750, 2500, 0.3)


def test_no_hit_rate_where_none_is_told() -> None:
    """No counter, or one that stood still: nothing was looked up."""
    assert measured_hit_rate(records([])) is None
    assert measured_hit_rate(records(series("prefix_query_tokens", [5, 5]))) is None


def test_the_numbers_of_a_window() -> None:
    """Levels, ratios and times of a server with two engines, between 2 s and 8 s."""
    seconds = range(11)
    rows: list[Row] = []
    for engine, running in (("0", 4), ("1", 6)):
        labels = f'engine="{engine}"'
        rows += series("running", [running if 2 <= t < 8 else 99 for t in seconds], labels=labels)
        rows += series("waiting", [t if 2 <= t < 8 else 99 for t in seconds], labels=labels)
        rows += series("kv_usage", [0.1 * int(engine) + 0.05 * t for t in seconds], labels=labels)
        rows += series("preemptions_total", [max(0, t - 5) for t in seconds], labels=labels)
        rows += series("iteration_tokens_sum", [t * 1000.0 for t in seconds], labels=labels)
        rows += series("iteration_tokens_count", [t * 50.0 for t in seconds], labels=labels)
        rows += series("prefix_query_tokens", [t * 100.0 for t in seconds], labels=labels)
        rows += series("prefix_hit_tokens", [t * 5.0 for t in seconds], labels=labels)
        rows += series("queue_sum_s", [t * 2.0 for t in seconds], labels=labels)
        rows += series("queue_count", [t * 10.0 for t in seconds], labels=labels)
    side = server_side(telemetry(rows), 2.0, 8.0, 1000.0)
    assert side is not None
    assert side.replicas == 2
    assert (side.running_mean, side.running_max) == (10, 10)
    assert (side.waiting_mean, side.waiting_max) == (9, 14)
    assert side.kv_usage_max == pytest.approx(0.45)
    assert side.preemptions == pytest.approx(6)  # 3 each between 5 s and 8 s
    assert side.tokens_per_iteration == pytest.approx(20)
    assert side.iterations_per_s == pytest.approx(100)
    assert side.prefix_hit_share == pytest.approx(0.05)
    assert side.queue_mean_s == pytest.approx(0.2)
    assert (side.queue_p50_s, side.prefill_mean_s, side.gpus, side.j_per_output_token) == (None, None, 0, None)


@pytest.mark.parametrize("metered", [True, False])
def test_energy_per_token(metered: bool) -> None:  # noqa: FBT001
    """Two GPUs of 300 W for 6 s while 1,800 tokens came: 2 J a token, by the meter or by the mean power."""
    rows: list[Row] = []
    for gpu in ("gpu-0", "gpu-1"):
        rows += series("gpu_power_w", [300.0] * 11, gpu)
        rows += series("gpu_utilisation", [0.8] * 11, gpu)
        rows += series("gpu_memory_used_bytes", [70.0] * 11, gpu)
        rows += series("gpu_memory_bytes", [80.0] * 11, gpu)
        rows += series("gpu_throttled", [float(t == 4) for t in range(11)] if gpu == "gpu-0" else [0.0] * 11, gpu)
        if metered:
            rows += series("gpu_energy_j", [1e6 + 300.0 * t for t in range(11)], gpu)
    side = server_side(telemetry(rows), 2.0, 8.0, 1800.0)
    assert side is not None
    assert (side.gpus, side.replicas, side.running_mean) == (2, 0, None)
    assert side.gpu_energy_j == pytest.approx(3600)
    assert side.j_per_output_token == pytest.approx(2)
    assert side.gpu_power_w_mean == pytest.approx(600)
    assert side.gpu_utilisation_mean == pytest.approx(0.8)
    assert side.gpu_memory_used_share_max == pytest.approx(70 / 80)
    assert side.gpu_throttled_share == pytest.approx(1 / 6)


def test_a_window_that_was_sampled_in_part() -> None:
    """A run that was killed: what is known of the window is used, and nothing is invented."""
    rows = series("iteration_tokens_sum", [0, 100, 200]) + series("iteration_tokens_count", [0, 10, 20])
    side = server_side(telemetry(rows), 1.0, 50.0, 0.0)
    assert side is not None
    assert side.tokens_per_iteration == pytest.approx(10)
    assert server_side(telemetry(rows), 30.0, 50.0, 0.0).tokens_per_iteration is None  # type: ignore[union-attr]
