"""LiSSA: the inverse of a Hessian times vectors from batches (Agarwal et al. 2017; Koh and Liang 2017, section 3).

    h₀ = v,    h_j = v + h_{j−1} − (H_j + δI) h_{j−1} / s,    E[h_J]/s → (H + δI)⁻¹v

with H_j the Hessian over the j-th batch. The mean error of the component of v at an eigenvalue μ shrinks as
(1 − (μ + δ)/s)^J: s must exceed half of the largest curvature met, δ minus the lowest one, and J about s/(μ + δ).
(Koh and Liang's own damping β is added to H/s: δ = βs.)
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Diverged(ArithmeticError):
    """The recursion grew beyond what any convergent one can reach."""


def lissa(
    product: Callable[[Tensor, Tensor], Tensor],
    vectors: Tensor,
    n: int,
    *,
    scale: float,
    damping: float = 0.0,
    depth: int = 1000,
    repeats: int = 1,
    batch_size: int = 1,
    seed: int = 0,
) -> Tensor:
    """``(H + δI)⁻¹v`` for a block of vectors, which share their batches.

    Args:
        product: ``(vectors (c, p), rows) -> (c, p)``, the Hessian over those examples.
        vectors: ``(c, p)``.
        n: examples to draw the batches from, with replacement.
        scale, damping, depth: s, δ, J. repeats: recursions to average.

    Returns:
        Solutions ``(c, p)``.

    Raises:
        Diverged: at the step where some ‖h_j‖ exceeds 2(j + 1)‖v‖: with 0 ≤ H_j + δI ≤ 2s it never exceeds half.

    Example:
        >>> lissa(lambda v, rows: 4 * v, torch.ones(1, 2), 1, scale=8.0, depth=60)
        tensor([[0.2500, 0.2500]])
    """
    generator = torch.Generator().manual_seed(seed)
    size, total = vectors.norm(dim=1), torch.zeros_like(vectors)
    for _ in range(repeats):
        h = vectors.clone()
        for j in range(1, depth + 1):
            rows = torch.randint(n, (batch_size,), generator=generator).to(vectors.device)
            h = h + vectors - (product(h, rows) + damping * h) / scale
            if not (h.norm(dim=1) <= 2 * (j + 1) * size).all():
                raise Diverged(f"at step {j} of {depth}")
        total += h
    return total / (repeats * scale)
