"""The tables of a capacity search: certificate, limits, criteria, curve, probes."""

from __future__ import annotations

from slobench.experiment.certificate import Bound
from slobench.experiment.found import CurvePoint
from slobench.experiment.stream import Probed
from slobench.report import capacity_text as text
from slobench.report import words
from slobench.report.capacity import CapacityView
from slobench.report.tables import Cell, Table, Tone

_CURVE_ROWS = 9
PURPOSES = {
    "warmup": "warm-up",
    "floor": "single request",
    "bracket": "bracket",
    "refine": "refine",
    "certify": "certify",
}


def limits_table(view: CapacityView) -> Table | None:
    """Attainment of each limit alone and of each class, where the capacity is."""
    found = view.found
    rows = [
        (
            Cell(words.clean(each, 80)),
            Cell(words.percent(share)),
            Cell("binding" if each == found.binding else "", "warn"),
        )
        for each, share in found.limits.items()
    ]
    if len(found.classes) > 1:
        rows += [
            (Cell(f"class {words.clean(each, 60)}, joint"), Cell(words.percent(share)), Cell(""))
            for each, share in found.classes.items()
        ]
    if not rows:
        return None
    return Table(
        f"At {text.load(view, found.rate)} {text.unit(view)}", ("share of requests", "met by", ""), tuple(rows)
    )


def roots_table(view: CapacityView) -> Table | None:
    """The load that each criterion bears, where there are several."""
    found = view.found
    if len(found.roots) < 2:
        return None
    levels = {each.name: each.target for each in view.ask.settings.criteria}
    rows = tuple(
        (
            Cell(words.clean(each, 80), "strong" if each == found.criterion.name else ""),
            Cell(words.percent(levels[each])),
            Cell(text.load(view, rate) if rate < 1e4 else "higher"),
            Cell(f"[{text.load(view, low)}, {text.load(view, high) if high < 1e4 else '∞'}]"),
        )
        for each, (rate, low, high) in found.roots.items()
    )
    return Table("Each criterion", ("criterion", "target", text.unit(view), "95 %"), rows)


def curve_table(view: CapacityView) -> Table | None:
    """The fitted attainment curve at some loads."""
    curve = view.found.curve
    if not curve:
        return None
    step = max(1, (len(curve) - 1) // (_CURVE_ROWS - 1))
    rows = tuple(_curve_row(view, point) for point in curve[::step])
    note = "fit of the refining probes with its pointwise 95 % band; within ±20 % of the result only"
    return Table("Attainment by load", (text.unit(view), "attainment", "95 % band"), rows, (note,))


def _curve_row(view: CapacityView, point: CurvePoint) -> tuple[Cell, ...]:
    low, high = words.percent(point.low).removesuffix(" %"), words.percent(point.high).removesuffix(" %")
    return Cell(text.load(view, point.rate)), Cell(words.percent(point.share)), Cell(f"[{low}, {high}] %")


def probes_table(view: CapacityView) -> Table:
    """Every probe."""
    columns = ("probe", "kind", text.unit(view), "n", "attainment", "mean E2E", "p99 E2E", "from", "")
    rows = tuple(_probe_row(view, each) for each in view.history.done)
    return Table("Probes", columns, rows, left=frozenset({"kind"}))


def _probe_row(view: CapacityView, probed: Probed) -> tuple[Cell, ...]:
    key = view.found.criterion.name
    used = probed.probe.number in view.found.used
    note = "in fit" if used else "given up" if probed.curtailed else "spoiled" if probed.instrument else ""
    return (
        Cell(f"{probed.probe.number}"),
        Cell(PURPOSES[probed.probe.purpose], "strong" if used else "dim"),
        Cell("alone" if probed.probe.purpose == "floor" else text.load(view, probed.probe.rate)),
        Cell(words.count(probed.n(key))),
        Cell(words.percent(probed.attainment(key)), _tone(view, probed)),
        Cell(words.seconds(probed.mean_e2e_s)),
        Cell(words.seconds(probed.p99_e2e_s)),
        Cell(f"{probed.start_s:,.0f} s"),
        Cell(note, "bad" if probed.instrument else "dim"),
    )


def _tone(view: CapacityView, probed: Probed) -> Tone:
    share = probed.attainment(view.found.criterion.name)
    return "" if share is None else "good" if share >= view.found.criterion.target else "bad"


def certificate_table(view: CapacityView) -> Table | None:
    """What the certifying probe showed of each criterion."""
    certificate = view.found.certificate
    if certificate is None:
        return None
    rows = tuple(_bound_row(bound) for bound in certificate.bounds)
    title = f"Certificate at {text.load(view, certificate.rate)} {text.unit(view)}"
    note = "a fresh seed, plain arrivals, no variance reduction; one-sided 95 % bound, exact binomial at n_eff"
    return Table(title, ("criterion", "target", "seen", "at least", "n", "n_eff", "D", ""), rows, (note,))


def _bound_row(bound: Bound) -> tuple[Cell, ...]:
    return (
        Cell(words.clean(bound.criterion.name, 80)),
        Cell(words.percent(bound.criterion.target)),
        Cell(words.percent(bound.seen)),
        Cell(words.percent(bound.low), "strong"),
        Cell(words.count(bound.n)),
        Cell(words.count(bound.n_eff)),
        Cell(words.three(bound.design_effect)),
        Cell("met" if bound.holds else "not shown", "good" if bound.holds else "warn"),
    )


def tables(view: CapacityView) -> list[Table]:
    """Every table that there is something for, in reading order."""
    made = (
        certificate_table(view),
        limits_table(view),
        roots_table(view),
        curve_table(view),
        probes_table(view) if view.history.done else None,
    )
    return [table for table in made if table is not None]
