"""Gradients of each example's loss, or of each of its outputs, a few examples at a time: never all of them at once.

From the layers' factors (``lib.gradients``) where all layers are of a kind that has them, by torch.func elsewhere.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap

from lib import gradients
from lib.batched import loss_gradient
from lib.objective import WORKING, Objective, flat

ROWS_BYTES = 2**28  # of written-out gradients that exist at once


def gradient_rows(objective: Objective, x: Tensor, y: Tensor | None = None) -> Iterator[Tensor]:
    """``∇ℓᵢ`` for a few examples at a time, ``(b, p)``; without y ``∇f_c(xᵢ)``, ``(b·k, p)``, output by output.

    Args:
        x: ``(n, …)``. y: ``(n, k)``; both as from ``objective.place``.

    Cost: a backward pass an example (and output).
    """
    yield from _rows(objective, x, y, 1 if y is not None else objective.y.shape[1])


def curvature_rows(objective: Objective) -> Iterator[Tensor]:
    """Rows R of ``(1/n) RᵀR = (1/n) Σ Jᵀ (∇²_f ℓ) J``, the Gauss–Newton matrix without penalty: k of each example.

    Cost: k backward passes an example.
    """
    yield from _rows(objective, objective.x, None, objective.y.shape[1], curvature=True)


def _rows(objective: Objective, x: Tensor, y: Tensor | None, outputs: int, *, curvature=False) -> Iterator[Tensor]:
    room = max(1, ROWS_BYTES // (outputs * objective.p * x.element_size()))
    order = _order(objective)
    for some, label in _pieces(objective, x, y, outputs, room):
        if order is None:
            yield _by_torch(objective, some, label, curvature=curvature)
        else:
            parts = dict(zip(order, _signals(objective, some, label, curvature=curvature), strict=True))
            yield torch.cat([gradients.written(parts[name]).flatten(0, 1) for name in _in_place(objective, order)], 1)


def along(objective: Objective, x: Tensor, y: Tensor | None, directions: Tensor) -> Tensor:
    """``∇ℓᵢ · d_j``, or ``∇f_c(xᵢ) · d_j`` without y: ``(rows, m)`` for directions ``(m, p)``.

    Cost: a backward pass an example (and output), and p multiplications for each entry; no more than one layer's
    gradients are ever written.
    """
    order = _order(objective)
    if order is None:
        return torch.cat([rows @ directions.T for rows in gradient_rows(objective, x, y)])
    sizes = {name: sum(w.numel() for w in _module(objective, name).parameters(recurse=False)) for name in order}
    names = _in_place(objective, order)
    per_layer = dict(zip(names, directions.split([sizes[name] for name in names], 1), strict=True))
    outputs = 1 if y is not None else objective.y.shape[1]
    room = max(1, ROWS_BYTES // (outputs * max(sizes.values()) * x.element_size()))
    found = []
    for some, label in _pieces(objective, x, y, outputs, room):
        parts = zip(order, _signals(objective, some, label), strict=True)
        found.append(sum(_inner(signal, per_layer[name]) for name, signal in parts))
    return torch.cat(found)


def layer_pieces(objective: Objective) -> Iterator[tuple[str, gradients.Signal]]:
    """Each layer's factors of the gradients that make up the Gauss–Newton matrix (:func:`curvature_rows`).

    Raises:
        ValueError: for layers other than Linear, Conv2d and BatchNorm.
    """
    order = gradients.layer_order(objective.model, {**objective.weights, **objective.buffers}, objective.x)
    for some, label in _pieces(objective, objective.x, objective.y, objective.y.shape[1], objective.n, copies=2):
        yield from zip(order, _signals(objective, some, label, curvature=True), strict=True)


def curvature_root(f: Tensor, loss: str) -> Tensor:
    """``(b, k, k)`` with RᵀR = ∇²_f ℓ: the identity for ``mse``, ``diag(√s) − √s sᵀ`` of the softmax s else."""
    if loss == "mse":
        return torch.eye(f.shape[1], dtype=f.dtype, device=f.device).expand(len(f), -1, -1)
    s = f.softmax(1)
    return torch.diag_embed(s.sqrt()) - s.sqrt()[:, :, None] * s[:, None]


def mean_square_norm(objective: Objective) -> float:
    """Mean of ‖∇ℓᵢ‖² over the training examples."""
    total = 0.0
    if _order(objective) is None:
        total = sum(float(rows.square().sum()) for rows in gradient_rows(objective, objective.x, objective.y))
    else:
        for some, label in _pieces(objective, objective.x, objective.y, 1, objective.n):
            total += sum(float(gradients.squared_norms(s).sum()) for s in _signals(objective, some, label))
    return total / objective.n


def _order(o: Objective) -> list[str] | None:
    """Names of the layers in the order of their signals; None where some layer has no factors."""
    try:
        return gradients.layer_order(o.model, {**o.weights, **o.buffers}, o.x)
    except ValueError:
        return None


def _in_place(o: Objective, order: list[str]) -> list[str]:
    """The same in the order of the parameters."""
    return [name for name, _ in o.model.named_modules() if name in order]


def _module(o: Objective, name: str):
    return o.model.get_submodule(name)


def _pieces(o: Objective, x: Tensor, y: Tensor | None, outputs: int, room: int, copies: int = 4) -> Iterator[tuple]:
    """Examples whose activations, ``copies`` of them for each output, fit into ``WORKING``."""
    size = max(1, min(len(x), room, WORKING // (copies * outputs * o.activation_bytes)))
    yield from zip(x.split(size), [None] * len(x) if y is None else y.split(size), strict=y is not None)


def _signals(o: Objective, x: Tensor, y: Tensor | None, *, curvature=False) -> Iterator[gradients.Signal]:
    def cotangent(f):
        if curvature:
            return curvature_root(f, o.loss)
        if y is not None:
            return loss_gradient(f, y, o.loss)[:, None]
        return torch.eye(f.shape[1], dtype=f.dtype, device=f.device).expand(len(f), -1, -1)

    with torch.no_grad():
        yield from gradients.signals(o.model, {**o.weights, **o.buffers}, x, cotangent)


def _inner(signal: gradients.Signal, directions: Tensor) -> Tensor:
    """``(b·c, m)``: inner products with the directions ``(m, q)`` of one layer."""
    a, delta = signal.inputs, signal.deltas
    if a is not None and a.shape[1] == 1 and len(directions) < a.shape[2]:  # dense: without writing the gradients
        (b, _, d), (_, c, _, p), m = a.shape, delta.shape, len(directions)
        onto = (a[:, 0] @ directions[:, : p * d].reshape(m * p, d).T).view(b, m, p)
        if signal.bias:
            onto += directions[:, p * d :]
        return (delta[:, :, 0] @ onto.mT).view(b * c, m)
    return gradients.written(signal).flatten(0, 1) @ directions.T


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
