"""Open files of this process: how many it may have, and room for them in the kernel's table."""

from __future__ import annotations

import fcntl
import os
import resource
from contextlib import suppress

_ROOM = 65_536  # half a MB of kernel memory


def raise_limit() -> int:
    """Raise the soft limit of open files as far as it goes; return it (resource.RLIM_INFINITY: none)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else max(soft, _ROOM)  # macOS refuses "unlimited"
    if soft not in (most, resource.RLIM_INFINITY):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return soft


def make_room() -> None:
    """Have the kernel's table of open files as large as it may become, before anything is timed.

    Linux doubles the table at the 64th file, the 128th and so on, and whoever opens that file waits for every core to
    have been through the scheduler (`expand_fdtable` calls `synchronize_rcu` once there are threads): 5 to 12 ms in
    which nothing is sent. A machine that has no such table loses nothing by it.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    last = (_ROOM if soft == resource.RLIM_INFINITY else min(soft, _ROOM)) - 1
    with suppress(OSError):
        any_file = os.open(os.devnull, os.O_RDONLY)
        try:
            os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD_CLOEXEC, last))
        finally:
            os.close(any_file)
