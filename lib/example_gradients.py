"""Gradients of each example's loss, or of its outputs, a few examples at a time: never all of them at once."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap

from lib.objective import WORKING, Objective, flat

ROWS_BYTES = 2**28  # of written-out gradients that exist at once


def gradient_rows(objective: Objective, x: Tensor, y: Tensor | None = None) -> Iterator[Tensor]:
    """``∇ℓᵢ`` for a few examples at a time, ``(b, p)``; without y ``∇f_c(xᵢ)``, ``(b·k, p)``, output by output.

    Args:
        x: ``(n, …)``. y: ``(n, k)``; both as from ``objective.place``.

    Cost: a backward pass an example (and output).
    """
    outputs = 1 if y is not None else objective.y.shape[1]
    each = outputs * objective.p * x.element_size()
    size = max(1, min(len(x), ROWS_BYTES // each, WORKING // (4 * outputs * objective.activation_bytes)))
    with torch.no_grad():
        if y is not None:
            one = vmap(grad(lambda w, a, b: objective.total(w, a[None], b[None])), (None, 0, 0))
            for some, label in zip(x.split(size), y.split(size), strict=True):
                yield flat(one(objective.weights, some, label))
        else:
            one = vmap(jacrev(lambda w, a: objective.outputs(w, a[None])[0]), (None, 0))
            for some in x.split(size):
                found = one(objective.weights, some)
                yield flat({name: value.flatten(0, 1) for name, value in found.items()})


def along(objective: Objective, x: Tensor, y: Tensor | None, directions: Tensor) -> Tensor:
    """``∇ℓᵢ · d_j``, or ``∇f_c(xᵢ) · d_j`` without y: ``(rows, m)`` for directions ``(m, p)``."""
    return torch.cat([rows @ directions.T for rows in gradient_rows(objective, x, y)])


def mean_square_norm(objective: Objective) -> float:
    """Mean of ‖∇ℓᵢ‖² over the training examples."""
    return sum(float(rows.square().sum()) for rows in gradient_rows(objective, objective.x, objective.y)) / objective.n
