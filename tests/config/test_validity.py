"""Limits of the validity checks as settings: in files, on the command line, with an error that names the nearest."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from slobench.config.load import load_workload
from slobench.config.schema import json_schema
from slobench.config.show import show
from slobench.config.validity import Step, Thresholds, only_step
from slobench.config.workload import Workload
from slobench.errors import ConfigError


def limits(*sets: str) -> Thresholds:
    """The thresholds of the quickstart workload with `--set`."""
    return load_workload("quickstart", sets).value.validity


def test_what_is_not_given_keeps_its_default() -> None:
    """One limit of a pair is changed, the other stays, and so does everything else."""
    changed = limits("validity.v01_lag_of_s.warning=0.02", "validity.v08_batches=5")
    expected = Thresholds().to_dict() | {"v01_lag_of_s": {"warning": 0.02, "past": 0.05}, "v08_batches": 5}
    assert changed.to_dict() == expected


def test_a_code_alone_means_its_only_pair() -> None:
    """`v01` is `v01_lag_of_s`; V04 has four pairs, so `v04` is nothing."""
    assert limits("validity.v01.warning=0.02") == limits("validity.v01_lag_of_s.warning=0.02")
    assert limits("validity.v01.warning=0.02", "validity.v01_lag_of_s.past=0.2").v01_lag_of_s == Step(
        warning=0.02, past=0.2
    )
    assert only_step("v04") is None
    with pytest.raises(ConfigError, match="unknown key 'v04'"):
        limits("validity.v04.warning=0.5")


def test_they_may_stand_in_the_file_and_survive_being_shown(tmp_path: Path) -> None:
    """What `config show` prints loads to the same limits, and says where each came from."""
    path = tmp_path / "w.yaml"
    path.write_text(show(load_workload("quickstart")) + "")
    text = path.read_text().replace("validity: {}", "validity: {v10: {past: 0.05}, v07_ratio: 1.5}")
    path.write_text("\n".join(line.partition("  #")[0] for line in text.splitlines()))
    loaded = load_workload(str(path), ["validity.v18_ks.past=0.1"])
    assert loaded.value.validity.v10_errors.past == 0.05
    assert loaded.value.validity.v07_ratio == 1.5
    shown = show(loaded)
    assert "--set validity.v18_ks.past" in shown
    assert "v10_errors" in shown
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    assert load_workload(str(again)).value == loaded.value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("validity.v01_lag_of.warning=1", r"nearest   v01_lag_of_s"),
        ("validity.v01.warn=1", r"unknown key 'warn'(.|\n)*nearest   warning"),
        ("validity.v01.warning=high", r"`validity.v01_lag_of_s.warning` cannot be 'high'(.|\n)*a number"),
        ("validity.v01.warning=-1", r"greater than or equal to 0"),
        ("validity.v01.warning=0.9", r"v01_lag_of_s(.|\n)*`warning` no larger than `past`"),
        ("validity.v07.past=0.5", r"v07_p(.|\n)*`past` no larger than `warning`"),
        ("validity.v01=3", r"a mapping"),
        ("validity=strict", r"cannot be 'strict'"),
    ],
)
def test_what_cannot_be_a_limit_is_one_readable_error(text: str, told: str) -> None:
    """The place, the fault, what was expected, the nearest name."""
    with pytest.raises(ConfigError, match=told) as caught:
        limits(text)
    assert str(caught.value).startswith("--set validity")


def test_run_json_has_all_and_the_spec_what_was_changed() -> None:
    """A workload with default limits stays short; its thresholds are complete, and read back to the same."""
    workload = load_workload("quickstart", ["validity.v05.past=0.02"]).value
    assert workload.model_dump(mode="json")["validity"] == {"v05_share": {"past": 0.02}}
    assert Workload.model_validate(workload.model_dump(mode="json")) == workload
    assert Thresholds.from_dict(workload.validity.to_dict()) == workload.validity
    assert set(workload.validity.to_dict()) == set(Thresholds.model_fields)


def test_every_limit_says_what_it_is_of() -> None:
    """Names in the reference need words."""
    assert [name for name, field in Thresholds.model_fields.items() if not field.description] == []


def test_editors_take_what_we_take() -> None:
    """The JSON Schema knows single limits, short codes, and no others."""
    validator = jsonschema.Draft202012Validator(json_schema("workload"))
    base = load_workload("quickstart").value.model_dump(mode="json")
    for good in ({"v01": {"warning": 0.02}}, {"v04_cpu": {"past": 0.9}}, {"v08_batches": 5}, {}):
        assert validator.is_valid(base | {"validity": good}), good
    for bad in ({"v04": {"warning": 1}}, {"v01": {"warn": 1}}, {"v01_lag_of_s": 3}, {"v08_batches": 0}):
        assert not validator.is_valid(base | {"validity": bad}), bad
