"""A capacity in words and tables: lines that can be read alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from slobench.experiment.capacity import arrivals_of, is_bursty, unit_of
from slobench.experiment.found import Certificate
from slobench.names import Exit
from slobench.report import words
from slobench.report.capacity import CapacityView, exit_of

MEANINGS = {
    "capacity, max users": "the highest offered load, or number of users, at which attainment still meets its target",
    "attainment": "good requests of all that were scheduled; errors and timeouts are not good",
    "certified": "a load that one long probe with a fresh seed has shown, with 95 % confidence, to keep the target",
    "D, n_eff": "design effect, and n/D: how many independent requests the dependent ones are worth",
    "slope": "change of the log odds of being good with ln(load); the steeper, the sharper the result",
}


def unit(view: CapacityView) -> str:
    """`requests/s`, `sessions/s` or `users`."""
    return unit_of(view.ask)


def name(view: CapacityView) -> str:
    """`capacity` or `max users`: what a closed loop bears is never called capacity."""
    return "max users" if view.users else "capacity"


def load(view: CapacityView, rate: float | None) -> str:
    """One load without its unit."""
    if rate is None:
        return words.ABSENT
    return f"{rate:,.0f}" if view.users else words.three(rate)


def interval(view: CapacityView) -> str:
    """`[19.5, 20.7]`; an open end as ∞."""
    found = view.found
    low = load(view, found.low) if found.low is not None else "0"
    high = load(view, found.high) if found.high is not None else "∞"
    return f"[{low}, {high}]"


def target(view: CapacityView) -> str:
    """What must hold: `joint attainment ≥ 90 %`."""
    found = view.found
    share = words.percent(found.criterion.target)
    if found.criterion.name == "total":
        return f"joint attainment ≥ {share}"
    if found.criterion.name.startswith("class=") and " " not in found.criterion.name:
        return f"joint attainment of {words.clean(found.criterion.name, 80)} ≥ {share}"
    return f"{words.clean(found.criterion.name, 80)} met by ≥ {share}"


def verdict(view: CapacityView) -> tuple[str, str, str]:
    """(word, what it means here, tone) of the result."""
    found = view.found
    match found.reason:
        case "certified":
            certified = f"{load(view, found.certified)} {unit(view)}"
            return "CERTIFIED", f"{certified}: {_shown(found.certificate)}", "good"
        case "instrument":
            return (
                "INVALID",
                f"the client spoiled {len(found.instrument)} probes, the last by {found.instrument[-1]}",
                "bad",
            )
        case "hopeless":
            return "HOPELESS", _hopeless(view), "bad"
        case "not reached":
            return (
                "NOT REACHED",
                f"the SLO holds up to the highest load tried, {load(view, found.low)} {unit(view)}",
                "warn",
            )
        case "budget":
            return "UNCERTIFIED", "the budget ran out; --resume with a larger --budget goes on", "warn"
        case "interrupted":
            return "INTERRUPTED", "--resume goes on with the probes that have ended", "warn"
        case "uncertified":
            return "UNCERTIFIED", _uncertified(view), "warn"
        case _:
            return "UNCERTIFIED", f"the probes do not say where attainment falls to its target: {found.reason}", "warn"


def _shown(certificate: Certificate | None) -> str:
    if certificate is None or not certificate.bounds:
        return ""
    worst = min(certificate.bounds, key=lambda each: each.low - each.criterion.target)
    return f"attainment {words.percent(worst.seen)} seen, at least {words.percent(worst.low)} with 95 % confidence"


def _uncertified(view: CapacityView) -> str:
    certificate = view.found.certificate
    at = f" at {load(view, certificate.rate)} {unit(view)}" if certificate else ""
    return f"{_shown(certificate)}{at}: not enough for the target; a finer --precision or another --seed may decide"


def _hopeless(view: CapacityView) -> str:
    floor = view.found.floor
    lowest = min((each.probe.rate for each in view.history.of("bracket")), default=None)
    text = (
        f"the SLO is missed at {load(view, lowest)} {unit(view)} already" if lowest is not None else "the SLO is missed"
    )
    if floor is None:
        return text
    times = (("TTFT", floor.ttft_s), ("TPOT", floor.tpot_s), ("E2E", floor.e2e_s))
    seen = ", ".join(f"{label} {words.seconds(value)}" for label, value in times if value is not None)
    return f"{text}; of {floor.n} requests sent alone {floor.good} were good (means: {seen})"


def headline(view: CapacityView) -> str:
    """`capacity 20.1 requests/s [19.5, 20.7]`, or what is known instead."""
    found = view.found
    if found.rate is None:
        if found.low is not None and found.reason == "not reached":
            return f"{name(view)} above {load(view, found.low)} {unit(view)}"
        return f"{name(view)} not found"
    return f"{name(view)} {load(view, found.rate)} {unit(view)} {interval(view)}"


def result_line(view: CapacityView) -> str:
    """The result as one line that can be read alone."""
    found, ask = view.found, view.ask
    word, text, _ = verdict(view)
    if found.rate is None:
        return f"{headline(view)} · {word}: {text} · {target(view)} · {slo_words(view)}"
    vr = "on" if ask.settings.vr and not view.users else "off"
    what = "number" if view.users else "offered load"
    falls = target(view).replace("≥", "falls to")
    drawn = f"{arrivals_of(ask)}, seed {ask.settings.seed}, vr {vr}"
    level = "95 %, approximate" if is_bursty(ask) else "95 %"
    parts = [
        f"{headline(view)} ({level}): the {what} ({drawn}) at which {falls} of scheduled requests",
        *([requests(view).partition(";")[0]] if ask.settings.requests_each > 1 else []),
        f"errors and timeouts count against, SLO {slo_words(view)}",
        "TTFT from intended send time, TPOT = (last − first)/(n − 1)",
    ]
    if found.n_eff is not None and found.design_effect is not None:
        parts.append(
            f"fit on {len(found.used)} probes, n {found.n:,}, n_eff {found.n_eff:,.0f} (D {found.design_effect:,.0f})"
        )
    parts.append(f"{word.lower()}{': ' if text else ''}{text}")
    if found.certificate is not None and found.certificate.bounds:
        bound = found.certificate.bounds[0]
        parts.append(f"certificate: vr off, n {bound.n:,}, n_eff {bound.n_eff:,.0f} (D {bound.design_effect:,.0f})")
    return "; ".join(parts) + "."


def requests(view: CapacityView) -> str:
    """`48.2 requests/s: 4 of each session on average`: what a rate of sessions is in requests."""
    each, rate = view.ask.settings.requests_each, view.found.rate
    what = "session" if unit(view) == "sessions/s" else "arrival"
    total = "" if rate is None else f"{words.three(rate * each)} requests/s: "
    return f"{total}{words.three(each)} of each {what} on average; every probe warms up from an idle server"


def slo_words(view: CapacityView) -> str:
    """The SLO as written."""
    return words.clean(", ".join(view.ask.slo.text), 300)


def heading(view: CapacityView) -> str:
    """`capacity of chat on sim`."""
    trial = view.ask.trial
    return words.clean(f"{name(view)} of {trial.workload.name} on {trial.target.kind}", 200)


def facts(view: CapacityView) -> Iterator[tuple[str, str]]:
    """(name, value) of what was searched, and how."""
    found, ask = view.found, view.ask
    yield "target", target(view)
    yield "SLO", slo_words(view)
    vr = "vr on (certificate: off)" if ask.settings.vr and not view.users else "vr off"
    yield "load", f"{arrivals_of(ask)}, seed {ask.settings.seed}, {vr}"
    yield "server", f"{ask.trial.target.kind}{', engine in virtual time' if ask.wanted.virtual else ''}"
    if ask.settings.requests_each > 1:
        yield "requests", requests(view)
    yield "binding", binding(view)
    if found.slope is not None:
        yield "slope", f"{found.slope:.3g} in log odds per ln(load)"
    if found.n_eff is not None:
        yield (
            "evidence",
            f"n {found.n:,}, n_eff {found.n_eff:,.0f}, D {found.design_effect:,.0f}, {len(found.used)} probes",
        )
    if view.gpus is not None and found.rate is not None:
        yield "per GPU", f"{load(view, found.rate / view.gpus)} {unit(view)} ({view.gpus} GPUs)"
    yield (
        "spent",
        f"{view.history.requests:,} requests, {_minutes(view.history.seconds)}, {len(view.history.done)} probes",
    )
    if found.method not in {None, "delta"}:
        yield "method", _methods()[found.method or ""]
    if is_bursty(ask):
        yield (
            "interval",
            "approximate: under bursts of cv 2 it held the truth in 60-84 % of searches, and loads were 1-3 % too high",
        )
    if found.refined in {"budget", "probes"}:
        yield (
            "note",
            f"refining ended by its {found.refined}: the interval is wider than ±{ask.settings.precision:.0%} asked",
        )


def _methods() -> Mapping[str, str]:
    return {
        "fieller": "Fieller's interval: the slope is not clear",
        "isotonic": "isotonic fit: attainment does not fall as a line in log odds does (non-monotone?)",
        "bracket": "bracket of short probes: load that was carried, load at which the queue grew",
    }


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def binding(view: CapacityView) -> str:
    """The limit that fails first."""
    found = view.found
    if found.binding is None:
        return words.ABSENT
    if found.binding == "queue":
        return "the queue: more load is not carried, however long a request may take"
    share = found.limits[found.binding]
    return f"{words.clean(found.binding, 80)} (met by {words.percent(share)} at {load(view, found.rate)})"


def exit_words(view: CapacityView) -> str:
    """`exit 7: uncertified`."""
    code = exit_of(view)
    meanings = {
        Exit.OK: "certified",
        Exit.INVALID: "the client spoiled the probes",
        Exit.UNDECIDED: "uncertified",
        Exit.INTERRUPTED: "interrupted",
    }
    return f"exit {int(code)}: {meanings[code]}"
