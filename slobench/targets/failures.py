"""Why a server did not start or died, told from its log and exit code.

The patterns are texts of vLLM 0.6 to 0.32, of PyTorch and of the C library; the causes need different answers
(less memory, another port, a corrected option), so they are told apart.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What kind of failure it was."""

    PORT_IN_USE = "port in use"
    BAD_ARGUMENT = "bad argument"
    OUT_OF_MEMORY = "out of memory"
    NO_MODEL = "model not found"
    KILLED = "killed"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Failure:
    """A cause, the line of the log that shows it, and what to do."""

    cause: Cause
    line: str
    advice: str


_PATTERNS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    (Cause.PORT_IN_USE, re.compile(r"address already in use|Errno (98|48)\]|EADDRINUSE", re.IGNORECASE)),
    (
        Cause.BAD_ARGUMENT,
        re.compile(
            r"error: (unrecognized arguments|argument |the following arguments are required|invalid choice|ambiguous)"
            r"|^Value error, "
        ),
    ),
    (Cause.BAD_ARGUMENT, re.compile(r"validation errors? for \w*(Config|Args)\b")),
    (
        Cause.OUT_OF_MEMORY,
        re.compile(
            r"out of memory|OutOfMemoryError|\bMemoryError\b|Cannot allocate memory|can't allocate memory"
            r"|No available memory for the cache blocks"
            r"|larger than the available KV cache memory"
            r"|(less|larger) than (desired GPU memory utilization|requested memory for kv|the available)"
            r"|Free memory on device .* is less than"
            r"|std::bad_alloc",
            re.IGNORECASE,
        ),
    ),
    (
        Cause.NO_MODEL,
        re.compile(
            r"is not a local folder and is not a valid model identifier|RepositoryNotFoundError|Repository Not Found"
            r"|HFValidationError|LocalEntryNotFoundError|OfflineModeIsEnabled|Can't load the configuration of"
        ),
    ),
)

_ADVICE = {
    Cause.PORT_IN_USE: "another process listens on that port: stop it, or set the target's `port: 0` for a free one",
    Cause.BAD_ARGUMENT: "correct the target's `args` (see the line above)",
    Cause.OUT_OF_MEMORY: "give it less to hold: a shorter max-model-len, fewer max-num-seqs, a smaller cache or model",
    Cause.NO_MODEL: "correct the target's `serve`: a folder with config.json, or a name that the server can download",
    Cause.KILLED: "something killed it; where nobody did, it was most likely the kernel, out of memory (see dmesg)",
    Cause.CRASHED: "a crash inside the server (see its log); on a CPU without AVX-512 a wrong build dies of SIGILL",
    Cause.UNKNOWN: "see its log",
}

_ERROR_LINE = re.compile(r"\b\w*(Error|Exception|error)\b: ?\S")
_TIME_PREFIX = re.compile(r"^(\(\w+[^)]*\) )?(ERROR|CRITICAL) [0-9-]+ [0-9:]+ (\[[^\]]*\] )?")
_NO_ERROR = re.compile(r"^(\(\w+[^)]*\) )?(INFO|WARNING|DEBUG)\b|^\s*raise ")


def diagnose(log: str, exit_code: int | None) -> Failure:
    """Name the cause of a server's end; `exit_code` is negative where a signal ended it, None while it runs."""
    lines = [line for raw in log.splitlines() if not _NO_ERROR.match(line := _TIME_PREFIX.sub("", raw).strip())]
    for cause, pattern in _PATTERNS:
        for line in lines:
            if pattern.search(line):
                return Failure(cause, line[:500], _ADVICE[cause])
    shown = next((line[:500] for line in reversed(lines) if _ERROR_LINE.search(line)), "")
    if exit_code is not None and exit_code < 0:
        killed = -exit_code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        cause = Cause.KILLED if killed else Cause.CRASHED
        return Failure(cause, shown, _ADVICE[cause])
    return Failure(Cause.UNKNOWN, shown, _ADVICE[Cause.UNKNOWN])


def ended(exit_code: int) -> str:
    """Word an exit: "exit code 1" or "killed by SIGKILL", and so on."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def explain(what: str, log: str, exit_code: int | None, *, path: str, tail: str) -> str:
    """Return the error text for a server that failed: what happened, why, what to do, the end of its log."""
    failure = diagnose(log, exit_code)
    how = "" if exit_code is None else f" ({ended(exit_code)})"
    lines = [f"{what}{how}: {failure.cause}"]
    if failure.line:
        lines.append(f"  it said  {failure.line}")
    lines += [f"  advice   {failure.advice}", f"  log      {path}"]
    lines += [f"  | {line}" for line in tail.splitlines()]
    return "\n".join(lines)
