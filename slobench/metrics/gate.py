"""The verdict on interleaved pairs of runs: worse by how much, how sure, and may it pass (docs/metrics.md, Gate)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from slobench.config.margins import Margin, Margins
from slobench.metrics.arm import ALL, Arm, Requests, common
from slobench.metrics.quantities import ADVISORY, FAMILY, UNSTREAMED, Quantity, quantity
from slobench.stats.intervals import student_quantile
from slobench.stats.looks import LOOKS, Look, Looked, Rule, look_at
from slobench.stats.paired import PairedT, holm, paired_t, pairs_needed
from slobench.stats.quantiles import FloatArray

Decision = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Logs = Mapping[str, Mapping[str, float]]
"""Class -> metric key -> ln of its value in seconds."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a gate asks: the metrics that decide, those only shown, and what counts as worse."""

    family: tuple[Quantity, ...]
    advisory: tuple[Quantity, ...]
    margins: Margins = field(default_factory=Margins)
    looks: tuple[Look, ...] = LOOKS

    @property
    def shown(self) -> tuple[Quantity, ...]:
        """All of them."""
        return (*self.family, *self.advisory)

    def margin(self, key: str) -> Margin:
        """Return how much worse a metric may be."""
        return self.margins.metrics.get(key, self.margins.margin)


def terms_of(margins: Margins, *, streamed: bool = True) -> Terms:
    """Settle what decides. Raises ConfigError for a metric that does not exist."""
    usual = FAMILY if streamed else UNSTREAMED
    chosen = usual if margins.family is None else tuple(quantity(each) for each in margins.family)
    family = tuple(dict.fromkeys((*chosen, *(quantity(key) for key in margins.metrics))))
    shown = tuple(each for each in ADVISORY if each not in family and (streamed or each.metric == "e2e"))
    return Terms(family, shown, margins, looks_of(margins.pairs))


def looks_of(pairs: int) -> tuple[Look, ...]:
    """Looks at 40, 70 and 100 % of so many pairs, with the shares of the error that belong to them."""
    counts = [math.ceil(share * pairs - 1e-9) for share in (0.4, 0.7, 1.0)]
    return tuple(Look(count, each.alpha) for count, each in zip(counts, LOOKS, strict=True))


@dataclass(frozen=True, slots=True)
class Pair:
    """What two runs of one plan amount to. void: why it does not count, "" where it does.

    attainment: class -> (base, new), where limits were given. server: what only NEW's server showed, in words.
    """

    number: int
    base: Logs
    new: Logs
    attainment: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    server: str = ""
    void: str = ""


def logs(requests: Requests, shown: Sequence[Quantity], classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the logarithm of each quantity of each class; those without a value are left out."""
    found = {}
    for name in classes:
        mine = requests.of(name)
        values = {each.key: each.log(mine) for each in shown}
        found[name] = {key: value for key, value in values.items() if not math.isnan(value)}
    return found


def attainment(requests: Requests, name: str) -> float | None:
    """Return the share of good requests of those judged; None where none was."""
    good = requests.of(name).good
    judged = good[~np.isnan(good)]
    return float(judged.mean()) if len(judged) else None


def pair_of(number: int, base: Arm, new: Arm, terms: Terms) -> Pair:
    """Measure both runs on the requests that lie in both windows."""
    void = next((f"{arm}: {one.identity.verdict}" for arm, one in (("base", base), ("new", new)) if not valid(one)), "")
    mine, theirs = common(base.requests, new.requests)
    classes = mine.classes
    shares = {name: (attainment(mine, name), attainment(theirs, name)) for name in classes}
    only_new = sorted(new.identity.server - base.identity.server)
    return Pair(
        number,
        logs(mine, terms.shown, classes),
        logs(theirs, terms.shown, classes),
        {name: (a, b) for name, (a, b) in shares.items() if a is not None and b is not None},
        f"{', '.join(only_new)} in pair {number}" if only_new else "",
        void,
    )


def valid(arm: Arm) -> bool:
    """Whether the instrument did its part."""
    return arm.identity.valid


@dataclass(frozen=True, slots=True)
class Tested:
    """One metric of one class. base, new: geometric means over the runs, s. ratio: new/base with its 95 % interval.

    sd: of ln(ratio) of one pair (or of one earlier run). p: one-sided, Holm over the family where it decides.
    margin, least: as ratios above 1; upper: one-sided 95 % bound of the ratio. needed: pairs that would see the margin.
    """

    of_class: str
    quantity: Quantity
    decides: bool
    base: float
    new: float
    ratio: float
    low: float
    high: float
    upper: float
    sd: float
    p: float
    margin: float
    least: float
    outcome: Literal["worse", "passed", "open", "better"]
    needed: int | None


@dataclass(frozen=True, slots=True)
class Dropped:
    """Attainment of one class at the fixed rate: both values, and the drop with its one-sided lower bound."""

    of_class: str
    base: float
    new: float
    drop: float
    bound: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a gate has decided so far. decision None: another look is to come.

    pairs: that count; void: that do not, with why. alpha: spent at the last look.
    """

    decision: Decision | None
    reasons: tuple[str, ...]
    tests: tuple[Tested, ...] = ()
    attainment: tuple[Dropped, ...] = ()
    pairs: int = 0
    void: tuple[str, ...] = ()
    alpha: float | None = None
    next_look: int | None = None


def judge_pairs(pairs: Sequence[Pair], terms: Terms) -> Judgement:
    """Judge the pairs so far at the looks that were planned; the first decision stands.

    What only NEW's server showed (overloaded, errors, a restart) fails at once. Pairs past the last look that was
    reached count nowhere.
    """
    counted = [pair for pair in pairs if not pair.void]
    void = tuple(f"pair {pair.number}: {pair.void}" for pair in pairs if pair.void)
    broken = [pair.server for pair in counted if pair.server]
    seen = Judgement(None, (), pairs=len(counted), void=void, next_look=terms.looks[0].pairs)
    for look, after in zip(terms.looks, (*terms.looks[1:], None), strict=True):
        if look.pairs <= len(counted) and seen.decision is None:
            seen = replace(_judged(counted[: look.pairs], look, terms), void=void)
            seen = replace(seen, next_look=None if after is None or seen.decision else after.pairs)
            if after is None and seen.decision is None:
                seen = replace(seen, decision="INCONCLUSIVE", reasons=(*seen.reasons, *_open(seen.tests)))
    if broken and seen.decision != "FAIL":
        return replace(seen, decision="FAIL", reasons=(f"only the new server showed {'; '.join(broken)}",))
    return seen


def _judged(pairs: Sequence[Pair], look: Look, terms: Terms) -> Judgement:
    classes = deciding((name for pair in pairs for name in pair.base), terms)
    family = [(name, each) for name in classes for each in terms.family if _there(pairs, name, each)]
    lost = [f"{name} {each.key}" for name in classes for each in terms.family if _partly(pairs, name, each)]
    drops = tuple(_dropped(pairs, name, look, terms) for name in classes if all(name in p.attainment for p in pairs))
    failed = [fell(each) for each in drops if each.failed]
    if not family:
        reasons = (*failed, "no metric that decides was seen in every run")
        return Judgement("FAIL" if failed else None, reasons, (), drops, len(pairs), alpha=look.alpha)
    sizes = [_sizes(pairs, name, each, terms) for name, each in family]
    rule = Rule(terms.looks, tuple(least for _, least in sizes), tuple(most for most, _ in sizes))
    looked = look_at(np.array([_differences(pairs, *each) for each in family]), look.alpha, rule)
    tests = tuple(_tests(pairs, family, sizes, looked, look, terms))
    failed += [worse(test) for test in tests if test.outcome == "worse" and test.decides]
    if failed:
        return Judgement("FAIL", tuple(failed), tests, drops, len(pairs), alpha=look.alpha)
    if looked.decision == "pass" and not lost:
        return Judgement("PASS", (), tests, drops, len(pairs), alpha=look.alpha)
    return Judgement(None, tuple(f"{each}: not seen in every run" for each in lost), tests, drops, len(pairs),
                     alpha=look.alpha)  # fmt: skip


def deciding(names: Iterable[str], terms: Terms) -> tuple[str, ...]:
    """Of these classes, those that decide: `all`, or each by itself where that is asked."""
    found = tuple(dict.fromkeys(names))
    return tuple(name for name in found if name != ALL) or found if terms.margins.per_class else (ALL,)


def _there(pairs: Sequence[Pair], name: str, each: Quantity) -> bool:
    return all(each.key in side.get(name, {}) for pair in pairs for side in (pair.base, pair.new))


def _partly(pairs: Sequence[Pair], name: str, each: Quantity) -> bool:
    seen = [each.key in side.get(name, {}) for pair in pairs for side in (pair.base, pair.new)]
    return any(seen) and not all(seen)


def _differences(pairs: Sequence[Pair], name: str, each: Quantity) -> FloatArray:
    return np.array([pair.new[name][each.key] - pair.base[name][each.key] for pair in pairs])


def _sizes(pairs: Sequence[Pair], name: str, each: Quantity, terms: Terms) -> tuple[float, float]:
    """(margin, least) on the log scale."""
    base = math.exp(float(np.mean([pair.base[name][each.key] for pair in pairs])))
    return sizes_of(terms, each.key, base)


def sizes_of(terms: Terms, key: str, base_s: float) -> tuple[float, float]:
    """(margin, least) on the log scale; where the absolute margin is the larger, the least grows with it."""
    margin = terms.margin(key)
    allowed = max(margin.relative, margin.absolute_s / base_s)
    grown = allowed / margin.relative if margin.relative else allowed / terms.margins.margin.relative
    return math.log1p(allowed), math.log1p(min(terms.margins.least * max(grown, 1.0), allowed))


def _tests(
    pairs: Sequence[Pair],
    family: Sequence[tuple[str, Quantity]],
    sizes: Sequence[tuple[float, float]],
    looked: Looked,
    look: Look,
    terms: Terms,
) -> Iterator[Tested]:
    """Every metric of every class: those that decide as they were judged, the others by themselves."""
    adjusted = holm([test.p for test in looked.tests])
    mirrored = holm([paired_t(-_differences(pairs, *each)).p for each in family])
    for of, size, test, p, better in zip(family, sizes, looked.tests, adjusted, mirrored, strict=True):
        yield _tested(pairs, of, size, test, (p, better, look.alpha), decides=True)
    for name in dict.fromkeys(name for pair in pairs for name in pair.base):
        for each in terms.shown:
            if (name, each) not in family and _there(pairs, name, each):
                differences = _differences(pairs, name, each)
                test, better = paired_t(differences), paired_t(-differences).p
                size = _sizes(pairs, name, each, terms)
                yield _tested(pairs, (name, each), size, test, (test.p, better, look.alpha), decides=False)


def _tested(
    pairs: Sequence[Pair],
    of: tuple[str, Quantity],
    size: tuple[float, float],
    test: PairedT,
    chances: tuple[float, float, float],
    *,
    decides: bool,
) -> Tested:
    name, each = of
    margin, least = size
    base, new = (float(np.mean([side[name][each.key] for side in sides])) for sides in _sides(pairs))
    half = student_quantile(test.pairs - 1, 0.975) * test.error
    p, better, alpha = chances
    upper = test.upper(0.95)
    outcome: Literal["worse", "passed", "open", "better"] = "open"
    if p <= alpha and test.mean >= least:
        outcome = "worse"
    elif better <= alpha and -test.mean >= least:
        outcome = "better"
    elif upper < margin:
        outcome = "passed"
    return Tested(
        name, each, decides, math.exp(base), math.exp(new), math.exp(test.mean), math.exp(test.mean - half),
        math.exp(test.mean + half), math.exp(upper), test.sd, p, math.exp(margin), math.exp(least), outcome,
        needed_pairs(test.sd, margin),
    )  # fmt: skip


def _sides(pairs: Sequence[Pair]) -> tuple[list[Logs], list[Logs]]:
    return [pair.base for pair in pairs], [pair.new for pair in pairs]


def needed_pairs(sd: float, margin: float) -> int | None:
    """Return how many pairs see the margin with chance 95 % at 1 %; None above 1,000."""
    if sd <= 0:
        return 2
    return pairs_needed(sd, margin) if sd / margin < 7 else None  # (z.99 + z.95)^2 * 7^2 is 770


def _dropped(pairs: Sequence[Pair], name: str, look: Look, terms: Terms) -> Dropped:
    """Test whether the attainment fell; the level of its bound is the look's, so that all looks together make 99 %."""
    shares = np.array([pair.attainment[name] for pair in pairs])
    test = paired_t(shares[:, 0] - shares[:, 1])
    failed = test.mean >= terms.margins.attainment - 1e-12 and test.p <= look.alpha
    base, new = shares.mean(axis=0).tolist()
    return Dropped(name, base, new, test.mean, test.lower(1 - look.alpha), failed)


def worse(test: Tested) -> str:
    """Word a metric that fails."""
    return f"{test.quantity.key} of {test.of_class} is {(test.ratio - 1) * 100:.2g} % worse"


def fell(each: Dropped) -> str:
    """Word an attainment that fails."""
    return f"attainment of {each.of_class} fell by {each.drop * 100:.2g} points"


def _open(tests: Sequence[Tested]) -> Iterator[str]:
    """Say of each metric that is undecided what it would take."""
    for test in tests:
        if test.decides and test.upper >= test.margin:
            more = "more than 1,000 pairs" if test.needed is None else f"about {test.needed} pairs"
            yield (
                f"{test.quantity.key} of {test.of_class}: {test.sd * 100:.2g} % a pair; "
                f"{more} would see {(test.margin - 1) * 100:.2g} %"
            )
