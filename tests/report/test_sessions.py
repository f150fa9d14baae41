"""The table of sessions, in every form of the report."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from slobench.metrics.summary import SessionFacts
from slobench.report import console, html, markdown
from slobench.report.outcomes import outcome_words
from slobench.report.sessions import session_table
from slobench.report.summary import to_json
from slobench.report.view import RunView
from tests.report import fixtures

FACTS = SessionFacts(
    begun=323,
    complete=301,
    broken_off=17,
    unfinished=5,
    not_sent=41,
    per_s=0.512,
    requests_mean=4.38,
    e2e_s={"p50": fixtures.estimate(48.2), "p99": fixtures.estimate(171.0, note="thin")},
)


@pytest.fixture
def view() -> RunView:
    """A run of which one class has sessions."""
    made = fixtures.view()
    outcomes = {**made.summary.outcomes, "all": {"ok": 700, "unsent": 60}}
    return replace(made, summary=replace(made.summary, sessions={"chat": FACTS}, outcomes=outcomes))


def test_a_run_without_sessions_has_no_table_of_them() -> None:
    """Nothing is said where nothing follows anything."""
    plain = fixtures.view()
    assert session_table(plain) is None
    assert "Sessions" not in markdown.render(plain)
    assert "sessions" not in to_json(plain)


def test_every_form_has_the_numbers(view: RunView) -> None:
    """Console within 80 columns, Markdown, HTML and JSON."""
    out = io.StringIO()
    console.render(view, Console(file=out, width=80, highlight=False))
    for text in (out.getvalue(), markdown.render(view), html.render(view)):
        assert "Sessions" in text
        for number in ("323", "0.512", "4.38", "301", "17", "41", "48.2"):
            assert number in text
    assert max(map(len, out.getvalue().splitlines())) <= 80
    found = json.loads(json.dumps(to_json(view)))["sessions"]["chat"]
    assert (found["not_sent"], found["e2e_s"]["p50"]["value"]) == (41, 48.2)


def test_what_was_never_sent_is_told_apart(view: RunView) -> None:
    """Of what is unsent, some would have followed in a session that was broken off; the rest is spare."""
    run = {**view.run, "run": {**view.run["run"], "by": "duration", "stop": "complete"}}
    assert outcome_words(replace(view, run=run), " · ").endswith("unsent 60 (41 of sessions broken off, 19 spare)")
    whole = replace(view, run=run, summary=replace(view.summary, sessions={}))
    assert outcome_words(whole, " · ").endswith("unsent 60 (spare, for a longer drain)")


def test_notes_are_there_where_they_mean_something(view: RunView) -> None:
    """Nothing is said of broken or open sessions where there is none."""
    calm = replace(FACTS, broken_off=0, unfinished=0, not_sent=0)
    table = session_table(replace(view, summary=replace(view.summary, sessions={"chat": calm})))
    assert table is not None
    assert not [note for note in table.notes if note.startswith(("broken", "open"))]
    full = session_table(view)
    assert full is not None
    assert len(full.notes) == len(table.notes) + 2
