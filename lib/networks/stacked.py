"""Networks that are chains of linear layers, E of them as batched matrix products; flat buffers; losses.

Losses are per example; the caller's weights (1/B and so on) make the mean. The other kinds of network, and the four
methods that all kinds have, are in ``lib.networks.stacked``.
"""

import contextlib
import copy
import math
import threading
import types
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap


def members(model: nn.Module, parameters: dict, *, device="cpu") -> Iterator[dict[str, Tensor]]:
    """The state of each of E networks from stacked ``parameters`` (name → ``(E, …)``), on ``device``.

    Raises:
        ValueError: if a parameter or a buffer of ``model`` is missing or has another shape.
    """
    for e in range(stacked_members(model, parameters)):
        yield {name: value[e].to(device) for name, value in parameters.items()}


def errors(logits: Tensor, y: Tensor, loss: str) -> Tensor:
    """Derivatives of each example's loss at its logits: softmax − one-hot (``cross_entropy``), f − one-hot (``mse``).

    Raises:
        ValueError: for another ``loss``.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be {' or '.join(LOSSES)}, got {loss!r}")
    return loss_gradient(logits, nn.functional.one_hot(y, logits.shape[-1]).to(logits), loss)


def labels_by_run(y: Tensor, runs: int, n: int) -> Tensor:
    """Labels ``(n,)`` or ``(E, n)`` as ``(E, n)``.

    Raises:
        ValueError: for another shape, or labels that are not integers.
    """
    if tuple(y.shape) not in {(n,), (runs, n)} or y.is_floating_point():
        raise ValueError(f"y must be integer labels ({n},) or ({runs}, {n}), got {y.dtype} {tuple(y.shape)}")
    return y.expand(runs, n)


def last_layer(model: nn.Module, parameters: dict, x: Tensor, y: Tensor, *, loss: str = "cross_entropy", **options):
    """The factors of the gradients with respect to the head alone, ``(features (E, n, d), errors (E, n, k))``.

    Example i of run e has the gradient errors ⊗ features; with a bias, the last of the features is 1. ``options`` go
    to ``ensemble.features``.
    """
    name = next(name for name, module in model.named_modules() if module is model.head)
    penultimate = features(model, parameters, x, **options)
    weight, bias = parameters[f"{name}.weight"].cpu(), parameters.get(f"{name}.bias")
    if bias is not None:
        penultimate = torch.cat([penultimate, torch.ones_like(penultimate[..., :1])], 2)
        weight = torch.cat([weight, bias.cpu()[..., None]], 2)
    return penultimate, errors(penultimate @ weight.mT, labels_by_run(y, len(penultimate), len(x)), loss)


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


# --- convolution ----------------------------------------------------------------------------------------------------
#
# Convolutions over few positions and many channels as products of patches, for a CPU.
#
# A convolution with weights W (o, c·k·k) is ``patches(x) @ Wᵀ``; its gradients, ``δᵀ @ patches(x)`` and ``fold(δ @ W)``.
# The library of convolutions that torch calls on a CPU (oneDNN) is the faster way over many positions, where the patches
# are k² times the images. Over few, as in the last blocks of any network, it works far below the speed of a product: at
# B = 100 on one core, the weights' gradient of 512 → 512 channels on 2 × 2 took it 46 ms (49 in bfloat16) against 15 (3)
# this way. A step of VGG13 becomes 1.3 times as fast, in bfloat16 1.8 times; on other processors the bound may lie
# elsewhere.


POSITIONS, CHANNELS = 1000, 64  # a product pays up to so many positions B·h·w of the output, from so many channels


def patches(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """What each position of the output sees: ``(n, c, h, w)`` to ``(n·h'·w', k·k·c)``, the channels innermost."""
    x = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    return x.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)


def fold(seen: Tensor, shape, kernel: int, stride: int, padding: int) -> Tensor:
    """The transpose of :func:`patches`: ``(n·h'·w', k·k·c)`` added up to ``shape = (n, c, h, w)``."""
    n, c, h, w = shape
    high, wide = ((side + 2 * padding - kernel) // stride + 1 for side in (h, w))
    seen, out = seen.view(n, high, wide, kernel, kernel, c), seen.new_zeros(n, h + 2 * padding, w + 2 * padding, c)
    for i in range(kernel):
        for j in range(kernel):
            out[:, i : i + stride * high : stride, j : j + stride * wide : stride] += seen[:, :, :, i, j]
    return out[:, padding : padding + h, padding : padding + w].permute(0, 3, 1, 2)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.how = weight.shape[-1], stride, padding
        high, wide = ((side + 2 * padding - weight.shape[-1]) // stride + 1 for side in x.shape[2:])
        out = x.new_empty(len(x), len(weight), high, wide).contiguous(memory_format=torch.channels_last)
        into, flat = out.permute(0, 2, 3, 1).view(-1, len(weight)), weight.permute(0, 2, 3, 1).flatten(1)
        torch.mm(patches(x, *ctx.how), flat.T, out=into)
        return out if bias is None else out.add_(bias[:, None, None])

    @staticmethod
    def backward(ctx, delta):
        x, weight = ctx.saved_tensors
        delta = delta.permute(0, 2, 3, 1).flatten(0, 2)
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_x = fold(delta @ weight.permute(0, 2, 3, 1).flatten(1), x.shape, *ctx.how)
        if ctx.needs_input_grad[1]:
            product = delta.T @ patches(x, *ctx.how)
            for_weight = product.view(len(weight), *weight.shape[2:], -1).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[2]:
            for_bias = delta.sum(0)
        return for_x, for_weight, for_bias, None, None


def _conv_forward(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    stride, padding, kernel = self.stride[0], self.padding[0], self.kernel_size[0]
    high, wide = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
    if len(x) * high * wide > POSITIONS:
        return nn.Conv2d._conv_forward(self, x, weight, bias)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return _Product.apply(x, weight, bias, stride, padding)


def as_products(model: nn.Module) -> nn.Module:
    """Let the convolutions of ``model`` that gain from it run as products of patches, in place.

    They stay modules with the same parameters, and decide at each call by the number of positions. Left as they are:
    those with fewer than 64 output channels, with groups, dilation, unequal sides, or padding other than zeros. Results
    agree to rounding; second derivatives are not supported.

    Example:
        >>> layer, x = nn.Conv2d(8, 64, 3), torch.rand(2, 8, 5, 5)
        >>> before = layer(x)
        >>> torch.allclose(as_products(layer)(x), before, atol=1e-5)
        True
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _suits(module):
            module._conv_forward = types.MethodType(_conv_forward, module)
    return model


def _suits(module: nn.Conv2d) -> bool:
    square = all(isinstance(pair, tuple) and len(set(pair)) == 1 for pair in (module.kernel_size, module.stride))
    zeros = isinstance(module.padding, tuple) and len(set(module.padding)) == 1 and module.padding_mode == "zeros"
    plain = module.groups == 1 and set(module.dilation) == {1}
    return square and zeros and plain and module.out_channels >= CHANNELS


# --- widened --------------------------------------------------------------------------------------------------------
#
# E convolutional networks as one of E times the channels, each convolution in groups, for narrow ones on a CPU.
#
# A convolution of 8 channels over 25 small images takes 0.2 ms forward and backward, most of it before the first
# multiplication; eight of them as one with eight groups take 0.04 ms each. Channels lie member by member, ``(B, E·c, h,
# w)``: activations, pooling, sums and normalization by channel take them as they are.


WHOLE = (nn.ReLU, nn.Tanh, nn.SELU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)


class Linears(nn.Module):
    """E dense layers beside each other: ``(B, E·d)`` to ``(B, E·o)``."""

    def __init__(self, like: nn.Linear, members: int):
        super().__init__()
        self.weight = nn.Parameter(like.weight.detach().expand(members, -1, -1).clone())
        self.bias = None if like.bias is None else nn.Parameter(like.bias.detach().expand(members, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1)  # (E, B, d)
        out = x @ self.weight.mT if self.bias is None else torch.baddbmm(self.bias[:, None], x, self.weight.mT)
        return out.transpose(0, 1).flatten(1)


def widen(model: nn.Module, members: int) -> nn.Module:
    """A copy of ``model`` that takes ``(B, E·c, h, w)`` to ``(B, E·k)``; its parameters are to be set.

    Raises:
        ValueError: for layers other than Linear, Conv2d, BatchNorm, and those that treat every channel alike.

    Example:
        >>> body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> widen(nn.Sequential(body, nn.Linear(2, 3)), 4)(torch.zeros(5, 4, 6, 6)).shape
        torch.Size([5, 12])
    """
    wide = nn.Sequential(copy.deepcopy(model))  # so that a model that is one layer has a parent
    for parent in list(wide.modules()):
        for name, layer in list(parent.named_children()):
            if any(True for _ in layer.children()):
                continue
            setattr(parent, name, _wide(layer, members))
    return wide[0]


def _wide(layer: nn.Module, members: int) -> nn.Module:
    if type(layer) is nn.Linear:
        return Linears(layer, members)
    if type(layer) is nn.Conv2d:
        return nn.Conv2d(
            layer.in_channels * members, layer.out_channels * members, layer.kernel_size, layer.stride, layer.padding,
            layer.dilation, layer.groups * members, layer.bias is not None, layer.padding_mode,
        )  # fmt: skip
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
        options = layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        return type(layer)(layer.num_features * members, *options)
    if isinstance(layer, WHOLE):
        return layer
    raise ValueError(f"networks side by side may have no {type(layer).__name__}; there is {layer}")


# --- groups ---------------------------------------------------------------------------------------------------------
#
# Groups: E networks of one architecture as one computation.
#
# A group keeps its members' trained parameters in one flat buffer, so that an optimizer is a handful of operations on one
# vector. There are four kinds, with the same methods ``logits``, ``features``, ``gradient_`` and ``export``:
#
# - ``lib.networks.stacked.Layers``: a chain of linear layers and activations, as batched matrix products, forward and backward
#   written out by hand. The product that makes the weights' gradient also adds the momentum (``v ← μv + xᵀδ`` is one
#   call), and the gradient with respect to the inputs is never formed.
# - :class:`Stacked`: any other network without running statistics, on a GPU: ``torch.func.vmap`` over the members, which
#   turns E convolutions into one grouped convolution.
# - :class:`Plain`: any other network, one member after another through autograd, which adds the gradient straight into
#   the momentum. On a CPU this beats ``vmap``, members run beside each other on the cores, and convolutions over few
#   positions are products (``lib.networks.stacked``).
# - :class:`Widened`, where it is asked for: the others as one network of E times the channels (``lib.networks.stacked``), several
#   times as fast for narrow networks on a CPU. Here alone the last bits depend on the number of members.


def group(model: nn.Module, members: int, *, precision: str, device, layers=None, wide: bool = False):
    """A group of ``members`` networks like ``model``, their parameters zero; ``layers``: ``chain(model)``, if known.

    ``wide``: as :class:`Widened`, if not a chain.
    """
    dtype = torch.float64 if precision == "float64" else torch.float32
    layers = layers or chain(model)
    if layers:
        return Layers(layers, model, members, dtype=dtype, device=device)
    kind = Plain if torch.device(device).type == "cpu" or any(True for _ in model.buffers()) else Stacked
    kind = Widened if wide else kind
    return kind(model, members, dtype=dtype, device=device, mixed=precision == "bfloat16")


_rounding, _rounded = threading.Lock(), []  # the settings before, once for every thread that now rounds


@contextlib.contextmanager
def rounded_products(precision: str):
    """While it is open, products of float32 matrices in this process round their factors if ``precision`` asks for it.

    ``bfloat16`` on a CPU with AMX, TF32 on a GPU; the sums are float32, and so is everything that is kept.
    """
    kinds = (torch.backends.mkldnn.matmul, "bf16"), (torch.backends.cuda.matmul, "tf32")
    if precision != "bfloat16":
        yield
        return
    with _rounding:
        _rounded.append(_rounded[0] if _rounded else [kind.fp32_precision for kind, _ in kinds])
        for kind, name in kinds:
            kind.fp32_precision = name
    try:
        yield
    finally:
        with _rounding:
            before = _rounded.pop()
            for (kind, _), name in zip(kinds, before if not _rounded else [], strict=False):
                kind.fp32_precision = name


class _Modules:
    """What :class:`Stacked` and :class:`Plain` share. Running statistics lie beside the parameters, in ``buffers``.

    ``mixed`` is ``torch.autocast``: products and convolutions in bfloat16, what is kept in float32.
    """

    def __init__(self, model: nn.Module, members: int, *, dtype, device, mixed=False):
        self.members, self.device = members, torch.device(device)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.w = Flat(shapes, members, dtype=dtype, device=device)
        own = {name: b.to(device, dtype if b.is_floating_point() else b.dtype) for name, b in model.named_buffers()}
        self.buffers = {name: b.expand(members, *b.shape).clone() for name, b in own.items()}
        self.autocast = lambda: torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)

    def export(self) -> dict[str, Tensor]:
        views = {**self.w.views, **self.buffers}
        return {name: view.to("cpu", copy=True).contiguous() for name, view in views.items()}


class Stacked(_Modules):
    """E networks through ``vmap``."""

    def __init__(self, model: nn.Module, members: int, **options):
        super().__init__(model, members, **options)
        self.model = _Features(copy.deepcopy(model).to(self.device))

    def _run(self, views, x, x_dim, what="forward"):
        views, self.model.what = {f"model.{name}": view for name, view in views.items()}, what
        with self.autocast():
            return vmap(lambda own, x: functional_call(self.model, own, (x,)), in_dims=(0, x_dim))(views, x)

    def logits(self, x: Tensor) -> Tensor:
        self.model.eval()
        return self._run(self.w.views, x, None).to(self.w.buffer.dtype)

    def features(self, x: Tensor) -> Tensor:
        self.model.eval()
        return self._run(self.w.views, x, None, "features").to(self.w.buffer.dtype)

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight: Tensor, loss: str, beta: float) -> Tensor:
        self.model.train()
        logits, pull = vjp(lambda views: self._run(views, x, 0), self.w.views)
        delta = loss_gradient(logits.to(self.w.buffer.dtype), target, loss).mul_(weight)
        into.buffer.mul_(beta)
        for name, gradient in pull(delta.to(logits.dtype))[0].items():
            into[name].add_(gradient)
        return logits


class Plain(_Modules):
    """E modules whose parameters are views of the buffer, one after another."""

    def __init__(self, model: nn.Module, members: int, **options):
        super().__init__(model, members, **options)
        self.modules = [copy.deepcopy(model) for _ in range(members)]
        if self.device.type == "cpu":
            self.modules = [as_products(module) for module in self.modules]
        self.leaves = [list(module.named_parameters()) for module in self.modules]
        for e, module in enumerate(self.modules):
            for name, p in self.leaves[e]:
                p.data = self.w[name][e]
            for name, buffer in self.buffers.items():
                owner, _, leaf = name.rpartition(".")
                module.get_submodule(owner)._buffers[leaf] = buffer[e]

    def _each(self, call, x: Tensor) -> Tensor:
        x = _channels_last(x)
        with self.autocast():
            return torch.stack([call(module.eval())(x) for module in self.modules]).to(self.w.buffer.dtype)

    def logits(self, x: Tensor) -> Tensor:
        return self._each(lambda module: module, x)

    def features(self, x: Tensor) -> Tensor:
        return self._each(lambda module: module.features, x)

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight: Tensor, loss: str, beta: float) -> Tensor:
        into.buffer.mul_(beta)
        outputs = []
        for e, module in enumerate(self.modules):
            for name, p in self.leaves[e]:
                p.grad = into[name][e]
            with torch.enable_grad(), self.autocast():
                logits = module.train()(_channels_last(x[e]))
            delta = loss_gradient(logits.detach().to(self.w.buffer.dtype), target[e], loss)
            logits.backward(delta.mul_(weight if isinstance(weight, float) else weight[e]).to(logits.dtype))
            outputs.append(logits.detach())
        return torch.stack(outputs)


class Widened(_Modules):
    """E networks as one of E times the channels."""

    def __init__(self, model: nn.Module, members: int, **options):
        super().__init__(model, members, **options)
        self.one, self.module, self.checked = copy.deepcopy(model), widen(model, members).to(self.device), False
        self.leaves = dict(self.module.named_parameters())
        for name, p in self.leaves.items():
            p.data = self._as(self.w[name], p)
        for name, buffer in self.buffers.items():
            owner, _, leaf = name.rpartition(".")
            self.module.get_submodule(owner)._buffers[leaf] = buffer.flatten()

    def _as(self, view: Tensor, p: Tensor) -> Tensor:
        return view if view.ndim == p.ndim else view.flatten(0, 1)

    def _call(self, call, x: Tensor) -> Tensor:
        """``(E, B, …)`` to ``(E, B, …)``."""
        x = _channels_last(x.transpose(0, 1).flatten(1, 2))
        with self.autocast():
            return call(x).unflatten(1, (self.members, -1)).transpose(0, 1).to(self.w.buffer.dtype)

    def _shared(self, call, x: Tensor) -> Tensor:
        out = self._call(call, x.expand(self.members, *x.shape))
        if not self.checked:  # that no member meets another's channels
            state = {name: view[-1] for name, view in {**self.w.views, **self.buffers}.items()}
            single = functional_call(_Features(self.one.eval()), {f"model.{n}": v for n, v in state.items()}, (x,))
            if call is self.module and not torch.allclose(single.to(out), out[-1], rtol=1e-3, atol=1e-4):
                raise ValueError("model mixes its channels, so that its networks cannot stand side by side (wide)")
            self.checked = True
        return out

    def logits(self, x: Tensor) -> Tensor:
        return self._shared(self.module.eval(), x)

    def features(self, x: Tensor) -> Tensor:
        return self._shared(self.module.eval().features, x)

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight: Tensor, loss: str, beta: float) -> Tensor:
        into.buffer.mul_(beta)
        for name, p in self.leaves.items():
            p.grad = self._as(into[name], p)
        with torch.enable_grad():
            logits = self._call(self.module.train(), x)
        delta = loss_gradient(logits.detach(), target, loss)
        logits.backward(delta.mul_(weight))
        return logits.detach()


def _channels_last(x: Tensor) -> Tensor:
    """Images in channels-last layout. One channel lies alike in both layouts: only its stride tells them apart."""
    if x.ndim != 4:
        return x
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, _, width = x.shape
    return x.as_strided(x.shape, (x.stride(0), 1, width, 1)) if channels == 1 else x


class _Features(nn.Module):
    """A model of which ``functional_call`` can ask for the features."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.what = model, "forward"

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model, self.what)(x)


LOSSES = ("cross_entropy", "mse")


def stacked_members(model: nn.Module, parameters: dict[str, Tensor]) -> int:
    """E of stacked parameters that fit ``model``; ValueError names the first that does not."""
    members = {len(value) for value in parameters.values()}
    if len(members) != 1:
        raise ValueError(f"parameters must be stacked, (E, …) with one E; got E = {sorted(members)}")
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in expected.keys() | parameters.keys():
        got = tuple(parameters[name].shape[1:]) if name in parameters else "nothing"
        if got != expected.get(name):
            raise ValueError(
                f"parameters[{name!r}]: the model has {expected.get(name, 'none')}, got {got} for each member"
            )
    return members.pop()


ROWS = 1024  # examples evaluated at a time


def targets(y: Tensor, outputs: int, dtype) -> Tensor:
    """What a loss compares with, ``(·, n, k)``, from labels ``(·, n)`` or values ``(·, n[, k])``.

    One-hot rows of the labels, the label itself where there is one output, or the values.
    """
    if y.is_floating_point():
        return (y if y.ndim == 3 else y[..., None]).to(dtype)
    return (nn.functional.one_hot(y, outputs) if outputs > 1 else y[..., None]).to(dtype)


def predict(model: nn.Module, parameters: dict[str, Tensor], x: Tensor, *, device="cpu", chunk=None) -> Tensor:
    """Logits ``(E, n, k)`` of E networks like ``model`` with stacked ``parameters`` (as in ``Ensemble``) on ``x``.

    ``chunk`` networks are computed side by side. Raises ValueError if a parameter is missing or has another shape.
    """
    return _apply("logits", model, parameters, x, device, chunk)


def features(model: nn.Module, parameters: dict[str, Tensor], x: Tensor, *, device="cpu", chunk=None) -> Tensor:
    """Penultimate features ``(E, n, d)`` of E networks; ``model`` has a method ``features``. Else as ``predict``."""
    if not hasattr(model, "features"):
        raise ValueError(
            f"model must have a method features, as those of lib.networks.models; got {type(model).__name__}"
        )
    return _apply("features", model, parameters, x, device, chunk)


@torch.no_grad()
def _apply(what: str, model: nn.Module, parameters: dict, x: Tensor, device: str, chunk: int | None) -> Tensor:
    members, precision = stacked_members(model, parameters), "float32"
    if next(iter(parameters.values())).dtype == torch.float64:
        precision = "float64"
    layers, out = chain(model), []
    x = x.to(device, getattr(torch, precision))
    size, net = (chunk or 8) if layers or torch.device(device).type != "cpu" else 1, None
    for at in range(0, members, size):
        part = {name: value[at : at + size] for name, value in parameters.items()}
        if net is None or len(next(iter(part.values()))) < size:
            net = group(model, min(size, members - at), precision=precision, device=device, layers=layers)
        for name, view in {**net.w.views, **net.buffers}.items():
            view.copy_(part[name])
        out.append(torch.cat([getattr(net, what)(x[i : i + ROWS]).cpu() for i in range(0, len(x), ROWS)], 1))
    return torch.cat(out)
