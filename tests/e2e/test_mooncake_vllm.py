"""Recorded sharing in front of a real prefix cache: what vLLM finds of Mooncake's prompts is what was reckoned for it.

Blocks of 512 tokens become blocks of 32, lengths a 16th, so that prompts fit the tiny model.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from slobench.config.load import load_target
from slobench.metrics.told import Told, grown, measured_hit_rate
from slobench.plan import Plan
from slobench.records.schema import Records
from slobench.records.store import load, read_plan
from slobench.targets.launch import start
from slobench.workload.sharing import hits
from tests.e2e.conftest import TARGET, Run, argv, needs_vllm
from tests.workload.traces.test_real import real

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

SLICES: dict[str, dict[str, Any]] = {
    "conversation": {"to": "5m", "max_tokens": 500, "speed": 5},
    "synthetic": {"from": "10m", "to": "13m", "max_tokens": 800, "speed": 3},
}
SMALL = ("args.block-size=32", "args.num-gpu-blocks-override=500")  # vLLM on CPUs takes multiples of 32
OWN = ()  # 128 tokens, 1 GiB
SLACK = 0.005
"""Of prompt tokens: a request that is not yet scheduled whole has not named all of its blocks, and each copy of a
block that was computed twice takes the place of another; both come up for one request in some hundred."""


@dataclass(frozen=True)
class Served:
    """A vLLM that serves, as a target file, and its own arguments."""

    target: str
    sets: tuple[str, ...]


@pytest.fixture(scope="module", params=[SMALL, OWN], ids=["too small a cache", "its own cache"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for both traces: a salt for each run keeps them apart."""
    for name in SLICES:
        real(f"mooncake/{name}_trace.jsonl")
    needs_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    target = load_target(TARGET, sets=[*request.param, "ready_timeout=15m"]).value
    running = start(target, log=folder / "server.log")
    talk: dict[str, Any] = {"cache_salt": True, "token_ids": [100, 4000], "return_token_ids": True}
    talk["timeouts"] = {"total": "10m"}  # on a busy machine the server is the last to get time
    remote = {"kind": "remote", "url": running.endpoint.url, "talk": talk, "telemetry": {"interval": "500ms"}}
    path = folder / "remote.yaml"
    path.write_text(yaml.safe_dump(remote))
    try:
        yield Served(str(path), request.param)
    finally:
        running.stop()


def offered(folder: Path, target: str, name: str) -> Run:
    """A slice of a trace, offered to its end."""
    path = real(f"mooncake/{name}_trace.jsonl")
    recorded = {"file": str(path), "arrivals": "spread", "scale_tokens": 1 / 16, **SLICES[name]}
    spec = folder / f"{name}.yaml"
    spec.write_text(yaml.safe_dump({"name": name, "classes": {"a": {"recorded": recorded}}}))
    command = argv(folder / "run", target, [str(spec)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return Run(done.returncode, done.stdout, done.stderr, folder / "run")


def used(records: Records) -> float:
    """The share of blocks that requests held, as the mean that a request found when it came: the cache lacked them."""
    at = np.asarray(records.requests["started_ns"]) / 1e9
    level = Told.of(records.telemetry).level("kv_usage", at, "max")
    assert level is not None
    return float(np.nanmean(level))


@pytest.mark.parametrize("name", SLICES)
def test_the_server_finds_what_is_reckoned_for_its_cache(
    served: Served, name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Between what a cache of its blocks finds and what one finds that lacks the blocks in use, in the report too.

    A prompt's last whole block is left out in both where nothing follows it, and a reply's blocks take room in both.
    The order of requests that come at once is the server's, and what two have in common is the same in either order.
    """
    done = offered(tmp_path, served.target, name)
    assert done.code in (0, 3, 5), done.err
    assert set(done.column("outcome")) == {"ok"}
    plan, records = Plan.from_arrow(read_plan(done.folder)), load(done.folder).records
    assert plan.contents is not None
    told = done.record["plan"]["sharing"]
    block, blocks = told["block_tokens"], told["cache_blocks"]
    assert (block, blocks) == ((32, 500) if served.sets else (128, 2048))

    def found(capacity: int | None) -> float:
        replies = plan.output_tokens
        return hits(plan.contents, plan.input_tokens, block, None, capacity, output_tokens=replies).token_hit_rate

    in_use = used(records)
    endless, whole, rest = found(None), found(blocks), found(round(blocks * (1 - in_use)))
    measured = measured_hit_rate(records)
    preempted = grown(Told.of(records.telemetry), "preemptions_total")
    assert measured is not None
    assert measured.share is not None
    shown = f"{measured.share:.2%} of {int(measured.query_tokens):,} tokens"
    for what, value in {
        "requests": len(plan),
        "blocks": f"{blocks:,} of {block} tokens, {in_use:.1%} of them in use",
        "hit rate, endless cache": f"{endless:.2%}",
        "hit rate, its cache": f"{whole:.2%}, without the blocks in use {rest:.2%}",
        "hit rate, vLLM": shown,
    }.items():
        record_property(f"{name}: {what}", value)
        print(f"{name}: {what}: {value}")
    assert preempted is not None
    if not preempted.by:
        assert measured.query_tokens == int(plan.input_tokens.sum())
    assert rest - SLACK <= measured.share <= whole + SLACK
    if served.sets:
        assert whole < endless - 0.05
    else:
        assert whole == endless
    facts = done.json["fidelity"]["all"]["sharing"]
    assert facts["measured"] == pytest.approx(measured.share)
    assert (facts["planned"], facts["limited"]) == (pytest.approx(endless), pytest.approx(whole))
    assert "V20" not in {finding["code"] for finding in done.json["findings"]}
