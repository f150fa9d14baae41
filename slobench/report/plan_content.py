"""What there is to say about the prompts of a class in a plan: what they share, their text, their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slobench.config.content import Prefix
from slobench.config.workload import RequestClass
from slobench.plan import Plan
from slobench.workload.corpus import words_of
from slobench.workload.lengths import draw
from slobench.workload.prefix import BLOCK_TOKENS, solved
from slobench.workload.variates import IntArray, child


@dataclass(frozen=True, slots=True)
class PrefixPlan:
    """The pool of beginnings, what its hit rate asked for included. tokens: their mean length."""

    pool: int
    tokens: float
    zipf: float


@dataclass(frozen=True, slots=True)
class ContentPlan:
    """Of one class. hit rates: share of its prompt tokens, asked for and in an endless prefix cache that begins empty.

    text: the file, text_words: how many words of it are used. image_size: width and height in pixels.
    """

    block_tokens: int
    hit_rate_asked: float | None
    hit_rate_planned: float
    prefix: PrefixPlan | None
    text: str | None
    text_words: int | None
    images: int
    image_size: tuple[int, int] | None


def content_plan(rows: Plan, spec: RequestClass, seed: int, found_tokens: IntArray) -> ContentPlan:
    """Measure the rows of one class; found_tokens: of each, what the cache finds.

    Raises ConfigError where the text file cannot be used.
    """
    name = rows.class_names[int(rows.class_code[0])]
    images = 0 if rows.images is None else int(rows.images.sum())
    return ContentPlan(
        block_tokens=BLOCK_TOKENS,
        hit_rate_asked=None if spec.prefix is None else spec.prefix.hit_rate,
        hit_rate_planned=float(found_tokens.sum() / rows.input_tokens.sum()),
        prefix=None if spec.prefix is None else _prefix_plan(spec.prefix, name, seed, rows.input_tokens),
        text=spec.text,
        text_words=None if spec.text is None else words_of(spec.text).words,
        images=images,
        image_size=None if spec.images is None else (spec.images.width, spec.images.height),
    )


def lines(each: ContentPlan) -> list[str]:
    """Render for people, 80 columns."""
    told = []
    if each.prefix is not None:
        of = f"{each.prefix.pool} beginnings" if each.prefix.pool > 1 else "one beginning"
        zipf = f", Zipf {each.prefix.zipf:g}" if each.prefix.pool > 1 else ""
        told.append(f"  prefix  {of} of {each.prefix.tokens:.4g} tokens{zipf}")
    if each.hit_rate_planned or each.hit_rate_asked is not None:
        asked = "" if each.hit_rate_asked is None else f" (asked {each.hit_rate_asked:.1%})"
        told.append(
            f"  cache   {each.hit_rate_planned:.1%}{asked} of the input found again, blocks of {each.block_tokens}"
        )
    if each.text is not None:
        told.append(f"  text    {each.text_words} words of {Path(each.text).name[-30:]}, about a token each")
    if each.image_size is not None:
        width, height = each.image_size
        told.append(f"  images  {each.images} of {width} x {height} pixels")
    return told


def _prefix_plan(prefix: Prefix, name: str, seed: int, input_tokens: IntArray) -> PrefixPlan:
    found = solved(prefix, name, seed, input_tokens)
    assert found.tokens is not None  # given, or solved for
    pool = found.pool or 1
    return PrefixPlan(pool, float(np.mean(draw(found.tokens, pool, child(0, "prefix tokens", name)))), found.zipf)
