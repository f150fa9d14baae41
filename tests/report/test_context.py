"""The lines that say what was run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slobench.metrics.summary import MachineUse
from slobench.report.context import facts
from slobench.report.summary import to_json
from tests.report.fixtures import run_json, view

SPIKE = {"shape": "spike", "base": 1.0, "peak": 4.0, "at": "90s", "hold": "1m"}


@pytest.mark.parametrize(
    ("arrivals", "duration", "said"),
    [
        ({"process": "varying", "rate": SPIKE}, "20s", "varying (shape spike) 1 req/s"),
        ({"process": "varying", "rate": SPIKE}, "150s", "varying (shape spike) 2.2 req/s"),
        ({"process": "poisson", "rate": 5.0447123}, "20s", "poisson 5.045 req/s"),
        ({"process": "burst"}, None, "burst"),
        ({"process": "of another version"}, "20s", "of another version"),
    ],
)
def test_the_load_is_that_of_the_run(arrivals: dict[str, object], duration: str | None, said: str) -> None:
    """The rate of a load that changes is its average over the run, with four digits; unknown processes have a name."""
    run = run_json()
    run["spec"]["workload"] |= {"classes": {"chat": {"arrivals": arrivals}}, "duration": duration}
    assert dict(facts(view(run=run)))["load"] == f"open loop, {said}"


def test_a_run_says_how_much_of_its_machine_it_used() -> None:
    """In the report, and for programs; where the machine was not tested, neither has a word of it."""
    plain = view()
    used = replace(plain, summary=replace(plain.summary, machine=MachineUse(0.631, "tokens/s")))
    assert (
        dict(facts(used))["machine"]
        == "this run used 63.1 % of what this machine can offer by its self-test (tokens/s)"
    )
    assert to_json(used)["machine_use"] == {"share": 0.631, "of": "tokens/s"}
    assert "machine" not in dict(facts(plain))
    assert "machine_use" not in to_json(plain)
