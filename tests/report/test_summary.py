import math
from dataclasses import replace

import orjson

from slobench.metrics.summary import Estimate
from slobench.report.summary import of_summary, to_json
from slobench.report.view import RunView
from tests.report import fixtures


def test_json_has_the_documented_shape(view: RunView) -> None:
    """`run --json` has the keys of the command reference, in their order, findings and estimates included."""
    shown = to_json(view)
    assert list(shown)[:7] == ["verdict", "exit", "findings", "slo", "latency", "load", "errors"]
    assert shown["out"] == "results/chat-20261124-1200"
    assert {"code", "level", "seen", "limit", "text"} <= set(shown["findings"][0])
    assert {"attainment", "low", "high", "met"} <= set(shown["slo"]["chat"])
    assert {"value", "low", "high", "n_eff"} <= set(shown["latency"]["ttft"]["p99"])


def test_numbers_that_are_not_finite_are_null_and_said_so(view: RunView) -> None:
    """A quantile that failures reach is null with `infinite: true`; no data is null alone; neither is ever 0."""
    summary = replace(
        view.summary, latency={"all": {"ttft": {"p50": Estimate(None), "p99": Estimate(math.inf, 0.3, math.inf)}}}
    )
    shown = of_summary(summary)["latency"]["ttft"]
    assert (shown["p50"]["value"], "infinite" in shown["p50"]) == (None, False)
    assert (shown["p99"]["value"], shown["p99"]["low"], shown["p99"]["high"], shown["p99"]["infinite"]) == (
        None,
        0.3,
        None,
        True,
    )


def test_json_is_strict_and_survives_a_round_trip(view: RunView) -> None:
    """The value is plain JSON: what is parsed back equals what was written, hostile texts included."""
    shown = to_json(view)
    assert orjson.loads(orjson.dumps(shown)) == shown
    assert f"500 {fixtures.HOSTILE}" in shown["errors"]["http_error"]
