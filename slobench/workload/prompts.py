"""Prompts of exact length that no server has met before, made at the speed of a memory copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from slobench.errors import ConfigError
from slobench.workload.corpus import words_of
from slobench.workload.mixing import mixed, mixed_array
from slobench.workload.pieces import Alphabet, Filler
from slobench.workload.variates import IntArray, child, raw

_PERIOD = 1 << 16  # pieces after which the filler repeats; no cache of prefixes can tell
_STRIDE = (1 << 61) - 1  # prime, so that it has no factor in common with any number of pieces
_HEADS = 1 << 15  # of streams, kept rendered: 10 MB


class PromptMaker:
    """The prompts of one run, as JSON values: an array of token ids, or text with about a token a word.

    A prompt of n tokens is n pieces (ids from [low, high), or words). Unless its class shares a prefix it begins with
    a salt: first the request's index, in digits whose order the nonce and the seed decide and of which the fastest
    comes first, so that neighbours differ from their first token on; then the nonce itself. Both fit in 16 pieces,
    the size of a vLLM cache block. So prompts of one run differ from each other, and runs from each other, in their
    first block; a prompt shorter than the salt repeats none before all prompts of its length have been used.
    The filler after it comes from the seed, beginning at a place that the prompt's own reference decides.

    With a shared prefix the class's prefix (with a salt of its own, the nonce in it) comes first, then the request's
    salt. The prefix gives way where the length leaves no room for the index.

    Parts of a prompt that others have too (workload.content) are the beginnings of streams: the stream of a key is the
    key in digits, as the nonce and the seed permute it, then the nonce, then filler from a place that the key decides.

    Classes may have their filler from a text: its words in their order, round and round.
    """

    def __init__(
        self,
        *,
        seed: int,
        nonce: str,
        token_ids: tuple[int, int] | None,
        class_names: Sequence[str],
        shared_prefix_tokens: Mapping[str, int],
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the prompts; texts: class -> text file whose words fill its prompts where they are text.

        Raises ConfigError for a text file that cannot be used.
        """
        if len(nonce) != 16 or not set(nonce) <= set("0123456789abcdef"):
            raise ConfigError(f"cannot use nonce {nonce!r}\n  expected  16 hexadecimal digits")
        rng = child(seed, "prompts")
        self._alphabet = alphabet = Alphabet.of(token_ids)
        self._digits = alphabet.digits
        self._moduli = [alphabet.base**k for k in range(self._digits + 1)]
        # A permutation of the nonces that the seed picks: two nonces never meet, and no bit of the nonce is lost.
        number = mixed(int(nonce, 16) ^ int(raw(1, rng)[0]))
        self._shift = mixed(number + 1) | mixed(number + 2) << 64
        self._nonce = alphabet.written(number, self._digits)
        self._stream_key = mixed(number + 3)
        self._stream_nonce = alphabet.written(mixed(number + 4), self._digits)
        pieces = alphabet.render((raw(_PERIOD, rng) % np.uint64(alphabet.base)).tolist())
        filler = Filler.of_pieces(pieces, alphabet.separator)
        used = {name: path for name, path in (texts or {}).items() if token_ids is None and name in class_names}
        corpora = {path: words_of(path).filler for path in sorted(set(used.values()))}
        self._fillers = [corpora[used[name]] if name in used else filler for name in class_names]
        self._head = lru_cache(maxsize=_HEADS)(self._head_of)
        self._keys = [_prompt_key(seed, name, shared_prefix_tokens.get(name, 0)) for name in class_names]
        self._prefixes = [
            self._prefix(code, shared_prefix_tokens.get(name, 0)) for code, name in enumerate(class_names)
        ]

    def json(self, index: int, class_code: int, n_tokens: int, parts: Iterable[tuple[int, int]] = ()) -> bytes:
        """Make the prompt of one request: a JSON value of exactly `n_tokens` pieces.

        parts: key and tokens of what it begins with (Contents.row), cut where the prompt ends.
        """
        made: list[bytes | memoryview] = [self._alphabet.open]
        left = n_tokens
        prefix = self._prefixes[class_code]
        if prefix is not None:
            shared = min(prefix.size, max(0, n_tokens - self._digits))
            made += prefix.slices(0, shared)
            left -= shared
        filler = self._fillers[class_code]
        left -= self._add_streams(made, parts, left, filler)
        if left:
            self._add_unique(made, index, mixed(index + self._keys[class_code]), left, filler)
        made[-1] = self._alphabet.close  # in the place of the last separator
        return b"".join(made)

    def _add_unique(  # private, and each is one fact
        self, made: list[bytes | memoryview], index: int, place: int, n: int, filler: Filler
    ) -> None:
        """Append n pieces, each followed by a separator as a part of its own at the end."""
        k = min(n, self._digits)
        number = (index * _STRIDE + self._shift) % self._moduli[k]
        pieces = self._alphabet.written(number, k) + self._nonce[: min(n - k, self._digits)]
        made += (self._alphabet.separator.join(pieces), self._alphabet.separator)
        if n > len(pieces):
            made += filler.slices(place % filler.size, n - len(pieces))

    def _add_streams(
        self, made: list[bytes | memoryview], parts: Iterable[tuple[int, int]], most: int, filler: Filler
    ) -> int:
        """Append the beginnings of streams, in all `most` pieces at most, as `_add_unique` does; return how many."""
        separator, salt, left = self._alphabet.separator, 2 * self._digits, most
        for key, tokens in parts:
            n = min(left, tokens)
            if n > salt:
                head, place = self._head(key, salt)
                made += (head, separator)
                made += filler.slices(place % filler.size, n - salt)
            elif n:
                made += (self._head(key, n)[0], separator)
            left -= n
        return most - left

    def _head_of(self, key: int, n: int) -> tuple[bytes, int]:
        """Return the first n pieces of a stream, at most as many as its salt has, and the place of its filler."""
        number = mixed(key ^ self._stream_key)
        pieces = self._alphabet.written(number, min(n, self._digits)) + self._stream_nonce
        return self._alphabet.separator.join(pieces[:n]), mixed(number + 1)

    def _prefix(self, code: int, n: int) -> Filler | None:
        if n == 0:
            return None
        made: list[bytes | memoryview] = []
        # Negative: no request has this index.
        self._add_unique(made, -1 - code, mixed(self._keys[code]), n, self._fillers[code])
        return Filler.of_text(b"".join(made[:-1]), self._alphabet.separator)


def prompt_refs(rows: IntArray, *, seed: int, name: str, shared_prefix_tokens: int) -> IntArray:
    """Name the prompts of one class by plan index: all different, and of another seed all others."""
    key = _prompt_key(seed, name, shared_prefix_tokens)
    return mixed_array(rows, key)


def _prompt_key(seed: int, name: str, shared_prefix_tokens: int) -> int:
    return int(raw(1, child(seed, f"prompts/{shared_prefix_tokens}", name))[0])
