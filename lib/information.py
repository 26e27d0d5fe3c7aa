"""How much a training example tells the weights, or the predictions: smooth unique information, in nats.

The sample information of example i is the KL divergence between training with it and without it; for a deterministic
training smoothed by Gaussian noise of covariance Σ (Harutyunyan et al., ICLR 2021, eq. 5; eq. 16 for predictions)

    SI(i) = ½ (w − w₋ᵢ)ᵀ Σ⁻¹ (w − w₋ᵢ),        F-SI(i) = 1/(2σ²m) Σ_x ‖f_w(x) − f_{w₋ᵢ}(x)‖²   over m examples x

Three choices of Σ: isotropic, σ²I; Fisher, σ²F⁻¹, which makes SI the F-SI of a linearized network (eq. 17); and what
SGD leaves around the minimum, from the Lyapunov equation HΣ + ΣH = (η/b) Λ (eq. 14, appendices C and D).

Conventions. SGD here descends the mean loss with batches of b drawn with replacement, so H is the Hessian of the mean
loss, Λ the covariance of one example's gradient, η the learning rate as typed into an optimizer. The paper writes H of
the sum loss beside the same Λ, which makes its Σ smaller by a factor n (with the sum loss, Λ is n² times as large).

All of it lives in the span of Jacobian rows. A network with more weights than n·k outputs has the same H, Λ, changes
and information in that span's n·k coordinates: pass ``row_space(kernel)`` for its Jacobian.
"""

import numpy as np
import torch
from scipy.linalg import solve_continuous_lyapunov
from torch import Tensor

from lib.linearized import F64, spectrum


def functional_sample_information(changes: Tensor, *, sigma: float = 1.0) -> Tensor:
    """F-SI of each example in nats (eq. 16), with predictions smoothed by noise of standard deviation σ.

    Args:
        changes: ``f_w(x) − f_{w₋ᵢ}(x)``, ``(n, m, k)`` (``LeaveOneOut.predictions``); the sign does not matter.
        sigma: in the unit of the outputs. A factor only; the paper sets 1.

    Returns:
        ``(n,)``, never negative; large = the example changes predictions that no other example would have made.

    Raises:
        ValueError: for another shape, or σ not positive.

    Example:
        >>> functional_sample_information(torch.tensor([[[1.0], [3.0]]]))
        tensor([2.5000])
    """
    if changes.ndim != 3:
        raise ValueError(f"changes must be (n, m, k), got {tuple(changes.shape)}")
    _check_positive(sigma=sigma)
    return changes.square().sum((1, 2)) / (2 * sigma**2 * changes.shape[1])


def sample_information(changes: Tensor, *, covariance=None, precision=None) -> Tensor:
    """SI of each example in nats (eq. 5), with weights smoothed by noise of a covariance Σ.

    Args:
        changes: ``w − w₋ᵢ``, ``(n, p)``; the sign does not matter.
        covariance: Σ, as a number σ² (isotropic) or ``(p, p)``.
        precision: Σ⁻¹ in its place, as a number or ``(p, p)``; singular is allowed (σ⁻²F, of few validation data).

    Returns:
        ``(n,)`` float64. Isotropic needs no changes of weights: it is ``LeaveOneOut.squared_weights / (2σ²)``.

    Raises:
        ValueError: unless exactly one of the two is given and has the right shape; for a covariance that is not
            positive definite.

    Cost: isotropic O(np), else 2np² operations, and p³/3 for a covariance.

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
        _check_positive(**{name: given})
        return changes.square().sum(1) / 2 * (given if precision is not None else 1 / given)
    if tuple(given.shape) != (changes.shape[1],) * 2:
        raise ValueError(f"{name} must be a number or {(changes.shape[1],) * 2}, got {tuple(given.shape)}")
    if precision is not None:
        return ((changes @ given) * changes).sum(1) / 2
    factor, failed = torch.linalg.cholesky_ex(given)
    if failed:
        raise ValueError("covariance must be positive definite: weights that no noise reaches tell everything")
    return torch.linalg.solve_triangular(factor, changes.T, upper=False).square().sum(0) / 2


def hessian(jacobian: Tensor, *, outputs: int, weight_decay: float = 0.0) -> Tensor:
    """``H = JᵀJ/n + λI`` of the mean loss ``(1/n) Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖²``, ``(p, p)``.

    Args:
        jacobian: ``(n·k, p)``. outputs: k. weight_decay: λ of the mean loss (the sum loss has nλ).

    With λ = 0 and validation data it is the Fisher information F of eq. 9, and ``precision = F/σ²`` gives the F-SI.

    Raises:
        ValueError: if the rows are not a multiple of ``outputs``.
    """
    if jacobian.ndim != 2 or outputs < 1 or len(jacobian) % outputs:
        raise ValueError(f"jacobian must be (n·k, p) with k = {outputs}, got {tuple(jacobian.shape)}")
    jacobian = jacobian.to(F64)
    curvature = jacobian.T @ jacobian * (outputs / len(jacobian))
    curvature.diagonal().add_(weight_decay)
    return curvature


def gradient_covariance(jacobian: Tensor, errors: Tensor) -> Tensor:
    """Covariance of one example's gradient, ``Λ = (1/n) Σᵢ gᵢgᵢᵀ − ḡḡᵀ`` with ``gᵢ = Jᵢᵀeᵢ`` (appendix C), ``(p, p)``.

    Weight decay shifts all gradients alike and does not enter. Its rank is below n.

    Args:
        jacobian: ``(n·k, p)``. errors: outputs minus targets, ``(n, k)``, where the noise is wanted (at the minimum).

    Raises:
        ValueError: for shapes that disagree.
    """
    if errors.ndim != 2 or jacobian.ndim != 2 or len(jacobian) != errors.numel():
        raise ValueError(
            f"expected jacobian (n·k, p) and errors (n, k), got {tuple(jacobian.shape)} and {tuple(errors.shape)}"
        )
    gradients = torch.einsum("ikp,ik->ip", jacobian.to(F64).view(*errors.shape, -1), errors.to(F64))
    centred = gradients - gradients.mean(0)
    return centred.T @ centred / len(centred)


def sgd_covariance(hessian: Tensor, gradient_covariance: Tensor, *, lr: float, batch_size: int) -> Tensor:
    """Steady-state covariance Σ of SGD around a minimum: ``HΣ + ΣH = (η/b) Λ`` (eq. 14, 19), ``(p, p)`` float64.

    First order in η: the covariance of the discrete iteration is larger by a relative O(η·largest curvature).

    Args:
        hessian: H, positive definite. gradient_covariance: Λ. Both of the mean loss. lr: η. batch_size: b.

    Raises:
        ValueError: for shapes that disagree, η or b out of range, an H that is not positive definite (give weight
            decay, or go to ``row_space``).

    Cost: about 25p³ operations (Bartels and Stewart's algorithm, SciPy).
    """
    _check_positive(lr=lr, batch_size=batch_size)
    if hessian.ndim != 2 or hessian.shape != gradient_covariance.shape:
        raise ValueError(
            f"expected hessian and gradient_covariance (p, p), got {tuple(hessian.shape)} and "
            f"{tuple(gradient_covariance.shape)}"
        )
    h, noise = (np.asarray(t.detach().to("cpu", F64)) for t in (hessian, gradient_covariance))
    if torch.linalg.cholesky_ex(torch.from_numpy(h))[1]:
        raise ValueError("hessian must be positive definite, or SGD has no steady state")
    covariance = torch.from_numpy(solve_continuous_lyapunov(h, (lr / batch_size) * noise)).to(hessian.device)
    return (covariance + covariance.T) / 2


def commuting_covariance(hessian: Tensor, gradient_covariance: Tensor, *, lr: float, batch_size: int) -> Tensor:
    """The same where H and Λ commute, in closed form: ``Σ = (η/2b) Λ H⁻¹`` (section 5).

    Raises:
        ValueError: if they do not commute, to 10⁻⁸ of the product.
    """
    _check_positive(lr=lr, batch_size=batch_size)
    h, noise = hessian.to(F64), gradient_covariance.to(F64)
    apart, scale = (h @ noise - noise @ h).norm(), (h @ noise).norm()
    if apart > 1e-8 * scale:
        raise ValueError(f"hessian and gradient_covariance must commute, got ‖HΛ − ΛH‖/‖HΛ‖ = {apart / scale:.2g}")
    covariance = torch.linalg.solve(h, noise) * (lr / (2 * batch_size))
    return (covariance + covariance.T) / 2


def langevin_precision(hessian: Tensor, *, lr: float, batch_size: int, noise: float) -> Tensor:
    """``Σ⁻¹ = (2b/ησ²) H`` for Langevin dynamics, Λ = σ²I, so that ``SI = (b/ησ²) ΔwᵀHΔw`` (eq. 15; Cook 1977).

    Without weights: ``ΔwᵀHΔw = ‖Δf(X)‖²/n + λ‖Δw‖²``, both in ``LeaveOneOut`` (cross-kernel = kernel).

    Args:
        hessian: H of the mean loss. lr: η. batch_size: b. noise: σ, in the unit of a gradient.
    """
    _check_positive(lr=lr, batch_size=batch_size, noise=noise)
    return hessian.to(F64) * (2 * batch_size / (lr * noise**2))


def row_space(kernel) -> Tensor:
    """The Jacobian in an orthonormal basis of its own row space: ``V√(eigenvalues)``, ``(n·k, n·k)``, with Θ = JJᵀ.

    Norms and inner products of weights are the same as in the whole space. Directions whose eigenvalue is 0 are kept
    as zero columns.

    Example:
        >>> row_space(torch.diag(torch.tensor([4.0, 9.0]))).abs()
        tensor([[2., 0.],
                [0., 3.]], dtype=torch.float64)
    """
    kernel = spectrum(kernel)
    return kernel.vectors * kernel.values.sqrt()


def _check_positive(**numbers) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
