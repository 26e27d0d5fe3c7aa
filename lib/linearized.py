"""The linearized network (Harutyunyan et al., ICLR 2021, section 5 and appendix F): its training in closed form.

With J = ∂f₀(X)/∂w, the Jacobian of all outputs at the initial weights w₀, the network is f(x) = f₀(x) + ∇f₀(x)ᵀ(w − w₀)
and gradient descent on the squared error, with decay towards w₀, has after t steps

    w − w₀ = Jᵀα,   f(x) − f₀(x) = Θ(x, X)α,   α = p_t(Θ + λI)(Y − f₀(X)),   Θ = JJᵀ     (eq. 10, 11, 50, 53)

where p_t is the filter of ``lib.spectral_filter``: all that training does is in n·k coefficients α, and neither J nor
the weights are needed for predictions. Rows of J and Θ are example by example, output by output within.

Conventions. ``loss="sum"``, the paper's:   L = Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖².
``loss="mean"``, that of ``lib.recipe`` and of most code:   L = (1/n) Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖²,
which is the sum with η/n for η and nλ for λ. Outputs and targets carry the unit of y, η that of 1/Θ, λ that of Θ.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.jacobians import coordinates, jacobians, ntk, weight_changes
from lib.spectral_filter import F64, check_time, poles, spectral_filter

__all__ = [
    "Spectrum",
    "coefficients",
    "coordinates",
    "jacobians",
    "ntk",
    "poles",
    "spectral_filter",
    "spectrum",
    "weight_changes",
]

LOSSES = ("sum", "mean")


@dataclass(frozen=True)
class Spectrum:
    """Θ = V diag(values) Vᵀ in float64, values ascending and not negative."""

    values: Tensor  # (N,)
    vectors: Tensor  # (N, N), columns


def spectrum(kernel) -> Spectrum:
    """Eigendecomposition of a kernel, in float64; every time, decay and step size can share one.

    Negative eigenvalues of the size of rounding in the kernel's own precision are set to 0. A ``Spectrum`` is returned
    as it is. Cost: about 9N³ operations, 3N² numbers.

    Raises:
        ValueError: for a kernel that is not square, finite, symmetric and positive semidefinite (up to rounding).

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
    slack = len(kernel) * eps * kernel.diagonal().abs().max()
    if (apart := (kernel - kernel.T).abs().max()) > slack:
        raise ValueError(f"kernel must be symmetric, got entries that differ by {apart:.3g} across the diagonal")
    values, vectors = torch.linalg.eigh((kernel + kernel.T) / 2)
    if values[0] < -len(kernel) * eps * values.abs().max():
        raise ValueError(f"kernel must be positive semidefinite, got an eigenvalue of {values[0]:.3g}")
    return Spectrum(values.clamp_(min=0), vectors)


def as_sum(n: int, *, lr: float, weight_decay: float, loss: str) -> tuple[float, float]:
    """η and λ of the sum loss over n examples that does the same."""
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    return (lr, weight_decay) if loss == "sum" else (lr / n, weight_decay * n)


def curvatures(values: Tensor, *, lr: float, steps: float, weight_decay: float, continuous: bool) -> Tensor:
    """Eigenvalues of Θ + λI, or ValueError where training as described diverges or has no limit."""
    check_time(lr, steps, continuous)
    x = values + weight_decay
    if not continuous and lr * x[-1] > 2 * (1 + 1e-12):
        raise ValueError(
            f"lr must be at most 2 / largest curvature = {2 / x[-1]:.3g} (for the sum loss), or gradient descent "
            f"diverges; got {lr:.3g} (continuous=True has no such bound)"
        )
    if math.isinf(steps) and x[0] <= len(x) * torch.finfo(F64).eps * x[-1]:
        raise ValueError(
            f"kernel is singular ({int((values <= len(x) * 2e-16 * values[-1]).sum())} eigenvalues of {len(x)} are 0): "
            "at t = ∞ the coefficients grow without bound; give weight_decay > 0 or a large finite number of steps"
        )
    return x


def check_residual(residual, size: int) -> Tensor:
    """Residuals as float64 ``(n, k)`` with n·k = size."""
    residual = torch.as_tensor(residual)
    if residual.ndim not in (1, 2) or residual.numel() != size:
        raise ValueError(f"residual must be (n,) or (n, k) with n·k = {size}, got {tuple(residual.shape)}")
    return residual.to(F64).reshape(len(residual), -1)


def coefficients(
    kernel,
    residual: Tensor,
    *,
    lr: float,
    steps: float,
    weight_decay: float = 0.0,
    continuous: bool = False,
    loss: str = "sum",
) -> Tensor:
    """α, from which come weights, ``w = w₀ + Jᵀα``, and predictions, ``f(x) = f₀(x) + Θ(x, X)α``, at time t.

    Args:
        kernel: Θ, ``(n·k, n·k)``, or its ``Spectrum``.
        residual: targets minus initial outputs, ``y − f₀(X)``, ``(n, k)`` or ``(n,)``.
        lr, weight_decay: η and λ of the loss that ``loss`` names (see the module).
        steps: t; ``math.inf`` for the limit. ``continuous``: gradient flow for the time ηt.
        loss: ``"sum"`` or ``"mean"``.

    Returns:
        ``(n, k)`` float64; a positive entry pushes that output up, and near outputs with it.

    Raises:
        ValueError: for shapes that disagree, a discrete η at which training diverges, a singular kernel without decay
            at t = ∞, options out of range.

    Cost: an eigendecomposition (none if a ``Spectrum`` is given), then O(N²) for N = n·k.

    Example:
        >>> coefficients(torch.eye(2), torch.tensor([1.0, 2.0]), lr=0.5, steps=1)
        tensor([[0.5000],
                [1.0000]], dtype=torch.float64)
    """
    kernel = spectrum(kernel)
    residual = check_residual(residual, len(kernel.values))
    lr, weight_decay = as_sum(len(residual), lr=lr, weight_decay=weight_decay, loss=loss)
    x = curvatures(kernel.values, lr=lr, steps=steps, weight_decay=weight_decay, continuous=continuous)
    gain = spectral_filter(x, lr=lr, steps=steps, continuous=continuous)
    along = kernel.vectors.T @ residual.to(x.device).flatten()
    return (kernel.vectors @ (gain * along)).view_as(residual)
