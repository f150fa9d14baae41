"""Durations as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.errors import ConfigError
from slobench.units import format_duration_ns, format_s, parse_duration_ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("500ms", 500_000_000),
        ("1.5s", 1_500_000_000),
        (" 2 m ", 120_000_000_000),
        ("2min", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("250us", 250_000),
        ("250µs", 250_000),
        ("250μs", 250_000),
        ("7ns", 7),
        ("0.3", 300_000_000),
        (".5s", 500_000_000),
        ("1e3ms", 1_000_000_000),
        (3, 3_000_000_000),
        (0.25, 250_000_000),
        (0, 0),
        ("500MS", 500_000_000),
        ("9007199254740993ns", 9_007_199_254_740_993),
    ],
)
def test_a_duration_is_its_number_times_its_unit(text: str | float, ns: int) -> None:
    """Every unit, spacing and case gives the exact number of nanoseconds; a bare number is seconds."""
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "5x",
        "-5s",
        "5 5s",
        "1:30",
        "inf",
        "nan",
        "1e400s",
        "1e999999999999s",
        "5s5",
        "0x10",
        "1_000",
        "5\ns x",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Text that is no duration, or one beyond int64 ns, is a ConfigError that quotes it and says what was expected."""
    with pytest.raises(ConfigError, match=r"(?s)'.*'.*\n  expected  ") as caught:
        parse_duration_ns(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_a_number_that_is_no_duration_is_refused(number: float) -> None:
    """NaN, infinity and negative numbers are refused as numbers too."""
    with pytest.raises(ConfigError):
        parse_duration_ns(number)


@given(st.integers(0, 2**63 - 1))
def test_a_printed_duration_reads_back_exactly(ns: int) -> None:
    """format_duration_ns is undone by parse_duration_ns for every int64."""
    assert parse_duration_ns(format_duration_ns(ns)) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1500ns"),
        (500_000_000, "500ms"),
        (90_000_000_000, "90s"),
        (7_200_000_000_000, "2h"),
    ],
)
def test_a_duration_prints_in_the_largest_unit_without_a_fraction(ns: int, text: str) -> None:
    """The printed unit is the largest that needs no fraction."""
    assert format_duration_ns(ns) == text


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_config_error(text: str) -> None:
    """No text raises anything but ConfigError, and none gives a negative duration."""
    try:
        ns = parse_duration_ns(text)
    except ConfigError:
        return
    assert 0 <= ns < 2**63


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0000123, "12.3 µs"),
        (0.031, "31 ms"),
        (2.624, "2.62 s"),
        (99.6, "99.6 s"),
        (100.4, "100 s"),
        (185, "3 min 05 s"),
    ],
)
def test_a_time_for_people_has_three_digits_and_a_unit(seconds: float, text: str) -> None:
    """format_s picks the unit by size."""
    assert format_s(seconds) == text
