"""Where the requests of each class go: the target's endpoint with what the class says of its own."""

from __future__ import annotations

from dataclasses import replace

from slobench.config.slo import Deadline, Slo
from slobench.config.target import Talk
from slobench.config.wire import TAKES_IDS
from slobench.config.workload import RequestClass, Workload
from slobench.errors import ConfigError
from slobench.wire.endpoint import Endpoint
from slobench.workload.corpus import words_of

_OF_STREAMS = frozenset({"ttft", "ttfo", "tpot", "max_gap", "deadline"})


def class_endpoints(workload: Workload, endpoint: Endpoint) -> tuple[Endpoint, ...]:
    """The endpoint of each class, by class code."""
    return tuple(_endpoint_of(spec, endpoint) for spec in workload.classes.values())


def _endpoint_of(spec: RequestClass, endpoint: Endpoint) -> Endpoint:
    own = {name.lower() for name in spec.headers}
    api = spec.api or endpoint.api
    extra = {**endpoint.extra_body, **spec.extra_body}
    return replace(
        endpoint,
        api=api,
        model=spec.model or endpoint.model,
        headers={name: value for name, value in endpoint.headers.items() if name.lower() not in own} | spec.headers,
        extra_body=extra,
        stream=endpoint.stream and api != "embeddings",
        forces_length=endpoint.forces_length and api != "embeddings" and bool(extra.get("ignore_eos", True)),
        token_ids=endpoint.token_ids if api in TAKES_IDS and not spec.text else None,
    )


def refuse_unsendable(workload: Workload, talk: Talk) -> None:
    """Raise ConfigError where the prompts of a class cannot be made, or its images not be sent."""
    for name, spec in workload.classes.items():
        api = spec.api or talk.api
        if spec.images is not None and api != "chat":
            raise ConfigError(
                f"class {name} has images, which api {api} cannot send\n"
                "  expected  api: chat, in the class or in the target's talk"
            )
    for path in sorted({spec.text for spec in workload.classes.values() if spec.text}):
        words_of(path)


def refuse_unjudgeable(slo: Slo, workload: Workload, talk: Talk) -> None:
    """Raise ConfigError where a limit's quantity cannot be seen in the replies of its class."""
    for name, spec in workload.classes.items():
        clauses = slo.for_class(name).clauses
        found = sorted({"deadline" if isinstance(each, Deadline) else each.metric for each in clauses} & _OF_STREAMS)
        if found and (spec.api or talk.api) == "embeddings":
            raise ConfigError(
                f"an SLO on {', '.join(found)} cannot be judged for class {name}: an embedding comes whole\n"
                f"  expected  limits on e2e for it, and the others on the classes that stream: class=NAME {found[0]}<…"
            )
        if found and not talk.stream:
            raise ConfigError(
                f"an SLO on {', '.join(found)} cannot be judged where replies are not streamed\n"
                "  expected  `talk.stream: true`, or limits on e2e only"
            )
