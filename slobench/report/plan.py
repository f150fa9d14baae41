"""What there is to say about a plan: its digest, and for each class its rate, lengths and sharing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import orjson

from slobench.config.arrivals import Process, traits
from slobench.config.workload import Workload
from slobench.plan import Plan
from slobench.plan_sharing import distinct, found_tokens
from slobench.report import plan_content, plan_sessions
from slobench.report.plan_content import ContentPlan, content_plan
from slobench.report.plan_sessions import PatiencePlan, SessionPlan, patience_plan, session_plan
from slobench.stats.arrivals import counts, dispersion
from slobench.units import format_s
from slobench.workload.moments import cv_of_gaps, dispersion_of, expected_rate
from slobench.workload.variates import FloatArray, IntArray

_WIDTHS_S = (1.0, 10.0, 60.0)
_FEW_WINDOWS = 20  # fewer counts say nothing of their dispersion


@dataclass(frozen=True, slots=True)
class LengthFacts:
    """Lengths in tokens; quantiles by rank ⌈qn⌉."""

    mean: float
    p50: int
    p99: int
    min: int
    max: int
    total: int


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One class; what is said of arrivals is None or empty where the loop is closed or all come at once.

    Arrivals are those of sessions where the class has sessions. Rates in 1/s; the asked one of a load that is meant to
    change is its average over the plan. cv is that of the gaps. dispersion: variance over mean of counts in windows of
    1, 10 and 60 s; asked only where the process has a formula, planned only where the plan has 20 windows.
    """

    requests: int
    process: str | None
    rate_asked: float | None
    rate_planned: float | None
    cv_asked: float | None
    cv_planned: float | None
    dispersion_asked: dict[str, float]
    dispersion_planned: dict[str, float]
    input_tokens: LengthFacts
    output_tokens: LengthFacts
    shared_prefix_tokens: int
    shared_share: float  # of the input tokens: what a prefix cache could serve at most
    sessions: SessionPlan | None = None
    patience: PatiencePlan | None = None
    content: ContentPlan | None = None


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """The whole plan; after_duration: rows offered only while the last replies that count come in.

    notes: what recordings lacked, or was left out of them.
    """

    workload: str
    seed: int
    digest: str
    requests: int
    sessions: int
    after_duration: int
    span_s: float | None
    unique_prompts: int
    unique_share: float  # of the requests
    hit_rate_planned: float  # share of all prompt tokens that an endless prefix cache finds, in blocks of 16
    classes: dict[str, ClassFacts]
    notes: tuple[str, ...] = ()


def describe(plan: Plan, workload: Workload, seed: int) -> PlanFacts:
    """Measure a plan; classes of which no request falls into it are left out."""
    due = plan.due_ns
    late = 0 if due is None or workload.duration is None else int((due >= workload.duration).sum())
    found, unique = found_tokens(plan, workload), distinct(plan, workload)
    present = [code for code in range(len(plan.class_names)) if (plan.class_code == code).any()]
    return PlanFacts(
        workload=workload.name,
        seed=seed,
        digest=plan.digest,
        requests=len(plan),
        sessions=len(np.unique(plan.session)),
        after_duration=late,
        span_s=None if due is None else float(due[-1]) / 1e9,
        unique_prompts=unique,
        unique_share=unique / len(plan),
        hit_rate_planned=float(found.sum() / plan.input_tokens.sum()),
        classes={plan.class_names[code]: _class_facts(plan, workload, seed, code, found) for code in present},
        notes=plan.notes,
    )


def to_json(facts: PlanFacts) -> str:
    """Render as JSON, one object."""
    return orjson.dumps(asdict(facts), option=orjson.OPT_INDENT_2).decode()


def render(facts: PlanFacts) -> str:
    """Render for people, 80 columns."""
    lines = [
        f"plan of {facts.workload}, seed {facts.seed}",
        f"digest    {facts.digest}",
        f"requests  {_requests_text(facts)}",
        f"prompts   {facts.unique_prompts} of {facts.requests} unique ({100 * facts.unique_share:.4g}%)",
    ]
    lines += [f"note      {note}" for note in facts.notes]
    for name, each in facts.classes.items():
        lines += [
            "",
            f"class {name}: {each.requests} requests",
            *_rate_lines(each),
            f"  input   {_lengths_text(each.input_tokens)}",
            f"  output  {_lengths_text(each.output_tokens)}",
        ]
        lines += plan_sessions.lines(each.sessions, each.patience)
        if each.shared_prefix_tokens:
            lines.append(f"  shared  {each.shared_prefix_tokens} tokens, {each.shared_share:.1%} of the input")
        lines += [] if each.content is None else plan_content.lines(each.content)
    return "\n".join(lines)


def _requests_text(facts: PlanFacts) -> str:
    if facts.span_s is None:
        return f"{facts.requests} for {facts.sessions} users, each in turn"
    late = f", {facts.after_duration} of them after the duration" if facts.after_duration else ""
    sessions = f"; {facts.sessions} sessions" if facts.sessions != facts.requests else ""
    return f"{facts.requests} over {format_s(facts.span_s)}{late}{sessions}"


def _class_facts(plan: Plan, workload: Workload, seed: int, code: int, found: IntArray) -> ClassFacts:
    name = plan.class_names[code]
    spec = workload.classes[name]
    mine = np.flatnonzero(plan.class_code == code)
    rows = plan.take(mine)
    due = rows.due_ns if spec.recorded else _begun(rows)
    rate, cv = _gaps(due)
    process = None if due is None or rate is None else spec.arrivals
    cv_asked = math.nan if process is None else cv_of_gaps(process)
    shared = np.minimum(rows.input_tokens, spec.shared_prefix_tokens).sum() / rows.input_tokens.sum()
    return ClassFacts(
        requests=len(rows),
        process=_words(spec.arrivals) if spec.arrivals else "recorded" if spec.recorded else None,
        rate_asked=None if process is None or due is None else expected_rate(process, float(due[-1]) / 1e9),
        rate_planned=rate,
        cv_asked=None if math.isnan(cv_asked) else cv_asked,
        cv_planned=cv,
        dispersion_asked={} if process is None else _asked_dispersion(process),
        dispersion_planned={} if due is None or rate is None else _planned_dispersion(due / 1e9),
        input_tokens=_length_facts(rows.input_tokens),
        output_tokens=_length_facts(rows.output_tokens),
        shared_prefix_tokens=spec.shared_prefix_tokens,
        shared_share=float(shared),
        sessions=session_plan(rows),
        patience=patience_plan(rows),
        content=content_plan(rows, spec, seed, found[mine]),
    )


def _begun(rows: Plan) -> IntArray | None:
    """When sessions begin, and requests that belong to none."""
    return None if rows.scheduled_ns is None else np.sort(rows.scheduled_ns[rows.turn == 0])


def _gaps(scheduled: IntArray | None) -> tuple[float | None, float | None]:
    """Rate in 1/s and cv of the gaps between arrivals; None where there are none, or no time passes."""
    if scheduled is None or len(scheduled) < 2 or scheduled[-1] == scheduled[0]:
        return None, None
    gaps_ns = np.diff(scheduled)
    return 1e9 / float(gaps_ns.mean()), float(gaps_ns.std() / gaps_ns.mean())


def _words(process: Process) -> str:
    said = ", ".join(f"{key} {value}" for key, value in traits(process).items())
    return process.process + (f" ({said})" if said else "")


def _asked_dispersion(process: Process) -> dict[str, float]:
    found = {f"{width:g}s": dispersion_of(process, width) for width in _WIDTHS_S}
    return {width: value for width, value in found.items() if value is not None}


def _planned_dispersion(due_s: FloatArray) -> dict[str, float]:
    found = {f"{width:g}s": counts(due_s, width, 0.0, float(due_s[-1])) for width in _WIDTHS_S}
    return {width: dispersion(counted) for width, counted in found.items() if len(counted) >= _FEW_WINDOWS}


def _length_facts(tokens: IntArray) -> LengthFacts:
    p50, p99 = np.quantile(tokens, [0.5, 0.99], method="inverted_cdf").tolist()
    return LengthFacts(
        mean=float(tokens.mean()),
        p50=int(p50),
        p99=int(p99),
        min=int(tokens.min()),
        max=int(tokens.max()),
        total=int(tokens.sum()),
    )


def _lengths_text(each: LengthFacts) -> str:
    if not each.max:
        return "none"
    return f"mean {each.mean:.1f}  p50 {each.p50}  p99 {each.p99}  min {each.min}  max {each.max} tokens"


def _rate_lines(each: ClassFacts) -> list[str]:
    if each.rate_planned is None:
        return []
    asked = "" if each.rate_asked is None else f" (asked {each.rate_asked:.4g})"
    cv = (
        ""
        if each.cv_planned is None or each.cv_asked is None
        else f", gap cv {each.cv_planned:.3f} ({each.cv_asked:.4g})"
    )
    lines = [f"  arrive  {each.process}"] if each.process else []
    of = "" if each.sessions is None else " sessions"
    lines.append(f"  rate    {each.rate_planned:.4g}{of}/s{asked}{cv}")
    spread = []
    for width, value in each.dispersion_planned.items():
        asked = f" ({each.dispersion_asked[width]:.3g})" if width in each.dispersion_asked else ""
        spread.append(f"{width} {value:.3g}{asked}")
    return lines + ([f"  counts  variance/mean {', '.join(spread)}"] if spread else [])
