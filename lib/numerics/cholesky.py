"""Cholesky factor of a symmetric positive definite matrix in row panels: half the memory, products at full speed.

Row panel i holds rows ``lo:hi`` of the lower triangle as one matrix ``(hi − lo, hi)``: n rows take about ``n²/2``
numbers. Each tile is written by one product with everything to its left, where a processor multiplies fastest.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import solve_triangular

Tick = Callable[[float], object]  # told the operations done since the last call


class NotPositiveDefinite(ValueError):
    """The matrix has no Cholesky factor in the precision it is held in."""


def bounds(panel: Tensor) -> tuple[int, int]:
    """First row of a panel and the first row after it."""
    return panel.shape[1] - panel.shape[0], panel.shape[1]


def edges(n: int, block: int, cut: int = 0) -> list[int]:
    """Where panels of about ``block`` rows start, and n; ``cut`` is among them. Sizes are even, multiples of 16."""
    starts = []
    for lo, hi in ((0, cut), (cut, n)):
        count = -(-(hi - lo) // block)
        starts += range(lo, hi, -(-(hi - lo) // (16 * count)) * 16) if count else []
    return [*starts, n]


def refuse_singular(chol: Tensor, info: Tensor, rows: Tensor) -> None:
    """NotPositiveDefinite if a factor ``(…, m, m)`` failed or a squared pivot is all rounding; names its row."""
    bad = ~(chol.diagonal(dim1=-2, dim2=-1).square() > 16 * torch.finfo(chol.dtype).eps)
    bad |= torch.arange(1, chol.shape[-1] + 1, device=chol.device) == info[..., None]
    if bad.any():
        why = f"the rows before row {int(rows[bad][0])} nearly determine it; drop it, or give jitter, such as 1e-6"
        raise NotPositiveDefinite(f"the Gram matrix is not positive definite in {chol.dtype}: {why}")


def factorize(
    fill: Callable, starts: list[int], *, dtype, device, tick: Tick = lambda done: None, names: Tensor | None = None
) -> list[Tensor]:
    """Row panels of L with ``L Lᵀ = H``.

    Args:
        fill: ``fill(lo, hi, out)`` writes ``H[lo:hi, :hi]`` into ``out``; called once a panel, in order.
        starts: where panels start, ending in n: see ``edges``. dtype, device: of the panels.
        tick: called after each panel with its share of the n³/3 operations. names: of the rows in an error.

    Raises: NotPositiveDefinite in this precision; names the row where that shows.
    """
    panels = []
    for lo, hi in itertools.pairwise(starts):
        panel = torch.empty(hi - lo, hi, dtype=dtype, device=device)
        fill(lo, hi, panel)
        for left in panels:
            a, b = bounds(left)
            tile = panel[:, a:b]
            tile.addmm_(panel[:, :a], left[:, :a].T, alpha=-1)
            tile.copy_(solve_triangular(left[:, a:b].T, tile, upper=True, left=False))
        corner = panel[:, lo:]
        subtract_square(corner, panel[:, :lo])
        chol, info = torch.linalg.cholesky_ex(corner)
        refuse_singular(chol, info, torch.arange(lo, hi, device=device) if names is None else names[lo:hi])
        corner.copy_(chol)
        panels.append(panel)
        tick((hi**3 - lo**3) / 3)
    return panels


def subtract_square(corner: Tensor, a: Tensor, leaf: int = 400) -> None:
    """``corner −= a aᵀ`` in place on its lower triangle, skipping most of the upper one."""
    m = len(a)
    if m <= leaf:
        corner.addmm_(a, a.T, alpha=-1)
        return
    h = m // 2
    subtract_square(corner[:h, :h], a[:h], leaf)
    corner[h:, :h].addmm_(a[h:], a[:h].T, alpha=-1)
    subtract_square(corner[h:, h:], a[h:], leaf)


def solve(panels: list[Tensor], b: Tensor) -> Tensor:
    """``H⁻¹ b`` for ``b (n, m)``: one forward and one backward substitution, 2n²m operations each."""
    z = b.clone()
    for panel in panels:
        lo, hi = bounds(panel)
        z[lo:hi] -= panel[:, :lo] @ z[:lo]
        z[lo:hi] = solve_triangular(panel[:, lo:], z[lo:hi], upper=False)
    for panel in reversed(panels):
        lo, hi = bounds(panel)
        z[lo:hi] = solve_triangular(panel[:, lo:].T, z[lo:hi], upper=True)
        z[:lo] -= panel[:, :lo].T @ z[lo:hi]
    return z


def inverse_diagonal(panels: list[Tensor], start: int = 0, tick: Tick = lambda done: None) -> Tensor:
    """Diagonal of ``H⁻¹`` from row ``start`` (an edge) on: squared column sums of L⁻¹, a block of columns at a time.

    L⁻¹ is never stored: beside the panels ``(n − start) × block`` numbers are needed. Operations: ``(n − start)³/3``.
    """
    n = panels[-1].shape[1]
    panels = [panel for panel in panels if bounds(panel)[0] >= start]
    diagonal = torch.zeros(n - start, dtype=torch.float64, device=panels[0].device)
    for j, first in enumerate(panels):
        lo, hi = bounds(first)
        column = first.new_empty(n - lo, hi - lo)  # L⁻¹[lo:, lo:hi]
        for panel in panels[j:]:
            a, b = bounds(panel)
            tile = column[a - lo : b - lo]
            if a == lo:
                tile.copy_(torch.eye(b - a, dtype=tile.dtype, device=tile.device))
            else:
                torch.addmm(tile, panel[:, lo:a], column[: a - lo], beta=0, alpha=-1, out=tile)
            tile.copy_(solve_triangular(panel[:, a:b], tile, upper=False))
            diagonal[lo - start : hi - start] += tile.square().sum(0, dtype=torch.float64)
        tick(((n - lo) ** 3 - (n - hi) ** 3) / 3)
    return diagonal
