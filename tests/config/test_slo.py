"""The SLO grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.slo import (
    METRICS,
    Cancelled,
    ClassSlo,
    Clause,
    Deadline,
    Limit,
    Objective,
    e2e_limit_s,
    format_limit,
    parse_clause,
    parse_goodput,
    parse_slo,
    tightest_gap_s,
    tightest_ttft_s,
)
from slobench.errors import ConfigError

SECONDS = st.floats(1e-6, 1e6)
SHARES = st.floats(1e-6, 1)
CLAUSES = st.one_of(
    st.builds(Limit, st.sampled_from(METRICS), SECONDS, st.just(0.0) | st.floats(1e-9, 1.0)),
    st.builds(Deadline, SECONDS, SECONDS, SHARES),
    st.builds(Objective, st.sampled_from(METRICS), SECONDS, st.floats(1e-6, 1, exclude_max=True)),
    st.builds(Objective, st.sampled_from(["attainment", "availability"]), SHARES),
    st.builds(Objective, st.just("error_rate"), st.just(0.0) | SHARES),
    st.builds(Cancelled, st.sampled_from(["judged", "missed", "ignored"])),
)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("ttft<500ms", Limit("ttft", 0.5)),
        ("TTFT <= 0.5 s", Limit("ttft", 0.5)),
        ("ttft≤500ms", Limit("ttft", 0.5)),
        ("ttft<200ms+0.5ms/token", Limit("ttft", 0.2, 0.0005)),
        ("ttfo<2s", Limit("ttfo", 2.0)),
        ("max_gap<1min", Limit("max_gap", 60.0)),
        ("tpot<1e1ms", Limit("tpot", 0.01)),
        ("tpot:p99<50ms", Objective("tpot", 0.05, 0.99)),
        ("e2e:p99.9<5s", Objective("e2e", 5.0, 0.999)),
        ("attainment>=99%", Objective("attainment", 0.99)),
        ("attainment>=0.99", Objective("attainment", 0.99)),
        ("attainment>=100%", Objective("attainment", 1.0)),
        ("availability>=99.9%", Objective("availability", 0.999)),
        ("availability≥0.5", Objective("availability", 0.5)),
        ("error_rate<0.1%", Objective("error_rate", 0.001)),
        ("error_rate<=0%", Objective("error_rate", 0.0)),
        ("cancelled=missed", Cancelled("missed")),
        ("cancelled = ignored", Cancelled("ignored")),
        ("deadline(500ms, 50ms)", Deadline(0.5, 0.05, 0.9)),
        ("deadline(500ms,50ms,share=95%)", Deadline(0.5, 0.05, 0.95)),
    ],
)
def test_a_clause_is_what_the_grammar_says(text: str, clause: Clause) -> None:
    """Each form of the grammar reads as its value, in seconds and shares."""
    assert parse_clause(text) == clause


@given(CLAUSES)
def test_a_printed_clause_reads_back_exactly(clause: Clause) -> None:
    """format_limit is undone by parse_clause, to the last bit."""
    assert parse_clause(format_limit(clause)) == clause


@given(st.text(max_size=30) | st.text("ttft<:p0.5ms%,;()=class ", max_size=30))
def test_any_text_is_an_slo_or_a_config_error(text: str) -> None:
    """No text raises anything but ConfigError."""
    try:
        parse_slo([text], ["a"])
    except ConfigError as error:
        assert "\n  expected  " in str(error)  # noqa: PT017 (any text may also be an SLO)


def test_clauses_of_one_text_are_split_at_commas_and_semicolons_outside_parentheses() -> None:
    """Several clauses in one text are the same as one text each."""
    joined = parse_slo(["ttft<500ms, deadline(1s, 50ms, share=80%); attainment>=99%"])
    apart = parse_slo(["ttft<500ms", "deadline(1s,50ms,share=80%)", "attainment>=99%"])
    assert joined.common == apart.common
    assert joined.text == ("ttft<500ms, deadline(1s, 50ms, share=80%); attainment>=99%",)


def test_a_class_holds_for_the_rest_of_its_text() -> None:
    """`class=NAME` binds what follows in its text, until another; other texts stay common."""
    slo = parse_slo(["tpot<1s", "ttft<9s, class=a ttft<1s, tpot<50ms; class=b e2e<5s"], ["a", "b"])
    assert slo.common == ClassSlo(limits=(Limit("tpot", 1.0), Limit("ttft", 9.0)))
    assert dict(slo.by_class) == {
        "a": ClassSlo(limits=(Limit("ttft", 1.0), Limit("tpot", 0.05))),
        "b": ClassSlo(limits=(Limit("e2e", 5.0),)),
    }


def test_a_class_merges_its_own_clauses_over_the_common_ones() -> None:
    """A class's own clause replaces the common one of the same quantity; percentiles are quantities of their own."""
    slo = parse_slo(
        ["ttft<500ms, tpot<50ms, ttft:p99<1s, attainment>=99%, deadline(1s, 1s)", "class=a ttft<2s, attainment>=90%"]
    )
    own = slo.for_class("a")
    assert set(own.limits) == {Limit("ttft", 2.0), Limit("tpot", 0.05)}
    assert set(own.objectives) == {Objective("ttft", 1.0, 0.99), Objective("attainment", 0.9)}
    assert own.deadline == Deadline(1.0, 1.0)
    assert slo.for_class("b") == slo.common


def test_availability_and_error_rate_are_one_quantity() -> None:
    """Each is 1 minus the other: both for one class is a contradiction, a class's own replaces the common one."""
    with pytest.raises(ConfigError, match="two things of one quantity"):
        parse_slo(["availability>=99%, error_rate<0.1%"])
    own = parse_slo(["error_rate<0.1%", "class=a availability>=90%"]).for_class("a")
    assert own.objectives == (Objective("availability", 0.9),)


def test_an_unknown_class_names_the_nearest() -> None:
    """A class that the workload lacks is refused with the nearest name; without names it is not checked."""
    with pytest.raises(ConfigError, match="nearest   chat"):
        parse_slo(["class=chta ttft<1s"], ["chat", "code"])
    assert parse_slo(["class=chta ttft<1s"]).by_class[0][0] == "chta"


def test_the_tightest_limits_are_over_all_classes_and_kinds_of_clause() -> None:
    """S and G of the validity checks take percentile and deadline limits too; the E2E limit is the largest."""
    slo = parse_slo(["ttft<1s, tpot:p99<80ms, e2e<5s", "class=a ttft:p50<700ms, max_gap<60ms, e2e<9s"])
    assert (tightest_ttft_s(slo), tightest_gap_s(slo), e2e_limit_s(slo)) == (0.7, 0.06, 9.0)
    slo = parse_slo(["deadline(400ms, 40ms)"])
    assert (tightest_ttft_s(slo), tightest_gap_s(slo), e2e_limit_s(slo)) == (0.4, 0.04, None)
    slo = parse_slo(["attainment>=99%"])
    assert (tightest_ttft_s(slo), tightest_gap_s(slo), e2e_limit_s(slo)) == (None, None, None)


def test_what_cancelled_requests_count_as_is_said_once_for_a_class() -> None:
    """By default they are judged; a class's own word replaces the common one; another word, or two, are refused."""
    assert parse_slo(["ttft<1s"]).for_class("a").counts_cancelled == "judged"
    both = parse_slo(["cancelled=missed", "class=a cancelled=ignored"])
    assert [both.for_class(name).counts_cancelled for name in "ab"] == ["ignored", "missed"]
    assert both.clauses == ()
    with pytest.raises(ConfigError, match="cancelled=good is none of judged, missed, ignored"):
        parse_slo(["cancelled=good"])
    with pytest.raises(ConfigError, match="two things of one quantity"):
        parse_slo(["cancelled=missed, cancelled=judged"])


def test_goodput_pairs_are_milliseconds() -> None:
    """VLLM's `ttft:500 tpot:50 e2el:5000` are limits in ms."""
    slo = parse_slo(parse_goodput(["ttft:500", "tpot:12.5", "e2el:5000"]))
    assert slo.common.limits == (Limit("ttft", 0.5), Limit("tpot", 0.0125), Limit("e2e", 5.0))
