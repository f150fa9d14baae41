"""What a run was made on and with: the machine, the versions; and secrets kept out of what is stored."""

from __future__ import annotations

import os
import platform
import re
import ssl
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

import slobench

PACKAGES = (
    *("aiohttp", "httptools", "numpy", "orjson", "pandas", "prometheus-client", "psutil"),
    *("pyarrow", "pydantic", "rich", "scipy", "typer", "uvloop"),
)
REDACTED = "***"

_SECRET_KEYS = re.compile(
    r"(proxy-)?authorization|(set-)?cookie|(x-)?api[-_]?key|.*[-_](api[-_]?key|token|secret|password)|password|secret",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


def host() -> dict[str, Any]:
    """This machine: CPU, memory, kernel, limits, clock source, load now. What it does not tell is None."""
    memory = psutil.virtual_memory()
    return {
        "hostname": platform.node(),
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_usable": _cpus_usable(),
        "cpu_governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "cgroup_cpus": _cgroup_cpus(),
        "cgroup_memory_bytes": _cgroup_memory_bytes(),
        "clocksource": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "load_average": list(os.getloadavg()),
        "open_files_limit": _open_files_limit(),
    }


def versions() -> dict[str, str]:
    """Versions of slobench, Python, OpenSSL and every package of the core that is installed."""
    found = {"slobench": slobench.__version__, "python": sys.version.split()[0], "openssl": ssl.OPENSSL_VERSION}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def redact(value: Any, secrets: Collection[str] = ()) -> Any:
    """A copy of JSON-like data without secrets.

    Removed wherever they stand in a string or a key: `secrets` (as given and percent-encoded), user and password
    of URLs, `Bearer ...` and `Basic ...`. Removed whole: values under keys that name a credential, e.g.
    `Authorization`, `api_key`. A secret of less than 4 characters is removed only where it is the whole string:
    taking every "a" out would leave nothing readable.
    """
    spellings = {spelling for secret in secrets for spelling in (secret, quote(secret, safe="")) if secret}
    return _redact(value, sorted(spellings, key=len, reverse=True))  # a secret that holds another goes first


def secrets_in(value: Any) -> set[str]:
    """Every credential in JSON-like settings: strings under keys, or after command-line flags, that name one."""
    found: set[str] = set()
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and _SECRET_KEYS.fullmatch(key) and isinstance(item, str):
                found.add(item)
            else:
                found |= secrets_in(item)
    elif isinstance(value, list | tuple):
        words = [item if isinstance(item, str) else "" for item in value]
        for word, following in pairwise([*words, ""]):
            flag, equals, inline = word.partition("=")
            if flag.startswith("-") and _SECRET_KEYS.fullmatch(flag.lstrip("-")):
                found.add(inline if equals else following)
        for item in value:
            found |= secrets_in(item)
    return found - {""}


def _redact(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return _redact_text(value, secrets)
    if isinstance(value, bytes):
        return _redact_text(value.decode("utf-8", "replace"), secrets)
    if isinstance(value, Mapping):
        return {
            _redact(key, secrets): REDACTED
            if isinstance(key, str) and _SECRET_KEYS.fullmatch(key) and isinstance(item, str) and item
            else _redact(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(item, secrets) for item in value]
    return value


def _redact_text(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, REDACTED)
        elif text == secret:
            return REDACTED
    text = _USER_INFO.sub(f"{REDACTED}@", text)
    return _BEARER.sub(rf"\1 {REDACTED}", text)


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _cpu_model() -> str | None:
    """The model's name; ARM kernels name it in no field, there it is None."""
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        key, _, name = line.partition(":")
        if key.strip().lower() in {"model name", "cpu model"}:
            return name.strip()
    return platform.processor() or None


def _cpus_usable() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count()


def _cgroup_limits(name: str) -> list[str]:
    """What version 2 sets for this process's group and each group above it; the tightest one holds."""
    path = ""
    for line in (_text("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            path = line[3:]
    inner = Path("/sys/fs/cgroup" + path)
    folders = [inner, *inner.parents][: len(inner.parts) - 3]  # down to /sys/fs/cgroup
    return [limit for folder in folders if (limit := _text(f"{folder}/{name}"))]


def _cgroup_cpus() -> float | None:
    """CPUs' worth of time that the group may use; None: no limit."""
    pairs = [limit.split() for limit in _cgroup_limits("cpu.max")]
    if not pairs:
        version_1 = "/sys/fs/cgroup/cpu/cpu.cfs_"
        pairs = [[_text(f"{version_1}quota_us") or "max", _text(f"{version_1}period_us") or "0"]]
    shares = [int(pair[0]) / int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdigit() and pair[1] != "0"]
    return min(shares, default=None)


def _cgroup_memory_bytes() -> int | None:
    limits = _cgroup_limits("memory.max") or [_text("/sys/fs/cgroup/memory/memory.limit_in_bytes") or "max"]
    # Version 1 spells "no limit" as nearly 2**63.
    return min((int(limit) for limit in limits if limit.isdigit() and int(limit) < 2**60), default=None)


def _open_files_limit() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
