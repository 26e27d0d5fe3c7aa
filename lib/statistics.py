"""Values over examples or seeds with their intervals, always ``(low, high)``, 95% unless said otherwise.

    over examples           `pearson`, `spearman`, `spearman_difference`, `auroc`, `auroc_difference`, `share`
    of any statistic        `bootstrap_interval`, `permutation_band`; with `axis`: `pearson_r`, `spearman_r`
    over seeds              `t_interval`; `apart` for the ledger; over networks and rows `crossed_interval`
    of single examples      `pearson_influence`, `spearman_influence`; features `standardized`

Over examples: the bootstrap (BCa) where they are few; where they are many its limit, which needs no resampling. An
example's influence ψᵢ is the derivative of the statistic with respect to that example's weight (the infinitesimal
jackknife, Efron 1982; not influence on a trained network, which is the same derivative taken through the training),
the bootstrap's variance tends to ``mean(ψ²)/n``, and the interval is symmetric on Fisher's z scale. Over seeds:
Student's t, because a bootstrap of three to five numbers covers far less than it claims. Over networks and rows at
once: the variance over each, less what both count, and Student's t with Satterthwaite's (1946) degrees of freedom.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from sklearn.metrics import roc_auc_score
from torch import Tensor

FEW = 1_000  # examples up to which resampling is used
Interval = tuple[float, float]


def pearson_r(a: NDArray, b: NDArray, axis: int = -1) -> NDArray:
    """Pearson correlation along ``axis``: the vectorized statistic for the bootstrap and the permutation band."""
    a, b = (c / np.maximum(abs(c).max(axis, keepdims=True), np.finfo(float).tiny) for c in (a, b))  # no overflow
    a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
    return (a * b).sum(axis) / np.sqrt((a * a).sum(axis) * (b * b).sum(axis))


def spearman_r(a: NDArray, b: NDArray, axis: int = -1) -> NDArray:
    """Spearman correlation along ``axis``, tied values sharing their mean rank."""
    return pearson_r(stats.rankdata(a, axis=axis), stats.rankdata(b, axis=axis), axis=axis)


def pearson(a: ArrayLike, b: ArrayLike, *, seed: int = 0, level: float = 0.95) -> tuple[float, Interval]:
    """Pearson correlation over examples, with its interval.

    Up to 1,000 examples by bootstrap (BCa, ``seed``); beyond, in O(n) from :func:`pearson_influence`, on the z scale.

    Raises: ValueError if a and b are not 1-d of one length n ≥ 4, or hold a NaN, or one is constant.
    """
    return _correlation(a, b, pearson_r, pearson_influence, seed, level)


def spearman(a: ArrayLike, b: ArrayLike, *, seed: int = 0, level: float = 0.95) -> tuple[float, Interval]:
    """Spearman's rank correlation over examples, with its interval; ties share their mean rank.

    Up to 1,000 examples by bootstrap (BCa, ranked anew in each resample); beyond, from :func:`spearman_influence`, on
    the z scale: 0.1 s at n = 60,000. Raises as :func:`pearson`.

    Example:
        >>> spearman([1, 2, 3, 4, 5], [1, 4, 9, 16, 25])
        (1.0, (1.0, 1.0))
    """
    return _correlation(a, b, spearman_r, spearman_influence, seed, level)


def spearman_difference(a: ArrayLike, b: ArrayLike, c: ArrayLike, *, level: float = 0.95) -> tuple[float, Interval]:
    """``ρ(a, c) − ρ(b, c)`` over the same examples: does score a rank more like c than score b does?

    The interval is normal, from the difference of the two influences. Raises as :func:`pearson`.
    """
    a, b, c = varying(a=a, b=b, c=c)
    value = float(spearman_r(a, c) - spearman_r(b, c))
    half = _half(level, spearman_influence(a, c) - spearman_influence(b, c))
    return value, (max(value - half, -2.0), min(value + half, 2.0))


def auroc(score: ArrayLike, positive: ArrayLike, *, seed: int = 0, level: float = 0.95) -> tuple[float, Interval]:
    """Area under the ROC curve: the chance that a positive scores above a negative (scikit-learn), with its interval.

    Up to 1,000 examples by bootstrap of positives and of negatives; beyond, DeLong et al. (1988) on the logit scale.
    ``score (n,)``: higher = more likely positive. ``positive (n,)``: booleans, at least 2 true and 2 false.

    Example:
        >>> auroc([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
        (1.0, (1.0, 1.0))
    """
    positive, score = _marked(positive, score=score)
    value, high, low = float(roc_auc_score(positive, score)), score[positive], score[~positive]
    if value in (0.0, 1.0):
        return value, (value, value)
    if len(score) <= FEW:
        return value, bootstrap_interval(_auc, high, low, seed=seed, level=level)
    half = _half(level, *_placements(high, low)) / (value * (1 - value))
    return value, _pair(special.expit(special.logit(value) + np.array([-half, half])))


def auroc_difference(a: ArrayLike, b: ArrayLike, positive: ArrayLike, *, level: float = 0.95) -> tuple[float, Interval]:
    """AUROC of score a minus AUROC of score b on the same examples, with DeLong et al.'s (1988) paired interval.

    Example:
        >>> auroc_difference([0.1, 0.2, 0.8, 0.9], [0.9, 0.2, 0.8, 0.1], [False, False, True, True])[0]
        0.75
    """
    positive, a, b = _marked(positive, a=a, b=b)
    value = float(roc_auc_score(positive, a) - roc_auc_score(positive, b))
    placements = zip(*[_placements(score[positive], score[~positive]) for score in (a, b)], strict=True)
    half = _half(level, *(of_a - of_b for of_a, of_b in placements))
    return value, _pair((max(value - half, -1.0), min(value + half, 1.0)))


def share(flags: ArrayLike, level: float = 0.95) -> tuple[float, Interval]:
    """Share of true values, with Wilson's (1927) interval.

    Example:
        >>> share([True] * 9 + [False])[0]
        0.9
    """
    flags = np.asarray(flags)
    if flags.dtype != bool or flags.ndim != 1 or not len(flags):
        raise ValueError(f"flags must be booleans (n,), n ≥ 1, got {flags.dtype} {flags.shape}")
    interval = stats.binomtest(int(flags.sum()), len(flags)).proportion_ci(level, method="wilson")
    return float(flags.mean()), _pair(interval)


def bootstrap_interval(
    statistic: Callable, *samples: ArrayLike, paired: bool = False, seed: int = 0, level: float = 0.95,
    n_resamples: int = 2000,
) -> Interval:  # fmt: skip
    """Bootstrap interval of ``statistic(*samples)`` over examples.

    BCa (Efron 1987) up to 1,000 examples in each sample, percentiles beyond (where the two differ little, and BCa's
    jackknife is costly) and where BCa is undefined. Resamples on which the statistic is not finite are left out.

    Samples are 1-d, resampled together if ``paired``, each on its own if not. A statistic that takes ``axis`` is called
    on many resamples at once and is much faster; not to be finite on more than 5% of them is a ValueError.

    Example:
        >>> low, high = bootstrap_interval(np.mean, np.arange(100.0))
        >>> bool(low < 49.5 < high)
        True
    """
    named = {f"samples[{i}]": sample for i, sample in enumerate(samples)}
    arrays = _paired(**named) if paired else [_checked(name, sample) for name, sample in named.items()]
    n = max(map(len, arrays))
    options = {"paired": paired, "n_resamples": n_resamples, "batch": max(1, 2_000_000 // n), "rng": seed}
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # we look at the result itself
        result = stats.bootstrap(arrays, statistic, confidence_level=level, method="percentile", **options)
        spread = result.bootstrap_distribution[np.isfinite(result.bootstrap_distribution)]
        if len(spread) < 0.95 * n_resamples:
            raise ValueError("statistic is not finite on over 5% of the resamples: too few, or too equal, examples")
        percentile = _pair(np.quantile(spread, [(1 - level) / 2, (1 + level) / 2]))
        if n > FEW or np.ptp(spread) == 0:
            return percentile
        result.bootstrap_distribution = spread
        options |= {"n_resamples": 0, "bootstrap_result": result}
        bca = stats.bootstrap(arrays, statistic, confidence_level=level, method="BCa", **options).confidence_interval
    return _pair(bca) if np.isfinite(bca).all() else percentile


def permutation_band(
    statistic: Callable, a: ArrayLike, b: ArrayLike, *, seed: int = 0, level: float = 0.95, n_resamples: int = 1000
) -> Interval:
    """The band in which ``statistic(a, b)`` falls when b is paired with a at random.

    All pairings where they are at most ``n_resamples``; many at once if the statistic takes ``axis``.

    Example:
        >>> low, high = permutation_band(lambda a, b: np.corrcoef(a, b)[0, 1], np.arange(99.0), np.arange(99.0))
        >>> bool(-0.25 < low < -0.15 and 0.15 < high < 0.25)
        True
    """
    a, b = _paired(a=a, b=b)
    null = stats.permutation_test(
        (b,), partial(statistic, a), permutation_type="pairings", n_resamples=n_resamples,
        batch=max(1, 2_000_000 // len(b)), rng=seed,
    ).null_distribution  # fmt: skip
    return _pair(np.quantile(null, [(1 - level) / 2, (1 + level) / 2]))


def t_interval(values: ArrayLike, level: float = 0.95) -> tuple:
    """Student's interval of the mean over runs: ``mean ± t₍r−1₎ · s/√r``.

    ``values (r,)`` are one a seed, r ≥ 2, or ``(r, …)``: then low and high have shape ``(…)``.

    Example:
        >>> low, high = t_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    values = np.asarray(values, dtype=float)
    if values.ndim == 0 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values must be finite, of at least two runs, got shape {values.shape}")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
    low, high = values.mean(0) - half, values.mean(0) + half
    return (float(low), float(high)) if values.ndim == 1 else (low, high)


def apart(found: Mapping) -> tuple[dict, dict]:
    """Values and intervals of ``{setting: (value, interval)}`` as two dicts, as the ledger takes them.

    Example:
        >>> apart({"20%": (0.9, (0.8, 1.0))})
        ({'20%': 0.9}, {'20%': (0.8, 1.0)})
    """
    return {key: value for key, (value, _) in found.items()}, {key: interval for key, (_, interval) in found.items()}


def crossed_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Interval of the mean of ``values (R, T)``, which R replicates measured on the same T test rows.

        value = μ + replicate_r + row_t + rest        Var(mean) = (A + B − E) / RT

    with the mean squares A between replicates, B between rows, E of the rest. It covers the test rows and whatever
    differs from replicate to replicate: initializations, and the training rows if each replicate drew its own. It does
    so 92 to 98% of the time with 5 to 20 replicates of 200 to 2,000 rows, or 99% where rows do not differ;
    :func:`t_interval`, over replicates alone, may do so 40% of the time. For two choices pass paired differences.

    Example:
        >>> low, high = crossed_interval([[1, 0, 1], [0, 0, 1], [1, 1, 1]])
        >>> round(low, 2), round(high, 2)
        (-0.3, 1.63)
    """
    values, squares = mean_squares(values)
    half = half_of_sum(crossed_parts(*squares, *values.shape), level)
    return float(values.mean() - half), float(values.mean() + half)


def pearson_influence(a: NDArray, b: NDArray) -> NDArray:
    """``ψᵢ = uᵢvᵢ − ½ r (uᵢ² + vᵢ²)`` with u, v the standardized a, b; all ``(n,)``, sum 0.

    Example:
        >>> pearson_influence(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 4.0])).round(12) + 0.0
        array([0., 0., 0.])
    """
    a, b = (c / np.maximum(abs(c).max(), np.finfo(float).tiny) for c in (a, b))  # squares of 10¹⁵⁴ would overflow
    u, v = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
    return u * v - 0.5 * (u * v).mean() * (u * u + v * v)


def spearman_influence(a: NDArray, b: NDArray) -> NDArray:
    """Influence on Spearman's ``ρ = C/√(V_a V_b)``, the three moments taken over mid-ranks; all ``(n,)``, sum 0.

    With ``u = G_a − ½``, ``v = G_b − ½`` (G the mid-distribution function), ``C = mean(u v)`` moves with example i by

        uᵢvᵢ + mean_t[K(aᵢ, a_t) v_t] + mean_t[u_t K(bᵢ, b_t)] − const,  K(s, t) = 1{s < t} + ½ 1{s = t}

    the second and third because example i shifts the ranks of the others too; V_a is C of a with itself, and is not
    constant where values tie. Cost: two sorts, O(n log n).
    """
    u, v = ((stats.rankdata(x) - 0.5) / len(x) - 0.5 for x in (a, b))
    moved = lambda p, q, u, v: u * v + _mass_above(p, v) + _mass_above(q, u)  # up to a constant
    centred = lambda x: x - x.mean()
    scale_a, scale_b = (u * u).mean(), (v * v).mean()
    rho = (u * v).mean() / np.sqrt(scale_a * scale_b)
    cross = centred(moved(a, b, u, v)) / np.sqrt(scale_a * scale_b)
    return cross - 0.5 * rho * (centred(moved(a, a, u, u)) / scale_a + centred(moved(b, b, v, v)) / scale_b)


def standardized(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Each channel (or feature) with mean 0 and standard deviation 1; one that is constant becomes 0.

    Reckoned in float64, and cast to the type of ``x`` (float32 for integers) only then, so that a large offset costs no
    digits that x has. Constant is what varies by no more than the rounding of x.

    ``x`` is ``(n, d)`` or ``(n, c, …)``; mean and deviation are those of ``like``, the training rows, if x are others.

    Example:
        >>> standardized(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """
    kind, precise = (x.dtype, x.dtype) if x.is_floating_point() else (torch.float32, torch.float64)
    like, over = (x if like is None else like).double(), [0, *range(2, x.ndim)]
    unit = like.abs().amax(over, keepdim=True)  # squares of 10²⁰⁰ would be infinite, of 10⁻²⁰⁰ zero
    unit = torch.where(unit > 0, unit, 1.0)
    mean = (like / unit).mean(over, keepdim=True)
    spread = (like / unit - mean).square().mean(over, keepdim=True).sqrt()
    varies = spread > 8 * torch.finfo(precise).eps * (mean.abs() + spread)
    return ((x.double() / unit - mean) * torch.where(varies, 1 / spread, 0.0)).to(kind)


def mean_squares(values: ArrayLike) -> tuple[NDArray, tuple[float, float, float]]:
    """Values ``(R, T)``, and the mean squares between replicates, between rows, and of the rest."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values must be finite (replicates, rows), at least 2 of each, got shape {values.shape}")
    (r, t), replicate, row = values.shape, values.mean(1, keepdims=True), values.mean(0)
    rest = ((values - replicate - row + values.mean()) ** 2).sum() / ((r - 1) * (t - 1))
    return values, (t * replicate.var(ddof=1), r * row.var(ddof=1), rest)


def crossed_parts(between: float, of_rows: float, rest: float, r: int, t: int) -> list[tuple[float, float]]:
    """What mean squares of r replicates and t rows add to the variance of their mean, and the degrees of freedom."""
    return [(between / (r * t), r - 1), (of_rows / (r * t), t - 1), (-rest / (r * t), (r - 1) * (t - 1))]


def half_of_sum(parts: list[tuple[float, float]], level: float) -> float:
    """Half an interval by Satterthwaite; where parts cancel, the variance is at least any part's that stands alone."""
    variance, df = np.array(parts, dtype=float).T
    total = max(variance.sum(), variance[variance >= 0].min(), -variance.min())
    together = max(total**2 / (variance**2 / df).sum(), df.min()) if total else 1.0
    return float(stats.t.ppf((1 + level) / 2, together) * np.sqrt(total))


def _correlation(a, b, statistic, influence, seed, level):
    a, b = varying(a=a, b=b)
    value = float(np.clip(statistic(a, b), -1, 1))
    if 1 - abs(value) < 1e-12:
        return float(round(value)), (float(round(value)),) * 2
    if len(a) <= FEW:
        return value, bootstrap_interval(statistic, a, b, paired=True, seed=seed, level=level)
    z, half = np.arctanh(value), _half(level, influence(a, b)) / (1 - value**2)
    return value, _pair(np.tanh([z - half, z + half]))


def _half(level: float, *parts: NDArray) -> float:
    """Half a normal interval of a sum of means, each over its own part of the examples."""
    return float(stats.norm.ppf((1 + level) / 2) * np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)))


def _auc(high: NDArray, low: NDArray, axis: int = -1) -> NDArray:
    """Mann–Whitney: the ranks of ``high`` among all, along the last axis (scipy's bootstrap calls with that one)."""
    m, n = high.shape[axis], low.shape[axis]
    ranks = stats.rankdata(np.concatenate([high, low], axis), axis=axis)
    return (ranks[..., :m].sum(axis) - m * (m + 1) / 2) / (m * n)


def _placements(high: NDArray, low: NDArray) -> tuple[NDArray, NDArray]:
    """Each positive's share of negatives below it, ``(m,)``, and each negative's share of positives below it, ``(n,)``.

    Ties count half; the mean of the first is the area under the ROC curve.
    """
    below = lambda x, other: (np.searchsorted(other, x, "left") + np.searchsorted(other, x, "right")) / (2 * len(other))
    return below(high, np.sort(low)), below(low, np.sort(high))


def _mass_above(x: NDArray, weight: NDArray) -> NDArray:
    """``mean_t[weight_t (1{xᵢ < x_t} + ½ 1{xᵢ = x_t})]`` for every i."""
    _, group = np.unique(x, return_inverse=True)
    sums = np.bincount(group, weight)
    return (sums[::-1].cumsum()[::-1] - 0.5 * sums)[group] / len(x)


def _checked(name: str, values: ArrayLike) -> NDArray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{name} must be (n,) with n ≥ 2, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(values)).sum())} NaN or infinite values")
    return values


def _paired(**samples: ArrayLike) -> list[NDArray]:
    arrays = [_checked(name, values) for name, values in samples.items()]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError(f"samples must have one length, got {', '.join(str(len(array)) for array in arrays)}")
    return arrays


def _marked(positive: ArrayLike, **scores: ArrayLike) -> list[NDArray]:
    (*arrays,), positive = _paired(**scores), np.asarray(positive)
    if positive.dtype != bool or positive.shape != arrays[0].shape:
        raise ValueError(f"positive must be booleans {arrays[0].shape}, got {positive.dtype} {positive.shape}")
    if (rarer := min(positive.sum(), (~positive).sum())) < 2:
        raise ValueError(f"positive must mark at least 2 and leave at least 2, got {rarer}")
    return [positive, *arrays]


def varying(**samples: ArrayLike) -> list[NDArray]:
    arrays = _paired(**samples)
    for name, array in zip(samples, arrays, strict=True):
        if len(array) < 4:
            raise ValueError(f"{name} must hold at least 4 values for a correlation, got {len(array)}")
        if np.ptp(array) == 0:
            raise ValueError(f"{name} must vary, got {array[0]} everywhere")
    return arrays


def _pair(interval) -> Interval:
    low, high = interval
    return float(low), float(high)
