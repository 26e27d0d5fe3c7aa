"""What gradient descent on a quadratic has done to an eigendirection after t steps, and its partial fractions.

A direction of curvature x has, after t steps of size η from the start,

    discrete     p(x) = η Σ_{s<t} (1 − ηx)ˢ = (1 − (1 − ηx)ᵗ)/x
    continuous   p(x) = (1 − e^{−ηtx})/x                            (and both are 1/x at t = ∞)

in the inverse-problems literature the filter of Landweber iteration. A matrix function is cheap for all principal
submatrices at once where it is a sum of a few resolvents, so ``poles`` writes p as one,

    p(x) ≈ 2 Re Σ_j c_j/(z_j − x)     on 0 ≤ x ≤ X,

from Cauchy's integral by the trapezoidal rule. The contour is the parabola of Weideman and Trefethen (Math. Comp. 76,
2007), whose error falls as 2.85^{−2q} for q poles and any t; for discrete time it is drawn in s = −log(1 − ηx), and
once more, mirrored, around 1 − ηx < 0 where there is such curvature. Below 16 steps p is a polynomial of degree below
16 and the contour is a circle.
"""

import math

import torch
from torch import Tensor

F64 = torch.float64
SMALLEST_TOL = 1e-11  # rounding in float64 ends it there
FEW = 16  # steps up to which the contour is a circle


def check_time(lr: float, steps: float, continuous: bool, top: float = 0.0) -> None:
    """ValueError where the step size or the time makes no sense, or steps diverge at curvatures up to ``top``."""
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"lr must be positive and finite, got {lr}")
    if not steps >= 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    if not continuous and math.isfinite(steps) and steps != int(steps):
        raise ValueError(f"steps must be a whole number or math.inf unless continuous=True, got {steps}")
    if not continuous and lr * top > 2 * (1 + 1e-12):
        why = f"gradient descent on the sum loss diverges; got {lr:.3g} (continuous=True has no such bound)"
        raise ValueError(f"lr must be at most 2 / largest curvature = {2 / top:.3g}, or {why}")


def spectral_filter(x: Tensor, *, lr: float, steps: float, continuous: bool = False) -> Tensor:
    """``p(x)`` by its formula, accurate also where ηx is tiny.

    Args:
        x: curvatures ≥ 0, any shape, floating.
        lr: η > 0. steps: t ≥ 0, ``math.inf`` allowed (then x must be positive, or the value is infinite).
        continuous: gradient flow for the time ηt, in place of t discrete steps.

    Raises: ValueError for an lr or a number of steps out of range.

    Example:
        >>> spectral_filter(torch.tensor([0.0, 0.5, 1.0]), lr=1.0, steps=2)
        tensor([2.0000, 1.5000, 1.0000])
    """
    check_time(lr, steps, continuous)
    if math.isinf(steps):
        return 1 / x
    y, steps = lr * x, float(steps)
    if continuous:
        gone = -torch.expm1(-steps * y)
    else:
        gone = torch.where(y < 0.5, -torch.expm1(steps * torch.log1p(-y.clamp(max=0.5))), 1 - (1 - y) ** steps)
    return torch.where(x == 0, lr * steps, gone / torch.where(x == 0, 1.0, x))


def poles(top: float, *, lr: float, steps: float, continuous: bool = False, tol: float = 1e-10):
    """``z (q,)`` and ``c (q,)``, complex128, of the partial fractions of p on [0, top].

    The error is at most ``tol · min(ηt, 1/x)``, so it is relative to p in continuous time, and in discrete time
    wherever p does not oscillate (ηx ≤ 1). q does not grow with t: 14 poles for tol = 10⁻¹⁰ (28 where η·top > 1);
    below 16 steps about 3t. None for t = 0, one (z = 0, exact) for t = ∞.

    Raises: ValueError for η·top > 2 in discrete time (gradient descent diverges), a ``tol`` outside [10⁻¹¹, 0.1], an lr
    or a number of steps out of range.

    Example:
        >>> z, c = poles(1.0, lr=0.5, steps=100)
        >>> x = torch.tensor([0.0, 0.2, 1.0])
        >>> 2 * (c / (z - x[:, None])).real.sum(1)  # spectral_filter(x, lr=0.5, steps=100)
        tensor([50.0000,  4.9999,  1.0000], dtype=torch.float64)
    """
    check_time(lr, steps, continuous, top)
    if not SMALLEST_TOL <= tol <= 0.1:
        raise ValueError(f"tol must be between {SMALLEST_TOL} and 0.1, got {tol}")
    if steps == 0:
        return torch.zeros(0, dtype=torch.complex128), torch.zeros(0, dtype=torch.complex128)
    if math.isinf(steps):
        return torch.zeros(1, dtype=torch.complex128), torch.full((1,), -0.5, dtype=torch.complex128)
    if not continuous and steps < FEW:
        z, c = _circle(int(steps), tol)
    else:
        z, c = _parabola(steps, continuous, lr * top > 1, tol)
    return z / lr, c


def _parabola(steps: float, continuous: bool, mirrored: bool, tol: float):
    """Poles and coefficients for η = 1: upper half of the nodes ζ(θ) = −ts on the parabola, conjugates left out."""
    count = 2 * math.ceil(math.log(300 / tol) / math.log(2.85) / 2)
    theta = math.pi * (2 * torch.arange(count // 2, dtype=F64) + 1) / count
    zeta = count * torch.complex(0.1309 - 0.1194 * theta**2, 0.25 * theta)
    slope = count * torch.complex(-0.2388 * theta, torch.full_like(theta, 0.25))
    step = slope * (2 * math.pi / count) / steps / (2j * math.pi)  # −ds / 2πi
    s = -zeta / steps
    if continuous:
        return s, torch.exp(zeta) / s * step
    z, power = -torch.expm1(-s), torch.exp(zeta)
    near = [z, power / z * torch.exp(-s) * step]
    if not mirrored:
        return near
    far = 1 + torch.exp(-s)
    return torch.cat([z, far]), torch.cat([near[1], -((-1) ** steps) * power / far * torch.exp(-s) * step])


def _circle(steps: int, tol: float):
    """The same from p's own values on |1 − x| = e^{5/t}, upper half."""
    half = max(math.ceil((math.log(1 / tol) + 5) / 10 * steps), steps // 2 + 1)
    theta = math.pi * (2 * torch.arange(half, dtype=F64) + 1) / (2 * half)
    u = math.exp(5 / steps) * torch.complex(torch.cos(theta), torch.sin(theta))
    return 1 - u, -(1 - u**steps) / (1 - u) * u / (2 * half)
