"""CRAIG: weighted subsets whose gradients stand for those of all examples (Mirzasoleiman et al. 2020).

The gradients are those at the logits, p − onehot(y), which bound the rest of the gradient of a network under
cross-entropy (Ki et al. 2023, appendix F): what ``Ensemble.errors[epoch]`` keeps. The subset is to follow training;
Ki et al. choose it anew every ten epochs.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lib.networks.stacked import labels_by_run

METHODS = ("lazy", "stochastic")
TRIED = 32  # candidates that lazy greedy evaluates together


class Coreset(NamedTuple):
    """Which examples stand for the others, and for how many, in each run."""

    kept: Tensor  # (E, n) bool
    weights: Tensor  # (E, n) float32, examples stood for: sums to n; 0 where not kept


def craig(
    errors: Tensor, keep: float, *, y: Tensor | None = None, method: str = "lazy", epsilon: float = 0.1, seed: int = 0
) -> Coreset:
    """Choose medoids of the gradients greedily, per run (Mirzasoleiman et al. 2020, alg. 1; Ki et al. 2023, eq. 12).

        S = argmin_{|S| = r} L(S),   L(S) = Σᵢ min_{j ∈ S} ‖gᵢ − gⱼ‖,   weight of j = #{i : j is nearest to i in S}

    so that ‖Σᵢ gᵢ − Σ_{j ∈ S} weightⱼ gⱼ‖ ≤ L(S). L(∅) − L(S), with L(∅) n times the largest distance, is submodular:
    greedy reaches 1 − 1/e of the best, stochastic greedy on average 1 − 1/e − ε (Mirzasoleiman et al. 2015).

    Args:
        errors: g, ``(E, n, k)``.
        keep: share chosen, in (0, 1].
        y: labels ``(n,)`` or ``(E, n)``. Given, the same share of each class is chosen, to stand for that class alone,
            as the authors' code does; it saves the distances between classes.
        method: ``lazy`` is greedy, evaluating only what can win, on the matrix of all distances in a class;
            ``stochastic`` looks at m/r·log(1/ε) random candidates for each choice and holds no matrix.
        epsilon, seed: ε and the draw of ``stochastic``.

    Returns:
        ``max(1, round(keep·m))`` of each class of m, in each run. An example whose equal was chosen has weight 0.

    Raises: ValueError for other shapes or options, or errors that are not finite.

    Cost: for a class of m, ``lazy``: m²k for the distances and 4m² bytes, then some 32m per choice; ``stochastic``:
    m²k·log(1/ε) in all, classes and runs of one size side by side.

    Example:
        >>> g = torch.tensor([[[-0.1], [0.0], [0.1], [0.2], [5.0]]])
        >>> craig(g, keep=0.4).weights  # the middle of all, which is in the cluster, and the one apart
        tensor([[0., 0., 4., 0., 1.]])
    """
    if errors.ndim != 3 or not torch.isfinite(errors).all():
        raise ValueError(f"errors must be finite (runs, examples, classes), got {tuple(errors.shape)}")
    if not 0 < keep <= 1 or not 0 < epsilon < 1:
        raise ValueError(f"expected 0 < keep ≤ 1 and 0 < epsilon < 1, got keep {keep}, epsilon {epsilon}")
    if method not in METHODS:
        raise ValueError(f"method must be {' or '.join(METHODS)}, got {method!r}")
    runs, n = errors.shape[:2]
    groups = labels_by_run(torch.zeros(n, dtype=torch.int64) if y is None else y, runs, n)
    kept, weights = torch.zeros(runs, n, dtype=torch.bool), torch.zeros(runs, n)
    by_size: dict[int, list] = {}  # runs and their rows of one class
    for e in range(runs):
        for c in groups[e].unique():
            rows = torch.nonzero(groups[e] == c).flatten()
            by_size.setdefault(len(rows), []).append((e, rows))
    draw = [torch.Generator().manual_seed(seed + e) for e in range(runs)]
    for m, problems in by_size.items():
        size = max(1, round(keep * m))
        g = torch.stack([errors[e, rows] for e, rows in problems])
        if method == "lazy":
            chosen_and_owners = [_lazy(one, size) for one in g]
        else:
            few = min(m, math.ceil(m / size * math.log(1 / epsilon)))
            draws = [torch.rand(size, few, generator=draw[e], dtype=torch.float64) for e, _ in problems]
            chosen_and_owners = zip(*_stochastic(g, size, few, torch.stack(draws).to(g.device)), strict=True)
        for (e, rows), (chosen, owner) in zip(problems, chosen_and_owners, strict=True):
            kept[e, rows[chosen.cpu()]] = True
            weights[e, rows[chosen.cpu()]] = torch.bincount(owner.cpu(), minlength=size).float()
    return Coreset(kept, weights)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")  # differences, not squares: exact at 0


def _lazy(g: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Greedy: gains only fall, so a candidate whose fresh gain beats all old ones wins (Minoux 1978)."""
    distance, chosen = _distances(g, g), []
    near, owner = distance.max().expand(len(g)).clone(), torch.zeros(len(g), dtype=torch.int64, device=g.device)
    bound = len(g) * distance.max() - distance.sum(1)
    while len(chosen) < size:
        old, tried = bound.topk(min(TRIED, len(g)))
        gain = (near - distance[tried]).clamp_(min=0).sum(1)  # by how much L falls with each
        bound[tried] = gain = gain.masked_fill_(torch.isinf(old), -torch.inf)
        if gain.max() >= old[-1] or len(tried) == len(g):
            j = int(tried[gain.argmax()])
            owner[distance[j] < near] = len(chosen)
            near = torch.minimum(near, distance[j])
            chosen.append(j)
            bound[j] = -torch.inf
    return torch.tensor(chosen), owner.cpu()


def _stochastic(g: Tensor, size: int, few: int, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Greedy among a few candidates drawn anew for each choice, in P problems ``g (P, m, k)`` side by side.

    ``draws (P, size, few)`` are uniform in [0, 1). Returns whom they chose ``(P, size)``, and which of these stands for
    each example ``(P, m)``.
    """
    problems, m, k = g.shape
    left = torch.arange(m, device=g.device).expand(problems, m).clone()
    near = 2 * torch.linalg.vector_norm(g, dim=2).amax(1, keepdim=True).expand(problems, m)
    owner, chosen = torch.zeros_like(left), left.new_empty(problems, size)
    for choice in range(size):
        count = m - choice
        places = (draws[:, choice, :count] * count).long()
        tried = left.gather(1, places)
        distance = _distances(g.gather(1, tried[..., None].expand(-1, -1, k)), g)  # (P, few, m)
        best = (near[:, None] - distance).clamp_(min=0).sum(2).argmax(1)[:, None]
        distance = distance.gather(1, best[..., None].expand(-1, -1, m))[:, 0]
        owner.masked_fill_(distance < near, choice)
        near = torch.minimum(near, distance)
        chosen[:, choice] = tried.gather(1, best)[:, 0]
        left.scatter_(1, places.gather(1, best), left[:, count - 1 : count].clone())
    return chosen, owner
