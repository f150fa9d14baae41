"""A workload beside its target: what the target's API means for the classes that have none of their own."""

from __future__ import annotations

from dataclasses import replace

from slobench.config.lengths import NoTokens
from slobench.config.load import AnyTarget, Loaded, check_workload, given_again, put
from slobench.config.workload import Workload
from slobench.errors import ConfigError


def fitted(workload: Loaded[Workload], target: Loaded[AnyTarget]) -> Loaded[Workload]:
    """Return the workload with no output where the target's API makes none; ConfigError where output is missing."""
    api, place = target.value.talk.api, target.origin.get("talk.api", "default")
    open_classes = {name: spec for name, spec in workload.value.classes.items() if spec.api is None}
    if api != "embeddings":
        without = next((name for name, spec in open_classes.items() if isinstance(spec.output_tokens, NoTokens)), None)
        if without is not None:
            raise ConfigError(
                f"class {without} has no output tokens, and the target's API is {api}\n"
                "  expected  lengths in its `output_tokens`, or `api: embeddings`"
            )
        return workload
    given = given_again(workload)
    for name in open_classes:
        given = put(given, ("classes", name, "output_tokens"), {"dist": "none"}, place)
    checked = check_workload(given, "target", workload.path)
    return replace(checked, notes=workload.notes)
