"""The floor: fidelity/limclient.c, the least that any client must do; the ladder builds it, and says where."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from peers import Load, Said, Tool


def _arguments(load: Load, url: str, folder: Path) -> list[str]:
    port = url.rpartition(":")[2]
    return [port, f"{load.rate:g}", str(load.requests), str(load.tokens), str(folder / "floor.csv")]


def _read(folder: Path) -> Said:
    rows = list(csv.DictReader((folder / "floor.csv").open()))
    due_s, ttft, tpot, lag = (
        np.array([float(row[key]) for row in rows]) for key in ("due_ns", "ttft_ms", "tpot_ms", "lag_ms")
    )
    due_s /= 1e9
    return Said(due_s + lag / 1e3, ttft, tpot, lag, float(np.ptp(due_s)))


TOOL = Tool("floor", Path("limclient"), _arguments, _read, first=3)
