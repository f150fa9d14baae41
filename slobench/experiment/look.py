"""A look at a run that is still going, as a process of its own: `python -m slobench.experiment.look`.

Reads one JSON line on stdin, {"folder": DIR, "at_ns": N, "sizes": {…}}, evaluates what the run's spool holds by its
own stopping rule, and prints one JSON object. Its memory and its imports are not the generator's, and it yields to it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from slobench.config.slo import parse_slo
from slobench.config.until import Decided, Precise
from slobench.config.workload import Workload
from slobench.errors import SlobenchError
from slobench.metrics.ask import Ask
from slobench.metrics.looks import Narrowness, Verdict, narrowness, settled, verdict
from slobench.plan import Plan
from slobench.records.spool import FOLDER
from slobench.records.store import assemble, read_run_json

_NICE = 10


def look(folder: Path, at_ns: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Evaluate the run in `folder` at a time on its clock; what goes into run.json, with `stop`: a reason or None."""
    run = read_run_json(folder)
    workload = Workload.model_validate(run["spec"]["workload"])
    slo = parse_slo(workload.slo, tuple(workload.classes))
    table = Plan.load(folder / FOLDER / "plan.arrow").to_arrow()
    records, until_s = settled(assemble(folder, table, run["workers"]), at_ns / 1e9)
    said: dict[str, Any] = {"at_s": at_ns / 1e9, "settled_s": max(until_s, 0.0), "stop": None}
    if not len(records.requests["index"]):
        return said
    ask = Ask(
        warmup_s=(workload.warmup or 0) / 1e9,
        duration_s=until_s,
        closed=workload.loop.mode == "closed",
        thresholds=workload.validity,
    )
    match workload.until:
        case Decided() as rule:
            found = verdict(records, slo, ask, rule, tuple(workload.classes), sizes)
            return said | _of_verdict(found)
        case Precise() as rule:
            return said | _of_narrowness(narrowness(records, slo, ask, rule))
    return said


def _of_verdict(found: Verdict) -> dict[str, Any]:
    standings = {text: asdict(each) for text, each in found.standings.items()}
    return {"stop": found.decision, "objectives": standings, "sizes": dict(found.sizes)}


def _of_narrowness(found: Narrowness) -> dict[str, Any]:
    widths = {
        each.metric: {
            "value": each.seen.value,
            "low": each.seen.low,
            "high": each.seen.high,
            "n_eff": each.seen.n_eff,
            "half_width": each.half_width,
            "wanted": each.wanted,
            "spread_counts": each.spread_counts,
        }
        for each in found.widths
    }
    return {"stop": "precise" if found.reached else None, "long": found.long, "metrics": widths}


def main() -> int:
    """Do one look; the exit code of the process."""
    with suppress(OSError):
        os.nice(_NICE)
    order = orjson.loads(sys.stdin.buffer.readline())
    try:
        said = look(Path(order["folder"]), order["at_ns"], order["sizes"])
    except SlobenchError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit)
    sys.stdout.buffer.write(orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
