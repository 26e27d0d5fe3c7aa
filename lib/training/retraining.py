"""Ground truth by retraining: what really happens when examples are left out and everything else stays equal.

A removal is a set of training examples. For each of r networks and g removals the engine trains one more network
*without* the set, and one *control* with nobody removed, from the same weights (those of the trained network, or the
initial ones: "from the optimum", "from scratch"), with the same order of batches (``masked``). The change is taken
against the control, not against the weights that one started from: a network that had not converged drifts on when
trained further, by the same amount with and without the example.

    change of a quantity = value after retraining without the set − value after retraining with everybody

**A positive change of a test loss means that the removed examples were helpful.** Losses in nats. In the engine's
objective the mean stays over the batch, so to first order a removal moves the optimum by (1/n) H⁻¹ Σ ∇ℓ, as in
``lib.scores.influence``; ``experiments.response`` finds the exact optimum of small networks instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.networks.stacked import losses, predict, targets
from lib.training import ensemble
from lib.training.ensemble import Ensemble, train
from lib.training.recipe import Recipe, Record, Work, step_counts


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


def part_of(recipe: Recipe, share: float, n: int, **changes) -> Recipe:
    """The recipe for ``share`` of its steps on n rows (at least one), with ``changes``: the paper retrains for 6%.

    Example:
        >>> part_of(ensemble.Recipe(lr=0.1, epochs=10, batch_size=50), 0.06, 500).iterations
        6
    """
    steps = max(1, round(share * step_counts(recipe, n, n)[0]))
    return replace(recipe, epochs=None, iterations=steps, **changes)


def retrain(
    model: nn.Module, x: Tensor, y: Tensor, removed: Tensor, *,
    recipe: Recipe, seeds: Sequence[int], weights: dict[str, Tensor] | None = None, **options,
) -> Retrained:  # fmt: skip
    """Train r networks again without each of g sets of examples, and once with everybody.

    Args:
        model: a template, as in ``lib.training.ensemble.train``.
        x, y: the n training examples.
        removed: bool ``(g, n)``, the same sets for all networks, or ``(r, g, n)``.
        recipe: of the retraining; :func:`part_of` makes one from that of the training.
        seeds: r integers: initial weights and order of batches, as at first.
        weights: name → ``(r, …)`` to start from; None starts from scratch.
        options: ``precision``, ``device``, ``store``, … of ``lib.training.ensemble.train``.

    Raises:
        ValueError: for ``removed`` of another shape or type, and as ``lib.training.ensemble.train``.

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
    logits = predict(model, stacked, x, chunk=64).double()
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


# --- reselection ----------------------------------------------------------------------------------------------------
#
# Training on rows that are chosen anew as it goes on, such as CRAIG's coresets (Mirzasoleiman et al. 2020).


#: an epoch and the networks at its end ↦ rows to train on from there, (E, n) bool, and weights, (E, n) or None
Choose = Callable[[int, Ensemble], tuple[Tensor, Tensor | None]]


def train_reselecting(
    model: nn.Module,
    x_train: Tensor,
    y_train: Tensor,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    *,
    recipe: Recipe,
    seeds,
    every: int,
    choose: Choose,
    record: Record = Record(),  # noqa: B008 (frozen)
    **options,
) -> Ensemble:
    """Train as ``ensemble.train`` does, on rows that ``choose`` names at the start and again after every few epochs.

    Parameters and optimizer go on from stretch to stretch, and so does the learning rate; the batches of a stretch are
    those that a training on its rows alone would have in these epochs. With ``choose`` always the same, this is
    ``ensemble.train`` on that choice, to the bit.

    Args:
        model, x_train, y_train, x_test, y_test, recipe, seeds: as in ``ensemble.train``. With ``iterations`` an epoch
            is ⌈n/B⌉ steps, however few rows are chosen.
        every: epochs from one choice to the next.
        choose: called with an epoch t (0, every, 2·every, …) and an ``Ensemble`` with ``parameters`` and ``errors[t]``
            then; returns rows and weights. A function of these alone, so that a killed run comes by the same again.
        record: what to keep of the last stretch; its epochs lie there.
        options: to ``ensemble.train``. With a ``store``, every stretch is kept, and a killed run goes on from there.

    Returns:
        The ``Ensemble`` at the end.

    Raises:
        ValueError: if ``every`` is below 1, or as ``ensemble.train``.

    Cost: that of the training and of the choices.

    Example:
        >>> x, y = torch.randn(64, 8), torch.arange(64) % 2
        >>> halves = lambda epoch, run: ((torch.arange(64) % 2 == epoch % 2)[None], None)
        >>> how = {"recipe": Recipe(lr=0.1, epochs=4, batch_size=16), "seeds": [0], "progress": False}
        >>> train_reselecting(nn.Linear(8, 2), x, y, every=1, choose=halves, **how).epochs
        (4,)
    """
    if every < 1:
        raise ValueError(f"every must be at least 1 epoch, got {every}")
    last = Work(model, recipe, record, x_train, y_train).epochs()
    go = lambda **stretch: train(model, x_train, y_train, recipe=recipe, seeds=seeds, **stretch, **options)
    run = go(stop=0, record=Record(errors_at=(0,)))
    for epoch in range(0, last, every):
        sees, weights = choose(epoch, run)
        stop = min(last, epoch + every)
        kept = {"record": Record(state=True, errors_at=(stop,))}
        if stop == last:
            kept = {"record": record, "x_test": x_test, "y_test": y_test}
        here = {"initial": run.parameters, "state": run.state, "start": epoch, "stop": stop}
        run = go(member_sees=sees, weights=weights, **here, **kept)
    return run


# --- children -------------------------------------------------------------------------------------------------------
#
# Networks that leave a parent's path at a given time and train on with other batches (Frankle et al. 2020).


def children(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    parents: dict[int, dict[str, Tensor]],
    *,
    recipe: Recipe,
    seeds: Sequence[Sequence[int]],
    labels: Tensor | None = None,
    **options,
) -> dict[int, list[dict[str, Tensor]]]:
    """Networks that start at their parents' weights at given times and train on to the end with other batches.

    Args:
        model, x, y: as in ``ensemble.train``.
        parents: spawning time t* (an epoch) → stacked parameters of E parents then: ``Ensemble.checkpoints``.
        recipe: the parents' own; children enter it at t*, with the learning rates that follow there.
        seeds: C rows of E integers, one a child, which draw its batches; other than the parents' own seeds.
        labels: ``(E, n)``, where parents have their own.
        options: to ``ensemble.train`` (``device``, ``store``, ``progress``, …).

    Returns:
        t* → C stacks of parameters ``(E, …)``, the children at the end.

    Raises:
        ValueError: if the seeds do not match the parents, or a time is beyond the recipe's epochs.

    Momentum starts at rest at t*, in both of a pair of children alike.

    Cost: C·E trainings of the epochs left, for each time.
    """
    grown = {}
    for time, start in parents.items():
        runs = len(next(iter(start.values())))
        if any(len(row) != runs for row in seeds):
            raise ValueError(f"seeds must be rows of {runs} integers, got rows of {[len(row) for row in seeds]}")
        repeated = {name: value.repeat(len(seeds), *[1] * (value.ndim - 1)) for name, value in start.items()}
        end = ensemble.train(
            model,
            x,
            y,
            recipe=recipe,
            start=time,
            seeds=[seed for row in seeds for seed in row],
            labels=None if labels is None else labels.repeat(len(seeds), 1),
            initial=repeated,
            **options,
        ).parameters
        grown[time] = [{k: v[c * runs : (c + 1) * runs] for k, v in end.items()} for c in range(len(seeds))]
    return grown
