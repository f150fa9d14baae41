"""What the parts cost: SSE framing, record append, spool, metrics; each beside the way a plain client would do it.

    .venv/bin/python benchmarks/micro.py [--requests 100000] [--tokens 100] [--full]

CPU times, each part in a process of its own. The plain ways are those of the peers, written out below: str.split and
json.loads for events, a list of tuples for rows, a JSON line a request for files, Python lists and numpy.percentile
for metrics (as `vllm bench serve` has it). --full: metrics on 10⁶ requests × 10² tokens.
Each call adds a line to benchmarks/history/micro.jsonl.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import history
import numpy as np

EVENT = (
    b'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1795450309,"model":"tiny","choices":'
    b'[{"index":0,"text":" tok","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null}]}\n\n'
)
ROUNDS = 3
Figures = dict[str, float]


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def framing(events: int, _: int) -> Figures:
    """An event a read: cut out of the stream, and read as a token."""
    from slobench.records.buffers import Chunks
    from slobench.wire.reply import Reply
    from slobench.wire.sse import SseDecoder

    def decoder() -> None:
        feed = SseDecoder().feed
        for _ in range(events):
            feed(EVENT)

    def reply() -> None:
        one = Reply(index=0, api="completions", stream=True, due_tokens=None, chunks=Chunks())
        one.on_headers(200, "text/event-stream")
        for k in range(events):
            one.feed(EVENT)
            one.stamp(k, 0, 0)
        assert one.chunks == events

    def split(*, parse: bool) -> None:
        buffer, times, texts = "", [], []
        for _ in range(events):
            buffer += EVENT.decode()
            while "\n\n" in buffer:
                message, buffer = buffer.split("\n\n", 1)
                if parse:
                    times.append(time.perf_counter())
                    texts.append(json.loads(message.strip().removeprefix("data: "))["choices"][0].get("text"))

    ways: dict[str, Callable[[], None]] = {
        "sse": decoder, "sse_plain": lambda: split(parse=False), "event": reply, "event_plain": lambda: split(parse=True),
    }  # fmt: skip
    found = {name: min(cpu_s(way) for _ in range(ROUNDS)) / events * 1e6 for name, way in ways.items()}
    return {
        "sse_framing_us": found["sse"], "sse_framing_ratio": found["sse"] / found["sse_plain"],
        "event_us": found["event"], "event_ratio": found["event"] / found["event_plain"],
    }  # fmt: skip


def appending(rows: int, _: int) -> Figures:
    """A row of one event into memory."""
    from slobench.records.buffers import Chunks

    def ours() -> None:
        chunks = Chunks()
        add = chunks.add
        for k in range(rows):
            add(7, k, 1, 180, 0, 35_000, 0)

    def tuples() -> None:
        kept: list[tuple[int, ...]] = []
        add = kept.append
        for k in range(rows):
            add((7, k, 1, 180, 0, 35_000, 0))

    found, plain = (min(cpu_s(way) for _ in range(ROUNDS)) / rows * 1e6 for way in (ours, tuples))
    return {"append_us": found, "append_ratio": found / plain}


def spooling(requests: int, tokens: int) -> Figures:
    """Rows from memory to the disk, and as a JSON line a request with its gaps."""
    from slobench.records.buffers import CHUNK_ROW
    from slobench.records.spool import SpoolWriter

    at = array("q", range(0, tokens * 20_000_000, 20_000_000))
    rows = [b"".join(CHUNK_ROW.pack(index, t, 1, 180, 0, 35_000, 0) for t in at) for index in range(100)]
    gaps = [0.02 + k * 1e-9 for k in range(tokens)]

    def ours(folder: Path) -> None:
        writer = SpoolWriter(folder / "spool", 0, backlog_bytes=1 << 40)
        for index in range(requests):
            writer.chunks.packed += rows[index % 100]
            if index % 400 == 0:
                writer.flush()
        writer.close(600)
        assert not writer.lost_rows

    def lines(folder: Path) -> None:
        with (folder / "lines.jsonl").open("w") as file:
            for index in range(requests):
                file.write(json.dumps({"index": index, "ttft": 0.08, "itl": gaps}) + "\n")

    found = []
    for way in (ours, lines):
        with tempfile.TemporaryDirectory(prefix="micro-") as folder:
            found.append(cpu_s(lambda way=way, folder=folder: way(Path(folder))) / requests / tokens * 1e6)
    return {"spool_us": found[0], "spool_ratio": found[0] / found[1]}


def metrics(requests: int, tokens: int) -> Figures:
    """Read a run's spool; derive, judge and estimate all that a report says of it."""
    import report

    from slobench.config.slo import parse_slo
    from slobench.config.workload import Workload
    from slobench.metrics.evaluate import evaluate
    from slobench.plan import Plan
    from slobench.records import store
    from slobench.report.build import ask_of

    with tempfile.TemporaryDirectory(prefix="micro-") as text:
        folder = Path(text)
        report.write_run(folder, requests, tokens)
        run = store.read_run_json(folder)
        start = time.process_time()
        records = store.assemble(folder, Plan.load(folder / "spool" / "plan.arrow").to_arrow(), 1)
        read_s = time.process_time() - start
    workload = Workload.model_validate(run["spec"]["workload"])
    slo = parse_slo(run["spec"]["slo"], tuple(workload.classes))
    evaluate_s = cpu_s(lambda: evaluate(records, slo, ask_of(run, workload, slo)))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    plain_s = in_lists(requests, tokens)
    events = requests * tokens
    return {
        "metrics_requests": requests, "metrics_tokens": tokens, "metrics_read_s": read_s,
        "metrics_evaluate_s": evaluate_s, "metrics_us_per_event": (read_s + evaluate_s) / events * 1e6,
        "metrics_ratio": (read_s + evaluate_s) / plain_s, "metrics_peak_mb": peak_mb,
    }  # fmt: skip


def in_lists(requests: int, tokens: int) -> float:
    """CPU seconds of what `vllm bench serve` does with its lists: no reading, no intervals, no checks."""
    random = np.random.default_rng(0)
    starts = np.cumsum(random.exponential(1 / 400, requests)).tolist()
    itls = [random.uniform(0.018, 0.022, tokens - 1).tolist() for _ in range(requests)]
    start = time.process_time()
    every: list[float] = []
    ttfts, tpots, e2els = [], [], []
    by_second = np.zeros(int(starts[-1] + tokens * 0.03) + 2)
    for began, gaps in zip(starts, itls, strict=True):
        latency = 0.08 + sum(gaps)
        ttfts.append(0.08)
        tpots.append((latency - 0.08) / (tokens - 1))
        e2els.append(latency)
        every += gaps
        now = began + 0.08
        by_second[int(now)] += 1
        for gap in gaps:
            now += gap
            by_second[int(now)] += 1
    for values in (ttfts, tpots, e2els, every):
        for summary in (np.mean, np.std, np.median, lambda each: np.percentile(each, 99)):
            summary(values)
    return time.process_time() - start


def main() -> None:
    """Run each part in a process of its own; print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--full", action="store_true", help="Ten times the requests for metrics: 10⁶.")
    args = parser.parse_args()
    parts = {
        framing: (200_000, 0),
        appending: (1_000_000, 0),
        spooling: (args.requests // 10, args.tokens),
        metrics: (1_000_000 if args.full else args.requests, args.tokens),
    }
    figures: Figures = {}
    for part, size in parts.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(part, size)
        for name, value in found.items():
            print(f"{name:24}{value:12.3f}", flush=True)
        figures |= {name: round(value, 4) for name, value in found.items()}
    history.append("micro", figures)


if __name__ == "__main__":
    main()
