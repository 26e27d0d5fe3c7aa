"""Ranks, and which examples look alike: by the angle between them, which stands behind "typical"."""

import torch
from torch import Tensor


def ranks(score: Tensor, *, seed: int = 0) -> Tensor:
    """Rank of each score, ``(n,)`` int64, 0 = lowest; ties fall in an order drawn by the seed, not by row."""
    shuffled = torch.randperm(len(score), generator=torch.Generator().manual_seed(seed))
    order = shuffled[torch.argsort(score[shuffled], stable=True)]
    rank = torch.empty(len(score), dtype=torch.int64)
    rank[order] = torch.arange(len(score))
    return rank


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every example of ``a`` with every one of ``b``, ``(n, m)``; 0 for an all-zero example.

    Example:
        >>> cosine(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]))
        tensor([[0.9600]])
    """
    unit = lambda x: torch.nn.functional.normalize(x.flatten(1), dim=1)
    return unit(a) @ unit(b).T


def label_agreement(x: Tensor, y: Tensor, *, k: int = 10, block: int = 2048) -> Tensor:
    """Share of each example's k nearest other examples (by cosine) with its own label, ``(n,)``; 1 ≤ k < n.

    1 = typical of its class; chance is the class's share. Cost: one n × n product, ``block`` rows at a time.
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

    Positions i, j of the pairs in the two sets a, b, and the result, are ``(p,)``. For a random pair it is true with
    probability k/|a| + k/|b| at most.
    """
    near = lambda likeness, partner: (likeness > likeness.gather(1, partner[:, None])).sum(1) < k
    return near(cosine(a[i], b), j) | near(cosine(b[j], a), i)
