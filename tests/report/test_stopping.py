"""When and why a run ended, as reports word it."""

from __future__ import annotations

from typing import Any

import pytest

from slobench.report.stopping import ended_early, in_words, undecided

SURE = {"objectives": {"attainment>=99%": {"low": 0.992, "high": 1.0}}}
NARROW = {"metrics": {"ttft:p99": {"half_width": 0.041, "wanted": 0.05}, "attainment": {"half_width": None}}}


def run(rule: str, reason: str | None = None, stop: str = "complete", **more: Any) -> dict[str, Any]:
    """The parts of run.json that matter."""
    return {"run": {"stop": stop}, "stopping": {"rule": rule, "reason": reason, **more}}


@pytest.mark.parametrize(
    ("told", "how"),
    [
        (run("fixed", "bound"), ""),
        (run("fixed", "interrupted", "interrupted"), "stopped by hand"),
        (run("decided", "interrupted", "interrupted"), "stopped by hand"),
        (run("decided", "met", "decided"), "stopped when decided"),
        (run("decided", "missed", "decided"), "stopped when decided"),
        (run("decided", "bound", found="met"), ""),
        (run("precision", "precise", "precise"), "stopped when precise"),
        (run("precision", "bound"), ""),
        (run("decided", None, None), ""),  # type: ignore[arg-type]  # killed: nobody chose the moment
        ({}, ""),  # of a version without rules
    ],
)
def test_only_an_end_that_was_chosen_by_what_was_seen_marks_intervals(told: dict[str, Any], how: str) -> None:
    """A run that went on to its planned end has intervals that hold what they say."""
    assert ended_early(told) == how


def test_undecided_is_a_run_that_was_to_decide_and_did_not() -> None:
    """Not one that was decided by its last look, nor one that was stopped by hand, nor one that had no such rule."""
    assert undecided(run("decided", "bound", found=None))
    assert not undecided(run("decided", "bound", found="met"))
    assert not undecided(run("decided", "interrupted", "interrupted", found=None))
    assert not undecided(run("precision", "bound", found=None))
    assert not undecided({})


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (
            run("decided", "met", "decided", stopped_s=41.03, looks=[{}, SURE]),
            "until decided: the SLO is met at 41.0 s, 2 looks; attainment>=99% in [99.2 %, 100 %]",
        ),
        (run("decided", "bound", found=None, looks=[{}]), "until decided: its full length, undecided, 1 look"),
        (
            run("decided", "bound", found="missed", looks=[{}, {}]),
            "until decided: its full length, the SLO is missed, 2 looks",
        ),
        (
            run("precision", "precise", "precise", stopped_s=60, looks=[NARROW]),
            "until precise: as narrow as asked at 60.0 s, 1 look; ttft:p99 ±4.1 % (5.0 % asked)",
        ),
        (run("precision", "bound", looks=[]), "until precise: its full length, not narrow enough, 0 looks"),
        (run("decided", "target died", "target died", looks=[]), "until decided: target died, 0 looks"),
        (run("decided", None), "until decided: cut short, 0 looks"),
        (run("fixed", "bound"), ""),
        ({}, ""),
    ],
)
def test_one_line_says_what_ended_the_run(told: dict[str, Any], text: str) -> None:
    """The rule, its outcome, when, after how many looks, and what the last of them saw."""
    assert in_words(told) == text
