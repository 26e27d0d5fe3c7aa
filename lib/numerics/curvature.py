"""The Hessian of an objective: products with blocks of vectors, the whole matrix, its extreme eigenvalues.

    H = (1/n) Σᵢ ∇²ℓᵢ + λI = G + (1/n) Σᵢ Σ_c (∂ℓᵢ/∂f_c) ∇²f_c(xᵢ),      G = (1/n) Σᵢ Jᵢᵀ (∇²_f ℓᵢ) Jᵢ + λI

G, the Gauss–Newton matrix (Schraudolph 2002), leaves out the curvature of the network itself and is never indefinite.
"""

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import scipy.linalg
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap

from lib.networks.stacked import Layer, chain, chain_forward, loss_gradient, times_slope
from lib.numerics.gradients import curvature_root, curvature_rows, layer_pieces
from lib.numerics.objective import WORKING, Objective, flat, named

STRIPS = 4  # of columns, in which a symmetric product is computed
SMALL = 40  # parameters up to which all eigenvalues are as easy
PASSES = 6  # copies of the activations that a product holds for each vector
BLOCK_BYTES = 2**25  # of one pair of layers' products before they are summed over examples


def hessian_product(
    objective: Objective, vectors: Tensor, *, gauss_newton: bool = False, rows: Tensor | None = None
) -> Tensor:
    """``Hv`` for a block of vectors (Pearlmutter 1994: the derivative of the gradient along v), penalty included.

    Args:
        vectors: ``(c, p)``.
        gauss_newton: with G in place of H.
        rows: indices of the examples to average over; all by default.

    Returns: ``(c, p)``.

    Cost: about eight forward passes an example and vector; the vectors go through the network side by side.
    """
    x, y = (objective.x, objective.y) if rows is None else (objective.x[rows], objective.y[rows])
    one = _gauss_newton_product if gauss_newton else _newton_product
    together = max(1, min(len(vectors), WORKING // (8 * PASSES * objective.activation_bytes)))
    room = max(WORKING, 16 * objective.p * x.element_size())  # batches that outweigh the copies of the weights
    out = torch.empty_like(vectors)
    with torch.no_grad(), _quiet():
        for into, block in zip(out.split(together), vectors.split(together), strict=True):
            tangents, total = named(block, objective.weights), 0
            for batch in objective.batches(x, y, times=PASSES * len(block), room=room):
                total = total + flat(vmap(lambda v: one(objective, *batch, v))(tangents))  # noqa: B023
            into.copy_(total).div_(len(x)).add_(block, alpha=objective.weight_decay)
    return out


def _quiet() -> warnings.catch_warnings:
    """torch's own forward-mode derivatives use what torch has deprecated, and say so."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)


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

    Cost: in closed form for a chain of linear layers (:func:`chain_hessian`); p products for another network.
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

    with torch.no_grad(), _quiet():
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

    Ritz values lie inside the spectrum: the true lowest may be lower by that much. ``product`` maps ``(c, p)`` to
    ``(c, p)``; ``like`` is any vector ``(p,)``, for its type and device. Cost: some 50 to 300 products with one vector.

    Example:
        >>> lowest, highest = extreme_eigenvalues(lambda v: v * torch.tensor([-1.0, 0.5, 3.0]), torch.zeros(3))
        >>> round(lowest, 6), round(highest, 6)
        (-1.0, 3.0)
    """
    if len(like) <= SMALL:
        values, _ = eigh(product(torch.eye(len(like), dtype=like.dtype, device=like.device)))
    else:  # ARPACK's tolerance is relative to each eigenvalue: shift those near 0 away from it
        some = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(like)
        if not product(some[None]).any():  # ARPACK gives up on a matrix of zeros
            return 0.0, 0.0
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


def chain_hessian(objective: Objective, layers: list[Layer], *, gauss_newton: bool = False) -> Tensor:
    """H, or G, ``(p, p)``, of a chain of linear layers in closed form (after Botev et al. 2017, with its cross terms).

    With zₗ = Wₗhₗ₋₁ + bₗ, hₗ = φ(zₗ), δₗ = ∂ℓ/∂zₗ, moving Wₗ[o, d] is moving zₗ[o] by hₗ₋₁[d]. For one example, l ≤ l′,

        ∂²ℓ / ∂Wₗ[o, d] ∂Wₗ′[o′, d′] = hₗ₋₁[d] ( (Eᵀ Cₗ′)[o, o′] hₗ′₋₁[d′] + δₗ′[o′] ∂hₗ′₋₁[d′]/∂zₗ[o] )
        E = ∂zₗ′/∂zₗ,      Cₗ = ∂²ℓ/∂zₗ² = φ′ Wₗ₊₁ᵀ Cₗ₊₁ Wₗ₊₁ φ′ + diag(φ″ Wₗ₊₁ᵀ δₗ₊₁)

    (no second term for l = l′), which are matrices of the layers' widths; over the examples it is one product a pair of
    layers. Without the terms in δ it is G. The penalty is included. ``layers`` is ``chain(model)``.

    Cost: np² multiplications, where products with p unit vectors take about six times as many, and slower ones.
    """
    widths, offsets = [], [0]
    for layer in layers:
        widths.append((*objective.weights[layer.weight].shape, layer.bias is not None))
        offsets.append(offsets[-1] + widths[-1][0] * (widths[-1][1] + widths[-1][2]))
    total = torch.zeros(offsets[-1], offsets[-1], dtype=objective.x.dtype, device=objective.x.device)
    largest = max(out for out, *_ in widths) * max(end - start for start, end in pairwise(offsets))
    size = max(1, BLOCK_BYTES // (largest * total.element_size()))
    for x, y in zip(objective.x.split(size), objective.y.split(size), strict=True):
        _add(total, objective, layers, offsets, x=x, y=y, gauss_newton=gauss_newton)
    total = torch.triu(total) + torch.triu(total, 1).T
    total.div_(objective.n).diagonal().add_(objective.weight_decay)
    order = _in_order(objective, layers, widths, offsets)
    return total[order][:, order]


def _add(
    total: Tensor, o: Objective, layers: list[Layer], offsets: list[int], *, x: Tensor, y: Tensor, gauss_newton: bool
) -> None:
    """Add the blocks l ≤ l′ of a batch, each layer's weights and bias as ``(out, in + 1)``."""
    affine = lambda layer, a: nn.functional.linear(a, o.weights[layer.weight], o.weights.get(layer.bias))
    w, h = [o.weights[layer.weight] for layer in layers], chain_forward(layers, x.flatten(1), affine)
    kinds = [layer.activation for layer in layers[:-1]]
    slopes = [times_slope(kind, torch.ones_like(a), a) for kind, a in zip(kinds, h[1:-1], strict=True)]
    bend = {nn.Tanh: lambda a, slope: -2 * a * slope, nn.SELU: lambda a, slope: slope * (a < 0)}  # φ″ from φ and φ′
    flat_bend = lambda a, slope: torch.zeros_like(a)
    bends = [bend.get(kind, flat_bend)(a, slope) for kind, a, slope in zip(kinds, h[1:-1], slopes, strict=True)]
    root = curvature_root(h[-1], o.loss)
    delta, c = [loss_gradient(h[-1], y, o.loss)], [root.mT @ root]
    for weight, slope, bent in zip(w[:0:-1], slopes[::-1], bends[::-1], strict=True):
        back = delta[0] @ weight
        inner = slope[:, :, None] * (weight.T @ c[0] @ weight) * slope[:, None]
        c.insert(0, inner if gauss_newton else inner + torch.diag_embed(bent * back))
        delta.insert(0, back * slope)
    inputs = [_with_one(a, layer.bias is not None) for a, layer in zip(h[:-1], layers, strict=True)]
    for i, (weight, a) in enumerate(zip(w, inputs, strict=True)):
        e = torch.eye(len(weight), dtype=x.dtype, device=x.device).expand(len(x), -1, -1)  # Eᵀ, (n, out, out′)
        for j in range(i, len(w)):
            if j > i:
                moved = e * slopes[j - 1][:, None]  # ∂h/∂zᵢ, (n, out, in′)
                e = moved @ w[j].T
            block = (e @ c[j])[..., None] * inputs[j][:, None, None]  # (n, out, out′, in′)
            if j > i and not gauss_newton:
                block[..., : moved.shape[2]] += delta[j][:, None, :, None] * moved[:, :, None]
            summed = (a.T @ block.flatten(1)).view(a.shape[1], len(weight), -1)  # (in, out, out′·in′)
            total[offsets[i] : offsets[i + 1], offsets[j] : offsets[j + 1]] += summed.transpose(0, 1).flatten(0, 1)


def _in_order(o: Objective, layers: list[Layer], widths: list, offsets: list[int]) -> Tensor:
    """Where the parameters, in the model's order, stand among the layers' ``(out, in + 1)``."""
    places = {}
    for layer, (out, into, biased), start in zip(layers, widths, offsets[:-1], strict=True):
        grid = start + torch.arange(out * (into + biased), device=o.x.device).view(out, -1)
        places[layer.weight] = grid[:, :into].flatten()
        if biased:
            places[layer.bias] = grid[:, into]
    return torch.cat([places[name] for name in o.weights])


class Block(NamedTuple):
    """One layer's part of the matrix, the penalty not included."""

    left: Tensor | None  # Q_B (o, o); None where the basis is that of the parameters
    right: Tensor | None  # Q_A (i, i), the bias last
    values: Tensor  # Λ (o, i), or (q,)
    bias: bool


def ekfac(objective: Objective) -> dict[str, Block]:
    """EK-FAC: G without its penalty, a block a layer, diagonal in a Kronecker-factored basis (George et al. 2018).

    For a layer with inputs a (and a 1 for the bias) and derivatives δ at its outputs, G = Σₜ δₜaₜᵀ for an example, and

        E[vec G vec Gᵀ] ≈ (Q_B ⊗ Q_A) Λ (Q_B ⊗ Q_A)ᵀ,     Λ = E[(Q_Bᵀ G Q_A)²]

    with Q_A, Q_B the eigenvectors of E[Σₜ aₜaₜᵀ] and E[Σₜ δₜδₜᵀ], and E the mean over the training examples and,
    exactly, over the network's own distribution of the labels (for ½‖f − y‖², a Gaussian of variance 1). Λ makes the
    diagonal in that basis exact. Normalization layers have their diagonal. Blocks are in the order of the parameters.

    Raises: ValueError for layers other than Linear, Conv2d and BatchNorm.

    Cost: 2k backward passes an example for k outputs, and an eigendecomposition of each layer's two factors.
    """
    factors: dict[str, list[Tensor]] = {}
    for name, signal in layer_pieces(objective):
        if signal.gradient is None:
            a, delta = _with_one(signal.inputs, signal.bias).flatten(0, 1), signal.deltas.flatten(0, 2)
            sums = [delta.T @ delta, a.T @ a]
        else:
            sums = [signal.gradient.square().sum((0, 1))]
        factors[name] = [old + new for old, new in zip(factors[name], sums, strict=True)] if name in factors else sums
    bases = {name: [eigh(f)[1].to(f.dtype) for f in pair] for name, pair in factors.items() if len(pair) == 2}
    values, biased = {name: pair[0] for name, pair in factors.items() if len(pair) == 1}, {}
    for name, signal in layer_pieces(objective):
        if name not in bases:
            continue
        left, right = bases[name]
        a, delta, biased[name] = _with_one(signal.inputs, signal.bias) @ right, signal.deltas @ left, signal.bias
        if a.shape[1] == 1:
            new = delta[:, :, 0].square().sum(1).T @ a[:, 0].square()
        else:
            new = (delta.mT.flatten(1, 2) @ a).square_().sum(0).unflatten(0, (delta.shape[1], -1)).sum(0)
        values[name] = values.get(name, 0) + new
    block = lambda name: Block(*bases.get(name, (None, None)), values[name] / objective.n, biased.get(name, False))
    return {name: block(name) for name, _ in objective.model.named_modules() if name in values}


def ekfac_inverse(objective: Objective, shift: float) -> Callable[[Tensor], Tensor]:
    """``v ↦ (EK-FAC + shift I)⁻¹ v`` for blocks of vectors ``(c, p)``.

    Raises: ValueError where the matrix with its shift is singular to rounding.
    """
    blocks = ekfac(objective)
    top = max(float(block.values.max()) for block in blocks.values())
    if min(float(b.values.min()) for b in blocks.values()) + shift <= 10 * torch.finfo(objective.x.dtype).eps * top:
        raise ValueError(f"the EK-FAC matrix is singular: give damping or weight_decay, such as {1e-3 * top:.2g}")

    def one(v: Tensor, left: Tensor | None, right: Tensor | None, values: Tensor, bias: bool) -> Tensor:
        if left is None:
            return v / (values + shift)
        rows, columns = values.shape
        weights = v[:, : rows * (columns - bias)].view(-1, rows, columns - bias)
        g = torch.cat([weights, v[:, rows * (columns - 1) :, None]], 2) if bias else weights
        g = left @ ((left.T @ g @ right) / (values + shift)) @ right.T
        return torch.cat([g[..., :-1].flatten(1), g[..., -1]], 1) if bias else g.flatten(1)

    sizes = [block.values.numel() for block in blocks.values()]
    return lambda v: torch.cat([one(part, *b) for part, b in zip(v.split(sizes, 1), blocks.values(), strict=True)], 1)


def _with_one(a: Tensor, bias: bool) -> Tensor:
    return torch.cat([a, torch.ones_like(a[..., :1])], -1) if bias else a


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues, and eigenvectors, in double precision; by QR where divide and conquer gives up."""
    try:
        return torch.linalg.eigh(matrix.double())
    except torch.linalg.LinAlgError:
        found = scipy.linalg.eigh(matrix.double().cpu().numpy(), driver="ev")
        return tuple(torch.from_numpy(part).to(matrix.device) for part in found)
