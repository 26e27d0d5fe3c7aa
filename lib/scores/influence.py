"""Influence functions: what removing a training example would change, to first order (Koh and Liang 2017).

At an optimum w of ``L(w) = (1/n) Σ ℓᵢ(w) + λ/2 ‖w − w_ref‖²`` removing the term of example i moves the optimum by

    Δwᵢ = (1/n) (H + δI)⁻¹ ∇ℓᵢ(w),      Δℓ_test ≈ ∇ℓ_test · Δwᵢ

with H the Hessian of L, penalty included, and δ the damping (Basu et al. 2021, eq. 3 and 5, with ε = −1/n). **Sign:**
the change upon removal: positive on a test loss = removal raises it = the example helps. **Scale:** the change itself,
1/n included. n and λ stay what they are when the term goes; a group's change is the sum of its examples'.

The inverse is applied to all right-hand sides at once, and to as few of them as will do:

    exact          eigendecomposition of the whole H; p up to a few thousand
    gauss_newton   the Gauss–Newton matrix, which is never indefinite: likewise, or, where there are more parameters
                   than outputs on the training examples, from the tangent kernel (``lib.numerics.inverse_hessian``)
    cg             conjugate gradient for all at once; H + δI must be positive definite
    lissa          batches of examples; cheap and noisy (``lib.numerics.inverse_hessian``)
    ekfac          the Gauss–Newton matrix, a block a layer, in a Kronecker-factored basis (``lib.numerics.curvature``)
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lib.networks import stacked
from lib.numerics import gradients
from lib.numerics.curvature import eigh, ekfac, extreme_eigenvalues, hessian, hessian_product
from lib.numerics.gradients import along, gradient_rows, mean_square_norm
from lib.numerics.inverse_hessian import SPECTRUM, check_options, indefinite, inverse
from lib.numerics.objective import Objective, gradient, objective
from lib.scores import takes_arrays


@dataclass(frozen=True)
class Influence:
    """Changes of test losses upon removal, and what is needed to judge them."""

    on_loss: Tensor  # (m, n): positive = helpful; where the test examples were
    gradient_norm: float  # ‖∇L‖ at the weights: 0 at an optimum
    one_example: float  # what removing one example adds to it: root mean square of ‖∇ℓᵢ‖/n
    eigenvalues: Tensor | None  # of H (or G), ascending, penalty included, damping not; exact solvers alone
    iterations: int | None  # cg: steps
    residual: float | None  # cg, lissa: largest ‖(H + δI)s − v‖/‖v‖


@dataclass(frozen=True)
class InverseHessian:
    """``(H + δI)⁻¹`` at a network's weights, to be used for as many questions as there are."""

    objective: Objective
    solve: Callable[[Tensor], tuple[Tensor, dict]]
    eigenvalues: Tensor | None
    gradient_norm: float
    one_example: float

    def on_loss(self, x_test: Tensor, y_test: Tensor, *, examples=None) -> Influence:
        """:func:`influence` with this inverse."""
        o = self.objective
        x, y = _removed(o, examples)
        solved, facts = self.solve(torch.cat(list(gradient_rows(o, *o.place(x_test, y_test)))))
        change = along(o, x, y, solved).T / o.n
        told = facts.get("iterations"), facts.get("residual")
        return Influence(change.to(x_test.device), self.gradient_norm, self.one_example, self.eigenvalues, *told)

    def on_parameters(self, *, examples=None, norms: bool = False) -> Tensor:
        """Δw upon removal of each example: ``(n, p)``, or its norms ``(n,)`` without holding it whole.

        Arguments and errors as for :func:`influence`. Cost: a solve an example, in blocks.
        """
        o = self.objective
        moved = lambda rows: self.solve(rows)[0] / o.n
        blocks = gradient_rows(o, *_removed(o, examples))
        return torch.cat([moved(rows).norm(dim=1) if norms else moved(rows) for rows in blocks])


@takes_arrays
def inverse_hessian(
    model: nn.Module, x: Tensor, y: Tensor, *, weight_decay: float = 0.0, damping: float = 0.0, solver: str = "exact",
    loss: str = "cross_entropy", reference: dict[str, Tensor] | None = None, device: str = "cpu",
    dtype: torch.dtype | None = None, **options,
) -> InverseHessian:  # fmt: skip
    """The inverse that :func:`influence` applies, by its arguments: keep it to ask several questions of one network."""
    check_options(solver, damping, options)
    o = objective(model, x, y, weight_decay=weight_decay, loss=loss, reference=reference, device=device, dtype=dtype)
    norm, one = _distance(o, stacklevel=6)
    return InverseHessian(o, *inverse(o, solver, damping, **options), norm, one)


@takes_arrays
def influence(
    model: nn.Module, x_train: Tensor, y_train: Tensor, x_test: Tensor, y_test: Tensor, *, examples=None, **options
) -> Influence:  # fmt: skip
    """Change of each test loss when each training example is removed: ``∇ℓ_test · Δwᵢ``.

    Args:
        model: with trained weights; batch normalization and dropout are put in evaluation mode.
        x_train, y_train: what it was trained on, all of it. x_test, y_test: m test examples.
        examples: indices of the training examples to score; all by default.
        options: of :func:`inverse_hessian`: ``weight_decay`` λ, ``damping`` δ, ``solver``, ``loss``
            (``cross_entropy`` or ``mse``), ``reference`` (w_ref by name), ``device``, ``dtype``; and of the solver:
            ``tol, iterations`` (cg); ``scale, depth, repeats, batch_size, seed`` (lissa).

    Returns: :class:`Influence`; ``on_loss (m, n)``, positive = removal raises the test loss = helpful.

    Raises: ValueError for shapes that disagree, an unknown option (the valid ones are listed), a singular Hessian, one
    that is indefinite for ``cg``, a divergent ``lissa``: each with the setting that would cure it. Warns where the
    weights are no optimum (by how much), and where H + δI is indefinite (``exact``); see :func:`trust`.

    Cost: m solves in one block, and one pass over the gradients of the training examples.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([0.0, 2.0])  # the mean of y, H = 1
        >>> influence(model, x, y, x[:1], y[:1], loss="mse").on_loss
        tensor([[ 0.5000, -0.5000]])
    """
    inverse = inverse_hessian(model, x_train, y_train, **options)
    return inverse.on_loss(x_test, y_test, examples=examples)


@takes_arrays
def gradient_norm(model: nn.Module, x: Tensor, y: Tensor, **options) -> float:
    """``‖∇L(w)‖``, 0 at an optimum. ``options``: ``weight_decay, loss, reference, device, dtype``."""
    return float(gradient(objective(model, x, y, **options)).norm())


@takes_arrays
def eigenvalue_range(
    model: nn.Module, x: Tensor, y: Tensor, *, gauss_newton: bool = False, tol: float = 1e-4, **options
) -> tuple[float, float]:
    """Lowest and highest eigenvalue of H (or G), penalty included, by Lanczos, to ``tol`` times the larger in size.

    LiSSA's ``scale`` must exceed half the highest. ``options`` as for :func:`gradient_norm`. 50 to 300 products.
    """
    o = objective(model, x, y, **options)
    like = torch.empty(o.p, dtype=o.x.dtype, device=o.x.device)
    return extreme_eigenvalues(lambda v: hessian_product(o, v, gauss_newton=gauss_newton), like, tol=tol)


class Trust(NamedTuple):
    """Will retraining do what influence foretells? With the mean Spearman correlation measured (notebook 06, Iris)."""

    gradient: float  # ‖∇L‖ in units of one example's share. Below .1: .86; from .1 to 1: .67; above: .41
    lowest: float  # lowest eigenvalue of H + δI. From 0 up: .89; below, at a saddle or on a kink: .64
    spread: float | None  # of true changes, over retrainings / over examples. Below .3: .87; above (6 networks): .57


@takes_arrays
def trust(model: nn.Module, x: Tensor, y: Tensor, *, damping: float = 0.0, retrained=None, **options) -> Trust:
    """:class:`Trust` in influence at a network's weights; warns where a number speaks against it.

    ``retrained``: true changes ``(r, k)`` of one test loss for k removals, by r ≥ 2 retrainings (other seeds, …).
    ``options`` as for :func:`gradient_norm`. Cost: the whole Hessian, or Lanczos beyond 1,024 parameters.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> trust(model, torch.ones(2, 1), torch.tensor([0.0, 2.0]), loss="mse")
        Trust(gradient=0.0, lowest=1.0, spread=None)
    """
    o, spread = objective(model, x, y, **options), None
    norm, one = _distance(o, stacklevel=4)  # at a perfect fit both are 0
    lowest = float((eigh(hessian(o))[0] if o.p <= SPECTRUM else eigenvalue_range(model, x, y, **options))[0])
    if lowest + damping < 0:
        warnings.warn(indefinite(lowest, damping), stacklevel=3)
    if retrained is not None:
        changes = torch.as_tensor(retrained).double()
        if changes.ndim != 2 or min(changes.shape) < 2 or not -math.inf < changes.min() < changes.max() < math.inf:
            got = f"{tuple(changes.shape)}, {changes.flatten()[:5].tolist()}"
            raise ValueError(f"retrained must be (r, k), at least 2 of each, finite and not all alike; got {got}")
        spread = float((changes.var(0).mean() / changes.mean(0).var()).sqrt())
        if spread > 1:
            warnings.warn(f"retrainings differ {spread:.3g} times as much as examples: one tells little", stacklevel=3)
    return Trust(norm and (norm / one if one else math.inf), lowest + damping, spread)


def _distance(o: Objective, stacklevel: int) -> tuple[float, float]:
    """‖∇L‖ and what one example adds to it; warns where the former is larger."""
    norm, one = float(gradient(o).norm()), mean_square_norm(o) ** 0.5 / o.n
    if norm > one:
        times = f"{norm / one if one else math.inf:.3g} times what removing one example changes it by ({one:.3g})"
        why = f"the objective's gradient has norm {norm:.3g}, {times}; influence presumes less than 1: train on"
        warnings.warn(f"the weights are no optimum: {why}", stacklevel=stacklevel)
    return norm, one


def _removed(o: Objective, examples) -> tuple[Tensor, Tensor]:
    """Examples whose gradients are needed."""
    if examples is None:
        return o.x, o.y
    rows = torch.as_tensor(examples, device=o.x.device)
    fits = rows.ndim == 1 and not rows.is_floating_point() and rows.dtype != torch.bool and len(rows)
    if not fits or not 0 <= rows.min() <= rows.max() < o.n:
        got = f"{rows.dtype} {tuple(rows.shape)}"
        raise ValueError(f"examples must be indices (r,), at least one, from 0 to {o.n - 1}; got {got}")
    return o.x[rows], o.y[rows]


@takes_arrays
def self_influence(
    model: nn.Module, parameters: dict[str, Tensor], x: Tensor, y: Tensor, *, weight_decay: float = 0.0,
    damping: float = 1e-3, device: str = "cpu",
) -> Tensor:  # fmt: skip
    """How much each training example's own loss would rise if it were removed, to first order, per run.

        selfᵢ = (1/n) ∇ℓᵢᵀ (G + δI)⁻¹ ∇ℓᵢ        (the diagonal of :func:`influence` on the training examples themselves)

    with G the Gauss–Newton matrix in EK-FAC's approximation, penalty included, and the cross-entropy as ℓ. High = the
    label is kept up by the example alone (Koh and Liang 2017, section 5.4, look for wrong labels by it). In the basis
    of EK-FAC a dense layer's gradient δaᵀ is (Q_Bᵀδ)(Q_Aᵀa)ᵀ, so that no gradient is written out.

    Args:
        model, parameters: a network of linear layers; name → ``(E, …)``, of E that were trained.
        x, y: what they were trained on, ``(n, …)``; integer labels ``(n,)``, or ``(E, n)`` where runs have their own.
        weight_decay: λ of the training. damping: δ > 0.

    Returns: ``(E, n)``, at least 0, in the unit of the loss: the rise of the example's own loss upon its removal.

    Raises: ValueError for other layers, labels or shapes that do not fit, or λ + δ not positive.

    Cost: 2k backward passes an example and run, and an eigendecomposition of each layer's two factors.

    Example:
        >>> from lib.networks.models import mlp
        >>> still = {"head.weight": torch.zeros(1, 2, 2), "head.bias": torch.zeros(1, 2)}
        >>> self_influence(mlp(2, (), classes=2), still, torch.eye(2), torch.tensor([0, 1]), damping=1.0)
        tensor([[0.3143, 0.3143]])
    """
    if not weight_decay + damping > 0:
        raise ValueError(f"weight_decay + damping must be positive, got {weight_decay} + {damping}")
    net, shift, runs = copy.deepcopy(model), weight_decay + damping, []
    labels = stacked.labels_by_run(y, stacked.stacked_members(model, parameters), len(x))
    for state, labels_of_run in zip(stacked.members(model, parameters, device=device), labels, strict=True):
        net.to(next(iter(state.values())).dtype).load_state_dict(state)
        o = objective(net.eval(), x, labels_of_run, weight_decay=weight_decay, device=device)
        runs.append(_self_products(o, labels_of_run.to(device), shift).cpu() / o.n)
    return torch.stack(runs)


def _self_products(o: Objective, y: Tensor, shift: float) -> Tensor:
    """``∇ℓᵢᵀ (G + shift·I)⁻¹ ∇ℓᵢ`` of each example, ``(n,)``."""
    blocks, state = ekfac(o), {**o.weights, **o.buffers}
    order, size = gradients.layer_order(o.model, state, o.x), gradients.rows_at_once(o.model, state, o.x)
    if any(blocks[name].left is None for name in order):
        raise ValueError("model must have linear layers only")
    products = []
    for rows, labels in zip(o.x.split(size), y.split(size), strict=True):
        error = lambda logits, labels=labels: stacked.errors(logits, labels, o.loss)[:, None]
        total = 0.0
        for name, signal in zip(order, gradients.signals(o.model, state, rows, error), strict=True):
            if signal.inputs is None or signal.inputs.shape[1] != 1:
                raise ValueError(f"model must have linear layers only; {name} is another")
            left, right, values, bias = blocks[name]
            a = signal.inputs[:, 0]
            a = (torch.cat([a, torch.ones_like(a[:, :1])], 1) if bias else a) @ right
            delta = signal.deltas[:, 0, 0] @ left
            total = total + ((delta.square() @ (1 / (values + shift))) * a.square()).sum(1)
        products.append(total)
    return torch.cat(products)
