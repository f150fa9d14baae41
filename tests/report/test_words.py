import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.summary import Estimate
from slobench.report import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (math.nan, "–"), (math.inf, "∞"), (0.0, "0 ms"), (0.0004213, "421 µs"), (0.0009996, "1.00 ms"),
        (0.03, "30.0 ms"), (0.0999999, "100 ms"), (0.99996, "1.00 s"), (9.996, "10.0 s"), (99.96, "100 s"), (1234.5, "1,234 s"),
    ],
)  # fmt: skip
def test_times_keep_three_digits_and_roll_over_into_the_next_unit(seconds: float | None, text: str) -> None:
    """A time reads with three significant digits in the unit that suits it; null reads as a dash, never 0."""
    assert words.seconds(seconds) == text


@given(st.floats(1e-6, 1e6))
def test_three_digits_are_within_half_a_unit_of_the_third(value: float) -> None:
    """What is printed differs from the value by at most half a unit of its third digit, with no exponent."""
    shown = words.three(value)
    assert "e" not in shown
    assert float(shown.replace(",", "")) == pytest.approx(value, rel=0.005 + 1e-9)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_share_never_rounds_to_all_or_nothing(share: float) -> None:
    """Only a share of exactly 0 or 1 prints as 0 % or 100 %."""
    assert words.percent(share) not in {"0 %", "100 %", "0.0 %", "100.0 %"}
    assert (words.percent(0.0), words.percent(1.0), words.percent(None)) == ("0 %", "100 %", "–")


def test_an_interval_reads_in_the_unit_of_its_value() -> None:
    """Both ends share the value's unit, an unbounded end is open, a missing interval is a dash."""
    assert words.latency_interval(Estimate(0.042, 0.0402, 0.0441)) == "[40.2, 44.1] ms"
    assert words.latency_interval(Estimate(0.9, 0.4, 2.5)) == "[400, 2,500] ms"
    assert words.latency_interval(Estimate(0.042, 0.04, math.inf)) == "[40.0, ∞) ms"
    assert words.latency_interval(Estimate(math.inf, 0.31, math.inf)) == "[310 ms, ∞)"
    assert words.latency_interval(Estimate(0.042)) == "–"
    assert words.percent_interval(Estimate(0.99, 0.97, 1.0)) == "[97.0, 100]"


def test_a_censored_quantile_reads_as_its_bound() -> None:
    """A quantile that timeouts reach prints as `> 120 s`, not as a number."""
    assert words.latency(Estimate(math.inf, note="> 120 s")) == "> 120 s"


@given(st.text())
def test_clean_text_holds_nothing_that_drives_a_terminal(text: str) -> None:
    """Control, bidi and zero-width characters never pass; the result is one line that can be encoded."""
    shown = words.clean(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u200b\u202e\u2066\ufeff" for c in shown)
    shown.encode("utf-8")


def test_long_text_is_cut_with_a_mark() -> None:
    """Text beyond the limit ends in an ellipsis."""
    assert words.clean("x" * 600) == "x" * 499 + "…"
