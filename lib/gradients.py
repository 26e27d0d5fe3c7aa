"""Gradients of single examples from their factors, without writing them out.

A linear or convolutional layer multiplies the inputs aₜ (d numbers) at each of T positions by its weights to get p
numbers (a dense layer has one position, a convolution as many as its output has pixels, with patches for inputs).
With δₜ the derivative of an example's output with respect to what the layer gives at t, its gradient and the inner
product of two examples' gradients are

    G = Σₜ δₜ aₜᵀ,        ⟨G, G′⟩ = Σₜₜ′ (aₜ·a′ₜ′)(δₜ·δ′ₜ′)        (Goodfellow 2015; Li et al. 2022, "ghost norms")

A bias adds 1 to aₜ·a′ₜ′. One backward pass gives the δ of all examples and layers; each layer then takes the
factors or its own G, written out block by block, whichever needs fewer multiplications (Bu et al. 2022). Both are
exact. Networks are in evaluation mode: batch normalization with its running statistics, so that no example's
gradient depends on the others.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call

from lib import ensemble
from lib.batched import loss_gradient
from lib.recipe import LOSSES

WORKING = 2**28  # bytes that one step may take
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Signal(NamedTuple):
    """What one layer contributes to the gradients of c outputs of each of n examples: two factors, or the gradient."""

    inputs: Tensor | None  # (n, T, d)
    deltas: Tensor | None  # (n, c, T, p)
    bias: bool
    gradient: Tensor | None = None  # (n, c, q), instead of the factors where it is small


class _Call(NamedTuple):
    """A layer as it was called: its input, where its output stands in the graph, its running statistics."""

    module: nn.Module
    inputs: Tensor
    version: int
    edge: object
    shape: tuple[int, ...]
    statistics: tuple


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that own parameters, all of a kind that this module knows."""
    found = {}
    for name, module in model.named_modules():
        if not list(module.parameters(recurse=False)):
            continue
        if isinstance(module, nn.Conv2d):
            fits = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        elif isinstance(module, NORMALIZATIONS):
            fits = module.track_running_stats
        else:
            fits = isinstance(module, nn.Linear)
        if not fits:
            raise ValueError(
                "model may have parameters in Linear, Conv2d (one group, numeric zero padding) and BatchNorm with "
                f"running statistics; {name or 'model'} is {module}"
            )
        found[name] = module
    return found


def _run(model, state, x) -> tuple[Tensor, list[_Call]]:
    """Logits, and each layer's call."""
    calls: list[_Call] = []

    def keep(module, arguments, output):
        statistics = (module.running_mean, module.running_var) if isinstance(module, NORMALIZATIONS) else ()
        inputs, edge = arguments[0].detach(), get_gradient_edge(output)  # the edge outlives changes in place
        calls.append(_Call(module, inputs, inputs._version, edge, tuple(output.shape), statistics))

    layers = _layers(model)
    trained = {name for name, _ in model.named_parameters()}
    leaves = {name: value.detach().requires_grad_(name in trained) for name, value in state.items()}
    hooks = [module.register_forward_hook(keep) for module in layers.values()]
    try:
        with torch.enable_grad():
            logits = functional_call(model, leaves, (x,))
    finally:
        for hook in hooks:
            hook.remove()
    called = [call.module for call in calls]
    odd = [name for name, module in layers.items() if sum(module is other for other in called) != 1]
    if odd:
        raise ValueError(f"every layer must be called once in a pass; these were not: {', '.join(odd)}")
    return logits, calls


def _signal(call: _Call, deltas: Tensor) -> Signal:
    """Factors ``(n, T, d)`` and ``(n, c, T, p)`` from the input and the derivatives ``(n, c, *output)``."""
    module, a = call.module, call.inputs
    if a._version != call.version:
        raise ValueError(f"the input of {module} was changed in place after it was used")
    n, c = deltas.shape[:2]
    if isinstance(module, NORMALIZATIONS):
        mean, var = (value[:, None] for value in call.statistics)
        normalized = (a.reshape(n, a.shape[1], -1) - mean) / torch.sqrt(var + module.eps)  # (n, channels, positions)
        deltas = deltas.reshape(n, c, *normalized.shape[1:])
        return Signal(None, None, False, torch.cat([(deltas * normalized[:, None]).sum(3), deltas.sum(3)], 2))
    bias = module.bias is not None
    if isinstance(module, nn.Conv2d):
        return Signal(_patches(module, a, call.shape[2:]).mT, deltas.flatten(3).mT, bias)
    return Signal(a.reshape(n, -1, a.shape[-1]), deltas.reshape(n, c, -1, deltas.shape[-1]), bias)


def _patches(module: nn.Conv2d, a: Tensor, size: tuple[int, int]) -> Tensor:
    """``(n, d, T)``: what ``nn.functional.unfold`` gives, by one copy: half of its time or less on a CPU."""
    (up, left), kernel, between, step = module.padding, module.kernel_size, module.dilation, module.stride
    a = nn.functional.pad(a, (left, left, up, up)) if up or left else a
    n, c, y, x = a.stride()
    strides = (n, c, y * between[0], x * between[1], y * step[0], x * step[1])
    return a.as_strided((*a.shape[:2], *kernel, *size), strides).reshape(len(a), -1, size[0] * size[1])


def signals(model: nn.Module, state: dict, x: Tensor, cotangent: Callable[[Tensor], Tensor]) -> Iterator[Signal]:
    """One :class:`Signal` a layer for the gradients of c linear functions of each example's logits.

    Args:
        model: in evaluation mode, with parameters in linear, convolutional and batch-normalization layers.
        state: one network's parameters and buffers by name.
        x: ``(n, …)``.
        cotangent: maps the logits ``(n, k)`` to ``(n, c, k)``: the derivatives of the c functions at the logits.

    Cost: a forward pass and c backward passes to the layers' outputs; these are kept for as many layers at a time as
    fit into ``WORKING`` bytes, and the passes repeated for the next ones.
    """
    logits, calls = _run(model, state, x)
    directions = cotangent(logits.detach())
    groups, room = [], 0
    for call in reversed(calls):
        need = math.prod(call.shape) * directions.shape[1] * x.element_size()
        if not groups or need > room:
            groups.append([])
            room = WORKING
        groups[-1].append(call)
        room -= need
    for group in groups:
        edges = [call.edge for call in group]
        passes = [
            torch.autograd.grad(logits, edges, directions[:, c].contiguous(), retain_graph=True)
            for c in range(directions.shape[1])
        ]
        for i, call in enumerate(group):
            yield _signal(call, torch.stack([each[i] for each in passes], 1))


def layer_order(model: nn.Module, state: dict, x: Tensor) -> list[str]:
    """Names of the layers in the order of their :func:`signals`; ValueError for a layer of another kind."""
    _, calls = _run(model, state, x[:1])
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(call.module)] for call in reversed(calls)]


def written(signal: Signal) -> Tensor:
    """G of every example and output, ``(n, c, q)``: the weight row by row, then the bias.

    Cost: T·d·p multiplications an example and output.
    """
    a, delta, bias, gradient = signal
    if gradient is not None:
        return gradient
    weight = (delta.mT @ a[:, None]).flatten(2)
    return torch.cat([weight, delta.sum(2)], 2) if bias else weight


def squared_norms(signal: Signal) -> Tensor:
    """‖G‖² of every example and output, ``(n, c)``.

    Cost: per example and output, T²(d + p) multiplications from the factors or T·d·p with G.
    """
    a, delta, bias, gradient = signal
    if gradient is not None:
        return gradient.square().sum(2)
    positions, d, p = *a.shape[1:], delta.shape[3]
    if positions == 1:
        return (a.square().sum(2) + bias) * delta[:, :, 0].square().sum(2)
    if positions * (d + p) < d * p:
        return (delta @ delta.mT * (a @ a.mT + float(bias))[:, None]).sum((2, 3))
    written = (delta.mT.flatten(1, 2) @ a).square().sum(2).view(*delta.shape[:2], p).sum(2)
    return written + delta.sum(2).square().sum(2) if bias else written


def products(one: Signal, other: Signal) -> Tensor:
    """⟨G, G′⟩ of all pairs of two signals of the same layer, ``(n, c, n′, c′)``.

    Cost: per pair of examples, T²(d + c′p) + T·p·c·c′ multiplications from the factors, or p·d·c·c′ with the G.
    """
    if one.gradient is not None:
        return torch.tensordot(one.gradient, other.gradient, ([2], [2]))
    a, delta, b, epsilon = one.inputs, one.deltas, other.inputs, other.deltas
    (n, c, positions, p), (m, e, _, _), d = delta.shape, epsilon.shape, a.shape[2]
    bias = float(one.bias)
    if positions == 1:
        inner = torch.tensordot(delta[:, :, 0], epsilon[:, :, 0], ([2], [2]))
        return inner.mul_((a[:, 0] @ b[:, 0].T + bias)[:, None, :, None])
    if positions**2 * (d + e * p) + positions * p * c * e < p * d * c * e:
        right = epsilon.transpose(1, 2).reshape(m, positions, e * p)
        out = delta.new_empty(n, c, m, e)
        for i in range(n):
            near = b @ a[i].T + bias  # (m, T′, T)
            mixed = (near.mT @ right).view(m, positions, e, p).transpose(1, 2).reshape(m * e, positions * p)
            out[i] = (delta[i].reshape(c, -1) @ mixed.T).view(c, m, e)
        return out
    out = torch.zeros(n * c, m * e, dtype=delta.dtype, device=delta.device)
    step = max(1, WORKING // ((n * c + m * e) * d * delta.element_size()))
    for at in range(0, p, step):
        left = (delta[..., at : at + step].mT.flatten(1, 2) @ a).view(n * c, -1)
        right = left if other is one else (epsilon[..., at : at + step].mT.flatten(1, 2) @ b).view(m * e, -1)
        out.addmm_(left, right.T)
    out = out.view(n, c, m, e)
    return out + torch.tensordot(delta.sum(2), epsilon.sum(2), ([2], [2])) if bias else out


def rows_at_once(model: nn.Module, state: dict, x: Tensor) -> int:
    """How many examples to take together, so that a backward pass with a layer's work fits into ``WORKING`` bytes."""
    _, calls = _run(model, state, x[:1])
    kept = sum(call.inputs.numel() + math.prod(call.shape) for call in calls)
    work = 0
    for call in calls:
        out = math.prod(call.shape)
        if isinstance(call.module, nn.Conv2d):
            p, d = call.module.out_channels, call.module.weight[0].numel()
            positions = out // p
            work = max(work, positions * d + min(2 * positions**2, p * d))
    return max(1, min(4096, WORKING // ((kept + work) * x.element_size())))


def members(model: nn.Module, parameters: dict, *, device="cpu") -> Iterator[dict[str, Tensor]]:
    """The state of each of E networks from stacked ``parameters`` (name → ``(E, …)``), on ``device``.

    Raises:
        ValueError: if a parameter or a buffer of ``model`` is missing or has another shape.
    """
    for e in range(ensemble.stacked_members(model, parameters)):
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
    features = ensemble.features(model, parameters, x, **options)
    weight, bias = parameters[f"{name}.weight"].cpu(), parameters.get(f"{name}.bias")
    if bias is not None:
        features = torch.cat([features, torch.ones_like(features[..., :1])], 2)
        weight = torch.cat([weight, bias.cpu()[..., None]], 2)
    return features, errors(features @ weight.mT, labels_by_run(y, len(features), len(x)), loss)
