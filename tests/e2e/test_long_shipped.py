"""Each shipped workload, unchanged but for its length, offered to the simulated target."""

from __future__ import annotations

from pathlib import Path

import pytest

from slobench.config.find import names
from slobench.plan import Plan
from slobench.records.store import read_plan
from tests.e2e.conftest import run

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", names("workload"))
def test_twenty_seconds_of_a_shipped_workload(name: str, tmp_path: Path) -> None:
    """It runs to its end, whatever the machine makes of its validity: every request that was due is answered."""
    done = run(tmp_path / "run", "sim", name, "--duration", "20s")
    assert done.code in (0, 3, 4), done.err
    planned = len(Plan.from_arrow(read_plan(done.folder)))
    outcomes = done.column("outcome")
    assert len(outcomes) == planned
    assert set(outcomes) <= {"ok", "unsent", "cancelled"}
    assert outcomes.count("ok") > 0
