"""What benchmarks found, kept: one JSON line a measurement in benchmarks/history/NAME.jsonl, which is in git.

Every line has `date` (UTC), `commit` (and `+` where files differ from it), `machine` and `load_average`; the rest are
the figures of one benchmark, with their units in the names (`_us`, `_ms`, `_mb`, `_s`; `_ratio` has none).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slobench.records.provenance import host

FOLDER = Path(__file__).parent / "history"


def machine() -> dict[str, object]:
    """Return what figures depend on: processor, usable cores, kernel, Python."""
    facts = host()
    return {
        "cpu": facts["cpu_model"],
        "cores": facts["cpus_usable"],
        "kernel": facts["kernel"],
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """Return the short commit of this tree, with `+` where tracked code differs from it; None outside of git."""
    root = Path(__file__).parent.parent
    told = [["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno", "--", "slobench", "benchmarks/*.py"]]
    said = [subprocess.run(["git", *each], cwd=root, capture_output=True, text=True, check=False) for each in told]
    if said[0].returncode:
        return None
    return said[0].stdout.strip() + ("+" if said[1].stdout.strip() else "")


def append(name: str, figures: Mapping[str, object], folder: Path = FOLDER) -> dict[str, Any]:
    """Add a line to the history of benchmark `name`; return it."""
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load_average": round(os.getloadavg()[0], 1),
        **figures,
    }
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return line


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a history, oldest first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
