"""The log of a vLLM server, as its version 0.32 writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.workload.traces.read import read_trace
from tests.workload.traces.writing import put

S = 10**9
PARAMS = "SamplingParams(n=1, temperature=1.0, stop=[], ignore_eos=False, max_tokens={}, min_tokens=0, extra_args=None)"
AT = "[entrypoints/.../utils/request_logger.py:65]"


def received(name: str, at: str, most: int = 12, lora: str = "None", before: str = "") -> str:
    return f"(APIServer pid=7) INFO {at} {AT} Received request {name}: {before}params: {PARAMS.format(most)}, lora_request: {lora}.\n"


def details(name: str, at: str, ids: list[int], prompt: str = "'Hello\\nthere, prompt_token_ids: [9]'") -> str:
    return (
        f"(APIServer pid=7) DEBUG {at} {AT} Request {name} details: prompt: {prompt}, "
        f"prompt_token_ids: {ids}, prompt_embeds shape: None.\n"
    )


def generated(name: str, at: str, ids: list[int], how: str = " (streaming complete)") -> str:
    return (
        f"(APIServer pid=7) DEBUG {at} {AT} Generated response {name}{how} details: output_token_ids: {ids}\n"
        f"(APIServer pid=7) INFO {at} {AT} Generated response {name}{how}: output: 'hi', finish_reason: stop\n"
    )


START = "(APIServer pid=7) INFO 11-25 20:27:00 [api_server.py:9] Starting vLLM API server\n\n  plain text of a banner\n"


def test_a_whole_log(tmp_path: Path) -> None:
    """Times, lengths, what prompts share, adapters and how long replies took."""
    text = START + (
        details("chatcmpl-a", "11-25 20:27:42", [*range(32), 5])
        + received("chatcmpl-a", "11-25 20:27:42")
        + details("cmpl-b-0", "11-25 20:27:43", [*range(16), *range(50, 70)], "None")
        + received("cmpl-b-0", "11-25 20:27:43", lora="LoRARequest(lora_name='legal', lora_int_id=1)")
        + generated("chatcmpl-a", "11-25 20:27:45", [5, 6, 7])
        + generated("cmpl-b-0", "11-25 20:27:49", [5, 6], how="")
    )
    trace = read_trace(put(tmp_path / "vllm.log", text))
    assert (trace.format, trace.bin_ns, trace.block_tokens) == ("vllm-log", S, 16)
    assert trace.numbers("arrival_ns").tolist() == [0, S]
    assert trace.numbers("input_tokens").tolist() == [33, 36]
    assert trace.numbers("output_tokens").tolist() == [3, 2]
    assert trace.numbers("elapsed_ns").tolist() == [3 * S, 6 * S]
    assert trace.table["class"].to_pylist() == ["", "legal"]
    offsets, names = trace.lists("blocks")
    assert offsets.tolist() == [0, 2, 4]
    assert names[0] == names[2]
    assert names[1] != names[3]
    assert trace.notes == ()


def test_a_log_at_level_info_has_no_lengths_of_prompts(tmp_path: Path) -> None:
    """What it lacks is nothing and told; the bound of the reply stands for it."""
    trace = read_trace(put(tmp_path / "vllm.log", received("a", "11-25 20:27:42", most=77)))
    assert trace.numbers("input_tokens").tolist() == [NULL]
    assert trace.numbers("output_tokens").tolist() == [77]
    assert "--log-level DEBUG" in trace.notes[0]
    assert "--enable-log-outputs" in trace.notes[1]


def test_older_logs_have_the_prompt_in_the_same_line(tmp_path: Path) -> None:
    """As up to 0.10: prompt, params and token ids in one line."""
    text = received("a", "11-25 20:27:42", before="prompt: 'x', ").replace(
        ", lora_request", ", prompt_token_ids: [4, 5, 6], prompt_embeds shape: None, lora_request"
    )
    assert read_trace(put(tmp_path / "vllm.log", text)).numbers("input_tokens").tolist() == [3]


def test_a_year_that_ends_goes_on(tmp_path: Path) -> None:
    """The log names no year: after December comes January of the next."""
    text = received("a", "12-31 23:59:59") + received("b", "01-01 00:00:01")
    assert read_trace(put(tmp_path / "vllm.log", text)).numbers("arrival_ns").tolist() == [0, 2 * S]


def test_a_log_without_requests_is_refused(tmp_path: Path) -> None:
    """What else a server says is no request; nor is a request that it never received."""
    with pytest.raises(ConfigError, match="no known trace format"):
        read_trace(put(tmp_path / "vllm.log", START))
    with pytest.raises(ConfigError, match="no request in this log"):
        read_trace(put(tmp_path / "vllm.log", START + generated("a", "11-25 20:27:42", [1])))
    with pytest.raises(ConfigError, match="no request in this log"):
        read_trace(put(tmp_path / "vllm.log", received("a", "13-25 20:27:42")), "vllm-log")
