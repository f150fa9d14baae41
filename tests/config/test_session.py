"""Sessions as configuration: steps that can be ordered, waits within reach, errors that say what to type."""

import pytest
from pydantic import TypeAdapter, ValidationError

from slobench.config.durations import ConstantTime, Durations
from slobench.config.session import LOOK_BACK, Patience, Session, ordered, waits_of
from slobench.config.workload import Workload

LENGTH = {"dist": "constant", "value": 8}
CHAT = {"arrivals": {"process": "poisson", "rate": 2}, "input_tokens": LENGTH, "output_tokens": LENGTH}


def session(**changes):
    """A session from what a workload file would hold."""
    return Session.model_validate(changes)


def steps(*pairs):
    """Steps as (name, names it waits for)."""
    return [{"name": name, "after": list(after)} for name, after in pairs]


def test_a_time_alone_is_a_distribution_of_one():
    """`5s` and a number of seconds are constants; in JSON they come back as what they were."""
    adapter = TypeAdapter(Durations)
    assert adapter.validate_python("5s") == adapter.validate_python(5) == ConstantTime(value="5s")
    made = adapter.validate_python({"dist": "lognormal", "mean": "8s", "sigma": 1, "max": "2m"})
    assert adapter.validate_python(adapter.dump_python(made, mode="json")) == made


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"dist": "uniform", "low": "2s", "high": "1s"}, "above high"),
        ({"dist": "exponential", "mean": "0s"}, "greater than 0"),
        ({"dist": "empirical", "values": []}, "at least 1"),
        ("soon", "cannot read duration"),
        ({"dist": "poisson", "mean": "1s"}, "dist"),
    ],
)
def test_times_that_make_no_sense_are_refused(value, said):
    """The message names what is wrong."""
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Durations).validate_python(value)


def test_turns_wait_for_the_one_before():
    """Without steps the first turn waits for nothing, a later one for the request before it."""
    assert waits_of((), more_turns=False) == [0]
    assert waits_of((), more_turns=True) == [1]


def test_steps_wait_for_what_they_name_and_turns_for_all_ends():
    """Fan-out and join as bits; a later turn's first step waits for every step that nothing waits for."""
    made = session(steps=steps(("plan", ()), ("search", ["plan"]), ("read", ["plan"]), ("answer", ["search", "read"])))
    assert waits_of(made.steps, more_turns=False) == [0, 0b1, 0b10, 0b11]
    assert waits_of(made.steps, more_turns=True) == [0b1, 0b1, 0b10, 0b11]
    open_ended = session(steps=steps(("plan", ()), ("a", ["plan"]), ("b", ["plan"])))
    assert waits_of(open_ended.steps, more_turns=True) == [0b11, 0b1, 0b10]


def test_steps_may_be_listed_in_any_order():
    """What is named later may come first; where the list can be followed, it is."""
    made = session(steps=steps(("answer", ["search"]), ("search", ["plan"]), ("plan", ()), ("note", ())))
    assert [step.name for step in ordered(made.steps)] == ["plan", "search", "answer", "note"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (steps(("a", ["b"]), ("b", ["c"]), ("c", ["b"])), "b after c after b"),
        (steps(("a", ["a"])), "a after a"),
        (steps(("a", ()), ("b", ["plan"])), "step b waits for plan, which is no step"),
        (steps(("a", ()), ("a", ())), "two steps named a"),
    ],
)
def test_steps_that_cannot_be_ordered_are_refused(given, said):
    """A circle is shown name by name; an unknown or double name is told."""
    with pytest.raises(ValidationError, match=said):
        session(steps=given)


def test_a_join_further_back_than_rows_can_say_is_refused():
    """62 places back is the furthest; one more is an error that says so."""
    chain = [("first", ()), *((f"s{k}", ()) for k in range(LOOK_BACK - 1))]
    assert session(steps=steps(*chain, ("join", ["first"])))
    with pytest.raises(ValidationError, match="63 places before"):
        session(steps=steps(*chain, ("one", ()), ("join", ["first"])))
    fan = [(f"s{k}", ()) for k in range(40)]
    assert session(steps=steps(*fan))
    with pytest.raises(ValidationError, match="79 places before"):
        session(steps=steps(*fan), turns={"dist": "constant", "value": 2})


def test_patience_is_a_time_and_what_it_ends_for():
    """By default everybody waits so long for the whole reply."""
    made = Patience.model_validate({"wait": "3s"})
    assert (made.until, made.share, made.wait) == ("reply", 1.0, ConstantTime(value="3s"))
    with pytest.raises(ValidationError):
        Patience.model_validate({"wait": "3s", "share": 0})


def test_a_step_with_a_prompt_of_its_own_has_no_pair():
    """Where the class's outputs are paired with its inputs, a step needs both or neither."""
    paired = {
        "input_tokens": {"dist": "empirical", "values": [4, 8]},
        "output_tokens": {"dist": "paired", "values": [1, 2]},
    }
    step = {"name": "a", "input_tokens": LENGTH}
    for own in ({}, {"output_tokens": LENGTH}):
        made = {"name": "x", "requests": 9, "classes": {"chat": CHAT | paired | {"session": {"steps": [step | own]}}}}
        if own:
            Workload.model_validate(made)
        else:
            with pytest.raises(ValidationError, match="step a has its own input_tokens"):
                Workload.model_validate(made)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loop": {"mode": "closed", "users": 2}, "requests": 9}, "class chat: a user of a closed loop has one"),
        ({"requests": 9, "drain": {"mode": "grace"}}, "class chat: drain grace with sessions and `requests`"),
    ],
)
def test_what_sessions_do_not_go_with_is_refused(changes, said):
    """A user of a closed loop cannot fan out; sessions by count have no planned end to count a drain from."""
    closed = changes.get("loop", {}).get("mode") == "closed"
    session = {"steps": [{"name": "a"}]} if closed else {}
    spec = {key: value for key, value in CHAT.items() if not closed or key != "arrivals"} | {"session": session}
    with pytest.raises(ValidationError, match=said):
        Workload.model_validate({"name": "x", "classes": {"chat": spec}, **changes})
