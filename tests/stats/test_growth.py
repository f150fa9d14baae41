"""What the nightly soak calls growth: its interval holds the truth, and a few high samples are none."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.growth import growth

MINUTES = 30.0


def samples(rng: np.random.Generator, slope: float, memory: float = 0.0) -> np.ndarray:
    """A level of 100 that grows by `slope` a minute, sampled each second, its noise correlated from second to second."""
    at = np.arange(0, MINUTES, 1 / 60)
    noise = np.empty(len(at))
    noise[0] = rng.normal()
    for k in range(1, len(at)):
        noise[k] = memory * noise[k - 1] + rng.normal() * (1 - memory**2) ** 0.5
    return np.column_stack([at, 100 + slope * at + noise])


@pytest.mark.parametrize("memory", [0.0, 0.9])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_the_interval_holds_the_true_growth(slope: float, memory: float) -> None:
    """In 95 % of runs, also where a sample is like the one before it: at least 184 of 200 (binomial, 2 in 100)."""
    rng = np.random.default_rng(3)
    found = [growth(samples(rng, slope, memory), MINUTES) for _ in range(200)]
    assert sum(each.low <= slope * MINUTES <= each.high for each in found) >= 184
    assert np.mean([each.value for each in found]) == pytest.approx(slope * MINUTES, abs=0.1)


def test_a_few_high_samples_are_no_growth() -> None:
    """A hundred seconds at twice the level near the end move nothing by more than its interval."""
    rng = np.random.default_rng(4)
    rows = samples(rng, 0.0)
    rows[rng.choice(np.arange(1000, len(rows)), 100, replace=False), 1] *= 2
    found = growth(rows, MINUTES)
    assert found.low < 0 < found.high or abs(found.value) < 0.5


def test_too_few_samples_are_refused() -> None:
    """Two say nothing."""
    with pytest.raises(ValueError, match="a longer run"):
        growth(np.array([[0.0, 1.0], [1.0, 2.0]]), 1.0)
