"""Stands in for `vllm` where only its start is tested: vLLM's options, words and paths. Run as a script."""

from __future__ import annotations

import argparse
import json
import os
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers what is asked before a run."""

    model = ""

    def do_GET(self) -> None:
        """Answer every path."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        models = {"data": [{"id": self.model, "max_model_len": 2048}]}
        answers = {"/v1/models": models, "/version": {"version": "0.32.0"}, "/health": {}, "/v1/completions": {}}
        data = json.dumps(answers.get(self.path)).encode()
        if self.path == "/metrics":
            data = b'vllm:cache_config_info{block_size="16",num_gpu_blocks="8"} 1.0\n'
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815 (the name http.server calls)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def main() -> None:
    """Serve, or fail in one of vLLM's ways."""
    parser = argparse.ArgumentParser(prog="vllm serve")
    parser.add_argument("serve")
    parser.add_argument("model")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name", default="served")
    parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction)
    parser.add_argument("--max-num-seqs", type=int)
    given = parser.parse_args()
    match os.environ.get("FAKE"):
        case "oom":
            sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
        case "slow":
            time.sleep(60)
    print(f"(APIServer pid=1) INFO 11-24 21:19:30 [a.py:1] non-default args: {{'model': '{given.model}'}}")
    print(f"INFO 11-24 21:19:30 [b.py:2] GPU KV cache size: 262,144 tokens; path {os.environ['PATH']}", flush=True)
    Handler.model = given.served_model_name
    socketserver.TCPServer.allow_reuse_address = True
    HTTPServer((given.host, given.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
