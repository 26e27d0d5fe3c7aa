"""Converging a small network to the bottom of its basin, by Newton's method with the whole Hessian.

    w ← w − t (|H| + δI)⁻¹ ∇L,      |H| = V|Λ|Vᵀ,   t = 1, ½, ¼, … until L falls by at least 10⁻⁴ t ∇L·(|H| + δI)⁻¹∇L

|H| (Dauphin et al. 2014) turns away from saddle points; near a minimum it is Newton's method, and the gradient norm
squares at each step. Influence functions presume such weights; gradient descent rarely brings them.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.curvature import hessian
from lib.objective import Objective, flat, gradient, named, objective


@dataclass(frozen=True)
class Converged:
    """A network at rest."""

    model: nn.Module
    gradient_norm: float
    steps: int
    eigenvalues: Tensor  # of the Hessian at the last step but one, ascending


def newton(
    model: nn.Module, x: Tensor, y: Tensor, *, tol: float = 1e-8, steps: int = 100, damping: float = 1e-8, **options
) -> Converged:
    """Minimize the objective from the model's weights until ``‖∇L‖ ≤ tol``, or for ``steps`` steps at most.

    Args:
        damping: δ, against directions without curvature.
        options: ``weight_decay, loss, reference, device, dtype`` as in ``lib.objective``; take ``torch.float64``.

    Returns:
        A copy of the model, and its gradient norm: look at it, a network of ReLUs may end at a kink.

    Cost: a step takes p Hessian-vector products and an eigendecomposition, 9p³.

    Example:
        >>> x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([0.0, 2.0])
        >>> found = newton(nn.Linear(1, 1, bias=False), x, y, loss="mse", dtype=torch.float64)
        >>> round(found.model.weight.item(), 6)
        1.0
    """
    o = objective(model, x, y, **options)
    w, slope = flat({name: value[None] for name, value in o.weights.items()}), gradient(o)
    values, step = torch.empty(0), 0
    while slope.norm() > tol and step < steps:
        values, vectors = torch.linalg.eigh(hessian(o))
        down = vectors @ (vectors.T @ slope / (values.abs() + damping))
        moved = _descend(o, w, slope, down)
        if moved is None:
            break
        o, w, slope, step = *moved, step + 1
    net = copy.deepcopy(o.model)
    net.load_state_dict(o.weights, strict=False)
    return Converged(net.train(model.training), float(slope.norm()), step, values)


def _descend(o: Objective, w: Tensor, slope: Tensor, down: Tensor) -> tuple | None:
    """The first of the steps 1, ½, ¼, … that will do; where L changes by rounding alone, by the gradient's norm."""
    here, gain, t = value(o), float(slope @ down), 1.0
    rounding = 100 * torch.finfo(w.dtype).eps * abs(here)
    while t > 1e-9:
        to = w - t * down
        moved = replace(o, weights={name: v[0] for name, v in named(to, o.weights).items()})
        fall = here - value(moved)
        if fall > max(1e-4 * t * gain, rounding):
            return moved, to, gradient(moved)
        if abs(fall) <= rounding and (there := gradient(moved)).norm() < slope.norm():
            return moved, to, there
        t /= 2
    return None


def value(o: Objective) -> float:
    """L at the weights, penalty included."""
    w = flat({name: v[None] for name, v in o.weights.items()})[0]
    away = w if o.reference is None else w - o.reference
    with torch.no_grad():
        total = sum(float(o.total(o.weights, *batch)) for batch in o.batches(o.x, o.y))
    return total / o.n + o.weight_decay / 2 * float(away.square().sum())
