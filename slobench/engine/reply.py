"""Replies of the simulated server: everything but the token itself is rendered once for each request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import orjson

from slobench.engine.ask import Ask
from slobench.engine.http import HttpConnection
from slobench.engine.prompts import Vocabulary, word

MARK = "\x00"  # stands for a token's id while an event is rendered: no model name holds it
MARK_JSON = rb"\u0000"
_QUOTED_MARK_JSON = rb'"\u0000"'


class Name(NamedTuple):
    """What a reply calls itself. created: s since 1970."""

    id: str
    model: str
    created: int


class Reply(ABC):
    """Writes one reply: token by token, or whole at the end; the APIs differ in the words."""

    def __init__(self, connection: HttpConnection, ask: Ask, name: Name, words: Vocabulary) -> None:
        self.connection = connection
        self.ask = ask
        self.sent = 0  # tokens
        self._name = name
        self._words = words
        self._ids = words.ids
        self._last = len(words.ids) - 1
        self._write = connection.transport.write
        self._next = ask.start % len(words.ids)
        self._chunked = connection.takes_chunks

    def open(self) -> None:  # noqa: B027 (a reply that is not streamed has nothing to say yet)
        """Accept: the head of a stream, and what comes before its first token."""

    def token(self) -> None:
        """Write the next token, which is not the last."""
        self.sent += 1

    @abstractmethod
    def last(self, cached_tokens: int) -> None:
        """Write the last token, the usage and the end."""

    def _token_id(self) -> bytes:
        at = self._next
        self._next = at + 1 if at < self._last else 0
        return self._ids[at]

    def _text(self) -> str:
        """The whole reply as text."""
        return "".join(f" {piece}" for piece in self._words.tokens(self.ask.start, self.ask.output_tokens, ids=False))

    def _frame(self, event: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(event), event) if self._chunked else event

    def _end(self, events: list[bytes]) -> None:
        """Write what is left of a stream, the end of its framing too."""
        self._write(b"".join([*events, b"0\r\n\r\n" if self._chunked else b""]))
        self.connection.done()


class ChoiceReply(Reply):
    """A completion or a chat."""

    def __init__(self, connection: HttpConnection, ask: Ask, name: Name, words: Vocabulary) -> None:
        super().__init__(connection, ask, name, words)
        self._chat = ask.api == "chat"
        self._constant = self._token_event(None) if ask.stream and not ask.per_event_usage else ()

    def open(self) -> None:
        """Accept: the head of a stream, and in a chat the event that names the role."""
        if self.ask.stream:
            role = self._frame(self._event({"role": "assistant", "content": ""}, None)) if self._chat else b""
            self._write(self.connection.stream_head() + role)

    def token(self) -> None:
        """Write the next token, which is not the last."""
        self.sent += 1
        if self._constant:
            at = self._next
            self._next = at + 1 if at < self._last else 0
            self._write(self._ids[at].join(self._constant))
        elif self.ask.stream:
            self._write(self._token_id().join(self._token_event(None)))

    def last(self, cached_tokens: int) -> None:
        """Write the last token, the reason, the usage and the end."""
        self.sent += 1
        usage = {**self._usage(), "prompt_tokens_details": {"cached_tokens": cached_tokens}}
        if not self.ask.stream:
            self.connection.respond(200, orjson.dumps(self._whole(usage)))
            return
        events = [self._token_id().join(self._token_event(self.ask.finish_reason))]
        if self.ask.include_usage:
            events.append(self._frame(b"data: %s\n\n" % orjson.dumps({**self._shell(), "choices": [], "usage": usage})))
        self._end([*events, self._frame(b"data: [DONE]\n\n")])

    def _token_event(self, finish_reason: str | None) -> tuple[bytes, ...]:
        """Render one event with its frame, cut where the token's id goes (once, or twice with `token_ids`)."""
        content = " " + word(MARK)
        event = self._event({"content": content} if self._chat else content, finish_reason)
        cut = event.replace(_QUOTED_MARK_JSON, MARK_JSON).split(MARK_JSON)
        if self._chunked:
            size = sum(map(len, cut)) + (len(cut) - 1) * len(self._words.ids[0])
            cut[0] = b"%x\r\n%s" % (size, cut[0])
            cut[-1] += b"\r\n"
        return tuple(cut)

    def _event(self, content: str | dict[str, str], finish_reason: str | None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta" if self._chat else "text": content, "logprobs": None}
        choice["finish_reason"] = finish_reason
        if self.ask.return_token_ids:
            choice["token_ids"] = [MARK] if isinstance(content, str) or "role" not in content else None
        event = {**self._shell(), "choices": [choice]}
        if self.ask.per_event_usage:
            event["usage"] = self._usage()
        elif self.ask.include_usage:
            event["usage"] = None
        return b"data: %s\n\n" % orjson.dumps(event)

    def _shell(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {"id": self._name.id, "object": kind, "created": self._name.created, "model": self._name.model}

    def _usage(self) -> dict[str, Any]:
        prompt = len(self.ask.prompt)
        return {"prompt_tokens": prompt, "total_tokens": prompt + self.sent, "completion_tokens": self.sent}

    def _whole(self, usage: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.ask.finish_reason, "logprobs": None}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": self._text()}
        else:
            choice["text"] = self._text()
        if self.ask.return_token_ids:
            choice["token_ids"] = self._words.tokens(self.ask.start, self.ask.output_tokens, ids=True)
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._shell(), "object": kind, "choices": [choice], "usage": usage}
