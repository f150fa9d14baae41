"""Recorded traffic as a class of a workload: which file, which part of it, and what is done with it before replay."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from slobench.config.arrivals import Arrivals, Burst, Process
from slobench.config.base import DurationNs, FileName, Model
from slobench.config.lengths import Tokens

TraceFormat = Literal[
    "auto",
    "slobench-jsonl",
    "slobench",
    "azure",
    "burstgpt",
    "aiperf",
    "mooncake",
    "timed-trace",
    "bailian",
    "servegen",
    "sharegpt",
    "vidur",
    "splitwise",
    "otel",
    "vllm-log",
]
FORMATS: tuple[str, ...] = get_args(TraceFormat)


class _Word(Model):
    """A value that is written as one word, its `process`."""

    @model_serializer
    def _plain(self) -> str:
        return str(getattr(self, "process"))  # noqa: B009 (of the classes below)


class AsRecorded(_Word):
    """At the recorded times."""

    process: Literal["as-recorded"] = "as-recorded"


class Spread(_Word):
    """At random places in the recorder's bins, in the recorded order."""

    process: Literal["spread"] = "spread"


def _named(value: object) -> object:
    return {"process": value} if isinstance(value, str) else value


ReplayTimes = Annotated[
    AsRecorded | Spread | Process,
    Field(discriminator="process"),
    BeforeValidator(_named, json_schema_input_type=Literal["as-recorded", "spread"] | Arrivals),
]


class Recorded(Model):
    """Requests of a recording, each once and in its order, instead of drawn arrivals and lengths.

    In this order: `label`, `from` and `to`, failures left out, `keep`, `speed`, `scale_tokens`, `max_tokens`, `loop`,
    `arrivals`, `turns`.
    """

    file: FileName
    """A trace file or folder; relative to the workload file, else to the working directory."""
    format: TraceFormat = "auto"
    """docs/trace-formats.md lists them; auto: told by the first line."""
    label: str | None = None
    """Only requests with this label of the recorder (model, kind of request); null: all."""
    from_: Annotated[DurationNs, Field(alias="from")] = 0
    """Time of the recording at which the run starts."""
    to: DurationNs | None = None
    """End of the part; null: that of the recording."""
    keep: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Thinning: each session, or request without one, is kept with this probability."""
    speed: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] = 1.0
    """Speed-up: times between requests are divided by it."""
    arrivals: ReplayTimes = AsRecorded()
    """as-recorded; spread: at random places in the recorder's bins; a process: its times, for the requests in order."""
    turns: Literal["as-recorded", "after-reply"] = "as-recorded"
    """When later requests of a session are due: at their recorded time, or the recorded delay after the reply."""
    scale_tokens: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] = 1.0
    """Lengths, and prefix blocks with them, times this."""
    block_tokens: Tokens | None = None
    """Tokens of a prefix block as replayed; null: as recorded, times `scale_tokens`."""
    max_tokens: Tokens | None = None
    """Requests whose prompt and reply together are longer are left out; null: none are."""
    loop: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """How many times over; sessions and prefixes of each round are new ones."""

    @property
    def process(self) -> Process | None:
        """The process whose times are taken, where they are not the recorded ones."""
        return None if isinstance(self.arrivals, AsRecorded | Spread) else self.arrivals

    @model_validator(mode="after")
    def _consistent(self) -> Recorded:
        if self.to is not None and self.to <= self.from_:
            raise ValueError("`to` is not after `from`; expected a part of the recording with some length")
        if isinstance(self.arrivals, Burst):
            raise ValueError(  # noqa: TRY004 (pydantic takes no TypeError)
                "all of a recording at once is no arrival of it; expected as-recorded, spread, or a process with a rate"
            )
        return self
