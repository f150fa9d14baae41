"""Sessions as rows: who waits for whom, how prompts grow, and that a longer plan begins with the shorter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.workload import RequestClass
from slobench.names import NULL
from slobench.workload.prompts import PromptMaker
from slobench.workload.session_rows import session_rows

S = 10**9
AGENT = [
    {"name": "plan"},
    {"name": "search", "after": ["plan"], "delay": "2s", "input_tokens": {"dist": "constant", "value": 5}},
    {"name": "read", "after": ["plan"], "output_tokens": {"dist": "constant", "value": 3}},
    {"name": "answer", "after": ["search", "read"]},
]
few = settings(deadline=None, max_examples=40)


def made(session, *, sessions=20, n=None, seed=3, **changes):
    """Rows of sessions a second apart."""
    spec = RequestClass.model_validate(
        {
            "input_tokens": {"dist": "uniform", "low": 2, "high": 30},
            "output_tokens": {"dist": "uniform", "low": 1, "high": 12},
            "session": session,
        }
        | changes
    )
    assert spec.session is not None
    return session_rows(spec, spec.session, "chat", seed, np.arange(sessions) * S, n)


def prompts(rows):
    """The prompts that a run would send, as lists of token ids."""
    maker = PromptMaker(
        seed=1, nonce="0123456789abcdef", token_ids=(0, 5000), class_names=["chat"], shared_prefix_tokens={}
    )
    parts = [() if rows.contents is None else rows.contents.row(i) for i in range(len(rows))]
    return [
        [int(token) for token in maker.json(i, 0, int(rows.input_tokens[i]), parts[i])[1:-1].split(b",")]
        for i in range(len(rows))
    ]


def waits(rows, row):
    """The rows that a row waits for."""
    return [row - 1 - bit for bit in range(62) if int(rows.after[row]) >> bit & 1]


def test_turns_follow_one_another_after_a_time_to_think():
    """The first turn has a start, each other waits for the one before it and then as long as was drawn."""
    rows = made(
        {"turns": {"dist": "uniform", "low": 1, "high": 4}, "think_time": {"dist": "exponential", "mean": "3s"}}
    )
    first = rows.turn == 0
    assert rows.start_ns[first].tolist() == (np.arange(20) * S).tolist()
    assert (rows.start_ns[~first] == NULL).all()
    assert rows.after.tolist() == (~first).astype(int).tolist()
    assert (rows.delay_ns[first] == NULL).all()
    assert len(np.unique(rows.delay_ns[~first])) == (~first).sum()
    assert 1 <= np.bincount(rows.session).min() <= np.bincount(rows.session).max() == 4


@few
@given(st.integers(0, 1000), st.sampled_from([{"turns": {"dist": "uniform", "low": 1, "high": 5}}, {"steps": AGENT}]))
def test_each_prompt_begins_with_what_was_said_before(seed, session):
    """A prompt is the first prompt that it waits for, room for its reply, and new tokens; sessions share nothing."""
    rows = made(session | {"think_time": "1s"}, sessions=6, seed=seed)
    sent = prompts(rows)
    assert [len(prompt) for prompt in sent] == rows.input_tokens.tolist()
    for row, prompt in enumerate(sent):
        for before in sorted(waits(rows, row))[:1]:
            assert prompt[: len(sent[before])] == sent[before]
            assert len(prompt) > len(sent[before]) + rows.output_tokens[before]
    assert len({prompt[0] for row, prompt in enumerate(sent) if rows.turn[row] == 0}) == 6


def test_turns_add_up():
    """Turn k's prompt has the input and output tokens of all before it, and its own."""
    rows = made({"turns": {"dist": "constant", "value": 4}}, sessions=5)
    new = made({"turns": {"dist": "constant", "value": 4}, "history": "none"}, sessions=5)
    assert new.contents is None
    assert rows.output_tokens.tolist() == new.output_tokens.tolist()
    for session in range(5):
        mine = np.flatnonzero(rows.session == session)
        said = np.cumsum(new.input_tokens[mine] + new.output_tokens[mine])
        assert rows.input_tokens[mine].tolist() == (said - new.output_tokens[mine]).tolist()


def test_steps_fan_out_and_join():
    """Both branches begin with the plan and its reply, and differ from there on; the join holds both."""
    rows = made({"steps": AGENT}, sessions=3)
    assert rows.after.tolist() == [0, 0b1, 0b10, 0b11] * 3
    assert rows.delay_ns.tolist() == [NULL, 2 * S, 0, 0] * 3
    sent = prompts(rows)
    plan, search, read, answer = sent[:4]
    common = rows.input_tokens[0] + rows.output_tokens[0]
    assert search[: len(plan)] == read[: len(plan)] == plan
    assert search[:common] == read[:common]
    assert search[common] != read[common]
    assert answer[: len(search)] == search
    own_of_read = read[common:]
    assert own_of_read in [answer[i : i + len(own_of_read)] for i in range(len(answer))]
    assert len(search) == common + 5
    assert rows.output_tokens[2::4].tolist() == [3, 3, 3]


def test_turns_of_steps_wait_for_all_of_the_turn_before():
    """An agent that is asked twice thinks once in between; its second plan waits for the answer."""
    rows = made({"steps": AGENT, "turns": {"dist": "constant", "value": 2}, "think_time": "7s"}, sessions=2)
    assert rows.after.tolist() == [0, 0b1, 0b10, 0b11, 0b1, 0b1, 0b10, 0b11] * 2
    assert rows.delay_ns[4] == 7 * S
    assert rows.turn.tolist() == list(range(8)) * 2
    sent = prompts(rows)
    assert sent[4][: len(sent[3])] == sent[3]


def test_steps_that_begin_a_turn_may_begin_later():
    """A step that waits for none has its delay from the session's start."""
    rows = made({"steps": [{"name": "a"}, {"name": "b", "delay": "300ms"}]}, sessions=2)
    assert rows.start_ns.tolist() == [0, 3 * S // 10, S, S + 3 * S // 10]
    assert not rows.after.any()


@few
@given(
    st.integers(0, 100),
    st.integers(1, 60),
    st.sampled_from([{}, {"steps": AGENT}, {"max_tokens": 60}]),
    st.sampled_from(["cumulative", "none"]),
)
def test_fewer_rows_are_the_beginning_of_more(seed, n, more, history):
    """Sessions for n rows are the first of all sessions, and make n rows where there are so many."""
    session = {"turns": {"dist": "uniform", "low": 1, "high": 4}, "think_time": "1s", "history": history} | more
    whole, part = made(session, sessions=60, seed=seed), made(session, sessions=60, seed=seed, n=n)
    assert len(part) >= min(n, len(whole))
    for name in ("start_ns", "input_tokens", "output_tokens", "session", "turn", "after", "delay_ns"):
        assert getattr(part, name).tolist() == getattr(whole, name)[: len(part)].tolist()
    if whole.contents is not None:
        assert [part.contents.row(i) for i in range(len(part))] == [whole.contents.row(i) for i in range(len(part))]


def test_a_session_ends_where_the_context_does():
    """Nothing of a session comes after the first request that is too long; one that begins too long is not there."""
    session = {"turns": {"dist": "constant", "value": 9}}
    free, bounded = made(session), made(session | {"max_tokens": 50})
    assert (bounded.input_tokens + bounded.output_tokens).max() <= 50
    for number in range(20):
        fits = np.cumprod((free.input_tokens + free.output_tokens)[free.session == number] <= 50).sum()
        assert (bounded.session == number).sum() == fits


def test_a_shared_prefix_comes_on_top():
    """What all prompts of a class begin with is not among the new tokens of its sessions."""
    session = {"turns": {"dist": "constant", "value": 3}}
    plain, prefixed = made(session), made(session, shared_prefix_tokens=100)
    assert prefixed.input_tokens.tolist() == (plain.input_tokens + 100).tolist()
    assert prefixed.contents is not None
    assert prefixed.contents.tokens.tolist() == plain.input_tokens.tolist()


def test_more_than_a_plan_holds_is_refused():
    """Turns without end are an error that says how many they are."""
    from slobench.errors import ConfigError

    with pytest.raises(ConfigError, match="class chat: 200,000,000 requests"):
        made({"turns": {"dist": "constant", "value": 10_000_000}})
