"""Images: PNGs of exactly the size that was asked for, each another one."""

import base64
import hashlib
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.workload.images import ImageMaker

NONCE, OTHER = "0123456789abcdef", "0123456789abcdee"
few = settings(deadline=None, max_examples=40)


def maker(width=32, height=24, *, seed=1, nonce=NONCE):
    """Make images of one size."""
    return ImageMaker(seed=seed, nonce=nonce, width=width, height=height)


def pixels(png):
    """Decode an RGB PNG with filters 0 and 2, every checksum checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        data = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        chunks.append((kind, data))
        at += 12 + length
    assert at == len(png)
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IDAT", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, colour, rest) == (8, 2, [0, 0, 0])
    raw = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))  # checks the length and Adler-32
    assert len(raw) == height * (1 + 3 * width)
    rows = np.frombuffer(raw, np.uint8).reshape(height, -1)
    image = rows[:, 1:].copy()
    for y in range(height):
        assert rows[y, 0] in (0, 2)
        if rows[y, 0] == 2:
            image[y] += image[y - 1]
    return image.reshape(height, width, 3)


@few
@given(width=st.integers(8, 200), height=st.integers(8, 200), index=st.integers(0, 2**62), number=st.integers(0, 999))
def test_an_image_is_a_png_of_exactly_its_size(width, height, index, number):
    """Whatever is asked, the image decodes, all checksums right."""
    encoded = maker(width, height).base64(index, number)
    assert b"=" not in encoded
    assert pixels(base64.b64decode(encoded, validate=True)).shape == (height, width, 3)


def test_the_content_of_a_message():
    """The text first, then the images as data: URLs."""
    made = maker()
    content = json.loads(made.content(b'"two words"', 5, 2))
    assert content[0] == {"type": "text", "text": "two words"}
    urls = [part["image_url"]["url"] for part in content[1:]]
    assert [part["type"] for part in content[1:]] == ["image_url"] * 2
    assert urls == ["data:image/png;base64," + made.base64(5, number).decode() for number in (0, 1)]
    assert json.loads(made.content(b'"two words"', 5, 0)) == content[:1]


def test_no_two_images_are_the_same():
    """Every request, every image of a request and every run has other pixels, in the smallest images too."""
    made = [maker(8, 8), maker(8, 8, nonce=OTHER), maker(8, 8, seed=2)]
    seen = {
        pixels(base64.b64decode(each.base64(i, k))).tobytes() for each in made for i in range(150) for k in range(3)
    }
    assert len(seen) == 3 * 150 * 3


def test_an_image_is_about_as_large_as_a_photograph():
    """A byte for each 2 to 8 pixels: neither nothing nor noise."""
    size = len(maker(512, 512).base64(0, 0)) * 3 / 4
    assert 512 * 512 / 8 < size < 512 * 512 / 2


def test_pixels_are_pinned():
    """The same pixels on every machine."""
    state = hashlib.sha256()
    for index in range(3):
        state.update(pixels(base64.b64decode(maker(33, 21).base64(index, index))).tobytes())
    assert state.hexdigest() == GOLDEN


@pytest.mark.parametrize("size", [(4096, 9), (9, 4096)])
def test_the_largest_sides(size):
    """Long rows and many rows decode too."""
    assert pixels(base64.b64decode(maker(*size).base64(1, 1))).shape == (size[1], size[0], 3)


GOLDEN = "217fb2575fbd02b80e0703eab906e89d50a4e65b0f66299518ec7c705b949acb"
