"""Our vLLM export against the installed vLLM itself: its calculate_metrics, its sweep plots, its timeline.

Nothing is served; vLLM's own functions run in a process of its own environment, on the requests of the export.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from slobench.metrics.peers import definition
from slobench.report.exports import vllm
from slobench.report.exports.rows import Window
from slobench.report.view import RunView
from tests.report import fixtures
from tests.report.test_exports import small

pytestmark = pytest.mark.smoke
PYTHON = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
SCRIPT = """
import contextlib, io, json, sys
from dataclasses import asdict
from pathlib import Path
from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput
from vllm.benchmarks.plot import construct_timeline_data
from vllm.benchmarks.serve import calculate_metrics
from vllm.benchmarks.sweep.plot import SweepPlotArgs, main
from vllm.benchmarks.sweep.plot_pareto import plot_pareto
from vllm.utils.argparse_utils import FlexibleArgumentParser

LISTS = "errors latencies output_lens ttfts itls input_lens start_times queue_times".split()

def told(folder, percentiles):
    (result,) = json.loads((folder / "SERVE--BENCH--" / "summary.json").read_text())
    requests = list(zip(*(result[key] for key in LISTS), strict=True))
    outputs = [
        RequestFuncOutput(success=not error, latency=e2e, output_tokens=n, ttft=ttft, itl=itl, prompt_len=prompt,
                          error=error, start_time=start, client_queue_time=waited)
        for error, e2e, n, ttft, itl, prompt, start, waited in requests
    ]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        goodput = {"ttft": 500.0, "tpot": 50.0}
        metrics, lens = calculate_metrics([], outputs, result["duration"], None, percentiles, goodput)
        plot_pareto(folder, None, None, [], dry_run=True)
        parser = FlexibleArgumentParser()
        SweepPlotArgs.add_cli_args(parser)
        axes = ["--var-x", "request_rate", "--var-y", "p99_ttft_ms"]
        main(parser.parse_args([str(folder), *axes, "--dry-run"]))
        timeline = construct_timeline_data(
            [{"start_time": start, "ttft": ttft, "itl": itl, "latency": e2e, "prompt_len": prompt, "output_tokens": n}
             for error, e2e, n, ttft, itl, prompt, start, _ in requests if not error],
            [0.025, 0.05], ["a", "b", "c"])
    return {"metrics": asdict(metrics), "lens": lens, "shown": shown.getvalue(), "timeline": len(timeline)}

percentiles = [float(p) for p in sys.argv[1].split(",")]
print(json.dumps([told(Path(folder), percentiles) for folder in sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RunView, dict[str, Any], dict[str, Any]]]:
    """Two runs, each with its export and what vLLM makes of it; one process for both, as importing vLLM takes long."""
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}: vLLM is not installed (make vllm-cpu)")
    views = [fixtures.view(), small(fixtures.view())]
    documents = [vllm.document(view) for view in views]
    folders = []
    for document in documents:
        folders.append(tmp_path_factory.mktemp("sweep"))
        cell = folders[-1] / "SERVE--BENCH--"
        cell.mkdir()
        (cell / "summary.json").write_bytes(orjson.dumps([document]))
    asked = ",".join(f"{p:g}" for p in vllm.PERCENTILES)
    command = [str(PYTHON), "-c", SCRIPT, asked, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    if "No module named" in done.stderr:
        pytest.skip(f"no real vLLM: {done.stderr.splitlines()[-1]} (make vllm-cpu)")
    assert done.returncode == 0, done.stderr[-3000:]
    return list(zip(views, documents, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(params=[0, 1], ids=["loaded", "small"])
def both(request: pytest.FixtureRequest, told) -> tuple[RunView, dict[str, Any], dict[str, Any]]:
    """One of them."""
    return told[request.param]


def test_every_number_is_the_one_that_vllm_works_out(both) -> None:
    """Counts, rates, goodput, means, medians, deviations and percentiles of ttft, tpot, itl and e2el."""
    _, document, told = both
    theirs = told["metrics"]
    names = {"total_input": "total_input_tokens", "total_output": "total_output_tokens"}
    plain = {names.get(key, key): value for key, value in theirs.items() if not key.startswith("percentiles_")}
    assert len(plain) >= 23
    for key, value in plain.items():
        assert document[key] == pytest.approx(value, rel=1e-9, abs=1e-9), key
    for metric in ("ttft", "tpot", "itl", "e2el"):
        for p, value in theirs[f"percentiles_{metric}_ms"]:
            assert document[f"p{p:g}_{metric}_ms"] == pytest.approx(value, rel=1e-9, abs=1e-9), (metric, p)
    assert told["lens"] == document["output_lens"]


def test_definitions_by_name_are_vllms(both) -> None:
    """`ttft@vllm`, `tpot@vllm`, `itl@vllm` and `e2e@vllm` of the records: vLLM's own mean, median and deviation."""
    view, _, told = both
    window = Window.of(view)
    good = np.zeros(len(view.records.requests["index"]), dtype=np.bool_)
    good[window.rows[window.ok]] = True
    for name, theirs in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2e", "e2el")):
        found = definition(f"{name}@vllm").values(window.replies)
        ms = found.seconds[good[found.row] & ~np.isnan(found.seconds)] * 1e3
        for kind, statistic in (("mean", np.mean), ("median", np.median), ("std", np.std)):
            assert statistic(ms) == pytest.approx(told["metrics"][f"{kind}_{theirs}_ms"], rel=1e-9, abs=1e-9), name


def test_vllms_own_readers_take_the_file(both) -> None:
    """`vllm bench sweep plot` and `plot_pareto` find a figure with its record in it; the timeline has its segments."""
    _, document, told = both
    assert told["shown"].count("[END FIGURE]") == 2
    assert "Skipped" not in told["shown"]
    kept = [gaps for gaps, error in zip(document["itls"], document["errors"], strict=True) if not error]
    assert told["timeline"] == sum(1 + len(gaps) for gaps in kept)
