"""TracIn: how much the steps on a training example lowered the loss of another (Pruthi et al. 2020).

Gradients are of one example's loss ℓ, without the penalty, in evaluation mode. Every function returns one value
per run, summed over the checkpoints. ``layers="last"`` takes the gradient over the head alone, as Pruthi et al. and Ki
et al. (2023, appendix F) do; ``"all"`` takes it over all parameters. Sign: positive = the step helped.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from lib.networks import stacked
from lib.numerics import gradients
from lib.scores.data_diet import grand, grand_last_layer

LAYERS = ("last", "all")


def tracin(
    model: nn.Module,
    checkpoints: dict[int, dict[str, Tensor]],
    rates: dict[int, float],
    x: Tensor,
    y: Tensor,
    x_val: Tensor,
    y_val: Tensor,
    *,
    layers: str = "last",
    loss: str = "cross_entropy",
    device: str = "cpu",
) -> Tensor:
    """TracInCP of every pair of a training and a validation example, per run (Ki et al. 2023, eq. 11).

        TracInCP(z, z′) = Σₜ ηₜ ∇ℓ(wₜ, z)·∇ℓ(wₜ, z′)

    Args:
        model: parameters in linear, convolutional and batch-normalization layers for ``layers="all"``; ``features`` and
            ``head`` for ``"last"``.
        checkpoints: epoch → stacked parameters of E runs, as ``Ensemble.checkpoints``.
        rates: epoch → η, as from ``lib.training.learning_rates``.
        x, y: training examples ``(n, …)``, integer labels ``(n,)`` or ``(E, n)``.
        x_val, y_val: validation examples ``(n′, …)``, ``(n′,)`` or ``(E, n′)``.

    Returns:
        ``(E, n, n′)``; positive = training on z lowered the loss of z′.

    Raises:
        ValueError: if checkpoints and rates name different epochs, or an option or a shape is wrong.

    Cost: per run and checkpoint, n·n′·(d + k) multiplications for the last layer, or the inner products of
    ``lib.numerics.gradients.products``. The mean over the validation examples costs less: :func:`tracin_mean`.
    """
    total = 0.0
    for parameters, rate in _moments(checkpoints, rates, layers):
        if layers == "last":
            (h, delta), (h_val, delta_val) = (
                stacked.last_layer(model, parameters, *pair, loss=loss, device=device)
                for pair in ((x, y), (x_val, y_val))
            )
            inner = (delta @ delta_val.mT).mul_(h @ h_val.mT)
        else:
            inner = _all_pairs(model, parameters, x, y, x_val, y_val, loss, device)
        total = inner.mul_(rate).add_(total)
    return total


def tracin_mean(
    model: nn.Module,
    checkpoints: dict[int, dict[str, Tensor]],
    rates: dict[int, float],
    x: Tensor,
    y: Tensor,
    x_val: Tensor,
    y_val: Tensor,
    *,
    layers: str = "last",
    loss: str = "cross_entropy",
    device: str = "cpu",
) -> Tensor:
    """Mean of :func:`tracin` over the validation examples: the score by which Ki et al. (2023, F.2) prune.

        Σₜ ηₜ ∇ℓ(wₜ, z)·ḡₜ,   ḡₜ = mean over z′ of ∇ℓ(wₜ, z′)

    Arguments and errors as for :func:`tracin`.

    Returns:
        ``(E, n)``; positive = training on z lowered the mean validation loss.

    Cost: per run and checkpoint about three forward passes on x: the derivative of its losses along ḡ, in forward mode.
    """
    total = 0.0
    for parameters, rate in _moments(checkpoints, rates, layers):
        if layers == "last":
            h_val, delta_val = stacked.last_layer(model, parameters, x_val, y_val, loss=loss, device=device)
            mean = delta_val.mT @ h_val / len(x_val)  # (E, k, d)
            h, delta = stacked.last_layer(model, parameters, x, y, loss=loss, device=device)
            along = ((h @ mean.mT) * delta).sum(2)
        else:
            along = _all_along_mean(model, parameters, x, y, x_val, y_val, loss, device)
        total = total + rate * along
    return total


def tracin_self(
    model: nn.Module,
    checkpoints: dict[int, dict[str, Tensor]],
    rates: dict[int, float],
    x: Tensor,
    y: Tensor,
    *,
    layers: str = "last",
    **options,
) -> Tensor:
    """Self-influence TracInCP(z, z), by which mislabelled examples are found (Ki et al. 2023, F.3); high = hard.

        Σₜ ηₜ ‖∇ℓ(wₜ, z)‖²

    Arguments and errors as for :func:`tracin`; ``options`` are ``loss`` and ``device``.

    Returns:
        ``(E, n)``, at least 0.

    Cost: that of ``grand`` or ``grand_last_layer`` at each checkpoint.
    """
    norm = grand_last_layer if layers == "last" else grand
    return sum(
        rate * norm(model, parameters, x, y, **options).square()
        for parameters, rate in _moments(checkpoints, rates, layers)
    )


def _moments(checkpoints, rates, layers) -> list[tuple[dict, float]]:
    if layers not in LAYERS:
        raise ValueError(f"layers must be {' or '.join(LAYERS)}, got {layers!r}")
    if set(checkpoints) != set(rates) or not rates:
        raise ValueError(
            "checkpoints and rates must name the same epochs, at least one; "
            f"got {sorted(checkpoints)} and {sorted(rates)}"
        )
    return [(checkpoints[epoch], rates[epoch]) for epoch in sorted(rates)]


def _runs(model, parameters, pairs, device) -> Iterator[tuple]:
    """For each run: the network, its state, and ``(x, y)`` pairs with the run's labels on the device."""
    net, runs = copy.deepcopy(model).eval().to(device), stacked.stacked_members(model, parameters)
    labels = [stacked.labels_by_run(y, runs, len(x)) for x, y in pairs]
    for e, state in enumerate(stacked.members(model, parameters, device=device)):
        dtype = next(iter(state.values())).dtype
        yield net, state, [(x.to(device, dtype), own[e].to(device)) for (x, _), own in zip(pairs, labels, strict=True)]


def _all_pairs(model, parameters, x, y, x_val, y_val, loss, device) -> Tensor:
    out = []
    for net, state, sets in _runs(model, parameters, [(x, y), (x_val, y_val)], device):
        size = gradients.rows_at_once(net, state, sets[0][0])
        blocks = [list(zip(rows.split(size), own.split(size), strict=True)) for rows, own in sets]

        def parts(block, net=net, state=state):
            return gradients.signals(net, state, block[0], lambda f: stacked.errors(f, block[1], loss)[:, None])

        def inner(a, b, parts=parts):
            return sum(gradients.products(*pair) for pair in zip(parts(a), parts(b), strict=True))[:, 0, :, 0]

        out.append(torch.cat([torch.cat([inner(a, b) for b in blocks[1]], 1) for a in blocks[0]]).cpu())
    return torch.stack(out)


def _all_along_mean(model, parameters, x, y, x_val, y_val, loss, device) -> Tensor:
    out, trained = [], [name for name, _ in model.named_parameters()]
    for net, state, ((rows, own), (rows_val, own_val)) in _runs(model, parameters, [(x, y), (x_val, y_val)], device):
        size = gradients.rows_at_once(net, state, rows)
        leaves = {name: state[name].detach().requires_grad_() for name in trained}
        mean = {name: torch.zeros_like(state[name]) for name in trained}
        for some, label in zip(rows_val.split(size), own_val.split(size), strict=True):
            with torch.enable_grad():
                f = functional_call(net, {**state, **leaves}, (some,))
            back = torch.autograd.grad(f, list(leaves.values()), stacked.errors(f.detach(), label, loss) / len(x_val))
            mean = {name: mean[name] + part for name, part in zip(trained, back, strict=True)}
        at, found = {name: state[name].detach() for name in trained}, []
        for some, label in zip(rows.split(size), own.split(size), strict=True):
            logits = lambda p: functional_call(net, {**state, **p}, (some,))  # noqa: B023
            with torch.no_grad():
                f, slope = jvp(logits, (at,), (mean,))
            found.append((stacked.errors(f, label, loss) * slope).sum(1))
        out.append(torch.cat(found).cpu())
    return torch.stack(out)
