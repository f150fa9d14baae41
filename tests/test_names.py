"""The fixed vocabularies, and the exit code of each error."""

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench import errors
from slobench.names import CHANNELS, EXIT_ORDER, OUTCOMES, Channel, Exit, Outcome, first_exit


def test_the_order_of_exit_codes_is_the_documented_one() -> None:
    """Where several exit codes hold, 130, 1, 2, 6, 3, 5, 4, 7 is the order."""
    assert [int(code) for code in EXIT_ORDER] == [130, 1, 2, 6, 3, 5, 4, 7]
    assert set(EXIT_ORDER) == set(Exit) - {Exit.OK}


@given(st.sets(st.sampled_from(Exit)))
def test_the_first_exit_code_is_the_most_urgent_one_that_holds(codes: set[Exit]) -> None:
    """first_exit gives a code that holds and that none that holds comes before; 0 only where nothing else holds."""
    code = first_exit(codes)
    if code is Exit.OK:
        assert codes <= {Exit.OK}
    else:
        assert code in codes
        assert not codes & set(EXIT_ORDER[: EXIT_ORDER.index(code)])


def test_codes_of_outcomes_and_channels_are_their_positions() -> None:
    """Stored codes are positions, so the order of existing names must never change."""
    assert tuple(Outcome) == OUTCOMES
    assert tuple(Channel) == CHANNELS
    assert [str(name) for name in CHANNELS] == ["content", "reasoning", "tool", "refusal"]
    assert " ".join(OUTCOMES) == (
        "ok http_error stream_error truncated empty malformed timeout_connect timeout_first_token timeout_idle "
        "timeout_total connection client dropped cancelled cut unsent lost"
    )


ERRORS = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)]


@pytest.mark.parametrize("error", ERRORS)
def test_the_tree_in_the_docstring_gives_each_error_its_exit_code(error: type[errors.SlobenchError]) -> None:
    """The drawn tree names every error class with the exit code that it really has."""
    drawn = re.search(rf"^[│├└─ ]*{error.__name__} +(\d+) ", errors.__doc__ or "", re.MULTILINE)
    assert drawn is not None
    assert int(drawn[1]) == error.exit


def test_every_error_is_a_slobench_error_at_most_two_levels_down() -> None:
    """One except clause catches all, and none hides in a deep hierarchy."""
    for error in ERRORS:
        assert issubclass(error, errors.SlobenchError)
        assert len(error.__mro__) - len(errors.SlobenchError.__mro__) <= 2
