"""Notebooks 05, 14 and 15: how sure are means over networks, and how many test rows are needed to be?"""

from bisect import bisect_left

import numpy as np

from lib.statistics import (
    crossed_parts,
    half_of_sum,
    mean_squares,
    pearson_influence,
    pearson_r,
    spearman_influence,
    spearman_r,
    varying,
)


def samples_needed(values, within: float, replicates=(5, 10, 20, 50), level: float = 0.95) -> dict:
    """Test rows with which so many replicates give an interval of ±``within``: ``{replicates: rows}``.

    From the components of variance of ``values (R, T)``, a first run; None where a million rows are too few.

    Example:
        >>> samples_needed(np.random.default_rng(0).normal(size=(8, 500)), 0.1, replicates=(2, 20))
        {2: None, 20: 23}
    """
    values, (between, of_rows, rest) = mean_squares(values)
    replicate, row, most = max(between - rest, 0) / values.shape[1], max(of_rows - rest, 0) / len(values), 1_000_000
    half = lambda r, t: half_of_sum(crossed_parts(rest + t * replicate, rest + r * row, rest, r, t), level)
    found = {r: 2 + bisect_left(range(2, most), True, key=lambda t, r=r: half(r, t) <= within) for r in replicates}
    return {r: t if t < most else None for r, t in found.items()}


def correlation_of_means(
    a, b, *, rank: bool = True, same_runs: bool = False, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Correlation of two scores that are means over networks, with its interval over networks and examples.

    Jackknife on Fisher's z scale: the variance over examples, and over the networks of each score, less what they
    share. ``a, b`` are ``(networks, n)``, or ``(n,)`` where no network takes part; with ``same_runs`` of the same
    networks, left out together. Spearman's, or Pearson's if not ``rank``. It is about means of as many networks.
    """
    a, b = (np.atleast_2d(np.asarray(score, dtype=float)) for score in (a, b))
    if a.shape[1] != b.shape[1] or (same_runs and len(a) != len(b)):
        raise ValueError(f"a and b must be (networks, n) of one n, as many if same_runs, got {a.shape} and {b.shape}")
    both, n = varying(a=a.mean(0), b=b.mean(0)), a.shape[1]
    statistic, influence = (spearman_r, spearman_influence) if rank else (pearson_r, pearson_influence)

    def by_row(one: np.ndarray, other: np.ndarray) -> np.ndarray:  # (n,), of mean z
        value = np.clip(statistic(one, other), -1 + 1e-9, 1 - 1e-9)
        return np.arctanh(value) + influence(one, other) / (1 - value**2)

    whole = by_row(*both)
    less = [(score.sum(0) - score) / max(len(score) - 1, 1) for score in (a, b)]
    pairs = [(less[0], less[1])] if same_runs else [(less[0], [both[1]] * len(a)), ([both[0]] * len(b), less[1])]
    parts = [(whole.var() / n, n - 1)]
    for runs, each in ((len(one), zip(one, other, strict=True)) for one, other in pairs if len(one) > 1):
        pseudo = runs * whole - (runs - 1) * np.array([by_row(*pair) for pair in each])
        parts += crossed_parts(*mean_squares(pseudo)[1], runs, n)[::2]
    z, half = whole.mean(), half_of_sum(parts, level)
    low, high = np.tanh([z - half, z + half])
    return float(np.tanh(z)), (float(low), float(high))
