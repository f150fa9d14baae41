"""Prefix pools: popularity as Zipf's law says, and hit rates that are met or refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from slobench.config.content import Images, Prefix
from slobench.config.workload import RequestClass, Workload
from slobench.errors import ConfigError
from slobench.plan import build_plan
from slobench.segments import Start, build_segment
from slobench.workload.class_content import with_known_prefixes
from slobench.workload.prefix import BLOCK_TOKENS, ROOM, Pool, prefix_contents, solved, solved_warm
from slobench.workload.sharing import hits
from slobench.workload.variates import child, uniforms

few = settings(deadline=None, max_examples=25)


def constant(value):
    """A length that is always the same."""
    return {"dist": "constant", "value": value}


def lengths(n, low=100, high=1200):
    """Lengths of n prompts."""
    return low + (uniforms(n, child(7, "lengths")) * (high - low)).astype(np.int64)


def spec(**changes):
    """A class with a prefix."""
    own = {
        "arrivals": {"process": "poisson", "rate": 20.0},
        "input_tokens": {"dist": "uniform", "low": 100, "high": 1200},
        "output_tokens": constant(4),
    }
    return own | changes


def workload(classes, **extent):
    """A workload of these classes."""
    return Workload.model_validate({"name": "w", "classes": classes, **(extent or {"requests": 1000})})


@few
@given(size=st.integers(1, 300), zipf=st.sampled_from([0.0, 0.5, 1.0, 2.0]), n=st.integers(1, 4000))
def test_prefixes_are_picked_as_popular_as_they_are(size, zipf, n):
    """Of n picks each beginning has its part by 1/k^s, within 6 standard deviations."""
    pool = Pool.of("a", Prefix(tokens=constant(5)).tokens, size, zipf)
    picked = np.bincount(pool.picked(uniforms(n, child(1, "test"))), minlength=size)
    weights = np.arange(1.0, size + 1) ** -zipf
    expected = n * weights / weights.sum()
    assert len(picked) == size
    assert (np.abs(picked - expected) <= 6 * np.sqrt(expected) + 6).all()


def test_popularity_is_exact():
    """Weights are whole numbers in the proportions of 1/k^s, and the last uniform picks the last beginning."""
    pool = Pool.of("a", Prefix(tokens=constant(5)).tokens, 4, 1.0)
    assert np.diff(pool.upto, prepend=0).tolist() == [2**40, 2**39, round(2**40 / 3), 2**38]
    edges = np.array([2.0**-53, 1 / 2 - 0.03, 1 / 2, 1 - 2.0**-53])
    assert pool.picked(edges).tolist() == [0, 0, 1, 3]


@few
@given(small=st.integers(1, 50), more=st.integers(0, 50))
def test_a_smaller_pool_is_the_beginning_of_a_larger_one(small, more):
    """Lengths of the beginnings do not depend on how many there are."""
    tokens = Prefix(tokens={"dist": "uniform", "low": 1, "high": 1000}).tokens
    one, two = Pool.of("a", tokens, small, 1.0), Pool.of("a", tokens, small + more, 1.0)
    assert one.tokens.tolist() == two.tokens[:small].tolist()


def test_prompts_keep_room_for_what_is_their_own():
    """A beginning gives way where its prompt is short, and is gone where nothing else would be left."""
    inputs = np.array([ROOM, ROOM + 1, 50, 1000])
    made = prefix_contents(Prefix(tokens=constant(300)), "a", 1, inputs)
    assert made.lengths.tolist() == [0, 1, 42, 300]
    assert len(set(made.keys.tolist())) == 1


@pytest.mark.parametrize("n", [300, 20_000])
@pytest.mark.parametrize(
    "asked",
    [
        {"pool": 1, "hit_rate": 0.2},
        {"pool": 20, "zipf": 1.0, "hit_rate": 0.5},
        {"pool": 40, "hit_rate": 0.7},
        {"tokens": constant(600), "zipf": 0.8, "hit_rate": 0.3},
        {"tokens": {"dist": "uniform", "low": 300, "high": 900}, "hit_rate": 0.45},
    ],
)
def test_the_hit_rate_is_met(asked, n):
    """What is left open is solved for, so that an infinite cache finds what is asked, within a block a prompt."""
    inputs, prefix = lengths(n), Prefix.model_validate(asked)
    found = solved(prefix, "a", 1, inputs)
    assert found.tokens is not None
    assert found.pool is not None
    rate = hits(prefix_contents(prefix, "a", 1, inputs), inputs, BLOCK_TOKENS).token_hit_rate
    assert rate == pytest.approx(asked["hit_rate"], abs=BLOCK_TOKENS / inputs.mean() / 2 + 2 / n)
    assert rate == hits(prefix_contents(found, "a", 1, inputs), inputs, BLOCK_TOKENS).token_hit_rate


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"pool": 200, "hit_rate": 0.9}, "no length of shared beginnings.*pool of 200 at most 0\\.[0-9]+"),
        ({"tokens": constant(100), "hit_rate": 0.6}, "no pool gives.*one beginning for all gives 0\\.1.*\n.*longer"),
        ({"tokens": constant(600), "zipf": 3.0, "hit_rate": 0.1}, "no pool gives.*\n.*smaller zipf"),
    ],
)
def test_what_cannot_be_is_refused(asked, told):
    """A hit rate that no length or pool gives is an error that says what can be."""
    with pytest.raises(ConfigError, match=told):
        prefix_contents(Prefix.model_validate(asked), "a", 1, lengths(300))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "expected `tokens`"),
        ({"pool": 3}, "expected `tokens`"),
        ({"hit_rate": 0.5}, "neither"),
        ({"hit_rate": 0.5, "pool": 3, "tokens": constant(3)}, "both"),
    ],
)
def test_what_says_too_little_or_too_much_is_refused(asked, told):
    """A hit rate leaves one thing open, and no hit rate leaves nothing."""
    with pytest.raises(ValidationError, match=told):
        Prefix.model_validate(asked)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prefix": {"tokens": constant(5)}, "shared_prefix_tokens": 5}, "expected one"),
        ({"prefix": {"pool": 2, "hit_rate": 0.5}, "session": {}}, "expected `tokens` and `pool`"),
        ({"images": {}, "api": "completions"}, "expected api chat"),
    ],
)
def test_what_does_not_fit_the_class_is_refused(changes, told):
    """Prefixes and images that contradict the class are errors."""
    with pytest.raises(ValidationError, match=told):
        RequestClass.model_validate(spec(**changes))


def test_a_plan_has_the_hit_rate_over_its_own_rows():
    """The rate is met by the plan's rows of the class, those of other classes aside, in open and closed loops."""
    pools = {"a": spec(prefix={"pool": 10, "hit_rate": 0.4}), "b": spec(prefix={"pool": 5, "zipf": 1, "hit_rate": 0.6})}
    classes = pools | {"plain": spec()}
    closed = {name: {**each, "arrivals": None} for name, each in classes.items()}
    for each in (workload(classes), workload(closed, requests=1000, loop={"mode": "closed", "users": 3})):
        plan = build_plan(each, 3)
        rates = []
        for code in range(3):
            rows = plan.take(plan.class_code == code)
            own = 0 if rows.contents is None else hits(rows.contents, rows.input_tokens, BLOCK_TOKENS).token_hit_rate
            rates.append(own)
        assert rates == pytest.approx([0.4, 0.6, 0], abs=0.015)


def test_beginnings_are_the_same_whatever_the_seed():
    """Another seed picks others, and its prompts are others, but the pool is that of the workload."""
    each = workload({"a": spec(prefix={"tokens": constant(64), "pool": 20})})
    one, two = (build_plan(each, seed).contents for seed in (1, 2))
    assert set(one.keys.tolist()) == set(two.keys.tolist())
    assert one.keys.tolist() != two.keys.tolist()


def test_all_turns_of_a_session_begin_with_what_it_picked():
    """Its prefix comes before the history and on top of it."""
    own = spec(prefix={"tokens": constant(64), "pool": 20}, session={"turns": constant(3)}, input_tokens=constant(30))
    plan = build_plan(workload({"a": own}), 1)
    for session in np.unique(plan.session)[:-1]:
        rows = np.flatnonzero(plan.session == session)
        parts = [plan.contents.row(row) for row in rows]
        assert len({part[0] for part in parts}) == len({part[1][0] for part in parts}) == 1
        assert [part[0][1] for part in parts] == [64] * len(rows)
        assert plan.input_tokens[rows].tolist() == [64 + 30 + 34 * turn for turn in range(len(rows))]
    alone = build_plan(workload({"a": {**own, "session": {"turns": constant(3), "history": "none"}}}), 1)
    assert set(alone.contents.lengths.tolist()) == {30 - ROOM}


def test_probes_of_a_search_share_their_prefixes():
    """Segments of any seed and rate have one pool, and lengths that a warm cache finds the asked rate with."""
    each = workload({"a": spec(prefix={"pool": 50, "hit_rate": 0.5})})
    made = [build_segment(each, rate=10, n=2000, settle=10, seed=seed, vr=True, start=Start()).plan for seed in (1, 2)]
    assert len({int(plan.contents.tokens.max()) for plan in made}) == 1
    assert set(made[0].contents.keys.tolist()) == set(made[1].contents.keys.tolist())
    both = made[0].joined(made[1])
    second = (
        hits(both.contents, both.input_tokens, 16).hit_tokens
        - hits(made[0].contents, made[0].input_tokens, 16).hit_tokens
    )
    assert second / made[1].input_tokens.sum() == pytest.approx(0.5, abs=0.02)


def test_a_pool_cannot_follow_from_a_warm_cache():
    """Where load goes on from rate to rate a hit rate says nothing of the pool."""
    each = workload({"a": spec(prefix={"tokens": constant(500), "hit_rate": 0.4})})
    with pytest.raises(ConfigError, match="no pool follows"):
        with_known_prefixes(each)
    with pytest.raises(ConfigError, match="no length"):
        solved_warm(Prefix(pool=3, hit_rate=0.99), "a", lengths(100))


@pytest.mark.parametrize(
    ("count", "low", "high"), [(None, 1, 1), (3, 3, 3), ({"dist": "uniform", "low": 1, "high": 4}, 1, 4)]
)
def test_requests_have_as_many_images_as_asked(count, low, high):
    """One, a number, or as drawn; a class without images has none."""
    plan = build_plan(workload({"a": spec(images={"count": count}), "b": spec()}), 1)
    mine = plan.images[plan.class_code == 0]
    assert (mine.min(), mine.max()) == (low, high)
    assert not plan.images[plan.class_code == 1].any()
    assert build_plan(workload({"b": spec()}), 1).images is None
    with pytest.raises(ValidationError):
        Images(width=4)


def test_prefixes_are_pinned():
    """The same keys and lengths on every machine."""
    made = prefix_contents(Prefix(pool=9, zipf=0.7, hit_rate=0.5), "a", 1, lengths(200))
    assert (int(made.keys.sum()), int(made.tokens.sum())) == GOLDEN


GOLDEN = (8385946046879521946, 69108)
