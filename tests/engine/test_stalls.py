"""Stalls: work that falls into a pause waits for its end, in virtual time and over HTTP."""

from __future__ import annotations

import csv
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from slobench.config.engine import Engine, Stall, StepTime
from slobench.engine.stalls import end_of_work
from slobench.engine.virtual import Offer, serve

S = 10**9


def stall(at: int, lasts: int, every: int | None) -> Stall:
    """A stall in ns."""
    return Stall.model_construct(at=at, lasts=lasts, every=every)


stalls = st.lists(
    st.builds(
        lambda at, lasts, gap: stall(at, lasts, None if gap is None else lasts + gap),
        st.integers(0, 40),
        st.integers(1, 10),
        st.none() | st.integers(1, 20),
    ),
    max_size=3,
)


def on(pauses: list[Stall], t: int) -> bool:
    """Whether the tick [t, t + 1) lies in a stall."""
    return any(
        t >= each.at and ((t - each.at) % each.every if each.every is not None else t - each.at) < each.lasts
        for each in pauses
    )


@given(pauses=stalls, start=st.integers(0, 60), work=st.integers(1, 30))
def test_work_is_done_in_the_ticks_that_no_stall_holds(pauses: list[Stall], start: int, work: int) -> None:
    """Ticking through time one by one gives the same end; where stalls together hold all time, none is looked for."""
    t, left = start, work
    while left and t < 5000:
        left -= not on(pauses, t)
        t += 1
    if not left:
        assert end_of_work(pauses, start, work) == t


def test_a_stall_delays_what_arrives_in_it() -> None:
    """Requests every 100 ms to an engine of 10 ms steps, which pauses from 2 s to 5 s: those wait for its end.

    The one at 2 s is in the step that the stall holds up, the others in the step after it.
    """
    step = StepTime(base_ms=10, token_ms=0, kv_token_ms=0, sequence_ms=0, noise_cv=0)
    spec = Engine(step=step, stalls=(Stall(at="2s", lasts="3s"),))
    at = np.arange(100) * S // 10
    one = np.ones(100, np.int64)
    ttft_s = (serve(spec, Offer(at, one, one)).first_token_ns - at) / S
    inside = (at > 2 * S) & (at < 5 * S)
    assert ttft_s[inside] == pytest.approx(5 + 0.02 - at[inside] / S)
    assert ttft_s[20] == pytest.approx(3.01)
    assert ttft_s[at >= 51 * S // 10] == pytest.approx(0.01)
    assert ttft_s[at < 2 * S] == pytest.approx(0.01)


def test_a_stall_that_never_ends_is_refused() -> None:
    """`every` is longer than `lasts`."""
    with pytest.raises(ValidationError, match="never ends"):
        Stall(at="0s", lasts="3s", every="3s")


def test_the_server_stalls_too(tmp_path: Path) -> None:
    """No token of a request that is sent into a stall of the server's first 2 s is written before its end."""
    step = {"base_ms": 1, "token_ms": 0, "kv_token_ms": 0, "sequence_ms": 0, "noise_cv": 0}
    log = tmp_path / "requests.csv"
    order = {"engine": {"step": step, "stalls": [{"at": "0s", "lasts": "2s"}]}, "log": str(log)}
    command = [sys.executable, "-m", "slobench.engine.server"]
    before_ns = time.monotonic_ns()  # the engine's clock starts later
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        client = http.client.HTTPConnection("127.0.0.1", json.loads(server.stdout.readline())["port"], timeout=20)
        client.request("POST", "/v1/completions", json.dumps({"prompt": [1, 2], "max_tokens": 2, "model": "sim"}))
        reply = client.getresponse()
        assert (reply.status, bool(reply.read())) == (200, True)
        client.close()
        server.stdin.close()
    with log.open() as file:
        (row,) = csv.DictReader(file)
    assert int(row["first_ns"]) >= before_ns + 2 * S
