"""The bootstrap and the permutation band, thinly over scipy; ``lib.stats`` hands both on."""

import inspect
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FEW = 1_000  # examples up to which resampling is used
Interval = tuple[float, float]


def bootstrap_interval(
    statistic: Callable,
    *samples: ArrayLike,
    paired: bool = False,
    seed: int = 0,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Interval:
    """Bootstrap interval of ``statistic(*samples)`` over examples.

    BCa (Efron 1987) up to 1,000 examples in each sample, percentiles beyond (the two differ by O(1/n), and BCa's
    jackknife alone would cost n evaluations) and where BCa is undefined (every resample on one side of the value).
    Resamples on which the statistic is not finite are left out. Where all give one value, the interval is that point.

    Args:
        statistic: of 1-d arrays; one that takes ``axis`` is called on many resamples at once and is much faster.
        samples: 1-d arrays; resampled together if ``paired``, each on its own if not.

    Raises:
        ValueError: if a sample is not 1-d, has fewer than 2 values or a NaN, paired lengths differ, or the statistic
            is not finite on more than 5% of the resamples.

    Example:
        >>> low, high = bootstrap_interval(np.mean, np.arange(100.0))
        >>> bool(low < 49.5 < high)
        True
    """
    arrays = [checked(f"samples[{i}]", s) for i, s in enumerate(samples)]
    if paired:
        same_length(*arrays)
    n = max(map(len, arrays))
    options = {"paired": paired, "n_resamples": n_resamples, "batch": max(1, 2_000_000 // n), "rng": seed}
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # we look at the result itself
        result = stats.bootstrap(arrays, statistic, confidence_level=level, method="percentile", **options)
        spread = result.bootstrap_distribution[np.isfinite(result.bootstrap_distribution)]
        if len(spread) < 0.95 * n_resamples:
            raise ValueError("statistic is not finite on over 5% of the resamples: too few, or too equal, examples")
        percentile = as_pair(np.quantile(spread, [(1 - level) / 2, (1 + level) / 2]))
        if n > FEW or np.ptp(spread) == 0:
            return percentile
        result.bootstrap_distribution = spread
        options |= {"n_resamples": 0, "bootstrap_result": result}
        bca = stats.bootstrap(arrays, statistic, confidence_level=level, method="BCa", **options).confidence_interval
    return as_pair(bca) if np.isfinite(bca).all() else percentile


def permutation_band(
    statistic: Callable, a: ArrayLike, b: ArrayLike, *, seed: int = 0, level: float = 0.95, n_resamples: int = 1000
) -> Interval:
    """The band in which ``statistic(a, b)`` falls when b is paired with a at random.

    All pairings where they are at most ``n_resamples``. A statistic that takes ``axis`` (``stats.spearman_r``,
    ``stats.pearson_r``) is called on many pairings at once.

    Raises:
        ValueError: if a and b are not 1-d of one length, or hold a NaN.

    Example:
        >>> low, high = permutation_band(lambda a, b: np.corrcoef(a, b)[0, 1], np.arange(99.0), np.arange(99.0))
        >>> bool(-0.25 < low < -0.15 and 0.15 < high < 0.25)
        True
    """
    a, b = checked("a", a), checked("b", b)
    same_length(a, b)
    vectorized = "axis" in inspect.signature(statistic).parameters
    pair = (lambda b, axis: statistic(a, b, axis=axis)) if vectorized else (lambda b: statistic(a, b))
    null = stats.permutation_test(
        (b,), pair, permutation_type="pairings", vectorized=vectorized, n_resamples=n_resamples,
        batch=max(1, 2_000_000 // len(b)), rng=seed,
    ).null_distribution  # fmt: skip
    return as_pair(np.quantile(null, [(1 - level) / 2, (1 + level) / 2]))


def checked(name: str, values: ArrayLike) -> NDArray:
    """The values as floats ``(n,)``; ValueError naming them if they are not 1-d, fewer than 2, or not finite."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{name} must be (n,) with n ≥ 2, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(values)).sum())} NaN or infinite values")
    return values


def same_length(*arrays: NDArray) -> None:
    """ValueError if the lengths differ."""
    if len({len(a) for a in arrays}) > 1:
        raise ValueError(f"samples must have one length, got {', '.join(str(len(a)) for a in arrays)}")


def as_pair(interval) -> Interval:
    """Two plain floats."""
    low, high = interval
    return float(low), float(high)
