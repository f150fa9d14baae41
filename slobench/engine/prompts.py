"""What the simulated server takes for tokens, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PIECE = re.compile(r"\S{1,8}")
_REPLY_TOKENS = 4096


def split_text(text: str) -> list[str]:
    """Cut a text into tokens: each word one, words of more than 8 characters one for each 8."""
    return _PIECE.findall(text)


def block_hashes(tokens: Sequence[int | str], block_tokens: int, salt: str | None) -> list[int]:
    """Chain hashes of the full blocks: equal where all tokens up to the block's end, and the salt, are equal."""
    parent = hash(salt) if salt else 0
    hashes = []
    for end in range(block_tokens, len(tokens) + 1, block_tokens):
        parent = hash((parent, tuple(tokens[end - block_tokens : end])))
        hashes.append(parent)
    return hashes


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that replies are made of: ids of equal width, so that every event of a reply has the same size."""

    low: int  # the first id
    ids: tuple[bytes, ...]  # in decimal

    @classmethod
    def below(cls, vocab: int) -> Vocabulary:
        """Choose reply tokens from the ids below `vocab`, which is at least 256."""
        low = int(10 ** (len(str(vocab - 1)) - 1))
        if vocab - low < 128:
            low //= 10
        high = min(vocab, 10 * low, low + _REPLY_TOKENS)
        return cls(low, tuple(str(token).encode() for token in range(low, high)))

    def tokens(self, start: int, length: int, *, ids: bool) -> list[int] | list[str]:
        """Return the reply that begins at `start`, as ids or as words."""
        first = start % len(self.ids)
        chosen = [self.low + k % len(self.ids) for k in range(first, first + length)]
        return chosen if ids else [word(token) for token in chosen]


def word(token: int | str) -> str:
    """Return the text of a reply token, one word: sent back in a prompt it is the same token again."""
    return f"w{token}"
