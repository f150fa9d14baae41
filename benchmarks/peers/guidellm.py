"""GuideLLM's `guidellm run`. TTFT from the first byte sent; its inter-token latency is what others call TPOT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from peers import TOKENIZER, Load, Said, Tool, peer


def _arguments(load: Load, url: str, folder: Path) -> list[str]:
    return [
        *("run", "--disable-console"),
        *("--backend", f"kind=openai_http,target={url},model=tiny,request_format=/v1/completions"),
        *("--profile", f"kind=poisson,rate={load.rate:g}", "--constraint", f"kind=max_requests,count={load.requests}"),
        *("--tokenizer", f"kind=hf_auto,model={TOKENIZER}"),
        *("--data", f"kind=synthetic_text,prompt_tokens=64,output_tokens={load.tokens}"),
        *("--output", f"kind=json,path={folder / 'result.json'}"),
    ]


def _read(folder: Path) -> Said:
    found = json.loads((folder / "result.json").read_text())["benchmarks"][0]["requests"]["successful"]
    keys = ("request_start_time", "time_to_first_token_ms", "inter_token_latency_ms", "request_dispatch_delay")
    start, ttft, tpot, lag = np.array([[each[key] for key in keys] for each in found], dtype=np.float64).T
    return Said(start, ttft, tpot, lag * 1e3)


TOOL = Tool("GuideLLM", peer("guidellm", "guidellm"), _arguments, _read, distribution="guidellm")
