"""Laws of gaps: mean 1, the cv that is asked for, and a first wait as of a process long under way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from slobench.workload.gaps import EXPONENTIAL, Law, draw_first, draw_gaps, gamma_law, mean_of_weibull, weibull_law
from slobench.workload.variates import child, offshoot

N = 20_000
KS_AT_ONE_IN_1000 = 1.95
LAWS = [Law("gamma", 0.2), EXPONENTIAL, Law("gamma", 5.0), Law("weibull", 0.5), Law("weibull", 3.0)]


@given(st.floats(0.01, 100))
def test_a_weibull_law_has_its_cv(cv):
    """Γ(1 + 2/k)/Γ(1 + 1/k)² - 1 is cv²; the mean of scale 1 is Γ(1 + 1/k)."""
    shape = weibull_law(cv).shape
    assert special.gamma(1 + 2 / shape) / special.gamma(1 + 1 / shape) ** 2 == pytest.approx(1 + cv**2, rel=1e-9)
    assert mean_of_weibull(shape) == pytest.approx(special.gamma(1 + 1 / shape), rel=1e-12)


def test_cv_1_is_poisson_in_both_families():
    """The very same draws."""
    assert weibull_law(1.0) == gamma_law(1.0) == EXPONENTIAL


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_gaps_have_mean_one(law):
    """Within 6 standard errors."""
    gaps = draw_gaps(law, N, child(1, "gaps"))
    assert gaps.mean() == pytest.approx(1, abs=6 * gaps.std() / math.sqrt(N))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_first_wait_is_what_is_left_of_a_gap_at_a_random_time(law):
    """Its distribution function is ∫ P(gap > x) from 0 (Cox 1962): Kolmogorov-Smirnov, P = 0.001, fixed seed."""
    n = 4000
    waits = np.sort([draw_first(law, offshoot(child(2, "first"), number)) for number in range(n)])
    grid = np.linspace(0, waits[-1], 200_001)
    if law.family == "gamma":
        longer = special.gammaincc(law.shape, grid * law.shape)
    else:
        longer = np.exp(-((grid * special.gamma(1 + 1 / law.shape)) ** law.shape))
    area = np.concatenate([[0.0], np.cumsum((longer[1:] + longer[:-1]) / 2 * np.diff(grid))])
    expected, steps = np.interp(waits, grid, area), np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    assert distance * math.sqrt(n) < KS_AT_ONE_IN_1000


def test_even_gaps_are_met_at_a_uniform_place():
    """From 0 to one whole gap, half of one on average."""
    waits = np.array([draw_first(Law("even"), offshoot(child(2, "first"), number)) for number in range(1000)])
    assert waits.min() > 0
    assert waits.max() < 1
    assert waits.mean() == pytest.approx(0.5, abs=6 / math.sqrt(12 * 1000))
