"""Networks that are chains of linear layers, E of them as batched matrix products; flat buffers; losses.

Losses are per example; the caller's weights (1/B and so on) make the mean. The other kinds of network, and the four
methods that all kinds have, are in ``lib.groups``.
"""

import copy
import math

import torch
from torch import Tensor, nn

ACTIVATE = {nn.ReLU: torch.relu_, nn.Tanh: torch.tanh_, nn.SELU: torch.selu_}
SELU_SCALE, SELU_FLOOR = 1.0507009873554805, 1.7580993408473766  # λ and λα of Klambauer et al. 2017

aten = torch.ops.aten


class Flat:
    """E copies of named tensors in one buffer; ``self[name]`` is a view ``(E, *shape)``.

    Memory order within a member: a convolution's weight (out, in, height, width) lies channels last; with
    ``transposed``, a linear weight (out, in) lies as (in, out), which products like better, and ``self.factors[name]``
    is that, ``(E, in, out)``, a bias being ``(E, 1, out)``: the weight of a constant input.
    """

    def __init__(self, shapes: dict[str, tuple], members: int, *, dtype, device, transposed=False):
        self.arguments = (shapes, members), {"dtype": dtype, "device": device, "transposed": transposed}
        self.buffer = torch.zeros(members * sum(map(math.prod, shapes.values())), dtype=dtype, device=device)
        self.views, self.factors, at = {}, {}, 0
        for name, shape in shapes.items():
            order = {2: (1, 0) if transposed else (0, 1), 4: (0, 2, 3, 1)}.get(len(shape), range(len(shape)))
            stored = self.buffer[at : at + members * math.prod(shape)].view(members, *(shape[i] for i in order))
            self.views[name] = stored.permute(0, *(1 + list(order).index(i) for i in range(len(shape))))
            self.factors[name] = stored if len(shape) > 1 else stored[:, None]
            at += members * math.prod(shape)

    def __getitem__(self, name: str) -> Tensor:
        return self.views[name]

    def like(self) -> "Flat":
        """Zeros of the same layout."""
        (shapes, members), options = self.arguments
        return Flat(shapes, members, **options)


def losses(logits: Tensor, target: Tensor, loss: str) -> Tensor:
    """ℓ of each example, ``(…)``: −Σ y log softmax(f), or ½‖f − y‖².

    Args:
        logits: f, ``(…, k)``.
        target: y, ``(…, k)``: one-hot rows, or the values to reach.
        loss: ``cross_entropy`` or ``mse``.
    """
    if loss == "mse":
        return 0.5 * (logits - target).square().sum(-1)
    return logits.logsumexp(-1) - (logits * target).sum(-1)


def loss_gradient(logits: Tensor, target: Tensor, loss: str) -> Tensor:
    """dℓ/df of each example, ``(…, k)``: softmax(f) − y, or f − y. Arguments as in :func:`losses`."""
    return logits - target if loss == "mse" else softmax(logits).sub_(target)


def softmax(logits: Tensor) -> Tensor:
    """exp f / Σ exp f over the last dimension; on a CPU in steps, 5 times faster than torch's for ten classes."""
    if logits.device.type != "cpu":
        return logits.softmax(-1)
    power = (logits - logits.amax(-1, keepdim=True)).exp_()
    return power.div_(power.sum(-1, keepdim=True))


class Layers:
    """E multi-layer perceptrons as batched products, with weights ``w``."""

    def __init__(self, layers: list, model: nn.Module, members: int, *, dtype, device):
        self.layers, self.members = layers, members
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.w = Flat(shapes, members, dtype=dtype, device=device, transposed=True)
        self.buffers: dict[str, Tensor] = {}
        self.ones = torch.empty(0, device=device)

    def export(self) -> dict[str, Tensor]:
        """State of the members, name → ``(E, *shape)``, copied to the CPU."""
        return {name: view.to("cpu", copy=True).contiguous() for name, view in self.w.views.items()}

    def logits(self, x: Tensor) -> Tensor:
        """``(E, n, k)`` for inputs ``(n, …)`` that all members share."""
        return self._shared(x, self.layers)

    def features(self, x: Tensor) -> Tensor:
        """Inputs of the last layer, ``(E, n, d)``."""
        return self._shared(x, self.layers[:-1])

    def _shared(self, x: Tensor, layers: list) -> Tensor:
        return _forward(layers, self.w.factors, x.flatten(1).expand(self.members, -1, -1))[-1]

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight, loss: str, beta: float) -> Tensor:
        """``into ← β·into + ∇ Σ_b weight_b ℓ_b``; returns the logits ``(E, B, k)``.

        Args:
            x: inputs ``(E, B, …)``. target: ``(E, B, k)``. weight: ``(E, B, 1)`` or a number.
        """
        h = _forward(self.layers, self.w.factors, x.flatten(2))  # [x, h₁, …, logits]
        delta = loss_gradient(h[-1], target, loss).mul_(weight)
        if self.ones.shape[-1] != x.shape[1]:
            self.ones = delta.new_ones(self.members, 1, x.shape[1])
        for i in reversed(range(len(self.layers))):
            weight, bias, _ = self.layers[i]
            into.factors[weight].baddbmm_(h[i].mT, delta, beta=beta)
            if bias is not None:
                into.factors[bias].baddbmm_(self.ones, delta, beta=beta)
            if i:
                delta = times_slope(self.layers[i - 1][2], torch.bmm(delta, self.w.factors[weight].mT), h[i])
        return h[-1]


def _forward(layers: list, factors: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """``[x, h₁, …]``, each ``(E, B, width)``."""
    h = [x]
    for weight, bias, kind in layers:
        z = torch.bmm(h[-1], factors[weight]) if bias is None else torch.baddbmm(factors[bias], h[-1], factors[weight])
        h.append(z if kind is None else ACTIVATE[kind](z))
    return h


def times_slope(kind, delta: Tensor, h: Tensor) -> Tensor:
    """``delta`` times the derivative of an activation whose output is ``h``."""
    if kind is nn.ReLU:
        return aten.threshold_backward.grad_input(delta, h, 0, grad_input=delta)
    if kind is nn.Tanh:
        return aten.tanh_backward.grad_input(delta, h, grad_input=delta)
    if kind is nn.SELU:
        return delta.mul_(torch.where(h > 0, SELU_SCALE, h + SELU_FLOOR))
    return delta


def chain(model: nn.Module) -> list | None:
    """``[(weight, bias or None, activation or None), …]`` if ``model`` is a chain of linear layers, else ``None``.

    The chain is read off the module's leaves, then held against the module itself on random inputs in float64.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    layers, width = [], None
    for leaf in model.modules():
        if any(True for _ in leaf.children()) or isinstance(leaf, nn.Flatten | nn.Identity):
            continue
        if type(leaf) is nn.Linear and width in (None, leaf.in_features):
            layers.append((names[id(leaf.weight)], None if leaf.bias is None else names[id(leaf.bias)], None))
            width = leaf.out_features
        elif type(leaf) in ACTIVATE and layers and layers[-1][2] is None:
            layers[-1] = (*layers[-1][:2], type(leaf))
        else:
            return None
    if not layers or layers[-1][2] or {n for layer in layers for n in layer[:2] if n} != set(names.values()):
        return None
    probe = copy.deepcopy(model).double().cpu()
    factors = {name: p.mT[None] if p.ndim == 2 else p[None, None] for name, p in probe.named_parameters()}
    x = torch.randn(3, factors[layers[0][0]].shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            return layers if torch.allclose(_forward(layers, factors, x[None])[-1][0], probe(x)) else None
    except (RuntimeError, ValueError, IndexError):  # the module does not take flat rows
        return None
