"""The self-test: its search, its loads, how a level is judged, one short run of it, and what doctor makes of the result."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import slobench
from slobench.config.target import NullTarget
from slobench.experiment import doctor, selftest
from slobench.experiment.events import Step
from slobench.experiment.selftest import Envelope, Ladder, Settings, long, opened, run_selftest, short
from slobench.experiment.selftest_step import Bench, Offered, Ran, Seen, seen, ttft_error_s
from slobench.generate import native
from slobench.generate.pool import default_workers
from slobench.records import ceiling
from slobench.records.ceiling import Ceiling
from slobench.records.schema import Records

MS = 10**6
TARGET = NullTarget.model_validate({"kind": "null-server", "first_token": "5ms", "gap": "10ms", "step": "5ms"})


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ceilings of this test are kept apart from those of the user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def climb(ladder: Ladder, limit: float) -> int:
    """Try levels against a machine that holds up to `limit`; how many it took."""
    tried = 0
    while (level := ladder.next()) is not None:
        ladder.note(level, held=level <= limit)
        tried += 1
        assert tried < 60
    return tried


@given(limit=st.floats(60, 1e6), ratio=st.floats(1.05, 2))
def test_the_search_ends_within_its_ratio_below_the_limit(limit, ratio):
    """What it returns held, and what failed lies no more than `ratio` above."""
    ladder = Ladder(400, ratio)
    climb(ladder, limit)
    assert ladder.low is not None
    assert ladder.high is not None
    assert ladder.low <= limit < ladder.high <= ladder.low * ratio


def test_the_search_gives_up_where_nothing_holds():
    """Three levels below the first, not for ever."""
    ladder = Ladder(400, 1.15)
    assert climb(ladder, 1) == 4
    assert ladder.low is None


def test_loads_are_what_they_say():
    """Rates, tokens and streams of the loads, and how their parts end."""
    what = short(1000, 4)
    assert abs(len(what.offered.due_ns) - 4000) < 4 * 4000**0.5  # a Poisson count
    assert (np.diff(what.offered.due_ns) >= 0).all()
    what = long(8000, 100, 2)
    streams = what.offered.output_tokens > 2
    assert streams.sum() == 80
    assert what.span_s == (0.8, 2.8)
    ends_ns = what.offered.due_ns[streams] + what.offered.output_tokens[streams] * 10 * MS
    assert np.ptp(ends_ns) <= 10 * MS
    slow = opened(100, 5)
    assert len(slow.due_ns) == 500
    ends_s = slow.due_ns / 1e9 + slow.output_tokens - 1
    assert ends_s.min() >= 5  # all were open then
    assert np.allclose(np.diff(ends_s), 0.01)  # and are ended one after another


def made(error_s: float = 0.0, late_s: float = 0.0, lag_s: float = 0.0) -> Ran:
    """A step of 500 requests in 1 s as a client with such faults would have recorded it."""
    n = 500
    offered = Offered(np.arange(n) * 2 * MS, np.full(n, 2))
    sent = offered.due_ns + lag_s * 1e9
    recv, first = sent + 50_000, sent + 8 * MS
    last = first + 10 * MS + late_s * 1e9
    requests = {
        "index": np.arange(n),
        "class": np.full(n, "selftest"),
        "outcome": np.full(n, "ok"),
        "scheduled_ns": offered.due_ns.astype(float),
        "started_ns": sent.astype(float),
        "connected_ns": sent.astype(float),
        "sent_ns": sent.astype(float),
        "first_token_ns": first + 50_000 + error_s * 1e9,
        "first_output_ns": first + 50_000 + error_s * 1e9,
        "last_token_ns": last + error_s * 1e9,
        "end_ns": last + error_s * 1e9,
        **{name: np.full(n, 2.0) for name in ("output_tokens", "output_tokens_planned", "chunks")},
        **{name: np.full(n, np.nan) for name in ("reasoning_tokens", "first_chunk_tokens")},
        **{name: np.zeros(n) for name in ("first_token_error_ns", "connection_new", "http_status")},
    }
    requests["input_tokens_planned"] = np.full(n, 32.0)
    empty = np.empty(0)
    chunks = {name: empty.astype(np.int64) for name in ("index", "t_ns", "bytes", "channel", "lag_ns")}
    chunks |= {"tokens": empty, "coalesced": empty.astype(bool)}
    telemetry = {"t_ns": empty, "value": empty, **{name: empty.astype(str) for name in ("source", "name", "labels")}}
    truth = np.column_stack([recv + 10**15, first + 10**15])  # another zero of the clock: only differences count
    return Ran(offered, Records(requests, chunks, telemetry), truth, 0.1)


@pytest.mark.parametrize(
    ("faults", "grade", "why"),
    [
        ({}, "good", ""),
        ({"error_s": 0.002}, "usable", ""),
        ({"error_s": 0.02}, "past", "TTFT error p99"),
        ({"late_s": 0.2}, "past", "0.0 % of replies on time"),
        ({"lag_s": 0.03}, "past", "V01"),
    ],
)
def test_a_level_is_judged_by_what_the_client_did_to_it(faults, grade, why, tmp_path):
    """TTFT error, replies behind their schedule and send lag each spoil a level, and it says which."""
    found = seen(Bench(TARGET, None, 1, tmp_path), made(**faults), "requests", 500, (0.0, 1.0))
    assert found.grade == grade
    assert why in found.why


def test_a_busy_null_server_is_named_where_a_level_fails(tmp_path):
    """Its one core may be what gave out; at a level that held it is of no interest."""
    bench = Bench(TARGET, None, 1, tmp_path)
    failed = seen(bench, replace(made(late_s=0.2), server_cpu=0.97), "tokens", 500, (0.0, 1.0))
    held = seen(bench, replace(made(), server_cpu=0.97), "tokens", 500, (0.0, 1.0))
    assert "the null server used 97 % of a core" in failed.why
    assert held.why == ""


def test_the_ttft_error_is_what_the_client_adds():
    """Recorded TTFT from the send, minus receipt to first write at the server; unseen ones are unknown."""
    ran = made(error_s=0.003)
    ran.truth[0] = np.nan
    error_s = ttft_error_s(ran.records.requests, ran.truth)
    assert np.isnan(error_s[0])
    assert error_s[1:] == pytest.approx(0.003 + 1e-4, abs=1e-6)


def test_a_short_self_test_measures_every_kind_and_leaves_nothing_running():
    """Each kind is tried at least once, replies are found in the null server's log, and no process is left."""
    settings = Settings({"requests": 0.0, "tokens": 0.0, "streams": 0.0}, span_s=0.5, tries=1)
    *events, envelope = run_selftest(1, settings)
    assert isinstance(envelope, Envelope)
    assert any(isinstance(event, Step) for event in events)
    levels = [event for event in events if isinstance(event, Seen)]
    assert {each.kind for each in levels} == {"requests", "tokens", "streams"}
    assert tuple(levels) == envelope.levels
    assert all(each.ttft_error_p99_s is not None for each in levels if each.on_time)
    assert (envelope.path is not None) == (envelope.complete and not envelope.busy)
    left = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            left.append(" ".join(child.cmdline()))
    assert not [each for each in left if "null_server" in each or "generate.worker" in each]


def kept(**changes: object) -> Ceiling:
    """A ceiling of this machine, saved."""
    found = Ceiling(
        machine=ceiling.machine_id(),
        workers=default_workers(local_target=True),
        requests_per_s=2000,
        tokens_per_s=50_000,
        streams=6000,
        version=slobench.__version__,
        receiver=native.kind(),
    )
    found = replace(found, **changes)
    ceiling.save(found)
    return found


def told() -> doctor.Check:
    """What doctor says of the self-test."""
    return next(check for check in doctor.diagnose(None, None) if check.name == "selftest")


def test_doctor_prints_the_envelope():
    """Its three limits, for how many workers, and how far TTFT is right within them."""
    kept(workers=default_workers(local_target=True), ttft_error_p99_s=31.7e-6)
    assert told().level == "ok"
    assert "2,000 requests/s, 50,000 tokens/s, 6,000 streams" in told().seen
    assert told().seen.endswith("TTFT error p99 31.7 µs")
    kept(workers=default_workers(local_target=True), ttft_error_p99_s=None)  # of a file from before it was kept
    assert "TTFT" not in told().seen


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"version": "0.0.1"}, "slobench 0.0.1"),
        ({"workers": 250}, "250 workers, and a run"),
        ({"receiver": "x"}, "the x"),
    ],
)
def test_doctor_says_when_it_is_stale(changes, word):
    """Another version or another number of workers asks for a new one."""
    kept(**changes)
    assert told().level == "warn"
    assert word in told().seen
    assert "slobench selftest" in told().fix


def test_doctor_says_when_it_is_missing():
    """No file, and what to type."""
    assert (told().level, told().seen) == ("warn", "never made on this machine")
    assert "slobench selftest" in told().fix


def test_another_machines_ceiling_is_not_this_ones(state):
    """The file is found by machine; one that was copied under this machine's name is stale."""
    found = kept()
    assert ceiling.stale(replace(found, machine="0" * 16), found.workers, found.receiver) == "another machine"


def test_a_file_from_before_the_ttft_error_was_kept_can_be_read():
    """Fields that came later may be absent."""
    path = ceiling.save(kept())
    values = orjson.loads(path.read_bytes())
    del values["ttft_error_p99_s"]
    path.write_bytes(orjson.dumps(values))
    assert ceiling.load() == kept()


def test_nothing_is_kept_of_a_busy_machine(monkeypatch):
    """A ceiling measured beside others' work would void good runs later."""
    monkeypatch.setattr(selftest.os, "getloadavg", lambda: (1e6, 0.0, 0.0))
    monkeypatch.setattr(selftest, "run_step", lambda bench, offered, number: made())
    settings = Settings({"requests": 0.0, "tokens": 0.0, "streams": 0.0}, span_s=0.5, tries=1)
    *_, envelope = run_selftest(1, settings)
    assert envelope.busy
    assert envelope.path is None
