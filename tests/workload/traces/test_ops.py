"""Operations on traces: what each keeps, and what it changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.workload.content import Contents
from slobench.workload.sharing import Partial, hits
from slobench.workload.traces import ops
from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.variates import child
from tests.workload.traces.strategies import traces

S = 10**9


def simple(arrival_s: list[float], **columns: list[int]) -> Trace:
    n = len(arrival_s)
    given_columns = {"input_tokens": [100] * n, "output_tokens": [10] * n, **columns}
    arrays = {name: np.array(values, dtype=np.int64) for name, values in given_columns.items()}
    arrays["arrival_ns"] = np.array([round(each * S) for each in arrival_s], dtype=np.int64)
    return make_trace(arrays, format="azure")


def test_a_slice_is_half_open_and_begins_at_its_start() -> None:
    """Times count from the start asked for, so that a slice without arrivals at its start keeps its pause."""
    part = ops.sliced(simple([0, 1, 2, 3, 4]), 1_500_000_000, 4 * S)
    assert part.numbers("arrival_ns").tolist() == [500_000_000, 1_500_000_000]
    assert len(ops.sliced(part, 100 * S, None)) == 0


@given(trace=traces(), cuts=st.lists(st.integers(0, 10**12), max_size=4))
def test_slices_side_by_side_are_the_whole(trace: Trace, cuts: list[int]) -> None:
    """No row is lost or doubled at a cut."""
    edges = [0, *sorted(cuts), None]
    parts = [ops.sliced(trace, low, high) for low, high in pairwise(edges)]
    again = [t + low for low, part in zip(edges, parts, strict=False) for t in part.numbers("arrival_ns").tolist()]
    assert again == trace.numbers("arrival_ns").tolist()


@given(trace=traces(), factor=st.sampled_from([0.5, 1.0, 2.0, 7.3]))
def test_speed_changes_times_and_nothing_else(trace: Trace, factor: float) -> None:
    """Arrivals and delays are divided; lengths, sessions and how long replies took stay."""
    faster = ops.sped_up(trace, factor)
    assert np.abs(faster.numbers("arrival_ns") * factor - trace.numbers("arrival_ns")).max() <= factor
    kept = [name for name in trace.table.column_names if name not in {"arrival_ns", "delay_ns"}]
    assert faster.table.select(kept).equals(trace.table.select(kept))
    told = trace.numbers("delay_ns") != NULL
    assert ((faster.numbers("delay_ns") != NULL) == told).all()


@given(trace=traces(least=5), keep=st.floats(0.05, 1), seed=st.integers(0, 100))
def test_thinning_keeps_whole_sessions(trace: Trace, keep: float, seed: int) -> None:
    """A session is kept or left out whole; times do not change; the same seed keeps the same rows."""
    fewer = ops.thinned(trace, keep, child(seed, "keep"))
    assert fewer.table.equals(ops.thinned(trace, keep, child(seed, "keep")).table)
    sessions = trace.numbers("session")
    left = fewer.numbers("session")
    for number in set(left.tolist()) - {NULL}:
        assert (left == number).sum() == (sessions == number).sum()
    assert set(fewer.numbers("arrival_ns").tolist()) <= set(trace.numbers("arrival_ns").tolist())


def test_thinning_keeps_the_share_asked_for_and_lowers_dispersion() -> None:
    """A quarter of 40,000 rows within 5 standard errors; dispersion D becomes 1 + keep (D - 1)."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(rng.gamma(2.0, 10.0, 2000))  # variance/mean 1 + 10
    trace = simple(np.repeat(np.arange(2000.0), counts).tolist())
    fewer = ops.thinned(trace, 0.25, child(3, "keep"))
    assert len(fewer) == pytest.approx(len(trace) / 4, abs=5 * np.sqrt(len(trace) * 3 / 16))
    left = np.bincount(fewer.numbers("arrival_ns") // S, minlength=2000)
    full = counts.var() / counts.mean()
    assert left.var() / left.mean() == pytest.approx(1 + 0.25 * (full - 1), rel=0.15)  # 5 se of a variance: 16 %


@given(trace=traces(), seed=st.integers(0, 100))
def test_spreading_stays_in_the_bin_and_in_order(trace: Trace, seed: int) -> None:
    """Every arrival lies in its bin, and rows keep the order of the file."""
    bins = np.sort(trace.numbers("arrival_ns") // S * S)
    binned = replace(trace.with_numbers(arrival_ns=bins), bin_ns=S)
    spread = ops.spread_in_bins(binned, child(seed, "spread"))
    arrival = spread.numbers("arrival_ns")
    assert (arrival // S * S == bins).all()
    assert (np.diff(arrival) >= 0).all()
    kept = [name for name in trace.table.column_names if name != "arrival_ns"]
    assert spread.table.select(kept).equals(trace.table.select(kept))
    assert spread.bin_ns == 0


def test_spreading_is_uniform() -> None:
    """Places of 10,000 arrivals in their bins have the mean and variance of a uniform, within 5 standard errors."""
    trace = replace(simple([float(i // 10) for i in range(10_000)]), bin_ns=S)
    place = ops.spread_in_bins(trace, child(1, "spread")).numbers("arrival_ns") % S / S
    assert place.mean() == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / 10_000))
    assert place.var() == pytest.approx(1 / 12, rel=0.05)


@given(trace=traces(), times=st.integers(1, 4))
def test_rounds_follow_one_another_and_share_nothing(trace: Trace, times: int) -> None:
    """Each round has the same gaps and lengths; its sessions and blocks are in no other round."""
    loop = ops.looped(trace, times)
    n = len(trace)
    assert len(loop) == n * times
    assert (np.diff(loop.numbers("arrival_ns")) >= 0).all()
    seen: set[int] = set()
    for turn in range(times):
        part = loop.take(np.arange(turn * n, (turn + 1) * n))
        arrival = part.numbers("arrival_ns")
        assert (np.diff(arrival) == np.diff(trace.numbers("arrival_ns"))).all()
        assert part.numbers("input_tokens").tolist() == trace.numbers("input_tokens").tolist()
        blocks = set(part.lists("blocks")[1].tolist())
        assert not blocks & seen
        seen |= blocks
    numbers = set(loop.numbers("session").tolist()) - {NULL}
    assert len(numbers) == times * len(set(trace.numbers("session").tolist()) - {NULL})


@given(trace=traces(), factor=st.sampled_from([1 / 32, 0.1, 1.0, 3.0]))
def test_scaled_lengths_keep_what_blocks_share(trace: Trace, factor: float) -> None:
    """Prompts keep their number of blocks, so that an infinite cache finds as many of them as before."""
    small = ops.scaled_tokens(trace, factor)
    for name in ("input_tokens", "output_tokens"):
        old, new = trace.numbers(name), small.numbers(name)
        assert ((new == 0) == (old == 0)).all()
    if trace.block_tokens is None:
        assert small.numbers("input_tokens").tolist() == [
            max(1, round(old * factor)) if old else 0 for old in trace.numbers("input_tokens").tolist()
        ]
        return
    assert small.block_tokens == max(1, round(trace.block_tokens * factor))
    assert found(small)[0] == found(trace)[0]
    # Ends of prompts that fill no block: those of different lengths may become equal.
    full = -(-trace.numbers("input_tokens") // trace.block_tokens) * trace.block_tokens
    whole = trace.with_numbers(input_tokens=full)
    assert found(ops.scaled_tokens(whole, factor)) == found(whole)


def found(trace: Trace) -> tuple[int, int]:
    """Blocks, and those that an infinite cache finds."""
    contents = Contents.of_blocks(*trace.lists("blocks"), trace.numbers("input_tokens"), trace.block_tokens or 1)
    shared = hits(contents, trace.numbers("input_tokens"), trace.block_tokens or 1, partial=Partial.RECORDED)
    return shared.blocks, shared.hit_blocks


def test_labels_are_found_whole_or_in_part() -> None:
    """A label of several parts answers to each of them; an unknown one is refused with those there are."""
    import pyarrow as pa

    names = ["GPT-4/API log", "GPT-4/Conversation log", "ChatGPT/API log", None]
    trace = simple([0, 1, 2, 3]).with_column("class", pa.array(names, pa.string()))
    assert ops.labels(trace) == {"": 1, "ChatGPT/API log": 1, "GPT-4/API log": 1, "GPT-4/Conversation log": 1}
    assert len(ops.of_class(trace, "GPT-4")) == 2
    assert len(ops.of_class(trace, "GPT-4/API log")) == 1
    with pytest.raises(ConfigError, match=r"no request of this trace has the label 'gpt'(.|\n)*GPT-4/API log \(1\)"):
        ops.of_class(trace, "gpt")


def test_more_than_36_years_are_refused() -> None:
    """Times that do not fit 64 bits end in an error, not in wrong times."""
    with pytest.raises(ConfigError, match="36 years"):
        ops.sped_up(simple([0, 1e6]), 1e-6)
    with pytest.raises(ConfigError, match="36 years"):
        ops.looped(simple([0, 1e6]), 10_000)
