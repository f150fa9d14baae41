"""The order that a worker gets: whole after the pipe, and silent about its secrets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slobench.generate.job import Job
from slobench.wire.endpoint import Endpoint
from tests.generate.rig import job_of

FULL = Endpoint(
    url="https://example.org/prefix",
    model="org/model",
    api="chat",
    stream=False,
    transport="aiohttp",
    connection="per-session",
    proxy="http://proxy:3128",
    headers={"Authorization": "Bearer sk-secret", "x-ü": "ñ"},
    insecure=True,
    ca_bundle="/etc/ca.pem",
    connect_timeout_ns=None,
    first_token_timeout_ns=1,
    idle_timeout_ns=2,
    total_timeout_ns=2**62,
    forces_length=True,
    per_event_usage=True,
    return_token_ids=True,
    cache_salt=True,
    extra_body={"a": [1, None, {"b": 0.5}]},
    max_model_len=4096,
)


@pytest.mark.parametrize("endpoint", [FULL, replace(FULL, token_ids=(100, 4000)), Endpoint("http://h", "m")])
def test_a_job_survives_the_pipe(tmp_path: Path, endpoint: Endpoint) -> None:
    """One line of JSON, and the same value on the other side."""
    job = job_of(
        tmp_path,
        endpoint=endpoint,
        endpoints=(endpoint, replace(endpoint, api="embeddings", model="other")),
        limits={"chat": [("ttft", 0.5, 0.001)]},
        shared_prefix_tokens={"chat": 128},
        texts={"chat": "/data/plays.txt"},
        images={"chat": (640, 480)},
        closed=True,
        think_ns=5,
    )
    line = job.to_json()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    back = Job.from_json(line)
    # JSON has no tuples: limits come back as lists, which is all that differs.
    assert replace(back, limits=job.limits) == job
    assert back.endpoints_of(2) == job.endpoints
    assert replace(back, endpoints=()).endpoints_of(3) == (endpoint,) * 3
    assert {name: [tuple(limit) for limit in limits] for name, limits in back.limits.items()} == job.limits


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    """A job in a traceback or a log shows no header."""
    job = job_of(tmp_path, endpoint=FULL)
    assert "sk-secret" not in repr(job)
    assert "sk-secret" not in repr(job.endpoint)
    assert b"sk-secret" in job.to_json()
