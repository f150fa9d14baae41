"""Rewrite the generated blocks of docs/reference.md from the code; `--check` only says whether they are up to date.

A block lies between `<!-- generated: NAME -->` and `<!-- end -->`. Words that the code has no place for (what a
column or an outcome means) stand in scripts/reference_words.py; one that is missing or left over is an error.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent))

import reference_words as words

from slobench import names
from slobench.config import (
    arrivals,
    content,
    durations,
    engine,
    experiment,
    find,
    lengths,
    margins,
    presets,
    rates,
    recorded,
    session,
    target,
    telemetry,
    until,
    workload,
)
from slobench.config.validity import Step, Thresholds
from slobench.experiment import sweep_file
from slobench.records import history, schema
from slobench.units import format_duration_ns

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
COMMANDS = {
    "run": ("run", "command"),
    "capacity": ("capacity", "command"),
    "sweep": ("sweep", "command"),
    "compare": ("compare", "command"),
    "gate": ("gate", "command"),
    "report": ("report", "command"),
    "plan": ("plan", "command"),
    "serve": ("serve", "command"),
    "selftest": ("selftest", "command"),
    "doctor": ("doctor", "command"),
    "trace inspect": ("trace", "inspect"),
    "trace convert": ("trace", "convert"),
    "trace fit": ("trace", "fit"),
    "trace sample": ("trace", "sample"),
    "config show": ("config", "show"),
    "config schema": ("config", "schema"),
}
WORKLOAD_MODELS = (
    ("The file", workload.Workload),
    ("`loop`, mode `open`", workload.OpenLoop),
    ("`loop`, mode `closed`", workload.ClosedLoop),
    ("`classes.NAME`", workload.RequestClass),
    ("`arrivals`, process `poisson`", arrivals.Poisson),
    ("`arrivals`, process `constant`", arrivals.Constant),
    ("`arrivals`, process `gamma`", arrivals.Gamma),
    ("`arrivals`, process `weibull`", arrivals.Weibull),
    ("`arrivals`, process `on-off`", arrivals.OnOff),
    ("`arrivals`, process `mmpp`", arrivals.Mmpp),
    ("`arrivals`, process `hawkes`", arrivals.Hawkes),
    ("`arrivals`, process `varying`", arrivals.Varying),
    ("`arrivals.rate`, shape `ramp`", rates.Ramp),
    ("`arrivals.rate`, shape `steps`", rates.Steps),
    ("`arrivals.rate.steps`", rates.Step),
    ("`arrivals.rate`, shape `spike`", rates.Spike),
    ("`arrivals.rate`, shape `sinusoid`", rates.Sinusoid),
    ("`arrivals.rate`, shape `diurnal`", rates.Diurnal),
    ("`arrivals.rate`, shape `points`", rates.Points),
    ("`arrivals`, process `pool`", arrivals.Pool),
    ("`arrivals`, process `burst`", arrivals.Burst),
    ("lengths, dist `constant`", lengths.ConstantLength),
    ("lengths, dist `uniform`", lengths.UniformLength),
    ("lengths, dist `normal`", lengths.NormalLength),
    ("lengths, dist `lognormal`", lengths.LognormalLength),
    ("lengths, dist `weibull`", lengths.WeibullLength),
    ("lengths, dist `empirical`", lengths.EmpiricalLength),
    ("lengths, dist `mixture`", lengths.MixtureLength),
    ("`output_tokens`, dist `paired`", lengths.PairedLength),
    ("`output_tokens`, dist `none`", lengths.NoTokens),
    ("`prefix`", content.Prefix),
    ("`images`", content.Images),
    ("`recorded`", recorded.Recorded),
    ("`session`", session.Session),
    ("`session.steps`", session.Step),
    ("`patience`", session.Patience),
    ("times, dist `constant`", durations.ConstantTime),
    ("times, dist `uniform`", durations.UniformTime),
    ("times, dist `exponential`", durations.ExponentialTime),
    ("times, dist `lognormal`", durations.LognormalTime),
    ("times, dist `weibull`", durations.WeibullTime),
    ("times, dist `empirical`", durations.EmpiricalTime),
    ("`drain`", workload.Drain),
    ("`until`, rule `decided`", until.Decided),
    ("`until`, rule `precision`", until.Precise),
)
MARGINS_MODELS = (("The file", margins.Margins),)
TARGET_MODELS = (
    ("kind `sim`", target.SimTarget),
    ("kind `null-server`", target.NullTarget),
    ("kind `remote`", target.RemoteTarget),
    ("kind `vllm`", target.VllmTarget),
    ("kind `command`", target.CommandTarget),
    ("`telemetry`", telemetry.Telemetry),
    ("`talk`", target.Talk),
    ("`talk.timeouts`", target.Timeouts),
    ("`engine` (kind `sim`)", engine.Engine),
    ("`engine.step`", engine.StepTime),
    ("`engine.stalls`", engine.Stall),
)

EXPERIMENT_MODELS = (
    ("The file", experiment.Experiment),
    ("`settings`", experiment.Settings),
    ("`settings.sample`", experiment.Sample),
    ("`settings.sample.of.PATH`", experiment.Range),
    ("`capacity`", experiment.CapacitySearch),
)


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(text: object) -> str:
    """Text as code, nothing for nothing."""
    return f"`{text}`" if str(text) else ""


def explained(kind: str, wanted: list[str], known: Mapping[str, str]) -> Mapping[str, str]:
    """Return `known`; SystemExit where it says nothing of a wanted name, or something of an unknown one."""
    wrong = sorted(set(wanted) ^ set(known))
    if wrong:
        sys.exit(f"scripts/reference_words.py, {kind}: not in step with the code: {', '.join(wrong)}")
    return known


def parameters(function: Callable[..., None]) -> Iterator[tuple[str, str, str, str]]:
    """Each parameter of a command: flags or argument, type, default, help."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        info = next(each for each in extras if hasattr(each, "param_decls"))
        # Inside Annotated, typer keeps the first spelling of an option where a default would stand.
        declared = [info.default, *(info.param_decls or ())]
        spelled = [each for each in declared if isinstance(each, str) and each.startswith("-")]
        kind = type_of(hint)
        if type(info).__name__ == "ArgumentInfo":
            flags = code(info.metavar or name.upper())
        elif spelled:
            flags = ", ".join(code(flag) for each in spelled for flag in each.split("/"))
        else:
            plain = name.rstrip("_").replace("_", "-")
            flags = code(f"--{plain}")
        default = "" if parameter.default in (None, inspect.Parameter.empty, False) else code(parameter.default)
        yield flags, kind, default, info.help or ""


def type_of(hint: Any) -> str:
    """A parameter's type in a word."""
    inner = [each for each in get_args(hint) if each is not type(None)]
    if get_origin(hint) is list:
        return "text, repeatable"
    if inner and get_origin(hint) is not list:
        return type_of(inner[0])
    simple = {str: "text", int: "whole number", float: "number", bool: "switch", Path: "path"}
    return simple.get(hint) or " or ".join(code(each.value) for each in hint)


def commands() -> str:
    """Every command with its flags."""
    parts = []
    for name, (module, function) in COMMANDS.items():
        command = getattr(import_module(f"slobench.cli.{module}"), function)
        rows = table(("flag or argument", "type", "default", "meaning"), parameters(command))
        parts.append(f"### slobench {name}\n\n{inspect.getdoc(command)}\n\n{rows}")
    return "\n".join(parts)


def value_type(entry: Mapping[str, Any]) -> str:
    """A JSON Schema entry's type in a few words."""
    if "$ref" in entry:
        return code(entry["$ref"].rpartition("/")[2])
    if "discriminator" in entry:
        return "by " + code(entry["discriminator"]["propertyName"])
    if "const" in entry:
        return code(entry["const"])
    if "enum" in entry:
        return ", ".join(code(each) for each in entry["enum"])
    if choices := entry.get("anyOf"):
        if any("ns|us|ms" in each.get("pattern", "") for each in choices):
            return "duration"
        return " or ".join(dict.fromkeys(value_type(each) for each in choices))
    if "prefixItems" in entry:
        return "list of " + str(len(entry["prefixItems"]))
    kind = {"integer": "whole number", "string": "text", "boolean": "true or false", "object": "mapping"}
    return {"array": "list", "null": "null", "number": "number"}.get(entry.get("type", ""), "") or kind.get(
        entry.get("type", ""), "any"
    )


def keys(models: tuple[tuple[str, Any], ...]) -> str:
    """The keys of configuration models, one table each."""
    parts = []
    for title, model in models:
        described = model.model_json_schema()
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        required = described.get("required", [])
        rows = []
        for name, entry in described.get("properties", {}).items():
            spare = words.KEYS.get(f"{model.__name__}.{name}") or words.KEYS.get(name, "")
            meaning = words.KEYS.get(f"{model.__name__}.{name}") or fields[name].description or spare
            if not meaning:
                sys.exit(f"scripts/reference_words.py, KEYS: nothing about {model.__name__}.{name}")
            kind = value_type(entry)
            default = default_of(entry, required=name in required, kind=kind)
            rows.append((code(name), kind, default, " ".join(meaning.split())))
        parts.append(
            f"**{title}.** {inspect.getdoc(model)}\n\n{table(('key', 'value', 'default', 'meaning'), iter(rows))}"
        )
    return "\n".join(parts)


def default_of(entry: Mapping[str, Any], *, required: bool, kind: str) -> str:
    """A key's default as it is written in YAML."""
    if required:
        return "required"
    default = entry.get("default", "")
    if isinstance(default, Mapping):
        return "its own"
    if default == "" or isinstance(default, list | tuple):
        return ""
    if default is None or isinstance(default, bool):
        return code({None: "null", True: "true", False: "false"}[default])
    return code(format_duration_ns(default) if kind.startswith("duration") and isinstance(default, int) else default)


def slo_presets() -> str:
    """The SLO presets that come with slobench."""
    loaded = ((name, presets.load_preset(str(find.folders("slo")[-1] / f"{name}.yaml"))) for name in find.names("slo"))
    return table(
        ("preset", "clauses", "for"),
        ((code(name), ", ".join(map(code, each.clauses)), each.about.strip()) for name, each in loaded),
    )


def columns(kind: str, table_schema: pa.Schema) -> str:
    """A parquet file's columns: type, whether null can stand there, meaning."""
    known = explained(f"COLUMNS[{kind}]", table_schema.names, words.COLUMNS[kind])
    rows = ((code(field.name), arrow_type(field.type), known[field.name]) for field in table_schema)
    return table(("column", "type", "meaning"), rows)


def sweep_columns() -> str:
    """The columns of sweep.parquet."""
    hints = get_type_hints(sweep_file.Row) | get_type_hints(sweep_file.Numbers)
    wanted = [name for name in hints if name != "numbers"]
    known = explained("SWEEP", wanted, words.SWEEP)
    return table(("column", "type", "meaning"), ((code(n), type_in_table(hints[n]), known[n]) for n in wanted))


def type_in_table(hint: Any) -> str:
    """A column's Arrow type by the type that it is read as."""
    kinds = {int: "int64", float: "double", bool: "bool"}
    return next((kinds[each] for each in (hint, *get_args(hint)) if each in kinds), "string")


def arrow_type(kind: pa.DataType) -> str:
    """An Arrow type's name; a dictionary of strings is text to a reader."""
    return "string" if pa.types.is_dictionary(kind) else str(kind)


def vocabulary(kind: str, values: list[str], known: Mapping[str, str]) -> str:
    """A fixed vocabulary with what each word means."""
    meaning = explained(kind, values, known)
    return table(("value", "meaning"), ((code(value), meaning[value]) for value in values))


def exits() -> str:
    """Exit codes, and which is given where several hold."""
    known = explained("EXITS", [each.name for each in names.Exit], words.EXITS)
    rows = table(("code", "meaning"), ((code(each.value), known[each.name]) for each in names.Exit))
    order = ", ".join(str(each.value) for each in names.EXIT_ORDER)
    return f"{rows}\nWhere several hold, the first of {order} is given; `exits` in the JSON has all.\n"


def thresholds() -> str:
    """Thresholds of the validity checks: keys of `validity` in a workload, and of `thresholds` in run.json."""
    rows = []
    for name, field in Thresholds.model_fields.items():
        default = field.default
        text = f"warning {default.warning:g}, past {default.past:g}" if isinstance(default, Step) else f"{default:g}"
        rows.append((code(name), text, field.description or ""))
    return table(("key", "default", "of what"), iter(rows))


def run_json() -> str:
    """The keys of run.json."""
    return table(("key", "meaning"), ((code(key), meaning) for key, meaning in words.RUN_JSON.items()))


def summary_json() -> str:
    """The keys of `run --json` and of run.json's summary."""
    return table(("key", "meaning"), ((code(key), meaning) for key, meaning in words.SUMMARY_JSON.items()))


BLOCKS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "exits": exits,
    "workload-keys": lambda: keys(WORKLOAD_MODELS),
    "slo-presets": slo_presets,
    "target-keys": lambda: keys(TARGET_MODELS),
    "experiment-keys": lambda: keys(EXPERIMENT_MODELS),
    "sweep": sweep_columns,
    "run-json": run_json,
    "summary-json": summary_json,
    "requests": lambda: columns("requests", schema.REQUESTS),
    "chunks": lambda: columns("chunks", schema.CHUNKS),
    "plan": lambda: columns("plan", schema.plan_schema(schema.PLAN_OPTIONAL.names)),
    "telemetry": lambda: columns("telemetry", schema.TELEMETRY),
    "history": lambda: columns("history", history.SCHEMA),
    "margins-keys": lambda: keys(MARGINS_MODELS),
    "server-metrics": lambda: vocabulary("SERVER_METRICS", list(schema.SERVER_METRICS), words.SERVER_METRICS),
    "gpu-metrics": lambda: vocabulary("GPU_METRICS", list(schema.GPU_METRICS), words.GPU_METRICS),
    "host-metrics": lambda: vocabulary("HOST_METRICS", list(schema.HOST_METRICS), words.HOST_METRICS),
    "worker-metrics": lambda: vocabulary("WORKER_METRICS", list(schema.WORKER_METRICS), words.WORKER_METRICS),
    "outcomes": lambda: vocabulary("OUTCOMES", [str(each) for each in names.Outcome], words.OUTCOMES),
    "phases": lambda: vocabulary("PHASES", [str(each) for each in names.Phase], words.PHASES),
    "channels": lambda: vocabulary("CHANNELS", [str(each) for each in names.Channel], words.CHANNELS),
    "tokens-sources": lambda: vocabulary("SOURCES", [str(each) for each in names.TokensSource], words.SOURCES),
    "thresholds": thresholds,
}


def rewritten(page: str) -> str:
    """Return the page with every block made anew. SystemExit where a block has no maker, or a maker no block."""
    found = [name for _, name, _ in BLOCK.findall(page)]
    if sorted(found) != sorted(BLOCKS):
        sys.exit(f"docs/reference.md: blocks {sorted(set(found) ^ set(BLOCKS)) or found} are not the generated ones")
    return BLOCK.sub(lambda match: f"{match[1]}\n{BLOCKS[match[2]]()}\n{match[3]}", page)


def main() -> int:
    """Rewrite the page, or with --check return 1 where that would change it."""
    page = PAGE.read_text(encoding="utf-8")
    fresh = rewritten(page)
    if "--check" in sys.argv[1:]:
        if fresh != page:
            sys.stderr.write("docs/reference.md is not up to date: run python scripts/reference.py\n")
        return int(fresh != page)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
