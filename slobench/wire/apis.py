"""How the replies of each API are read, and what makes one whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slobench.names import Api
from slobench.wire import embeddings, openai, responses
from slobench.wire.openai import Event


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one API: what reads an event of a stream, what reads a reply that is not streamed, and how replies end.

    ends_by_event: a stream is whole with an event that says so, not with `[DONE]`.
    reasoned: a whole reply gives a finish reason.
    all_output: a token without text is output as well, since there is no reasoning apart from it.
    """

    event: Callable[[bytes], Event]
    reply: Callable[[bytes], Event]
    ends_by_event: bool = False
    reasoned: bool = True
    all_output: bool = False


READING: Mapping[Api, Reading] = {
    "completions": Reading(openai.parse_event, openai.parse_reply, all_output=True),
    "chat": Reading(openai.parse_event, openai.parse_reply),
    "responses": Reading(responses.parse_event, responses.parse_reply, ends_by_event=True),
    "embeddings": Reading(embeddings.parse_event, embeddings.parse_reply, reasoned=False),
}
