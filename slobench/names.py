"""The fixed vocabularies: outcomes, phases, channels, verdicts, exit codes."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Literal

NULL = -(2**63)
"""What stands for "never seen" in int64 fields and buffers; null in every file that others read."""

Api = Literal["completions", "chat", "responses", "embeddings"]
"""Which call of an OpenAI-compatible server a request is."""


class Outcome(StrEnum):
    """How one planned request ended; exactly one each."""

    OK = "ok"
    HTTP_ERROR = "http_error"
    STREAM_ERROR = "stream_error"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    MALFORMED = "malformed"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_FIRST_TOKEN = "timeout_first_token"  # noqa: S105 (an outcome, not a password)
    TIMEOUT_IDLE = "timeout_idle"
    TIMEOUT_TOTAL = "timeout_total"
    CONNECTION = "connection"
    CLIENT = "client"
    DROPPED = "dropped"
    CANCELLED = "cancelled"
    CUT = "cut"
    UNSENT = "unsent"
    LOST = "lost"


class TokensSource(StrEnum):
    """Where a reply's number of output tokens comes from."""

    USAGE = "usage"
    CHUNKS = "chunks"
    TOKENIZER = "tokenizer"


class Phase(StrEnum):
    """Where a request's scheduled time lies: before, in or after the measurement window."""

    WARMUP = "warmup"
    MAIN = "main"
    DRAIN = "drain"


class Channel(StrEnum):
    """The kind of token that an event carried."""

    CONTENT = "content"
    REASONING = "reasoning"
    TOOL = "tool"
    REFUSAL = "refusal"


CHANNELS = tuple(Channel)  # position = code in chunk records
OUTCOMES = tuple(Outcome)  # position = code in request records


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    TOOL = 1
    USAGE = 2
    INVALID = 3
    SLO = 4
    REGRESSION = 5
    TARGET = 6
    UNDECIDED = 7
    INTERRUPTED = 130


EXIT_ORDER = (
    Exit.INTERRUPTED,
    Exit.TOOL,
    Exit.USAGE,
    Exit.TARGET,
    Exit.INVALID,
    Exit.REGRESSION,
    Exit.SLO,
    Exit.UNDECIDED,
)


def first_exit(codes: set[Exit]) -> Exit:
    """The exit code to end with where several hold."""
    return next((code for code in EXIT_ORDER if code in codes), Exit.OK)
