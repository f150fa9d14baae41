"""The live counts are seen by other processes, and the quantiles are as near as the bins are wide."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.errors import RecordsError
from slobench.records.counters import (
    BINS,
    HIGHEST_NS,
    LOWEST_NS,
    Counters,
    Hist,
    Slot,
    bin_edges_s,
    bin_of,
    quantile_s,
)

WIDTH = (HIGHEST_NS / LOWEST_NS) ** (1 / (BINS - 2))  # upper edge / lower edge of a bin
ROUNDING = 1e-9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the counter file of a run stands."""
    return tmp_path / "spool" / "counters.bin"


def test_the_parent_sees_what_another_process_counts(path: Path) -> None:
    """Counts, maxima and histogram entries of a worker process reach the parent's snapshot, and no other block."""
    with Counters.create(path, 3) as counters:
        code = f"""if True:
            from pathlib import Path
            from slobench.records.counters import Counters, Hist, Slot
            mine = Counters.attach(Path({str(path)!r}), 1)
            mine.set(Slot.PLANNED, 7)
            mine.add(Slot.STARTED)
            mine.add(Slot.STARTED, 4)
            mine.raise_to(Slot.LAG_MAX_NS, 300)
            mine.raise_to(Slot.LAG_MAX_NS, 200)
            mine.observe(Hist.E2E, 50_000_000)
            mine.close()
        """
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        now = counters.snapshot()
    assert now.slots[:, [Slot.PLANNED, Slot.STARTED, Slot.LAG_MAX_NS]].tolist() == [[0, 0, 0], [7, 5, 300], [0, 0, 0]]
    assert now.histograms.sum(axis=2).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_totals_maxima_and_histograms_add_up_over_workers(path: Path) -> None:
    """A snapshot sums counts and histograms over workers, and takes the largest of maxima."""
    with Counters.create(path, 2) as counters:
        blocks = [Counters.attach(path, worker) for worker in range(2)]
        for k, block in enumerate(blocks):
            block.add(Slot.OK, 10 + k)
            block.set(Slot.LAG_MAX_NS, 5 - k)
            block.observe(Hist.TTFT, 30_000_000)
        now = counters.snapshot()
    assert now.total(Slot.OK) == 21
    assert now.highest(Slot.LAG_MAX_NS) == 5
    assert now.histogram(Hist.TTFT).sum() == 2
    assert now.histogram(Hist.TTFT)[bin_of(30_000_000)] == 2


def test_the_difference_of_two_snapshots_is_what_happened_between_them(path: Path) -> None:
    """A snapshot does not change once it is taken."""
    with Counters.create(path, 1) as counters:
        block = Counters.attach(path, 0)
        block.observe(Hist.TTFT, 1_000_000)
        earlier = counters.snapshot()
        block.observe(Hist.TTFT, 2_000_000_000)
        between = counters.snapshot().histogram(Hist.TTFT) - earlier.histogram(Hist.TTFT)
    assert between.sum() == 1
    assert between[bin_of(2_000_000_000)] == 1


@given(st.integers(0, 2 * HIGHEST_NS))
def test_a_duration_lies_between_the_edges_of_its_bin(ns: int) -> None:
    """The bin that counts a duration has its lower edge at or below it and its upper edge above it."""
    edges = [*bin_edges_s(), math.inf]
    at = bin_of(ns)
    assert edges[at] * (1 - ROUNDING) <= ns / 1e9 <= edges[at + 1] * (1 + ROUNDING)


@given(st.integers(LOWEST_NS, HIGHEST_NS - 1))
def test_a_quantile_is_within_half_a_bin_of_the_value(ns: int) -> None:
    """The median of a lone value is off by at most the root of a bin's width, 1.3 %."""
    counts = np.zeros(BINS, dtype=np.int64)
    counts[bin_of(ns)] = 1
    seen = quantile_s(counts, 0.5)
    assert seen is not None
    assert abs(math.log(seen / (ns / 1e9))) <= math.log(WIDTH) / 2 + ROUNDING
    assert math.sqrt(WIDTH) < 1.013


@given(
    values=st.lists(st.integers(LOWEST_NS, HIGHEST_NS - 1), min_size=1, max_size=50),
    q=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_quantiles_are_the_inverse_ecdf_to_within_a_bin(values: list[int], q: float) -> None:
    """A histogram's quantile is that of the values by numpy's inverted_cdf, up to half a bin."""
    counts = np.bincount([bin_of(value) for value in values], minlength=BINS)
    seen = quantile_s(counts, q)
    exact = np.quantile(values, q, method="inverted_cdf") / 1e9
    assert seen is not None
    assert abs(math.log(seen / exact)) <= math.log(WIDTH) / 2 + ROUNDING


def test_quantiles_outside_the_bins_are_not_invented() -> None:
    """No data is None, a quantile at or above 1000 s is inf, one below 10 µs is at most that."""
    counts = np.zeros(BINS, dtype=np.int64)
    assert quantile_s(counts, 0.5) is None
    counts[bin_of(0)] = 1
    counts[bin_of(10 * HIGHEST_NS)] = 1
    low, high = quantile_s(counts, 0.5), quantile_s(counts, 1.0)
    assert low is not None
    assert low <= LOWEST_NS / 1e9
    assert high == math.inf


def test_the_file_has_no_holes(path: Path) -> None:
    """All its blocks are allocated: a store to a hole on a full disk would kill the worker."""
    Counters.create(path, 4).close()
    stat = path.stat()
    assert stat.st_blocks * 512 >= stat.st_size


def test_what_is_no_counter_file_is_refused(path: Path, tmp_path: Path) -> None:
    """Missing, empty, foreign and cut files, and unknown workers, are readable errors."""
    Counters.create(path, 1).close()
    cut, empty, foreign = (tmp_path / name for name in ("cut", "empty", "foreign"))
    cut.write_bytes(path.read_bytes()[:-8])
    empty.touch()
    foreign.write_bytes(b"x" * 100_000)
    for bad in (cut, empty, foreign, tmp_path / "absent"):
        with pytest.raises(RecordsError, match="expected"):
            Counters.open(bad)
    with pytest.raises(RecordsError, match="no worker 1"):
        Counters.attach(path, 1)


def test_a_folder_that_cannot_be_made_is_a_readable_error(tmp_path: Path) -> None:
    """Creating the file where a file stands in the way of its folder says so."""
    (tmp_path / "spool").touch()
    with pytest.raises(RecordsError, match="cannot write"):
        Counters.create(tmp_path / "spool" / "counters.bin", 1)


def test_reading_the_file_of_another_process_sees_its_counts(path: Path) -> None:
    """`open` finds the number of workers and what they counted."""
    Counters.create(path, 2).close()
    Counters.attach(path, 1).add(Slot.GOOD, 3)
    with Counters.open(path) as counters:
        assert counters.workers == 2
        assert counters.snapshot().total(Slot.GOOD) == 3
