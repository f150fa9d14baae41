"""Every error that slobench raises on purpose, and the exit code each ends with.

SlobenchError            1    the tool failed
├── UsageError           2    the user asked for something that cannot be done
│   └── ConfigError      2    a workload, target, SLO or flag cannot be read or used
├── TargetError          6    the target failed
│   ├── TargetStartError 6    it did not start, or did not become ready
│   └── TargetDiedError  6    it ended while it was needed
├── InvalidRunError      3    a run that the instrument spoiled cannot be used
├── RecordsError         1    result files cannot be read or written
└── WorkerError          1    a generator process failed
"""

from __future__ import annotations

from slobench.names import Exit


class SlobenchError(Exception):
    """What went wrong, what was expected, what to type: shown without a traceback."""

    exit: Exit = Exit.TOOL


class UsageError(SlobenchError):
    """The user asked for something that cannot be done."""

    exit = Exit.USAGE


class ConfigError(UsageError):
    """A workload, target, SLO or flag that cannot be read or used."""


class TargetError(SlobenchError):
    """The server under test failed."""

    exit = Exit.TARGET


class TargetStartError(TargetError):
    """The server did not start, or did not become ready."""


class TargetDiedError(TargetError):
    """The server ended while it was needed."""


class InvalidRunError(SlobenchError):
    """A run that the instrument spoiled, where a valid one is needed."""

    exit = Exit.INVALID


class RecordsError(SlobenchError):
    """Result files that cannot be read or written."""


class WorkerError(SlobenchError):
    """A generator process that failed."""
