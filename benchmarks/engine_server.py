"""CPU that the simulated server spends on a token, by difference of two reply lengths, and on a request.

python benchmarks/engine_server.py [--clients N] [--tokens T] [--step-ms S] [--repeats K]

`--module` measures another server that takes the same order on stdin.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time

import psutil


def talk(port: int, clients: int, tokens: int) -> None:
    """Send one request from each client at once and read all replies to their end."""
    body = json.dumps(
        {"prompt": list(range(100, 164)), "max_tokens": tokens, "ignore_eos": True, "stream": True, "model": "sim"}
    )
    request = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    with selectors.DefaultSelector() as selector:
        tails = {}
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", port))
            selector.register(client, selectors.EVENT_READ)
            tails[client] = b""
            client.sendall(request)
        while tails:
            for key, _ in selector.select():
                client = key.fileobj
                tails[client] = (tails[client] + client.recv(1 << 16))[-16:]
                if tails[client].endswith(b"0\r\n\r\n"):
                    selector.unregister(client)
                    client.close()
                    del tails[client]


def measure(args: argparse.Namespace, tokens: int) -> float:
    """CPU seconds that the server took for `clients` replies of `tokens` tokens."""
    step = {"base_ms": args.step_ms, "token_ms": 0, "kv_token_ms": 0, "sequence_ms": 0, "noise_cv": 0}
    order = {"engine": {"step": step, "max_num_seqs": 4096, "max_num_batched_tokens": 65536, "kv_tokens": 10_000_000}}
    command = [sys.executable, "-m", args.module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        port = json.loads(server.stdout.readline())["port"]
        talk(port, args.clients, 2)
        process = psutil.Process(server.pid)
        before, began = process.cpu_times(), time.monotonic()
        talk(port, args.clients, tokens)
        after = process.cpu_times()
        print(f"  {tokens} tokens: {time.monotonic() - began:.2f} s of wall clock", file=sys.stderr)
        server.stdin.close()
    return after.user + after.system - before.user - before.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--step-ms", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--module", default="slobench.engine.server")
    args = parser.parse_args()
    per_token = []
    for _ in range(args.repeats):
        short, long = measure(args, args.tokens // 10), measure(args, args.tokens)
        per_token.append((long - short) / args.clients / (args.tokens - args.tokens // 10) * 1e6)
    print(f"{args.module}: {statistics.median(per_token):.1f} µs a token (of {[round(x, 1) for x in per_token]})")


if __name__ == "__main__":
    main()
