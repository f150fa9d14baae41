"""Which model of arrivals describes what was seen, judged on what it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slobench.stats.arrivals import Fit, ks_exponential
from slobench.stats.jackknife import jackknife_t
from slobench.stats.observed import Observed, observe
from slobench.stats.processes import STEADY, AnyModel, Varying
from slobench.stats.quantiles import FloatArray

NEAR = 2.0
"""Standard errors within which a model foretells as well as the best."""
FEWEST, MOST = 20, 40  # blocks
MOST_EVENTS = 40_000  # looked at; of a longer trace the start of each block
_EVENTS = 400  # a block, where there are enough
_KNOTS = (3, 5, 9, 17, 33, 65)
_NEAR_ONE = ("branching",)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A fitted parameter with its 95 % interval; None where what was seen does not determine it."""

    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A model after it was fitted: parameters, how well it foretells, how well it fits.

    held_out: log-likelihood of each block under the model fitted to the others, given everything before the block.
    per_arrival: their sum over arrivals, nats. ks: Kolmogorov and Smirnov's distance of the rescaled gaps from the
    exponential (time rescaling: Papangelou, 1972; Brown et al., Neural Computation 14, 2002), with its p.
    """

    model: AnyModel
    values: tuple[float, ...]
    parameters: tuple[Parameter, ...]
    held_out: FloatArray
    per_arrival: float
    ks: Fit


@dataclass(frozen=True, slots=True)
class Choice:
    """Every model, the best foretelling first; chosen: the simplest of those that foretell about as well.

    behind: for each, nats per arrival that it is behind the first, and the standard error of that.
    """

    fitted: tuple[Fitted, ...]
    behind: tuple[tuple[float, float], ...]
    chosen: Fitted
    blocks: int
    block_s: float


def choose(times: FloatArray, *, blocks: int | None = None, told: Callable[[str], None] = lambda _: None) -> Choice:
    """Fit every model to arrival times (s, ascending, no two equal, at least 100) and choose one.

    Time is cut into blocks of about equal length and number of arrivals. Each is left out in turn: the fit to the
    others is scored on it, and the spread of these fits is the jackknife's interval of each parameter. As what is left
    out lies between blocks that are not, a load that changes slowly is known to every model from both sides, and a
    model of a changing rate is scored on what it interpolates. Chosen is the model with the fewest parameters whose
    held-out likelihood is within two standard errors of the best one: Breiman et al.'s rule (Classification and
    Regression Trees, 1984, §3.4.3) with two in place of one, as the best of a dozen is the best by luck in part.
    """
    seen = observe(times, blocks or blocks_for(len(times)), MOST_EVENTS)
    fitted = []
    for model in models(seen.blocks):
        told(model.name)
        fitted.append(fit_model(model, seen))
    fitted.sort(key=lambda each: -each.per_arrival)
    behind = tuple(_behind(fitted[0], each, int(seen.events().sum())) for each in fitted)
    close = [each for each, (gap, error) in zip(fitted, behind, strict=True) if gap <= NEAR * error]
    chosen = min(close, key=lambda each: (len(each.values), -each.per_arrival))
    return Choice(tuple(fitted), behind, chosen, seen.blocks, seen.end / seen.blocks)


def blocks_for(events: int) -> int:
    """How many blocks suit so many events."""
    return min(max(events // _EVENTS, FEWEST), MOST)


def models(blocks: int) -> tuple[AnyModel, ...]:
    """Every model that can be told apart with so many blocks: knots of a rate are two blocks apart and more."""
    knots = [each for each in _KNOTS if each - 1 <= blocks // 2]
    return (*STEADY, *(Varying(each, gamma) for each in knots for gamma in (False, True)))


def fit_model(model: AnyModel, seen: Observed) -> Fitted:
    """Fit one model, to all blocks and without each of them."""
    free = model.fit(seen)
    values = model.whole(seen.rate(), free)
    left_out = model.without_each(seen, free)
    held_out = np.array([model.scores(each, seen)[block] for block, each in enumerate(left_out.values)])
    shown = model.shown(values)
    spread = np.array([model.shown(each) for each in left_out.values])
    return Fitted(
        model=model,
        values=values,
        parameters=tuple(
            _parameter(name, shown[k], spread[:, k], known=left_out.determined[k]) for k, name in enumerate(model.names)
        ),
        held_out=held_out,
        per_arrival=float(held_out.sum() / seen.events().sum()),
        ks=ks_exponential(model.rescaled(values, seen), 1.0),
    )


def _parameter(name: str, value: float, without_each: FloatArray, *, known: bool) -> Parameter:
    """Interval on the logarithm, or on the log odds of a share."""
    if not known:
        return Parameter(name, value, None, None)
    if name in _NEAR_ONE:
        low, high = jackknife_t(_log_odds(value), np.log(without_each / (1 - without_each)))
        return Parameter(name, value, 1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high)))
    low, high = jackknife_t(math.log(value), np.log(without_each))
    return Parameter(name, value, math.exp(max(low, -700)), math.exp(min(high, 700)))


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


def _behind(best: Fitted, other: Fitted, events: int) -> tuple[float, float]:
    gaps = best.held_out - other.held_out
    return float(gaps.sum()) / events, float(gaps.std(ddof=1)) * math.sqrt(len(gaps)) / events


def lead(choice: Choice, name: str) -> tuple[float, float] | None:
    """How far a model is behind the best, nats per arrival, and the standard error; None where it was not fitted."""
    found: Sequence[tuple[float, float]] = [
        gap for each, gap in zip(choice.fitted, choice.behind, strict=True) if each.model.name == name
    ]
    return found[0] if found else None
