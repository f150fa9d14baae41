"""The plan of the house, held by tests: who may import whom, how large things may be, what may not be there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "slobench"
LEVELS = {
    **dict.fromkeys(("errors", "names", "units", "clock", "pacer", "open_files", "__init__"), 0),
    **dict.fromkeys(("config", "stats", "wire", "records"), 1),
    "workload": 2,
    **dict.fromkeys(("plan", "metrics", "engine"), 3),
    **dict.fromkeys(("segments", "plan_sharing", "generate", "targets", "telemetry"), 4),
    "experiment": 5,
    "report": 6,
    "cli": 7,
    "__main__": 8,
}
ONLY_IN = {
    "aiohttp": ("generate/transport_aiohttp.py", "targets/", "telemetry/", "engine/"),
    "pandas": ("report/", "experiment/"),
    "rich": ("report/console", "cli/"),
    "typer": ("cli/",),
    "vllm": (),
    "torch": (),
}
COMMANDS = {"command", "show", "schema", "root", "inspect", "convert", "fit", "sample"}
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_DEPTH = 350, 60, 7, 2


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def room(path: Path) -> str:
    """The package (or top-level module) that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "slobench":
                yield from (f"slobench.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_package_has_a_level() -> None:
    """A new room must be given its place in the plan."""
    assert {room(path) for path in trees()} <= LEVELS.keys()


def test_imports_go_down() -> None:
    """A package imports lower levels only; packages on one level never import each other."""
    wrong = []
    for path, tree in trees().items():
        here = room(path)
        for name in imports(tree):
            parts = name.split(".")
            if parts[0] != "slobench" or len(parts) < 2 or parts[1] not in LEVELS or parts[1] == here:
                continue
            if LEVELS[parts[1]] >= LEVELS[here] and LEVELS[here] > 0:
                wrong.append(
                    f"{path.relative_to(ROOT)} (level {LEVELS[here]}) imports {name} (level {LEVELS[parts[1]]})"
                )
    assert not wrong, "\n".join(wrong)


def test_no_import_cycle() -> None:
    """Modules never import each other in a circle, not even inside one package."""
    edges: dict[str, set[str]] = {}
    known = {module_name(path) for path in trees()}
    for path, tree in trees().items():
        targets = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("slobench"):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    targets.add(full if full in known else node.module)
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names if alias.name in known}
        edges[module_name(path)] = targets & known
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for target in sorted(edges[name] - {name}):
            walk(target, (*trail, name))
        done.add(name)

    for name in sorted(edges):
        walk(name, ())


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_stay_in_their_rooms(library: str) -> None:
    """Each of these is imported only where the design says."""
    wrong = [
        str(path.relative_to(PACKAGE))
        for path, tree in trees().items()
        if any(name.split(".")[0] == library for name in imports(tree))
        and not str(path.relative_to(PACKAGE)).startswith(ONLY_IN[library] or ("\0",))
    ]
    assert not wrong


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def test_modules_are_small() -> None:
    """No module has more than 350 lines."""
    large = {str(p.relative_to(ROOT)): n for p in trees() if (n := p.read_text().count("\n")) > MOST_LINES}
    assert not large


def is_command(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A CLI command's parameters are its flags."""
    return room(path) == "cli" and node.name in COMMANDS


def test_functions_are_small() -> None:
    """No function has more than 60 lines or 7 parameters; CLI commands, whose parameters are their flags, aside."""
    large = []
    for path, node in functions():
        if is_command(path, node):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        args = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = len([a for a in args if a.arg not in {"self", "cls"}])
        if lines > MOST_FUNCTION_LINES or parameters > MOST_PARAMETERS:
            large.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines, {parameters} parameters")
    assert not large, "\n".join(large)


def test_inheritance_is_shallow() -> None:
    """No class has more than two of our own classes above it."""
    bases = {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    def depth(name: str) -> int:
        return max((1 + depth(base) for base in bases.get(name, []) if base in bases and base != name), default=0)

    # Exceptions and configuration models hang below one root of their own.
    assert not {name: depth(name) for name in bases if depth(name) > MOST_DEPTH + 1}


@pytest.mark.parametrize(
    "word", ["NotImplementedError", r"\bTODO\b", r"\bFIXME\b", r"\bhasattr\(\w+, \"(?!CMSG|sched|O_)"]
)
def test_nothing_is_left_for_later(word: str) -> None:
    """No stub, no note of unfinished work, no dispatch by attribute."""
    found = [str(path.relative_to(ROOT)) for path in trees() if re.search(word, path.read_text())]
    allowed = {"slobench/generate/worker.py"} if "hasattr" in word else set()  # whether the platform has epoll
    assert not set(found) - allowed
