"""Every probe a stored run: a stream's records, split into folders that `slobench report` reads."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slobench.config.arrivals import at_rate as of_rate
from slobench.config.load import public
from slobench.config.slo import ClassSlo, Slo, parse_slo
from slobench.config.workload import Workload
from slobench.experiment.stream import Probe
from slobench.metrics.latency import derive
from slobench.metrics.slo import has_limits, judge
from slobench.names import Outcome, Phase
from slobench.plan import Plan
from slobench.records import spool as spooled
from slobench.records.assemble import assemble
from slobench.records.schema import Columns, Records
from slobench.records.store import read_run_json, write_parquet, write_plan, write_run_json
from slobench.segments import shares

_TIMES = ("scheduled_ns", "started_ns", "connected_ns", "sent_ns", "headers_ns",
          "first_token_ns", "first_output_ns", "last_token_ns", "end_ns")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offered:
    """A probe as it was offered: its segment begins at an index and a time of the stream.

    digest: of the segment as planned, from index 0 and time 0. rows: settling ones too, which come first.
    """

    probe: Probe
    digest: str
    index: int
    at_ns: int
    rows: int
    settle: int
    curtailed: bool = False


def empty_plan(class_names: tuple[str, ...]) -> Plan:
    """The plan of a stream before its first probe."""
    none, codes = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
    return Plan(none, none, codes, none, codes, none, none, none, none, class_names)


def moved(plan: Plan, index: int, at_ns: int) -> Plan:
    """The same requests, that much later in a stream: each one is a session of its own."""
    assert plan.scheduled_ns is not None
    return replace(plan, index=plan.index + index, session=plan.session + index, scheduled_ns=plan.scheduled_ns + at_ns)


def note_offered(spool: Path, offered: Offered, plan: Plan | None = None) -> Path:
    """Write down what is offered, so that it can be stored after a kill too; return the path of the segment's plan."""
    stem = f"segment-{offered.probe.number:04d}"
    path = spool / f"{stem}.arrow"
    if plan is not None:
        plan.save(path)
    aside = spool / f".{stem}.tmp"
    aside.write_bytes(orjson.dumps(asdict(offered)))
    aside.replace(spool / f"{stem}.json")
    return path


def store_probes(folder: Path) -> list[Path]:
    """Split the spool of a stream into probe-NN/ folders, one at a time, and remove it; return them.

    Without a spool of a stream nothing is done. Each folder holds plan, requests, chunks, telemetry and run.json, its
    times counted from the beginning of its segment; the first row that counts begins the measurement window.
    Raises RecordsError where the disk refuses.
    """
    spool = folder / spooled.FOLDER
    made = []
    if (spool / "run.json").exists():
        stream = read_run_json(spool)
        for path in sorted(spool.glob("segment-*.json")):
            raw = orjson.loads(path.read_bytes())
            offered = Offered(**{**raw, "probe": Probe(**raw["probe"])})
            if offered.probe.purpose != "floor":
                made.append(_store(folder, stream, offered, Plan.load(path.with_suffix(".arrow"))))
    shutil.rmtree(spool, ignore_errors=True)
    return made


def _store(folder: Path, stream: dict[str, Any], offered: Offered, plan: Plan) -> Path:
    """Write one probe's folder."""
    records = assemble(folder, plan.to_arrow(), stream["workers"], only=(offered.index, offered.index + len(plan)))
    sent = np.flatnonzero(records.requests["outcome"] != Outcome.UNSENT.value)
    kept = moved(plan.take(sent), -offered.index, -offered.at_ns)
    records = _from_zero(_only(records, sent), offered)
    workload = Workload.model_validate(stream["spec"]["workload"])
    slo = parse_slo(stream["spec"]["slo"], tuple(workload.classes)) if stream["spec"]["slo"] else Slo((), ClassSlo())
    counts = np.asarray(records.requests["index"]) >= offered.settle
    target = probe_folder(folder, offered.probe.number)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    run = _run_json(stream, offered, kept, workload)
    if len(kept) == len(plan) and not (records.requests["outcome"] == Outcome.LOST.value).any():
        # What ended the stream later did nothing to this probe.
        run["run"] |= {"interrupted": False, "target_died": False, "workers_lost": {}}
    write_run(target, run, kept, records, slo, np.where(counts, Phase.MAIN.value, Phase.WARMUP.value))
    return target


def probe_folder(folder: Path, number: int) -> Path:
    """Where a probe of the search in `folder` is stored."""
    return folder / f"probe-{number:02d}"


def write_run(  # what a run folder holds
    folder: Path, run: dict[str, Any], plan: Plan, records: Records, slo: Slo, phase: NDArray[np.str_]
) -> None:
    """Write the tables and run.json of a run, and remove its spool. Raises RecordsError where the disk refuses."""
    derived = derive(records.requests, records.chunks)
    met = judge(records.requests, derived, records.chunks, slo).met
    write_plan(folder, plan.to_arrow())
    write_parquet(folder, records, derived, phase, met if has_limits(slo) else np.full(len(met), np.nan))
    write_run_json(folder, run)
    shutil.rmtree(folder / spooled.FOLDER, ignore_errors=True)


def _only(records: Records, rows: np.ndarray[Any, Any]) -> Records:
    """The records of some requests."""
    requests = {name: column[rows] for name, column in records.requests.items()}
    of = np.isin(records.chunks["index"], requests["index"])
    return Records(requests, {name: column[of] for name, column in records.chunks.items()}, records.telemetry)


def _from_zero(records: Records, offered: Offered) -> Records:
    """Count indices and times from the beginning of the segment; telemetry outside its requests' lives is left out.

    Of a histogram's buckets, which are written where they change, the last value before it is kept.
    """
    requests: dict[str, Any] = dict(records.requests)
    for name in _TIMES:
        requests[name] = requests[name] - offered.at_ns
    for name in ("index", "session"):
        requests[name] = requests[name] - offered.index
    chunks = {
        **records.chunks,
        "index": records.chunks["index"] - offered.index,
        "t_ns": records.chunks["t_ns"] - offered.at_ns,
    }
    t_ns = records.telemetry["t_ns"] - offered.at_ns
    last_ns = np.nanmax(requests["end_ns"], initial=0.0) if len(requests["end_ns"]) else 0.0
    kept = np.flatnonzero((t_ns >= 0) & (t_ns <= last_ns))
    kept = np.concatenate([_buckets_before(records.telemetry, t_ns), kept])
    all_columns = {**records.telemetry, "t_ns": np.maximum(t_ns, 0)}
    telemetry: Columns = {name: column[kept] for name, column in all_columns.items()}
    return Records(requests, chunks, telemetry)


def _buckets_before(telemetry: Columns, t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last row before time 0 of each bucket of each histogram."""
    early = np.flatnonzero((t_ns < 0) & np.char.endswith(np.asarray(telemetry["name"], dtype=np.str_), "_bucket"))
    last = {tuple(telemetry[name][row] for name in ("source", "name", "labels")): row for row in early.tolist()}
    return np.array(sorted(last.values()), dtype=np.int64)


def _run_json(stream: dict[str, Any], offered: Offered, plan: Plan, workload: Workload) -> dict[str, Any]:
    """run.json of a probe: the stream's, with the probe's own load, seed, plan and window."""
    probe, scheduled = offered.probe, plan.scheduled_ns
    assert scheduled is not None
    span_s = float(scheduled[-1]) / 1e9 if len(plan) > 1 else None
    counted = scheduled[offered.settle :]
    window = [float(counted[0]) / 1e9, float(counted[-1]) / 1e9 + 1e-9] if len(counted) else None
    spec = {**stream["spec"], "workload": at_rate(workload, probe.rate, max(len(plan), 1))}
    clock = stream["clock"]
    return {
        **stream,
        "spec": spec,
        "seed": probe.seed,
        "plan": {"digest": plan.digest, "rows": len(plan), "rate": (len(plan) - 1) / span_s if span_s else None},
        "vr": "on" if probe.vr else "off",
        "clock": {**clock, "start_ns": clock["start_ns"] + offered.at_ns},
        "run": {
            **stream["run"],
            "by": "count",
            "duration_s": None,
            "stop": "curtailed" if offered.curtailed else "complete",
            "window_s": window,
            "end_ns": int(scheduled[-1]) if len(plan) else 0,
        },
        "probe": asdict(probe)
        | {
            "digest": offered.digest,
            "index": offered.index,
            "start_s": offered.at_ns / 1e9,
            "settling": offered.settle,
            "curtailed": offered.curtailed,
        },
    }


def at_rate(workload: Workload, rate: float, requests: int) -> dict[str, Any]:
    """The workload at another total rate, its classes in the same proportions, for so many requests; for run.json."""
    classes = {}
    for name, part in shares(workload).items():
        spec = workload.classes[name]
        assert spec.arrivals is not None  # `shares` has refused it
        classes[name] = spec.model_copy(update={"arrivals": of_rate(spec.arrivals, part * rate)})
    data = public(workload.model_copy(update={"classes": classes}))
    return {**data, "requests": requests, "duration": None, "warmup": None}
