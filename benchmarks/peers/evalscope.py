"""EvalScope's `evalscope perf`. TTFT from before the send; TPOT ends with the stream's last event."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from peers import TOKENIZER, Load, Said, Tool, only, peer


def _arguments(load: Load, url: str, folder: Path) -> list[str]:
    return [
        *("perf", "--model", "tiny", "--url", f"{url}/v1/completions", "--api", "openai"),
        *("--dataset", "random", "--tokenizer-path", str(TOKENIZER), "--stream", "--no-test-connection"),
        *("--min-prompt-length", "64", "--max-prompt-length", "64"),
        *("--max-tokens", str(load.tokens), "--min-tokens", str(load.tokens)),
        *("--rate", f"{load.rate:g}", "--open-loop", "-n", str(load.requests), "--parallel", "1"),
        *("--outputs-dir", str(folder / "result")),
    ]


def _read(folder: Path) -> Said:
    asked = "SELECT start_time, first_chunk_latency, time_per_output_token FROM result WHERE success = 1"
    with closing(sqlite3.connect(only(folder, "result/**/benchmark_data.db"))) as database:
        found = np.array(database.execute(asked).fetchall(), dtype=np.float64).reshape(-1, 3)
    start, ttft, tpot = found.T
    return Said(start, ttft * 1e3, tpot * 1e3)


TOOL = Tool("EvalScope perf", peer("evalscope", "evalscope"), _arguments, _read, distribution="evalscope", first=1)
