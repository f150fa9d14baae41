"""vLLM's `vllm bench serve`. TTFT from before the request is built, TPOT from the first token to the last."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from peers import ROOT, TOKENIZER, Load, Said, Tool, only

ENVIRONMENT = Path(os.environ.get("SLOBENCH_VLLM_ENV", ROOT / ".venv-vllm"))


def _arguments(load: Load, url: str, folder: Path) -> list[str]:
    return [
        *("bench", "serve", "--backend", "openai", "--base-url", url, "--model", "tiny"),
        *("--tokenizer", str(TOKENIZER), "--dataset-name", "random", "--random-input-len", "64"),
        *("--random-output-len", str(load.tokens), "--num-prompts", str(load.requests)),
        *("--request-rate", f"{load.rate:g}", "--ignore-eos", "--disable-tqdm", "--ready-check-timeout-sec", "0"),
        *("--save-result", "--save-detailed", "--result-dir", str(folder / "result")),
    ]


def _read(folder: Path) -> Said:
    found = json.loads(only(folder, "result/*.json").read_text())
    rows = zip(found["start_times"], found["ttfts"], found["itls"], found["errors"], strict=True)
    good = [(start, ttft, np.mean(gaps) if gaps else np.nan) for start, ttft, gaps, error in rows if not error]
    start, ttft, tpot = np.array(good, dtype=np.float64).reshape(-1, 3).T
    return Said(start, ttft * 1e3, tpot * 1e3)


TOOL = Tool("vllm bench serve", ENVIRONMENT / "bin" / "vllm", _arguments, _read, distribution="vllm", first=1)
