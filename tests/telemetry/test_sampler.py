"""The sampler: first and last samples, totals that come up later, buckets that change, sources that fail."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from slobench.records import samples
from slobench.telemetry.host import HostSource
from slobench.telemetry.sampler import Sampler
from slobench.telemetry.source import Reading, SampleError

MS = 10**6
ENDLESS = 3600 * 10**9


class Script:
    """A source that tells what a script gives for the k-th question, the last one for ever; None: it fails."""

    def __init__(self, name: str, *answers: dict[tuple[str, str], float] | None) -> None:
        self.name = name
        self._answers = answers
        self.asked = 0

    def sample(self) -> Sequence[Reading]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if answer is None:
            raise SampleError("no answer")
        return [Reading(name, labels, value) for (name, labels), value in answer.items()]


def until(condition: Callable[[], bool]) -> None:
    """Wait for a thread; the bound only turns a hang into a failure."""
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def rows(folder: Path) -> list[tuple[str, str, str, float]]:
    """(source, name, labels, value) in the order in which they were written, the sampler's own cost left out."""
    found = samples.read(folder)
    columns = [found[name].tolist() for name in ("source", "name", "labels", "value")]
    return [row for row in zip(*columns, strict=True) if row[1] != "telemetry_cpu_s"]


def test_the_first_and_the_last_sample_frame_the_load(tmp_path: Path) -> None:
    """One before time 0, one after the end, both in the file even where the interval never comes round."""
    source = Script("server", {("requests_total", ""): 5.0}, {("requests_total", ""): 9.0})
    sampler = Sampler(tmp_path, [[source]], ENDLESS)
    sampler.begin()
    epoch_ns = time.monotonic_ns()
    sampler.go(epoch_ns)
    ended_ns = time.monotonic_ns()
    sampler.end()
    sampler.end()
    found = samples.read(tmp_path)
    assert found["value"].tolist() == [5, 9]
    assert found["t_ns"][0] <= 0 < ended_ns - epoch_ns <= found["t_ns"][1]
    assert sampler.told()["sources"] == {"server": {"samples": 2, "failed": 0}}


def test_lanes_are_sampled_side_by_side(tmp_path: Path) -> None:
    """A source that does not answer for long keeps no other lane waiting."""
    held = threading.Event()

    class Slow(Script):
        def sample(self) -> Sequence[Reading]:
            if self.asked:
                held.wait(30)
            return super().sample()

    slow, quick = Slow("server", {("running", ""): 1.0}), Script("host", {("host_cpu_share", ""): 0.5})
    sampler = Sampler(tmp_path, [[slow], [quick]], MS)
    sampler.begin()
    sampler.go(time.monotonic_ns())
    until(lambda: quick.asked > 20)
    assert slow.asked == 1
    held.set()
    sampler.end()


def test_a_total_that_comes_up_later_was_zero_before(tmp_path: Path) -> None:
    """A labelled counter is not told before its first event; a level that comes up later has no past."""
    source = Script(
        "server",
        {("running", ""): 0.0},
        {("running", ""): 2.0, ("requests_total", 'engine="1"'): 7.0, ("waiting", ""): 3.0},
    )
    sampler = Sampler(tmp_path, [[source]], ENDLESS)
    sampler.begin()
    sampler.go(time.monotonic_ns())
    sampler.end()
    found = samples.read(tmp_path)
    first_ns, last_ns = found["t_ns"].min(), found["t_ns"].max()
    told = {(name, int(t)): value for name, t, value in zip(found["name"], found["t_ns"], found["value"], strict=True)}
    assert told == {
        ("running", first_ns): 0,
        ("running", last_ns): 2,
        ("requests_total", first_ns): 0,
        ("requests_total", last_ns): 7,
        ("waiting", last_ns): 3,
    }


def test_buckets_are_written_where_they_change(tmp_path: Path) -> None:
    """What stands still is written once, other values every time."""
    still, moves = ("queue_bucket", 'le="1"'), ("queue_bucket", 'le="+Inf"')
    answers = [{still: 4.0, moves: float(n), ("queue_count", ""): 4.0} for n in (0, 0, 2, 2)]
    source = Script("server", *answers)
    sampler = Sampler(tmp_path, [[source]], MS)
    sampler.begin()
    sampler.go(time.monotonic_ns())
    until(lambda: source.asked >= 6)
    sampler.end()
    found = rows(tmp_path)
    assert [value for _, name, labels, value in found if (name, labels) == still] == [4]
    assert [value for _, name, labels, value in found if (name, labels) == moves] == [0, 2]
    assert sum(name == "queue_count" for _, name, _, _ in found) == source.asked


def test_a_source_that_fails_is_asked_again(tmp_path: Path) -> None:
    """Failures are counted with their reason; the last sample is tried three times while the server lives."""
    source = Script("server", {("running", ""): 1.0}, None, None, {("running", ""): 2.0})
    sampler = Sampler(tmp_path, [[source]], ENDLESS)
    sampler.begin()
    sampler.go(time.monotonic_ns())
    sampler.end()
    assert [value for *_, value in rows(tmp_path)] == [1, 2]
    assert sampler.told()["sources"] == {"server": {"samples": 2, "failed": 2, "error": "no answer"}}


def test_a_dead_server_is_asked_once(tmp_path: Path) -> None:
    """Where it is known not to answer, nobody waits."""
    source = Script("server", {("running", ""): 1.0}, None)
    sampler = Sampler(tmp_path, [[source]], ENDLESS)
    sampler.begin()
    sampler.go(time.monotonic_ns())
    sampler.end(reachable=False)
    assert (source.asked, len(rows(tmp_path))) == (2, 1)


def test_a_load_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    """Without a time 0 there is no clock to write by: no file, no last question."""
    source = Script("server", {("running", ""): 1.0})
    sampler = Sampler(tmp_path, [[source]], ENDLESS)
    sampler.begin()
    sampler.end(reachable=False)
    assert source.asked == 1
    assert list(tmp_path.iterdir()) == []


def test_its_cost_is_told(tmp_path: Path) -> None:
    """The CPU time of each thread is a sample too, and the sum stands in run.json."""

    class Busy(Script):
        def sample(self) -> Sequence[Reading]:
            until_s = time.thread_time() + 0.005
            while time.thread_time() < until_s:
                pass
            return super().sample()

    source = Busy("server", {("running", ""): 1.0})
    sampler = Sampler(tmp_path, [[source]], MS)
    sampler.begin()
    sampler.go(time.monotonic_ns())
    until(lambda: source.asked > 4)
    sampler.end()
    found = samples.read(tmp_path)
    costs = found["value"][found["name"] == "telemetry_cpu_s"]
    assert np.all(np.diff(costs) >= 0.005)
    assert set(found["labels"][found["name"] == "telemetry_cpu_s"]) == {'lane="server"'}
    assert sampler.told()["cpu_s"] == pytest.approx(costs[-1])


def test_the_host_is_read() -> None:
    """Shares lie in [0, 1], bytes are counted up."""
    source = HostSource()
    one, two = ({reading.name: reading.value for reading in source.sample()} for _ in range(2))
    assert 0 <= one["host_cpu_share"] <= 1
    assert 0 < one["host_memory_used_bytes"] <= one["host_memory_bytes"]
    assert one.get("host_received_bytes", 0.0) <= two.get("host_received_bytes", 0.0)


def test_what_was_sampled_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL in the middle: every sample that was flushed is readable, and so is a file that is cut short."""
    code = f"""
        import os, signal, time
        from pathlib import Path
        from slobench.telemetry.sampler import Sampler
        from slobench.telemetry.source import Reading
        class Source:
            name, asked = "server", 0
            def sample(self):
                Source.asked += 1
                return [Reading("running", "", float(Source.asked))]
        sampler = Sampler(Path({str(tmp_path)!r}), [[Source()]], {MS})
        sampler.begin()
        sampler.go(time.monotonic_ns())
        while not any(path.stat().st_size > 20_000 for path in Path({str(tmp_path)!r}).glob("samples-*.arrow")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    found = samples.read(tmp_path)
    told = found["value"][found["name"] == "running"].tolist()
    assert told[:1] == [1]
    assert told == [float(k + 1) for k in range(len(told))]
    (file,) = tmp_path.glob("samples-*.arrow")
    os.truncate(file, file.stat().st_size - 7)
    fewer = samples.read(tmp_path)
    assert 0 < len(fewer["t_ns"]) < len(found["t_ns"])
    assert fewer["t_ns"].tolist() == found["t_ns"][: len(fewer["t_ns"])].tolist()
