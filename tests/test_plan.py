"""The plan: the same bytes for the same workload and seed, whoever asks and however many share it."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from slobench.config.workload import Workload
from slobench.errors import ConfigError, RecordsError
from slobench.names import NULL
from slobench.plan import Plan, build_plan, refuse_too_long
from slobench.records.schema import PLAN
from slobench.wire.endpoint import Endpoint

S = 10**9
SHORT = {"dist": "uniform", "low": 4, "high": 40}
CHAT = {
    "arrivals": {"process": "poisson", "rate": 20},
    "input_tokens": {"dist": "lognormal", "mean": 512, "sigma": 0.9, "min": 8, "max": 8000},
    "output_tokens": {"dist": "normal", "mean": 220, "std": 60},
}
BURSTY = {"arrivals": {"process": "gamma", "rate": 15, "cv": 3}, "input_tokens": SHORT, "output_tokens": SHORT}
CLOSED = {"mode": "closed", "users": 7, "think_time": "50ms"}
few = settings(deadline=None, max_examples=30)


def workload(**changes):
    """Make a workload of two classes for 60 s, but for what is changed."""
    classes = {"chat": CHAT | {"shared_prefix_tokens": 32}, "bursty": BURSTY | {"priority": -2}}
    given_values = {"name": "test", "duration": "60s", "drain": {"mode": "cut"}, "classes": classes} | changes
    return Workload.model_validate({key: value for key, value in given_values.items() if value is not None})


def closed(**changes):
    """Make a closed loop of the same two classes."""
    without = {key: {k: v for k, v in spec.items() if k != "arrivals"} for key, spec in (("a", CHAT), ("b", BURSTY))}
    return workload(**({"loop": CLOSED, "classes": without, "drain": {"mode": "wait"}} | changes))


def columns(plan):
    """Return the columns of a plan by name, without an absent one."""
    named = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}
    return {name: column for name, column in named.items() if isinstance(column, np.ndarray)}


def union(shards):
    """Put shards together again, in order of the index."""
    merged = {name: np.concatenate([columns(shard)[name] for shard in shards]) for name in columns(shards[0])}
    order = np.argsort(merged["index"], kind="stable")
    whole = {name: column[order] for name, column in merged.items()}
    return Plan(**({"scheduled_ns": None} | whole), class_names=shards[0].class_names)


WORKLOADS = st.builds(
    lambda make, bound: make(**bound),
    st.sampled_from([workload, closed]),
    st.one_of(
        st.integers(7, 600).map(lambda n: {"requests": n, "duration": None}),
        st.integers(2, 20).map(lambda t: {"duration": f"{t}s"}),
    ),
)


@pytest.mark.parametrize(
    ("made", "digest"),
    [
        (workload(), "b13e3665f81cf6603dcd4276300abe3b9b3faf18cdaeab5a5cbe45f609bbcbde"),
        (workload(duration=None, requests=500), "12bd84486d5141118404825ce98ce631103b8eac1b5d850ae3748815d935b20b"),
        (closed(duration="10s"), "e88d250450dc6d03752a31361397294fc60a6fc596daeea231030061ed261136"),
    ],
)
def test_digests_are_pinned(made, digest):
    """The same workload and seed make the same bytes: on every machine, numpy and version of this program."""
    assert build_plan(made, 42).digest == digest


@few
@given(made=WORKLOADS, seed=st.integers(0, 2**64))
def test_the_same_workload_and_seed_make_the_same_plan(made, seed):
    """Planning twice gives equal digests; another seed gives another."""
    digest = build_plan(made, seed).digest
    assert build_plan(made, seed).digest == digest
    assert build_plan(made, seed + 1).digest != digest


@few
@given(made=WORKLOADS, workers=st.integers(1, 9))
def test_the_union_of_the_shards_is_the_plan(made, workers):
    """Whatever the number of workers, each row is in one shard, each session in one worker, and all are the plan."""
    plan = build_plan(made, 5)
    shards = [plan.shard(worker, workers) for worker in range(workers)]
    assert union(shards).digest == plan.digest
    owners = [set(shard.session.tolist()) for shard in shards]
    assert sum(map(len, owners)) == len(set.union(*owners))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_arrivals_of_all_workers_are_poisson(workers):
    """What W workers offer together passes Kolmogorov-Smirnov and dispersion tests, and is the same for every W."""
    rate, seconds = 50, 400
    one = {"only": CHAT | {"arrivals": {"process": "poisson", "rate": rate}}}
    plan = build_plan(workload(classes=one, duration=f"{seconds}s"), 9)
    times_ns = union([plan.shard(worker, workers) for worker in range(workers)]).scheduled_ns
    assert times_ns.tolist() == plan.scheduled_ns.tolist()
    gaps = np.sort(np.diff(times_ns, prepend=0)) / S * rate
    n, expected = len(gaps), -np.expm1(-gaps)
    steps = np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    assert special.kolmogorov(distance * math.sqrt(n)) > 0.001
    for width_s in (0.1, 1, 10):
        bins = round(seconds / width_s)
        counts = np.bincount((times_ns // round(width_s * S)).astype(int), minlength=bins)
        # Under Poisson, (m-1)·variance/mean of m counts is chi-square with m-1 degrees of freedom.
        low, high = special.chdtri(bins - 1, [0.9995, 0.0005]) / (bins - 1)
        assert low < counts.var(ddof=1) / counts.mean() < high


@few
@given(made=WORKLOADS)
def test_rows_are_in_order_and_numbered(made):
    """Rows are numbered from 0, ascending in time or in (turn, user), each with at least one token in and out."""
    plan = build_plan(made, 3)
    assert plan.index.tolist() == list(range(len(plan)))
    assert plan.input_tokens.min() >= 1
    assert plan.output_tokens.min() >= 1
    if plan.scheduled_ns is None:
        assert plan.session.tolist() == [i % 7 for i in range(len(plan))]
        assert plan.turn.tolist() == [i // 7 for i in range(len(plan))]
    else:
        assert (np.diff(plan.scheduled_ns) >= 0).all()
        assert plan.session.tolist() == plan.index.tolist()
        assert not plan.turn.any()


@few
@given(made=WORKLOADS)
def test_every_prompt_of_a_plan_has_a_reference_of_its_own(made):
    """The share of unique prompts is 1."""
    plan = build_plan(made, 3)
    assert len(np.unique(plan.prompt)) == len(plan)


@pytest.mark.parametrize(
    "column",
    ["index", "scheduled_ns", "class_code", "session", "turn", "prompt", "input_tokens", "output_tokens", "priority"],
)
def test_the_digest_depends_on_every_column(column):
    """One more in one row of any column makes another digest."""
    plan = build_plan(workload(), 0)
    changed = getattr(plan, column).copy()
    changed[3] = 1 - changed[3] if column == "class_code" else changed[3] + 1
    assert dataclasses.replace(plan, **{column: changed}).digest != plan.digest


@pytest.mark.parametrize(
    "change",
    [
        {"scheduled_ns": None},
        {"class_names": ("chat", "other")},
        {"priority": "zeros"},
        {"scheduled_ns": "first null"},
    ],
)
def test_the_digest_tells_absent_from_zero(change):
    """A null is not a 0, a column of nulls is not an absent one's neighbour, and class names count."""
    base = build_plan(workload(), 0)
    plan = dataclasses.replace(base, priority=np.full(len(base), NULL))
    if change.get("priority"):
        change = {"priority": np.zeros(len(base), dtype=np.int64)}
    elif isinstance(change.get("scheduled_ns"), str):
        assert plan.scheduled_ns is not None
        plan = dataclasses.replace(plan, scheduled_ns=plan.scheduled_ns - plan.scheduled_ns[0])
        change = {"scheduled_ns": np.concatenate([[NULL], plan.scheduled_ns[1:]])}
    assert dataclasses.replace(plan, **change).digest != plan.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"duration": "61s"},
        {"drain": {"mode": "grace", "grace": "5s"}},
        {"classes": {"chat": CHAT, "bursty": BURSTY | {"priority": -2}}},
        {"classes": {"bursty": BURSTY | {"priority": -2}, "chat": CHAT | {"shared_prefix_tokens": 32}}},
        {"classes": {"chat": CHAT | {"shared_prefix_tokens": 32}, "renamed": BURSTY | {"priority": -2}}},
        {"classes": {"chat": CHAT | {"shared_prefix_tokens": 32}, "bursty": BURSTY}},
    ],
)
def test_another_workload_has_another_digest(changes):
    """Duration, drain, shared prefix, class order, class name and priority each show in the digest."""
    assert build_plan(workload(**changes), 0).digest != build_plan(workload(), 0).digest


def test_a_class_that_is_added_changes_no_other():
    """With a third class, the first two keep their times and lengths."""
    two = build_plan(workload(), 4)
    three = build_plan(workload(classes={"new": BURSTY, "chat": CHAT, "bursty": BURSTY}), 4)
    for name in ("chat", "bursty"):
        old = two.take(two.class_code == two.class_names.index(name))
        kept = three.take(three.class_code == three.class_names.index(name))
        for column in ("scheduled_ns", "input_tokens", "output_tokens"):
            assert getattr(old, column).tolist() == getattr(kept, column).tolist()


def test_a_longer_plan_begins_with_the_shorter():
    """500 requests begin with the first 200, and 60 s with the first 30 s."""
    long, short = (build_plan(workload(duration=None, requests=n), 4) for n in (500, 200))
    assert long.take(np.arange(200)).digest == short.digest
    minute, half = (build_plan(workload(duration=f"{t}s"), 4) for t in (60, 30))
    assert minute.take(np.arange(len(half))).digest == half.digest


def test_requests_are_the_first_of_the_merged_classes():
    """By count, a slow class is not offered past the fast one's end."""
    classes = {"slow": CHAT | {"arrivals": {"process": "constant", "rate": 1e-6}}, "fast": CHAT}
    plan = build_plan(workload(classes=classes, duration=None, requests=1000), 0)
    assert len(plan) == 1000
    assert (plan.class_code == 0).sum() == 1  # its first arrival is at 0, its second after 11 days


def test_a_run_by_duration_goes_on_offering_while_its_replies_come():
    """Rows reach from 0 to duration + grace, or to duration alone where the run is cut."""
    ends = {}
    for mode in ("wait", "grace", "cut"):
        plan = build_plan(workload(drain={"mode": mode, "grace": "20s"}), 0)
        ends[mode] = plan.scheduled_ns[-1] / S
    assert 79 < ends["wait"] == ends["grace"] < 80
    assert 59 < ends["cut"] < 60


def test_a_closed_loop_has_no_times_and_turns_enough():
    """By duration, each user has turns for 10 s of the fastest replies; by count, all requests are dealt."""
    plan = build_plan(closed(duration="10s"), 0)
    assert plan.scheduled_ns is None
    assert len(plan) % 7 == 0
    mean_ns = 60e6 + 1e6 * plan.output_tokens.mean()
    assert len(plan) / 7 == pytest.approx(10e9 / mean_ns, rel=0.1)  # the mean itself is of 1,024 draws
    assert len(build_plan(closed(duration=None, requests=100), 0)) == 100


def test_a_burst_is_dealt_to_its_classes_by_share():
    """All requests of a burst are due at 0, in classes by share (5 binomial standard errors)."""
    burst = {"arrivals": {"process": "burst"}, "input_tokens": SHORT, "output_tokens": SHORT}
    plan = build_plan(workload(classes={"a": burst, "b": burst | {"share": 3}}, duration=None, requests=4000), 0)
    assert not plan.scheduled_ns.any()
    assert (plan.class_code == 1).sum() == pytest.approx(3000, abs=5 * math.sqrt(4000 * 3 / 16))


def test_a_burst_beside_other_arrivals_is_refused():
    """A burst would take all requests: the class is named."""
    classes = {"chat": CHAT, "flash": BURSTY | {"arrivals": {"process": "burst"}}}
    with pytest.raises(ConfigError, match="class flash: a burst"):
        build_plan(workload(classes=classes, duration=None, requests=10), 0)


def test_an_empty_plan_is_refused():
    """A duration in which nothing arrives is an error that tells the rate."""
    slow = {"slow": CHAT | {"arrivals": {"process": "poisson", "rate": 1e-6}}}
    with pytest.raises(ConfigError, match="empty"):
        build_plan(workload(classes=slow), 0)


@few
@given(made=WORKLOADS)
def test_arrow_and_back_is_the_same_plan(made):
    """A plan survives an arrow table of the fixed schema, whole and in shards."""
    plan = build_plan(made, 2)
    assert plan.to_arrow().schema.equals(PLAN)
    assert Plan.from_arrow(plan.to_arrow()).digest == plan.digest
    part = plan.shard(1, 3)
    assert Plan.from_arrow(part.to_arrow()).digest == part.digest


@pytest.mark.parametrize("made", [workload(), closed(duration="2s")])
def test_files_and_back_is_the_same_plan(tmp_path, made):
    """A plan survives an Arrow file, and a parquet file in several row groups."""
    plan = build_plan(made, 2)
    plan.save(tmp_path / "plan.arrow")
    assert Plan.load(tmp_path / "plan.arrow").digest == plan.digest
    pq.write_table(plan.to_arrow(), tmp_path / "plan.parquet", row_group_size=100)
    assert Plan.from_arrow(pq.read_table(tmp_path / "plan.parquet")).digest == plan.digest


def test_classes_numbered_in_another_order_are_the_same_plan():
    """A table whose dictionary lists the classes otherwise is read as the plan it was."""
    plan = build_plan(workload(), 2)
    table = plan.to_arrow()
    turned = pa.DictionaryArray.from_arrays(pa.array(1 - plan.class_code), pa.array(plan.class_names[::-1]))
    other = table.set_column(2, table.schema.field("class"), turned)
    assert Plan.from_arrow(other).digest == plan.digest


def test_what_is_no_plan_is_refused_readably(tmp_path):
    """A table without the columns, and a file that is none, are errors that say so."""
    with pytest.raises(RecordsError, match="scheduled_ns"):
        Plan.from_arrow(build_plan(workload(), 0).to_arrow().drop_columns(["scheduled_ns"]))
    (tmp_path / "no.arrow").write_bytes(b"not arrow")
    with pytest.raises(RecordsError, match=r"no\.arrow"):
        Plan.load(tmp_path / "no.arrow")


def test_columns_cannot_be_written():
    """A plan is a value: its columns are read-only."""
    with pytest.raises(ValueError, match="read-only"):
        build_plan(workload(), 0).index[0] = 1


def test_rows_longer_than_the_context_are_refused():
    """One token more than the server's context is an error naming the longest row's class; just fitting is none."""
    plan = build_plan(workload(), 0)
    total = plan.input_tokens + plan.output_tokens
    refuse_too_long(plan, Endpoint(url="http://x", model="m", max_model_len=int(total.max())))
    refuse_too_long(plan, Endpoint(url="http://x", model="m"))
    with pytest.raises(ConfigError, match=rf"{total.max()} \(class chat\)"):
        refuse_too_long(plan, Endpoint(url="http://x", model="m", max_model_len=int(total.max()) - 1))


def test_planning_and_loading_import_neither_pandas_nor_scipy():
    """The path of a run up to its first request pays for neither (0.5 s and 1 s)."""
    code = (
        "import sys, io, pathlib, tempfile\n"
        "from slobench.config.workload import Workload\n"
        "from slobench.plan import Plan, build_plan\n"
        "spec = {'dist': 'constant', 'value': 4}\n"
        "one = {'arrivals': {'process': 'gamma', 'rate': 9, 'cv': 2}, 'input_tokens': spec, 'output_tokens': spec}\n"
        "plan = build_plan(Workload.model_validate({'name': 'x', 'requests': 9, 'classes': {'a': one}}), 1)\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'plan.arrow'\n"
        "plan.save(path)\n"
        "assert Plan.load(path).shard(0, 2).digest\n"
        "print({'pandas', 'scipy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
