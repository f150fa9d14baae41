"""Room for open files is made before anything is timed."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from slobench import open_files

SCRIPT = """
import resource
from pathlib import Path
from slobench import open_files

limit = {limit}
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
before = len(list(Path("/proc/self/fd").iterdir()))
open_files.make_room()
assert len(list(Path("/proc/self/fd").iterdir())) == before, "it left a file open"
print([line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("FDSize")][0].split()[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how large the table is")
@pytest.mark.parametrize("limit", [256, 1000, 4096])
def test_the_table_is_as_large_as_it_may_become(limit: int) -> None:
    """So it never grows while requests are sent, and nothing stays open for it."""
    command = [sys.executable, "-c", SCRIPT.format(limit=limit)]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) >= limit


def test_a_limit_without_end_is_raised_to_one_that_every_system_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """MacOS refuses an endless soft limit."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(open_files.resource, "setrlimit", lambda _, new: asked.append(new))
    assert open_files.raise_limit() == 65_536
    assert asked == [(65_536, resource.RLIM_INFINITY)]


def test_a_limit_that_cannot_be_raised_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be opened is told, not what was asked for."""

    def refuse(*_: object) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (256, 1024))
    monkeypatch.setattr(open_files.resource, "setrlimit", refuse)
    assert open_files.raise_limit() == 256


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how large the table is")
@pytest.mark.parametrize("module", ["slobench.engine.server", "slobench.targets.null_server"])
def test_the_servers_make_room_before_they_listen(module: str) -> None:
    """Their times are held against the client's, or are the truth."""
    order = b'{"first_ns": 1000000, "gap_ns": 1000000, "step_ns": 1000000}\n' if "null" in module else b"{}\n"
    with subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(order)
        server.stdin.flush()
        assert b"port" in server.stdout.readline()
        soft = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[0]
        assert fd_size(server.pid) >= min(soft, 65_536)
        server.stdin.close()
        assert server.wait(10) == 0


def fd_size(pid: int) -> int:
    """How large the table of open files of a process is."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("FDSize"))
