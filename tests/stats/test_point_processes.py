"""Likelihoods of arrivals: equal to what is computed another way, and the same however time is cut into blocks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.stats import gamma, kstest, weibull_min

from slobench.stats.hawkes import hawkes_pieces
from slobench.stats.mmpp import mmpp_pieces
from slobench.stats.observed import observe
from slobench.stats.on_off import on_off_gaps
from slobench.stats.processes import GAMMA, HAWKES, MMPP, ON_OFF, POISSON, WEIBULL, Model, Varying
from slobench.stats.rate_curve import Curve, fit_curve
from slobench.stats.renewal import gamma_gaps, gamma_log_survival, weibull_gaps

GAPS = st.lists(st.floats(1e-4, 50.0), min_size=3, max_size=40)
VALUES: dict[Model, tuple[float, ...]] = {
    POISSON: (1.3,),
    GAMMA: (0.8, 2.3),
    WEIBULL: (1.1, 0.7),
    ON_OFF: (3.0, 1.4, 2.0, 5.0, 0.8),
    MMPP: (4.0, 0.3, 2.0, 6.0),
    HAWKES: (0.9, 0.6, 1.7),
}
fixed = settings(derandomize=True, deadline=None, max_examples=30)


def times_of(gaps: list[float]) -> np.ndarray:
    """The first event at 0, and then the gaps."""
    return np.concatenate([[0.0], np.cumsum(gaps)])


@fixed
@given(gaps=GAPS, blocks=st.integers(2, 12))
def test_pieces_fill_time_and_keep_events(gaps: list[float], blocks: int) -> None:
    """Pieces follow each other without a hole, none crosses an edge, and each event but the first is the end of one."""
    times = times_of(gaps)
    seen = observe(times, blocks)
    assert seen.start[0] == 0
    assert np.allclose(seen.start[1:], (seen.start + seen.length)[:-1])
    assert (seen.start + seen.length)[-1] == pytest.approx(times[-1])
    assert seen.events().sum() == len(gaps)
    assert np.allclose(seen.by_gap(seen.length), np.diff(times))
    assert np.allclose(seen.by_block(seen.length), np.diff(seen.windows, axis=1)[:, 0])
    share = seen.by_block(seen.length) / times[-1] + seen.events() / len(gaps)
    assert share == pytest.approx(np.full(blocks, 2 / blocks), abs=1.01 / len(gaps))
    assert np.allclose(seen.stop[seen.event], np.diff(times))


@fixed
@given(gaps=GAPS, blocks=st.integers(2, 12))
@pytest.mark.parametrize("model", VALUES, ids=lambda model: model.name)
def test_a_likelihood_does_not_depend_on_the_blocks(model: Model, gaps: list[float], blocks: int) -> None:
    """Scores of the blocks add up to the score of the whole, and so do the integrated intensities of the gaps."""
    times, values = times_of(gaps), VALUES[model]
    whole, cut = observe(times, 1), observe(times, blocks)
    assert model.scores(values, cut).sum() == pytest.approx(model.scores(values, whole).sum(), rel=1e-5, abs=1e-3)
    assert model.rescaled(values, cut) == pytest.approx(model.rescaled(values, whole), rel=2e-3, abs=1e-3)


@fixed
@given(gaps=GAPS)
def test_renewal_likelihoods_are_the_densities(gaps: list[float]) -> None:
    """Gamma and Weibull scores are the sums of scipy's log densities; integrated intensities their -log survival."""
    seen = observe(times_of(gaps), 5)
    for law, other in (
        (gamma_gaps(0.8, 2.3), gamma(1 / 2.3**2, scale=2.3**2 / 0.8)),
        (weibull_gaps(1.1, 0.7), weibull_min(0.7, scale=1 / 1.1 / weibull_min(0.7).mean())),
    ):
        at = seen.by_gap(seen.length)
        assert seen.renewal_scores(law).sum() == pytest.approx(other.logpdf(at).sum())
        assert seen.by_gap(seen.renewal_hazard(law)) == pytest.approx(-other.logsf(at), rel=1e-6, abs=1e-9)


def test_a_gamma_tail_goes_on_where_the_function_underflows() -> None:
    """Far out the log survival falls by about 1 for each scale, without a step where the expansion takes over."""
    at = np.linspace(600, 900, 301)
    for shape in (0.2, 1.0, 7.0):
        slope = np.diff(gamma_log_survival(at, shape, 1.0))
        assert np.abs(slope + 1 - (shape - 1) / at[1:]).max() < 1e-3


@fixed
@given(gaps=GAPS, blocks=st.integers(1, 6))
def test_hawkes_equals_the_sum_over_all_pairs(gaps: list[float], blocks: int) -> None:
    """The recursion gives the double sum of its definition."""
    rate, branching, decay = VALUES[HAWKES]
    times = times_of(gaps)
    base = rate * (1 - branching)
    intensity = [base + branching * decay * np.exp(-decay * (t - times[times < t])).sum() for t in times[1:]]
    expected = base * times[-1] + branching * (1 - np.exp(-decay * (times[-1] - times[:-1]))).sum()
    found, _ = hawkes_pieces(rate, branching, decay, observe(times, blocks))
    assert found.sum() == pytest.approx(np.log(intensity).sum() - expected)


@fixed
@given(gaps=GAPS, blocks=st.integers(1, 6))
def test_mmpp_equals_the_product_of_matrices(gaps: list[float], blocks: int) -> None:
    """The forward recursion gives the product of exp((Q - Λ)x) Λ, gap by gap."""
    busy, calm, stay, rest = VALUES[MMPP]
    q = np.array([[-1 / stay, 1 / stay], [1 / rest, -1 / rest]])
    rates = np.diag([busy, calm])
    state = np.array([busy * stay, calm * rest])
    state, total = state / state.sum(), 0.0
    for gap in gaps:
        state = state @ expm((q - rates) * gap) @ rates
        total += np.log(state.sum())
        state /= state.sum()
    found, _ = mmpp_pieces((busy, calm), (stay, rest), observe(times_of(gaps), blocks))
    assert found.sum() == pytest.approx(total)


@fixed
@given(gaps=GAPS)
def test_on_off_with_exponential_gaps_is_an_mmpp_that_is_silent_at_times(gaps: list[float]) -> None:
    """Two ways to the same likelihood: Kummer's function, and products of matrices with a rate of nearly 0."""
    seen = observe(times_of(gaps), 3)
    as_gaps = seen.renewal_scores(on_off_gaps(4.0, 1.0, 2.0, 6.0, 1.0)).sum()
    as_states = mmpp_pieces((4.0, 1e-12), (2.0, 6.0), seen)[0].sum()
    assert as_gaps == pytest.approx(as_states, abs=1e-2)


@pytest.mark.parametrize(
    "values",
    [(9.1, 2.2, 16.7, 43.0, 1.09), (10.0, 1.0, 5.0, 20.0, 1.0), (5.0, 0.5, 1.0, 0.2, 2.0), (2.0, 1.0, 0.3, 0.5, 0.4)],
)
def test_on_off_gaps_are_those_that_are_drawn(values: tuple[float, ...]) -> None:
    """Density and survival are those of X + N silences, as 50,000 draws show (KS distance below 1.36/√n at 5 %)."""
    on_rate, on_cv, mean_on, mean_off, off_cv = values
    rng = np.random.default_rng(5)
    on = rng.gamma(1 / on_cv**2, on_cv**2 / on_rate, 50_000)
    silences = rng.poisson(on / mean_on)
    off = np.where(silences > 0, rng.gamma(np.maximum(silences, 1) / off_cv**2, mean_off * off_cv**2), 0.0)
    law = on_off_gaps(*values)
    assert kstest(on + off, lambda x: 1 - np.exp(law.log_survival(np.maximum(x, 1e-12)))).statistic < 1.36 / np.sqrt(
        50_000
    )
    at = np.exp(np.linspace(np.log(1e-6), np.log(2_000), 20_001))
    mass = np.trapezoid(np.exp(law.log_density(at)) * at, np.log(at))
    assert mass == pytest.approx(np.exp(law.log_survival(np.array([1e-6])))[0], abs=2e-4)


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    """Any order of magnitude alike."""
    return st.floats(math.log(low), math.log(high)).map(math.exp)


@fixed
@given(
    on_cv=log_uniform(0.1, 30),
    mean_on=log_uniform(1e-5, 1e4),
    mean_off=log_uniform(1e-5, 1e4),
    off_cv=log_uniform(0.2, 2),
)
@example(on_cv=1.42432, mean_on=0.000542257, mean_off=0.007243, off_cv=0.2)  # 27 silences in a mean gap
def test_no_on_off_source_is_likelier_than_a_probability(
    on_cv: float, mean_on: float, mean_off: float, off_cv: float
) -> None:
    """Wherever a fit may look, the density integrates to 1 at most: what cannot be worked out wins no choice."""
    law = on_off_gaps(5.0, on_cv, mean_on, mean_off, off_cv)
    at = np.linspace(np.log(1e-9), np.log(1e7), 40_001)
    assert np.trapezoid(np.exp(law.log_density(np.exp(at)) + at), at) < 1.001


def test_a_curve_is_found_again() -> None:
    """Rates at knots of straight lines, from 40,000 Poisson arrivals: each within 5 standard errors, about 3 %."""
    rng = np.random.default_rng(3)
    curve = Curve(2_000.0, np.array([10.0, 30.0, 20.0]))
    operational = np.cumsum(rng.exponential(1.0, 50_000))
    at = np.linspace(0, 2_000, 200_001)
    times = np.interp(operational[operational < curve.integral(at)[-1]], curve.integral(at), at)
    found = fit_curve(observe(times, 20), 3)
    assert found == pytest.approx([10.0, 30.0, 20.0], rel=0.05)
    assert curve.integral(np.array([1_000.0, 2_000.0])) == pytest.approx([20_000, 45_000])
    start, length = np.array([0.0, 900.0, 1_500.0]), np.array([1e-11, 200.0, 500.0])
    assert curve.between(start, length) == pytest.approx(
        [1e-10, *(curve.integral(start + length) - curve.integral(start))[1:]], rel=1e-9
    )


def test_leaving_a_block_out_leaves_its_events_out() -> None:
    """A curve fitted without one block does not depend on what happened in it."""
    rng = np.random.default_rng(4)
    seen = observe(np.cumsum(rng.exponential(0.1, 4_000)), 8)
    thinner = replace(seen, event=seen.event & ((seen.block != 3) | (rng.random(len(seen)) < 0.3)))
    assert fit_curve(seen, 3, without=3) == pytest.approx(fit_curve(thinner, 3, without=3), rel=1e-6)
    assert fit_curve(seen, 3) != pytest.approx(fit_curve(thinner, 3), rel=1e-3)


@pytest.mark.parametrize("model", [*VALUES, Varying(3, gamma=True)], ids=lambda model: model.name)
def test_of_a_long_record_the_start_of_each_block_stands_for_the_rest(model: Model | Varying) -> None:
    """Fitted to a fifth of each block, a model is scored on that, finite, near the score of all an event."""
    rng = np.random.default_rng(6)
    times = np.cumsum(rng.gamma(0.5, 0.2, 6_000))
    part, whole = observe(times, 10, 1_200), observe(times, 10)
    assert 1_000 < part.events().sum() < 1_400
    assert (part.windows[:, 1] - part.windows[:, 0]).sum() == pytest.approx(0.2 * whole.end, rel=0.02)
    values = VALUES[model] if isinstance(model, Model) else (10.0, 10.0, 10.0, 1.4)
    if model.names[0] in {"rate", "on_rate", "busy_rate"}:
        values = (10.0, *values[1:])
    one = model.scores(values, part).sum() / part.events().sum()
    assert one == pytest.approx(model.scores(values, whole).sum() / whole.events().sum(), abs=0.15)
    assert len(model.rescaled(values, part)) == part.events().sum()


def test_times_that_are_equal_are_refused() -> None:
    """Two events at once have no likelihood."""
    with pytest.raises(ValueError, match="no two equal"):
        observe(np.array([0.0, 1.0, 1.0, 2.0]), 2)
