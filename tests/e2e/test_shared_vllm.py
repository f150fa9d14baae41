"""Against one real vLLM: what a report says is what the server's own counters and histograms say."""

from __future__ import annotations

import statistics
import threading
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from slobench.metrics.told import Told, grown, measured_hit_rate
from slobench.records.schema import SERVER_METRICS
from slobench.records.store import load
from slobench.targets.http import Server
from tests.e2e.conftest import Run, Vllm, run

pytestmark = pytest.mark.smoke

IN, OUT, N = 48, 16, 30
OPEN = ("--rate", "3", "--requests", str(N), "--input-tokens", str(IN), "--output-tokens", str(OUT))


def difference(after: dict[str, float], before: dict[str, float], name: str) -> float:
    """How far one of the server's counters went."""
    return after.get(name, 0.0) - before.get(name, 0.0)


def ttft_agrees(done: Run, after: dict[str, float], before: dict[str, float], probes: int) -> None:
    """Hold the client's mean TTFT from the send against the server's histogram, within V15's second limits.

    The server counts from the request's arrival in its process, so the client can only be later.
    """
    count = difference(after, before, "vllm:time_to_first_token_seconds_count")
    assert count == N + probes
    server = difference(after, before, "vllm:time_to_first_token_seconds_sum") / count
    client = statistics.fmean(done.column("ttft_sent_s"))
    # Probes are in the server's mean: one fast request of N + 1 moves it by at most 1/(N + 1) of itself.
    assert client > server * (1 - 1 / (N + 1)) - 1e-3
    assert client - server < max(0.05, 0.25 * server)


def all_served(done: Run) -> None:
    """Every planned request is a row that ended well, with the planned tokens by the server's own count."""
    assert done.code in (0, 3), done.err  # on a machine that is busy otherwise the client may call itself late
    assert done.column("outcome") == ["ok"] * len(done.column("index"))
    assert set(done.column("tokens_source")) == {"usage"}
    assert set(done.column("output_tokens")) == {OUT}
    assert set(done.column("finish_reason")) == {"length"}


def test_open_loop_completions(vllm: Vllm, tmp_path: Path) -> None:
    """Open loop over completions: tokens in and out equal plan, usage and the server's counters; TTFT is its own."""
    before = vllm.counters()
    done = run(tmp_path / "run", vllm.completions, *OPEN)
    after = vllm.counters()
    all_served(done)
    assert done.column("input_tokens") == [IN] * N
    probes = 1  # one token for two ids of prompt, to confirm the range
    assert difference(after, before, "vllm:request_success_total") == N + probes
    assert difference(after, before, "vllm:prompt_tokens_total") == N * IN + 2 * probes
    assert difference(after, before, "vllm:generation_tokens_total") == N * OUT + probes
    ttft_agrees(done, after, before, probes)
    assert done.record["settings"]["observed"]["max_model_len"] == 2048
    tokens = done.chunks["tokens"].to_pylist()
    assert sum(tokens) == N * OUT  # ids were asked for: every event says how many it carries


def test_open_loop_chat(vllm: Vllm, tmp_path: Path) -> None:
    """Open loop over chat with text: the role-only event that comes at once is not taken for the first token."""
    before = vllm.counters()
    done = run(tmp_path / "run", vllm.chat, *OPEN)
    after = vllm.counters()
    all_served(done)
    assert difference(after, before, "vllm:generation_tokens_total") == N * OUT
    ttft_agrees(done, after, before, 0)


def test_open_loop_responses(vllm: Vllm, tmp_path: Path) -> None:
    """Open loop over responses: the counts of the last event are the server's own; what opens an item is no token."""
    before = vllm.counters()
    done = run(tmp_path / "run", vllm.chat, *OPEN, "--api", "responses")
    after = vllm.counters()
    all_served(done)
    assert difference(after, before, "vllm:request_success_total") == N
    assert difference(after, before, "vllm:prompt_tokens_total") == sum(done.column("input_tokens"))
    assert difference(after, before, "vllm:generation_tokens_total") == N * OUT
    ttft_agrees(done, after, before, 0)
    # No ids can be asked for: a token without text has no event, and tokens that waited together share one.
    assert all(1 <= chunks <= OUT for chunks in done.column("chunks"))


def test_classes_of_three_apis(vllm: Vllm, tmp_path: Path) -> None:
    """Chat, responses and completions in one run, as text and as ids, with a grammar in one of them."""
    base = {"arrivals": {"process": "constant", "rate": 2}, "input_tokens": {"dist": "constant", "value": IN},
            "output_tokens": {"dist": "constant", "value": OUT}}  # fmt: skip
    grammar = {"extra_body": {"structured_outputs": {"choice": ["yes", "no"]}, "ignore_eos": None}}
    classes = {"chat": {"api": "chat"}, "agent": {"api": "responses"}, "batch": {}, "choice": grammar}
    path = tmp_path / "three.yaml"
    path.write_text(
        yaml.safe_dump({"name": "three", "requests": 24, "classes": {k: base | v for k, v in classes.items()}})
    )
    done = run(tmp_path / "run", vllm.completions, str(path))
    assert done.code in (0, 3), done.err
    rows = done.requests.select(["class", "outcome", "input_tokens", "output_tokens"]).to_pylist()
    assert {row["outcome"] for row in rows} == {"ok"}
    assert {(row["class"], row["output_tokens"]) for row in rows if row["class"] != "choice"} == {
        ("chat", OUT), ("agent", OUT), ("batch", OUT),
    }  # fmt: skip
    assert all((row["input_tokens"] == IN) == (row["class"] in {"batch", "choice"}) for row in rows)
    assert all(row["output_tokens"] < OUT for row in rows if row["class"] == "choice")


def test_closed_loop(vllm: Vllm, tmp_path: Path) -> None:
    """Closed loop: never more in flight than users; a user's next request starts when the last one ended."""
    users = 3
    load = ("--concurrency", str(users), "--requests", "18", "--input-tokens", str(IN), "--output-tokens", str(OUT))
    done = run(tmp_path / "run", vllm.completions, *load)
    all_served(done)
    rows = done.requests.select(["session", "turn", "scheduled_ns", "started_ns", "end_ns"]).to_pylist()
    edges = sorted([(row["started_ns"], 1) for row in rows] + [(row["end_ns"], -1) for row in rows])
    in_flight, most = 0, 0
    for _, step in edges:
        in_flight += step
        most = max(most, in_flight)
    assert most == users
    for user in range(users):
        turns = sorted((row for row in rows if row["session"] == user), key=lambda row: row["turn"])
        assert all(later["scheduled_ns"] >= earlier["end_ns"] for earlier, later in pairwise(turns))


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_without_streaming(vllm: Vllm, tmp_path: Path, api: str) -> None:
    """A reply in one piece has an E2E time and tokens, and no TTFT: null, never 0."""
    target = vllm.chat if api == "chat" else vllm.completions
    load = ("--rate", "4", "--requests", "8", "--input-tokens", str(IN), "--output-tokens", str(OUT))
    done = run(tmp_path / "run", target, *load, "--set", "talk.stream=false", "--set", "talk.return_token_ids=false")
    all_served(done)
    assert done.column("ttft_s") == [None] * 8
    assert all(e2e > 0 for e2e in done.column("e2e_s"))


def test_the_other_transport(vllm: Vllm, tmp_path: Path) -> None:
    """The second transport sees the same replies."""
    load = ("--rate", "4", "--requests", "8", "--input-tokens", str(IN), "--output-tokens", str(OUT))
    done = run(tmp_path / "run", vllm.completions, *load, "--set", "talk.transport=aiohttp")
    all_served(done)
    assert sum(done.chunks["tokens"].to_pylist()) == 8 * OUT


def test_no_run_meets_an_earlier_ones_prompts(vllm: Vllm, tmp_path: Path) -> None:
    """The same workload and seed twice: the server's prefix cache is not hit once, though it holds whole prompts."""
    load = ("--rate", "4", "--requests", "6", "--input-tokens", "400", "--output-tokens", "4", "--seed", "7")
    before = vllm.counters()
    first, second = (run(tmp_path / name, vllm.completions, *load) for name in ("first", "second"))
    after = vllm.counters()
    assert first.record["plan"]["digest"] == second.record["plan"]["digest"]
    assert first.record["nonce"] != second.record["nonce"]
    assert difference(after, before, "vllm:prefix_cache_queries_total") >= 2 * 6 * 400
    assert difference(after, before, "vllm:prefix_cache_hits_total") == 0


def test_the_server_confirms_the_run(vllm: Vllm, tmp_path: Path) -> None:
    """What it told of itself beside the load: every name of the vocabulary, and totals that are the client's.

    No load of others, no prompt met before; TTFT on both sides agrees (on a busy machine its front end may warn).
    """
    done = run(tmp_path / "run", vllm.completions, *OPEN, "--set", "telemetry.interval=500ms")
    all_served(done)
    records = load(done.folder).records
    told = Told.of(records.telemetry)
    assert {name for name in told.by_name if not name.startswith(("host_", "telemetry_"))} == set(SERVER_METRICS)
    gained = {name: grown(told, name) for name in SERVER_METRICS}
    for name, wanted in (
        ("requests_total", N),
        ("ttft_count", N),
        ("queue_count", N),
        ("input_tokens_total", N * IN),
        ("output_tokens_total", N * OUT),
        ("prefix_query_tokens", N * IN),
        ("prefix_hit_tokens", 0),
    ):
        total = gained[name]
        assert total is not None
        assert (name, total.by, total.resets) == (name, wanted, 0)
    levels = {finding["code"]: finding["level"] for finding in done.json["findings"]}
    assert not {"V14", "V17"} & levels.keys()
    assert levels.get("V15") in (None, "warning")
    rate = measured_hit_rate(records)
    assert rate is not None
    assert rate.share == 0
    server = done.json["server"]
    assert server["running_max"] >= 1
    assert server["tokens_per_iteration"] >= 1
    assert 0 < server["kv_usage_max"] < 1


def test_the_cache_finds_what_the_plan_repeats(vllm: Vllm, tmp_path: Path) -> None:
    """Prompts of a pool of beginnings: the hits of the server's own block size, as run.json and the report have them."""
    spec = {"arrivals": {"process": "constant", "rate": 4}, "input_tokens": {"dist": "constant", "value": 400},
            "output_tokens": {"dist": "constant", "value": 4},
            "prefix": {"pool": 3, "zipf": 1, "tokens": {"dist": "constant", "value": 300}}}  # fmt: skip
    path = tmp_path / "pool.yaml"
    path.write_text(yaml.safe_dump({"name": "pool", "requests": 24, "classes": {"a": spec}}))
    done = run(tmp_path / "run", vllm.completions, str(path), "--set", "telemetry.interval=500ms")
    assert set(done.column("outcome")) == {"ok"}
    told, rate = done.record["plan"]["sharing"], measured_hit_rate(load(done.folder).records)
    assert (told["block_tokens"], told["tokens"]) == (128, 24 * 400)
    assert told["cache_hit_tokens"] == told["hit_tokens"] == 21 * 256
    assert rate is not None
    assert (rate.hit_tokens, rate.query_tokens) == (21 * 256, 24 * 400)
    assert done.json["fidelity"]["all"]["sharing"]["limited"] == pytest.approx(rate.share)


def test_others_on_the_server_are_seen(vllm: Vllm, tmp_path: Path) -> None:
    """Somebody else's requests during the run are found by the server's own count (V14)."""
    url, stop = vllm.running.endpoint.url, threading.Event()
    body = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 1}

    def load_it() -> None:
        while not stop.wait(0.5):
            Server(url).post("/v1/completions", body)

    other = threading.Thread(target=load_it)
    other.start()
    try:
        done = run(tmp_path / "run", vllm.completions, *OPEN)
    finally:
        stop.set()
        other.join()
    assert done.code == 3
    assert {f["code"]: f["level"] for f in done.json["findings"]}["V14"] == "invalid"


def test_an_slo_that_is_missed(vllm: Vllm, tmp_path: Path) -> None:
    """A missed objective ends with exit code 4, unless the client itself was too late to say (3)."""
    load = ("--rate", "4", "--requests", "8", "--input-tokens", str(IN), "--output-tokens", str(OUT))
    done = run(tmp_path / "run", vllm.completions, *load, "--slo", "e2e<1ms", "--slo", "attainment>=99%")
    assert done.code in (3, 4)
    assert set(done.column("slo_met")) == {False}
    assert 4 in (done.json["exit"], *(done.json.get("exits", ()))) or done.code == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--input-tokens", "2040", "--output-tokens", "16"), "2048"),
        (("--input-tokens", "16", "--output-tokens", "16", "--model", "other"), "no model 'other'"),
        (("--input-tokens", "16", "--output-tokens", "16", "--set", "talk.token_ids=[100, 9000]"), "talk.token_ids"),
    ],
    ids=["too long", "no such model", "token ids"],
)
def test_what_the_server_cannot_do_is_refused_before_the_start(vllm, tmp_path, arguments, text) -> None:
    """Requests that the server would clamp or refuse end the command with exit 2 before one is sent."""
    before = vllm.counters()
    done = run(tmp_path / "run", vllm.completions, "--rate", "2", "--requests", "4", *arguments)
    after = vllm.counters()
    assert done.code == 2, done.err
    assert text in done.err
    assert difference(after, before, "vllm:generation_tokens_total") <= 1  # the probe of token ids
