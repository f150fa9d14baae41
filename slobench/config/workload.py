"""A workload: classes of requests, each with arrivals and lengths, and how long to offer them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from slobench.config.arrivals import Arrivals, Burst, mean_rate
from slobench.config.base import DurationNs, FileName, Model, PositiveDurationNs
from slobench.config.class_slo import moved
from slobench.config.content import Images, Prefix
from slobench.config.lengths import EmpiricalLength, Lengths, NoTokens, OutputLengths, PairedLength
from slobench.config.recorded import Recorded
from slobench.config.session import Patience, Session
from slobench.config.until import Until
from slobench.config.validity import Thresholds
from slobench.config.wire import ExtraBody, Headers
from slobench.names import Api

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

MAX_REQUESTS = 50_000_000  # a plan is held in memory: 60 bytes a row


class RequestClass(Model):
    """One kind of request: when it arrives, how long it is, what it may ask of the server."""

    arrivals: Arrivals | None = None
    """When requests arrive; null where the loop is closed."""
    share: Positive = 1.0
    """Weight of the class among the requests of a closed loop."""
    input_tokens: Lengths | None = None
    """Lengths of prompts; null where the class is `recorded`."""
    output_tokens: OutputLengths | None = None
    """Lengths of replies; null where the class is `recorded`."""
    recorded: Recorded | None = None
    """A recording to replay, instead of `arrivals`, `input_tokens` and `output_tokens`."""
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    """Body field `priority` (vLLM: lower is more urgent); null sends none."""
    shared_prefix_tokens: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Tokens at the start of every prompt of the class that are the same; 0: no shared block."""
    prefix: Prefix | None = None
    """Beginnings that prompts share, from a pool of several; null: none but `shared_prefix_tokens`."""
    text: FileName | None = None
    """A text file whose words, in order, prompts are made of, about a token a word; null: words or ids at random."""
    images: Images | None = None
    """Images besides the text of the prompt (api chat); null: none."""
    session: Session | None = None
    """Requests that follow one another; null: each stands alone."""
    patience: Patience | None = None
    """How long a reply is waited for; null: as long as it takes."""
    model: str | None = None
    """Model or LoRA adapter that the class asks for; null: the target's."""
    api: Api | None = None
    """Which call of the server; null: the target's."""
    headers: Headers = Field(default_factory=dict)
    """Request headers besides the target's, instead of those of the same name. Values never reach a file."""
    extra_body: ExtraBody = Field(default_factory=dict)
    """Body fields besides the target's `extra_body`, instead of those of the same name, e.g. `tools`."""
    slo: tuple[str, ...] = ()
    """SLO clauses for this class alone, as those of the workload without `class=`; they join `slo` there."""

    @model_validator(mode="before")
    @classmethod
    def _embeddings_have_no_output(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("api") != "embeddings":
            return data
        own = data.get("output_tokens") is not None or data.get("recorded") is not None
        return data if own else {**data, "output_tokens": {"dist": "none"}}

    @property
    def lengths(self) -> tuple[Lengths, OutputLengths]:
        """Lengths of prompts and replies of a class that is not recorded."""
        if self.input_tokens is None or self.output_tokens is None:
            raise ValueError("a recorded class has no distributions of lengths")
        return self.input_tokens, self.output_tokens

    @model_validator(mode="after")
    def _recorded_or_drawn(self) -> RequestClass:
        lengths = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        if self.recorded is None:
            missing = [name for name, value in lengths.items() if value is None]
            if missing:
                raise ValueError(f"`{missing[0]}` is missing; expected lengths, e.g. {{dist: constant, value: 512}}")
            return self
        other: dict[str, object] = {
            "arrivals": self.arrivals,
            **lengths,
            "session": self.session,
            "prefix": self.prefix,
        }
        other |= {"images": self.images, "shared_prefix_tokens": self.shared_prefix_tokens or None}
        both = [name for name, value in other.items() if value is not None]
        if both:
            raise ValueError(f"`{both[0]}` beside `recorded`, which says that itself; expected one of them")
        return self

    @model_validator(mode="after")
    def _output_fits_the_api(self) -> RequestClass:
        none = isinstance(self.output_tokens, NoTokens)
        if self.api == "embeddings" and self.output_tokens is not None and not none:
            raise ValueError("api embeddings has no output: expected no `output_tokens`")
        if none and self.api not in {None, "embeddings"}:
            raise ValueError(f"api {self.api} makes tokens: expected lengths in `output_tokens`, not dist none")
        return self

    @model_validator(mode="after")
    def _content_fits(self) -> RequestClass:
        if self.prefix is not None and self.shared_prefix_tokens:
            raise ValueError("both `prefix` and `shared_prefix_tokens`: expected one; a pool of 1 is what the other is")
        if self.prefix is not None and self.prefix.hit_rate is not None and self.session is not None:
            raise ValueError(
                "prefix with hit_rate in a class of sessions, whose prompts share their history too: "
                "expected `tokens` and `pool`"
            )
        if self.images is not None and self.api not in {None, "chat"}:
            raise ValueError(f"images with api {self.api}: expected api chat, the only one that they are sent by")
        return self

    @model_validator(mode="after")
    def _pairs_match(self) -> RequestClass:
        output = self.output_tokens
        if isinstance(output, PairedLength):
            values = self.input_tokens.values if isinstance(self.input_tokens, EmpiricalLength) else ()
            if len(values) != len(output.values):
                raise ValueError(
                    f"output_tokens paired: {len(output.values)} values beside {len(values)} of input_tokens; "
                    "expected input_tokens {dist: empirical} with as many"
                )
            for step in self.session.steps if self.session else ():
                if step.input_tokens is not None and step.output_tokens is None:
                    raise ValueError(
                        f"step {step.name} has its own input_tokens beside output_tokens that are paired with the "
                        "class's; expected its own output_tokens too"
                    )
        return self


class OpenLoop(Model):
    """Requests are sent when the plan says, whatever the server does."""

    mode: Literal["open"] = "open"
    max_in_flight: Annotated[int, Field(ge=1)] = 100_000
    """Safety stop: an arrival above it is `dropped` and the run is invalid."""


class ClosedLoop(Model):
    """N users, each sending its next request when the last one ended."""

    mode: Literal["closed"] = "closed"
    users: Annotated[int, Field(ge=1, le=1_000_000)]
    think_time: DurationNs = 0


Loop = Annotated[OpenLoop | ClosedLoop, Field(discriminator="mode")]


class Drain(Model):
    """What happens to requests in flight when the last one that counts was offered."""

    mode: Literal["wait", "cut", "grace"] = "wait"
    grace: DurationNs = 30 * 10**9
    """How long replies may still take (mode grace), and how long a run by duration goes on offering."""


class Workload(Model):
    """What is offered: classes of requests, and for how long.

    The order of `classes` is part of the plan (class codes and seeds follow the names, codes the order).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    about: str = ""
    """Whom the traffic resembles."""
    source: str = ""
    """Where the parameters come from."""
    loop: Loop = OpenLoop()
    classes: Annotated[dict[ClassName, RequestClass], Field(min_length=1)]
    requests: Annotated[int, Field(ge=1, le=MAX_REQUESTS)] | None = None
    """Number of planned requests over all classes, warm-up included; recordings may end before."""
    duration: PositiveDurationNs | None = None
    """Length of the offer, warm-up included; either this or `requests`. Recordings alone need neither."""
    warmup: DurationNs | None = None
    """Shortest warm-up asked for; evaluation may take more (docs/metrics.md, Window)."""
    until: Until | None = None
    """When to stop earlier; `requests` or `duration` stays the upper bound."""
    drain: Drain = Drain()
    slo: tuple[str, ...] = ()
    """SLO clauses, e.g. `ttft<500ms`, `tpot<50ms`, `attainment>=99%`, `class=chat ttft<1s`, and names of presets."""
    slo_presets: tuple[str, ...] = ()
    """Presets whose clauses stand in `slo`; filled in when their names are replaced."""
    validity: Thresholds = Thresholds()
    """Limits of the validity checks that are not the defaults, e.g. `{v01: {warning: 0.02}}`."""

    @model_validator(mode="before")
    @classmethod
    def _with_class_clauses(cls, data: Any) -> Any:
        return moved(data)[0]

    @model_validator(mode="after")
    def _consistent(self) -> Workload:
        recordings = all(spec.recorded is not None for spec in self.classes.values())
        if (self.requests is None) == (self.duration is None) and not (recordings and self.requests is None):
            raise ValueError(
                f"{'neither' if self.requests is None else 'both'} of `requests` and `duration`: expected exactly one"
            )
        for name, spec in self.classes.items():
            if self.loop.mode == "closed" and spec.recorded is not None:
                raise ValueError(f"class {name}: a recording is replayed in an open loop; expected no closed one")
            if self.loop.mode == "open" and spec.arrivals is None and spec.recorded is None:
                raise ValueError(f"class {name}: an open loop needs `arrivals`, e.g. {{process: poisson, rate: 5}}")
            if self.loop.mode == "closed" and spec.arrivals is not None:
                raise ValueError(f"class {name}: a closed loop has no `arrivals`; its load follows from `loop.users`")
            if self.loop.mode == "closed" and spec.session is not None and spec.session.steps:
                raise ValueError(
                    f"class {name}: a user of a closed loop has one request at a time; expected a session without "
                    "`steps`, or an open loop with `arrivals`"
                )
            waits = spec.session is not None or (spec.recorded is not None and spec.recorded.turns == "after-reply")
            if waits and self.requests is not None and self.drain.mode != "wait":
                raise ValueError(
                    f"class {name}: drain {self.drain.mode} with sessions and `requests`: their end is not planned; "
                    "expected `duration`, or drain wait"
                )
            if isinstance(spec.arrivals, Burst) and self.requests is None:
                raise ValueError(f"class {name}: a burst needs `requests`, not `duration`")
        if self.loop.mode == "closed" and self.requests is not None and self.requests < self.loop.users:
            raise ValueError(f"{self.requests} requests are too few for {self.loop.users} users; at least one each")
        if self.loop.mode == "closed" and self.requests is not None and self.drain.mode != "wait":
            raise ValueError(
                f"drain {self.drain.mode} in a closed loop of `requests`: it has no planned end to count from; "
                "expected `duration`, or drain wait"
            )
        if self.duration is not None and self.warmup is not None and self.warmup >= self.duration:
            raise ValueError("the warm-up takes the whole duration: expected `warmup` shorter than `duration`")
        if self.duration is not None and self.expected_requests() > MAX_REQUESTS:
            raise ValueError(f"about {self.expected_requests():.3g} requests; expected at most {MAX_REQUESTS:,}")
        return self

    def offered_rate(self) -> float:
        """Return the sum of the classes' nominal arrival rates, requests/s; 0 for a burst or a closed loop."""
        return sum(mean_rate(spec.arrivals) for spec in self.classes.values() if spec.arrivals is not None)

    def expected_requests(self) -> float:
        """Return the requests that the nominal rates make over `duration`; 0 where there is none."""
        if self.duration is None:
            return 0.0
        arrivals = [spec.arrivals for spec in self.classes.values() if spec.arrivals is not None]
        return sum(mean_rate(each, self.duration) for each in arrivals) * self.duration / 1e9
