"""What was run, where and when, in a few lines: what a reader needs before the first number."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from slobench.config.arrivals import Arrivals, Process, mean_rate, traits
from slobench.errors import ConfigError
from slobench.metrics.summary import WindowText
from slobench.report import stopping, words
from slobench.report.hosts import clock_line
from slobench.report.view import RunView
from slobench.units import parse_duration_ns

Facts = tuple[tuple[str, str], ...]


def heading(view: RunView) -> str:
    """`chat on vllm (Qwen3-8B)`: workload, target, model."""
    workload = view.at("spec", "workload", "name") or view.name
    model = view.at("server", "model") or view.at("spec", "target", "talk", "model")
    target = view.at("spec", "target", "kind") or "target"
    return words.clean(f"{workload} on {target}" + (f" ({model})" if model and model != target else ""), 160)


def facts(view: RunView) -> Facts:
    """(name, value) of the run's identity, those that are known."""
    talk = view.at("spec", "target", "talk")
    talk = talk if isinstance(talk, Mapping) else {}
    rows = view.at("plan", "rows")
    digest = str(view.at("plan", "digest") or "").removeprefix("sha256:")
    found = (
        (
            "target",
            _joined(view.at("spec", "target", "kind"), view.at("server", "url") or view.at("spec", "target", "url")),
        ),
        ("model", view.at("server", "model") or talk.get("model")),
        ("API", _joined(talk.get("api"), None if talk.get("stream", True) else "not streaming")),
        ("classes", _classes(view)),
        ("load", _load(view)),
        ("plan", _joined(f"{rows:,} requests" if isinstance(rows, int) else None, digest[:12] or None, _seed(view))),
        ("window", window(view.summary.window, duration_s=view.at("run", "duration_s"))),
        ("stopping", stopping.in_words(view.run)),
        ("started", started(view)),
        ("client", _client(view)),
        ("machine", _machine(view)),
    )
    return tuple((name, words.clean(value, 200)) for name, value in found if value)


def notes(view: RunView) -> tuple[str, ...]:
    """Return what the trial remarked while it ran."""
    found = view.at("run", "notes")
    return tuple(words.clean(note, 1000) for note in found) if isinstance(found, list | tuple) else ()


def window(chosen: WindowText, *, duration_s: Any = None) -> str:
    """`4.2-56.1 s of 60 s, steady; chosen by E2E mean 1.8 s, p99 4.1 s of the whole run`."""
    span = f"{chosen.start_s:.1f}–{chosen.end_s:.1f} s"
    if isinstance(duration_s, int | float):
        span += f" of {duration_s:.1f} s"
    state = {True: "steady", False: "not steady", None: "steadiness not judged"}[chosen.steady]
    whole = ", the whole run" if chosen.whole_run else ""
    times = f"mean {words.seconds(chosen.mean_e2e_s)}, p99 {words.seconds(chosen.p99_e2e_s)}"
    mean = f"; chosen by E2E {times} of the whole run"
    return f"{span}{whole}, {state}{mean if chosen.mean_e2e_s is not None else ''}"


def started(view: RunView) -> str:
    """Return the wall-clock time of the run's start, UTC; "" where it was not anchored."""
    anchor, wall, start = (view.at("clock", key) for key in ("monotonic_ns", "wall_ns", "start_ns"))
    if not isinstance(wall, int):
        return ""
    offset = start - anchor if isinstance(start, int) and isinstance(anchor, int) else 0
    try:
        moment = datetime.fromtimestamp((wall + offset) / 1e9, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _joined(*parts: Any) -> str:
    return " · ".join(str(part) for part in parts if part not in {None, ""})


def _seed(view: RunView) -> str | None:
    seed = view.at("seed")
    return None if seed is None else f"seed {seed}"


def _client(view: RunView) -> str:
    workers, stamps = view.at("workers"), view.at("stamps")
    plural = "" if workers == 1 else "s"
    return _joined(
        f"slobench {view.at('slobench')}" if view.at("slobench") else None,
        f"{workers} worker{plural}" if isinstance(workers, int) else None,
        f"{stamps} receive stamps" if stamps else None,
        clock_line(view) or view.at("host", "cpu_model"),
    )


def _machine(view: RunView) -> str | None:
    use = view.summary.machine
    if use is None:
        return None
    return f"this run used {words.percent(use.share)} of what this machine can offer by its self-test ({use.of})"


def _classes(view: RunView) -> str:
    """`agent: chat, model lora-a, priority 1; embed: embeddings`: what classes have of their own on the wire."""
    classes = view.at("spec", "workload", "classes")
    said = []
    for name, spec in classes.items() if isinstance(classes, Mapping) else ():
        own = spec if isinstance(spec, Mapping) else {}
        names = (("", "api"), ("model ", "model"), ("priority ", "priority"))
        parts = [f"{word}{own[key]}" for word, key in names if own.get(key) is not None]
        said += [f"{name}: {', '.join(parts)}"] if parts else []
    return "; ".join(said)


def _load(view: RunView) -> str:
    """`open loop: chat poisson 3 sessions/s, code gamma 2 req/s` or `closed loop: 8 users`."""
    workload = view.at("spec", "workload")
    if not isinstance(workload, Mapping):
        return ""
    loop = workload.get("loop")
    if isinstance(loop, Mapping) and loop.get("mode") == "closed":
        return f"closed loop, {loop.get('users')} users"
    classes = workload.get("classes")
    if not isinstance(classes, Mapping):
        return ""
    kinds = [(name, spec.get("arrivals"), spec) for name, spec in classes.items() if isinstance(spec, Mapping)]
    duration = workload.get("duration")
    arrivals = [
        (name, _arrivals(how, "sessions/s" if spec.get("session") else "req/s", duration))
        for name, how, spec in kinds
        if isinstance(how, Mapping)
    ]
    alone = len(arrivals) == 1
    return "open loop, " + ", ".join(("" if alone else f"{name} ") + said for name, said in arrivals)


def _arrivals(how: Mapping[str, Any], unit: str, duration: object) -> str:
    """`gamma (cv 2) 12 req/s`, from what run.json holds; only the name of a process that this version does not know.

    Of a load that is meant to change: the rate is its average over the run.
    """
    try:
        process: Process = TypeAdapter(Arrivals).validate_python(how)
        rate = mean_rate(process, parse_duration_ns(duration) if isinstance(duration, str) else None)
    except (ValidationError, ConfigError):
        return str(how.get("process", ""))
    said = ", ".join(f"{key} {value}" for key, value in traits(process).items())
    return process.process + (f" ({said})" if said else "") + (f" {rate:.4g} {unit}" if rate else "")
