"""Plans with sessions: the same bytes everywhere, whole sessions in each shard, files and back."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.plan import Plan, build_plan
from slobench.records.schema import PLAN, PLAN_OPTIONAL
from slobench.records.store import read_plan, write_plan
from slobench.workload.content import Contents

SHORT = {"dist": "uniform", "low": 4, "high": 40}
PLAIN = {"arrivals": {"process": "poisson", "rate": 5}, "input_tokens": SHORT, "output_tokens": SHORT}
CHAT = PLAIN | {
    "session": {"turns": {"dist": "uniform", "low": 1, "high": 5}, "think_time": {"dist": "exponential", "mean": "4s"}},
    "patience": {"wait": {"dist": "lognormal", "mean": "6s", "sigma": 0.5}, "share": 0.5},
}
AGENT = PLAIN | {
    "session": {
        "steps": [
            {"name": "plan"},
            {"name": "a", "after": ["plan"], "delay": "1s"},
            {"name": "b", "after": ["plan"]},
            {"name": "answer", "after": ["a", "b"]},
        ]
    }
}
few = settings(deadline=None, max_examples=30)


def workload(**changes):
    """A workload of one class that stands alone, one that talks, and an agent."""
    classes = {"plain": PLAIN, "chat": CHAT, "agent": AGENT}
    given_values = {"name": "test", "duration": "20s", "drain": {"mode": "cut"}, "classes": classes} | changes
    return Workload.model_validate({key: value for key, value in given_values.items() if value is not None})


WORKLOADS = st.builds(
    lambda classes, bound: workload(classes=classes, **bound),
    st.sampled_from([{"chat": CHAT}, {"agent": AGENT}, {"plain": PLAIN, "chat": CHAT}, {"agent": AGENT, "chat": CHAT}]),
    st.one_of(
        st.integers(1, 300).map(lambda n: {"requests": n, "duration": None, "drain": {"mode": "wait"}}),
        st.integers(2, 20).map(lambda t: {"duration": f"{t}s"}),
    ),
)


def union(shards):
    """Put shards together again, in order of the index."""
    whole = shards[0]
    for shard in shards[1:]:
        whole = whole.joined(shard)
    return whole.take(np.argsort(whole.index, kind="stable"))


def test_the_digest_of_sessions_is_pinned():
    """The same workload and seed make the same bytes, on every machine and version of this program."""
    assert build_plan(workload(), 42).digest == "558de9b0c7bde7e643455104393a09bc4431d2237dbdb92ecced832cab8277c7"


@few
@given(made=WORKLOADS, seed=st.integers(0, 2**64))
def test_the_same_workload_and_seed_make_the_same_plan(made, seed):
    """Planning twice gives equal digests; another seed gives another."""
    digest = build_plan(made, seed).digest
    assert build_plan(made, seed).digest == digest
    assert build_plan(made, seed + 1).digest != digest


@few
@given(made=WORKLOADS, workers=st.integers(1, 5))
def test_each_session_is_whole_in_one_shard(made, workers):
    """The union of the shards is the plan, and what a row waits for stands as far before it as in the whole plan."""
    plan = build_plan(made, 5)
    shards = [plan.shard(worker, workers) for worker in range(workers)]
    assert union([shard for shard in shards if len(shard)]).digest == plan.digest
    for shard in shards:
        if shard.after is None:
            continue
        for bit in range(3):
            rows = np.flatnonzero(shard.after >> bit & 1)
            before = rows - bit - 1
            assert (shard.session[before] == shard.session[rows]).all()
            assert (shard.index[rows] - shard.index[before] == bit + 1).all()


@few
@given(made=WORKLOADS)
def test_rows_that_follow_have_no_time_of_their_own(made):
    """Times that are known ascend; sessions are contiguous and numbered by their start, turns in order."""
    plan = build_plan(made, 3)
    follows = np.zeros(len(plan), bool) if plan.after is None else plan.after != 0
    assert (plan.scheduled_ns == NULL).tolist() == follows.tolist()
    assert (np.diff(plan.due_ns) >= 0).all()
    assert plan.due_ns.tolist() == plan.scheduled_ns[~follows].tolist()
    assert (np.diff(plan.session) >= 0).all()
    assert np.unique(plan.session).tolist() == list(range(plan.session[-1] + 1))
    starts = np.flatnonzero(np.diff(plan.session, prepend=-1))
    assert plan.turn.tolist() == (np.arange(len(plan)) - starts[plan.session]).tolist()


def test_a_class_that_stands_alone_is_as_it_was_without_the_others():
    """Sessions beside it change neither its times nor its lengths, and a plan of it alone has no column for them."""
    alone, mixed = (build_plan(workload(classes=classes), 4) for classes in ({"plain": PLAIN}, workload().classes))
    mine = mixed.take(mixed.class_code == 0)
    for column in ("scheduled_ns", "input_tokens", "output_tokens"):
        assert getattr(mine, column).tolist() == getattr(alone, column).tolist()
    assert alone.to_arrow().schema.equals(PLAN)
    assert mixed.to_arrow().column_names == [*PLAN.names, *(n for n in PLAN_OPTIONAL.names if n != "images")]


def test_a_longer_plan_begins_with_the_shorter():
    """300 requests begin with the first 200."""
    by_count = {"duration": None, "drain": {"mode": "wait"}}
    long, short = (build_plan(workload(requests=n, **by_count), 4) for n in (300, 200))
    assert len(short) == 200
    assert long.take(np.arange(200)).digest == short.digest


@few
@given(made=WORKLOADS, data=st.data())
def test_files_and_back_is_the_same_plan(tmp_path_factory, made, data):
    """A plan with sessions survives an Arrow file, parquet in several row groups, and the run folder's parquet."""
    folder = tmp_path_factory.mktemp("plan")
    plan = build_plan(made, 2)
    plan = plan.take(slice(data.draw(st.integers(0, len(plan) - 1)), None))
    plan.save(folder / "plan.arrow")
    assert Plan.load(folder / "plan.arrow").digest == plan.digest
    pq.write_table(plan.to_arrow(), folder / "some.parquet", row_group_size=7)
    assert Plan.from_arrow(pq.read_table(folder / "some.parquet")).digest == plan.digest
    write_plan(folder, plan.to_arrow())
    assert Plan.from_arrow(read_plan(folder)).digest == plan.digest


@pytest.mark.parametrize("column", ["after", "delay_ns", "patience_ns", "images"])
def test_the_digest_depends_on_every_column(column):
    """One more in one row of any column makes another digest, also where the column was not there before."""
    plan = build_plan(workload(), 0)
    found = getattr(plan, column)
    changed = np.zeros(len(plan), np.int64) if found is None else found.copy()
    changed[-1] += 1
    assert dataclasses.replace(plan, **{column: changed}).digest != plan.digest


@pytest.mark.parametrize("change", [{"keys": 1}, {"tokens": 1}, {"offsets": 1}, None])
def test_the_digest_depends_on_contents(change):
    """Another stream, other tokens of it, or the same parts of another row are another plan."""
    plan = build_plan(workload(), 0)
    contents = plan.contents
    changed = (
        None if change is None else {name: getattr(contents, name).copy() for name in ("offsets", "keys", "tokens")}
    )
    if changed is not None:
        name = next(iter(change))
        place = int(np.argmax(np.diff(contents.offsets) > 0)) + 1 if name == "offsets" else 3
        changed[name][place] += -1 if name == "offsets" else 1
    other = None if changed is None else Contents(**changed)
    assert dataclasses.replace(plan, contents=other).digest != plan.digest


def test_columns_that_nothing_uses_are_not_there():
    """A plan given columns of defaults is the plan without them, byte for byte."""
    plan = build_plan(workload(classes={"plain": PLAIN}), 1)
    n = len(plan)
    spelt_out = dataclasses.replace(
        plan,
        after=np.zeros(n, np.int64),
        delay_ns=np.full(n, NULL),
        patience_ns=np.full(n, NULL),
        images=np.zeros(n, np.int32),
        contents=Contents.none(n),
    )
    assert (spelt_out.after, spelt_out.contents) == (None, None)
    assert spelt_out.digest == plan.digest
    assert spelt_out.to_arrow().equals(plan.to_arrow())


@few
@given(made=WORKLOADS, at=st.integers(0, 50))
def test_joined_parts_are_the_whole(made, at):
    """A plan cut in two and joined is itself, also where only one part has sessions."""
    plan = build_plan(made, 6)
    assert plan.take(slice(at)).joined(plan.take(slice(at, None))).digest == plan.digest


def test_a_burst_may_be_of_sessions():
    """All sessions of the only class begin at 0; beside other classes that is refused."""
    burst = {"arrivals": {"process": "burst"}}
    by_count = {"requests": 50, "duration": None, "drain": {"mode": "wait"}}
    plan = build_plan(workload(classes={"chat": CHAT | burst}, **by_count), 0)
    assert len(plan) == 50
    assert not plan.due_ns.any()
    with pytest.raises(ConfigError, match="class chat: a burst of sessions"):
        build_plan(workload(classes={"plain": PLAIN | burst, "chat": CHAT | burst}, **by_count), 0)


def test_users_of_a_closed_loop_lose_patience_too():
    """Patience is a column of a closed plan as of an open one: half of the requests have it."""
    spec = {key: value for key, value in CHAT.items() if key not in {"arrivals", "session"}}
    plan = build_plan(workload(loop={"mode": "closed", "users": 3}, classes={"chat": spec}, drain=None), 0)
    assert plan.scheduled_ns is None
    assert plan.patience_ns is not None
    assert (plan.patience_ns != NULL).mean() == pytest.approx(0.5, abs=0.1)
