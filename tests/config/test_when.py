"""Conditions of experiments: read by a grammar of their own, and nothing of them is ever run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.config.when import aliases, parse_when, refuse_unknown
from slobench.errors import ConfigError

VALUES = {"seqs": 64, "tokens": 512, "policy": "fcfs", "chunked": True, "load": None, "engine.seqs": 64}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tokens >= 4 * seqs", True),
        ("tokens > 8 * seqs", False),
        ("tokens / seqs == 8 and policy == 'fcfs'", True),
        ('policy in ["priority", "fcfs"]', True),
        ("policy != 'fcfs' or chunked", True),
        ("not chunked or seqs - 1 < 63", False),
        ("not (chunked and seqs < 10)", True),
        ("load == null", True),
        ("-seqs < 0 and 7 % 4 == 3", True),
        ("engine.seqs == 64.0", True),
        ("chunked == 1", False),  # true is no number
    ],
)
def test_a_condition_means_what_it_says(text: str, *, expected: bool) -> None:
    assert parse_when(text).holds(VALUES) is expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "a <", "a b", "a = 3", "a and", "(a", "a)", "a in b", "a in []", "1 < 2 < 3", "__import__('os').system('x')",
     "a.__class__", "a if b else c", "lambda: 1", "a[0]", "x" * 2000, "(" * 500 + "a" + ")" * 500, "-" * 500 + "1 < 2",
     "not " * 3, "a ; b", "é < 1", "'open"],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError, match="when") as caught:
        refuse_unknown(parse_when(text), ["a", "b", "c"])
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("text", ["1", "policy < 3", "seqs and chunked", "seqs / 0 > 1", "seqs % 0 > 1", "policy + 1 > 2",
                                  "load < 1", "1e300 * 1e300 > 1",
                                  f"{10**250} * {10**250} / 2 > 1", f"{10**250} * {10**250} * 0.5 > 1"])  # fmt: skip
def test_values_that_do_not_go_together_are_told(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_when(text).holds(VALUES)


@given(st.text(max_size=60))
def test_no_text_does_anything_but_be_read_or_refused(text: str) -> None:
    try:
        found = parse_when(text)
        found.holds(dict.fromkeys(found.names, 1))
    except ConfigError:
        pass


def test_a_setting_goes_by_its_last_part_where_no_other_has_it() -> None:
    names = aliases(["args.max-num-seqs", "engine.step.base_ms", "a.seed", "b.seed"])
    assert names["max_num_seqs"] == names["args.max_num_seqs"] == "args.max-num-seqs"
    assert names["base_ms"] == "engine.step.base_ms"
    assert "seed" not in names
    assert names["a.seed"] == "a.seed"
