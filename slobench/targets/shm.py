"""Which /dev/shm segments belong to a tree of processes, and removing what it left there.

A server killed hard leaves its segments behind: memory that no process owns and no reboot-free tool returns
(a vLLM on CPU leaves 420 MB). Only segments that a process of the tree was seen to use are ever removed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path("/dev/shm")  # noqa: S108 (read, and cleaned of what our own child left)
_LOOKS = 4
_MAPPED = re.compile(rb"/dev/shm/(.+?)(?: \(deleted\))?$", re.MULTILINE)


def segments() -> set[str]:
    """Names of all segments, as paths below /dev/shm."""
    try:
        return {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if not path.is_dir()}
    except OSError:
        return set()


def used_by(pid: int) -> set[str]:
    """Names of the segments that a process has mapped or open; empty where it cannot be asked."""
    names: set[str] = set()
    with contextlib.suppress(OSError):
        maps = Path(f"/proc/{pid}/maps").read_bytes()
        names.update(os.fsdecode(name) for name in _MAPPED.findall(maps))
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                path = Path(entry.path).readlink()
                if path.is_relative_to(FOLDER):
                    names.add(str(path.relative_to(FOLDER)).removesuffix(" (deleted)"))
    return names


class SegmentWatch:
    """Learns the segments of a tree as they appear.

    Memory maps of a large server are slow to read and hold its locks, so they are read only when /dev/shm
    shows a name never met before, and a few times for each: between creation and mapping a name has no user.
    """

    def __init__(self) -> None:
        self.owned: set[str] = set()
        self._foreign = segments()
        self._looks: dict[str, int] = {}

    def unknown(self) -> bool:
        """Whether a segment appeared that nobody has been found for."""
        new = segments() - self._foreign - self.owned
        self._looks = {name: self._looks.get(name, 0) + 1 for name in new}
        self._foreign.update(name for name, looks in self._looks.items() if looks > _LOOKS)
        return bool(new - self._foreign)

    def look(self, pids: Iterable[int]) -> None:
        """Note which segments these processes use."""
        present = segments()
        for pid in pids:
            self.owned |= used_by(pid) & present

    def remove(self) -> list[str]:
        """Remove what the tree left and nobody uses now; the names removed, sorted."""
        left = self.owned & segments()
        if left:
            me = os.getpid()
            for pid in all_pids():
                if pid != me:
                    left -= used_by(pid)
        removed = []
        for name in sorted(left):
            with contextlib.suppress(OSError):
                (FOLDER / name).unlink()
                removed.append(name)
        return removed


def all_pids() -> list[int]:
    """Every process of the machine; empty where there is no /proc."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 (names are enough)
    except OSError:
        return []
