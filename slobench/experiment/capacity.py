"""A capacity search from the command to its files: opens the load, follows the search, keeps every probe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Protocol

from slobench.config.arrivals import Poisson, traits
from slobench.config.load import public
from slobench.config.slo import Slo, parse_slo
from slobench.config.target import SimTarget
from slobench.config.workload import ClosedLoop
from slobench.errors import ConfigError
from slobench.experiment import capacity_file
from slobench.experiment.certificate import certificate_size
from slobench.experiment.criteria import Asked, asked_of
from slobench.experiment.drive import Advanced, Ended, drive
from slobench.experiment.endpoints import refuse_unjudgeable, refuse_unsendable
from slobench.experiment.events import Event, Notice, Progress, Searching, SeenProbe, Step
from slobench.experiment.found import Found, found_of
from slobench.experiment.gpus import target_gpus
from slobench.experiment.search import LEAST_PROBES, root_of
from slobench.experiment.search_state import History, Settings, cost
from slobench.experiment.session_load import Extent, extent_of, has_sessions, rate_unit, refuse_in_virtual_time
from slobench.experiment.setup import Trial
from slobench.experiment.stream import Probe, Stream
from slobench.experiment.trial import Interrupts, prepare_folder
from slobench.records import provenance
from slobench.segments import shares
from slobench.workload.moments import is_bursty as varies_more


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks of a search, beside the workload and the target."""

    target: float | None = None
    per_class: bool = False
    virtual: bool = False
    users: bool = False  # over concurrency: max_users, never called capacity
    resume: bool = False


@dataclass(frozen=True, slots=True)
class CapacityAsk:
    """One search: the load and where its files go, the SLO, what is counted, and the procedure's settings."""

    trial: Trial
    wanted: Wanted
    slo: Slo
    asked: Asked
    settings: Settings


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """The search is over, and its file is written."""

    ask: CapacityAsk
    history: History
    found: Found


class Opened(Protocol):
    """What makes a stream for a search."""

    def __call__(self, ask: CapacityAsk, interrupts: Interrupts) -> Stream:
        """Open it; blocks until the target is ready."""
        ...


def ask_for(trial: Trial, wanted: Wanted, settings: Settings) -> CapacityAsk:
    """Check that a search can be made. `settings.criteria` is filled in here. Raises ConfigError where it cannot."""
    workload = trial.workload
    if wanted.users:
        if not isinstance(workload.loop, ClosedLoop):
            raise ConfigError("a search over users needs a closed loop")
    elif isinstance(workload.loop, ClosedLoop):
        raise ConfigError(
            f"workload {workload.name} is a closed loop, which has no capacity: a slow server is offered less\n"
            "  expected  an open loop, or --concurrency for the most users that the SLO bears"
        )
    else:
        shares(workload)
    if wanted.virtual and not isinstance(trial.target, SimTarget):
        raise ConfigError(
            f"--virtual runs the simulated engine in virtual time; the target is of kind {trial.target.kind}\n"
            "  expected  a target of kind sim, e.g. --target sim-reference"
        )
    if wanted.virtual:
        refuse_in_virtual_time(workload)
    slo = parse_slo(workload.slo, tuple(workload.classes)) if workload.slo else parse_slo(())
    refuse_unjudgeable(slo, workload, trial.target.talk)
    refuse_unsendable(workload, trial.target.talk)
    asked = asked_of(slo, tuple(workload.classes), target=wanted.target, per_class=wanted.per_class)
    warmup_s = (workload.warmup or 0) / 1e9
    plain = {name: getattr(settings, name) for name in settings.__slots__}
    poisson = all(isinstance(spec.arrivals, Poisson) for spec in workload.classes.values())
    sessions = has_sessions(workload) and not wanted.users
    extent = extent_of(workload) if sessions else Extent()
    plain["vr"] = settings.vr and not sessions
    plain |= {"criteria": asked.criteria, "warmup_s": warmup_s, "whole": wanted.users}
    plain |= {"conditioned": plain["vr"] and poisson}
    plain |= {"requests_each": extent.requests, "waits_s": extent.waits_s, "replies": extent.replies}
    return CapacityAsk(trial, wanted, slo, asked, Settings(**plain))


def find_capacity(ask: CapacityAsk, interrupts: Interrupts, opened: Opened) -> Iterator[Event | SearchEnded]:
    """Search; the last event is SearchEnded.

    capacity.json is written as each probe ends: what a kill leaves can be taken up again. Raises SlobenchError;
    the file then says so.
    """
    folder = ask.trial.folder
    history = History()
    if ask.wanted.resume:
        history = capacity_file.history_of(capacity_file.load(folder), asked_json(ask))
        yield Notice(f"resuming after {len(history.done)} probes")
    else:
        prepare_folder(folder, force=ask.trial.force)
    yield Step("starting the engine in virtual time" if ask.wanted.virtual else "starting the target")
    stream = opened(ask, interrupts)
    state = "failed"
    try:
        interrupts.offering = True
        ended = None
        for event in drive(ask.settings, stream, history, lambda: interrupts.count > 0):
            if isinstance(event, Ended):
                history, ended, state = event.history, event, "done"
            elif isinstance(event, Advanced):
                if event.history.done != history.done:
                    capacity_file.save(folder, content_of(ask, event.history, None, "running"))
                history = event.history
                yield searching(ask, history, event.now)
            elif not (ask.wanted.virtual and isinstance(event, Progress)):  # its time is not the user's
                yield event
    finally:
        interrupts.offering = False
        try:
            stream.close()
        finally:
            if state != "done":
                capacity_file.save(folder, content_of(ask, history, None, state))
    assert ended is not None
    found = found_of(ask.settings, ask.asked.limits, history, ended.reason)
    capacity_file.save(folder, content_of(ask, history, found, ended.reason))
    yield SearchEnded(ask, history, found)


def asked_json(ask: CapacityAsk) -> dict[str, Any]:
    """What two searches must share for one to go on where the other ended."""
    secret = provenance.secrets_in(ask.trial.target.model_dump(mode="json"))
    settings = asdict(ask.settings)
    for free in ("budget", "max_probes", "start_rate"):  # of how long, not of what
        del settings[free]
    settings["criteria"] = [asdict(each) for each in ask.settings.criteria]
    return {
        "workload": public(ask.trial.workload),
        "target": provenance.redact(public(ask.trial.target), secret),
        "slo": list(ask.slo.text),
        "settings": settings,
        "virtual": ask.wanted.virtual,
        "users": ask.wanted.users,
    }


def content_of(ask: CapacityAsk, history: History, found: Found | None, state: str) -> dict[str, Any]:
    """Everything that capacity.json holds."""
    return {
        "schema": capacity_file.SCHEMA,
        "slobench": _versions()["slobench"],
        "state": state,
        "asked": asked_json(ask),
        "budget": asdict(ask.settings.budget),
        "start_rate": ask.settings.start_rate,
        "max_probes": ask.settings.max_probes,
        "versions": _versions(),
        "host": provenance.host(),
        "refined": history.refined,
        "requests": history.requests,
        "seconds": history.seconds,
        "probes": [capacity_file.probe_json(each) for each in history.done],
        **({} if found is None else result_json(ask, history, found)),
    }


@cache
def _versions() -> dict[str, Any]:
    return provenance.versions()


def result_json(ask: CapacityAsk, history: History, found: Found) -> dict[str, Any]:
    """What `--json` prints: {"capacity": {…}}, for a closed loop {"max_users": {…}}."""
    gpus = gpus_of(ask)
    result = {
        "rate": found.rate,
        "low": found.low,
        "high": found.high,
        "certified": found.certified,
        "binding": found.binding,
        "criterion": found.criterion.name,
        "target": found.criterion.target,
        "precision": ask.settings.precision,
        "unit": unit_of(ask),
        "requests_each": ask.settings.requests_each,
        "reason": found.reason,
        "refined": found.refined,
        "slope": found.slope,
        "design_effect": found.design_effect,
        "n": found.n,
        "n_eff": found.n_eff,
        "requests": history.requests,
        "seconds": history.seconds,
        "gpus": gpus,
        "per_gpu": found.rate / gpus if found.rate is not None and gpus is not None else None,
        "method": found.method,
        "monotone": found.monotone,
        "approximate": is_bursty(ask),
        "arrivals": arrivals_of(ask),
        "vr": ask.settings.vr and not ask.wanted.users,
        "seed": ask.settings.seed,
        "virtual": ask.wanted.virtual,
        "limits": dict(found.limits),
        "classes": dict(found.classes),
        "roots": {name: list(each) for name, each in found.roots.items()},
        "bracket": list(found.bracket),
        "certificate": asdict(found.certificate) if found.certificate else None,
        "floor": asdict(found.floor) if found.floor else None,
        "instrument": list(found.instrument),
        "curve": [asdict(each) for each in found.curve],
        "probes": [_brief(each, found) for each in history.done],
    }
    return {"max_users" if ask.wanted.users else "capacity": result}


def _brief(probed: Any, found: Found) -> dict[str, Any]:
    probe = probed.probe
    return {
        "number": probe.number,
        "purpose": probe.purpose,
        "rate": probe.rate,
        "n": probed.n(found.criterion.name),
        "good": probed.good(found.criterion.name),
        "attainment": probed.attainment(found.criterion.name),
        "in_fit": probe.number in found.used,
        "curtailed": probed.curtailed,
        "mean_e2e_s": probed.mean_e2e_s,
        "p99_e2e_s": probed.p99_e2e_s,
        "start_s": probed.start_s,
        "end_s": probed.end_s,
        "vr": probe.vr,
        "seed": probe.seed,
        "digest": probed.digest,
        "instrument": list(probed.instrument),
    }


def unit_of(ask: CapacityAsk) -> str:
    """What loads are counted in."""
    return "users" if ask.wanted.users else rate_unit(ask.trial.workload)


def arrivals_of(ask: CapacityAsk) -> str:
    """`poisson`, `gamma(cv=2)`, `closed`; several classes with different processes: all of them."""
    if ask.wanted.users:
        return "closed"
    words = []
    for spec in ask.trial.workload.classes.values():
        process = spec.arrivals
        assert process is not None
        said = ", ".join(f"{key}={value}" for key, value in traits(process).items())
        words.append(f"{process.process}({said})" if said else process.process)
    return ", ".join(dict.fromkeys(words))


def is_bursty(ask: CapacityAsk) -> bool:
    """Whether arrivals vary more than Poisson's: the interval then covers less than it says (docs/validation.md)."""
    processes = [spec.arrivals for spec in ask.trial.workload.classes.values() if spec.arrivals is not None]
    return any(varies_more(process) for process in processes)


def gpus_of(ask: CapacityAsk) -> int | None:
    """How many GPUs the search's target says it has."""
    return target_gpus(ask.trial.target)


def searching(ask: CapacityAsk, history: History, now: Probe | None) -> Searching:
    """Where the search stands, for whoever watches."""
    found = found_of(ask.settings, ask.asked.limits, history, "running")
    name = found.criterion.name
    return Searching(
        phase=_phase(history, now),
        now=None if now is None else SeenProbe(now.number, now.purpose, now.rate, now.n, None),
        probes=tuple(
            SeenProbe(d.probe.number, d.probe.purpose, d.probe.rate, d.n(name), d.attainment(name))
            for d in history.done
        ),
        target=found.criterion.target,
        unit=unit_of(ask),
        bracket=found.bracket,
        root=found.rate,
        low=found.low,
        high=found.high,
        precision=ask.settings.precision,
        curve=tuple((each.rate, each.share, each.low, each.high) for each in found.curve),
        requests=history.requests,
        elapsed_s=history.seconds,
        left_s=left_s(ask.settings, history, found, now),
    )


def _phase(history: History, now: Probe | None) -> str:
    purpose = now.purpose if now is not None else (history.issued[-1].purpose if history.issued else "bracket")
    return {"warmup": "refine", "floor": "bracket"}.get(purpose, purpose)


def left_s(settings: Settings, history: History, found: Found, now: Probe | None) -> float | None:
    """Estimate how long the search still takes: half-widths shrink with the square root of the probes."""
    if found.rate is None or found.low is None or found.high is None:
        return None
    done = len(found.used)
    refining = 0
    if history.refined is None:
        half = math.log(found.high / found.low) / 2
        needed = math.ceil(done * (half / settings.precision) ** 2) if done else 2 * LEAST_PROBES
        refining = min(max(needed, LEAST_PROBES), settings.max_probes) - done
    seen = [each.mean_e2e_s for each in history.done if each.mean_e2e_s is not None]
    mean_s = seen[-1] if seen else 0.0
    each_s = max(10.0, 4 * mean_s) + settings.probe_n / found.rate
    certify_s = certificate_size(settings.precision, found.rate, mean_s, root_of(settings, history)) / found.rate
    if now is not None and now.purpose == "certify":
        return cost(now)[1]
    return max(refining, 0) * each_s + certify_s
