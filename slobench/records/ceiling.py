"""What this machine can offer by its own test: a small file for each machine, made by a self-test, read by every run.

The file is `ceilings/MACHINE.json` in $XDG_STATE_HOME/slobench (default ~/.local/state/slobench), where MACHINE is
a hash of what the ceiling depends on: the machine and how much of it this process may use.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

import slobench
from slobench.errors import RecordsError
from slobench.records.provenance import host

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that `workers` generator processes of this machine could offer while all checks passed.

    Each of the three was reached with little of the other two. version: of slobench; measured: UTC, ISO 8601.
    """

    machine: str
    workers: int
    requests_per_s: float
    tokens_per_s: float
    streams: float  # requests in flight at once
    version: str = ""
    measured: str = ""
    ttft_error_p99_s: float | None = None  # largest of the three, against the null server's own log
    receiver: str = ""  # native or python

    def __post_init__(self) -> None:
        limits = (self.workers, self.requests_per_s, self.tokens_per_s, self.streams)
        if not all(isinstance(limit, int | float) and limit > 0 for limit in limits):
            raise RecordsError(f"a ceiling of {limits}\n  expected  four positive numbers")

    def to_dict(self) -> dict[str, Any]:
        """For the file and for run.json."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ceiling:
        """Back from the file or run.json. Raises RecordsError where it is not one."""
        try:
            absent = {"ttft_error_p99_s": None, "receiver": ""}  # of files from before it was kept
            return cls(**{name: {**absent, **values}[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise RecordsError(f"a ceiling without {error.args[0]!r}\n  expected  all of its values") from None


def stale(ceiling: Ceiling, workers: int, receiver: str) -> str:
    """Why a ceiling is not that of `workers` processes of this machine and version with this receiver; "": it is."""
    if ceiling.machine != machine_id():
        return "another machine"
    if ceiling.version != slobench.__version__:
        return f"slobench {ceiling.version or 'of an unknown version'}, and this is {slobench.__version__}"
    if ceiling.workers != workers:
        return f"{ceiling.workers} worker{'s'[: ceiling.workers > 1]}, and a run here has {workers}"
    if ceiling.receiver != receiver:
        return f"the {ceiling.receiver or 'unknown'} receiver, and this is the {receiver} one"
    return ""


def machine_id() -> str:
    """16 hex digits that stand for this machine and what this process may use of it; they tell neither."""
    facts = host()
    name = next(filter(None, map(_first_line, ("/etc/machine-id", "/var/lib/dbus/machine-id"))), facts["hostname"])
    parts = (name, facts["cpu_model"], facts["cpus"], facts["cpus_usable"], facts["cgroup_cpus"])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def path_of(machine: str) -> Path:
    """Where a machine's ceiling is kept."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG base directory specification: a relative path there is to be ignored.
    root = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"  # noqa: PTH117 (a string)
    return root / "slobench" / "ceilings" / f"{machine}.json"


def save(ceiling: Ceiling) -> Path:
    """Write a ceiling, whole or not at all; return its file. Raises RecordsError where it cannot be written."""
    path = path_of(ceiling.machine)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(orjson.dumps(ceiling.to_dict(), option=orjson.OPT_INDENT_2))
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise RecordsError(f"cannot write {path}: {error.strerror}\n  expected  a folder that can be written") from None
    return path


def load(machine: str | None = None) -> Ceiling | None:
    """This machine's ceiling; None where it was never tested, or where the file cannot be used."""
    path = path_of(machine or machine_id())
    try:
        values = orjson.loads(path.read_bytes())
        return Ceiling.from_dict(values) if isinstance(values, dict) and values.get("schema") == SCHEMA else None
    except (OSError, RuntimeError, orjson.JSONDecodeError, RecordsError):
        return None  # a run goes on without it, as on a machine that was never tested


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
