"""Adversarial examples by the fast gradient sign method (Goodfellow et al., ICLR 2015)."""

import copy

import torch
from torch import Tensor, nn

from lib.tangent import targets


def fgsm(model: nn.Module, x: Tensor, y: Tensor, epsilon: float, *, block: int = 256) -> Tensor:
    """``x + ε sign ∂ℓ/∂x``, cut to [0, 1]: one step uphill of the squared error ``ℓ = ½‖f(x) − y‖²``.

    For one output and targets 0 and 1 the direction is that of the cross-entropy too.

    Args:
        model: a copy is taken, in evaluation mode.
        x: ``(n, …)`` in [0, 1].
        y: labels ``(n,)``.
        epsilon: largest change of a pixel, at least 0.

    Returns:
        Like x. A pixel whose derivative is 0 stays.

    Raises:
        ValueError: if ε is negative.

    Cost: one backward pass an example.

    Example:
        >>> line = nn.Linear(1, 1)
        >>> _ = line.weight.data.fill_(1.0), line.bias.data.fill_(0.0)
        >>> fgsm(line, torch.tensor([[0.6], [0.4]]), torch.tensor([1, 0]), 0.1)  # down where 1 is right, else up
        tensor([[0.5000],
                [0.5000]])
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}")
    model, moved = copy.deepcopy(model).eval(), []
    for part, label in zip(x.split(block), y.split(block), strict=True):
        part = part.clone().requires_grad_()
        outputs = model(part)
        loss = (outputs - targets(label, outputs.shape[1]).to(outputs)).square().sum() / 2
        (slope,) = torch.autograd.grad(loss, part)
        moved.append((part.detach() + epsilon * slope.sign()).clamp(0, 1))
    return torch.cat(moved)


def predicted(model: nn.Module, x: Tensor, *, block: int = 512) -> Tensor:
    """Labels that a network gives, ``(n,)``: the largest output, or for one output whether it is above ½."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        outputs = torch.cat([model(part) for part in x.split(block)])
    return (outputs[:, 0] > 0.5).long() if outputs.shape[1] == 1 else outputs.argmax(1)


def successes(model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The perturbed examples ``(n, …)``, and which of them are right before and wrong after, ``(n,)`` bool."""
    moved = fgsm(model, x, y, epsilon)
    return moved, (predicted(model, x) == y) & (predicted(model, moved) != y)
