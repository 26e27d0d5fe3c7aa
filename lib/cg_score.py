"""The complexity-gap (CG) score of Ki, Choi and Chung (ICLR 2023), for every class from one factorization.

With ``H`` the ReLU Gram matrix (eq. 1), ``v = H⁻¹y`` and ``d = diag H⁻¹``, eq. 2 to 6 come down to

    CG(i) = yᵀH⁻¹y − y₋ᵢᵀH₋ᵢ⁻¹y₋ᵢ = vᵢ²/dᵢ,        because  y₋ᵢᵀhᵢ = vᵢ − yᵢdᵢ.

H does not depend on the labels, so one Cholesky factor serves all classes and all labellings. Conventions: rows are
scaled to unit length; labels are one against the rest, +1 for the class of the example being scored and −1 for the
others; a score is never negative, and larger = more irregular (without the example the data are that much simpler).

Precision: H is formed in float64 and stored in ``dtype``. Exact scores in float32 get one step of refinement of v
against H in float64: on 12,000 rows of Fashion-MNIST their median relative error is then 3·10⁻⁶ (largest 1·10⁻³),
where the factor alone gives 4·10⁻⁴ (largest 5, at scores near 0). Subsampled scores are not refined.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib import cg_subsampling
from lib.blocked_cholesky import NotPositiveDefinite
from lib.cg_exact import PROBES, exact, exact_operations, one_vs_rest
from lib.costs import Phases, free_bytes
from lib.gram import F64, gram_block, refuse_twins, relu_gram, unit_rows

__all__ = ["CGScores", "cg_prime", "cg_scores", "relu_gram"]


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
    residual: float = math.nan  # exact only: largest |Hv − y| over 256 rows, H in float64; y is ±1
    diagonal_error: float = math.nan  # exact only: largest relative error of d at 16 rows, against solving H u = eᵢ
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    operations: dict[str, float] = field(default_factory=dict)  # by phase, floating-point, as the formulas count them
    planned_bytes: int = 0  # memory that the call reckoned with before it started

    @property
    def gflops(self) -> dict[str, float]:
        """By phase, 10⁹ operations a second."""
        return {phase: count / self.seconds[phase] / 1e9 for phase, count in self.operations.items()}


def cg_scores(
    x,
    y,
    *,
    negatives: float | None = None,
    runs: int = 1,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device=None,
    jitter: float = 0.0,
    block: int | None = None,
    progress: bool = False,
) -> CGScores:
    """CG-score of every example, one class against the rest (eq. 2 and 6, appendix A of the paper).

    Args:
        x: images or features, ``(n, …)``, floating or uint8, in any scale; flattened, each row made unit length.
        y: integer labels, ``(n,)``, or ``(r, n)`` for r labellings of the same rows (one factorization for all).
        negatives: None = exact, over all rows. A number a: the paper's subsampling (A.2), each class against a
            times as many rows drawn from the others, or all of them where there are no more.
        runs: draws to average over, with ``negatives``; a draw depends on ``seed``, class and run alone.
        seed: of the draws, at least 0.
        dtype: float32 or float64; by default float64 where x is or where H is not positive definite in float32 (rows
            that nearly coincide), else float32.
        device: where to compute, "cpu" or "cuda"; by default where x is. Results return to where x is.
        jitter: added to the diagonal of H (which is ½), for data with duplicates.
        block: rows in a panel of the factor; by default n/4 up to 1,000 (4,096 on a GPU).
        progress: show one bar, in 10⁹ operations.

    Returns:
        CGScores, in ``dtype``.

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
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    labellings = _labellings(x, y)
    _check_options(labellings, negatives, runs, dtype, jitter, block)
    if dtype is None and x.dtype != F64:
        options = {"negatives": negatives, "runs": runs, "seed": seed, "jitter": jitter, "block": block}
        options |= {"device": device, "progress": progress}
        try:
            return cg_scores(x, y, dtype=torch.float32, **options)
        except NotPositiveDefinite:
            dtype = F64
    dtype = dtype or F64
    device = torch.device(device or x.device)
    block = block or (4096 if device.type == "cuda" else min(1000, max(256, len(x) // 4)))
    if negatives is not None and all(q == rest for *_, q, rest in cg_subsampling.tasks(labellings, negatives)):
        negatives = None  # every class is set against all other rows: the exact score
    needed, keep = _plan(x, labellings, negatives, runs, dtype, block, device)
    unit = unit_rows(x, device)  # (n, d) float64
    if jitter == 0:
        refuse_twins(unit, tolerance=8 * torch.finfo(dtype).eps)
    settings = {"dtype": dtype, "jitter": jitter, "block": block}
    if negatives is None:
        work = exact_operations(labellings, unit.shape[1], dtype)
        phases = Phases(device, work, progress=progress, title="CG-scores")
        with phases.bar:
            v, d, *checks = exact(unit, labellings, phases=phases, **settings)
        v, d = v[:, None].expand(-1, runs, -1), d.expand(len(v), runs, -1)
    else:
        work = cg_subsampling.operations(labellings, negatives, runs)
        phases, checks = Phases(device, work, progress=progress, title="CG-scores"), [math.nan, math.nan]
        with phases.bar:
            v, d = cg_subsampling.subsampled(
                unit, labellings, negatives, runs=runs, seed=seed, keep=keep, phases=phases, **settings
            )
    by_run = v**2 / d  # (r, runs, n), float64
    single = 0.0 if negatives is None else math.nan
    spread = by_run.std(1) if runs > 1 else torch.full_like(by_run[:, 0], single)
    means = [t.mean(1) for t in (by_run, (v - d) ** 2 / d, 2 * (v - d), d)]
    home = [t.reshape(*y.shape[:-1], *t.shape[1:]).to(x.device, dtype) for t in (*means, spread, by_run)]
    return CGScores(*home, *checks, phases.seconds, phases.operations, needed)


def cg_prime(x, y, *, device=None, block: int = 2048) -> Tensor:
    """``CG′(i) = yᵀHy − y₋ᵢᵀH₋ᵢy₋ᵢ = 2yᵢ(gᵢᵀy₋ᵢ) + yᵢ²cᵢ``: the score with H∞ in place of its inverse (section 3.2).

    Arguments, errors and the ``(n,)`` or ``(r, n)`` result as in ``cg_scores``; float64, or float32 where x is.
    Large = learnt fast, so its sign is opposite to the CG-score's. Cost: 2n²d operations, ``block × n`` numbers.
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    labellings = _labellings(x, y)
    unit = unit_rows(x, device or x.device)
    signs, own = (t.to(unit.device) for t in one_vs_rest(labellings))
    h_y = torch.cat([gram_block(unit, slice(a, a + block)) @ signs for a in range(0, len(unit), block)])
    return (2 * h_y.gather(1, own.T).T - 0.5).reshape(y.shape).to(x.device, F64 if x.dtype == F64 else torch.float32)


def _labellings(x: Tensor, y: Tensor) -> Tensor:
    """y as ``(r, n)`` int64 on the CPU, or ValueError."""
    if y.ndim not in (1, 2) or x.ndim < 2 or y.shape[-1] != len(x):
        raise ValueError(f"expected x (n, …) and y (n,) or (r, n), got x {tuple(x.shape)} and y {tuple(y.shape)}")
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
    return labellings


def _check_options(labellings, negatives, runs, dtype, jitter, block) -> None:
    if dtype not in (None, torch.float32, F64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    if not jitter >= 0:
        raise ValueError(f"jitter must be at least 0, got {jitter}")
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1 row, got {block}")
    if runs < 1 or (runs > 1 and negatives is None):
        raise ValueError(f"runs must be at least 1, and exactly 1 without negatives (nothing is drawn), got {runs}")
    if negatives is None:
        return
    if not negatives > 0 or min(q for *_, q, _ in cg_subsampling.tasks(labellings, negatives)) == 0:
        raise ValueError(f"negatives must give each class at least one row to be set against, got {negatives}")


def _plan(x, labellings, negatives, runs, dtype, block, device) -> tuple[int, bool]:
    """Bytes that the call needs, and whether H of all rows may be kept (subsampled); MemoryError if too many."""
    n, d, size, free = len(x), x[0].numel(), dtype.itemsize, free_bytes(device)
    block, columns = min(block, n), sum(len(labels.unique()) for labels in labellings)
    rows_and_sides = 8 * n * (d + 5 * (columns + PROBES)) + 40 * block**2

    def whole(size):
        return rows_and_sides + size * (n * (n + block) // 2 + n * block)

    def draws(ratio, size):
        return rows_and_sides + cg_subsampling.bytes_needed(labellings, ratio, d, runs, size, block)

    needed = whole(size) if negatives is None else draws(negatives, size)
    if needed > free:
        fits = [a for a in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0.5) if a < (negatives or math.inf) and draws(a, 4) <= free]
        offer = "no subsampled call fits either: pass fewer rows"
        if fits:
            call = f"cg_scores(x, y, negatives={fits[0]}, runs=10, dtype=torch.float32)"
            offer = f"{call} fits in {draws(fits[0], 4) / 1e9:.1f} GB"
        kind = "exact scores" if negatives is None else f"scores with negatives={negatives}"
        raise MemoryError(
            f"{kind} of {n} rows in {dtype} need {needed / 1e9:.1f} GB on {device}, where {free / 1e9:.1f} GB are "
            f"free; {offer}"
        )
    keep = negatives is not None and needed + size * n**2 + 24 * block * n <= free / 2
    return needed + keep * (size * n**2 + 24 * block * n), keep
