"""The search for a capacity on streams whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from slobench.experiment import search
from slobench.experiment.drive import Advanced, drive
from slobench.experiment.found import found_of
from slobench.experiment.search import bracket_of, root_of
from slobench.experiment.search_state import Budget, History, Settings
from slobench.experiment.steady import drifts, piles_up
from slobench.stats.intervals import expit, logit
from tests.experiment.streams import CurveStream, QueueStream, asked, knee, searched

ROOT = 20.0


def falling(target: float = 0.9, slope: float = -25.0):
    """Attainment that is `target` at ROOT."""
    return lambda rate: expit(logit(target) + slope * math.log(rate / ROOT))


def rate_of(settings: Settings, history: History) -> float:
    root = root_of(settings, history)
    assert root is not None
    return math.exp(root.x)


@pytest.mark.parametrize("start", [2.0, 20.0, 200.0])
def test_the_search_finds_the_root_from_any_start(start: float) -> None:
    """A start ten times too low or too high only costs a few short probes."""
    settings = asked(start_rate=start)
    ended = searched(settings, CurveStream(falling(), seed=3))
    root = root_of(settings, ended.history)
    assert ended.reason == "certified"
    # the interval it ended with is at most 3 %; 4 standard errors are twice that
    assert abs(root.x - math.log(ROOT)) <= 0.06
    bracket = bracket_of(settings, ended.history)
    assert bracket.low is not None
    assert bracket.high is not None
    assert bracket.high / bracket.low <= 1.3 + 1e-9
    assert len(ended.history.of("bracket")) <= 10


def test_estimates_are_unbiased_and_intervals_cover() -> None:
    """40 searches on a logistic curve with a design effect of 60: no bias beyond its error, the interval covers."""
    settings, errors, covered = asked(), [], 0
    for seed in range(40):
        ended = searched(settings, CurveStream(falling(), seed=seed))
        root = root_of(settings, ended.history)
        errors.append(root.x - math.log(ROOT))
        covered += root.low <= math.log(ROOT) <= root.high
    assert abs(np.mean(errors)) <= 3.3 * np.std(errors, ddof=1) / math.sqrt(40)
    assert covered >= binom.ppf(0.001, 40, 0.88)


def test_the_load_never_waits_for_a_verdict_while_refining() -> None:
    """Refining probes follow one another with no drain; sides alternate, lower first, 2.5 to 6 % from the root."""
    stream = CurveStream(falling(), seed=4)
    settings = asked()
    ended = searched(settings, stream)
    refine = [probe for probe in ended.history.issued if probe.purpose == "refine"]
    numbers = [probe.number for probe in refine]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert ended.history.issued[numbers[0] - 1].purpose == "warmup"
    for probe, after in pairwise(refine):
        ratio = after.rate / probe.rate
        assert (ratio > 1) == ((probe.number - numbers[0]) % 2 == 0)
    assert all(probe.n == 1500 and probe.vr for probe in refine)
    assert all(probe.settle_s == 10.0 for probe in refine)  # 4 mean E2E of 1 s are less


def test_nothing_from_empty_begins_before_the_server_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a probe that was given up: it has ended, but its queue is still there."""
    calls: list[str] = []
    step, drain = CurveStream.step, CurveStream.drain
    monkeypatch.setattr(CurveStream, "step", lambda self, probe: (calls.append(probe.purpose), step(self, probe))[1])
    monkeypatch.setattr(CurveStream, "drain", lambda self: (calls.append("drain"), drain(self))[1])
    ended = searched(asked(start_rate=200.0), CurveStream(falling(), seed=4))
    assert any(each.curtailed for each in ended.history.of("bracket"))
    from_empty = [before for before, call in pairwise(calls) if call in {"bracket", "floor", "warmup", "certify"}]
    assert len(from_empty) > 5
    assert set(from_empty) == {"drain"}


def test_a_probe_is_given_up_once_the_root_is_precise() -> None:
    """What ends during a probe can end the search: the rest of the load is not offered."""
    stream = CurveStream(falling(), seed=4)
    ended = searched(asked(), stream)
    assert stream.given_up
    assert ended.history.given_up == tuple(stream.given_up)
    assert not {each.probe.number for each in ended.history.done} & set(stream.given_up)


def test_the_certificate_is_plain_fresh_and_below_the_root() -> None:
    """No variance reduction, a seed of its own, a load less by the precision, no better than its bound."""
    settings = asked()
    ended = searched(settings, CurveStream(falling(), seed=5))
    (certificate,) = ended.history.of("certify")
    assert not certificate.probe.vr
    assert certificate.probe.n == 10_000
    seeds = [probe.seed for probe in ended.history.issued]
    assert len(set(seeds)) == len(seeds)
    root = root_of(settings, ended.history)
    assert math.log(certificate.probe.rate) == pytest.approx(min(root.x - 0.03, max(root.low, root.x - 0.06)))
    found = found_of(settings, (), ended.history, ended.reason)
    assert found.certified == certificate.probe.rate
    assert found.certificate.bounds[0].low >= 0.9


@pytest.mark.parametrize(("low", "below"), [(0.02, 0.03), (0.05, 0.05), (1.5, 0.06)])
def test_a_wide_interval_does_not_certify_what_nobody_doubts(
    monkeypatch: pytest.MonkeyPatch, low: float, below: float
) -> None:
    """The load lies below the root by the precision, or by the interval, but by no more than twice the precision."""
    settings = asked()
    history = searched(settings, CurveStream(falling(), seed=5)).history
    root = root_of(settings, history)
    monkeypatch.setattr(search, "root_of", lambda *_: replace(root, low=root.x - low))
    assert math.log(search.certificate_rate(settings, history)) == pytest.approx(root.x - below)


def test_a_load_above_capacity_is_hardly_ever_certified() -> None:
    """Attainment at the certified load is below the target: at most 5 to 8 % of certificates say otherwise."""
    from slobench.experiment.certificate import certified
    from slobench.experiment.stream import Probe

    settings, said = asked(), 0
    for seed in range(200):
        stream = CurveStream(falling(), effect=150.0, seed=seed)
        probed = stream.outcome(Probe(0, "certify", ROOT * 1.02, 10_000, 0.0, seed, vr=False), 0.0)
        # Batches that share their luck: dependence within a batch, not over the probe.
        share = falling()(ROOT * 1.02)
        rng = np.random.default_rng(seed)
        strength = (1000 - 150) / 149
        tally = tuple(
            (int(rng.binomial(1000, rng.beta(share * strength, (1 - share) * strength))), 1000) for _ in range(10)
        )
        said += certified(settings.criteria, replace(probed, tallies={"total": tally}), None)
    assert said <= binom.ppf(0.999, 200, 0.08)


def test_a_hopeless_slo_is_said_early_with_the_floor() -> None:
    """Requests sent alone miss the SLO: after one failed load and ten single requests nothing more is offered."""
    settings = asked()
    stream = CurveStream(lambda _: 0.02, seed=6)
    ended = searched(settings, stream)
    assert ended.reason == "hopeless"
    assert [each.probe.purpose for each in ended.history.done] == ["bracket"] + ["floor"] * 10
    found = found_of(settings, (), ended.history, ended.reason)
    assert found.rate is None
    assert found.floor.n == 10
    assert found.floor.ttft_s == pytest.approx(0.1)


def test_a_slo_missed_at_the_lowest_load_is_hopeless_too() -> None:
    """A lone request may be good and the least load still miss the target: halving ends where requests are alone."""
    ended = searched(asked(0.99), CurveStream(lambda _: 0.9, effect=2.0, seed=7))
    assert ended.reason == "hopeless"
    lowest = min(each.probe.rate for each in ended.history.of("bracket"))
    assert 0.05 <= lowest < 0.4


def test_a_slo_that_never_fails_is_not_reached() -> None:
    """Up to --max-rate everything is good: that is what is said."""
    settings = asked(max_rate=500.0)
    ended = searched(settings, CurveStream(lambda _: 1.0, seed=8))
    assert ended.reason == "not reached"
    found = found_of(settings, (), ended.history, ended.reason)
    assert (found.rate, found.low, found.high, found.certified) == (None, 500.0, None, None)


def test_attainment_that_does_not_fall_as_a_line_falls_back_to_pava() -> None:
    """A cliff between two plateaus: the isotonic fit is used, and its root lies on the cliff."""
    settings = asked()
    stream = CurveStream(lambda rate: 0.97 if rate < ROOT else 0.55, effect=2.0, seed=9)
    ended = searched(settings, stream)
    root = root_of(settings, ended.history)
    assert root.method == "isotonic"
    assert not root.monotone
    assert abs(root.x - math.log(ROOT)) <= 0.06


def test_without_a_budget_left_the_interval_is_honest_and_uncertified() -> None:
    """The certificate is what goes; what was found keeps its wider interval."""
    settings = asked(budget=Budget(requests=10_500))
    ended = searched(settings, CurveStream(falling(), seed=11))
    assert ended.reason == "budget"
    assert ended.history.requests <= 10_500
    found = found_of(settings, (), ended.history, ended.reason)
    assert found.certified is None
    assert found.low < ROOT < found.high
    assert math.log(found.high / found.low) / 2 > 0.03


def test_a_budget_too_small_for_a_bracket_says_so() -> None:
    """No root, and no number that pretends to be one."""
    settings = asked(budget=Budget(seconds=70.0))
    ended = searched(settings, CurveStream(falling(), seed=10))
    found = found_of(settings, (), ended.history, ended.reason)
    assert ended.reason == "budget"
    assert found.certified is None
    assert ended.history.seconds <= 70.0


def test_a_smaller_precision_takes_fewer_requests() -> None:
    """n of a probe follows (3 % / h)², within 200 and 1,500; so does the certificate."""
    coarse = asked(precision=0.1)
    ended = searched(coarse, CurveStream(falling(), effect=5.0, seed=11))
    assert {probe.n for probe in ended.history.issued if probe.purpose == "refine"} == {200}
    root = root_of(coarse, ended.history)
    assert root.half <= 0.1
    n = ended.history.of("certify")[0].probe.n
    assert 1000 <= n < 10_000
    assert 0.9 ** (n / root.fit.phi) <= 0.05  # what it takes for a probe without a miss to pass


def test_probes_that_the_client_spoiled_stay_out_of_the_fit() -> None:
    """One is left out; three end the search as invalid."""
    stream, settings = CurveStream(falling(), seed=12), asked()
    stream.spoiled = {6}
    ended = searched(settings, stream)
    assert ended.reason == "certified"
    assert 6 not in root_of(settings, ended.history).used
    stream = CurveStream(falling(), seed=12)
    stream.spoiled = {0, 1, 2}
    ended = searched(settings, stream)
    assert ended.reason == "instrument"
    assert found_of(settings, (), ended.history, ended.reason).instrument == ("V01 send lag p99 80 ms > 25 ms",) * 3


def test_a_resumed_search_warms_up_again_and_uses_what_had_ended() -> None:
    """Probes of the first session are in the fit of the second, numbers go on, the bracket is not made again."""
    first = searched(asked(budget=Budget(requests=6000)), CurveStream(falling(), seed=13))
    taken = History(done=first.history.done, requests=first.history.requests, seconds=first.history.seconds)
    stream = CurveStream(falling(), seed=14)
    settings = asked()
    second = searched(settings, stream, taken)
    assert stream.offered[0].purpose == "warmup"
    assert stream.offered[0].number == first.history.done[-1].probe.number + 1
    before = {each.probe.number for each in first.history.of("refine")}
    assert before
    assert before <= set(root_of(settings, second.history).used)
    assert second.reason == "certified"


@pytest.mark.parametrize(("servers", "limit_s", "target"), [(8, 0.046, 0.9), (8, 0.12, 0.99), (2, 0.1, 0.9)])
def test_the_knee_of_a_queue_is_the_analytic_one(servers: int, limit_s: float, target: float) -> None:
    """M/M/c with a limit on the wait: the search returns where P(wait ≤ limit) is the target."""
    truth = knee(servers, 80.0 / servers, limit_s, target)
    settings = asked(target, start_rate=40.0)
    ended = searched(settings, QueueStream(servers, 80.0 / servers, limit_s, seed=15))
    root = root_of(settings, ended.history)
    assert root.half <= 0.1
    assert abs(root.x - math.log(truth)) <= 2 * root.half  # half is about two standard errors: 4 in all
    (last, *_) = reversed(ended.history.of("certify"))
    if ended.reason == "certified":
        assert last.probe.rate <= truth * 1.02


def test_a_load_that_the_queue_cannot_carry_is_never_accepted() -> None:
    """Where the SLO is too lax to bind, the certified load stays below the servers' rate, and is steady."""
    settings = asked(start_rate=20.0, precision=0.05)
    ended = searched(settings, QueueStream(4, 20.0, 1e9, seed=16))
    found = found_of(settings, (), ended.history, ended.reason)
    assert found.binding == "queue"
    assert found.high <= 80.0 * 1.2
    assert found.certified is None or found.certified < 80.0
    passed = [each for each in ended.history.of("bracket") if each.probe.rate >= 80.0 and not piles_up(each)]
    assert not [each for each in passed if each.probe.n >= 500 and each.probe.rate > 80.0 * 1.05]
    assert not any(drifts(each) for each in ended.history.of("certify") if ended.reason == "certified")


def test_users_are_whole() -> None:
    """A search over concurrency offers whole numbers of users, different ones on both sides of the root."""
    settings = asked(whole=True, start_rate=8.0)
    ended = searched(settings, CurveStream(falling(), seed=17))
    assert all(probe.rate == int(probe.rate) and probe.rate >= 1 for probe in ended.history.issued)
    assert len({probe.rate for probe in ended.history.issued if probe.purpose == "refine"}) >= 2
    found = found_of(settings, (), ended.history, ended.reason)
    assert found.certified == int(found.certified)
    assert found.rate == pytest.approx(rate_of(settings, ended.history))


def test_a_server_that_keeps_its_queue_at_half_the_load_is_emptied() -> None:
    """A queue is first given half the load; where it is still there after that, the server is emptied and warmed up."""
    settings = asked(0.9, start_rate=40.0)
    stages = drive(settings, QueueStream(8, 10.0, 0.046, seed=15), History())
    histories = (stage.history for stage in stages if isinstance(stage, Advanced))
    history = next(each for each in histories if sum(probe.purpose == "refine" for probe in each.issued) == 5)
    history = replace(history, in_flight=5000)
    first = search.decide(settings, history)
    assert isinstance(first, search.Offer)
    assert first.probe.purpose == "warmup"
    again = replace(history.issued[-1], number=first.probe.number + 1)
    issued, levels = (*history.issued, first.probe, again), (*history.found_in_flight, 5000, 5000)
    history = replace(history, issued=issued, found_in_flight=levels)
    assert isinstance(search.decide(settings, history), search.Drain)
    known = {each.probe.number for each in history.done}
    ended = tuple(probe.number for probe in issued if probe.number not in known)
    emptied = replace(history, drained=len(issued), given_up=ended, in_flight=0)
    after = search.decide(settings, emptied)
    assert isinstance(after, search.Offer)
    assert after.probe.purpose == "warmup"
    assert after.probe.rate == pytest.approx(rate_of(settings, emptied))
