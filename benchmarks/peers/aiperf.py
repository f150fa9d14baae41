"""AIPerf's `aiperf profile`. TTFT from before the send; its inter-token latency is what others call TPOT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from peers import Load, Said, Tool, only, peer


def _arguments(load: Load, url: str, folder: Path) -> list[str]:
    return [
        *("profile", "--model", "tiny", "--url", url, "--endpoint-type", "completions"),
        *("--streaming", "--tokenizer", "ladder/tokenizer", "--use-server-token-count"),
        *("--request-rate", f"{load.rate:g}", "--arrival-pattern", "poisson", "--request-count", str(load.requests)),
        *("--synthetic-input-tokens-mean", "64", "--output-tokens-mean", str(load.tokens)),
        *("--extra-inputs", "ignore_eos:true", "--num-dataset-entries", "100"),
        *("--artifact-dir", str(folder / "result"), "--ui", "none", "--no-auto-plot"),
    ]


def _read(folder: Path) -> Said:
    lines = only(folder, "result/**/profile_export.jsonl").read_text().splitlines()
    good = [each for each in map(json.loads, lines) if not each.get("error")]
    start = np.array([each["metadata"]["request_start_ns"] for each in good], dtype=np.float64) / 1e9
    ttft, tpot = (
        np.array([each["metrics"].get(key, {}).get("value", np.nan) for each in good], dtype=np.float64)
        for key in ("time_to_first_token", "inter_token_latency")
    )
    return Said(start, ttft, tpot)


TOOL = Tool("AIPerf", peer("aiperf", "aiperf"), _arguments, _read, distribution="aiperf", first=1)
