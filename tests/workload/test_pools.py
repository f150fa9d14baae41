"""Client pools: read with care, and sampled without the faults of the sampler that was published with the data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from slobench.config.arrivals import Pool, at_rate, mean_rate
from slobench.config.pool import read_pool, recorded_rate
from slobench.errors import ConfigError
from slobench.workload.bounds import Bounds
from slobench.workload.moments import expected_rate, rate_at
from slobench.workload.pools import pool_ns
from slobench.workload.variates import child
from tests.workload.processes import S, before, before_s, first, process

SHARED = Path(__file__).parents[3] / "shared" / "traces" / "servegen" / "data" / "reason" / "deepseek-r1"
recorded = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/traces")
WINDOW_S = 600.0
RUNS = 60

STEADY = ["0,0.5,1.0,Gamma,1.0,2.0", "600,0.1,1.0,Gamma,1.0,10.0", "1200,0,0,,0,0", "1800,1.0,1.0,Gamma,1.0,1.0"]
# cv 5: begun anew with an arrival, each window would have 12 more than its 12.
BURSTY = [f"{600 * k},0.02,5.0,Gamma,0.04,1250.0" for k in range(4)]
# The scale makes half the recorded rate (mean gap 2 x scale at shape 0.5): it is the rate that counts.
WEIBULL = [f"{600 * k},0.2,2.236,Weibull,0.5,5.0" for k in range(4)]


@pytest.fixture
def pool_of(tmp_path):
    """Write a pool of clients, each a list of lines, and make the process of it."""

    def make(*clients: list[str], numbers: tuple[int, ...] = (), **fields) -> Pool:
        for number, lines in zip(numbers or range(len(clients)), clients, strict=True):
            (tmp_path / f"chunk-{number}-trace.csv").write_text("\n".join(lines) + "\n")
        return process({"process": "pool", "folder": str(tmp_path), **fields})

    return make


@pytest.fixture(autouse=True)
def _forget_files():
    """Pools of other tests have the same names."""
    read_pool.cache_clear()


def counts(pool: Pool, windows: int = 4, runs: int = RUNS) -> np.ndarray:
    """Arrivals in each window, for each seed."""
    edges = np.arange(windows + 1) * WINDOW_S
    return np.array([np.histogram(before_s(pool, edges[-1], seed), edges)[0] for seed in range(runs)])


def error(seen: np.ndarray) -> np.ndarray:
    return seen.std(axis=0, ddof=1) / math.sqrt(len(seen))


def test_each_window_has_its_recorded_rate(pool_of) -> None:
    """300, 60, 0 and 600 arrivals on average (6 standard errors); an idle window is empty."""
    seen = counts(pool_of(STEADY))
    assert (np.abs(seen.mean(axis=0) - [300, 60, 0, 600]) <= 6 * error(seen)).all()
    assert not seen[:, 2].any()


def test_counts_vary_by_chance(pool_of) -> None:
    """Gaps are not stretched to fill the window: Poisson counts have variance/mean 1 within 6 standard errors."""
    seen = counts(pool_of(STEADY))[:, [0, 1, 3]]
    ratio = seen.var(axis=0, ddof=1) / seen.mean(axis=0)
    assert ratio == pytest.approx([1, 1, 1], abs=6 * math.sqrt(2 / (RUNS - 1)))


def test_a_window_does_not_begin_anew(pool_of) -> None:
    """Of bursty gaps the rate is the recorded one in every window, the first included; begun anew it would double."""
    seen = counts(pool_of(BURSTY), runs=400)
    assert (np.abs(seen.mean(axis=0) - 12) <= 6 * error(seen)).all()
    assert (6 * error(seen) < 12).all()


def test_a_gap_goes_on_in_the_next_window(pool_of) -> None:
    """From a window's end one waits (1 + cv²)/2 mean gaps, 12.5 s, as at any time; begun anew it would be 5 s or 0."""
    pool = pool_of([f"{600 * k},0.2,2.0,Gamma,0.25,20.0" for k in range(3)])
    runs = [before_s(pool, 1800, seed) for seed in range(400)]
    waits = np.array([[times[np.searchsorted(times, edge)] - edge for edge in (600, 1200)] for times in runs])
    assert (np.abs(waits.mean(axis=0) - 12.5) <= 6 * error(waits)).all()
    assert (6 * error(waits) < 7.5).all()


def test_a_gap_across_a_windows_end_is_like_others(pool_of) -> None:
    """Nearly even gaps (cv 0.2, mean 5 s) that are met at the ends of windows: 5.2 s on average, sd 1.02 s.

    Of a gamma gap of shape 25 that is met as often as it is long, shape 26. Two parts of different gaps would have 2 s.
    """
    pool = pool_of([f"{600 * k},0.2,0.2,Gamma,25.0,0.2" for k in range(4)])
    runs = [before_s(pool, 2400, seed) for seed in range(200)]
    met = np.array([[np.diff(times)[np.searchsorted(times, edge) - 1] for edge in (600, 1200, 1800)] for times in runs])
    expected_sd = math.sqrt(26) * 0.2
    assert met.std() == pytest.approx(expected_sd, abs=6 * expected_sd / math.sqrt(2 * met.size))
    assert met.mean() == pytest.approx(26 * 0.2, abs=6 * expected_sd / math.sqrt(met.size))


def test_weibull_windows_have_the_recorded_rate(pool_of) -> None:
    """120 arrivals a window, not the 60 that the given scale would make; gaps vary as shape 0.5 does."""
    pool = pool_of(WEIBULL)
    seen = counts(pool)
    assert (np.abs(seen.mean(axis=0) - 120) <= 6 * error(seen)).all()
    gaps = [np.diff(before_s(pool, 2400, seed)) for seed in range(RUNS)]
    # cv² = Γ(5)/Γ(3)² - 1 = 5, so that a squared gap is 6 x 5² s² on average.
    residual = np.array([np.sum(each**2) - 6 * 5 * np.sum(each) for each in gaps])
    assert abs(residual.mean()) <= 6 * error(residual)


def test_clients_do_not_depend_on_each_other(pool_of) -> None:
    """With one client more, the others' arrivals are the same; each is told by its number."""
    alone, clients = pool_ns(pool_of(STEADY, numbers=(3,)), Bounds(None, 2400 * S), child(1, "arrivals"))
    assert set(clients.tolist()) == {3}
    read_pool.cache_clear()
    both, clients = pool_ns(pool_of(STEADY, BURSTY, numbers=(3, 11)), Bounds(None, 2400 * S), child(1, "arrivals"))
    assert both[clients == 3].tolist() == alone.tolist()
    assert (clients == 11).any()
    assert (np.diff(both) >= 0).all()


def test_another_rate_scales_every_client(pool_of) -> None:
    """Twice the rate: every window has twice as many."""
    pool = pool_of(STEADY, WEIBULL)
    assert mean_rate(pool) == pytest.approx((960 + 480) / 2400)
    twice = at_rate(pool, 2 * mean_rate(pool))
    seen = counts(twice)
    assert (np.abs(seen.mean(axis=0) - 2 * np.array([420, 180, 120, 720])) <= 6 * error(seen)).all()


def test_a_part_of_the_record(pool_of) -> None:
    """`from` moves the start, `rate` is the average from there to `to`, and after the record's end it begins again."""
    pool = pool_of(STEADY, **{"from": "30m", "to": "40m"})
    assert mean_rate(pool) == pytest.approx(1.0)
    seen = counts(pool, windows=3)
    assert (np.abs(seen.mean(axis=0) - [600, 300, 60]) <= 6 * error(seen)).all()
    assert rate_at(pool, np.array([0.0, 599, 600, 1200, 1800, 2400])).tolist() == [1, 1, 0.5, 0.1, 0, 1]
    assert expected_rate(pool, 1200.0) == pytest.approx(0.75, rel=1e-3)


def test_a_larger_bound_continues_a_smaller_one(pool_of) -> None:
    """By number and by time."""
    pool = pool_of(STEADY, BURSTY, WEIBULL)
    longer = first(pool, 1500, 5)
    for n in (1, 10, 700):
        assert first(pool, n, 5).tolist() == longer[:n].tolist()
    horizon_ns = int(longer[900])
    assert before(pool, horizon_ns / S, 5).tolist() == longer[longer < horizon_ns].tolist()


@pytest.mark.parametrize(
    "lines",
    [
        ["0,1,1,Gamma,1"],
        ["0,1,1,Pareto,1,1"],
        ["0,x,1,Gamma,1,1"],
        ["0,1,1,Gamma,-1,1"],
        ["0,1,1,Gamma,nan,1"],
        ["0,-1,1,Gamma,1,1"],
        ["0,inf,1,Gamma,1,1"],
        ["600,1,1,Gamma,1,1", "0,1,1,Gamma,1,1"],
        [""],
        ["0,0,0,,0,0"],
    ],
)
def test_a_pool_that_is_wrong_is_told(pool_of, lines: list[str]) -> None:
    """Missing and extra columns, unknown laws, numbers that are none, windows out of order, no client at work."""
    with pytest.raises(ValidationError, match="expected"):
        pool_of(lines)


def test_a_folder_without_clients_is_told(tmp_path: Path) -> None:
    """And one that is not there."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="expected"):
            read_pool(str(folder))


def test_windows_end_lines_as_they_like(pool_of) -> None:
    """CRLF and empty lines are read."""
    assert mean_rate(pool_of(["0,0.5,1,Gamma,1,2\r", "", "600,0.5,1,Gamma,1,2\r"])) == pytest.approx(0.5)


@recorded
def test_the_published_pool_is_offered_at_its_rates() -> None:
    """deepseek-r1: 73 clients, 16.0/s; two hours of the day each have what was recorded (6 standard errors of a sum)."""
    assert len(read_pool(str(SHARED))) == 73
    assert recorded_rate(str(SHARED)) == pytest.approx(16.0, abs=0.05)
    for hour in (3, 14):
        pool = process({"process": "pool", "folder": str(SHARED), "from": f"{hour}h", "to": f"{hour + 1}h"})
        seen = np.array([len(before(pool, 3600, seed)) for seed in range(12)])
        assert abs(seen.mean() - 3600 * recorded_rate(str(SHARED), hour * 3600, (hour + 1) * 3600)) <= 6 * error(seen)
