"""The quasi-binomial logit: what it says without data, with little, and how often its interval holds the root."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from slobench.stats.intervals import expit, logit
from slobench.stats.logit import Prior, crossing, fit_logit, mixture, odds_of_mixture

PRIOR = Prior(slope=-25.0, slope_sd=12.0)
N = 1500


def overdispersed(rng: np.random.Generator, share: np.ndarray, n: int, effect: float) -> np.ndarray:
    """Good requests of n with the binomial's mean and `effect` times its variance (beta-binomial)."""
    concentration = (n - effect) / (effect - 1)  # variance n·p·q·(n + c)/(1 + c) = effect·n·p·q
    return rng.binomial(n, rng.beta(share * concentration, (1 - share) * concentration))


def test_one_point_leaves_the_prior_slope() -> None:
    """A single probe gives the level; the slope stays what was known before."""
    fit = fit_logit(np.array([3.0]), np.array([1350.0]), np.array([1500.0]), PRIOR)
    assert fit.slope == pytest.approx(-25, abs=1e-6)
    assert fit.share(3.0) == pytest.approx(0.9, abs=0.002)
    assert fit.phi == pytest.approx(60)
    assert fit.dof == 4


def test_no_failure_at_all_is_still_a_finite_fit() -> None:
    """Separated data must not send the fit to infinity."""
    x = np.log([18.0, 19.0, 20.0])
    fit = fit_logit(x, np.full(3, 1500.0), np.full(3, 1500.0), PRIOR)
    root = crossing(fit, 0.9)
    assert math.isfinite(fit.level)
    assert fit.slope < 0
    assert root.x > math.log(20)


def test_plain_data_give_the_maximum_likelihood_line() -> None:
    """With many binomial points the fit is the line they were drawn from."""
    rng = np.random.default_rng(1)
    x = np.repeat(np.linspace(-0.1, 0.1, 9), 20)
    share = np.array([expit(2.2 - 25 * each) for each in x.tolist()])
    fit = fit_logit(x, rng.binomial(N, share).astype(float), np.full(len(x), float(N)), PRIOR)
    assert fit.level + fit.slope * (0 - fit.centre) == pytest.approx(
        2.2, abs=4 * math.sqrt(fit.covariance[0, 0]) + 0.01
    )
    assert fit.slope == pytest.approx(-25, abs=4 * math.sqrt(fit.covariance[1, 1]))
    # phi of binomial data is 1; shrunk by 4 observations of 60 among 178: (178 + 240)/182
    assert fit.phi == pytest.approx((178 + 240) / 182, rel=4 * math.sqrt(2 / 178))


@pytest.mark.parametrize(("share", "effect"), [(0.9, 60.0), (0.9, 120.0), (0.99, 50.0)])
def test_the_interval_of_the_root_covers(share: float, effect: float) -> None:
    """Six probes around the root, dependent requests: the 95 % interval holds the root in at least 88 % of cases.

    99.9 % of the time at least the binomial's 0.1 % point of 250 trials at 88 % are seen covered.
    """
    rng, covered, trials = np.random.default_rng(2), 0, 250
    x = np.array([-0.06, 0.06, -0.05, 0.05, -0.03, 0.03])
    truth = np.array([expit(logit(share) - 25 * each) for each in x.tolist()])
    for _ in range(trials):
        good = overdispersed(rng, truth, N, effect).astype(float)
        root = crossing(fit_logit(x, good, np.full(6, float(N)), PRIOR), share)
        covered += root.low <= 0 <= root.high
    assert covered >= binom.ppf(0.001, trials, 0.88)


def test_an_unclear_slope_gives_fiellers_interval() -> None:
    """Two far-off probes at one load say nothing of the slope: where the prior is weak, the interval is open."""
    weak = Prior(slope=-5.0, slope_sd=12.0)
    fit = fit_logit(np.array([0.0, 0.01]), np.array([1400.0, 1410.0]), np.array([1500.0, 1500.0]), weak)
    root = crossing(fit, 0.9)
    assert root.method == "fieller"
    assert root.high - root.low == math.inf


def test_fiellers_interval_is_the_set_of_roots_not_refuted() -> None:
    """At its ends the line's distance from the level is t standard errors."""
    prior = Prior(slope=-25.0, slope_sd=9.0)
    fit = fit_logit(np.array([0.0]), np.array([1390.0]), np.array([1500.0]), prior)
    root = crossing(fit, 0.9)
    assert root.method == "fieller"
    for end in (root.low, root.high):
        low, high = fit.band(end)
        assert min(abs(low - 0.9), abs(high - 0.9)) == pytest.approx(0, abs=1e-9)


def test_the_band_is_widest_away_from_the_data() -> None:
    """The curve is known best where it was probed."""
    x = np.array([-0.05, 0.05, -0.04, 0.04])
    good = np.array([1450.0, 1200.0, 1440.0, 1250.0])
    fit = fit_logit(x, good, np.full(4, 1500.0), PRIOR)
    widths = [math.log(high / (1 - high)) - math.log(low / (1 - low)) for low, high in map(fit.band, (0.0, 0.1, 0.2))]
    assert widths == sorted(widths)


@pytest.mark.parametrize("sd", [0.3, 0.9, 2.0])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_a_mixture_is_the_mean_over_normal_log_odds(share: float, sd: float) -> None:
    """By quadrature as by simulation of 400,000 draws (5 standard errors); its inverse gives the centre back."""
    centre = odds_of_mixture(share, sd)
    assert mixture(centre, sd) == pytest.approx(share, abs=1e-9)
    drawn = 1 / (1 + np.exp(-(centre + sd * np.random.default_rng(3).standard_normal(400_000))))
    assert drawn.mean() == pytest.approx(share, abs=5 * drawn.std() / math.sqrt(400_000) + 1e-9)
    assert mixture(centre, 0.0) >= share - 1e-12


def test_a_spread_moves_the_root_to_where_the_mean_crosses() -> None:
    """The share at the root, meant as a mean over the spread, is the level."""
    x = np.array([-0.05, 0.05, -0.04, 0.04])
    fit = fit_logit(x, np.array([1450.0, 1200.0, 1440.0, 1250.0]), np.full(4, 1500.0), PRIOR)
    plain, mixed = crossing(fit, 0.9), crossing(fit, 0.9, 0.026)
    assert mixed.x < plain.x
    assert fit.share(mixed.x, 0.026) == pytest.approx(0.9, abs=1e-6)
