"""Is this machine, this target, this workload ready for a measurement, and what to fix where not."""

from __future__ import annotations

import resource
import shutil
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slobench.config.load import load_target, load_workload
from slobench.config.secrets import resolve_secrets
from slobench.config.target import RemoteTarget
from slobench.errors import SlobenchError
from slobench.experiment.telemetry import gpus_of, servers_of
from slobench.generate import native
from slobench.generate.pool import default_workers
from slobench.names import Exit
from slobench.records import ceiling
from slobench.records.provenance import host
from slobench.targets.preflight import preflight
from slobench.units import format_s

Level = Literal["ok", "warn", "fail"]

_FEW_FDS = 1024
_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_DISK_BYTES = 2 * 2**30
_MEMORY_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was seen, and what to do about it unless it is well."""

    name: str
    level: Level
    seen: str
    fix: str = ""
    exit: Exit = Exit.OK


def diagnose(target: str | None, workload: str | None, results: Path = Path("results")) -> list[Check]:
    """Run every check; nothing is started, and no token is generated."""
    facts = host()
    checks = [
        _python(),
        _cores(facts),
        _load(facts),
        _files(),
        _clock(facts),
        _stamps(),
        _receiver(),
        _memory(facts),
        _disk(results),
        _selftest(default_workers(local_target=True)),
    ]
    if workload is not None:
        checks.append(_attempt("workload", lambda: _workload(workload)))
    if target is not None:
        checks.append(_attempt("target", lambda: _target(target)))
        if checks[-1].level == "ok":
            checks += _telemetry(target)
    return checks


def codes(checks: list[Check]) -> set[Exit]:
    """Return the exit codes that hold; empty where nothing failed."""
    return {check.exit for check in checks if check.level == "fail"}


def lines(checks: list[Check]) -> Iterator[str]:
    """Word the checks, each fix below what it is for."""
    for check in checks:
        yield f"{check.level:4}  {check.name:9}  {check.seen}"
        if check.fix:
            yield from (f"{'':17}{line}" for line in check.fix.splitlines())


def _python() -> Check:
    version = sys.version.split()[0]
    return Check("python", "ok", f"{version} on {sys.platform}")


def _cores(facts: dict[str, Any]) -> Check:
    limit = facts["cgroup_cpus"]
    usable = facts["cpus_usable"] or facts["cpus"] or 1
    cores = min(usable, limit) if limit else usable
    seen = f"{cores:g} usable cores, {facts['cpu_model'] or 'CPU unknown'}"
    if cores < 2:
        return Check("cores", "warn", seen, "a local server and the load generator will take time from each other")
    return Check("cores", "ok", seen)


def _load(facts: dict[str, Any]) -> Check:
    busy, cores = facts["load_average"][0], facts["cpus_usable"] or facts["cpus"] or 1
    seen = f"load average {busy:.1f} on {cores} cores"
    if busy > cores / 2:
        return Check("load", "warn", seen, "stop what else runs here: it delays sends, and V01 and V03 will say so")
    return Check("load", "ok", seen)


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = hard == resource.RLIM_INFINITY
    seen = f"{soft} open files, {'no limit' if endless else hard} at most"
    if not endless and hard < _FEW_FDS:
        fix = f"ulimit -Hn 65536 as root: each request in flight needs one, so about {hard - 64} can be at once"
        return Check("files", "warn", seen, fix)
    return Check("files", "ok", f"{seen}: a run raises its own limit")


def _clock(facts: dict[str, Any]) -> Check:
    source = facts["clocksource"]
    start = time.perf_counter_ns()
    for _ in range(10_000):
        time.monotonic_ns()
    cost_ns = (time.perf_counter_ns() - start) / 10_000
    seen = f"{source or 'clock source unknown'}, {cost_ns:.0f} ns a reading"
    if source and source not in _GOOD_CLOCKS and cost_ns > 500:
        fix = "a slow clock costs time at every read: boot with clocksource=tsc where the CPU allows it"
        return Check("clock", "warn", seen, fix)
    return Check("clock", "ok", seen)


def _stamps() -> Check:
    if sys.platform != "linux":
        return Check("stamps", "warn", "no kernel receive stamps on this system", "times are taken in user space (V05)")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        client.settimeout(5)
        server, _ = listener.accept()
        with server:
            server.sendall(b"x")
            _, ancillary, _, _ = client.recvmsg(1, socket.CMSG_SPACE(struct.calcsize("@qq")))
    if not ancillary:
        return Check(
            "stamps", "warn", "the kernel does not stamp what it receives", "times are taken in user space (V05)"
        )
    return Check("stamps", "ok", "the kernel stamps what it receives")


def _receiver() -> Check:
    module, why = native.find()
    if module is None:
        fix = "pip install slobench again where there are a C compiler and Python's headers: a token then costs less"
        return Check("receiver", "ok", f"Python; no native module: {why}", fix)
    return Check("receiver", "ok", "native")


def _memory(facts: dict[str, Any]) -> Check:
    free = facts["memory_available_bytes"]
    if free < _MEMORY_BYTES:
        return Check("memory", "warn", f"{free / 2**30:.1f} GiB free", "free some: swapping shows as send lag")
    return Check("memory", "ok", f"{free / 2**30:.1f} GiB free")


def _disk(results: Path) -> Check:
    folder = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < _DISK_BYTES:
        return Check("disk", "warn", f"{free / 2**30:.1f} GiB free for {results}", "free some, or use --out")
    return Check("disk", "ok", f"{free / 2**30:.1f} GiB free for {results}")


def _selftest(workers: int) -> Check:
    """What this client can be believed for here, by its self-test."""
    found = ceiling.load()
    if found is None:
        fix = "slobench selftest (a minute): without it no run says how near it came to this machine's limits (V16)"
        return Check("selftest", "warn", "never made on this machine", fix)
    seen = (
        f"{found.requests_per_s:,.0f} requests/s, {found.tokens_per_s:,.0f} tokens/s, {found.streams:,.0f} streams "
        f"with {found.workers} worker{'s'[: found.workers > 1]} beside a local target"
    )
    if found.ttft_error_p99_s is not None:
        seen += f", TTFT error p99 {format_s(found.ttft_error_p99_s)}"
    why = ceiling.stale(found, workers, native.kind())
    if why:
        return Check("selftest", "warn", f"{seen}: made with {why}", "slobench selftest, once more")
    return Check("selftest", "ok", seen)


def _workload(name: str) -> str:
    loaded = load_workload(name)
    return f"{name} is well: {len(loaded.value.classes)} classes, from {loaded.path}"


def _target(name: str) -> str:
    target = load_target(name).value
    return preflight(target, resolve_secrets(target.talk))


def _telemetry(name: str) -> Iterator[Check]:
    """What would be sampled of the server: its metrics, where it runs already, and its GPUs."""
    target = load_target(name).value
    if isinstance(target, RemoteTarget):
        try:
            found, notes = servers_of(target, target.url, resolve_secrets(target.talk), known=False)
        except SlobenchError as error:
            yield _failed("metrics", error)
        else:
            kinds = ", ".join(f"{source.kind} at {url}" for url, source in found.items())
            what, _, fix = (notes[0] if notes else kinds or "not asked for").partition("; ")
            yield Check("metrics", "warn" if notes else "ok", what, fix)
    gpus = gpus_of(target)
    yield Check("gpus", "ok", ", ".join(gpu.model for gpu in gpus.sources) or f"none sampled: {gpus.absent}")


def _failed(name: str, error: SlobenchError) -> Check:
    what, _, rest = str(error).partition("\n")
    return Check(name, "fail", what, "\n".join(line.strip() for line in rest.splitlines()), error.exit)


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except SlobenchError as error:
        return _failed(name, error)
