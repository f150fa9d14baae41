"""Workloads from flags, and flags over a workload."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from slobench.config.arrivals import Arrivals, Burst, Constant, Gamma, Poisson, mean_rate
from slobench.config.flags import RunFlags, apply_flags, workload_from_flags
from slobench.config.inline import parse_arrivals, parse_drain, parse_lengths
from slobench.config.lengths import ConstantLength, EmpiricalLength, LognormalLength, NormalLength, UniformLength
from slobench.config.load import load_target, load_workload
from slobench.config.talk_flags import TalkFlags, apply_talk_flags
from slobench.config.workload import ClosedLoop, OpenLoop
from slobench.errors import ConfigError, UsageError

TOKENS = st.integers(1, 10_000_000)
MEANS = st.floats(1e-3, 1e7)
LENGTHS = st.one_of(
    st.builds(ConstantLength, value=TOKENS),
    st.tuples(TOKENS, TOKENS).map(lambda pair: UniformLength(low=min(pair), high=max(pair))),
    st.builds(
        NormalLength, mean=MEANS, std=st.floats(0, 1e7), min=st.integers(1, 50), max=st.none() | st.integers(50, 99)
    ),
    st.builds(LognormalLength, mean=MEANS, sigma=st.floats(0, 10), min=st.integers(1, 50)),
    st.builds(EmpiricalLength, values=st.lists(TOKENS, min_size=1, max_size=5).map(tuple)),
)
ON_OFF = {"process": "on-off", "mean_on": "10s", "mean_off": "20s"}
TWO_CLASSES = """
name: two
duration: 60s
classes:
  a:
    arrivals: {process: poisson, rate: 3}
    input_tokens: {dist: constant, value: 8}
    output_tokens: {dist: constant, value: 8}
  b:
    arrivals: {process: gamma, rate: 1, cv: 2}
    input_tokens: {dist: constant, value: 8}
    output_tokens: {dist: constant, value: 8}
"""


def varying(cv: float = 1, **rate: Any) -> dict[str, Any]:
    """A load that is meant to change, as a file has it."""
    return {"process": "varying", "rate": rate, "cv": cv}


TWO = """\
name: two
classes:
  a:
    arrivals: {process: poisson, rate: 3}
    input_tokens: {dist: constant, value: 8}
    output_tokens: {dist: constant, value: 8}
  b:
    arrivals: {process: gamma, rate: 1, cv: 2}
    input_tokens: {dist: constant, value: 9}
    output_tokens: {dist: constant, value: 9}
duration: 10s
slo: [ttft<500ms]
"""


@pytest.fixture
def two(tmp_path: Path) -> str:
    """Return the path of a workload of two classes, 3 and 1 requests/s."""
    path = tmp_path / "two.yaml"
    path.write_text(TWO)
    return str(path)


@given(LENGTHS)
def test_printed_lengths_read_back(lengths: ConstantLength) -> None:
    """Lengths written on one line with every field are those lengths."""
    fields = lengths.model_dump(exclude={"dist"}, exclude_none=True)
    written = {key: "|".join(map(str, value)) if key == "values" else value for key, value in fields.items()}
    line = f"{lengths.dist}:" + ",".join(f"{key}={value}" for key, value in written.items())
    assert parse_lengths(line) == lengths


@pytest.mark.parametrize(
    ("text", "rate", "process"),
    [
        ("gamma:cv=2", 5, {"process": "gamma", "rate": 5, "cv": 2}),
        ("weibull:cv=1.5", 5, {"process": "weibull", "rate": 5, "cv": 1.5}),
        ("hawkes:branching=0.5,decay=2", 5, {"process": "hawkes", "rate": 5, "branching": 0.5, "decay": 2}),
        ("on-off:on_rate=9,mean_on=10s,mean_off=20s", None, ON_OFF | {"on_rate": 9}),
        ("on-off:on_rate=9,mean_on=10s,mean_off=20s,off_rate=3", 10, ON_OFF | {"on_rate": 18, "off_rate": 6}),
        ("on-off:mean_on=10s,mean_off=20s,on_cv=2", 3, ON_OFF | {"on_rate": 9, "on_cv": 2}),
        ("mmpp:rates=2|8,mean_stay=1m|30s", None, {"process": "mmpp", "rates": [2, 8], "mean_stay": ["1m", "30s"]}),
        ("ramp:from=1,to=9,over=5m", None, varying(shape="ramp", to=9, over="5m", **{"from": 1})),
        ("ramp:from=1,to=9,over=5m,cv=2", 10, varying(2, shape="ramp", to=18, over="5m", **{"from": 2})),
        ("steps:rates=2|8,for=60|30s", None,
         varying(shape="steps", steps=[{"rate": 2, "for": "1m"}, {"rate": 8, "for": "30s"}])),
        ("spike:base=2,peak=20,at=30s,hold=5s", None, varying(shape="spike", base=2, peak=20, at="30s", hold="5s")),
        ("sinusoid:mean=5,amplitude=3,period=1m", None, varying(shape="sinusoid", mean=5, amplitude=3, period="1m")),
        ("diurnal:mean=5,trough=0.1,period=10m", None, varying(shape="diurnal", mean=5, trough=0.1, period="10m")),
        ("pool:folder=nowhere,from=8h", 5, {"process": "pool", "folder": "nowhere", "from": "8h", "rate": 5}),
    ],
)  # fmt: skip
def test_a_process_on_one_line(text: str, rate: float | None, process: dict[str, Any]) -> None:
    """Each means what the same keys mean in YAML; a rate beside it is its mean rate."""
    assert parse_arrivals(text, rate) == TypeAdapter(Arrivals).validate_python(process)


@pytest.mark.parametrize(
    ("text", "rate", "said"),
    [
        ("hawkes:branching=0.5,decay=2", None, "need a rate"),
        ("on-off:mean_on=10s,mean_off=20s", None, "need a rate"),
        ("steps:rates=2|8,for=30s", None, "a time for every rate"),
        ("steps:rates=2|8", None, "a time for every rate"),
        ("ramp:from=1,to=nine,over=5m", None, "a number"),
        ("ramp:from=1,to=9,over=soon", None, "duration"),
        ("ramp:from=1,too=9,over=5m", None, "nearest   to"),
        ("hawkes:branching=half,decay=2", 5, "a number"),
        ("hawks:branching=0.5", 5, "nearest   hawkes"),
        ("points:file=nowhere.csv", None, "cannot read nowhere.csv"),
        ("pool:folder=nowhere", None, "cannot read nowhere"),
    ],
)
def test_a_process_on_one_line_that_is_wrong(text: str, rate: float | None, said: str) -> None:
    """One readable error, with what to type."""
    with pytest.raises(ConfigError) as caught:
        parse_arrivals(text, rate, "--arrivals")
    assert said in str(caught.value)
    assert str(caught.value).startswith("--arrivals: ")
    assert "\n  expected  " in str(caught.value)


def test_a_process_that_names_its_rate_needs_no_other() -> None:
    """--arrivals ramp alone is an open loop; with --concurrency, one with a safety stop."""
    loaded = workload_from_flags(RunFlags(arrivals="ramp:from=1,to=9,over=60s"))
    assert loaded.value.offered_rate() == pytest.approx(5)
    assert loaded.origin["classes.default.arrivals.rate.from"] == "--arrivals"
    capped = workload_from_flags(RunFlags(arrivals="ramp:from=1,to=9,over=60s", concurrency=7))
    assert capped.value.loop == OpenLoop(max_in_flight=7)
    with pytest.raises(UsageError, match="how much load"):
        workload_from_flags(RunFlags(arrivals="hawkes:branching=0.5,decay=1"))


def test_a_process_over_a_workload_of_two_classes(tmp_path: Path) -> None:
    """A process with its own rates is the total: each class has its part of it; one without has the classes' rates."""
    path = tmp_path / "w.yaml"
    path.write_text(TWO_CLASSES)
    loaded = load_workload(str(path))
    ramp = apply_flags(loaded, RunFlags(arrivals="ramp:from=4,to=12,over=60s")).value
    assert [mean_rate(spec.arrivals) for spec in ramp.classes.values() if spec.arrivals] == pytest.approx([6, 2])
    twice = apply_flags(loaded, RunFlags(arrivals="ramp:from=4,to=12,over=60s", rate=16))
    assert [mean_rate(spec.arrivals) for spec in twice.value.classes.values() if spec.arrivals] == pytest.approx(
        [12, 4]
    )
    assert twice.origin["classes.a.arrivals.rate.from"] == "--rate"
    bursts = apply_flags(loaded, RunFlags(arrivals="on-off:mean_on=1s,mean_off=3s")).value
    rates = [spec.arrivals.on_rate for spec in bursts.classes.values()]  # type: ignore[union-attr]
    assert rates == pytest.approx([12, 4])
    again = apply_flags(twice, RunFlags(rate=8)).value
    assert again.offered_rate() == pytest.approx(8)
    closed = apply_flags(twice, RunFlags(rate="inf", concurrency=3)).value
    assert [spec.share for spec in closed.classes.values()] == pytest.approx([12, 4])


@given(st.text(max_size=30) | st.text("uniform:low=8,high64|norlgempicvs", max_size=40))
def test_any_text_is_a_length_or_a_usage_error(text: str) -> None:
    """No text raises anything but UsageError."""
    for parse in (parse_lengths, lambda each: parse_arrivals(each, 5), parse_drain):
        try:
            parse(text)
        except UsageError as error:
            assert "\n  expected  " in str(error)  # noqa: PT017 (some texts can be read)


def test_a_rate_alone_is_an_open_loop_with_poisson_arrivals() -> None:
    """--rate makes Poisson arrivals; what else is not given takes the defaults, and the choice of duration is told."""
    loaded = workload_from_flags(RunFlags(rate=5))
    spec = loaded.value.classes["default"]
    assert loaded.value.loop == OpenLoop()
    assert spec.arrivals == Poisson(rate=5)
    assert (spec.input_tokens, spec.output_tokens) == (ConstantLength(value=512), ConstantLength(value=128))
    assert loaded.value.duration == 60 * 10**9
    assert any("60s" in note for note in loaded.notes)
    assert loaded.origin["classes.default.arrivals.rate"] == "--rate"
    assert loaded.origin["classes.default.input_tokens.value"] == "default"


def test_a_concurrency_alone_is_a_closed_loop() -> None:
    """--concurrency N is a closed loop of N users, without a note."""
    loaded = workload_from_flags(RunFlags(concurrency=4, requests=9))
    assert loaded.value.loop == ClosedLoop(users=4)
    assert loaded.value.classes["default"].arrivals is None
    assert loaded.notes == ()


def test_rate_and_concurrency_are_an_open_loop_with_a_safety_stop() -> None:
    """Both together stay an open loop: the cap drops, it never delays, and a note says so."""
    loaded = workload_from_flags(RunFlags(rate=5, concurrency=4, requests=9))
    assert loaded.value.loop == OpenLoop(max_in_flight=4)
    assert any("dropped" in note for note in loaded.notes)


@pytest.mark.parametrize("burstiness", [None, 1])
def test_rate_inf_is_a_burst_and_with_concurrency_a_closed_loop(burstiness: float | None) -> None:
    """VLLM's --request-rate inf is all at once; with --max-concurrency C its loop is the closed one of C."""
    burst = workload_from_flags(RunFlags(rate="inf", requests=9, burstiness=burstiness)).value
    assert burst.classes["default"].arrivals == Burst()
    closed = workload_from_flags(RunFlags(rate="inf", requests=9, concurrency=3, burstiness=burstiness))
    assert closed.value.loop == ClosedLoop(users=3)
    assert closed.notes


@given(st.floats(1e-3, 1e3))
def test_burstiness_is_the_gamma_shape(burstiness: float) -> None:
    """VLLM's burstiness k is a gamma process whose gaps have cv = 1/sqrt(k); 1 is Poisson."""
    arrivals = workload_from_flags(RunFlags(rate=5, burstiness=burstiness)).value.classes["default"].arrivals
    if burstiness == 1:
        assert arrivals == Poisson(rate=5)
    else:
        assert isinstance(arrivals, Gamma)
        assert arrivals.cv**-2 == pytest.approx(burstiness, rel=1e-12)


def test_set_goes_over_flags() -> None:
    """--set has the last word, and says so."""
    loaded = workload_from_flags(RunFlags(rate=5), ["classes.default.priority=3"])
    assert loaded.value.classes["default"].priority == 3
    assert loaded.origin["classes.default.priority"] == "--set classes.default.priority"


def test_slo_and_goodput_flags_join() -> None:
    """--slo and --goodput make one SLO."""
    loaded = workload_from_flags(RunFlags(rate=5, slo=["attainment>=99%"], goodput=["ttft:500", "tpot:50"]))
    assert loaded.value.slo == ("attainment>=99%", "ttft<500ms", "tpot<50ms")


def test_no_flag_changes_nothing(two: str) -> None:
    """A workload without flags over it is the very same value."""
    loaded = load_workload(two)
    assert apply_flags(loaded, RunFlags()) is loaded


def test_a_rate_over_a_workload_keeps_the_proportions_of_its_classes(two: str) -> None:
    """--rate is the total offered load: 3 to 1 stays 3 to 1, and the processes stay."""
    loaded = apply_flags(load_workload(two), RunFlags(rate=8))
    arrivals = {name: spec.arrivals for name, spec in loaded.value.classes.items()}
    assert arrivals == {"a": Poisson(rate=6), "b": Gamma(rate=2, cv=2)}
    assert loaded.value.offered_rate() == 8
    assert loaded.origin["classes.a.arrivals.rate"] == "--rate"
    assert loaded.origin["classes.b.arrivals.cv"].endswith("two.yaml:8")


def test_flags_over_a_workload_replace_what_they_name(two: str) -> None:
    """Extent, SLO, drain and lengths are replaced; the rest keeps its value and origin."""
    flags = RunFlags(
        requests=50, slo=["tpot<9ms"], drain="grace=2s", output_tokens="7", arrivals="constant", warmup="1s"
    )
    loaded = apply_flags(load_workload(two), flags)
    workload = loaded.value
    assert (workload.requests, workload.duration, workload.warmup) == (50, None, 10**9)
    assert workload.slo == ("tpot<9ms",)
    assert (workload.drain.mode, workload.drain.grace) == ("grace", 2 * 10**9)
    assert [spec.output_tokens for spec in workload.classes.values()] == [ConstantLength(value=7)] * 2
    assert [spec.arrivals for spec in workload.classes.values()] == [Constant(rate=3), Constant(rate=1)]
    assert loaded.origin["classes.b.input_tokens.value"].endswith("two.yaml:9")
    assert loaded.path is not None


def test_rate_inf_over_a_workload_is_a_closed_loop_with_the_shares_of_its_rates(two: str) -> None:
    """Classes keep their shares when an open loop becomes the closed one of C users."""
    loaded = apply_flags(load_workload(two), RunFlags(rate="inf", concurrency=5))
    assert loaded.value.loop == ClosedLoop(users=5)
    assert [(spec.arrivals, spec.share) for spec in loaded.value.classes.values()] == [(None, 3), (None, 1)]
    burst = apply_flags(load_workload(two), RunFlags(rate="inf", requests=9))
    assert all(spec.arrivals == Burst() for spec in burst.value.classes.values())


def test_a_concurrency_over_a_workload_is_users_or_a_safety_stop(two: str) -> None:
    """--concurrency sets a closed loop's users, and an open loop's cap, with a note."""
    capped = apply_flags(load_workload(two), RunFlags(concurrency=5))
    assert capped.value.loop == OpenLoop(max_in_flight=5)
    assert any("safety stop" in note for note in capped.notes)
    closed = workload_from_flags(RunFlags(concurrency=2))
    assert apply_flags(closed, RunFlags(concurrency=7)).value.loop == ClosedLoop(users=7)


def test_talk_flags_go_over_a_targets_own_settings() -> None:
    """Each talk flag changes its one setting; --api chat also drops the token ids."""
    flags = TalkFlags(
        model="m",
        api="chat",
        headers=["X-Team: a:b", "Y: 1"],
        api_key_env="KEY",
        timeouts=["60s", "first_token=5s"],
        ignore_eos=False,
    )
    loaded = apply_talk_flags(load_target("sim"), flags)
    talk = loaded.value.talk
    assert (talk.model, talk.api, talk.token_ids, talk.forces_length, talk.api_key_env) == (
        "m",
        "chat",
        None,
        False,
        "KEY",
    )
    assert talk.headers == {"X-Team": "a:b", "Y": "1"}
    assert (talk.timeouts.total, talk.timeouts.first_token, talk.timeouts.connect) == (60 * 10**9, 5 * 10**9, 10**10)
    assert loaded.origin["talk.forces_length"] == "--no-ignore-eos"
    assert apply_talk_flags(loaded, TalkFlags()) is loaded
