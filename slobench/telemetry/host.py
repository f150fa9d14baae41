"""This machine: CPU, memory and network while the load runs."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from slobench.records.schema import HOST
from slobench.telemetry.source import Reading, SampleError


class HostSource:
    """The machine that the load comes from."""

    name = HOST

    def __init__(self) -> None:
        psutil.cpu_percent(None)  # its first answer is about nothing

    def sample(self) -> Sequence[Reading]:
        """Read it now."""
        try:
            memory, network = psutil.virtual_memory(), psutil.net_io_counters()
            found = {
                "host_cpu_share": psutil.cpu_percent(None) / 100,
                "host_memory_used_bytes": memory.total - memory.available,
                "host_memory_bytes": memory.total,
            }
            if network is not None:  # a machine without interfaces
                found |= {"host_received_bytes": network.bytes_recv, "host_sent_bytes": network.bytes_sent}
        except OSError as error:
            raise SampleError(f"the system does not tell: {error.strerror}") from None
        return [Reading(name, "", float(value)) for name, value in found.items()]
