"""Margins: a share, a time, or the larger; nothing that is no number."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.margins import (
    Margin,
    Margins,
    format_margin,
    load_margins,
    parse_margin,
    parse_percent,
    with_flags,
)
from slobench.config.schema import json_schema
from slobench.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "relative", "absolute_s"),
    [
        ("5%", 0.05, 0.0),
        ("10ms", 0.0, 0.01),
        ("5% or 10ms", 0.05, 0.01),
        ("2ms|0.5%", 0.005, 0.002),
        (" 5 % ", 0.05, 0.0),
        ("250%", 2.5, 0.0),
    ],
)
def test_margins_are_read(text: str, relative: float, absolute_s: float) -> None:
    """A share, a time, both in either order."""
    margin = parse_margin(text)
    assert margin.relative == pytest.approx(relative)
    assert margin.absolute_s == pytest.approx(absolute_s)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "0%",
        "-5%",
        "nan%",
        "inf%",
        "nan",
        "infms",
        "nanms",
        "5% or 5%",
        "1ms or 2ms",
        "0ms",
        "1e400ms",
        "10 or 5%",
        "5000%",
    ],
)
def test_what_is_no_margin_is_refused(text: str) -> None:
    """Nothing, a bare number, a negative one, NaN, infinity, two of a kind."""
    with pytest.raises(ConfigError):
        parse_margin(text)


@given(relative=st.integers(1, 999), absolute=st.integers(0, 10**12))
def test_a_margin_reads_back_as_it_was_written(relative: int, absolute: int) -> None:
    """Words and back."""
    margin = Margin(relative=relative / 1000, absolute_ns=absolute)
    again = parse_margin(format_margin(margin))
    assert again.relative == pytest.approx(margin.relative)
    assert again.absolute_ns == margin.absolute_ns


def test_a_file_is_read_and_flags_go_over_it(tmp_path: Path) -> None:
    """Margins of single metrics, the common one, the least; a flag changes its own metric only."""
    path = tmp_path / "margins.yaml"
    path.write_text("margin: 8%\nmetrics: {'ttft:p90': 10% or 20ms}\nleast: 3%\nattainment: 0.5%\npairs: 20\n")
    margins = load_margins(path)
    assert margins.margin.relative == pytest.approx(0.08)
    assert margins.metrics["ttft:p90"].absolute_s == pytest.approx(0.02)
    assert (margins.least, margins.attainment, margins.pairs) == (0.03, 0.005, 20)
    changed = with_flags(margins, ["tpot:p50=2%", "6%"], per_class=True, pairs=None)
    assert format_margin(changed.margin) == "6%"
    assert set(changed.metrics) == {"ttft:p90", "tpot:p50"}
    assert (changed.per_class, changed.pairs) == (True, 20)


@pytest.mark.parametrize(
    "text",
    [
        "margin: 5",
        "margin: .nan%",
        "least: 5",
        "metrics: {a: x}",
        "margins: 5%",
        "pairs: 3",
        "least: 2.0",
        "pairs: '10'",
        "per_class: 'yes'",
        "per_class: 1",
    ],
)
def test_a_bad_file_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    """The line and what was expected."""
    path = tmp_path / "margins.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"margins\.yaml"):
        load_margins(path)


def test_the_whole_is_stored_as_text() -> None:
    """As in a file: 5%, 20ms."""
    plain = Margins(metrics={"ttft:p90": parse_margin("10% or 20ms")}).model_dump(mode="json")
    assert plain["margin"] == "5%"
    assert plain["metrics"] == {"ttft:p90": "10% or 20ms"}
    assert plain["least"] == "2%"
    assert Margins.model_validate(plain) == Margins(metrics={"ttft:p90": parse_margin("10% or 20ms")})


@pytest.mark.parametrize("text", ["5", "x%", "", "1000%"])
def test_shares_need_a_per_cent_sign(text: str) -> None:
    """A bare number might be a share or a percentage."""
    with pytest.raises(ConfigError):
        parse_percent(text)


@pytest.mark.parametrize(
    ("data", "right"),
    [
        ({"kind": "margins", "margin": "5% or 10ms", "metrics": {"ttft:p90": "10%"}, "least": "1%", "pairs": 20}, True),
        ({}, True),
        ({"margn": "5%"}, False),
        ({"margin": 5}, False),
        ({"pairs": 3}, False),
    ],
)
def test_editors_are_told_what_is_accepted(tmp_path: Path, data: dict[str, object], *, right: bool) -> None:
    """The JSON Schema of margins files and what reads them agree."""
    validator = jsonschema.Draft202012Validator(json_schema("margins"))
    validator.check_schema(validator.schema)
    file = tmp_path / "margins.yaml"
    file.write_text(yaml.safe_dump(data), "utf-8")
    assert validator.is_valid(data) == right
    if right:
        load_margins(file)
    else:
        with pytest.raises(ConfigError):
            load_margins(file)
