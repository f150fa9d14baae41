"""The self-test in words."""

from __future__ import annotations

from pathlib import Path

import orjson

from slobench.experiment.selftest import Envelope
from slobench.experiment.selftest_step import Seen
from slobench.report import selftest

GOOD = Seen("requests", 800, "good", 1.0, 0.0003, 1e-5, 0.0002, 0.3, 0.1)
PAST = Seen("requests", 1600, "past", 0.91, 0.08, 1e-5, 0.007, 1.0, 0.2, "91.0 % of replies on time")
UNSEEN = Seen("streams", 4000, "past", None, None, None, None, None, None, "nothing came")


def envelope(**changes: object) -> Envelope:
    """A result in which the streams did not hold."""
    values = {
        "workers": 2, "cores": 2, "receiver": "native", "levels": (GOOD, PAST, UNSEEN), "open_ended": frozenset({"tokens"}), "took_s": 50.0,
        "held": {"requests": 800.0, "tokens": 40_000.0, "streams": None},
        "exact": {"requests": 800.0, "tokens": 20_000.0, "streams": None},
        "load_average": 0.2, "busy": False, "path": None,
    }  # fmt: skip
    return Envelope(**{**values, **changes})


def test_the_text_says_what_held_and_why_not():
    """Levels, the envelope of each kind, what the rest was short of, that the cores are shared."""
    text = "\n".join(selftest.lines(envelope()))
    assert "2 workers (native receiver) on 2 cores, which the null server shares" in text
    assert "past: 91.0 % of replies on time" in text
    assert "800 (TTFT error p99 within 5.00 ms; all of it within 1.00 ms)" in text
    assert "40,000 or more: no level failed in the time there was" in text
    assert "20,000 within 1.00 ms" in text
    assert "not even the lowest level held" in text
    assert "Not kept" in text
    assert "–" in text


def test_the_text_says_where_it_was_kept():
    """And what for."""
    text = "\n".join(selftest.lines(envelope(path=Path("/state/ceiling.json"))))
    assert "V16" in text
    assert "saved  /state/ceiling.json" in text


def test_the_text_says_why_it_was_not_kept():
    """Others' work makes the envelope too small."""
    assert "load average 9.0" in "\n".join(selftest.lines(envelope(busy=True, load_average=9.0)))


def test_the_json_has_the_same_and_unknown_is_null():
    """Absent is null, never 0."""
    found = orjson.loads(orjson.dumps(selftest.to_json(envelope())))
    assert found["envelope"]["streams"] == {"usable": None, "good": None, "open_ended": False}
    assert found["levels"][2]["ttft_error_p99_s"] is None
    assert found["complete"] is False
