"""The verdict of a gate as a page and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slobench.config.margins import format_margin
from slobench.experiment.gated import Gated, detectable
from slobench.metrics.arm import ALL
from slobench.metrics.gate import Dropped, Tested
from slobench.metrics.stored import ALPHA, FEWEST
from slobench.names import Exit
from slobench.report import words
from slobench.report.compare import finite, points, quantity_name
from slobench.report.console import EXIT_MEANINGS
from slobench.report.drawing import Figure
from slobench.report.forest import Line, forest
from slobench.report.page import Page
from slobench.report.tables import Cell, Table, Tone

OUTCOMES: dict[str, tuple[str, Tone]] = {
    "worse": ("worse", "bad"),
    "passed": ("within", "good"),
    "better": ("better", "good"),
    "open": ("open", "warn"),
}
_CHART_TONES = {"worse": "failed", "passed": "c2", "better": "c2", "open": "c5"}
_TONES: dict[str, Tone] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn"}
MEANINGS = {
    "new/base": "ratio of geometric means over the pairs (or runs), with its 95 % interval",
    "at most": "one-sided 95 % upper bound of the ratio: a pass needs it below the margin",
    "within, open": "within: at most is below the margin; open: it is not, and the metric is not surely worse",
    "p": "one-sided chance of such a change where there is none, adjusted for the family by Holm's method",
    "sd": "standard deviation of the logarithm of one pair's ratio (of one earlier run's value)",
    "needed": "pairs that would see a change as large as the margin with chance 95 % at 1 %",
}


def page_of(gated: Gated, folder: Path | None = None, *, stacked: bool = False) -> Page:
    """Put a gate on a page. stacked: intervals under their values, so that 80 columns hold a row."""
    word, meaning, tone = verdict(gated)
    return Page(
        heading=f"gate {gated.names[1]} against {gated.names[0]}",
        headline=f"{gated.names[1]} against {gated.names[0]}",
        word=word,
        meaning=meaning,
        tone=tone,
        facts=tuple(_facts(gated)),
        tables=tuple(
            table
            for table in (_tests(gated, stacked=stacked), _attainment(gated), _changes(gated), _settings(gated))
            if table
        ),
        statement=statement(gated),
        notes=tuple(notes(gated)),
        figures=tuple(figure for figure in (_figure(gated),) if figure is not None),
        meanings=MEANINGS,
        files="" if folder is None else f"{folder}: gate.json, gate.md, gate.html",
    )


def verdict(gated: Gated) -> tuple[str, str, Tone]:
    """(word, why, tone)."""
    judged = gated.judgement
    if gated.failure and judged.decision != "FAIL":
        return "TARGET FAILED", gated.failure, "bad"
    if gated.invalid:
        spoiled = "; ".join(judged.void) or "; ".join(note for note in gated.notes if note.startswith("V08"))
        return "INVALID", spoiled, "bad"
    if gated.interrupted:
        return "INTERRUPTED", f"{judged.pairs} pairs measured; --resume goes on", "warn"
    if judged.decision is None:
        return "UNDECIDED", f"{judged.pairs} pairs measured", "warn"
    if gated.mode == "aa":
        return _noise(gated)
    reasons = "; ".join(judged.reasons)
    if judged.decision == "PASS":
        reasons = _passed(gated)
    return judged.decision, reasons, _TONES[judged.decision]


def _noise(gated: Gated) -> tuple[str, str, Tone]:
    most = gated.terms.looks[-1].pairs
    if gated.judgement.decision == "PASS":
        worst = max((detectable(test, most) for test in gated.judgement.tests if test.decides), default=1.0)
        return "QUIET ENOUGH", f"{most} pairs see a change of {(worst - 1) * 100:.2g} %", "good"
    return "TOO NOISY", "; ".join(gated.judgement.reasons), "warn"


def _passed(gated: Gated) -> str:
    better = [test for test in gated.judgement.tests if test.decides and test.outcome == "better"]
    if better:
        told = ", ".join(f"{quantity_name(test.quantity.key)} {(test.ratio - 1) * 100:+.2g} %" for test in better)
        return f"nothing is worse by the margin; better: {told}"
    return "nothing is worse by the margin"


def notes(gated: Gated) -> Iterator[str]:
    """Say what limits the verdict, and what would decide."""
    yield from gated.notes
    yield from (f"does not count: {each}" for each in gated.judgement.void)
    if gated.command and gated.mode != "aa":
        yield f"what {'goes on' if gated.interrupted else 'would decide'}: {gated.command}"
    if gated.mode == "aa" and gated.judgement.decision == "INCONCLUSIVE":
        yield "a gate here would seldom decide: take longer runs, a quieter machine, or a larger --pairs or --margin"


def _facts(gated: Gated) -> Iterator[tuple[str, str]]:
    judged, terms = gated.judgement, gated.terms
    stored = gated.mode == "stored"
    yield "base", gated.base.name if stored else gated.names[0]
    yield "new", gated.new.name if stored else gated.names[1]
    if not stored and gated.base.name != gated.names[0]:
        yield "runs", f"{Path(gated.base.name).parent.parent}: pair-NN/base, pair-NN/new"
    workload = gated.new.workload.get("name")
    if workload:
        yield "workload", str(workload)
    if stored:
        yield "procedure", f"{judged.pairs} earlier valid runs of the plan; prediction-interval t-test at {ALPHA:.0%}"
    else:
        looks = ", ".join(f"{look.pairs} (α {look.alpha:g})" for look in terms.looks)
        yield "procedure", f"{judged.pairs} pairs, {len(judged.void)} void; looks at {looks} pairs; paired t, Holm"
    yield (
        "margin",
        format_margin(terms.margins.margin)
        + "".join(f"; {key} {format_margin(each)}" for key, each in terms.margins.metrics.items()),
    )
    yield "least that fails", f"{terms.margins.least * 100:g} %; attainment {terms.margins.attainment * 100:g} points"
    codes = sorted(int(code) for code in gated.exits)
    told = ", ".join(f"{code} ({EXIT_MEANINGS[Exit(code)]})" for code in codes) or "0 (all well)"
    yield "exit", f"{int(gated.exit)} of {told}" if len(codes) > 1 else told


def _tests(gated: Gated, *, stacked: bool) -> Table | None:
    tests = gated.judgement.tests
    if not tests:
        return None
    many = len({test.of_class for test in tests}) > 1
    head = (*(("class",) if many else ()), "", "base", "new", "new/base", "at most")
    columns = (*head, "") if stacked else (*head, "margin", "sd", "p", "")
    rows: list[tuple[Cell, ...]] = []
    above = ""
    for test in tests:
        name = "" if test.of_class == above else words.clean(test.of_class, 60)
        above = test.of_class
        first, *below = (_stacked if stacked else _flat)(test, aa=gated.mode == "aa")
        rows.append((Cell(name, "strong"), *first) if many else first)
        rows += [(Cell(""), *row) if many else row for row in below]
    note = "in brackets: shown only, decides nothing" if any(not test.decides for test in tests) else ""
    return Table("Latency", columns, tuple(rows), (note,) if note else (), frozenset({""}))


def _head(test: Tested) -> tuple[Cell, ...]:
    plain: Tone = "" if test.decides else "dim"
    return (
        Cell(quantity_name(test.quantity.key), "strong" if test.decides else "dim"),
        Cell(words.seconds(test.base), plain),
        Cell(words.seconds(test.new), plain),
    )


def _outcome(test: Tested, *, aa: bool) -> Cell:
    word, tone = OUTCOMES[test.outcome]
    if aa:
        word, tone = (f"needs {test.needed or '> 1,000'} pairs", "" if test.needed else "warn")
    return Cell(word, tone) if test.decides else Cell(f"({word})", "dim")


def _chance(test: Tested) -> str:
    return f"{test.p:.2g}" if test.p >= 1e-4 else "< .0001"


def _flat(test: Tested, *, aa: bool) -> list[tuple[Cell, ...]]:
    plain: Tone = "" if test.decides else "dim"
    numbers = (
        Cell(f"{test.ratio:.3f} [{test.low:.3f}, {test.high:.3f}]", plain),
        Cell(f"{test.upper:.3f}", plain),
        Cell(f"{test.margin:.3f}", "dim"),
        Cell(f"{test.sd * 100:.2g} %", "dim"),
        Cell(_chance(test), "dim"),
    )
    return [(*_head(test), *numbers, _outcome(test, aa=aa))]


def _stacked(test: Tested, *, aa: bool) -> list[tuple[Cell, ...]]:
    plain: Tone = "" if test.decides else "dim"
    below = (
        Cell(""),
        Cell(f"sd {test.sd * 100:.2g} %", "dim"),
        Cell(f"p {_chance(test)}", "dim"),
        Cell(f"[{test.low:.3f}, {test.high:.3f}]", "dim"),
        Cell(f"of {test.margin:.3f}", "dim"),
        Cell(""),
    )
    above = (Cell(f"{test.ratio:.3f}", plain), Cell(f"{test.upper:.3f}", plain), _outcome(test, aa=aa))
    return [(*_head(test), *above), below]


def _attainment(gated: Gated) -> Table | None:
    rows = tuple(_drop(each) for each in gated.judgement.attainment)
    if not rows:
        return None
    return Table(
        "Attainment at this load", ("class", "base", "new", "change, points", "at most", ""), rows,
        ("a hard clause: fails from the least drop on, where at most (one-sided 99 % over all looks) is below 0",),
        frozenset({""}),
    )  # fmt: skip


def _drop(each: Dropped) -> tuple[Cell, ...]:
    return (
        Cell(words.clean(each.of_class, 60)),
        Cell(words.percent(each.base)),
        Cell(words.percent(each.new)),
        Cell(points(-each.drop)),
        Cell(points(-each.bound), "dim"),
        Cell("fell" if each.failed else "held", "bad" if each.failed else "good"),
    )


def _changes(gated: Gated) -> Table | None:
    rows = tuple(
        (
            Cell(words.clean(name, 60)), Cell(quantity_name(key)), Cell(words.clean(run, 80)),
            Cell(words.seconds(one.before)), Cell(words.seconds(one.after)), Cell(f"{one.change * 100:+.2g} %"),
            Cell(f"{one.p:.2g}", "dim"),
        )
        for name, key, run, one in gated.changes
    )  # fmt: skip
    if not rows:
        return None
    columns = ("class", "", "from run", "before", "after", "change", "p")
    note = "change points of the history (window 50, p .001, 2 % at least); they decide nothing"
    return Table("Changes of level", columns, rows, (note,), frozenset({"", "from run"}))


def _settings(gated: Gated) -> Table | None:
    if not gated.settings:
        return None
    rows = tuple(tuple(Cell(words.clean(text, 60)) for text in setting) for setting in gated.settings[:30])
    return Table("What differs", ("setting", "base", "new"), rows, left=frozenset({"base", "new"}))


def _figure(gated: Gated) -> Figure | None:
    tests = [test for test in gated.judgement.tests if test.decides] or list(gated.judgement.tests)
    lines = [
        Line(
            ("" if test.of_class == ALL else f"{test.of_class} ") + quantity_name(test.quantity.key),
            test.ratio, test.low, test.high, _CHART_TONES[test.outcome], test.margin,
        )
        for test in tests
    ]  # fmt: skip
    about = "Ratio of NEW to BASE with its 95 % interval; grey: what the margin allows. Red: worse."
    return forest(lines, title="Change of each metric that decides", about=about)


def statement(gated: Gated) -> str:
    """Say it all in one line that can be read alone."""
    word, meaning, _ = verdict(gated)
    judged, terms = gated.judgement, gated.terms
    if gated.mode == "stored":
        how = f"new runs against {judged.pairs} earlier valid ones of the same plan (at least {FEWEST})"
    else:
        how = f"{judged.pairs} interleaved pairs of runs, both of one plan (vr off), each with a nonce of its own"
    family = ", ".join(each.key for each in terms.family)
    return (
        f"{gated.names[1]} against {gated.names[0]}: {how}; family {family}, TTFT from intended send time, "
        "TPOT = (last − first)/(n − 1), latencies of successful requests, attainment of scheduled requests (errors and "
        f"timeouts count against); margin {format_margin(terms.margins.margin)}, "
        f"least {terms.margins.least * 100:g} %: {word}{f' ({meaning})' if meaning else ''}"
    )


def to_json(gated: Gated) -> dict[str, Any]:
    """Return the gate as plain data: seconds, ratios, shares; null where a number is not known."""
    word, meaning, _ = verdict(gated)
    judged = gated.judgement
    return {
        "schema": 1,
        "verdict": word,
        "why": meaning,
        "exit": int(gated.exit),
        "exits": sorted(int(code) for code in gated.exits),
        "mode": gated.mode,
        "base": gated.names[0],
        "new": gated.names[1],
        "pairs": judged.pairs,
        "void": list(judged.void),
        "looks": [{"pairs": look.pairs, "alpha": look.alpha} for look in gated.terms.looks],
        "margins": gated.terms.margins.model_dump(mode="json"),
        "tests": [_test_json(test) for test in judged.tests],
        "attainment": [
            {
                "class": d.of_class,
                "base": d.base,
                "new": d.new,
                "drop": d.drop,
                "bound": finite(d.bound),
                "failed": d.failed,
            }
            for d in judged.attainment
        ],
        "changes": [
            {"class": name, "metric": key, "run": run, "before": one.before, "after": one.after, "p": one.p}
            for name, key, run, one in gated.changes
        ],
        "settings": [{"name": name, "base": base, "new": new} for name, base, new in gated.settings],
        "notes": list(notes(gated)),
        "command": gated.command or None,
        "statement": statement(gated),
    }


def _test_json(test: Tested) -> dict[str, Any]:
    return {
        "class": test.of_class,
        "metric": test.quantity.key,
        "decides": test.decides,
        "base_s": finite(test.base),
        "new_s": finite(test.new),
        "ratio": {"value": finite(test.ratio), "low": finite(test.low), "high": finite(test.high)},
        "upper": finite(test.upper),
        "margin": test.margin,
        "least": test.least,
        "sd": finite(test.sd),
        "p": finite(test.p),
        "outcome": test.outcome,
        "needed": test.needed,
    }
