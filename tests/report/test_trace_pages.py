"""Reports of traces and fits: letter by letter what was reviewed; plain where piped, one page that fetches nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import orjson
import pytest
from rich.console import Console

from slobench.config.arrivals import OnOff
from slobench.config.lengths import EmpiricalLength, LognormalLength, PairedLength
from slobench.config.workload import RequestClass
from slobench.report import console_page, console_trace, fit_page, page_html, trace_page
from slobench.report.page import Page
from slobench.stats.arrivals import Fit
from slobench.stats.held_out import Choice, Fitted, Parameter
from slobench.stats.processes import GAMMA, ON_OFF, Varying
from slobench.workload.fit import Sample, TraceFit
from slobench.workload.fit_check import Check
from slobench.workload.fit_lengths import LengthCandidate, LengthFit
from slobench.workload.trace_facts import (
    ArrivalFacts,
    JointFacts,
    LengthFacts,
    RateOverTime,
    SessionFacts,
    SharingFacts,
    TraceFacts,
)

Golden = Callable[[str, str], None]
LENGTHS = LengthFacts(
    9_990, 2048.4, 3, 1469, 5188, 7436, 7437, 20_463_516, (2.5, 30.5, 300.5, 3000.5, 7437.5), (90, 900, 6000, 3000)
)
FACTS = TraceFacts(
    format="burstgpt", rows=10_000, failed=10, span_s=3435.9,
    arrivals=ArrivalFacts(2.91, 13.2, {"1": 13.19, "10": 71.85, "60": 164.0, "600": None}),
    spread=ArrivalFacts(2.91, 12.9, {"1": 12.6, "10": 71.8, "60": 164.0, "600": None}),
    bin_s=1.0, rate_over_time=RateOverTime(60.0, (0.0, 3.0, 9.5, 1.0, 0.2)),
    input_tokens=LENGTHS, output_tokens=LENGTHS,
    joint=JointFacts(9_990, 0.012, -0.0215, (0.5, 100.5, 7437.5), (0.5, 10.5, 1899.5), ((5, 90), (9000, 895))),
    sharing=SharingFacts(512, 288_500, 182_790, 0.36641, 0.37362),
    sessions=SessionFacts(135, 76, 2.92, 24, 123.0, 1447.0),
    classes={"ChatGPT/Conversation log": 6_000, "<script>alert(1)</script>\x1b[31m": 3_990, "": 10}, images=12,
    artefacts=("arrival times are whole seconds: the cv of the gaps and dispersion below that width are the recorder's",),
    notes=("not used: Elapsed time",),
)  # fmt: skip
PLAIN = TraceFacts(
    format="sharegpt", rows=2, failed=0, span_s=None, arrivals=ArrivalFacts(None, None, {}), spread=None, bin_s=0.0,
    rate_over_time=None, input_tokens=None, output_tokens=None, joint=None, sharing=None, sessions=None, classes={},
    images=0, artefacts=("no times of arrival: rate, cv and dispersion are not known",), notes=(),
)  # fmt: skip


def fitted(model: object, values: tuple[float, ...], per_arrival: float, ks: float) -> Fitted:
    """A fitted model whose parameters but the last have an interval."""
    names = model.names  # type: ignore[attr-defined]
    parameters = tuple(
        Parameter(name, value, None if k == 4 else value * 0.9, None if k == 4 else value * 1.1)
        for k, (name, value) in enumerate(zip(names, values, strict=True))
    )
    return Fitted(model, values, parameters, np.zeros(4), per_arrival, Fit(ks, 0.01))  # type: ignore[arg-type]


def trace_fit(*, paired: bool) -> TraceFit:
    """An on/off fit, ahead of gamma."""
    best = fitted(ON_OFF, (10.13, 1.637, 5.02, 14.8, 2.0), 1.7159, 0.138)
    others = (fitted(GAMMA, (2.57, 2.08), 1.3866, 0.218), fitted(Varying(3, gamma=False), (2.5, 3.4, 1.0), -0.11, 0.49))
    choice = Choice((best, *others), ((0.0, 0.0), (0.3293, 0.0273), (1.83, 0.19)), best, 22, 156.2)
    spec = LognormalLength(mean=512, sigma=0.8, min=1, max=4000)
    candidates = (LengthCandidate("lognormal", -8.7083, 0.031), LengthCandidate("normal", -8.9, 0.15))
    lengths = LengthFit(spec, "lognormal", 0.031, candidates)
    sample = Sample(np.linspace(0, 3435.9, 300), np.full(300, 5), np.full(300, 5), 7, 10**9)
    process = OnOff(on_rate=10.13, on_cv=1.637, mean_on="5018ms", mean_off="14785ms", off_cv=2.0)
    inputs, outputs = (EmpiricalLength(values=(5, 9)), PairedLength(values=(1, 2))) if paired else (spec, spec)
    return TraceFit(sample, choice, process, lengths, lengths, paired, RequestClass(arrivals=process, input_tokens=inputs, output_tokens=outputs))  # fmt: skip


CHECKS = (
    Check("rate", 2.566, 1.83, 3.13, kept=True),
    Check("dispersion 60 s", 166.9, 74.6, 143.0, kept=False),
    Check("dispersion 600 s", None, None, None, kept=True),
    Check("input p50", 1469.0, 1427.0, 1517.0, kept=True),
)
ONE = fit_page.FitView(
    "code.csv",
    {"recorded": trace_fit(paired=False)},
    {"recorded": CHECKS},
    ("sharing: lost",),
    "name: code\n",
    "code.yaml",
)
TWO = fit_page.FitView(
    "mixed.csv", {"chat": trace_fit(paired=False), "code": trace_fit(paired=True)}, {"chat": CHECKS, "code": CHECKS[:1]}, (), "name: mixed\n"
)  # fmt: skip
PAGES = {
    "trace": trace_page.page_of(FACTS, "burst.csv"),
    "trace_plain": trace_page.page_of(PLAIN, "chats.json"),
    "fit": fit_page.page_of(ONE),
    "fit_classes": fit_page.page_of(TWO),
}


def printed(page: Page, *, terminal: bool = False) -> str:
    """What the console shows."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal, highlight=False)
    if page is PAGES["trace"]:
        console_trace.render(page, FACTS, console)
    else:
        console_page.render(page, console)
    return out.getvalue()


@pytest.mark.parametrize("name", PAGES)
def test_reports_read_as_their_golden_files(name: str, golden: Golden) -> None:
    """The text of each, letter by letter."""
    golden(f"{name}.txt", printed(PAGES[name]))


def test_json_reads_as_its_golden_files(golden: Golden) -> None:
    """The keys and values of both."""
    for name, data in (("trace", trace_page.to_json(FACTS, "burst.csv")), ("fit", fit_page.to_json(ONE))):
        golden(f"{name}.json", orjson.dumps(data, option=orjson.OPT_INDENT_2).decode() + "\n")


def test_the_json_has_the_keys_that_are_documented() -> None:
    """Those that other programs read."""
    keys = trace_page.to_json(PLAIN, "chats.json").keys()
    assert keys >= {"rows", "span_s", "rate", "cv", "dispersion", "input_tokens", "output_tokens", "block_hit_rate",
                    "token_hit_rate", "sessions", "notes", "format"}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_piped_report_is_plain_and_narrow(name: str) -> None:
    """No escape, no blocks, no rule, no trailing blank, no line over 80 columns."""
    text = printed(PAGES[name])
    assert "\x1b" not in text
    assert not set(text) & set("─│▁▂▃▄▅▆▇█▌▏")
    assert all(len(line) <= 80 and line == line.rstrip() for line in text.splitlines())


def test_a_terminal_also_has_charts() -> None:
    """Rate over time as blocks, lengths as bars that add up."""
    text = printed(PAGES["trace"], terminal=True)
    assert "▃█▁" in re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "60.1 %" in text
    assert console_trace.spark((0, 0.001, 1)) == "  █"
    assert console_trace.bar(0.5, 8) == "████"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_no_script_and_fetches_nothing(name: str) -> None:
    """Foreign labels are text; there is no link, no script, no image from elsewhere."""
    html = page_html.render(PAGES[name])
    assert "<script" not in html
    assert not re.search(r"(src|href)=", html)
    assert "\x1b" not in html
    if name == "trace":
        assert "&lt;script&gt;" in html
        assert html.count("<svg") == 4
    assert "What was compared" not in html
