"""What `vllm bench serve --save-result --save-detailed` writes (vllm 0.32, benchmarks/serve.py), and `.commands`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from slobench.config.slo import Slo
from slobench.errors import UsageError
from slobench.metrics.columns import BoolArray, number, seconds
from slobench.report.exports.rows import Window, load_of, model_of, users_of, utc
from slobench.report.view import RunView
from slobench.stats.quantiles import FloatArray

PERCENTILES = (0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)
_ENDPOINTS = {"completions": "openai", "chat": "openai-chat", "embeddings": "openai-embeddings"}


def document(view: RunView) -> dict[str, Any]:
    """Return the one flat object: the window's requests, by vLLM's definitions, with vLLM's percentiles.

    TTFT and E2EL count from the client's start; the time before it is in `queue_times`. UsageError for a run whose
    replies did not stream: vLLM's file has no form for them.
    """
    window = Window.of(view)
    lists = _requests(view, window)
    good = np.array([not error for error in lists["errors"]], dtype=np.bool_)
    if not good.any() and window.ok.any():
        raise UsageError("this run's replies did not stream\n  expected  --export llmd or csv, which need no tokens")
    values = _values(lists, good)
    counts = {
        "duration": window.length_s,
        "completed": int(good.sum()),
        "failed": int((~good).sum()),
        "total_input_tokens": int(np.array(lists["input_lens"])[good].sum()),
        "total_output_tokens": int(sum(lists["output_lens"])),
    }
    tokens_in, tokens_out = counts["total_input_tokens"], counts["total_output_tokens"]
    return {
        **_asked(view, len(good)),
        **counts,
        "request_throughput": counts["completed"] / window.length_s,
        "request_goodput": _goodput(view.slo, values, window.length_s),
        "output_throughput": tokens_out / window.length_s,
        "total_token_throughput": (tokens_in + tokens_out) / window.length_s,
        **lists,
        **_busiest_second(lists, good),
        "rtfx": 0.0,
        **{key: value for name, each in values.items() for key, value in _statistics(name, each).items()},
    }


def commands(view: RunView) -> dict[str, str]:
    """Return the sidecar that vLLM's CI reads beside the result: a server's and a client's command line.

    They name what was served and offered in vLLM's words; the settings that have none stay in run.json.
    """
    load = load_of(view)
    rate, users = view.at("plan", "rate"), users_of(view)
    lengths = [
        ("--random-input-len", load and load.input_tokens_mean),
        ("--random-output-len", load and load.output_tokens_mean),
    ]
    client = [
        "vllm", "bench", "serve", "--backend", _backend(view), "--model", model_of(view), "--dataset-name", "random",
        *(word for flag, mean in lengths if mean for word in (flag, f"{mean:.0f}")),
        "--num-prompts", str(view.at("plan", "rows") or 0),
        "--request-rate", f"{rate:.6g}" if rate and not users else "inf",
        *(("--max-concurrency", str(users)) if users else ()),
        "--seed", str(view.at("seed") or 0),
    ]  # fmt: skip
    asked = view.at("settings", "requested", "args") or {}
    server = ["vllm", "serve", model_of(view), *_flags(asked)]
    return {"server_command": shlex.join(server), "client_command": shlex.join(client)}


def _flags(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield from (f"--{flag}", str(value))


def _backend(view: RunView) -> str:
    return _ENDPOINTS.get(str(view.at("server", "api") or view.at("spec", "target", "talk", "api")), "openai")


def _asked(view: RunView, n: int) -> dict[str, Any]:
    rate, users = view.at("plan", "rate"), users_of(view)
    window = view.summary.window
    told = {  # as vLLM's --metadata: top-level strings
        "tool": "slobench",
        "tool_version": view.at("slobench"),
        "run": view.name,
        "plan_digest": view.at("plan", "digest"),
        "verdict": view.summary.verdict,
        "window_s": f"{window.start_s:.3f}-{window.end_s:.3f}",
    }
    return {
        "date": utc(view, 0.0, "%Y%m%d-%H%M%S"),
        "endpoint_type": _backend(view),
        "backend": _backend(view),
        "label": view.at("spec", "workload", "name"),
        "model_id": model_of(view),
        "tokenizer_id": model_of(view),
        "num_prompts": n,
        **{key: str(value) for key, value in told.items() if value is not None},
        "request_rate": rate if rate and not users else "inf",
        "burstiness": _burstiness(view),
        "max_concurrency": users,
    }


def _burstiness(view: RunView) -> float | None:
    """Shape of vLLM's gamma gaps, 1/cv²; None where classes differ or the process is another."""
    found = set()
    for spec in (view.at("spec", "workload", "classes") or {}).values():
        how = spec.get("arrivals") or {}
        cv = 1.0 if how.get("process") == "poisson" else how.get("cv") if how.get("process") == "gamma" else None
        found.add(1 / cv**2 if cv else None)
    return found.pop() if len(found) == 1 else None


def _requests(view: RunView, window: Window) -> dict[str, list[Any]]:
    """Return the lists with one entry a request; a failed one has no tokens, no times and its error."""
    requests, replies, rows = view.records.requests, window.replies, window.rows
    ok = window.ok & ~np.isnan((replies.first - replies.started)[rows])
    planned, counted = (number(requests, name)[rows] for name in ("input_tokens_planned", "input_tokens"))
    tokens = np.nan_to_num(replies.tokens[rows])
    ttft, e2e = (np.where(ok, x[rows], 0.0) for x in (replies.first - replies.started, replies.last - replies.started))
    outcome, error = requests["outcome"][rows], requests["error"][rows]
    waited = np.nan_to_num(np.maximum(replies.started - seconds(requests, "scheduled_ns"), 0.0))[rows]
    return {
        "input_lens": np.where(np.isnan(counted), planned, counted).astype(np.int64).tolist(),
        "output_lens": np.where(ok, tokens, 0).astype(np.int64).tolist(),
        "ttfts": ttft.tolist(),
        "itls": _gaps(window, ok),
        "latencies": e2e.tolist(),
        "start_times": np.nan_to_num(replies.started[rows]).tolist(),
        "queue_times": waited.tolist(),
        "generated_texts": [""] * len(rows),
        "errors": [
            "" if fine else f"{of}: {why}" if why else "no token" if of == "ok" else str(of)
            for fine, of, why in zip(ok.tolist(), outcome.tolist(), error.tolist(), strict=True)
        ],
    }


def _gaps(window: Window, ok: BoolArray) -> list[list[float]]:
    groups, gaps = window.replies.groups, window.replies.gap_s
    place = dict(zip(groups.row.tolist(), zip(groups.start.tolist(), groups.end.tolist(), strict=True), strict=True))
    found = []
    for row, fine in zip(window.rows.tolist(), ok.tolist(), strict=True):
        start, end = place.get(row, (0, 0))
        found.append(gaps[start + 1 : end].tolist() if fine else [])
    return found


def _values(lists: Mapping[str, Sequence[Any]], good: BoolArray) -> dict[str, FloatArray]:
    """Return the values that each statistic is of, in seconds."""
    ttft, e2e, waited = (np.array(lists[name])[good] for name in ("ttfts", "latencies", "queue_times"))
    tokens = np.array(lists["output_lens"])[good]
    several = tokens > 1
    pooled = [gap for gaps in lists["itls"] for gap in gaps]
    return {
        "ttft": ttft,
        "tpot": (e2e - ttft)[several] / (tokens[several] - 1),
        "itl": np.array(pooled),
        "e2el": e2e,
        "client_queue_time": waited,
        "e2el_including_client_queue": e2e + waited,
        "": np.where(several, (e2e - ttft) / np.maximum(tokens - 1, 1), 0.0),
    }


def _statistics(name: str, values: FloatArray) -> dict[str, float]:
    """Return mean, median, standard deviation and percentiles in ms, as numpy interpolates them; 0 without a value."""
    if not name:
        return {}
    ms = (values if len(values) else np.zeros(1)) * 1000
    at = zip(PERCENTILES, np.percentile(ms, PERCENTILES).tolist(), strict=True)
    return {
        f"mean_{name}_ms": float(ms.mean()),
        f"median_{name}_ms": float(np.median(ms)),
        f"std_{name}_ms": float(ms.std()),
        **{f"p{p:g}_{name}_ms": value for p, value in at},
    }


def _goodput(slo: Slo | None, values: Mapping[str, FloatArray], length_s: float) -> float | None:
    """Successes a second within the flat limits on TTFT, TPOT and E2E; None where the SLO has others, or none."""
    limits = slo.common.limits if slo else ()
    plain = all(limit.metric in {"ttft", "tpot", "e2e"} and not limit.per_token_s for limit in limits)
    if slo is None or not limits or not plain or slo.by_class:
        return None
    of = {"ttft": "ttft", "tpot": "", "e2e": "e2el"}
    good = np.ones(len(values["ttft"]), dtype=np.bool_)
    for limit in limits:
        good &= values[of[limit.metric]] <= limit.limit_s
    return float(good.sum()) / length_s


def _busiest_second(lists: Mapping[str, Sequence[Any]], good: BoolArray) -> dict[str, float]:
    """Return the most events and the most requests that touch one whole second from the first start on."""
    start, e2e = (np.array(lists[name])[good] for name in ("start_times", "latencies"))
    if not len(start):
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    start = start - start.min()
    seconds_of = int(np.ceil((start + e2e).max())) + 2
    firsts = np.array(lists["ttfts"])[good] + start
    kept = [gaps for gaps, fine in zip(lists["itls"], good.tolist(), strict=True) if fine]
    at = [np.cumsum([first, *gaps]) for first, gaps in zip(firsts.tolist(), kept, strict=True)]
    tokens = np.bincount(np.concatenate(at).astype(np.int64), minlength=seconds_of)
    change = np.zeros(seconds_of + 1, dtype=np.int64)
    np.add.at(change, start.astype(np.int64), 1)
    np.add.at(change, (start + e2e).astype(np.int64) + 1, -1)
    return {"max_output_tokens_per_s": float(tokens.max()), "max_concurrent_requests": int(np.cumsum(change).max())}
