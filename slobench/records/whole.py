"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from slobench.errors import RecordsError


def write_whole(path: Path, write: Callable[[Path], object], expected: str = "a disk with room") -> None:
    """Let `write` make a file beside `path`, then move it there: a reader sees the old one or the new one.

    Makes the folder. Raises RecordsError, with what is expected, where the disk refuses; nothing is left behind then.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        aside.replace(path)
    except (OSError, pa.ArrowException) as error:
        with suppress(OSError):
            aside.unlink()
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise RecordsError(f"cannot write {path}: {reason}\n  expected  {expected}") from error


def write_text_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8 as `write_whole` does; what has no form in it becomes `?`."""
    write_whole(path, lambda aside: aside.write_text(text, "utf-8", errors="replace"))
