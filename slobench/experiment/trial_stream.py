"""Users or sessions instead of requests: each probe a run of its own against one running target."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from slobench.config.arrivals import mean_rate
from slobench.config.load import public
from slobench.config.secrets import resolve_secrets
from slobench.config.target import NullTarget, RemoteTarget
from slobench.config.telemetry import Telemetry
from slobench.config.workload import ClosedLoop, Workload
from slobench.errors import TargetDiedError
from slobench.experiment.events import Event
from slobench.experiment.live_probed import Limits, lag_findings
from slobench.experiment.live_stream import StreamAsk
from slobench.experiment.probed import Counts
from slobench.experiment.probes import probe_folder, write_run
from slobench.experiment.session_load import has_sessions, offered_for
from slobench.experiment.setup import begin, secrets_of
from slobench.experiment.stream import BATCHES, Probe, Probed
from slobench.experiment.trial import Finished, run_trial
from slobench.metrics import window
from slobench.metrics.ask import Ask
from slobench.metrics.columns import FAILED, outcome_in, seconds
from slobench.metrics.latency import derive
from slobench.metrics.load import in_flight, spans
from slobench.names import Outcome
from slobench.plan import Plan
from slobench.records import provenance
from slobench.records.assemble import assemble
from slobench.records.spool import FOLDER as SPOOL
from slobench.records.store import read_run_json, write_run_json
from slobench.targets.base import RunningTarget

_LEAST_TURNS = 10  # of each user: its first ones meet an emptier server than the later ones
_MORE_TURNS = 4


def open_trials(ask: StreamAsk) -> TrialStream:
    """Start the target; blocks until it is ready. Raises SlobenchError for what the user can mend."""
    return TrialStream(ask, begin(ask.trial, ask.slo, resolve_secrets(ask.trial.target.talk)))


def with_users(workload: Workload, users: int, n: int, warmup_ns: int) -> Workload:
    """The workload as a closed loop in which about `n` requests come after the first turns, classes by their rates."""
    loop = workload.loop
    think_ns = loop.think_time if isinstance(loop, ClosedLoop) else 0
    rates = {
        name: mean_rate(spec.arrivals) if spec.arrivals is not None else None for name, spec in workload.classes.items()
    }
    classes = {
        name: spec.model_copy(update={"arrivals": None, "share": rates[name] or spec.share})
        for name, spec in workload.classes.items()
    }
    turns = max(math.ceil(n / users), _LEAST_TURNS) + _MORE_TURNS
    return workload.model_copy(
        update={
            "loop": ClosedLoop(users=users, think_time=think_ns),
            "classes": classes,
            "requests": users * turns,
            "duration": None,
            "warmup": warmup_ns,
            "drain": type(workload.drain)(),
        }
    )


def _offered(workload: Workload, probe: Probe) -> Workload:
    if has_sessions(workload) and not isinstance(workload.loop, ClosedLoop):
        return offered_for(workload, probe)
    return with_users(workload, round(probe.rate), probe.n, round(probe.settle_s * 1e9))


def _asked(workload: Workload) -> Ask:
    """What the window of a probe is chosen by."""
    warmup_s = (workload.warmup or 0) / 1e9
    if isinstance(workload.loop, ClosedLoop):
        return Ask(warmup_s=warmup_s, closed=True)
    return Ask(warmup_s=warmup_s, duration_s=None if workload.duration is None else workload.duration / 1e9)


class TrialStream:
    """Runs on one running target (experiment/stream.py, Stream): closed loops, or open arrivals of sessions.

    A probe's rate is its number of users, or its sessions a second. Each begins with an idle server; its results are
    there when its last reply has ended.
    """

    def __init__(self, ask: StreamAsk, running: RunningTarget) -> None:
        self._ask = ask
        self._running = running
        self._began_ns = time.monotonic_ns()
        self._ended: list[Probed] = []
        target = ask.trial.target
        endpoint = running.endpoint
        self._target = RemoteTarget(
            kind="remote",
            url=endpoint.url,
            telemetry=Telemetry(urls=(), gpus=()) if isinstance(target, NullTarget) else target.telemetry,
            talk=target.talk.model_copy(update={"model": endpoint.model, "forces_length": endpoint.forces_length}),
        )

    def step(self, probe: Probe) -> Iterator[Event]:
        """Offer a run from its first to its last reply."""
        ask = self._ask
        if self._interrupted():
            return
        folder = probe_folder(ask.trial.folder, probe.number)
        workload = _offered(ask.trial.workload, probe)
        own = replace(ask.trial, target=self._target, running=None, force=True)
        trial = replace(own, workload=workload, folder=folder, seed=probe.seed)
        events = run_trial(trial, ask.asked)
        try:
            for event in events:
                if not self._running.alive():
                    raise TargetDiedError(self._running.failure() or "the server ended")
                if not isinstance(event, Finished):
                    yield event
        except GeneratorExit:
            if self._interrupted():  # it ends by itself when its replies have come
                deque(events, maxlen=0)
                self._store(probe, trial.workload)
            raise
        probed = self._store(probe, trial.workload)
        if not self._interrupted():
            self._ended.append(probed)

    def finished(self) -> list[Probed]:
        """Probes that have ended since the last call, in order."""
        ended, self._ended = self._ended, []
        return ended

    def drain(self) -> Iterator[Event]:
        """Nothing is in flight between two runs."""
        yield from ()

    def now_s(self) -> float:
        """Time since the target was ready."""
        return (time.monotonic_ns() - self._began_ns) / 1e9

    def close(self) -> None:
        """Let go of the target."""
        self._running.stop()

    def _interrupted(self) -> bool:
        return self._ask.asked.count > 0

    def _store(self, probe: Probe, workload: Workload) -> Probed:
        """Turn the trial's spool into tables, and its records into what a search takes."""
        folder = probe_folder(self._ask.trial.folder, probe.number)
        run = read_run_json(folder)
        plan = Plan.load(folder / SPOOL / "plan.arrow")
        records = assemble(folder, plan.to_arrow(), run["workers"])
        derived = derive(records.requests, records.chunks)
        chosen = window.choose(records.requests, derived["e2e_s"], _asked(workload))
        scheduled_s = seconds(records.requests, "scheduled_ns")
        inside = chosen.holds(scheduled_s) & (records.requests["outcome"] != Outcome.UNSENT.value)
        rows = np.flatnonzero(inside)
        counts = Counts(records, derived, rows[np.argsort(scheduled_s[rows], kind="stable")], self._ask.slo)
        self._patch(run, probe)
        write_run(folder, run, plan, records, self._ask.slo, window.phases(records.requests, chosen))
        offset_s = (run["clock"]["start_ns"] - self._began_ns) / 1e9
        begin, end = spans(records.requests, ~np.isnan(seconds(records.requests, "started_ns")))
        levels, _ = in_flight(begin, end, np.linspace(chosen.start_s, chosen.end_s, BATCHES + 1))
        limits = Limits.of(self._ask.slo, self._ask.trial.workload.validity)
        lag_s = counts.quantile_s("send_lag_s", 0.99)
        late = counts.share_above("send_lag_s", limits.late_s)
        lost = "".join(f"V02 generator process {k} was lost: {why}" for k, why in run["run"]["workers_lost"].items())
        return Probed(
            probe=probe,
            digest=plan.digest,
            tallies=counts.tallies(self._ask.counted),
            in_flight=tuple(levels.tolist()),
            errors=int(np.sum(outcome_in(records.requests, FAILED)[counts.rows])),
            mean_e2e_s=counts.mean_s("e2e_s"),
            p99_e2e_s=counts.quantile_s("e2e_s", 0.99),
            start_s=chosen.start_s + offset_s,
            end_s=chosen.end_s + offset_s,
            mean_ttft_s=counts.mean_s("ttft_s"),
            mean_tpot_s=counts.mean_s("tpot_s"),
            instrument=(*([lost] if lost else []), *lag_findings(lag_s, late, limits)),
        )

    def _patch(self, run: dict[str, Any], probe: Probe) -> None:
        """Say of the trial what it was: a probe, on a target that was started for all of them."""
        secret = secrets_of(self._ask.trial, self._running.endpoint.headers)
        run["spec"]["target"] = provenance.redact(public(self._ask.trial.target), secret)
        run["settings"]["observed"] = provenance.redact(self._running.observed, secret) | run["settings"]["observed"]
        users = isinstance(self._ask.trial.workload.loop, ClosedLoop)
        load = {"users": round(probe.rate)} if users else {"rate": probe.rate}
        run["probe"] = {"number": probe.number, "purpose": probe.purpose, **load, "n": probe.n}
        write_run_json(probe_folder(self._ask.trial.folder, probe.number), run)
