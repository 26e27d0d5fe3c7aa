"""A network as its linearization sees the data: kernel, cross-kernel and first outputs, and the F-SI of its examples.

Everything that ``lib.information`` and ``lib.leave_one_out`` need of a network and two sets of inputs is computed once
here. Labels, training time, step size, decay and the choice of training rows can then change at the price of an
eigendecomposition, or none.

Convention, that of the authors' code: gradient descent on the mean loss with the learning rate as typed into an
optimizer, and an example that is left out leaves the others' steps as they are (η/n each, n the rows with it), which
is ``loss="sum"`` with η/n, and a masked training of ``lib.ensemble``.
"""

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lib.information import functional_sample_information
from lib.jacobians import jacobians, ntk
from lib.leave_one_out import leave_one_out, prediction_changes
from lib.linearized import F64, Spectrum, coefficients, spectrum


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

    def rows(self, kept: Tensor) -> "Tangent":
        """The same network with these training rows only: ``(n,)`` bool, or positions."""
        n, k = self.outputs.shape
        at = torch.arange(n)[kept]
        columns = (at[:, None] * k + torch.arange(k)).flatten()
        return Tangent(self.kernel[columns][:, columns], self.cross_kernel[:, columns], self.outputs[at])


def tangent(model: nn.Module, x: Tensor, x_val: Tensor, *, per_layer: int | None = None, seed: int = 0) -> Tangent:
    """Linearize a network at its present weights, in evaluation mode.

    Args:
        x, x_val: training and other inputs, ``(n, …)`` and ``(m, …)``.
        per_layer: coordinates kept of each parameter tensor (drawn by ``seed``); None = the exact kernel.

    Raises:
        ValueError: as ``lib.jacobians``.

    Cost: that of ``ntk`` or ``jacobians``, and k·(n + m) backward passes.

    Example:
        >>> net = tangent(nn.Linear(2, 1), torch.eye(2), torch.ones(1, 2))
        >>> net.kernel, net.cross_kernel  # x·x′ + 1
        (tensor([[2., 1.],
                [1., 2.]]), tensor([[2., 2.]]))
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        outputs = torch.cat([model(part.to(next(model.parameters()))) for part in x.split(512)])
    if per_layer is None:
        return Tangent(ntk(model, x), ntk(model, x, x_val), outputs)
    own, other = (jacobians(model, part, per_layer=per_layer, seed=seed) for part in (x, x_val))
    return Tangent(own @ own.T, other @ own.T, outputs)


def targets(y: Tensor, outputs: int) -> Tensor:
    """Labels as regression targets ``(n, k)``: 0 and 1 for one output, one-hot for more.

    Raises:
        ValueError: for labels that so many outputs cannot tell apart.

    Example:
        >>> targets(torch.tensor([0, 1]), 1).flatten()
        tensor([0., 1.], dtype=torch.float64)
    """
    if y.min() < 0 or y.max() >= max(outputs, 2):
        raise ValueError(f"y must be labels below {max(outputs, 2)} for {outputs} output(s), got {y.min()}…{y.max()}")
    return y[:, None].to(F64) if outputs == 1 else torch.nn.functional.one_hot(y, outputs).to(F64)


def changes(net: Tangent, y: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0) -> Tensor:
    """What each training example changes in the predictions on the other inputs, ``(n, m, k)``: with it minus without.

    Args:
        y: labels ``(n,)``, see :func:`targets`.
        lr, steps, weight_decay: η and λ of the mean loss, t full-batch steps (``math.inf`` allowed).
    """
    n, k = net.outputs.shape
    found = leave_one_out(
        net.spectrum, targets(y, k) - net.outputs.to(F64), lr=lr / n, steps=steps,
        weight_decay=n * weight_decay, cross_kernel=net.cross_kernel,
    )  # fmt: skip
    return found.predictions


def f_si(net: Tangent, y: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0, sigma: float = 1.0) -> Tensor:
    """Functional sample information of each training example in nats, ``(n,)`` float64 (Harutyunyan et al. eq. 16).

    Large = predictions on the other inputs would differ without the example. Arguments as in :func:`changes`; σ is
    the noise on the predictions.

    Example:
        >>> net = Tangent(torch.eye(2), torch.ones(1, 2), torch.zeros(2, 1))
        >>> f_si(net, torch.tensor([0, 1]), lr=2.0, steps=1)  # the second moves the prediction by η/n · 1 = 1
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    return functional_sample_information(changes(net, y, lr=lr, steps=steps, weight_decay=weight_decay), sigma=sigma)


def f_si_by_class(
    net: Tangent, y: Tensor, *, classes: int, lr: float, steps: float, continuous: bool = False, sigma: float = 1.0
) -> Tensor:
    """F-SI summed over networks of one output, one a class, each told its class from the rest, ``(n,)`` float64.

        Σ_c (1/2σ²) E_x (f^c(x) − f^c₋ᵢ(x))²        f^c fits 1[y = c], all from the same initial weights

    With k outputs in one network the kernel has n·k rows; the k networks share one of n rows, as the classes do in the
    CG-score. In the limit of infinite width the two are the same (the outputs' kernels are then alike and apart).

    Args:
        net: with one output.
        y: labels ``(n,)``, or ``(r, n)`` for r labellings, which give ``(r, n)``.
        classes: k. lr, steps: as in :func:`changes`. continuous: gradient flow for the time ηt, stable for any η.

    Raises:
        ValueError: for a network with more outputs, labels out of range, a step size at which training diverges.

    Cost: an eigendecomposition of n rows, then per class and labelling 2mn² operations for m other inputs.

    Example:
        >>> net = Tangent(torch.eye(2), torch.ones(1, 2), torch.zeros(2, 1))
        >>> f_si_by_class(net, torch.tensor([0, 1]), classes=2, lr=2.0, steps=1)  # each moves its own class alone, by 1
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    n = len(net.outputs)
    if net.outputs.shape[1] != 1 or y.shape[-1:] != (n,):
        raise ValueError(f"expected a network of one output and y (…, {n}), got {net.outputs.shape[1]} outputs and "
                         f"y {tuple(y.shape)}")  # fmt: skip
    cross, found = net.cross_kernel.to(F64) @ net.spectrum.vectors, []
    for labels in y.reshape(-1, n):
        goals = targets(labels.to(net.outputs.device), max(classes, 2)) - net.outputs.to(F64)
        moved = (
            prediction_changes(net.spectrum, goal, cross, lr=lr / n, steps=steps, continuous=continuous, turned=True)
            for goal in goals.T
        )
        found.append(sum(functional_sample_information(each[..., None], sigma=sigma) for each in moved))
    return torch.stack(found).view(y.shape)


def fitted(net: Tangent, y: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0) -> Tensor:
    """How far training has moved the predictions on the other inputs, ``f_w(x) − f₀(x)``, ``(m, k)``."""
    n, k = net.outputs.shape
    alpha = coefficients(
        net.spectrum, targets(y, k) - net.outputs.to(F64), lr=lr / n, steps=steps, weight_decay=n * weight_decay
    )
    return (net.cross_kernel.to(F64) @ alpha.flatten()).view(-1, k)
