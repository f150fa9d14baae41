"""Latency tables: the method of percentiles, censoring, and what an estimate without n_eff says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.metrics.estimate import QUANTILES, Windows, latency_table
from slobench.metrics.evaluate import summarise
from slobench.metrics.summary import Estimate, Summary

S = 10**9
Clean = Callable[..., Any]


def summary(run: Any) -> Summary:
    return summarise(run.evaluate())


@given(
    values=st.lists(st.floats(1e-4, 1e4) | st.just(math.inf), min_size=1, max_size=200),
    known=st.booleans(),
)
def test_percentiles_are_numpys_inverted_cdf_and_in_order(values: list[float], *, known: bool) -> None:
    """Each is a value that was seen, numpy's `inverted_cdf`; min <= p1 <= p50 <= ... <= p99.9 <= max; n stands beside."""
    column = np.array(values)
    windows = Windows(np.arange(len(values)) % 10, 10, optimistic=False)
    table = latency_table(column, windows, intervals=known)
    ranked = np.sort(column)
    for name, q in QUANTILES.items():
        # numpy interpolates between equal infinities and gets NaN, so it is asked for the position
        at = int(np.quantile(np.arange(len(values)), q, method="inverted_cdf"))
        assert table[name].value == ranked[at]
        assert table[name].n == len(values)
    ordered = [table[name].value for name in ("min", *QUANTILES, "max")]
    assert ordered == sorted(ordered)  # type: ignore[type-var]


def test_a_timeout_bounds_the_percentiles_that_it_reaches_by_how_long_it_was_waited_for(clean: Clean) -> None:
    """A first-token timeout of 10 s says `> 10 s`, whatever the total timeout is; of TPOT it says nothing."""
    run = clean()
    run.fail(slice(None, None, 20), "timeout_first_token", "no token within 10 s")
    run["end_ns"][::20] = run["scheduled_ns"][::20] + 10 * S
    table = summary(run).latency_adjusted["all"]
    for metric in ("ttft", "e2e"):
        assert table[metric]["p99"].value == math.inf
        assert "> 10 s" in table[metric]["p99"].note
        assert ">" not in table[metric]["p90"].note
    assert table["tpot"]["p99"].value == math.inf
    assert ">" not in table["tpot"]["p99"].note


def test_an_error_hides_how_long_it_would_have_taken(clean: Clean) -> None:
    """Where errors reach deeper than timeouts the quantile is infinite, not bounded by the timeouts."""
    run = clean()
    n = len(run["index"])
    run.fail(np.arange(n) % 10 == 0, "timeout_total")
    run["end_ns"][::10] = run["scheduled_ns"][::10] + 120 * S
    run.fail(np.arange(n) % 20 == 1, "http_error", status=500)
    table = summary(run).latency_adjusted["all"]["e2e"]
    assert {table[q].value for q in ("p90", "p99")} == {math.inf}
    assert "> 2 min 00 s" in table["p90"].note  # timeouts lie from the 85th to the 95th percentile, errors beyond
    assert ">" not in table["p99"].note


def estimates(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Estimate]]:
    """Every estimate of a latency table or of several."""
    if isinstance(value, Estimate):
        return [(path, value)]
    return [each for key, item in value.items() for each in estimates(item, (*path, str(key)))]


def few(run: Any) -> None:
    """All but 12 requests are cut."""
    run["outcome"][np.arange(len(run["index"])) >= 12] = "cut"


def a_hole(run: Any) -> None:
    """Nothing succeeds in the middle of the run."""
    run.fail(np.flatnonzero((run.scheduled > 28) & (run.scheduled < 40)), "connection")


def all_fail(run: Any) -> None:
    run.fail(slice(None), "connection")


def constant(run: Any) -> None:
    """Every TTFT is the same: nothing lies beyond a quantile."""


@pytest.mark.parametrize("change", [few, a_hole, all_fail, constant])
def test_a_quantile_has_its_n_eff_or_says_why_not(clean: Clean, change: Callable[[Any], None]) -> None:
    """In every table of the summary, however poor the run: n_eff, or words."""
    run = clean()
    change(run)
    seen = summary(run)
    tables: Mapping[str, Any] = {
        "latency": seen.latency, "adjusted": seen.latency_adjusted, "full": seen.latency_full_run
    }  # fmt: skip
    found = [(path, each) for path, each in estimates(tables) if path[-1].startswith("p")]
    assert found
    silent = [path for path, each in found if each.n_eff is None and not each.note]
    assert not silent


def test_the_tail_of_tpot_is_called_approximate(clean: Clean) -> None:
    """Its intervals cover less than they say; those of the body do not."""
    run = clean()
    rng = np.random.default_rng(3)
    run["last_token_ns"] = run["first_token_ns"] + rng.lognormal(np.log(0.07), 0.2, len(run["index"])) * S
    run["end_ns"] = run["last_token_ns"] + 1e5
    table = summary(run).latency["all"]["tpot"]
    assert "approximate" in table["p99"].note
    assert "approximate" not in table["p50"].note
