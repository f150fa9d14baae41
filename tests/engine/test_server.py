"""The simulated server over real sockets: what clients of an OpenAI-compatible API see."""

import csv
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FAST = {"step": {"base_ms": 2, "token_ms": 0, "kv_token_ms": 0, "sequence_ms": 0, "noise_cv": 0}}


@contextmanager
def started(order: dict) -> Iterator[tuple[subprocess.Popen, int]]:
    """A server process and its port."""
    command = [sys.executable, "-m", "slobench.engine.server"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as p:
        p.stdin.write(json.dumps(order) + "\n")
        p.stdin.flush()
        yield p, json.loads(p.stdout.readline())["port"]
        p.stdin.close()
        p.wait(10)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared server's log."""
    return tmp_path_factory.mktemp("engine") / "requests.csv"


@pytest.fixture(scope="module")
def port(log: Path) -> Iterator[int]:
    """A server with 2 ms steps."""
    with started({"engine": {**FAST, "max_model_len": 4096}, "log": str(log)}) as (_, port):
        yield port


def ask(port: int, path: str, fields: dict | None = None, **headers: str) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        body = None if fields is None else json.dumps(fields)
        client.request("GET" if fields is None else "POST", path, body, headers)
        reply = client.getresponse()
        return reply.status, reply.read()
    finally:
        client.close()


def events(body: bytes) -> list[dict]:
    """The JSON events of a stream that must end in [DONE]."""
    *data, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in data]


def gauge(port: int, name: str) -> float:
    """One sample of /metrics, summed over its labels."""
    text = ask(port, "/metrics")[1].decode()
    found = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not exposed"
    return sum(map(float, found))


def until(condition, seconds: float = 10) -> None:
    """Wait for what must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


COMPLETION = {"model": "sim", "prompt": [1, 2, 3], "max_tokens": 5, "ignore_eos": True}
CHAT = {"model": "sim", "messages": [{"role": "user", "content": "a b"}], "max_tokens": 5, "ignore_eos": True}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def test_a_completion_stream_has_one_event_a_token_and_the_usage_last(port):
    """Five tokens: five text events, the last with its reason, then the usage of 3 + 5 tokens."""
    status, body = ask(port, "/v1/completions", {**COMPLETION, **USAGE})
    *tokens, usage = events(body)
    assert status == 200
    assert all(event["choices"][0]["text"].strip() for event in tokens)
    assert [event["choices"][0]["finish_reason"] for event in tokens] == [None] * 4 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] == 3
    assert usage["usage"]["completion_tokens"] == 5
    assert usage["usage"]["total_tokens"] == 8


def test_a_chat_stream_names_the_role_first(port):
    """The first event has a role and no text; five with content follow."""
    _, body = ask(port, "/v1/chat/completions", {**CHAT, "stream": True})
    role, *tokens = events(body)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(tokens) == 5
    assert all(event["choices"][0]["delta"]["content"] for event in tokens)
    assert "usage" not in role


@pytest.mark.parametrize(("path", "fields"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)])
def test_a_whole_reply_says_what_its_stream_says(port, path, fields):
    """The same body gives the same text, whole or streamed, as far as the reply's seed is the same."""
    status, body = ask(port, path, fields)
    choice = json.loads(body)["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    assert status == 200
    assert len(text.split()) == 5
    assert json.loads(body)["usage"]["completion_tokens"] == 5
    assert choice["finish_reason"] == "length"


def test_token_ids_come_when_asked_for(port):
    """Each event of a stream, and the whole reply, carries the ids of its tokens."""
    _, body = ask(port, "/v1/completions", {**COMPLETION, "stream": True, "return_token_ids": True})
    ids = [event["choices"][0]["token_ids"] for event in events(body)]
    assert [len(some) for some in ids] == [1] * 5
    assert [event["choices"][0]["text"] for event in events(body)] == [f" w{some[0]}" for some in ids]
    _, body = ask(port, "/v1/completions", {**COMPLETION, "return_token_ids": True})
    assert len(json.loads(body)["choices"][0]["token_ids"]) == 5


def test_usage_in_every_event_rises_by_one(port):
    """With continuous_usage_stats the count of tokens is in each event."""
    options = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    _, body = ask(port, "/v1/completions", {**COMPLETION, **options})
    assert [event["usage"]["completion_tokens"] for event in events(body)] == [1, 2, 3, 4, 5, 5]


def test_the_other_pages(port):
    """Models with the context length, health, version; unknown paths and wrong methods are refused."""
    status, body = ask(port, "/v1/models")
    assert (status, json.loads(body)["data"][0]["id"]) == (200, "sim")
    assert json.loads(body)["data"][0]["max_model_len"] == 4096
    assert ask(port, "/health")[0] == 200
    assert list(json.loads(ask(port, "/version")[1])) == ["version"]
    assert ask(port, "/nowhere")[0] == 404
    assert ask(port, "/v1/completions")[0] == 405
    assert ask(port, "/health", {})[0] == 405
    assert ask(port, "/reset_prefix_cache", {})[0] == 200
    assert ask(port, "/reset_prefix_cache")[0] == 404


def test_refusals_are_json_errors(port):
    """A bad body is a 400 and an unknown model a 404, both with an error object."""
    for fields, status in (({"prompt": [10**9]}, 400), ({**COMPLETION, "model": "gpt"}, 404)):
        seen, body = ask(port, "/v1/completions", fields)
        assert seen == status
        assert json.loads(body)["error"]["code"] == status


def test_the_metrics_count_what_was_served(port):
    """Counters and histograms rise by exactly what one reply adds."""
    names = {
        "vllm:prompt_tokens_total": 3,
        "vllm:generation_tokens_total": 5,
        "vllm:request_success_total": 1,
        "vllm:time_to_first_token_seconds_count": 1,
        "vllm:inter_token_latency_seconds_count": 4,
        "vllm:request_time_per_output_token_seconds_count": 1,
        "vllm:e2e_request_latency_seconds_count": 1,
        "vllm:request_queue_time_seconds_count": 1,
        "vllm:iteration_tokens_total_sum": 3 + 4,
    }
    before = {name: gauge(port, name) for name in names}
    ask(port, "/v1/completions", COMPLETION)
    assert {name: gauge(port, name) - before[name] for name in names} == names
    assert gauge(port, "vllm:num_requests_running") == 0
    assert gauge(port, "vllm:num_requests_waiting") == 0


def test_a_client_that_goes_away_frees_its_seat(port):
    """After a disconnect nothing runs, and the request counts as aborted."""
    before = gauge(port, 'vllm:request_success_total{engine="0",model_name="sim",finished_reason="abort"}')
    body = json.dumps({**COMPLETION, "max_tokens": 4000, "stream": True})
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"POST /v1/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        client.recv(100)
        assert gauge(port, "vllm:num_requests_running") == 1
    until(lambda: gauge(port, "vllm:num_requests_running") == 0)
    after = gauge(port, 'vllm:request_success_total{engine="0",model_name="sim",finished_reason="abort"}')
    assert after == before + 1


def test_requests_in_a_row_on_one_connection_are_answered_in_turn(port):
    """Three requests sent at once, cut at odd places, get three replies in order."""
    sent = b""
    for tokens in (3, 1, 2):
        body = json.dumps({**COMPLETION, "max_tokens": tokens})
        sent += f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), 37):
            client.sendall(sent[start : start + 37])
        seen = b""
        while seen.count(b'"completion_tokens"') < 3:
            seen += client.recv(65536)
    assert re.findall(rb'"completion_tokens":(\d)', seen) == [b"3", b"1", b"2"]


def test_http_1_0_and_expect_and_garbage(port):
    """An HTTP/1.0 stream is not chunked and ends with the connection; 100-continue is given; garbage is a 400."""
    body = json.dumps({**COMPLETION, "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.%d\r\nconnection: close\r\n%scontent-length: %d\r\n\r\n"

    def exchange(sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(sent)
            return b"".join(iter(lambda: client.recv(65536), b""))

    old = exchange(head % (0, b"", len(body)) + body)
    assert b"chunked" not in old
    assert old.endswith(b"data: [DONE]\n\n")
    assert exchange(head % (1, b"expect: 100-continue\r\n", len(body)) + body).startswith(
        b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    assert exchange(b"what?\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_no_token_is_early_and_the_log_has_every_reply(port, log):
    """Each reply's row has its tokens, and its last one not before that many steps of 2 ms have passed."""
    for _ in range(3):
        ask(port, "/v1/completions", {**COMPLETION, "max_tokens": 20}, **{"x-request-id": "timed"})

    def rows() -> list[dict]:
        return [row for row in csv.DictReader(log.read_text().splitlines()) if row["id"] == "timed"]

    until(lambda: len(rows()) == 3)
    for row in rows():
        received, first, last = (int(row[name]) for name in ("recv_ns", "first_ns", "last_ns"))
        assert (row["tokens"], row["status"]) == ("20", "done")
        assert first - received >= 2_000_000
        assert last - received >= 20 * 2_000_000


def test_a_conversation_finds_its_earlier_turns_in_the_cache(port):
    """A second turn skips the full blocks of the first, reply included; under another salt nothing is found."""
    opening = {"role": "user", "content": " ".join(f"word{k}" for k in range(100))}
    _, body = ask(port, "/v1/chat/completions", {**CHAT, "messages": [opening], "max_tokens": 50})
    first = json.loads(body)
    reply = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
    turn = {**CHAT, "messages": [opening, reply, {"role": "user", "content": "go on"}]}
    usage = json.loads(ask(port, "/v1/chat/completions", turn)[1])["usage"]
    total = first["usage"]["total_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == (total - 1) // 16 * 16
    usage = json.loads(ask(port, "/v1/chat/completions", {**turn, "cache_salt": "other"})[1])["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


def test_priority_decides_who_is_next():
    """With one seat and policy priority, the more urgent of two waiting requests is answered first."""
    engine = {**FAST, "policy": "priority", "max_num_seqs": 1}
    with started({"engine": engine}) as (_, port):
        clients = []
        for tokens, priority in ((100, 0), (3, 5), (2, -5)):
            body = json.dumps({**COMPLETION, "max_tokens": tokens, "priority": priority})
            client = socket.create_connection(("127.0.0.1", port), timeout=20)
            client.sendall(f"POST /v1/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            clients.append(client)
            until(
                lambda: (
                    gauge(port, "vllm:num_requests_running") + gauge(port, "vllm:num_requests_waiting") == len(clients)
                )
            )
        clients[1].recv(1)
        clients[2].setblocking(False)
        assert clients[2].recv(65536)  # there already
        for client in clients:
            client.close()


@pytest.mark.parametrize("how", ["stdin", "SIGTERM"])
def test_the_server_ends_with_its_parent_or_when_told(how):
    """Closing stdin or SIGTERM ends it at once, exit code 0, also in the middle of a reply; SIGINT does not."""
    with started({"engine": FAST}) as (process, port):
        body = json.dumps({**COMPLETION, "max_tokens": 20_000, "stream": True})
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"POST /v1/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            client.recv(100)
            process.send_signal(signal.SIGINT)
            assert ask(port, "/health")[0] == 200
            if how == "stdin":
                process.stdin.close()
            else:
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stderr.read() == ""


@pytest.mark.parametrize("line", ["", "not json\n", '{"engine": {"kv_tokens": -1}}\n', '{"prot": 80}\n'])
def test_an_order_that_cannot_be_read_is_an_error_on_stderr(line):
    """A bad first line ends the server with exit code 2 and the reason."""
    done = subprocess.run(
        [sys.executable, "-m", "slobench.engine.server"],
        input=line,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cannot read the order on stdin")
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_an_error_on_stderr():
    """Where it cannot listen it says so, exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        order = json.dumps({"port": taken.getsockname()[1]}) + "\n"
        done = subprocess.run(
            [sys.executable, "-m", "slobench.engine.server"],
            input=order,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert "address already in use" in done.stderr
