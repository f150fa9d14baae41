"""A server that runs already is asked who it is, without generating more than one token."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from pathlib import Path

import pytest

from slobench.config.target import RemoteTarget, Talk
from slobench.errors import ConfigError, TargetStartError
from slobench.targets.launch import start
from tests.targets.fake_server import VLLM, serving


def reach(url: str, tmp_path: Path, *, e2e_limit_s: float | None = None, headers=None, **talk):
    """Reach a remote target."""
    target = RemoteTarget(kind="remote", url=url, talk=Talk(**talk))
    return start(target, log=tmp_path / "server.log", headers=headers, e2e_limit_s=e2e_limit_s)


def test_what_is_found_completes_the_settings(tmp_path):
    """Model, context and version come from the server; nothing is generated unless token ids are to be sent."""
    with serving(VLLM) as (url, seen):
        running = reach(url + "/v1", tmp_path)
    assert (running.endpoint.url, running.endpoint.model) == (url, "tiny")
    assert running.endpoint.max_model_len == 2048
    assert running.endpoint.forces_length
    assert running.observed["version"] == "0.32.0"
    assert [path for path, *_ in seen] == ["/v1/models", "/version"]
    assert running.alive()
    assert running.failure() is None
    assert running.pid is None
    running.stop()


def test_ignore_eos_is_sent_only_where_it_is_known_to_be_obeyed(tmp_path):
    """Length is forced where /version reads like vLLM's, not where it is absent or the setting says no."""
    with serving({**VLLM, "/version": (404, "")}) as (url, _):
        assert not reach(url, tmp_path).endpoint.forces_length
        assert reach(url, tmp_path, forces_length=True).endpoint.forces_length
    with serving(VLLM) as (url, _):
        assert not reach(url, tmp_path, forces_length=False).endpoint.forces_length


def test_one_token_confirms_the_token_ids(tmp_path):
    """Both ends of talk.token_ids are sent once, for one token, with headers and extra fields."""
    with serving(VLLM) as (url, seen):
        running = reach(url, tmp_path, token_ids=(100, 4000), extra_body={"top_k": 1}, headers={"x-key": "s3cret"})
    path, body, headers = seen[-1]
    assert path == "/v1/completions"
    assert body == {"model": "tiny", "prompt": [100, 3999], "max_tokens": 1, "top_k": 1}
    assert headers["x-key"] == "s3cret"
    assert running.observed["probe_requests"] == 1
    assert "s3cret" not in repr(running.observed) + repr(running.endpoint)


def test_an_embedding_confirms_the_token_ids_of_an_embeddings_target(tmp_path):
    """A server of embeddings alone is asked for one, not for a completion; nothing of it is streamed."""
    answers = {**VLLM, "/v1/embeddings": (200, {"data": [{"embedding": [1.0]}]}), "/v1/completions": (404, {})}
    with serving(answers) as (url, seen):
        running = reach(url, tmp_path, api="embeddings", token_ids=(100, 4000))
    assert seen[-1][:2] == ("/v1/embeddings", {"model": "tiny", "input": [100, 3999]})
    assert running.endpoint.stream is False


def test_token_ids_outside_the_vocabulary_are_a_usage_error(tmp_path):
    """A 400 to the probe of token ids names the key and what the server said."""
    answer = (400, {"error": {"message": "token id 3999 is out of vocabulary"}})
    with serving({**VLLM, "/v1/completions": answer}) as (url, _), pytest.raises(ConfigError) as error:
        reach(url, tmp_path, token_ids=(100, 4000))
    assert "talk.token_ids: [100, 4000)" in str(error.value)
    assert "out of vocabulary" in str(error.value)


def test_a_failing_first_request_is_the_targets_fault(tmp_path):
    """A 500 to the probe of token ids is a failed target, not a wrong setting."""
    with serving({**VLLM, "/v1/completions": (500, {})}) as (url, _), pytest.raises(TargetStartError, match="HTTP 500"):
        reach(url, tmp_path, token_ids=(100, 4000))


def test_a_server_without_a_list_of_models(tmp_path):
    """Where /v1/models is missing the model must be named, and is then taken as it is."""
    with serving({}) as (url, _):
        with pytest.raises(ConfigError, match=r"--model NAME"):
            reach(url, tmp_path)
        assert reach(url, tmp_path, model="mine").endpoint.model == "mine"


def test_a_model_that_is_not_served(tmp_path):
    """vLLM's list of models is complete: another name is refused. A gateway's may not be: it is noted."""
    with serving(VLLM) as (url, _), pytest.raises(ConfigError, match=r"no model 'big'\n  it serves  tiny, other"):
        reach(url, tmp_path, model="big")
    with serving({**VLLM, "/version": (404, "")}) as (url, _):
        running = reach(url, tmp_path, model="big")
    assert running.observed["note"] == "big is not in the server's list of models"


@pytest.mark.parametrize("garbage", [b"not json", {"data": "text"}, [1, 2], {"data": [None, {"no": "id"}]}])
def test_garbage_in_the_list_of_models(tmp_path, garbage):
    """Whatever /v1/models says, a named model can be used and nothing crashes."""
    with serving({"/v1/models": (200, garbage), "/version": (200, garbage)}) as (url, _):
        assert reach(url, tmp_path, model="mine").endpoint.model == "mine"


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_key_is_a_usage_error(tmp_path, status):
    """A server that wants a key says so before the run, and the flag is named."""
    with serving({"/v1/models": (status, {})}) as (url, _), pytest.raises(ConfigError, match="--api-key-env"):
        reach(url, tmp_path)


def test_a_server_that_fails(tmp_path):
    """A server error at /v1/models is a failed target, with its words."""
    with serving({"/v1/models": (503, {"error": "loading"})}) as (url, _), pytest.raises(TargetStartError) as error:
        reach(url, tmp_path)
    assert "HTTP 503" in str(error.value)
    assert "loading" in str(error.value)


def test_nothing_listens(tmp_path):
    """A refused connection is named as such, with the URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(TargetStartError, match="connection refused: nothing listens there"):
        reach(f"http://127.0.0.1:{port}", tmp_path)


def test_a_name_that_cannot_be_resolved(tmp_path):
    """A failed look-up names the host."""
    with pytest.raises(TargetStartError, match=r"'no-such-host\.invalid' cannot be resolved"):
        reach("http://no-such-host.invalid", tmp_path)


def test_something_that_is_not_http(tmp_path):
    """A server of another protocol is told from one that is down."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(TargetStartError, match="its answer is not HTTP"):
            reach(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path)
        thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_tls_is_verified_unless_told_otherwise(tmp_path, certificate):
    """A private certificate is refused with both ways out named, and accepted with its bundle or insecurely."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    class Server(http.server.ThreadingHTTPServer):
        def finish_request(self, request, client_address) -> None:
            try:
                with tls.wrap_socket(request, server_side=True) as secured:
                    super().finish_request(secured, client_address)
            except OSError:  # the client that does not trust us
                return

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"https://localhost:{server.server_address[1]}"
            with pytest.raises(TargetStartError, match=r"certificate is not trusted: .*\n.*\n.*--ca-bundle FILE"):
                reach(url, tmp_path, model="m")
            assert reach(url, tmp_path, model="m", insecure=True).endpoint.insecure
            assert reach(url, tmp_path, model="m", ca_bundle=str(certificate)).endpoint.ca_bundle == str(certificate)
            with pytest.raises(ConfigError, match="cannot read the CA bundle"):
                reach(url, tmp_path, model="m", ca_bundle=str(tmp_path / "none.pem"))
        finally:
            server.shutdown()
            thread.join()


def test_the_total_timeout_follows_the_slo(tmp_path):
    """Unset, it is ten times the E2E limit and at least two minutes; set, it is what was set."""
    with serving({}) as (url, _):
        times = [
            reach(url, tmp_path, model="m").endpoint,
            reach(url, tmp_path, model="m", e2e_limit_s=30.0).endpoint,
            reach(url, tmp_path, model="m", e2e_limit_s=30.0, timeouts={"total": "7s"}).endpoint,
        ]
    assert [endpoint.total_timeout_ns // 10**9 for endpoint in times] == [120, 300, 7]


def test_requests_go_through_the_proxy_that_is_named(tmp_path, monkeypatch):
    """The target's proxy gets the absolute URL; proxies of the environment are never used."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    answers = {"http://far.invalid/v1/models": VLLM["/v1/models"]}
    with serving(answers) as (proxy, seen):
        running = reach("http://far.invalid", tmp_path, proxy=proxy, transport="aiohttp")
    assert running.endpoint.model == "tiny"
    assert seen[0][0] == "http://far.invalid/v1/models"
