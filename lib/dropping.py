"""How much of the training data can go: what dropping costs in accuracy, and the largest share within a tolerance."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor

from lib import ensemble


def retrain_and_mark(
    model, data, plans: Mapping[tuple, Callable], *, recipe, blocks: Iterable[range], first_seed: int = 0, **options
) -> dict[tuple, Tensor]:
    """Train every plan with every seed, a block of seeds after the other, and mark each test example as right or wrong.

    Args:
        data: a ``lib.data.Dataset``, standardized.
        plans: name → a function of a seed that gives the mask over the training rows, ``(n,)`` bool.
        recipe: an ``ensemble.Recipe``; with ``iterations`` every plan takes as many steps.
        blocks: of numbers, such as those of ``lib.budget.Clock.blocks``; the seeds are these plus ``first_seed``, and
            those of one number start from the same weights in all plans.
        options: passed on to ``ensemble.train``.

    Returns:
        name → ``(seeds, n_test)`` bool.
    """
    marks: dict[tuple, list[Tensor]] = {name: [] for name in plans}
    for block in blocks:
        seeds = [first_seed + number for number in block]
        sees = torch.stack([mask(seed) for mask in plans.values() for seed in seeds])
        run = ensemble.train(
            model, data.x_train, data.y_train, data.x_test, data.y_test, recipe=recipe, seeds=seeds * len(plans),
            member_sees=sees, record=ensemble.Record(parameters=False), **options,
        )  # fmt: skip
        for name, part in zip(plans, run.correct_test[:, -1].split(len(seeds)), strict=True):
            marks[name].append(part)
    return {name: torch.cat(parts) for name, parts in marks.items()}


def losses(
    correct: Mapping[tuple, Tensor], full: tuple, *, columns: tuple[str, ...] = ("score", "kept"), level: float = 0.95
) -> pd.DataFrame:
    """Accuracy lost against the full data, in percentage points (negative = gained), with its interval.

    The interval is for other seeds *and* other test examples: with dₛⱼ the difference of seed s at test example j, its
    half-width is that of Student's t over the S seed means and that of the normal over the test examples' means, put
    together as √(a² + b²). (Training noise is in both terms, which errs on the wide side.)

    Args:
        correct: of :func:`retrain_and_mark`.
        full: the name of the plan that drops nothing.
        columns: names of the entries of a plan's name.

    Returns:
        A line a plan: ``columns``, ``accuracy`` (in [0, 1]), ``loss``, ``low``, ``high``.

    Raises:
        ValueError: with fewer than two seeds.
    """
    reference, lines = correct[full].double().numpy(), []
    seeds, tests = reference.shape
    if seeds < 2:
        raise ValueError(f"seeds: expected two at least for an interval, got {seeds}")
    over_seeds, over_tests = student.ppf((1 + level) / 2, seeds - 1), norm.ppf((1 + level) / 2)
    for name, marks in correct.items():
        lost = 100 * (reference - marks.double().numpy())
        value, by_seed, by_test = float(lost.mean()), lost.mean(1).var(ddof=1), lost.mean(0).var(ddof=1)
        half = np.sqrt(over_seeds**2 * by_seed / seeds + over_tests**2 * by_test / tests)
        lines.append((*name, float(marks.double().mean()), value, value - half, value + half))
    return pd.DataFrame(lines, columns=[*columns, "accuracy", "loss", "low", "high"])


def largest_drop(dropped, loss, low, high, tolerance: float) -> tuple[float, tuple[float, float]]:
    """The largest share that can be dropped for a loss within ``tolerance``, going up from the smallest.

    The value goes by the loss as measured; the interval's lower end by the upper end of the loss (surely within), its
    upper end by the lower end of the loss (not surely beyond). 0 where not even the smallest share passes.

    Args:
        dropped: shares tried, in any order.
        loss, low, high: the loss at each, and its interval, in the unit of ``tolerance``.

    Example:
        >>> largest_drop([0.1, 0.5, 0.9], [0.2, 0.8, 4.0], [-0.5, 0.1, 3.0], [0.9, 1.5, 5.0], tolerance=1.0)
        (0.5, (0.1, 0.5))
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected a loss of 0 or more, got {tolerance}")
    order = np.argsort(dropped)
    dropped = np.asarray(dropped, float)[order]

    def furthest(values) -> float:
        passes = np.asarray(values, float)[order] <= tolerance
        many = len(passes) if passes.all() else int(passes.argmin())
        return float(dropped[many - 1]) if many else 0.0

    return furthest(loss), (furthest(high), furthest(low))
