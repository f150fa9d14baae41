"""A sketch: every quantile to its relative error, whatever the values, however they were put together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.stats.quantiles import inverted_cdf
from slobench.stats.sketch import Sketch, from_json, merged, sketch

VALUES = st.lists(st.floats(1e-6, 1e4) | st.just(0.0), min_size=1, max_size=200)


@given(values=VALUES, q=st.floats(0.001, 0.999))
def test_a_quantile_is_within_the_error(values: list[float], q: float) -> None:
    """Of the inverse ECDF, to 1 %."""
    exact = inverted_cdf(np.array(values), q)
    assert sketch(np.array(values)).quantile(q) == pytest.approx(exact, rel=0.0100001, abs=0)


@given(values=VALUES, cut=st.integers(0, 200))
def test_parts_make_the_whole(values: list[float], cut: int) -> None:
    """Merged sketches of two parts are the sketch of all values."""
    parts = [sketch(np.array(values[:cut])), sketch(np.array(values[cut:]))]
    assert merged(parts) == sketch(np.array(values))


@given(values=VALUES)
def test_json_keeps_it(values: list[float]) -> None:
    """There and back."""
    one = sketch(np.array(values))
    assert from_json(json.loads(json.dumps(one.to_json()))) == one


def test_what_is_no_number_is_left_out() -> None:
    """NaN and infinities; an empty sketch has no quantile."""
    assert sketch(np.array([np.nan, np.inf, 1.0])).n == 1
    assert Sketch({}).quantile(0.5) is None


def test_sketches_of_different_errors_do_not_merge() -> None:
    """Their bins mean different things."""
    with pytest.raises(ValueError, match="different errors"):
        merged([sketch(np.ones(1), 0.01), sketch(np.ones(1), 0.02)])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"first": 0, "counts": [-1], "zeros": 0, "error": 0.01},
        {"first": 0, "counts": [1], "zeros": 0, "error": 2.0},
    ],
)
def test_damage_is_an_error(data: dict[str, object]) -> None:
    """No sketch, a negative count, an impossible error."""
    with pytest.raises(ValueError, match="no sketch"):
        from_json(data)
