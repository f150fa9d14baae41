"""Trace files as bytes: plain or gzip, with or without a byte order mark, and where a fault lies in them."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from slobench.config.document import shown
from slobench.errors import ConfigError

BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 22
_MAX_DOCUMENT = 1 << 30


def fault(path: Path, line: int | None, problem: str, expected: str) -> ConfigError:
    """Word what is wrong with a file, with its line."""
    place = shown(path) if line is None else f"{shown(path)}:{line}"
    return ConfigError(f"{place}: {problem}\n  expected  {expected}")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading behind its byte order mark, unpacked where it is gzip; its faults are ConfigErrors."""
    try:
        if path.is_dir():
            raise fault(path, None, "is a folder", "a trace file")
        if not path.exists():
            raise fault(path, None, "no such file", "a trace file that exists")
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw, "rb") if packed else raw as file:
                source = cast("BinaryIO", file)
                if source.read(3) != BOM:
                    source.seek(0)
                yield source
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise fault(path, None, f"cannot be unpacked: {error}", "a whole gzip file") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise fault(path, None, f"cannot be read: {reason}", "a file that can be read") from None


def blocks_of_lines(path: Path) -> Iterator[tuple[list[bytes], list[int]]]:
    """Yield the lines that are not blank and their numbers (from 1), some MiB at a time, without their ends."""
    number, rest = 0, b""
    with opened(path) as file:
        while True:
            block = file.read(_BLOCK)
            lines = (rest + block).split(b"\n")
            rest = lines.pop() if block else b""
            kept = [(line, number + at) for at, line in enumerate(lines, 1) if line.strip()]
            number += len(lines)
            if kept:
                yield [line for line, _ in kept], [at for _, at in kept]
            if not block:
                return


def first_line(path: Path) -> bytes:
    """Return the first line that is not blank, at most 1 MiB of it."""
    with opened(path) as file:
        for _ in range(1000):
            line = file.readline(1 << 20)
            if line.strip() or not line:
                return line.strip()
    raise fault(path, None, "begins with 1000 blank lines", "a trace")


def whole(path: Path) -> bytes:
    """Return all of a file that is one document, at most 1 GiB."""
    with opened(path) as file:
        data = file.read(_MAX_DOCUMENT + 1)
    if len(data) > _MAX_DOCUMENT:
        raise fault(path, None, "is a JSON document of more than 1 GiB", "a smaller part, or JSON lines")
    return data
