"""CPU time of Reply.feed + stamp per token event: `python benchmarks/wire.py`.

Each stream is one usual event a read, unless said; the sink appends to seven arrays as the spool does.
The figure is the best of three, so that other load on the machine counts least.
"""

from __future__ import annotations

import time
from array import array

from slobench.names import Api
from slobench.wire.reply import Reply

_EVENTS = 200_000
_TEXTS = [" the", "abc", " fox", "\\n", " über", " x"]
_HEAD = '{"id":"cmpl-0123456789abcdef","object":"%s","created":1795450309,"model":"tiny","choices":[{"index":0,'
_COMPLETION = _HEAD % "text_completion" + '"text":"%s","logprobs":null,"finish_reason":null,"token_ids":%s}]}'
_CHAT = _HEAD % "chat.completion.chunk" + '"delta":{"content":"%s"},"logprobs":null,"finish_reason":null}]}'

_RESPONSES = (
    '{"content_index":0,"delta":"%s","item_id":"msg_99bd57586a865272","logprobs":[],"output_index":0,'
    '"sequence_number":7,"type":"response.output_text.delta"}'
)


class Arrays:
    """A ChunkSink as cheap as the spool's."""

    def __init__(self) -> None:
        self._appends = tuple(array("q").append for _ in range(7))

    def add(self, index: int, t_ns: int, tokens: int, nbytes: int, channel: int, lag_ns: int, coalesced: bool) -> None:  # noqa: FBT001
        """Append one row."""
        a, b, c, d, e, f, g = self._appends
        a(index)
        b(t_ns)
        c(tokens)
        d(nbytes)
        e(channel)
        f(lag_ns)
        g(coalesced)


def _events(form: str, *fills: str) -> list[bytes]:
    return [f"data: {form % (text, *fills)}\n\n".encode() for text in _TEXTS]


def _measure(reads: list[bytes], api: Api = "completions") -> float:
    reply = Reply(index=0, api=api, stream=True, due_tokens=None, chunks=Arrays())
    reply.on_headers(200, "text/event-stream")
    start = time.process_time()
    for k in range(_EVENTS // len(reads)):
        for read in reads:
            reply.feed(read)
            reply.stamp(k, 0, 0)
    return (time.process_time() - start) / reply.chunks * 1e6


def main() -> None:
    """Print one line a stream."""
    streams = {
        "completions": _events(_COMPLETION, "null"),
        "completions with token ids": _events(_COMPLETION, "[517]"),
        "chat": _events(_CHAT),
        "JSON with spaces": [event.replace(b'":', b'": ').replace(b',"', b', "') for event in _events(_CHAT)],
        "8 events a read": [b"".join((_events(_COMPLETION, "null") * 2)[:8])],
        "unknown form (orjson)": [event.replace(b'"index":0', b'"rank":0') for event in _events(_CHAT)],
    }
    for name, reads in streams.items():
        print(f"{name:28}{min(_measure(reads) for _ in range(3)):6.2f} µs/event")
    named = [b"event: response.output_text.delta\n" + event for event in _events(_RESPONSES)]
    print(f"{'responses':28}{min(_measure(named, 'responses') for _ in range(3)):6.2f} µs/event")


if __name__ == "__main__":
    main()
