"""The documentation says what the code does: every command, flag, code, outcome and column; links and examples hold."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from slobench import names
from slobench.cli.main import GROUPS
from slobench.config.flags import RunFlags, workload_from_flags
from slobench.config.load import load_experiment, load_target, load_workload
from slobench.config.margins import load_margins
from slobench.config.presets import expand, load_preset
from slobench.config.slo import parse_slo
from slobench.metrics import validity
from slobench.metrics.ask import Thresholds
from slobench.records import schema
from tests.report.xsd import faults

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "results" / "README.md"])
REFERENCE = ROOT / "docs" / "reference.md"
METRICS = ROOT / "docs" / "metrics.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODES = [f"V{number:02d}" for number in range(1, 22)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def reference() -> ModuleType:
    """scripts/reference.py as a module."""
    path = ROOT / "scripts" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


@cache
def flags() -> dict[str, set[str]]:
    """Command -> its flags, from the code."""
    module = reference()
    found = {}
    for command, (part, function) in module.COMMANDS.items():
        rows = module.parameters(getattr(importlib.import_module(f"slobench.cli.{part}"), function))
        found[command] = {flag for row in rows for flag in re.findall(r"`(--[a-z-]+)`", row[0])}
    return found


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub does."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """Every slobench command in the page's code blocks, as words."""
    found = []
    for kind, block in FENCE.findall(page.read_text()):
        if kind in {"", "sh", "bash", "console"}:
            for line in block.splitlines():
                at = re.match(r"(?:\.venv/bin/)?slobench (.+)", line)
                if at:
                    found.append(shlex.split(at[1], comments=True))
    return found


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """The command's name and what follows it."""
    return (" ".join(words[:2]), words[2:]) if words[0] in GROUPS else (words[0], words[1:])


def test_the_reference_is_up_to_date() -> None:
    """The generated blocks are what scripts/reference.py makes of the code now."""
    assert reference().rewritten(REFERENCE.read_text()) == REFERENCE.read_text()


def test_every_command_is_listed() -> None:
    """The commands of the reference are those that `slobench --help` lists."""
    from slobench.cli.main import _COMMANDS

    assert {name.split()[0] for name in reference().COMMANDS} == {*_COMMANDS, *GROUPS}


@pytest.mark.parametrize("command", reference().COMMANDS)
def test_every_flag_is_documented(command: str) -> None:
    """Each flag of a command stands in its section of the reference."""
    section = re.split(r"^### ", REFERENCE.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"slobench {command}\n")]
    assert flags()[command] <= set(re.findall(r"`(--[a-z-]+)`", text))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("outcome", [str(each) for each in names.Outcome]),
        ("exit code", [str(each.value) for each in names.Exit]),
        ("threshold", list(Thresholds.model_fields)),
        ("column of requests", schema.REQUESTS.names),
        ("column of chunks", schema.CHUNKS.names),
        ("column of plan", schema.PLAN.names),
        ("column of telemetry", schema.TELEMETRY.names),
        ("worker metric", list(schema.WORKER_METRICS)),
        ("server metric", list(schema.SERVER_METRICS)),
        ("GPU metric", list(schema.GPU_METRICS)),
        ("host metric", list(schema.HOST_METRICS)),
    ],
)
def test_every_name_is_documented(kind: str, words: list[str]) -> None:
    """Each outcome, exit code, threshold and column opens a row of the reference."""
    rows = set(re.findall(r"^\| `([^`]+)` \|", REFERENCE.read_text(), re.MULTILINE))
    assert set(words) <= rows, kind


@pytest.mark.parametrize("code", CODES)
def test_every_finding_code_is_documented(code: str) -> None:
    """Each validity code has one row in docs/metrics.md that ends with what to do."""
    rows = re.findall(rf"^\| {code} \|.*\|$", METRICS.read_text(), re.MULTILINE)
    assert len(rows) == 1
    assert rows[0].rstrip(" |").rpartition("|")[2].strip()


def test_codes_in_the_code_are_known_ones() -> None:
    """No check uses a code that the documentation does not list, and those marked "not made yet" are not made."""
    checks = Path(validity.__file__).parent.glob("checks_*.py")
    made = {code for path in checks for code in re.findall(r'Check\("(V\d\d)"', path.read_text())}
    unmade = set(re.findall(r"^\| (V\d\d) \|.*not made yet \|$", METRICS.read_text(), re.MULTILINE))
    assert made == set(CODES) - unmade


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    """Every link to a file leads to one, and every anchor to a heading."""
    broken = []
    text = FENCE.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        aim = (page.parent / path).resolve() if path else page
        if not aim.exists() or (anchor and anchor not in anchors(aim)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_use_commands_and_flags_that_exist(page: Path) -> None:
    """Each slobench command in a code block exists, with the flags that it is given."""
    for words in commands(page):
        command, rest = command_of(words)
        assert command in flags(), words
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= flags()[command] | {"--help"}, words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_can_be_read(page: Path) -> None:
    """Lengths, rates and SLO clauses in examples are such as `run` takes."""
    for words in commands(page):
        command, rest = command_of(words)
        values = dict(itertools.pairwise(rest))
        parse_slo(expand([after for word, after in itertools.pairwise(rest) if word == "--slo"]).clauses)
        if command == "run" and (not rest or rest[0].startswith("--")):
            workload_from_flags(
                RunFlags(
                    arrivals=values.get("--arrivals"),
                    rate=values.get("--rate"),
                    duration=values.get("--duration"),
                    input_tokens=values.get("--input-tokens"),
                    output_tokens=values.get("--output-tokens"),
                )
            )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_yaml_examples_are_valid(page: Path, tmp_path: Path) -> None:
    """Each whole workload, target, SLO preset or list of clauses in a YAML block is read without an error."""
    for kind, block in FENCE.findall(page.read_text()):
        if kind != "yaml":
            continue
        found = yaml.safe_load(block)
        path = tmp_path / "example.yaml"
        path.write_text(block)
        if found.get("kind") == "slo":
            load_preset(str(path))
        elif found.get("kind") == "margins":
            load_margins(path)
        elif "kind" in found:
            load_target(str(path))
        elif "targets" in found:
            load_experiment(str(path))
        elif "classes" in found:
            load_workload(str(path))
        elif "slo" in found:
            parse_slo(expand(found["slo"]).clauses)


def recipes() -> dict[str, list[str]]:
    """CI job of docs/how-to/gate-ci.md -> its commands, but for those that install."""
    found = {}
    for kind, block in FENCE.findall((ROOT / "docs" / "how-to" / "gate-ci.md").read_text()):
        for name, job in (yaml.safe_load(block) if kind == "yaml" else {}).items():
            steps = job.get("gate", {}).get("steps", ()) if name == "jobs" else ()
            script = [step["run"] for step in steps if "run" in step]
            script += job.get("script", ()) if isinstance(job, dict) else ()
            if script:
                found[name] = [line for line in script if not line.startswith("pip install")]
    return found


@pytest.mark.parametrize("job", ["jobs", "performance"])
def test_ci_recipes_run(job: str, tmp_path: Path) -> None:
    """The commands of the GitHub and GitLab jobs pass as they stand, and leave what the jobs collect."""
    summary = tmp_path / "summary.md"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": str(summary)}
    for line in recipes()[job]:
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert faults((tmp_path / "results" / "junit.xml").read_text(), ROOT / "tests" / "report" / "junit.xsd") == []
    assert "# gate sim" in summary.read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    """Each `make X` in a page is a rule of the Makefile."""
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
    assert asked <= rules


def test_the_readme_names_its_two_commands() -> None:
    """A new user finds `make run` and `make test` in the README's first code block."""
    first = FENCE.findall((ROOT / "README.md").read_text())[0][1]
    assert re.findall(r"^make (\w+)", first, re.MULTILINE) == ["run", "test"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_words_are_plain(page: Path) -> None:
    """No filler of advertisements."""
    filler = (
        r"\b(powerful|seamless(ly)?|robust|blazing(ly)?|cutting-edge|leverag\w+|comprehensive|effortless(ly)?|simply)\b"
    )
    assert not re.findall(filler, page.read_text(), re.IGNORECASE)


def test_the_glossary_is_in_order() -> None:
    """Terms are alphabetic, each defined once."""
    terms = re.findall(r"^\*\*([^*]+)\*\*:", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert terms == sorted(set(terms), key=lambda term: re.sub(r"[^a-z0-9]", " ", term.lower()))
