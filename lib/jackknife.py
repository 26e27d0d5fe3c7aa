"""Influence of each example on a statistic: its infinitesimal jackknife (Efron 1982), the limit of the bootstrap.

An example's influence ψᵢ is the derivative of the statistic with respect to that example's weight; the bootstrap's
variance tends to ``mean(ψ²)/n``, in one pass and without resampling. (Not to be confused with influence on a trained
network, which is this same derivative taken through the training.)
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def pearson_influence(a: NDArray, b: NDArray) -> NDArray:
    """``ψᵢ = uᵢvᵢ − ½ r (uᵢ² + vᵢ²)`` with u, v the standardized a, b; all ``(n,)``, sum 0.

    Example:
        >>> pearson_influence(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 4.0])).round(12) + 0.0
        array([0., 0., 0.])
    """
    u, v = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
    return u * v - 0.5 * (u * v).mean() * (u * u + v * v)


def spearman_influence(a: NDArray, b: NDArray) -> NDArray:
    """Influence on Spearman's ``ρ = C/√(V_a V_b)``, the three moments taken over mid-ranks; all ``(n,)``, sum 0.

    With ``u = G_a − ½``, ``v = G_b − ½`` (G the mid-distribution function), ``C = mean(u v)`` moves with example i by

        uᵢvᵢ + mean_t[K(aᵢ, a_t) v_t] + mean_t[u_t K(bᵢ, b_t)] − const,  K(s, t) = 1{s < t} + ½ 1{s = t}

    the second and third because example i shifts the ranks of the others too; V_a is C of a with itself, and is not
    constant where values tie.

    Cost: two sorts, O(n log n).
    """
    u, v = _mid_ranks(a), _mid_ranks(b)
    moved = lambda p, q, u, v: u * v + _mass_above(p, v) + _mass_above(q, u)  # up to a constant
    centred = lambda x: x - x.mean()
    scale_a, scale_b = (u * u).mean(), (v * v).mean()
    rho = (u * v).mean() / np.sqrt(scale_a * scale_b)
    cross = centred(moved(a, b, u, v)) / np.sqrt(scale_a * scale_b)
    return cross - 0.5 * rho * (centred(moved(a, a, u, u)) / scale_a + centred(moved(b, b, v, v)) / scale_b)


def auroc_error(high: NDArray, low: NDArray) -> float:
    """Standard error of the area under the ROC curve of positives ``(m,)`` against negatives ``(n,)``.

    ``√(var(wins)/m + var(losses)/n)`` over the two placements (DeLong et al. 1988).
    """
    wins, losses = auroc_placements(high, low)
    return float(np.sqrt(wins.var(ddof=1) / len(wins) + losses.var(ddof=1) / len(losses)))


def auroc_placements(high: NDArray, low: NDArray) -> tuple[NDArray, NDArray]:
    """Each positive's share of negatives below it, ``(m,)``, and each negative's share of positives below it, ``(n,)``.

    Ties count half; the mean of the first, and one minus that of the second, is the area under the ROC curve.
    """
    return _share_below(high, low), _share_below(low, high)


def _mid_ranks(x: NDArray) -> NDArray:
    return (rankdata(x) - 0.5) / len(x) - 0.5


def _mass_above(x: NDArray, weight: NDArray) -> NDArray:
    """``mean_t[weight_t (1{xᵢ < x_t} + ½ 1{xᵢ = x_t})]`` for every i."""
    _, group = np.unique(x, return_inverse=True)
    sums = np.bincount(group, weight)
    return (sums[::-1].cumsum()[::-1] - 0.5 * sums)[group] / len(x)


def _share_below(one: NDArray, other: NDArray) -> NDArray:
    other = np.sort(other)
    return (np.searchsorted(other, one, "left") + np.searchsorted(other, one, "right")) / (2 * len(other))
