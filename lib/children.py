"""Networks that leave a parent's path at a given time and train on with other batches (Frankle et al. 2020)."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from lib import ensemble
from lib.recipe import Recipe

SHIFTABLE = ("constant", "step")


def remaining(recipe: Recipe, epoch: int) -> Recipe:
    """What is left of a recipe after some epochs, for children that a parent spawns then.

    Raises:
        ValueError: unless the recipe counts epochs, has a schedule ``constant`` or ``step`` without warm-up (the others
            cannot be entered midway), and lasts that long.

    Example:
        >>> rest = remaining(Recipe(lr=1.0, epochs=10, schedule="step", milestones=(3, 8)), 5)
        >>> rest.epochs, rest.lr, rest.milestones
        (5, 0.1, (3,))
    """
    if recipe.epochs is None or recipe.schedule not in SHIFTABLE or recipe.warmup:
        raise ValueError(
            f"recipe must count epochs and have the schedule {' or '.join(SHIFTABLE)} without warm-up, got {recipe}"
        )
    if not 0 <= epoch <= recipe.epochs:
        raise ValueError(f"epoch must be from 0 to {recipe.epochs}, got {epoch}")
    passed = sum(m <= epoch for m in recipe.milestones) if recipe.schedule == "step" else 0
    later = tuple(m - epoch for m in recipe.milestones if m > epoch)
    return replace(recipe, epochs=recipe.epochs - epoch, lr=recipe.lr * recipe.gamma**passed, milestones=later)


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
        recipe: the parents' own; children train for what :func:`remaining` leaves of it.
        seeds: C rows of E integers, one a child, which draw its batches; other than the parents' own seeds.
        labels: ``(E, n)``, where parents have their own.
        options: to ``ensemble.train`` (``device``, ``store``, ``progress``, …).

    Returns:
        t* → C stacks of parameters ``(E, …)``, the children at the end.

    Raises:
        ValueError: if the seeds do not match the parents or the recipe cannot be entered midway.

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
            recipe=remaining(recipe, time),
            seeds=[seed for row in seeds for seed in row],
            labels=None if labels is None else labels.repeat(len(seeds), 1),
            initial=repeated,
            **options,
        ).parameters
        grown[time] = [{k: v[c * runs : (c + 1) * runs] for k, v in end.items()} for c in range(len(seeds))]
    return grown
