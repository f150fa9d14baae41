"""What a trial and a stream of probes need before the first request: run.json, refusals, the workers' jobs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slobench.config.load import AnyTarget, public
from slobench.config.slo import Slo, e2e_limit_s
from slobench.config.target import RemoteTarget
from slobench.config.workers import MOST, OnRay, Workers
from slobench.config.workload import ClosedLoop, OpenLoop, Workload
from slobench.experiment.endpoints import class_endpoints
from slobench.generate.job import Deadlines, Job, Limits
from slobench.generate.local_pool import LocalPool
from slobench.generate.pool import Pool, Seat, default_workers, raise_fd_limit
from slobench.metrics.slo import has_limits
from slobench.plan import Plan
from slobench.plan_sharing import distinct, told_sharing
from slobench.records import counters as live
from slobench.records import provenance
from slobench.records.ceiling import load as load_ceiling
from slobench.records.schema import RESERVED_FDS
from slobench.targets.base import RunningTarget, lent
from slobench.targets.launch import start
from slobench.wire.endpoint import Endpoint
from slobench.workload.prefix import BLOCK_TOKENS
from slobench.workload.sharing import Cache

SCHEMA = 1
_LONG_WORD = 8
_LEAST_STOP = 1000  # requests in flight that a worker may have before another worker is worth splitting the stop
_LOCAL = ("://127.", "://localhost", "://[::1]")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is offered to whom, and where the files go."""

    workload: Workload
    target: AnyTarget
    folder: Path
    seed: int = 0
    workers: Workers | None = None
    force: bool = False
    notes: tuple[str, ...] = ()
    running: RunningTarget | None = None
    """The target, where it runs already and goes on afterwards."""


def begin(trial: Trial, slo: Slo, headers: Mapping[str, str]) -> RunningTarget:
    """Start the trial's target, or take the one that runs. Raises TargetStartError, ConfigError."""
    limit_s = e2e_limit_s(slo)
    if trial.running is not None:
        return lent(trial.running, trial.target.talk, limit_s)
    return start(trial.target, log=trial.folder / "server.log", headers=headers, e2e_limit_s=limit_s)


def open_pool(trial: Trial, spool: Path) -> Pool:
    """Start the generator processes that a trial asks for, here or on a cluster; they import meanwhile.

    Raises UsageError, WorkerError.
    """
    workload, asked = trial.workload, trial.workers
    users = workload.loop.users if isinstance(workload.loop, ClosedLoop) else 0
    if isinstance(asked, OnRay):
        from slobench.generate.ray_pool import RayPool

        return RayPool(asked, spool, most=busy_workers(workload, MOST), connections=users)
    raise_fd_limit(users)  # which the processes start with
    return LocalPool(asked or workers_for(workload, trial.target), spool)


def told_seats(seats: Sequence[Seat]) -> list[dict[str, Any]] | None:
    """Return where the workers ran, for run.json; None where it was here."""
    return [asdict(seat) for seat in seats] or None


def notes_on(seats: Sequence[Seat]) -> list[str]:
    """Return what a user should know of the hosts: workers that run behind everything else there."""
    behind = sorted({seat.host for seat in seats if seat.nice > 0})
    return [
        f"workers on {host} run at nice {max(seat.nice for seat in seats if seat.host == host)}, behind what else runs "
        "there: start its Ray node with RAY_worker_niceness=0"
        for host in behind
    ]


def workers_for(workload: Workload, target: AnyTarget) -> int:
    """As many as the cores allow, but no more than have something to do."""
    return busy_workers(workload, default_workers(local_target=is_local(target)))


def busy_workers(workload: Workload, free: int) -> int:
    """How many of the `free` ones have something to do.

    A low safety stop stays whole: split over workers, one would drop at its share while another has room.
    """
    loop = workload.loop
    if isinstance(loop, ClosedLoop):
        return min(free, loop.users)
    return min(free, max(1, loop.max_in_flight // _LEAST_STOP))


def is_local(target: AnyTarget) -> bool:
    """Whether the target shares this machine's cores."""
    return not isinstance(target, RemoteTarget) or any(host in target.url for host in _LOCAL)


def first_run_json(trial: Trial, plan: Plan, workers: int, secret: Collection[str]) -> dict[str, Any]:
    """Return run.json as it is before the target has started."""
    workload, on_ray = trial.workload, isinstance(trial.workers, OnRay)
    return {
        "schema": SCHEMA,
        "slobench": provenance.versions()["slobench"],
        "name": workload.name,
        "spec": {
            "workload": public(workload),
            "target": provenance.redact(public(trial.target), secret),
            "slo": list(workload.slo),
        },
        "seed": trial.seed,
        "plan": _plan(plan, workload),
        "nonce": secrets.token_hex(8),
        "settings": {"requested": provenance.redact(public(trial.target), secret), "observed": {}},
        "versions": provenance.versions(),
        "host": provenance.host(),
        "server": {},
        "workers": workers,
        "hosts": None,
        "stamps": None,
        "receiver": None,
        "vr": "off",
        "thresholds": workload.validity.to_dict(),
        "cores": None if on_ray else default_workers(local_target=is_local(trial.target)),
        "ceiling": ceiling.to_dict() if not on_ray and (ceiling := load_ceiling()) else None,  # it is this machine's
        "run": {
            "by": "count" if workload.duration is None else "duration",
            "duration_s": None if workload.duration is None else workload.duration / 1e9,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "stop": None,
            "interrupted": True,  # until the end is written: what a killed run leaves says so
            "target_died": False,
            "end_ns": None,
            "notes": [*trial.notes, *plan.notes],
        },
    }


def _plan(plan: Plan, workload: Workload) -> dict[str, Any]:
    return {
        "digest": plan.digest,
        "rows": len(plan),
        "rate": _rate(plan),
        "distinct_prompts": distinct(plan, workload),
        "sharing": told_sharing(plan, workload, Cache(BLOCK_TOKENS)),
    }


def _rate(plan: Plan) -> float | None:
    """Planned arrivals a second (of sessions, where a class has them); None where they have no times."""
    due_ns = plan.due_ns
    return (
        float((len(due_ns) - 1) / (due_ns[-1] / 1e9)) if due_ns is not None and len(due_ns) > 1 and due_ns[-1] else None
    )


def observe(run: dict[str, Any], running: RunningTarget, secrets: Collection[str]) -> None:
    """Put what was found of the running target into run.json."""
    endpoint = running.endpoint
    run["settings"]["observed"] = provenance.redact(running.observed, secrets)
    server = {
        "url": endpoint.url,
        "model": endpoint.model,
        "pid": running.pid,
        "max_model_len": endpoint.max_model_len,
        "forces_length": endpoint.forces_length,
        "token_ids": list(endpoint.token_ids) if endpoint.token_ids else None,
        "total_timeout_s": endpoint.total_timeout_ns / 1e9,
        "api": endpoint.api,
        "stream": endpoint.stream,
        "transport": endpoint.transport,
        "connection": endpoint.connection,
        "proxy": endpoint.proxy,
    }
    run["server"] = provenance.redact(server, secrets)


def secrets_of(trial: Trial, headers: Mapping[str, str]) -> set[str]:
    """What must stand in no file: header values, and what the target's settings call a key, token or password.

    Long words of header values too: a server's error may repeat the key without its `Bearer`.
    """
    own = (value for spec in trial.workload.classes.values() for value in spec.headers.values())
    values = {*headers.values(), *own}
    words = {word for value in values for word in value.split() if len(word) >= _LONG_WORD}
    return values | words | provenance.secrets_in(trial.target.model_dump(mode="json"))


def judged_classes(slo: Slo, names: tuple[str, ...]) -> list[str]:
    """The classes whose requests are judged: where some class has limits, those with limits or an attainment."""
    limited = has_limits(slo)
    asked = {name: slo.for_class(name) for name in names}
    return [
        name
        for name, one in asked.items()
        if not limited or one.limits or one.deadline or any(o.metric == "attainment" for o in one.objectives)
    ]


def limits_of(slo: Slo, names: list[str]) -> Limits:
    """The limits on each request of these classes, as the workers take them."""
    return {
        name: [(each.metric, each.limit_s, each.per_token_s) for each in slo.for_class(name).limits] for name in names
    }


def deadlines_of(slo: Slo, names: list[str]) -> Deadlines:
    """The deadlines of these classes, of those that have one."""
    found = {name: slo.for_class(name).deadline for name in names}
    return {name: (one.first_s, one.each_s, one.share) for name, one in found.items() if one is not None}


def jobs_of(
    trial: Trial, plan: Plan, slo: Slo, endpoint: Endpoint, workers: int, fd_limit: int, nonce: str
) -> list[Job]:
    """Return the job of each worker."""
    workload, loop = trial.workload, trial.workload.loop
    if isinstance(loop, OpenLoop) and endpoint.connection == "per-session" and plan.after is None:
        # Each request is a session of its own: kept open, its connection would never be used again.
        endpoint = replace(endpoint, connection="per-request")
    cap = loop.max_in_flight if isinstance(loop, OpenLoop) else loop.users
    cap = min(cap, max(1, fd_limit - RESERVED_FDS) * workers)
    prefixes: Mapping[str, int] = {name: spec.shared_prefix_tokens for name, spec in workload.classes.items()}
    classes = list(workload.classes.items())
    cancelled = {name: slo.for_class(name).counts_cancelled for name in plan.class_names}
    spool, judged = trial.folder / "spool", judged_classes(slo, plan.class_names)
    return [
        Job(
            worker=worker,
            workers=workers,
            plan=str(spool / "plan.arrow"),
            spool=str(spool),
            counters=str(spool / live.FILE),
            endpoint=endpoint,
            endpoints=class_endpoints(workload, endpoint),
            seed=trial.seed,
            nonce=nonce,
            shared_prefix_tokens=prefixes,
            texts={name: str(Path(each.text).resolve()) for name, each in classes if each.text},
            images={name: (each.images.width, each.images.height) for name, each in classes if each.images},
            limits=limits_of(slo, judged),
            deadlines=deadlines_of(slo, judged),
            closed=isinstance(loop, ClosedLoop),
            think_ns=loop.think_time if isinstance(loop, ClosedLoop) else 0,
            cancelled={name: how for name, how in cancelled.items() if how != "judged"},
            goes_on=tuple(name for name, each in classes if each.session and each.session.on_failure == "continue"),
            until_first_token=tuple(n for n, each in classes if each.patience and each.patience.until == "first-token"),
            max_in_flight=cap if isinstance(loop, ClosedLoop) else cap // workers + (worker < cap % workers),
        )
        for worker in range(workers)
    ]
