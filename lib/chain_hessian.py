"""The whole Hessian of a chain of linear layers in closed form (after Botev et al. 2017, with its cross terms).

With zₗ = Wₗhₗ₋₁ + bₗ, hₗ = φ(zₗ), δₗ = ∂ℓ/∂zₗ, moving Wₗ[o, d] is moving zₗ[o] by hₗ₋₁[d]. For one example, l ≤ l′,

    ∂²ℓ / ∂Wₗ[o, d] ∂Wₗ′[o′, d′] = hₗ₋₁[d] ( (Eᵀ Cₗ′)[o, o′] hₗ′₋₁[d′] + δₗ′[o′] ∂hₗ′₋₁[d′]/∂zₗ[o] ),    E = ∂zₗ′/∂zₗ
    Cₗ = ∂²ℓ/∂zₗ² = φ′ Wₗ₊₁ᵀ Cₗ₊₁ Wₗ₊₁ φ′ + diag(φ″ Wₗ₊₁ᵀ δₗ₊₁)

(no second term for l = l′), which are matrices of the layers' widths; over the examples it is one product a pair of
layers. Without the terms in δ it is the Gauss–Newton matrix.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.func import grad

from lib.batched import loss_gradient
from lib.example_gradients import curvature_root
from lib.objective import Objective

BLOCK_BYTES = 2**25  # of one pair of layers' products before they are summed over examples


def chain_hessian(objective: Objective, layers: list, *, gauss_newton: bool = False) -> Tensor:
    """H, or G, ``(p, p)``, penalty included.

    Args:
        layers: of ``lib.batched.chain(model)``.

    Cost: np² multiplications, where products with p unit vectors take about six times as many, and slower ones.
    """
    widths, at = [], [0]
    for weight, bias, _ in layers:
        widths.append((*objective.weights[weight].shape, bias is not None))
        at.append(at[-1] + widths[-1][0] * (widths[-1][1] + widths[-1][2]))
    total = torch.zeros(at[-1], at[-1], dtype=objective.x.dtype, device=objective.x.device)
    largest = max(out for out, *_ in widths) * max(b - a for a, b in pairwise(at))
    size = max(1, BLOCK_BYTES // (largest * total.element_size()))
    for x, y in zip(objective.x.split(size), objective.y.split(size), strict=True):
        _add(total, objective, layers, at, x, y, gauss_newton)
    total = torch.triu(total) + torch.triu(total, 1).T
    total.div_(objective.n).diagonal().add_(objective.weight_decay)
    order = _in_order(objective, layers, widths, at)
    return total[order][:, order]


def _add(total: Tensor, o: Objective, layers: list, at: list[int], x: Tensor, y: Tensor, gauss_newton: bool) -> None:
    """Add the blocks l ≤ l′ of a batch, each layer's weights and bias as ``(out, in + 1)``."""
    w, h, slopes, bends = [o.weights[name] for name, _, _ in layers], [x.flatten(1)], [], []
    for weight, (_, bias, kind) in zip(w, layers, strict=True):
        z = h[-1] @ weight.T if bias is None else torch.addmm(o.weights[bias], h[-1], weight.T)
        if kind is not None:
            slope = grad(lambda v: kind()(v).sum())  # noqa: B023
            slopes.append(slope(z))
            bends.append(grad(lambda v: slope(v).sum())(z))  # noqa: B023
        h.append(z if kind is None else kind()(z))
    root = curvature_root(h[-1], o.loss)
    delta, c = [loss_gradient(h[-1], y, o.loss)], [root.mT @ root]
    for weight, slope, bend in zip(w[:0:-1], slopes[::-1], bends[::-1], strict=True):
        back = delta[0] @ weight
        inner = slope[:, :, None] * (weight.T @ c[0] @ weight) * slope[:, None]
        c.insert(0, inner if gauss_newton else inner + torch.diag_embed(bend * back))
        delta.insert(0, back * slope)
    with_one = lambda a, bias: a if bias is None else torch.cat([a, torch.ones_like(a[:, :1])], 1)
    inputs = [with_one(a, bias) for a, (_, bias, _) in zip(h[:-1], layers, strict=True)]
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
            total[at[i] : at[i + 1], at[j] : at[j + 1]] += summed.transpose(0, 1).flatten(0, 1)


def _in_order(o: Objective, layers: list, widths: list, at: list[int]) -> Tensor:
    """Where the parameters, in the model's order, stand among the layers' ``(out, in + 1)``."""
    places = {}
    for (weight, bias, _), (out, into, biased), start in zip(layers, widths, at[:-1], strict=True):
        grid = start + torch.arange(out * (into + biased), device=o.x.device).view(out, -1)
        places[weight] = grid[:, :into].flatten()
        if biased:
            places[bias] = grid[:, into]
    return torch.cat([places[name] for name in o.weights])
