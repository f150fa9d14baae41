"""Small trace files, written as their formats' documentation says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2225670,879,55
2023-11-16 18:15:51.2225671,91,16"""
BURSTGPT_1 = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,230,1317,Conversation log
45,ChatGPT,0,0,0,API log
118,GPT-4,417,276,693,API log
"""
BURSTGPT_3 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
19440110.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log
19440161.0,d5983bf9-4b48,2,ChatGPT,36,29,65,Conversation log
19440170.0,,0,ChatGPT,80,20,100,API log
19440221.0,1722ac82-0a46,,GPT-4,1400,90,1490,Conversation log
"""
VIDUR = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n1450,218,1668,6.65\n99,7,106,14.1\n"
VIDUR_TIMED = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.25,1450,218\n1.75,99,7\n"
SPLITWISE = (
    "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
    "0,2,0,0.0,1,512,31\n1,2,0,0.5,1,1024,7\n"
)
MOONCAKE = [
    {"timestamp": 0, "input_length": 1100, "output_length": 52, "hash_ids": [0, 1, 2]},
    {"timestamp": 105, "input_length": 1536, "output_length": 26, "hash_ids": [0, 1, 3]},
    {"timestamp": 274, "input_length": 513, "output_length": 9, "hash_ids": [0, 4]},
]
BAILIAN = [
    {"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 33, "output_length": 132,
     "type": "text", "turn": 1, "hash_ids": [1089, 1090, 1091]},
    {"chat_id": 160, "parent_chat_id": -1, "timestamp": 61.5, "input_length": 16, "output_length": 5,
     "type": "search", "turn": 1, "hash_ids": [7]},
    {"chat_id": 201, "parent_chat_id": 159, "timestamp": 92.0, "input_length": 200, "output_length": 10,
     "type": "text", "turn": 2, "hash_ids": [1089, 1090, *range(2000, 2011)]},
    {"chat_id": 202, "parent_chat_id": 159, "timestamp": 95.0, "input_length": 48, "output_length": 10,
     "type": "image", "turn": 2, "hash_ids": [1089, 1090, 3000]},
]  # fmt: skip
AIPERF = [
    {"session_id": "a", "timestamp": 0, "input_length": 1000, "output_length": 100, "hash_ids": [0, 1], "group_id": 4},
    {"session_id": "b", "timestamp": 1500, "input_length": 600, "output_length": 20, "hash_ids": [0, 5]},
    {"session_id": "a", "delay": 2000, "input_length": 300, "output_length": 40, "hash_ids": [2]},
    {"session_id": "a", "delay": 500.5, "input_length": 30, "output_length": 4},
]
SHAREGPT = [
    {"id": "x", "conversations": [
        {"from": "human", "value": "a" * 40}, {"from": "gpt", "value": "b" * 80},
        {"from": "human", "value": "c" * 10}, {"from": "gpt", "value": "d" * 3},
    ]},
    {"id": "y", "conversations": [{"from": "gpt", "value": "no question"}]},
    {"id": "z", "conversations": [{"from": "system", "value": "s" * 8}, {"from": "user", "value": "u" * 8},
                                  {"from": "assistant", "value": "v" * 9}]},
]  # fmt: skip


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def put(path: Path, text: str | bytes, *, packed: bool = False) -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def span(
    span_id: str, start_s: float, end_s: float, *, trace_id: str = "t", attributes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One span of OTLP JSON, with the attributes of a call to a model."""
    given = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **(attributes or {})}
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "startTimeUnixNano": str(round(1_700_000_000 * 10**9 + start_s * 10**9)),
        "endTimeUnixNano": str(round(1_700_000_000 * 10**9 + end_s * 10**9)),
        "attributes": [
            {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
            for key, value in given.items()
        ],
        "status": {},
    }


def otlp(spans: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": spans}]}]}


def usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {"gen_ai.usage.input_tokens": input_tokens, "gen_ai.usage.output_tokens": output_tokens}
