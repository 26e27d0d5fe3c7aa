"""Exact CG-scores in three steps: factor H = LLᵀ, solve for v = H⁻¹y, take d = diag H⁻¹ from the columns of L⁻¹.

Memory is that of the factor's row panels, about n²/2 numbers; time is n³/3 operations for L and n³/3 for d. H is
formed panel by panel as the factor needs it, and a second time, in float64, to refine v where L is float32.
"""

import torch
from torch import Tensor

from lib import blocked_cholesky as blocked
from lib.gram import F64, gram_block, relu_kernel

PROBES = 16  # rows at which d is checked
SAMPLE = 256  # rows at which Hv = y is checked


def one_vs_rest(labellings: Tensor) -> tuple[Tensor, Tensor]:
    """Signs ``(n, columns)``, one column a class of each labelling, and each row's own column ``(r, n)``."""
    signs, own, columns = [], [], 0
    for labels in labellings:
        classes, column = labels.unique(return_inverse=True)
        signs.append(2.0 * torch.nn.functional.one_hot(column, len(classes)) - 1)
        own.append(column + columns)
        columns += len(classes)
    return torch.cat(signs, 1).to(F64), torch.stack(own)


def exact_operations(labellings: Tensor, d: int, dtype) -> dict[str, float]:
    """Floating-point operations by phase, from the formulas: what a block's shape adds is not counted."""
    n, columns = labellings.shape[1], PROBES + sum(len(labels.unique()) for labels in labellings)
    refined = dtype != F64
    solve = 2 * n**2 * columns + refined * (n**2 * d + 4 * n**2 * columns)
    return {"gram": n**2 * d, "factor": n**3 / 3, "solve": solve, "invert": n**3 / 3}


def exact(unit, labellings, *, dtype, jitter, block, phases) -> tuple[Tensor, Tensor, float, float]:
    """``v (r, n)`` and ``d (n,)`` in float64, where ``CG(i) = vᵢ²/dᵢ``, and two checks.

    A few unit vectors eᵢ are solved for together with the labels and refined with them, so they give some entries of
    d a second time, by another way.

    Args:
        unit: ``(n, d)`` float64 rows of unit length.
        labellings: ``(r, n)``.
        dtype, jitter, block: of the factor.
        phases: a ``lib.costs.Phases``; told gram, factor, solve, invert.

    Returns:
        v, d, the largest |Hv − y| over ``SAMPLE`` rows, and the largest relative error of d over ``PROBES`` rows.
    """
    n, width = unit.shape
    signs, own = (t.to(unit.device) for t in one_vs_rest(labellings))
    probes = torch.linspace(0, n - 1, min(n, PROBES), device=unit.device).long()
    sides = torch.cat([signs, (torch.arange(n, device=unit.device)[:, None] == probes).to(F64)], 1)

    def fill(lo, hi, out):
        with phases("gram"):
            for a in range(0, hi, block):
                b = min(a + block, hi)
                out[:, a:b] = gram_block(unit, slice(lo, hi), slice(a, b), jitter)
            phases.tick((hi**2 - lo**2) * width)

    with phases("factor"):
        panels = blocked.factorize(fill, blocked.edges(n, block), dtype=dtype, device=unit.device, tick=phases.tick)
    with phases("solve"):
        v = blocked.solve(panels, sides.to(dtype)).to(F64)
        if dtype != F64:
            v += blocked.solve(panels, _residual(unit, v, sides, jitter, block, phases.tick).to(dtype)).to(F64)
        rows = torch.linspace(0, n - 1, min(n, SAMPLE), device=unit.device).long()
        some = relu_kernel(unit[rows], unit)
        some[torch.arange(len(rows)), rows] = 0.5 + jitter
        residual = (some @ v - sides[rows]).abs().max().item()
    with phases("invert"):
        diagonal = blocked.inverse_diagonal(panels, tick=phases.tick)
        again = v[probes, signs.shape[1] + torch.arange(len(probes), device=unit.device)]
        error = (diagonal[probes] / again - 1).abs().max().item()
    return v.gather(1, own.T).T, diagonal, residual, error


def _residual(unit, v, signs, jitter, block, tick) -> Tensor:
    """``signs − Hv`` in float64, H formed again a tile at a time, each used for both triangles."""
    out = signs.clone()
    for lo in range(0, len(unit), block):
        rows = slice(lo, lo + block)
        for a in range(0, lo + 1, block):
            left = slice(a, a + block)
            tile = gram_block(unit, rows, left, jitter)
            if a < lo:
                out[left] -= tile.T @ v[rows]
            out[rows] -= tile @ v[left]
        tick((min(lo + block, len(unit)) ** 2 - lo**2) * unit.shape[1])
    return out
