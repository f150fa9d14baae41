"""One generator process, `python -m slobench.generate.worker`: a pipe in, which is its lifeline, and a pipe out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson


def spawn(stderr: Path) -> subprocess.Popen[bytes]:
    """Start one; what it says on standard error goes to a file."""
    with stderr.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "slobench.generate.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            process_group=0,  # a Ctrl-C in the terminal is for the parent alone
        )


def events_of(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what it says as it says it, then ("exited", {"code": N})."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            with suppress(orjson.JSONDecodeError, KeyError):  # half a line of a killed worker, a library's chatter
                values = orjson.loads(line)
                yield values.pop("event"), values
    yield "exited", {"code": process.wait()}


def tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Write to its standard input; that it has ended is heard through its output."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(line)
        process.stdin.flush()


def end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Close its lifeline, and kill it where it does not end by itself in that time."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
