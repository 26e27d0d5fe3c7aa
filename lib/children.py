"""Networks that leave a parent's path at a given time and train on with other batches (Frankle et al. 2020)."""

from collections.abc import Sequence

from torch import Tensor, nn

from lib import ensemble
from lib.recipe import Recipe


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
