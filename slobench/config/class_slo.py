"""SLO clauses that stand with a class: put where the others stand, each with its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slobench.config.document import KeyPath


def moved(data: Any) -> tuple[Any, dict[KeyPath, KeyPath]]:
    """Return workload data with the classes' clauses behind the workload's, and where each of them stood.

    `classes: {chat: {slo: [ttft<1s]}}` becomes `slo: [class=chat ttft<1s]`. What is no list of texts stays where it
    is, for the checks of types to tell.
    """
    classes, common = (data.get("classes"), data.get("slo", ())) if isinstance(data, Mapping) else (None, ())
    if not isinstance(classes, Mapping) or not isinstance(common, list | tuple):
        return data, {}
    places: dict[KeyPath, KeyPath] = {}
    clauses, kept = list(common), dict(classes)
    for name, spec in classes.items():
        own = spec.get("slo") if isinstance(spec, Mapping) else None
        if not isinstance(own, list | tuple) or not own or not all(isinstance(each, str) for each in own):
            continue
        kept[name] = {key: value for key, value in spec.items() if key != "slo"}
        for at, clause in enumerate(own):
            places[("slo", len(clauses))] = ("classes", name, "slo", at)
            clauses.append(f"class={name} {clause}")
    return ({**data, "classes": kept, "slo": tuple(clauses)} if places else data), places
