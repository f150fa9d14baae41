"""The rules that turn what was seen into one outcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.names import Outcome
from slobench.wire.outcome import Ended, Facts, judge

GOOD = Facts(
    ended=Ended.COMPLETE, status=200, streamed=True, error="", malformed="", done=True, finish_reason="length",
    output_tokens=4, events=4, due_tokens=4, opening=b"data: ",
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, Outcome.OK),
        ({"output_tokens": 5}, Outcome.OK),
        ({"due_tokens": None, "output_tokens": 1}, Outcome.OK),
        ({"ended": Ended.CLOSED}, Outcome.OK),
        ({"ended": Ended.RESET}, Outcome.OK),
        ({"events": 0}, Outcome.OK),
        ({"output_tokens": 3}, Outcome.TRUNCATED),
        ({"done": False}, Outcome.TRUNCATED),
        ({"finish_reason": ""}, Outcome.TRUNCATED),
        ({"finish_reason": "", "reasoned": False}, Outcome.OK),
        ({"finish_reason": "", "reasoned": False, "done": False}, Outcome.TRUNCATED),
        ({"output_tokens": None, "finish_reason": "stop"}, Outcome.TRUNCATED),
        ({"output_tokens": None}, Outcome.OK),
        ({"events": 0, "output_tokens": None}, Outcome.EMPTY),
        ({"events": 0, "output_tokens": 0, "due_tokens": None}, Outcome.EMPTY),
        ({"malformed": "odd"}, Outcome.MALFORMED),
        ({"ended": Ended.MALFORMED, "done": False}, Outcome.MALFORMED),
        ({"error": "died"}, Outcome.STREAM_ERROR),
        ({"error": "died", "ended": Ended.RESET, "done": False}, Outcome.STREAM_ERROR),
        ({"finish_reason": "abort"}, Outcome.STREAM_ERROR),
        ({"ended": Ended.CLOSED, "done": False}, Outcome.CONNECTION),
        ({"ended": Ended.RESET, "done": False, "status": 0, "events": 0}, Outcome.CONNECTION),
        ({"status": 429}, Outcome.HTTP_ERROR),
        ({"status": 301}, Outcome.HTTP_ERROR),
        ({"status": 500, "ended": Ended.RESET, "done": False}, Outcome.HTTP_ERROR),
    ],
)
def test_each_fact_by_itself(change: dict[str, object], outcome: Outcome) -> None:
    """A good reply with one thing wrong has that thing's outcome."""
    assert judge(GOOD._replace(**change))[0] is outcome


FACTS = st.builds(
    Facts,
    ended=st.sampled_from(Ended),
    status=st.sampled_from([0, 200, 204, 404, 503]),
    streamed=st.booleans(),
    error=st.sampled_from(["", "died"]),
    malformed=st.sampled_from(["", "odd"]),
    done=st.booleans(),
    finish_reason=st.sampled_from(["", "stop", "length", "abort"]),
    output_tokens=st.none() | st.integers(0, 5),
    events=st.integers(0, 5),
    due_tokens=st.none() | st.integers(1, 5),
    opening=st.binary(max_size=700),
    reasoned=st.booleans(),
)


@given(FACTS)
def test_only_a_reply_that_is_all_there_is_ok(facts: Facts) -> None:
    """Ok implies an end, a reason, tokens and no error; anything else is explained in at most 500 characters."""
    outcome, text = judge(facts)
    assert bool(text) == (outcome is not Outcome.OK)
    assert len(text) <= 500
    if outcome is Outcome.OK:
        assert facts.done
        assert facts.finish_reason or not facts.reasoned
        assert not facts.error
        assert not facts.malformed
        assert facts.events or facts.output_tokens
        if facts.due_tokens is not None and facts.output_tokens is not None:
            assert facts.output_tokens >= facts.due_tokens
