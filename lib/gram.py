"""The Gram matrix of an infinitely wide two-layer ReLU network (Arora et al. 2019; Ki et al. 2023, eq. 1).

Everything here is float64: where two rows are close, arccos loses half of the digits of their cosine, and in float32
near-duplicates would come out as duplicates. Forming H is O(n²d), small beside the O(n³) of what is done with it.
"""

import math

import torch
from torch import Tensor

F64 = torch.float64


def relu_gram(x) -> Tensor:
    """``H∞ᵢⱼ = xᵢᵀxⱼ (π − arccos xᵢᵀxⱼ) / 2π`` (eq. 1) of the rows of x ``(n, …)``, made unit length; ``(n, n)``.

    Computed in float64; returned in float64 where x is, else in float32. The diagonal is ½. Cost: 2n²d operations.

    Raises:
        ValueError: as ``unit_rows``.

    Example:
        >>> relu_gram(torch.tensor([[3.0, 0.0], [0.0, 5.0]]))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    x = torch.as_tensor(x)
    return gram_block(unit_rows(x)).to(F64 if x.dtype == F64 else torch.float32)


def relu_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Eq. 1 between unit rows a ``(…, m, d)`` and b ``(…, m', d)``; rounding may carry a cosine past 1: clamped."""
    cosine = a @ b.mT
    for rows in cosine.split(256, dim=-2):  # small enough to stay in cache
        angle = torch.acos(rows.clamp_(-1, 1))
        rows.mul_(angle.neg_().add_(math.pi)).div_(2 * math.pi)
    return cosine


def gram_block(unit: Tensor, rows: slice = slice(None), columns: slice = slice(None), jitter: float = 0.0) -> Tensor:
    """``H[rows, columns] + jitter·I`` of unit rows, whose diagonal is exactly ½ + jitter."""
    tile = relu_kernel(unit[rows], unit[columns])
    tile.diagonal((rows.start or 0) - (columns.start or 0)).fill_(0.5 + jitter)
    return tile


def unit_rows(x: Tensor, device=None) -> Tensor:
    """Rows of x ``(n, …)``, floating or uint8, flattened and scaled to unit length: ``(n, d)`` float64 on ``device``.

    Raises:
        ValueError: if x has another type or shape, or a row is zero or not finite (named).
    """
    if x.ndim < 2 or not len(x):
        raise ValueError(f"x must be (n, …) with at least one row and two axes, got {tuple(x.shape)}")
    if not (x.is_floating_point() or x.dtype == torch.uint8):
        raise ValueError(f"x must be floating or uint8, got {x.dtype}")
    unit = x.flatten(1).to(device=device, dtype=F64, copy=True)
    norm = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    for bad, what in ((~norm.isfinite(), "hold NaN or infinity"), (norm == 0, "are all zero, so have no direction")):
        if bad.any():
            rows = bad[:, 0].nonzero()[:, 0].tolist()
            raise ValueError(f"x: rows {_listed(rows)} {what}; drop them")
    return unit.div_(norm)


def refuse_twins(unit: Tensor, tolerance: float) -> None:
    """ValueError naming rows of ``unit (n, d)`` that are closer than ``tolerance``: with two equal rows H is singular.

    Sorts the rows along one random direction and compares neighbours there, so costs O(nd + n log n) and no n².
    """
    directions = torch.randn(unit.shape[1], 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    shadow = unit @ torch.nn.functional.normalize(directions, dim=0).to(unit.device)  # (n, 4): closer than the rows are
    shadow, order = shadow[(order := shadow[:, 0].argsort())], order
    for shift in range(1, len(unit)):
        gap = (shadow[shift:] - shadow[:-shift]).abs()
        if not (gap[:, 0] < tolerance).any():
            return
        near = (gap < tolerance).all(1).nonzero()[:, 0]
        a, b = order[near], order[near + shift]
        twins = (unit[a] - unit[b]).norm(dim=1) < tolerance
        if twins.any():
            pairs = sorted(sorted(pair) for pair in zip(a[twins].tolist(), b[twins].tolist(), strict=True))
            raise ValueError(
                f"x: rows {_listed([' and '.join(map(str, pair)) for pair in pairs])} are equal up to scale, which "
                "makes H singular; drop one of each, or give jitter, such as 1e-6"
            )


def _listed(rows: list, most: int = 5) -> str:
    return ", ".join(map(str, rows[:most])) + (f" … ({len(rows)} in all)" if len(rows) > most else "")
