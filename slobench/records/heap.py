"""How the C library keeps memory that numpy gives back."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT_BYTES, _MAPPED_BYTES = 2**28, 2**25


def keep_freed_memory() -> None:
    """Let this process keep up to 256 MiB that it freed, and map arrays from 32 MiB on by themselves.

    By default glibc returns the top of its heap to the kernel again and again while columns are worked out slice by
    slice, and every slice faults its pages in anew: a sixth of the CPU time of a large report. Elsewhere: nothing.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # no mallopt: musl
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
