"""The procedure of a gate, step by step, with the numbers of one case."""

from __future__ import annotations

from collections.abc import Iterator

from slobench.config.margins import format_margin
from slobench.experiment.gated import Gated, detectable
from slobench.metrics.gate import Tested
from slobench.metrics.stored import ALPHA, FEWEST
from slobench.report import words
from slobench.report.compare import quantity_name
from slobench.report.gate import verdict


def explain(gated: Gated) -> str:
    """Return the text of `gate --explain`."""
    steps = _stored(gated) if gated.mode == "stored" else _pairs(gated)
    numbered = [f"{k}. {step}" for k, step in enumerate((*steps, *_end(gated)), 1)]
    return "\n".join(["How this verdict came about", "", *numbered]) + "\n"


def _pairs(gated: Gated) -> Iterator[str]:
    judged, terms = gated.judgement, gated.terms
    yield (
        f"{judged.pairs} pairs count. A pair is one run of {gated.names[0]} and one of {gated.names[1]}, offered the "
        "same requests at the same times, one after the other (ABBA), each with prompts that no cache has seen."
    )
    for each in judged.void:
        yield f"{each}: the pair says nothing of the servers, so another took its place."
    if gated.mode == "aa":
        yield "Both arms are the same target: whatever differs is noise of this machine and this load."
        yield from (_noise(test, terms.looks[-1].pairs) for test in judged.tests if test.decides)
        return
    looks = ", ".join(f"{look.pairs} (α {look.alpha:g})" for look in terms.looks)
    yield (
        f"Looks are planned after {looks} pairs. Their α add up to {sum(look.alpha for look in terms.looks):.3g}, "
        "which bounds the chance of a false FAIL whatever the number of looks and metrics."
    )
    if judged.alpha is None:
        yield f"The first look is still to come: {terms.looks[0].pairs - judged.pairs} more pairs."
        return
    yield f"The last look had α {judged.alpha:g}. Of each metric: ln(new/base) of every pair, Student's t over pairs."
    yield from _metrics(gated, judged.alpha)


def _stored(gated: Gated) -> Iterator[str]:
    judged = gated.judgement
    yield (
        f"{judged.pairs} earlier valid runs of this plan; {FEWEST} are needed. They were not run in turn with the new "
        "ones, so whatever drifted since then is taken for a difference: weaker than pairs."
    )
    if not judged.tests:
        return
    yield (
        f"For each metric, the new run's ln against theirs by Student's t with {judged.pairs - 1} degrees of freedom; "
        f"the error is sd × √(1/{judged.pairs} + 1/new runs), of a prediction. α is {ALPHA:g}."
    )
    yield from _metrics(gated, ALPHA)


def _metrics(gated: Gated, alpha: float) -> Iterator[str]:
    tests = [test for test in gated.judgement.tests if test.decides]
    least = ", ".join(dict.fromkeys(f"{(test.least - 1) * 100:.3g} %" for test in tests))
    yield (
        f"FAIL needs two things of one of the {len(tests)} metrics: p ≤ {alpha:g} after Holm's adjustment, and a mean "
        f"change of at least {least}. PASS needs of all: the one-sided 95 % bound below the margin "
        f"({format_margin(gated.terms.margins.margin)} unless it has its own)."
    )
    yield from (_metric(test, alpha) for test in tests)
    for each in gated.judgement.attainment:
        fell = "so it fails" if each.failed else "so it holds"
        yield (
            f"Attainment of {each.of_class}: {words.percent(each.base)} and {words.percent(each.new)}, a drop of "
            f"{each.drop * 100:+.2f} points, surely at least {each.bound * 100:+.2f}. It fails from "
            f"{gated.terms.margins.attainment * 100:g} points on where that bound is above 0: {fell}."
        )


def _metric(test: Tested, alpha: float) -> str:
    size = f"{(test.ratio - 1) * 100:+.2f} %"
    name = f"{quantity_name(test.quantity.key)} of {test.of_class}"
    head = (
        f"{name}: {words.seconds(test.base)} → {words.seconds(test.new)}, "
        f"{size} [{(test.low - 1) * 100:+.2f}, {(test.high - 1) * 100:+.2f}], sd {test.sd * 100:.2f} %, p {test.p:.2g}"
    )
    if test.outcome == "worse":
        return f"{head} ≤ {alpha:g}, and {size} is at least {(test.least - 1) * 100:.3g} %: worse."
    bound = f"at most {(test.upper - 1) * 100:+.2f} %"
    if test.upper < test.margin:
        return f"{head}; {bound}, below the margin of {(test.margin - 1) * 100:.3g} %: within it."
    needed = "more than 1,000 pairs" if test.needed is None else f"{test.needed} pairs"
    return f"{head}; {bound}, not below the margin of {(test.margin - 1) * 100:.3g} %: open. {needed} would see it."


def _noise(test: Tested, pairs: int) -> str:
    needed = "more than 1,000" if test.needed is None else f"{test.needed}"
    name = f"{quantity_name(test.quantity.key)} of {test.of_class}"
    return (
        f"{name} varies by {test.sd * 100:.2f} % a pair: {pairs} pairs see a change of "
        f"{(detectable(test, pairs) - 1) * 100:.2g} %; {(test.margin - 1) * 100:.3g} % takes {needed} pairs."
    )


def _end(gated: Gated) -> Iterator[str]:
    word, meaning, _ = verdict(gated)
    yield f"{word}{f': {meaning}' if meaning else ''}. Exit code {int(gated.exit)}."
    if gated.command:
        yield f"What {'goes on' if gated.interrupted else 'would decide'}: {gated.command}."
