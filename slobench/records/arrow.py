"""Numpy to Arrow and back through buffers: `pa.array` and `to_numpy` would import pandas (0.3 s)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slobench.records.schema import NULL

_FEW_WORDS = 8


def text_array(words: Sequence[str]) -> pa.Array:
    """A string array without nulls; lone surrogates, which UTF-8 cannot hold, become escapes."""
    if len(set(words)) == 1:  # "" or "length" for a second of replies: written while requests wait to be sent
        word = words[0].encode("utf-8", "backslashreplace")
        encoded = [word * len(words)]
        offsets = np.arange(len(words) + 1, dtype=np.int32) * np.int32(len(word))
    else:
        encoded = [word.encode("utf-8", "backslashreplace") for word in words]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
        np.cumsum([len(word) for word in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(words), buffers)


def text_values(array: pa.Array) -> NDArray[np.object_]:
    """Python strings of a string or dictionary array, equal ones shared; null is ""."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    words = np.array([*_texts(encoded.dictionary), ""], dtype=np.object_)
    values: NDArray[np.object_] = words[integers(encoded.indices, null=len(words) - 1)]
    return values


def _texts(array: pa.Array) -> list[str]:
    """Decode a string array; null is "", and `as_py` is not used: it imports pandas."""
    _, offsets, data = array.buffers()
    if not len(array):
        return []
    edges = np.frombuffer(offsets, dtype=np.int32, count=len(array) + 1, offset=4 * array.offset).tolist()
    raw = data.to_pybytes() if data is not None else b""
    return [raw[low:high].decode() for low, high in pairwise(edges)]


def _valid(array: pa.Array) -> NDArray[np.bool_]:
    bitmap = array.buffers()[0]
    if bitmap is None:
        return np.ones(len(array), dtype=np.bool_)
    bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(np.bool_)


def _plain(array: pa.Array, dtype: type[np.generic]) -> NDArray[Any]:
    """The values of a 64-bit array; what stands at nulls is undefined."""
    if not len(array):  # its buffer may be absent
        return np.empty(0, dtype=dtype)
    return np.frombuffer(array.buffers()[1], dtype=dtype, count=len(array), offset=8 * array.offset)


def integers(array: pa.Array, null: int = NULL) -> NDArray[np.int64]:
    """The int64 values of an integer or boolean array, with `null` where there is none."""
    return np.where(_valid(array), _plain(array.cast(pa.int64()), np.int64), null)


def floats(array: pa.Array) -> NDArray[np.float64]:
    """The float64 values of a number or boolean array, NaN where there is none."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    return np.where(_valid(array), _plain(array.cast(pa.float64(), safe=False), np.float64), np.nan)


def arrow_array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """An array of `kind`: NaN, the integer NULL and "" become null; dictionary kinds take strings too."""
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return _words(values).cast(kind)
    valid = ~np.isnan(values) if values.dtype.kind == "f" else values != NULL
    bitmap = None
    if not valid.all():
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
        values = values if pa.types.is_floating(kind) else np.where(valid, values, 0)
    if pa.types.is_boolean(kind):
        data: NDArray[Any] = np.packbits(values.astype(bool), bitorder="little")
    else:
        width = "f8" if pa.types.is_floating(kind) else f"i{kind.bit_width // 8}"
        data = np.ascontiguousarray(values, dtype=width)
    return pa.Array.from_buffers(kind, len(values), [bitmap, pa.py_buffer(data)])


def list_array(offsets: NDArray[np.int64], values: NDArray[Any], kind: pa.LargeListType) -> pa.Array:
    """An array of lists without nulls, sharing memory with the offsets (n + 1 of them) and the values."""
    items = pa.Array.from_buffers(kind.value_type, len(values), [None, pa.py_buffer(values)])
    return pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(offsets)], children=[items])


def list_values(array: pa.Array) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Read (offsets from 0, values) of an array of lists without nulls, sharing memory with it."""
    if not len(array):
        return np.zeros(1, np.int64), np.empty(0, f"i{array.type.value_type.bit_width // 8}")
    raw = np.frombuffer(array.buffers()[1], dtype=np.int64, count=len(array) + 1, offset=8 * array.offset)
    items = array.values
    kind = np.dtype(f"i{items.type.bit_width // 8}")
    first, last = int(raw[0]), int(raw[-1])
    if first == last:
        return raw - first, np.empty(0, kind)
    at = (items.offset + first) * kind.itemsize
    return raw - first, np.frombuffer(items.buffers()[1], dtype=kind, count=last - first, offset=at)


def _words(values: NDArray[Any]) -> pa.Array:
    codes, words = np.full(len(values), NULL), list[str]()
    left = np.ones(len(values), dtype=np.bool_)
    while len(words) < _FEW_WORDS and left.any():  # a column has one word or a few: they are compared as a whole
        words.append(str(values[left.argmax()]))
        mine = np.asarray(values == words[-1])
        codes[mine], left = len(words) - 1, left & ~mine
    code_of = {word: code for code, word in enumerate(words)}
    codes[left] = [code_of.setdefault(word, len(code_of)) for word in values[left].tolist()]
    if "" in code_of:
        codes[codes == code_of[""]] = NULL
    return pa.DictionaryArray.from_arrays(arrow_array(codes, pa.int32()), text_array(list(code_of)))
