"""What a client asks of the simulated server: request bodies, checked the way vLLM checks them."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from slobench.engine.images import image_tokens
from slobench.engine.prompts import split_text
from slobench.names import Api

# What a reply's natural length is like where the client does not ignore the end of sequence (docs/metrics.md, Engine).
_NATURAL_MEAN_LOG, _NATURAL_SIGMA_LOG = 5.0736, 0.8  # mean 220 tokens
_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's own default


class RefusedError(Exception):
    """A request that is answered with an HTTP error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Limits:
    """What the served model takes. names: its own, then those of its adapters."""

    names: tuple[str, ...]
    max_model_len: int
    vocab: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One accepted request."""

    api: Api
    model: str
    stream: bool
    include_usage: bool
    per_event_usage: bool
    return_token_ids: bool
    prompt: list[int] | list[str]
    output_tokens: int
    finish_reason: str
    priority: int
    cache_salt: str | None
    start: int  # picks the reply: the same body gets the same one


def parse(body: bytes, limits: Limits, api: Api) -> Ask:
    """Read the body of a call. RefusedError with the status that vLLM gives."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise RefusedError(400, "the body is not a JSON object")
    model = fields.get("model")
    if model is not None and model not in limits.names:
        raise RefusedError(404, f"The model `{model}` does not exist.")
    if fields.get("n") not in (None, 1):
        raise RefusedError(400, "n: this server gives one choice for each request")
    prompt = _prompt_of(fields, limits, api)
    room = limits.max_model_len - len(prompt)
    if room < 1:
        raise RefusedError(
            400, f"This model's maximum context length is {limits.max_model_len} tokens; the prompt has {len(prompt)}."
        )
    start = zlib.crc32(body)
    # Where prompt and reply do not fit together vLLM gives a shorter reply, without a word.
    asked = min(_max_tokens(fields, room, api), room)
    output_tokens, finish_reason = asked, "length"
    if api == "embeddings":
        finish_reason = "stop"
    elif not fields.get("ignore_eos"):
        natural = max(1, _integer(fields, "min_tokens", 0), _natural_length(start))
        if natural < asked:
            output_tokens, finish_reason = natural, "stop"
    stream_options = fields.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise RefusedError(400, "stream_options: expected an object")
    salt = fields.get("cache_salt")
    return Ask(
        api=api,
        model=limits.names[0] if model is None else model,
        stream=bool(fields.get("stream")) and api != "embeddings",
        include_usage=bool(stream_options.get("include_usage")),
        per_event_usage=bool(stream_options.get("continuous_usage_stats")),
        return_token_ids=bool(fields.get("return_token_ids")),
        prompt=prompt,
        output_tokens=output_tokens,
        finish_reason=finish_reason,
        priority=_integer(fields, "priority", 0),
        cache_salt=None if salt is None else str(salt),
        start=start,
    )


def _prompt_of(fields: dict[str, Any], limits: Limits, api: Api) -> list[int] | list[str]:
    if api == "chat":
        return _messages(fields.get("messages"))
    if api == "responses":
        given = fields.get("input")
        return _messages([{"role": "user", "content": given}] if isinstance(given, str) and given else given)
    return _prompt(fields.get("input" if api == "embeddings" else "prompt"), limits)


def _prompt(prompt: Any, limits: Limits) -> list[int] | list[str]:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], list | str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        tokens = split_text(prompt)
        if tokens:
            return tokens
    elif isinstance(prompt, list) and prompt and set(map(type, prompt)) == {int}:
        low, high = min(prompt), max(prompt)
        if low < 0 or high >= limits.vocab:
            raise RefusedError(
                400, f"Token id {low if low < 0 else high} is out of vocabulary: ids are 0 to {limits.vocab - 1}."
            )
        return prompt
    raise RefusedError(400, "prompt: expected one text or one list of token ids, not empty")


def _messages(messages: Any) -> list[str]:
    """Tokens of a conversation: one for each role, the words, and one that opens the reply."""
    if not isinstance(messages, list) or not messages:
        raise RefusedError(400, "messages: expected a list, not empty")
    tokens: list[str] = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RefusedError(400, "messages: expected objects with a role and a content")
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        tokens.append(f"<{message['role']}>")
        for part in parts:
            tokens += _part(part)
    tokens.append("<assistant>")
    return tokens


def _part(part: Any) -> list[str]:
    if isinstance(part, dict) and part.get("type") == "image_url":
        try:
            return image_tokens(part)
        except ValueError as error:
            raise RefusedError(400, f"messages: {error}") from None
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        raise RefusedError(400, "messages: this server takes text and images")
    return split_text(part["text"])


def _max_tokens(fields: dict[str, Any], room: int, api: Api) -> int:
    """Tokens that may come out; an embedding takes the step that reads its input, as one token would."""
    if api == "embeddings":
        return 1
    if api == "responses":
        asked = _integer(fields, "max_output_tokens", room)
    elif api == "chat":
        asked = _integer(fields, "max_completion_tokens", _integer(fields, "max_tokens", room))
    else:
        asked = _integer(fields, "max_tokens", _DEFAULT_COMPLETION_TOKENS)
    if asked < 1:
        raise RefusedError(400, f"max_tokens must be at least 1, got {asked}.")
    return asked


def _integer(fields: dict[str, Any], name: str, default: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise RefusedError(400, f"{name}: expected an integer, got {value!r:.50}")
    return value


def _natural_length(start: int) -> int:
    return round(random.Random(start).lognormvariate(_NATURAL_MEAN_LOG, _NATURAL_SIGMA_LOG))
