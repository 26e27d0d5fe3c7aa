"""TracIn: how much the steps on a training example lowered the loss of another (Pruthi et al. 2020).

Gradients are of one example's loss ℓ, without the penalty, in evaluation mode. Every function returns one value per
run, summed over the checkpoints. ``layers="last"`` takes the gradient over the head alone, as Pruthi et al. and Ki et
al. (2023, appendix F) do; ``"all"`` takes it over all parameters. Sign: positive = the step helped.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from lib.costs import device_of, one_of
from lib.networks import stacked
from lib.numerics import gradients
from lib.scores import takes_arrays
from lib.scores.data_diet import LAYERS, grand

Weights = dict[str, Tensor]  # name → (E, …), of E runs


@takes_arrays
def tracin(
    model: nn.Module, checkpoints: dict[int, Weights], rates: dict[int, float], x: Tensor, y: Tensor,
    x_val: Tensor, y_val: Tensor, *, layers: str = "last", loss: str = "cross_entropy", device: str = "cpu",
) -> Tensor:  # fmt: skip
    """TracInCP of every pair of a training and a validation example, per run (Ki et al. 2023, eq. 11).

        TracInCP(z, z′) = Σₜ ηₜ ∇ℓ(wₜ, z)·∇ℓ(wₜ, z′)

    Args:
        model: parameters in linear, convolutional and batch-normalization layers for ``layers="all"``; ``features`` and
            ``head`` for ``"last"``.
        checkpoints: epoch → stacked parameters of E runs, as ``Ensemble.checkpoints``.
        rates: epoch → η, as from ``lib.training.recipe.learning_rates``.
        x, y: training examples ``(n, …)``, integer labels ``(n,)`` or ``(E, n)``.
        x_val, y_val: validation examples ``(n′, …)``, ``(n′,)`` or ``(E, n′)``.

    Returns: ``(E, n, n′)``; positive = training on z lowered the loss of z′.

    Raises: ValueError if checkpoints and rates name different epochs, or an option or a shape is wrong.

    Cost: per run and checkpoint, n·n′·(d + k) multiplications for the last layer, or the inner products of
    ``lib.numerics.gradients.products``. The mean over the validation examples costs less: :func:`tracin_mean`.

    Example:
        >>> from lib.networks.models import mlp
        >>> still = {0: {"head.weight": torch.zeros(1, 2, 2), "head.bias": torch.zeros(1, 2)}}  # p = (½, ½)
        >>> x, y = torch.tensor([[3.0, 4.0], [3.0, 4.0]]), torch.tensor([0, 1])
        >>> tracin(mlp(2, (), classes=2), still, {0: 0.1}, x, y, x[:1], y[:1])  # 0.1 · ±½ · (3² + 4² + 1)
        tensor([[[ 1.3000],
                 [-1.3000]]])
    """

    def last(parameters):
        (h, delta), (h_val, delta_val) = (
            stacked.last_layer(model, parameters, *pair, loss=loss, device=device) for pair in ((x, y), (x_val, y_val))
        )
        return (delta @ delta_val.mT).mul_(h @ h_val.mT)

    def whole(parameters):
        runs = _runs(model, parameters, ((x, y), (x_val, y_val)), loss=loss, device=device)
        return torch.stack([_pairs(*run) for run in runs])

    return _summed({"last": last, "all": whole}, layers, checkpoints, rates)


@takes_arrays
def tracin_mean(
    model: nn.Module, checkpoints: dict[int, Weights], rates: dict[int, float], x: Tensor, y: Tensor,
    x_val: Tensor, y_val: Tensor, *, layers: str = "last", **options,
) -> Tensor:  # fmt: skip
    """Mean of :func:`tracin` over the validation examples: the score by which Ki et al. (2023, F.2) prune.

        Σₜ ηₜ ∇ℓ(wₜ, z)·ḡₜ,   ḡₜ = mean over z′ of ∇ℓ(wₜ, z′)

    Arguments and errors as for :func:`tracin`; ``options`` are ``loss`` and ``device``.

    Returns: ``(E, n)``; positive = training on z lowered the mean validation loss.

    Cost: per run and checkpoint about three forward passes on x: the derivative of its losses along ḡ, in forward mode.
    """

    def last(parameters):
        h_val, delta_val = stacked.last_layer(model, parameters, x_val, y_val, **options)
        mean = delta_val.mT @ h_val / len(x_val)  # (E, k, d)
        h, delta = stacked.last_layer(model, parameters, x, y, **options)
        return ((h @ mean.mT) * delta).sum(2)

    def whole(parameters):
        runs = _runs(model, parameters, ((x, y), (x_val, y_val)), **options)
        return torch.stack([_along_mean(*run) for run in runs])

    return _summed({"last": last, "all": whole}, layers, checkpoints, rates)


def tracin_self(
    model: nn.Module, checkpoints: dict[int, Weights], rates: dict[int, float], x: Tensor, y: Tensor, *,
    layers: str = "last", **options,
) -> Tensor:  # fmt: skip
    """Self-influence TracInCP(z, z), by which mislabelled examples are found (Ki et al. 2023, F.3); high = hard.

        Σₜ ηₜ ‖∇ℓ(wₜ, z)‖²

    Arguments and errors as for :func:`tracin`; ``options`` are ``loss`` and ``device``.

    Returns: ``(E, n)``, at least 0.

    Cost: that of ``grand`` at each checkpoint.
    """
    squared = lambda parameters: grand(model, parameters, x, y, layers=layers, **options).square()
    return _summed({layers: squared}, layers, checkpoints, rates)


def _summed(terms: dict[str, Callable], layers: str, checkpoints: dict[int, Weights], rates: dict[int, float]):
    """``Σₜ ηₜ term(wₜ)``, the term being that of ``layers``."""
    one_of("layers", layers, LAYERS)
    if set(checkpoints) != set(rates) or not rates:
        got = f"{sorted(checkpoints)} and {sorted(rates)}"
        raise ValueError(f"checkpoints and rates must name the same epochs, at least one; got {got}")
    total = 0.0
    for epoch in sorted(rates):
        total = terms[layers](checkpoints[epoch]).mul_(rates[epoch]).add_(total)
    return total


def _runs(
    model: nn.Module, parameters: Weights, sets, *, loss: str = "cross_entropy", device: str = "cpu"
) -> Iterator[tuple]:
    """For each run: the network, its state, derivatives ``dℓ/df`` by (f, y), and ``(x, y)`` of each set in pieces."""
    net, runs = copy.deepcopy(model).eval().to(device_of(device)), stacked.stacked_members(model, parameters)
    labels = [stacked.labels_by_run(y, runs, len(x)).to(device) for x, y in sets]
    errors = lambda f, y: stacked.errors(f, y, loss)
    for e, state in enumerate(stacked.members(model, parameters, device=device)):
        rows = [x.to(device, next(iter(state.values())).dtype) for x, _ in sets]
        size = gradients.rows_at_once(net, state, rows[0])
        pieces = [list(zip(x.split(size), y[e].split(size), strict=True)) for x, y in zip(rows, labels, strict=True)]
        yield net, state, errors, pieces


def _pairs(net: nn.Module, state: Weights, errors: Callable, pieces: list) -> Tensor:
    """Inner products of all gradients, ``(n, n′)``."""

    def signals(x, y):
        return gradients.signals(net, state, x, lambda f: errors(f, y)[:, None])

    def inner(one, other):
        return sum(gradients.products(*pair) for pair in zip(signals(*one), signals(*other), strict=True))[:, 0, :, 0]

    return torch.cat([torch.cat([inner(one, other) for other in pieces[1]], 1) for one in pieces[0]]).cpu()


def _along_mean(net: nn.Module, state: Weights, errors: Callable, pieces: list) -> Tensor:
    """Inner products with the mean of the validation gradients, ``(n,)``."""
    weights = {name: state[name].detach() for name, _ in net.named_parameters()}
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    outputs = lambda weights, x: functional_call(net, {**state, **weights}, (x,))
    mean, n_val = {name: torch.zeros_like(value) for name, value in weights.items()}, sum(len(x) for x, _ in pieces[1])
    for x, y in pieces[1]:
        with torch.enable_grad():
            f = outputs(leaves, x)
        back = torch.autograd.grad(f, list(leaves.values()), errors(f.detach(), y) / n_val)
        mean = {name: mean[name] + gradient for name, gradient in zip(weights, back, strict=True)}
    slopes = []
    for x, y in pieces[0]:
        with torch.no_grad():
            f, slope = jvp(lambda weights: outputs(weights, x), (weights,), (mean,))  # noqa: B023
        slopes.append((errors(f, y) * slope).sum(1))
    return torch.cat(slopes).cpu()
