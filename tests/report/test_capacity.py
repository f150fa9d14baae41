"""Reports of a capacity search: what each result says, in every form; the live view."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from slobench.config.arrivals import Gamma, Poisson
from slobench.config.lengths import LognormalLength
from slobench.config.load import load_target
from slobench.config.workload import RequestClass, Workload
from slobench.experiment.capacity import SearchEnded, Wanted, ask_for, result_json, searching
from slobench.experiment.drive import Ended, drive
from slobench.experiment.found import found_of
from slobench.experiment.search_state import Budget, History, Settings
from slobench.experiment.setup import Trial
from slobench.names import Exit
from slobench.report import capacity_html, capacity_markdown, capacity_text, console_capacity
from slobench.report.capacity import CapacityView, exit_of, view_of
from slobench.report.capacity_tables import tables
from slobench.report.console_search import search_picture
from slobench.report.live import LiveView
from tests.experiment.streams import CurveStream
from tests.experiment.test_search import falling

LENGTHS = LognormalLength(mean=100, sigma=0.5)
WORKLOAD = Workload(
    name="mix",
    classes={"chat": RequestClass(arrivals=Poisson(rate=20), input_tokens=LENGTHS, output_tokens=LENGTHS)},
    requests=1,
    slo=("ttft<500ms", "tpot<30ms", "attainment>=90%"),
)


class Counting(CurveStream):
    """Every share of the search is counted as the total is; the limit on TPOT is met more often."""

    def __init__(self, names, attainment, **kwargs) -> None:
        super().__init__(attainment, **kwargs)
        self.names = names

    def outcome(self, probe, start_s):
        made = super().outcome(probe, start_s)
        total = made.tallies["total"]
        easier = tuple((n - (n - good) // 3, n) for good, n in total)
        return replace(made, tallies={name: easier if name.startswith("tpot") else total for name in self.names})


def ended(*, target: str = "sim", attainment=None, **settings) -> SearchEnded:
    trial = Trial(WORKLOAD, load_target(target).value, Path("results/cap"), seed=3)
    ask = ask_for(trial, Wanted(), Settings((), start_rate=20.0, seed=3, **settings))
    stream = Counting([each.name for each in ask.asked.counted], attainment or falling(), seed=5)
    for event in drive(ask.settings, stream, History()):
        if isinstance(event, Ended):
            found = found_of(ask.settings, ask.asked.limits, event.history, event.reason)
            return SearchEnded(ask, event.history, found)
    raise AssertionError


@pytest.fixture(scope="module")
def certified() -> CapacityView:
    return view_of(ended())


def printed(view: CapacityView, *, width: int = 100, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    console_capacity.render(view, console)
    return console.file.getvalue()


def test_the_result_line_can_be_read_alone(certified: CapacityView) -> None:
    """Load, arrivals, seed, vr, interval, target, who counts, what TTFT and TPOT are, n, n_eff, D, certificate."""
    line = capacity_text.result_line(certified)
    for part in (
        "capacity ", "requests/s [", "(95 %)", "poisson, seed 3, vr on", "joint attainment falls to 90.0 %",
        "of scheduled requests", "errors and timeouts count against", "ttft<500ms, tpot<30ms",
        "TTFT from intended send time", "TPOT = (last − first)/(n − 1)", "n_eff", "(D ", "certified:", "vr off, n 10,000",
    ):  # fmt: skip
        assert part in line, part
    assert "\n" not in line


def test_an_interval_under_bursts_is_called_approximate(certified: CapacityView) -> None:
    """Its measured coverage is below what it claims (docs/validation.md), so every form says so; Poisson's does not."""
    bursts = {"chat": WORKLOAD.classes["chat"].model_copy(update={"arrivals": Gamma(rate=20, cv=2)})}
    ask = replace(
        certified.ask, trial=replace(certified.ask.trial, workload=WORKLOAD.model_copy(update={"classes": bursts}))
    )
    bursty = replace(certified, ask=ask)
    for view, said in ((certified, False), (bursty, True)):
        assert ("(95 %, approximate)" in capacity_text.result_line(view)) is said
        assert result_json(view.ask, view.history, view.found)["capacity"]["approximate"] is said
        for text in (printed(view), capacity_markdown.render(view), capacity_html.render(view)):
            assert ("approximate" in text) is said


def test_every_form_says_the_same(certified: CapacityView) -> None:
    """The headline, verdict, binding limit and every table stand in console, Markdown and HTML."""
    html = capacity_html.render(certified)
    forms = (printed(certified, width=200), capacity_markdown.render(certified).replace("\\", ""), html)
    rate = capacity_text.load(certified, certified.found.rate)
    for form in forms:
        assert f"capacity {rate} requests/s" in form
        assert "CERTIFIED" in form
        for table in tables(certified):
            assert table.title in form
    assert certified.found.binding == "ttft<500ms"
    assert html.count("<svg") == 2
    assert "<script" not in html
    assert "Content-Security-Policy" in html


def test_lines_fit_a_narrow_terminal(certified: CapacityView) -> None:
    """80 columns are enough; where nobody looks there is no escape code."""
    text = printed(certified, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "\x1b" in printed(certified, terminal=True)


def test_the_json_has_null_where_nothing_is_known() -> None:
    """A hopeless search has no rate, no interval above, no certificate; it has a floor."""
    found = ended(attainment=lambda _: 0.02)
    result = result_json(found.ask, found.history, found.found)["capacity"]
    assert (result["rate"], result["certified"], result["low"], result["per_gpu"]) == (None, None, None, None)
    assert result["floor"]["n"] == 10
    view = view_of(found)
    assert exit_of(view) == Exit.UNDECIDED
    assert "HOPELESS" in printed(view)
    assert "of 10 requests sent alone" in printed(view, width=300)
    assert capacity_html.render(view).count("<svg") == 0


@pytest.mark.parametrize(
    ("settings", "attainment", "word", "code"),
    [
        ({"max_rate": 100.0}, lambda _: 1.0, "NOT REACHED", Exit.UNDECIDED),
        ({"budget": Budget(requests=9000)}, None, "UNCERTIFIED", Exit.UNDECIDED),
        ({}, None, "CERTIFIED", Exit.OK),
    ],
)
def test_each_end_has_its_word_and_exit_code(settings, attainment, word: str, code: Exit) -> None:
    """Never 4: a search asks how much, not whether."""
    view = view_of(ended(attainment=attainment, **settings))
    assert capacity_text.verdict(view)[0] == word
    assert exit_of(view) == code
    assert word in capacity_markdown.render(view)


def test_a_client_that_spoiled_the_probes_is_invalid(certified: CapacityView) -> None:
    """Exit 3, with the finding."""
    found = replace(certified.found, reason="instrument", instrument=("V01 send lag p99 80 ms > 25 ms",))
    view = replace(certified, found=found)
    assert exit_of(view) == Exit.INVALID
    assert "V01 send lag" in printed(view)
    assert exit_of(replace(view, found=replace(found, reason="interrupted"))) == Exit.INTERRUPTED


def test_per_gpu_where_the_target_says_how_many() -> None:
    """vLLM's parallel sizes multiply; `gpus` in the target's file wins; a simulated engine has none."""
    from slobench.experiment.capacity import gpus_of

    one = ended()
    assert gpus_of(one.ask) is None
    vllm = load_target("vllm-local", ("args.tensor-parallel-size=2", "args.data-parallel-size=4")).value
    assert gpus_of(replace(one.ask, trial=replace(one.ask.trial, target=vllm))) == 8
    told = vllm.model_copy(update={"gpus": 16})
    ask = replace(one.ask, trial=replace(one.ask.trial, target=told))
    assert gpus_of(ask) == 16
    result = result_json(ask, one.history, one.found)["capacity"]
    assert result["per_gpu"] == pytest.approx(result["rate"] / 16)


def test_plain_live_lines_name_each_probe_once() -> None:
    """One line for each probe that begins: load, requests, estimate so far, time left."""
    one = ended()
    stream = io.StringIO()
    with LiveView(stream=stream) as view:
        for probe in one.history.issued:
            done = tuple(each for each in one.history.done if each.probe.number < probe.number)
            history = replace(one.history, done=done, refined=None)
            for _ in range(3):
                view.show(searching(one.ask, history, probe))
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(one.history.issued)
    assert lines[0].startswith("bracket 20.0 requests/s, 300 requests")
    assert any(line.startswith("certify") and "estimate" in line and "left" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_live_picture_shows_bracket_probes_curve_and_time_left(width: int) -> None:
    """As drawn in a terminal, at any width, at any moment of a search."""
    one = ended()
    for upto in range(len(one.history.done) + 1):
        history = replace(one.history, done=one.history.done[:upto], refined=None)
        now = one.history.issued[min(upto, len(one.history.issued) - 1)]
        console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)
        console.print(search_picture(searching(one.ask, history, now), None, width))
        drawn = console.file.getvalue()
        assert now.purpose in drawn
    assert "min left" in drawn
    assert ("●" in drawn) == (width >= 70)
    assert ("┄" in drawn) == (width >= 70)
