"""Images for chat requests: synthetic PNGs of an exact size, no two the same, made at the speed of a memory copy.

The first row of pixels is the image's own; all others are those of its size, compressed once. A PNG may hold its
compressed rows in several chunks, and deflate may begin anew between them, so that an image is joined from three
pieces, of which only the first and the last are made for it [RFC 1950 and 1951; PNG, third edition, 10 and 11.2.3].
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

import numpy as np

from slobench.workload.mixing import mixed
from slobench.workload.variates import child, raw

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ZLIB_HEADER = b"\x78\x01"
_STORED = struct.Struct(
    "<BHH"
)  # a block of deflate that is not compressed: whether it is the last, its length, ~length
_EMPTY = _STORED.pack(0, 0, 0xFFFF)
_ADLER = 65521
_PATCH = 4  # pixels: squares of one colour, so that an image has about as many bytes as a photograph of its size


class ImageMaker:
    """Images of one size for one run, as parts of the content of chat messages: JSON, data: URLs."""

    def __init__(self, seed: int, nonce: str, width: int, height: int) -> None:
        rng = child(seed, "images", f"{width}x{height}")
        self._key = int(raw(1, rng)[0])
        self._nonce = struct.pack(">Q", mixed(int(nonce, 16) ^ self._key))
        self._row = raw(3 * width // 8 + 1, rng).astype("<u8").tobytes()[: 3 * width]
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
        self._head = _SIGNATURE + _chunk(b"IHDR", header)
        self._length = (height - 1) * (1 + 3 * width)
        packed, self._adler = _packed_rows(width, height - 1, rng)
        # Base64 takes three bytes at a time: pieces of whole threes are encoded apart.
        self._middle = b64encode(_chunk(b"IDAT", _in_threes(packed)))

    def content(self, prompt: bytes, index: int, images: int) -> bytes:
        """Return the content of a chat message: the prompt, a JSON string, and then images."""
        parts = [b'[{"type":"text","text":', prompt, b"}"]
        for number in range(images):
            parts += (
                b',{"type":"image_url","image_url":{"url":"data:image/png;base64,',
                *self._pieces(index, number),
                b'"}}',
            )
        return b"".join((*parts, b"]"))

    def base64(self, index: int, number: int) -> bytes:
        """Return one image, in base64."""
        return b"".join(self._pieces(index, number))

    def _pieces(self, index: int, number: int) -> tuple[bytes, bytes, bytes]:
        own = struct.pack(">Q", mixed(mixed(index + self._key) + number)) + self._nonce
        row = b"\0" + own + self._row[len(own) :]
        first = _ZLIB_HEADER + _STORED.pack(0, len(row), len(row) ^ 0xFFFF) + row
        last = _STORED.pack(1, 0, 0xFFFF) + struct.pack(">I", self._adler_after(row))
        head = self._head + _chunk(b"IDAT", _in_threes(first))
        return b64encode(head), self._middle, b64encode(_chunk(b"IDAT", last) + _chunk(b"IEND", b""))

    def _adler_after(self, row: bytes) -> int:
        """Checksum of the row and of all rows after it, from those of the two."""
        one, two = zlib.adler32(row), self._adler
        low = (one & 0xFFFF) + (two & 0xFFFF) - 1
        high = (one >> 16) + (two >> 16) + self._length * ((one & 0xFFFF) - 1)
        return (high % _ADLER) << 16 | low % _ADLER


def _packed_rows(width: int, rows: int, rng: np.random.Generator) -> tuple[bytes, int]:
    """Rows of squares of random colours, as deflate blocks of which none is the last, and their checksum."""
    across = -(-width // _PATCH)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed, adler = [], 1
    same = b"\2" + bytes(3 * width)  # as the row above
    for top in range(0, rows, _PATCH):
        colours = (raw(3 * across, rng) >> np.uint64(56)).astype(np.uint8).reshape(across, 3)
        row = b"\0" + np.repeat(colours, _PATCH, axis=0)[:width].tobytes()
        patch = row + same * (min(_PATCH, rows - top) - 1)
        adler = zlib.adler32(patch, adler)
        packed.append(packer.compress(patch))
    return b"".join((*packed, packer.flush(zlib.Z_FULL_FLUSH))), adler


def _in_threes(packed: bytes) -> bytes:
    """Deflate blocks with empty ones behind them, so that their bytes are a multiple of three."""
    return packed + _EMPTY * (len(packed) % 3)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
