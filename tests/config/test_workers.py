"""`--workers`: a number, or a cluster and a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.experiment import Experiment
from slobench.config.workers import MOST, OnRay, parse_workers
from slobench.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("1", 1),
        ("256", 256),
        ("ray", OnRay()),
        ("ray/8", OnRay(workers=8)),
        ("ray://head:10001", OnRay("ray://head:10001")),
        ("ray://[::1]:10001/12", OnRay("ray://[::1]:10001", 12)),
    ],
)
def test_what_can_be_said(text: str, means: int | OnRay) -> None:
    """And it is written down as it was said."""
    assert parse_workers(text) == means
    assert str(means) == text


@pytest.mark.parametrize(
    "text", ["0", "257", "-1", "ray/0", "ray/257", "ray:8", "ray://", "ray/8/8", "rays", "", "8.5"]
)
def test_what_cannot_is_refused_with_what_can(text: str) -> None:
    """One sentence with all forms."""
    with pytest.raises(ConfigError, match=r"ray://HOST:10001/8"):
        parse_workers(text)


@given(st.integers(1, MOST), st.sampled_from([None, "ray://host:1"]))
def test_it_reads_what_it_writes(count: int, address: str | None) -> None:
    """Back and forth."""
    assert parse_workers(str(OnRay(address, count))) == OnRay(address, count)


@pytest.mark.parametrize("value", [3, "ray", "ray/4"])
def test_an_experiment_says_it_too(value: int | str) -> None:
    """As a number or as text, and keeps it as it was said."""
    spec = {"name": "e", "targets": ["sim"], "workloads": ["quickstart"], "workers": value}
    found = Experiment.model_validate(spec)
    assert found.workers == parse_workers(value)
    assert found.model_dump(mode="json")["workers"] == value
    with pytest.raises(ValueError, match="expected a number from 1 to 256, ray"):
        Experiment.model_validate(spec | {"workers": "eight"})
