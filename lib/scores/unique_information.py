"""Unique information of an example: what the linearized network would lose without it (Harutyunyan et al., ICLR 2021).

**The linearized network** (section 5, appendix F). With J = ∂f₀(X)/∂w, the Jacobian of all outputs at the initial
weights w₀, it is f(x) = f₀(x) + ∇f₀(x)ᵀ(w − w₀), and gradient descent on the squared error, with decay towards w₀, has
after t steps

    w − w₀ = Jᵀα,   f(x) − f₀(x) = Θ(x, X)α,   α = p_t(Θ + λI)(Y − f₀(X)),   Θ = JJᵀ     (eq. 10, 11, 50, 53)

where p_t is the filter of ``lib.numerics.spectral_filter``: all that training does is in n·k coefficients α, and
neither J nor the weights are needed for predictions. Rows of J and Θ are example by example, output by output within.

**Losses.** ``loss="sum"``, the paper's:   L = Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖².
``loss="mean"``, as in ``lib.training``:   L = (1/n) Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖²,
which is the sum with η/n for η and nλ for λ. Outputs and targets carry the unit of y, η that of 1/Θ, λ that of Θ.
:func:`changes` and :func:`f_si` take η and λ of the mean loss, as the authors' code does. An example that is left out
leaves the others' steps as they are (η/n each, n the rows with it); in their code these become η/(n − 1).

**Leaving one out** deletes the i-th block of Θ and of the residual r. With p_t as a sum of few resolvents
(``spectral_filter.poles``), R_j = (z_j − Θ − λI)⁻¹ and E_i the columns of the identity that belong to example i, the
inverse of a block-deleted matrix (appendix E) gives for each i

    α − α₋ᵢ = 2 Re Σ_j c_j R_j E_i (E_iᵀ R_j E_i)⁻¹ E_iᵀ R_j r

and in the eigenbasis of Θ all R_j are diagonal, so all i together take one matrix product: no left-out solution is
formed and subtracted, and the work does not grow with t. At t = ∞ there is one pole, z = 0, and this is appendix E's
formula, exact.

**Information** in nats is the KL divergence between training with i and without it, smoothed by Gaussian noise of
covariance Σ (eq. 5), or of variance σ² on the predictions for m inputs x (eq. 16):

    SI(i) = ½ (w − w₋ᵢ)ᵀ Σ⁻¹ (w − w₋ᵢ),        F-SI(i) = 1/(2σ²m) Σ_x ‖f_w(x) − f_{w₋ᵢ}(x)‖²

Σ may be σ²I; σ²F⁻¹ with Fisher's F, which makes SI the F-SI of a linearized network (eq. 17); or what SGD leaves around
the minimum (eq. 14).
"""

import copy
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lib.costs import one_of
from lib.networks.stacked import labels_below
from lib.numerics.curvature import eigh
from lib.numerics.gradients import jacobians, ntk
from lib.numerics.spectral_filter import F64, check_time, poles, spectral_filter
from lib.scores import takes_arrays

LOSSES = ("sum", "mean")


@dataclass(frozen=True)
class Spectrum:
    """Θ = V diag(values) Vᵀ in float64, values ascending and not negative."""

    values: Tensor  # (N,)
    vectors: Tensor  # (N, N), columns


@takes_arrays
def spectrum(kernel) -> Spectrum:
    """Eigendecomposition of a kernel, in float64; every time, decay and step size can share one.

    Negative eigenvalues of the size of rounding in the kernel's own precision are set to 0. A ``Spectrum`` is returned
    as it is. Cost: about 9N³ operations, 3N² numbers.

    Raises: ValueError for a kernel that is not square, finite, symmetric and positive semidefinite (up to rounding).

    Example:
        >>> spectrum(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).values
        tensor([1., 3.], dtype=torch.float64)
    """
    if isinstance(kernel, Spectrum):
        return kernel
    kernel = torch.as_tensor(kernel)
    if kernel.ndim != 2 or len(kernel) != kernel.shape[1] or len(kernel) == 0:
        raise ValueError(f"kernel must be square, (n·k, n·k), got {tuple(kernel.shape)}")
    eps = torch.finfo(kernel.dtype if kernel.is_floating_point() else F64).eps
    kernel = kernel.to(F64)
    if not kernel.isfinite().all():
        raise ValueError("kernel must be finite")
    slack = len(kernel) * torch.finfo(torch.float32).eps * kernel.diagonal().abs().max()  # whatever holds it now
    if (apart := (kernel - kernel.T).abs().max()) > slack:
        raise ValueError(f"kernel must be symmetric, got entries that differ by {apart:.3g} across the diagonal")
    values, vectors = eigh((kernel + kernel.T) / 2)
    if values[0] < -len(kernel) * eps * values.abs().max():
        raise ValueError(f"kernel must be positive semidefinite, got an eigenvalue of {values[0]:.3g}")
    return Spectrum(values.clamp_(min=0), vectors)


@takes_arrays
def coefficients(
    kernel, residual: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0, continuous: bool = False,
    loss: str = "sum",
) -> Tensor:  # fmt: skip
    """α, from which come weights, ``w = w₀ + Jᵀα``, and predictions, ``f(x) = f₀(x) + Θ(x, X)α``, at time t.

    Args:
        kernel: Θ, ``(n·k, n·k)``, or its ``Spectrum``.
        residual: targets minus initial outputs, ``y − f₀(X)``, ``(n, k)`` or ``(n,)``.
        lr, weight_decay: η and λ of the loss that ``loss`` names, ``"sum"`` or ``"mean"``.
        steps: t; ``math.inf`` for the limit. continuous: gradient flow for the time ηt.

    Returns: ``(n, k)`` float64; a positive entry pushes that output up, and near outputs with it.

    Raises: ValueError for shapes that disagree, a discrete η at which training diverges, a singular kernel without
    decay at t = ∞, options out of range.

    Cost: an eigendecomposition (none if a ``Spectrum`` is given), then O(N²) for N = n·k.

    Example:
        >>> coefficients(torch.eye(2), torch.tensor([1.0, 2.0]), lr=0.5, steps=1)
        tensor([[0.5000],
                [1.0000]], dtype=torch.float64)
    """
    kernel = spectrum(kernel)
    residual = _residuals(residual, len(kernel.values))
    lr, weight_decay = _as_sum(len(residual), lr=lr, weight_decay=weight_decay, loss=loss)
    x = _curvatures(kernel.values, lr=lr, steps=steps, weight_decay=weight_decay, continuous=continuous)
    gain = spectral_filter(x, lr=lr, steps=steps, continuous=continuous)
    along = kernel.vectors.T @ residual.to(x.device).flatten()
    return (kernel.vectors @ (gain * along)).view_as(residual)


@dataclass(frozen=True)
class LeaveOneOut:
    """Changes that each of n examples makes by being there: with it, minus without it. All float64."""

    coefficients: Tensor  # (n·k, n): w − w₋ᵢ = Jᵀ coefficients[:, i]
    squared_weights: Tensor  # (n,): ‖w − w₋ᵢ‖²
    predictions: Tensor | None  # (n, m, k): f_w(x) − f_{w₋ᵢ}(x), where a cross-kernel was given

    def weights(self, jacobian: Tensor) -> Tensor:
        """``w − w₋ᵢ``, ``(n, p)``, in 2n²kp operations."""
        return self.coefficients.T.to(jacobian.dtype) @ jacobian


@takes_arrays
def leave_one_out(
    kernel, residual: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0,
    cross_kernel: Tensor | None = None, continuous: bool = False, loss: str = "sum", tol: float = 1e-10,
) -> LeaveOneOut:  # fmt: skip
    """Change of weights and predictions at time t by each training example (eq. 10 and 11, with and without it).

    ``loss="sum"`` keeps η and λ when an example goes: masked training, everything else equal. ``loss="mean"`` is
    training on the n − 1 others with their mean: a step counts n/(n − 1) times as much per example, so that leaving
    one out also rescales time, and λ weighs (n − 1)/n as much against the sum.

    Args:
        kernel, residual, lr, steps, weight_decay, continuous, loss: as in :func:`coefficients`; a ``Spectrum`` saves
            most of the work when only t, λ, η or the labels change.
        cross_kernel: Θ(X_val, X), ``(m·k, n·k)``, for the changes of predictions on m other examples.
        tol: ‖error of w − w₋ᵢ‖ is at most tol(‖w − w₀‖ + ‖w₋ᵢ − w₀‖), in continuous time; in discrete time with
            curvatures above 1/η the same bound holds with |p_t(x)| replaced by min(ηt, 1/x).

    Raises: as :func:`coefficients`.

    Cost: with N = n·k and q poles, an eigendecomposition, then about ``2N²(n + kq(k + 3))`` operations and
    ``2mkNn`` for predictions.

    Example:
        >>> changes = leave_one_out(torch.eye(2), torch.tensor([1.0, 2.0]), lr=0.5, steps=1)
        >>> changes.squared_weights  # orthogonal examples: each moves the weights along its own direction, by η·r
        tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    kernel = spectrum(kernel)
    values, vectors = kernel.values, kernel.vectors
    residual = _residuals(residual, len(values)).to(values.device)
    n, k = residual.shape
    if loss == "mean" and n < 2:
        raise ValueError("residual must hold at least two examples with loss='mean', got one")
    time = {"steps": steps, "continuous": continuous}
    all_lr, all_decay = _as_sum(n, lr=lr, weight_decay=weight_decay, loss=loss)
    less_lr, less_decay = _as_sum(n - 1, lr=lr, weight_decay=weight_decay, loss=loss)
    x = _curvatures(values, lr=less_lr, weight_decay=less_decay, **time)
    along = vectors.T @ residual.flatten()  # (N,)

    moved = _masked(x, vectors.view(n, k, -1), along, poles(x[-1].item(), lr=less_lr, tol=tol, **time))  # (N, n)
    if loss == "mean":  # what n − 1 in place of n does to the whole
        x_all = _curvatures(values, lr=all_lr, weight_decay=all_decay, **time)
        gain = spectral_filter(x_all, lr=all_lr, **time) - spectral_filter(x, lr=less_lr, **time)
        moved += (gain * along)[:, None]
    coefficients, predictions = vectors @ moved, None
    if cross_kernel is not None:
        cross = torch.as_tensor(cross_kernel)
        if cross.ndim != 2 or cross.shape[1] != n * k or len(cross) % k:
            raise ValueError(f"cross_kernel must be (m·k, n·k), k = {k} and n·k = {n * k}, got {tuple(cross.shape)}")
        predictions = (coefficients.T @ cross.to(coefficients).T).view(n, -1, k)
    return LeaveOneOut(coefficients, values @ moved**2, predictions)


@takes_arrays
def prediction_changes(
    kernel, residual: Tensor, cross_kernel: Tensor, *, lr: float, steps: float, continuous: bool = False,
    tol: float = 1e-10, turned: bool = False,
) -> Tensor:  # fmt: skip
    """``LeaveOneOut.predictions`` of a network with one output, ``(n, m)``, and nothing else: less work for few inputs.

    Arguments and errors as in :func:`leave_one_out`, with ``loss="sum"`` and no decay.

    Args:
        residual: ``(n,)``. turned: ``cross_kernel`` is in the kernel's eigenbasis, ``cross_kernel @ kernel.vectors``.

    Cost: an eigendecomposition (none if a ``Spectrum`` is given), then 2mn² + 4qn² operations for q = 14 poles or so,
    where :func:`leave_one_out` takes 2n³ more.

    Example:
        >>> prediction_changes(torch.eye(2), torch.tensor([1.0, 2.0]), torch.ones(1, 2), lr=0.5, steps=1)
        tensor([[0.5000],
                [1.0000]], dtype=torch.float64)
    """
    kernel = spectrum(kernel)
    residual = _residuals(residual, len(kernel.values)).to(kernel.values.device)
    if residual.shape[1] != 1 or cross_kernel.ndim != 2 or cross_kernel.shape[1] != len(residual):
        got = f"{tuple(residual.shape)} and {tuple(cross_kernel.shape)}"
        raise ValueError(f"expected residual (n,) and cross_kernel (m, n) for n = {len(kernel.values)}, got {got}")
    time = {"steps": steps, "continuous": continuous}
    x = _curvatures(kernel.values, lr=lr, weight_decay=0.0, **time)
    fractions = poles(x[-1].item(), lr=lr, tol=tol, **time)
    moved = _masked(x, kernel.vectors[:, None], kernel.vectors.T @ residual[:, 0], fractions)
    cross = cross_kernel.to(moved)
    return ((cross if turned else cross @ kernel.vectors) @ moved).T


@takes_arrays
def functional_sample_information(changes: Tensor, *, sigma: float = 1.0) -> Tensor:
    """F-SI of each example in nats (eq. 16), ``(n,)``; high = it changes predictions as no other example would.

    Args:
        changes: ``f_w(x) − f_{w₋ᵢ}(x)``, ``(n, m, k)`` (``LeaveOneOut.predictions``); the sign does not matter.
        sigma: σ of the noise on the predictions, in the unit of the outputs. A factor only; the paper sets 1.

    Raises: ValueError for another shape, or σ not positive.

    Example:
        >>> functional_sample_information(torch.tensor([[[1.0], [3.0]]]))
        tensor([2.5000])
    """
    if changes.ndim != 3:
        raise ValueError(f"changes must be (n, m, k), got {tuple(changes.shape)}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    return changes.square().sum((1, 2)) / (2 * sigma**2 * changes.shape[1])


@takes_arrays
def sample_information(changes: Tensor, *, covariance=None, precision=None) -> Tensor:
    """SI of each example in nats (eq. 5), ``(n,)`` float64, with weights smoothed by noise of a covariance Σ.

    Args:
        changes: ``w − w₋ᵢ``, ``(n, p)``; the sign does not matter.
        covariance: Σ, as a number σ² (isotropic) or ``(p, p)``.
        precision: Σ⁻¹ in its place, as a number or ``(p, p)``; singular is allowed (σ⁻²F, of few validation data).

    Raises: ValueError unless exactly one of the two is given and has the right shape; for a covariance that is not
    positive definite.

    Cost: isotropic O(np), or none (it is ``LeaveOneOut.squared_weights / 2σ²``); else 2np², and p³/3 for a covariance.

    Example:
        >>> sample_information(torch.tensor([[3.0, 4.0]]), covariance=0.5)
        tensor([25.], dtype=torch.float64)
    """
    if (covariance is None) == (precision is None):
        raise ValueError("give covariance or precision, one of them")
    if changes.ndim != 2:
        raise ValueError(f"changes must be (n, p), got {tuple(changes.shape)}")
    changes = changes.to(F64)
    name, given = ("covariance", covariance) if precision is None else ("precision", precision)
    given = torch.as_tensor(given, dtype=F64, device=changes.device)
    if given.ndim == 0:
        if not given > 0:
            raise ValueError(f"{name} must be positive, got {given}")
        return changes.square().sum(1) / 2 * (given if precision is not None else 1 / given)
    if tuple(given.shape) != (changes.shape[1],) * 2:
        raise ValueError(f"{name} must be a number or {(changes.shape[1],) * 2}, got {tuple(given.shape)}")
    if precision is not None:
        return ((changes @ given) * changes).sum(1) / 2
    factor, failed = torch.linalg.cholesky_ex(given)
    if failed:
        raise ValueError("covariance must be positive definite: weights that no noise reaches tell everything")
    return torch.linalg.solve_triangular(factor, changes.T, upper=False).square().sum(0) / 2


@dataclass(frozen=True)
class Tangent:
    """What a linearized network is on n training and m other inputs, with k outputs."""

    kernel: Tensor  # (n·k, n·k)
    cross_kernel: Tensor  # (m·k, n·k)
    outputs: Tensor  # (n, k), at the initial weights

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigendecomposition of the kernel, computed when first asked for."""
        return spectrum(self.kernel)


@takes_arrays
def tangent(model: nn.Module, x: Tensor, x_val: Tensor, *, per_layer: int | None = None, seed: int = 0) -> Tangent:
    """Linearize a network at its present weights, in evaluation mode.

    Args:
        x, x_val: training and other inputs, ``(n, …)`` and ``(m, …)``.
        per_layer: coordinates kept of each parameter tensor (drawn by ``seed``); None = the exact kernel.

    Cost and errors: those of ``lib.numerics.gradients.ntk`` or ``jacobians``.

    Example:
        >>> net = tangent(nn.Linear(2, 1), torch.eye(2), torch.ones(1, 2))
        >>> net.kernel, net.cross_kernel  # x·x′ + 1
        (tensor([[2., 1.],
                [1., 2.]]), tensor([[2., 2.]]))
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        outputs = torch.cat([model(rows.to(next(model.parameters()))) for rows in x.split(512)])
    if per_layer is None:
        return Tangent(ntk(model, x), ntk(model, x, x_val), outputs)
    j, j_val = (jacobians(model, rows, per_layer=per_layer, seed=seed) for rows in (x, x_val))
    return Tangent(j @ j.T, j_val @ j.T, outputs)


def regression_targets(y: Tensor, outputs: int) -> Tensor:
    """Labels as regression targets ``(n, k)``: 0 and 1 for one output, one-hot for more.

    Raises: ValueError for labels that so many outputs cannot tell apart.

    Example:
        >>> regression_targets(torch.tensor([0, 1]), 1).flatten()
        tensor([0., 1.], dtype=torch.float64)
    """
    y = labels_below(y, outputs)
    return y[:, None].to(F64) if outputs == 1 else torch.nn.functional.one_hot(y, outputs).to(F64)


@takes_arrays
def changes(net: Tangent, y: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0) -> Tensor:
    """What each training example changes in the predictions on the other inputs, ``(n, m, k)``: with it minus without.

    Args:
        y: labels ``(n,)``, see :func:`regression_targets`.
        lr, steps, weight_decay: η and λ of the mean loss, t full-batch steps (``math.inf`` allowed).
    """
    n, k = net.outputs.shape
    residual = regression_targets(y, k) - net.outputs.to(F64)
    training = {"lr": lr / n, "steps": steps, "weight_decay": n * weight_decay}
    return leave_one_out(net.spectrum, residual, cross_kernel=net.cross_kernel, **training).predictions


def f_si(net: Tangent, y: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0, sigma: float = 1.0) -> Tensor:
    """Functional sample information of each training example in nats, ``(n,)`` float64 (Harutyunyan et al. eq. 16).

    High = predictions on the other inputs would differ without it. Arguments as in :func:`changes`; σ is their noise.

    Example:
        >>> net = Tangent(torch.eye(2), torch.ones(1, 2), torch.zeros(2, 1))
        >>> f_si(net, torch.tensor([0, 1]), lr=2.0, steps=1)  # the second moves the prediction by η/n · 1 = 1
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    return functional_sample_information(changes(net, y, lr=lr, steps=steps, weight_decay=weight_decay), sigma=sigma)


@takes_arrays
def f_si_by_class(
    net: Tangent, y: Tensor, *, classes: int, lr: float, steps: float, continuous: bool = False, sigma: float = 1.0
) -> Tensor:
    """F-SI summed over networks of one output, one a class, each told its class from the rest, ``(n,)`` float64.

        Σ_c (1/2σ²) E_x (f^c(x) − f^c₋ᵢ(x))²        f^c fits 1[y = c], all from the same initial weights

    The k networks share a kernel of n rows, not n·k; in infinite width the mean over initial weights is the same.

    Args:
        net: with one output.
        y: labels ``(n,)``, or ``(r, n)`` for r labellings, which give ``(r, n)``.
        classes: k. lr, steps: as in :func:`changes`. continuous: gradient flow for the time ηt, stable for any η.

    Raises: ValueError for a network with more outputs, labels out of range, a step size at which training diverges.

    Cost: an eigendecomposition of n rows, then per class and labelling 2mn² operations for m other inputs.

    Example:
        >>> net = Tangent(torch.eye(2), torch.ones(1, 2), torch.zeros(2, 1))
        >>> f_si_by_class(net, torch.tensor([0, 1]), classes=2, lr=2.0, steps=1)  # each moves its own class alone, by 1
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    n = len(net.outputs)
    if net.outputs.shape[1] != 1 or y.shape[-1:] != (n,):
        got = f"{net.outputs.shape[1]} outputs and y {tuple(y.shape)}"
        raise ValueError(f"expected a network of one output and y (…, {n}), got {got}")
    cross, scores = net.cross_kernel.to(F64) @ net.spectrum.vectors, []
    how = {"lr": lr / n, "steps": steps, "continuous": continuous, "turned": True}
    for labels in y.reshape(-1, n):
        goals = regression_targets(labels.to(net.outputs.device), max(classes, 2)) - net.outputs.to(F64)
        moved = (prediction_changes(net.spectrum, goal, cross, **how) for goal in goals.T)
        scores.append(sum(functional_sample_information(each[..., None], sigma=sigma) for each in moved))
    return torch.stack(scores).view(y.shape)


def _as_sum(n: int, *, lr: float, weight_decay: float, loss: str) -> tuple[float, float]:
    """η and λ of the sum loss over n examples that does the same."""
    one_of("loss", loss, LOSSES)
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    return (lr, weight_decay) if loss == "sum" else (lr / n, weight_decay * n)


def _curvatures(values: Tensor, *, lr: float, steps: float, weight_decay: float, continuous: bool) -> Tensor:
    """Eigenvalues of Θ + λI, or ValueError where training as described diverges or has no limit."""
    x = values + weight_decay
    check_time(lr, steps, continuous, x[-1])
    if math.isinf(steps) and x[0] <= len(x) * torch.finfo(F64).eps * x[-1]:
        zero = f"{int((values <= len(x) * 2e-16 * values[-1]).sum())} eigenvalues of {len(x)} are 0"
        cure = "give weight_decay > 0 or a large finite number of steps"
        raise ValueError(f"kernel is singular ({zero}): at t = ∞ the coefficients grow without bound; {cure}")
    return x


def _residuals(residual, size: int) -> Tensor:
    """Residuals as float64 ``(n, k)`` with n·k = size."""
    residual = torch.as_tensor(residual)
    if residual.ndim not in (1, 2) or residual.numel() != size:
        raise ValueError(f"residual must be (n,) or (n, k) with n·k = {size}, got {tuple(residual.shape)}")
    if not residual.isfinite().all():
        raise ValueError("residual must be finite, got NaN or infinity")
    return residual.to(F64).reshape(len(residual), -1)


def _masked(x: Tensor, outputs: Tensor, along: Tensor, partial_fractions) -> Tensor:
    """``Vᵀ(α − α₋ᵢ)`` for every i, ``(N, n)``, for one filter; x the curvatures, outputs V (n, k, N), along = Vᵀr."""
    n, k, size = outputs.shape
    z, c = (t.to(x.device) for t in partial_fractions)
    if not len(z):
        return torch.zeros(size, n, dtype=F64, device=x.device)
    resolvents = 1 / (z - x[:, None])  # (N, q)
    both = torch.view_as_real(resolvents).flatten(1)  # (N, 2q): a complex product as one real product
    seen = (outputs.reshape(n * k, size) @ (both * along[:, None])).view(n, k, -1, 2)
    seen = torch.view_as_complex(seen)  # E_iᵀR_j r, (n, k, q)
    blocks = torch.empty(n, k, k, len(z), dtype=z.dtype, device=z.device)  # E_iᵀR_jE_i
    for a in range(k):
        for b in range(a + 1):
            block = ((outputs[:, a] * outputs[:, b]) @ both).view(n, -1, 2)
            blocks[:, a, b] = blocks[:, b, a] = torch.view_as_complex(block)
    if k == 1:
        pulls = (c * seen[:, 0] / blocks[:, 0, 0])[:, None]
    else:
        pulls = c * torch.linalg.solve(blocks.permute(0, 3, 1, 2), seen.transpose(1, 2)).transpose(1, 2)  # (n, k, q)
    signed = torch.view_as_real((2 * pulls).conj().resolve_conj()).flatten(2)  # Re(ab) = Re a Re b − Im a Im b
    moved = both @ signed[:, 0].T * outputs[:, 0].T
    for a in range(1, k):
        moved.addcmul_(both @ signed[:, a].T, outputs[:, a].T)
    return moved
