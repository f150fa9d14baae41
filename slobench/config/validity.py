"""Limits of the validity checks as settings: defaults, and what a workload file or `--set validity.…` changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_serializer, model_validator

from slobench.config.base import Model
from slobench.errors import ConfigError

Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_FALLING = "v07_p"  # a smaller p is graver; everywhere else a larger value is


class Step(Model):
    """Two limits of one check: past `warning` it is a warning, past `past` the finding's second level."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=[]))  # one alone may be given

    warning: Limit
    past: Limit


def _step(warning: float, past: float) -> Step:
    return Step(warning=warning, past=past)


class Thresholds(Model):
    """Limits of the validity checks V01 to V21, as shares unless the name has a unit (docs/metrics.md, Validity).

    "of S": share of the tightest TTFT limit; "of G": share of the tightest TPOT or gap limit.
    Given in part, the rest keeps its default. In files and `--set` a code alone (`v01`) means its only pair of limits.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: schema["properties"].update(_short_codes(schema)))

    default_ttft_s: Annotated[float, Field(gt=0)] = 0.5
    """S where no TTFT limit was given."""
    default_gap_s: Annotated[float, Field(gt=0)] = 0.05
    """G where neither a TPOT nor a gap limit was given."""
    v01_lag_of_s: Step = _step(0.01, 0.05)
    """Send lag p99."""
    v01_late_of_s: Limit = 0.1
    """A send later than this share of S is late."""
    v01_late_share: Limit = 0.001
    """Share of late sends past which the run is INVALID."""
    v02_unsent: Step = _step(0.001, 0.01)
    """Planned requests that were not sent."""
    v03_overshoot_of_g: Step = _step(0.05, 0.1)
    """Lateness of a worker's 50 ms timer, p99."""
    v04_cpu: Step = _step(0.6, 0.85)
    """CPU of one worker."""
    v04_throttled: Step = _step(0.0, 0.001)
    """Time that a CPU quota stopped a worker."""
    v04_steal: Step = _step(0.01, 0.05)
    """CPU time that the hypervisor gave to others."""
    v04_gc_of_g: Step = _step(0.01, 0.1)
    """Wait for garbage collection that 1 % of moments exceed."""
    v05_error_of_s: Limit = 0.01
    """A first token that may have come earlier by more than this share of S is uncertain."""
    v05_share: Step = _step(0.001, 0.01)
    """Uncertain first tokens; without kernel stamps late looks of the event loop."""
    v06_wait_s: Limit = 0.001
    """Wait for an open connection, p99, past which it is a warning."""
    v06_wait_of_s: Limit = 0.05
    """The same, past which the run is INVALID."""
    v06_new: Limit = 0.01
    """Requests of the window that opened a connection."""
    v06_fds: Limit = 0.8
    """File descriptors in use."""
    v07_p: Step = _step(0.05, 0.01)
    """p of a drift over ten parts of the window."""
    v07_ratio: Limit = 1.25
    """Growth, last third over first, past which a drift is OVERLOADED."""
    v08_window_of_e2e: Limit = 30.0
    """Least length of the window in mean E2E."""
    v08_claim_of_e2e: Limit = 10.0
    """The same where a claim is judged by the run: INVALID below it."""
    v08_batches: Annotated[int, Field(ge=1, le=10)] = 10
    """Least tenths of the window with requests in them."""
    v08_unsettled: Limit = 0.4
    """Share of the window that MSER-5 would drop from its start; it tries no more than half."""
    v09_tail: Limit = 10.0
    """Least effective requests beyond a quantile that an objective judges."""
    v10_errors: Step = _step(0.001, 0.01)
    """Failed requests."""
    v11_tokens: Step = _step(0.01, 0.05)
    """Tokens off the plan's."""
    v12_tokens_per_event: Limit = 1.05
    """Tokens in one event, mean."""
    v12_at_once_share: Limit = 0.05
    """Replies that arrived whole."""
    v12_at_once_s: Limit = 0.005
    """A reply of more than 32 tokens that took no longer arrived whole."""
    v12_tail_s: Limit = 0.05
    """From the last token to the end of the reply, median."""
    v13_little: Step = _step(0.02, 0.05)
    """Requests in flight by the workers' counts against the records."""
    v13_clock_steps: Limit = 0.0
    """Steps of the wall clock that are let pass."""
    v14_foreign: Step = _step(0.005, 0.02)
    """The server's count of requests against ours."""
    v15_apart_s: Step = _step(0.005, 0.05)
    """TTFT against the server's own: allowed whatever the server's is."""
    v15_apart: Step = _step(0.05, 0.25)
    """TTFT against the server's own: allowed share of the server's."""
    v15_errors: Limit = 3.0
    """Standard errors by which a TTFT below the server's own is beyond chance."""
    v16_ceiling: Step = _step(0.7, 1.0)
    """Load against what this machine can offer by its own test."""
    v17_hits: Step = _step(0.01, 0.05)
    """Prompt tokens found in the server's prefix cache though prompts are unique."""
    v18_ks: Step = _step(0.02, 0.05)
    """KS distance of sent gaps from planned ones."""
    v18_dispersion: Step = _step(0.05, 0.2)
    """Dispersion of sends per 1 s and 10 s against the planned, ratio less 1."""
    v19_not_judged: Step = _step(0.0, 0.05)
    """Successful replies whose SLO could not be judged."""
    v20_sharing: Limit = 0.05
    """Prefix-cache hits apart from the plan's sharing, in shares of prompt tokens; none where prompts are unique."""
    v21_clock_of_s: Step = _step(0.01, 0.05)
    """Error of a host's clock against the run's, where the load comes from several hosts."""

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        found: dict[str, Any] = {}
        for key, value in given.items():
            default = cls.model_fields[key].default if key in cls.model_fields else None
            partial = isinstance(default, Step) and isinstance(value, Mapping)
            found[key] = {**default.model_dump(), **value} if partial else value  # type: ignore[union-attr]
        return found

    @model_validator(mode="after")
    def _in_order(self) -> Thresholds:
        for name, step in self.steps().items():
            first, second = ("past", "warning") if name == _FALLING else ("warning", "past")
            if getattr(step, first) > getattr(step, second):
                raise ValueError(
                    f"{name}: warning {step.warning:g}, past {step.past:g}: "
                    f"expected `{first}` no larger than `{second}`"
                )
        return self

    @model_serializer(mode="plain", when_used="json")
    def _changed(self) -> dict[str, Any]:
        """Only what differs from the defaults: forty limits would hide the workload that they belong to."""
        changed: dict[str, Any] = {}
        for name, value in self.to_dict().items():
            default = type(self).model_fields[name].default
            if isinstance(value, dict):
                if own := {key: limit for key, limit in value.items() if limit != getattr(default, key)}:
                    changed[name] = own
            elif value != default:
                changed[name] = value
        return changed

    def steps(self) -> dict[str, Step]:
        """Return the pairs of limits by name."""
        return {name: value for name, value in self if isinstance(value, Step)}

    def to_dict(self) -> dict[str, Any]:
        """For run.json: every limit."""
        return self.model_dump(mode="python")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Thresholds:
        """Back from run.json; a name that is missing keeps its default. Raises ConfigError for an unknown one."""
        if unknown := sorted(set(values) - set(cls.model_fields)):
            raise ConfigError(f"unknown threshold {unknown[0]!r}\n  expected  one of {', '.join(cls.model_fields)}")
        return cls.model_validate(values)


def only_step(code: str) -> str | None:
    """Return `v01_lag_of_s` for `v01`: the name of a code's only pair of limits, None where it has none or several."""
    named = [
        name
        for name, field in Thresholds.model_fields.items()
        if name.partition("_")[0] == code and isinstance(field.default, Step)
    ]
    return named[0] if len(named) == 1 else None


def _short_codes(schema: dict[str, Any]) -> dict[str, Any]:
    """The codes that may stand for a longer name, for the JSON Schema."""
    codes = {name.partition("_")[0]: name for name in Thresholds.model_fields}
    return {code: schema["properties"][name] for code in codes if (name := only_step(code))}
