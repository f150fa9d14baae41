"""The endpoint of each class, and limits that no reply of a class can be judged by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slobench.config.slo import parse_slo
from slobench.config.target import Talk
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.experiment.endpoints import class_endpoints, refuse_unjudgeable
from slobench.wire.endpoint import Endpoint

CONSTANT = {"dist": "constant", "value": 4}
TARGET = Endpoint(
    url="http://h",
    model="base",
    headers={"Authorization": "Bearer k", "X-Team": "a"},
    extra_body={"seed": 1, "top_k": 5},
    token_ids=(100, 4000),
    forces_length=True,
    cache_salt=True,
    total_timeout_ns=7,
)


def workload(**classes: dict[str, Any]) -> Workload:
    """A workload of classes that have no more than this of their own."""
    arrivals = {"arrivals": {"process": "poisson", "rate": 1.0}, "input_tokens": CONSTANT}
    given = {
        name: arrivals | ({} if spec.get("api") == "embeddings" else {"output_tokens": CONSTANT}) | spec
        for name, spec in classes.items()
    }
    return Workload.model_validate({"name": "w", "requests": 5, "classes": given})


def endpoint_of(**own: Any) -> Endpoint:
    """The endpoint of a class with this of its own."""
    return class_endpoints(workload(only=own), TARGET)[0]


def test_a_class_with_nothing_of_its_own_has_the_targets_endpoint() -> None:
    """Equal in all."""
    assert class_endpoints(workload(a={}, b={"priority": 3}), TARGET) == (TARGET, TARGET)


@pytest.mark.parametrize(
    ("own", "changed"),
    [
        ({"model": "lora"}, {"model": "lora"}),
        ({"headers": {"x-team": "b", "y": "1"}}, {"headers": {"Authorization": "Bearer k", "x-team": "b", "y": "1"}}),
        ({"headers": {"AUTHORIZATION": "z"}}, {"headers": {"X-Team": "a", "AUTHORIZATION": "z"}}),
        ({"extra_body": {"top_k": None, "tools": []}}, {"extra_body": {"seed": 1, "top_k": None, "tools": []}}),
        ({"api": "chat"}, {"api": "chat", "token_ids": None}),
        ({"api": "responses"}, {"api": "responses", "token_ids": None}),
        ({"api": "embeddings"}, {"api": "embeddings", "stream": False, "forces_length": False}),
        ({"extra_body": {"ignore_eos": None}}, {"extra_body": dict(TARGET.extra_body) | {"ignore_eos": None},
                                                "forces_length": False}),
    ],
)  # fmt: skip
def test_what_a_class_has_of_its_own(own: dict[str, Any], changed: dict[str, Any]) -> None:
    """It stands in place of the target's, and what follows from it: text, no stream, no forced length."""
    assert endpoint_of(**own) == replace(TARGET, **changed)


def test_a_chat_target_gives_text_to_its_completions_too() -> None:
    """Where the target has no ids, no class has."""
    chat = replace(TARGET, api="chat", token_ids=None)
    assert class_endpoints(workload(a={"api": "completions"}), chat)[0] == replace(chat, api="completions")


@pytest.mark.parametrize(
    ("clauses", "talk", "told"),
    [
        (("ttft<1s",), {}, "ttft cannot be judged for class embed"),
        (("class=embed tpot<1s, e2e<1s",), {}, "tpot cannot be judged for class embed"),
        (("class=embed deadline(1s, 50ms)",), {}, "deadline cannot be judged for class embed"),
        (("ttft:p99<1s",), {}, "ttft cannot be judged for class embed"),
        (("class=chat ttft<1s", "e2e<9s", "attainment>=9%", "class=embed e2e<1s"), {}, None),
        (("class=chat ttft<1s",), {"stream": False}, "ttft cannot be judged where replies are not streamed"),
        (("class=chat ttft<1s",), {"api": "embeddings"}, "ttft cannot be judged for class chat"),
        (("class=chat e2e<1s",), {"api": "embeddings"}, None),
    ],
)
def test_limits_that_no_reply_can_be_judged_by(clauses: tuple[str, ...], talk: dict[str, Any], told: str | None):
    """An embedding has E2E only: the limits of a stream are refused by the class's name, others are not."""
    offered = workload(chat={}, embed={"api": "embeddings"})
    slo = parse_slo(clauses, ("chat", "embed"))
    if told is None:
        refuse_unjudgeable(slo, offered, Talk(**talk))
    else:
        with pytest.raises(ConfigError, match=told):
            refuse_unjudgeable(slo, offered, Talk(**talk))
