"""From a run folder to its reports: read or recover the records, evaluate, write what others read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from slobench.config.arrivals import Process, traits
from slobench.config.presets import expand
from slobench.config.slo import ClassSlo, Objective, Slo, e2e_limit_s, parse_slo
from slobench.config.workload import Workload
from slobench.metrics.ask import Ask, PlannedSharing, Thresholds
from slobench.metrics.evaluate import Evaluation, evaluate, summarise
from slobench.plan import Plan
from slobench.records import store
from slobench.records.ceiling import Ceiling
from slobench.records.schema import Records
from slobench.records.whole import write_text_whole
from slobench.report import html, markdown, stopping
from slobench.report.outcomes import lost_requests
from slobench.report.sharing import sharing_as_sent
from slobench.report.summary import of_summary
from slobench.report.view import RunView
from slobench.units import parse_duration_ns

SPOOL, PLAN = "spool", "plan.arrow"


def build_report(folder: Path, *, slo: Sequence[str] | None = None, peers: Sequence[str] = ()) -> RunView:
    """Evaluate the run in `folder` and write its tables, run.json's summary, report.md and report.html.

    slo: judge by these clauses instead of the run's own; then nothing is written. What a killed run left in
    its spool is recovered. Raises RecordsError where files are missing or cannot be written, ConfigError
    where a clause cannot be read. peers: names of other tools' definitions to show among the latencies.
    """
    run = store.read_run_json(folder)
    spooled = (folder / SPOOL).is_dir()
    records = _records(folder, run, spooled=spooled)
    ended = _section(run, "run").get("end_ns") is not None
    run = _with_notes(run, records, ended=ended)
    clauses = _clauses(run) if slo is None else expand(slo).clauses
    workload = Workload.model_validate(run["spec"]["workload"])
    if spooled:
        run = _with_sharing_as_sent(run, records, folder, workload)
    judged_by = parse_slo(clauses, tuple(workload.classes)) if clauses else Slo((), ClassSlo())
    evaluation = evaluate(records, judged_by, ask_of(run, workload, judged_by), peers=peers)
    summary = summarise(evaluation)
    shown = of_summary(summary)
    run = {**run, "summary": shown, **{key: shown[key] for key in ("findings", "verdict", "exit")}}
    view = RunView(folder, run, summary, records, evaluation.derived, judged_by)
    if slo is None:
        _write(view, evaluation, _plan(folder) if spooled else None)
        if spooled and ended:  # its rows are in the tables now; what a killed run left is kept
            shutil.rmtree(folder / SPOOL, ignore_errors=True)
    return view


def _records(folder: Path, run: Mapping[str, Any], *, spooled: bool) -> Records:
    if not spooled:
        return store.load(folder).records
    workers = run.get("workers")
    return store.assemble(folder, _plan(folder), workers if isinstance(workers, int) else 1)


def _plan(folder: Path) -> pa.Table:
    """Return the plan: as the workers map it while they run, else as the report has kept it."""
    live = folder / SPOOL / PLAN
    return Plan.load(live).to_arrow() if live.exists() else store.read_plan(folder)


def _write(view: RunView, evaluation: Evaluation, plan_table: pa.Table | None) -> None:
    folder = view.folder
    if plan_table is not None:
        store.write_plan(folder, plan_table)
    store.write_parquet(folder, view.records, evaluation.derived, evaluation.phase, evaluation.slo_met)
    store.write_run_json(folder, view.run)
    write_text_whole(folder / "report.md", markdown.render(view))
    write_text_whole(folder / "report.html", html.render(view))


def _with_notes(run: dict[str, Any], records: Records, *, ended: bool) -> dict[str, Any]:
    """Return run.json with what the end of the run says put into its notes."""
    how = _section(run, "run")
    notes = [str(note) for note in how.get("notes") or ()]
    if not ended:
        how["interrupted"] = True
        notes.append("the run never came to its end (killed?): this is what its spool holds")
    lost = how.get("workers_lost")
    if isinstance(lost, Mapping):
        for worker, why in lost.items():
            requests = lost_requests(records.requests, int(worker))
            notes.append(f"generator process {worker} was lost: {why}; requests lost with it: {requests or 'none'}")
    if how.get("spool_error"):
        notes.append(f"{how['spool_error']}: rows are missing, earlier ones are kept")
    how["notes"] = list(dict.fromkeys(notes))
    return {**run, "run": how}


def _with_sharing_as_sent(run: dict[str, Any], records: Records, folder: Path, workload: Workload) -> dict[str, Any]:
    planned = _section(run, "plan")
    if not planned.get("sharing"):
        return run
    found = sharing_as_sent(planned["sharing"], records.requests, _plan(folder), workload)
    return {**run, "plan": {**planned, "sharing": found}}


def _section(run: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = run.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _clauses(run: Mapping[str, Any]) -> tuple[str, ...]:
    found = _section(run, "spec").get("slo") or ()
    return tuple(str(clause) for clause in found)


def ask_of(run: Mapping[str, Any], workload: Workload, slo: Slo) -> Ask:
    """Return what evaluation must know of how the run was made, from its run.json."""
    spec, how, server = (_section(run, key) for key in ("spec", "run", "server"))
    target = spec.get("target")
    talk = _section(target, "talk") if isinstance(target, Mapping) else {}
    closed = workload.loop.mode == "closed"
    return Ask(
        warmup_s=(workload.warmup or 0) / 1e9,
        duration_s=_offered_s(run, workload),
        closed=closed,
        users=workload.loop.users if workload.loop.mode == "closed" else None,
        arrivals=_arrivals(workload),
        seed=int(run.get("seed") or 0),
        timeout_s=_timeout_s(server, talk, slo),
        stream=bool(server.get("stream", talk.get("stream", True))),
        forces_length=bool(server.get("forces_length", talk.get("forces_length", False))),
        ids_sent=(server.get("token_ids") or talk.get("token_ids")) is not None,
        stamps="user" if run.get("stamps") == "user" else "kernel",
        connection=server.get("connection") or talk.get("connection", "pooled"),
        allowed_error_share=max(_allowed_errors(slo), default=0.0),
        interrupted=bool(how.get("interrupted")),
        target_died=bool(how.get("target_died")),
        workers=int(run.get("workers") or 1),
        workers_lost=len(_section(how, "workers_lost")),
        unique_prompts=_unique(run, workload),
        free=frozenset(
            name
            for name, spec in workload.classes.items()
            if not {**_section(talk, "extra_body"), **spec.extra_body}.get("ignore_eos", True)
        ),
        chats=frozenset(
            name
            for name, spec in workload.classes.items()
            if (spec.api or server.get("api") or talk.get("api")) in {"chat", "responses"}
        ),
        texts=frozenset(name for name, each in workload.classes.items() if each.text or each.images),
        images=frozenset(name for name, each in workload.classes.items() if each.images),
        cores=_number(run.get("cores")),
        claim=_section(run, "probe").get("purpose") == "certify",
        ceiling=_ceiling(run),
        window_s=_window_s(how),
        goes_on=frozenset(
            name for name, each in workload.classes.items() if each.session and each.session.on_failure == "continue"
        ),
        stopped=stopping.ended_early(run),
        undecided=stopping.undecided(run),
        looked=stopping.looked(run),
        processes=_processes(workload),
        recorded=frozenset(
            name for name, each in workload.classes.items() if each.recorded and each.recorded.process is None
        ),
        sharing=_sharing(run),
        clocks=_clocks(run),
        thresholds=Thresholds.from_dict(_section(run, "thresholds")),
    )


def _clocks(run: Mapping[str, Any]) -> dict[str, float]:
    """Return each host's largest clock error in s; empty where there was one host."""
    found: dict[str, float] = {}
    for seat in run.get("hosts") or ():
        found[seat["host"]] = max(seat["error_ns"] / 1e9, found.get(seat["host"], 0.0))
    return found


def _processes(workload: Workload) -> dict[str, Process]:
    """Return the arrival process of each class that has one, a recording's that comes by another's times too."""
    asked = {name: spec.recorded.process if spec.recorded else spec.arrivals for name, spec in workload.classes.items()}
    return {name: process for name, process in asked.items() if process is not None}


def _unique(run: Mapping[str, Any], workload: Workload) -> bool:
    """Whether no two prompts were to begin alike; by the classes, and by what the trial reckoned of the plan."""
    planned = _sharing(run)
    return not any(spec.shared_prefix_tokens for spec in workload.classes.values()) and not (planned and planned.share)


def _sharing(run: Mapping[str, Any]) -> PlannedSharing | None:
    """Return the plan's prompt sharing by the trial: block size, share of tokens that a cache could hold."""
    found = _section(_section(run, "plan"), "sharing")
    block, tokens, hit = (_number(found.get(key)) for key in ("block_tokens", "tokens", "hit_tokens"))
    if not block or not tokens or hit is None:
        return None
    blocks, kept = (_number(found.get(key)) for key in ("cache_blocks", "cache_hit_tokens"))
    return PlannedSharing(
        int(block), hit / tokens, None if blocks is None else int(blocks), None if kept is None else kept / tokens
    )


def _window_s(how: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the window of a probe of a capacity search; other runs leave it to be chosen."""
    start_end = how.get("window_s")
    return (float(start_end[0]), float(start_end[1])) if start_end else None


def _allowed_errors(slo: Slo) -> Iterator[float]:
    """Yield the share of failures that each clause about them allows."""
    for clause in slo.clauses:
        match clause:
            case Objective("error_rate", bound):
                yield bound
            case Objective("availability", bound):
                yield 1 - bound


def _arrivals(workload: Workload) -> str:
    kinds = []
    for spec in workload.classes.values():
        how = spec.arrivals
        if spec.recorded is not None:
            kinds.append("recorded")
        if how is not None:
            said = " ".join([how.process, *(f"{key} {value}" for key, value in traits(how).items())])
            kinds.append(f"{said} of sessions" if spec.session else said)
    return " and ".join(dict.fromkeys(kinds)) or "none"


def _offered_s(run: Mapping[str, Any], workload: Workload) -> float | None:
    """How long the full load was offered: until a rule ended it, else as planned; None where a count ended it."""
    stopped_s = _number(_section(run, "stopping").get("stopped_s"))
    return stopped_s or (None if workload.duration is None else workload.duration / 1e9)


def _timeout_s(server: Mapping[str, Any], talk: Mapping[str, Any], slo: Slo) -> float | None:
    """Return the total timeout that held: as the trial recorded it, else the target's, else the default."""
    recorded = server.get("total_timeout_s")
    if isinstance(recorded, int | float):
        return float(recorded)
    timeouts = _section(talk, "timeouts")
    total = timeouts.get("total")
    if total is not None:
        return parse_duration_ns(total) / 1e9
    limit = e2e_limit_s(slo)
    return max(120.0, 10 * limit) if limit else 120.0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _ceiling(run: Mapping[str, Any]) -> Ceiling | None:
    """What the machine could offer when it ran, as the trial wrote it down; the reporting machine may be another."""
    recorded = _section(run, "ceiling")
    return Ceiling.from_dict(recorded) if recorded else None
