"""A trace file read into the one schema, its format told by its first line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import orjson

from slobench.config.document import shown
from slobench.config.problems import clip, unknown
from slobench.errors import ConfigError
from slobench.workload.traces import azure, mooncake
from slobench.workload.traces.files import first_line
from slobench.workload.traces.schema import Trace
from slobench.workload.traces.table import split_header


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is told and read. `names`: the columns or keys of its first line that make it known."""

    read: Callable[..., Trace]
    about: str
    names: frozenset[str] = frozenset()


FORMATS: Mapping[str, Format] = {
    "azure": Format(
        azure.read, "Azure LLM inference, CSV: TIMESTAMP,ContextTokens,GeneratedTokens", frozenset(azure.COLUMNS)
    ),
    "mooncake": Format(
        mooncake.read,
        "Mooncake, JSON lines: timestamp (ms), input_length, output_length, hash_ids",
        frozenset(mooncake.KEYS),
    ),
    "timed-trace": Format(
        mooncake.read_timed, "vLLM timed_trace, JSON lines: as Mooncake, timestamp in s; never guessed"
    ),
}


def read_trace(path: Path | str, format: str = "auto", **options: Any) -> Trace:  # noqa: A002 (the flag's name)
    """Read a trace file or folder, plain or gzip; `auto` tells the format by its first line.

    Options are those of the format's reader. Raises ConfigError where nothing fits, with the formats, and for every
    fault of the file, with its line.
    """
    path = Path(path)
    name = format_of(path) if format == "auto" else format
    if name not in FORMATS:
        raise ConfigError(unknown("no trace format named", name, ["auto", *FORMATS]))
    reader = FORMATS[name].read
    known = [each for each in signature(reader).parameters if each != "path"]
    for option in options:
        if option not in known:
            raise ConfigError(unknown(f"format {name} has no option", option, known))
    return reader(path, **options)


def format_of(path: Path) -> str:
    """Tell the format of a file or folder; ConfigError with all of them where none fits."""
    line = first_line(path)
    found = _known_by(split_header(line) if line[:1] not in {b"{", b"["} else _keys(line))
    if found is None:
        raise ConfigError(
            f"{shown(path)}: no known trace format; it begins {clip(line[:60].decode('utf-8', 'replace'))}\n"
            + "\n".join(f"  {'expected' if at == 0 else '        '}  {row}" for at, row in enumerate(described()))
        )
    return found


def described() -> list[str]:
    """One line for each format: its name and what it looks like."""
    width = max(map(len, FORMATS))
    return [f"{name:<{width}}  {each.about}" for name, each in FORMATS.items()]


def _keys(line: bytes) -> Collection[str]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ()
    return value.keys() if isinstance(value, dict) else ()


def _known_by(names: Collection[str]) -> str | None:
    """The format of which most names are there."""
    fitting = [name for name, each in FORMATS.items() if each.names and each.names <= set(names)]
    return max(fitting, key=lambda name: len(FORMATS[name].names), default=None)
