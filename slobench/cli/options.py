"""Options that several commands take, each with its one meaning and help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slobench.config.workers import Workers as Placed

LOAD, SERVER, RUN = "Load", "Server", "Run"

WorkloadName = Annotated[str | None, typer.Argument(help="A name under workloads/, or a YAML file; none: from flags.")]

TargetName = Annotated[str, typer.Option(help="A name under targets/, a YAML file, or a URL.", rich_help_panel=SERVER)]
ModelName = Annotated[str | None, typer.Option(help="Model name in requests.", rich_help_panel=SERVER)]
Api = Annotated[str | None, typer.Option(help="completions, chat, responses or embeddings.", rich_help_panel=SERVER)]
Timeouts = Annotated[
    list[str] | None,
    typer.Option(help="120s (total), or connect=5s, first_token=, idle=, total=; repeatable.", rich_help_panel=SERVER),
]
Headers = Annotated[
    list[str] | None, typer.Option(help="'Name: value', repeatable; never stored.", rich_help_panel=SERVER)
]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="Environment variable that holds the API key.", rich_help_panel=SERVER)
]
IgnoreEos = Annotated[
    bool | None,
    typer.Option(
        "--ignore-eos/--no-ignore-eos", help="Force the reply's length, and demand it.", rich_help_panel=SERVER
    ),
]
Insecure = Annotated[bool, typer.Option(help="Do not verify TLS certificates.", rich_help_panel=SERVER)]
CaBundle = Annotated[str | None, typer.Option(help="PEM file of trusted certificates.", rich_help_panel=SERVER)]

Arrivals = Annotated[
    str | None,
    typer.Option(
        help="poisson, constant, gamma:cv=2, weibull:cv=2, on-off:mean_on=20s,mean_off=40s, "
        "hawkes:branching=0.5,decay=1, ramp:from=1,to=9,over=5m, burst, …",
        rich_help_panel=LOAD,
    ),
]
Rate = Annotated[
    str | None,
    typer.Option("--rate", "--request-rate", help="Offered load, requests/s, or inf.", rich_help_panel=LOAD),
]
Requests = Annotated[
    int | None,
    typer.Option(
        "--requests", "--num-prompts", help="Planned requests of a run, warm-up included.", rich_help_panel=LOAD
    ),
]
Duration = Annotated[
    str | None, typer.Option(help="Length of the offer, e.g. 60s, warm-up included.", rich_help_panel=LOAD)
]
InputTokens = Annotated[
    str | None, typer.Option(help="512, uniform:low=8,high=64, lognormal:mean=512,sigma=0.9 …", rich_help_panel=LOAD)
]
OutputTokens = Annotated[str | None, typer.Option(help="Like --input-tokens.", rich_help_panel=LOAD)]
Warmup = Annotated[str | None, typer.Option(help="Shortest warm-up, e.g. 10s.", rich_help_panel=LOAD)]
SloClauses = Annotated[
    list[str] | None,
    typer.Option(help="e.g. 'ttft<500ms', 'tpot:p99<50ms', 'attainment>=99%'; repeatable.", rich_help_panel=LOAD),
]
Goodput = Annotated[
    list[str] | None, typer.Option(help="vLLM's spelling of limits: ttft:500 tpot:50 (ms).", rich_help_panel=LOAD)
]

Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|ray[/N]|ray://HOST:PORT[/N]",
        help="Generator processes, default: the free cores; ray: on a Ray cluster, one on each node or N in all.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Override any setting: path=value; repeatable.", rich_help_panel=RUN)
]
Out = Annotated[
    Path | None, typer.Option(help="Exactly this folder; default: a new one in results/.", rich_help_panel=RUN)
]
History = Annotated[
    Path | None,
    typer.Option(
        help="Append what the run amounted to, e.g. to results/history.parquet.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Export = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORM",
        help="Write the results for others, into the run's folder: vllm, llmd, csv, csv-requests, openmetrics; "
        "repeatable.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress, and only the verdict or the result line.", rich_help_panel=RUN)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=RUN)]


def workers_of(text: str | None) -> Placed | None:
    """Where `--workers` has the generator run. Raises ConfigError."""
    from slobench.config.workers import parse_workers

    return None if text is None else parse_workers(text)
