"""Text of a real corpus as pieces of prompts: its words in their order, each about a token."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from slobench.errors import ConfigError
from slobench.workload.pieces import Filler

MOST_BYTES = 16 * 2**20
"""How much of a file is used: a longer one is cut after the last whole word of its beginning."""
_LEAST_WORDS = 1 << 14  # of which a shorter text is repeated, so that few joints are made for a prompt
_SPACES = {code: " " for code in range(0x3001) if chr(code).isspace()}
_MOST_LETTERS = 24.0  # of a word on average; above it, words are not what tokens are made of


@dataclass(frozen=True, slots=True)
class Corpus:
    """The words of a text. words: how many are used of the file. filler: them, over and over where they are few."""

    words: int
    filler: Filler


def words_of(path: str | Path) -> Corpus:
    """Read a text file as words, each as it stands in a JSON string.

    UTF-8, with or without a byte order mark; any white space parts words. Raises ConfigError where the file cannot be
    read, is empty or no text, or parts no words by spaces.
    """
    raw = _beginning(Path(path))
    if b"\0" in raw:
        raise ConfigError(f"{path} is no text: it holds NUL bytes\n  expected  a text file in UTF-8")
    try:
        text = f" {raw.decode('utf-8-sig')} ".translate(_SPACES)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no text in UTF-8: byte {error.start} is 0x{raw[error.start]:02x}\n"
            "  expected  a text file in UTF-8, e.g. by `iconv -t utf-8`"
        ) from None
    while "  " in text:  # without an object for each word: there may be millions
        text = text.replace("  ", " ")
    words = text.count(" ") - 1
    if words < 1:
        raise ConfigError(f"{path} is empty\n  expected  a text file with words in it")
    letters = (len(text) - words - 1) / words
    if letters > _MOST_LETTERS:
        raise ConfigError(
            f"the words of {path} have {letters:.0f} letters on average, so that none would be about a token\n"
            "  expected  a text whose words are parted by spaces"
        )
    repeated = text[1:] * -(-_LEAST_WORDS // words)
    return Corpus(words, Filler.of_text(orjson.dumps(repeated)[1:-2], b" "))


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"cannot read {path}: {reason}\n  expected  a text file in UTF-8") from None
    if len(raw) <= MOST_BYTES:
        return raw
    # A space is one byte in UTF-8 and never part of another character.
    cut = max(raw.rfind(b" "), raw.rfind(b"\n"))
    return raw[:cut] if cut > 0 else raw
