"""What a report says of the hosts that offered the load, and of the requests that were lost with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from slobench.report import html, markdown
from slobench.report.build import ask_of
from slobench.report.context import facts
from slobench.report.hosts import hosts_table
from slobench.report.outcomes import lost_requests
from tests.report.fixtures import run_json, view


def seat(worker: int, **changes: Any) -> dict[str, Any]:
    """A worker on a host of its own."""
    place = {"worker": worker, "host": f"host-{worker}", "node": f"0{worker}ab", "nice": 0, "offset_ns": 7 * 10**12}
    return place | {"round_trip_ns": 600_000, "error_ns": 310_000, "drift_ns": -20_000} | changes


def test_a_run_on_one_host_has_no_table_of_hosts() -> None:
    """Nor a word of clocks."""
    assert hosts_table(view()) is None
    assert "Hosts that offered" not in markdown.render(view()) + html.render(view())
    assert "Ray" not in dict(facts(view()))["client"]


def test_each_worker_of_a_cluster_is_a_row() -> None:
    """With its requests, its lost ones, and how far its clock is known; what was not measured is absent."""
    lost = seat(1, host="<b>evil</b>", error_ns=1_250_000, drift_ns=None)
    run = run_json(hosts=[seat(0), lost])
    run["run"] = {**run.get("run", {}), "workers_lost": {"1": "its node died"}}
    shown = view(run=run)
    requests: Mapping[str, Any] = shown.records.requests
    requests["worker"][:] = np.arange(len(requests["worker"])) % 2
    requests["outcome"][:] = np.where(requests["worker"] == 0, "ok", requests["outcome"])
    requests["outcome"][[1, 3, 5]] = "lost"
    table = hosts_table(shown)
    assert table is not None
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first[:3] == ["0", "host-0", "00ab"]
    assert first[4:] == ["0", "±0.310 ms", "-0.020 ms"]
    assert second[4:] == ["3", "±1.250 ms", "–"]
    assert table.rows[1][4].tone == "bad"
    assert "2 nodes of a Ray cluster, clocks known to ±1.250 ms" in dict(facts(shown))["client"]
    page = html.render(shown)
    assert "Hosts that offered the load" in page
    assert "<b>evil</b>" not in page


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ([], ""),
        ([4], "4"),
        ([4, 6, 8, 10], "4, 6, 8, 10"),
        ([2, 3, 4, 7, 9, 10], "2–4, 7, 9–10"),
        (list(range(0, 60, 2)), ", ".join(map(str, range(0, 40, 2))) + " and 10 more"),
    ],
)
def test_lost_requests_are_listed_by_index(lost: list[int], said: str) -> None:
    """Runs of them as spans, no more than twenty; those of another worker are not among them."""
    outcome = np.full(80, "ok", dtype="<U9")
    outcome[lost] = "lost"
    outcome[79] = "lost"
    worker = np.zeros(80, dtype=np.int32)
    worker[79] = 1
    requests = {"index": np.arange(80), "outcome": outcome, "worker": worker}
    assert lost_requests(requests, 0) == said
    assert lost_requests(requests, 1) == "79"


def test_the_worst_clock_of_each_host_is_judged() -> None:
    """Of two workers on one host the larger error; nothing where the load came from here."""
    from slobench.config.slo import parse_slo
    from slobench.config.workload import Workload
    from tests.generate.generating import open_workload

    workload: Workload = open_workload({"process": "burst"}, 3)
    run = run_json(hosts=[seat(0, host="a"), seat(1, host="a", error_ns=2_000_000), seat(2, host="b")])
    assert ask_of(run, workload, parse_slo((), ())).clocks == {"a": 0.002, "b": 0.00031}
    assert ask_of(run_json(), workload, parse_slo((), ())).clocks == {}
