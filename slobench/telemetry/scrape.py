"""One server's Prometheus exposition, scraped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from slobench.telemetry.exposition import Exposed, parse
from slobench.telemetry.source import Reading, SampleError
from slobench.workload.sharing import Cache

Fetch = Callable[[], str]
"""Returns the text of the exposition. Raises SampleError where there is none."""


class ServerSource:
    """A server behind one address. kind: which server it was found to be, "" before the first sample.

    caches: the prefix caches of its replicas, as far as it tells them.
    """

    def __init__(self, name: str, fetch: Fetch) -> None:
        self._name = name
        self._fetch = fetch
        self.kind = ""
        self.caches: tuple[Cache, ...] = ()

    @property
    def name(self) -> str:
        """`server`, or `server-K` where there are several."""
        return self._name

    def look(self) -> Exposed:
        """Read everything once. Raises SampleError where there is nothing to read."""
        try:
            exposed = parse(self._fetch())
        except ValueError as error:
            raise SampleError(f"its text is no Prometheus exposition: {' '.join(str(error).split())[:200]}") from None
        if not exposed.kind:
            raise SampleError("it tells nothing that is known here (vLLM, SGLang and TGI are)")
        self.kind, self.caches = exposed.kind, exposed.caches
        return exposed

    def sample(self) -> Sequence[Reading]:
        """Read it now, and note how long that took."""
        began = time.monotonic()
        exposed = self.look()
        return (*exposed.readings, Reading("scrape_s", "", time.monotonic() - began))
