"""ShareGPT conversations: one JSON array, or JSON lines, of {id, conversations: [{from, value}, …]}.

Neither times nor token counts: lengths are estimated from the number of characters
[huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slobench.config.problems import clip
from slobench.records.arrow import text_array
from slobench.workload.traces.files import fault, whole
from slobench.workload.traces.lines import objects
from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.traces.vidur import UNTIMED

_ASKING = {"human", "user", "system"}
_ANSWERING = {"gpt", "assistant", "chatgpt", "bing", "bard", "model"}


def read(path: Path, *, chars_per_token: float = 4.0) -> Trace:
    """Read conversations: each a session, each reply a turn whose prompt holds all that was said before it.

    Raises ConfigError for what is no list of conversations.
    """
    rows: dict[str, list[Any]] = {"input_tokens": [], "output_tokens": [], "session": [], "text": []}
    skipped = 0
    for number, conversation in enumerate(_conversations(path)):
        before = len(rows["session"])
        for text, seen, reply in _turns(conversation, path, number):
            rows["input_tokens"].append(_tokens(seen, chars_per_token))
            rows["output_tokens"].append(_tokens(reply, chars_per_token))
            rows["session"].append(number)
            rows["text"].append(text)
        skipped += len(rows["session"]) == before
    notes = [UNTIMED, f"lengths are estimated: a token for each {chars_per_token:g} characters"]
    if skipped:
        notes.append(f"{skipped} conversations without a question and a reply are left out")
    columns = {name: np.array(values, dtype=np.int64) for name, values in rows.items() if name != "text"}
    columns["arrival_ns"] = np.zeros(len(rows["text"]), dtype=np.int64)
    return make_trace(columns | {"text": text_array(rows["text"])}, format="sharegpt", timed=False, notes=notes)


def _conversations(path: Path) -> Iterator[Any]:
    data = whole(path)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if data[:1] == b"[":
            raise fault(path, error.lineno, f"not JSON: {error.msg}", "a whole JSON array") from None
        yield from (value for value, _ in objects(path))
        return
    yield from value if isinstance(value, list) else [value]


def _turns(conversation: Any, path: Path, number: int) -> Iterator[tuple[str, int, int]]:
    """What is new in each prompt, the characters of the whole prompt, and those of the reply."""
    said = conversation.get("conversations") if isinstance(conversation, dict) else None
    if not isinstance(said, list):
        raise fault(path, None, f"conversation {number}: {clip(conversation)}", "{id, conversations: [{from, value}]}")
    seen, new = 0, ""
    for message in said:
        who, text = (message.get("from"), message.get("value")) if isinstance(message, dict) else (None, None)
        if not isinstance(text, str) or who not in _ASKING | _ANSWERING:
            told = f"conversation {number}: message {clip(message)}"
            raise fault(path, None, told, "{from: human or gpt, value: text}")
        if who in _ASKING:
            new += text
        elif new:
            seen += len(new)
            yield new, seen, len(text)
            seen += len(text)
            new = ""


def _tokens(characters: int, per_token: float) -> int:
    return math.ceil(characters / per_token)
