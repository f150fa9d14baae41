"""Connections: TLS, pools, silent reconnects, timeouts, aborts; on both transports."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slobench.errors import UsageError
from slobench.names import NULL, Outcome
from tests.conformance.dialect import DONE, END, Dialect, chunk, head, streamed, whole
from tests.conformance.harness import Ask, TransportName, converse, unseen
from tests.conformance.server import Close, Reset, Send, Sleep

MS = 10**6


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    """Make the server's TLS settings."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("trust", ["ca_bundle", "insecure"])
def test_tls_with_a_trusted_or_accepted_certificate(dialect: Dialect, ask: Ask, certificate: Path, trust: str) -> None:
    """Two requests over one TLS connection, a 1 MB reply among them, where the certificate is trusted or accepted."""
    ask.scheme, ask.requests = "https", 2
    ask.endpoint = {"ca_bundle": str(certificate)} if trust == "ca_bundle" else {"insecure": True}
    script = streamed(dialect.text("x" * (1 << 20)), dialect.text(" b"), dialect.finish(), dialect.usage(7, 2), DONE)
    seen = converse([script, streamed(dialect.reply([" a"]))], ask, tls=server_side(certificate))
    assert [exchange.outcome for exchange in seen.exchanges] == [Outcome.OK, Outcome.OK]
    assert [exchange.connection_new for exchange in seen.exchanges] == [True, False]
    assert seen.connections == 1


def test_tls_that_cannot_be_verified_fails(ask: Ask, certificate: Path) -> None:
    """A self-signed certificate that nobody vouched for ends as `connection`, and no request is sent."""
    ask.scheme = "https"
    seen = converse([streamed(DONE)], ask, tls=server_side(certificate))
    assert (seen.outcome, seen.requests) == (Outcome.CONNECTION, [])
    assert "tls" in seen.exchange.error
    assert "certificate" in seen.exchange.error
    assert unseen(seen)


def test_a_ca_bundle_that_is_none_is_told(ask: Ask, tmp_path: Path) -> None:
    """A bundle that cannot be read is the user's error."""
    ask.scheme, ask.endpoint = "https", {"ca_bundle": str(tmp_path / "missing.pem")}
    with pytest.raises(UsageError, match=r"missing\.pem"):
        converse([streamed(DONE)], ask)


def test_the_request_as_the_server_sees_it(dialect: Dialect, ask: Ask) -> None:
    """Path, length, id, no compression, the user's headers; the body arrives whole."""
    ask.endpoint = {"headers": {"authorization": "Bearer secret"}}
    seen = converse([streamed(dialect.reply([" a"]))], ask)
    (request,) = seen.requests
    call = "chat/completions" if dialect.api == "chat" else "completions"
    assert request.head.startswith(f"POST /v1/{call} HTTP/1.1\r\n".encode())
    assert request.body == b'{"prompt":[1]}'
    expected = {
        "accept-encoding": "identity", "content-type": "application/json", "x-request-id": "test-0",
        "authorization": "Bearer secret", "content-length": "14", "transfer-encoding": None,
    }  # fmt: skip
    assert {name: request.header(name) for name in expected} == expected


MODES = {
    "pooled": ((0, 1, 2), [True, False, False], 1),
    "per-request": ((0, 0, 0), [True, True, True], 3),
    "per-session": ((0, 1, 0), [True, True, False], 2),
}


@pytest.mark.parametrize("mode", MODES)
def test_connection_modes(dialect: Dialect, ask: Ask, mode: str) -> None:
    """Connections are shared, made anew or kept by session, as asked; which it was is recorded."""
    sessions, new, connections = MODES[mode]
    ask.requests, ask.sessions, ask.endpoint = 3, sessions, {"connection": mode}
    seen = converse([streamed(dialect.reply([" a"]))], ask)
    assert [exchange.outcome for exchange in seen.exchanges] == [Outcome.OK] * 3
    assert [exchange.connection_new for exchange in seen.exchanges] == new
    assert seen.connections == connections


def test_a_connection_that_the_server_closed_while_idle_is_not_used(dialect: Dialect, ask: Ask) -> None:
    """The close of an idle connection is seen, and the next request opens a new one, without a retry."""
    ask.requests, ask.pause_s = 2, 0.1
    good = streamed(dialect.reply([" a"]))
    seen = converse([[*good, Sleep(0.02), Close()], good], ask)
    assert [exchange.outcome for exchange in seen.exchanges] == [Outcome.OK, Outcome.OK]
    assert [exchange.reconnects for exchange in seen.exchanges] == [0, 0]
    assert seen.exchanges[1].connection_new is True


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_one_silent_reconnect_where_a_pooled_connection_died_unanswered(dialect: Dialect, ask: Ask, end: Any) -> None:
    """A pooled connection that closes on the request, before any byte: sent again once, counted, time counts on."""
    ask.requests = 2
    good = streamed(dialect.reply([" a"]))
    seen = converse([good, [Sleep(0.05), end], good], ask)
    second = seen.exchanges[1]
    assert second.outcome is Outcome.OK, second.error
    assert (second.reconnects, second.connection_new, len(seen.requests)) == (1, True, 3)
    assert seen.requests[1].body == seen.requests[2].body
    assert second.reply.first_token_ns - second.started_ns >= 49 * MS


def test_a_second_death_is_an_outcome(dialect: Dialect, ask: Ask) -> None:
    """The request is sent again once only."""
    ask.requests = 2
    seen = converse([streamed(dialect.reply([" a"])), [Sleep(0.01), Close()]], ask)
    assert seen.exchanges[1].outcome is Outcome.CONNECTION
    assert (seen.exchanges[1].reconnects, len(seen.requests)) == (1, 3)


def test_nothing_is_sent_again_after_the_first_byte(dialect: Dialect, ask: Ask) -> None:
    """A connection that dies within the reply's head is a failure: the server may have done the work."""
    ask.requests = 2
    seen = converse([streamed(dialect.reply([" a"])), [Send(head()[:20]), Sleep(0.05), Close()]], ask)
    assert seen.exchanges[1].outcome is Outcome.CONNECTION
    assert (seen.exchanges[1].reconnects, len(seen.requests)) == (0, 2)


def test_a_new_connection_that_dies_is_not_tried_again(ask: Ask) -> None:
    """Only pooled connections can have been stale: the first one's close is the server's answer."""
    seen = converse([[Close()]], ask)
    assert (seen.outcome, seen.exchange.reconnects, len(seen.requests)) == (Outcome.CONNECTION, 0, 1)


def test_a_proxy_is_asked_for_the_whole_url(dialect: Dialect) -> None:
    """Through an HTTP proxy the request line holds the URL, and only the proxy's name is resolved."""
    seen = converse([streamed(dialect.reply([" a"]))], Ask("aiohttp", dialect.api, through_proxy=True))
    assert seen.outcome is Outcome.OK
    assert seen.requests[0].head.startswith(b"POST http://upstream.invalid/v1/")


def test_nobody_listens(ask: Ask) -> None:
    """A refused connection ends as `connection`, with never a sent time."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ask.port = taken.getsockname()[1]  # bound and not listening: refused
        seen = converse([streamed(DONE)], ask)
    assert seen.outcome is Outcome.CONNECTION
    assert seen.exchange.sent_ns == seen.exchange.connected_ns == NULL
    assert "refused" in seen.exchange.error.lower()
    assert unseen(seen)


def test_an_unknown_host_is_told_at_once(transport: TransportName) -> None:
    """A name that does not resolve is the user's error, before anything is offered."""
    import asyncio

    from slobench.clock import MonotonicClock
    from slobench.generate.exchange import ReadCounters
    from slobench.wire.endpoint import Endpoint
    from tests.conformance.harness import TRANSPORTS

    endpoint = Endpoint(url="http://no-such-host.invalid:1", model="tiny")
    made = TRANSPORTS[transport]((endpoint,), MonotonicClock(), lambda _: None, "test", ReadCounters())
    with pytest.raises(UsageError, match=r"no-such-host\.invalid"):
        asyncio.run(made.open())


def stalls(dialect: Dialect) -> dict[str, tuple[list[Any], dict[str, int], Outcome]]:
    """Scripts that stall, the timeout set, and the outcome it must give."""
    token = chunk(dialect.text(" a"))
    drip = [step for _ in range(40) for step in (Send(token), Sleep(0.02))]
    return {
        "no reply": ([Sleep(10)], {"first_token_timeout_ns": 80 * MS}, Outcome.TIMEOUT_FIRST_TOKEN),
        "head only": ([Send(head()), Sleep(10)], {"first_token_timeout_ns": 80 * MS}, Outcome.TIMEOUT_FIRST_TOKEN),
        "role only": (
            [Send(head() + chunk(dialect.role())), Sleep(10)],
            {"first_token_timeout_ns": 80 * MS},
            Outcome.TIMEOUT_FIRST_TOKEN,
        ),
        "stall": ([Send(head() + token), Sleep(10)], {"idle_timeout_ns": 80 * MS}, Outcome.TIMEOUT_IDLE),
        "drip": ([Send(head()), *drip, Sleep(10)], {"total_timeout_ns": 150 * MS}, Outcome.TIMEOUT_TOTAL),
        "first of two": (
            [Send(head() + token), Sleep(10)],
            {"idle_timeout_ns": 5_000 * MS, "total_timeout_ns": 100 * MS},
            Outcome.TIMEOUT_TOTAL,
        ),
    }


@pytest.mark.parametrize("case", list(stalls(Dialect("chat"))))
def test_each_timeout_has_its_own_outcome(dialect: Dialect, ask: Ask, case: str) -> None:
    """T17: a stall ends no earlier than its timeout, as that timeout's outcome; tokens that came are kept."""
    script, ask.endpoint, outcome = stalls(dialect)[case]
    seen = converse([script], ask)
    assert seen.outcome is outcome
    assert seen.ends == [0]
    since_ns = seen.reply.last_token_ns if outcome is Outcome.TIMEOUT_IDLE else seen.exchange.started_ns
    assert seen.exchange.end_ns - since_ns >= min(ask.endpoint.values())
    assert seen.exchange.end_ns - since_ns < 5_000 * MS  # long before the script or any other timeout ends it
    assert (seen.reply.first_token_ns == NULL) == (outcome is Outcome.TIMEOUT_FIRST_TOKEN)


def test_slow_streams_outlive_the_idle_timeout(dialect: Dialect, ask: Ask) -> None:
    """A stream that drips is not idle, though it takes longer than the idle timeout in all."""
    ask.endpoint = {"idle_timeout_ns": 300 * MS}
    drip = [step for k in range(10) for step in (Send(chunk(dialect.text(f" {k}"))), Sleep(0.05))]
    seen = converse([[Send(head()), *drip, Send(chunk(dialect.finish() + dialect.usage(7, 10) + DONE) + END)]], ask)
    assert (seen.outcome, seen.reply.chunks) == (Outcome.OK, 10)


def test_a_whole_reply_is_not_held_to_a_first_token(dialect: Dialect, ask: Ask) -> None:
    """Not streamed: there is no first token to wait for, so its timeout does not end a slow reply."""
    ask.stream, ask.endpoint = False, {"first_token_timeout_ns": 50 * MS}
    seen = converse([[Sleep(0.15), *whole(dialect.whole(" a"))]], ask)
    assert seen.outcome is Outcome.OK


def test_connecting_has_a_timeout(ask: Ask) -> None:
    """A server that accepts and never shakes hands ends as `timeout_connect`."""
    ask.scheme, ask.endpoint = "https", {"insecure": True, "connect_timeout_ns": 80 * MS}
    seen = converse([[]], ask, silent=True)
    assert seen.outcome is Outcome.TIMEOUT_CONNECT
    assert seen.exchange.end_ns - seen.exchange.started_ns >= 80 * MS
    assert seen.exchange.sent_ns == NULL


@pytest.mark.parametrize("how", ["abort", "close"])
def test_what_is_in_flight_can_be_cut(dialect: Dialect, ask: Ask, how: str) -> None:
    """An exchange that is aborted, or open when the transport closes, ends once as `cut`; its tokens are kept."""
    if how == "abort":
        ask.abort_after_s = 0.05
    else:
        ask.close_after_s = 0.05
    seen = converse([[Send(head() + chunk(dialect.text(" a"))), Sleep(10)]], ask)
    assert (seen.outcome, seen.ends) == (Outcome.CUT, [0])
    assert seen.reply.chunks == len(seen.chunks) == 1
    assert seen.exchange.end_ns >= seen.reply.last_token_ns


def test_an_abort_after_the_end_does_nothing(dialect: Dialect, ask: Ask) -> None:
    """An exchange that has ended keeps its outcome."""
    ask.abort_after_s, ask.pause_s = 0.1, 0.15
    seen = converse([streamed(dialect.reply([" a"]))], ask)
    assert (seen.outcome, seen.ends) == (Outcome.OK, [0])


def test_a_reply_that_nobody_asked_for_is_nobody_s(dialect: Dialect, ask: Ask) -> None:
    """A server that says 408 on an idle connection and closes it: the next request gets a new connection."""
    ask.requests, ask.pause_s = 2, 0.1
    good = streamed(dialect.reply([" a"]))
    late = [Send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"), Sleep(0.02), Close()]
    seen = converse([[*good, Sleep(0.02), *late], good], ask)
    assert [exchange.outcome for exchange in seen.exchanges] == [Outcome.OK, Outcome.OK]
    assert (seen.exchanges[1].reply.http_status, seen.exchanges[1].connection_new) == (200, True)


@pytest.mark.parametrize("surplus", [b"noise", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"])
def test_bytes_behind_a_reply_end_its_connection_only(dialect: Dialect, surplus: bytes) -> None:
    """What follows a reply in the same read spoils neither it nor the next one (fast; aiohttp cannot tell)."""
    good = streamed(dialect.reply([" a"]))
    seen = converse([[Send(good[0].data + surplus)], good], Ask("python", dialect.api, requests=2, pause_s=0.05))
    assert [exchange.outcome for exchange in seen.exchanges] == [Outcome.OK, Outcome.OK]
    assert seen.exchanges[0].reply.http_status == 200
    assert seen.exchanges[1].connection_new is True


def test_the_reads_are_counted(dialect: Dialect, ask: Ask) -> None:
    """Reads with tokens are counted, and it is said whether the kernel or the client dated them."""
    seen = converse([[Send(head()), Sleep(0.02), *[Send(chunk(dialect.reply([" a"])) + END)]]], ask)
    assert seen.exchange.reads >= 1
    assert seen.counters.reads >= seen.exchange.reads
    assert seen.counters.stamps in {"kernel", "user"}
    assert seen.exchange.headers_ns >= seen.exchange.sent_ns >= seen.exchange.connected_ns - MS
