"""What the ladder found, as one table and one picture, from the lines of its history."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import fidelity
import numpy as np
from calibrated import Mode

from slobench.report.svg import Axis, Plot

sys.path.insert(0, str(Path(__file__).parent.parent))
from scripts.validation import replaced

Line = dict[str, Any]
IN_STEP, FREE = str(Mode()), str(Mode(None))
OURS = "slobench"
TOGETHER = timedelta(hours=3)
"""Lines of the newest one's last hours are compared with each other; older ones were other machines' weather."""

TONES = ("slobench", "floor", "vllm bench serve", "GuideLLM", "AIPerf", "EvalScope perf", "inference-perf")
NEAR = 0.55  # of both logarithms: names nearer than that would cover each other
LEAST_MS = 0.01
"""Smaller errors are drawn here."""

COMPARED = ("ladder", "costs")
"""The parts that compare tools, and are of the same hours; each of the others has conditions of its own."""

ERRORS = ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99")

STYLE = """<style>
svg { background: #fff } text.note { paint-order: stroke; stroke: #fff; stroke-width: 3px }
text { font: 12px system-ui, sans-serif; fill: #59636e } .grid { stroke: #eef1f4 } .frame { stroke: #b8c0c8 }
.line { fill: none; stroke: currentColor; stroke-width: 1.8 } path.rule { stroke: #c62b32; stroke-dasharray: 5 4 }
.dots { fill: none; stroke: currentColor; stroke-width: 6; stroke-linecap: round } text.rule { fill: #c62b32 }
.c0 { color: #2a6fdb } .c1 { color: #5f7280 } .c2 { color: #c8590a } .c3 { color: #0f8f80 } .c4 { color: #7b52c7 }
.c5 { color: #b03a7c } .c6 { color: #8a6d00 } text.name { fill: currentColor; font-weight: 600 }
</style>"""


def error(line: Line, name: str) -> float:
    """Reported less true in ms; NaN where one is unknown."""
    said, true = line.get(f"{name}_ms"), line.get(f"true_{name}_ms")
    return math.nan if said is None or true is None else said - true


def shown(value: float | None, form: str = ".1f") -> str:
    """A number, or a dash for what is not known."""
    return "–" if value is None or math.isnan(value) else format(value, form)


def shown_ms(value: float) -> str:
    """A tick of the picture."""
    return f"{'≤ ' if value <= LEAST_MS else ''}{value:g}"


def spoken(line: Line) -> str:
    """One measurement in one line."""
    state = "usable" if line["usable"] else "not usable"
    return (
        f"{line['tool']} at {line['rate']:g}/s, {line['mode']}, {line['tokens']} tokens: {state}; "
        f"achieved {shown(line.get('achieved_ratio'), '.1%')}, TTFT p99 {shown(line.get('true_ttft_p99_ms'))} → "
        f"{shown(line.get('ttft_p99_ms'))} ms, CPU {shown(line['cpu_s'], '.2f')} s of {line['wall_s']:.0f} s, "
        f"server {line['server_cpu_s']} s, exit {line['exit']} {line.get('verdict') or ''} {line.get('error') or ''}"
    ).rstrip()


def latest(lines: Sequence[Line]) -> list[Line]:
    """The lines to be compared: of the newest hours, of each tool and part its last series."""
    if not lines:
        raise SystemExit("the history is empty: run benchmarks/ladder.py first")
    since = max(datetime.fromisoformat(each["date"]) for each in lines) - TOGETHER
    near = [each for each in lines if datetime.fromisoformat(each["date"]) >= since]
    last = {_kind(each): each["series"] for each in near}
    return [each for each in near if each["series"] == last[_kind(each)]]


def _kind(line: Line) -> tuple[str, str, str]:
    return line["tool"], line["part"], line["mode"]


def levels(lines: Iterable[Line]) -> list[Line]:
    """Of each tool, mode and rate the better try, in the order of TONES and rates."""
    best: dict[tuple[str, str, float], Line] = {}
    for each in lines:
        key = each["tool"], each["mode"], each["rate"]
        if key not in best or each["usable"] or (not best[key]["usable"] and _off(each) < _off(best[key])):
            best[key] = each
    return sorted(best.values(), key=lambda each: (TONES.index(each["tool"]), each["mode"], each["rate"]))


def _off(line: Line) -> float:
    """How wrong, for the choice between two tries."""
    off = abs(error(line, "ttft_p99"))
    return math.inf if math.isnan(off) else off


def usable_rate(lines: Iterable[Line], tool: str) -> float | None:
    """The highest rate of a ladder at which the tool can be believed."""
    return max((each["rate"] for each in lines if each["tool"] == tool and each["usable"]), default=None)


def ladder(lines: Iterable[Line], mode: str) -> list[Line]:
    """The levels of every tool's ladder in one mode."""
    return levels(each for each in lines if each["part"] == "ladder" and each["mode"] == mode)


def valid_rate(lines: Iterable[Line], tool: str) -> float | None:
    """The highest usable rate of a run that the tool itself called valid; None for tools that judge nothing."""
    mine = [each for each in lines if each["tool"] == tool and each["usable"] and each.get("verdict") == "VALID"]
    return max((each["rate"] for each in mine), default=None)


def cost(lines: Sequence[Line]) -> fidelity.Cost | None:
    """What a tool's CPU goes into, from its three loads; None where one of them failed."""
    last = {fidelity.Load(each["requests"], each["tokens"]): each["cpu_s"] for each in lines if each["exit"] in {0, 3}}
    loads = sorted(last)
    if len(loads) != 3 or None in last.values():
        return None
    return fidelity.Cost.solve(loads, [last[load] for load in loads])


def summary(lines: Sequence[Line]) -> str:
    """One row a tool: how far it can be believed, what it costs."""
    climbs, free = ladder(lines, IN_STEP), ladder(lines, FREE)
    rows = []
    for tool in dict.fromkeys(each["tool"] for each in climbs):
        mine = [each for each in lines if each["tool"] == tool]
        paid = [each for each in mine if each["part"] == "costs"]
        found = cost(paid)
        rate = usable_rate(climbs, tool)
        rows.append(
            [
                f"{tool} {mine[-1]['version'] or ''}".strip(),
                f"**{rate:g}**" if rate else "none",
                shown(valid_rate(climbs, tool), "g"),
                shown(usable_rate(free, tool), "g"),
                shown(valid_rate(free, tool), "g"),
                shown(found and found.token_us),
                shown(found and found.request_us, ".0f"),
                shown(found and found.start_up_s),
                shown(max((each["peak_mb"] for each in paid if each["peak_mb"]), default=None), ".0f"),
            ]
        )
    heads = (
        "tool",
        "usable rate in step, requests/s",
        "called VALID",
        "usable rate free",
        "called VALID",
        "CPU µs a token",
        "CPU µs a request",
        "CPU s of a start",
        "peak MB",
    )
    return table(heads, rows)


def ratio(climbs: Sequence[Line]) -> str:
    """The usable rate of slobench over that of the best peer."""
    rates = {each["tool"]: usable_rate(climbs, each["tool"]) or 0.0 for each in climbs}
    ours, _ = rates.pop(OURS, 0.0), rates.pop("floor", 0.0)
    best = max(rates.values(), default=0.0)
    if not rates:
        return "no peer was measured."
    if not ours or not best:
        return "no ratio: slobench or every peer has no usable rate here."
    names = " and ".join(tool for tool, rate in rates.items() if rate == best)
    valid = valid_rate(climbs, OURS)
    told = f"slobench {ours:g}, the best peer ({names}) {best:g} requests/s: {ours / best:.1f} ×"
    return f"{told}; of runs that it called VALID, {valid:g}: {valid / best:.1f} ×." if valid else f"{told}."


def detail(lines: Iterable[Line]) -> str:
    """One row a tool, mode and rate."""
    rows = [
        [
            each["tool"],
            each["mode"],
            f"{each['rate']:g}",
            shown(each.get("achieved_ratio"), ".1%"),
            _pair(each, "ttft_p50"),
            _pair(each, "ttft_p99"),
            shown(error(each, "ttft_p99"), "+.2f"),
            shown(error(each, "tpot_p50"), "+.3f"),
            shown(error(each, "tpot_p99"), "+.3f"),
            shown(each.get("lag_p99_ms"), ".2f"),
            "yes" if each["usable"] else "no",
            each.get("verdict") or (f"exit {each['exit']}" if each["exit"] else "–"),
        ]
        for each in levels(lines)
    ]
    heads = (
        "tool",
        "mode",
        "rate",
        "achieved",
        "TTFT p50, true → told",
        "TTFT p99, true → told",
        "error",
        "TPOT p50 error",
    )
    return table((*heads, "TPOT p99 error", "send lag p99", "usable", "its verdict"), rows)


def by_mode(lines: Sequence[Line]) -> str:
    """One row a way to answer: how far each tool can be believed, and how wrong it is at most up to there."""
    every = levels(lines)
    tools = list(dict.fromkeys(each["tool"] for each in every))
    rows = []
    for mode in sorted({each["mode"] for each in every}, reverse=True):
        row = [mode]
        for tool in tools:
            mine = [each for each in every if each["mode"] == mode and each["tool"] == tool]
            good = [each for each in mine if each["usable"]]
            wrong = (max((abs(error(each, name)) for each in good), default=math.nan) for name in ERRORS)
            row += [shown(usable_rate(mine, tool), "g"), shown(valid_rate(mine, tool), "g")]
            row += [" · ".join(shown(each, ".2f") for each in wrong)]
        rows.append(row)
    heads = ["mode"]
    for tool in tools:
        heads += [f"{tool}: usable", "called VALID", "largest error of TTFT p50 · p99, TPOT p50 · p99, ms"]
    return table(heads, rows)


def by_workers(lines: Sequence[Line]) -> str:
    """One row a number of generator processes: how far they can be believed, and how often as far as one."""
    rows = []
    alone: float | None = None
    for many in sorted({each["servers"] for each in lines}):
        mine = levels(each for each in lines if each["servers"] == many)
        good = [each for each in mine if each["usable"]]
        rate = usable_rate(mine, OURS)
        alone = rate if many == 1 else alone
        off = max((abs(error(each, "ttft_p99")) for each in good), default=math.nan)
        valid = shown(valid_rate(mine, OURS), "g")
        rows.append(
            [str(many), shown(rate, "g"), shown(rate and alone and rate / alone, ".2f"), valid, shown(off, ".2f")]
        )
    heads = ("workers", "usable rate, requests/s", "times one worker's", "called VALID", "largest TTFT p99 error, ms")
    return table(heads, rows)


def _pair(line: Line, name: str) -> str:
    return f"{shown(line.get(f'true_{name}_ms'))} → {shown(line.get(f'{name}_ms'))}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text."""
    rule = ["---"] + ["--:"] * (len(heads) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))


def picture(lines: Sequence[Line]) -> str:
    """TTFT p99 error against the rate, a line a tool, as an SVG file."""
    climbs = ladder(lines, IN_STEP)
    known = [each for each in climbs if not math.isnan(error(each, "ttft_p99"))]
    rates = [each["rate"] for each in known]
    x = Axis(min(rates) / 1.2, max(rates) * 2.4, "log", lambda value: f"{value:g}", "requests/s offered")
    top = max(10.0, *(abs(error(each, "ttft_p99")) for each in known)) * 1.5
    plot = Plot(x, Axis(LEAST_MS, top, "log", shown_ms), 960, 460, "TTFT p99 error against the rate")
    plot.rule(5, "5 ms")
    plot.label(x.low, top / 1.3, "TTFT p99 error, ms", end=False)
    ends: list[tuple[float, float, str]] = []
    for tool in dict.fromkeys(each["tool"] for each in known):
        tone = TONES.index(tool)
        mine = [each for each in known if each["tool"] == tool]
        xs = np.array([each["rate"] for each in mine])
        ys = np.array([abs(error(each, "ttft_p99")) for each in mine])
        plot.line(xs, ys, f"c{tone}")
        plot.dots(xs, ys, f"c{tone}")
        ends.append((xs[-1], ys[-1], tool))
    placed: list[tuple[float, float]] = []
    for at, value, tool in sorted(ends, key=lambda end: -end[1]):
        height = value
        while any(abs(math.log(at / px)) < NEAR and abs(math.log(height / py)) < NEAR for px, py in placed):
            height /= 1.1
        placed.append((at, height))
        plot.label(at, height, tool, end=False)
    opened = '<svg xmlns="http://www.w3.org/2000/svg" width="960" height="460" '
    return plot.svg().replace("<svg ", opened, 1).replace(">", f">{STYLE}", 1) + "\n"


def conditions(lines: Sequence[Line]) -> str:
    """When, where and of which commits."""
    machine = lines[-1]["machine"]
    dates = sorted(each["date"] for each in lines)
    commits = dict.fromkeys(each["commit"] or "?" for each in lines)
    return (
        f"{dates[0][:16].replace('T', ' ')} to {dates[-1][11:16]} UTC; {machine['cpu']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}, Python {machine['python']}; commit {', '.join(commits)}; "
        "`python benchmarks/ladder.py`."
    )


def _absent(lines: Sequence[Line]) -> str:
    absent = [tool for tool in TONES if tool not in {each["tool"] for each in lines}]
    return f" Not measured then: {', '.join(absent)}." if absent else ""


ALONE = {"edge": detail, "apart": detail, "modes": by_mode, "workers": by_workers}


def written(history: Sequence[Line], page: Path | None) -> str:
    """The newest measurements as Markdown; into `page` and a picture beside it, where one is named."""
    lines = latest([each for each in history if each["part"] in COMPARED])
    ratios = (f"{name}: {ratio(ladder(lines, mode))}" for name, mode in (("In step", IN_STEP), ("Free", FREE)))
    blocks = {"summary": "\n\n".join((conditions(lines) + _absent(lines), summary(lines), *ratios))}
    blocks["ladder"] = detail(each for each in lines if each["part"] == "ladder")
    for part, form in ALONE.items():
        of_it = [each for each in history if each["part"] == part]
        shown_lines = latest(of_it) if of_it else []
        blocks[part] = f"{conditions(shown_lines)}\n\n{form(shown_lines)}" if of_it else "Not measured yet."
    if page is not None:
        text = page.read_text(encoding="utf-8")
        for name, block in blocks.items():
            text = replaced(text, name, block)
        page.write_text(text, encoding="utf-8")
        page.with_name("ladder.svg").write_text(picture(lines), encoding="utf-8")
    return "\n\n".join(blocks.values())
