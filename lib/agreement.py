"""How far two sets of estimates agree, and which pairs to show: the paper's sections 2 and 3.5, appendix C."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor


def consistency(
    first: Tensor,
    second: Tensor,
    thresholds: list[float],
    *,
    eligible: tuple[Tensor, Tensor] | None = None,
) -> pd.DataFrame:
    """Agreement of two estimates of the same quantities, threshold by threshold (Feldman and Zhang 2020, eq. 4).

        J(θ) = |I ∩ I′| / |I ∪ I′|        D(θ) = mean over I ∪ I′ of |a − a′|        I = {a ≥ θ}, I′ = {a′ ≥ θ}

    Args:
        first, second: estimates of one shape; NaN is above no threshold, and no part of the difference.
        eligible: two boolean masks of a shape that broadcasts, which I and I′ are confined to (the paper's
            mem ≥ .25 for influence, as ``mem[:, None] >= .25``).

    Returns:
        One row a threshold: ``threshold, jaccard, difference, first, second`` (the last two are set sizes);
        where the union is empty, jaccard and difference are NaN.

    Example:
        >>> consistency(torch.tensor([0.9, 0.4]), torch.tensor([0.8, 0.6]), [0.5]).jaccard[0]
        0.5
    """
    if first.shape != second.shape:
        raise ValueError(f"first and second must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    mask = eligible or (torch.tensor(True), torch.tensor(True))
    gap = (first - second).abs()
    rows = []
    for threshold in thresholds:
        a, b = (first >= threshold) & mask[0], (second >= threshold) & mask[1]
        union, both = a | b, (a & b).sum().item()
        size, gaps = union.sum().item(), gap[union]
        rows.append(
            {
                "threshold": threshold,
                "jaccard": both / size if size else np.nan,
                "difference": gaps.nanmean().item(),
                "first": a.sum().item(),
                "second": b.sum().item(),
            }
        )
    return pd.DataFrame(rows)


def displayed_examples(pairs: pd.DataFrame, *, copies: int = 3, examples: int = 5) -> np.ndarray:
    """The training examples to show, without cherry-picking (Feldman and Zhang 2020, appendix C).

    Sorted by the highest influence each has on a test example, they are read off at ``examples`` evenly spread places,
    and at the ``copies − 1`` places after each.

    Args:
        pairs: columns ``train`` and ``influence``, as from ``memorization.high_influence_pairs``.

    Returns:
        ``(copies, examples)`` values of ``train``.

    Raises:
        ValueError: if the pairs hold fewer than ``copies`` training examples.
    """
    strongest = pairs.groupby("train").influence.max().sort_values(ascending=False, kind="stable").index.to_numpy()
    if len(strongest) < copies:
        raise ValueError(f"pairs must hold at least {copies} training examples to show, got {len(strongest)}")
    base = np.linspace(0, len(strongest) - copies, examples).astype(int)
    return np.stack([strongest[base + copy] for copy in range(copies)])


def neighbour_rank(x_train: Tensor, y_train: Tensor, x_test: Tensor, y_test: Tensor, train, test) -> Tensor:
    """Of the training examples with the test example's label, the share that lie nearer to it than its partner does.

    Distance is Euclidean between images as they are. 0 = the partner is the nearest of all; chance gives a half.

    Args:
        train, test: positions of the pairs, ``(p,)`` each, the two of one label.

    Returns:
        ``(p,)`` float64 in [0, 1).

    Raises:
        ValueError: if a pair has two labels, or a label a single training example.
    """
    train, test = torch.as_tensor(np.asarray(train)), torch.as_tensor(np.asarray(test))
    if (y_train[train] != y_test[test]).any():
        raise ValueError("pairs must be of one label: neighbours are ranked within it")
    rank = torch.empty(len(test), dtype=torch.float64)
    for label in y_test[test].unique():
        mates = torch.nonzero(y_train == label).flatten()
        if len(mates) < 2:
            raise ValueError(f"label {int(label)} has a single training example: nothing to rank it among")
        own = torch.nonzero(y_test[test] == label).flatten()
        distance = torch.cdist(x_test[test[own]].flatten(1), x_train[mates].flatten(1))  # (pairs, mates)
        partner = distance.gather(1, torch.searchsorted(mates, train[own])[:, None])
        rank[own] = (distance < partner).sum(1).double() / (len(mates) - 1)
    return rank
