"""Every conformance case runs on both transports, the fast one with both receivers and after replies, and on both APIs."""

from __future__ import annotations

import pytest

from slobench.generate import native
from tests.conformance.dialect import Dialect
from tests.conformance.harness import Ask, TransportName


@pytest.fixture(params=["native", "python", "opened", "aiohttp"])
def transport(request: pytest.FixtureRequest) -> TransportName:
    """Name the transport under test."""
    if request.param == "native" and native.find()[0] is None:
        pytest.skip(f"no native module: {native.find()[1]}")
    return request.param


@pytest.fixture(params=["completions", "chat"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Speak one of the two APIs."""
    return Dialect(request.param)


@pytest.fixture
def ask(transport: TransportName, dialect: Dialect) -> Ask:
    """Ask for the usual streamed reply."""
    return Ask(transport, dialect.api)
