"""Which pictures look alike, by the angle between their pixels: what stands behind "typical" and "near duplicate"."""

import torch
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every example of ``a`` with every one of ``b``, ``(n, m)``; 0 for an all-zero example.

    Example:
        >>> cosine(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]))
        tensor([[0.9600]])
    """
    unit = lambda x: torch.nn.functional.normalize(x.flatten(1), dim=1)
    return unit(a) @ unit(b).T


def label_agreement(x: Tensor, y: Tensor, *, k: int = 10, block: int = 2048) -> Tensor:
    """Share of each example's k nearest other examples (by cosine) with its own label, ``(n,)``.

    1 = typical of its class; chance is the class's share of the examples.

    Raises:
        ValueError: unless 1 ≤ k < n.

    Cost: one n × n product, ``block`` rows at a time.
    """
    if not 1 <= k < len(x):
        raise ValueError(f"k must be at least 1 and below the number of examples, {len(x)}, got {k}")
    shares = []
    for rows in torch.arange(len(x)).split(block):
        similarity = cosine(x[rows], x)
        similarity[torch.arange(len(rows)), rows] = -2.0  # not its own neighbour
        shares.append((y[similarity.topk(k).indices] == y[rows, None]).double().mean(1))
    return torch.cat(shares)


def are_neighbours(a: Tensor, b: Tensor, i: Tensor, j: Tensor, *, k: int = 5) -> Tensor:
    """Whether one of a pair is among the other's k nearest: b[j] among b for a[i], or a[i] among a for b[j].

    Args:
        a, b: two sets of examples (training and test).
        i, j: positions of the pairs in a and b, ``(p,)`` each.

    Returns:
        ``(p,)`` bool. For a random pair it is true with probability k/|a| + k/|b| at most.
    """
    own = cosine(a[i], b)
    forth = (own > own.gather(1, j[:, None])).sum(1) < k
    own = cosine(b[j], a)
    return forth | ((own > own.gather(1, i[:, None])).sum(1) < k)
