"""Confidence intervals of proportions, and quantiles for those of means."""

from math import sqrt
from statistics import NormalDist

Z95 = 1.959963984540054


def wilson(share: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Args:
        share: The observed proportion, in [0, 1].
        n: How many observations it is of.
        z: The normal quantile; the default gives 95 %.

    Returns:
        The lower and the upper limit.
    """
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1.0 - share) / n + z * z / (4 * n * n))
    scale = 1.0 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def student_quantile(p: float, freedom: float) -> float:
    """The quantile of Student's t distribution, by the expansion of Cornish and Fisher (within 0.1 % from 8 degrees on).

    Args:
        p: The probability, in (0, 1).
        freedom: The degrees of freedom.
    """
    z, v = NormalDist().inv_cdf(p), freedom
    first = (z**3 + z) / (4.0 * v)
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / (96.0 * v**2)
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / (384.0 * v**3)
    return z + first + second + third
