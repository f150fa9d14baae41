"""Intervals for a share and for an estimate with a standard error."""

from __future__ import annotations

import math


def exact_binomial(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Two-sided interval for a share, from the binomial distribution itself (Clopper and Pearson, 1934).

    `n` may be an effective sample size, and `successes` a share of it: both are real numbers
    (the bounds are quantiles of beta distributions, which need no integers).
    With no failure the lower bound is (alpha/2)^(1/n). Never narrower than nominal, for independent trials.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= n or n <= 0:
        raise ValueError(f"expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def student_quantile(dof: float, p: float) -> float:
    """Return the p-quantile of Student's t with `dof` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(dof, p))


def student_interval(estimate: float, error: float, dof: float, level: float = 0.95) -> tuple[float, float]:
    """Interval estimate ± t_dof * error, for a standard error that has `dof` degrees of freedom."""
    half = student_quantile(dof, (1 + level) / 2) * error
    return estimate - half, estimate + half


def logit(p: float) -> float:
    """Log odds of p in (0, 1)."""
    return math.log(p / (1 - p))


def expit(x: float) -> float:
    """Return the share whose log odds are x."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))
