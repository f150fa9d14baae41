"""The engine in virtual time as a stream: the same engine as elsewhere, never emptied, judged exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slobench.config.arrivals import Poisson
from slobench.config.engine import Engine, StepTime
from slobench.config.lengths import LognormalLength, UniformLength
from slobench.config.slo import parse_slo
from slobench.config.workload import ClosedLoop, RequestClass, Workload
from slobench.engine.virtual import Offer, serve
from slobench.errors import ConfigError
from slobench.experiment.criteria import asked_of
from slobench.experiment.stream import Probe
from slobench.experiment.virtual_closed import VirtualUsers
from slobench.experiment.virtual_stream import VirtualStream
from slobench.segments import Start, build_segment

ENGINE = Engine(admission="reserve", block_tokens=1, prefix_cache=False)
LENGTHS = {
    "input_tokens": LognormalLength(mean=256, sigma=0.6, min=8, max=2000),
    "output_tokens": UniformLength(low=1, high=60),
}
WORKLOAD = Workload(
    name="two",
    classes={
        "chat": RequestClass(arrivals=Poisson(rate=3), **LENGTHS),
        "code": RequestClass(arrivals=Poisson(rate=1), **LENGTHS),
    },
    requests=1,
)
SLO = ("ttft<60ms", "tpot<14ms", "class=code e2e<400ms")


def stream(slo: tuple[str, ...] = SLO, *, engine: Engine = ENGINE, workload: Workload = WORKLOAD, seed: int = 1):
    parsed = parse_slo(slo, tuple(workload.classes))
    asked = asked_of(parsed, tuple(workload.classes), target=0.9, per_class=False)
    made = VirtualUsers if isinstance(workload.loop, ClosedLoop) else VirtualStream
    return made(engine, workload, parsed, asked.counted, seed)


def offered(load, *probes: Probe):
    """Offer probes one after another, then drain."""
    for probe in probes:
        list(load.step(probe))
    list(load.drain())
    return load.finished()


PROBE = Probe(0, "refine", 60.0, 400, 2.0, 7, vr=True)


def test_one_probe_is_what_the_engine_serves() -> None:
    """Times of first and last tokens are those of `serve` on the same plan; shares follow from them."""
    (probed,) = offered(stream(), PROBE)
    segment = build_segment(WORKLOAD, rate=60.0, n=400, settle=120, seed=7, vr=True, start=Start())
    plan = segment.plan
    served = serve(ENGINE, Offer(plan.scheduled_ns, plan.input_tokens, plan.output_tokens), 1)
    counted = np.arange(520) >= 120
    ttft = (served.first_token_ns - plan.scheduled_ns) / 1e9
    tpot = (served.last_token_ns - served.first_token_ns) / 1e9 / np.maximum(plan.output_tokens - 1, 1)
    e2e = (served.last_token_ns - plan.scheduled_ns) / 1e9
    code = plan.class_code == 1
    good = (ttft <= 0.06) & (tpot <= 0.014) & (~code | (e2e <= 0.4))
    assert probed.digest == plan.digest
    assert (probed.good(), probed.n()) == (int(np.sum(good & counted)), 400)
    assert probed.good("class=code") == int(np.sum(good & counted & code))
    assert probed.good("ttft<60ms") == int(np.sum((ttft <= 0.06) & counted))
    assert probed.n("class=code e2e<400ms") == int(np.sum(code & counted))
    assert probed.mean_e2e_s == pytest.approx(e2e[counted].mean())
    assert sum(n for _, n in probed.tallies["total"][:3]) == 120
    assert 0 < probed.good() < 400


def test_probes_follow_one_another_without_a_pause() -> None:
    """The second probe begins on what the first has left in flight, and ends later than it was offered."""
    load = stream()
    list(load.step(PROBE))
    assert load.finished() == []  # its last replies are not there yet
    first, second = offered(load, replace(PROBE, number=1, rate=80.0, seed=8))
    assert first.end_s < second.start_s
    assert second.start_s - first.end_s == pytest.approx(2.0, abs=0.3)  # the settling at the new load
    assert second.in_flight[0] > 0


def test_the_digest_does_not_say_when_it_was_offered() -> None:
    """The same probe later on the stream has the same plan digest."""
    load = stream()
    _, second = offered(load, replace(PROBE, seed=3), replace(PROBE, number=1))
    (alone,) = offered(stream(), PROBE)
    assert second.digest == alone.digest


def test_a_futile_probe_is_given_up() -> None:
    """Overload: before all has been sent it is clear that the target is missed."""
    load = stream()
    (probed,) = offered(load, Probe(0, "bracket", 150.0, 3000, 1.0, 7, vr=True, target=0.9))
    assert probed.curtailed
    assert probed.n() < 3000
    assert probed.attainment() < 0.9


def test_what_is_closed_early_is_never_finished_and_the_stream_goes_on() -> None:
    """Closing a step gives up the rest of it; indices and times of the next probe go on."""
    load = stream()
    events = load.step(PROBE)
    next(events)
    events.close()
    (second,) = offered(load, replace(PROBE, number=1, seed=9))
    assert second.probe.number == 1
    assert second.n() == 400


def naive_tokens(engine: Engine, plan) -> list[list[int]]:
    """Times of every token, by asking after each step who has one more."""
    from slobench.engine.model import EngineCore, Request, State

    core, now, at = EngineCore(engine, 1), 0, 0
    times: list[list[int]] = [[] for _ in range(len(plan))]
    requests = [
        Request(i, a, b)
        for i, (a, b) in enumerate(zip(plan.input_tokens.tolist(), plan.output_tokens.tolist(), strict=True))
    ]
    due = plan.scheduled_ns.tolist()
    while True:
        step = core.step()
        if step is None:
            if at == len(due):
                return times
            now = due[at]
        else:
            now += step.duration_ns
            for request in [r for r in core.running if r.state is State.DECODE] + step.finished:
                times[request.index].append(now)
        while at < len(due) and due[at] <= now:
            core.add(requests[at])
            at += 1


@pytest.mark.parametrize("engine", [ENGINE, ENGINE.model_copy(update={"admission": "preempt", "kv_tokens": 3000})])
def test_limits_on_single_tokens_are_exact(engine: Engine) -> None:
    """Largest gap and deadline of each request, with preemptions too, equal those of tokens noted one by one."""
    load = stream(("max_gap<30ms", "deadline(60ms, 12ms, share=90%)"), engine=engine)
    (probed,) = offered(load, replace(PROBE, rate=80.0, settle_s=0.0))
    plan = build_segment(WORKLOAD, rate=80.0, n=400, settle=0, seed=7, vr=True, start=Start()).plan
    tokens = naive_tokens(engine, plan)
    assert [len(each) for each in tokens] == plan.output_tokens.tolist()
    gaps = np.array([max(np.diff(each), default=0) for each in tokens]) / 1e9
    on_time = [
        np.mean([(t - due) / 1e9 <= 0.06 + 0.012 * k for k, t in enumerate(each)])
        for each, due in zip(tokens, plan.scheduled_ns.tolist(), strict=True)
    ]
    assert probed.good("max_gap<30ms") == int(np.sum(gaps <= 0.03))
    assert probed.good("deadline(60ms, 12ms, share=90%)") == int(np.sum(np.array(on_time) >= 0.9))
    assert 0 < probed.good("max_gap<30ms") < 400
    if engine.admission == "preempt":
        assert load._engine.core.preemptions > 0


def test_a_request_that_can_never_run_is_refused() -> None:
    """One clear error before anything is offered."""
    load = stream(engine=ENGINE.model_copy(update={"max_model_len": 100}))
    with pytest.raises(ConfigError, match="longer than the engine's context"):
        offered(load, PROBE)


def test_users_wait_for_their_replies() -> None:
    """A closed loop of N: never more than N in flight; throughput is N over the mean E2E (Little's law)."""
    workload = WORKLOAD.model_copy(
        update={
            "loop": ClosedLoop(users=1),
            "classes": {name: spec.model_copy(update={"arrivals": None}) for name, spec in WORKLOAD.classes.items()},
        }
    )
    load = stream(("tpot<14ms",), workload=workload, engine=Engine(step=StepTime(noise_cv=0.0)))
    (probed,) = offered(load, Probe(0, "refine", 16, 3000, 5.0, 7, vr=False))
    assert probed.n() == 3000
    assert 3000 / (probed.end_s - probed.start_s) == pytest.approx(16 / probed.mean_e2e_s, rel=0.02)
    (again,) = offered(
        stream(("tpot<14ms",), workload=workload, engine=Engine(step=StepTime(noise_cv=0.0))), probed.probe
    )
    assert again.tallies == probed.tallies
