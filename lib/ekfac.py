"""EK-FAC: the Gauss–Newton matrix, a block a layer, each diagonal in a Kronecker-factored basis (George et al. 2018).

For a layer with inputs a (and a 1 for the bias) and derivatives δ at its outputs, an example's gradient is
G = Σₜ δₜaₜᵀ, and the block is

    E[vec G vec Gᵀ] ≈ (Q_B ⊗ Q_A) Λ (Q_B ⊗ Q_A)ᵀ,     Λ = E[(Q_Bᵀ G Q_A)²]

with Q_A, Q_B the eigenvectors of E[Σₜ aₜaₜᵀ] and E[Σₜ δₜδₜᵀ], and E the mean over the training examples and, exactly,
over the network's own distribution of the labels (for ½‖f − y‖², a Gaussian of variance 1). Λ makes the diagonal in
that basis exact. Normalization layers have their diagonal.
"""

from collections.abc import Callable
from typing import NamedTuple

import scipy.linalg
import torch
from torch import Tensor

from lib import gradients
from lib.example_gradients import layer_pieces
from lib.objective import Objective


class Block(NamedTuple):
    """One layer's part of the matrix, the penalty not included."""

    left: Tensor | None  # Q_B (o, o); None where the basis is that of the parameters
    right: Tensor | None  # Q_A (i, i), the bias last
    values: Tensor  # Λ (o, i), or (q,)
    bias: bool


def ekfac(objective: Objective) -> dict[str, Block]:
    """The blocks by layer, in the order of the parameters.

    Raises:
        ValueError: for layers other than Linear, Conv2d and BatchNorm.

    Cost: 2k backward passes an example for k outputs, and an eigendecomposition of each layer's two factors.
    """
    factors: dict[str, list[Tensor]] = {}
    for name, signal in layer_pieces(objective):
        if signal.gradient is None:
            a, delta = _with_one(signal).flatten(0, 1), signal.deltas.flatten(0, 2)
            found = [delta.T @ delta, a.T @ a]
        else:
            found = [signal.gradient.square().sum((0, 1))]
        factors[name] = [old + new for old, new in zip(factors[name], found, strict=True)] if name in factors else found
    bases = {name: [_eigenvectors(f) for f in pair] for name, pair in factors.items() if len(pair) == 2}
    values, biased = {name: pair[0] for name, pair in factors.items() if len(pair) == 1}, {}
    for name, signal in layer_pieces(objective):
        if name not in bases:
            continue
        left, right = bases[name]
        a, delta, biased[name] = _with_one(signal) @ right, signal.deltas @ left, signal.bias
        if a.shape[1] == 1:
            new = delta[:, :, 0].square().sum(1).T @ a[:, 0].square()
        else:
            new = (delta.mT.flatten(1, 2) @ a).square_().sum(0).unflatten(0, (delta.shape[1], -1)).sum(0)
        values[name] = values.get(name, 0) + new
    return {
        name: Block(*bases.get(name, (None, None)), values[name] / objective.n, biased.get(name, False))
        for name, _ in objective.model.named_modules()
        if name in values
    }


def ekfac_inverse(objective: Objective, shift: float) -> Callable[[Tensor], Tensor]:
    """``v ↦ (EK-FAC + shift I)⁻¹ v`` for blocks of vectors ``(c, p)``.

    Raises:
        ValueError: where the matrix with its shift is singular to rounding.
    """
    blocks = ekfac(objective)
    top = max(float(block.values.max()) for block in blocks.values())
    if min(float(b.values.min()) for b in blocks.values()) + shift <= 10 * torch.finfo(objective.x.dtype).eps * top:
        raise ValueError(f"the EK-FAC matrix is singular: give damping or weight_decay, such as {1e-3 * top:.2g}")

    def solve(v: Tensor) -> Tensor:
        out, at = torch.empty_like(v), 0
        for block in blocks.values():
            size = block.values.numel()
            piece = v[:, at : at + size]
            out[:, at : at + size] = _solve_block(block, piece, shift)
            at += size
        return out

    return solve


def _solve_block(block: Block, v: Tensor, shift: float) -> Tensor:
    left, right, values, bias = block
    if left is None:
        return v / (values + shift)
    rows, columns = values.shape
    weights = v[:, : rows * (columns - bias)].view(-1, rows, columns - bias)
    g = torch.cat([weights, v[:, rows * (columns - 1) :, None]], 2) if bias else weights
    g = left @ ((left.T @ g @ right) / (values + shift)) @ right.T
    return torch.cat([g[..., :-1].flatten(1), g[..., -1]], 1) if bias else g.flatten(1)


def _with_one(signal: gradients.Signal) -> Tensor:
    a = signal.inputs
    return torch.cat([a, torch.ones_like(a[..., :1])], 2) if signal.bias else a


def _eigenvectors(matrix: Tensor) -> Tensor:
    """In double precision; by scipy where LAPACK's divide and conquer gives up (factors of low rank)."""
    try:
        return torch.linalg.eigh(matrix.double())[1].to(matrix.dtype)
    except torch.linalg.LinAlgError:
        return torch.from_numpy(scipy.linalg.eigh(matrix.double().cpu().numpy(), driver="ev")[1]).to(matrix)
