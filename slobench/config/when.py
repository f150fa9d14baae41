"""Conditions over a sweep's settings: `max_num_batched_tokens >= 4 * max_num_seqs and target == "sim"`.

A small grammar of its own; nothing of it is ever run as Python. Names are settings by their whole path or its last
part, `-` written as `_`; besides them `target`, `workload`, `rate` and `concurrency`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from slobench.config.problems import clip, unknown
from slobench.errors import ConfigError

Value = str | int | float | bool | None
Names = Mapping[str, Value]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)|(?P<sign><=|>=|==|!=|[-+*/%()<>\[\],]))"
)
_WORDS: Mapping[str, Value] = {"true": True, "false": False, "null": None}
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_RECKON: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": operator.mod,
}  # fmt: skip
_MOST = 1000
_DEEPEST = 30
EXPECTED = "e.g. max_num_batched_tokens >= 4 * max_num_seqs and target != 'sim'; names, numbers, text, and or not in"


@dataclass(frozen=True, slots=True)
class When:
    """A condition that was read. names: what it asks for, as written."""

    text: str
    names: tuple[str, ...]
    holds: Callable[[Names], bool]
    """Whether it holds for values by name; ConfigError where they do not go together."""


def parse_when(text: str) -> When:
    """Read a condition. Raises ConfigError for what cannot be read."""
    if len(text) > _MOST:
        raise ConfigError(f"when: a condition of {len(text):,} characters\n  expected  at most {_MOST:,}")
    reader = _Reader(text, _tokens(text))
    term = reader.either(0)
    if reader.now is not None:
        raise reader.wrong()
    return When(text, tuple(dict.fromkeys(reader.names)), lambda values: _yes(term(values), text))


def aliases(paths: Iterable[str]) -> dict[str, str]:
    """Return the names by which conditions may call setting paths: whole, and the last part where it is one's alone."""
    found: dict[str, str] = {}
    last: dict[str, list[str]] = {}
    for path in paths:
        whole = path.replace("-", "_")
        found[whole] = path
        last.setdefault(whole.rpartition(".")[2], []).append(path)
    return {name: paths_[0] for name, paths_ in last.items() if len(paths_) == 1} | found


def refuse_unknown(when: When, known: Sequence[str]) -> None:
    """Raise ConfigError for a name that stands for nothing."""
    for name in when.names:
        if name not in known:
            raise ConfigError(unknown(f"when: {clip(when.text)}: nothing is called", name, known))


Term = Callable[[Names], Value]


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConfigError(
                f"when: cannot read {clip(text)} at {clip(text[position:].strip())}\n  expected  {EXPECTED}"
            )
        kind = str(match.lastgroup)
        tokens.append((kind, match[kind]))
        position = match.end()
    return tokens


class _Reader:
    """Recursive descent, one method a level: or, and, not, comparison, sum, product, single."""

    def __init__(self, text: str, tokens: Sequence[tuple[str, str]]) -> None:
        self._text, self._tokens, self._at = text, tokens, 0
        self.names: list[str] = []

    @property
    def now(self) -> tuple[str, str] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def wrong(self) -> ConfigError:
        at = "its end" if self.now is None else clip(self.now[1])
        return ConfigError(f"when: cannot read {clip(self._text)} at {at}\n  expected  {EXPECTED}")

    def took(self, *words: str) -> str | None:
        if self.now is not None and self.now[0] in {"name", "sign"} and self.now[1] in words:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def either(self, depth: int) -> Term:
        if depth > _DEEPEST:
            raise ConfigError(f"when: {clip(self._text)}: nested too deep\n  expected  at most {_DEEPEST} levels")
        terms = [self._all(depth)]
        while self.took("or"):
            terms.append(self._all(depth))
        text = self._text
        return terms[0] if len(terms) == 1 else lambda values: any(_yes(term(values), text) for term in terms)

    def _all(self, depth: int) -> Term:
        terms = [self._not(depth)]
        while self.took("and"):
            terms.append(self._not(depth))
        text = self._text
        return terms[0] if len(terms) == 1 else lambda values: all(_yes(term(values), text) for term in terms)

    def _not(self, depth: int) -> Term:
        turns = 0
        while self.took("not"):
            turns += 1
        term, text = self._comparison(depth), self._text
        return term if not turns else lambda values: _yes(term(values), text) is (turns % 2 == 0)

    def _comparison(self, depth: int) -> Term:
        left = self._sum(depth)
        text = self._text
        sign = self.took("<", "<=", ">", ">=", "==", "!=", "in")
        if sign is None:
            return left
        if sign == "in":
            items = self._list(depth)
            return lambda values: any(_same(left(values), item(values)) for item in items)
        right = self._sum(depth)
        if sign in {"==", "!="}:
            return lambda values: _same(left(values), right(values)) is (sign == "==")
        compare = _COMPARE[sign]
        return lambda values: compare(_number(left(values), text), _number(right(values), text))

    def _list(self, depth: int) -> list[Term]:
        if not self.took("["):
            raise self.wrong()
        items = [self._sum(depth)]
        while self.took(","):
            items.append(self._sum(depth))
        if not self.took("]"):
            raise self.wrong()
        return items

    def _sum(self, depth: int) -> Term:
        left = self._product(depth)
        while sign := self.took("+", "-"):
            left = _joined(sign, left, self._product(depth), self._text)
        return left

    def _product(self, depth: int) -> Term:
        left = self._single(depth)
        while sign := self.took("*", "/", "%"):
            left = _joined(sign, left, self._single(depth), self._text)
        return left

    def _single(self, depth: int) -> Term:
        if self.took("("):
            inner = self.either(depth + 1)
            if not self.took(")"):
                raise self.wrong()
            return inner
        text = self._text
        if self.took("-"):
            if depth > _DEEPEST:
                raise self.wrong()
            term = self._single(depth + 1)
            return lambda values: -_number(term(values), text)
        if self.now is None or self.now[0] == "sign" or self.now[1] in {"and", "or", "not", "in"}:
            raise self.wrong()
        kind, word = self.now
        self._at += 1
        if kind == "name" and word not in _WORDS:
            self.names.append(word)
            return lambda values: values[word]
        value: Value = _WORDS[word] if kind == "name" else word[1:-1] if kind == "text" else _read(word)
        return lambda _: value


def _read(word: str) -> int | float:
    return int(word) if word.isdecimal() and len(word) < 300 else float(word)


def _joined(sign: str, left: Term, right: Term, text: str) -> Term:
    def joined(values: Names) -> float:
        a, b = _number(left(values), text), _number(right(values), text)
        if sign in {"/", "%"} and b == 0:
            raise ConfigError(f"when: {clip(text)}: divides by 0\n  expected  a condition that holds for every cell")
        try:
            found = _RECKON[sign](a, b)
        except OverflowError:  # an integer that no float holds
            found = math.inf
        if isinstance(found, float) and not math.isfinite(found):
            raise ConfigError(f"when: {clip(text)}: a number too large\n  expected  {EXPECTED}")
        return found

    return joined


def _number(value: Value, text: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"when: {clip(text)}: {clip(value)} is no number\n  expected  numbers beside < > + - * / %")
    return value


def _same(left: Value, right: Value) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right


def _yes(value: Value, text: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"when: {clip(text)}: {clip(value)} is neither true nor false\n  expected  {EXPECTED}")
    return value
