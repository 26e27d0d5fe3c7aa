"""What a network was trained to minimize, at its weights, as the influence functions need it.

    L(w) = (1/n) Σᵢ ℓᵢ(w) + λ/2 ‖w − w_ref‖²        ℓ = −log softmax(f)_y   or   ½‖f − y‖²

A vector over the weights is flat, ``(p,)``, in the order of ``model.named_parameters()``; c of them are ``(c, p)``.
"""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from lib.costs import check_inputs, device_of, one_of
from lib.networks.stacked import LOSSES, check_targets, losses, targets

WORKING = 2**28  # bytes of activations, or of written-out gradients, that one step may take


@dataclass(frozen=True)
class Objective:
    """A network in evaluation mode, at its weights, with the examples and the penalty it was trained on."""

    model: nn.Module
    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    x: Tensor  # (n, …)
    y: Tensor  # (n, k): one-hot rows, or values
    weight_decay: float
    loss: str
    reference: Tensor | None  # w_ref, (p,), or None for 0

    @property
    def n(self) -> int:
        return len(self.x)

    @property
    def p(self) -> int:
        return sum(value.numel() for value in self.weights.values())

    @cached_property
    def activation_bytes(self) -> int:
        """What the modules' outputs take for one example."""
        sizes, keep = [], lambda module, inputs, out: sizes.append(out.numel())
        hooks = [m.register_forward_hook(keep) for m in self.model.modules() if not list(m.children())]
        try:
            with torch.no_grad():
                self.model(self.x[:1])
        finally:
            for hook in hooks:
                hook.remove()
        return max(1, sum(sizes)) * self.x.element_size()

    def outputs(self, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        """f, ``(b, k)``."""
        return functional_call(self.model, {**weights, **self.buffers}, (x,))

    def total(self, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Σ ℓ over a batch, without the penalty."""
        return losses(self.outputs(weights, x), y, self.loss).sum()

    def place(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Examples, and what the loss compares with, in the network's type and on its device."""
        like = next(iter(self.weights.values()))
        check_inputs(x, "x_test", "floats")
        if y is not None:
            check_targets(y, len(x), self.y.shape[1], self.loss, "y_test")
        return x.to(like), None if y is None else targets(y[None], self.y.shape[1], like.dtype)[0].to(like.device)

    def batches(self, x: Tensor, *others: Tensor, times: int = 1, room: int | None = None) -> Iterator[tuple]:
        """Pieces of x (and what goes with it) whose activations, ``times`` over, fit into ``room`` bytes."""
        size = max(1, (WORKING if room is None else room) // max(1, times * self.activation_bytes))
        yield from zip(*(value.split(size) for value in (x, *others)), strict=True)


def objective(
    model: nn.Module, x: Tensor, y: Tensor, *, weight_decay: float = 0.0, loss: str = "cross_entropy",
    reference: dict[str, Tensor] | None = None, device: str = "cpu", dtype: torch.dtype | None = None,
) -> Objective:  # fmt: skip
    """The objective of a trained network, a copy of it in evaluation mode, so that an example's loss is its own.

    A model in training mode that has batch normalization or dropout gets a warning that says so.

    Args:
        model: with its trained weights, maps ``(n, …)`` to ``(n, k)``.
        x, y: the training examples; labels ``(n,)``, or for ``mse`` also float values ``(n,)`` or ``(n, k)``.
        weight_decay: λ. loss: ``cross_entropy`` or ``mse``.
        reference: w_ref by parameter name (the initial weights, for decay to them); ``None`` is 0.
        dtype: ``torch.float64`` computes all in double precision; ``None`` keeps the model's.

    Raises:
        ValueError: for shapes that disagree, an option out of range, frozen parameters, or missing running statistics.
    """
    one_of("loss", loss, LOSSES)
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    _check_modules(model)
    net = copy.deepcopy(model).eval().to(device_of(device), dtype)
    weights = {name: value.detach() for name, value in net.named_parameters()}
    buffers = {name: value.detach() for name, value in net.named_buffers()}
    like = next(iter(weights.values()))
    check_inputs(x, "x_train", "floats")
    outputs = output_count(net, x)
    check_targets(y, len(x), outputs, loss, "y_train")
    if reference is not None:
        if wrong := [k for k, w in weights.items() if k not in reference or reference[k].shape != w.shape]:
            raise ValueError(f"reference must hold every parameter in the model's shape; {wrong[0]} does not fit")
        reference = flat({name: reference[name][None].to(like) for name in weights})[0]
    y = targets(y[None], outputs, like.dtype)[0].to(like.device)
    return Objective(net, weights, buffers, x.to(like), y, weight_decay, loss, reference)


def output_count(model: nn.Module, x: Tensor) -> int:
    """k of a model that maps ``(n, …)`` to ``(n, k)``; ValueError for another."""
    with torch.no_grad():
        shape = tuple(copy.deepcopy(model).eval()(x[:1].to(next(model.parameters()))).shape)
    if len(shape) != 2 or shape[0] != 1:
        raise ValueError(f"model must map (n, …) to (n, k), got outputs {shape} for one example")
    return shape[1]


def flat(vectors: dict[str, Tensor]) -> Tensor:
    """Named tensors ``(c, *shape)`` as ``(c, p)``."""
    return torch.cat([value.flatten(1) for value in vectors.values()], 1)


def named(vectors: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """``(c, p)`` as named tensors ``(c, *shape)``, views."""
    parts = vectors.split([value.numel() for value in like.values()], 1)
    return {name: part.view(-1, *value.shape) for (name, value), part in zip(like.items(), parts, strict=True)}


def gradient(objective: Objective) -> Tensor:
    """∇L at the weights, ``(p,)``: near 0 at an optimum. Cost: one backward pass."""
    one = lambda vectors: torch.cat([value.flatten() for value in vectors.values()])
    w, batches = one(objective.weights), objective.batches(objective.x, objective.y, times=2)
    with torch.no_grad():
        total = sum(one(grad(objective.total)(objective.weights, *batch)) for batch in batches)
    reference = 0 if objective.reference is None else objective.reference
    return total / objective.n + objective.weight_decay * (w - reference)


def _check_modules(model: nn.Module) -> None:
    if frozen := [name for name, p in model.named_parameters() if not p.requires_grad]:
        raise ValueError(f"every parameter of model counts, got {frozen[0]} frozen: take influence on the head alone")
    if not list(model.parameters()):
        raise ValueError("model must have parameters, got none")
    normal = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    if any(m.running_mean is None for m in normal):
        raise ValueError("model has batch normalization without running statistics: an example's loss is not its own")
    random = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p]
    if moody := sorted({type(m).__name__ for m in normal + random if m.training}):
        how = "influence is taken in evaluation mode (running statistics, nothing dropped)"
        warnings.warn(f"model is in training mode and has {', '.join(moody)}: {how}", stacklevel=4)
