"""What a trial decides before anything is sent: folders, workers, shares of the safety stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slobench.config.slo import parse_slo
from slobench.config.target import SimTarget
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.experiment.setup import busy_workers, jobs_of
from slobench.experiment.trial import Trial, prepare_folder
from slobench.plan import build_plan
from slobench.wire.endpoint import Endpoint


def workload(loop: dict[str, Any]) -> Workload:
    """A hundred requests."""
    one = {"dist": "constant", "value": 4}
    arrivals = None if loop["mode"] == "closed" else {"process": "constant", "rate": 10}
    chat = {"arrivals": arrivals, "input_tokens": one, "output_tokens": one, "shared_prefix_tokens": 2}
    fields = {"name": "test", "requests": 100, "loop": loop, "classes": {"chat": chat}, "slo": ["ttft<500ms"]}
    return Workload.model_validate(fields)


@pytest.mark.parametrize(
    ("loop", "workers"),
    [
        ({"mode": "open"}, 16),
        ({"mode": "open", "max_in_flight": 8}, 1),
        ({"mode": "open", "max_in_flight": 2500}, 2),
        ({"mode": "closed", "users": 5}, 5),
        ({"mode": "closed", "users": 90}, 16),
    ],
)
def test_no_more_workers_than_have_something_to_do(loop: dict[str, Any], workers: int) -> None:
    """Of 16 that are free: a low safety stop is not split, and no worker is without a user."""
    assert busy_workers(workload(loop), 16) == workers


@pytest.mark.parametrize("workers", [1, 3, 7])
@pytest.mark.parametrize("stop", [7, 100, 1001])
def test_the_shares_of_the_safety_stop_add_up(tmp_path: Path, workers: int, stop: int) -> None:
    """Each worker has its share, no two differ by more than one, and the sum is what was asked for."""
    spec = workload({"mode": "open", "max_in_flight": stop})
    trial = Trial(spec, SimTarget(kind="sim"), tmp_path)
    endpoint = Endpoint(url="http://127.0.0.1:1", model="tiny")
    plan = build_plan(spec, 0)
    jobs = jobs_of(trial, plan, parse_slo(spec.slo, ("chat",)), endpoint, workers, 10_000, "0" * 16)
    shares = [job.max_in_flight for job in jobs]
    assert sum(shares) == stop
    assert max(shares) - min(shares) <= 1
    assert [job.worker for job in jobs] == list(range(workers))
    assert {job.limits["chat"][0][:2] for job in jobs} == {("ttft", 0.5)}
    assert {job.shared_prefix_tokens["chat"] for job in jobs} == {2}


def test_a_folder_with_a_run_in_it_is_not_touched_without_force(tmp_path: Path) -> None:
    """Exit 2 and nothing changed; with force our files go and others stay."""
    folder = tmp_path / "r"
    (folder / "spool").mkdir(parents=True)
    (folder / "spool" / "w0-starts-0.arrow").write_bytes(b"old")
    (folder / "run.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        prepare_folder(folder, force=False)
    assert (folder / "spool" / "w0-starts-0.arrow").exists()
    prepare_folder(folder, force=True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_file_in_the_place_of_the_folder_is_a_readable_error(tmp_path: Path) -> None:
    """Also with force: a file of the user's is never removed."""
    path = tmp_path / "r"
    path.write_text("mine")
    for force in (False, True):
        with pytest.raises(ConfigError, match="is a file"):
            prepare_folder(path, force=force)
    with pytest.raises(ConfigError, match="cannot make"):
        prepare_folder(path / "below", force=False)
    assert path.read_text() == "mine"
