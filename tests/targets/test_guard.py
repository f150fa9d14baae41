"""No server, child of a server or shared memory outlives the one who started it, whoever dies first."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slobench.errors import TargetStartError
from slobench.targets.guard import descendants, marked
from slobench.targets.process import Command, GuardedServer
from slobench.targets.shm import FOLDER, SegmentWatch, used_by

PARENT = """
import json, os, sys, time
from pathlib import Path
from slobench.targets.process import Command, GuardedServer
argv, log, fork = json.loads(sys.argv[1])
server = GuardedServer(Command(argv, {}, Path(log), 10**9))
if fork and os.fork() == 0:
    time.sleep(60)  # a child that keeps the pipe to the guard open
print(server.pid, flush=True)
time.sleep(60)
"""


LOOKED_S = 2.0  # the guard learns whose a segment is twice a second: a younger one of a killed process stays


def guard_of(server: GuardedServer) -> int:
    """The guard's pid."""
    return server._guard.pid


@pytest.mark.parametrize("modes", [(), ("orphan",)])
def test_stop_leaves_nothing(mess, modes):
    """A stop ends children in other sessions, orphans and those deaf to TERM, and removes their segments."""
    server = GuardedServer(mess.command(*modes, stop_s=0.5))
    assert mess.grown()
    server.stop()
    assert not any(Path(f"/proc/{pid}").exists() for pid, _ in mess.entries())
    assert sorted(server.removed_segments) == sorted(name for _, name in mess.entries())
    assert mess.gone()


def test_stop_is_orderly_first(mess):
    """The server gets TERM, with the time to end by itself."""
    server = GuardedServer(mess.command())
    assert mess.grown()
    os.kill(next(pid for pid, name in mess.entries() if name.endswith("child")), signal.SIGKILL)
    server.stop()
    assert "orderly end" in server.logged()
    assert server.exit_code == 1  # what sys.exit(text) ends with


def test_a_deaf_server_is_killed(mess):
    """A server that ignores TERM is killed when its time is up."""
    server = GuardedServer(mess.command("deaf", stop_s=0.2))
    assert mess.grown()
    server.stop()
    assert server.exit_code == -signal.SIGKILL
    assert mess.gone()


def test_death_of_the_server_takes_its_children(mess):
    """SIGKILL of the server is seen, and its children and segments go too, before anyone asks."""
    server = GuardedServer(mess.command())
    assert mess.grown()
    time.sleep(LOOKED_S)
    assert server.alive()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert mess.gone()
    assert not server.alive()
    assert server.exit_code == -signal.SIGKILL
    server.stop()


@pytest.mark.parametrize("fork", [False, True], ids=["alone", "a child of ours keeps the pipe"])
def test_our_death_ends_the_server(mess, fork):
    """SIGKILL of whoever started the server ends all of it, even while the pipe to the guard stays open."""
    order = json.dumps([mess.argv(), str(mess.folder / "log"), fork])
    with subprocess.Popen([sys.executable, "-c", PARENT, order], stdout=subprocess.PIPE, start_new_session=True) as us:
        assert us.stdout is not None
        us.stdout.readline()
        assert mess.grown()
        children = descendants(us.pid)
        us.kill()
        us.wait()
        assert mess.gone()
        for pid in children:  # our own forked child
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def test_death_of_the_guard(mess):
    """Where the guard itself is killed, the server counts as dead and a stop does the guard's work."""
    server = GuardedServer(mess.command())
    assert mess.grown()
    os.kill(guard_of(server), signal.SIGKILL)
    while server.alive():
        pass
    assert marked(server.mark)  # the child in its own session is left
    server.stop()
    assert not marked(server.mark)


def test_interrupts_are_for_us_alone(mess):
    """Ctrl-C, which a terminal sends to our whole group, does not reach guard or server."""
    server = GuardedServer(mess.command())
    assert mess.grown()
    assert server.pid is not None
    groups = {os.getpgid(pid) for pid in (guard_of(server), server.pid)}
    assert os.getpgrp() not in groups
    server.stop()


def test_a_segment_of_somebody_else_stays(mess):
    """A segment that appeared during the run but belongs to another process is not removed."""
    foreign = FOLDER / f"slobench-foreign-{os.getpid()}"
    server = GuardedServer(mess.command(stop_s=0.2))
    try:
        foreign.write_bytes(b"x" * 4096)
        assert mess.grown()
        server.stop()
        assert foreign.exists()
    finally:
        foreign.unlink()


def test_a_segment_in_use_elsewhere_stays():
    """A segment of the tree that another process has mapped is left to it."""
    name = f"slobench-shared-{os.getpid()}"
    watch = SegmentWatch()
    with (FOLDER / name).open("w+b") as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096):
            assert name in used_by(os.getpid())
            watch.look([os.getpid()])
            script = f"import sys, time; f = open('/dev/shm/{name}'); print(flush=True); time.sleep(60)"
            with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
                assert other.stdout is not None
                other.stdout.readline()
                assert watch.remove() == []
                other.kill()
            assert watch.remove() == [name]


def test_a_program_that_is_not_there(tmp_path):
    """A command that cannot be run is one readable error that names it."""
    with pytest.raises(TargetStartError, match=r"cannot start the server: /no/such/program: No such file"):
        GuardedServer(Command(["/no/such/program"], {}, tmp_path / "log"))


def test_secrets_are_in_no_argument_vector(tmp_path):
    """The environment given to a server reaches it, and is in neither process's argument vector."""
    script = "import os, time; print(os.environ['KEY'] + '!', flush=True); time.sleep(60)"
    command = Command([sys.executable, "-c", script], {"KEY": "s3cret"}, tmp_path / "log", 10**8, first_line=True)
    server = GuardedServer(command)
    try:
        assert server.first_line(30) == "s3cret!"
        for pid in (server.pid, guard_of(server)):
            assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    finally:
        server.stop()


def test_the_log_holds_both_streams_and_is_appended_to(tmp_path):
    """Output and errors go to the log; what an earlier server wrote stays, and is not taken for this one's."""
    log = tmp_path / "log"
    log.write_text("earlier\n")
    script = "import sys; print('out'); print('err', file=sys.stderr)"
    server = GuardedServer(Command([sys.executable, "-c", script], {}, log))
    while server.alive():
        pass
    server.stop()
    assert sorted(server.logged().split()) == ["err", "out"]
    assert log.read_text().startswith("earlier\n")
    assert server.exit_code == 0
