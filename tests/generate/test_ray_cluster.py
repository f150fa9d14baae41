"""Which node a worker goes to, and what is said where Ray, a cluster or a CPU is missing; no cluster is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slobench.config.workers import OnRay
from slobench.errors import UsageError
from slobench.generate.ray_cluster import Node, import_ray, join, place, why_gone
from slobench.generate.ray_host import PIECE_BYTES, RemoteWorker, network


def nodes(*cpus: int) -> list[Node]:
    return [Node(f"id-{at}", f"host-{at}", each) for at, each in enumerate(cpus)]


@pytest.mark.parametrize(
    ("cpus", "workers", "most", "hosts"),
    [
        ((4, 4, 4), None, 256, "012"),  # one on each
        ((4, 4, 4), None, 2, "01"),  # no more than have something to do
        ((4, 4), 5, 256, "01010"),  # in turn
        ((1, 3), 4, 256, "0111"),  # a CPU each
        ((4, 4), 3, 1, "010"),  # what was asked for is not lessened
    ],
)
def test_workers_are_dealt_out_a_cpu_each(cpus: tuple[int, ...], workers: int | None, most: int, hosts: str) -> None:
    """In turn, as long as a node has a CPU left."""
    assert [node.host for node in place(nodes(*cpus), workers, most)] == [f"host-{at}" for at in hosts]


@pytest.mark.parametrize(("cpus", "workers", "says"), [((2, 1), 4, "ray/3 or less"), ((), None, "--num-cpus")])
def test_too_few_cpus_are_refused(cpus: tuple[int, ...], workers: int | None, says: str) -> None:
    """With how many there are."""
    with pytest.raises(UsageError, match=says):
        place(nodes(*cpus), workers, 256)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, not an ImportError."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'slobench\[ray\]'"):
        import_ray()


def test_without_a_cluster_it_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    import ray

    def refuse(**_settings: object) -> None:
        raise ConnectionError("nobody there\nmore of it")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UsageError, match=r"cannot join a Ray cluster at 127.0.0.1:1: nobody there\n.*ray start"):
        join(OnRay())


@pytest.mark.parametrize("failures", [1, 2])
def test_a_server_that_dies_as_it_starts_is_tried_once_more(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """Ray Client starts one for each driver; what it says at last is told, not that there was a failure."""
    import ray

    tried: list[object] = []

    def init(**settings: object) -> None:
        tried.append(settings["address"])
        if len(tried) <= failures:
            raise ConnectionAbortedError("Initialization failure from server:\nTraceback:\n  RuntimeError: no server")

    monkeypatch.setattr(ray, "init", init)
    there = OnRay(address="ray://head:10001")
    if failures == 1:
        assert join(there)
    else:
        with pytest.raises(
            UsageError, match="ray://head:10001: Initialization failure from server: RuntimeError: no s"
        ):
            join(there)
    assert tried == ["ray://head:10001"] * 2


@pytest.mark.parametrize(
    ("said", "worded"),
    [
        ("The actor died\nModuleNotFoundError: No module named 'slobench'", "slobench is not installed on its node"),
        ("The actor died because its node has died.\nNode Id: 1", "its node died"),
        ("The actor is dead because its owner\n its node was dead ", "its node died"),
        ("The worker was killed\nby hand", "its Ray actor ended: The worker was killed"),
        (
            '\x1b[36mray::RemoteWorker.poll()\x1b[39m (pid=3, ip=192.0.2.2)\n  File "x.py", line 1\nOSError: no space\n',
            "its Ray actor ended: OSError: no space",
        ),
        ("", "its Ray actor ended"),
    ],
)
def test_why_a_worker_is_gone_is_one_line(said: str, worded: str) -> None:
    """Ray's own words run over a page."""
    assert why_gone(RuntimeError(said)).startswith(worded)
    assert "\n" not in why_gone(RuntimeError(said))


def test_what_has_grown_is_handed_on_in_bounded_pieces(tmp_path: Path) -> None:
    """Whole in the end, never more at once than allowed, and no end record before its chunks."""
    worker = RemoteWorker()
    folder = worker._folder
    try:
        chunks, ends = b"c" * (PIECE_BYTES + 10), b"e" * 20
        (folder / "w0-chunks-0.arrow").write_bytes(chunks)
        (folder / "w0-requests-0.arrow").write_bytes(ends)
        (folder / "plan.arrow").write_bytes(b"not of the spool")
        got: dict[str, bytes] = {}
        more, polls = True, 0
        while more:
            new = worker.poll({name: len(data) for name, data in got.items()}, {})
            assert sum(len(data) for _, _, data in new.files) <= PIECE_BYTES
            for name, offset, data in new.files:
                assert offset == len(got.get(name, b""))
                got[name] = got.get(name, b"") + data
            assert len(got["w0-chunks-0.arrow"]) == len(chunks) or "w0-requests-0.arrow" not in got
            more, polls = new.more, polls + 1
        assert got == {"w0-chunks-0.arrow": chunks, "w0-requests-0.arrow": ends}
        assert polls == 2
        with (folder / "w0-chunks-0.arrow").open("r+b") as file:
            file.truncate(5)  # as after a failed write
        assert worker.poll({name: len(data) for name, data in got.items()}, {}).files == ()
    finally:
        worker.close()
    assert not folder.exists()


def test_counts_of_a_probe_to_come_stay_until_they_were_asked_for() -> None:
    """A file is put there before the parent asks for it, and a poll from before may come in between."""
    worker = RemoteWorker()
    try:
        worker.put("counts-0001.bin", b"0123456789")
        assert worker.poll({}, {}).blocks == {}
        assert worker.poll({}, {"counts-0001.bin": (2, 3)}).blocks == {"counts-0001.bin": b"234"}
        worker.poll({}, {})
        assert not (worker._folder / "counts-0001.bin").exists()
    finally:
        worker.close()


def test_processes_of_one_host_share_a_network() -> None:
    """By which a target on the loopback interface is known to be in reach."""
    assert network() == network()
    assert "/" in network()
