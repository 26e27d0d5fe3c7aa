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
    out, apply = torch.zeros_like(vectors), (lambda r: r) if precondition is None else precondition
    on, bound = torch.arange(len(vectors), device=vectors.device), vectors.norm(dim=1)
    bound.clamp_min_(torch.finfo(vectors.dtype).tiny)
    x, r, worst, step = torch.zeros_like(vectors), vectors.clone(), 0.0, 0
    z = apply(r)
    d, rz = z.clone(), (r * z).sum(1)
    while True:
        left = r.norm(dim=1) / bound
        done = (left <= tol) | (step == iterations)
        if done.any():
            out[on[done]], worst = x[done], max(worst, float(left[done].max()))
            on, bound, x, r, d, rz = (value[~done] for value in (on, bound, x, r, d, rz))
        if not len(on):
            return out, step, worst
        moved = product(d)
        curvature = (d * moved).sum(1)
        if not (curvature > 0).all():
            raise Indefinite(f"dᵀAd = {float(curvature.min()):.3g} for a direction d")
        alpha = (rz / curvature)[:, None]
        x.addcmul_(alpha, d)
        r.addcmul_(alpha, moved, value=-1)
        z, before = apply(r), rz
        rz = (r * z).sum(1)
        d.mul_((rz / before)[:, None]).add_(z)
        step += 1
