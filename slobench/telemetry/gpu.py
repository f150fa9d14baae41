"""GPUs by NVML: utilisation, memory, power, clocks, throttling, energy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slobench.records.schema import GPU
from slobench.telemetry.source import Reading, SampleError

_HELD_DOWN = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Clock event reasons (nvml.h): power cap; hardware slowdown; thermal, by software and by hardware; power brake."""

Nvml = Any
"""The module pynvml, or what answers as it does."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that were found, or why there are none."""

    sources: tuple[GpuSource, ...]
    absent: str | None = None


class GpuSource:
    """One GPU; `model` is its product name."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.index = index
        self.model = _text(nvml.nvmlDeviceGetName(self._handle))

    @property
    def name(self) -> str:
        """`gpu-K`."""
        return f"{GPU}-{self.index}"

    def sample(self) -> Sequence[Reading]:
        """Read what this GPU supports. Raises SampleError where it tells nothing."""
        error = "it tells nothing"
        found: list[Reading] = []
        for read in (
            self._load,
            self._memory,
            self._power,
            self._limit,
            *self._clocks(),
            self._throttled,
            self._energy,
        ):
            try:
                found += [Reading(name, "", float(value)) for name, value in read().items()]
            except self._nvml.NVMLError as refused:  # not every GPU supports everything
                error = str(refused)
        if not found:
            raise SampleError(error)
        return found

    def _load(self) -> Mapping[str, float]:
        return {"gpu_utilisation": self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100}

    def _memory(self) -> Mapping[str, float]:
        nvml = self._nvml
        try:  # what the driver keeps for itself is no part of `used` then, as nvidia-smi has it: 0.6 GiB of an H200
            memory = nvml.nvmlDeviceGetMemoryInfo(self._handle, nvml.nvmlMemory_v2)
        except nvml.NVMLError:  # a driver before 510
            memory = nvml.nvmlDeviceGetMemoryInfo(self._handle)
        return {"gpu_memory_used_bytes": memory.used, "gpu_memory_bytes": memory.total}

    def _power(self) -> Mapping[str, float]:
        return {"gpu_power_w": self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3}

    def _limit(self) -> Mapping[str, float]:
        return {"gpu_power_limit_w": self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) / 1e3}

    def _clocks(self) -> Iterator[Callable[[], Mapping[str, float]]]:
        nvml, handle = self._nvml, self._handle
        yield lambda: {"gpu_sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)}
        yield lambda: {"gpu_memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)}
        yield lambda: {"gpu_temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}

    def _throttled(self) -> Mapping[str, float]:
        reasons = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        return {"gpu_throttled": float(bool(reasons & _HELD_DOWN))}

    def _energy(self) -> Mapping[str, float]:
        return {"gpu_energy_j": self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3}


def load_nvml() -> Nvml | None:
    """The module pynvml; None where it is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def find_gpus(nvml: Nvml | None, wanted: Sequence[int] | None, visible: str | None) -> Gpus:
    """The GPUs of this machine.

    wanted: their numbers, where the settings name them; else `visible`, what CUDA_VISIBLE_DEVICES leaves to the
    server (numbers or the beginnings of UUIDs); else all.
    """
    if wanted is not None and not wanted:
        return Gpus((), "not asked for")
    if nvml is None:
        return Gpus((), "nvidia-ml-py is not installed (pip install 'slobench[gpu]')")
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
        numbers = _visible(nvml, count, visible) if wanted is None else list(wanted)
        missing = [number for number in numbers if number >= count]
        if missing:
            return Gpus((), f"there is no GPU {missing[0]}: this machine has {count}")
        found = tuple(GpuSource(nvml, number) for number in numbers)
    except nvml.NVMLError as error:
        return Gpus((), str(error))
    return Gpus(found, None if found else "none is visible to the server")


def _visible(nvml: Nvml, count: int, visible: str | None) -> list[int]:
    every = list(range(count))
    if visible is None:
        return every
    words = [word.strip() for word in visible.split(",") if word.strip()]
    if all(word.isdecimal() for word in words):
        return [int(word) for word in words if int(word) < count]
    uuids = {n: _text(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(n))) for n in every}
    named = [n for n in every if any(uuids[n].startswith(word) for word in words)]
    return named or every  # a slice of a GPU has a UUID of its own


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
