"""An object that answers as NVML does, on a machine with two GPUs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """What a call raises that the GPU or the driver refuses."""


class FakeNvml:
    """Two GPUs; `lacking`: calls that they do not support; `v2`: the driver tells its own memory apart."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlMemory_v2 = 0x2000028  # noqa: N815
    names = ("NVIDIA H100 80GB HBM3", b"NVIDIA L4")
    uuids = ("GPU-aaaa1111", "GPU-bbbb2222")

    def __init__(self, *lacking: str, reasons: int = 0, driver: bool = True, v2: bool = True) -> None:
        self.lacking, self.reasons, self.driver, self.v2 = lacking, reasons, driver, v2

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "lacking"):

            def refuse(*_: object) -> None:
                raise NVMLError("Not Supported")

            return refuse
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return self.names[handle]

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return self.uuids[handle]

    def nvmlDeviceGetUtilizationRates(self, _handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetMemoryInfo(self, _handle: int, version: int | None = None) -> SimpleNamespace:  # noqa: N802
        if version is None:
            return SimpleNamespace(used=73 * 2**30, total=80 * 2**30, free=7 * 2**30)
        if not self.v2:
            raise NVMLError("Function Not Found")
        return SimpleNamespace(used=72 * 2**30, reserved=2**30, total=80 * 2**30, free=7 * 2**30)

    def nvmlDeviceGetPowerUsage(self, _handle: int) -> int:  # noqa: N802
        return 650_500

    def nvmlDeviceGetEnforcedPowerLimit(self, _handle: int) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetClockInfo(self, _handle: int, kind: int) -> int:  # noqa: N802
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetTemperature(self, _handle: int, _sensor: int) -> int:  # noqa: N802
        return 61

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _handle: int) -> int:  # noqa: N802
        return self.reasons

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle: int) -> int:  # noqa: N802
        return 123_456_789
