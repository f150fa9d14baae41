"""Where the requests of each class go: the target's endpoint with what the class says of its own."""

from __future__ import annotations

from dataclasses import replace

from slobench.config.wire import TAKES_IDS
from slobench.config.workload import RequestClass, Workload
from slobench.wire.endpoint import Endpoint


def class_endpoints(workload: Workload, endpoint: Endpoint) -> tuple[Endpoint, ...]:
    """The endpoint of each class, by class code."""
    return tuple(_endpoint_of(spec, endpoint) for spec in workload.classes.values())


def _endpoint_of(spec: RequestClass, endpoint: Endpoint) -> Endpoint:
    own = {name.lower() for name in spec.headers}
    api = spec.api or endpoint.api
    return replace(
        endpoint,
        api=api,
        model=spec.model or endpoint.model,
        headers={name: value for name, value in endpoint.headers.items() if name.lower() not in own} | spec.headers,
        extra_body={**endpoint.extra_body, **spec.extra_body},
        stream=endpoint.stream and api != "embeddings",
        token_ids=endpoint.token_ids if api in TAKES_IDS else None,
    )
