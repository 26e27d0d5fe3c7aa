"""The Hessian of an objective: products with blocks of vectors, the whole matrix, its extreme eigenvalues.

    H = (1/n) Σᵢ ∇²ℓᵢ + λI = G + (1/n) Σᵢ Σ_c (∂ℓᵢ/∂f_c) ∇²f_c(xᵢ),      G = (1/n) Σᵢ Jᵢᵀ (∇²_f ℓᵢ) Jᵢ + λI

G, the Gauss–Newton matrix (Schraudolph 2002), leaves out the curvature of the network itself and is never indefinite.
"""

import warnings
from collections.abc import Callable
from itertools import pairwise

import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

from lib.batched import chain
from lib.chain_hessian import chain_hessian
from lib.example_gradients import curvature_rows
from lib.objective import WORKING, Objective, flat, named

# torch's own forward-mode derivatives use what torch has deprecated; it says so once, on the first product
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)

STRIPS = 4  # of columns, in which a symmetric product is computed
SMALL = 40  # parameters up to which all eigenvalues are as easy
PASSES = 6  # copies of the activations that a product holds for each vector


def hessian_product(
    objective: Objective, vectors: Tensor, *, gauss_newton: bool = False, rows: Tensor | None = None
) -> Tensor:
    """``Hv`` for a block of vectors (Pearlmutter 1994: the derivative of the gradient along v), penalty included.

    Args:
        vectors: ``(c, p)``.
        gauss_newton: with G in place of H.
        rows: indices of the examples to average over; all by default.

    Returns:
        ``(c, p)``.

    Cost: about eight forward passes an example and vector; the vectors go through the network side by side.
    """
    x, y = (objective.x, objective.y) if rows is None else (objective.x[rows], objective.y[rows])
    one = _gauss_newton_product if gauss_newton else _newton_product
    together = max(1, min(len(vectors), WORKING // (8 * PASSES * objective.activation_bytes)))
    room = max(WORKING, 16 * objective.p * x.element_size())  # batches that outweigh the copies of the weights
    out = torch.empty_like(vectors)
    with torch.no_grad():
        for into, block in zip(out.split(together), vectors.split(together), strict=True):
            tangents, total = named(block, objective.weights), 0
            for some, label in objective.batches(x, y, times=PASSES * len(block), room=room):
                total = total + flat(vmap(lambda v: one(objective, some, label, v))(tangents))  # noqa: B023
            into.copy_(total).div_(len(x)).add_(block, alpha=objective.weight_decay)
    return out


def _newton_product(objective: Objective, x: Tensor, y: Tensor, v: dict[str, Tensor]) -> dict[str, Tensor]:
    return jvp(grad(lambda w: objective.total(w, x, y)), (objective.weights,), (v,))[1]


def _gauss_newton_product(objective: Objective, x: Tensor, y: Tensor, v: dict[str, Tensor]) -> dict[str, Tensor]:
    f, df = jvp(lambda w: objective.outputs(w, x), (objective.weights,), (v,))
    if objective.loss == "cross_entropy":
        s = f.softmax(1)
        df = s * (df - (s * df).sum(1, keepdim=True))
    return vjp(lambda w: objective.outputs(w, x), objective.weights)[1](df)[0]


def hessian(objective: Objective) -> Tensor:
    """The whole matrix H, ``(p, p)``, penalty included.

    Cost: in closed form for a chain of linear layers (``lib.chain_hessian``); p products for another network.
    """
    if layers := chain(objective.model):
        return chain_hessian(objective, layers)
    identity = torch.eye(objective.p, dtype=objective.x.dtype, device=objective.x.device)
    h = hessian_product(objective, identity)
    return (h + h.T) / 2


def example_hessians(objective: Objective) -> Tensor:
    """``∇²ℓᵢ + λI`` of every training example, ``(n, p, p)``: for networks of a few hundred parameters."""
    identity = named(torch.eye(objective.p, dtype=objective.x.dtype, device=objective.x.device), objective.weights)

    def one(x, y):
        product = lambda v: _newton_product(objective, x[None], y[None], v)
        return torch.cat([part.flatten(1) for part in vmap(product)(identity).values()], 1)

    with torch.no_grad():
        pieces = objective.batches(objective.x, objective.y, times=PASSES * objective.p)
        h = torch.cat([vmap(one)(*batch) for batch in pieces])
    h.diagonal(dim1=1, dim2=2).add_(objective.weight_decay)
    return h


def gauss_newton_matrix(objective: Objective) -> Tensor:
    """The whole matrix G, ``(p, p)``, penalty included.

    Cost: in closed form for a chain of linear layers; k backward passes an example and 2nkp² operations for another.
    """
    if layers := chain(objective.model):
        return chain_hessian(objective, layers, gauss_newton=True)
    g = torch.zeros(objective.p, objective.p, dtype=objective.x.dtype, device=objective.x.device)
    ends = [objective.p * part // STRIPS for part in range(STRIPS + 1)]
    for rows in curvature_rows(objective):
        for start, end in pairwise(ends):  # the upper triangle
            g[:end, start:end].addmm_(rows[:, :end].T, rows[:, start:end])
    g = torch.triu(g) + torch.triu(g, 1).T
    g.div_(objective.n).diagonal().add_(objective.weight_decay)
    return g


def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor], like: Tensor, *, tol: float = 1e-4, seed: int = 0
) -> tuple[float, float]:
    """Lowest and highest eigenvalue of a symmetric operator by Lanczos (ARPACK), to ``tol`` times the largest size.

    Ritz values lie inside the spectrum: the true lowest may be lower by that much.

    Args:
        product: maps ``(c, p)`` to ``(c, p)``.
        like: any vector ``(p,)``, for its type and device.

    Cost: some 50 to 300 products with one vector.

    Example:
        >>> lowest, highest = extreme_eigenvalues(lambda v: v * torch.tensor([-1.0, 0.5, 3.0]), torch.zeros(3))
        >>> round(lowest, 6), round(highest, 6)
        (-1.0, 3.0)
    """
    if len(like) <= SMALL:
        values = torch.linalg.eigvalsh(product(torch.eye(len(like), dtype=like.dtype, device=like.device)).double())
    else:  # ARPACK's tolerance is relative to each eigenvalue: shift those near 0 away from it
        shift = 2 * abs(_lanczos(product, like, "LM", 1, 0.1, seed)[0])
        values = _lanczos(lambda v: product(v).add_(v, alpha=shift), like, "BE", 2, tol, seed) - shift
    return float(values.min()), float(values.max())


def highest_eigenvalue(product: Callable[[Tensor], Tensor], like: Tensor, *, tol: float = 1e-2, seed: int = 0) -> float:
    """The highest alone, to a relative ``tol``: some 20 products. Arguments as for :func:`extreme_eigenvalues`."""
    if len(like) <= SMALL:
        return extreme_eigenvalues(product, like)[1]
    return float(_lanczos(product, like, "LA", 1, tol, seed)[0])


def _lanczos(product, like: Tensor, which: str, count: int, tol: float, seed: int):
    def apply(v):
        return product(torch.from_numpy(v.reshape(1, -1)).to(like))[0].double().cpu().numpy()

    p = len(like)
    start = torch.randn(p, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).numpy()
    operator = LinearOperator((p, p), matvec=apply, dtype="float64")
    return eigsh(operator, count, which=which, tol=tol, v0=start, ncv=min(p - 1, 30), return_eigenvectors=False)
