"""Exports: golden files, the schemas and parsers of those who read them, and what comes back through our own reader."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import orjson
import pytest
import typer
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from typer.testing import CliRunner

from slobench.cli import report as cli
from slobench.cli import run as cli_run
from slobench.cli.compare import command as compare
from slobench.errors import UsageError
from slobench.metrics.columns import group_chunks
from slobench.metrics.peers import Replies, definition
from slobench.metrics.summary import WindowText
from slobench.records.foreign import read_foreign
from slobench.records.schema import REQUESTS, Records
from slobench.report.build import build_report
from slobench.report.exports import csv_tables, llmd, openmetrics, vllm
from slobench.report.exports.rows import Window
from slobench.report.exports.write import FORMS, export, wanted
from slobench.report.view import RunView
from tests.report.rounding import rounded
from tests.report.test_build import run_folder
from tests.report.test_golden import all_failed, only_class

Golden = Callable[[str, str], None]
SCHEMA = json.loads((Path(__file__).parent / "llmd_report_v0_2.json").read_text())
# what vLLM's convert-results-json-to-markdown.py reads of a result
CI_KEYS = [
    *("model_id", "completed", "max_concurrency", "request_throughput", "total_token_throughput", "output_throughput"),
    *(f"{kind}_{metric}_ms" for metric in ("ttft", "tpot") for kind in ("mean", "median", "p99", "std")),
    *(f"{kind}_itl_ms" for kind in ("mean", "median", "p99")),
]


def small(view: RunView) -> RunView:
    """Four requests with round times: three good ones, of which one has one token, and one that failed."""
    s = 1e9
    null = np.nan
    requests: dict[str, Any] = {
        **{name: column[:4] for name, column in view.records.requests.items()},
        "index": np.arange(4), "class": np.array(["chat", "chat", "code", "code"]),
        "scheduled_ns": np.array([10.0, 11.0, 12.0, 13.0]) * s, "started_ns": np.array([10.5, 11.0, 12.0, 13.0]) * s,
        "connected_ns": np.array([10.5, 11.0, 12.0, 13.0]) * s, "sent_ns": np.array([10.5, 11.0, 12.0, 13.0]) * s,
        "headers_ns": np.array([10.75, 11.25, 12.5, null]) * s, "first_token_ns": np.array([10.75, 11.25, 12.5, null]) * s,
        "first_output_ns": np.array([10.75, 11.25, 12.5, null]) * s, "last_token_ns": np.array([11.25, 11.25, 13.5, null]) * s,
        "end_ns": np.array([11.25, 11.25, 13.5, 13.25]) * s, "input_tokens_planned": np.array([8.0, 8.0, 16.0, 16.0]),
        "output_tokens_planned": np.array([3.0, 1.0, 5.0, 5.0]), "input_tokens": np.array([9.0, 9.0, 17.0, null]),
        "output_tokens": np.array([3.0, 1.0, 5.0, null]), "outcome": np.array(["ok", "ok", "ok", "http_error"]),
        "error": np.array(["", "", "", "500 =1+1"], dtype=object),
    }  # fmt: skip
    at = np.array([10.75, 11.0, 11.25, 11.25, 12.5, 12.75, 13.0, 13.25, 13.5]) * s
    index = np.array([0, 0, 0, 1, 2, 2, 2, 2, 2])
    whole = {name: np.zeros(9, np.int64) for name in ("bytes", "channel", "lag_ns", "coalesced")}
    chunks = {**whole, "index": index, "t_ns": at.astype(np.int64), "tokens": np.ones(9)}
    first, last, due = (np.asarray(requests[f"{name}_ns"]) / s for name in ("first_token", "last_token", "scheduled"))
    derived = {
        **{name: column[:4] for name, column in view.derived.items()},
        "ttft_s": first - due, "e2e_s": last - due, "tpot_s": np.array([0.25, null, 0.25, null]),
    }  # fmt: skip
    window = WindowText(10.0, 14.0, 1.0, 1.5, whole_run=False, steady=True)
    return replace(
        view,
        records=Records(requests, chunks, view.records.telemetry),
        derived=derived,
        summary=replace(view.summary, window=window),
    )


def test_exports_read_as_their_golden_files(view: RunView, golden: Golden) -> None:
    """All forms of a run of four requests are, but for last digits, what was reviewed."""
    few = small(view)
    result = rounded(vllm.document(few))
    golden("export_vllm.json", orjson.dumps(result, option=orjson.OPT_INDENT_2).decode() + "\n")
    golden("export_vllm.commands.json", orjson.dumps(vllm.commands(few), option=orjson.OPT_INDENT_2).decode() + "\n")
    golden("export_llmd.yaml", yaml.safe_dump(rounded(llmd.document(few)), sort_keys=False, allow_unicode=True))
    golden("export_summary.csv", csv_tables.summary_csv(few))
    golden("export_openmetrics.txt", openmetrics.text(only_class(few)))


def test_vllm_numbers_of_four_requests(view: RunView) -> None:
    """By hand: times from the client's start, the queue before it apart, TPOT over n − 1, rates over the window."""
    found = vllm.document(small(view))
    assert (found["completed"], found["failed"], found["duration"]) == (3, 1, 4.0)
    assert found["ttfts"] == [0.25, 0.25, 0.5, 0.0]
    assert found["latencies"] == [0.75, 0.25, 1.5, 0.0]
    assert found["queue_times"] == [0.5, 0.0, 0.0, 0.0]
    assert found["itls"] == [[0.25, 0.25], [], [0.25] * 4, []]
    assert found["errors"] == ["", "", "", "http_error: 500 =1+1"]
    assert (found["mean_tpot_ms"], found["median_ttft_ms"], found["p50_itl_ms"]) == (250.0, 250.0, 250.0)
    assert found["mean_e2el_including_client_queue_ms"] == pytest.approx((1250 + 250 + 1500) / 3)
    assert (found["request_throughput"], found["output_throughput"]) == (0.75, 9 / 4)
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (35, 9)
    # ttft<500ms, tpot<50ms: the limits of the run's SLO; the reply of one token has none to miss
    assert found["request_goodput"] == 0.25
    assert (found["max_output_tokens_per_s"], found["max_concurrent_requests"]) == (4.0, 2)


@pytest.mark.parametrize("change", [lambda view: view, only_class])
def test_vllms_ci_finds_its_keys(view: RunView, change: Callable[[RunView], RunView]) -> None:
    """The keys of a result, and a sidecar whose command lines can be split and parsed."""
    found = vllm.document(change(view))
    assert set(CI_KEYS) <= found.keys()
    assert "serving" in FORMS["vllm"]
    sidecar = vllm.commands(change(view))
    client = shlex.split(sidecar["client_command"])
    assert client[:3] == ["vllm", "bench", "serve"]
    assert {"--dataset-name", "--random-input-len", "--random-output-len", "--request-rate"} <= set(client)
    assert shlex.split(sidecar["server_command"])[:2] == ["vllm", "serve"]
    json.loads(orjson.dumps(found))  # no infinity, no NaN


def test_vllm_export_comes_back_through_our_reader(view: RunView, tmp_path: Path) -> None:
    """`compare` reads of each request what vLLM's definitions give of its records; none is lost."""
    (path, _) = export(replace(view, folder=tmp_path), wanted(["vllm"]))
    (run,) = read_foreign(path)
    window = Window.of(view)
    requests, chunks = view.records.requests, view.records.chunks
    replies = Replies.of(requests, chunks, group_chunks(requests, chunks))
    assert len(run.start_s) == len(window.rows) > 400
    assert run.ok.tolist() == window.ok.tolist()
    for name, read in (("ttft@vllm", run.ttft_s), ("tpot@vllm", run.tpot_s), ("e2e@vllm", run.e2e_s)):
        own = np.where(window.ok, definition(name).values(replies).seconds[window.rows], np.nan)
        assert read == pytest.approx(own, nan_ok=True, abs=1e-9), name
    assert run.output_tokens == pytest.approx(
        np.where(window.ok, requests["output_tokens"][window.rows], np.nan), nan_ok=True
    )


def test_a_run_that_did_not_stream_has_no_vllm_form(view: RunView) -> None:
    """There is no time to first token to put into it."""
    requests = {**view.records.requests, "first_token_ns": np.full(len(view.records.requests["index"]), np.nan)}
    blind = replace(view, records=replace(view.records, requests=requests))
    with pytest.raises(UsageError, match="did not stream"):
        vllm.document(blind)


@pytest.mark.parametrize("change", [lambda view: view, only_class, all_failed, small])
def test_llmd_report_obeys_its_schema(view: RunView, change: Callable[[RunView], RunView]) -> None:
    """Nothing that Benchmark Report v0.2 does not know, units where it demands them."""
    jsonschema.validate(llmd.document(change(view)), SCHEMA)


def test_llmd_schema_refuses_what_the_models_forbid(view: RunView) -> None:
    """The schema of this test can fail: a field too many, a unit of another kind, no mean."""
    for break_it in (
        lambda d: d.update(extra=1),
        lambda d: d["results"]["request_performance"]["aggregate"]["latency"]["request_latency"].update(units="count"),
        lambda d: d["results"]["request_performance"]["aggregate"]["latency"]["request_latency"].pop("mean"),
        lambda d: d["scenario"]["load"]["standardized"].update(rate_qps=0),
    ):
        found = llmd.document(view)
        break_it(found)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(found, SCHEMA)


@pytest.mark.parametrize("change", [lambda view: view, only_class, all_failed])
def test_openmetrics_is_parsed_with_the_same_values(view: RunView, change: Callable[[RunView], RunView]) -> None:
    """prometheus_client's strict parser takes it; hostile names stay labels."""
    shown = change(view)
    families = {each.name: each for each in text_string_to_metric_families(openmetrics.text(shown))}
    latency = {
        (s.labels["class"], s.labels["metric"], s.labels["statistic"]): s.value
        for s in families["slobench_latency_seconds"].samples
        if s.labels["bound"] == "value" and s.labels["population"] == "successful"
    }
    expected = {
        (name, metric, q): seen.value
        for name, table in shown.summary.latency.items()
        for metric, quantiles in table.items()
        for q, seen in quantiles.items()
        if seen.value is not None
    }
    assert latency == expected
    outcomes = {(s.labels["class"], s.labels["outcome"]): s.value for s in families["slobench_requests"].samples}
    assert outcomes == {(c, o): n for c, counts in shown.summary.outcomes.items() for o, n in counts.items()}


def test_openmetrics_escapes_what_a_name_may_hold(view: RunView) -> None:
    """Quotes, backslashes and line ends of a model's name come back, or stand as visible escapes."""
    odd = replace(view, run={**view.run, "server": {"model": 'a"b\\c\nd\x1b'}})
    families = {each.name: each for each in text_string_to_metric_families(openmetrics.text(odd))}
    assert families["slobench_run"].samples[0].labels["model"] == 'a"b\\c d\\x1b'


def test_csv_has_a_row_for_each_estimate(view: RunView) -> None:
    """Class × metric × quantile, with the interval; an infinite quantile is inf."""
    rows = list(csv.DictReader(io.StringIO(csv_tables.summary_csv(view))))
    found = {(r["class"], r["metric"], r["population"], r["quantile"]): r for r in rows}
    assert len(found) == len(rows)
    seen = view.summary.latency["code"]["ttft"]["p99"]
    row = found["code", "ttft", "successful", "p99"]
    assert [float(row[key]) for key in ("value", "low", "high")] == [seen.value, seen.low, seen.high]
    assert found["all", "ttft", "with failures", "p99"]["value"] == "inf"
    assert float(found["all", "attainment", "due", ""]["value"]) == 0.958


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder, with failures whose message is hostile."""
    path = tmp_path_factory.mktemp("run")
    run_folder(path)
    build_report(path)
    return path


def invoke(*words: str) -> Any:
    app = typer.Typer()
    app.command()(cli.command)
    return CliRunner().invoke(app, list(words))


def test_the_command_writes_every_form_into_the_folder(folder: Path) -> None:
    """One file a form (vLLM's with its sidecar), named on standard error; the report is printed all the same."""
    done = invoke(str(folder), "--quiet", *(word for form in FORMS for word in ("--export", form)))
    assert done.exit_code == json.loads((folder / "run.json").read_text())["exit"], done.output
    for name in (*FORMS.values(), "serving-vllm.commands"):
        assert (folder / name).stat().st_size > 0
        assert name in done.stderr
    assert "VALID" in done.stdout
    rows = list(csv.reader(io.StringIO((folder / "requests.csv").read_text())))
    assert rows[0] == REQUESTS.names
    assert len(rows) == 1 + 400
    assert rows[1][rows[0].index("outcome")] == "ok"
    assert float(rows[1][rows[0].index("ttft_s")]) == pytest.approx(0.02)


def test_one_form_may_go_to_a_file_or_to_standard_output(folder: Path, tmp_path: Path) -> None:
    """`--out FILE` names it (JSON by its name), `--out -` prints it and nothing else."""
    path = tmp_path / "br.json"
    invoke(str(folder), "--quiet", "--export", "llmd", "--out", str(path))
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    printed = invoke(str(folder), "--export", "openmetrics", "--out", "-")
    assert printed.stdout.startswith("# TYPE")
    assert printed.stdout.endswith("# EOF\n")


def test_what_cannot_be_exported_is_refused_before_anything_is_done() -> None:
    """An unknown form, or one file for several forms."""
    with pytest.raises(UsageError, match="openmetrics"):
        wanted(["prometheus"])
    with pytest.raises(UsageError, match="one --export"):
        wanted(["csv", "vllm"], Path("x"))
    with pytest.raises(UsageError, match="one --export"):
        wanted([], Path("x"))


def test_definitions_of_others_stand_in_console_and_json(folder: Path) -> None:
    """`--metric` adds rows with a note of what they count; without it the next report has none."""
    done = invoke(str(folder), "--metric", "tpot@vllm", "--metric", "e2e@guidellm")
    assert "tpot@vllm" in done.stdout
    assert "stream's end" in done.stdout
    shown = json.loads(invoke(str(folder), "--json", "--metric", "tpot@vllm").stdout)
    assert shown["latency"]["tpot@vllm"]["p50"]["value"] == pytest.approx(0.01)
    assert list(shown["definitions"]) == ["tpot@vllm"]
    assert "tpot@vllm" in (folder / "report.html").read_text()
    assert "definitions" not in json.loads(invoke(str(folder), "--json").stdout)
    assert "tpot@vllm" not in (folder / "report.html").read_text()


def test_a_formula_in_a_message_is_no_formula_in_a_spreadsheet() -> None:
    """What a spreadsheet would run is quoted, numbers are not."""
    shown = csv_tables._text(["a", "b"], [["=1+1", -1.5], ["-x", float("nan")]])
    assert shown == "a,b\n'=1+1,-1.5\n'-x,\n"


def test_exports_are_compared_as_vllms_own_files(folder: Path, tmp_path: Path) -> None:
    """`slobench compare A.json B.json`: the run's own TTFT, TPOT and E2E on both sides, and no difference."""
    build_report(folder)
    view = build_report(folder)
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    for path in (first, second):
        export(view, wanted(["vllm"], path))
    app = typer.Typer()
    app.command()(compare)
    done = CliRunner().invoke(app, [str(first), str(second), "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["metric"]: row for pair in json.loads(done.stdout)["comparisons"] for row in pair["rows"]}
    for metric, own_s in (("ttft_sent:p50", 0.02 - 20e-6), ("tpot:p50", 0.01), ("e2e_sent:p50", 0.06 - 20e-6)):
        assert rows[metric]["base"]["value"] == rows[metric]["new"]["value"] == pytest.approx(own_s, abs=1e-6)


def test_a_run_hands_its_exports_to_the_process_that_reports(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """`run --export A --export B` ends with `report DIR --export=A --export=B`; a wrong form ends it before it begins."""
    asked: list[list[str]] = []

    def report(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(cli_run.subprocess, "run", report)
    cli_run.report(folder, as_json=False, quiet=True, exports=("csv", "vllm"))
    assert asked[0][2:] == ["slobench", "report", str(folder), "--quiet", "--export=csv", "--export=vllm"]
    app = typer.Typer()
    app.command()(cli_run.command)
    done = CliRunner().invoke(app, ["quickstart", "--export", "xml", "--out", str(folder / "never")])
    assert isinstance(done.exception, UsageError)
    assert not (folder / "never").exists()
