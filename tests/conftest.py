"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A limit on wall-clock time would fail where the machine is busy: no test is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
