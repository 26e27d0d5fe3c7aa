"""The CG-score's stochastic form (Ki et al. 2023, A.2): each class against a draw from the others, several times.

Negatives come first in each draw and positives last, so that the columns of L⁻¹ that the positives' scores need are
those of the inverse of L's last corner: p³/3 operations in place of (p + q)³/3.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.linalg import solve_triangular

from lib import blocked_cholesky as blocked
from lib.gram import F64, gram_block, relu_kernel

DENSE = 2048  # draws of at most this many rows are solved several at a time


def tasks(labellings: Tensor, negatives: float) -> Iterator[tuple[int, int, int, int, int]]:
    """For each labelling and class: its number, the label, its rows p, negatives to draw q, rows to draw them from."""
    for number, labels in enumerate(labellings):
        for label, members in zip(*(t.tolist() for t in labels.unique(return_counts=True)), strict=True):
            rest = len(labels) - members
            yield number, label, members, round(min(rest, negatives * members)), rest


def draw(labels: Tensor, label: int, count: int, *, seed: int, run: int) -> Tensor:
    """Rows of one draw: ``count`` negatives, ascending, then the class, ascending. Depends on its arguments alone."""
    positive = (labels == label).numpy()
    rng = np.random.default_rng([seed, label % 2**32, run])
    drawn = rng.choice(np.flatnonzero(~positive), count, replace=False)
    return torch.from_numpy(np.concatenate([np.sort(drawn), np.flatnonzero(positive)]))


def operations(labellings: Tensor, negatives: float, runs: int) -> dict[str, float]:
    """Floating-point operations of all draws, without forming the Gram matrix."""
    return {"solve": sum(runs * ((p + q) ** 3 + p**3) / 3 for *_, p, q, _ in tasks(labellings, negatives))}


def together(m: int, d: int) -> int:
    """How many draws of m rows of length d to solve at once: many small ones, a large one alone."""
    return 1 if m > DENSE else max(1, 2 * DENSE**2 // (m * (m + 2 * d)))


def bytes_needed(labellings: Tensor, negatives: float, d: int, runs: int, itemsize: int, block: int) -> int:
    """Memory that the largest draws take while they are solved."""
    most, draws = 0, list(tasks(labellings, negatives))
    for *_, p, q, _ in draws:
        m, size = p + q, min(runs * len(draws), together(p + q, d))
        dense = 4 * itemsize * m**2 + 16 * m * d
        in_panels = itemsize * m * (m + 3 * block) // 2 + 24 * m * block + 8 * m * d
        most = max(most, size * dense if m <= DENSE else in_panels)
    return most


def subsampled(unit, labellings, negatives, *, runs, seed, dtype, jitter, block, keep, phases) -> tuple[Tensor, Tensor]:
    """``v`` and ``d`` of each example as a positive, ``(r, runs, n)`` float64, where ``CG(i) = vᵢ²/dᵢ``.

    unit: ``(n, d)`` rows of unit length; labellings: ``(r, n)`` on the CPU; keep: form H of all rows once.
    """
    v, d = (torch.empty(len(labellings), runs, len(unit), dtype=F64, device=unit.device) for _ in range(2))
    with phases("gram"):
        kernel = _kernel(unit, dtype, jitter, block, keep)
    shapes: dict[tuple[int, int], list] = {}  # draws of one shape can be solved together
    for number, label, p, q, _ in tasks(labellings, negatives):
        shapes.setdefault((q, p), []).extend((number, label, run) for run in range(runs))
    for (q, p), draws in shapes.items():
        m = q + p
        size = together(m, unit.shape[1])
        for start in range(0, len(draws), size):
            batch = draws[start : start + size]
            rows = torch.stack([draw(labellings[i], label, q, seed=seed, run=run) for i, label, run in batch])
            rows = rows.to(unit.device)
            with phases("solve"):
                found = (_dense if m <= DENSE else _in_panels)(kernel, rows, q, dtype, block)
            for (number, _, run), own, values, entries in zip(batch, rows[:, q:], *found, strict=True):
                v[number, run, own], d[number, run, own] = values.to(F64), entries.to(F64)
            phases.tick(len(batch) * (m**3 + p**3) / 3)
    return v, d


def _kernel(unit, dtype, jitter, block, keep) -> Callable[[Tensor, Tensor], Tensor]:
    """``kernel(rows, columns)``, with index tensors ``(…, m)`` and ``(…, m')``: those entries of H + jitter."""
    if keep:
        gram = torch.empty(len(unit), len(unit), dtype=dtype, device=unit.device)
        for a in range(0, len(unit), block):
            gram[a : a + block] = gram_block(unit, slice(a, a + block), jitter=jitter)

    def kernel(rows, columns):
        if keep:
            return gram[rows[..., :, None], columns[..., None, :]]
        tile = relu_kernel(unit[rows], unit[columns]).to(dtype)
        return tile.masked_fill_(rows[..., :, None] == columns[..., None, :], 0.5 + jitter)

    return kernel


def _dense(kernel, rows, q, dtype, block) -> tuple[Tensor, Tensor]:
    """``v`` and ``d`` of the rows after the first q, ``(b, p)`` each, for b draws at once."""
    chol, info = torch.linalg.cholesky_ex(kernel(rows, rows))
    blocked.refuse_singular(chol, info, rows)
    z = solve_triangular(chol, _signs(rows, q, dtype).expand(len(rows), -1, 1), upper=False)
    corner = chol[:, q:, q:]
    inverse = solve_triangular(corner, torch.eye(corner.shape[1], dtype=dtype, device=rows.device), upper=False)
    return (inverse.mT @ z[:, q:])[..., 0], inverse.square().sum(1)


def _in_panels(kernel, rows, q, dtype, block) -> tuple[Tensor, Tensor]:
    """The same for a single large draw."""
    names = rows[0]
    fill = lambda lo, hi, out: out.copy_(kernel(names[lo:hi], names[:hi]))
    starts = blocked.edges(len(names), block, q)
    panels = blocked.factorize(fill, starts, dtype=dtype, device=rows.device, names=names)
    v = blocked.solve(panels, _signs(rows, q, dtype))[q:, 0]
    return v[None], blocked.inverse_diagonal(panels, q)[None]


def _signs(rows: Tensor, q: int, dtype) -> Tensor:
    """−1 for the q negatives, +1 for the rest: ``(m, 1)``."""
    signs = torch.ones(rows.shape[1], 1, dtype=dtype, device=rows.device)
    signs[:q] = -1
    return signs
