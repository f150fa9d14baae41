#!/bin/sh
# Installs the load generators that benchmarks/ladder.py measures beside slobench, an environment each, into
# $PEERS, by default .cache/peers in this checkout (about 9 GB; GuideLLM alone 6). Nothing else needs them.
# vLLM's own is the one of scripts/vllm_cpu_env.sh, which also makes the tokenizer that all of them use.
# A peer that cannot be installed is said so, and left out.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
peers=${PEERS:-$root/.cache/peers}

say() { printf 'peers: %s\n' "$*" >&2; }

# install NAME PYTHON REQUIREMENT
install() {
    folder=$peers/$1
    [ "$(cat "$folder/slobench.stamp" 2>/dev/null || true)" = "$3" ] && return
    say "installing $3 into $folder"
    if "$2" -m venv "$folder" && "$folder/bin/python" -m pip install --quiet "$3"; then
        printf '%s\n' "$3" >"$folder/slobench.stamp"
    else
        say "$3 cannot be installed with $2: left out"
    fi
}

sh "$root/scripts/vllm_cpu_env.sh" || exit 1
mkdir -p "$peers"
install guidellm "${PYTHON:-python3.11}" guidellm==0.8.1
install aiperf "${PYTHON:-python3.11}" aiperf==0.13.0
install evalscope "${PYTHON:-python3.11}" 'evalscope[perf]==1.14.1'
install inference-perf "${PYTHON312:-python3.12}" inference-perf==0.7.0

# AIPerf takes a tokenizer by its name on the hub only: so a hub's cache that holds it.
rm -rf "$peers/tokenizer" "$peers/hub"
cached=$peers/hub/hub/models--ladder--tokenizer
mkdir -p "$cached/refs" "$cached/snapshots/local"
printf local >"$cached/refs/main"
cp -r "$root/.cache/vllm-tiny" "$peers/tokenizer"
cp "$peers/tokenizer/"* "$cached/snapshots/local/"
say "ready: $peers"
