"""One trial: plan, target, generator, files. Yields frozen events; the report is made from the files afterwards."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slobench.clock import ClockAnchor
from slobench.config.load import AnyTarget, public
from slobench.config.secrets import resolve_secrets
from slobench.config.slo import Deadline, Slo, e2e_limit_s, parse_slo
from slobench.config.target import RemoteTarget
from slobench.config.workload import ClosedLoop, OpenLoop, Workload
from slobench.errors import ConfigError
from slobench.experiment.events import Event, Notice, Step
from slobench.experiment.offer import Offer, OfferEnd, offer
from slobench.generate.job import Job, Limits
from slobench.generate.pool import Pool, default_workers, raise_fd_limit
from slobench.metrics.ask import Thresholds
from slobench.plan import Plan, build_plan, refuse_too_long
from slobench.records import counters as live
from slobench.records import provenance
from slobench.records.store import read_run_json, write_run_json
from slobench.targets.base import RunningTarget
from slobench.targets.launch import start
from slobench.wire.endpoint import Endpoint

SCHEMA = 1
_OURS = ("run.json", "plan.parquet", "requests.parquet", "chunks.parquet", "telemetry.parquet", "server.log",
         "report.html", "report.md", "server-requests.csv", "spool", "repeats.json")  # fmt: skip
_RESERVED_FDS = 64
_LEAST_STOP = 1000  # requests in flight that a worker may have before another worker is worth splitting the stop
_LOCAL = ("://127.", "://localhost", "://[::1]")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is offered to whom, and where the files go."""

    workload: Workload
    target: AnyTarget
    folder: Path
    seed: int = 0
    workers: int | None = None
    force: bool = False
    notes: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(slots=True)
class Interrupts:
    """How often the user asked to stop: once drains, twice ends."""

    count: int = 0
    offering: bool = False  # only then is there anything to drain


@dataclass(frozen=True, slots=True)
class Finished:
    """The trial is over and its raw files are in `folder`."""

    folder: Path
    interrupted: bool
    target_failure: str | None


def run_trial(trial: Trial, interrupts: Interrupts) -> Iterator[Event | Finished]:
    """Run it; the last event is Finished. Raises SlobenchError for what the user can mend."""
    workload, target, folder = trial.workload, trial.target, trial.folder
    prepare_folder(folder, force=trial.force)
    slo = parse_slo(workload.slo, tuple(workload.classes))
    headers = resolve_secrets(target.talk)
    spool = folder / "spool"
    with ExitStack() as stack:
        stack.callback(_forget_unless_begun, folder)
        workers = trial.workers or _workers(workload, default_workers(local_target=_is_local(target)))
        closed = isinstance(workload.loop, ClosedLoop)
        fd_limit = raise_fd_limit(workload.loop.users if isinstance(workload.loop, ClosedLoop) else 0)
        pool = Pool(workers, spool)  # they import while the target starts
        stack.callback(pool.close)
        plan = build_plan(workload, trial.seed)
        if not len(plan):
            raise ConfigError(
                "the plan is empty: no request falls within the duration\n"
                "  expected  a longer duration, a higher rate, or --requests N"
            )
        plan.save(spool / "plan.arrow")
        for note in trial.notes:
            yield Notice(note)
        secret = _secrets(target, headers)
        run = _first_run_json(trial, plan, workers, secret)
        write_run_json(folder, run)
        yield Step("starting the target")
        running = start(target, log=folder / "server.log", headers=headers, e2e_limit_s=e2e_limit_s(slo))
        stack.callback(running.stop)
        refuse_too_long(plan, running.endpoint)
        _refuse_unjudgeable(slo, running.endpoint)
        live.Counters.create(spool / live.FILE, workers).close()
        jobs = _jobs(trial, plan, slo, running.endpoint, workers, fd_limit, run["nonce"])
        _observed(run, running, secret)
        anchor = ClockAnchor.take()
        epoch_ns = pool.start(jobs)
        run["clock"] = {"monotonic_ns": anchor.monotonic_ns, "wall_ns": anchor.wall_ns, "start_ns": epoch_ns}
        write_run_json(folder, run)
        ended: OfferEnd | None = None
        interrupts.offering = True
        for event in offer(Offer(pool, spool / live.FILE, epoch_ns, plan, workload, closed), running, interrupts):
            if isinstance(event, OfferEnd):
                ended = event
            else:
                yield event
        assert ended is not None
        failure = running.failure()
        yield from _close_books(folder, run, ended, pool, failure)
        yield Step("stopping the target")
    yield Finished(folder, ended.interrupted, failure)


def _workers(workload: Workload, free: int) -> int:
    """As many as are free, but no more than have something to do.

    A low safety stop stays whole: split over workers, one would drop at its share while another has room.
    """
    loop = workload.loop
    if isinstance(loop, ClosedLoop):
        return min(free, loop.users)
    return min(free, max(1, loop.max_in_flight // _LEAST_STOP))


def _forget_unless_begun(folder: Path) -> None:
    """Leave nothing but the server's log where no load was offered: the mended command can use the same folder."""
    if "start_ns" not in (read_run_json(folder).get("clock") or {} if (folder / "run.json").exists() else {}):
        shutil.rmtree(folder / "spool", ignore_errors=True)
        (folder / "run.json").unlink(missing_ok=True)


def _close_books(
    folder: Path, run: dict[str, Any], ended: OfferEnd, pool: Pool, failure: str | None
) -> Iterator[Event]:
    """Write how the run ended into run.json, and say what the user should know of it."""
    ends = list(pool.ended.values())
    spool_error = next((end["spool_error"] for end in ends if end["spool_error"]), None)
    run["run"] |= {
        "stop": ended.stop,
        "interrupted": ended.interrupted,
        "target_died": failure is not None,
        "end_ns": ended.end_ns,
        "workers_lost": {str(worker): why for worker, why in pool.lost.items()},
        "spool_error": spool_error,
    }
    run["stamps"] = next((end["stamps"] for end in ends), None)
    write_run_json(folder, run)
    for worker, why in pool.lost.items():
        yield Notice(f"generator process {worker} was lost: {why}")
    if spool_error:
        yield Notice(f"{spool_error}: rows are missing; earlier ones are kept")
    if failure is not None:
        yield Notice(failure)


def prepare_folder(folder: Path, *, force: bool) -> None:
    """Make the results folder; ConfigError where it holds something and `force` is not given."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file\n  expected  a folder that is empty or does not exist")
    if folder.exists() and any(path.name != "server.log" for path in folder.iterdir()):
        if not force:
            raise ConfigError(
                f"{folder} is not empty\n  expected  another --out, or --force to replace the run that is in it"
            )
        repeats = [path.name for path in folder.glob("repeat-*") if path.is_dir()]
        for name in (*_OURS, *repeats):
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {folder}: {error.strerror}\n  expected  --out DIR in a place you may write to"
        ) from None


def default_folder(workload: Workload, target: AnyTarget) -> Path:
    """results/<time>-<workload>-<kind of target>, not used before."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{workload.name}-{target.kind}"
    folder = Path("results") / stem
    number = 2
    while folder.exists():
        folder = Path("results") / f"{stem}-{number}"
        number += 1
    return folder


def _is_local(target: AnyTarget) -> bool:
    return not isinstance(target, RemoteTarget) or any(host in target.url for host in _LOCAL)


def _first_run_json(trial: Trial, plan: Plan, workers: int, secret: Collection[str]) -> dict[str, Any]:
    workload = trial.workload
    scheduled = plan.scheduled_ns
    span_s = float(scheduled[-1]) / 1e9 if scheduled is not None and len(plan) > 1 else None
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
        "plan": {"digest": plan.digest, "rows": len(plan), "rate": (len(plan) - 1) / span_s if span_s else None},
        "nonce": secrets.token_hex(8),
        "settings": {"requested": provenance.redact(public(trial.target), secret), "observed": {}},
        "versions": provenance.versions(),
        "host": provenance.host(),
        "server": {},
        "workers": workers,
        "stamps": None,
        "vr": "off",
        "thresholds": trial.thresholds.to_dict(),
        "run": {
            "by": "count" if workload.requests is not None else "duration",
            "duration_s": None if workload.duration is None else workload.duration / 1e9,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "stop": None,
            "interrupted": True,  # until the end is written: what a killed run leaves says so
            "target_died": False,
            "end_ns": None,
            "notes": list(trial.notes),
        },
    }


def _observed(run: dict[str, Any], running: RunningTarget, secrets: Collection[str]) -> None:
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


def _secrets(target: AnyTarget, headers: Mapping[str, str]) -> set[str]:
    """What must stand in no file: header values, and what the target's settings call a key, token or password."""
    return {*headers.values(), *provenance.secrets_in(target.model_dump(mode="json"))}


def _refuse_unjudgeable(slo: Slo, endpoint: Endpoint) -> None:
    timed = {"ttft", "ttfo", "tpot", "max_gap"}
    found = sorted({each.metric for each in slo.clauses if not isinstance(each, Deadline) and each.metric in timed})
    if found and not endpoint.stream:
        raise ConfigError(
            f"an SLO on {', '.join(found)} cannot be judged where replies are not streamed\n"
            "  expected  `talk.stream: true`, or limits on e2e only"
        )


def _limits(slo: Slo, names: tuple[str, ...]) -> Limits:
    return {
        name: [(each.metric, each.limit_s, each.per_token_s) for each in slo.for_class(name).limits] for name in names
    }


def _jobs(trial: Trial, plan: Plan, slo: Slo, endpoint: Endpoint, workers: int, fd_limit: int, nonce: str) -> list[Job]:
    workload, loop = trial.workload, trial.workload.loop
    if isinstance(loop, OpenLoop) and endpoint.connection == "per-session":
        # Each request of an open loop is a session of its own: kept open, its connection would never be used again.
        endpoint = replace(endpoint, connection="per-request")
    cap = loop.max_in_flight if isinstance(loop, OpenLoop) else loop.users
    cap = min(cap, max(1, fd_limit - _RESERVED_FDS) * workers)
    prefixes: Mapping[str, int] = {name: spec.shared_prefix_tokens for name, spec in workload.classes.items()}
    spool = trial.folder / "spool"
    return [
        Job(
            worker=worker,
            workers=workers,
            plan=str(spool / "plan.arrow"),
            spool=str(spool),
            counters=str(spool / live.FILE),
            endpoint=endpoint,
            seed=trial.seed,
            nonce=nonce,
            shared_prefix_tokens=prefixes,
            limits=_limits(slo, plan.class_names),
            closed=isinstance(loop, ClosedLoop),
            think_ns=loop.think_time if isinstance(loop, ClosedLoop) else 0,
            max_in_flight=cap if isinstance(loop, ClosedLoop) else cap // workers + (worker < cap % workers),
        )
        for worker in range(workers)
    ]
