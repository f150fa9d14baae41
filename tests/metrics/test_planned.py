"""A load that was planned to change: V07 says so, and accuses no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from slobench.config.arrivals import Arrivals, Hawkes, Poisson
from slobench.metrics.ask import Ask
from slobench.workload.arrivals import offsets_ns
from slobench.workload.variates import child

S = 10**9
RAMP = {"shape": "ramp", "from": 5.0, "to": 60.0, "over": "60s"}


def process(**fields: Any) -> Any:
    """An arrival process as a workload file gives it."""
    return TypeAdapter(Arrivals).validate_python(fields)


def findings(make: Callable[..., Any], offered: Any, **ask: Any) -> list[Any]:
    """What V07 finds of 60 s of a load that a server answers at once, always in 0.12 s."""
    due_s = offsets_ns(offered, n=None, horizon_ns=60 * S, rng=child(3, "arrivals")) / S
    run = make(due_s, ask=Ask(duration_s=60.0, **ask))
    return [finding for finding in run.evaluate().findings if finding.code == "V07"]


def test_a_ramp_that_is_known_is_no_overload(make: Callable[..., Any]) -> None:
    """In-flight grows with the load: told as planned, with the rates; of an unknown process it would be overload."""
    ramp = process(process="varying", rate=RAMP)
    (blind,) = findings(make, ramp)
    assert blind.level == "server"
    (told,) = findings(make, ramp, processes={"chat": ramp})
    assert told.level == "warning"
    assert "as the load was planned to change" in told.seen
    # The window leaves out a warm-up, so the lowest tenth is a little above the ramp's start.
    low, high = (float(word) for word in told.seen.split("planned to change: ")[1].split(" requests")[0].split(" to "))
    assert 5 < low < 15
    assert 50 < high < 60


def test_recorded_arrivals_count_as_they_are_planned(make: Callable[..., Any]) -> None:
    """A recording has no λ(t): the plan's own counts say that the load changed."""
    ramp = process(process="varying", rate=RAMP)
    (told,) = findings(make, ramp, recorded=frozenset({"chat"}))
    assert (told.level, "planned to change" in told.seen) == ("warning", True)


def test_a_pool_whose_files_are_gone_counts_as_it_is_planned(make: Callable[..., Any]) -> None:
    """A report elsewhere than the run: the folder cannot be read, the plan can."""
    pool = process(process="pool", folder="/nowhere", rate=20.0)
    (told,) = findings(make, process(process="varying", rate=RAMP), processes={"chat": pool})
    assert (told.level, "planned to change" in told.seen) == ("warning", True)


@pytest.mark.parametrize("level", [Poisson(rate=20), Hawkes(rate=20, branching=0.5, decay=1), None])
def test_a_level_load_is_judged_as_ever(make: Callable[..., Any], level: Any) -> None:
    """A server whose replies take ever longer is overloaded under a level load, and under a day seen through a minute."""
    offered = level or process(process="varying", rate={"shape": "diurnal", "mean": 20.0, "trough": 0.5})
    due_s = offsets_ns(offered, n=None, horizon_ns=60 * S, rng=child(3, "arrivals")) / S
    run = make(due_s, ask=Ask(duration_s=60.0, processes={"chat": offered}))
    for name in ("headers_ns", "first_token_ns", "first_output_ns", "last_token_ns", "end_ns"):
        run[name] = run[name] + np.linspace(0.0, 10.0, len(due_s)) * S
    (finding,) = [finding for finding in run.evaluate().findings if finding.code == "V07"]
    assert finding.level == "server"
    assert "OVERLOADED" in finding.seen
