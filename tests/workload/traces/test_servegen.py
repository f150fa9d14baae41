"""Client pools sampled: arrivals by client and window, lengths from the client's own window."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slobench.config.recorded import Recorded
from slobench.errors import ConfigError
from slobench.workload.recorded import recorded_rows
from slobench.workload.traces.read import format_of, read_trace
from slobench.workload.traces.servegen import read
from tests.workload.traces.writing import put

S = 10**9


def pool(folder: Path) -> Path:
    """Two clients over 1200 s: one steady with two windows of lengths, one in the second half only."""
    folder.mkdir()
    put(folder / "chunk-0-trace.csv", "0,5,1,Gamma,1,0.2\n600,5,1,Gamma,1,0.2\n")
    put(folder / "chunk-1-trace.csv", "0,0,0,,0,0\n600,10,1,Weibull,1,0.1\n")
    first = {"input_tokens": "{100: 0.25, 200: 0.75}", "output_tokens": "{10: 0.5, 20: 0.5}", "reason_ratio": "{}"}
    second = {"input_tokens": "{1000: 1.0}", "output_tokens": "{1: 1.0}"}
    put(folder / "chunk-0-dataset.json", json.dumps({"0": first, "600": second}))
    media = {
        "text_tokens": "{7: 1}",
        "image_tokens": "{500: 1}",
        "image_count": "{0: 0.5, 2: 0.5}",
        "output_tokens": "{3: 1}",
    }
    put(folder / "chunk-1-dataset.json", json.dumps({"0": {"text_tokens": "{}"}, "300": media}))
    return folder


def test_rates_and_lengths_are_those_of_client_and_window(tmp_path: Path) -> None:
    """5/s and then 15/s within 5 standard errors; each client's lengths from its window."""
    folder = pool(tmp_path / "p")
    assert format_of(folder) == "servegen"
    trace = read_trace(folder, seed=4)
    late = trace.numbers("arrival_ns") >= 600 * S
    assert abs((~late).sum() - 3000) < 5 * np.sqrt(3000)
    assert abs(late.sum() - 9000) < 5 * np.sqrt(9000)
    client = np.array(trace.table["class"].to_pylist())
    steady = client == "chunk-0"
    input_tokens, output_tokens = trace.numbers("input_tokens"), trace.numbers("output_tokens")
    early = input_tokens[steady & ~late]
    assert set(early.tolist()) == {100, 200}
    assert (early == 200).mean() == pytest.approx(0.75, abs=5 * np.sqrt(0.1875 / len(early)))
    assert set(input_tokens[steady & late].tolist()) == {1000}
    assert set(input_tokens[~steady].tolist()) == {7}
    assert set(output_tokens[~steady].tolist()) == {3}
    assert set(trace.numbers("images")[~steady].tolist()) == {0, 2}


def test_input_and_output_are_drawn_apart(tmp_path: Path) -> None:
    """One uniform for every field would tie them: the correlation is 0 within 5 standard errors."""
    trace = read(pool(tmp_path / "p"), seed=1, to_ns=600 * S)
    pairs = np.corrcoef(trace.numbers("input_tokens"), trace.numbers("output_tokens"))
    assert abs(pairs[0, 1]) < 5 / np.sqrt(len(trace))


def test_a_pool_is_replayed_as_a_recording(tmp_path: Path) -> None:
    """from, to, label and speed work as for a trace; only what is due within the run is drawn."""
    folder = pool(tmp_path / "p")
    spec = Recorded.model_validate({"file": str(folder), "from": "10m", "label": "chunk-1", "speed": 2})
    rows = recorded_rows(spec, "a", 0, 60 * S)
    assert abs(len(rows) - 1200) < 5 * np.sqrt(1200)
    assert set(rows.input_tokens.tolist()) == {7}
    again = recorded_rows(spec, "a", 0, 60 * S)
    assert rows.start_ns.tolist() == again.start_ns.tolist()


def test_clients_without_lengths_are_left_out_and_told(tmp_path: Path) -> None:
    """Published pools lack some dataset files; a pool without any is refused."""
    folder = pool(tmp_path / "p")
    (folder / "chunk-1-dataset.json").unlink()
    trace = read_trace(folder)
    assert set(trace.table["class"].to_pylist()) == {"chunk-0"}
    assert "no lengths of clients 1" in trace.notes[1]
    (folder / "chunk-0-dataset.json").unlink()
    with pytest.raises(ConfigError, match="no client of the pool has lengths"):
        read_trace(folder)


@pytest.mark.parametrize(
    "text",
    ['{"0": ', "[]", '{"a": {}}', '{"0": {"input_tokens": "{1: x}", "output_tokens": "{1: 1}"}}'],
)
def test_a_dataset_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    """Nothing in it is evaluated."""
    folder = pool(tmp_path / "p")
    put(folder / "chunk-0-dataset.json", text)
    with pytest.raises(ConfigError, match=r"chunk-0-dataset\.json"):
        read_trace(folder)
