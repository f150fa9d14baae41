"""A resolved configuration as YAML, each value with where it came from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from slobench.config.document import KeyPath
from slobench.config.find import names
from slobench.config.load import Loaded, load_target, load_workload, public, route_sets
from slobench.config.presets import expand, load_preset
from slobench.config.problems import dotted
from slobench.errors import UsageError


def show(loaded: Loaded[BaseModel]) -> str:
    """Word a configuration as YAML that loads to the same value (hidden secrets apart), origins as comments."""
    lines = list(_lines(public(loaded.value), (), loaded.origin))
    width = min(max((len(text) for text, _ in lines), default=0), 60)
    return "".join(f"{text:<{width}}  # {origin}\n" if origin else f"{text}\n" for text, origin in lines)


def _lines(value: Mapping[str, Any], path: KeyPath, origin: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        here = (*path, key)
        head = f"{'  ' * len(path)}{_flow(key)}:"
        if isinstance(item, Mapping) and item:
            yield head, ""
            yield from _lines(item, here, origin)
        else:
            yield f"{head} {_flow(item)}", origin.get(dotted(here), "")


def _flow(value: Any) -> str:
    """One value on one line; a scalar's YAML ends with the mark `...`, which is cut off."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def show_all(workload: str | None, target: str | None, sets: Sequence[str], slo: Sequence[str] = ()) -> str:
    """Load and word a workload, a target and SLO clauses (each may be left out); UsageError where none is named."""
    if workload is None and target is None and not slo:
        raise UsageError(
            "nothing to show\n  expected  a workload or a target, e.g. slobench config show chat --target sim\n"
            f"  workloads {', '.join(names('workload'))}\n  targets   {', '.join(names('target'))}\n"
            f"  SLOs      {', '.join(names('slo'))}"
        )
    if workload is not None and target is not None:
        for_workload, for_target = route_sets(sets)
    else:
        for_workload = for_target = tuple(sets)
    parts = []
    if workload is not None:
        parts.append(f"# workload\n{show(load_workload(workload, for_workload))}")
    if target is not None:
        parts.append(f"# target\n{show(load_target(target, for_target))}")
    if slo:
        parts.append(f"# slo\n{''.join(_slo_lines(slo))}")
    return "---\n".join(parts)


def _slo_lines(texts: Sequence[str]) -> Iterator[str]:
    """Presets with their words, then all clauses as a workload's `slo`."""
    found = expand(texts)
    for name in found.presets:
        preset = load_preset(name)
        words = ((f"{name}:", preset.about), ("Source:", preset.source))
        for head, text in words:
            yield textwrap.fill(f"{head} {text}", 100, initial_indent="# ", subsequent_indent="#   ") + "\n"
    yield "slo:\n"
    yield from (f"  - {_flow(clause)}\n" for clause in found.clauses)
