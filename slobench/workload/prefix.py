"""Pools of beginnings that prompts share: which prompt picks which, and how long they must be for a hit rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slobench.config.content import MOST_PREFIXES, Prefix
from slobench.config.lengths import ConstantLength, Lengths
from slobench.errors import ConfigError
from slobench.workload.content import Contents, content_keys
from slobench.workload.lengths import draw
from slobench.workload.sharing import hits
from slobench.workload.variates import FloatArray, IntArray, child, exp, log, uniforms

BLOCK_TOKENS = 16
"""Size of the cache blocks that a hit rate is planned for: vLLM's."""
ROOM = 8
"""Tokens that a prompt keeps for itself behind what it shares: enough to differ from all others."""
_ONE = 2.0**40  # weight of the most popular beginning


@dataclass(frozen=True, eq=False)
class Pool:
    """The beginnings of one class, the most popular first; the same in every run, so that probes of a search share.

    tokens: of each. upto: weights up to and with each, exact integers.
    """

    name: str
    tokens: IntArray
    upto: IntArray

    @classmethod
    def of(cls, name: str, tokens: Lengths, size: int, zipf: float) -> Pool:
        """Make `size` beginnings; a smaller pool is the beginning of a larger one."""
        weights = exp(-zipf * log(np.arange(1, size + 1, dtype=np.float64)))
        upto = np.cumsum(np.rint(weights * _ONE).astype(np.int64))
        return cls(name, draw(tokens, size, child(0, "prefix tokens", name)), upto)

    def picked(self, u: FloatArray) -> IntArray:
        """Turn uniforms in (0, 1) into places in the pool, by inversion."""
        total = int(self.upto[-1])
        return np.searchsorted(self.upto, np.minimum((u * float(total)).astype(np.int64), total - 1), side="right")

    def contents(self, places: IntArray, most: IntArray) -> Contents:
        """Rows that begin with these of the pool, each with `most` tokens of it at most."""
        keys = content_keys(0, "prefix", self.name, places)
        return Contents.one_each(keys, np.minimum(self.tokens[places], most))


def prefix_contents(prefix: Prefix, name: str, seed: int, input_tokens: IntArray) -> Contents:
    """What the prompts of a class begin with, request by request.

    Raises ConfigError where no length or number of beginnings gives the hit rate that is asked for.
    """
    prefix = solved(prefix, name, seed, input_tokens)
    return _contents(prefix, name, _uniforms(name, seed, len(input_tokens)), input_tokens)


def session_prefixes(prefix: Prefix, name: str, seed: int, n: int) -> tuple[IntArray, IntArray]:
    """Keys and tokens of what the prompts of each of n sessions begin with."""
    assert prefix.tokens is not None  # a class of sessions asks for no hit rate
    pool = Pool.of(name, prefix.tokens, prefix.pool or 1, prefix.zipf)
    places = pool.picked(_uniforms(name, seed, n))
    return content_keys(0, "prefix", name, places), pool.tokens[places]


def solved(prefix: Prefix, name: str, seed: int, input_tokens: IntArray) -> Prefix:
    """The same with what its hit rate asks for, over these prompts in order, from an empty cache."""
    if prefix.hit_rate is None or (prefix.tokens is not None and prefix.pool is not None):
        return prefix
    u = _uniforms(name, seed, len(input_tokens))

    def rate(each: Prefix) -> float:
        return hits(_contents(each, name, u, input_tokens), input_tokens, BLOCK_TOKENS).token_hit_rate

    return _with_tokens(prefix, name, input_tokens, rate) if prefix.tokens is None else _with_pool(prefix, name, rate)


def solved_warm(prefix: Prefix, name: str, input_tokens: IntArray) -> Prefix:
    """The same with what its hit rate asks for once every beginning is known, over prompts of such lengths."""
    if prefix.tokens is not None:
        raise ConfigError(
            f"class {name}: no pool follows from hit_rate {prefix.hit_rate:g} where load goes on from rate to rate: "
            "once all beginnings are known, any pool is found alike\n"
            "  expected  `pool`, with `tokens` left out"
        )

    def rate(each: Prefix) -> float:
        assert isinstance(each.tokens, ConstantLength)
        shared = np.maximum(np.minimum(each.tokens.value, input_tokens - ROOM), 0)
        return float((shared // BLOCK_TOKENS * BLOCK_TOKENS).sum() / max(1, input_tokens.sum()))

    return _with_tokens(prefix, name, input_tokens, rate)


def _with_pool(prefix: Prefix, name: str, rate: Callable[[Prefix], float]) -> Prefix:
    """The number of beginnings that comes nearest to the hit rate."""
    assert prefix.hit_rate is not None
    highest, lowest = (rate(_of_pool(prefix, size)) for size in (1, MOST_PREFIXES))
    if not lowest <= prefix.hit_rate <= highest:
        cure = "longer `tokens`" if prefix.hit_rate > highest else "a smaller zipf, or shorter `tokens`"
        raise ConfigError(
            f"class {name}: no pool gives a hit rate of {prefix.hit_rate:g}: one beginning for all gives "
            f"{highest:.3f}, {MOST_PREFIXES:,} give {lowest:.3f}\n"
            f"  expected  a hit_rate between them, or {cure}"
        )
    size = _nearest(lambda size: -rate(_of_pool(prefix, size)), -prefix.hit_rate, MOST_PREFIXES)
    return _of_pool(prefix, size)


def _with_tokens(prefix: Prefix, name: str, input_tokens: IntArray, rate: Callable[[Prefix], float]) -> Prefix:
    """The length of beginnings that comes nearest to the hit rate."""
    assert prefix.hit_rate is not None
    most = max(1, int(np.max(input_tokens, initial=1)))
    highest = rate(_of_tokens(prefix, most))
    if highest < prefix.hit_rate:
        raise ConfigError(
            f"class {name}: no length of shared beginnings gives a hit rate of {prefix.hit_rate:g} over "
            f"{len(input_tokens)} requests: with a pool of {prefix.pool} at most {highest:.3f} "
            f"({ROOM} tokens of each prompt are its own, and each beginning is new once)\n"
            "  expected  a lower hit_rate, a smaller pool, more requests or longer prompts"
        )
    return _of_tokens(prefix, _nearest(lambda n: rate(_of_tokens(prefix, n)), prefix.hit_rate, most))


def _nearest(value: Callable[[int], float], wanted: float, most: int) -> int:
    """Of 1 .. most the one whose value, which grows with it, comes nearest."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if value(middle) < wanted else (low, middle)
    return low - 1 if low > 1 and abs(value(low - 1) - wanted) < abs(value(low) - wanted) else low


def _of_tokens(prefix: Prefix, n: int) -> Prefix:
    return prefix.model_copy(update={"tokens": ConstantLength(value=n)})


def _of_pool(prefix: Prefix, size: int) -> Prefix:
    return prefix.model_copy(update={"pool": size})


def _uniforms(name: str, seed: int, n: int) -> FloatArray:
    return uniforms(n, child(seed, "prefix", name))


def _contents(prefix: Prefix, name: str, u: FloatArray, input_tokens: IntArray) -> Contents:
    assert prefix.tokens is not None
    pool = Pool.of(name, prefix.tokens, prefix.pool or 1, prefix.zipf)
    return pool.contents(pool.picked(u), np.maximum(input_tokens - ROOM, 0))
