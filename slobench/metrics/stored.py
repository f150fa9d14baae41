"""The verdict on new runs against earlier ones of the same plan: weaker than pairs, as the machine may have drifted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from slobench.metrics.gate import Dropped, Judgement, Terms, Tested, deciding, fell, needed_pairs, sizes_of, worse
from slobench.metrics.past import Past
from slobench.metrics.quantities import Quantity
from slobench.stats.intervals import student_quantile
from slobench.stats.paired import holm
from slobench.stats.prediction import Predicted, prediction_t
from slobench.stats.quantiles import FloatArray

FEWEST = 8
"""Earlier valid runs below which nothing is decided."""
ALPHA = 0.01
LEAST_E2E = 10.0
"""A new run whose window is shorter, in mean E2E, may not carry a claim (V08)."""


def judge_stored(base: Sequence[Past], new: Sequence[Past], terms: Terms) -> Judgement:
    """Judge new runs by a prediction-interval t-test on earlier ones at 1 %, Holm over the family.

    FAIL: rejected, and worse by the least that counts. PASS: the one-sided 95 % bound lies below the margin. Fewer
    than 8 earlier runs decide nothing.
    """
    if len(base) < FEWEST:
        missing = FEWEST - len(base)
        return Judgement(
            "INCONCLUSIVE",
            (f"{len(base)} earlier valid runs of this plan: {missing} more are needed",),
            pairs=len(base),
        )
    broken = _broken(base, new)
    family = [
        (name, each) for name in deciding(base[0].logs, terms) for each in terms.family if _there(base, new, name, each)
    ]
    drops = tuple(_drops(base, new, terms))
    if not family:
        return Judgement("INCONCLUSIVE", ("no metric that decides was seen in every run",), (), drops, len(base))
    seen = [prediction_t(_values(base, *each), _values(new, *each)) for each in family]
    adjusted = holm([each.p for each in seen])
    tests = [
        _tested((base, new), of, one, p, terms, decides=True) for of, one, p in zip(family, seen, adjusted, strict=True)
    ]
    tests += list(_advisory(base, new, family, terms))
    failed = [worse(test) for test in tests if test.decides and test.outcome == "worse"]
    failed += [fell(each) for each in drops if each.failed]
    failed += [f"only the new server showed {broken}"] if broken else []
    if failed:
        return Judgement("FAIL", tuple(failed), tuple(tests), drops, len(base), alpha=ALPHA)
    wide = [test for test in tests if test.decides and test.upper >= test.margin]
    if not wide:
        return Judgement("PASS", (), tuple(tests), drops, len(base), alpha=ALPHA)
    reasons = tuple(
        f"{test.quantity.key} of {test.of_class}: {test.sd * 100:.2g} % from run to run; "
        f"up to {(test.upper - 1) * 100:.2g} % worse cannot be ruled out"
        for test in wide
    )
    return Judgement("INCONCLUSIVE", reasons, tuple(tests), drops, len(base), alpha=ALPHA)


def _there(base: Sequence[Past], new: Sequence[Past], name: str, each: Quantity) -> bool:
    return all(each.key in past.logs.get(name, {}) for past in (*base, *new))


def _values(runs: Sequence[Past], name: str, each: Quantity) -> FloatArray:
    return np.array([past.logs[name][each.key] for past in runs])


def _broken(base: Sequence[Past], new: Sequence[Past]) -> str:
    """Codes of server findings that every new run has and fewer than half of the earlier ones."""
    codes = frozenset.intersection(*(past.identity.server for past in new)) if new else frozenset()
    rare = [code for code in sorted(codes) if 2 * sum(code in past.identity.server for past in base) < len(base)]
    return ", ".join(rare)


def _advisory(
    base: Sequence[Past], new: Sequence[Past], family: Sequence[tuple[str, Quantity]], terms: Terms
) -> Iterator[Tested]:
    for name in base[0].logs:
        for each in terms.shown:
            if (name, each) not in family and _there(base, new, name, each):
                one = prediction_t(_values(base, name, each), _values(new, name, each))
                yield _tested((base, new), (name, each), one, one.p, terms, decides=False)


def _tested(
    runs: tuple[Sequence[Past], Sequence[Past]],
    of: tuple[str, Quantity],
    one: Predicted,
    p: float,
    terms: Terms,
    *,
    decides: bool,
) -> Tested:
    name, each = of
    base, new = (math.exp(float(_values(side, name, each).mean())) for side in runs)
    margin, least = sizes_of(terms, each.key, base)
    half = student_quantile(one.earlier - 1, 0.975) * one.error
    upper = one.upper(0.95)
    outcome: Literal["worse", "passed", "open", "better"] = "open"
    if p <= ALPHA and one.difference >= least:
        outcome = "worse"
    elif one.upper(1 - ALPHA) < 0 and -one.difference >= least:
        outcome = "better"
    elif upper < margin:
        outcome = "passed"
    return Tested(
        name, each, decides, base, new, math.exp(one.difference), math.exp(one.difference - half),
        math.exp(one.difference + half), math.exp(upper), one.sd, p, math.exp(margin), math.exp(least), outcome,
        needed_pairs(one.sd, margin),
    )  # fmt: skip


def _drops(base: Sequence[Past], new: Sequence[Past], terms: Terms) -> Iterator[Dropped]:
    for name in deciding(base[0].logs, terms):
        if all(name in past.attainment for past in (*base, *new)):
            ours, theirs = (np.array([past.attainment[name] for past in side]) for side in (base, new))
            one = prediction_t(-ours, -theirs)
            failed = one.difference >= terms.margins.attainment - 1e-12 and one.p <= ALPHA
            yield Dropped(name, float(ours.mean()), float(theirs.mean()), one.difference, one.lower(1 - ALPHA), failed)
