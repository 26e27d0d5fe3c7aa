"""What leaving out an example does by influence functions, at the trained weights: beside ``lib.removal``.

To first order at an optimum, leaving out example i moves the weights by ``Δwᵢ = (1/n)(H + δI)⁻¹∇ℓᵢ``
(``lib.influence``). With the Gauss–Newton matrix for H, and the tangent kernel Θ at the trained weights, that is for
one output

    Δwᵢ = (eᵢ/n) Jᵀ a_{·i},      A = g(Θ/n),      g(x) = 1/(x + λ + δ)      eᵢ = f(xᵢ) − yᵢ

for all examples from one eigendecomposition. LiSSA in the mean over its batches is the same with another g: from
``h_j = v + (1 − β)h_{j−1} − H h_{j−1}/s``, h₀ = v, J times, comes ``g(x) = p_{J+1}(x + λ + δ)`` with δ = βs and the
filter p of gradient descent with the learning rate 1/s (``lib.spectral_filter``): a training of length (J + 1)/s.
"""

import warnings

import torch
from torch import Tensor, nn

from lib.example_gradients import along
from lib.influence import inverse_hessian
from lib.removal import Change, Kernels, Training
from lib.spectral_filter import spectral_filter


def influence_in_closed_form(
    known: Kernels, *, weight_decay: float = 0.0, damping: float = 0.0, scale: float | None = None, depth: int = 1000
) -> Change:
    """All n examples by influence functions with the Gauss–Newton matrix of the mean squared error; one output.

    Args:
        known: kernels at the trained weights.
        weight_decay, damping: λ and δ, of the mean loss.
        scale, depth: s and J of LiSSA, whose mean is then taken in place of the inverse.

    Raises:
        ValueError: for more than one output; without penalty and damping where the kernel is singular; for a scale at
            which LiSSA diverges.

    Cost: 4n³ + 2mn² operations for m validation examples.

    Example:
        >>> from lib.removal import kernels
        >>> x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1])
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 0.5)  # the mean of y: removal moves it by eᵢ/n = ± 1/4
        >>> known = kernels(Training(model, x, y, x, lr=0.1, steps=1))
        >>> influence_in_closed_form(known, damping=1e-9).squared_weights
        tensor([0.0625, 0.0625], dtype=torch.float64)
    """
    n, outputs = known.residual.shape
    if outputs != 1:
        raise ValueError(f"known must be of a network with one output, got {outputs}")
    values, vectors = known.spectrum.values, known.spectrum.vectors
    x = values / n + weight_decay + damping
    if x[0] <= 1e-13 * x[-1]:
        raise ValueError("the kernel is singular: give weight_decay or damping")
    if scale is not None and x[-1] > 2 * scale:
        raise ValueError(f"LiSSA diverges at scale {scale:.3g}: it must be at least {x[-1] / 2:.3g}")
    gain = 1 / x if scale is None else spectral_filter(x, lr=1 / scale, steps=depth + 1)
    moved = gain[:, None] * vectors.T * (known.residual[:, 0] / n)  # (n, n): Vᵀ of each example's coefficients
    squared = values @ moved**2
    return Change(squared, (known.cross.double() @ vectors @ moved).square().sum(0))


def influence(training: Training, trained: nn.Module, left_out: Tensor, *, damping: float = 0.0, **options) -> Change:
    """Some examples by ``lib.influence`` with the whole Hessian: ``solver="lissa"``, ``"cg"``, ``"exact"``.

    Args:
        training: as ``retrained`` took it: the penalty holds to its initial weights. trained: what came of it.
        damping: δ. options: of ``lib.influence.inverse_hessian``.

    Raises:
        ValueError: as there (a Hessian that is not positive definite, a LiSSA that diverges).
    """
    reference = {name: value.detach() for name, value in training.model.named_parameters()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the weights are no optimum")  # which is the point of comparing
        inverse = inverse_hessian(
            trained, training.x, training.y, loss="mse", weight_decay=training.weight_decay, reference=reference,
            damping=damping, **options,
        )  # fmt: skip
        changes = inverse.on_parameters(examples=torch.as_tensor(left_out))
    shifts = along(inverse.objective, inverse.objective.place(training.x_val)[0], None, changes)  # (m·k, e)
    return Change(changes.double().square().sum(1), shifts.double().square().sum(0))
