"""Naming the best of several treatments over blocks: how often a wrong one is called the best, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slobench.stats.blocks import choose, choose_by_errors

RUNS = 800


def share_of_wrong_claims(k: int, blocks: int, truth: np.ndarray, spread: np.ndarray, seed: int) -> float:
    """How often a treatment that is not the best is called so at 95 %; blocks shift all of them alike."""
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(RUNS):
        shift = rng.normal(0, 0.2, blocks)
        found = choose(truth[:, None] + shift + rng.normal(0, 1, (k, blocks)) * spread[:, None])
        wrong += found.sure >= 0.95 and truth[found.best] < truth.max()
    return wrong / RUNS


@pytest.mark.parametrize(("k", "blocks"), [(2, 3), (6, 3), (12, 2)])
def test_a_wrong_one_is_called_the_best_in_five_percent_at_most(k: int, blocks: int) -> None:
    """The hardest case: the true best is ahead by next to nothing. Bound: 5 % and 3.3 binomial standard errors."""
    truth = np.zeros(k)
    truth[0] = 1e-9
    bound = 0.05 + 3.3 * math.sqrt(0.05 * 0.95 / RUNS)
    assert share_of_wrong_claims(k, blocks, truth, np.full(k, 0.03), seed=k) <= bound


def test_noise_of_bad_configs_does_not_make_false_claims() -> None:
    """Overloaded configs vary ten times as much and are far behind: then less is claimed, not more."""
    truth, spread = np.array([1e-9, 0.0, -1.0, -1.0]), np.array([0.02, 0.02, 0.2, 0.2])
    assert share_of_wrong_claims(4, 3, truth, spread, seed=5) <= 0.05


def test_a_clear_lead_is_seen_and_needs_no_more_blocks() -> None:
    rng = np.random.default_rng(1)
    found = choose(np.array([0.0, 0.3, 0.1])[:, None] + rng.normal(0, 0.02, (3, 3)))
    assert found.best == 1
    assert found.sure > 0.999
    assert [each.other for each in found.against] == [2, 0]
    assert all(each.needed is not None and each.needed <= 3 for each in found.against)
    assert all(0 < each.low < each.ahead for each in found.against)


def test_as_many_blocks_as_are_said_do_tell() -> None:
    """With the blocks that `needed` names, such a lead is seen in about nine experiments of ten."""
    rng = np.random.default_rng(3)
    lead, spread = 0.02, 0.02
    exact = choose(np.array([[lead + spread, lead - spread, lead, lead], [-spread, spread, 0.0, 0.0]]) / 1.0)
    needed = exact.against[0].needed
    assert needed is not None
    sure = [
        choose(np.array([lead, 0.0])[:, None] + rng.normal(0, exact.spread, (2, needed))).sure >= 0.95
        for _ in range(800)
    ]
    assert np.mean(sure) >= 0.9 - 3.3 * math.sqrt(0.09 / 800)


def test_equal_ones_cannot_be_told_apart_by_any_number_of_blocks() -> None:
    found = choose(np.zeros((3, 4)))
    assert found.sure <= 0.5
    assert all(each.needed is None for each in found.against)


def test_one_treatment_has_no_rival_and_one_block_is_not_enough() -> None:
    assert choose(np.zeros((1, 3))).against == ()
    with pytest.raises(ValueError, match="2 blocks"):
        choose(np.zeros((3, 1)))


def test_single_runs_are_judged_by_their_own_errors_and_the_noise_between_runs() -> None:
    near = choose_by_errors(np.array([0.0, 0.02]), np.array([0.001, 0.001]), 0.03, 9)
    far = choose_by_errors(np.array([0.0, 0.2]), np.array([0.001, 0.001]), 0.03, 9)
    assert near.best == far.best == 1
    assert near.sure < 0.95 < far.sure
