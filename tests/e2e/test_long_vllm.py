"""Minutes against a real vLLM: a steady load, whose figures are the server's own."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Vllm, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

LENGTHS = ("--input-tokens", "lognormal:mean=96,sigma=0.6,max=512", "--output-tokens", "uniform:low=8,high=48")


def moved(vllm: Vllm, before: dict[str, float], name: str) -> float:
    """How far one of the server's series went since `before`."""
    return vllm.counters().get(name, 0.0) - before.get(name, 0.0)


def test_three_steady_minutes(vllm: Vllm, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Every request ends well; counts are the server's, mean TTFT and E2E its histograms' within V15's limits."""
    before = vllm.counters()
    load = ("--rate", "3", "--duration", "180s", "--warmup", "20s", "--drain", "grace=10s")
    done = run(tmp_path / "run", vllm.completions, *load, *LENGTHS)
    sent = done.requests.filter([outcome != "unsent" for outcome in done.column("outcome")])
    n = sent.num_rows
    record_property("requests", n)
    record_property("verdict", done.record["verdict"])
    record_property("send lag p99", f"{sorted(sent['send_lag_s'].to_pylist())[-(n // 100) - 1] * 1e3:.2f} ms")
    assert Counter(sent["outcome"].to_pylist()) == {"ok": n}
    assert moved(vllm, before, "vllm:request_success_total") == n + 1  # and the probe of token ids
    assert moved(vllm, before, "vllm:generation_tokens_total") == sum(sent["output_tokens"].to_pylist()) + 1
    assert moved(vllm, before, "vllm:prompt_tokens_total") == sum(sent["input_tokens_planned"].to_pylist()) + 2
    assert moved(vllm, before, "vllm:prefix_cache_hits_total") == 0
    for ours, theirs in (("ttft_sent_s", "time_to_first_token"), ("e2e_sent_s", "e2e_request_latency")):
        total, count = (moved(vllm, before, f"vllm:{theirs}_seconds_{part}") for part in ("sum", "count"))
        server, client = total / count, statistics.fmean(sent[ours].to_pylist())
        record_property(f"mean {theirs}, server", f"{server * 1e3:.2f} ms")
        record_property(f"mean {theirs}, slobench", f"{client * 1e3:.2f} ms")
        assert abs(client - server) < max(0.05, 0.25 * server), (ours, client, server)
