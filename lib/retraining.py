"""Ground truth by retraining: what really happens when examples are left out and everything else stays equal.

A removal is a set of training examples. For each of r networks and g removals the engine trains one more network
*without* the set, and one *control* with nobody removed, from the same weights (those of the trained network, or the
initial ones: "from the optimum", "from scratch"), with the same order of batches (``masked``). The change is taken
against the control, not against the weights that one started from: a network that had not converged drifts on when
trained further, by the same amount with and without the example.

    change of a quantity = value after retraining without the set − value after retraining with everybody

**A positive change of a test loss means that the removed examples were helpful.** Losses in nats. In the engine's
objective the mean stays over the batch, so to first order a removal moves the optimum by (1/n) H⁻¹ Σ ∇ℓ, as in
``lib.influence``; ``lib.response`` finds the exact optimum of small networks instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib import ensemble
from lib.batched import losses
from lib.recording import targets
from lib.work import step_counts


@dataclass(frozen=True)
class Retrained:
    """r networks with g removals each."""

    parameters: dict[str, Tensor]  # name → (r, g, …)
    control: dict[str, Tensor]  # name → (r, …): retrained with nobody removed


def removals(rows, n: int) -> Tensor:
    """``(g, n)`` bool, True where an example is removed, from g positions or g groups of positions.

    Raises:
        ValueError: for a position outside 0 … n − 1.

    Example:
        >>> removals([0, 2], 3).int().tolist(), removals([[0, 1]], 3).int().tolist()
        ([[1, 0, 0], [0, 0, 1]], [[1, 1, 0]])
    """
    groups = [torch.as_tensor(group).flatten() for group in rows]
    removed = torch.zeros(len(groups), n, dtype=torch.bool)
    for member, group in zip(removed, groups, strict=True):
        if len(group) and not 0 <= int(group.min()) <= int(group.max()) < n:
            raise ValueError(f"rows must lie in 0 … {n - 1}, got {int(group.min())} … {int(group.max())}")
        member[group] = True
    return removed


def part_of(recipe: ensemble.Recipe, share: float, n: int, **changes) -> ensemble.Recipe:
    """The recipe for ``share`` of its steps on n rows (at least one), with ``changes``: the paper retrains for 6%.

    Example:
        >>> part_of(ensemble.Recipe(lr=0.1, epochs=10, batch_size=50), 0.06, 500).iterations
        6
    """
    steps = max(1, round(share * step_counts(recipe, n, n)[0]))
    return replace(recipe, epochs=None, iterations=steps, **changes)


def retrain(
    model: nn.Module, x: Tensor, y: Tensor, removed: Tensor, *,
    recipe: ensemble.Recipe, seeds: Sequence[int], weights: dict[str, Tensor] | None = None, **options,
) -> Retrained:  # fmt: skip
    """Train r networks again without each of g sets of examples, and once with everybody.

    Args:
        model: a template, as in ``lib.ensemble.train``.
        x, y: the n training examples.
        removed: bool ``(g, n)``, the same sets for all networks, or ``(r, g, n)``.
        recipe: of the retraining; :func:`part_of` makes one from that of the training.
        seeds: r integers: initial weights and order of batches, as at first.
        weights: name → ``(r, …)`` to start from; None starts from scratch.
        options: ``precision``, ``device``, ``store``, … of ``lib.ensemble.train``.

    Raises:
        ValueError: for ``removed`` of another shape or type, and as ``lib.ensemble.train``.

    Cost: r (g + 1) trainings.

    Example:
        >>> x, y = torch.randn(20, 2), torch.arange(20) % 2
        >>> recipe = ensemble.Recipe(lr=0.1, epochs=1, batch_size=None)
        >>> again = retrain(nn.Linear(2, 2), x, y, removals([0, 1, 2], 20), recipe=recipe, seeds=[0], progress=False)
        >>> again.parameters["weight"].shape
        torch.Size([1, 3, 2, 2])
    """
    r, n = len(seeds), len(x)
    if removed.dtype != torch.bool or removed.ndim not in (2, 3) or removed.shape[-1] != n:
        raise ValueError(f"removed must be bool (g, {n}) or ({r}, g, {n}), got {removed.dtype} {tuple(removed.shape)}")
    removed = removed.expand(r, *removed.shape[-2:])
    sees = torch.cat([torch.ones(r, 1, n, dtype=torch.bool), ~removed], 1)  # the control first
    g = sees.shape[1]
    initial = None if weights is None else {name: value.repeat_interleave(g, 0) for name, value in weights.items()}
    run = ensemble.train(
        model, x, y, recipe=recipe, seeds=[seed for seed in seeds for _ in range(g)],
        member_sees=sees.flatten(0, 1), masked=True, initial=initial, **options,
    )  # fmt: skip
    every = {name: value.unflatten(0, (r, g)) for name, value in run.parameters.items()}
    return Retrained({name: v[:, 1:] for name, v in every.items()}, {name: v[:, 0] for name, v in every.items()})


def losses_on(model: nn.Module, parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Losses ``(…, m)`` in nats (float64) of networks with stacked ``parameters`` ``(…, *shape)`` on m examples."""
    shapes = {name: value.ndim for name, value in model.state_dict().items()}
    lead = next(iter(parameters[name].shape[: parameters[name].ndim - d] for name, d in shapes.items()))
    stacked = {name: value.flatten(0, len(lead) - 1) if lead else value[None] for name, value in parameters.items()}
    logits = ensemble.predict(model, stacked, x, chunk=64).double()
    return losses(logits, targets(y[None], logits.shape[-1], logits.dtype), "cross_entropy").reshape(*lead, len(x))


def loss_changes(model: nn.Module, retrained: Retrained, x: Tensor, y: Tensor) -> Tensor:
    """Change of the loss on m test examples by each removal, against the control: ``(r, g, m)``, positive = helpful."""
    return losses_on(model, retrained.parameters, x, y) - losses_on(model, retrained.control, x, y)[:, None]


def parameter_changes(model: nn.Module, retrained: Retrained) -> Tensor:
    """``‖Δw‖`` of each removal against the control, ``(r, g)``, over trained parameters (no running statistics)."""
    total = torch.zeros(())
    for name, _ in model.named_parameters():
        change = retrained.parameters[name].double() - retrained.control[name][:, None].double()
        total = total + change.flatten(2).square().sum(2)
    return total.sqrt()
