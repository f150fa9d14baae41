"""Write results into docs/validation.md, under today's date: here those of the long tests against a real vLLM.

pytest -m long --junitxml=build/validation.xml tests/e2e; python scripts/validation.py build/validation.xml
"""

from __future__ import annotations

import platform
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "validation.md"
MARK = "<!-- results, newest first -->\n"


def section(report: Path) -> str:
    """One dated section: a row for each test, its figures beneath."""
    lines = [f"### {time.strftime('%Y-%m-%d')}", "", f"Python {platform.python_version()}, {platform.machine()}.", ""]
    for case in ET.parse(report).iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        state = "FAILED" if bad else "skipped" if case.find("skipped") is not None else "passed"
        name = (case.get("name") or "").removeprefix("test_").replace("_", " ")
        lines += [f"- {name}: {state} in {float(case.get('time') or 0):.0f} s"]
        lines += [f"  - {each.get('name')}: {each.get('value')}" for each in case.iter("property")]
    return "\n".join(lines) + "\n\n"


def replaced(page: str, name: str, text: str) -> str:
    """The page with `text` between its marks `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"{PAGE} has no lines {begin.strip()!r} and {end!r}")
    return f"{before}{begin}\n{text.strip()}\n\n{end}{after}"


def main() -> None:
    """Put the section of the report named on the command line at the top of the page."""
    text = PAGE.read_text()
    if MARK not in text:
        raise SystemExit(f"{PAGE} has no line {MARK.strip()!r}")
    PAGE.write_text(text.replace(MARK, MARK + "\n" + section(Path(sys.argv[1])).rstrip() + "\n", 1))


if __name__ == "__main__":
    main()
