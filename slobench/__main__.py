"""`python -m slobench` and the `slobench` command: a process, whose end its caller reads."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from slobench.cli import main as command_line
from slobench.names import Exit


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        command_line.main()
    except SystemExit as end:
        if end.code != Exit.INTERRUPTED:
            raise
        # CPython would end itself by SIGINT where Ctrl-C came while it ran text, as it does to make a dataclass,
        # whoever caught it since (_Py_UnhandledKeyboardInterrupt): exit code -2 for who started us, not 130.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(Exit.INTERRUPTED)


if __name__ == "__main__":
    main()
