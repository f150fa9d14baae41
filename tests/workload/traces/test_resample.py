"""New traces from pieces of a recorded one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.errors import UsageError
from slobench.workload.traces.resample import NOTE, resampled
from slobench.workload.traces.schema import Trace, make_trace

S = 10**9
N = 400


def recorded() -> Trace:
    """Requests for 200 s, each of a length of its own, two turns a session."""
    rng = np.random.default_rng(0)
    return make_trace(
        {
            "arrival_ns": np.sort(rng.integers(0, 200 * S, N)),
            "input_tokens": np.arange(1, N + 1),
            "output_tokens": np.arange(1, N + 1) * 2,
            "session": np.arange(N) // 2,
        },
        format="test",
    )


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(5, 300))
def test_rows_stay_whole_and_keep_their_distance_within_a_piece(seed: int, piece_s: int, duration_s: int) -> None:
    """Every row is a recorded one, in order of time, in bounds; neighbours of one piece are as far apart as recorded."""
    trace = recorded()
    try:
        new = resampled(trace, seed=seed, piece_ns=piece_s * S, requests=None, duration_ns=duration_s * S)
    except UsageError:
        return
    at, tokens = new.numbers("arrival_ns"), new.numbers("input_tokens")
    assert (new.numbers("output_tokens") == 2 * tokens).all()
    assert (np.diff(at) >= 0).all()
    assert at[-1] < duration_s * S
    own = trace.numbers("arrival_ns")[tokens - 1]
    together = (np.diff(at // (piece_s * S)) == 0) & (np.diff(tokens) == 1)
    assert (np.diff(at)[together] == np.diff(own)[together]).all()
    assert not new.has("session")
    assert NOTE in new.notes


def test_so_many_requests_and_the_same_every_time() -> None:
    """A count is met exactly; one seed gives one trace, another another; the mean rate is that of the record."""
    one, same, other = (
        resampled(recorded(), seed=seed, piece_ns=10 * S, requests=3_000, duration_ns=None) for seed in (1, 1, 2)
    )
    assert len(one) == 3_000
    assert one.digest == same.digest != other.digest
    rate = 3_000 / (float(one.numbers("arrival_ns")[-1]) / S)
    assert rate == pytest.approx(2.0, rel=0.15)


def test_a_piece_longer_than_the_record_is_refused() -> None:
    """So is a trace without times."""
    with pytest.raises(UsageError, match="less than a piece"):
        resampled(recorded(), seed=0, piece_ns=300 * S, requests=5, duration_ns=None)
