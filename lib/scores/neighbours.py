"""What the nearest neighbours say of an example: two closed forms, the baselines of everything that needs a network.

Distances are Euclidean; standardize features first. Cost: one sort of n distances for each (other) example.
"""

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lib.scores import takes_arrays


@takes_arrays
def knn_agreement(x: Tensor, y: Tensor, *, k: int = 10) -> Tensor:
    """Share of each example's k nearest others that bear its label, ``(n,)`` float64 in [0, 1]; high = regular.

    ``x (n, …)``, labels ``y (n,)``. Raises ValueError unless 1 ≤ k < n.

    Example:
        >>> knn_agreement(torch.tensor([[0.0], [1.0], [2.1]]), torch.tensor([0, 0, 1]), k=1)
        tensor([1., 1., 0.], dtype=torch.float64)
    """
    _check(x=x, y=y)
    if not 1 <= k < len(x):
        raise ValueError(f"k must be at least 1 and below the number of examples, {len(x)}, got {k}")
    others = NearestNeighbors(n_neighbors=k).fit(x.flatten(1).numpy()).kneighbors(return_distance=False)  # not itself
    return (y[torch.from_numpy(others)] == y[:, None]).double().mean(1)


@takes_arrays
def knn_shapley(x: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor, *, k: int = 5) -> Tensor:
    """Shapley value of each example for the accuracy of k nearest neighbours on validation examples, ``(n,)`` float64.

        s₍ₙ₎ = [y₍ₙ₎ = y′] / n,   s₍ᵢ₎ = s₍ᵢ₊₁₎ + ([y₍ᵢ₎ = y′] − [y₍ᵢ₊₁₎ = y′]) / k · min(k, i) / i

    with (i) the i-th nearest to the validation example, averaged over these (Jia et al. 2019, theorem 1; k ≤ n). The
    values sum to the accuracy: the mean share of the k nearest that bear the label. Positive = helpful.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
        >>> knn_shapley(x, y, x[:1] + 0.1, y[:1], k=1)
        tensor([1., 0.], dtype=torch.float64)
    """
    _check(x=x, y=y)
    _check(x_val=x_val, y_val=y_val)
    n = len(x)
    if not 1 <= k <= n:
        raise ValueError(f"k must be at least 1 and at most the number of examples, {n}, got {k}")
    search, place = NearestNeighbors(n_neighbors=n).fit(x.flatten(1).numpy()), torch.arange(1, n, dtype=torch.float64)
    total = torch.zeros(n, dtype=torch.float64)
    for rows, labels in zip(x_val.flatten(1).split(256), y_val.split(256), strict=True):
        order = torch.from_numpy(search.kneighbors(rows.numpy(), return_distance=False).astype(np.int64))
        right = (y[order] == labels[:, None]).double()
        steps = (right[:, :-1] - right[:, 1:]) / k * place.clamp_max(k) / place
        value = torch.cat([steps, right[:, -1:] / n], 1).flip(1).cumsum(1).flip(1)
        total.scatter_add_(0, order.flatten(), value.flatten())
    return total / len(x_val)


def _check(**parts: Tensor) -> None:
    (name, x), (_, y) = parts.items()
    if y.shape != x.shape[:1]:
        raise ValueError(f"{name}: expected a label for each example, got {tuple(x.shape)} and {tuple(y.shape)}")
