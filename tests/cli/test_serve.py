"""A target is served until a signal ends it, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

SERVE = "import typer; from slobench.cli.serve import command; typer.run(command)"


def serve(log: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    argv = [sys.executable, "-c", SERVE, *arguments, "--log", str(log)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_told_to_stop(tmp_path, number):
    """The URL is printed, the server answers there, and either signal ends both with exit code 0."""
    with serve(tmp_path / "server.log", "sim", "--json") as process:
        observed = json.loads(_object(process))
        with urllib.request.urlopen(observed["url"] + "/v1/models", timeout=10) as reply:
            assert reply.status == 200
        os.kill(process.pid, number)
        assert process.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(observed["url"] + "/health", timeout=10)


def _object(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    return "".join(lines)


def test_a_server_that_dies_ends_it(tmp_path):
    """Where the server ends by itself the command fails, and says how."""
    with serve(tmp_path / "server.log", "sim", "--json") as process:
        os.kill(json.loads(_object(process))["pid"], signal.SIGKILL)
        assert process.wait(30) != 0
        assert process.stderr is not None
        assert "killed by SIGKILL" in process.stderr.read()


def test_a_remote_target_is_not_ours_to_start(tmp_path):
    """A URL is refused: it runs already."""
    with serve(tmp_path / "server.log", "http://127.0.0.1:9") as process:
        assert process.wait(30) != 0
        assert process.stderr is not None
        assert "runs already" in process.stderr.read()
