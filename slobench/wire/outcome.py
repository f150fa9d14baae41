"""The rules that turn what was seen of a reply into one outcome (docs/metrics.md, "outcome")."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from slobench.names import Outcome
from slobench.wire.openai import FAILED_REASONS, clip, error_text


class Ended(Enum):
    """How the bytes of a reply ended, as the transport saw it."""

    COMPLETE = "complete"
    """The HTTP message is whole (a body without length or chunks: the server closed)."""
    CLOSED = "the server closed the connection"
    RESET = "the connection was reset"
    MALFORMED = "what came is not HTTP"
    ABORTED = "the client ended it"
    """A timeout or a cut: only the counts are settled, the transport names the outcome."""


class Facts(NamedTuple):
    """All that an outcome depends on."""

    ended: Ended
    status: int  # 0: no headers came
    streamed: bool
    error: str  # of an error event, or of an error in a reply's body
    malformed: str  # the first event or body that is not what the API speaks
    done: bool  # the terminal event came; a reply that was not streamed: its JSON is whole
    finish_reason: str
    output_tokens: int | None  # the server's count; None where it gave none
    events: int  # that carried tokens
    due_tokens: int | None  # where the length was forced
    opening: bytes  # the first bytes of the body, for the error text
    reasoned: bool = True  # a whole reply of this API gives a finish reason


def judge(facts: Facts) -> tuple[Outcome, str]:
    """Return the outcome and a text that explains it ("" for ok).

    What the server said goes before how the connection ended: an error event followed by a reset is
    the server's error, and a reply with its terminal event is whole even where the close was rude.
    """
    if facts.ended is Ended.MALFORMED:
        return Outcome.MALFORMED, facts.ended.value
    if facts.status and not 200 <= facts.status < 300:
        return Outcome.HTTP_ERROR, clip(f"HTTP {facts.status}: {error_text(facts.opening) or 'no body'}")
    if facts.error:
        return Outcome.STREAM_ERROR, facts.error
    if facts.finish_reason in FAILED_REASONS:
        return Outcome.STREAM_ERROR, f"finish_reason is {facts.finish_reason!r}"
    if facts.ended is not Ended.COMPLETE and not facts.done:
        return Outcome.CONNECTION, f"{facts.ended.value} {_seen(facts)}"
    if facts.malformed:
        return Outcome.MALFORMED, facts.malformed
    if not facts.events and not facts.output_tokens:
        what = "token" if facts.reasoned else "embedding"
        return Outcome.EMPTY, clip(f"no {what} came; the body begins {facts.opening.decode('utf-8', 'replace')!r}")
    return _whole(facts)


def _whole(facts: Facts) -> tuple[Outcome, str]:
    """Judge a reply with tokens whose HTTP message ended well: whether it is all that was asked for."""
    if not facts.done:
        return Outcome.TRUNCATED, f"no terminal event {_seen(facts)}"
    if facts.reasoned and not facts.finish_reason:
        return Outcome.TRUNCATED, f"no finish_reason {_seen(facts)}"
    if facts.due_tokens is None:
        return Outcome.OK, ""
    if facts.output_tokens is None:
        # Events can hold several tokens each: without a count, only the server's word that it was the length.
        if facts.finish_reason == "length":
            return Outcome.OK, ""
        return Outcome.TRUNCATED, f"finish_reason {facts.finish_reason!r} where the length was forced"
    if facts.output_tokens < facts.due_tokens:
        return Outcome.TRUNCATED, f"{facts.output_tokens} of {facts.due_tokens} tokens"
    return Outcome.OK, ""


def _seen(facts: Facts) -> str:
    if not facts.status:
        return "before any reply"
    if not facts.streamed:
        return "within the reply"
    return f"after {facts.events} token events" if facts.events else "before the first token"
