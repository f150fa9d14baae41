"""The sharing of a recording, replayed in real time at the simulated engine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from slobench.metrics.told import measured_hit_rate
from slobench.plan import Plan
from slobench.records.store import load, read_plan
from slobench.workload.sharing import hits
from tests.e2e.conftest import Run, argv
from tests.workload.traces.test_real import real

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def workload(folder: Path, recorded: dict[str, object]) -> str:
    path = folder / "replay.yaml"
    path.write_text(yaml.safe_dump({"name": "replay", "classes": {"a": {"recorded": recorded}}}))
    return str(path)


def offered(folder: Path, target: str, *arguments: str) -> Run:
    """Run the command to its end, which may take longer than other tests'."""
    done = subprocess.run(argv(folder, target, arguments), capture_output=True, text=True, timeout=800, check=False)
    return Run(done.returncode, done.stdout, done.stderr, folder)


def test_the_sharing_of_mooncake_is_found(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Lengths and blocks a 32nd of the recorded ones: a prefix cache behind HTTP finds what was reckoned, within 0.2 %.

    The simulated engine's cache; tests/e2e/test_mooncake_vllm.py asks a real one.
    """
    path = real("mooncake/conversation_trace.jsonl")
    recorded = {"file": str(path), "to": "10m", "keep": 0.25, "speed": 10, "arrivals": "spread"}
    spec = workload(tmp_path, recorded | {"scale_tokens": 1 / 32, "max_tokens": 2000})
    done = offered(tmp_path / "run", "sim", spec)
    assert done.code in (0, 3), done.err
    assert set(done.column("outcome")) == {"ok"}
    plan = Plan.from_arrow(read_plan(done.folder))
    assert plan.contents is not None
    planned = hits(plan.contents, plan.input_tokens, 16)
    measured = measured_hit_rate(load(done.folder).records)
    assert measured is not None
    record_property("hit rate planned, measured", f"{planned.token_hit_rate:.4f}, {measured.share:.4f}")
    assert planned.token_hit_rate > 0.1
    assert measured.share == pytest.approx(planned.token_hit_rate, abs=0.002)
