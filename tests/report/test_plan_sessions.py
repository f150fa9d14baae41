"""What a plan says of its sessions and of patience."""

from __future__ import annotations

import json

import numpy as np

from slobench.names import NULL
from slobench.plan import build_plan
from slobench.report.plan import describe, render, to_json
from tests.test_plan_sessions import AGENT, CHAT, PLAIN, workload


def test_sessions_are_described_by_class() -> None:
    """Numbers are those of the plan; a class without sessions says nothing of them."""
    made = workload(duration="60s", classes={"plain": PLAIN, "chat": CHAT, "agent": AGENT})
    plan = build_plan(made, 3)
    facts = describe(plan, made, 3)
    chat, agent = facts.classes["chat"], facts.classes["agent"]
    assert facts.classes["plain"].sessions is None
    assert facts.classes["plain"].patience is None
    assert chat.sessions is not None
    assert chat.patience is not None
    assert agent.sessions is not None
    mine = plan.class_code == 1
    assert plan.patience_ns is not None
    assert chat.sessions.sessions == len(np.unique(plan.session[mine]))
    assert chat.sessions.followers == int((plan.scheduled_ns[mine] == NULL).sum())  # type: ignore[index]
    assert (chat.sessions.requests_max, chat.sessions.joins) == (5, 0)
    assert agent.sessions.requests_mean == 4
    assert agent.sessions.joins == agent.sessions.sessions
    assert chat.patience.share == np.mean(plan.patience_ns[mine] != NULL)
    assert json.loads(to_json(facts))["classes"]["agent"]["sessions"]["joins"] == agent.sessions.joins


def test_sessions_are_worded() -> None:
    """The rate is one of sessions, and their size, waits and patience are told."""
    made = workload(classes={"chat": CHAT})
    text = render(describe(build_plan(made, 3), made, 3))
    assert "sessions/s (asked 5)" in text
    assert "requests (p50 3  p99 5  max 5)" in text
    assert "then cancelled" in text
    assert max(map(len, text.splitlines())) <= 80
