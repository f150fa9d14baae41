"""Prompt sharing of a run as it went: without what was never sent, in the order in which it was sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from slobench.config.workload import Workload
from slobench.plan import Plan, build_plan
from slobench.plan_sharing import told_sharing
from slobench.report.sharing import sharing_as_sent
from slobench.workload.sharing import Cache

CHATS = Workload.model_validate(
    {
        "name": "chats",
        "requests": 60,
        "classes": {
            "chat": {
                "arrivals": {"process": "poisson", "rate": 2},
                "input_tokens": {"dist": "constant", "value": 64},
                "output_tokens": {"dist": "constant", "value": 32},
                "session": {
                    "turns": {"dist": "constant", "value": 4},
                    "think_time": {"dist": "constant", "value": "5s"},
                },
            }
        },
    }
)


def told(plan: Plan) -> dict[str, Any]:
    found = told_sharing(plan, CHATS, Cache(16))
    assert found is not None
    return found


def started(plan: Plan, *, sent: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Every turn 10 s after the one before; null where it was not sent."""
    root = plan.scheduled_ns[plan.turn == 0][plan.session]
    at = root + plan.turn * 10 * 10**9
    return {"started_ns": np.where(sent, at.astype(np.float64), np.nan)}


def test_turns_that_were_never_sent_share_nothing() -> None:
    """Of sessions cut after their first turn nothing is shared, though the plan shares most of its tokens."""
    plan = build_plan(CHATS, 0)
    planned = told(plan)
    assert planned["hit_tokens"] / planned["tokens"] > 0.5
    assert sharing_as_sent(planned, started(plan, sent=plan.turn == 0), plan.to_arrow(), CHATS) is None


def test_half_the_turns_share_what_their_own_plan_would() -> None:
    """Two turns of four: the second finds the whole blocks of the first, and nothing else is asked of the cache."""
    plan = build_plan(CHATS, 0)
    kept = plan.turn < 2
    found = sharing_as_sent(told(plan), started(plan, sent=kept), plan.to_arrow(), CHATS)
    assert found is not None
    assert found["requests"] == int(kept.sum())
    assert found["tokens"] == int(plan.input_tokens[kept].sum())
    assert found["hit_tokens"] == 64 * int((plan.turn == 1).sum())


def test_what_was_sent_as_planned_is_left_as_it_is() -> None:
    """All sent in the order of the plan: the very value that the trial wrote down."""
    plan = build_plan(CHATS, 0)
    planned = told(plan)
    in_order = {"started_ns": np.arange(len(plan), dtype=np.float64)}
    assert sharing_as_sent(planned, in_order, plan.to_arrow(), CHATS) is planned


def test_order_of_sending_decides_what_is_found() -> None:
    """Sent backwards, the shorter prompts lie whole in the cache, but for the last block, which is always computed."""
    plan = build_plan(CHATS, 0)
    planned = told(plan)
    assert planned["hit_tokens"] == 15 * (64 + 160 + 256)
    backwards = {"started_ns": np.arange(len(plan), 0, -1, dtype=np.float64)}
    found = sharing_as_sent(planned, backwards, plan.to_arrow(), CHATS)
    assert found is not None
    assert found["hit_tokens"] == 15 * (240 + 144 + 48)
