"""Result files of other tools that hold every request: `vllm bench serve --save-detailed`, GuideLLM, AIPerf."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slobench.errors import ConfigError

FloatArray = NDArray[np.float64]
_TO_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
AIPERF_RECORDS, AIPERF_SUMMARY = "profile_export.jsonl", "profile_export_aiperf.json"


@dataclass(frozen=True, slots=True, eq=False)
class ForeignRun:
    """One run of another tool, one entry a request in order of its start; times in s, NaN = not there.

    start_s: on the tool's clock. ttft_s, e2e_s: from the tool's start of the request, which is when it was sent; e2e_s
    to the last token. tpot_s: time per output token after the first. offered: what it was asked to offer.
    """

    tool: str
    name: str
    start_s: FloatArray
    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    output_tokens: FloatArray
    ok: NDArray[np.bool_]
    offered: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def is_foreign(path: Path) -> bool:
    """Whether a path may be another tool's result."""
    return path.suffix in {".json", ".jsonl"} or (path / AIPERF_RECORDS).is_file()


def read_foreign(path: Path) -> list[ForeignRun]:
    """Read every run in a file (or AIPerf's folder).

    ConfigError where it is none, holds no single requests, or holds values of another kind than the tool writes.
    """
    try:
        return _read(path)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error}\n  expected  the file as the tool wrote it") from None


def _read(path: Path) -> list[ForeignRun]:
    if path.is_dir():
        return [_aiperf(path / AIPERF_RECORDS)]
    if path.name == AIPERF_SUMMARY and (path.parent / AIPERF_RECORDS).is_file():
        return [_aiperf(path.parent / AIPERF_RECORDS)]  # the summary's own rows are percentiles
    documents = list(_documents(path))
    first = documents[0] if documents else None
    if not isinstance(first, Mapping):
        raise _unknown(path)
    if first.get("kind") == "slobench-baseline":
        raise _no_requests(path, f"slobench gate NEW --baseline {path}, which needs none; or run folders")
    if "metadata" in first and "metrics" in first and "benchmarks" not in first:
        return [_aiperf(path)]
    if "benchmarks" in first:
        benchmarks = first["benchmarks"] or ()
        return [_guidellm(each, _numbered(path, k, len(benchmarks)), path) for k, each in enumerate(benchmarks)]
    if "request_throughput" in first or "ttfts" in first:
        return [_vllm(each, _numbered(path, k, len(documents)), path) for k, each in enumerate(documents)]
    if "input_config" in first or "schema_version" in first:
        raise _no_requests(path, f"AIPerf's {AIPERF_RECORDS} beside it, with every request")
    raise _unknown(path)


def _documents(path: Path) -> Iterator[Any]:
    """Yield the file's one JSON value, or those of its lines."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}\n  expected  a run folder or a result file") from None
    try:
        yield orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            documents = [orjson.loads(line) for line in data.splitlines() if line.strip()]
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"cannot read {path}: {error}\n  expected  JSON, or one JSON object a line") from None
        yield from documents


def _numbered(path: Path, k: int, n: int) -> str:
    return str(path) if n == 1 else f"{path}#{k + 1}"


def _unknown(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is no result that can be compared\n"
        "  expected  a run folder of slobench, or a file of `vllm bench serve --save-result --save-detailed`,\n"
        "            GuideLLM's benchmarks.json, or AIPerf's profile_export.jsonl"
    )


def _no_requests(path: Path, expected: str) -> ConfigError:
    return ConfigError(
        f"{path} holds no single requests, only statistics over all of them\n  expected  {expected}\n"
        "  why       an interval that allows for the dependence of requests cannot be made from percentiles"
    )


def _vllm(data: Mapping[str, Any], name: str, path: Path) -> ForeignRun:
    """Keys of vllm/benchmarks/serve.py: ttfts in s, 0 of a failed one; itls by request; errors, "" of a good one."""
    ttfts, itls, lens = data.get("ttfts"), data.get("itls"), data.get("output_lens")
    if not isinstance(ttfts, list) or not isinstance(itls, list) or not isinstance(lens, list) or not ttfts:
        raise _no_requests(path, "vllm bench serve --save-result --save-detailed")
    if not len(ttfts) == len(itls) == len(lens):
        raise ConfigError(f"{path}: ttfts, itls and output_lens differ in length\n  expected  one entry a request each")
    n = len(ttfts)
    errors = data.get("errors") or [""] * n
    tokens = _floats(lens)
    ok = np.array([not error for error in errors]) & (tokens > 0)
    ttft = np.where(ok, _floats(ttfts), np.nan)
    after_first = np.array([float(np.sum(each)) if each else np.nan for each in itls])
    starts = data.get("start_times")
    # Earlier versions kept no start: the order of the list is that of the sends.
    start = _floats(starts) if starts else np.arange(n) * float(data.get("duration") or n) / n
    asked = ("backend", "endpoint_type", "num_prompts", "request_rate", "burstiness", "max_concurrency")
    offered = {key: data[key] for key in asked if data.get(key) is not None}
    offered |= _lengths(data.get("input_lens"))
    told = ("model_id", "tokenizer_id", "label", "date")
    return _ordered(
        ForeignRun(
            "vllm", name, start, ttft, np.where(ok & (tokens > 1), after_first / np.maximum(tokens - 1, 1), np.nan),
            ttft + np.nan_to_num(after_first), np.where(ok, tokens, np.nan), ok, offered,
            {key: str(data[key]) for key in told if data.get(key) is not None},
        )
    )  # fmt: skip


def _guidellm(benchmark: Mapping[str, Any], name: str, path: Path) -> ForeignRun:
    """GuideLLM's requests by status; its ITL is the time per token after the first, its TPOT counts the first too."""
    requests = benchmark.get("requests")
    done = requests.get("successful") if isinstance(requests, Mapping) else None
    if not isinstance(requests, Mapping) or not done or not isinstance(done[0], Mapping):
        raise _no_requests(path, "GuideLLM's JSON with `requests` (its samples not left out)")
    rows = [(each, True) for each in done] + [(each, False) for each in requests.get("errored") or ()]
    start = np.array([_first(each, "request_start_time", "start_time") for each, _ in rows])
    ok = np.array([fine for _, fine in rows])
    ttft = np.array([_first(each, "time_to_first_token_ms") for each, _ in rows]) / 1e3
    tpot = np.array([_first(each, "inter_token_latency_ms") for each, _ in rows]) / 1e3
    tokens = np.array([_first(each, "output_tokens") for each, _ in rows])
    last = np.array([_last_token(each) for each, _ in rows])
    whole = np.array([_first(each, "request_latency") for each, _ in rows])
    config = benchmark.get("config")
    strategy = (config.get("strategy") if isinstance(config, Mapping) else None) or benchmark.get("scheduler") or {}
    offered: dict[str, Any] = {"strategy": strategy.get("type_", "")} if isinstance(strategy, Mapping) else {}
    offered |= {
        key: strategy[key]
        for key in ("rate", "streams", "max_concurrency")
        if isinstance(strategy, Mapping) and strategy.get(key)
    }
    offered |= _lengths(sorted(_first(each, "prompt_tokens") for each, _ in rows))
    return _ordered(
        ForeignRun(
            "guidellm", name, start, np.where(ok, ttft, np.nan), np.where(ok & (tokens > 1), tpot, np.nan),
            np.where(ok, np.where(np.isnan(last), whole, last - start), np.nan), np.where(ok, tokens, np.nan), ok,
            offered,
        )
    )  # fmt: skip


def _first(row: Mapping[str, Any], *keys: str) -> float:
    return next((float(row[key]) for key in keys if isinstance(row.get(key), int | float)), np.nan)


def _last_token(row: Mapping[str, Any]) -> float:
    info = row.get("info")
    timings = info.get("timings") if isinstance(info, Mapping) else None
    return _first(
        {**row, **(timings if isinstance(timings, Mapping) else {})}, "last_token_iteration", "last_token_time"
    )


def _aiperf(path: Path) -> ForeignRun:
    """AIPerf's records, one a line: metadata in epoch ns, metrics with their unit, and an error."""
    rows = [row for row in _documents(path) if isinstance(row, Mapping) and isinstance(row.get("metadata"), Mapping)]
    rows = [row for row in rows if row["metadata"].get("benchmark_phase", "profiling") == "profiling"]
    if not rows:
        raise _unknown(path)
    start = np.array([_first(row["metadata"], "request_start_ns") for row in rows]) / 1e9
    ok = np.array([not row.get("error") and not row["metadata"].get("was_cancelled") for row in rows])
    ttft, tpot, e2e, tokens, prompts = (
        np.array([_metric(row, key) for row in rows])
        for key in (
            "time_to_first_token", "inter_token_latency", "request_latency", "output_sequence_length",
            "input_sequence_length",
        )
    )  # fmt: skip
    return _ordered(
        ForeignRun(
            "aiperf", str(path), start, np.where(ok, ttft, np.nan), np.where(ok & (tokens > 1), tpot, np.nan),
            np.where(ok, e2e, np.nan), np.where(ok, tokens, np.nan), ok,
            {"num_prompts": len(rows), **_lengths(sorted(prompts.tolist()))},
        )
    )  # fmt: skip


def _metric(row: Mapping[str, Any], key: str) -> float:
    """One metric of a record, times in s; NaN where it is not there."""
    found = (row.get("metrics") or {}).get(key)
    if not isinstance(found, Mapping) or not isinstance(found.get("value"), int | float):
        return np.nan
    return float(found["value"]) * _TO_S.get(str(found.get("unit")), 1.0)


def _lengths(lengths: Sequence[float] | None) -> dict[str, Any]:
    """Sum up the prompts that were asked, so that others can be told from them."""
    if not lengths:
        return {}
    known = _floats(lengths)
    if np.isnan(known).all():
        return {}
    text = ",".join("" if np.isnan(each) else f"{each:.0f}" for each in known)
    return {
        "prompt tokens": round(float(np.nanmean(known)), 3),
        "prompt lengths": hashlib.sha256(text.encode()).hexdigest()[:12],
    }


def _floats(values: Sequence[Any]) -> FloatArray:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)


def _ordered(run: ForeignRun) -> ForeignRun:
    """Sort by start, which begins at 0. Raises ValueError where no request has a start, or not one for each."""
    order = np.argsort(run.start_s, kind="stable")
    columns = ("start_s", "ttft_s", "tpot_s", "e2e_s", "output_tokens", "ok")
    if np.isnan(run.start_s).all() or any(len(getattr(run, name)) != len(order) for name in columns):
        raise ValueError("not every request has a start")
    start, ttft, tpot, e2e, tokens, ok = (getattr(run, name)[order] for name in columns)
    return ForeignRun(
        run.tool, run.name, start - np.nanmin(start), ttft, tpot, e2e, tokens, ok, run.offered, run.settings
    )
