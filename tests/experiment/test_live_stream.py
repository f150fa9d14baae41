"""A stream of probes with real workers: one schedule, counts that are the records', and every probe a stored run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from slobench.config.load import load_target
from slobench.config.slo import parse_slo
from slobench.errors import ConfigError, TargetDiedError, TargetStartError, WorkerError
from slobench.experiment.live_stream import LiveStream, open_stream
from slobench.experiment.probed import Counts
from slobench.experiment.probes import store_probes
from slobench.experiment.stream import Probed
from slobench.names import Outcome
from slobench.plan import Plan
from slobench.records.store import Stored, load, read_plan, read_run_json
from slobench.segments import Start, build_segment
from tests.experiment.running import WORKER, report, until
from tests.experiment.streaming import CLASSES, SLO, ask, counted, gaps_s, moody, probe, workload
from tests.generate.mock_server import MockServer, after, at_once, never, with_status

PROBES = (
    probe(0, 60, 30, purpose="warmup"),
    probe(1, 90, 80, vr=True),
    probe(2, 200, 600, purpose="bracket", target=0.9),  # more than one in ten fails: given up
    probe(3, 70, 60, purpose="certify"),
)


@dataclass(frozen=True)
class Search:
    """What came of PROBES: as the stream said it, and as the folder holds it."""

    folder: Path
    probed: list[Probed]
    server: MockServer
    files_left: set[str]

    def stored(self, number: int) -> Stored:
        return load(self.path(number))

    def path(self, number: int) -> Path:
        return self.folder / f"probe-{number:02d}"


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def search(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    folder = tmp_path_factory.mktemp("search")
    with MockServer(moody, gap_s=gaps_s) as server:
        stream = open_stream(ask(folder, server.url, workers=request.param))
        done: list[Probed] = []
        with closing(stream):
            for one in PROBES:
                for _ in stream.step(one):
                    done += stream.finished()
            for _ in stream.drain():
                pass
            done += stream.finished()
        yield Search(folder, done, server, {path.name for path in folder.iterdir()})


def test_every_probe_ends_in_order_and_is_a_run(search: Search) -> None:
    """All of them, the warm-up too; nothing but them and the server's log is left."""
    assert [each.probe for each in search.probed] == list(PROBES)
    assert [each.curtailed for each in search.probed] == [False, False, True, False]
    assert search.files_left - {"server.log"} == {f"probe-{each.number:02d}" for each in PROBES}
    for each in PROBES:
        names = {path.name for path in search.path(each.number).iterdir()}
        assert {"run.json", "plan.parquet", "requests.parquet", "chunks.parquet", "telemetry.parquet"} <= names


def test_what_was_sent_is_what_was_planned_on_one_clock(search: Search) -> None:
    """Each segment is the plan of its seed and rate, and goes on where the one before it ended: its first arrival
    comes a gap of the process after the last one; nothing is sent early; the server saw every request once.
    """
    next_index, next_ns = 0, 0
    for each in search.probed:
        rate, number = each.probe.rate, each.probe.number
        settle = int(np.ceil(rate * 0.5))
        planned = build_segment(
            workload(), rate=rate, n=each.probe.n, settle=settle, seed=100 + number, vr=each.probe.vr, start=Start()
        )
        run = read_run_json(search.path(number))
        rows = search.stored(number).records.requests
        began_ns = round(run["probe"]["start_s"] * 1e9)
        assert run["probe"]["index"] == next_index
        assert each.digest == planned.plan.digest == run["probe"]["digest"]
        stored = Plan.from_arrow(read_plan(search.path(number)))
        if not each.curtailed:
            assert stored.digest == each.digest
            assert number == 0 or search.probed[number - 1].curtailed or began_ns == next_ns
        assert planned.plan.scheduled_ns is not None
        assert stored.index.tolist() == rows["index"].tolist()
        assert rows["scheduled_ns"].tolist() == planned.plan.scheduled_ns[stored.index].tolist()
        assert (rows["started_ns"] >= rows["scheduled_ns"]).all()
        next_index, next_ns = next_index + len(planned.plan), began_ns + planned.next.at_ns
    seen = sorted(one.index for one in search.server.seen)
    sent = [
        run["probe"]["index"] + index
        for run, rows in (
            (read_run_json(search.path(one.number)), search.stored(one.number).records.requests) for one in PROBES
        )
        for index in rows["index"].astype(int).tolist()
    ]
    assert sorted(set(seen)) == sorted(sent)


def test_live_counts_are_those_of_the_records(search: Search) -> None:
    """Every share of every batch, errors and means: what the search decided on can be worked out again."""
    kinds: set[str] = set()
    slo = parse_slo(SLO, CLASSES)
    for each in search.probed:
        stored = search.stored(each.probe.number)
        settling = read_run_json(search.path(each.probe.number))["probe"]["settling"]
        rows = np.flatnonzero(stored.records.requests["index"] >= settling)
        outcomes = stored.records.requests["outcome"][rows]
        kinds |= set(outcomes.tolist())
        counts = Counts(stored.records, stored.derived, rows, slo)
        if not each.curtailed:
            assert each.tallies == counts.tallies(counted(workload()))
            assert len(rows) == each.probe.n
        else:
            totals = {name: np.sum(tally, axis=0).tolist() for name, tally in each.tallies.items()}
            theirs = counts.tallies(counted(workload()))
            assert totals == {name: np.sum(tally, axis=0).tolist() for name, tally in theirs.items()}
        assert each.errors == int(np.sum(outcomes != Outcome.OK.value))
        assert each.mean_e2e_s == pytest.approx(counts.mean_s("e2e_s"), abs=1e-9)
        assert each.mean_ttft_s == pytest.approx(counts.mean_s("ttft_s"), abs=1e-9)
        assert each.mean_tpot_s == pytest.approx(counts.mean_s("tpot_s"), abs=1e-9)
        assert each.p99_e2e_s == pytest.approx(counts.quantile_s("e2e_s", 0.99), rel=0.025)  # a bin of the histogram
        assert 0 < each.good() < each.n()
    assert kinds == {Outcome.OK, Outcome.HTTP_ERROR, Outcome.CONNECTION, Outcome.TIMEOUT_TOTAL}


def test_a_report_of_a_probe_says_what_the_search_saw(search: Search) -> None:
    """`slobench report probe-NN`: the same good requests of the same population, and its files."""
    _, shown = report(search.path(1))
    probed = search.probed[1]
    assert (shown["slo"]["all"]["good"], shown["slo"]["all"]["n"]) == (probed.good(), probed.n())
    assert (search.path(1) / "report.html").exists()


def test_a_probe_that_was_given_up_holds_what_was_sent(search: Search) -> None:
    """Its plan ends with the last request that was sent; the next probe begins at once with new indices."""
    rows = search.stored(2).records.requests
    assert len(rows["index"]) < 0.5 * PROBES[2].rate + PROBES[2].n
    assert Outcome.UNSENT not in rows["outcome"].tolist()
    run = read_run_json(search.path(2))
    assert (run["run"]["stop"], run["plan"]["rows"]) == ("curtailed", len(rows["index"]))


def step_until_interrupted(stream: LiveStream, server: MockServer, *, times: int) -> None:
    """Ask to stop once 20 requests have come."""
    for _ in stream.step(probe(0, 50, 5000)):
        if len(server.seen) >= 20:
            stream._ask.asked.count = 1
    for _ in stream.drain():
        stream._ask.asked.count = times


def test_one_interrupt_waits_for_replies_and_keeps_them(tmp_path: Path) -> None:
    """The step ends, what is in flight ends by itself, and is stored."""
    with MockServer(after(0.3)) as server:
        with closing(open_stream(ask(tmp_path, server.url, workers=1))) as stream:
            step_until_interrupted(stream, server, times=1)
            assert stream.finished() == []
            assert list(stream.step(probe(1, 50, 100))) == []
        rows = load(tmp_path / "probe-00").records.requests
        assert len(rows["index"]) == len(server.seen)
    assert set(rows["outcome"].tolist()) == {Outcome.OK}
    assert read_run_json(tmp_path / "probe-00")["run"]["interrupted"] is True


def test_a_second_interrupt_ends_what_is_in_flight(tmp_path: Path) -> None:
    """Replies that would never come are cut."""
    with MockServer(never) as server:
        with closing(open_stream(ask(tmp_path, server.url, workers=2, timeout_ms=600_000))) as stream:
            step_until_interrupted(stream, server, times=2)
        rows = load(tmp_path / "probe-00").records.requests
    assert set(rows["outcome"].tolist()) == {Outcome.CUT}


def test_a_step_that_is_closed_gives_up_its_probe(tmp_path: Path) -> None:
    """Nothing more of it is sent, it never counts as finished, and the stream goes on with the next."""
    with MockServer(at_once) as server, closing(open_stream(ask(tmp_path, server.url, workers=1))) as stream:
        events = stream.step(probe(0, 50, 5000))
        for _ in events:
            if len(server.seen) >= 10:
                break
        events.close()  # type: ignore[attr-defined]
        sent = len(server.seen)
        for _ in stream.step(probe(1, 80, 20)):
            pass
        for _ in stream.drain():
            pass
        assert [each.probe.number for each in stream.finished()] == [1]
        assert len(server.seen) == sent + 40 + 20  # half a second of settling at 80/s


def test_a_target_that_dies_ends_the_search_and_keeps_what_was(tmp_path: Path) -> None:
    """TargetDiedError, with the rows until then stored as what they were."""
    asked = ask(tmp_path, "http://127.0.0.1:1", workers=1)
    asked = replace(asked, trial=replace(asked.trial, target=load_target("sim").value))
    stream = open_stream(asked)

    def offer_and_kill() -> None:
        for event in stream.step(probe(0, 40, 5000)):
            if getattr(event, "ended", 0) >= 10:
                assert stream._running.pid is not None
                psutil.Process(stream._running.pid).kill()

    with closing(stream), pytest.raises(TargetDiedError):
        offer_and_kill()
    run = read_run_json(tmp_path / "probe-00")
    assert run["run"]["target_died"] is True
    assert load(tmp_path / "probe-00").records.requests["outcome"].tolist().count("ok") >= 10


def test_gaps_and_deadlines_of_real_token_streams_are_judged_as_the_records_are(tmp_path: Path) -> None:
    """Against the engine, whose chunked streams the fastest reader takes: each share of each batch."""
    clauses = ("ttft<15ms", "tpot<8ms", "max_gap<9ms", "deadline(14ms, 7ms, share=80%)", "attainment>=90%")
    asked = ask(tmp_path, "http://127.0.0.1:1", workers=1, slo=clauses)
    asked = replace(asked, trial=replace(asked.trial, target=load_target("sim-reference").value))
    with closing(open_stream(asked)) as stream:
        for _ in stream.step(probe(0, 60, 100)):
            pass
        for _ in stream.drain():
            pass
        (probed,) = stream.finished()
    stored = load(tmp_path / "probe-00")
    rows = np.flatnonzero(stored.phase == "main")
    counts = Counts(stored.records, stored.derived, rows, parse_slo(clauses, CLASSES))
    assert probed.tallies == counts.tallies(asked.counted)
    assert probed.n() == 100


def test_a_killed_worker_ends_the_search(tmp_path: Path) -> None:
    """WorkerError: half of the load is not the load; what it had begun is lost, the rest is stored."""

    def offer_and_kill() -> None:
        for _ in stream.step(probe(0, 50, 5000)):
            if len(server.seen) >= 20:
                psutil.Process(stream._pool.pids[0]).kill()

    with MockServer(after(0.1)) as server, closing(open_stream(ask(tmp_path, server.url, workers=2))) as stream:
        with pytest.raises(WorkerError, match="generator process 0 was lost: killed by signal 9"):
            offer_and_kill()
        sent = len(server.seen)
    outcomes = load(tmp_path / "probe-00").records.requests["outcome"].tolist()
    assert {Outcome.OK, Outcome.LOST} <= set(outcomes) <= {Outcome.OK, Outcome.LOST, Outcome.CUT}
    assert len(outcomes) >= sent


def test_a_killed_search_leaves_no_process_and_its_probes_can_be_stored(tmp_path: Path) -> None:
    """SIGKILL of the parent: the workers flush and end; what was sent is stored later, the half probe too."""
    folder = tmp_path / "search"
    with MockServer(moody, gap_s=gaps_s) as server:
        command = [sys.executable, "-m", "tests.experiment.streaming", str(folder), server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None
            ended = [int(process.stdout.readline()) for _ in range(2)]
            children = psutil.Process(process.pid).children(recursive=True)
            assert any(WORKER in " ".join(each.cmdline()) for each in children)
            process.send_signal(signal.SIGKILL)
        until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in children), "end")
        sent = {seen.index for seen in server.seen}
    made = store_probes(folder)
    assert not (folder / "spool").exists()
    assert [path.name for path in made][:2] == [f"probe-{number:02d}" for number in ended] == ["probe-00", "probe-01"]
    runs = [read_run_json(path) for path in made]
    known = {
        run["probe"]["index"] + int(index)
        for run, path in zip(runs, made, strict=True)
        for index in load(path).records.requests["index"]
    }
    assert sent <= known
    assert runs[0]["run"]["interrupted"] is False
    assert runs[-1]["run"]["interrupted"] is True
    assert store_probes(folder) == []


def test_a_stream_that_does_not_start_leaves_nothing_behind(tmp_path: Path) -> None:
    """No server there: its error, and the folder as it was."""
    with pytest.raises(TargetStartError):
        open_stream(ask(tmp_path / "search", "http://127.0.0.1:1", workers=1))
    assert [path.name for path in (tmp_path / "search").iterdir() if path.name != "server.log"] == []


def test_requests_that_the_server_cannot_hold_are_refused(tmp_path: Path) -> None:
    """Longer than the server's context: one error, as before a run."""
    with MockServer(with_status(500)) as server, closing(open_stream(ask(tmp_path, server.url, workers=1))) as stream:
        stream._running.endpoint = replace(stream._running.endpoint, max_model_len=50)
        with pytest.raises(ConfigError, match="longer than the server's context of 50 tokens"):
            next(iter(stream.step(probe(0, 50, 100))))
