"""Server-sent events from bytes, whatever the reads."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.wire.sse import SseDecoder

STREAM = (
    b"\xef\xbb\xbf: hello\r\n\r\ndata: one\n\ndata:two\r\rdata: a\r\ndata: b \r\n\r\nevent: x\nid: 1\ndata\n\n"
    b"data: \xe2\x80\xa8\x0b\x0c\xc2\x85\n\n:\n\n\n\ndata:  spaced \n\nretry: 5\n\ndatax: no\n\ndata: {}\n\r\ndata: cut"
)
EVENTS = [b"one", b"two", b"a\nb ", b"", "\u2028\x0b\x0c\x85".encode(), b" spaced ", b"{}"]


def decode(reads: list[bytes]) -> list[bytes]:
    """Feed the reads to one decoder."""
    decoder = SseDecoder()
    return [event for read in reads for event in decoder.feed(read)]


def test_lines_end_in_lf_cr_or_crlf_and_nothing_else() -> None:
    """Comments, other fields and empty events are skipped; U+2028, VT, FF and NEL are text."""
    assert decode([STREAM]) == EVENTS


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_events_do_not_depend_on_where_a_read_ends(cut: int) -> None:
    """Two reads, cut at any byte, give the same events."""
    assert decode([STREAM[:cut], STREAM[cut:]]) == EVENTS


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_reads(cuts: list[int]) -> None:
    """Any number of reads, empty ones too, give the same events."""
    edges = [0, *sorted(cuts), len(STREAM)]
    assert decode([STREAM[a:b] for a, b in pairwise(edges)]) == EVENTS


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_give_the_same_events_under_any_cut(stream: bytes, cuts: list[int]) -> None:
    """Also what is no event stream is read the same way however it arrives."""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert decode([stream[a:b] for a, b in pairwise(edges)]) == decode([stream])


def test_an_event_is_given_as_soon_as_its_blank_line_began() -> None:
    """The CR that ends an event is not held back for the LF that may follow."""
    decoder = SseDecoder()
    assert decoder.feed(b"data: x\r\n\r") == [b"x"]
    assert decoder.feed(b"\ndata: y\r\n\r\n") == [b"y"]


def test_idle_and_tail_say_what_is_held_back() -> None:
    """An incomplete event is in the tail, and only a finished one leaves the decoder idle."""
    decoder = SseDecoder()
    decoder.feed(b"data: a\n\n")
    assert (decoder.idle, decoder.tail) == (True, b"")
    decoder.feed(b"data: b\ndata: [DO")
    assert (decoder.idle, decoder.tail) == (False, b"data: b\ndata: [DO")


def test_an_open_line_is_joined_once() -> None:
    """A 1 MB event in 1,000 reads is kept in parts, not copied again at each read."""
    decoder = SseDecoder()
    for _ in range(1_000):
        assert decoder.feed(b"x" * 1_000) == []
    assert len(decoder._parts) == 1_000
    assert decoder.feed(b"\n\ndata: y\n\n") == [b"y"]
