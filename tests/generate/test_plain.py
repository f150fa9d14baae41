"""Reads taken without a parser: whatever the cuts and whatever comes, the records are those of the parsers."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.generate import connection, native
from slobench.generate.plain import READABLE, Ready
from slobench.names import NULL, Outcome
from slobench.wire import openai
from slobench.wire.outcome import Ended
from tests.conformance.dialect import DONE, END, Dialect, chunk, head
from tests.generate.plain_rig import Kind, line, opening_of, receive, rows_of, untimed, usual

MS, S = 10**6, 10**9
built = pytest.mark.skipif(native.find()[0] is None, reason=f"no native module: {native.find()[1]}")
KINDS = [pytest.param("native", marks=built), "python"]
SPEAKS = {"completions": Dialect("completions"), "chat": Dialect("chat")}
LINGER_0 = struct.pack("ii", 1, 0)  # close sends a reset

texts = st.one_of(
    st.sampled_from([" tok", "a", "\\", '"', "\n", "é", "\u2028", "😀", "\x00", "a" * 300, ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
ids = st.none() | st.lists(st.integers(0, 10**6), max_size=4)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """Events of one reply: mostly plain ones, with others among them."""
    speaks = SPEAKS[draw(st.sampled_from(sorted(SPEAKS)))]
    with_ids = draw(st.booleans())

    def token() -> bytes:
        extra = {"token_ids": draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3))} if with_ids else {}
        return speaks.text(draw(texts), **extra)

    odd = st.sampled_from(
        [
            b": ping\n\n",
            b"\n",
            speaks.role(),
            b"data: {\n\n",
            speaks.event({"reasoning": "r"}),
            speaks.text("x", finish="stop"),
        ]
    )
    events = [token() if draw(st.integers(0, 9)) else draw(odd) for _ in range(draw(st.integers(1, 12)))]
    if draw(st.booleans()):
        events = [event.replace(b"\n", b"\r\n") if draw(st.integers(0, 9)) == 0 else event for event in events]
    return speaks.api, [*events, speaks.finish(), speaks.usage(7, 3), DONE]


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A reply on the wire, in the pieces in which it is read; sometimes with a byte that is wrong."""
    api, events = draw(bodies())
    chunked = draw(st.integers(0, 4)) > 0
    wire: list[bytes] = []
    while events:
        n = draw(st.integers(1, 3)) if draw(st.booleans()) else 1
        body, events = b"".join(events[:n]), events[n:]
        wire.append(odd_chunk(draw, body) if chunked else body)
    opening = head() if chunked else head("200 OK", "text/event-stream", "connection: close")
    pieces = [opening, *wire, *([END] if chunked else [])]
    if draw(st.booleans()):  # as a server writes it, some writes cut or joined
        return api, recut(draw, pieces)
    whole = bytearray(b"".join(pieces))
    if draw(st.booleans()):
        at = draw(st.integers(len(opening), len(whole) - 1))
        whole[at] = draw(st.sampled_from(b'"\\\n\r,[]{}0aF;\x00\x1f\xff '))
    cuts = sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
    return api, [bytes(whole[low:high]) for low, high in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def odd_chunk(draw: st.DrawFn, body: bytes) -> bytes:
    """A chunk whose size is written in one of the ways that HTTP allows, or cut in two."""
    if draw(st.integers(0, 9)):
        return chunk(body)
    shape = draw(st.sampled_from([b"%X\r\n%b\r\n", b"000%x\r\n%b\r\n", b"%x;a=b\r\n%b\r\n", b"0000000%x\r\n%b\r\n"]))
    if len(body) > 1 and draw(st.booleans()):
        at = draw(st.integers(1, len(body) - 1))
        return chunk(body[:at]) + chunk(body[at:])
    return shape % (len(body), body)


def recut(draw: st.DrawFn, pieces: list[bytes]) -> list[bytes]:
    """Join some pieces with the next one, and cut some in two."""
    reads: list[bytes] = []
    for piece in pieces:
        how = draw(st.integers(0, 9))
        if how == 0 and reads:
            reads[-1] += piece
        elif how == 1 and len(piece) > 1:
            at = draw(st.integers(1, len(piece) - 1))
            reads += [piece[:at], piece[at:]]
        else:
            reads.append(piece)
    return reads


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=250, deadline=None)
@given(stream=streams())
def test_any_cut_of_any_stream_is_recorded_as_the_parsers_record_it(
    kind: Kind, stream: tuple[str, list[bytes]]
) -> None:
    """Rows, counts, outcome and reads are the same with the bypass and without, also of streams that are wrong."""
    api, pieces = stream
    assert untimed(receive(kind, pieces, api)) == untimed(receive("none", pieces, api))  # type: ignore[arg-type]


OPENINGS = {
    (api, with_ids): opening_of(speaks, **({"token_ids": [5]} if with_ids else {}))
    for api, speaks in SPEAKS.items()
    for with_ids in (False, True)
}


def renamed(pieces: list[bytes], name: bytes, created: bytes) -> list[bytes]:
    """The same reads with another id and time; sizes of chunks are not adapted, so that these go wrong too."""
    return [piece.replace(b"cmpl-1", name).replace(b"1795450309", created) for piece in pieces]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=250, deadline=None)
@given(
    stream=streams(),
    with_ids=st.booleans(),
    name=st.sampled_from([b"cmpl-1", b"cmpl-2", b"", b"chatcm", b'cmp"-2', b"cmpl\\2", b"cmpl\n2"]),
    created=st.sampled_from([b"1795450309", b"1795450310", b"1", b"17954503.9", b"null"]),
)
def test_any_beginning_is_recorded_as_the_parsers_record_it(
    kind: Kind, stream: tuple[str, list[bytes]], *, with_ids: bool, name: bytes, created: bytes
) -> None:
    """Rows, counts, outcome and reads are the same where the reply is held against the beginning of another."""
    api, pieces = stream
    pieces = renamed(pieces, name, created)
    opening = OPENINGS[api, with_ids]
    assert untimed(receive(kind, pieces, api, opening)) == untimed(receive("none", pieces, api))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("joined", [False, True], ids=["head apart", "head and first event in one read"])
@pytest.mark.parametrize("speaks", SPEAKS.values(), ids=SPEAKS)
def test_a_reply_that_begins_as_the_last_one_is_taken_from_its_head_on(
    kind: Kind, speaks: Dialect, *, joined: bool
) -> None:
    """Of 20 tokens the parsers see the last; times of head and first token are those of their reads."""
    pieces = renamed(usual(speaks, 20), b"cmpl-2", b"1795450311")
    pieces = [pieces[0] + pieces[1], *pieces[2:]] if joined else pieces
    got = receive(kind, pieces, speaks.api, OPENINGS[speaks.api, False])
    assert (got.outcome, got.reply.output_tokens, got.reply.chunks) == (Outcome.OK, 20, 20)
    assert got.plain_reads == len(pieces) - 1
    assert got.exchange.reads == len(pieces) == got.counters.reads
    times = [row.t_ns for row in got.rows]
    assert times == sorted(times)
    assert (got.reply.first_token_ns, got.reply.first_output_ns, got.reply.last_token_ns) == (*times[:1] * 2, times[-1])
    assert (got.exchange.headers_ns == times[0]) == joined
    assert got.exchange.sent_ns <= got.exchange.headers_ns <= times[0]
    assert got.reply.first_token_error_ns == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("apart", [False, True], ids=["one last read", "three last reads"])
@pytest.mark.parametrize("role", ["no role", "role", "role with the head"])
@pytest.mark.parametrize("speaks", SPEAKS.values(), ids=SPEAKS)
def test_replies_that_begin_and_end_alike_need_no_parser(
    kind: Kind, speaks: Dialect, role: str, *, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few of them the last events are known too: neither the HTTP parser nor the one of events is asked."""
    opening = opening_of(speaks)
    pieces = usual(speaks, 5)
    if role != "no role":  # the first event of a chat, which has no token
        said = chunk(speaks.role())
        pieces[:1] = [pieces[0], said] if role == "role" else [pieces[0] + said]
    if apart:
        pieces[-1:] = [chunk(speaks.text(" z", finish="length")), chunk(speaks.usage(7, 5)), chunk(DONE) + END]
    parsed = untimed(receive("none", pieces, speaks.api))
    for _ in range(4):
        before = receive(kind, pieces, speaks.api, opening)
    monkeypatch.setattr(connection, "httptools", None)
    monkeypatch.setattr(openai, "orjson", None)
    again = receive(kind, renamed(pieces, b"cmpl-2", b"1795450311"), speaks.api, opening)
    assert untimed(again) == untimed(before) == parsed
    assert (again.ended, again.outcome, again.reply.input_tokens) == (Ended.COMPLETE, Outcome.OK, 7)


def test_another_head_makes_no_event_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some servers put the time of day into the head: the forms of the last events are those of a second ago."""
    speaks = SPEAKS["completions"]
    first, second = usual(speaks, 5), usual(speaks, 5)
    second[0] = second[0].removesuffix(b"\r\n") + b"date: Wed, 25 Nov 2026 22:53:17 GMT\r\n\r\n"
    opening = opening_of(speaks)
    for _ in range(3):
        receive("python", first, "completions", opening)
    with line("python", "completions", opening) as made:
        made.play(second)
        assert made.opening is not None
        later = made.opening.after(opening)
    monkeypatch.setattr(connection, "httptools", None)
    assert receive("python", second, "completions", later).outcome is Outcome.OK


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stays", [True, False], ids=["keep-alive", "close"])
def test_whether_a_connection_stays_open_is_known_without_a_parser(kind: Kind, *, stays: bool) -> None:
    """A server that says in the head that it will close is not sent another request on that connection."""
    speaks = SPEAKS["completions"]
    pieces = usual(speaks, 5)
    if not stays:
        pieces[0] = pieces[0].removesuffix(b"\r\n") + b"connection: close\r\n\r\n"
    with line("python") as made:
        made.play(pieces)
        opening = made.opening
    got = [receive(kind, pieces, "completions", opening) for _ in range(4)]
    assert [each.reusable for each in got] == [stays] * 4
    assert [untimed(each) for each in got] == [untimed(receive("none", pieces))] * 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("joined", [False, True], ids=["head apart", "head and first events in one read"])
def test_a_first_read_of_several_tokens_leaves_the_first_uncertain(kind: Kind, *, joined: bool) -> None:
    """It came after the read before it, or after the send: that far it may be wrong."""
    speaks = SPEAKS["completions"]
    pieces = usual(speaks, 5)
    pieces = [pieces[0] + b"".join(pieces[1:4]), *pieces[4:]] if joined else [pieces[0], b"".join(pieces[1:])]
    got = receive(kind, pieces, "completions", OPENINGS["completions", False])
    since_ns = got.exchange.sent_ns if joined else got.exchange.headers_ns
    assert got.reply.first_token_error_ns == got.reply.first_token_ns - since_ns > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_taken_back_before_its_first_token_is_opened_again(kind: Kind) -> None:
    """Timeouts look at replies that have not begun: nothing is lost, whenever they do."""
    speaks = SPEAKS["completions"]
    for taken_back in range(4):
        with line(kind, "completions", OPENINGS["completions", False]) as made:
            pieces = usual(speaks, 6)
            for nth, piece in enumerate(pieces):
                if nth == taken_back:
                    made.connection.end_plain(made.reader)
                    made.connection.begin_plain(made.reader)
                made.server.sendall(piece)
                made.step()
            got = made.result()
        assert (got.outcome, got.reply.chunks, got.exchange.reads) == (Outcome.OK, 6, 7)
        assert made.plain_reads == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("speaks", SPEAKS.values(), ids=SPEAKS)
def test_a_usual_reply_is_taken_but_for_its_beginning_and_its_end(kind: Kind, speaks: Dialect) -> None:
    """Of 20 tokens the parsers see the head, the first and the last; each row has its read's time, in order."""
    got = receive(kind, usual(speaks, 20), speaks.api)
    assert (got.outcome, got.reply.output_tokens, got.reply.chunks) == (Outcome.OK, 20, 20)
    assert got.plain_reads == 18
    assert got.exchange.reads == 21 == got.counters.reads
    times = [row.t_ns for row in got.rows]
    assert times == sorted(times)
    assert (got.reply.first_token_ns, got.reply.last_token_ns) == (times[0], times[-1])
    assert got.exchange.receive_lag_max_ns >= max(row.lag_ns for row in got.rows)


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_one_read_are_coalesced_but_for_the_last(kind: Kind) -> None:
    """Three events in two chunks of one read: one time, two marked."""
    speaks = SPEAKS["chat"]
    events = [speaks.text(f" {k}", token_ids=[k, k + 1]) for k in range(5)]
    joined = chunk(events[2] + events[3]) + chunk(events[4])
    got = receive(kind, [head(), *map(chunk, events[:2]), joined, chunk(speaks.finish()) + chunk(DONE) + END], "chat")
    assert got.plain_reads == 2
    assert [row.coalesced for row in got.rows] == [0, 0, 1, 1, 0]
    assert [row.tokens for row in got.rows] == [2] * 5
    assert len({row.t_ns for row in got.rows[2:]}) == 1
    assert (got.reply.output_tokens, got.outcome) == (10, Outcome.OK)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", [0x00, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x5B, 0x5C, 0x5D, 0x7F, 0x80, 0xA2, 0xDC, 0xFF])
def test_any_byte_anywhere_in_a_text_is_read_as_the_parsers_read_it(kind: Kind, odd: int) -> None:
    """A text is looked through eight bytes at a time, so a byte may stand anywhere in the eight, or after them."""
    plain = chunk(SPEAKS["completions"].text("x" * 19))
    for position in (0, 1, 6, 7, 8, 9, 15, 16, 18):
        event = plain.replace(b"x" * 19, b"x" * position + bytes([odd]) + b"x" * (18 - position))
        pieces = [head(), plain, plain, event, plain]
        assert untimed(receive(kind, pieces)) == untimed(receive("none", pieces))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_reset_ends_as_the_connection_that_it_is(kind: Kind) -> None:
    """The reset of a plain stream is handed up with its reason."""
    speaks = SPEAKS["completions"]
    with line(kind) as made:
        for piece in usual(speaks, 6)[:5]:
            made.server.sendall(piece)
            made.step()
        made.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        made.server.close()
        made.step()
        got = made.result()
    assert (got.ended, got.outcome, got.reply.chunks) == (Ended.RESET, Outcome.CONNECTION, 4)
    assert "reset" in made.connection.failure.lower()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_taken_up_to_now_when_its_reads_are_taken_back(kind: Kind) -> None:
    """What was taken is counted once, and a stream taken back is handed over again at the next boundary."""
    speaks = SPEAKS["completions"]
    with line(kind) as made:
        pieces = usual(speaks, 8)
        for nth, piece in enumerate(pieces):
            made.server.sendall(piece)
            made.step()
            if made.connection.is_plain and nth % 2:
                before = made.reply.chunks
                made.connection.end_plain(made.reader)
                assert made.reply.chunks >= before
                made.connection.begin_plain(made.reader)
        got = made.result()
    assert (got.outcome, got.reply.chunks, got.exchange.reads) == (Outcome.OK, 8, 9)
    assert len(got.rows) == 8


HOSTILE = {
    "a size of 16 digits": b"ffffffffffffffff\r\n",
    "a size that is negative": b"-1\r\ndata: \r\n",
    "a size with a sign": b"+8e\r\n",
    "a size with 0x": b"0x8e\r\n",
    "a size with _": b"8_e\r\n",
    "no size": b"\r\n",
    "9 digits": b"00000008e\r\n",
    "a size beyond what is there": b"ffffffff\r\ndata: ",
    "a chunk without its line end": b"%EVENT-SIZE%\r\n%EVENT%xx",
    "a chunk that is longer than it says": b"3\r\n%EVENT%\r\n",
    "nothing but NUL": bytes(200),
    "an event that never ends": b"7fffff\r\ndata: " + b"x" * 100_000,
    "a text that never ends": b"%HEAD%" + b"x" * 100_000,
    "a text that ends in a backslash": b"%HEAD%" + b"\\",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_gets_what_the_parsers_give_it(kind: Kind, name: str) -> None:
    """Sizes and texts made to be read past their end: no crash, and the same record as without the bypass."""
    speaks = SPEAKS["completions"]
    event = speaks.text(" tok")
    beginning = chunk(event)[: chunk(event).index(b" tok")]
    piece = HOSTILE[name].replace(b"%EVENT-SIZE%", b"%x" % len(event)).replace(b"%EVENT%", event)
    pieces = [head(), chunk(event), chunk(event), piece.replace(b"%HEAD%", beginning), chunk(event)]
    assert untimed(receive(kind, pieces)) == untimed(receive("none", pieces))


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_of_thousands_of_events_is_taken_whole(kind: Kind) -> None:
    """What a stalled client finds in its socket: one read of many events, each recorded."""
    speaks = SPEAKS["completions"]
    event = chunk(speaks.text(" tok"))
    with line(kind) as made:
        for piece in (head(), event, event):
            made.server.sendall(piece)
            made.step()
        made.server.sendall(event * 600)
        time.sleep(0.05)  # for all of it to be there; were it not, the rest would come with the next reads
        while len(made.chunks.packed) // 42 < 602:
            made.step()
        got = made.result()
    assert len(got.rows) == got.reply.chunks == 602
    assert [row.coalesced for row in got.rows].count(0) == got.exchange.reads - 1


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_to_a_sink_that_wants_to_see_each(kind: Kind) -> None:
    """A sink without `packed` is called for each event, with what would stand in the row."""

    class Each:
        packed = None

        def __init__(self) -> None:
            self.rows: list[tuple[int, ...]] = []

        def add(self, *row: int) -> None:
            self.rows.append(row)

    speaks, each = SPEAKS["completions"], Each()
    event = speaks.text(" tok")
    with line(kind) as made:
        for piece in (head(), chunk(event)):
            made.server.sendall(piece)
            made.step()
        shape = made.reply.plain_shape
        assert shape is not None
        made.connection.end_plain(made.reader)
        made.reader.begin(made.connection.sock, 9, shape, True, each)
        made.server.sendall(chunk(event + event))
        assert made.poll() == []
        taken = made.reader.end(made.connection.fd)
    nbytes = len(event) - len(b"data: \n\n")
    assert [(row[0], *row[2:5], row[6]) for row in each.rows] == [
        (9, NULL, nbytes, 0, True),
        (9, NULL, nbytes, 0, False),
    ]
    assert (taken.reads, taken.events, taken.tokens) == (1, 2, NULL)
    assert {row[1] for row in each.rows} == {taken.last_ns}
    assert {row[5] for row in each.rows} == {taken.lag_max_ns}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_plain_is_left_alone(kind: Kind) -> None:
    """A ready socket that was not handed over is told, and not a byte of it is read."""
    with line(kind) as made:
        made.server.sendall(b"HTTP/1.1 200 OK\r\n")
        (ready,) = made.poll()
        assert isinstance(ready, Ready)
        assert (ready.fd, ready.data) == (made.connection.fd, None)
        assert ready.events & READABLE
        assert made.connection.sock.recv(100) == b"HTTP/1.1 200 OK\r\n"
        with pytest.raises(KeyError):
            made.reader.end(made.connection.fd)


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_of_a_plain_read_is_the_kernels(kind: Kind) -> None:
    """An event that lay 20 ms in the socket is dated before the send returned, and the wait is our lag (T12)."""
    event = chunk(SPEAKS["completions"].text(" tok"))
    with line(kind) as made:
        for piece in (head(), event):
            made.server.sendall(piece)
            made.step()
        for _ in range(100):  # the kernel stamps from a little after the first socket asks for it
            made.server.sendall(event)
            sent_ns = time.monotonic_ns()
            time.sleep(0.02)
            looked_ns = time.monotonic_ns()
            made.step()
            row = rows_of(made.chunks)[-1]
            if row.t_ns < looked_ns - 10 * MS:
                break
    assert made.plain_reads
    assert row.t_ns <= sent_ns + MS
    assert row.lag_ns >= looked_ns - sent_ns - MS
    assert made.counters.clock_steps == 0


@pytest.mark.parametrize("step_ns", [-S, -3600 * S, 6 * S, 3600 * S], ids=["-1 s", "-1 h", "+6 s", "+1 h"])
@pytest.mark.parametrize("kind", KINDS)
def test_t47_a_step_of_the_wall_clock_changes_no_time_of_a_reader(
    kind: Kind, step_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stamp from before the step is not believable: user time, no lag, and the step is counted."""
    event = chunk(SPEAKS["completions"].text(" tok"))
    with line(kind) as made:
        for piece in (head(), event):
            made.server.sendall(piece)
            made.step()
        if kind == "native":
            made.reader.wall_step_ns = step_ns  # type: ignore[attr-defined]  # its own
        else:
            wall_ns = time.time_ns
            monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + step_ns)
        made.server.sendall(event)
        before_ns = time.monotonic_ns()
        made.step()
        row = rows_of(made.chunks)[-1]
    if made.counters.unstamped:
        pytest.skip("this kernel did not stamp the read")
    assert (row.lag_ns, made.counters.clock_steps, made.plain_reads) == (0, 1, 1)
    assert before_ns <= row.t_ns <= time.monotonic_ns()


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_no_event_is_dated_before_the_one_before_it(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is stopped for 50 ms between its readings of two clocks, which dates a read as much too early."""
    event = chunk(SPEAKS["completions"].text(" tok"))
    with line(kind) as made:
        for piece in (head(), event, event):
            made.server.sendall(piece)
            made.step()
        if kind == "native":
            made.reader.wall_step_ns = 50 * MS  # type: ignore[attr-defined]  # the native reader's own
        else:
            wall_ns = time.time_ns
            monkeypatch.setattr("slobench.generate.stamps.time.time_ns", lambda: wall_ns() + 50 * MS)
        made.server.sendall(event)
        made.step()
        *_, before, row = rows_of(made.chunks)
    if made.counters.unstamped:
        pytest.skip("this kernel did not stamp the read")
    assert row.t_ns == before.t_ns
    assert row.lag_ns >= 50 * MS
