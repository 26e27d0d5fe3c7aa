"""What leaving out each training example would change in the linearized network: all of them from one factorization.

Training without example i is training with the i-th block of Θ and of the residual deleted. With p_t as a sum of few
resolvents (``lib.spectral_filter.poles``), R_j = (z_j − Θ − λI)⁻¹ and E_i the columns of the identity that belong to
example i, the inverse of a block-deleted matrix (appendix E of Harutyunyan et al. 2021) gives for each i

    α − α₋ᵢ = 2 Re Σ_j c_j R_j E_i (E_iᵀ R_j E_i)⁻¹ E_iᵀ R_j r

and in the eigenbasis of Θ all R_j are diagonal, so all i together take one matrix product. A left-out solution is
never formed and subtracted. At t = ∞ there is one pole, z = 0, and the formula is appendix E's, exact.

With the plain recurrence, α ← α + η M∘(r − (Θ + λI)α) for n masks at once, each step is a matrix product; here the
work does not grow with t.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.linearized import F64, as_sum, check_residual, curvatures, spectrum
from lib.spectral_filter import poles, spectral_filter


@dataclass(frozen=True)
class LeaveOneOut:
    """Changes that each of n examples makes by being there: with it, minus without it. All float64."""

    coefficients: Tensor  # (n·k, n): w − w₋ᵢ = Jᵀ coefficients[:, i]
    squared_weights: Tensor  # (n,): ‖w − w₋ᵢ‖²
    predictions: Tensor | None  # (n, m, k): f_w(x) − f_{w₋ᵢ}(x), where a cross-kernel was given

    def weights(self, jacobian: Tensor) -> Tensor:
        """``w − w₋ᵢ``, ``(n, p)``; with a scaled subsample of J, that projection of it. Cost: 2n²kp operations.

        ``lib.jacobians.weight_changes(model, x, coefficients)`` does the same without holding J.
        """
        return self.coefficients.T.to(jacobian.dtype) @ jacobian


def leave_one_out(
    kernel,
    residual: Tensor,
    *,
    lr: float,
    steps: float,
    weight_decay: float = 0.0,
    cross_kernel: Tensor | None = None,
    continuous: bool = False,
    loss: str = "sum",
    tol: float = 1e-10,
) -> LeaveOneOut:
    """Change of weights and predictions at time t by each training example (eq. 10 and 11, with and without it).

    ``loss="sum"`` keeps η and λ when an example goes: masked training, everything else equal. ``loss="mean"`` is
    training on the n − 1 others with their mean: a step counts n/(n − 1) times as much per example, so that leaving
    one out also rescales time, and λ weighs (n − 1)/n as much against the sum.

    Args:
        kernel: Θ, ``(n·k, n·k)``, or its ``Spectrum``, which saves most of the work when only t, λ, η or the labels
            change.
        residual: targets minus initial outputs, ``(n, k)`` or ``(n,)``.
        lr, weight_decay, steps, continuous, loss: as in ``lib.linearized.coefficients``.
        cross_kernel: Θ(X_val, X), ``(m·k, n·k)``, for the changes of predictions on m other examples.
        tol: ‖error of w − w₋ᵢ‖ is at most tol(‖w − w₀‖ + ‖w₋ᵢ − w₀‖), in continuous time; in discrete time with
            curvatures above 1/η the same bound holds with |p_t(x)| replaced by min(ηt, 1/x).

    Raises:
        ValueError: for shapes that disagree, a discrete η at which training diverges, a singular kernel without decay
            at t = ∞, options out of range.

    Cost: with N = n·k and q poles, an eigendecomposition, then about ``2N²(n + kq(k + 3))`` operations and
    ``2mkNn`` for predictions.

    Example:
        >>> changes = leave_one_out(torch.eye(2), torch.tensor([1.0, 2.0]), lr=0.5, steps=1)
        >>> changes.squared_weights  # orthogonal examples: each moves the weights along its own direction, by η·r
        tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    kernel = spectrum(kernel)
    values, vectors = kernel.values, kernel.vectors
    residual = check_residual(residual, len(values)).to(values.device)
    n, k = residual.shape
    if loss == "mean" and n < 2:
        raise ValueError("residual must hold at least two examples with loss='mean', got one")
    time = {"steps": steps, "continuous": continuous}
    all_lr, all_decay = as_sum(n, lr=lr, weight_decay=weight_decay, loss=loss)
    less_lr, less_decay = as_sum(n - 1, lr=lr, weight_decay=weight_decay, loss=loss)
    x = curvatures(values, lr=less_lr, weight_decay=less_decay, **time)
    along = vectors.T @ residual.flatten()  # (N,)

    moved = _masked(x, vectors, along, n, k, poles(x[-1].item(), lr=less_lr, tol=tol, **time))  # (N, n)
    if loss == "mean":  # what n − 1 in place of n does to the whole
        x_all = curvatures(values, lr=all_lr, weight_decay=all_decay, **time)
        gain = spectral_filter(x_all, lr=all_lr, **time) - spectral_filter(x, lr=less_lr, **time)
        moved += (gain * along)[:, None]
    squared = values @ moved**2
    coefficients = vectors @ moved
    return LeaveOneOut(coefficients, squared, _predictions(cross_kernel, coefficients, k))


def prediction_changes(
    kernel, residual: Tensor, cross_kernel: Tensor, *, lr: float, steps: float, continuous: bool = False,
    tol: float = 1e-10, turned: bool = False,
) -> Tensor:  # fmt: skip
    """``LeaveOneOut.predictions`` of a network with one output, ``(n, m)``, and nothing else: less work for few inputs.

    Arguments and errors as in :func:`leave_one_out`, with ``loss="sum"`` and no decay.

    Args:
        residual: ``(n,)``.
        turned: ``cross_kernel`` is already in the eigenbasis of the kernel, ``cross_kernel @ kernel.vectors``, which
            pays where many residuals share a kernel.

    Cost: an eigendecomposition (none if a ``Spectrum`` is given), then 2mn² + 4qn² operations for q = 14 poles or so,
    where :func:`leave_one_out` takes 2n³ more.

    Example:
        >>> prediction_changes(torch.eye(2), torch.tensor([1.0, 2.0]), torch.ones(1, 2), lr=0.5, steps=1)
        tensor([[0.5000],
                [1.0000]], dtype=torch.float64)
    """
    kernel = spectrum(kernel)
    residual = check_residual(residual, len(kernel.values)).to(kernel.values.device)
    if residual.shape[1] != 1 or cross_kernel.ndim != 2 or cross_kernel.shape[1] != len(residual):
        raise ValueError(
            f"expected residual (n,) and cross_kernel (m, n) for n = {len(kernel.values)}, got "
            f"{tuple(residual.shape)} and {tuple(cross_kernel.shape)}"
        )
    time = {"steps": steps, "continuous": continuous}
    x = curvatures(kernel.values, lr=lr, weight_decay=0.0, **time)
    fractions = poles(x[-1].item(), lr=lr, tol=tol, **time)
    moved = _masked(x, kernel.vectors, kernel.vectors.T @ residual[:, 0], len(residual), 1, fractions)
    cross = cross_kernel.to(moved)
    return ((cross if turned else cross @ kernel.vectors) @ moved).T


def _masked(x: Tensor, vectors: Tensor, along: Tensor, n: int, k: int, partial_fractions) -> Tensor:
    """``Vᵀ(α − α₋ᵢ)`` for every i, ``(N, n)``, for one filter; x the curvatures, along = Vᵀr."""
    z, c = (t.to(x.device) for t in partial_fractions)
    if not len(z):
        return torch.zeros(len(x), n, dtype=F64, device=x.device)
    resolvents = 1 / (z - x[:, None])  # (N, q)
    both = torch.view_as_real(resolvents).flatten(1)  # (N, 2q): a complex product as one real product
    outputs = vectors.view(n, k, -1)
    seen = torch.view_as_complex((vectors @ (both * along[:, None])).view(n, k, -1, 2))  # E_iᵀR_j r, (n, k, q)
    blocks = torch.empty(n, k, k, len(z), dtype=z.dtype, device=z.device)  # E_iᵀR_jE_i
    for a in range(k):
        for b in range(a + 1):
            block = ((outputs[:, a] * outputs[:, b]) @ both).view(n, -1, 2)
            blocks[:, a, b] = blocks[:, b, a] = torch.view_as_complex(block)
    if k == 1:
        pulls = c * seen[:, 0] / blocks[:, 0, 0]
        pulls = pulls[:, None]
    else:
        pulls = c * torch.linalg.solve(blocks.permute(0, 3, 1, 2), seen.transpose(1, 2)).transpose(1, 2)  # (n, k, q)
    signed = torch.view_as_real((2 * pulls).conj().resolve_conj()).flatten(2)  # Re(ab) = Re a Re b − Im a Im b
    moved = both @ signed[:, 0].T * outputs[:, 0].T
    for a in range(1, k):
        moved.addcmul_(both @ signed[:, a].T, outputs[:, a].T)
    return moved


def _predictions(cross_kernel, coefficients: Tensor, k: int) -> Tensor | None:
    if cross_kernel is None:
        return None
    cross_kernel = torch.as_tensor(cross_kernel)
    if cross_kernel.ndim != 2 or cross_kernel.shape[1] != len(coefficients) or len(cross_kernel) % k:
        raise ValueError(
            f"cross_kernel must be (m·k, n·k), k = {k} and n·k = {len(coefficients)}, got {tuple(cross_kernel.shape)}"
        )
    changes = coefficients.T @ cross_kernel.to(coefficients).T  # (n, m·k)
    return changes.view(len(changes), -1, k)
