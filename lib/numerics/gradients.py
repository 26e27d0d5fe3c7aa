"""Gradients of single examples: from their factors without writing them out, as rows, and as tangent kernels.

A linear or convolutional layer multiplies the inputs aₜ (d numbers) at each of T positions by its weights to get p
numbers (a dense layer has one position, a convolution as many as its output has pixels, with patches for inputs).
With δₜ the derivative of an example's output with respect to what the layer gives at t, its gradient and the inner
product of two examples' gradients are

    G = Σₜ δₜ aₜᵀ,        ⟨G, G′⟩ = Σₜₜ′ (aₜ·a′ₜ′)(δₜ·δ′ₜ′)        (Goodfellow 2015; Li et al. 2022, "ghost norms")

A bias adds 1 to aₜ·a′ₜ′. One backward pass gives the δ of all examples and layers; each layer then takes the factors
or its own G, written out block by block, whichever needs fewer multiplications (Bu et al. 2022). Both are exact. What
works for any layer falls back on torch.func. Networks are in evaluation mode: batch normalization with its running
statistics, dropout off, so that no example's gradient depends on the others.

Row i·k + c of a Jacobian J is ∂f_c(xᵢ)/∂w; columns run over ``model.named_parameters()`` in order. The tangent kernel
is Θ = JJᵀ. ``per_layer`` keeps a random subset of coordinates of each parameter tensor, at most that many of each,
times √(p/s) for s kept of p: their kernel is an unbiased estimate of Θ, and the squared norm of ``Jᵀα`` one of the
whole (Harutyunyan et al. 2021, section 5: 2,000 a layer). The whole kernel is often as cheap.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call, grad, jacrev, vmap

from lib.costs import free_bytes
from lib.networks.stacked import loss_gradient
from lib.numerics.objective import WORKING, Objective, flat, output_count

NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)
MOST = 64  # examples that torch.func takes at once


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
        if not (own := {key for key, _ in module.named_parameters(recurse=False)}):
            continue
        if not own <= {"weight", "bias"}:  # pruned or normed: its weight is made of others
            fits = False
        elif type(module) is nn.Conv2d:
            fits = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        elif isinstance(module, NORMALIZATIONS):
            fits = module.track_running_stats
        else:
            fits = type(module) is nn.Linear
        if not fits:
            known = "Linear, Conv2d (one group, numeric zero padding) and BatchNorm with running statistics"
            raise ValueError(f"model may have parameters in {known}; {name or 'model'} is {module}")
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
        back = lambda direction: torch.autograd.grad(logits, edges, direction.contiguous(), retain_graph=True)  # noqa: B023
        passes = [back(direction) for direction in directions.unbind(1)]
        for i, call in enumerate(group):
            yield _signal(call, torch.stack([each[i] for each in passes], 1))


def every_output(f: Tensor) -> Tensor:
    """The cotangents of every logit on its own, ``(n, k, k)``."""
    return torch.eye(f.shape[1], dtype=f.dtype, device=f.device).expand(len(f), -1, -1)


def layer_order(model: nn.Module, state: dict, x: Tensor) -> list[str]:
    """Names of the layers in the order of their :func:`signals`; ValueError for a layer of another kind."""
    _, calls = _run(model, state, x[:1])
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(call.module)] for call in reversed(calls)]


def written(signal: Signal) -> Tensor:
    """G of every example and output, ``(n, c, q)``, the weight row by row, then the bias: T·d·p multiplications."""
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
    of_weight = (delta.mT.flatten(1, 2) @ a).square().sum(2).view(*delta.shape[:2], p).sum(2)
    return of_weight + delta.sum(2).square().sum(2) if bias else of_weight


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


def gradient_rows(objective: Objective, x: Tensor, y: Tensor | None = None) -> Iterator[Tensor]:
    """``∇ℓᵢ`` for a few examples at a time, ``(b, p)``; without y ``∇f_c(xᵢ)``, ``(b·k, p)``, output by output.

    x ``(n, …)`` and y ``(n, k)`` are as from ``objective.place``. Cost: a backward pass an example (and output).
    """
    yield from _rows(objective, x, y, 1 if y is not None else objective.y.shape[1])


def curvature_rows(objective: Objective) -> Iterator[Tensor]:
    """Rows R of ``(1/n) RᵀR = (1/n) Σ Jᵀ (∇²_f ℓ) J``, the Gauss–Newton matrix without penalty: k of each example."""
    yield from _rows(objective, objective.x, None, objective.y.shape[1], curvature=True)


def _rows(objective: Objective, x: Tensor, y: Tensor | None, outputs: int, *, curvature=False) -> Iterator[Tensor]:
    room = max(1, WORKING // (outputs * objective.p * x.element_size()))
    order = _order(objective)
    for rows, labels in _row_pieces(objective, x, y, outputs, room):
        if order is None:
            yield _by_torch(objective, rows, labels, curvature=curvature)
        else:
            parts = dict(zip(order, _signals(objective, rows, labels, curvature=curvature), strict=True))
            in_place = [name for name, _ in objective.model.named_modules() if name in parts]
            yield torch.cat([written(parts[name]).flatten(0, 1) for name in in_place], 1)


def along(objective: Objective, x: Tensor, y: Tensor | None, directions: Tensor) -> Tensor:
    """``∇ℓᵢ · d_j``, or ``∇f_c(xᵢ) · d_j`` without y: ``(rows, m)`` for directions ``(m, p)``.

    Cost: a backward pass an example (and output), and p multiplications for each entry; no more than one layer's
    gradients are ever written.
    """
    order = _order(objective)
    if order is None:
        return torch.cat([rows @ directions.T for rows in gradient_rows(objective, x, y)])
    layers = [(name, module) for name, module in objective.model.named_modules() if name in order]
    sizes = [sum(w.numel() for w in module.parameters(recurse=False)) for _, module in layers]
    per_layer = {name: part for (name, _), part in zip(layers, directions.split(sizes, 1), strict=True)}
    outputs = 1 if y is not None else objective.y.shape[1]
    room = max(1, WORKING // (outputs * max(sizes) * x.element_size()))
    blocks = []
    for rows, labels in _row_pieces(objective, x, y, outputs, room):
        parts = zip(order, _signals(objective, rows, labels), strict=True)
        blocks.append(sum(_inner(signal, per_layer[name]) for name, signal in parts))
    return torch.cat(blocks)


def layer_pieces(objective: Objective) -> Iterator[tuple[str, Signal]]:
    """Each layer's factors of the :func:`curvature_rows`; ValueError for layers but Linear, Conv2d and BatchNorm."""
    order = layer_order(objective.model, {**objective.weights, **objective.buffers}, objective.x)
    outputs = objective.y.shape[1]
    for rows, _ in _row_pieces(objective, objective.x, None, outputs, objective.n, copies=2):
        yield from zip(order, _signals(objective, rows, None, curvature=True), strict=True)


def curvature_root(f: Tensor, loss: str) -> Tensor:
    """``(b, k, k)`` with RᵀR = ∇²_f ℓ: the identity for ``mse``, ``diag(√s) − √s sᵀ`` of the softmax s else."""
    if loss == "mse":
        return every_output(f)
    s = f.softmax(1)
    return torch.diag_embed(s.sqrt()) - s.sqrt()[:, :, None] * s[:, None]


def mean_square_norm(objective: Objective) -> float:
    """Mean of ‖∇ℓᵢ‖² over the training examples."""
    if _order(objective) is None:
        return sum(float(r.square().sum()) for r in gradient_rows(objective, objective.x, objective.y)) / objective.n
    total = 0.0
    for rows, labels in _row_pieces(objective, objective.x, objective.y, 1, objective.n):
        total += sum(float(squared_norms(signal).sum()) for signal in _signals(objective, rows, labels))
    return total / objective.n


def _order(o: Objective) -> list[str] | None:
    """:func:`layer_order`, or None where some layer has no factors."""
    try:
        return layer_order(o.model, {**o.weights, **o.buffers}, o.x)
    except ValueError:
        return None


def _row_pieces(o: Objective, x: Tensor, y: Tensor | None, outputs: int, room: int, copies: int = 4) -> Iterator[tuple]:
    """Examples whose activations, ``copies`` of them for each output, fit into ``WORKING``."""
    size = max(1, min(len(x), room, WORKING // (copies * outputs * o.activation_bytes)))
    yield from zip(x.split(size), [None] * len(x) if y is None else y.split(size), strict=y is not None)


def _signals(o: Objective, x: Tensor, y: Tensor | None, *, curvature=False) -> Iterator[Signal]:
    def cotangent(f):
        if curvature:
            return curvature_root(f, o.loss)
        if y is not None:
            return loss_gradient(f, y, o.loss)[:, None]
        return every_output(f)

    with torch.no_grad():
        yield from signals(o.model, {**o.weights, **o.buffers}, x, cotangent)


def _inner(signal: Signal, directions: Tensor) -> Tensor:
    """``(b·c, m)``: inner products with the directions ``(m, q)`` of one layer."""
    a, delta = signal.inputs, signal.deltas
    if a is not None and a.shape[1] == 1 and len(directions) < a.shape[2]:  # dense: without writing the gradients
        (b, _, d), (_, c, _, p), m = a.shape, delta.shape, len(directions)
        onto = (a[:, 0] @ directions[:, : p * d].reshape(m * p, d).T).view(b, m, p)
        if signal.bias:
            onto += directions[:, p * d :]
        return (delta[:, :, 0] @ onto.mT).view(b * c, m)
    return written(signal).flatten(0, 1) @ directions.T


def _by_torch(o: Objective, x: Tensor, y: Tensor | None, *, curvature=False) -> Tensor:
    with torch.no_grad():
        if y is not None:
            one = vmap(grad(lambda w, a, b: o.total(w, a[None], b[None])), (None, 0, 0))
            return flat(one(o.weights, x, y))
        found = vmap(jacrev(lambda w, a: o.outputs(w, a[None])[0]), (None, 0))(o.weights, x)
        rows = flat({name: value.flatten(0, 1) for name, value in found.items()})
        if not curvature:
            return rows
        root = curvature_root(o.outputs(o.weights, x), o.loss)
        return (root @ rows.view(*root.shape[:2], -1)).flatten(0, 1)


def coordinates(model: nn.Module, per_layer: int | None, *, seed: int = 0) -> dict[str, Tensor | None]:
    """Which coordinates of each (flattened) parameter tensor are kept: ascending indices, or None for all of them.

    The choice for a tensor depends on ``seed``, its place and its size alone. ValueError if ``per_layer`` is below 1.

    Example:
        >>> {name: None if kept is None else len(kept) for name, kept in coordinates(nn.Linear(9, 2), 5).items()}
        {'weight': 5, 'bias': None}
    """
    if per_layer is not None and per_layer < 1:
        raise ValueError(f"per_layer must be at least 1, or None for all coordinates, got {per_layer}")
    kept = {}
    for place, (name, p) in enumerate(model.named_parameters()):
        some = per_layer is not None and per_layer < p.numel()
        draw = np.random.default_rng([seed, place]).choice(p.numel(), per_layer, replace=False) if some else None
        kept[name] = torch.from_numpy(np.sort(draw)).to(p.device) if some else None
    return kept


def jacobians(model: nn.Module, x: Tensor, *, per_layer: int | None = None, seed: int = 0) -> Tensor:
    """``J (n·k, p)``, the derivatives of all outputs on x; p counts all parameters, or the coordinates kept.

    Args:
        model: any module that maps ``(n, …)`` to ``(n, k)``; x and the result are in its type and on its device.
        per_layer: coordinates to keep of each parameter tensor; None = all. ``seed`` draws them.

    Raises:
        ValueError: for outputs that are not ``(n, k)``, or ``per_layer`` below 1.
        MemoryError: before anything is computed, where the result would not fit into what is free.

    Cost: k backward passes an example; 256 MB (or one example's gradients) besides the result.

    Example:
        >>> jacobians(nn.Linear(2, 1), torch.tensor([[3.0, 4.0]]))  # f(x) = w·x + b
        tensor([[3., 4., 1.]])
    """
    keep, outputs, like = coordinates(model, per_layer, seed=seed), output_count(model, x), next(model.parameters())
    width = sum(p.numel() if keep[name] is None else len(keep[name]) for name, p in model.named_parameters())
    needed, free = len(x) * outputs * width * like.element_size(), free_bytes(like.device)
    if needed > free:
        raise MemoryError(f"the Jacobian needs {needed / 1e9:.1f} GB, where {free / 1e9:.1f} GB are free: per_layer?")
    model = copy.deepcopy(model).eval()
    state, buffers = {name: p.detach() for name, p in model.named_parameters()}, dict(model.named_buffers())
    each = vmap(jacrev(lambda w, row: functional_call(model, {**w, **buffers}, (row[None],))[0]), (None, 0))
    size = WORKING // (like.element_size() * outputs * sum(p.numel() for p in state.values()))
    j, start_row = like.new_empty(len(x) * outputs, width), 0
    with torch.no_grad():
        for rows in x.split(min(MOST, max(1, size))):
            parts = [value.reshape(len(rows) * outputs, -1) for value in each(state, rows.to(like)).values()]
            for place, kept in enumerate(keep.values()):
                if kept is not None:
                    parts[place] = parts[place][:, kept].mul_((parts[place].shape[1] / len(kept)) ** 0.5)
            torch.cat(parts, 1, out=j[start_row : start_row + len(rows) * outputs])
            start_row += len(rows) * outputs
    return j


def ntk(model: nn.Module, x: Tensor, other: Tensor | None = None, *, memory: int | None = None) -> Tensor:
    """Neural tangent kernel ``Θ(x, x) (n·k, n·k)``, or ``Θ(other, x) (m·k, n·k)``, exact, without a Jacobian.

    Args:
        model: with parameters in linear, convolutional and batch-normalization layers.
        x: examples ``(n, …)``. other: those of the rows of a cross-kernel, as ``leave_one_out`` wants it.
        memory: bytes that may be taken besides the kernel, a quarter of what is free by default. Where it does not
            hold the factors of all examples, they are computed again for each pair of blocks.

    Raises: ValueError for other layers, or outputs that are not ``(n, k)``.

    Cost: k backward passes an example (times (b + 1)/2 with b blocks) and :func:`products`: for dense layers of widths
    d_l together n²Σ(k²d_l + d_{l−1}) multiplications.

    Example:
        >>> ntk(nn.Linear(2, 1), torch.tensor([[3.0, 4.0], [1.0, 0.0]]))  # x·x′ + 1
        tensor([[26.,  4.],
                [ 4.,  2.]])
    """
    outputs, like = output_count(model, x), next(model.parameters())
    net, state = copy.deepcopy(model).eval(), {name: value.detach() for name, value in model.state_dict().items()}
    rows = x if other is None else other
    x, rows = x.to(like), rows.to(like)
    memory = free_bytes(like.device) // 4 if memory is None else memory
    block = max(1, rows_at_once(net, state, x) * memory // (2 * outputs * WORKING))
    kernel = like.new_zeros(len(rows) * outputs, len(x) * outputs).detach()
    with torch.no_grad():
        for a in range(0, len(rows), block):
            for b in range(0, len(x) if other is not None else a + 1, block):
                down, across = slice(a * outputs, (a + block) * outputs), slice(b * outputs, (b + block) * outputs)
                same = other is None and a == b
                others = signals(net, state, x[b : b + block], every_output)
                for part in signals(net, state, rows[a : a + block], every_output):
                    pair = part if same else next(others)  # both stand still at the same layer
                    kernel[down, across] += products(part, pair).flatten(2).flatten(0, 1)
                if other is None and not same:
                    kernel[across, down] = kernel[down, across].T
    return kernel if other is not None else (kernel + kernel.T).div_(2)
