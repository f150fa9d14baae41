"""A fitted trace as a page and as JSON: models and how well each foretells, parameters, what is given back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slobench.report import words
from slobench.report.page import Page
from slobench.report.tables import Cell, Table
from slobench.report.trace_charts import rate_figure
from slobench.stats.held_out import Fitted, Parameter
from slobench.stats.processes import Varying
from slobench.stats.rate_curve import Curve
from slobench.units import format_s
from slobench.workload.fit import TraceFit
from slobench.workload.fit_check import Check
from slobench.workload.fit_lengths import LengthFit
from slobench.workload.trace_facts import rate_over_time

UNITS = {"mean": "s", "rate": "/s", "decay": "/s"}
MEANINGS = {
    "held-out": "log-likelihood an arrival, nats, of blocks of time that the model was not fitted to",
    "behind": "how far below the best, with the standard error of that difference over the blocks",
    "distance": "largest difference of two distribution functions (Kolmogorov and Smirnov): of gaps, rescaled by the "
    "model's intensity, against the exponential; of lengths, against what was recorded",
    "chosen": "the fewest parameters among those at most two standard errors behind the best",
    "drawn": "middle 95 % of 40 draws of the fitted class, each as long as the trace",
}


@dataclass(frozen=True, slots=True, eq=False)
class FitView:
    """What there is to show. notes: what was left out or is never given back; workload: its YAML."""

    name: str
    fits: Mapping[str, TraceFit]
    checks: Mapping[str, Sequence[Check]]
    notes: tuple[str, ...]
    workload: str
    out: str = ""


def page_of(view: FitView) -> Page:
    """Put a fit on a page."""
    kept, wrong = _counts(view)
    word, meaning = headline(view)
    return Page(
        heading=f"{view.name} → {view.out or 'workload'}",
        headline=f"{word}: {meaning}",
        word=word,
        meaning=meaning,
        tone="good" if not wrong else "warn",
        facts=tuple(_facts(view)),
        tables=tuple(table for name, fit in view.fits.items() for table in _tables(view, name, fit)),
        statement=f"{view.name}: {meaning}; {kept} of {kept + wrong} quantities given back",
        notes=view.notes,
        figures=tuple(
            rate_figure(over_time, None, _curve(fit))
            for fit in view.fits.values()
            if (over_time := rate_over_time(fit.sample.times)) is not None
        ),
        meanings=MEANINGS,
        details={"Workload": view.workload},
        facts_title="What was fitted",
        files=view.out,
    )


def headline(view: FitView) -> tuple[str, str]:
    """(word, meaning): the model of each class, and what it wins by."""
    told = []
    for name, fit in view.fits.items():
        chosen = fit.arrivals.chosen
        text = f"{chosen.model.name} arrivals"
        gamma = next((each for each in zip(fit.arrivals.fitted, fit.arrivals.behind, strict=True)
                      if each[0].model.name == "gamma"), None)  # fmt: skip
        if gamma is not None and chosen is not gamma[0]:
            text += f", gamma {gamma[1][0]:.3f} ± {gamma[1][1]:.3f} nats an arrival behind the best"
        told.append(text if len(view.fits) == 1 else f"{words.clean(name, 60)}: {text}")
    return "FIT", "; ".join(told)


def to_json(view: FitView) -> dict[str, Any]:
    """Return plain data; docs/reference.md lists the keys."""
    return {
        "file": view.name,
        "out": view.out or None,
        "notes": list(view.notes),
        "classes": {name: _class_json(fit, view.checks[name]) for name, fit in view.fits.items()},
        "workload": view.workload,
    }


def _class_json(fit: TraceFit, checks: Sequence[Check]) -> dict[str, Any]:
    choice = fit.arrivals
    models = [
        {
            "model": each.model.name,
            "parameters": {parameter.name: _parameter_json(parameter) for parameter in each.parameters},
            "held_out_per_arrival": each.per_arrival,
            "behind": gap,
            "behind_error": error,
            "ks": each.ks.statistic,
            "ks_p": each.ks.p,
            "chosen": each is choice.chosen,
        }
        for each, (gap, error) in zip(choice.fitted, choice.behind, strict=True)
    ]
    return {
        "requests": len(fit.sample.times),
        "left_out": fit.sample.left_out,
        "span_s": float(fit.sample.times[-1]),
        "blocks": choice.blocks,
        "block_s": choice.block_s,
        "model": choice.chosen.model.name,
        "models": models,
        "input_tokens": _lengths_json(fit.input_tokens, paired=fit.paired),
        "output_tokens": _lengths_json(fit.output_tokens, paired=fit.paired),
        "paired": fit.paired,
        "checks": [asdict(each) for each in checks],
    }


def _parameter_json(parameter: Parameter) -> dict[str, float | None]:
    return {"value": parameter.value, "low": parameter.low, "high": parameter.high}


def _lengths_json(fit: LengthFit, *, paired: bool) -> dict[str, Any]:
    return {
        "dist": "recorded pairs" if paired else fit.name,
        "ks": fit.distance,
        "candidates": [asdict(each) for each in fit.candidates],
    }


def _counts(view: FitView) -> tuple[int, int]:
    every = [check for checks in view.checks.values() for check in checks if check.recorded is not None]
    kept = sum(check.kept for check in every)
    return kept, len(every) - kept


def _facts(view: FitView) -> Iterator[tuple[str, str]]:
    for name, fit in view.fits.items():
        prefix = "" if len(view.fits) == 1 else f"{words.clean(name, 40)}: "
        left = f", {fit.sample.left_out:,} left out" if fit.sample.left_out else ""
        yield f"{prefix}requests", f"{len(fit.sample.times):,} over {format_s(float(fit.sample.times[-1]))}{left}"
        yield f"{prefix}blocks", f"{fit.arrivals.blocks} of {format_s(fit.arrivals.block_s)}, each left out in turn"
        if fit.sample.step_ns:
            yield f"{prefix}spread", f"arrivals at random within steps of {format_s(fit.sample.step_ns / 1e9)}"


def _tables(view: FitView, name: str, fit: TraceFit) -> Iterator[Table]:
    of = "" if len(view.fits) == 1 else f" of {words.clean(name, 60)}"
    yield _models(fit, of)
    yield Table(
        f"Parameters{of}: {fit.arrivals.chosen.model.name}",
        ("", "value", "95 % interval"),
        tuple(_parameter(each, fit) for each in fit.arrivals.chosen.parameters),
        notes=("by leaving out each block; not determined: the record says too little, or the fit is at its bound",),
    )
    yield _lengths(fit, of)
    yield _checks(view.checks[name], of)


def _models(fit: TraceFit, of: str) -> Table:
    rows = []
    for each, (gap, error) in zip(fit.arrivals.fitted, fit.arrivals.behind, strict=True):
        chosen = each is fit.arrivals.chosen
        behind = "best" if each is fit.arrivals.fitted[0] else f"{gap:.4f} ± {error:.4f}"
        rows.append(
            (
                Cell(each.model.name, "strong" if chosen else ""),
                Cell(str(len(each.parameters)), "dim"),
                Cell(f"{each.per_arrival:.4f}", "strong" if chosen else ""),
                Cell(behind),
                Cell(f"{each.ks.statistic:.3f}"),
                Cell("chosen" if chosen else "", "good" if chosen else ""),
            )
        )
    return Table(f"Models of arrivals{of}", ("", "params", "held-out", "behind", "distance", ""), tuple(rows), notes=())


def _parameter(each: Parameter, fit: TraceFit) -> tuple[Cell, ...]:
    unit = next((unit for part, unit in UNITS.items() if part in each.name), "")
    unit = f" {unit}" if unit == "s" else unit
    label = each.name.replace("_", " ")
    model = fit.arrivals.chosen.model
    if isinstance(model, Varying) and each.name.startswith("rate_"):
        at = int(each.name.removeprefix("rate_")) / (model.knots - 1) * float(fit.sample.times[-1])
        label = f"rate at {format_s(at) if at else '0 s'}"
    interval = "not determined"
    if each.low is not None and each.high is not None:
        interval = f"[{words.three(each.low)}, {words.three(each.high)}]"
    return Cell(label, "strong"), Cell(f"{words.three(each.value)}{unit}"), Cell(interval)


def _lengths(fit: TraceFit, of: str) -> Table:
    rows = []
    for label, each in (("input", fit.input_tokens), ("output", fit.output_tokens)):
        for at, candidate in enumerate(each.candidates):
            chosen = candidate.name == each.name and not fit.paired
            rows.append(
                (
                    Cell("" if at else label, "strong"),
                    Cell(candidate.name),
                    Cell(f"{candidate.per_request:.4f}"),
                    Cell(f"{candidate.distance:.3f}"),
                    Cell("chosen" if chosen else "", "good" if chosen else ""),
                )
            )
        if fit.paired or each.name in {"empirical", "constant"}:
            told = "recorded pairs" if fit.paired else each.name
            rows.append(
                (
                    Cell("" if each.candidates else label, "strong"),
                    Cell(told),
                    Cell(""),
                    Cell(""),
                    Cell("chosen", "good"),
                )
            )
    return Table(
        f"Lengths{of}", ("", "distribution", "held-out", "distance", ""), tuple(rows), left=frozenset({"distribution"})
    )


def _checks(checks: Sequence[Check], of: str) -> Table:
    rows = []
    for each in checks:
        if each.recorded is None:
            continue
        drawn = words.ABSENT
        if each.low is not None and each.high is not None:
            drawn = f"[{words.three(each.low)}, {words.three(each.high)}]"
        rows.append(
            (
                Cell(each.name),
                Cell(words.three(each.recorded)),
                Cell(drawn),
                Cell("" if each.kept else "not given back", "" if each.kept else "warn"),
            )
        )
    return Table(f"What the workload gives back{of}", ("", "recorded", "drawn", ""), tuple(rows))


def _curve(fit: TraceFit) -> Any:
    import numpy as np

    chosen: Fitted = fit.arrivals.chosen
    if not isinstance(chosen.model, Varying):
        return None
    end = float(fit.sample.times[-1])
    at = np.linspace(0.0, end, chosen.model.knots)
    return at, Curve(end, np.asarray(chosen.values[: chosen.model.knots])).at(at)
