"""Many networks of one architecture as one computation: logits, features and gradients for E members at once.

All members' parameters lie in one flat buffer, tensor after tensor and member after member within each tensor, so that
the parameter ``name`` is a contiguous view ``(E, *shape)`` and an optimizer is a handful of operations on the buffer.

Two ways to compute, chosen by what the network is:

- ``Layers``: a chain of linear layers and activations. Forward and backward are batched matrix products written out by
  hand; the weight gradient's product also adds the momentum (``v ← μv + δᵀx`` is one call), and the gradient with
  respect to the inputs is never formed.
- ``Plain``: any other module, one member after another, through autograd.
"""

import copy
import math

import torch
from torch import Tensor, nn

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.SELU, nn.Sigmoid)
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def initialize(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """State of a copy of ``model`` with fresh weights: what building it after ``torch.manual_seed(seed)`` gives.

    Uses the module's own ``reset_parameters`` if it has one, else that of each submodule.
    """
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in [fresh] if hasattr(fresh, "reset_parameters") else fresh.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return {name: value.detach() for name, value in fresh.state_dict().items()}


class Flat:
    """E copies of a set of named tensors in one buffer; ``self[name]`` is the view ``(E, *shape)``."""

    def __init__(self, shapes: dict[str, tuple], members: int, *, dtype, device):
        sizes = [members * math.prod(shape) for shape in shapes.values()]
        self.buffer = torch.zeros(sum(sizes), dtype=dtype, device=device)
        parts = self.buffer.split(sizes)
        self.views = {name: part.view(members, *shape) for (name, shape), part in zip(shapes.items(), parts)}
        self.like = lambda: Flat(shapes, members, dtype=dtype, device=device)

    def __getitem__(self, name):
        return self.views[name]


def chain(model: nn.Module) -> list | None:
    """``[(weight, bias or None, activation or None), …]`` if ``model`` is a chain of linear layers, else ``None``.

    The chain is read off the module's leaves and then held against ``model`` on random inputs.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    layers, width = [], None
    for leaf in model.modules():
        if list(leaf.children()) or isinstance(leaf, (nn.Flatten, nn.Identity)):
            continue
        if isinstance(leaf, nn.Linear) and width in (None, leaf.in_features):
            bias = None if leaf.bias is None else names[id(leaf.bias)]
            layers.append([names[id(leaf.weight)], bias, None])
            width = leaf.out_features
        elif isinstance(leaf, ACTIVATIONS) and layers and layers[-1][2] is None:
            layers[-1][2] = type(leaf)
        else:
            return None
    if (
        not layers
        or layers[-1][2] is not None
        or list(model.buffers())
        or len(names) != sum(1 + bool(b) for _, b, _ in layers)
    ):
        return None
    probe = copy.deepcopy(model).double()
    state = {name: p.detach()[None] for name, p in probe.named_parameters()}
    first = state[layers[0][0]]
    x = torch.randn(3, first.shape[-1], dtype=first.dtype, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            same = torch.allclose(_forward(layers, state, x[None])[-1][0], probe(x))
    except (RuntimeError, ValueError):
        return None
    return [tuple(layer) for layer in layers] if same else None


def _activate(kind, z):
    if kind is nn.ReLU:
        return z.relu_()
    if kind is nn.Tanh:
        return z.tanh_()
    if kind is nn.Sigmoid:
        return z.sigmoid_()
    return torch.selu_(z)


def _slope_(kind, delta, h):
    """Multiply ``delta`` in place by the activation's derivative, from its output ``h``."""
    if kind is nn.ReLU:
        return torch.ops.aten.threshold_backward.grad_input(delta, h, 0, grad_input=delta)
    if kind is nn.Tanh:
        return torch.ops.aten.tanh_backward.grad_input(delta, h, grad_input=delta)
    if kind is nn.Sigmoid:
        return torch.ops.aten.sigmoid_backward.grad_input(delta, h, grad_input=delta)
    return delta.mul_(torch.where(h > 0, SELU_SCALE, h + SELU_SCALE * SELU_ALPHA))


def _forward(layers, state, x):
    """Activations ``[x, h₁, …, logits]``, each ``(E, B, width)``."""
    h = [x]
    for weight, bias, kind in layers:
        w = state[weight].mT
        z = torch.bmm(h[-1], w) if bias is None else torch.baddbmm(state[bias][:, None], h[-1], w)
        h.append(z if kind is None else _activate(kind, z))
    return h


def loss_gradient(logits: Tensor, target: Tensor, loss: str) -> Tensor:
    """dℓ/d logits per example: softmax − one-hot, or f − y. ``target``: classes ``(…)``, or values ``(…, k)``."""
    delta = logits.softmax(-1) if loss == "cross_entropy" else logits.clone()
    if target.is_floating_point():
        return delta.sub_(target)
    return delta.scatter_add_(-1, target[..., None], delta.new_full((1,), -1.0).expand(*target.shape, 1))


def losses(logits: Tensor, target: Tensor, loss: str) -> Tensor:
    """ℓ of each example, ``(…)``."""
    if loss == "cross_entropy":
        return logits.logsumexp(-1) - logits.gather(-1, target[..., None])[..., 0]
    return 0.5 * loss_gradient(logits, target, loss).square().sum(-1)


class Layers:
    """E multi-layer perceptrons. ``state``: a ``Flat`` of their parameters."""

    def __init__(self, model, layers):
        self.layers, self.flat_input = layers, True

    def logits(self, state, x: Tensor) -> Tensor:
        """``(E, n, k)`` for inputs ``(n, d)`` shared by all members, or ``(E, n, d)``."""
        return self._run(self.layers, state, x)

    def features(self, state, x: Tensor) -> Tensor:
        return self._run(self.layers[:-1], state, x)

    def _run(self, layers, state, x):
        members = state[self.layers[0][0]].shape[0]
        return _forward(layers, state, x if x.ndim == 3 else x.expand(members, *x.shape))[-1]

    def gradient_(self, into: Flat, state, x, target, coefficient, loss, beta=0.0):
        """``into ← β·into + ∇ Σ_b c_b ℓ_b`` for batches ``x (E, B, d)``."""
        h = _forward(self.layers, state, x)
        delta = loss_gradient(h[-1], target, loss).mul_(coefficient)
        for i in reversed(range(len(self.layers))):
            weight, bias, _ = self.layers[i]
            into[weight].baddbmm_(delta.mT, h[i], beta=beta)
            if bias is not None:
                into[bias].mul_(beta).add_(delta.sum(1))
            if i:
                delta = torch.bmm(delta, state[weight])
                if self.layers[i - 1][2] is not None:
                    _slope_(self.layers[i - 1][2], delta, h[i])


class Plain:
    """Any module, one member after another; buffers (running statistics) are part of the state."""

    def __init__(self, model):
        self.model, self.flat_input = copy.deepcopy(model), False

    def _each(self, call, state, x, shared):
        members = next(iter(state.views.values())).shape[0]
        for e in range(members):
            own = {name: view[e] for name, view in state.views.items()}
            yield call(own, x if shared else x[e])

    def logits(self, state, x):
        run = lambda own, rows: torch.func.functional_call(self.model.eval(), own, (rows,))
        return torch.stack(list(self._each(run, state, x, True)))

    def features(self, state, x):
        run = lambda own, rows: torch.func.functional_call(
            _Features(self.model.eval()), {f"model.{k}": v for k, v in own.items()}, (rows,)
        )
        return torch.stack(list(self._each(run, state, x, True)))

    def gradient_(self, into, state, x, target, coefficient, loss, beta=0.0):
        self.model.train()
        trained = [name for name, _ in self.model.named_parameters()]
        for e in range(x.shape[0]):
            own = {name: view[e] for name, view in state.views.items()}
            leaves = {name: own[name].detach().requires_grad_() for name in trained}
            with torch.enable_grad():
                logits = torch.func.functional_call(self.model, {**own, **leaves}, (x[e],))
            delta = loss_gradient(logits.detach(), target[e], loss).mul_(coefficient[e])
            for name, grad in zip(trained, torch.autograd.grad(logits, list(leaves.values()), delta)):
                into[name][e].mul_(beta).add_(grad)


class _Features(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.features(x)


def network(model: nn.Module) -> "Layers | Plain":
    """The fastest way we know to compute many copies of ``model``."""
    layers = chain(model)
    return Plain(model) if layers is None else Layers(model, layers)
