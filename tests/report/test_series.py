import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.report import series
from slobench.report.svg import Axis


@given(end=st.floats(0.5, 1e5), n=st.integers(0, 10**6))
def test_bins_cover_the_run_and_are_few(end: float, n: int) -> None:
    """Bins reach the end of the run, and there are 1 to 121 of them."""
    bins = series.time_bins(end, n)
    assert bins.edges[-1] >= end * (1 - 1e-9)
    assert 2 <= len(bins.edges) <= 122


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_quantiles_over_time_are_those_of_each_bin(rows: list[tuple[float, float]], q: float) -> None:
    """Each point is numpy's inverted-CDF quantile of the values of its bin; an empty bin is NaN, not 0."""
    t, values = (np.array(column) for column in zip(*rows, strict=True))
    bins = series.Bins(np.arange(0.0, 12.0))
    (curve,) = series.quantiles_over_time(t, values, bins, (q,))
    for position, point in enumerate(curve):
        own = values[np.floor(t) == position]
        if len(own):
            assert point == np.quantile(own, q, method="inverted_cdf")
        else:
            assert np.isnan(point)


def test_rates_add_up_to_the_events() -> None:
    """Rates times bin width give back the number of events, or their weights; times outside or null are left out."""
    bins = series.Bins(np.arange(0.0, 11.0, 2.0))
    t = np.array([0.0, 1.9, 2.0, 9.99, 10.0, np.nan])
    assert list(series.rate_over_time(t, bins) * bins.width) == [2, 1, 0, 0, 1]
    assert list(series.rate_over_time(t, bins, np.arange(6.0)) * 2) == [1, 2, 0, 0, 3]


def test_in_flight_counts_what_has_started_and_not_ended() -> None:
    """A request is in flight from its start to its end; one that never ended stays, one never started never counts."""
    started = np.array([0.0, 1.0, 2.0, np.nan])
    ended = np.array([1.5, np.nan, 3.0, 0.5])
    assert list(series.in_flight(started, ended, np.array([0.0, 1.2, 2.5, 9.0]))) == [1, 2, 2, 1]


def test_a_distribution_with_failures_ends_below_one() -> None:
    """Requests without a value stay in the population: 3 of 4 seen, so the curve ends at 75 %."""
    xs, ys = series.distribution(np.array([3.0, np.nan, 1.0, 2.0]), 4)
    assert (list(xs), list(ys)) == ([1.0, 2.0, 3.0], [0.25, 0.5, 0.75])


def test_the_tail_axis_spaces_nines_evenly() -> None:
    """90, 99 and 99.9 % are one step apart each."""
    places = Axis(0.0, 0.9999, "tail").place(np.array([0.0, 0.9, 0.99, 0.999, 0.9999]))
    assert np.diff(places) == pytest.approx(0.25)


@given(low=st.floats(0, 1e6), span=st.floats(1e-3, 1e6), most=st.integers(2, 12))
def test_ticks_lie_on_the_axis_and_are_few(low: float, span: float, most: int) -> None:
    """A linear axis has at most two ticks more than asked, all inside."""
    ticks = Axis(low, low + span).ticks(most)
    assert len(ticks) <= most + 2
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)
