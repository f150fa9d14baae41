"""What prompts hold, over real sockets: shared beginnings that a prefix cache finds as planned, texts, images."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from slobench.config.engine import Engine
from slobench.config.load import load_target, load_workload
from slobench.config.target import SimTarget
from slobench.config.workload import Workload
from slobench.experiment.virtual_stream import VirtualEngine
from slobench.plan import Plan, build_plan
from slobench.plan_sharing import found_tokens, planned_sharing, prompt_contents, told_sharing
from slobench.workload.sharing import Cache, hits
from tests.conformance.dialect import DONE, Dialect
from tests.experiment.running import Run, running
from tests.targets.fake_server import VLLM, serving
from tests.workload.test_images import pixels

CHAT, TEXT = Dialect("chat"), Dialect("completions")
ANSWERS: dict[str, tuple[int, Any]] = {
    **VLLM,
    "/v1/chat/completions": (200, b"".join([CHAT.role(), CHAT.event({"content": "a"}), CHAT.finish("stop"), DONE])),
    "/v1/completions": (200, TEXT.reply([" a"])),
}
TALK = {"token_ids": [100, 4000], "forces_length": True}
PLAY = 'To be, or not to be, that is the question: whether \'tis "nobler" in the mind – to suffer …\n'


def constant(value: int) -> dict[str, Any]:
    """A length that is always the same."""
    return {"dist": "constant", "value": value}


def ran(folder: Path, url: str, classes: dict[str, Any], **more: Any) -> Run:
    """A run of these classes to the end."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {"arrivals": {"process": "constant", "rate": 40}, "output_tokens": constant(1)}
    whole = {name: each if "recorded" in each else {**common, **each} for name, each in classes.items()}
    workload = {"name": "content", "classes": whole, "slo": ["e2e<60s"], **more}
    (folder / "content.yaml").write_text(yaml.safe_dump(workload, sort_keys=False))
    (folder / "target.yaml").write_text(yaml.safe_dump({"kind": "remote", "url": url, "talk": TALK}))
    with running(folder / "out", "content.yaml", "--target", "target.yaml", "--workers", "2", "--json") as run:
        run.end()
    assert (folder / "out" / "requests.parquet").exists(), run.err.read_text()
    return run


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What a server was sent of each kind: prefixes of ids, a text, images, images of several counts."""
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "play.txt").write_text(PLAY)
    classes = {
        "pool": {"input_tokens": constant(100), "prefix": {"pool": 7, "zipf": 1, "hit_rate": 0.5}, "model": "pool"},
        "text": {"input_tokens": constant(60), "text": "play.txt", "model": "text"},
        "seen": {
            "input_tokens": constant(20), "api": "chat", "model": "seen",
            "images": {"width": 40, "height": 30, "count": {"dist": "uniform", "low": 1, "high": 2}},
        },
    }  # fmt: skip
    with serving(ANSWERS) as (url, seen):
        run = ran(folder, url, classes, requests=180)
    found: dict[str, list[Any]] = {name: [] for name in classes}
    for _, body, head in seen:
        if "x-request-id" in head:
            found[body["model"]].append(body)
    return {**found, "run": [run.run_json()]}


def test_bodies_share_what_the_plan_says(bodies: dict[str, list[Any]]) -> None:
    """A cache of the very ids that were sent finds exactly the tokens that run.json says, near what was asked for."""
    prompts = [body["prompt"] for body in bodies["pool"]]
    assert len(prompts) == 60
    blocks = [tuple(prompt[:end]) for prompt in prompts for end in range(16, len(prompt) + 1, 16)]
    sharing = bodies["run"][0]["plan"]["sharing"]
    assert 16 * (len(blocks) - len(set(blocks))) == sharing["hit_tokens"]
    assert sharing["hit_tokens"] / (60 * 100) == pytest.approx(0.5, abs=0.08)


def test_prompts_are_unique_as_reported(bodies: dict[str, list[Any]]) -> None:
    """Every prompt that was sent is another one, as run.json says."""
    sent = [
        json.dumps(body.get("prompt") or body["messages"]) for name in ("pool", "text", "seen") for body in bodies[name]
    ]
    assert len(set(sent)) == len(sent) == bodies["run"][0]["plan"]["distinct_prompts"] == 180


def test_texts_are_words_of_the_file_in_order(bodies: dict[str, list[Any]]) -> None:
    """60 words each, behind the salt those of the file, over and over."""
    assert len(bodies["text"]) == 60
    for body in bodies["text"]:
        words = body["prompt"].split(" ")
        assert len(words) == 60
        assert " ".join(words[14:]) in " ".join(PLAY.split() * 5)


def test_images_are_of_their_size_and_all_different(bodies: dict[str, list[Any]]) -> None:
    """One or two to a request, of 40 by 30 pixels, beside a text of 20 words."""
    seen, counts = set(), set()
    for body in bodies["seen"]:
        text, *images = body["messages"][0]["content"]
        assert len(text["text"].split(" ")) == 20
        counts.add(len(images))
        for image in images:
            png = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
            assert pixels(png).shape == (30, 40, 3)
            assert png not in seen
            seen.add(png)
    assert counts == {1, 2}


def counters(url: str) -> tuple[float, float]:
    """Tokens that the engine found in its cache, and that it looked up."""
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        text = reply.read().decode()
    hits, queries = (
        re.search(rf"^vllm:prefix_cache_{name}_total{{.*}} (\S+)$", text, re.MULTILINE) for name in ("hits", "queries")
    )
    return float(hits[1]), float(queries[1])


def recording(path: Path) -> None:
    """A trace in Mooncake's form: conversations of a common start that grow by a block, in all 55 % to be found."""
    lines = [
        {"timestamp": 25 * row, "input_length": 512 * (3 + row // 30) - 12, "output_length": 2,
         "hash_ids": [0, *(100 * (row % 30) + k for k in range(1, 3 + row // 30))]}
        for row in range(120)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_engine_finds_what_the_plan_repeats(engine: str, tmp_path: Path) -> None:
    """By its own counters and in its replies' usage: the planned hit rates, but for prompts computed at once."""
    recording(tmp_path / "trace.jsonl")
    (tmp_path / "play.txt").write_text(PLAY)
    lengths = {"dist": "uniform", "low": 100, "high": 500}
    classes = {
        "pool": {"input_tokens": lengths, "prefix": {"pool": 8, "zipf": 1, "hit_rate": 0.6}},
        "session": {
            "input_tokens": constant(80), "prefix": {"tokens": constant(64), "pool": 3},
            "session": {"turns": constant(4)},
        },
        "recorded": {"recorded": {"file": "trace.jsonl", "scale_tokens": 0.0625}},
        "text": {"input_tokens": lengths, "text": "play.txt", "prefix": {"pool": 8, "tokens": constant(96)}},
    }  # fmt: skip
    before = counters(engine)
    run = ran(tmp_path, engine, classes, requests=480)
    hits, queries = (now - then for now, then in zip(counters(engine), before, strict=True))
    sharing = run.run_json()["plan"]["sharing"]
    assert 0.3 < sharing["hit_tokens"] / sharing["tokens"] < 0.7
    assert hits / queries == pytest.approx(sharing["hit_tokens"] / sharing["tokens"], abs=0.04)
    rows, plan = run.rows(), Plan.from_arrow(pq.read_table(run.folder / "plan.parquet"))
    planned = found_tokens(plan, load_workload(str(tmp_path / "content.yaml")).value)
    for code, name in enumerate(classes):
        mine = np.flatnonzero(plan.class_code == code)
        asked, cached, read = (
            float(sum(values[i] for i in mine)) for values in (planned, rows["cached_tokens"], rows["input_tokens"])
        )
        own = plan.input_tokens[mine].sum()
        assert abs(read / own - 1) < (0.08 if name == "text" else 1e-9)  # to the engine some words are two tokens
        assert asked / own - 0.06 <= cached / read <= asked / own + (0.02 if name == "text" else 0), name
        if name == "pool":
            assert asked / own == pytest.approx(0.6, abs=0.03)


def test_virtual_time_finds_what_the_plan_repeats(tmp_path: Path) -> None:
    """The engine in virtual time, with one request after another, finds exactly what the plan says."""
    recording(tmp_path / "trace.jsonl")
    pool = {"arrivals": {"process": "poisson", "rate": 9}, "input_tokens": constant(300), "output_tokens": constant(1),
            "prefix": {"pool": 5, "tokens": {"dist": "uniform", "low": 20, "high": 200}}}  # fmt: skip
    shared = {key: value for key, value in pool.items() if key != "prefix"} | {"shared_prefix_tokens": 100}
    classes = {"recorded": {"recorded": {"file": "trace.jsonl"}}, "pool": pool, "shared": shared}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump({"name": "w", "classes": classes, "requests": 100}))
    workload = load_workload(str(tmp_path / "w.yaml")).value
    plan, target = build_plan(workload, 1), load_target("sim").value
    assert isinstance(target, SimTarget)
    assert set(plan.class_code.tolist()) == {0, 1, 2}
    engine = VirtualEngine(target.engine, workload, 1, each_token=False)
    for row in engine.rows(plan):
        engine.arrive(engine.now_ns, row)
        while engine.step() is not None:
            pass
    sharing = planned_sharing(plan, workload)
    assert sharing is not None
    assert (engine.core.prefix_queries, engine.core.prefix_hits) == (sharing.tokens, sharing.hit_tokens)
    assert sharing.token_hit_rate > 0.3


def test_virtual_time_forgets_as_a_cache_of_its_size(tmp_path: Path) -> None:
    """Where the cache is too small, what it finds is what the longest unused blocks' loss leaves of the plan."""
    spec = {"arrivals": {"process": "poisson", "rate": 9}, "input_tokens": {"dist": "uniform", "low": 200, "high": 400},
            "output_tokens": constant(1), "prefix": {"pool": 30, "zipf": 1, "tokens": constant(160)}}  # fmt: skip
    workload = Workload.model_validate({"name": "w", "classes": {"a": spec}, "requests": 600})
    plan = build_plan(workload, 1)
    engine = VirtualEngine(Engine(kv_tokens=16 * 150, block_tokens=16), workload, 1, each_token=False)
    for row in engine.rows(plan):
        engine.arrive(engine.now_ns, row)
        while engine.step() is not None:
            pass
    contents, tokens = prompt_contents(plan, workload), plan.input_tokens
    endless, bounded = (hits(contents, tokens, 16, capacity_blocks=blocks).hit_tokens for blocks in (None, 150))
    assert bounded < 0.6 * endless
    assert engine.core.prefix_hits == pytest.approx(bounded, rel=0.05)


def test_the_plan_is_told_for_the_cache_that_the_server_tells_of(tmp_path: Path) -> None:
    """run.json has the hits of its block size, endless and in its number of blocks; its report both."""
    recording(tmp_path / "trace.jsonl")
    told = b'vllm:num_requests_running 0\nvllm:cache_config_info{block_size="64",num_gpu_blocks="40"} 1.0\n'
    with serving({**ANSWERS, "/metrics": (200, told)}) as (url, _):
        run = ran(tmp_path, url, {"a": {"recorded": {"file": "trace.jsonl", "scale_tokens": 0.25}}})
    plan = Plan.from_arrow(pq.read_table(run.folder / "plan.parquet"))
    assert plan.contents is not None
    endless, limited = (
        hits(plan.contents, plan.input_tokens, 64, capacity_blocks=blocks, output_tokens=plan.output_tokens)
        for blocks in (None, 40)
    )
    sharing = run.run_json()["plan"]["sharing"]
    assert (sharing["block_tokens"], sharing["hit_tokens"]) == (64, endless.hit_tokens)
    assert (sharing["cache_blocks"], sharing["cache_hit_tokens"]) == (40, limited.hit_tokens)
    assert limited.hit_tokens < endless.hit_tokens
    assert f"({limited.token_hit_rate * 100:.3g} % in its size)" in (run.folder / "report.md").read_text()


def test_what_a_cache_forgets_is_told_only_where_it_is_known() -> None:
    """Enough room is an endless cache; sessions that wait have no order in time; without a size nothing is said."""
    spec = {"arrivals": {"process": "poisson", "rate": 9}, "input_tokens": constant(200), "output_tokens": constant(9),
            "prefix": {"pool": 9, "zipf": 1, "tokens": constant(160)}}  # fmt: skip
    session = {**spec, "session": {"turns": constant(3)}}

    def told(spec: dict[str, Any], blocks: int | None) -> tuple[int, int | None]:
        workload = Workload.model_validate({"name": "w", "classes": {"a": spec}, "requests": 90})
        found = told_sharing(build_plan(workload, 1), workload, Cache(16, blocks))
        assert found is not None
        return found["hit_tokens"], found["cache_hit_tokens"]

    endless, kept = told(spec, 10**6)
    assert kept == endless
    small = told(spec, 30)[1]
    assert small is not None
    assert 0 < small < endless
    assert told(spec, None)[1] is None
    assert told(session, 30)[1] is None
    assert told(session, 10**6)[1] == told(session, None)[0]
    unique = {key: value for key, value in spec.items() if key != "prefix"}
    workload = Workload.model_validate({"name": "w", "classes": {"a": unique}, "requests": 9})
    assert told_sharing(build_plan(workload, 1), workload, Cache(16, 9)) is None
