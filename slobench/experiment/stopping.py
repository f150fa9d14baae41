"""A rule that ends a run before its length is reached: looks at times planned beforehand, each in its own process.

The plan stays as it is and is cut: what a rule sees never changes what is offered until then.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from slobench.config.clause import Objective
from slobench.config.slo import Slo
from slobench.config.until import ATTAINMENT, Decided, Precise
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.metrics.looks import objectives_of
from slobench.metrics.slo import has_limits
from slobench.plan import Plan

Reason = Literal["met", "missed", "precise"]
STOPPED: Mapping[Reason, str] = {
    "met": "the SLO is met, whatever more requests would show: the offer ends",
    "missed": "the SLO is missed, whatever more requests would show: the offer ends",
    "precise": "the intervals are as narrow as asked: the offer ends",
}
_MOST_LOOKS = 200
_LEAST_APART = 1.0  # s; looks closer than this show the same files
_LAST_WORDS = 300


def planned_looks(rule: Decided | Precise, bound_s: float | None) -> tuple[float, ...]:
    """Times of the looks in s from the start: the first, then each `growth` times as late, before `bound_s`."""
    times: list[float] = []
    at = rule.first_look / 1e9
    while len(times) < _MOST_LOOKS and (bound_s is None or at < bound_s):
        times.append(round(at, 3))
        at = max(at * rule.growth, at + _LEAST_APART)
    return tuple(times)


def refuse_undecidable(workload: Workload, slo: Slo) -> None:
    """Raise ConfigError where the stopping rule asks for something that this SLO does not have."""
    match workload.until:
        case Decided() if not objectives_of(slo, tuple(workload.classes)):
            raise ConfigError(
                "--until-decided: the SLO has no objective, so there is nothing to decide\n"
                "  expected  an objective beside the limits, e.g. --slo 'attainment>=99%' or --slo 'ttft:p99<500ms'"
            )
        case Decided() if any(_certain(asked.objective) for asked in objectives_of(slo, tuple(workload.classes))):
            raise ConfigError(
                "--until-decided: no number of requests shows that all of them are good\n"
                "  expected  an objective below 100 %, e.g. --slo 'attainment>=99.9%'"
            )
        case Precise(within=within) if ATTAINMENT in within and not has_limits(slo) and len(within) == 1:
            raise ConfigError(
                "--until-precision: attainment needs limits on requests\n  expected  e.g. --slo 'ttft<500ms'"
            )


def _certain(objective: Objective) -> bool:
    return objective.bound == (0.0 if objective.metric == "error_rate" else 1.0) and objective.quantile is None


def stopping_of(workload: Workload, plan: Plan, folder: Path) -> Stopping | None:
    """Make the state of a workload's stopping rule; None where it has none."""
    if workload.until is None:
        return None
    due_ns = plan.due_ns
    bound_ns = workload.duration or (None if due_ns is None or plan.after is not None else int(due_ns[-1]))
    return Stopping(folder, planned_looks(workload.until, None if bound_ns is None else bound_ns / 1e9))


def rule_in_words(stopping: Stopping | None, workload: Workload) -> dict[str, Any]:
    """Return what run.json says of the rule before the run."""
    if stopping is None or workload.until is None:
        return {"rule": "fixed"}
    return {"rule": workload.until.rule, "planned_looks_s": stopping.planned_s}


def how_it_stopped(stopping: Stopping | None, stop: str, stopped_ns: int | None, end_ns: int) -> dict[str, Any]:
    """Return what run.json says of the rule after the run; looks once more where no look has ended it.

    reason: why no more was offered: met, missed, precise, "bound" (its full length), or how else the run ended.
    """
    if stopping is None:
        return {"reason": "bound" if stop == "complete" else stop}
    if stop == "complete":
        stopping.last(end_ns)
    stopped_s = None if stopped_ns is None else stopped_ns / 1e9
    found = stopping.reason
    reason = found if stopped_ns is not None else "bound" if stop == "complete" else stop
    return {"reason": reason, "found": found, "stopped_s": stopped_s, "looks": stopping.looks}


@dataclass
class Stopping:
    """Looks at a run, one after another, until one says stop; the state of the rule while the run goes on."""

    folder: Path
    planned_s: tuple[float, ...]
    looks: list[dict[str, Any]] = field(default_factory=list)
    """What each look found, for run.json."""
    reason: Reason | None = None
    _process: subprocess.Popen[bytes] | None = None
    _next: int = 0

    def tick(self, now_ns: int) -> Reason | None:
        """Begin a look that is due, hear one that has ended; the reason where it says stop. Never waits."""
        if self._process is not None:
            if self._process.poll() is None:
                return None
            self._hear(self._process)
            self._process = None
            if self.reason is not None:
                return self.reason
        due = False
        while self._next < len(self.planned_s) and self.planned_s[self._next] * 1e9 <= now_ns:
            self._next += 1  # looks that came due while another was made are passed over
            due = True
        if due:
            self._process = self._begin(now_ns)
        return None

    def last(self, now_ns: int) -> None:
        """Look at all that there is, and wait for it."""
        self.close()
        self._hear(self._begin(now_ns))

    def close(self) -> None:
        """End a look that is still being made."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _begin(self, now_ns: int) -> subprocess.Popen[bytes]:
        sizes: dict[str, int] = next((each["sizes"] for each in reversed(self.looks) if each.get("sizes")), {})
        process = subprocess.Popen(
            [sys.executable, "-m", "slobench.experiment.look"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # a Ctrl-C in the terminal is for the parent alone
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(orjson.dumps({"folder": str(self.folder), "at_ns": now_ns, "sizes": sizes}) + b"\n")
            process.stdin.flush()
        return process

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        out, err = process.communicate()
        try:
            said: dict[str, Any] = orjson.loads(out)
        except orjson.JSONDecodeError:
            last = err.decode(errors="replace").strip()[-_LAST_WORDS:]
            self.looks.append({"error": last or f"the look ended with code {process.returncode}"})
            return
        self.looks.append(said)
        self.reason = said["stop"]
