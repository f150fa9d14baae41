"""Users as a stream: closed loops on one running target, and what their records say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from slobench.config.load import load_target
from slobench.config.workload import ClosedLoop
from slobench.errors import TargetDiedError
from slobench.experiment.stream import Probed
from slobench.experiment.trial_stream import open_trials, with_users
from slobench.names import Outcome
from slobench.records.store import load, read_run_json
from tests.experiment.running import report
from tests.experiment.streaming import ask, counted, gaps_s, moody, probe, workload
from tests.generate.mock_server import MockServer, after

PROBES = (probe(0, 2, 30, purpose="bracket"), probe(1, 5, 60))


@dataclass(frozen=True)
class Search:
    """Two numbers of users, one after the other."""

    folder: Path
    probed: list[Probed]
    most_in_flight: int


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    folder = tmp_path_factory.mktemp("users")
    done: list[Probed] = []
    with MockServer(moody, gap_s=gaps_s) as server, closing(open_trials(ask(folder, server.url, workers=2))) as stream:
        for one in PROBES:
            for _ in stream.step(one):
                assert stream.finished() == []
            done += stream.finished()
        assert list(stream.drain()) == []
        yield Search(folder, done, server.most_in_flight)


def test_each_probe_is_a_closed_loop_of_its_users(search: Search) -> None:
    """So many users, never more at once, each with turns enough, and a stored run."""
    assert [each.probe for each in search.probed] == list(PROBES)
    assert search.most_in_flight == 5
    for each in search.probed:
        folder = search.folder / f"probe-{each.probe.number:02d}"
        run = read_run_json(folder)
        assert run["spec"]["workload"]["loop"]["users"] == each.probe.rate
        assert run["plan"]["digest"] == each.digest
        assert not (folder / "spool").exists()
        assert len(np.unique(load(folder).records.requests["session"])) == each.probe.rate
        assert max(each.in_flight) <= each.probe.rate * (1 + 1e-9)  # means of exact integrals, rounded


def test_what_the_search_is_told_is_what_the_report_says(search: Search) -> None:
    """The same good requests of the same window."""
    _, shown = report(search.folder / "probe-01")
    probed = search.probed[1]
    assert (shown["slo"]["all"]["good"], shown["slo"]["all"]["n"]) == (probed.good(), probed.n())
    assert set(probed.tallies) == {each.name for each in counted(workload())}
    assert 0 < probed.good() < probed.n()
    batches = probed.tallies["ok"]
    assert len(batches) == 10
    assert max(n for _, n in batches) - min(n for _, n in batches) <= 1
    assert probed.errors == probed.n("ok") - probed.good("ok") > 0


def test_classes_keep_their_proportions_and_users_their_turns() -> None:
    """Shares follow the nominal rates; a user has ten turns at least, and so many that about n come after the first."""
    made = with_users(workload(), users=7, n=300, warmup_ns=10**9)
    assert made.loop == ClosedLoop(users=7)
    assert {name: spec.share for name, spec in made.classes.items()} == {"chat": 2, "batch": 1}
    assert made.requests == 7 * (43 + 4)
    assert with_users(workload(), users=500, n=300, warmup_ns=0).requests == 500 * 14


def test_an_interrupt_ends_the_loop_and_its_result_does_not_count(tmp_path: Path) -> None:
    """What was in flight ends, its run is stored, and the search is not told of it."""
    with MockServer(after(0.1)) as server, closing(open_trials(ask(tmp_path, server.url, workers=1))) as stream:
        for _ in stream.step(probe(0, 4, 4000)):
            if len(server.seen) >= 12:
                stream._ask.asked.count = 1
        assert stream.finished() == []
        assert list(stream.step(probe(1, 4, 40))) == []
    outcomes = load(tmp_path / "probe-00").records.requests["outcome"].tolist()
    assert {Outcome.OK, Outcome.UNSENT} == set(outcomes)
    assert read_run_json(tmp_path / "probe-00")["run"]["interrupted"] is True


def test_a_step_that_an_interrupt_closes_waits_for_its_replies(tmp_path: Path) -> None:
    """The search closes the step when it hears of the interrupt: the loop ends in good order and is stored."""
    with MockServer(after(0.1)) as server, closing(open_trials(ask(tmp_path, server.url, workers=1))) as stream:
        events = stream.step(probe(0, 4, 4000))
        for _ in events:
            if len(server.seen) >= 12:
                stream._ask.asked.count = 1
                break
        events.close()  # type: ignore[attr-defined]
    outcomes = load(tmp_path / "probe-00").records.requests["outcome"].tolist()
    assert {Outcome.OK, Outcome.UNSENT} == set(outcomes)


def test_a_target_that_dies_ends_the_search(tmp_path: Path) -> None:
    """TargetDiedError, with no process left."""
    asked = ask(tmp_path, "http://127.0.0.1:1", workers=1)
    asked = replace(asked, trial=replace(asked.trial, target=load_target("sim").value))
    stream = open_trials(asked)

    def offer_and_kill() -> None:
        for event in stream.step(probe(0, 2, 4000)):
            if getattr(event, "ended", 0) >= 10:
                assert stream._running.pid is not None
                psutil.Process(stream._running.pid).kill()

    with closing(stream), pytest.raises(TargetDiedError):
        offer_and_kill()
    assert not [each for each in psutil.Process().children(recursive=True) if "slobench" in " ".join(each.cmdline())]
