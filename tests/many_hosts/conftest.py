"""One small Ray cluster for the tests of this folder; it is gone before others run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.many_hosts.nodes import Nodes, ray_nodes


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[Nodes]:
    """A head and two nodes with a CPU each."""
    with ray_nodes() as nodes:
        yield nodes
