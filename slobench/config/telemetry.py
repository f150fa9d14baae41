"""What is sampled beside the load: where the server's own metrics are, how often, which GPUs."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from slobench.config.base import DurationNs, Model

_LEAST_NS = 100_000_000


def _metrics_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("is no URL of metrics: expected http://host[:port]/metrics")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("has a user, query or fragment: expected http://host[:port]/metrics")
    return url if parts.path not in {"", "/"} else f"{url.rstrip('/')}/metrics"


MetricsUrl = Annotated[str, AfterValidator(_metrics_url)]


class Telemetry(Model):
    """Samples of the server, its GPUs and this machine, on the clock of the records, into telemetry.parquet."""

    interval: Annotated[DurationNs, Field(ge=_LEAST_NS)] = 10**9
    """Between two samples; at least 100ms."""
    urls: tuple[MetricsUrl, ...] | None = None
    """Prometheus addresses, one for each replica; null: the target's own /metrics, where it answers. []: none."""
    gpus: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """GPUs of this machine to sample, by the driver's number; null: those that the target may use. []: none."""
