"""Networks trained again from where others were: without some examples.

A removal is a set of training examples. For each of r networks and g removals the engine trains one more network
*without* the set, and one *control* with nobody removed, from the same weights (those of the trained network, or the
initial ones: "from the optimum", "from scratch"), with the same order of batches (``masked``). The change is taken
against the control, not against the weights that one started from: a network that had not converged drifts on when
trained further, by the same amount with and without the example.

    change of a quantity = value after retraining without the set − value after retraining with everybody

**A positive change of a test loss means that the removed examples were helpful.** Losses in nats. In the engine's
objective the mean stays over the batch, so to first order a removal moves the optimum by (1/n) H⁻¹ Σ ∇ℓ, as in
``lib.scores.influence``. Arguments that are not explained are those of ``lib.training.train``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.costs import as_tensor, check_inputs, one_of
from lib.networks.stacked import LOSSES, check_targets, losses, predict, targets
from lib.training.ensemble import train
from lib.training.recipe import Data, Recipe, Run, Start


@dataclass(frozen=True)
class Retrained:
    """r networks with g removals each."""

    parameters: dict[str, Tensor]  # name → (r, g, …)
    control: dict[str, Tensor]  # name → (r, …): retrained with nobody removed


def removals(rows, n: int) -> Tensor:
    """``(g, n)`` bool, True where an example is removed, from g positions or g groups of positions.

    Raises: ValueError for a position outside 0 … n − 1.

    Example:
        >>> removals([0, 2], 3).int().tolist(), removals([[0, 1]], 3).int().tolist()
        ([[1, 0, 0], [0, 0, 1]], [[1, 1, 0]])
    """
    groups = [torch.as_tensor(group).flatten() for group in rows]
    removed = torch.zeros(len(groups), n, dtype=torch.bool)
    for mask, group in zip(removed, groups, strict=True):
        if len(group) and not 0 <= int(group.min()) <= int(group.max()) < n:
            raise ValueError(f"rows must lie in 0 … {n - 1}, got {int(group.min())} … {int(group.max())}")
        mask[group] = True
    return removed


def retrain(
    model: nn.Module, data: Data | tuple, recipe: Recipe, seeds: Sequence[int], *, removed: Tensor,
    start: Start | None = None, run: Run = Run(),
) -> Retrained:  # fmt: skip
    """Train r networks again without each of g sets of examples, and once with everybody.

    Cost: r (g + 1) trainings.

    Args:
        recipe: of the retraining.
        seeds: r integers: initial weights and order of batches, as at first.
        removed: bool ``(g, n)``, the same sets for all networks, or ``(r, g, n)``.
        start: with ``parameters`` name → ``(r, …)``; from scratch if ``None``.

    Raises: ValueError for ``removed`` of another shape or type, and as ``train``.

    Example:
        >>> data, gone = (torch.randn(20, 2), torch.arange(20) % 2), removals([0, 1, 2], 20)
        >>> recipe = Recipe(lr=0.1, epochs=1, batch_size=None)
        >>> again = retrain(nn.Linear(2, 2), data, recipe, [0], removed=gone, run=Run(progress=False))
        >>> again.parameters["weight"].shape
        torch.Size([1, 3, 2, 2])
    """
    x, y, *_ = Data.of(data)
    r, n, start = len(seeds), len(x), start or Start()
    if removed.dtype != torch.bool or removed.ndim not in (2, 3) or removed.shape[-1] != n:
        raise ValueError(f"removed must be bool (g, {n}) or ({r}, g, {n}), got {removed.dtype} {tuple(removed.shape)}")
    removed = removed.expand(r, *removed.shape[-2:])
    sees = torch.cat([torch.ones(r, 1, n, dtype=torch.bool), ~removed], 1)  # the control first
    g = sees.shape[1]
    each = lambda named: None if named is None else {name: v.repeat_interleave(g, 0) for name, v in named.items()}
    trained = train(
        model, (x, y), recipe, [seed for seed in seeds for _ in range(g)], sees=sees.flatten(0, 1), masked=True,
        start=replace(start, parameters=each(start.parameters), state=each(start.state)), run=run,
    )  # fmt: skip
    every = {name: value.unflatten(0, (r, g)) for name, value in trained.parameters.items()}
    return Retrained({name: v[:, 1:] for name, v in every.items()}, {name: v[:, 0] for name, v in every.items()})


def losses_on(model, parameters: dict[str, Tensor], x: Tensor, y: Tensor, *, loss: str = "cross_entropy") -> Tensor:
    """Losses ``(…, m)`` (nats, or ½‖f − y‖²; float64) of networks with ``parameters (…, *shape)`` on m examples."""
    one_of("loss", loss, LOSSES)
    x, y = as_tensor(x, "x"), as_tensor(y, "y")
    check_inputs(x, "x")
    shapes = {name: value.ndim for name, value in model.state_dict().items()}
    lead = next(parameters[name].shape[: parameters[name].ndim - d] for name, d in shapes.items())
    stacked = {name: value.flatten(0, len(lead) - 1) if lead else value[None] for name, value in parameters.items()}
    logits = predict(model, stacked, x, chunk=64).double()
    check_targets(y, len(x), logits.shape[-1], loss)
    return losses(logits, targets(y[None], logits.shape[-1], logits.dtype), loss).reshape(*lead, len(x))


def loss_changes(model, retrained: Retrained, x: Tensor, y: Tensor, *, loss: str = "cross_entropy") -> Tensor:
    """Change of the loss on m test examples by each removal, against the control: ``(r, g, m)``, positive = helpful."""
    after, before = (losses_on(model, p, x, y, loss=loss) for p in (retrained.parameters, retrained.control))
    return after - before[:, None]
