"""The ways in which ``lib.scores.influence`` applies ``(H + δI)⁻¹`` to a block of vectors ``(c, p)``.

Each is made once for a network and returns ``solve(v) -> (solutions, facts)``; what goes wrong is said together with
the setting that would cure it.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import vjp, vmap

from lib.networks.stacked import chain
from lib.numerics.curvature import (
    ekfac_inverse,
    example_hessians,
    extreme_eigenvalues,
    gauss_newton_matrix,
    hessian,
    hessian_product,
    highest_eigenvalue,
)
from lib.numerics.gradients import along, curvature_root, ntk
from lib.numerics.objective import Objective, flat, named

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


# --- conjugate gradient ---------------------------------------------------------------------------------------------
#
# Conjugate gradient for many right-hand sides at once: one block product a step.
#
# Each by its own steps, or all from one space: a block of s vectors finds its solutions in the sum of their Krylov
# spaces, so that the s largest eigenvalues, and then the next s, stop counting. With the Hessian of a trained network,
# whose few large eigenvalues stand far apart from the rest, 20 vectors together take 9 steps where each alone takes 43.


class Indefinite(ArithmeticError):
    """A direction of negative curvature was met."""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    vectors: Tensor,
    *,
    tol: float = 1e-4,
    iterations: int = 200,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, int, float]:
    """Solve ``A xⱼ = vⱼ`` for positive definite A (Hestenes and Stiefel 1952), each j by its own steps.

    Args:
        product: maps ``(c, p)`` to ``(c, p)``: rows times A.
        vectors: ``(c, p)``.
        tol: stop where every residual is at most ``tol ‖vⱼ‖``; vectors that are there are no longer multiplied.
        iterations: stop after that many steps at the latest.
        precondition: an approximate inverse of A, positive definite.

    Returns:
        Solutions ``(c, p)``, steps taken, largest ``‖A xⱼ − vⱼ‖ / ‖vⱼ‖``.

    Raises:
        Indefinite: where vᵀAv ≤ 0 for some direction v.

    Example:
        >>> conjugate_gradient(lambda v: 2 * v, torch.tensor([[2.0, 4.0]]))[0]
        tensor([[1., 2.]])
    """
    out, apply = torch.zeros_like(vectors), (lambda r: r) if precondition is None else precondition
    on, bound = torch.arange(len(vectors), device=vectors.device), vectors.norm(dim=1)
    bound.clamp_min_(torch.finfo(vectors.dtype).tiny)
    x, r, worst, step = torch.zeros_like(vectors), vectors.clone(), 0.0, 0
    z = apply(r)
    d, rz = z.clone(), (r * z).sum(1)
    while True:
        left = r.norm(dim=1) / bound
        done = (left <= tol) | (step == iterations)
        if done.any():
            out[on[done]], worst = x[done], max(worst, float(left[done].max()))
            on, bound, x, r, d, rz = (value[~done] for value in (on, bound, x, r, d, rz))
        if not len(on):
            return out, step, worst
        moved = product(d)
        curvature = (d * moved).sum(1)
        if not (curvature > 0).all():
            raise Indefinite(f"dᵀAd = {float(curvature.min()):.3g} for a direction d")
        alpha = (rz / curvature)[:, None]
        x.addcmul_(alpha, d)
        r.addcmul_(alpha, moved, value=-1)
        z, before = apply(r), rz
        rz = (r * z).sum(1)
        d.mul_((rz / before)[:, None]).add_(z)
        step += 1


def block_conjugate_gradient(
    product: Callable[[Tensor], Tensor], vectors: Tensor, *, tol: float = 1e-4, iterations: int = 200
) -> tuple[Tensor, int, float]:
    """The same for all of them from one space (O'Leary 1980; in the stable form of Dubrulle 2001, BCGrQ).

    The residuals are kept as coefficients of an orthonormal basis, which bears vectors that depend on each other or
    converge at different speed. Arguments, results and errors as for :func:`conjugate_gradient`.

    Cost: a step takes one product with s = min(c, p) vectors, and 12 s²p operations.

    Example:
        >>> block_conjugate_gradient(lambda v: 2 * v, torch.tensor([[2.0, 4.0]]))[0].round(decimals=4)
        tensor([[1., 2.]])
    """
    bound = vectors.norm(dim=1).clamp_min(torch.finfo(vectors.dtype).tiny)
    x, (c, q) = torch.zeros_like(vectors), _orthonormal(vectors)  # residuals are c @ q
    d, step = q, 0
    while True:
        worst = float((c.norm(dim=1) / bound).max())
        if worst <= tol or step == iterations:
            return x, step, worst
        moved = product(d)
        curvature = d @ moved.T
        factor, failed = torch.linalg.cholesky_ex((curvature + curvature.T) / 2)
        if failed:
            lowest = float(torch.linalg.eigvalsh((curvature + curvature.T) / 2)[0])
            raise Indefinite(f"dᵀAd = {lowest:.3g} for a direction d")
        x.addmm_(torch.cholesky_solve(c.T, factor).T, d)
        shrunk, q = _orthonormal(q - torch.cholesky_solve(moved, factor))
        c, d, step = c @ shrunk, torch.addmm(q, shrunk.T, d), step + 1


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """``rows = s @ q`` with orthonormal rows q."""
    q, r = torch.linalg.qr(rows.T)
    return r.T, q.T.contiguous()


# --- lissa ----------------------------------------------------------------------------------------------------------
#
# LiSSA: the inverse of a Hessian times vectors from batches (Agarwal et al. 2017; Koh and Liang 2017, section 3).
#
#     h₀ = v,    h_j = v + h_{j−1} − (H_j + δI) h_{j−1} / s,    E[h_J]/s → (H + δI)⁻¹v
#
# with H_j the Hessian over the j-th batch. The mean error of the component of v at an eigenvalue μ shrinks as
# (1 − (μ + δ)/s)^J: s must exceed half of the largest curvature met, δ minus the lowest one, and J about s/(μ + δ).
# (Koh and Liang's own damping β is added to H/s: δ = βs.)


class Diverged(ArithmeticError):
    """The recursion grew beyond what any convergent one can reach."""


def lissa(
    product: Callable[[Tensor, Tensor], Tensor],
    vectors: Tensor,
    n: int,
    *,
    scale: float,
    damping: float = 0.0,
    depth: int = 1000,
    repeats: int = 1,
    batch_size: int = 1,
    seed: int = 0,
) -> Tensor:
    """``(H + δI)⁻¹v`` for a block of vectors, which share their batches.

    Args:
        product: ``(vectors (c, p), rows) -> (c, p)``, the Hessian over those examples.
        vectors: ``(c, p)``.
        n: examples to draw the batches from, with replacement.
        scale, damping, depth: s, δ, J. repeats: recursions to average.

    Returns:
        Solutions ``(c, p)``.

    Raises:
        Diverged: at the step where some ‖h_j‖ exceeds 2(j + 1)‖v‖: with 0 ≤ H_j + δI ≤ 2s it never exceeds half.

    Example:
        >>> lissa(lambda v, rows: 4 * v, torch.ones(1, 2), 1, scale=8.0, depth=60)
        tensor([[0.2500, 0.2500]])
    """
    generator = torch.Generator().manual_seed(seed)
    size, total = vectors.norm(dim=1), torch.zeros_like(vectors)
    for _ in range(repeats):
        h = vectors.clone()
        for j in range(1, depth + 1):
            rows = torch.randint(n, (batch_size,), generator=generator).to(vectors.device)
            h = h + vectors - (product(h, rows) + damping * h) / scale
            if not (h.norm(dim=1) <= 2 * (j + 1) * size).all():
                raise Diverged(f"at step {j} of {depth}")
        total += h
    return total / (repeats * scale)


# --- gauss newton ---------------------------------------------------------------------------------------------------
#
# The Gauss–Newton matrix's inverse where there are more parameters than outputs: from the tangent kernel.
#
# With rows R of ``RᵀR = Σᵢ Jᵢᵀ(∇²_f ℓᵢ)Jᵢ``, N = n·k of them (``curvature_rows``), and μ = λ + δ,
#
#     (RᵀR/n + μI)⁻¹ v = (v − Rᵀ (RRᵀ + nμI)⁻¹ R v) / μ          (Woodbury)
#
# RRᵀ is the tangent kernel between the roots of the losses' curvatures, so that R, N × p, is
# never held. Exact, for any network whose N × N kernel fits.


PASSES = 4  # copies of the activations that a backward pass holds for each vector


def kernel_inverse(objective: Objective, damping: float) -> Callable[[Tensor], Tensor]:
    """``v ↦ (G + δI)⁻¹ v`` for blocks of vectors ``(c, p)``; the penalty is in G.

    Raises:
        ValueError: where λ + δ is 0, or for layers other than Linear, Conv2d and BatchNorm.

    Cost: the kernel, N³/3; then k backward passes an example, once for all vectors and once for each.
    """
    shift, n, k = objective.weight_decay + damping, objective.n, objective.y.shape[1]
    if not shift > 0:
        raise ValueError("the Gauss–Newton matrix is singular, with more parameters than outputs: give damping")
    with torch.no_grad():
        f = torch.cat([objective.outputs(objective.weights, x) for (x,) in objective.batches(objective.x)])
    root = curvature_root(f, objective.loss)  # (n, k, k)
    kernel = ntk(objective.model, objective.x).view(n, k, n, k)
    kernel = torch.einsum("iab,ibjc->iajc", root, kernel)
    kernel = torch.einsum("iajc,jdc->iajd", kernel, root).reshape(n * k, n * k)
    kernel.diagonal().add_(n * shift)
    factor = torch.linalg.cholesky(kernel.double())

    def solve(v: Tensor) -> Tensor:
        onto = root @ along(objective, objective.x, None, v).view(n, k, len(v))  # R v
        inner = torch.cholesky_solve(onto.reshape(n * k, -1).double(), factor).to(v.dtype)
        return (v - pull_back(objective, root.mT @ inner.view(n, k, -1))) / shift

    return solve


def pull_back(objective: Objective, coefficients: Tensor) -> Tensor:
    """``Σᵢ Jᵢᵀ αᵢ`` for c columns of coefficients α ``(n, k, c)``: ``(c, p)``. Cost: c backward passes an example."""
    total, columns = 0, coefficients.permute(2, 0, 1)  # (c, n, k)
    with torch.no_grad():
        start = 0
        for (x,) in objective.batches(objective.x, times=PASSES * len(columns)):
            _, back = vjp(lambda w: objective.outputs(w, x), objective.weights)  # noqa: B023
            total = total + flat(vmap(back)(columns[:, start : start + len(x)])[0])
            start += len(x)
    return total


# --- input span -----------------------------------------------------------------------------------------------------
#
# The part of a first layer that its training inputs can see.
#
# A dense layer meets its weights W (o, d) through Wx alone. With an orthonormal basis B (d, r) of the span of n < d
# training inputs, the objective's Hessian at ``W = W′Bᵀ + W⊥`` is that of a smaller network with inputs Bᵀx and weights
# W′ = WB, and across the span the penalty λ alone:
#
#     (H + δI)⁻¹ v  =  up (H′ + δI)⁻¹ down v  +  v⊥ / (λ + δ)
#
# exactly: for 200 of Fashion-MNIST's images a network of 200 inputs in place of 784.


class Span:
    """The smaller objective ``inner``, and the way of vectors ``(c, p)`` to its ``(c, p′)`` and back."""

    def __init__(self, objective: Objective, first: str):
        self.outer, self.first = objective, first
        self.basis = torch.linalg.qr(objective.x.flatten(1).T)[0]  # (d, n)
        model = copy.deepcopy(objective.model)
        layer = model.get_submodule(first.rpartition(".")[0])
        layer.weight = torch.nn.Parameter(objective.weights[first] @ self.basis)
        layer.in_features = self.basis.shape[1]
        weights = {**objective.weights, first: layer.weight.detach()}
        x = objective.x.flatten(1) @ self.basis
        self.inner = replace(objective, model=model, weights=weights, x=x, reference=None)

    def down(self, vectors: Tensor) -> Tensor:
        """What the training inputs see of them."""
        parts = named(vectors, self.outer.weights)
        return flat({**parts, self.first: parts[self.first] @ self.basis})

    def up(self, inner: Tensor) -> Tensor:
        """The transpose of :meth:`down`."""
        parts = named(inner, self.inner.weights)
        return flat({**parts, self.first: parts[self.first] @ self.basis.T})


def input_span(objective: Objective) -> Span | None:
    """Where it makes the network smaller: a chain of linear layers with more inputs than training examples."""
    layers = chain(objective.model)
    if not layers or objective.n >= objective.weights[layers[0][0]].shape[1]:
        return None
    return Span(objective, layers[0][0])
