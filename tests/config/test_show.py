"""`slobench config show` and `schema`: the resolved configuration, and what editors are told."""

import json
from pathlib import Path

import pytest

from slobench.config.load import load_target, load_workload
from slobench.config.schema import write_schema
from slobench.config.show import show, show_all
from slobench.errors import ConfigError, UsageError


@pytest.mark.parametrize("name", ["quickstart", "chat", "code-completion", "rag", "agent", "burst", "diurnal", "batch"])
def test_a_shown_workload_loads_to_the_same_value(name: str, tmp_path: Path) -> None:
    """What is shown is a workload file of its own: durations as text, nothing lost, origins as comments."""
    loaded = load_workload(name, ["drain.grace=1500ms", "warmup=2s"])
    path = tmp_path / "again.yaml"
    path.write_text(show(loaded))
    assert load_workload(str(path)).value == loaded.value


@pytest.mark.parametrize("name", ["sim", "sim-reference", "vllm-local", "vllm-cpu-tiny", "openai-remote"])
def test_a_shown_target_loads_to_the_same_value(name: str, tmp_path: Path) -> None:
    """What is shown is a target file of its own."""
    loaded = load_target(name, ['talk.extra_body."a.b"=[1, {c: null}]', "talk.timeouts.total=90s"])
    path = tmp_path / "again.yaml"
    path.write_text(show(loaded))
    assert load_target(str(path)).value == loaded.value


def test_each_line_says_where_its_value_came_from() -> None:
    """A value's line ends with its file and line, the flag, or `default`."""
    lines = show_all("chat", "sim", ["classes.short-answer.arrivals.rate=8", "talk.timeouts.total=5s"]).splitlines()
    assert sum(line.endswith("# --set classes.short-answer.arrivals.rate") for line in lines) == 1
    assert sum(line.endswith("# --set talk.timeouts.total") for line in lines) == 1
    values = [line for line in lines if line and not line.rstrip().endswith(":") and not line.startswith(("#", "---"))]
    assert all("  # " in line for line in values)


def test_a_secret_is_not_shown() -> None:
    """Header values are hidden."""
    assert "s3cret" not in show(load_target("http://h", ["talk.headers.x-key=s3cret"]))


def test_nothing_to_show_names_what_there_is() -> None:
    """Without workload and target the error lists both."""
    with pytest.raises(UsageError, match=r"(?s)quickstart.*vllm-local"):
        show_all(None, None, [])


def test_the_schema_is_written_or_printed(tmp_path: Path) -> None:
    """With --out the file holds the schema and the line for editors is told; a bad path is a ConfigError."""
    printed = json.loads(write_schema("workload", None))
    path = tmp_path / "workload.json"
    assert f"$schema={path}" in write_schema("workload", path)
    assert json.loads(path.read_text()) == printed
    assert printed["additionalProperties"] is False
    with pytest.raises(ConfigError, match="cannot write"):
        write_schema("target", tmp_path / "no" / "such.json")
