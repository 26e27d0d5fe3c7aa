"""The ways in which ``lib.scores.influence`` applies ``(H + δI)⁻¹`` to a block of vectors ``(c, p)``.

A solver is made once for a network. It is a function ``solve(v) -> (solutions, facts)``; the facts are the largest
``residual`` ‖(H + δI)xⱼ − vⱼ‖/‖vⱼ‖ of ``cg`` and ``lissa``, and the ``iterations`` of ``cg``. What goes wrong is said
together with the setting that would cure it. ``cg`` solves for many vectors from one space, and where the first layer
has more inputs than there are examples for a smaller network (:class:`Span`).
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import vjp, vmap

from lib.costs import one_of
from lib.networks.stacked import chain
from lib.numerics import curvature
from lib.numerics.gradients import along, curvature_root, ntk
from lib.numerics.objective import Objective, flat, named

OPTIONS = {
    "exact": (), "gauss_newton": (), "cg": ("tol", "iterations"),
    "lissa": ("scale", "depth", "repeats", "batch_size", "seed"), "ekfac": (),
}  # fmt: skip
SOLVERS = tuple(OPTIONS)
TABLE = 2**28  # bytes that all examples' own Hessians may take, for lissa on very small networks
DENSE = 4096  # parameters up to which a p × p matrix serves unasked
SPECTRUM = 1024  # of these, up to which the eigenvalues come with it; beyond, a factor in a thirtieth of the time
BLOCK = 32  # vectors that conjugate gradient solves for from one space
COPIES = 4  # of the activations that a backward pass holds for each vector
MARGIN = 1.1  # over a measured eigenvalue, in what we tell people to set

Solve = Callable[[Tensor], tuple[Tensor, dict]]


class Indefinite(ArithmeticError):
    """A direction of negative curvature was met."""


class Diverged(ArithmeticError):
    """The recursion grew beyond what any convergent one can reach."""


def check_options(solver: str, damping: float, options: dict) -> None:
    """ValueError for an unknown solver or option, the valid ones listed, or a negative damping."""
    one_of("solver", solver, SOLVERS)
    valid = OPTIONS[solver]
    if unknown := [name for name in options if name not in valid]:
        raise ValueError(f"solver {solver!r} takes {', '.join(valid) or 'no options'}; got {', '.join(unknown)}")
    if not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping}")


def inverse(o: Objective, solver: str, damping: float, **options) -> tuple[Solve, Tensor | None]:
    """``(H + δI)⁻¹`` by one of ``SOLVERS``, and the eigenvalues of H where they are all known.

    Raises: ValueError for a matrix that this solver cannot invert: with the damping, or scale, that would cure it.
    """
    if solver in ("cg", "lissa"):
        return {"cg": _cg, "lissa": _lissa}[solver](o, damping, **options), None
    small = solver == "gauss_newton" and o.p <= max(DENSE, o.y.numel())
    if small and o.p > SPECTRUM and o.weight_decay + damping > 0:
        return _factored(o, damping), None
    if small or solver == "exact":
        return _exact(o, damping, gauss_newton=small)
    alone = curvature.ekfac_inverse(o, o.weight_decay + damping) if solver == "ekfac" else kernel_inverse(o, damping)
    return lambda v: (alone(v), {}), None


def _exact(o: Objective, damping: float, *, gauss_newton: bool) -> tuple[Solve, Tensor]:
    matrix = curvature.gauss_newton_matrix(o) if gauss_newton else curvature.hessian(o)
    values, vectors = curvature.eigh(matrix)
    shifted = values + damping
    rounding = 10 * torch.finfo(o.x.dtype).eps * float(values.abs().max())
    if (zero := int((shifted.abs() <= rounding).sum())) or not values.isfinite().all():
        enough = max(1e-3 * float(values[-1]), MARGIN * -float(values[0]))
        found = f"{zero} of {o.p} eigenvalues + damping are 0 to rounding ({rounding:.2g})"
        raise ValueError(f"the Hessian is singular: {found}; give damping, such as {enough:.2g}")
    if shifted[0] < 0:
        saddle = f"{int((shifted < 0).sum())} of {o.p} eigenvalues are negative: the answer is that of a saddle point"
        warnings.warn(f"{indefinite(float(values[0]), damping)}; {saddle}", stacklevel=4)
    return lambda v: (((v.double() @ vectors / shifted) @ vectors.T).to(v.dtype), {}), values


def indefinite(lowest: float, damping: float) -> str:
    cure = f"a damping above {-lowest:.3g} (such as {-MARGIN * lowest:.3g}) would cure it"
    return f"H + δI is indefinite at damping {damping:.3g}: the most negative eigenvalue of H is {lowest:.3g}, {cure}"


def _factored(o: Objective, damping: float) -> Solve:
    """Of the Gauss–Newton matrix, which its penalty and damping make positive definite."""
    matrix = curvature.gauss_newton_matrix(o).double()
    matrix.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        enough = 1e-3 * float(torch.linalg.matrix_norm(matrix, 2))
        raise ValueError(f"the Gauss–Newton matrix is singular to rounding: give damping, such as {enough:.2g}")
    return lambda v: (torch.cholesky_solve(v.double().T, factor).T.to(v.dtype), {})


def kernel_inverse(o: Objective, damping: float) -> Callable[[Tensor], Tensor]:
    """``v ↦ (G + δI)⁻¹ v`` for blocks of vectors ``(c, p)``, from the tangent kernel; the penalty is in G.

    With the N × p rows R of ``RᵀR = Σᵢ Jᵢᵀ(∇²_f ℓᵢ)Jᵢ`` (``lib.numerics.gradients.curvature_rows``) and μ = λ + δ,

        (RᵀR/n + μI)⁻¹ v = (v − Rᵀ (RRᵀ + nμI)⁻¹ R v) / μ          (Woodbury)

    RRᵀ is the kernel between the roots of the losses' curvatures, so that R is never held.

    Raises: ValueError where λ + δ is 0, or for layers other than Linear, Conv2d and BatchNorm.

    Cost: the kernel, N³/3; then k backward passes an example, once for all vectors and once for each.
    """
    shift, n, k = o.weight_decay + damping, o.n, o.y.shape[1]
    if not shift > 0:
        raise ValueError("the Gauss–Newton matrix is singular, with more parameters than outputs: give damping")
    with torch.no_grad():
        f = torch.cat([o.outputs(o.weights, x) for (x,) in o.batches(o.x)])
    root = curvature_root(f, o.loss)  # (n, k, k)
    kernel = ntk(o.model, o.x).view(n, k, n, k)
    kernel = torch.einsum("iab,ibjc->iajc", root, kernel)
    kernel = torch.einsum("iajc,jdc->iajd", kernel, root).reshape(n * k, n * k)
    kernel.diagonal().add_(n * shift)
    factor = torch.linalg.cholesky(kernel.double())

    def solve(v: Tensor) -> Tensor:
        onto = root @ along(o, o.x, None, v).view(n, k, len(v))  # R v
        inner = torch.cholesky_solve(onto.reshape(n * k, -1).double(), factor).to(v.dtype)
        columns = (root.mT @ inner.view(n, k, -1)).permute(2, 0, 1)  # (c, n, k)
        pulled, start_row = 0, 0  # Jᵀ columns
        with torch.no_grad():
            for (x,) in o.batches(o.x, times=COPIES * len(columns)):
                _, back = vjp(lambda w: o.outputs(w, x), o.weights)  # noqa: B023
                pulled = pulled + flat(vmap(back)(columns[:, start_row : start_row + len(x)])[0])
                start_row += len(x)
        return (v - pulled) / shift

    return solve


def _cg(o: Objective, damping: float, *, tol: float = 1e-4, iterations: int = 200) -> Solve:
    shift = o.weight_decay + damping
    span = input_span(o) if shift > 0 else None
    inner = o if span is None else span.inner
    product = lambda v: curvature.hessian_product(inner, v)
    shifted = lambda d: product(d).add_(d, alpha=damping)

    def solve(v: Tensor) -> tuple[Tensor, dict]:
        seen, solutions, steps, residual = v if span is None else span.down(v), [], 0, 0.0
        for block in seen.split(BLOCK):
            try:
                x, taken, left = block_conjugate_gradient(shifted, block, tol=tol, iterations=iterations)
            except Indefinite:
                raise ValueError(indefinite(curvature.extreme_eigenvalues(product, block[0])[0], damping)) from None
            if left > tol:
                warnings.warn(f"cg stopped after {taken} iterations, residual {left:.2g} > {tol:.2g}", stacklevel=4)
            solutions.append(x)
            steps, residual = max(steps, taken), max(residual, left)
        x = torch.cat(solutions)
        if span is not None:
            x = span.up(x - seen / shift).add_(v, alpha=1 / shift)  # v / shift is right across the span
        return x, {"iterations": steps, "residual": residual}

    return solve


def block_conjugate_gradient(
    product: Callable[[Tensor], Tensor], vectors: Tensor, *, tol: float = 1e-4, iterations: int = 200
) -> tuple[Tensor, int, float]:
    """Solve ``A xⱼ = vⱼ`` for positive definite A, all from one space (O'Leary 1980; BCGrQ of Dubrulle 2001).

    The solutions of s vectors are sought in the sum of their Krylov spaces, so that the s largest eigenvalues, and then
    the next s, stop counting: with a trained network's Hessian 20 vectors together take 9 steps, each alone 43. The
    residuals are coefficients of an orthonormal basis, which bears vectors that depend on each other.

    Args:
        product: maps ``(c, p)`` to ``(c, p)``: rows times A. vectors: ``(c, p)``.
        tol: stop where every residual is at most ``tol ‖vⱼ‖``. iterations: stop after that many steps at the latest.

    Returns: solutions ``(c, p)``, steps taken, largest ``‖A xⱼ − vⱼ‖ / ‖vⱼ‖``.

    Raises: Indefinite where vᵀAv ≤ 0 for some direction v.

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
        form = d @ moved.T
        factor, failed = torch.linalg.cholesky_ex((form + form.T) / 2)
        if failed:
            lowest = float(curvature.eigh((form + form.T) / 2)[0][0])
            raise Indefinite(f"dᵀAd = {lowest:.3g} for a direction d")
        x.addmm_(torch.cholesky_solve(c.T, factor).T, d)
        shrunk, q = _orthonormal(q - torch.cholesky_solve(moved, factor))
        c, d, step = c @ shrunk, torch.addmm(q, shrunk.T, d), step + 1


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """``rows = s @ q`` with orthonormal rows q."""
    q, r = torch.linalg.qr(rows.T)
    return r.T, q.T.contiguous()


class Span:
    """The part of a first layer that its training inputs can see: a smaller objective, ``inner``.

    A dense layer meets its weights W (o, d) through Wx alone. With an orthonormal basis B (d, n) of the span of n < d
    training inputs, the objective's Hessian at ``W = W′Bᵀ + W⊥`` is that of a smaller network with inputs Bᵀx and
    weights W′ = WB, and across the span the penalty λ alone:

        (H + δI)⁻¹ v  =  up (H′ + δI)⁻¹ down v  +  v⊥ / (λ + δ)

    exactly: for 200 of Fashion-MNIST's images a network of 200 inputs in place of 784.
    """

    def __init__(self, o: Objective, first: str):
        self.outer, self.first = o, first
        self.basis = torch.linalg.qr(o.x.flatten(1).T)[0]  # (d, n)
        model = copy.deepcopy(o.model)
        layer = model.get_submodule(first.rpartition(".")[0])
        layer.weight = torch.nn.Parameter(o.weights[first] @ self.basis)
        layer.in_features = self.basis.shape[1]
        weights = {**o.weights, first: layer.weight.detach()}
        self.inner = replace(o, model=model, weights=weights, x=o.x.flatten(1) @ self.basis, reference=None)

    def down(self, vectors: Tensor) -> Tensor:
        """What the training inputs see of vectors ``(c, p)``: ``(c, p′)``."""
        parts = named(vectors, self.outer.weights)
        return flat({**parts, self.first: parts[self.first] @ self.basis})

    def up(self, inner: Tensor) -> Tensor:
        """The transpose of :meth:`down`."""
        parts = named(inner, self.inner.weights)
        return flat({**parts, self.first: parts[self.first] @ self.basis.T})


def input_span(o: Objective) -> Span | None:
    """Where it makes the network smaller: a chain of linear layers with more inputs than training examples."""
    layers = chain(o.model)
    return Span(o, layers[0][0]) if layers and o.n < o.weights[layers[0][0]].shape[1] else None


def _lissa(o: Objective, damping: float, *, scale: float | None = None, batch_size: int = 10, seed: int = 0, **lengths):
    each = curvature.example_hessians(o) if o.n * o.p**2 * o.x.element_size() <= TABLE else None

    def product(v: Tensor, rows: Tensor | None = None) -> Tensor:
        return curvature.hessian_product(o, v, rows=rows) if each is None or rows is None else v @ each[rows].mean(0)

    def highest(v: Tensor, draws: int = 5) -> float:
        """Of the batches, so that ``scale`` bounds each."""
        generator = torch.Generator().manual_seed(seed + 1)
        batches = [torch.randint(o.n, (batch_size,), generator=generator) for _ in range(draws)]
        top = lambda rows: curvature.highest_eigenvalue(lambda d: product(d, rows), v[0], tol=0.1)
        return max(map(top, batches))

    def solve(v: Tensor) -> tuple[Tensor, dict]:
        s = MARGIN * highest(v) + damping if scale is None else scale
        try:
            x = lissa(product, v, o.n, scale=s, damping=damping, batch_size=batch_size, seed=seed, **lengths)
        except Diverged as where:
            lowest, batch = curvature.extreme_eigenvalues(product, v[0])[0], highest(v)
            cure = max(damping, -MARGIN * lowest)
            how = f"{where} with scale {s:.3g} and damping {damping:.3g}"
            why = f"the highest eigenvalue of a batch is {batch:.3g}, the lowest of H is {lowest:.3g}"
            better = f"scale ≥ {MARGIN * batch + cure:.3g} and damping ≥ {cure:.3g}"
            raise ValueError(f"lissa diverged {how}: {why}; take {better}") from None
        left = (product(x) + damping * x - v).norm(dim=1) / v.norm(dim=1).clamp_min(1e-30)
        return x, {"residual": float(left.max())}

    return solve


def lissa(
    product: Callable[[Tensor, Tensor], Tensor], vectors: Tensor, n: int, *, scale: float, damping: float = 0.0,
    depth: int = 1000, repeats: int = 1, batch_size: int = 1, seed: int = 0,
) -> Tensor:  # fmt: skip
    """``(H + δI)⁻¹v`` for vectors that share their batches (Agarwal et al. 2017; Koh and Liang 2017, section 3).

        h₀ = v,    h_j = v + h_{j−1} − (H_j + δI) h_{j−1} / s,    E[h_J]/s → (H + δI)⁻¹v

    with H_j the Hessian over the j-th batch. The mean error of the component of v at an eigenvalue μ shrinks as
    (1 − (μ + δ)/s)^J: s must exceed half of the largest curvature met, δ minus the lowest one, and J about s/(μ + δ).
    (Koh and Liang's own damping β is added to H/s: δ = βs.)

    Args:
        product: ``(vectors (c, p), rows) -> (c, p)``, the Hessian over those examples. vectors: ``(c, p)``.
        n: examples to draw the batches from, with replacement. repeats: recursions to average.
        scale, damping, depth: s, δ, J.

    Raises: Diverged at the step where some ‖h_j‖ exceeds 2(j + 1)‖v‖: with 0 ≤ H_j + δI ≤ 2s it never exceeds half.

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
