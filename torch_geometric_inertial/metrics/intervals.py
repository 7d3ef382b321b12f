r"""How sure a figure is."""
import math
from collections.abc import Sequence

Z95 = 1.959964  #: Of the normal distribution, 95 % lie within so many standard deviations.


def wilson_interval(count: int, total: int) -> tuple[float, float] | None:
    """95 % confidence interval of a fraction (Wilson, 1927); :obj:`None` of nothing."""
    if total == 0:
        return None
    z2, fraction = Z95**2, count / total
    center = (fraction + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(z2 * (fraction * (1 - fraction) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return max(0.0, center - half), min(1.0, center + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % confidence interval of a mean, for samples large enough for the normal distribution; :obj:`None` below 2
    values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    half = Z95 * math.sqrt(math.fsum((x - mean)**2 for x in values) / (n - 1) / n)
    return mean - half, mean + half


def ratio_interval(counts: Sequence[int], totals: Sequence[int]) -> tuple[float, float] | None:
    r"""95 % confidence interval of :math:`\sum a_i / \sum n_i` with molecules as the units, since the atoms of one
    stand or fall together: the linearized ratio estimator."""
    total = sum(totals)
    if total == 0:
        return None
    fraction = sum(counts) / total
    half = Z95 * math.sqrt(math.fsum((a - fraction * n)**2 for a, n in zip(counts, totals, strict=True))) / total
    return max(0.0, fraction - half), min(1.0, fraction + half)
