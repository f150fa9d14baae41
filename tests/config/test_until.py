"""Stopping rules from flags and files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.clause import METRICS
from slobench.config.flags import DEFAULT_BOUND, RunFlags, apply_flags, workload_from_flags
from slobench.config.load import load_workload
from slobench.config.until import DEFAULT_METRICS, Decided, Precise, metric_of, parse_precision
from slobench.errors import ConfigError, UsageError
from slobench.units import parse_duration_ns

NAMES = st.one_of(
    st.just("attainment"),
    st.tuples(st.sampled_from(METRICS), st.sampled_from(["50", "99", "99.9", "1"])).map(":p".join),
)


@given(within=st.dictionaries(NAMES, st.integers(1, 9999), min_size=1, max_size=4))
def test_a_precision_reads_as_it_is_written(within: dict[str, int]) -> None:
    """`ttft:p99=5%,attainment=1%`, in hundredths of a percent here."""
    text = ", ".join(f"{name}={width / 100}%" for name, width in within.items())
    assert parse_precision(text) == pytest.approx({name: width / 10_000 for name, width in within.items()})


def test_a_bare_share_means_the_default_metrics() -> None:
    """One width for all of them."""
    assert parse_precision(" 5 % ") == dict.fromkeys(DEFAULT_METRICS, 0.05)
    assert metric_of("ttft:p99.9") == ("ttft", pytest.approx(0.999))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5", "cannot read"),
        ("0%", "more than 0 %"),
        ("100%", "less than 100 %"),
        ("ttft:p99", "cannot read"),
        ("ttft:p99=5", "cannot read"),
        ("ttft=5%", "no metric with an interval named"),
        ("itl:p99=5%", "no metric with an interval named"),
        ("ttft:p100=5%", "no metric with an interval named"),
        ("ttft:p99=5%,ttft:p99=4%", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, told: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match=told):
        parse_precision(text)


def test_flags_make_rules_and_a_bound() -> None:
    """--duration stays the bound; without one there is a documented one, and the user is told."""
    decided = workload_from_flags(RunFlags(rate=5, until_decided=True))
    assert decided.value.until == Decided()
    assert decided.value.duration == parse_duration_ns(DEFAULT_BOUND)
    assert decided.origin["until.rule"] == "--until-decided"
    assert any(f"at most {DEFAULT_BOUND}" in note for note in decided.notes)
    precise = workload_from_flags(RunFlags(rate=5, requests=100, until_precision="ttft:p99=5%"), ["until.growth=2"])
    assert precise.value.until == Precise(within={"ttft:p99": 0.05}, growth=2)
    assert (precise.value.requests, precise.value.duration) == (100, None)


def test_flags_go_over_a_file() -> None:
    """The file's own length is the bound."""
    before = load_workload("quickstart")
    after = apply_flags(before, RunFlags(until_decided=True))
    assert (after.value.until, after.value.duration) == (Decided(), before.value.duration)


def test_two_rules_are_refused() -> None:
    """One run has one end."""
    with pytest.raises(UsageError, match="both say when to stop"):
        workload_from_flags(RunFlags(rate=5, until_decided=True, until_precision="5%"))
