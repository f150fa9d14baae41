"""Short questions to a server before and after a run: who are you, what do you serve, are you ready.

Blocking and simple on purpose: nothing here is timed. Requests under load go through `generate`.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from slobench.errors import ConfigError, TargetStartError

_MAX_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its status and body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON; None where it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def text(self) -> str:
        """Return the body's beginning, on one line."""
        return " ".join(self.body[:500].decode(errors="replace").split())


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask. `url` has no trailing slash; `headers` may hold secrets and are never printed."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    ca_bundle: str | None = None
    proxy: str | None = None

    def get(self, path: str, *, timeout_s: float = 10.0, accept: str = "application/json") -> Answer:
        """GET a path below the URL. Raises OSError or http.client.HTTPException where no reply came."""
        return self._ask("GET", path, None, timeout_s, accept)

    def post(self, path: str, body: object, *, timeout_s: float = 60.0) -> Answer:
        """POST a JSON body; errors as `get`."""
        return self._ask("POST", path, json.dumps(body).encode(), timeout_s)

    def _ask(
        self, method: str, path: str, body: bytes | None, timeout_s: float, accept: str = "application/json"
    ) -> Answer:
        parts = urlsplit(self.url)
        connection = self._connection(parts, timeout_s)
        target = f"{parts.path}{path}"
        if self.proxy and parts.scheme == "http":
            target = f"http://{parts.netloc}{target}"
        headers = {"accept": accept, "user-agent": "slobench", **self.headers}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, target, body, headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.read(_MAX_ANSWER))
        finally:
            connection.close()

    def _connection(self, parts: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port
        via = urlsplit(self.proxy) if self.proxy else None
        if parts.scheme != "https":
            at = (via.hostname or "", via.port or 80) if via else (host, port or 80)
            return http.client.HTTPConnection(*at, timeout=timeout_s)
        tls = tls_context(insecure=self.insecure, ca_bundle=self.ca_bundle)
        if via is None:
            return http.client.HTTPSConnection(host, port or 443, timeout=timeout_s, context=tls)
        tunnel = http.client.HTTPSConnection(via.hostname or "", via.port or 80, timeout=timeout_s, context=tls)
        tunnel.set_tunnel(host, port or 443)
        return tunnel


def tls_context(*, insecure: bool, ca_bundle: str | None) -> ssl.SSLContext:
    """TLS settings. Raises ConfigError for a CA bundle that cannot be read."""
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot read the CA bundle {ca_bundle}: {error}\n  expected  a PEM file") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def not_reached(url: str, error: Exception) -> TargetStartError:
    """Name the root cause of a failed connection, and what to try."""
    host = urlsplit(url).netloc
    match error:
        case socket.gaierror():
            why, advice = f"the name {urlsplit(url).hostname!r} cannot be resolved", "check the spelling and the DNS"
        case ssl.SSLCertVerificationError():
            why = f"its TLS certificate is not trusted: {error.verify_message}"
            advice = "--ca-bundle FILE for a private authority, --insecure to trust any"
        case ssl.SSLError():
            why, advice = f"TLS failed: {error.reason or error}", "is it https:// at all?"
        case ConnectionRefusedError():
            why, advice = "connection refused: nothing listens there", "start the server, or correct the port"
        case TimeoutError():
            why, advice = "no answer in time", "is there a firewall, or a proxy that must be named?"
        case http.client.HTTPException():
            why = f"its answer is not HTTP: {type(error).__name__} {error}".rstrip()
            advice = "is the port right, and is it http:// or https://?"
        case _:
            why, advice = f"{type(error).__name__}: {error}", "check the URL"
    return TargetStartError(f"cannot reach {host}: {why}\n  url     {url}\n  try     {advice}")
