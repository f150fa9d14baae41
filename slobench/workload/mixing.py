"""Integers permuted at random, to all appearance: names and places that look drawn and need no state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slobench.workload.variates import IntArray

_LOW_64 = (1 << 64) - 1


def mixed(z: int) -> int:
    """Permute the 64-bit integers [Steele et al. 2014, SplitMix64's finaliser]; takes any integer modulo 2⁶⁴."""
    z &= _LOW_64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _LOW_64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _LOW_64
    return z ^ (z >> 31)


def mixed_array(numbers: IntArray, key: int) -> IntArray:
    """Permute number + key for each of `numbers`, as `mixed` does: different numbers give different results."""
    z: NDArray[np.uint64] = numbers.astype(np.uint64) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).view(np.int64)


def mixed_pair(first: IntArray, second: IntArray) -> IntArray:
    """Give each pair of integers a number that looks drawn: two pairs have the same one by chance of 2⁻⁶⁴ only."""
    return mixed_array(mixed_array(first, 0x9E3779B97F4A7C15) ^ second, 0xD1B54A32D192ED03)
