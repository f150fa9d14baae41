"""Random numbers that are the same bits on every machine, and the distributions that plans draw from.

numpy keeps the streams of `Generator`'s own distributions only for one build on one machine, and its exp and log
differ in the last bit between processors. What it does keep for ever are SeedSequence and the raw integers of PCG64
[NEP 19]. So only those are used, and the rest is + - * / and sqrt, rounded alike everywhere [IEEE 754].
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from slobench.errors import ConfigError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LN2 = 0.6931471805599453
_HALF_LOG_TAU = 0.9189385332046728
_TURN = 6.283185307179586
_LOG_SERIES = tuple(1 / (2 * k + 1) for k in range(11, -1, -1))
_EXP_SERIES = tuple(1 / f for f in (6227020800, 479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2))

_COS_SERIES = tuple(
    sign / f
    for sign, f in (
        (1, 2432902008176640000), (-1, 6402373705728000), (1, 20922789888000), (-1, 87178291200), (1, 479001600),
        (-1, 3628800), (1, 40320), (-1, 720), (1, 24), (-1, 2), (1, 1),
    )
)  # fmt: skip
_STIRLING_SERIES = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
_STIRLING_FROM = 12  # from here up the series is right to the last place

# Rational approximations of the normal quantile, relative error about 1e-16, highest power first
# [Wichura 1988, algorithm AS 241, PPND16].
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.7454501427834140764e-4, 2.27238449892691845833e-2, 0.241780725177450611770, 1.27045825245236838258,
     3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2, 0.148103976427480074590,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     1.48753612908506148525e-2, 0.136929880922735805310, 0.59983220655588793769, 1.0),
)  # fmt: skip


def child(seed: int, purpose: str, name: str = "") -> np.random.Generator:
    """Make the generator of one purpose ("arrivals", "prompts") and one class; none depends on another.

    Raises ConfigError for a negative seed.
    """
    if seed < 0:
        raise ConfigError(f"cannot use seed {seed}\n  expected  an integer from 0 up")
    key = hashlib.sha256(f"{purpose}\0{name}".encode()).digest()
    words = tuple(int.from_bytes(key[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=words)))


def offshoot(rng: np.random.Generator, number: int) -> np.random.Generator:
    """Make one of many generators that follow from a `child`, whatever was drawn from it; the same one each time."""
    seed = rng.bit_generator.seed_seq
    assert isinstance(seed, np.random.SeedSequence)  # `child` made it so
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, number)))
    )


def raw(n: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    """Draw n integers of 64 random bits."""
    return np.asarray(rng.bit_generator.random_raw(n), dtype=np.uint64)


def uniforms(n: int, rng: np.random.Generator) -> FloatArray:
    """Draw n uniform numbers strictly between 0 and 1, one raw integer each, symmetric about 1/2."""
    return ((raw(n, rng) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def log(x: FloatArray) -> FloatArray:
    """Natural logarithm of positive numbers, within 4 units in the last place."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2, mantissa)
    s = (mantissa - 1) / (mantissa + 1)  # log m = 2 (s + s³/3 + s⁵/5 + …), |s| <= 0.172
    result: FloatArray = (exponent - low) * _LN2 + 2 * s * _polynomial(_LOG_SERIES, s * s)
    return result


def exp(x: FloatArray) -> FloatArray:
    """Exponential, to a relative error of 2e-16 (1 + |x|); 0 below -745, the largest number above 709."""
    x = np.clip(x, -746.0, 709.0)
    doublings = np.rint(x / _LN2)
    rest = x - doublings * _LN2
    series = 1 + rest * (1 + rest * _polynomial(_EXP_SERIES, rest))
    return np.ldexp(series, doublings.astype(np.int32))


def exp_of(x: float) -> float:
    """`exp` of one number that is not positive, without the cost of an array."""
    if x < -746.0:
        return 0.0
    doublings = round(x / _LN2)
    rest = x - doublings * _LN2
    total = _EXP_SERIES[0]
    for coefficient in _EXP_SERIES[1:]:
        total = total * rest + coefficient
    return math.ldexp(1 + rest * (1 + rest * total), doublings)


def power(x: FloatArray, exponent: float) -> FloatArray:
    """Positive numbers to a power."""
    return exp(exponent * log(x))


def cosine(turns: FloatArray) -> FloatArray:
    """Cosine of an angle in turns, cos(2π x), to 5e-16."""
    x = np.abs(turns - np.rint(turns))
    far = x > 0.25
    angle = _TURN * np.where(far, 0.5 - x, x)
    near = _polynomial(_COS_SERIES, angle * angle)
    result: FloatArray = np.where(far, -near, near)
    return result


def log_gamma(x: FloatArray) -> FloatArray:
    """Logarithm of the gamma function of positive numbers, within 1e-14 for those below 20 [Stirling's series]."""
    small = x < _STIRLING_FROM
    product = np.ones_like(x)
    for step in range(_STIRLING_FROM):
        product = np.where(small, product * (x + step), product)
    y = np.where(small, x + _STIRLING_FROM, x)
    series = _polynomial(_STIRLING_SERIES, 1 / (y * y)) / y
    return (y - 0.5) * log(y) - y + _HALF_LOG_TAU + series - log(product)


def normal_quantile(u: FloatArray) -> FloatArray:
    """Turn uniforms in (0, 1) into standard normal variates, increasing in u."""
    q = u - 0.5
    r = 0.180625 - q * q
    z = q * _ratio(_CENTRE, r)
    outer = np.abs(q) > 0.425
    if outer.any():
        r = np.sqrt(-log(np.minimum(u[outer], 1 - u[outer])))
        size = np.where(r <= 5, _ratio(_MIDDLE, r - 1.6), _ratio(_TAIL, r - 5))
        z[outer] = np.where(q[outer] < 0, -size, size)
    return z


def lognormal_quantile(u: FloatArray, mean: float, sigma: float) -> FloatArray:
    """Turn uniforms in (0, 1) into lognormal variates of this mean, exp(µ + σ²/2), increasing in u."""
    return mean * exp(sigma * normal_quantile(u) - sigma * sigma / 2)


def weibull_quantile(u: FloatArray, scale: float, shape: float) -> FloatArray:
    """Turn uniforms in (0, 1) into Weibull variates, increasing in u."""
    return scale * exp(log(-log(1 - u)) / shape)


def places(u: FloatArray, n: int) -> IntArray:
    """Turn uniforms in (0, 1) into integers 0 .. n-1; the minimum guards the product's rounding up to n."""
    return np.minimum((u * n).astype(np.int64), n - 1)


def exponentials(n: int, rng: np.random.Generator) -> FloatArray:
    """Draw n exponential variates of mean 1, by inversion."""
    return -log(uniforms(n, rng))


def gammas(n: int, shape: float, rng: np.random.Generator) -> FloatArray:
    """Draw n gamma variates of this shape and scale 1, by rejection from a cubed normal [Marsaglia & Tsang 2000].

    Below shape 1, a variate of shape + 1 times U^(1/shape).
    """
    boosted = shape + 1 if shape < 1 else shape
    d = boosted - 1 / 3
    c = 1 / (3 * float(np.sqrt(d)))
    result = np.empty(n)
    missing = np.arange(n)
    while missing.size:
        z = normal_quantile(uniforms(missing.size, rng))
        u = uniforms(missing.size, rng)
        v = 1 + c * z
        v = v * v * v
        taken = v > 0
        taken[taken] = log(u[taken]) < 0.5 * z[taken] * z[taken] + d * (1 - v[taken] + log(v[taken]))
        result[missing[taken]] = d * v[taken]
        missing = missing[~taken]
    return result * exp(log(uniforms(n, rng)) / shape) if shape < 1 else result


def weibulls(n: int, shape: float, rng: np.random.Generator) -> FloatArray:
    """Draw n Weibull variates of this shape and scale 1, by inversion: an exponential to the power of 1/shape."""
    return power(exponentials(n, rng), 1 / shape)


def _polynomial(coefficients: tuple[float, ...], x: FloatArray) -> FloatArray:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _ratio(pair: tuple[tuple[float, ...], tuple[float, ...]], x: FloatArray) -> FloatArray:
    return _polynomial(pair[0], x) / _polynomial(pair[1], x)
