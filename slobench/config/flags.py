"""A workload from the flags of `run`, alone or over a workload file; vLLM's spellings included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slobench.config.arrivals import Burst, Process, at_rate, mean_rate
from slobench.config.document import KeyPath, shown
from slobench.config.inline import names_its_rate, parse_arrivals, parse_drain, parse_lengths, parse_rate
from slobench.config.load import Given, Loaded, apply_sets, as_given, check_workload, given_again, put
from slobench.config.problems import clip
from slobench.config.slo import parse_goodput
from slobench.config.until import parse_precision
from slobench.config.workload import Workload
from slobench.errors import UsageError

CLASS = "default"  # the only class of a workload made from flags
DEFAULT_INPUT, DEFAULT_OUTPUT, DEFAULT_DURATION = "512", "128", "60s"
DEFAULT_BOUND = "30m"  # of a run that stops by a rule


@dataclass(frozen=True, slots=True)
class RunFlags:
    """What the flags of `run` say of the workload; None and () = not given.

    `rate` (--rate, --request-rate) in requests/s or "inf"; `concurrency` (--concurrency, --max-concurrency) in users;
    `requests` (--requests, --num-prompts); `goodput`: the `ttft:500` pairs of --goodput.
    """

    arrivals: str | None = None
    rate: str | float | None = None
    burstiness: float | None = None
    concurrency: int | None = None
    requests: int | None = None
    duration: str | None = None
    warmup: str | None = None
    input_tokens: str | None = None
    output_tokens: str | None = None
    slo: Sequence[str] = ()
    goodput: Sequence[str] = ()
    drain: str | None = None
    until_decided: bool = False
    until_precision: str | None = None


@dataclass(frozen=True, slots=True)
class _Load:
    """How requests come: arrivals (None = closed loop of `users`), and what the user is told of the choice."""

    arrivals: Process | None
    users: int | None = None
    max_in_flight: int | None = None
    notes: tuple[str, ...] = ()


def workload_from_flags(flags: RunFlags, sets: Sequence[str] = ()) -> Loaded[Workload]:
    """Make a workload of one class from flags, then `--set`; UsageError where they do not say how much load."""
    load = _load(flags)
    notes = list(load.notes)
    given = Given({"name": "flags", "about": "Made from the flags of one command.", "classes": {CLASS: {}}})
    if load.users is not None:
        given = put(given, ("loop",), {"mode": "closed", "users": load.users}, "--concurrency")
    if load.max_in_flight is not None:
        given = put(given, ("loop",), {"mode": "open", "max_in_flight": load.max_in_flight}, "--concurrency")
    if load.arrivals is not None:
        burst = isinstance(load.arrivals, Burst)
        place = (
            "--arrivals" if flags.arrivals else "--rate" if burst else "--burstiness" if flags.burstiness else "default"
        )
        given = put(given, ("classes", CLASS, "arrivals"), as_given(load.arrivals), place)
        if flags.rate is not None and not isinstance(load.arrivals, Burst):
            given = _at_rate(given, ("classes", CLASS, "arrivals"), load.arrivals)
    sized = replace(
        flags, input_tokens=flags.input_tokens or DEFAULT_INPUT, output_tokens=flags.output_tokens or DEFAULT_OUTPUT
    )
    if flags.requests is None and flags.duration is None:
        if isinstance(load.arrivals, Burst):
            raise UsageError(
                "a burst ends when all its requests are sent\n  expected  --requests N, e.g. --requests 200"
            )
        stops = flags.until_decided or flags.until_precision is not None
        duration, words = (DEFAULT_BOUND, "at most ") if stops else (DEFAULT_DURATION, "")
        notes.append(f"neither --requests nor --duration given: offering for {words}{duration}")
        given = put(given, ("duration",), duration, "default")
    given = _overlaid(given, sized, [CLASS])
    for key, text in (("input_tokens", flags.input_tokens), ("output_tokens", flags.output_tokens)):
        if text is None:
            given = put(given, ("classes", CLASS, key), given.data["classes"][CLASS][key], "default")
    return replace(check_workload(apply_sets(given, sets), "flags"), notes=tuple(notes))


def apply_flags(loaded: Loaded[Workload], flags: RunFlags) -> Loaded[Workload]:
    """Let flags override a workload file: what they do not name stays.

    --rate is the total offered load: the classes keep their proportions. Flags that shape one class (--arrivals,
    --burstiness, --input-tokens, --output-tokens) hold for every class; --slo and --goodput replace all clauses.
    """
    if flags == RunFlags():
        return loaded
    given, notes = _load_over(given_again(loaded), loaded.value, flags)
    given = _overlaid(given, flags, list(loaded.value.classes))
    checked = check_workload(given, shown(loaded.path) if loaded.path else "flags")
    return replace(checked, path=loaded.path, notes=(*loaded.notes, *notes))


def _load(flags: RunFlags) -> _Load:
    rate = None if flags.rate is None else parse_rate(flags.rate)
    users = _users(flags)
    process = _process(flags)
    paced = rate is not None and not math.isinf(rate)
    if rate is None and process is not None and names_its_rate(process):
        paced = True
    if users is None and not paced:
        if rate is None and process != "burst":
            raise UsageError(
                "how much load?\n"
                "  expected  --rate R (open loop, requests/s) or --concurrency N (closed loop, users),\n"
                "            or a workload: slobench run quickstart"
            )
        _refuse_process(flags, "--rate inf sends all at once")
        return _Load(Burst())
    if users is not None and not paced:
        _refuse_process(flags, "a closed loop sends when a reply has ended")
        return _Load(None, users=users, notes=() if rate is None and process is None else (_unpaced_note(users),))
    arrivals = parse_arrivals(process or "poisson", rate)
    return _Load(arrivals, max_in_flight=users, notes=() if users is None else (_cap_note(users),))


def _load_over(given: Given, workload: Workload, flags: RunFlags) -> tuple[Given, tuple[str, ...]]:
    """Put the flags that say how requests come over a workload's own."""
    rate = None if flags.rate is None else parse_rate(flags.rate)
    users, process = _users(flags), _process(flags)
    notes: tuple[str, ...] = ()
    if workload.loop.mode == "closed":
        _refuse_process(flags, "a closed loop sends when a reply has ended")
        if rate is not None and not math.isinf(rate):
            raise UsageError(
                f"--rate: workload {workload.name} is a closed loop\n  expected  --concurrency N, its users"
            )
        return (given if users is None else put(given, ("loop", "users"), users, "--concurrency")), notes
    if rate is not None and math.isinf(rate):
        _refuse_process(flags, "--rate inf sends all at once")
        return _unpaced(given, workload, users)
    if users is not None:
        given, notes = put(given, ("loop", "max_in_flight"), users, "--concurrency"), (_cap_note(users),)
    total = workload.offered_rate()
    for name, spec in workload.classes.items():
        if spec.recorded is not None and (rate is not None or process is not None):
            raise UsageError(
                f"--{'arrivals' if rate is None else 'rate'}: class {name} replays a recording at its own times\n"
                f"  expected  --set classes.{name}.recorded.speed=2, or a process in its `recorded.arrivals`"
            )
        own = spec.arrivals
        part = None if own is None or isinstance(own, Burst) else mean_rate(own) / total
        if rate is not None and part is None:
            raise UsageError(
                f"--rate: class {name} of workload {workload.name} is a burst\n  expected  classes with rates"
            )
        path: KeyPath = ("classes", name, "arrivals")
        if process is not None:
            flag = "--arrivals" if flags.arrivals else "--burstiness"
            own = _changed(process, None if part is None else part * total, part, flag)
            given = put(given, path, as_given(own), flag)
        if rate is not None and part is not None and own is not None and not isinstance(own, Burst):
            given = _at_rate(given, path, at_rate(own, rate * part))
    return given, notes


def _changed(process: str, own_rate: float | None, part: float | None, flag: str) -> Process:
    """Another process for a class: at the class's rate, or with its part of the load that the process names itself."""
    if names_its_rate(process):
        whole = parse_arrivals(process, None, flag)
        return whole if part is None else at_rate(whole, mean_rate(whole) * part)
    return parse_arrivals(process, None if process == "burst" else own_rate, flag)


def _at_rate(given: Given, path: KeyPath, process: Process) -> Given:
    """Put what --rate made of a process over it: only its rate where that is one number."""
    data = as_given(process)
    if isinstance(data.get("rate"), float):
        return put(given, (*path, "rate"), data["rate"], "--rate")
    return put(given, path, data, "--rate")


def _unpaced(given: Given, workload: Workload, users: int | None) -> tuple[Given, tuple[str, ...]]:
    """Make of an open loop the closed one of `users`, classes keeping their shares, or without users a burst."""
    for name, spec in workload.classes.items():
        path: KeyPath = ("classes", name)
        arrivals = {"process": "burst"} if users is None else None
        given = put(given, (*path, "arrivals"), arrivals, "--rate")
        if users is not None and spec.arrivals is not None and not isinstance(spec.arrivals, Burst):
            given = put(given, (*path, "share"), mean_rate(spec.arrivals), "--rate")
    if users is None:
        return given, ()
    given = put(given, ("loop",), {"mode": "closed", "users": users}, "--concurrency")
    return given, (_unpaced_note(users),)


def _overlaid(given: Given, flags: RunFlags, classes: Sequence[str]) -> Given:
    """Put lengths, extent, drain and SLO over what is there."""
    for key, text in (("input_tokens", flags.input_tokens), ("output_tokens", flags.output_tokens)):
        if text is not None:
            flag = f"--{key.replace('_', '-')}"
            lengths = parse_lengths(text, flag).model_dump()
            for name in classes:
                if key == "input_tokens" or given.data["classes"][name].get("api") != "embeddings":
                    given = put(given, ("classes", name, key), lengths, flag)
    if flags.requests is not None and flags.duration is not None:
        raise UsageError("--requests and --duration both say how long\n  expected  one of them")
    extent: dict[str, Any] = {"requests": flags.requests, "duration": flags.duration}
    for key, value in extent.items():
        if value is not None:
            other = "duration" if key == "requests" else "requests"
            given = put(put(given, (key,), value, f"--{key}"), (other,), None, f"--{key}")
    if flags.warmup is not None:
        given = put(given, ("warmup",), flags.warmup, "--warmup")
    if flags.drain is not None:
        given = put(given, ("drain",), parse_drain(flags.drain).model_dump(mode="json"), "--drain")
    given = _stopping(given, flags)
    if flags.slo or flags.goodput:
        place = "--slo" if flags.slo else "--goodput"
        given = put(given, ("slo",), (*flags.slo, *parse_goodput(flags.goodput)), place)
        given = put(given, ("slo_presets",), (), place)
    return given


def _stopping(given: Given, flags: RunFlags) -> Given:
    """Put the rule that ends the run before its length is reached."""
    if flags.until_decided and flags.until_precision is not None:
        raise UsageError("--until-decided and --until-precision both say when to stop\n  expected  one of them")
    if flags.until_decided:
        return put(given, ("until",), {"rule": "decided"}, "--until-decided")
    if flags.until_precision is None:
        return given
    rule = {"rule": "precision", "within": parse_precision(flags.until_precision)}
    return put(given, ("until",), rule, "--until-precision")


def _process(flags: RunFlags) -> str | None:
    """Return the arrival process asked for, --burstiness as the gamma process that it is in vLLM (cv = 1/sqrt)."""
    if flags.burstiness is None:
        return flags.arrivals
    if flags.arrivals is not None:
        raise UsageError("--arrivals and --burstiness both name the arrival process\n  expected  one of them")
    if not 1e-4 <= flags.burstiness < math.inf:
        raise UsageError(
            f"--burstiness: cannot be {flags.burstiness}\n  expected  a number from 0.0001, where 1 is Poisson"
        )
    return "poisson" if flags.burstiness == 1 else f"gamma:cv={flags.burstiness**-0.5!r}"


def _users(flags: RunFlags) -> int | None:
    if flags.concurrency is not None and not 1 <= flags.concurrency <= 1_000_000:
        raise UsageError(f"--concurrency: cannot be {clip(flags.concurrency)}\n  expected  1 to 1,000,000 users")
    return flags.concurrency


def _refuse_process(flags: RunFlags, reason: str) -> None:
    if flags.arrivals not in {None, "burst"} or flags.burstiness not in {None, 1}:  # 1: vLLM's default asks for nothing
        asked = f"--arrivals {flags.arrivals}" if flags.arrivals else f"--burstiness {flags.burstiness}"
        raise UsageError(f"{reason}: {asked} cannot be\n  expected  --rate R with an arrival process")


def _unpaced_note(users: int) -> str:
    return f"no rate, --concurrency {users}: a closed loop of {users} users"


def _cap_note(users: int) -> str:
    return (
        f"open loop: --concurrency {users} is a safety stop here, an arrival above it is dropped and makes the run "
        f"invalid; for a closed loop of {users} users leave --rate out"
    )
