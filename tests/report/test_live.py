import io
import re
from dataclasses import replace

from rich.console import Console

from slobench.experiment.events import Notice, Progress, Step
from slobench.report.console_live import picture
from slobench.report.live import LiveView

PROGRESS = Progress(
    elapsed_s=12.0, total_s=60.0, offered_rps=12.0, achieved_rps=11.9, finished_rps=10.4, in_flight=31, planned=720,
    sent=144, ended=113, ttft_p50_s=0.081, ttft_p99_s=0.31, attainment=0.991, errors=2, draining=False,
)  # fmt: skip
LINE = (
    "12 s of 60 s · sent 144 · offered 12.0 sent 11.9 finished 10.4 req/s · in flight 31 · "
    "TTFT p50 81.0 ms p99 310 ms · attainment 99.1 % · errors 2\n"
)


def test_without_a_terminal_progress_is_a_line_every_5_s() -> None:
    """Of progress told once a second for 11 s, three lines are printed: at 0, 5 and 10 s."""
    now = [0.0]
    out = io.StringIO()
    view = LiveView(stream=out, clock_s=lambda: now[0])
    with view:
        for second in range(12):
            now[0] = float(second)
            view.show(PROGRESS)
    assert out.getvalue() == LINE * 3


def test_steps_and_notices_are_lines_without_control_characters() -> None:
    """Every step and notice is printed at once, made harmless."""
    out = io.StringIO()
    with LiveView(stream=out) as view:
        view.show(Step("starting the target"))
        view.show(Notice("odd \x1b[31mname\n"))
    assert out.getvalue() == "starting the target\nnote: odd \\x1b[31mname \n"


def test_quiet_prints_notices_only() -> None:
    """Quiet keeps what the user must know."""
    out = io.StringIO()
    with LiveView(quiet=True, stream=out) as view:
        view.show(Step("starting the target"))
        view.show(PROGRESS)
        view.show(Notice("a worker was lost"))
    assert out.getvalue() == "note: a worker was lost\n"


def test_unknown_values_are_dashes() -> None:
    """Before the first reply there is no TTFT and no attainment: a dash, not 0 ms."""
    early = replace(PROGRESS, ttft_p50_s=None, ttft_p99_s=None, attainment=None, total_s=None)
    out = Console(file=io.StringIO(), width=80, record=True)
    out.print(picture("", early, 80))
    text = out.export_text()
    assert not re.search(r"(?<![\d.])0 ms", text)
    assert text.count("–") == 3


def test_the_picture_fits_80_columns() -> None:
    """Every line of the live view fits, with large numbers too."""
    huge = replace(
        PROGRESS,
        total_s=None,
        planned=1_000_000,
        sent=999_999,
        offered_rps=12_345.0,
        achieved_rps=12_344.0,
        in_flight=100_000,
    )
    out = Console(file=io.StringIO(), width=80, record=True)
    out.print(picture("offering", huge, 80))
    text = out.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "999,999/1,000,000" in text


def test_a_stream_that_goes_away_ends_the_view_not_the_run() -> None:
    """A closed stream is survived: the run goes on unseen."""
    out = io.StringIO()
    with LiveView(stream=out) as view:
        out.close()
        view.show(Step("draining"))
        view.show(PROGRESS)
