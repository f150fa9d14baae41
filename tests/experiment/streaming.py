"""A live stream against a small server whose replies differ: slow, refused, lost, never."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from slobench.cli.run import interruptible
from slobench.config.slo import parse_slo
from slobench.config.target import RemoteTarget
from slobench.config.workers import Workers
from slobench.config.workload import Workload
from slobench.experiment import search
from slobench.experiment.capacity import SearchEnded, Wanted, ask_for, find_capacity
from slobench.experiment.events import Notice, Searching
from slobench.experiment.live_stream import StreamAsk
from slobench.experiment.open_load import open_load
from slobench.experiment.search_state import Settings
from slobench.experiment.setup import Trial
from slobench.experiment.stream import Counted, Probe, Purpose
from slobench.experiment.trial import Interrupts
from tests.generate.mock_server import MockServer, Seen

SLO = (
    "ttft<30ms+0.1ms/token",
    "tpot<14ms",
    "max_gap<40ms",
    "deadline(40ms, 12ms, share=80%)",
    "attainment>=90%",
    "class=batch e2e<120ms",
)
CLASSES = ("chat", "batch")


def workload(*, slo: tuple[str, ...] = SLO) -> Workload:
    """Two classes of short requests, two thirds of them chats."""
    kinds = {
        "chat": {
            "arrivals": {"process": "poisson", "rate": 2},
            "input_tokens": {"dist": "uniform", "low": 4, "high": 200},
            "output_tokens": {"dist": "uniform", "low": 1, "high": 8},
        },
        "batch": {
            "arrivals": {"process": "gamma", "rate": 1, "cv": 2},
            "input_tokens": {"dist": "constant", "value": 16},
            "output_tokens": {"dist": "constant", "value": 5},
        },
    }
    return Workload.model_validate({"name": "two", "requests": 10, "classes": kinds, "slo": slo})


def counted(offered: Workload) -> tuple[Counted, ...]:
    """All of them, each class, those that ended well, and each clause alone."""
    slo = parse_slo(offered.slo, CLASSES)
    chat = slo.for_class("chat")
    singles = [*chat.limits, *([chat.deadline] if chat.deadline else [])]
    everyone = frozenset(CLASSES)
    return (
        Counted("total", everyone, "all"),
        *(Counted(f"class={name}", frozenset([name]), "all") for name in CLASSES),
        Counted("ok", everyone, "ok"),
        *(Counted(f"chat {number}", frozenset(["chat"]), what) for number, what in enumerate(singles)),
    )


async def moody(server: MockServer, seen: Seen) -> int:
    """One in 13 is refused, one in 17 is reset, one in 19 is never answered."""
    if seen.index % 19 == 7:
        await server.closing.wait()
    return 500 if seen.index % 13 == 5 else 0 if seen.index % 17 == 3 else 200


def gaps_s(seen: Seen, token: int) -> float:
    """Between 2 and 20 ms before each token, and once in a while 50 ms."""
    return 0.05 if (seen.index + token) % 31 == 0 else 0.002 + 0.018 * ((seen.index * 7 + token * 3) % 10) / 10


def ask(folder: Path, url: str, *, workers: Workers, timeout_ms: int = 700, slo: tuple[str, ...] = SLO) -> StreamAsk:
    """A stream on a server that runs already; a reply that never comes times out."""
    talk = {"model": "tiny", "timeouts": {"total": f"{timeout_ms}ms"}}
    target = RemoteTarget.model_validate({"kind": "remote", "url": url, "talk": talk})
    offered = workload(slo=slo)
    folder.mkdir(exist_ok=True)
    trial = Trial(offered, target, folder, seed=3, workers=workers)
    return StreamAsk(trial, parse_slo(offered.slo, CLASSES), counted(offered), Interrupts())


def probe(
    number: int, rate: float, n: int, *, purpose: Purpose = "refine", target: float | None = None, vr: bool = False
) -> Probe:
    """A probe with half a second to settle."""
    return Probe(number, purpose, rate, n, 0.5, seed=100 + number, vr=vr, target=target)


def forever(folder: Path, url: str) -> None:
    """Offer probe after probe until killed; one line for each that has ended."""
    from slobench.experiment.live_stream import open_stream

    stream = open_stream(ask(folder, url, workers=2))
    for number in range(10_000):
        for _ in stream.step(probe(number, 60, 40)):
            pass
        for done in stream.finished():
            sys.stdout.write(f"{done.probe.number}\n")
            sys.stdout.flush()
        time.sleep(0)


def searching(folder: Path, url: str, *, resume: bool) -> None:
    """A search with hardly any time to settle; one line for each event that says how many probes have ended."""
    search.BRACKET_SETTLE_S = search.SETTLE_S = 0.3
    search.BRACKET_N = 60
    asked = ask(folder, url, workers=2, slo=("e2e<60ms", "attainment>=90%"))
    settings = Settings(criteria=(), start_rate=20.0, precision=0.5, seed=4)
    wanted = ask_for(asked.trial, Wanted(resume=resume), settings)
    interrupts = Interrupts()
    with interruptible(interrupts):
        for event in find_capacity(wanted, interrupts, open_load):
            match event:
                case Notice(text):
                    print(text, flush=True)
                case Searching(probes=probes):
                    print(f"ended {len(probes)}", flush=True)
                case SearchEnded(found=found):
                    print(f"reason {found.reason}", flush=True)


if __name__ == "__main__":
    if sys.argv[3:]:
        searching(Path(sys.argv[1]), sys.argv[2], resume=sys.argv[3] == "resume")
    else:
        forever(Path(sys.argv[1]), sys.argv[2])
