"""Telemetry through the real generator: what the server tells is held against what was sent (V14, V15, V17)."""

from __future__ import annotations

import json
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slobench.config.document import parse_document
from slobench.config.load import check_target, given_by, load_target
from slobench.config.target import CommandTarget, NullTarget, RemoteTarget, SimTarget
from slobench.config.telemetry import Telemetry
from slobench.errors import ConfigError
from slobench.experiment.live_stream import open_stream
from slobench.experiment.telemetry import Watching, watch
from slobench.metrics.told import Told, grown, measured_hit_rate
from slobench.names import Exit
from slobench.records import samples
from slobench.records.store import load
from slobench.report.build import build_report
from slobench.targets.base import Found, Launch, RunningTarget, endpoint
from slobench.targets.http import Server
from tests.experiment.running import Run, report, running, until
from tests.experiment.streaming import ask, probe
from tests.experiment.tampering import Proxy, asking
from tests.generate.mock_server import MockServer, at_once
from tests.targets.fake_server import VLLM, serving
from tests.telemetry.fake_nvml import FakeNvml

SHORT = ("--input-tokens", "64", "--output-tokens", "8", "--json", "--workers", "1", "--arrivals", "constant")
EASY = ("--slo", "ttft<60s", "--slo", "tpot<10s")
SAID = b"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\nvllm:request_success_total 5\n"


def codes(shown: dict[str, Any]) -> dict[str, str]:
    """The gravest level of each code about what the server tells."""
    levels: dict[str, str] = {}
    for finding in shown["findings"]:
        if finding["code"] in {"V14", "V15", "V17"}:
            levels.setdefault(finding["code"], finding["level"])
    return levels


def seen(run: Run) -> Told:
    """What the servers told over a run."""
    return Told.of(load(run.folder).records.telemetry)


def begun(folder: Path) -> bool:
    """Whether the load of a run has begun."""
    with suppress(OSError, json.JSONDecodeError):
        return "clock" in json.loads((folder / "run.json").read_text())
    return False


def test_a_server_of_ones_own_is_no_finding_and_its_totals_are_exact(tmp_path: Path, engine: str) -> None:
    """What it counted between the first and the last sample is what was sent: requests, tokens, first tokens."""
    n = 120
    with running(tmp_path / "r", "--rate", "50", "--requests", str(n), *EASY, *SHORT, "--target", engine) as run:
        run.end()
        shown, kept = run.json(), run.run_json()
    assert codes(shown) == {}
    told = seen(run)
    for name, wanted in (
        ("requests_total", n),
        ("ttft_count", n),
        ("output_tokens_total", 8 * n),
        ("input_tokens_total", 64 * n),
        ("prefix_query_tokens", 64 * n),
    ):
        total = grown(told, name)
        assert total is not None
        assert (total.by, total.resets) == (wanted, 0)
        assert total.start_s < 0 < n / 50 < total.end_s
    rate = measured_hit_rate(load(run.folder).records)
    assert rate is not None
    assert rate.share == 0
    (server,) = kept["telemetry"]["servers"]
    assert server == {"source": "server", "url": f"{engine}/metrics", "kind": "vLLM"}
    assert kept["telemetry"]["sources"]["server"]["failed"] == 0
    assert shown["server"]["tokens_per_iteration"] > 1
    assert "Queue and batch of the server" in (run.folder / "report.html").read_text()
    assert not (run.folder / "spool").exists()


def test_others_on_the_server_are_found(tmp_path: Path, engine: str) -> None:
    """Requests of somebody else beside ours: V14 says how many more the server ended than were sent."""
    body = {"model": "sim", "prompt": [5, 6, 7], "max_tokens": 1}
    sent, stop = [0], threading.Event()

    def load_it() -> None:
        while not stop.wait(0.05):
            assert Server(engine).post("/v1/completions", body).status == 200
            sent[0] += 1

    other = threading.Thread(target=load_it)
    with running(tmp_path / "r", "--rate", "40", "--requests", "120", *EASY, *SHORT, "--target", engine) as run:
        until(lambda: begun(run.folder), "the start")
        other.start()
        try:
            assert run.end() == Exit.INVALID
        finally:
            stop.set()
            other.join()
        shown = run.json()
    assert codes(shown)["V14"] == "invalid"
    counted = grown(seen(run), "requests_total")
    assert counted is not None
    assert 120 < counted.by <= 120 + sent[0]


def test_a_slow_proxy_and_prompts_made_alike(tmp_path: Path, engine: str) -> None:
    """A man in the middle holds each request back (V15) and sends everyone the same prompt (V17)."""
    same = list(range(100, 164))
    words = ("--rate", "40", "--requests", "120", *EASY, *SHORT)
    with (
        Proxy(engine, delay_s=0.12, request=asking(prompt=same)) as proxy,
        running(tmp_path / "r", *words, "--target", proxy.address) as run,
    ):
        assert run.end() == Exit.INVALID
        shown = run.json()
    assert codes(shown) == {"V15": "invalid", "V17": "invalid"}
    rate = measured_hit_rate(load(run.folder).records)
    assert rate is not None
    assert rate.share is not None
    assert rate.share > 0.5
    assert set(rate.by_server) == {"server"}


def test_what_was_sampled_before_a_kill_is_in_the_report(tmp_path: Path) -> None:
    """SIGKILL in the middle of the load: the report has the server's samples up to the last second."""
    with running(tmp_path / "r", "--rate", "20", "--duration", "10m", *EASY, *SHORT, "--target", "sim") as run:
        until(lambda: len(samples.read(run.folder / "spool")["t_ns"]) > 300, "samples")
        run.process.kill()
        run.process.wait()
    _, shown = report(run.folder)
    told = seen(run)
    total = grown(told, "requests_total")
    assert total is not None
    assert total.by > 0
    assert "V14" not in codes(shown)
    assert shown["server"]["running_mean"] >= 0


def test_a_probe_of_a_search_has_its_part_of_the_samples(tmp_path: Path, engine: str) -> None:
    """Each probe's folder holds what was told while its requests lived, and is not held against its neighbours' load."""
    asked = ask(tmp_path / "search", engine, workers=1, timeout_ms=20_000)
    target = asked.trial.target
    assert isinstance(target, RemoteTarget)
    target = target.model_copy(
        update={
            "talk": target.talk.model_copy(update={"model": "sim"}),
            "telemetry": Telemetry.model_validate({"interval": "200ms"}),
        }
    )
    asked = replace(asked, trial=replace(asked.trial, target=target))
    stream = open_stream(asked)
    with closing(stream):
        for one in (probe(0, 40, 40, purpose="warmup"), probe(1, 60, 90)):
            for _ in stream.step(one):
                stream.finished()
        for _ in stream.drain():
            pass
    for number in (0, 1):
        view = build_report(tmp_path / "search" / f"probe-{number:02d}")
        assert not {f.code for f in view.summary.findings} & {"V14", "V15", "V17"}
        assert view.summary.server is not None
        assert view.summary.server.running_max is not None
        assert view.at("telemetry", "servers")[0]["kind"] == "vLLM"
        told = Told.of(view.records.telemetry)
        assert min(one.at[0] for one in told.series("ttft_bucket")) >= 0


# What is sampled, by a target's settings.


def reached(url: str, target: Any, headers: dict[str, str] | None = None) -> RunningTarget:
    """A running server at an address."""
    launch = Launch(Path("server.log"), headers or {})
    return RunningTarget(endpoint(target.talk, Found(url, "tiny"), launch), {"url": url})


def watched(url: str, tmp_path: Path, headers: dict[str, str] | None = None, **settings: Any) -> Watching:
    """What a remote target at `url` is sampled by."""
    target = RemoteTarget.model_validate({"kind": "remote", "url": url, "telemetry": settings})
    found = watch(target, reached(url, target, headers), tmp_path, nvml=FakeNvml())
    found.sampler.end(reachable=False)
    return found


def test_the_default_address_is_the_targets_own(tmp_path: Path) -> None:
    """Its /metrics, asked for with the target's headers."""
    with serving({**VLLM, "/metrics": (200, SAID)}) as (url, asked):
        found = watched(url, tmp_path, {"Authorization": "Bearer s3cret"})
        assert found.notes == ()
        assert [(source.name, source.kind) for source in found.servers.values()] == [("server", "vLLM")]
        paths = [(path, headers.get("authorization"), headers["accept"]) for path, _, headers in asked]
    assert set(paths) == {("/metrics", "Bearer s3cret", "text/plain;version=0.0.4")}
    assert "s3cret" not in json.dumps(found.told())


def test_headers_go_to_the_targets_host_only(tmp_path: Path) -> None:
    """Two replicas: one on the target's host under another port, one on a host of another name, which gets no key."""
    metrics = {**VLLM, "/metrics": (200, SAID), "/other": (200, SAID)}
    with serving(metrics) as (url, asked), serving(metrics) as (second, asked_second):
        elsewhere = second.replace("127.0.0.1", "localhost")
        found = watched(url, tmp_path, {"Authorization": "Bearer s3cret"}, urls=(f"{second}/other", elsewhere))
        keys = {(path, headers.get("authorization")) for path, _, headers in asked_second}
    assert asked == []
    assert keys == {("/other", "Bearer s3cret"), ("/metrics", None)}
    assert [source.name for source in found.servers.values()] == ["server-0", "server-1"]
    assert list(found.servers) == [f"{second}/other", f"{elsewhere}/metrics"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, {}), "HTTP 404"),
        ((200, b"<html></html>"), "nothing that is known"),
        ((200, b"vllm:num_requests_running x"), "no Prometheus"),
    ],
)
def test_a_server_that_tells_nothing_is_said_once(tmp_path: Path, answer: tuple[int, Any], why: str) -> None:
    """By default a note; an address that the settings name is an error before the load."""
    with serving({**VLLM, "/metrics": answer}) as (url, _):
        found = watched(url, tmp_path)
        assert list(found.servers) == []
        (note,) = found.notes
        assert note.startswith(f"no server metrics: {url}/metrics: ")
        assert why in note
        assert "telemetry.urls" in note
        with pytest.raises(ConfigError, match=r"telemetry\.urls: .*\n  expected"):
            watched(url, tmp_path, urls=(f"{url}/metrics",))
        assert watched(url, tmp_path, urls=()).notes == ()


def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    """The root cause, in one line."""
    with pytest.raises(ConfigError, match="connection refused"):
        watched("http://127.0.0.1:1", tmp_path, urls=("http://127.0.0.1:1/metrics",))


def test_gpus_are_sampled_where_the_server_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a local server all, or those that its environment leaves to it; of one elsewhere none, unless asked for."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with serving(VLLM) as (url, _):
        here = watched(url, tmp_path)
        assert [gpu["name"] for gpu in here.told()["gpus"]] == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
        command = CommandTarget(kind="command", argv=("x",), environ={"CUDA_VISIBLE_DEVICES": "1"})
        own = watch(command, reached(url, command), tmp_path, nvml=FakeNvml())
        assert [source.name for source in own.gpus.sources] == ["gpu-1"]
        sim = SimTarget(kind="sim")
        assert watch(sim, reached(url, sim), tmp_path, nvml=FakeNvml()).told()["gpus_absent"] == "not asked for"
    away = RemoteTarget.model_validate({"kind": "remote", "url": "http://gpu.example", "telemetry": {"urls": ()}})
    found = watch(away, reached("http://gpu.example", away), tmp_path, nvml=FakeNvml())
    assert found.told()["gpus_absent"] == "the server is on another machine"
    asked = away.model_copy(update={"telemetry": away.telemetry.model_copy(update={"gpus": (0,)})})
    assert [s.name for s in watch(asked, reached("http://x", asked), tmp_path, nvml=FakeNvml()).gpus.sources] == [
        "gpu-0"
    ]


def test_the_null_server_is_asked_nothing(tmp_path: Path) -> None:
    """It has no metrics, and needs no note about it; this host is sampled all the same."""
    target = NullTarget(kind="null-server")
    found = watch(target, reached("http://127.0.0.1:1", target), tmp_path)
    assert (found.notes, list(found.servers)) == ((), [])
    assert set(found.told()["sources"]) == {"host"}


def test_a_run_without_server_metrics_says_so(tmp_path: Path) -> None:
    """On the terminal while it runs, and in the report's notes."""
    words = ("--rate", "40", "--requests", "8", "--input-tokens", "8", "--output-tokens", "4", "--workers", "1")
    with MockServer(at_once) as server, running(tmp_path / "r", *words, "--target", server.url) as run:
        run.end()
        err, kept = run.err.read_text(), run.run_json()
    note = f"no server metrics: {server.url}/metrics"
    assert err.count(note) == 1
    assert [each for each in kept["run"]["notes"] if each.startswith(note)]
    assert np.all(load(run.folder).records.telemetry["source"] != "server")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("interval: 10ms", "interval"),
        ("urls: [http://user:secret@host/metrics]", "user"),
        ("urls: [ftp://host/metrics]", "no URL"),
        ("urls: ['http://host/metrics?format=x']", "query"),
        ("gpus: [-1]", "gpus"),
    ],
)
def test_settings_that_cannot_be(line: str, fault: str) -> None:
    """Each fault is told with its place."""
    text = f"kind: remote\nurl: http://h\ntelemetry:\n  {line}\n"
    with pytest.raises(ConfigError, match=fault):
        check_target(given_by(parse_document(text, "t.yaml"), "t.yaml"), "t.yaml", None)


def test_settings_by_flag() -> None:
    """`--set telemetry.interval=5s`; an address without a path is that of its /metrics."""
    target = load_target(
        "http://h", ("telemetry.interval=5s", "telemetry.urls=[http://a:9000, http://b/x/metrics]")
    ).value
    assert not isinstance(target, NullTarget)
    assert target.telemetry.interval == 5 * 10**9
    assert target.telemetry.urls == ("http://a:9000/metrics", "http://b/x/metrics")
