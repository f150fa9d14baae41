"""Inference-perf. TTFT from before the send.

Its TPOT divides by tokens that its tokenizer counts in the text, here twice as many as were sent; its own times are
divided by the server's number instead, which is its favour.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from peers import TOKENIZER, Load, Said, Tool, only, peer


def _arguments(load: Load, url: str, folder: Path) -> list[str]:
    def length(tokens: int) -> dict[str, int]:
        return {"min": tokens, "max": tokens, "mean": tokens, "std_dev": 0, "total_count": 1000}

    # It takes a duration, not a number of requests.
    stage = {"rate": load.rate, "duration": max(1, round(load.requests / load.rate))}
    settings = {
        "load": {"type": "poisson", "stages": [stage]},
        "api": {"type": "completion", "streaming": True},
        "server": {"type": "vllm", "model_name": "tiny", "base_url": url, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": str(TOKENIZER)},
        "data": {"type": "random", "input_distribution": length(64), "output_distribution": length(load.tokens)},
        "report": {"request_lifecycle": {"summary": True, "per_stage": True, "per_request": True}},
        "storage": {"local_storage": {"path": str(folder / "result")}},
    }
    (folder / "settings.yml").write_text(yaml.safe_dump(settings))
    return ["-c", str(folder / "settings.yml")]


def _read(folder: Path) -> Said:
    found = json.loads(only(folder, "result/**/per_request_lifecycle_metrics.json").read_text())
    rows = []
    for each in found:
        answer = each["info"].get("response_metrics")
        if each["error"] or not answer or not answer["output_token_times"]:
            continue
        start, times = each["start_time"], answer["output_token_times"]
        tokens = answer["server_usage"]["completion_tokens"]
        rows.append((start, times[0] - start, (times[-1] - times[0]) / (tokens - 1) if tokens > 1 else np.nan))
    start_s, ttft_s, tpot_s = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Said(start_s, ttft_s * 1e3, tpot_s * 1e3)


TOOL = Tool(
    "inference-perf",
    peer("inference-perf", "inference-perf"),
    _arguments,
    _read,
    distribution="inference-perf",
    first=1,
)
