"""Other tools' result files: what each number there means, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slobench.errors import ConfigError
from slobench.records.foreign import is_foreign, read_foreign


def vllm(**changes: Any) -> dict[str, Any]:
    """Four requests of `vllm bench serve --save-result --save-detailed`: one of one token, one that failed."""
    return {
        "date": "20261124-120000", "backend": "vllm", "model_id": "m", "num_prompts": 4, "request_rate": 10.0,
        "burstiness": 1.0, "duration": 4.0, "completed": 3, "request_throughput": 0.75,
        "input_lens": [5, 6, 7, 8], "output_lens": [3, 1, 0, 4], "ttfts": [0.1, 0.2, 0.0, 0.3],
        "itls": [[0.01, 0.03], [], [], [0.01, 0.01, 0.01]], "errors": ["", "", "Connection reset", ""],
        "start_times": [100.0, 101.0, 102.0, 100.5], **changes,
    }  # fmt: skip


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_vllm_requests_are_read_in_order_of_their_start(tmp_path: Path) -> None:
    """TTFT as given, E2E to the last token, TPOT over n - 1; a failed one has no latency."""
    (run,) = read_foreign(written(tmp_path / "r.json", vllm()))
    assert run.start_s.tolist() == [0.0, 0.5, 1.0, 2.0]
    assert run.ttft_s == pytest.approx([0.1, 0.3, 0.2, np.nan], nan_ok=True)
    assert run.e2e_s == pytest.approx([0.14, 0.33, 0.2, np.nan], nan_ok=True)
    assert run.tpot_s == pytest.approx([0.02, 0.01, np.nan, np.nan], nan_ok=True)
    assert run.ok.tolist() == [True, True, True, False]
    assert run.offered["request_rate"] == 10.0
    assert run.settings["model_id"] == "m"


def test_vllm_without_its_details_is_refused_with_the_flag(tmp_path: Path) -> None:
    """Percentiles alone cannot be compared honestly."""
    plain = {key: value for key, value in vllm().items() if key not in {"ttfts", "itls", "output_lens"}}
    with pytest.raises(ConfigError, match="--save-detailed"):
        read_foreign(written(tmp_path / "r.json", plain))


def test_appended_vllm_results_are_several_runs(tmp_path: Path) -> None:
    """`--append-result`: one object a line."""
    path = tmp_path / "r.json"
    path.write_text("\n".join(json.dumps(vllm(request_rate=rate)) for rate in (1.0, 2.0)))
    assert [run.offered["request_rate"] for run in read_foreign(path)] == [1.0, 2.0]


def test_an_earlier_vllm_without_starts_keeps_its_order(tmp_path: Path) -> None:
    """Spread over its duration."""
    (run,) = read_foreign(written(tmp_path / "r.json", vllm(start_times=None)))
    assert run.start_s.tolist() == [0.0, 1.0, 2.0, 3.0]


def guidellm() -> dict[str, Any]:
    """Two good requests and one that failed, as GuideLLM 0.5 and later write them."""

    def row(start: float, ttft_ms: float, itl_ms: float, tokens: int, last: float) -> dict[str, Any]:
        return {
            "request_start_time": start, "time_to_first_token_ms": ttft_ms, "inter_token_latency_ms": itl_ms,
            "time_per_output_token_ms": 99.0, "output_tokens": tokens, "prompt_tokens": 7, "request_latency": 9.0,
            "info": {"timings": {"last_token_iteration": last}},
        }  # fmt: skip

    good = [row(10.0, 100.0, 20.0, 5, 10.18), row(11.0, 200.0, 30.0, 1, 11.2)]
    bad = [{**row(12.0, 0.0, 0.0, 0, 0.0), "time_to_first_token_ms": None, "info": None}]
    strategy = {"type_": "poisson", "rate": 10.0}
    requests = {"successful": good, "incomplete": [row(13.0, 1.0, 1.0, 2, 13.1)], "errored": bad}
    return {"metadata": {"version": 1}, "benchmarks": [{"config": {"strategy": strategy}, "requests": requests}]}


def test_guidellms_itl_is_our_tpot(tmp_path: Path) -> None:
    """And its TPOT, which counts the first token, is not; E2E ends at the last token; incomplete ones are left out."""
    (run,) = read_foreign(written(tmp_path / "b.json", guidellm()))
    assert run.ok.tolist() == [True, True, False]
    assert run.tpot_s == pytest.approx([0.02, np.nan, np.nan], nan_ok=True)
    assert run.e2e_s == pytest.approx([0.18, 0.2, np.nan], nan_ok=True)
    assert run.offered["rate"] == 10.0


def test_guidellm_without_requests_is_refused(tmp_path: Path) -> None:
    """Its samples may be left out of the file."""
    data = guidellm()
    data["benchmarks"][0]["requests"] = {"successful": [], "errored": []}
    with pytest.raises(ConfigError, match="no single requests"):
        read_foreign(written(tmp_path / "b.json", data))


def aiperf_lines() -> str:
    """Records of AIPerf's profile_export.jsonl: two good ones, a cancelled one, one of the warm-up."""

    def record(start_ns: int, *, error: Any = None, phase: str = "profiling", cancelled: bool = False) -> str:
        metrics = {
            "time_to_first_token": {"value": 250.0, "unit": "ms"},
            "request_latency": {"value": 0.5, "unit": "s"},
            "inter_token_latency": {"value": 5000.0, "unit": "us"},
            "output_sequence_length": {"value": 9, "unit": "tokens"},
            "input_sequence_length": {"value": 550, "unit": "tokens"},
        }
        meta = {"request_start_ns": start_ns, "benchmark_phase": phase, "was_cancelled": cancelled}
        return json.dumps({"metadata": meta, "metrics": metrics if error is None else {}, "error": error})

    return "\n".join(
        [
            record(2 * 10**18), record(2 * 10**18 + 10**9), record(2 * 10**18 + 2 * 10**9, error={"code": 500}),
            record(2 * 10**18 + 3 * 10**9, cancelled=True), record(10**18, phase="warmup"),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("name", ["", "profile_export.jsonl", "profile_export_aiperf.json"])
def test_aiperf_is_read_from_its_folder_its_records_or_beside_its_summary(name: str, tmp_path: Path) -> None:
    """Units are converted; the warm-up is left out; failed and cancelled ones have no latency."""
    (tmp_path / "profile_export.jsonl").write_text(aiperf_lines())
    written(tmp_path / "profile_export_aiperf.json", {"schema_version": "1.4", "input_config": {}})
    path = tmp_path / name if name else tmp_path
    assert is_foreign(path)
    (run,) = read_foreign(path)
    assert run.ok.tolist() == [True, True, False, False]
    assert run.ttft_s[:2] == pytest.approx([0.25, 0.25])
    assert run.tpot_s[:2] == pytest.approx([0.005, 0.005])
    assert run.e2e_s[:2] == pytest.approx([0.5, 0.5])


def test_an_aiperf_summary_alone_is_refused(tmp_path: Path) -> None:
    """It holds percentiles only."""
    with pytest.raises(ConfigError, match=r"profile_export\.jsonl"):
        read_foreign(written(tmp_path / "profile_export_aiperf.json", {"schema_version": "1.4", "input_config": {}}))


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"a": 1}', "not json", "\x00"])
def test_what_is_no_result_is_refused(content: str, tmp_path: Path) -> None:
    """With what could be read."""
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ConfigError):
        read_foreign(path)


def test_other_prompts_have_another_mark(tmp_path: Path) -> None:
    """The lengths of the prompts stand for the data set."""
    one = read_foreign(written(tmp_path / "a.json", vllm()))[0].offered["prompt lengths"]
    other = read_foreign(written(tmp_path / "b.json", vllm(input_lens=[5, 6, 7, 9])))[0].offered["prompt lengths"]
    assert one != other


def damaged(content: Any) -> Iterator[Any]:
    """The same with each of its values, at any depth, replaced by one of another kind."""
    yield from (None, "x", 5, [None], {"a": 1})
    items = content.items() if isinstance(content, dict) else enumerate(content if isinstance(content, list) else ())
    for key, value in list(items):
        for other in damaged(value):
            again = copy.copy(content)
            again[key] = other
            yield again


@pytest.mark.parametrize("content", [vllm(), guidellm(), json.loads(aiperf_lines().splitlines()[0])])
def test_a_damaged_file_is_refused_or_read_whole(content: Any, tmp_path: Path) -> None:
    """Never another error than the one that is meant for it; each column has every request."""
    refused = 0
    for each in damaged(content):
        try:
            runs = read_foreign(written(tmp_path / "r.json", each))
        except ConfigError:
            refused += 1
        else:
            for run in runs:
                columns = (run.start_s, run.ttft_s, run.tpot_s, run.e2e_s, run.output_tokens, run.ok)
                assert len({len(column) for column in columns}) == 1
                assert not np.isnan(run.start_s).all()
    assert refused > 10
