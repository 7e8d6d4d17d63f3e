"""Confidence intervals of a proportion."""

from math import sqrt

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
