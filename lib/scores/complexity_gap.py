"""The complexity-gap (CG) score of Ki, Choi and Chung (ICLR 2023), for every class from one factorization.

With ``H`` the ReLU Gram matrix (eq. 1), ``v = H⁻¹y`` and ``d = diag H⁻¹``, eq. 2 to 6 come down to

    CG(i) = yᵀH⁻¹y − y₋ᵢᵀH₋ᵢ⁻¹y₋ᵢ = vᵢ²/dᵢ,        because  y₋ᵢᵀhᵢ = vᵢ − yᵢdᵢ.

H does not depend on the labels, so one Cholesky factor serves all classes and all labellings. Conventions: rows are
scaled to unit length; labels are one against the rest, +1 for the class of the example being scored and −1 for the
others; a score is never negative, and larger = more irregular (without the example the data are that much simpler).

Exact scores come in three steps: factor H = LLᵀ, solve for v, take d from the columns of L⁻¹; n³/3 operations for L,
n³/3 for d, and the memory of the factor's row panels, about n²/2 numbers. The paper's stochastic form (A.2) sets each
class against a draw from the others, several times. Negatives come first in each draw and positives last, so that the
columns of L⁻¹ that the positives' scores need are those of the inverse of L's last corner: p³/3 operations in place of
(p + q)³/3 for p positives and q negatives.

Precision: H is formed in float64, since arccos loses half of the digits of the cosine of two close rows, and stored in
``dtype``. Exact scores in float32 get one step of refinement of v against H in float64: on 12,000 rows of Fashion-MNIST
their median relative error is then 3·10⁻⁶ (largest 1·10⁻³), where the factor alone gives 4·10⁻⁴ (largest 5, at scores
near 0). Subsampled scores are not refined.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.linalg import solve_triangular

from lib.costs import Phases, device_of, free_bytes
from lib.numerics import cholesky as blocked
from lib.numerics.cholesky import NotPositiveDefinite
from lib.scores import as_tensor

F64 = torch.float64
PROBES = 16  # rows at which d is checked
SAMPLE = 256  # rows at which Hv = y is checked
DENSE = 2048  # draws of at most this many rows are solved several at a time


@dataclass(frozen=True)
class CGScores:
    """Scores and their three terms (eq. 6): ``score = quadratic + partial + diagonal``.

    Each is ``(n,)``, or ``(r, n)`` for r labellings; subsampled ones are means over the runs.
    """

    score: Tensor
    quadratic: Tensor  # d⁻¹(y₋ᵢᵀhᵢ)²
    partial: Tensor  # 2yᵢ(y₋ᵢᵀhᵢ), the paper's "partial CG-score": positive = looks mislabelled
    diagonal: Tensor  # yᵢ²dᵢ
    spread: Tensor  # standard deviation of the score over runs; 0 where exact, NaN for a single run
    by_run: Tensor  # score in each run, (runs, n) or (r, runs, n); one run where exact
    residual: float  # exact only, else NaN: largest |Hv − y| over 256 rows, H in float64; y is ±1
    diagonal_error: float  # exact only, else NaN: largest relative error of d at 16 rows, against solving H u = eᵢ
    seconds: dict[str, float]  # by phase
    operations: dict[str, float]  # by phase, floating-point, as the formulas count them
    planned_bytes: int  # memory that the call reckoned with before it started

    @property
    def gflops(self) -> dict[str, float]:
        """By phase, 10⁹ operations a second."""
        return {phase: count / self.seconds[phase] / 1e9 for phase, count in self.operations.items()}


def cg_scores(
    x, y, *, negatives: float | None = None, runs: int = 1, seed: int = 0, dtype: torch.dtype | None = None,
    device=None, jitter: float = 0.0, block: int | None = None, progress: bool = False,
) -> CGScores:  # fmt: skip
    """CG-score of every example, one class against the rest (eq. 2 and 6, appendix A of the paper).

    Args:
        x: images or features, ``(n, …)``, floating or uint8, in any scale; flattened, each row made unit length.
        y: integer labels, ``(n,)``, or ``(r, n)`` for r labellings of the same rows (one factorization for all).
        negatives: None = exact, over all rows. A number a: the paper's subsampling (A.2), each class against a
            times as many rows drawn from the others, or all of them where there are no more.
        runs: draws to average over, with ``negatives``; a draw depends on ``seed``, class and run alone.
        seed: of the draws, at least 0.
        dtype: float32 or float64; by default float64 where x is or where H is not positive definite in float32 (rows
            that nearly coincide), else float32. Results come in it.
        device: where to compute, "cpu" or "cuda"; by default where x is. Results return to where x is.
        jitter: added to the diagonal of H (which is ½), for data with duplicates.
        block: rows in a panel of the factor; by default n/4 up to 1,000 (4,096 on a GPU).
        progress: show one bar, in 10⁹ operations.

    Raises:
        ValueError: rows that are zero, not finite, or equal up to scale (named; they make H singular); one class
            only, a class with one member; wrong shapes or types; H not positive definite in ``dtype``.
        MemoryError: before anything is computed, where memory would not suffice; says how much is needed and which
            subsampled call fits.

    Cost: exact 2n³/3 operations and about ``n²/2`` numbers (60,000 images of Fashion-MNIST in float32: 9.5 minutes
    on 2 cores, 8 GB); subsampled, for each run and class of p rows, ``(p(1 + a))³/3 + p³/3`` operations.

    Example:
        >>> cg_scores(torch.eye(4, dtype=torch.float64), torch.tensor([0, 0, 1, 1])).score.round(decimals=9)  # H = ½I
        tensor([2., 2., 2., 2.], dtype=torch.float64)
    """
    x, y, labellings = _labellings(x, y)
    _check_options(labellings, negatives, runs=runs, dtype=dtype, jitter=jitter, block=block)
    device = device_of(device or x.device)
    block = block or (4096 if device.type == "cuda" else min(1000, max(256, len(x) // 4)))
    if negatives is not None and all(q == rest for *_, q, rest in _sizes(labellings, negatives)):
        negatives = None  # every class is set against all other rows: the exact score
    for precision in (dtype,) if dtype else (F64,) if x.dtype == F64 else (torch.float32, F64):
        sizes = {"runs": runs, "dtype": precision, "block": block}
        needed, keep = _plan(x, labellings, negatives=negatives, device=device, **sizes)
        unit = unit_rows(x, device)  # (n, d) float64
        if jitter == 0:
            refuse_twins(unit, tolerance=8 * torch.finfo(precision).eps)
        work = _operations(labellings, negatives, runs=runs, d=unit.shape[1], dtype=precision)
        phases = Phases(device, work, progress=progress, title="CG-scores")
        how = {"jitter": jitter, "phases": phases, **sizes}
        try:
            with phases.bar:
                if negatives is None:
                    v, d, residual, diagonal_error = _exact(unit, labellings, **how)
                else:
                    v, d = _subsampled(unit, labellings, negatives=negatives, seed=seed, keep=keep, **how)
                    residual = diagonal_error = math.nan
            break
        except NotPositiveDefinite:
            if dtype or precision == F64:
                raise
    by_run = v**2 / d  # (r, runs, n), float64
    single = 0.0 if negatives is None else math.nan
    spread = by_run.std(1) if runs > 1 else torch.full_like(by_run[:, 0], single)
    terms = {"score": by_run, "quadratic": (v - d) ** 2 / d, "partial": 2 * (v - d), "diagonal": d}
    home = lambda t: t.reshape(*y.shape[:-1], *t.shape[1:]).to(x.device, precision)
    return CGScores(
        **{name: home(term.mean(1)) for name, term in terms.items()}, spread=home(spread), by_run=home(by_run),
        residual=residual, diagonal_error=diagonal_error, seconds=phases.seconds, operations=phases.operations,
        planned_bytes=needed,
    )  # fmt: skip


def cg_prime(x, y, *, device=None, block: int = 2048) -> Tensor:
    """``CG′(i) = yᵀHy − y₋ᵢᵀH₋ᵢy₋ᵢ = 2yᵢ(gᵢᵀy₋ᵢ) + yᵢ²cᵢ``: the score with H∞ in place of its inverse (section 3.2).

    Arguments, errors and the ``(n,)`` or ``(r, n)`` result as in ``cg_scores``; float64, or float32 where x is.
    Large = learnt fast, so its sign is opposite to the CG-score's. Cost: 2n²d operations, ``block × n`` numbers.
    """
    x, y, labellings = _labellings(x, y)
    unit = unit_rows(x, device)
    signs, columns = (t.to(unit.device) for t in _one_vs_rest(labellings))
    h_y = torch.cat([gram_block(unit, slice(a, a + block)) @ signs for a in range(0, len(unit), block)])
    prime = 2 * h_y.gather(1, columns.T).T - 0.5
    return prime.reshape(y.shape).to(x.device, F64 if x.dtype == F64 else torch.float32)


def relu_gram(x) -> Tensor:
    """``H∞ᵢⱼ = xᵢᵀxⱼ (π − arccos xᵢᵀxⱼ) / 2π`` (eq. 1) of the rows of x ``(n, …)``, made unit length; ``(n, n)``.

    Computed in float64; returned in float64 where x is, else in float32. The diagonal is ½. Cost: 2n²d operations.

    Raises: ValueError as ``unit_rows``.

    Example:
        >>> relu_gram(torch.tensor([[3.0, 0.0], [0.0, 5.0]]))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    x = as_tensor(x, "x")
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

    Raises: ValueError if x has another type or shape, or a row is zero or not finite (named).
    """
    if x.ndim < 2 or not x.numel():
        raise ValueError(f"x must be (n, …) with two axes, at least one row and a number in each, got {tuple(x.shape)}")
    if not (x.is_floating_point() or x.dtype == torch.uint8):
        raise ValueError(f"x must be floating or uint8, got {x.dtype}")
    unit = x.flatten(1).to(device=device_of(device or x.device), dtype=F64, copy=True)
    norm = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    if not ((norm > 1e-150) & (norm < 1e150)).all():  # squares that float64 does not hold
        unit /= unit.abs().amax(1, keepdim=True).clamp_min(torch.finfo(F64).tiny)
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
            equal = f"rows {_listed([' and '.join(map(str, pair)) for pair in pairs])} are equal up to scale"
            cure = "drop one of each, or give jitter, such as 1e-6"
            raise ValueError(f"x: {equal}, which makes H singular; {cure}")


def _listed(rows: list, most: int = 5) -> str:
    return ", ".join(map(str, rows[:most])) + (f" … ({len(rows)} in all)" if len(rows) > most else "")


def _labellings(x, y) -> tuple[Tensor, Tensor, Tensor]:
    """x and y as tensors, and y as ``(r, n)`` int64 on the CPU, or ValueError."""
    x, y = as_tensor(x, "x"), as_tensor(y, "y")
    if y.ndim not in (1, 2) or x.ndim < 2 or y.shape[-1] != len(x) or not y.numel():
        raise ValueError(f"expected x (n, …), y (n,) or (r, n), n ≥ 1, got x {tuple(x.shape)} and y {tuple(y.shape)}")
    if y.is_floating_point() or y.is_complex():
        raise ValueError(f"y must hold integer labels, got {y.dtype}")
    labellings = y.reshape(-1, len(x)).long().cpu()
    for labels in labellings:
        classes, counts = labels.unique(return_counts=True)
        if len(classes) < 2:
            raise ValueError(f"y must hold at least two classes, got only {classes.tolist()}")
        if counts.min() == 1:
            alone = int(classes[counts.argmin()])
            row = int((labels == alone).nonzero()[0])
            raise ValueError(f"y: class {alone} has one member (row {row}), which has no class to be irregular in")
    return x, y, labellings


def _check_options(labellings, negatives, *, runs, dtype, jitter, block) -> None:
    if dtype not in (None, torch.float32, F64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    if not jitter >= 0:
        raise ValueError(f"jitter must be at least 0, got {jitter}")
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1 row, got {block}")
    if runs < 1 or (runs > 1 and negatives is None):
        raise ValueError(f"runs must be at least 1, and exactly 1 without negatives (nothing is drawn), got {runs}")
    if negatives is not None and (not negatives > 0 or min(q for *_, q, _ in _sizes(labellings, negatives)) == 0):
        raise ValueError(f"negatives must give each class at least one row to be set against, got {negatives}")


def _plan(x, labellings, *, negatives, runs, dtype, block, device) -> tuple[int, bool]:
    """Bytes that the call needs, and whether H of all rows may be kept (subsampled); MemoryError if too many."""
    n, d, size, free = len(x), x[0].numel(), dtype.itemsize, free_bytes(device)
    block, columns = min(block, n), sum(len(labels.unique()) for labels in labellings)
    rows_and_sides, how = 8 * n * (d + 5 * (columns + PROBES)) + 40 * block**2, {"runs": runs, "block": block}
    draws = lambda ratio, size: rows_and_sides + _draw_bytes(labellings, ratio, d, itemsize=size, **how)
    whole = rows_and_sides + size * (n * (n + block) // 2 + n * block)
    needed = whole if negatives is None else draws(negatives, size)
    if needed > free:
        fits = [a for a in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0.5) if a < (negatives or math.inf) and draws(a, 4) <= free]
        offer = "no subsampled call fits either: pass fewer rows"
        if fits:
            call = f"cg_scores(x, y, negatives={fits[0]}, runs=10, dtype=torch.float32)"
            offer = f"{call} fits in {draws(fits[0], 4) / 1e9:.1f} GB"
        kind = "exact scores" if negatives is None else f"scores with negatives={negatives}"
        memory = f"{needed / 1e9:.1f} GB on {device}, where {free / 1e9:.1f} GB are free"
        raise MemoryError(f"{kind} of {n} rows in {dtype} need {memory}; {offer}")
    keep = negatives is not None and needed + size * n**2 + 24 * block * n <= free / 2
    return needed + keep * (size * n**2 + 24 * block * n), keep


def _one_vs_rest(labellings: Tensor) -> tuple[Tensor, Tensor]:
    """Signs ``(n, columns)``, one column a class of each labelling, and each row's own column ``(r, n)``."""
    signs, columns, count = [], [], 0
    for labels in labellings:
        classes, column = labels.unique(return_inverse=True)
        signs.append(2.0 * torch.nn.functional.one_hot(column, len(classes)) - 1)
        columns.append(column + count)
        count += len(classes)
    return torch.cat(signs, 1).to(F64), torch.stack(columns)


def _operations(labellings: Tensor, negatives: float | None, *, runs: int, d: int, dtype) -> dict[str, float]:
    """Floating-point operations by phase, from the formulas, without what a block's shape adds, or a draw's H."""
    if negatives is not None:
        return {"solve": sum(runs * ((p + q) ** 3 + p**3) / 3 for *_, p, q, _ in _sizes(labellings, negatives))}
    n, columns = labellings.shape[1], PROBES + sum(len(labels.unique()) for labels in labellings)
    refined = dtype != F64
    solve = 2 * n**2 * columns + refined * (n**2 * d + 4 * n**2 * columns)
    return {"gram": n**2 * d, "factor": n**3 / 3, "solve": solve, "invert": n**3 / 3}


def _exact(unit, labellings, *, runs, dtype, jitter, block, phases) -> tuple[Tensor, Tensor, float, float]:
    """``v`` and ``d``, ``(r, runs, n)`` float64, where ``CG(i) = vᵢ²/dᵢ``; the errors of Hv = y and of d.

    A few unit vectors eᵢ are solved for together with the labels and refined with them, so they give some entries of
    d a second time, by another way.
    """
    n, width = unit.shape
    signs, columns = (t.to(unit.device) for t in _one_vs_rest(labellings))
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
            left = _left(unit, v, sides, jitter=jitter, block=block, tick=phases.tick)
            v += blocked.solve(panels, left.to(dtype)).to(F64)
        rows = torch.linspace(0, n - 1, min(n, SAMPLE), device=unit.device).long()
        sample = relu_kernel(unit[rows], unit)
        sample[torch.arange(len(rows)), rows] = 0.5 + jitter
        residual = (sample @ v - sides[rows]).abs().max().item()
    with phases("invert"):
        diagonal = blocked.inverse_diagonal(panels, tick=phases.tick)
        again = v[probes, signs.shape[1] + torch.arange(len(probes), device=unit.device)]
        error = (diagonal[probes] / again - 1).abs().max().item()
    v = v.gather(1, columns.T).T[:, None].expand(-1, runs, -1)
    return v, diagonal.expand(len(v), runs, -1), residual, error


def _left(unit, v, signs, *, jitter, block, tick) -> Tensor:
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


def _sizes(labellings: Tensor, negatives: float) -> Iterator[tuple[int, int, int, int, int]]:
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


def _at_once(m: int, d: int) -> int:
    """How many draws of m rows of length d to solve at once: many small ones, a large one alone."""
    return 1 if m > DENSE else max(1, 2 * DENSE**2 // (m * (m + 2 * d)))


def _draw_bytes(labellings: Tensor, negatives: float, d: int, *, runs: int, itemsize: int, block: int) -> int:
    """Memory that the largest draws take while they are solved."""
    most, draws = 0, list(_sizes(labellings, negatives))
    for *_, p, q, _ in draws:
        m, size = p + q, min(runs * len(draws), _at_once(p + q, d))
        dense = 4 * itemsize * m**2 + 16 * m * d
        in_panels = itemsize * m * (m + 3 * block) // 2 + 24 * m * block + 8 * m * d
        most = max(most, size * dense if m <= DENSE else in_panels)
    return most


def _subsampled(
    unit, labellings, *, negatives, runs, seed, dtype, jitter, block, keep, phases
) -> tuple[Tensor, Tensor]:
    """``v`` and ``d`` of each example as a positive, ``(r, runs, n)`` float64; ``keep``: form H of all rows once."""
    v, d = (torch.empty(len(labellings), runs, len(unit), dtype=F64, device=unit.device) for _ in range(2))
    with phases("gram"):
        kernel = _kernel(unit, dtype=dtype, jitter=jitter, block=block, keep=keep)
    shapes: dict[tuple[int, int], list] = {}  # draws of one shape can be solved together
    for number, label, p, q, _ in _sizes(labellings, negatives):
        shapes.setdefault((q, p), []).extend((number, label, run) for run in range(runs))
    for (q, p), draws in shapes.items():
        m = q + p
        size = _at_once(m, unit.shape[1])
        for start in range(0, len(draws), size):
            batch = draws[start : start + size]
            rows = torch.stack([draw(labellings[i], label, q, seed=seed, run=run) for i, label, run in batch])
            rows = rows.to(unit.device)
            with phases("solve"):
                solved = (_dense if m <= DENSE else _in_panels)(kernel, rows, q, dtype=dtype, block=block)
            for (number, _, run), positives, *of_draw in zip(batch, rows[:, q:], *solved, strict=True):
                v[number, run, positives], d[number, run, positives] = (entries.to(F64) for entries in of_draw)
            phases.tick(len(batch) * (m**3 + p**3) / 3)
    return v, d


def _kernel(unit, *, dtype, jitter, block, keep) -> Callable[[Tensor, Tensor], Tensor]:
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


def _dense(kernel, rows, q, *, dtype, **_) -> tuple[Tensor, Tensor]:
    """``v`` and ``d`` of the rows after the first q, ``(b, p)`` each, for b draws at once."""
    chol, info = torch.linalg.cholesky_ex(kernel(rows, rows))
    blocked.refuse_singular(chol, info, rows)
    z = solve_triangular(chol, _signs(rows, q, dtype).expand(len(rows), -1, 1), upper=False)
    corner = chol[:, q:, q:]
    inverse = solve_triangular(corner, torch.eye(corner.shape[1], dtype=dtype, device=rows.device), upper=False)
    return (inverse.mT @ z[:, q:])[..., 0], inverse.square().sum(1)


def _in_panels(kernel, rows, q, *, dtype, block) -> tuple[Tensor, Tensor]:
    """The same for a single large draw."""
    names = rows[0]
    fill = lambda lo, hi, out: out.copy_(kernel(names[lo:hi], names[:hi]))
    starts = blocked.edges(len(names), block, q)
    panels = blocked.factorize(fill, starts, dtype=dtype, device=rows.device, names=names)
    v = blocked.solve(panels, _signs(rows, q, dtype))[q:, 0]
    return v[None], blocked.inverse_diagonal(panels, q)[None]


def _signs(rows: Tensor, q: int, dtype) -> Tensor:
    """−1 for the q negatives, +1 for the rest: ``(m, 1)``."""
    return torch.where(torch.arange(rows.shape[1], device=rows.device) < q, -1, 1).to(dtype)[:, None]
