"""Changes in a history of runs: how often there are false ones, and which true ones are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.stats.changes import _best_split, change_points, t_test
from tests.stats.binomial import fewest, most

RUNS = 300


def history(rng: np.random.Generator, n: int, sd: float, *steps: tuple[int, float]) -> np.ndarray:
    """A level of 1 with noise, times each step from its place on."""
    series = 1 + sd * rng.normal(size=n)
    for at, factor in steps:
        series[at:] *= factor
    return series


def energy(x: np.ndarray, y: np.ndarray) -> float:
    """Q of Matteson and James: mn/(m + n) times the energy distance of two samples."""
    m, n = len(x), len(y)
    across = np.abs(x[:, None] - y).sum()
    within = [np.abs(z[:, None] - z).sum() / (len(z) * (len(z) - 1)) if len(z) > 1 else 0.0 for z in (x, y)]
    return m * n / (m + n) * (2 * across / (m * n) - within[0] - within[1])


@given(values=st.lists(st.integers(0, 30).map(float), min_size=3, max_size=12).map(np.array))
def test_the_split_is_where_the_energy_distance_is_largest(values: np.ndarray) -> None:
    """Over every place and every end, as summed from the definition."""
    n = len(values)
    q = {(t, k): energy(values[:t], values[t:k]) for k in range(2, n + 1) for t in range(1, k)}
    at = _best_split(values)
    assert max(v for (t, _), v in q.items() if t == at) == pytest.approx(max(q.values()))


@pytest.mark.parametrize("n", [20, 50])
def test_a_level_history_has_a_change_in_at_most_a_twentieth(n: int) -> None:
    """Within one window a t-test at .001 at each of n - 1 places finds something in under (n - 1)/1000 of histories."""
    rng = np.random.default_rng(n)
    found = sum(bool(change_points(history(rng, n, 0.01), least=0)) for _ in range(RUNS))
    assert found <= most(RUNS, (n - 1) / 1000)


def test_small_changes_are_no_changes() -> None:
    """A sure change of 1 % is left out at the least of 2 %, and found where 0.5 % is asked for."""
    series = history(np.random.default_rng(1), 40, 0.001, (20, 1.01))
    assert change_points(series) == []
    (found,) = change_points(series, least=0.005)
    assert found.index == 20
    assert found.change == pytest.approx(0.01, abs=4 * 0.001 / math.sqrt(10))


def test_five_per_cent_is_found_where_it_is() -> None:
    """With noise of 1 %, a step of 5 % after 20 of 40 runs is found within one run of its place, and nothing else."""
    rng = np.random.default_rng(2)
    right = 0
    for _ in range(RUNS):
        found = change_points(history(rng, 40, 0.01, (20, 1.05)))
        right += len(found) == 1 and abs(found[0].index - 20) <= 1
    assert right >= fewest(RUNS, 0.95)


def test_several_changes_in_a_long_history_are_found_in_order() -> None:
    """Up at 60, down at 130, up at 170 of 220: all three, in windows that overlap."""
    rng = np.random.default_rng(3)
    right = 0
    for _ in range(60):
        found = change_points(history(rng, 220, 0.01, (60, 1.06), (130, 0.92), (170, 1.05)))
        near = len(found) == 3 and all(abs(f.index - at) <= 2 for f, at in zip(found, (60, 130, 170), strict=True))
        right += near and [f.change > 0 for f in found] == [True, False, True]
    assert right >= fewest(60, 0.85)


@given(values=st.lists(st.floats(1, 2), max_size=6))
def test_a_short_history_is_no_error(values: list[float]) -> None:
    """Any history gives places inside it."""
    assert all(0 < each.index < len(values) for each in change_points(np.array(values)))


def test_a_history_without_noise_is_judged() -> None:
    """An exact step has p 0 and a level line no change; the t-test of the tables is met elsewhere."""
    (found,) = change_points(np.repeat([1.0, 1.1], 10))
    assert (found.index, found.p) == (10, 0.0)
    assert change_points(np.ones(30)) == []
    # Student's own sleep data, unpaired: t = 1.861, p = 0.0792
    a = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    b = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert t_test(a, b) == pytest.approx(0.0792, abs=5e-5)
