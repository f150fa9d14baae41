"""Replies of the simulated server to /v1/responses: named events, in the order and the fields that vLLM gives them."""

from __future__ import annotations

from typing import Any

import orjson

from slobench.engine.ask import Ask
from slobench.engine.http import HttpConnection
from slobench.engine.prompts import Vocabulary, word
from slobench.engine.reply import MARK, MARK_JSON, Name, Reply

_NUMBER = b'"sequence_number":0'


class ResponsesReply(Reply):
    """A response of one message."""

    def __init__(self, connection: HttpConnection, ask: Ask, name: Name, words: Vocabulary) -> None:
        super().__init__(connection, ask, name, words)
        self._number = 0  # of the next event
        self._item = {"item_id": f"msg_{name.id}", "output_index": 0}
        kind = "response.output_text.delta"
        delta = {"content_index": 0, "delta": " " + word(MARK), **self._item, "logprobs": [], "sequence_number": 0}
        event = b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({**delta, "type": kind}))
        text, self._after = event.split(_NUMBER)
        self._before, self._between = text.split(MARK_JSON)

    def open(self) -> None:
        """Accept: the head of a stream, and the events that open the response, its message and the text in it."""
        if not self.ask.stream:
            return
        begun = {"response": self._response("in_progress", [], None)}
        part: dict[str, Any] = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
        events = [
            self._event("response.created", begun),
            self._event("response.in_progress", begun),
            self._event("response.output_item.added", {"item": self._message("in_progress", []), "output_index": 0}),
            self._event("response.content_part.added", {"content_index": 0, **self._item, "part": part}),
        ]
        self._write(self.connection.stream_head() + b"".join(events))

    def token(self) -> None:
        """Write the next token, which is not the last."""
        self.sent += 1
        if self.ask.stream:
            self._write(self._token_event())

    def last(self, cached_tokens: int) -> None:
        """Write the last token, what closes the message, and the response with its usage."""
        self.sent += 1
        text = self._text()
        part: dict[str, Any] = {"annotations": [], "text": text, "type": "output_text", "logprobs": None}
        message = self._message("completed", [part])
        status = "incomplete" if self.ask.finish_reason == "length" else "completed"
        response = self._response(status, [message], self._usage(cached_tokens))
        if not self.ask.stream:
            self.connection.respond(200, orjson.dumps(response))
            return
        place = {"content_index": 0, **self._item}
        self._end(
            [
                self._token_event(),
                self._event("response.output_text.done", {**place, "logprobs": [], "text": text}),
                self._event("response.content_part.done", {**place, "part": part}),
                self._event("response.output_item.done", {"item": message, "output_index": 0}),
                self._event(f"response.{status}", {"response": response}),
            ]
        )

    def _token_event(self) -> bytes:
        number = b'"sequence_number":%d' % self._number
        self._number += 1
        return self._frame(b"".join((self._before, self._token_id(), self._between, number, self._after)))

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        data = orjson.dumps({**fields, "sequence_number": self._number, "type": kind})
        self._number += 1
        return self._frame(b"event: %s\ndata: %s\n\n" % (kind.encode(), data))

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        item = self._item["item_id"]
        return {"id": item, "content": content, "role": "assistant", "status": status, "type": "message"}

    def _response(self, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "id": self._name.id,
            "created_at": self._name.created,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self._name.model,
            "object": "response",
            "output": output,
            "status": status,
            "usage": usage,
        }

    def _usage(self, cached_tokens: int) -> dict[str, Any]:
        prompt = len(self.ask.prompt)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached_tokens},
            "output_tokens": self.sent,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + self.sent,
        }
