"""What the server told, in every report; nothing where it told nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from slobench.metrics.server_side import server_side
from slobench.records.schema import Records
from slobench.report import charts, html, markdown
from slobench.report.server import server_facts, server_line, server_times
from slobench.report.summary import to_json
from slobench.report.view import RunView
from tests.report.fixtures import HOSTILE
from tests.report.test_golden import on_console

SECONDS = np.arange(-1, 62)


def sampled(view: RunView, *, gpus: bool = False, quiet: bool = False) -> RunView:
    """The same run with a server that told what it did; quiet: no preemption, no throttling."""
    n = len(SECONDS)
    told = {
        ("server", "running", 'engine="0"'): 20 + 5 * np.sin(SECONDS / 5),
        ("server", "waiting", 'engine="0"'): np.where(SECONDS > 40, 30.0, 0.0),
        ("server", "kv_usage", 'engine="0"'): np.linspace(0.2, 0.9, n),
        ("server", "preemptions_total", 'engine="0"'): np.where((SECONDS > 45) & (not quiet), 3.0, 0.0),
        ("server", "iteration_tokens_sum", 'engine="0"'): np.arange(n) * 4000.0,
        ("server", "iteration_tokens_count", 'engine="0"'): np.arange(n) * 80.0,
        ("server", "queue_sum_s", 'engine="0"'): np.arange(n) * 1.2,
        ("server", "queue_count", 'engine="0"'): np.arange(n) * 12.0,
        ("server", "queue_bucket", 'engine="0",le="0.3"'): np.arange(n) * 11.0,
        ("server", "queue_bucket", 'engine="0",le="+Inf"'): np.arange(n) * 1.0,
        ("host", "host_cpu_share", ""): np.full(n, 0.35),
    }
    if gpus:
        told |= {
            ("gpu-0", "gpu_utilisation", ""): np.full(n, 0.93),
            ("gpu-0", "gpu_power_w", ""): np.full(n, 600.0),
            ("gpu-0", "gpu_energy_j", ""): np.arange(n) * 600.0,
            ("gpu-0", "gpu_throttled", ""): np.where((SECONDS == 30) & (not quiet), 1.0, 0.0),
        }
    telemetry = {
        "t_ns": np.tile(SECONDS * 10**9, len(told)),
        **{name: np.repeat([key[at] for key in told], n) for at, name in ((0, "source"), (1, "name"), (2, "labels"))},
        "value": np.concatenate(list(told.values())),
    }
    records = Records(view.records.requests, view.records.chunks, telemetry)
    window = view.summary.window
    side = server_side(telemetry, window.start_s, window.end_s, 40_000.0)
    kept = {
        "interval_s": 1.0,
        "servers": [{"source": "server", "url": f"http://h/{HOSTILE}", "kind": "vLLM"}],
        "gpus": [{"source": "gpu-0", "name": "NVIDIA H100"}] if gpus else [],
        **({} if gpus else {"gpus_absent": "Driver Not Loaded"}),
    }
    return replace(
        view, records=records, summary=replace(view.summary, server=side), run={**view.run, "telemetry": kept}
    )


def titles(view: RunView) -> list[str]:
    """The charts, in order."""
    return [figure.title for figure in charts.figures(view)]


def test_charts_stand_under_the_latency(view: RunView) -> None:
    """Queue and batch, KV cache and tokens per iteration follow TTFT; GPUs where there are some."""
    before = titles(view)
    own = ["Queue and batch of the server", "KV cache in use", "Tokens per iteration"]
    at = before.index("TTFT distribution")
    assert titles(sampled(view)) == [*before[:at], *own, *before[at:]]
    assert titles(sampled(view, gpus=True)) == [*before[:at], *own, "GPU utilisation", "GPU power", *before[at:]]


def test_preemptions_and_throttling_are_marked(view: RunView) -> None:
    """Marks and their legend are there only where there is something to mark."""
    for quiet in (False, True):
        figures = {figure.title: figure for figure in charts.figures(sampled(view, gpus=True, quiet=quiet))}
        for title in ("KV cache in use", "GPU power"):
            marks = re.findall(r'class="flags failed" d="([^"]*)"', figures[title].svg)
            assert (any(marks), bool(figures[title].legend)) == (not quiet, not quiet)


@pytest.mark.parametrize("gpus", [False, True])
def test_every_report_has_the_line(view: RunView, gpus: bool) -> None:  # noqa: FBT001
    """Console, Markdown and HTML name queue, KV cache and batch; energy where a GPU was sampled."""
    shown = sampled(view, gpus=gpus)
    line = server_line(shown)
    assert line.startswith("batch 20.3 (max 25), queue 8.00 (max 30), waited 100 ms mean, KV cache 79.8 % max, ")
    assert ("J/token" in line) == gpus
    flat = " ".join(on_console(shown).split())
    assert f"server: {line}" in flat
    page = html.render(shown)
    assert "Server in the window" in page
    assert "Where the time went in the server" not in page or "p99 within" in page
    assert "Server: batch 20.3 (max 25)" in markdown.render(shown)
    assert all(len(text) <= 80 for text in on_console(shown).splitlines())
    facts = dict(server_facts(shown))
    assert facts["GPUs"] == ("1 × NVIDIA H100" if gpus else "none sampled: Driver Not Loaded")
    assert HOSTILE not in page


def test_the_table_of_times_gives_buckets(view: RunView) -> None:
    """A quantile of a histogram is the bucket in which it lies, also the last one without an end."""
    table = server_times(sampled(view))
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["in the queue", "100 ms", "0 ms – 300 ms", "> 300 ms"]
    ]


def test_json_has_what_was_told_and_no_more(view: RunView) -> None:
    """Null is left out; a range without an end has null in its place."""
    side = to_json(sampled(view))["server"]
    assert side["queue_p99_s"] == [0.3, None]
    assert side["replicas"] == 1
    assert "j_per_output_token" not in side
    assert to_json(sampled(view, gpus=True))["server"]["gpu_energy_j"] > 0


def test_where_nothing_was_told_nothing_is_said(view: RunView) -> None:
    """A run of an earlier version, or with a server that tells nothing."""
    assert server_line(view) == ""
    assert server_facts(view) == ()
    assert server_times(view) is None
    assert "server" not in to_json(view)
    assert "Server in the window" not in html.render(view)
