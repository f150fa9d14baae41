"""What an SLO asks of a load."""

from __future__ import annotations

import pytest

from slobench.config.slo import parse_slo
from slobench.errors import ConfigError
from slobench.experiment.criteria import asked_of

CLASSES = ("chat", "batch")


def criteria(*clauses: str, target: float | None = None, per_class: bool = False) -> dict[str, float]:
    asked = asked_of(parse_slo(clauses, CLASSES), CLASSES, target=target, per_class=per_class)
    assert {each.name for each in asked.criteria} <= {each.name for each in asked.counted}
    assert len({each.name for each in asked.counted}) == len(asked.counted)
    return {each.name: each.target for each in asked.criteria}


def test_the_target_is_the_flags_then_the_slos_then_99_percent() -> None:
    """--target-attainment, attainment>=, 99 %."""
    assert criteria("ttft<1s") == {"total": 0.99}
    assert criteria("ttft<1s", "attainment>=95%") == {"total": 0.95}
    assert criteria("ttft<1s", "attainment>=95%", target=0.9) == {"total": 0.9}


def test_each_class_may_have_to_keep_it() -> None:
    """--per-class asks every class; an attainment of one class is asked of that class anyway."""
    assert criteria("ttft<1s", per_class=True) == {"class=chat": 0.99, "class=batch": 0.99}
    assert criteria("ttft<1s", "class=chat attainment>=90%") == {"total": 0.99, "class=chat": 0.9}
    assert criteria("ttft<1s", "class=chat attainment>=90%", per_class=True) == {"class=chat": 0.9, "class=batch": 0.99}


def test_a_percentile_is_the_share_within_its_limit() -> None:
    """p99 <= 500 ms and "99 % within 500 ms" are one statement; without other limits nothing else is asked."""
    asked = asked_of(parse_slo(["ttft:p99<500ms"], CLASSES), CLASSES, target=None, per_class=False)
    assert [(each.name, each.target) for each in asked.criteria] == [("ttft:p99<500ms", 0.99)]
    (share,) = [each for each in asked.counted if each.name == "ttft:p99<500ms"]
    assert (share.what.metric, share.what.limit_s, share.classes) == ("ttft", 0.5, frozenset(CLASSES))
    assert criteria("class=chat tpot:p90<30ms") == {"class=chat tpot:p90<30ms": 0.9}
    assert criteria("error_rate<0.1%") == {"error_rate<=0.1%": pytest.approx(0.999)}


def test_a_class_without_limits_is_not_counted_where_others_have_some() -> None:
    """As in a report: its requests are neither good nor bad."""
    asked = asked_of(parse_slo(["class=chat ttft<1s"], CLASSES), CLASSES, target=None, per_class=False)
    (total,) = [each for each in asked.counted if each.name == "total"]
    assert total.classes == {"chat"}


def test_limits_are_counted_over_all_who_have_them_and_in_each_class() -> None:
    """One limit of both classes is one share, and one in each class; a class's own replaces the common one."""
    asked = asked_of(parse_slo(["ttft<1s", "class=batch ttft<9s"], CLASSES), CLASSES, target=None, per_class=False)
    named = {each.name: each.classes for each in asked.counted}
    assert named["ttft<1000ms"] == {"chat"}
    assert named["ttft<9000ms"] == {"batch"}
    assert set(asked.limits) == {"ttft<1000ms", "ttft<9000ms", "class=chat ttft<1000ms", "class=batch ttft<9000ms"}


def test_nothing_asked_is_an_error() -> None:
    """No SLO, no capacity; and 100 % cannot be shown."""
    with pytest.raises(ConfigError, match="a capacity needs an SLO"):
        criteria()
    with pytest.raises(ConfigError, match="100%"):
        criteria("ttft<1s", "attainment>=100%")
