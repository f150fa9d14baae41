"""A whole run of the simulated engine in virtual time, as a comparison sees it; nothing is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from slobench.config.engine import Engine
from slobench.config.slo import Slo
from slobench.config.workload import ClosedLoop, Workload
from slobench.errors import ConfigError
from slobench.experiment.session_load import has_sessions, refuse_in_virtual_time
from slobench.experiment.virtual_judge import Rows
from slobench.experiment.virtual_stream import VirtualEngine
from slobench.metrics import checks_server, checks_workload, window
from slobench.metrics.arm import Arm, Identity, Requests
from slobench.metrics.ask import Ask
from slobench.metrics.case import Case
from slobench.metrics.columns import is_ok, seconds
from slobench.metrics.latency import derive
from slobench.metrics.slo import judge
from slobench.metrics.validity import verdict
from slobench.names import NULL
from slobench.plan import Plan
from slobench.records.schema import Records

_NO_CHUNKS: dict[str, Any] = {
    "index": np.empty(0, np.int64), "t_ns": np.empty(0, np.int64), "tokens": np.empty(0),
    "bytes": np.empty(0, np.int64), "channel": np.empty(0, np.int8), "lag_ns": np.empty(0, np.int64),
    "coalesced": np.empty(0, np.bool_),
}  # fmt: skip
_NO_TELEMETRY: dict[str, Any] = {name: np.empty(0, "U1") for name in ("source", "name", "labels")}
_NO_TELEMETRY |= {"t_ns": np.empty(0), "value": np.empty(0)}
_WAITING = (
    "virtual time offers single requests at given times: no closed loop, and none that waits for a reply\n"
    "  expected  a workload with arrivals and no sessions, or real time (without --virtual)"
)


@dataclass(frozen=True, slots=True)
class Virtual:
    """What is offered in virtual time, and by which SLO it is judged."""

    workload: Workload
    slo: Slo
    plan: Plan


def virtual_arm(what: Virtual, engine: Engine, seed: int, identity: Identity) -> Arm:
    """Serve the plan on an engine that begins empty; `seed` is of the noise of its steps.

    The client is never late and every reply is whole, so only the checks on the server and on the length look.
    Raises ConfigError where virtual time cannot offer the plan: what `refuse` names, and recorded turns that follow.
    """
    plan = what.plan
    refuse(what.workload, what.slo)
    if plan.scheduled_ns is None or bool(np.any(plan.scheduled_ns == NULL)):
        raise ConfigError(_WAITING)
    requests = _requests(plan, _served(what, engine, seed))
    records = Records(requests, _NO_CHUNKS, _NO_TELEMETRY)
    derived = derive(requests, _NO_CHUNKS)
    workload = what.workload
    duration_s = None if workload.duration is None else workload.duration / 1e9
    ask = Ask(warmup_s=(workload.warmup or 0) / 1e9, duration_s=duration_s, thresholds=workload.validity)
    chosen = window.choose(requests, derived["e2e_s"], ask)
    judged = judge(requests, derived, _NO_CHUNKS, what.slo)
    case = Case.of(records, what.slo, ask, derived=derived, judged=judged, window=chosen)
    found = (*checks_server.stationarity(case), *checks_server.errors(case), *checks_workload.length(case))
    valid, line = verdict(found)
    at_s = seconds(requests, "scheduled_ns")
    everything = Requests(
        np.asarray(requests["index"]),
        at_s,
        requests["class"],
        is_ok(requests),
        judged.met,
        {name.removesuffix("_s"): derived[name] for name in ("ttft_s", "tpot_s", "e2e_s", "ttft_sent_s", "e2e_sent_s")},
    )
    whole = Identity(
        name=identity.name,
        tool=identity.tool,
        digest=plan.digest,
        seed=identity.seed,
        workload=identity.workload,
        slo=what.slo.text,
        manner=identity.manner,
        settings=identity.settings,
        verdict=line,
        valid=valid,
        server=frozenset(finding.code for finding in found if finding.level == "server"),
        window_of_e2e=chosen.lengths_of_e2e(),
    )
    return Arm(whole, everything.take(case.main), (chosen.start_s, chosen.end_s), chosen.mean_e2e_s)


def refuse(workload: Workload, slo: Slo) -> None:
    """Raise ConfigError where requests wait for each other, users lose patience, or single tokens are judged."""
    refuse_in_virtual_time(workload)
    if has_sessions(workload) or isinstance(workload.loop, ClosedLoop):
        raise ConfigError(_WAITING)
    asked = [slo.common, *(one for _, one in slo.by_class)]
    if any(one.deadline or any(limit.metric == "max_gap" for limit in one.limits) for one in asked):
        raise ConfigError(
            "virtual time keeps no single tokens, so max_gap and deadline limits cannot be judged\n"
            "  expected  limits on ttft, tpot or e2e"
        )


def _served(what: Virtual, spec: Engine, seed: int) -> Rows:
    """Serve every row of the plan when it is due, and then what is left."""
    plan, engine = what.plan, VirtualEngine(spec, what.workload, seed, each_token=False)
    assert plan.scheduled_ns is not None
    engine.fits(plan)
    for due_ns, row in zip(plan.scheduled_ns.tolist(), engine.rows(plan), strict=True):
        while engine.now_ns < due_ns:
            if engine.step() is None:
                engine.now_ns = due_ns
        engine.arrive(due_ns, row)
    while engine.step() is not None:
        pass
    return engine.sent.take(0, len(plan))


def _requests(plan: Plan, served: Rows) -> dict[str, Any]:
    n = len(plan)
    at, first, last = (
        np.asarray(column, dtype=np.float64) for column in (plan.scheduled_ns, served.first_ns, served.last_ns)
    )
    unknown, output = np.full(n, np.nan), plan.output_tokens.astype(np.float64)
    same = {"started_ns": at, "connected_ns": at, "sent_ns": at, "headers_ns": first, "first_output_ns": first}
    return {
        **same,
        "index": plan.index,
        "class": np.array(plan.class_names, dtype=np.str_)[plan.class_code],
        "session": plan.session,
        "scheduled_ns": at,
        "first_token_ns": first,
        "last_token_ns": last,
        "end_ns": last,
        "input_tokens_planned": plan.input_tokens,
        "output_tokens_planned": plan.output_tokens,
        "input_tokens": plan.input_tokens.astype(np.float64),
        "output_tokens": output,
        "chunks": output,
        "first_chunk_tokens": np.ones(n),
        "reasoning_tokens": unknown,
        "outcome": np.full(n, "ok"),
        "http_status": np.full(n, 200.0),
    }
