"""Slobench itself: `slobench run`, with all defaults."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from peers import Load, Said, Tool


def _arguments(load: Load, url: str, folder: Path) -> list[str]:
    asked = ["--model", "tiny", "--api", "completions", "--arrivals", "poisson", "--rate", f"{load.rate:g}"]
    asked += ["--requests", str(load.requests), "--input-tokens", "64", "--output-tokens", str(load.tokens)]
    return ["run", "--target", url, *asked, "--out", str(folder / "run"), "--quiet"]


def _read(folder: Path) -> Said:
    columns = ["outcome", "scheduled_ns", "send_lag_s", "ttft_sent_s", "tpot_s"]
    everything = pq.read_table(folder / "run" / "requests.parquet").to_pandas()
    table = everything[everything["outcome"] == "ok"][columns]
    due_s = everything["scheduled_ns"] / 1e9
    run = json.loads((folder / "run" / "run.json").read_text())
    failed = [each["code"] for each in run["findings"] if each["level"] == "invalid"]
    return Said(
        start_s=(table["scheduled_ns"] / 1e9 + table["send_lag_s"]).to_numpy(),
        ttft_ms=table["ttft_sent_s"].to_numpy() * 1e3,
        tpot_ms=table["tpot_s"].to_numpy() * 1e3,
        lag_ms=table["send_lag_s"].to_numpy() * 1e3,
        due_span_s=float(due_s.max() - due_s.min()),
        verdict=" ".join(["INVALID", *failed] if failed else ["VALID"]),
    )


TOOL = Tool("slobench", Path(sys.executable).with_name("slobench"), _arguments, _read, distribution="slobench", first=3)
