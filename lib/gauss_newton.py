"""The Gauss–Newton matrix's inverse where there are more parameters than outputs: from the tangent kernel.

With rows R of ``RᵀR = Σᵢ Jᵢᵀ(∇²_f ℓᵢ)Jᵢ``, N = n·k of them (``lib.example_gradients.curvature_rows``), and μ = λ + δ,

    (RᵀR/n + μI)⁻¹ v = (v − Rᵀ (RRᵀ + nμI)⁻¹ R v) / μ          (Woodbury)

RRᵀ is the tangent kernel (``lib.jacobians.ntk``) between the roots of the losses' curvatures, so that R, N × p, is
never held. Exact, for any network whose N × N kernel fits.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp, vmap

from lib.example_gradients import along, curvature_root
from lib.jacobians import ntk
from lib.objective import Objective, flat

PASSES = 4  # copies of the activations that a backward pass holds for each vector


def kernel_inverse(objective: Objective, damping: float) -> Callable[[Tensor], Tensor]:
    """``v ↦ (G + δI)⁻¹ v`` for blocks of vectors ``(c, p)``; the penalty is in G.

    Raises:
        ValueError: where λ + δ is 0, or for layers other than Linear, Conv2d and BatchNorm.

    Cost: the kernel, N³/3; then k backward passes an example, once for all vectors and once for each.
    """
    shift, n, k = objective.weight_decay + damping, objective.n, objective.y.shape[1]
    if not shift > 0:
        raise ValueError("the Gauss–Newton matrix is singular, with more parameters than outputs: give damping")
    with torch.no_grad():
        f = torch.cat([objective.outputs(objective.weights, x) for (x,) in objective.batches(objective.x)])
    root = curvature_root(f, objective.loss)  # (n, k, k)
    kernel = ntk(objective.model, objective.x).view(n, k, n, k)
    kernel = torch.einsum("iab,ibjc->iajc", root, kernel)
    kernel = torch.einsum("iajc,jdc->iajd", kernel, root).reshape(n * k, n * k)
    kernel.diagonal().add_(n * shift)
    factor = torch.linalg.cholesky(kernel.double())

    def solve(v: Tensor) -> Tensor:
        onto = root @ along(objective, objective.x, None, v).view(n, k, len(v))  # R v
        inner = torch.cholesky_solve(onto.reshape(n * k, -1).double(), factor).to(v.dtype)
        return (v - pull_back(objective, root.mT @ inner.view(n, k, -1))) / shift

    return solve


def pull_back(objective: Objective, coefficients: Tensor) -> Tensor:
    """``Σᵢ Jᵢᵀ αᵢ`` for c columns of coefficients α ``(n, k, c)``: ``(c, p)``. Cost: c backward passes an example."""
    total, columns = 0, coefficients.permute(2, 0, 1)  # (c, n, k)
    with torch.no_grad():
        start = 0
        for (x,) in objective.batches(objective.x, times=PASSES * len(columns)):
            _, back = vjp(lambda w: objective.outputs(w, x), objective.weights)  # noqa: B023
            total = total + flat(vmap(back)(columns[:, start : start + len(x)])[0])
            start += len(x)
    return total
