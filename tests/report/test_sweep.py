"""Reports of a sweep: letter by letter; what is called the best, and what is not; nothing foreign left active."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console

from slobench.experiment.sweep_result import result_of
from slobench.experiment.sweep_values import front
from slobench.names import Exit
from slobench.report import console_page, page_html, page_markdown
from slobench.report.sweep import exit_of, page_of
from slobench.report.sweep_json import to_json
from tests.report import sweeps
from tests.report.rounding import rounded

Golden = Callable[[str, str], None]


def on_console(page) -> str:
    out = io.StringIO()
    console_page.render(page, Console(file=out, width=80, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("name", sweeps.ALL)
def test_reports_read_as_their_golden_files(name: str, golden: Golden) -> None:
    ended = sweeps.ALL[name]()
    result = result_of(ended.rows)
    golden(f"sweep_{name}.txt", on_console(page_of(ended, result, short=True)))
    golden(f"sweep_{name}.md", page_markdown.render(page_of(ended, result)))
    golden(f"sweep_{name}.json", json.dumps(rounded(to_json(ended, result)), indent=2, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", sweeps.ALL)
def test_pages_are_whole_and_hold_nothing_active(name: str) -> None:
    ended = sweeps.ALL[name]()
    text = page_html.render(page_of(ended, result_of(ended.rows)))
    assert "<script" not in text
    assert "\x1b" not in text
    assert text.count("<svg") == {"told": 2, "tied": 2}.get(name, 0)
    assert max(map(len, on_console(page_of(ended, result_of(ended.rows), short=True)).splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "code"), [("told", Exit.OK), ("tied", Exit.INTERRUPTED), ("priced", Exit.OK), ("nothing", Exit.TARGET)]
)
def test_the_exit_code_is_the_worst_that_holds(name: str, code: Exit) -> None:
    assert exit_of(sweeps.ALL[name]()) == code


def test_a_clear_lead_over_repeats_is_told_with_its_size() -> None:
    result = result_of(sweeps.told().rows)
    (best,) = result.best
    assert (best.point.config, best.point.load, best.told) == ("c05", 40.0, True)
    assert best.sure is not None
    assert best.sure > 0.99
    assert best.rivals[0].point.config == "c06"
    assert best.rivals[0].ahead == pytest.approx(1.10, abs=0.01)
    assert 1 < best.rivals[0].low < best.rivals[0].ahead


def test_configs_that_miss_the_slo_at_a_load_stand_at_a_lower_one() -> None:
    result = result_of(sweeps.told().rows)
    loads = {point.config: point.load for point in result.ranked}
    assert loads == {"c05": 40, "c06": 40, "c04": 40, "c01": 20, "c02": 20, "c03": 20}


def test_one_run_each_cannot_tell_two_that_are_alike() -> None:
    (best,) = result_of(sweeps.tied().rows).best
    assert best.assumed
    assert not best.told
    assert not best.rivals[0].told_apart


def test_effects_are_of_one_setting_alone_and_adjusted_over_all() -> None:
    effects = {(each.setting, each.after): each for each in result_of(sweeps.told().rows).effects}
    seqs = effects[sweeps.SEQS, 64]
    assert seqs.pairs == 9  # three values of the other setting, three repeats
    assert seqs.p is not None
    assert seqs.p < 0.001
    assert seqs.low is not None
    assert seqs.high is not None
    assert seqs.low < seqs.ratio < seqs.high
    assert seqs.ratio == pytest.approx((39.6 * 36.0 * 35.0) ** (1 / 3) / 19.9, rel=0.01)
    assert len(effects) == 3


def test_a_front_holds_what_nothing_beats_in_both() -> None:
    points = result_of(sweeps.told().rows).points
    for axis, better in (("per_user", 1), ("ttft_p90_s", -1)):
        on = front(points, axis)
        place = {id(p): better * float((p.per_user if axis == "per_user" else p.mean(axis)) or 0) for p in points}
        for point in points:
            beaten = any(
                (other.throughput or 0) >= (point.throughput or 0) and place[id(other)] >= place[id(point)] and other is not point
                and ((other.throughput or 0) > (point.throughput or 0) or place[id(other)] > place[id(point)])
                for other in points
            )  # fmt: skip
            assert (point in on) is not beaten


def test_a_price_ranks_by_cost() -> None:
    result = result_of(sweeps.priced().rows)
    assert result.by == "cost"
    data = to_json(sweeps.priced(), result)
    costs = [point["usd_per_1m_good_tokens"] for point in data["ranked"]]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(4.0 / 3600 / (48.1 * 24 * 0.99) * 1e6, rel=0.01)
