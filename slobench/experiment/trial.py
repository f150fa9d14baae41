"""One trial: plan, target, generator, files. Yields frozen events; the report is made from the files afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slobench.clock import ClockAnchor
from slobench.config.load import AnyTarget
from slobench.config.secrets import resolve_secrets
from slobench.config.slo import parse_slo
from slobench.config.workload import ClosedLoop, Workload
from slobench.errors import ConfigError
from slobench.experiment.endpoints import refuse_unjudgeable, refuse_unsendable
from slobench.experiment.events import Event, Notice, Step, passed_on
from slobench.experiment.folder import Ours, make_folder, unused_folder
from slobench.experiment.offer import Offer, OfferEnd, offer
from slobench.experiment.setup import (
    Trial,
    begin,
    first_run_json,
    jobs_of,
    notes_on,
    observe,
    open_pool,
    secrets_of,
    told_seats,
)
from slobench.experiment.stopping import how_it_stopped, refuse_undecidable, rule_in_words, stopping_of
from slobench.experiment.telemetry import watch
from slobench.generate.pool import Pool
from slobench.plan import Plan, build_plan, refuse_too_long
from slobench.plan_sharing import told_sharing
from slobench.records import counters as live
from slobench.records.provenance import redact
from slobench.records.store import read_run_json, write_run_json

__all__ = ["Finished", "Interrupts", "Trial", "default_folder", "prepare_folder", "run_trial"]


_OURS = Ours(
    files=("run.json", "plan.parquet", "requests.parquet", "requests-*.parquet", "chunks.parquet", "telemetry.parquet",
           "server.log", "report.html", "report.md", "server-requests.csv", "repeats.json",
           "capacity.json", "capacity.md", "capacity.html"),
    folders=("spool", "repeat-*", "probe-*"),
)  # fmt: skip


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
    workload, target, folder, spool = trial.workload, trial.target, trial.folder, trial.folder / "spool"
    slo = parse_slo(workload.slo, tuple(workload.classes))
    refuse_undecidable(workload, slo)
    refuse_unjudgeable(slo, workload, target.talk)
    refuse_unsendable(workload, target.talk)
    prepare_folder(folder, force=trial.force)
    headers = resolve_secrets(target.talk)
    with ExitStack() as stack:
        stack.callback(_forget_unless_begun, folder)
        pool = open_pool(trial, spool)  # they import while the target starts
        stack.callback(pool.close)
        plan = _plan_of(trial)
        plan.save(spool / "plan.arrow")
        for note in (*trial.notes, *plan.notes):
            yield Notice(note)
        secret = secrets_of(trial, headers)
        run = first_run_json(trial, plan, pool.workers, secret)
        stopping = stopping_of(workload, plan, folder)
        if stopping is not None:
            stack.callback(stopping.close)
        run["stopping"] = rule_in_words(stopping, workload)
        write_run_json(folder, run)
        yield Step("starting the target" if trial.running is None else "the target runs")
        running = begin(trial, slo, headers)
        stack.callback(running.stop)
        refuse_too_long(plan, running.endpoint)
        live.Counters.create(spool / live.FILE, pool.workers).close()
        jobs = jobs_of(trial, plan, slo, running.endpoint, pool.workers, pool.fd_limit, run["nonce"])
        observe(run, running, secret)
        watching = watch(target, running, spool)
        stack.callback(watching.sampler.end, reachable=False)
        run["run"]["notes"] += watching.notes
        if watching.cache is not None:
            run["plan"]["sharing"] = told_sharing(plan, workload, watching.cache)
        yield from map(Notice, watching.notes)
        anchor = ClockAnchor.take()
        epoch_ns = pool.start(jobs)
        watching.sampler.go(epoch_ns)
        run["clock"] = {"monotonic_ns": anchor.monotonic_ns, "wall_ns": anchor.wall_ns, "start_ns": epoch_ns}
        seated = notes_on(pool.seats())
        run["hosts"] = told_seats(pool.seats())
        run["run"]["notes"] += seated
        yield from map(Notice, seated)
        write_run_json(folder, run)
        interrupts.offering = True
        what = Offer(pool, spool / live.FILE, epoch_ns, plan, workload, isinstance(workload.loop, ClosedLoop), stopping)
        ended = yield from passed_on(offer(what, running, interrupts), OfferEnd)
        failure = running.failure()
        watching.sampler.end(reachable=failure is None)
        run["telemetry"] = redact(watching.told(), secret)
        run["stopping"] |= how_it_stopped(stopping, ended.stop, ended.stopped_ns, ended.end_ns)
        yield from _close_books(folder, run, ended, pool, failure)
        yield Step("stopping the target" if trial.running is None else "the target goes on")
    yield Finished(folder, ended.interrupted, failure)


def _plan_of(trial: Trial) -> Plan:
    """The plan; ConfigError where there is nothing in it."""
    plan = build_plan(trial.workload, trial.seed)
    if not len(plan):
        raise ConfigError(
            "the plan is empty: no request falls within the duration\n"
            "  expected  a longer duration, a higher rate, or --requests N"
        )
    return plan


def _forget_unless_begun(folder: Path) -> None:
    """Leave nothing but the server's log where no load was offered: the mended command can use the same folder."""
    if "start_ns" not in (read_run_json(folder).get("clock") or {} if (folder / "run.json").exists() else {}):
        shutil.rmtree(folder / "spool", ignore_errors=True)
        (folder / "run.json").unlink(missing_ok=True)


def _close_books(
    folder: Path, run: dict[str, Any], ended: OfferEnd, pool: Pool, failure: str | None
) -> Iterator[Event]:
    """Write how the run ended into run.json, and say what the user should know of it."""
    run["hosts"] = told_seats(pool.seats(ended=True))
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
    run |= {name: next((end.get(name) for end in ends), None) for name in ("stamps", "receiver")}
    write_run_json(folder, run)
    for worker, why in pool.lost.items():
        yield Notice(f"generator process {worker} was lost: {why}")
    if spool_error:
        yield Notice(f"{spool_error}: rows are missing; earlier ones are kept")
    if failure is not None:
        yield Notice(failure)


def prepare_folder(folder: Path, *, force: bool) -> None:
    """Make the results folder; ConfigError where it holds something and `force` is not given."""
    held = make_folder(folder)
    if any(path.name != "server.log" for path in held):
        if not force:
            raise ConfigError(
                f"{folder} is not empty\n  expected  another --out, or --force to replace the run that is in it"
            )
        _OURS.clear(folder)


def default_folder(workload: Workload, target: AnyTarget) -> Path:
    """results/<time>-<workload>-<kind of target>, not used before."""
    return unused_folder(f"{workload.name}-{target.kind}")
