from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import typer

from slobench.cli import report as cli
from slobench.config.slo import parse_slo
from slobench.config.workload import Workload
from slobench.errors import ConfigError, UsageError
from slobench.names import OUTCOMES, Outcome
from slobench.plan import Plan, build_plan
from slobench.records.schema import NULL, SPOOL_REQUESTS
from slobench.records.spool import SpoolWriter
from slobench.records.store import read_run_json, write_run_json
from slobench.report.build import ask_of, build_report
from tests.report import fixtures

MS = 10**6
WORKLOAD = {
    "name": "small",
    "classes": {
        "chat": {
            "arrivals": {"process": "poisson", "rate": 20.0},
            "input_tokens": {"dist": "constant", "value": 16},
            "output_tokens": {"dist": "constant", "value": 5},
        }
    },
    "requests": 400,
    "slo": ["ttft<500ms", "tpot<50ms", "attainment>=99%"],
}


def run_folder(folder: Path, *, ended: bool = True, outcome: Outcome = Outcome.OK, upto: int = 400) -> Plan:
    """Write what a trial leaves: run.json, the plan, and a spool in which each reply takes 20 ms + 4 × 10 ms."""
    workload = Workload.model_validate(WORKLOAD)
    plan = build_plan(workload, 0)
    spool = folder / "spool"
    spool.mkdir(parents=True)
    plan.save(spool / "plan.arrow")
    assert plan.scheduled_ns is not None
    scheduled = [int(t) for t in plan.scheduled_ns]
    writer = SpoolWriter(spool, 0)
    for index, due in enumerate(scheduled[:upto]):
        writer.starts.add(index, due, due + 20_000)
        row = dict.fromkeys(SPOOL_REQUESTS, NULL) | {
            "index": index, "scheduled_ns": due, "started_ns": due + 20_000, "sent_ns": due + 40_000, "end_ns": due + 61 * MS,
            "tokens_source": -1, "error": "", "finish_reason": "", "connection_new": 0, "reconnects": 0, "reads": 5,
            "outcome": OUTCOMES.index(outcome), "receive_lag_max_ns": 1_000, "first_token_error_ns": 0,
        }  # fmt: skip
        if outcome == Outcome.OK:
            for token in range(5):
                writer.chunks.add(index, due + (20 + 10 * token) * MS, 1, 100, 0, 1_000, 0)
            row |= {
                "first_token_ns": due + 20 * MS, "first_output_ns": due + 20 * MS, "last_token_ns": due + 60 * MS,
                "headers_ns": due + 19 * MS, "http_status": 200, "finish_reason": "length", "tokens_source": 0, "chunks": 5,
                "input_tokens": 16, "output_tokens": 5, "first_chunk_tokens": 1,
            }  # fmt: skip
        else:
            row |= {"error": fixtures.HOSTILE}
        writer.requests.add(tuple(row.values()))
    writer.close()
    run: dict[str, Any] = fixtures.run_json(
        spec={
            "workload": workload.model_dump(mode="json"),
            "target": {"kind": "sim", "talk": {"token_ids": [100, 4000], "forces_length": True}},
            "slo": list(workload.slo),
        },
        plan={"digest": plan.digest, "rows": len(plan), "rate": 20.0},
        run={"by": "count", "duration_s": None, "stop": "planned" if ended else None, "interrupted": not ended,
             "target_died": False, "end_ns": scheduled[-1] + 100 * MS if ended else None, "notes": ["a note"]},
    )  # fmt: skip
    write_run_json(folder, run)
    return plan


def test_a_report_is_made_from_what_a_trial_left(tmp_path: Path) -> None:
    """Tables, run.json's summary, both reports are written with the numbers put in; the spool is gone."""
    plan = run_folder(tmp_path)
    view = build_report(tmp_path)
    assert view.summary.latency["all"]["ttft"]["p50"].value == pytest.approx(0.020)
    assert view.summary.latency["all"]["tpot"]["p99"].value == pytest.approx(0.010)
    run = read_run_json(tmp_path)
    assert run["summary"]["slo"]["chat"]["attainment"] == 1.0
    assert (run["verdict"], run["exit"]) == (view.summary.verdict, view.summary.exit)
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json", "plan.parquet", "requests.parquet", "chunks.parquet", "telemetry.parquet", "report.md", "report.html",
    }  # fmt: skip
    rows = pq.read_table(tmp_path / "requests.parquet")
    assert rows.num_rows == len(plan)
    assert np.all(rows["slo_met"].to_numpy())


def test_a_second_report_says_the_same(tmp_path: Path) -> None:
    """A report made from the tables is the one that was made from the spool."""
    run_folder(tmp_path)
    first = build_report(tmp_path)
    texts = [(tmp_path / name).read_text("utf-8") for name in ("report.md", "run.json")]
    second = build_report(tmp_path)
    assert second.summary == first.summary
    assert [(tmp_path / name).read_text("utf-8") for name in ("report.md", "run.json")] == texts


def test_a_killed_run_is_reported_from_its_spool_which_stays(tmp_path: Path) -> None:
    """Without an end in run.json the report says interrupted (130), counts what was written, keeps the spool."""
    run_folder(tmp_path, ended=False, upto=300)
    view = build_report(tmp_path)
    assert view.summary.exit == 130
    assert view.summary.load["all"].ok == 300
    assert (tmp_path / "spool").is_dir()
    assert "never came to its end" in (tmp_path / "report.md").read_text("utf-8")
    again = build_report(tmp_path)
    assert again.summary == view.summary
    assert again.run["run"]["notes"] == view.run["run"]["notes"]


def test_where_every_request_failed_the_exit_is_6_and_no_time_is_0(tmp_path: Path) -> None:
    """All failed: exit 6, the errors with their hostile text, no latency."""
    run_folder(tmp_path, outcome=Outcome.CONNECTION)
    view = build_report(tmp_path)
    assert view.summary.exit == 6
    assert view.summary.errors == {"connection": {fixtures.HOSTILE: 400}}
    shown = read_run_json(tmp_path)["summary"]
    assert all(seen["value"] is None for table in shown["latency"].values() for seen in table.values())
    assert "<script>" not in (tmp_path / "report.html").read_text("utf-8")


def test_other_limits_change_the_verdict_not_the_files(tmp_path: Path) -> None:
    """`--slo` judges anew and writes nothing."""
    run_folder(tmp_path)
    build_report(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    view = build_report(tmp_path, slo=["ttft<10ms", "attainment>=99%"])
    assert view.summary.slo["chat"].attainment.value == 0.0
    assert view.summary.exit == 4
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ConfigError):
        build_report(tmp_path, slo=["tfft<10ms"])


def test_a_folder_without_a_run_is_a_readable_error(tmp_path: Path) -> None:
    """No run.json: the error names the folder and what was expected."""
    with pytest.raises(UsageError, match="expected"):
        build_report(tmp_path / "nothing")


@pytest.mark.parametrize(("options", "start"), [({"as_json": True}, "{"), ({"quiet": True}, "VALID"), ({}, "VALID")])
def test_the_command_prints_and_ends_with_the_summarys_exit_code(
    options: dict[str, bool], start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON is one object on standard output, quiet one line; the exit code is the report's."""
    run_folder(tmp_path)
    with pytest.raises(typer.Exit) as ended:
        cli.command(tmp_path, **options)
    out = capsys.readouterr().out
    assert out.startswith(start)
    if options.get("json"):
        assert orjson.loads(out)["exit"] == ended.value.exit_code
    if options.get("quiet"):
        assert len(out.splitlines()) == 1


def test_a_preset_judges_an_old_run_and_leaves_its_files_alone(tmp_path: Path) -> None:
    """`report DIR --slo mlperf-…` is the preset's two percentiles; run.json keeps its own clauses."""
    run_folder(tmp_path)
    build_report(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    view = build_report(tmp_path, slo=["mlperf-llama3.1-8b-interactive"])
    judged = {each.text: each.met for each in view.summary.slo["all"].objectives}
    assert judged == {"ttft:p99<500ms": True, "tpot:p99<30ms": True}
    assert (tmp_path / "run.json").read_bytes() == before
    with pytest.raises(ConfigError, match="nearest   chat"):
        build_report(tmp_path, slo=["chta"])


@pytest.mark.parametrize(
    ("clauses", "allowed"),
    [((), 0.0), (("error_rate<2%",), 0.02), (("availability>=95%", "class=chat error_rate<1%"), 0.05)],
)
def test_errors_are_allowed_as_far_as_the_slo_says(tmp_path: Path, clauses: tuple[str, ...], allowed: float) -> None:
    """Error rate and availability both tell V10 how many failures are part of the bargain."""
    run_folder(tmp_path)
    run = read_run_json(tmp_path)
    assert ask_of(run, Workload.model_validate(WORKLOAD), parse_slo(clauses)).allowed_error_share == pytest.approx(
        allowed
    )
