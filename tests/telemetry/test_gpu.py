"""GPUs through an object that answers as NVML does: what is read, what is not supported, which GPUs are the server's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pynvml
import pytest

from slobench.records.schema import GPU_METRICS
from slobench.telemetry import gpu
from slobench.telemetry.gpu import find_gpus
from slobench.telemetry.source import SampleError
from tests.telemetry.fake_nvml import FakeNvml


def told(nvml: FakeNvml) -> Mapping[str, float]:
    """What the first GPU tells."""
    return {reading.name: reading.value for reading in find_gpus(nvml, [0], None).sources[0].sample()}


def test_everything_is_read_in_plain_units() -> None:
    """Percent become shares, milliwatts watts, millijoules joules."""
    found = told(FakeNvml())
    assert set(found) == set(GPU_METRICS)
    assert found["gpu_utilisation"] == 0.87
    assert found["gpu_memory_used_bytes"] / found["gpu_memory_bytes"] == 0.9
    assert (found["gpu_power_w"], found["gpu_power_limit_w"]) == (650.5, 700)
    assert (found["gpu_sm_clock_mhz"], found["gpu_memory_clock_mhz"], found["gpu_temperature_c"]) == (1980, 2619, 61)
    assert found["gpu_energy_j"] == pytest.approx(123_456.789)


def test_memory_of_an_old_driver_is_read_too() -> None:
    """It counts what it keeps for itself as used."""
    assert told(FakeNvml(v2=False))["gpu_memory_used_bytes"] == 73 * 2**30


@pytest.mark.parametrize(
    ("reasons", "throttled"), [(0x0, 0), (0x1, 0), (0x2, 0), (0x4, 1), (0x8, 1), (0x20, 1), (0x41, 1), (0x80, 1)]
)
def test_idle_and_chosen_clocks_are_no_throttling(reasons: int, throttled: int) -> None:
    """Power caps, heat and brakes are; an idle GPU (1) and clocks set by the user (2) are not."""
    assert told(FakeNvml(reasons=reasons))["gpu_throttled"] == throttled


def test_what_a_gpu_does_not_support_is_absent() -> None:
    """Others are read all the same; a GPU that tells nothing is a failed sample with its reason."""
    assert "gpu_energy_j" not in told(FakeNvml("nvmlDeviceGetTotalEnergyConsumption"))
    nothing = FakeNvml(*(name for name in dir(FakeNvml) if re.match("nvmlDeviceGet(?!Handle|Count|Name)", name)))
    with pytest.raises(SampleError, match="Not Supported"):
        told(nothing)


@pytest.mark.parametrize(
    ("visible", "indices"),
    [(None, [0, 1]), ("1", [1]), ("1,0", [1, 0]), ("GPU-bbbb", [1]), ("", []), ("7", []), ("MIG-1", [0, 1])],
)
def test_gpus_are_those_that_the_server_may_use(visible: str | None, indices: list[int]) -> None:
    """Numbers and UUIDs as CUDA_VISIBLE_DEVICES has them; a slice of a GPU cannot be told from here."""
    found = find_gpus(FakeNvml(), None, visible)
    assert [source.index for source in found.sources] == indices
    assert (found.absent is None) == bool(indices)


def test_gpus_that_are_asked_for() -> None:
    """By number, whatever is visible; their names are text."""
    found = find_gpus(FakeNvml(), [1], "0")
    assert [(source.name, source.model) for source in found.sources] == [("gpu-1", "NVIDIA L4")]
    assert find_gpus(FakeNvml(), [2], None).absent == "there is no GPU 2: this machine has 2"
    assert find_gpus(FakeNvml(), [], None).absent == "not asked for"


def test_a_machine_without_gpus_says_why() -> None:
    """No module, no driver."""
    assert "pip install" in str(find_gpus(None, None, None).absent)
    assert find_gpus(FakeNvml(driver=False), None, None).absent == "Driver Not Loaded"


def test_the_module_that_is_installed_answers() -> None:
    """nvidia-ml-py itself: GPUs where there are some, else its reason."""
    found = find_gpus(pynvml, None, None)
    assert bool(found.sources) != bool(found.absent)


def test_nvml_has_every_function_that_is_called() -> None:
    """No name of it is misspelt, and the fake has no other."""
    called = set(re.findall(r"nvml\w+|NVML_\w+", Path(gpu.__file__).read_text())) - {"nvml", "nvmlDevice"}
    assert {name for name in called if not hasattr(pynvml, name)} == set()
    assert {name for name in called if not hasattr(FakeNvml, name)} == set()
