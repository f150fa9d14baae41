"""Every conformance case runs on both transports, and on both APIs where it names one."""

from __future__ import annotations

import pytest

from tests.conformance.dialect import Dialect
from tests.conformance.harness import Ask, TransportName


@pytest.fixture(params=["fast", "aiohttp"])
def transport(request: pytest.FixtureRequest) -> TransportName:
    """Name the transport under test."""
    return request.param


@pytest.fixture(params=["completions", "chat"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Speak one of the two APIs."""
    return Dialect(request.param)


@pytest.fixture
def ask(transport: TransportName, dialect: Dialect) -> Ask:
    """Ask for the usual streamed reply."""
    return Ask(transport, dialect.api)
