"""Conjugate gradient for many right-hand sides at once: one block product a step."""

from collections.abc import Callable

import torch
from torch import Tensor


class Indefinite(ArithmeticError):
    """A direction of negative curvature was met."""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    vectors: Tensor,
    *,
    tol: float = 1e-4,
    iterations: int = 200,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, int, float]:
    """Solve ``A xⱼ = vⱼ`` for positive definite A (Hestenes and Stiefel 1952), each j by its own steps.

    Args:
        product: maps ``(c, p)`` to ``(c, p)``: rows times A.
        vectors: ``(c, p)``.
        tol: stop where every residual is at most ``tol ‖vⱼ‖``; vectors that are there are no longer multiplied.
        iterations: stop after that many steps at the latest.
        precondition: an approximate inverse of A, positive definite.

    Returns:
        Solutions ``(c, p)``, steps taken, largest ``‖A xⱼ − vⱼ‖ / ‖vⱼ‖``.

    Raises:
        Indefinite: where vᵀAv ≤ 0 for some direction v.

    Example:
        >>> conjugate_gradient(lambda v: 2 * v, torch.tensor([[2.0, 4.0]]))[0]
        tensor([[1., 2.]])
    """
    apply = (lambda r: r) if precondition is None else precondition
    x, r = torch.zeros_like(vectors), vectors.clone()
    size = vectors.norm(dim=1).clamp_min(torch.finfo(vectors.dtype).tiny)
    z = apply(r)
    d, rz = z.clone(), (r * z).sum(1)
    step = 0
    for step in range(1, iterations + 1):
        on = (r.norm(dim=1) > tol * size).nonzero()[:, 0]
        if not len(on):
            step -= 1
            break
        direction = d[on]
        moved = product(direction)
        curvature = (direction * moved).sum(1)
        if not (curvature > 0).all():
            raise Indefinite(f"dᵀAd = {float(curvature.min()):.3g} for a direction d")
        alpha = (rz[on] / curvature)[:, None]
        x[on] += alpha * direction
        r[on] -= alpha * moved
        z = apply(r[on])
        new = (r[on] * z).sum(1)
        d[on] = z + (new / rz[on])[:, None] * direction
        rz[on] = new
    return x, step, float((r.norm(dim=1) / size).max())
