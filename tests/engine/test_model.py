"""The discrete-event engine: what each step computes, how long it takes, who runs."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.engine import Engine, StepTime
from slobench.engine.model import EngineCore, Request, State
from slobench.engine.prompts import block_hashes

QUIET = StepTime(noise_cv=0)


def engine(**settings_: object) -> Engine:
    """An engine without noise."""
    return Engine.model_validate({"step": QUIET, **settings_})


def run(core: EngineCore, requests: list[Request], limit: int = 100_000) -> list:
    """Add all requests and return every step until the engine is idle."""
    for request in requests:
        core.add(request)
    steps = []
    while (step := core.step()) is not None:
        steps.append(step)
        assert len(steps) < limit, "the engine never becomes idle"
    return steps


def check_totals(core: EngineCore) -> None:
    """Hold the running totals against a count over all running requests."""
    size = core.spec.block_tokens
    tokens = blocks = 0
    held = set()
    for request in core.running:
        here = request.computed + (core.steps - request.joined if request.state is State.DECODE else 0)
        tokens += here
        held |= set(request.held)
        blocks += request.private_blocks
        if core.spec.admission == "preempt":
            blocks += -(-here // size) - -(-request.computed // size)
    assert core._kv_tokens == tokens
    assert core.kv.blocks - core.kv.free == blocks + len(held)
    assert 0 <= core.kv.free <= core.kv.blocks
    assert len(core._prefills) == sum(request.state is State.PREFILL for request in core.running)


SPECS = st.builds(
    engine,
    max_num_seqs=st.integers(1, 8),
    max_num_batched_tokens=st.integers(1, 64),
    chunked_prefill=st.booleans(),
    kv_tokens=st.integers(64, 256),
    admission=st.sampled_from(["reserve", "preempt"]),
    block_tokens=st.sampled_from([1, 4, 16]),
    prefix_cache=st.booleans(),
    policy=st.sampled_from(["fcfs", "priority"]),
)
# (prompt, output, priority, steps until the next arrival, steps until the client leaves or None, prompt's kind)
ARRIVALS = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.integers(1, 24),
        st.integers(-2, 2),
        st.integers(0, 6),
        st.none() | st.integers(0, 20),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=250, deadline=None)
@given(spec=SPECS, arrivals=ARRIVALS)
def test_every_request_gets_its_tokens_and_every_total_agrees_with_a_full_count(spec, arrivals):
    """Under any settings and any arrivals and aborts: tokens as due, budget kept, totals exact, no block lost."""
    core = EngineCore(spec)
    emitted: Counter[int] = Counter()
    pending = list(enumerate(arrivals))
    leave: dict[int, list[Request]] = {}
    requests, clock, next_arrival = [], 0, 0
    while pending or core.running or core.waiting:
        while pending and next_arrival <= clock:
            index, (prompt, output, priority, gap, stay, kind) = pending.pop(0)
            hashes = block_hashes([kind] * (prompt + output), spec.block_tokens, None)
            requests.append(Request(index, prompt, output, priority, hashes))
            core.add(requests[-1])
            next_arrival = clock + gap
            if stay is not None:
                leave.setdefault(clock + stay, []).append(requests[-1])
        for request in leave.pop(clock, []):
            core.abort(request)
        step = core.step()
        clock += 1
        assert clock < 10_000, "the engine never becomes idle"
        if step is None:
            continue
        check_totals(core)
        assert step.tokens >= 1
        assert len(core.running) <= spec.max_num_seqs
        if spec.chunked_prefill:
            assert step.tokens <= spec.max_num_batched_tokens
        for request in [*core.running, *step.finished]:
            emitted[request.index] += request in step.finished or request.state is State.DECODE
        for request in step.finished:
            assert emitted[request.index] == request.output_tokens
    assert all(request.state is State.ENDED for request in requests)
    assert core.kv.free == core.kv.blocks
    assert core._kv_tokens == 0
    assert not any(core._grows)


def test_the_step_time_is_the_formula():
    """Each step takes base + tokens + KV + sequences + attention, by hand for a prompt in two chunks and two decodes."""
    spec = Engine(
        step=StepTime(base_ms=6, token_ms=0.03, kv_token_ms=0.001, sequence_ms=0.02, attention_ms=1e-5, noise_cv=0),
        max_num_batched_tokens=100,
    )
    steps = run(EngineCore(spec), [Request(0, 150, 3)])
    expected_ms = [
        6 + 0.03 * 100 + 0 + 0.02 + 1e-5 * 100 * 100,
        6 + 0.03 * 50 + 0.001 * 100 + 0.02 + 1e-5 * 50 * 150,
        6 + 0.03 + 0.001 * 150 + 0.02,
        6 + 0.03 + 0.001 * 151 + 0.02,
    ]
    assert [step.duration_ns / 1e6 for step in steps] == pytest.approx(expected_ms, rel=1e-9)
    assert [len(step.prefilled) for step in steps] == [0, 1, 0, 0]
    assert [len(step.finished) for step in steps] == [0, 0, 0, 1]


def test_noise_has_mean_one_and_the_variation_asked_for():
    """Over 20,000 steps the durations' mean and spread are within six standard errors of what was asked."""
    cv, n = 0.2, 20_000
    spec = Engine(step=StepTime(base_ms=1, token_ms=0, kv_token_ms=0, sequence_ms=0, noise_cv=cv))
    steps = run(EngineCore(spec, seed=1), [Request(0, 1, n)]) if n <= spec.max_model_len else []
    factors = np.array([step.duration_ns for step in steps]) / 1e6
    assert factors.mean() == pytest.approx(1, abs=6 * cv / np.sqrt(n))
    # The standard error of a standard deviation is sd * sqrt((kurtosis - 1) / 4n); lognormal kurtosis at cv 0.2: 3.7.
    assert factors.std() == pytest.approx(cv, abs=6 * cv * np.sqrt(2.7 / (4 * n)))


def test_running_decodes_come_before_prompts():
    """A prompt takes only what the decodes leave of the budget."""
    core = EngineCore(engine(max_num_batched_tokens=10))
    for index in range(4):
        core.add(Request(index, 1, 50))
    core.step()
    core.add(Request(4, 20, 5))
    step = core.step()
    assert (step.decodes, step.prompt_tokens) == (4, 6)


def test_waiting_requests_enter_in_order_and_none_overtakes_one_that_does_not_fit():
    """Under fcfs a small request waits behind a large one that has no room."""
    core = EngineCore(engine(admission="reserve", kv_tokens=64, block_tokens=1, prefix_cache=False))
    for index, prompt in enumerate((40, 40, 4)):
        core.add(Request(index, prompt, 2))
    assert [request.index for request in core.step().admitted] == [0]
    assert core.waiting == 2


def test_without_chunked_prefill_a_prompt_is_computed_whole():
    """A prompt that the budget cannot hold beside others waits for a step without other prompts."""
    core = EngineCore(engine(chunked_prefill=False, max_num_batched_tokens=100))
    steps = run(core, [Request(0, 60, 1), Request(1, 60, 1), Request(2, 150, 1)])
    assert [step.prompt_tokens for step in steps] == [60, 60, 150]


def test_the_lower_priority_number_goes_first_under_policy_priority_only():
    """With one seat the order is by priority, then arrival; fcfs ignores it."""
    for policy, order in (("priority", [1, 2, 0]), ("fcfs", [0, 1, 2])):
        core = EngineCore(engine(policy=policy, max_num_seqs=1))
        steps = run(core, [Request(0, 4, 2, 5), Request(1, 4, 2, -1), Request(2, 4, 2, 0)])
        assert [request.index for step in steps for request in step.finished] == order


def test_a_full_cache_preempts_the_newest_which_is_computed_anew():
    """Two growing replies that fit one at a time: the first is never disturbed, the second starts again and ends."""
    core = EngineCore(engine(kv_tokens=64, prefix_cache=False))
    first, second = Request(0, 16, 40), Request(1, 16, 40)
    steps = run(core, [first, second])
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert core.preemptions == 1
    assert [request.index for step in steps for request in step.finished] == [0, 1]
    # Recomputed: its prompt and the tokens it had by then, beside both prompts.
    again = second.goal
    assert again > 16
    assert sum(step.prompt_tokens for step in steps) == 16 + 16 + again


def test_reserved_requests_are_never_preempted():
    """With admission reserve the same load waits instead."""
    core = EngineCore(engine(kv_tokens=64, admission="reserve", prefix_cache=False))
    run(core, [Request(index, 16, 40) for index in range(5)])
    assert core.preemptions == 0


@pytest.mark.parametrize(("tokens", "found"), [(64, 48), (65, 64), (15, 0), (17, 16)])
def test_a_prompt_seen_before_is_found_in_full_blocks_short_of_its_last_token(tokens, found):
    """Of n tokens seen before, the full blocks among the first n - 1 are not computed again."""
    core = EngineCore(engine())
    hashes = block_hashes(range(tokens), 16, None)
    once, again = Request(0, tokens, 1, 0, hashes), Request(1, tokens, 1, 0, hashes)
    run(core, [once])
    steps = run(core, [again])
    assert (once.cached_tokens, again.cached_tokens) == (0, found)
    assert steps[0].prompt_tokens == tokens - found
    assert (core.prefix_queries, core.prefix_hits) == (2 * tokens, found)


def test_a_later_turn_finds_the_reply_of_the_earlier_one():
    """A prompt that holds an earlier prompt and its reply skips both, as far as blocks are full."""
    core = EngineCore(engine())
    talk = list(range(200))
    run(core, [Request(0, 60, 40, 0, block_hashes(talk[:100], 16, None))])
    later = Request(1, 150, 2, 0, block_hashes(talk[:152], 16, None))
    run(core, [later])
    # The reply's last token was never fed back: 99 tokens in the cache, 6 full blocks.
    assert later.cached_tokens == 96


@pytest.mark.parametrize(("prompt", "output"), [(0, 1), (1, 0), (60, 5), (65, 1)])
def test_a_request_that_can_never_run_is_refused(prompt, output):
    """Nothing to compute, nothing to say, or more than the cache holds: an error at once, not a stuck queue."""
    core = EngineCore(engine(kv_tokens=64))
    with pytest.raises(ValueError, match="expected at least one"):
        core.add(Request(0, prompt, output))
    assert core.step() is None
