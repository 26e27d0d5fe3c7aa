"""Per-example, per-output Jacobians of a network at its present weights, and its neural tangent kernel Θ = JJᵀ.

Rows run example by example and, within one, output by output: row i·k + c is ∂f_c(xᵢ)/∂w. Columns run over
``model.named_parameters()`` in order. The model is taken as it is, in evaluation mode (batch-norm uses its running
statistics, dropout is off), so that one example's outputs do not depend on the others.

``per_layer`` keeps a random subset of coordinates of each parameter tensor, at most that many of each, times √(p/s)
for s kept of p: the kernel of the subset is then an unbiased estimate of Θ, and the squared norm of ``Jᵀα`` one of
the whole (Harutyunyan et al. 2021, section 5: 2,000 a layer). The whole kernel is often as cheap: ``ntk`` takes it
from the factors of the gradients (``lib.gradients``) and forms no Jacobian.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from lib import gradients
from lib.costs import free_bytes

AT_ONCE = 2**28  # bytes of whole gradients that exist at once before they are cut down or used
MOST = 64  # examples that torch.func takes at once


def coordinates(model: nn.Module, per_layer: int | None, *, seed: int = 0) -> dict[str, Tensor | None]:
    """Which coordinates of each (flattened) parameter tensor are kept: ascending indices, or None for all of them.

    The choice for a tensor depends on ``seed``, its place and its size alone.

    Raises:
        ValueError: if ``per_layer`` is below 1.

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
        model: any module that maps ``(n, …)`` to ``(n, k)``.
        x: examples ``(n, …)``; cast to the model's type and device.
        per_layer: coordinates to keep of each parameter tensor; None = all. ``seed`` draws them.

    Returns:
        In the model's type and on its device.

    Raises:
        ValueError: for outputs that are not ``(n, k)``, or ``per_layer`` below 1.
        MemoryError: before anything is computed, where the result would not fit into what is free.

    Cost: k backward passes an example; 256 MB (or one example's gradients) besides the result.

    Example:
        >>> jacobians(nn.Linear(2, 1), torch.tensor([[3.0, 4.0]]))  # f(x) = w·x + b
        tensor([[3., 4., 1.]])
    """
    keep, outputs, like = coordinates(model, per_layer, seed=seed), _outputs(model, x), next(model.parameters())
    width = sum(p.numel() if keep[name] is None else len(keep[name]) for name, p in model.named_parameters())
    needed, free = len(x) * outputs * width * like.element_size(), free_bytes(like.device)
    if needed > free:
        raise MemoryError(f"the Jacobian needs {needed / 1e9:.1f} GB, where {free / 1e9:.1f} GB are free: per_layer?")
    j, done = like.new_empty(len(x) * outputs, width), 0
    with torch.no_grad():
        for piece in _pieces(model, x, keep, outputs):
            j[done : done + len(piece)] = piece
            done += len(piece)
    return j


def ntk(model: nn.Module, x: Tensor, other: Tensor | None = None, *, memory: int | None = None) -> Tensor:
    """Neural tangent kernel ``Θ(x, x) (n·k, n·k)``, or ``Θ(other, x) (m·k, n·k)``: inner products of Jacobian rows.

    Exact, from all parameters, and without a Jacobian. From a subset of the coordinates it is ``j @ j.T`` with
    ``j = jacobians(model, x, per_layer=2000)``.

    Args:
        model: with parameters in linear, convolutional and batch-normalization layers.
        x: examples ``(n, …)``. other: those of the rows of a cross-kernel, as ``leave_one_out`` wants it.
        memory: bytes that may be taken besides the kernel, a quarter of what is free by default. Where it does not
            hold the factors of all examples, they are computed again for each pair of blocks.

    Returns:
        In the model's type; symmetric without ``other``.

    Raises:
        ValueError: for other layers, or outputs that are not ``(n, k)``.

    Cost: k backward passes an example (times (b + 1)/2 with b blocks); products as in ``lib.gradients.products``, for
    dense layers of widths d_l together n²Σ(k²d_l + d_{l−1}) multiplications.

    Example:
        >>> ntk(nn.Linear(2, 1), torch.tensor([[3.0, 4.0], [1.0, 0.0]]))  # x·x′ + 1
        tensor([[26.,  4.],
                [ 4.,  2.]])
    """
    outputs, like = _outputs(model, x), next(model.parameters())
    net, state = copy.deepcopy(model).eval(), {name: value.detach() for name, value in model.state_dict().items()}
    rows = x if other is None else other
    x, rows = x.to(like), rows.to(like)
    memory = free_bytes(like.device) // 4 if memory is None else memory
    block = max(1, gradients.rows_at_once(net, state, x) * memory // (2 * outputs * gradients.WORKING))
    kernel = like.new_zeros(len(rows) * outputs, len(x) * outputs).detach()
    with torch.no_grad():
        for a in range(0, len(rows), block):
            for b in range(0, len(x) if other is not None else a + 1, block):
                down, across = slice(a * outputs, (a + block) * outputs), slice(b * outputs, (b + block) * outputs)
                same = other is None and a == b
                for part, pair in _paired(net, state, rows[a : a + block], None if same else x[b : b + block]):
                    kernel[down, across] += gradients.products(part, pair).flatten(2).flatten(0, 1)
                if other is None and not same:
                    kernel[across, down] = kernel[down, across].T
    return kernel if other is not None else (kernel + kernel.T).div_(2)


def weight_changes(
    model: nn.Module, x: Tensor, coefficients: Tensor, *, per_layer: int | None = None, seed: int = 0
) -> Tensor:
    """``w − w₀ = Jᵀα`` from the coefficients of ``lib.linearized``, without ever holding J.

    Args:
        coefficients: α, ``(n, k)``, or the columns ``(n·k, c)`` of ``lib.leave_one_out``.
        per_layer, seed: as in ``jacobians``, for that projection of the weights.

    Returns:
        ``(p,)``, or ``(c, p)``, in the model's type.

    Raises:
        ValueError: for coefficients of another shape.

    Cost: k backward passes an example and 2nkp operations a column.

    Example:
        >>> weight_changes(nn.Linear(2, 1), torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]]))
        tensor([6., 8., 2.])
    """
    outputs, keep = _outputs(model, x), coordinates(model, per_layer, seed=seed)
    single = tuple(coefficients.shape) == (len(x), outputs)
    if not single and (coefficients.ndim != 2 or len(coefficients) != len(x) * outputs):
        raise ValueError(
            f"coefficients must be (n, k) = {(len(x), outputs)} or (n·k, c), got {tuple(coefficients.shape)}"
        )
    columns = coefficients.reshape(len(x) * outputs, -1)
    done, total = 0, None
    with torch.no_grad():
        for piece in _pieces(model, x, keep, outputs):
            left = columns[done : done + len(piece)].T.to(piece)
            total = left @ piece if total is None else total.addmm_(left, piece)
            done += len(piece)
    return total[0] if single else total


def _outputs(model: nn.Module, x: Tensor) -> int:
    """k, or ValueError."""
    with torch.no_grad():
        shape = tuple(copy.deepcopy(model).eval()(x[:1].to(next(model.parameters()))).shape)
    if len(shape) != 2 or shape[0] != 1:
        raise ValueError(f"model must map (n, …) to (n, k), got outputs {shape} for one example")
    return shape[1]


def _paired(net, state, x: Tensor, other: Tensor | None) -> Iterator[tuple]:
    """The gradients' factors of two sets of examples layer by layer; of one, with itself, for ``other=None``."""

    def every_output(logits):
        n, k = logits.shape
        return torch.eye(k, dtype=logits.dtype, device=logits.device).expand(n, k, k)

    first = gradients.signals(net, state, x, every_output)
    if other is None:
        yield from ((part, part) for part in first)
    else:  # both stand still at the same layer
        yield from zip(first, gradients.signals(net, state, other, every_output), strict=True)


def _pieces(model: nn.Module, x: Tensor, keep: dict[str, Tensor | None], outputs: int) -> Iterator[Tensor]:
    """Rows of J for a few examples at a time."""
    model = copy.deepcopy(model).eval()
    state = {name: p.detach() for name, p in model.named_parameters()}
    buffers, like = dict(model.named_buffers()), next(iter(state.values()))
    each = vmap(jacrev(lambda own, row: functional_call(model, {**own, **buffers}, (row[None],))[0]), (None, 0))
    whole = like.element_size() * outputs * sum(p.numel() for p in state.values())
    for part in x.split(min(MOST, max(1, AT_ONCE // whole))):
        found = each(state, part.to(like))
        yield torch.cat([_cut(found[name].reshape(len(part) * outputs, -1), keep[name]) for name in state], 1)


def _cut(gradient: Tensor, kept: Tensor | None) -> Tensor:
    """Columns ``kept`` of ``(rows, p)``, times √(p/s) for s of them."""
    return gradient if kept is None else gradient[:, kept].mul_((gradient.shape[1] / len(kept)) ** 0.5)
