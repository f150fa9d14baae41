"""Plans with every arrival process: the same on any machine, for any number of workers, whatever classes stand beside."""

from __future__ import annotations

import numpy as np
import pytest

from slobench.config.workload import Workload
from slobench.plan import build_plan
from slobench.report.plan import describe, render
from tests.workload.processes import LEVEL, VARYING

LENGTHS = {"input_tokens": {"dist": "constant", "value": 8}, "output_tokens": {"dist": "constant", "value": 8}}
ALL = LEVEL | VARYING


def workload(names: list[str], **extent: object) -> Workload:
    """A class for each process."""
    classes = {name: LENGTHS | {"arrivals": ALL[name]} for name in names}
    return Workload.model_validate({"name": "all", "classes": classes, "drain": {"mode": "cut"}, **extent})


def due(plan, name: str) -> list[int]:
    """When a class's requests are due."""
    return plan.scheduled_ns[plan.class_code == plan.class_names.index(name)].tolist()


def test_a_class_does_not_depend_on_the_others() -> None:
    """Each class has the same arrivals alone, with all others, and in another order."""
    together = build_plan(workload(list(ALL), duration="60s"), 3)
    turned = build_plan(workload(list(ALL)[::-1], duration="60s"), 3)
    for name in ALL:
        alone = due(build_plan(workload([name], duration="60s"), 3), name)
        assert due(together, name) == alone, name
        assert due(turned, name) == alone, name


@pytest.mark.parametrize("workers", [2, 7])
def test_workers_share_the_plan_out(workers: int) -> None:
    """Whatever their number, their rows together are the plan, each once."""
    plan = build_plan(workload(list(ALL), duration="30s"), 3)
    shards = [plan.shard(worker, workers) for worker in range(workers)]
    index = np.concatenate([shard.index for shard in shards])
    order = np.argsort(index)
    assert index[order].tolist() == plan.index.tolist()
    assert np.concatenate([shard.scheduled_ns for shard in shards])[order].tolist() == plan.scheduled_ns.tolist()


def test_the_first_requests_are_those_of_a_longer_plan() -> None:
    """By number of requests over all classes."""
    longer = build_plan(workload(list(ALL), requests=3000), 3)
    shorter = build_plan(workload(list(ALL), requests=700), 3)
    assert shorter.scheduled_ns.tolist() == longer.scheduled_ns[:700].tolist()
    assert shorter.class_code.tolist() == longer.class_code[:700].tolist()


def test_the_digest_is_the_same_on_every_machine() -> None:
    """As it was where this was written."""
    assert build_plan(workload(list(ALL), duration="60s"), 3).digest == DIGEST


def test_the_plan_tells_process_rate_gaps_and_counts() -> None:
    """Asked beside planned: rate, cv, and variance over mean of counts in 1, 10 and 60 s where there is a formula."""
    asked = workload(["mmpp", "ramp"], duration="25m")
    facts = describe(build_plan(asked, 3), asked, 3)
    mmpp, ramp = facts.classes["mmpp"], facts.classes["ramp"]
    assert mmpp.process == "mmpp (states 3)"
    assert mmpp.rate_asked == pytest.approx((2 * 6 + 20 * 2 + 5 * 3) / 11)
    assert mmpp.dispersion_asked.keys() == mmpp.dispersion_planned.keys() == {"1s", "10s", "60s"}
    for width, value in mmpp.dispersion_asked.items():
        # 1,500, 150 and 25 windows: a chi-square's relative error, half as much again for windows that are alike
        bins = 1500 / float(width[:-1])
        assert mmpp.dispersion_planned[width] == pytest.approx(value, rel=6 * 1.5 * np.sqrt(2 / bins))
    assert ramp.rate_asked == pytest.approx((10 * 100 + 18 * 1400) / 1500, rel=1e-3)
    assert (ramp.cv_asked, ramp.dispersion_asked) == (None, {})
    text = render(facts)
    assert "arrive  varying (shape ramp)" in text
    assert "counts  variance/mean" in text
    assert max(map(len, text.splitlines())) <= 80


DIGEST = "af1ce8a1f56861e65f2d01030651758cc5af72854faf51d11688c8b5ee417391"
