"""Self-influence: how much an example's own loss would rise if it were removed, to first order, for all examples.

    selfᵢ = (1/n) ∇ℓᵢᵀ (G + δI)⁻¹ ∇ℓᵢ        (``lib.influence`` on the training examples themselves: its diagonal)

with G the Gauss–Newton matrix in EK-FAC's approximation (``lib.ekfac``), penalty included. In the basis of EK-FAC a
dense layer's gradient δaᵀ is (Q_Bᵀδ)(Q_Aᵀa)ᵀ, so that no gradient is written out. High = the label is kept up by the
example alone (Koh and Liang 2017, section 5.4, look for wrong labels by it).
"""

import copy

import torch
from torch import Tensor, nn

from lib import gradients
from lib.ekfac import ekfac
from lib.objective import Objective, objective


def self_influence(
    model: nn.Module,
    parameters: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    *,
    weight_decay: float = 0.0,
    damping: float = 1e-3,
    device: str = "cpu",
) -> Tensor:
    """``(1/n) ∇ℓᵢᵀ (G + δI)⁻¹ ∇ℓᵢ`` of each training example, per run; the loss is the cross-entropy.

    Args:
        model: a network of linear layers (``lib.models.mlp``).
        parameters: name → ``(E, …)``, of E trained networks.
        x: ``(n, …)``, what they were trained on. y: integer labels ``(n,)``, or ``(E, n)`` where runs have their own.
        weight_decay: λ of the training. damping: δ > 0.

    Returns:
        ``(E, n)``, at least 0, in the unit of the loss: the rise of the example's own loss upon its removal.

    Raises:
        ValueError: for other layers, labels or shapes that do not fit, or λ + δ not positive.

    Cost: per run 2k backward passes an example, an eigendecomposition of each layer's two factors, and for a layer of
    d inputs and p outputs about d² + dp multiplications an example.

    Example:
        >>> from lib.models import mlp
        >>> still = {"head.weight": torch.zeros(1, 2, 2), "head.bias": torch.zeros(1, 2)}
        >>> self_influence(mlp(2, (), classes=2), still, torch.eye(2), torch.tensor([0, 1]), damping=1.0)
        tensor([[0.3143, 0.3143]])
    """
    if not weight_decay + damping > 0:
        raise ValueError(f"weight_decay + damping must be positive, got {weight_decay} + {damping}")
    runs = []
    labels = gradients.labels_by_run(y, len(next(iter(parameters.values()))), len(x))
    for state, own in zip(gradients.members(model, parameters, device=device), labels, strict=True):
        net = _with(model, state)
        o = objective(net, x, own, weight_decay=weight_decay, device=device)
        runs.append(_one(o, own.to(device), weight_decay + damping).cpu())
    return torch.stack(runs)


def _with(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    net = copy.deepcopy(model)
    net.load_state_dict(state)
    return net.eval()


def _one(o: Objective, y: Tensor, shift: float) -> Tensor:
    blocks, state = ekfac(o), {**o.weights, **o.buffers}
    order, size = gradients.layer_order(o.model, state, o.x), gradients.rows_at_once(o.model, state, o.x)
    if any(blocks[name].left is None for name in order):
        raise ValueError("model must have linear layers only")
    found = []
    for rows, own in zip(o.x.split(size), y.split(size), strict=True):
        objective_at = lambda logits, own=own: gradients.errors(logits, own, o.loss)[:, None]
        total = 0.0
        for name, signal in zip(order, gradients.signals(o.model, state, rows, objective_at), strict=True):
            if signal.inputs is None or signal.inputs.shape[1] != 1:
                raise ValueError(f"model must have linear layers only; {name} is another")
            left, right, values, bias = blocks[name]
            a = signal.inputs[:, 0]
            a = (torch.cat([a, torch.ones_like(a[:, :1])], 1) if bias else a) @ right
            delta = signal.deltas[:, 0, 0] @ left
            total = total + ((delta.square() @ (1 / (values + shift))) * a.square()).sum(1)
        found.append(total / o.n)
    return torch.cat(found)
