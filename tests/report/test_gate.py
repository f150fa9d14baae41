"""Reports of a gate: letter by letter, valid to their schemas, nothing foreign left active."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from slobench.names import Exit
from slobench.report import console_page, github, junit, page_html, page_markdown
from slobench.report.gate import page_of, to_json
from slobench.report.gate_explain import explain
from tests.report import gates
from tests.report.rounding import rounded
from tests.report.xsd import faults

SCHEMA = Path(__file__).parent / "junit.xsd"
Golden = Callable[[str, str], None]


def on_console(page) -> str:
    out = io.StringIO()
    console_page.render(page, Console(file=out, width=80, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("name", ["passed", "failed", "inconclusive", "noise"])
def test_reports_read_as_their_golden_files(name: str, golden: Golden) -> None:
    """Console, Markdown, JSON, JUnit and the explanation are what was reviewed."""
    gated = gates.ALL[name]()
    golden(f"gate_{name}.txt", on_console(page_of(gated, stacked=True)))
    golden(f"gate_{name}.md", page_markdown.render(page_of(gated)))
    golden(f"gate_{name}.json", json.dumps(rounded(to_json(gated)), indent=2, ensure_ascii=False) + "\n")
    golden(f"gate_{name}.xml", junit.render(gated))
    golden(f"gate_{name}.explained.txt", explain(gated))


@pytest.mark.parametrize("name", gates.ALL)
def test_junit_is_valid_to_its_schema(name: str) -> None:
    """Elements, their order, attributes and their types; counts are those of the cases."""
    text = junit.render(gates.ALL[name]())
    assert faults(text, SCHEMA) == []
    suite = ET.fromstring(text)[0]
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases)
    assert int(suite.attrib["failures"]) == sum(case.find("failure") is not None for case in cases)
    assert int(suite.attrib["errors"]) == sum(case.find("error") is not None for case in cases)


def test_the_validator_finds_faults() -> None:
    """A document with a fault of each kind."""
    bad = '<testsuites tests="x"><testsuite tests="1"><testcase><system-out/><failure/></testcase>text</testsuite></testsuites>'
    found = faults(bad, SCHEMA)
    for part in ("is no xs:nonNegativeInteger", "lacks name", "may not hold", "may hold no text"):
        assert any(part in fault for fault in found), part
    assert faults("<other/>", SCHEMA)


@given(st.text())
def test_junit_survives_any_name(name: str) -> None:
    """Control characters, surrogates, markup: the document can be read, and is valid."""
    from dataclasses import replace

    gated = replace(gates.stored(), names=("base", name))
    ET.fromstring(junit.render(gated))


def test_one_case_for_each_metric_and_class() -> None:
    """The gate's own, then each metric of each class, then the attainments."""
    cases = ET.fromstring(junit.render(gates.inconclusive()))[0].findall("testcase")
    names = [(case.attrib["classname"].rpartition(".")[2], case.attrib["name"]) for case in cases]
    assert names[0] == ("all", "verdict")
    assert ("all", "TPOT p50") in names
    assert ("code", "TPOT p50 (shown only)") in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "failures", "errors", "code"),
    [("passed", 0, 0, 0), ("failed", 3, 0, 5), ("inconclusive", 0, 2, 7), ("noise", 0, 1, 7), ("stored", 0, 1, 7)],
)
def test_failures_and_errors_follow_the_verdict(name: str, failures: int, errors: int, code: int) -> None:
    """Worse is a failure, undecided an error; a pass has neither."""
    gated = gates.ALL[name]()
    root = ET.fromstring(junit.render(gated))
    assert (int(root.attrib["failures"]), int(root.attrib["errors"])) == (failures, errors)
    assert gated.exit == Exit(code)


def test_annotations_name_what_is_worse() -> None:
    """An error for the metric with its numbers, and one for the verdict; colons and line ends are escaped."""
    lines = list(github.workflow_commands(gates.failed()))
    assert lines[0].startswith("::error title=TPOT p50 of all is worse::base 20")
    assert lines[-1].startswith("::error title=slobench gate%3A FAIL (exit 5)::")
    assert all("\n" not in line and re.fullmatch(r"::(error|warning|notice) title=[^:,]*::.*", line) for line in lines)
    assert [line.split(" ")[0] for line in github.workflow_commands(gates.passed())] == ["::notice"]
    assert [line.split(" ")[0] for line in github.workflow_commands(gates.noise())] == ["::warning"]


def test_the_step_summary_is_the_page_and_never_too_large() -> None:
    """Markdown with the verdict, under GitHub's limit."""
    text = github.step_summary(gates.failed())
    assert "❌ **FAIL**" in text
    assert len(text.encode()) < github.MOST_BYTES


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", gates.ALL)
def test_the_page_holds_no_script_and_fetches_nothing(name: str) -> None:
    """Also where names are hostile."""
    text = page_html.render(page_of(gates.ALL[name]()))
    tags = Tags(text)
    assert not {tag for tag, _ in tags.seen} & {"script", "iframe", "img", "link", "object", "embed"}
    assert not any(key.startswith("on") or key in {"src", "href"} for _, attrs in tags.seen for key in attrs)
    assert "<script>alert" not in text


def test_hostile_names_are_inert_in_markdown() -> None:
    """No tag, link or mention survives."""
    text = page_markdown.render(page_of(gates.stored()))
    assert "<script>" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "@all" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("name", gates.ALL)
def test_json_holds_finite_numbers_only(name: str) -> None:
    """And says what the exit code says."""
    data = json.loads(json.dumps(to_json(gates.ALL[name]()), allow_nan=False))
    assert data["exit"] in (*data["exits"], 0)


def test_the_picture_has_a_line_for_each_metric_that_decides() -> None:
    """Three intervals and their names, over what each one's own margin allows."""
    (figure,) = page_of(gates.passed()).figures
    assert figure.svg.count(' thick"') == 3
    allowed = re.findall(r'class="line allowed" d="M([\d.]+) [\d.]+L([\d.]+)', figure.svg)
    widths = [float(end) - float(start) for start, end in allowed]
    assert widths[0] == widths[1] < widths[2]  # 5 %, 5 %, 10 %
    for name in ("TPOT p50", "TPOT p99", "TTFT p90"):
        assert name in figure.svg
