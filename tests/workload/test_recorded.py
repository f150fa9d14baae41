"""Rows of recorded classes: every record once, in its order, and what is left out is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.config.load import load_workload
from slobench.config.recorded import FORMATS, Recorded
from slobench.config.workload import Workload
from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.plan import Plan, build_plan
from slobench.workload.recorded import recorded_rows
from slobench.workload.rows import Rows
from slobench.workload.traces import read as reading
from slobench.workload.traces.own import write_jsonl
from slobench.workload.traces.schema import Trace
from tests.workload.traces.strategies import traces
from tests.workload.traces.writing import (
    AIPERF,
    BURSTGPT_1,
    BURSTGPT_3,
    MOONCAKE,
    SHAREGPT,
    VIDUR,
    jsonl,
    otlp,
    put,
    span,
    usage,
)

S = 10**9


def rows_of(path: Path, *, seed: int = 0, horizon_ns: int | None = None, **spec: Any) -> Rows:
    return recorded_rows(Recorded.model_validate({"file": str(path), **spec}), "a", seed, horizon_ns)


def own(folder: Path, rows: list[dict[str, Any]], **header: Any) -> Path:
    text = json.dumps({"slobench_trace": 1, **header}) + "\n" + jsonl(rows)
    return put(folder / "trace.jsonl", text)


def evenly(folder: Path, n: int, **more: list[Any]) -> Path:
    """n requests a second apart, each with its number as the length of its prompt."""
    rows = [
        {
            "arrival_ns": at * S,
            "input_tokens": at + 1,
            "output_tokens": 1,
            **{key: each[at] for key, each in more.items()},
        }
        for at in range(n)
    ]
    return own(folder, rows)


def test_the_formats_of_the_field_are_those_that_can_be_read() -> None:
    """A format that is read can be named in a workload, and no other."""
    assert set(FORMATS) == {"auto", *reading.FORMATS}


@given(trace=traces(), seed=st.integers(0, 3))
def test_every_record_is_replayed_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, trace: Trace, seed: int
) -> None:
    """Of those that did not fail: recorded times and lengths, nothing doubled, nothing swapped."""
    path = tmp_path_factory.getbasetemp() / "once.jsonl"
    write_jsonl(trace, path)
    kept = trace.numbers("failed") == 0
    if not kept.any():
        with pytest.raises(ConfigError, match="nothing of"):
            rows_of(path, seed=seed)
        return
    rows = rows_of(path, seed=seed)
    assert rows.start_ns.tolist() == trace.numbers("arrival_ns")[kept].tolist()
    for name in ("input_tokens", "output_tokens"):
        assert getattr(rows, name).tolist() == np.maximum(trace.numbers(name)[kept], 1).tolist()
    assert not rows.after.any()
    left_out = [note for note in rows.notes if "failed when they were recorded" in note]
    assert bool(left_out) == (not kept.all())


@given(
    trace=traces(),
    loop=st.integers(1, 3),
    speed=st.sampled_from([0.5, 1.0, 4.0]),
    turns=st.sampled_from(["as-recorded", "after-reply"]),
)
def test_rows_are_sound_whatever_is_asked(
    tmp_path_factory: pytest.TempPathFactory, trace: Trace, loop: int, speed: float, turns: str
) -> None:
    """In order of session start, session and turn; a row waits for rows of its own session before it or has a start."""
    path = tmp_path_factory.getbasetemp() / "sound.jsonl"
    write_jsonl(trace, path)
    if not (trace.numbers("failed") == 0).any():
        return
    rows = rows_of(path, loop=loop, speed=speed, turns=turns)
    assert len(rows) == loop * int((trace.numbers("failed") == 0).sum())
    assert ((rows.start_ns == NULL) == (rows.after != 0)).all()
    assert ((rows.delay_ns == NULL) == (rows.after == 0)).all()
    assert (rows.input_tokens >= 1).all()
    assert (rows.output_tokens >= 1).all()
    for row in np.flatnonzero(rows.after):
        for back in range(1, 63):
            if rows.after[row] >> (back - 1) & 1:
                assert rows.session[row - back] == rows.session[row]
    if turns == "as-recorded":
        assert (np.diff(rows.start_ns) >= 0).all()
    else:
        assert (np.diff(rows.session) >= 0).all()


@given(seed=st.integers(0, 50), horizon_s=st.integers(1, 30))
@settings(max_examples=30)
def test_a_horizon_cuts_and_changes_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, seed: int, horizon_s: int
) -> None:
    """What is due before the horizon is the same with and without it, thinned, spread, looped and by a process."""
    path = put(tmp_path_factory.getbasetemp() / "h.csv", BURSTGPT_3)
    for spec in (
        {"speed": 5, "loop": 4, "arrivals": "spread", "keep": 0.8},
        {"loop": 5, "arrivals": {"process": "poisson", "rate": 2}},
    ):
        try:
            whole = rows_of(path, seed=seed, **spec)
        except ConfigError:  # nothing was kept
            continue
        part = rows_of(path, seed=seed, horizon_ns=horizon_s * S, **spec)
        before = whole.start_ns < horizon_s * S
        assert part.start_ns.tolist() == whole.start_ns[before].tolist()
        assert part.input_tokens.tolist() == whole.input_tokens[before].tolist()


def test_failures_and_empty_replies_are_told(tmp_path: Path) -> None:
    """A failure is left out, a length of 0 is replayed as 1; both are counted in notes with the class."""
    rows = rows_of(put(tmp_path / "b.csv", BURSTGPT_1))
    assert rows.input_tokens.tolist() == [472, 1087, 417]
    assert rows.notes == ("class a: 1 of 4 requests failed when they were recorded and are left out",)
    path = own(
        tmp_path, [{"arrival_ns": 0, "input_tokens": 0, "output_tokens": 0}, {"arrival_ns": 1, "input_tokens": 5}]
    )
    rows = rows_of(path)
    assert (rows.input_tokens.tolist(), rows.output_tokens.tolist()) == ([1], [1])
    assert rows.notes == (
        "class a: 1 of 2 requests have no length and are left out",
        "class a: 2 lengths of 0 tokens are replayed as 1",
    )


def test_a_part_a_label_and_a_bound(tmp_path: Path) -> None:
    """from and to are times of the recording; a label picks; what is too long is left out and told."""
    path = evenly(tmp_path, 10, **{"class": ["x", "y"] * 5})
    assert rows_of(path, **{"from": "2s", "to": "5s"}).start_ns.tolist() == [0, S, 2 * S]
    assert rows_of(path, label="y").input_tokens.tolist() == [2, 4, 6, 8, 10]
    rows = rows_of(path, max_tokens=8)
    assert rows.input_tokens.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert rows.notes == ("class a: 3 of 10 requests are longer than 8 tokens and are left out",)
    with pytest.raises(ConfigError, match="label 'z'"):
        rows_of(path, label="z")
    with pytest.raises(ConfigError, match="nothing of"):
        rows_of(path, **{"from": "1h"})


def test_a_loop_begins_anew_one_gap_later(tmp_path: Path) -> None:
    """Three rounds of 4 requests a second apart are 12 requests a second apart."""
    assert rows_of(evenly(tmp_path, 4), loop=3).start_ns.tolist() == [at * S for at in range(12)]
    cut = rows_of(evenly(tmp_path, 4), loop=1_000_000, horizon_ns=7 * S)
    assert cut.start_ns.tolist() == [at * S for at in range(7)]


def test_rounds_share_no_prompt(tmp_path: Path) -> None:
    """Within a round prompts share as recorded; with another round nothing."""
    rows = rows_of(put(tmp_path / "m.jsonl", jsonl(MOONCAKE)), loop=2)
    assert rows.contents is not None
    keys = [{key for key, _ in rows.contents.row(i)} for i in range(6)]
    assert keys[0] & keys[1] & keys[2]
    assert not (keys[0] | keys[1] | keys[2]) & (keys[3] | keys[4] | keys[5])


def test_two_classes_of_one_file_share_what_was_shared(tmp_path: Path) -> None:
    """Prompts that began alike begin alike, also where their requests are of different classes."""
    lines = [{**row, "class": name} for row, name in zip(MOONCAKE, "xyx", strict=True)]
    text = [
        {
            "arrival_ns": row["timestamp"] * 10**6, "input_tokens": row["input_length"], "output_tokens": 1,
            "class": row["class"], "blocks": row["hash_ids"],
        }
        for row in lines
    ]  # fmt: skip
    path = own(tmp_path, text, block_tokens=512)
    classes = {name: {"recorded": {"file": str(path), "label": name}} for name in "xy"}
    plan = build_plan(Workload.model_validate({"name": "w", "classes": classes}), 0)
    assert plan.contents is not None
    parts = [plan.contents.row(row) for row in range(3)]
    assert parts[0] == parts[1]
    assert parts[2] == parts[0][:1]
    assert [tokens for _, tokens in parts[0]] == [512, 512]


def test_turns_after_replies_wait_what_was_recorded(tmp_path: Path) -> None:
    """BurstGPT's second turn came 111 s after the first, which took 43 s: it waits 68 s after the reply."""
    rows = rows_of(put(tmp_path / "b.csv", BURSTGPT_3), turns="after-reply")
    assert rows.session.tolist() == [0, 0, 1, 2]
    assert rows.after.tolist() == [0, 1, 0, 0]
    assert rows.delay_ns.tolist() == [NULL, 68 * S, NULL, NULL]
    assert rows.start_ns.tolist() == [0, NULL, 51 * S, 60 * S]
    fast = rows_of(tmp_path / "b.csv", turns="after-reply", speed=10)
    assert fast.delay_ns.tolist() == [NULL, 6_800_000_000, NULL, NULL]


def test_delays_of_deltas_and_their_histories(tmp_path: Path) -> None:
    """AIPerf's turns wait their delay; prompts are whole ones, sped up is sped up."""
    path = put(tmp_path / "a.jsonl", jsonl(AIPERF))
    rows = rows_of(path, turns="after-reply", speed=2)
    assert rows.input_tokens.tolist() == [1000, 1400, 1470, 600]
    assert rows.delay_ns.tolist() == [NULL, S, 250_250_000, NULL]
    assert rows.start_ns.tolist() == [0, NULL, NULL, 750_000_000]


def test_what_a_row_waited_for_may_be_left_out(tmp_path: Path) -> None:
    """A call whose predecessor failed waits for the one before that; one that waited for nobody keeps its time."""
    spans = [
        span("a", 0, 1, attributes=usage(10, 1)),
        span("b", 2, 3, attributes=usage(20, 1)),
        span("c", 4, 5, attributes=usage(30, 1)),
        span("d", 0.5, 9, attributes=usage(40, 1)),
    ]
    spans[1]["status"] = {"code": 2}
    rows = rows_of(put(tmp_path / "o.json", json.dumps(otlp(spans))), turns="after-reply")
    assert rows.input_tokens.tolist() == [10, 40, 30]
    assert rows.after.tolist() == [0, 0, 1]
    assert rows.start_ns.tolist() == [0, 500_000_000, NULL]


def test_without_elapsed_times_turns_wait_the_whole_gap(tmp_path: Path) -> None:
    """What is not known is told."""
    path = evenly(tmp_path, 2, session=["u", "u"])
    rows = rows_of(path, turns="after-reply")
    assert rows.delay_ns.tolist() == [NULL, S]
    assert "how long replies took is not recorded" in rows.notes[0]


def test_a_recording_without_times_needs_a_process(tmp_path: Path) -> None:
    """Lengths alone are offered at the times of a process, in their order; sessions then follow replies."""
    path = put(tmp_path / "v.csv", VIDUR)
    with pytest.raises(ConfigError, match=r"has no arrival times(.|\n)*process: poisson"):
        rows_of(path)
    rows = rows_of(path, arrivals={"process": "constant", "rate": 2}, loop=2)
    assert rows.start_ns.tolist() == [0, S // 2, S, 3 * S // 2]
    assert rows.input_tokens.tolist() == [1450, 99, 1450, 99]
    talk = put(tmp_path / "s.json", json.dumps(SHAREGPT))
    with pytest.raises(ConfigError, match="no times between the turns"):
        rows_of(talk, arrivals={"process": "constant", "rate": 2})
    rows = rows_of(talk, arrivals={"process": "constant", "rate": 2}, turns="after-reply")
    assert rows.start_ns.tolist() == [0, NULL, S // 2]
    assert rows.delay_ns.tolist() == [NULL, 0, NULL]


def test_scaled_down_to_a_small_model(tmp_path: Path) -> None:
    """Blocks of 512 become blocks of 16: lengths with them, and what prompts share."""
    rows = rows_of(put(tmp_path / "m.jsonl", jsonl(MOONCAKE)), scale_tokens=1 / 32)
    assert rows.input_tokens.tolist() == [34, 48, 17]  # 2 blocks and 76/32 tokens, 3 blocks, 1 block and 1 token
    assert rows.contents is not None
    assert [[tokens for _, tokens in rows.contents.row(i)] for i in range(3)] == [[16, 16], [16, 16], [16]]


def test_bins_are_told_where_they_stay(tmp_path: Path) -> None:
    """Ten requests at once every 3 s are the recorder's doing; spread, they are not, and nothing is told."""
    rows = [{"arrival_s": at // 10 * 3, "input_tokens": 5, "output_tokens": 1} for at in range(60)]
    path = own(tmp_path, rows, bin_ns=3 * S)
    assert "come all at once every 3s" in rows_of(path).notes[0]
    spread = rows_of(path, arrivals="spread")
    assert spread.notes == ()
    assert (spread.start_ns // (3 * S) == np.arange(60) // 10).all()
    assert "recorded times are exact" in rows_of(evenly(tmp_path, 3), arrivals="spread").notes[0]


def test_images_of_a_recording_are_rows_images(tmp_path: Path) -> None:
    """Counts come through; none are none."""
    text = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 11:00:00,2,15,8\n2024-10-15 11:00:01,,12,9\n"
    assert rows_of(put(tmp_path / "m.csv", text)).images.tolist() == [2, 0]


def planned(path: Path, seed: int, **spec: Any) -> Plan:
    classes = {"a": {"recorded": {"file": str(path), **spec}}}
    return build_plan(Workload.model_validate({"name": "w", "classes": classes}), seed)


def test_the_same_file_and_seed_make_the_same_plan(tmp_path: Path) -> None:
    """Byte for byte; another seed changes only what is drawn."""
    path = put(tmp_path / "m.jsonl", jsonl(MOONCAKE))
    assert planned(path, 1).digest == planned(path, 1).digest
    assert planned(path, 1).scheduled_ns.tolist() == planned(path, 2).scheduled_ns.tolist()
    assert planned(path, 1, arrivals="spread").digest != planned(path, 2, arrivals="spread").digest


def test_plans_of_recordings_stay_the_same(tmp_path: Path) -> None:
    """The digest of a replayed file is part of what a version promises: the same on every machine."""
    path = put(tmp_path / "m.jsonl", jsonl(MOONCAKE))
    assert planned(path, 0).digest == "ee6635e19ec9349dd0f0fa73e64ef8a401bae40fcbe6f4e479b012283b1b58e7"
    digest = planned(path, 0, arrivals="spread", speed=3, loop=3, keep=0.9, scale_tokens=0.1).digest
    assert digest == "ba2cea2f7cbfc223960d4c2d3e7e3b4e54ec9bf38be98844ddfca8eed3530832"


def test_a_file_is_found_beside_the_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the workload file first, then to the working directory."""
    folder = tmp_path / "w"
    folder.mkdir()
    put(folder / "m.jsonl", jsonl(MOONCAKE))
    put(folder / "w.yaml", "name: w\nclasses:\n  a:\n    recorded: {file: m.jsonl}\n")
    monkeypatch.chdir(tmp_path)
    assert len(build_plan(load_workload("w/w.yaml").value, 0)) == 3
    put(tmp_path / "n.jsonl", jsonl(MOONCAKE[:2]))
    put(folder / "v.yaml", "name: w\nclasses:\n  a:\n    recorded: {file: n.jsonl}\n")
    assert len(build_plan(load_workload("w/v.yaml").value, 0)) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("recorded: {file: m.jsonl, keep: 0}", "keep"),
        ("recorded: {file: m.jsonl, loop: 0}", "loop"),
        ("recorded: {file: m.jsonl, from: 5s, to: 5s}", "`to` is not after `from`"),
        ("recorded: {file: m.jsonl, arrivals: {process: burst}}", "all of a recording at once"),
        ("recorded: {file: m.jsonl, format: moonshine}", "mooncake"),
        ("recorded: {file: m.jsonl}\n    arrivals: {process: poisson, rate: 1}", "`arrivals` beside `recorded`"),
        ("recorded: {file: m.jsonl}\n    input_tokens: {dist: constant, value: 1}", "`input_tokens` beside `recorded`"),
        (
            "arrivals: {process: poisson, rate: 1}\n    output_tokens: {dist: constant, value: 1}",
            "`input_tokens` is missing",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path: Path, text: str, told: str) -> None:
    """With the file and the line."""
    path = put(tmp_path / "w.yaml", f"name: w\nduration: 10s\nclasses:\n  a:\n    {text}\n")
    with pytest.raises(ConfigError, match=rf"w\.yaml(.|\n)*{told}"):
        load_workload(str(path))


def test_a_closed_loop_replays_nothing(tmp_path: Path) -> None:
    """Recorded times belong to an open loop."""
    spec = {"name": "w", "loop": {"mode": "closed", "users": 2}, "classes": {"a": {"recorded": {"file": "x"}}}}
    with pytest.raises(ValueError, match="a recording is replayed in an open loop"):
        Workload.model_validate({**spec, "requests": 5})


def test_fewer_records_than_asked_for_are_told(tmp_path: Path) -> None:
    """`requests` is a bound; recordings alone need none."""
    path = put(tmp_path / "m.jsonl", jsonl(MOONCAKE))
    classes = {"a": {"recorded": {"file": str(path)}}}
    plan = build_plan(Workload.model_validate({"name": "w", "classes": classes, "requests": 5}), 0)
    assert len(plan) == 3
    assert plan.notes == ("3 of the 5 requests asked for: recordings hold no more",)
    assert len(build_plan(Workload.model_validate({"name": "w", "classes": classes, "requests": 2}), 0)) == 2
