"""One reply, from the bytes of its body and the times of its reads to what is recorded of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from slobench.names import NULL, Api, Outcome, TokensSource
from slobench.wire.apis import READING
from slobench.wire.openai import (
    CLOSING,
    CONTENT,
    DONE,
    NO_CHANNEL,
    OPENING,
    REASONING,
    TOOL,
    Event,
    Shape,
    Usage,
    clip,
)
from slobench.wire.outcome import Ended, Facts, judge
from slobench.wire.sink import ChunkSink
from slobench.wire.sse import SseDecoder

_OPENING_BYTES = 2_000  # of a body, kept for error texts
_RAW_BYTES = len(OPENING + CLOSING)
_WHOLE_BYTES = 64 << 20  # of a reply that is not streamed; one token is about 5 bytes
_USAGE, _CHUNKS = (list(TokensSource).index(source) for source in (TokensSource.USAGE, TokensSource.CHUNKS))


class Reply:
    """What one request gets back. The transport calls on_headers, feed and stamp, then finish.

    Times are ns on the run's clock, counts are tokens; NULL = never seen. Every reading of the clock
    is the transport's: nothing here takes a time, so slow parsing moves none.

    The hot path knows the shape of the stream's last plain event and compares the bytes around
    the text; parsing starts where they differ.
    """

    __slots__ = (
        "_add", "_body", "_body_bytes", "_channel", "_counted", "_counted_tokens", "_decoder", "_error", "_first_due",
        "_held", "_malformed", "_opening", "_per_event_usage", "_raw_prefix", "_raw_start", "_raw_suffix", "_raw_tail",
        "_read_ns", "_reading", "_reasoning_seen", "_shape", "_whole", "cached_tokens", "chunks", "done", "due_tokens",
        "finish_reason", "first_chunk_tokens", "first_output_ns", "first_token_error_ns", "first_token_ns",
        "http_status", "index", "input_tokens", "last_token_ns", "output_tokens", "reasoning_tokens", "sink", "stream",
        "tokens_source",
    )  # fmt: skip

    def __init__(
        self,
        *,
        index: int,
        api: Api,
        stream: bool,
        due_tokens: int | None,
        chunks: ChunkSink,
    ) -> None:
        self.index = index
        self.due_tokens = due_tokens  # demanded of an ok reply, where the length was forced
        self.first_token_ns = self.first_output_ns = self.last_token_ns = NULL
        self.first_token_error_ns = NULL  # 0: exact; > 0: it came at most so much earlier
        self.input_tokens = self.output_tokens = self.reasoning_tokens = self.cached_tokens = NULL
        self.first_chunk_tokens = NULL
        self.chunks = 0 if stream else NULL  # token events
        self.tokens_source = -1  # code in TokensSource order; -1: no count
        self.finish_reason = ""
        self.http_status = NULL
        self.done = False
        self._reading = READING[api]
        self.stream = stream  # asked for
        self.sink = chunks
        self._add = chunks.add
        self._whole = not stream
        self._held: list[tuple[int, int, int, bool]] = []  # (tokens, bytes, channel, visible) since the last stamp
        self._first_due = True  # the first token or the first output has not come
        self._decoder = SseDecoder()
        self._opening = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._read_ns = NULL
        self._error = self._malformed = ""
        self._channel = CONTENT
        self._reasoning_seen = False
        self._per_event_usage = False
        self._counted = self._counted_tokens = 0  # token events whose tokens are known, and those tokens
        self._shape: Shape | None = None
        self._raw_prefix: bytes | None = None  # as it comes on the wire; None within an event, or with no shape
        self._raw_suffix = b""
        self._raw_start = self._raw_tail = 0  # their lengths

    def on_headers(self, status: int, content_type: str) -> None:
        """Status and content type of the final (not 1xx) response head.

        An error, and a JSON or HTML body where a stream was asked for, are read as a whole.
        """
        self.http_status = status
        kind = content_type.partition(";")[0].strip().lower()
        if not 200 <= status < 300 or kind in {"application/json", "text/html"}:
            self._whole = True
        elif kind == "text/event-stream":
            self._whole = False
        if self._whole:
            self.chunks = NULL
        elif self.chunks == NULL:
            self.chunks = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body; HTTP chunk framing is already removed."""
        prefix, shape = self._raw_prefix, self._shape
        if prefix is not None and shape is not None and data.startswith(prefix) and data.endswith(self._raw_suffix):
            match = shape.varying(data, self._raw_start, len(data) - self._raw_tail)
            if match is not None:
                self._take_plain(shape, match, len(data) - _RAW_BYTES)
                return
        if len(self._opening) < _OPENING_BYTES:
            self._opening += data[: _OPENING_BYTES - len(self._opening)]
        if self._whole:
            self._body_bytes += len(data)
            if self._body_bytes <= _WHOLE_BYTES:
                self._body.append(data)
            return
        decoder = self._decoder
        for event in decoder.feed(data):
            self._take(event)
        shape = self._shape
        if shape is None or self.done or not decoder.idle:
            self._raw_prefix = None
        elif self._raw_prefix is None:
            self.go_on(shape)

    def stamp(self, t_ns: int, lag_ns: int, previous_ns: int) -> None:
        """End of one socket read: date the token events fed since the last stamp.

        t_ns: when the read's last bytes arrived, which dates its last token event. Earlier ones came
        somewhere after `previous_ns` (end of the read before it, or the send): they are marked coalesced.
        lag_ns: how much later than t_ns the client got to read.
        """
        held = self._held
        if not held:
            self._read_ns = t_ns
            return
        if self._first_due:
            self._date_first(t_ns, previous_ns)
        self.last_token_ns = t_ns
        self.chunks += len(held)
        *earlier, (tokens, nbytes, channel, _) = held
        for event in earlier:
            self._add(self.index, t_ns, *event[:3], lag_ns, True)
        self._add(self.index, t_ns, tokens, nbytes, channel, lag_ns, False)
        held.clear()

    @property
    def plain_shape(self) -> Shape | None:
        """The form of its last event, where it stands between two events and more of that form can be counted apart."""
        shape = self._shape
        if self._raw_prefix is None or shape is None or (self._first_due and shape.channel in {CONTENT, TOOL}):
            return None
        return shape

    def add_plain(self, events: int, tokens: int, t_ns: int) -> None:
        """Count token events of one form that are in the sink already, the last one received at `t_ns`.

        tokens: of all of them; NULL where they do not say.
        """
        self.chunks += events
        self.last_token_ns = t_ns
        if tokens != NULL:
            self._counted += events
            self._counted_tokens += tokens

    def take_events(self, events: Sequence[tuple[Event, bytes]]) -> None:
        """Take events, with their data, that others have read: all that came since the last one ended."""
        self._decoder.begin_after_event()
        for event, data in events:
            if self.first_token_ns == NULL:
                self._opening = (self._opening + OPENING + data + CLOSING)[:_OPENING_BYTES]
            if not self.done:
                self._take_event(event, len(data))
        self._shape = self._raw_prefix = None

    def add_first(self, t_ns: int, tokens: int, error_ns: int) -> None:
        """Note the first token event, which is in the sink already; `add_plain` counts it. Its channel is CONTENT."""
        self._decoder.begin_after_event()
        self.first_token_ns = self.first_output_ns = t_ns
        self.first_chunk_tokens, self.first_token_error_ns, self._first_due = tokens, error_ns, False

    def go_on(self, shape: Shape) -> None:
        """Expect events of this form, between two events, where others have taken those before."""
        if not self.done:
            self._shape = shape
            self._raw_prefix, self._raw_suffix = shape.raw_prefix, shape.raw_suffix
            self._raw_start, self._raw_tail = len(self._raw_prefix), len(self._raw_suffix)

    def finish(self, ended: Ended) -> tuple[Outcome, str]:
        """Settle the counts; return the outcome and its explanation ("" for ok, else ≤ 500 characters)."""
        if self._whole:
            self._read_whole(ended)
        elif ended is Ended.COMPLETE and not self.done:
            self._take_tail()
        self._settle_tokens()
        return judge(
            Facts(
                ended=ended,
                status=0 if self.http_status == NULL else self.http_status,
                streamed=not self._whole,
                error=self._error,
                malformed=self._malformed,
                done=self.done,
                finish_reason=self.finish_reason,
                output_tokens=self.output_tokens if self.tokens_source == _USAGE else None,
                events=int(self.last_token_ns != NULL) if self._whole else self.chunks,
                due_tokens=self.due_tokens,
                opening=self._opening,
                reasoned=self._reading.reasoned,
            )
        )

    @property
    def hidden_reasoning(self) -> bool:
        """Whether the server counts reasoning tokens that the stream did not show: its first token is unknown."""
        return self.reasoning_tokens > 0 and not self._reasoning_seen

    def _take(self, data: bytes) -> None:
        """Take one event of the stream."""
        if data == DONE:
            self.done = self.done or not self._reading.ends_by_event
            return
        if self.done or not data:
            return
        shape = self._shape
        if shape is not None and data.startswith(shape.prefix) and data.endswith(shape.suffix):
            match = shape.varying(data, len(shape.prefix), len(data) - len(shape.suffix))
            if match is not None:
                self._take_plain(shape, match, len(data))
                return
        try:
            event = self._reading.event(data)
        except ValueError as error:
            self._malformed = self._malformed or clip(f"{error}: {data[:_OPENING_BYTES].decode('utf-8', 'replace')!r}")
            return
        if event.shape is not None or event.channel != NO_CHANNEL:
            self._shape, self._raw_prefix = event.shape, None
        self._take_event(event, len(data))

    def _take_tail(self) -> None:
        """Take the terminal event of a body that is whole but for the blank line after its last event."""
        tail = self._decoder.tail.strip()
        data = tail.removeprefix(b"data:").strip() if b"\n" not in tail and tail.startswith(b"data:") else b""
        if not self._reading.ends_by_event:
            self.done = data == DONE
        elif data:
            with suppress(ValueError):
                event = self._reading.event(data)
                if event.ends:
                    self._take_event(event, len(data))

    def _take_plain(self, shape: Shape, match: re.Match[bytes], nbytes: int) -> None:
        """Take an event that differs from the last one of its shape in its text and ids only."""
        if shape.between is not None:
            tokens = match[1].count(b",") + 1
            self._counted += 1
            self._counted_tokens += tokens
            self._held.append((tokens, nbytes, shape.channel, True))
        else:
            self._held.append((NULL, nbytes, shape.channel, True))

    def _take_event(self, event: Event, nbytes: int) -> None:
        self._error = self._error or event.error
        self.done = event.ends
        self.finish_reason = event.finish_reason or self.finish_reason
        tokens = event.tokens
        if event.usage is not None:
            risen = self._take_usage(event.usage, event)
            tokens = risen if tokens == NULL else tokens
        channel = event.channel
        visible = channel != NO_CHANNEL or self._reading.all_output
        if channel == NO_CHANNEL:
            if tokens <= 0:
                return
            channel = self._channel
        self._channel = channel
        self._reasoning_seen = self._reasoning_seen or channel == REASONING
        if tokens != NULL:
            self._counted += 1
            self._counted_tokens += tokens
        self._held.append((tokens, nbytes, channel, visible))

    def _take_usage(self, usage: Usage, event: Event) -> int:
        """Keep the counts; return by how many output tokens they rose, NULL where that says nothing.

        Only usage that comes with every event says what one event held: the totals at the end of a stream,
        alone or with the finish reason, rise from nothing to everything.
        """
        before = self.output_tokens
        self.input_tokens = usage.input_tokens if usage.input_tokens != NULL else self.input_tokens
        self.output_tokens = usage.output_tokens if usage.output_tokens != NULL else before
        self.reasoning_tokens = usage.reasoning_tokens if usage.reasoning_tokens != NULL else self.reasoning_tokens
        self.cached_tokens = usage.cached_tokens if usage.cached_tokens != NULL else self.cached_tokens
        if not event.choices or usage.output_tokens == NULL:
            return NULL
        self._per_event_usage = self._per_event_usage or not event.finish_reason
        return usage.output_tokens - max(before, 0) if self._per_event_usage else NULL

    def _date_first(self, t_ns: int, previous_ns: int) -> None:
        held = self._held
        if self.first_token_ns == NULL:
            self.first_token_ns = t_ns
            self.first_chunk_tokens = held[0][0]
            self.first_token_error_ns = max(t_ns - previous_ns, 0) if len(held) > 1 else 0
        if any(visible and channel in {CONTENT, TOOL} for _, _, channel, visible in held):
            self.first_output_ns = t_ns
            self._first_due = False

    def _read_whole(self, ended: Ended) -> None:
        """Read a reply that was not streamed: it has one time, its end, and the tokens that usage says."""
        if ended is not Ended.COMPLETE or not 200 <= self.http_status < 300:
            return
        if self._body_bytes > _WHOLE_BYTES:
            self._malformed = f"the reply has {self._body_bytes} bytes, more than {_WHOLE_BYTES}"
            return
        try:
            event = self._reading.reply(b"".join(self._body))
        except ValueError as error:
            self._malformed = clip(f"{error}: {self._opening.decode('utf-8', 'replace')!r}") if self._body_bytes else ""
            return
        finally:
            self._body.clear()
        self.done = event.choices
        self._error, self.finish_reason = event.error, event.finish_reason
        if event.usage is not None:
            self._take_usage(event.usage, event)
        if self.output_tokens == NULL and event.tokens != NULL:
            self.output_tokens = event.tokens
        if event.channel != NO_CHANNEL or self.output_tokens > 0:
            self.last_token_ns = self._read_ns

    def _settle_tokens(self) -> None:
        """Output tokens by the best source: usage, else ids or logprobs of every event, else the events."""
        if self.output_tokens != NULL:
            self.tokens_source = _USAGE
        elif self.chunks > 0:
            exact = self._counted == self.chunks
            self.output_tokens = self._counted_tokens if exact else self.chunks
            self.tokens_source = _USAGE if exact else _CHUNKS
        if self.hidden_reasoning:
            self.first_token_ns = self.first_token_error_ns = NULL
