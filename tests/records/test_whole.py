"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from slobench.errors import RecordsError
from slobench.records.whole import write_text_whole, write_whole


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    """What was there before is gone, and nothing else lies beside it."""
    path = tmp_path / "a" / "b" / "report.md"
    write_text_whole(path, "one")
    write_text_whole(path, "two \udcff")
    assert path.read_text() == "two ?"
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    """The error says why, and what is expected."""
    path = tmp_path / "report.md"
    path.write_text("old")

    def half(aside: Path) -> None:
        aside.write_text("ne")
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(RecordsError, match=r"cannot write .*report\.md: No space left on device\n  expected  room"):
        write_whole(path, half, "room")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
