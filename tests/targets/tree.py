"""A server that leaves a mess: children in other sessions, deaf to TERM, sharing memory. Run as a script.

argv: a file for the pids of the tree, then any of `deaf` (ignores TERM), `orphan` (its child's parent ends).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import time
from pathlib import Path


def share(name: str) -> mmap.mmap:
    """Map a segment, made if it is not there."""
    with Path("/dev/shm", name).open("w+b") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)


def live(pids: Path, name: str) -> None:
    """Be one process of the tree, for ever."""
    held = share(name)
    with pids.open("a") as file:
        file.write(f"{os.getpid()} {name}\n")
    while True:
        time.sleep(60)
        held.flush()


def main() -> None:
    """Start the tree and be its first process."""
    pids, *modes = Path(sys.argv[1]), *sys.argv[2:]
    name = f"slobench-test-{os.getpid()}"
    if os.fork() == 0:
        os.setsid()  # out of the group
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if "orphan" in modes and os.fork():
            os._exit(0)
        live(pids, f"{name}-child")
    if "deaf" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("orderly end"))
    with contextlib.suppress(KeyboardInterrupt):
        live(pids, name)


if __name__ == "__main__":
    main()
