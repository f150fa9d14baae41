"""Where a workload, a target or an SLO preset named on the command line lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import slobench
from slobench.config.problems import clip, unknown
from slobench.errors import ConfigError

Kind = Literal["workload", "target", "slo", "experiment"]

_WORDS: dict[Kind, str] = {
    "workload": "workload",
    "target": "target",
    "slo": "SLO preset",
    "experiment": "experiment",
}
_CLAUSE_OR = "a clause, e.g. ttft<500ms, or "
_SUFFIXES = (".yaml", ".yml")
RENAMED = {("workload", "code"): "code-completion"}
"""Names that files which come with slobench had before, and have now; nearer files of the old name come first."""


def folders(kind: Kind) -> tuple[Path, ...]:
    """Return the folders searched for names, nearest first: the user's, then those that come with slobench."""
    package = Path(slobench.__file__).parent
    shipped = package / "data" / f"{kind}s"
    if (package.parent / "pyproject.toml").is_file():  # a checkout, where the wheel's data still lies at the root
        shipped = package.parent / f"{kind}s"
    own = Path.cwd() / f"{kind}s"
    return (own, shipped) if own != shipped else (own,)


def names(kind: Kind) -> list[str]:
    """Return the names that can be used without a path, sorted."""
    return sorted({file.stem for folder in folders(kind) for file in folder.glob("*") if file.suffix in _SUFFIXES})


def find(kind: Kind, name_or_path: str) -> Path:
    """Return the file of a name or path; ConfigError with the known names where there is none."""
    if not name_or_path.strip() or "\0" in name_or_path or len(name_or_path) > 1000:
        raise ConfigError(
            f"{clip(name_or_path)} is no {_WORDS[kind]}\n  expected  a name or a file: {', '.join(names(kind))}"
        )
    path = Path(name_or_path)
    if os.sep in name_or_path or path.suffix in _SUFFIXES:
        return path
    candidates = [folder / f"{name_or_path}{suffix}" for folder in folders(kind) for suffix in _SUFFIXES]
    for candidate in [*candidates, path]:
        try:
            if candidate.is_file():
                return candidate
        except OSError:  # a name too long for a file
            continue
    if (kind, name_or_path) in RENAMED:
        return find(kind, RENAMED[kind, name_or_path])
    told = unknown(f"no {_WORDS[kind]} named", name_or_path, names(kind))
    raise ConfigError(f"{told}\n  or        {_CLAUSE_OR if kind == 'slo' else ''}a file: {kind}s/NAME.yaml")
