"""E networks of one architecture as one computation, and their losses.

Stacked parameters are name → ``(E, *shape)``, running statistics among them. Losses are per example; the caller's
weights (1/B and so on) make the mean.

A group of networks keeps its members' parameters in one flat buffer, so that an optimizer is a handful of operations on
one vector. A chain of linear layers is batched products (:class:`Layers`): that which makes the weights' gradient also
adds the momentum (``v ← μv + xᵀδ``), and the gradient with respect to the inputs is never formed. Any other network is
one member after another through autograd (:class:`Modules`), which beats ``vmap``; members run beside each other on the
cores, or in streams of a GPU. If asked for, all are one of E times the channels, each convolution in groups: up to
twice as fast where most of a narrow network's time passes before the first multiplication. Only then do last bits
depend on how many there are.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from itertools import cycle, repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lib.costs import device_of, one_of

LOSSES = ("cross_entropy", "mse")
ROWS = 1024  # examples evaluated at a time
LANES = 8  # streams of a GPU on which small networks take a step beside each other
_lanes = cache(lambda device: [torch.cuda.Stream(device) for _ in range(LANES)])  # kept: libraries keep memory for each


def tanh(z: Tensor) -> Tensor:
    """In place; float64 as 2σ(2z) − 1, which takes torch less time (on a CPU) and errs by some 10⁻¹⁶."""
    return z.mul_(2).sigmoid_().mul_(2).sub_(1) if z.dtype == torch.float64 else z.tanh_()


ACTIVATE = {nn.ReLU: torch.relu_, nn.Tanh: tanh, nn.SELU: torch.selu_}
SELU_SCALE, SELU_FLOOR = 1.0507009873554805, 1.7580993408473766  # λ and λα of Klambauer et al. 2017
CHANNELWISE = (nn.ReLU, nn.Tanh, nn.SELU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)


def losses(logits: Tensor, target: Tensor, loss: str) -> Tensor:
    """ℓ of each example, ``(…)``: −Σ y log softmax(f) (nats), or ½‖f − y‖² (``mse``), for f and y ``(…, k)``."""
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


def targets(y: Tensor, outputs: int, dtype) -> Tensor:
    """What a loss compares with, ``(·, n, k)``: one-hot labels, the label where there is one output, or values."""
    if y.is_floating_point():
        return (y if y.ndim == 3 else y[..., None]).to(dtype)
    return (nn.functional.one_hot(y.long(), outputs) if outputs > 1 else y[..., None]).to(dtype)


def labels_below(y: Tensor, outputs: int, name: str = "y") -> Tensor:
    """Labels, integers of any width, as int64; ValueError unless each is one of ``outputs`` (0 or 1 for one output)."""
    labels, most = y.long(), max(2, outputs) - 1
    if y.is_floating_point() or (y.numel() and not 0 <= labels.min() <= labels.max() <= most):
        got = f"{y.dtype} {int(labels.min())} to {int(labels.max())}" if y.numel() else y.dtype
        raise ValueError(f"{name} must be integer labels from 0 to {most} for {outputs} output(s), got {got}")
    return labels


def check_targets(y: Tensor, n: int, outputs: int, loss: str, name: str = "y") -> None:
    """ValueError unless ``y`` is what :func:`losses` of n examples needs: labels ``(n,)``, or for ``mse`` values."""
    shape, values = tuple(y.shape), y.is_floating_point()
    fits = {(n, outputs), (n,) if outputs == 1 else ()} if values else {(n,)}
    if shape not in fits or (loss != "mse" and (values or outputs == 1)):
        wanted = f"integer labels ({n},) for two outputs or more, or for 'mse' labels or values ({n}, {outputs})"
        raise ValueError(f"{name} must be {wanted}; got {y.dtype} {shape} for {outputs} output(s)")
    if not values:
        labels_below(y, outputs, name)


def errors(logits: Tensor, y: Tensor, loss: str) -> Tensor:
    """dℓ/df at integer labels ``y (…)``, ``(…, k)``: softmax(f) − one-hot, or f − one-hot. Checks y and ``loss``."""
    one_of("loss", loss, LOSSES)
    own = nn.functional.one_hot(labels_below(y, logits.shape[-1]), logits.shape[-1])
    return loss_gradient(logits.double(), own.double(), loss).to(logits)  # in float32 1 − p may be rounding alone


def stacked_members(model: nn.Module, parameters: dict[str, Tensor]) -> int:
    """E of stacked parameters that fit ``model``; ValueError names the first that does not."""
    members = {len(value) for value in parameters.values()}
    if len(members) != 1:
        raise ValueError(f"parameters must be stacked, (E, …) with one E; got E = {sorted(members)}")
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape[1:]) for name, value in parameters.items()}
    for name in expected.keys() | given.keys():
        wanted, got = expected.get(name, "none"), given.get(name, "nothing")
        if wanted != got:
            raise ValueError(f"parameters[{name!r}]: the model has {wanted}, got {got} for each member")
    return members.pop()


def members(model: nn.Module, parameters: dict, *, device="cpu") -> Iterator[dict[str, Tensor]]:
    """The state of each of E networks, on ``device``. Raises ValueError for parameters that do not fit ``model``."""
    for e in range(stacked_members(model, parameters)):
        yield {name: value[e].to(device_of(device)) for name, value in parameters.items()}


def labels_by_run(y: Tensor, runs: int, n: int) -> Tensor:
    """Labels ``(n,)`` or ``(E, n)`` as ``(E, n)``; ValueError for another shape, or if they are not integers."""
    if tuple(y.shape) not in {(n,), (runs, n)} or y.is_floating_point():
        raise ValueError(f"y must be integer labels ({n},) or ({runs}, {n}), got {y.dtype} {tuple(y.shape)}")
    return y.long().expand(runs, n)


@torch.no_grad()
def predict(model: nn.Module, parameters: dict, x: Tensor, *, device="cpu", chunk=None, what="logits") -> Tensor:
    """Logits ``(E, n, k)`` of E networks like ``model``, or their ``features``; ``chunk`` are computed side by side."""
    count, layers, device = stacked_members(model, parameters), chain(model), device_of(device)
    precision = "float64" if next(iter(parameters.values())).dtype == torch.float64 else "float32"
    x = x.to(device, getattr(torch, precision))
    size = min(count, (chunk or 8) if layers or device.type != "cpu" else 1)
    net, outputs = None, []
    for start in range(0, count, size):
        if net is None or start + size > count:
            net = group(model, min(size, count - start), precision=precision, device=device, layers=layers)
        for name, view in {**net.w.views, **net.buffers}.items():
            view.copy_(parameters[name][start : start + size])
        outputs.append(torch.cat([getattr(net, what)(rows).cpu() for rows in x.split(ROWS)], 1))
    return torch.cat(outputs)


def features(model: nn.Module, parameters: dict[str, Tensor], x: Tensor, **options) -> Tensor:
    """Penultimate features ``(E, n, d)``; ``model`` has a method ``features``. ``options`` as in :func:`predict`."""
    if not hasattr(model, "features"):
        raise ValueError(f"model must have a method features, as lib.networks.models have; got {type(model).__name__}")
    return predict(model, parameters, x, what="features", **options)


def last_layer(model: nn.Module, parameters: dict, x: Tensor, y: Tensor, *, loss: str = "cross_entropy", **options):
    """The factors of the gradients with respect to the head alone, ``(features (E, n, d), errors (E, n, k))``.

    Example i of run e has the gradient errors ⊗ features; with a bias the last feature is 1. ``options``: predict's.
    """
    name = next(name for name, module in model.named_modules() if module is model.head)
    penultimate = features(model, parameters, x, **options)
    weight, bias = parameters[f"{name}.weight"].cpu(), parameters.get(f"{name}.bias")
    if bias is not None:
        penultimate = torch.cat([penultimate, torch.ones_like(penultimate[..., :1])], 2)
        weight = torch.cat([weight, bias.cpu()[..., None]], 2)
    return penultimate, errors(penultimate @ weight.mT, labels_by_run(y, len(penultimate), len(x)), loss)


class Layer(NamedTuple):
    """One layer of a chain, ``h ↦ φ(Wh + b)``: the names of its parameters, and its activation."""

    weight: str
    bias: str | None
    activation: type[nn.Module] | None  # one of ``ACTIVATE``


def chain(model: nn.Module) -> list[Layer] | None:
    """The layers of ``model`` if it is a chain of linear layers, else None: read off its leaves, then tried out."""
    names, layers, width = {id(p): name for name, p in model.named_parameters()}, [], None
    for leaf in model.modules():
        if any(True for _ in leaf.children()) or isinstance(leaf, nn.Flatten | nn.Identity):
            continue
        if type(leaf) is nn.Linear and id(leaf.weight) in names and width in (None, leaf.in_features):
            layers.append(Layer(names[id(leaf.weight)], names.get(id(leaf.bias)), None))
            width = leaf.out_features
        elif type(leaf) in ACTIVATE and layers and layers[-1].activation is None:
            layers[-1] = layers[-1]._replace(activation=type(leaf))
        else:
            return None
    used = [name for layer in layers for name in (layer.weight, layer.bias) if name]  # twice where weights are shared
    if not layers or layers[-1].activation or sorted(used) != sorted(names.values()):
        return None
    probe = copy.deepcopy(model).double().cpu()
    w, generator = dict(probe.named_parameters()), torch.Generator().manual_seed(0)
    x = torch.randn(3, w[layers[0].weight].shape[1], dtype=torch.float64, generator=generator)
    affine = lambda layer, h: nn.functional.linear(h, w[layer.weight], w.get(layer.bias))
    try:
        with torch.no_grad():
            return layers if torch.allclose(chain_forward(layers, x, affine)[-1], probe(x)) else None
    except (RuntimeError, ValueError, IndexError):  # the module does not take flat rows
        return None


def chain_forward(layers: list[Layer], x: Tensor, affine: Callable) -> list[Tensor]:
    """``[x, h₁, …, f]``. ``affine(layer, h)`` is Wh + b, a new tensor, in whatever layout the caller keeps examples."""
    h = [x]
    for layer in layers:
        z = affine(layer, h[-1])
        h.append(ACTIVATE[layer.activation](z) if layer.activation else z)
    return h


def chain_backward(layers: list[Layer], h: list[Tensor], delta: Tensor, transposed: Callable) -> Iterator:
    """``(layer, its inputs, ∂ℓ/∂(Wh + b))`` from the last layer, where that is ``delta``, down to the first.

    ``transposed(layer, δ)`` is Wᵀδ, a new tensor; ``h`` is that of :func:`chain_forward`.
    """
    for i in reversed(range(len(layers))):
        yield layers[i], h[i], delta
        if i:
            delta = times_slope(layers[i - 1].activation, transposed(layers[i], delta), h[i])


def times_slope(activation: type[nn.Module] | None, delta: Tensor, h: Tensor) -> Tensor:
    """``delta`` times φ′ where the output was ``h``, in place."""
    if activation is nn.ReLU:
        return torch.ops.aten.threshold_backward.grad_input(delta, h, 0, grad_input=delta)
    if activation is nn.Tanh:
        return torch.ops.aten.tanh_backward.grad_input(delta, h, grad_input=delta)
    if activation is nn.SELU:
        return delta.mul_(torch.where(h > 0, SELU_SCALE, h + SELU_FLOOR))
    return delta


def group(model: nn.Module, members: int, *, precision: str, device, layers=None, wide: bool = False) -> "Group":
    """A group of ``members`` networks like ``model``, their parameters zero.

    ``layers`` is ``chain(model)``, if known; ``wide`` makes one network of any but chains. ``bfloat16`` is
    ``torch.autocast``, what is kept in float32; chains are one network then, too.
    """
    how = {"dtype": torch.float64 if precision == "float64" else torch.float32, "device": device_of(device)}
    layers, mixed = layers or chain(model), precision == "bfloat16"
    if layers and not mixed:
        return Layers(layers, model, members, **how)
    return Modules(model, members, wide=wide or bool(layers), mixed=mixed, **how)


class Flat:
    """E copies of named tensors in one buffer; ``self[name]`` is a view ``(E, *shape)``.

    A convolution's weight lies channels last and, with ``transposed``, a linear weight (out, in) as (in, out), which
    products like better: ``factors[name]``, ``(E, in, out)``; a bias is ``(E, 1, out)`` there. ``like()`` has zeros.
    """

    def __init__(self, shapes: dict[str, tuple], members: int, *, dtype, device, transposed=False):
        self.like = partial(Flat, shapes, members, dtype=dtype, device=device, transposed=transposed)
        sizes = [members * math.prod(shape) for shape in shapes.values()]
        self.buffer, self.views = torch.zeros(sum(sizes), dtype=dtype, device=device_of(device)), {}
        for (name, shape), stored in zip(shapes.items(), self.buffer.split(sizes), strict=True):
            if len(shape) == 4:
                out, into, *kernel = shape
                self.views[name] = stored.view(members, out, *kernel, into).movedim(-1, 2)
            elif len(shape) == 2 and transposed:
                self.views[name] = stored.view(members, *reversed(shape)).mT
            else:
                self.views[name] = stored.view(members, *shape)
        self.factors = {name: view.mT if view.ndim == 3 else view[:, None] for name, view in self.views.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.views[name]


class Group:
    """Weights ``w`` and running statistics ``buffers`` of E networks, and what these compute.

    ``gradient_(into, x, target, weight, loss, beta)`` does ``into ← β·into + ∇ Σ_b weight_b ℓ_b`` for inputs
    ``(E, B, …)``, targets ``(E, B, k)`` and weights ``(E, B, 1)`` or a number, and returns the logits ``(E, B, k)``.
    """

    def __init__(self, model: nn.Module, members: int, *, dtype, device, transposed=False):
        self.members, shapes = members, {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.w = Flat(shapes, members, dtype=dtype, device=device, transposed=transposed)
        state = {name: b.to(device, dtype if b.is_floating_point() else b.dtype) for name, b in model.named_buffers()}
        self.buffers = {name: b.expand(members, *b.shape).clone() for name, b in state.items()}

    def export(self) -> dict[str, Tensor]:
        """State of the members, name → ``(E, *shape)``, copied to the CPU."""
        views = {**self.w.views, **self.buffers}
        return {name: view.to("cpu", copy=True).contiguous() for name, view in views.items()}

    def logits(self, x: Tensor) -> Tensor:
        """``(E, n, k)`` for inputs ``(n, …)`` that all members share."""
        return self._evaluate("forward", x)

    def features(self, x: Tensor) -> Tensor:
        """Inputs of the last layer, ``(E, n, d)``."""
        return self._evaluate("features", x)


class Layers(Group):
    """E chains of linear layers as batched products."""

    def __init__(self, layers: list[Layer], model: nn.Module, members: int, **options):
        super().__init__(model, members, transposed=True, **options)
        self.layers, self.ones = layers, torch.empty(0)

    def _affine(self, layer: Layer, h: Tensor) -> Tensor:
        weight, bias = self.w.factors[layer.weight], self.w.factors.get(layer.bias)
        return torch.bmm(h, weight) if bias is None else torch.baddbmm(bias, h, weight)

    def _evaluate(self, what, x):
        layers = self.layers if what == "forward" else self.layers[:-1]
        return chain_forward(layers, x.flatten(1).expand(self.members, -1, -1), self._affine)[-1]

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight, loss: str, beta: float) -> Tensor:
        h = chain_forward(self.layers, x.flatten(2), self._affine)
        error = loss_gradient(h[-1], target, loss).mul_(weight)
        if self.ones.shape[-1] != x.shape[1]:
            self.ones = error.new_ones(self.members, 1, x.shape[1])
        transposed = lambda layer, delta: torch.bmm(delta, self.w.views[layer.weight])
        for layer, inputs, delta in chain_backward(self.layers, h, error, transposed):
            into.factors[layer.weight].baddbmm_(inputs.mT, delta, beta=beta)
            if layer.bias is not None:
                into.factors[layer.bias].baddbmm_(self.ones, delta, beta=beta)
        return h[-1]


class Modules(Group):
    """E networks in modules whose parameters are views of the buffer: one a member, or one for all (``wide``)."""

    def __init__(self, model: nn.Module, members: int, *, wide=False, mixed=False, **options):
        super().__init__(model, members, **options)
        self.mixed, self.wide, self.width = mixed, wide, members if wide else 1
        self.unchecked = copy.deepcopy(model) if wide else None
        modules = [_widened(model, members)] if wide else [copy.deepcopy(model) for _ in range(members)]
        rows = [slice(start, start + self.width) for start in range(0, members, self.width)]
        self.parts = [(module, who, dict(module.named_parameters())) for module, who in zip(modules, rows, strict=True)]
        for module, who, leaves in self.parts:
            for name, p in leaves.items():
                p.data = _beside(self.w[name][who], p)
            for name, buffer in list(module.named_buffers()):
                owner, _, leaf = name.rpartition(".")
                setattr(module.get_submodule(owner), leaf, _beside(self.buffers[name][who], buffer))

    def _run(self, call: Callable, x: Tensor) -> Tensor:
        """One module on ``(width, B, …)``: ``(width, B, …)``. Channels lie member by member, ``(B, width·c, h, w)``."""
        x = _channels_last(x.transpose(0, 1).flatten(1, 2))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed):
            return call(x).unflatten(1, (self.width, -1)).transpose(0, 1).to(self.w.buffer.dtype)

    def _evaluate(self, what, x):
        shared = x.expand(self.width, *x.shape)
        outputs = torch.cat([self._run(getattr(module.eval(), what), shared) for module, *_ in self.parts])
        if self.unchecked is not None and what == "forward":  # once: that no member meets another's channels
            state = {name: view[-1] for name, view in {**self.w.views, **self.buffers}.items()}
            alone, self.unchecked = functional_call(self.unchecked.eval(), state, (x,)), None
            rounding = 0.05 if self.mixed else 1e-3
            if not torch.allclose(alone, outputs[-1], rtol=rounding, atol=rounding / 10):
                raise ValueError("model mixes its channels, so that its networks cannot stand side by side (wide)")
        return outputs

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight, loss: str, beta: float) -> Tensor:
        into.buffer.mul_(beta)
        outputs = []
        with side_by_side(x.device, len(self.parts)) as lanes:
            for lane, (module, who, leaves) in zip(lanes, self.parts, strict=False):
                with lane:
                    for name, p in leaves.items():
                        p.grad = _beside(into[name][who], p)
                    with torch.enable_grad():
                        logits = self._run(module.train(), x[who])
                    delta = loss_gradient(logits.detach(), target[who], loss)
                    logits.backward(delta.mul_(weight if isinstance(weight, float) else weight[who]))
                    outputs.append(logits.detach())
        return torch.cat(outputs)


@contextmanager
def side_by_side(device, count: int):
    """Contexts for ``count`` networks, over and over: on a GPU streams, which the rest waits for; else nothing."""
    if device.type != "cuda" or count < 2:
        yield repeat(nullcontext())
        return
    main, streams = torch.cuda.current_stream(device), _lanes(device)[:count]
    for stream in streams:
        stream.wait_stream(main)
    yield cycle([torch.cuda.stream(stream) for stream in streams])
    for stream in streams:
        main.wait_stream(stream)


def _widened(model: nn.Module, members: int) -> nn.Module:
    """A copy of ``model`` that takes ``(B, E·c, h, w)`` to ``(B, E·k)``; ValueError for layers it does not know."""
    wide = nn.Sequential(copy.deepcopy(model))  # so that a model that is one layer has a parent
    for parent in list(wide.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, _Linears(layer, members))
            elif isinstance(layer, nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d):
                for count in {"in_channels", "out_channels", "groups", "num_features"} & vars(layer).keys():
                    setattr(layer, count, members * getattr(layer, count))
                for tensor in (*layer.parameters(), *layer.buffers()):
                    tensor.data = torch.cat([tensor.data] * members) if tensor.ndim else tensor.data
            elif not list(layer.children()) and not isinstance(layer, CHANNELWISE):
                raise ValueError(f"networks side by side may have no {type(layer).__name__}; there is {layer}")
    return wide[0]


class _Linears(nn.Module):
    """E dense layers beside each other: ``(B, E·d)`` to ``(B, E·o)``."""

    def __init__(self, like: nn.Linear, members: int):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([like.weight.detach()] * members))
        self.bias = None if like.bias is None else nn.Parameter(torch.stack([like.bias.detach()] * members))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1)  # (E, B, d)
        out = x @ self.weight.mT if self.bias is None else torch.baddbmm(self.bias[:, None], x, self.weight.mT)
        return out.transpose(0, 1).flatten(1)


def _beside(views: Tensor, like: Tensor) -> Tensor:
    """Members' ``(E, *shape)`` as one module holds them: as they are, or ``(E·channels, …)``."""
    return views if views.ndim == like.ndim else views.flatten(0, min(1, views.ndim - 1))


def _channels_last(x: Tensor) -> Tensor:
    """Images in channels-last layout. One channel lies alike in both layouts: only its stride tells them apart."""
    if x.ndim != 4:
        return x
    x = x.contiguous(memory_format=torch.channels_last)
    return x.as_strided(x.shape, (x.stride(0), 1, x.shape[3], 1)) if x.shape[1] == 1 else x
