"""Build the native module beside its source: `.venv/bin/python scripts/build_native.py [FLAGS OF THE COMPILER]`.

An install does this by itself (hatch_build.py); by hand it is for those who change the source, with -fsanitize, say.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path("slobench/generate/_receive.c")
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-cast-function-type"]


def module_path(folder: Path) -> Path:
    """Where this interpreter looks for the module."""
    return folder / f"{SOURCE.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"


def build(source: Path, folder: Path, flags: Sequence[str] = ()) -> Path:
    """Compile the module into a folder and return its path. Raises RuntimeError where that cannot be done."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        raise RuntimeError("it needs a 64-bit Linux")
    named = [shlex.split(name) for name in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc") if name]
    compiler = next((words for words in named if shutil.which(words[0])), None)
    if compiler is None:
        raise RuntimeError("no C compiler")
    include = Path(sysconfig.get_paths()["include"])
    if not (include / "Python.h").exists():
        raise RuntimeError(f"no Python.h in {include}")
    built = module_path(folder)
    partial = built.with_suffix(f".{os.getpid()}")  # then moved: a running process keeps the file that it has mapped
    command = [*compiler, *FLAGS, *flags, f"-I{include}", str(source), "-o", str(partial)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        partial.unlink(missing_ok=True)
        raise RuntimeError(f"the compiler failed: {done.stderr.strip()}")
    partial.replace(built)
    return built


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    print(build(root / SOURCE, root / SOURCE.parent, sys.argv[1:]))
