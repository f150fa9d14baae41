"""The tables of an SLO: attainment, limits and objectives of each class, and what is left of its error budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from slobench.metrics.summary import BurnPair, ErrorBudget, Estimate, ObjectiveResult, SloResult
from slobench.report import words
from slobench.report.tables import Cell, Table, Tone
from slobench.report.view import ALL, RunView

SHARES = ("attainment", "availability", "error_rate")


def objective_line(view: RunView) -> Cell | None:
    """Return the SLO in three words, `SLO met`, `SLO MISSED (code)`; None where no objective was given."""
    judged = {name: view.summary.slo[name].met for name in view.shown if name in view.summary.slo}
    missed = [words.clean(name, 40) for name, met in judged.items() if met is False]
    if missed:
        where = [name for name in missed if name != ALL] if len(view.classes) > 1 else []
        return Cell("SLO MISSED" + (f" ({', '.join(where)})" if where else ""), "bad")
    return Cell("SLO met", "good") if any(judged.values()) else None


def slo_table(view: RunView, *, brief: bool = False) -> Table | None:
    """Attainment and goodput of each class, under it each limit alone and each objective; None without classes.

    brief: of a total over several classes only the line itself and its objectives.
    """
    names = [name for name in view.shown if name in view.summary.slo]
    if not names:
        return None
    results = [view.summary.slo[name] for name in names]
    rows: list[tuple[Cell, ...]] = []
    for name, result in zip(names, results, strict=True):
        rows += _slo_rows(name, result, limits=not brief or len(names) == 1 or name != ALL)
    limited = any(result.marginal or result.objectives for result in results)
    return Table(
        title="SLO" if limited else "Served (no SLO was given: good = complete, without error)",
        columns=("class", "good/all", "attainment", "95 % interval", "n_eff/D", "good/s", ""),
        rows=tuple(rows),
        notes=tuple(_slo_notes(names, results)),
    )


def _slo_rows(name: str, result: SloResult, *, limits: bool) -> Iterable[tuple[Cell, ...]]:
    status = {True: Cell("met", "good"), False: Cell("MISSED", "bad"), None: Cell("")}[result.met]
    yield (
        Cell(words.clean(name, 60), "strong"),
        Cell(f"{words.count(result.good)}/{words.count(result.population)}"),
        Cell(words.percent(result.attainment.value, attainment_bound(result)), "strong"),
        Cell(words.percent_interval(result.attainment)),
        Cell(worth(result.attainment), "dim"),
        Cell(words.three(result.goodput.value or 0.0)),
        status,
    )
    lone = len(result.marginal) == 1
    for clause, estimate in result.marginal.items() if limits else ():
        yield (
            Cell(words.clean(clause, 60), indent=True),
            Cell(""),
            Cell(words.percent(estimate.value)),
            Cell(words.percent_interval(estimate)),
            Cell(worth(estimate), "dim"),
            Cell(""),
            Cell("binding", "dim") if clause == result.binding and not lone and estimate.value != 1 else Cell(""),
        )
    for objective in result.objectives:
        yield (
            Cell(words.clean(objective.text, 160), indent=True),
            Cell(""),
            *_objective_cells(objective),
            Cell(worth(objective.seen) if objective.seen.n else "", "dim"),
            Cell(""),
            {True: Cell("met", "good"), False: Cell("MISSED", "bad"), None: Cell("unjudged", "warn")}[objective.met],
        )


def attainment_bound(result: SloResult) -> float | None:
    """Return the attainment that was asked for, None where none was."""
    return next((each.bound for each in result.objectives if each.text.startswith("attainment")), None)


def _objective_cells(objective: ObjectiveResult) -> tuple[Cell, Cell]:
    seen, bound = objective.seen, objective.bound
    if objective.text.startswith(SHARES):
        return Cell(words.percent(seen.value, bound)), Cell(words.percent_interval(seen))
    if bound is not None:  # a percentile limit: seconds
        return Cell(words.latency(seen, bound)), Cell(words.latency_interval(seen))
    return Cell(""), Cell("")


def worth(estimate: Estimate) -> str:
    """`n_eff/D` of an estimate."""
    _, n_eff, _ = words.weight(estimate)
    if n_eff == words.ABSENT:
        return words.ABSENT
    return n_eff if estimate.design_effect is None else f"{n_eff}/{words.three(estimate.design_effect)}"


def _slo_notes(names: Sequence[str], results: Sequence[SloResult]) -> Iterable[str]:
    for name, result in zip(names, results, strict=True):
        facts = tuple(_facts(result))
        if facts:
            yield (f"{words.clean(name, 60)}: " if len(names) > 1 else "") + "; ".join(facts)
    last = results[-1]
    yield (
        f"goodput {_rate(last.goodput, 'req/s')}, {_rate(last.good_tokens, 'tok/s')} in good replies "
        "(interval from ten equal parts of the window)"
    )
    if any(result.marginal for result in results) and not any(result.objectives for result in results):
        yield "limits without an objective are counted, not judged: add e.g. attainment>=99% for a verdict (exit 4)"
    kinds = sorted({result.attainment.note for result in results if result.attainment.note})
    if kinds:
        yield f"attainment intervals: {', '.join(words.clean(kind, 80) for kind in kinds)}"


def _facts(result: SloResult) -> Iterator[str]:
    admitted = result.attainment_admitted
    if admitted.value is not None and admitted.value != result.attainment.value:
        yield (
            f"{words.percent(admitted.value)} {words.percent_interval(admitted)} of the {words.count(admitted.n)} "
            f"admitted (429, 503 left out; n_eff/D {worth(admitted)})"
        )
    if result.vacuous:
        yield f"{words.count(result.vacuous)} met a TPOT or gap limit vacuously (one token)"
    if result.not_judged:
        yield f"{words.count(result.not_judged)} could not be judged"
    if result.left_out:
        yield f"{words.count(result.left_out)} cancelled or cut before any limit was due, left out"


def _rate(seen: Estimate, unit: str) -> str:
    interval = words.rate_interval(seen)
    return words.rate(seen.value, unit) + (f" {interval}" if interval != words.ABSENT else "")


def budget_table(view: RunView, *, brief: bool = False) -> Table | None:
    """What each objective allows to miss, how much of it was spent, and how fast; None without an objective.

    brief: the pairs of burn windows as one line.
    """
    held = [
        (name, budget) for name in view.shown if name in view.summary.slo for budget in view.summary.slo[name].budgets
    ]
    if not held:
        return None
    alike = len({budget.objective for _, budget in held}) == 1
    rows: list[tuple[Cell, ...]] = []
    labels = []
    for name, budget in held:
        parts = (name, budget.objective) if len(view.shown) > 1 else (budget.objective,)
        labels.append(words.clean(name if alike else ": ".join(parts), 140))
        rows.append(_budget_row(labels[-1], budget))
        if not brief:
            rows += [_pair_row(pair) for pair in budget.pairs]
    return Table(
        title="Error budget" + (f" of {words.clean(held[0][1].objective, 80)}" if alike else ""),
        columns=(
            "class" if alike else "objective",
            "missed/allowed",
            "used",
            "95 % interval",
            "n_eff/D",
            "fastest",
            "",
        ),
        rows=tuple(rows),
        notes=tuple(_budget_notes(dict(zip(labels, (budget for _, budget in held), strict=True)), brief=brief)),
    )


def _budget_row(label: str, budget: ErrorBudget) -> tuple[Cell, ...]:
    used = budget.used.value
    tone: Tone = "" if used is None else "bad" if used > 1 else "good"
    known = [burn for burn in budget.burn if burn is not None]
    return (
        Cell(label, "strong"),
        Cell(f"{words.count(budget.misses)}/{words.three(budget.allowed)}"),
        Cell(words.multiple(used), tone),
        Cell(words.multiple_interval(budget.used)),
        Cell(worth(budget.used), "dim"),
        Cell(words.multiple(max(known, default=None))),
        Cell("spent" if used is not None and used > 1 else "", "bad"),
    )


def _pair_row(pair: BurnPair) -> tuple[Cell, ...]:
    state = {True: Cell("burning", "bad"), False: Cell("held", "good"), None: Cell("insufficient", "dim")}
    return (
        Cell(f"above {_factor(pair)} over {_windows(pair)}", indent=True),
        *(Cell("") for _ in range(4)),
        Cell(words.multiple(pair.worst)),
        state[pair.burning],
    )


def _windows(pair: BurnPair) -> str:
    return f"{words.seconds(pair.long_s)} and {words.seconds(pair.short_s)}"


def _budget_notes(budgets: Mapping[str, ErrorBudget], *, brief: bool) -> Iterator[str]:
    yield "used: misses over allowed ones, which is the burn rate over the whole window"
    widths = {words.seconds(budget.width_s) for budget in budgets.values() if budget.burn}
    if widths:
        yield f"fastest: highest burn rate over any {' or '.join(sorted(widths))} of it"
    yield from (f"{name}: {budget.used.note}" for name, budget in budgets.items() if not budget.pairs)
    yield from dict.fromkeys(f"burn over time {budget.note}" for budget in budgets.values() if budget.note)
    if not brief:
        pairs = (pair for budget in budgets.values() for pair in budget.pairs)
        yield from dict.fromkeys(f"above {_factor(pair)}: {pair.note}" for pair in pairs if pair.note)
        return
    told = {name: ", ".join(_pair_words(pair) for pair in budget.pairs) for name, budget in budgets.items()}
    alike = len(set(told.values())) == 1
    for name, pairs_text in told.items():
        if pairs_text:
            yield ("" if alike else f"{name}: ") + f"burn alarms: {pairs_text}"
        if alike:
            return


def _pair_words(pair: BurnPair) -> str:
    if pair.burning is None:
        return f"{_factor(pair)} insufficient"
    return f"{_factor(pair)} {'burning' if pair.burning else 'held'} (worst {words.multiple(pair.worst)})"


def _factor(pair: BurnPair) -> str:
    return f"{pair.factor:g}×"
