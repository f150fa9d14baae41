"""A trace file read into the one schema, its format told by its first line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import orjson

from slobench.config.document import shown
from slobench.config.problems import clip, unknown
from slobench.errors import ConfigError
from slobench.workload.traces import (
    aiperf,
    azure,
    bailian,
    burstgpt,
    mooncake,
    otel,
    own,
    run,
    servegen,
    sharegpt,
    vidur,
    vllm_log,
)
from slobench.workload.traces.files import first_line, opened
from slobench.workload.traces.schema import Trace
from slobench.workload.traces.table import split_header


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is told and read. `names`: the columns or keys of its first line that make it known."""

    read: Callable[..., Trace]
    about: str
    names: frozenset[str] = frozenset()


FORMATS: Mapping[str, Format] = {  # of those whose names fit, the one with most of them; then the first
    own.FORMAT: Format(own.read, 'our own, JSON lines; begins {"slobench_trace": 1}', frozenset({own.MARK})),
    "slobench": Format(run.read, "the folder of a run of slobench"),
    "azure": Format(azure.read, "Azure LLM, CSV: TIMESTAMP,ContextTokens,GeneratedTokens", frozenset(azure.COLUMNS)),
    "burstgpt": Format(
        burstgpt.read,
        "BurstGPT, CSV: Timestamp,…,Model,Request tokens,Response tokens,…,Log Type",
        frozenset(burstgpt.COLUMNS),
    ),
    "aiperf": Format(
        aiperf.read, "AIPerf sessions, JSON lines: session_id, input_length, output_length, …", frozenset(aiperf.KEYS)
    ),
    "mooncake": Format(
        mooncake.read,
        "Mooncake, JSON lines: timestamp (ms), input_length, output_length, hash_ids",
        frozenset(mooncake.KEYS),
    ),
    "timed-trace": Format(
        mooncake.read_timed, "vLLM timed_trace, JSON lines as Mooncake's, timestamp in s; never guessed"
    ),
    "bailian": Format(
        bailian.read, "Qwen-Bailian, JSON lines: chat_id, parent_chat_id, timestamp (s), …", frozenset(bailian.KEYS)
    ),
    "servegen": Format(servegen.read, "the folder of a ServeGen pool: chunk-N-trace.csv, chunk-N-dataset.json"),
    "sharegpt": Format(
        sharegpt.read, "ShareGPT, JSON: [{conversations: [{from, value}, …]}, …]", frozenset({"conversations"})
    ),
    "vidur": Format(
        vidur.read, "Vidur, CSV: [arrived_at,]num_prefill_tokens,num_decode_tokens", frozenset(vidur.VIDUR)
    ),
    "splitwise": Format(
        vidur.read_splitwise,
        "splitwise-sim, CSV: arrival_timestamp, prompt_size, token_size, …",
        frozenset(vidur.SPLITWISE),
    ),
    "vllm-log": Format(vllm_log.read, "a vLLM server's log: Received request ID: params: SamplingParams(…)"),
    "otel": Format(otel.read, "OpenTelemetry spans with gen_ai.* attributes, JSON (OTLP or {spans: […]})"),
}
_FROM_0 = {"seed", "from_ns", "to_ns"}
_FIRST_BYTES, _LOG_BYTES = 1 << 16, 1 << 22
_KEY = re.compile(r'"([A-Za-z_]\w*)"\s*:')
_SPANS = frozenset({"resourceSpans", "resource_spans", "spans", "span_id", "spanId"})


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
    return reader(path, **_checked(name, reader, options))


def _checked(name: str, reader: Callable[..., Trace], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a reader, whole numbers and numbers above 0 (what counts from 0: from 0 up), or names."""
    known = {key: each.annotation for key, each in signature(reader).parameters.items() if key != "path"}
    checked = dict(options)
    for option, value in options.items():
        if option not in known:
            raise ConfigError(unknown(f"format {name} has no option", option, [*known]))
        if known[option].startswith("Sequence"):
            checked[option] = value.split(",") if isinstance(value, str) else value
            continue
        kinds = {"int": (int,), "float": (int, float)}[known[option].split(" ")[0]]
        least = 0 if option in _FROM_0 else 1e-9
        if type(value) not in kinds or not least <= value < 2**64:
            what = f"a {'whole ' if kinds == (int,) else ''}number {'from 0 up' if least == 0 else 'above 0'}"
            raise ConfigError(f"option {option} of format {name} is {clip(value)}\n  expected  {what}")
    return checked


def format_of(path: Path) -> str:
    """Tell the format of a file or folder; ConfigError with all of them where none fits."""
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for a name too long)
        if run.is_run(path):
            return "slobench"
        if any(path.glob("chunk-*-trace.csv")):
            return "servegen"
        raise _unknown(path, "holds no run and no client pool")
    line = first_line(path)
    names = _keys(path, line) if line[:1] in {b"{", b"["} else split_header(line)
    fitting = [name for name, each in FORMATS.items() if each.names and each.names <= set(names)]
    if not fitting and _SPANS & set(names):
        return "otel"
    if not fitting and _is_log(path):
        return "vllm-log"
    if not fitting:
        raise _unknown(path, f"begins {clip(line[:60].decode('utf-8', 'replace'))}")
    return max(fitting, key=lambda name: len(FORMATS[name].names))


def described() -> list[str]:
    """One line for each format: its name and what it looks like."""
    width = max(map(len, FORMATS))
    return [f"{name:<{width}}  {each.about}" for name, each in FORMATS.items()]


def _is_log(path: Path) -> bool:
    """Whether a request is logged in the first part of a file, behind all that a server says as it starts."""
    with opened(path) as file:
        return vllm_log.MARK.search(file.read(_LOG_BYTES)) is not None


def _unknown(path: Path, seen: str) -> ConfigError:
    rows = [f"  {'' if at else 'expected':<8}  {row}" for at, row in enumerate(described())]
    return ConfigError(f"{shown(path)}: no known trace format; it {seen}\n" + "\n".join(rows))


def _keys(path: Path, line: bytes) -> Collection[str]:
    """The keys of the first JSON object: of the first line, else of a document over many lines."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        with opened(path) as file:
            return _KEY.findall(file.read(_FIRST_BYTES).decode("utf-8", "replace"))
    first = next(iter(value), None) if isinstance(value, list) else value
    return first.keys() if isinstance(first, dict) else ()
