"""What several tests of experiments run against."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a simulated engine that outlives the runs against it."""
    log = tmp_path_factory.mktemp("engine") / "server.log"
    command = [sys.executable, "-m", "slobench", "serve", "sim", "--json", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            text = ""
            for line in process.stdout:
                text += line
                with suppress(json.JSONDecodeError):
                    yield json.loads(text)["url"]
                    break
        finally:
            process.send_signal(signal.SIGTERM)
