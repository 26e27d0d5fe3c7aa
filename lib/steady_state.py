"""SGD simulated around the minimum of a linear least-squares problem, to hold the Lyapunov equation against."""

import torch
from torch import Tensor

from lib.linearized import F64


def minimum(jacobian: Tensor, residual: Tensor, *, weight_decay: float = 0.0) -> Tensor:
    """``w* − w₀`` of the mean loss ``(1/n) Σᵢ ½(Jᵢω − rᵢ)² + λ/2 ‖ω‖²``, ``(p,)`` float64.

    Args:
        jacobian: ``(n, p)``. residual: targets minus first outputs, ``(n,)``.

    Raises:
        ValueError: for shapes that disagree, or a singular problem (give decay).
    """
    if jacobian.ndim != 2 or residual.shape != jacobian.shape[:1]:
        raise ValueError(
            f"expected jacobian (n, p), residual (n,), got {tuple(jacobian.shape)}, {tuple(residual.shape)}"
        )
    j, r = jacobian.to(F64), residual.to(F64)
    curvature = j.T @ j / len(j) + weight_decay * torch.eye(j.shape[1], dtype=F64)
    factor, failed = torch.linalg.cholesky_ex(curvature)
    if failed:
        raise ValueError("jacobian must have full column rank, or weight_decay be above 0")
    return torch.cholesky_solve((j.T @ r / len(j))[:, None], factor)[:, 0]


def sgd_wander(
    jacobian: Tensor,
    residual: Tensor,
    *,
    lr: float,
    batch_size: int,
    weight_decay: float = 0.0,
    chains: int = 200,
    burn: int = 1000,
    steps: int = 1000,
    every: int = 10,
    seed: int = 0,
) -> Tensor:
    """Where SGD stands around the minimum once it is steady, ``(chains · steps/every, p)``: ω − ω*.

    Batches are drawn with replacement, the chains start at the minimum, ``burn`` steps are thrown away. The noise of
    the gradient changes with ω, as it does in fact; the Lyapunov equation takes it as constant.

    Raises:
        ValueError: as :func:`minimum`.

    Cost: ``2·chains·batch_size·p`` multiplications a step.
    """
    best = minimum(jacobian, residual, weight_decay=weight_decay)
    j, r = jacobian.to(F64), residual.to(F64)
    generator = torch.Generator().manual_seed(seed)
    w, kept = best.expand(chains, -1).clone(), []
    for step in range(burn + steps):
        batch = torch.randint(len(j), (chains, batch_size), generator=generator)
        rows = j[batch]  # (chains, b, p)
        errors = torch.einsum("cbp,cp->cb", rows, w) - r[batch]
        w = w - lr * (torch.einsum("cb,cbp->cp", errors, rows) / batch_size + weight_decay * w)
        if step >= burn and (step - burn) % every == every - 1:
            kept.append(w - best)
    return torch.cat(kept)
