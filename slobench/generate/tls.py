"""TLS without a socket, so that encrypted reads carry the same kernel stamps as plain ones."""

from __future__ import annotations

import ssl

from slobench.errors import UsageError
from slobench.wire.endpoint import Endpoint


class TlsCodec:
    """One TLS session between two memory buffers."""

    __slots__ = ("_incoming", "_object", "_outgoing", "ready")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.ready = False

    def handshake(self) -> None:
        """Go on with the handshake; `ready` tells whether it is done. Raises ssl.SSLError."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.ready = True

    def encrypt(self, data: bytes) -> None:
        """Encrypt `data` into what `outgoing` returns."""
        self._object.write(data)

    def outgoing(self) -> bytes:
        """Take the bytes that must be sent."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def decrypt(self, data: bytes) -> bytes:
        """Plain bytes that `data` completes; b"" where it completes none. Raises ssl.SSLError."""
        self._incoming.write(data)
        if not self.ready:
            self.handshake()
            if not self.ready:
                return b""
        plain = []
        while True:
            try:
                piece = self._object.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                break  # close_notify: the socket's own EOF follows
            if not piece:
                break
            plain.append(piece)
        return plain[0] if len(plain) == 1 else b"".join(plain)


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """The TLS settings of an https endpoint (verified unless told otherwise), None for http.

    Raises UsageError where the CA bundle cannot be read.
    """
    if not endpoint.url.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"cannot read the CA bundle {endpoint.ca_bundle!r}: {error}\n  expected  a file of PEM certificates"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
