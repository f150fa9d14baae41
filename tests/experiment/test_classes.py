"""Classes that differ on the wire, in one run of the command: what each request said, and what each report says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from slobench.names import Channel, Outcome
from tests.conformance.dialect import DONE, Dialect
from tests.experiment.running import report, running
from tests.targets.fake_server import VLLM, serving

TARGET_SECRET, CLASS_SECRET, OTHER_SECRET = "tgt-9f31c0aa", "cls-5b22e7d4", "cls-77aa01f3"
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "required": ["q"]}}}]
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["é", "<b>"]}}}
CHAT, TEXT = Dialect("chat"), Dialect("completions")
CALLS = [{"name": "find", "arguments": ""}, {"arguments": '{"q":'}, {"arguments": " 1}"}]
ANSWERS: dict[str, tuple[int, Any]] = {
    **VLLM,
    "/v1/chat/completions": (
        200,
        b"".join(
            [
                CHAT.role(),
                *(CHAT.event({"tool_calls": [{"index": 0, "function": call}]}) for call in CALLS),
                CHAT.finish("tool_calls"),
                CHAT.usage(9, 3),
                DONE,
            ]
        ),
    ),
    "/v1/completions": (200, TEXT.reply([" a", " b", " c"])),
    "/v1/responses": (503, {"error": {"message": f"no room for {CLASS_SECRET} and {TARGET_SECRET}"}}),
    "/v1/embeddings": (200, {"data": [{"embedding": [0.5, 1.5]}], "usage": {"prompt_tokens": 6, "total_tokens": 6}}),
}
CLASSES: dict[str, dict[str, Any]] = {
    "agent": {
        "api": "chat", "model": "lora-a", "priority": 1, "slo": ["ttft<60s"],
        "extra_body": {"tools": TOOLS, "tool_choice": "required", "response_format": FORMAT, "ignore_eos": None},
    },
    "batch": {
        "priority": 9, "headers": {"x-tenant": OTHER_SECRET}, "slo": ["e2e<60s"],
        "extra_body": {"structured_outputs": {"choice": ["yes", "no"]}, "guided_json": {"type": "object"}, "seed": 7},
    },
    "broken": {"api": "responses", "headers": {"X-Team": CLASS_SECRET, "x-class": "b"}, "slo": ["ttft<60s"]},
    "embed": {"api": "embeddings", "slo": ["e2e<60s"]},
}  # fmt: skip
PATHS = {"agent": "/v1/chat/completions", "batch": "/v1/completions", "broken": "/v1/responses",
         "embed": "/v1/embeddings"}  # fmt: skip
EACH = 12


@dataclass(frozen=True)
class Ran:
    """What the server saw, and what the run left."""

    seen: list[tuple[str, Any, dict[str, str]]]
    folder: Path
    out: str
    json: dict[str, Any]

    def of(self, name: str) -> list[tuple[Any, dict[str, str]]]:
        """Bodies and heads of a class's requests."""
        return [(body, head) for path, body, head in self.seen if path == PATHS[name] and "x-request-id" in head]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run of four classes of twelve requests each, against a server that answers each call in its own way."""
    folder = tmp_path_factory.mktemp("classes")
    lengths = {"input_tokens": {"dist": "constant", "value": 6}, "output_tokens": {"dist": "constant", "value": 3}}
    arrivals = {"process": "constant", "rate": 12}
    classes = {name: {"arrivals": arrivals, **lengths, **spec} for name, spec in CLASSES.items()}
    del classes["embed"]["output_tokens"]
    workload = {"name": "classes", "classes": classes, "requests": EACH * len(classes), "slo": ["attainment>=50%"]}
    (folder / "classes.yaml").write_text(yaml.safe_dump(workload, sort_keys=False))
    with serving(ANSWERS) as (url, seen):
        talk = {"token_ids": [100, 4000], "headers": {"x-team": TARGET_SECRET, "x-all": "1"}, "forces_length": True,
                "extra_body": {"seed": 3, "top_k": 5}}  # fmt: skip
        (folder / "target.yaml").write_text(yaml.safe_dump({"kind": "remote", "url": url, "talk": talk}))
        with running(folder / "out", "classes.yaml", "--target", "target.yaml", "--workers", "1") as run:
            run.end()
            out, err = run.out.read_text(), run.err.read_text()
    assert (folder / "out" / "requests.parquet").exists(), err
    return Ran(seen, folder / "out", out + err, report(folder / "out")[1])


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_speaks_its_own_api_model_and_body(ran: Ran, name: str) -> None:
    """Path, model, priority and every field of extra_body arrive as they were written; ids only where they are taken."""
    spec = CLASSES[name]
    requests = ran.of(name)
    assert len(requests) == EACH
    for body, _ in requests:
        extra = {"seed": 3, "top_k": 5, **spec.get("extra_body", {})}
        assert {key: body.get(key) for key in extra} == extra
        assert body["model"] == spec.get("model", "tiny")
        assert body.get("priority") == spec.get("priority")
        prompt = body.get("prompt", body.get("input")) or body["messages"][0]["content"]
        assert isinstance(prompt, list if name in {"batch", "embed"} else str)
        assert (body.get("ignore_eos"), body.get("stream")) == (
            (None, None) if name == "embed" else (None if name == "agent" else True, True)
        )
    assert list(requests[0][0].get("tools", ())) == spec.get("extra_body", {}).get("tools", [])


def test_each_class_has_its_own_headers_over_the_targets(ran: Ran) -> None:
    """A class's header stands in place of the target's of the same name, whatever its case; others stay."""
    heads = {name: ran.of(name)[0][1] for name in CLASSES}
    assert {name: head["x-team"] for name, head in heads.items()} == {
        "agent": TARGET_SECRET, "batch": TARGET_SECRET, "broken": CLASS_SECRET, "embed": TARGET_SECRET,
    }  # fmt: skip
    assert {head["x-all"] for head in heads.values()} == {"1"}
    assert {name for name, head in heads.items() if "x-tenant" in head} == {"batch"}


def test_no_header_value_reaches_a_file(ran: Ran) -> None:
    """Neither the target's nor a class's, also where the server repeats it in an error, nor the console."""
    for secret in (TARGET_SECRET, CLASS_SECRET, OTHER_SECRET):
        assert secret not in ran.out
        for path in ran.folder.rglob("*"):
            if path.is_file():
                assert secret.encode() not in path.read_bytes(), path.name
    rows = pq.read_table(ran.folder / "requests.parquet").to_pydict()
    told = {error for error, name in zip(rows["error"], rows["class"], strict=True) if name == "broken"}
    assert told == {"HTTP 503: no room for *** and ***"}


def test_outcomes_and_tokens_by_class(ran: Ran) -> None:
    """Calls of a tool are tokens of their channel; an embedding has none; a class may fail as a whole."""
    table = pq.read_table(ran.folder / "requests.parquet").to_pylist()
    found = {(row["class"], row["outcome"], row["output_tokens"], row["finish_reason"] or "") for row in table}
    assert found == {
        ("agent", Outcome.OK, 3, "tool_calls"), ("batch", Outcome.OK, 3, "length"),
        ("broken", Outcome.HTTP_ERROR, None, ""), ("embed", Outcome.OK, None, ""),
    }  # fmt: skip
    agents = {row["index"] for row in table if row["class"] == "agent"}
    chunks = pq.read_table(ran.folder / "chunks.parquet").to_pylist()
    assert {(row["index"] in agents, row["channel"]) for row in chunks} == {
        (True, Channel.TOOL), (False, Channel.CONTENT),
    }  # fmt: skip
    assert {row["output_tokens_planned"] for row in table if row["class"] == "embed"} == {0}


def test_every_table_has_every_class(ran: Ran) -> None:
    """JSON, console, Markdown and HTML: each class and the total, the failed one as a miss, no number made up."""
    found = ran.json
    assert set(found["load_by_class"]) == set(found["slo"]) == {*CLASSES, "all"}
    assert {name: found["slo"][name]["attainment"] for name in (*CLASSES, "all")} == {
        "agent": 1.0, "batch": 1.0, "broken": 0.0, "embed": 1.0, "all": 0.75,
    }  # fmt: skip
    latency = found["latency_by_class"]
    assert {name for name, table in latency.items() if "e2e" in table} == {"all", "agent", "batch", "embed"}
    assert latency["embed"]["e2e"]["p50"]["value"] > 0
    assert not {"ttft", "ttfo", "tpot", "itl", "max_gap"} & latency["embed"].keys()
    assert found["load_by_class"]["embed"]["output_tokens_mean"] is None
    pages = [(ran.folder / name).read_text() for name in ("report.md", "report.html")]
    for text in (ran.out, *pages):
        assert all(name in text for name in CLASSES)
        assert not re.search(r"\bnan\b", text, re.IGNORECASE)
        assert "agent: chat, model lora-a, priority 1" in " ".join(text.split())
    assert json.dumps(found, allow_nan=False)


ENGINE = {
    "name": "engine",
    "requests": 60,
    "classes": {
        name: {
            "arrivals": {"process": "constant", "rate": 20},
            "input_tokens": {"dist": "constant", "value": 40},
            **own,
        }
        for name, own in {
            "chat": {"api": "chat", "output_tokens": {"dist": "constant", "value": 5}},
            "agent": {"api": "responses", "model": "sql", "output_tokens": {"dist": "constant", "value": 7}},
            "embed": {"api": "embeddings"},
        }.items()
    },
}


@pytest.mark.parametrize("transport", ["fast", "aiohttp"])
def test_the_engine_serves_every_api_at_once(tmp_path: Path, transport: str) -> None:
    """Through the real generator: all ok, each token counted, ids exact in length and texts with their template."""
    (tmp_path / "engine.yaml").write_text(yaml.safe_dump(ENGINE, sort_keys=False))
    sets = ("--set", "target.engine.adapters=[sql]", "--set", f"target.talk.transport={transport}")
    with running(tmp_path / "out", "engine.yaml", "--target", "sim", "--workers", "1", "--json", *sets) as run:
        run.end()
        rows = run.rows()
        assert run.json()["approximate_tokens"] is False
    names = ("class", "outcome", "finish_reason", "input_tokens", "output_tokens", "chunks")
    assert set(zip(*(rows[name] for name in names), strict=True)) == {
        ("chat", "ok", "length", 42, 5, 5), ("agent", "ok", "length", 42, 7, 7), ("embed", "ok", None, 40, None, None),
    }  # fmt: skip
    embeds = [name == "embed" for name in rows["class"]]
    for name, shown in (("first_token_ns", False), ("first_output_ns", False), ("last_token_ns", True)):
        assert all((value is not None) == (shown or not embed) for value, embed in zip(rows[name], embeds, strict=True))
