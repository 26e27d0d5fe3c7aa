"""The ways in which ``lib.influence`` applies ``(H + δI)⁻¹`` to a block of vectors ``(c, p)``.

Each is made once for a network and returns ``solve(v) -> (solutions, facts)``; what goes wrong is said together with
the setting that would cure it.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lib.conjugate_gradient import Indefinite, block_conjugate_gradient, conjugate_gradient
from lib.curvature import (
    example_hessians,
    extreme_eigenvalues,
    gauss_newton_matrix,
    hessian,
    hessian_product,
    highest_eigenvalue,
)
from lib.ekfac import ekfac_inverse
from lib.gauss_newton import kernel_inverse
from lib.input_span import input_span
from lib.lissa import Diverged, lissa
from lib.objective import Objective

OPTIONS = {
    "exact": (),
    "gauss_newton": (),
    "cg": ("tol", "iterations", "precondition"),
    "lissa": ("scale", "depth", "repeats", "batch_size", "seed"),
    "ekfac": (),
}
SOLVERS = tuple(OPTIONS)
PRECONDITIONERS = (None, "gauss_newton", "ekfac")
TABLE = 2**28  # bytes that all examples' own Hessians may take, for lissa on very small networks
DENSE = 4096  # parameters up to which a p × p matrix serves unasked
SPECTRUM = 1024  # of these, up to which the eigenvalues come with it; beyond, a factor in a thirtieth of the time
BLOCK = 32  # vectors that conjugate gradient solves for from one space
MARGIN = 1.1  # over a measured eigenvalue, in what we tell people to set

Solve = Callable[[Tensor], tuple[Tensor, dict]]


def check_options(solver: str, damping: float, options: dict) -> None:
    """ValueError for an unknown solver or option, the valid ones listed, or a negative damping."""
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    valid = OPTIONS[solver]
    if unknown := [name for name in options if name not in valid]:
        raise ValueError(f"solver {solver!r} takes {', '.join(valid) or 'no options'}; got {', '.join(unknown)}")
    if not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping}")


def inverse(o: Objective, solver: str, damping: float, **options) -> tuple[Solve, Tensor | None]:
    """``(H + δI)⁻¹`` by one of ``SOLVERS``, and the eigenvalues of H where they are all known.

    Raises:
        ValueError: for a matrix that this solver cannot invert: with the damping, or scale, that would cure it.
    """
    small = solver == "gauss_newton" and o.p <= max(DENSE, o.y.numel())
    if small and o.p > SPECTRUM and o.weight_decay + damping > 0:
        return _factored(o, damping), None
    if small or solver == "exact":
        return _exact(o, damping, gauss_newton=small)
    by_name = {"gauss_newton": _kernel, "cg": _cg, "lissa": _lissa, "ekfac": _ekfac}
    return by_name[solver](o, damping, **options), None


def _exact(o: Objective, damping: float, *, gauss_newton: bool):
    values, vectors = torch.linalg.eigh((gauss_newton_matrix if gauss_newton else hessian)(o).double())
    shifted = values + damping
    rounding = 10 * torch.finfo(o.x.dtype).eps * float(values.abs().max())
    if (zero := int((shifted.abs() <= rounding).sum())) or not values.isfinite().all():
        raise ValueError(
            f"the Hessian is singular: {zero} of {o.p} eigenvalues + damping are 0 to rounding ({rounding:.2g}); "
            f"give damping, such as {max(1e-3 * float(values[-1]), MARGIN * -float(values[0])):.2g}"
        )
    if shifted[0] < 0:
        warnings.warn(
            f"{_indefinite(float(values[0]), damping)}; {int((shifted < 0).sum())} of {o.p} eigenvalues are negative "
            "and the answer is that of a saddle point",
            stacklevel=4,
        )

    def solve(v: Tensor) -> tuple[Tensor, dict]:
        return ((v.double() @ vectors / shifted) @ vectors.T).to(v.dtype), {}

    return solve, values


def _factored(o: Objective, damping: float) -> Solve:
    """Of the Gauss–Newton matrix, which its penalty and damping make positive definite."""
    matrix = gauss_newton_matrix(o).double()
    matrix.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise ValueError(f"the Gauss–Newton matrix is singular to rounding: give damping, such as {_enough(matrix)}")
    return lambda v: (torch.cholesky_solve(v.double().T, factor).T.to(v.dtype), {})


def _enough(matrix: Tensor) -> str:
    return f"{1e-3 * float(torch.linalg.matrix_norm(matrix, 2)):.2g}"


def _indefinite(lowest: float, damping: float) -> str:
    return (
        f"H + δI is indefinite at damping {damping:.3g}: the most negative eigenvalue of H is {lowest:.3g}, "
        f"a damping above {-lowest:.3g} (such as {-MARGIN * lowest:.3g}) would cure it"
    )


def _cg(o: Objective, damping: float, *, tol: float = 1e-4, iterations: int = 200, precondition: str | None = "auto"):
    if precondition == "auto":
        precondition = "gauss_newton" if o.p <= DENSE and o.weight_decay + damping > 0 else None
    if precondition not in PRECONDITIONERS:
        raise ValueError(
            f"precondition must be one of auto, {', '.join(map(str, PRECONDITIONERS))}, got {precondition!r}"
        )
    product, inverse = lambda v: hessian_product(o, v), None
    if precondition is None:
        return _block_cg(o, damping, tol, iterations)
    if precondition == "gauss_newton":
        g = gauss_newton_matrix(o).double()
        g.diagonal().add_(damping)
        factor = torch.linalg.cholesky(g).to(o.x.dtype)
        inverse = lambda v: torch.cholesky_solve(v.T, factor).T
    else:
        inverse = ekfac_inverse(o, o.weight_decay + damping)
    solve = lambda v: conjugate_gradient(
        lambda d: product(d).add_(d, alpha=damping), v, tol=tol, iterations=iterations, precondition=inverse
    )
    return lambda v: _told(solve, product, v, damping, tol)


def _block_cg(o: Objective, damping: float, tol: float, iterations: int) -> Solve:
    shift = o.weight_decay + damping
    span = input_span(o) if shift > 0 else None
    inner = o if span is None else span.inner
    product = lambda v: hessian_product(inner, v)
    shifted = lambda d: product(d).add_(d, alpha=damping)
    solve = lambda v: block_conjugate_gradient(shifted, v, tol=tol, iterations=iterations)

    def all_blocks(v: Tensor) -> tuple[Tensor, dict]:
        seen = v if span is None else span.down(v)
        found, facts = zip(*[_told(solve, product, part, damping, tol) for part in seen.split(BLOCK)], strict=True)
        found = torch.cat(found)
        if span is not None:
            found = span.up(found - seen / shift).add_(v, alpha=1 / shift)  # v / shift is right across the span
        return found, {name: max(each[name] for each in facts) for name in facts[0]}

    return all_blocks


def _told(solve: Callable, product: Callable, v: Tensor, damping: float, tol: float) -> tuple[Tensor, dict]:
    """A solution and what there is to say of it."""
    try:
        found, steps, residual = solve(v)
    except Indefinite:
        raise ValueError(_indefinite(extreme_eigenvalues(product, v[0])[0], damping)) from None
    if residual > tol:
        warnings.warn(f"cg stopped after {steps} iterations at a residual of {residual:.2g} > {tol:.2g}", stacklevel=6)
    return found, {"iterations": steps, "residual": residual}


def _kernel(o: Objective, damping: float):
    inverse = kernel_inverse(o, damping)
    return lambda v: (inverse(v), {})


def _ekfac(o: Objective, damping: float):
    inverse = ekfac_inverse(o, o.weight_decay + damping)
    return lambda v: (inverse(v), {})


def _lissa(
    o: Objective,
    damping: float,
    *,
    scale: float | None = None,
    depth: int = 1000,
    repeats: int = 1,
    batch_size: int = 10,
    seed: int = 0,
):
    few = o.n * o.p**2 * o.x.element_size() <= TABLE
    each = example_hessians(o) if few else None

    def product(v: Tensor, rows: Tensor | None = None) -> Tensor:
        if few and rows is not None:
            return v @ each[rows].mean(0)
        return hessian_product(o, v, rows=rows)

    def highest(v: Tensor, draws: int = 5) -> float:
        """Of the batches, so that ``scale`` bounds each."""
        generator = torch.Generator().manual_seed(seed + 1)
        batches = [torch.randint(o.n, (batch_size,), generator=generator) for _ in range(draws)]
        return max(highest_eigenvalue(lambda d: product(d, rows), v[0], tol=0.1) for rows in batches)  # noqa: B023

    def solve(v: Tensor) -> tuple[Tensor, dict]:
        s = MARGIN * highest(v) + damping if scale is None else scale
        settings = {"depth": depth, "repeats": repeats, "batch_size": batch_size, "seed": seed}
        try:
            found = lissa(product, v, o.n, scale=s, damping=damping, **settings)
        except Diverged as where:
            lowest, batch = extreme_eigenvalues(product, v[0])[0], highest(v)
            cure = max(damping, -MARGIN * lowest)
            raise ValueError(
                f"lissa diverged {where} with scale {s:.3g} and damping {damping:.3g}: the highest eigenvalue of a "
                f"batch is {batch:.3g}, the lowest of H is {lowest:.3g}; take scale ≥ {MARGIN * batch + cure:.3g} and "
                f"damping ≥ {cure:.3g}"
            ) from None
        left = (product(found) + damping * found - v).norm(dim=1) / v.norm(dim=1).clamp_min(1e-30)
        return found, {"residual": float(left.max())}

    return solve
