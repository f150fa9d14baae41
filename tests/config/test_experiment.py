"""Experiment files: what can be said, and one clear error for what cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slobench.config.load import load_experiment
from slobench.errors import ConfigError

PLAIN = {"name": "e", "targets": ["sim"], "workloads": ["quickstart"]}


def written(folder: Path, **keys: object) -> str:
    """An experiment file with these keys over the plain ones."""
    path = folder / "e.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **keys}, sort_keys=False), "utf-8")
    return str(path)


def test_settings_keep_their_order_and_files_lie_beside(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("x")
    settings = {"grid": {"engine.max_num_seqs": [16, 64]}, "zip": {"a.b": [1, 2], "a.c": ["x", None]}}
    value = load_experiment(written(tmp_path, settings=settings, workloads=["own.yaml", "chat"], rates=[4, 2])).value
    assert value.settings is not None
    assert value.settings.paths == ("engine.max_num_seqs", "a.b", "a.c")
    assert value.workloads == (str(tmp_path / "own.yaml"), "chat")
    assert value.rates == (4, 2)


def test_a_value_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    assert load_experiment(written(tmp_path), ["repeats=3", "rates=[1, 2]"]).value.repeats == 3


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"repeat": 3}, "nearest   repeats"),
        ({"targets": []}, "targets"),
        ({"workloads": ["chat", "chat"]}, "twice"),
        ({"settings": {}}, "nothing is varied"),
        ({"settings": {"grid": {}}}, "nothing is varied"),
        ({"settings": {"grid": {"engine.max_num_seqs": []}}}, "settings.grid"),
        ({"settings": {"grid": {"a b": [1]}}}, "settings.grid"),
        ({"settings": {"grid": {"x": [{"deep": 1}]}}}, "settings.grid"),
        ({"settings": {"zip": {"a": [1, 2], "b": [1]}}}, "different lengths"),
        ({"settings": {"grid": {"a": [1]}, "list": [{"a": 2}]}}, "two parts"),
        ({"settings": {"sample": {"n": 1, "of": {"a": [1]}}}}, "settings.sample.n"),
        ({"settings": {"sample": {"n": 4, "of": {"a": {"low": 3, "high": 3}}}}}, "low below high"),
        ({"settings": {"sample": {"n": 4, "of": {"a": {"low": 0, "high": 3, "scale": "log"}}}}}, "above 0"),
        ({"when": "max_num_seqs > 3"}, "nothing is called"),
        ({"when": "import os"}, "cannot read"),
        ({"when": ["target == 'sim'", "rate <"]}, "cannot read"),
        ({"rates": [1], "concurrencies": [2]}, "rates and concurrencies"),
        ({"rates": [1], "capacity": {}}, "rates and capacity"),
        ({"rates": [0]}, "rates"),
        ({"rates": []}, "rates"),
        ({"rates": [2, 2]}, "twice"),
        ({"concurrencies": [1.5]}, "whole number"),
        ({"requests": 5, "duration": "5s"}, "one of them"),
        ({"capacity": {"precision": 3}}, "precision"),
        ({"capacity": {}, "requests": 5}, "neither"),
        ({"order": "random"}, "interleaved"),
        ({"restart": "always"}, "per-cell"),
        ({"repeats": 0}, "repeats"),
        ({"name": "a/b"}, "name"),
        ({"seed": -1}, "seed"),
        ({"slo": "ttft<1s"}, "a list"),
    ],
)
def test_a_faulty_file_is_one_clear_error(tmp_path: Path, keys: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(written(tmp_path, **keys))
    text = str(caught.value)
    assert says in text
    assert "e.yaml" in text
    assert "expected" in text
    assert "Traceback" not in text


def test_no_such_experiment_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no experiment named"):
        load_experiment("nothing-of-the-kind")
    with pytest.raises(ConfigError, match="no such file"):
        load_experiment(str(tmp_path / "absent.yaml"))
