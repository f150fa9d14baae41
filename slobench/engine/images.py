"""What the simulated server reads of an image: how many tokens it is, and which image it is."""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode
from binascii import Error
from typing import Any

_START = "data:image/png;base64,"
_HEADER = 24  # bytes of a PNG up to its width and height
_PIXELS = 28  # to a side of what is one token, as in Qwen2-VL [Wang et al. 2024, section 2.1]
_MOST_TOKENS = 16_384


def image_tokens(part: dict[str, Any]) -> list[str]:
    """Tokens of an `image_url` part of a message, the same for the same image only.

    Raises ValueError for anything but a PNG in a data: URL.
    """
    link = part.get("image_url")
    url = link.get("url") if isinstance(link, dict) else None
    if not isinstance(url, str) or not url.startswith(_START):
        raise ValueError("image_url: this server takes a PNG as a data: URL")
    encoded = url[len(_START) :]
    try:
        header = b64decode(encoded[: _HEADER // 3 * 4], validate=True)
        width, height = struct.unpack(">II", header[16:])
    except (Error, struct.error):
        raise ValueError("image_url: the data is no PNG in base64") from None
    if not header.startswith(b"\x89PNG\r\n\x1a\n") or header[12:16] != b"IHDR":
        raise ValueError("image_url: the data is no PNG in base64")
    tokens = -(-width // _PIXELS) * -(-height // _PIXELS)
    if not 0 < tokens <= _MOST_TOKENS:
        raise ValueError(f"image_url: an image of {width} x {height} pixels is {tokens} tokens; at most {_MOST_TOKENS}")
    name = zlib.crc32(encoded.encode())
    return [f"<image {name:08x} {k}>" for k in range(tokens)]
