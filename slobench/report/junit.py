"""A gate as JUnit XML: one test case a metric and class, the numbers in its output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from slobench.experiment.gated import Gated
from slobench.metrics.gate import Dropped, Tested
from slobench.report import words
from slobench.report.compare import quantity_name
from slobench.report.gate import statement, verdict

# What XML 1.0 cannot hold at all.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(gated: Gated) -> str:
    """Return the report. A metric that is worse is a failure, one that is not decided an error of the suite's verdict.

    Metrics that only are shown pass, whatever they show. The first case is the gate's own verdict.
    """
    cases = [_whole(gated), *(_metric(gated, test) for test in gated.judgement.tests), *_attainments(gated)]
    failures = sum(case.find("failure") is not None for case in cases)
    errors = sum(case.find("error") is not None for case in cases)
    name = _text(f"slobench gate {gated.names[1]} against {gated.names[0]}")
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    root = ET.Element("testsuites", {"name": name, **counts, "time": "0"})
    suite = ET.SubElement(root, "testsuite", {"name": name, **counts, "skipped": "0", "time": "0"})
    suite.extend(cases)
    out = ET.SubElement(suite, "system-out")
    out.text = _text(statement(gated))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(name: str, of_class: str, numbers: str) -> ET.Element:
    case = ET.Element("testcase", {"classname": _text(f"slobench.gate.{of_class}"), "name": _text(name), "time": "0"})
    out = ET.SubElement(case, "system-out")
    out.text = _text(numbers)
    return case


def _put(case: ET.Element, kind: str, message: str, why: str) -> ET.Element:
    """Put a failure or an error before the output, where the schema wants it."""
    mark = ET.Element(kind, {"message": _text(message), "type": "regression" if kind == "failure" else "undecided"})
    mark.text = _text(why)
    case.insert(0, mark)
    return case


def _whole(gated: Gated) -> ET.Element:
    word, meaning, _ = verdict(gated)
    case = _case("verdict", "all", statement(gated))
    if word == "FAIL":
        return _put(case, "failure", f"{word}: {meaning}", meaning)
    good = word in {"PASS", "QUIET ENOUGH"}
    return case if good else _put(case, "error", f"{word}: {meaning}", gated.command or meaning)


def _metric(gated: Gated, test: Tested) -> ET.Element:
    name = quantity_name(test.quantity.key) + ("" if test.decides else " (shown only)")
    numbers = numbers_of(test)
    case = _case(name, test.of_class, numbers)
    if not test.decides or gated.mode == "aa":
        return case
    if test.outcome == "worse":
        return _put(case, "failure", f"{(test.ratio - 1) * 100:+.2g} %", numbers)
    undecided = test.outcome == "open" and gated.judgement.decision != "FAIL"
    return _put(case, "error", "not decided", numbers) if undecided else case


def numbers_of(test: Tested) -> str:
    """All numbers of one metric on one line."""
    needed = "" if test.needed is None else f", the margin needs {test.needed} pairs"
    return (
        f"base {words.seconds(test.base)}, new {words.seconds(test.new)}, ratio {test.ratio:.4f} "
        f"[{test.low:.4f}, {test.high:.4f}] (95 %), at most {test.upper:.4f}, margin {test.margin:.4f}, "
        f"least {test.least:.4f}, p {test.p:.3g}, sd {test.sd * 100:.3g} %{needed}"
    )


def _attainments(gated: Gated) -> Iterator[ET.Element]:
    for each in gated.judgement.attainment:
        case = _case("attainment", each.of_class, _drop(each))
        yield _put(case, "failure", f"fell by {each.drop * 100:.2f} points", _drop(each)) if each.failed else case


def _drop(each: Dropped) -> str:
    return (
        f"base {words.percent(each.base)}, new {words.percent(each.new)}, drop {each.drop * 100:+.3f} points, "
        f"at least {each.bound * 100:+.3f} points"
    )


def _text(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
