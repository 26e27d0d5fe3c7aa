"""Choose which training examples to keep, and retrain on what is left.

A *plan* maps a name (a tuple of labels, one a column of the resulting table) to a boolean mask over the
training rows, ``(n,)``, or one mask a seed, ``(S, n)``. All plans of an experiment are trained in one call
of the engine, as members of one ensemble.
"""

import pandas as pd
import torch
from torch import Tensor

from lib import ensemble


def ranks(score: Tensor, *, seed: int = 0) -> Tensor:
    """Rank of each score, ``(n,)`` int64, 0 = lowest; ties fall in an order drawn by the seed, not by row."""
    shuffled = torch.randperm(len(score), generator=torch.Generator().manual_seed(seed))
    order = shuffled[torch.argsort(score[shuffled], stable=True)]
    rank = torch.empty(len(score), dtype=torch.int64)
    rank[order] = torch.arange(len(score))
    return rank


def window(score: Tensor, width: float, offset: float, *, y: Tensor | None = None, seed: int = 0) -> Tensor:
    """Keep the examples between two quantiles of a score.

    Args:
        score: ``(n,)``, any unit; NaN is refused, since it has no rank.
        width: share kept, in (0, 1].
        offset: share of lower-scored examples left out, at least 0, with ``offset + width ≤ 1``.
        y: labels ``(n,)``. Given, the same share is kept in every class (Ki et al. 2023, D.3), so that class
            proportions survive; ranks are then within the class.
        seed: orders ties.

    Returns:
        ``(n,)`` bool, True = kept; ``round(width·m)`` of each class of m (of all n without ``y``).

    Raises:
        ValueError: on NaN, disagreeing shapes, or a window outside [0, 1].

    Cost: a sort.

    Example:
        >>> window(torch.tensor([3.0, 1.0, 2.0, 4.0]), width=0.5, offset=0.25)
        tensor([ True, False,  True, False])
    """
    if score.ndim != 1 or (y is not None and y.shape != score.shape):
        raise ValueError(
            f"expected score (n,) and y (n,), got {tuple(score.shape)} and {None if y is None else tuple(y.shape)}"
        )
    if torch.isnan(score).any():
        raise ValueError(f"score must have a rank everywhere, got NaN in {int(torch.isnan(score).sum())} rows")
    if not 0 < width <= 1 or not 0 <= offset <= 1 or offset + width > 1 + 1e-9:
        raise ValueError(f"expected 0 < width, 0 ≤ offset and offset + width ≤ 1, got width {width}, offset {offset}")
    kept = torch.zeros(len(score), dtype=torch.bool)
    groups = [torch.arange(len(score))] if y is None else [torch.nonzero(y == c).flatten() for c in y.unique()]
    for rows in groups:
        rank, size = ranks(score[rows], seed=seed), round(width * len(rows))
        start = min(round(offset * len(rows)), len(rows) - size)
        kept[rows] = (rank >= start) & (rank < start + size)
    return kept


def prune(score: Tensor, keep: float, *, drop: str, y: Tensor | None = None, seed: int = 0) -> Tensor:
    """Keep a share of the examples, dropping the ``"lowest"`` or the ``"highest"`` scores; see :func:`window`.

    Example:
        >>> prune(torch.tensor([3.0, 1.0, 2.0, 4.0]), keep=0.5, drop="lowest")
        tensor([ True, False, False,  True])
    """
    if drop not in ("lowest", "highest"):
        raise ValueError(f"drop must be 'lowest' or 'highest', got {drop!r}")
    return window(score, keep, 1 - keep if drop == "lowest" else 0.0, y=y, seed=seed)


def input_norm(x: Tensor) -> Tensor:
    """Length of each example as the network gets it, ``(n,)``: the control for GraNd at initialization (2303.14753).

    Example:
        >>> input_norm(torch.tensor([[[3.0, 4.0]]]))
        tensor([5.])
    """
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def random_subsets(n: int, keep: float, seeds, *, y: Tensor | None = None) -> Tensor:
    """One random subset a seed, ``(S, n)`` bool; with ``y`` the same share of every class."""
    draws = [torch.rand(n, generator=torch.Generator().manual_seed(10_000 + int(seed))) for seed in seeds]
    return torch.stack([window(draw, keep, 0.0, y=y) for draw in draws])


def retrain(
    model, data, plans: dict, *, recipe, seeds, columns: tuple[str, ...], labels=None, **options
) -> pd.DataFrame:
    """Train every plan with every seed, all as one ensemble, and report test accuracy.

    Args:
        model: an architecture of ``lib.models``.
        data: a ``lib.data.Dataset``.
        plans: name → mask ``(n,)`` or ``(S, n)``; a name is a tuple with one entry for each of ``columns``.
        recipe: an ``ensemble.Recipe``; with ``iterations`` every plan takes as many steps, whatever it keeps.
        seeds: S integers; member (plan, s) starts from seed s, so that plans are compared seed by seed.
        columns: names of the entries of a plan's name.
        labels: ``(n,)`` labels to train on (noisy ones, say) instead of the dataset's.
        options: passed on to ``ensemble.train`` (``device``, ``store``, ...).

    Returns:
        A row for each plan and seed: ``columns``, ``kept`` (examples), ``seed``, ``accuracy`` (test, in [0, 1]).

    Raises:
        ValueError: if a mask's shape or a name's length is wrong.

    Cost: S · len(plans) trainings.
    """
    seeds, n = [int(s) for s in seeds], len(data.y_train)
    for name, mask in plans.items():
        if len(name) != len(columns) or tuple(mask.shape) not in {(n,), (len(seeds), n)}:
            raise ValueError(
                f"plan {name}: expected a name of {len(columns)} entries and a mask ({n},) or ({len(seeds)}, {n}), "
                f"got {tuple(mask.shape)}"
            )
    sees = torch.cat([mask.expand(len(seeds), n) for mask in plans.values()])
    trained = ensemble.train(
        model,
        data.x_train,
        data.y_train if labels is None else labels,
        data.x_test,
        data.y_test,
        recipe=recipe,
        seeds=seeds * len(plans),
        member_sees=sees,
        record=ensemble.Record(parameters=False),
        **options,
    )
    table = pd.DataFrame([name for name in plans for _ in seeds], columns=list(columns))
    return table.assign(kept=sees.sum(1).numpy(), seed=seeds * len(plans), accuracy=trained.accuracy_test.numpy())


def gain(table: pd.DataFrame, better: dict, than: dict, *, by: str, value: str = "accuracy") -> pd.DataFrame:
    """Difference between two plans, seed by seed: rows indexed by ``by``, a column a seed.

    Args:
        table: from :func:`retrain`.
        better, than: the entries that pick each side, such as ``{"score": "CG", "drop": "lowest"}``.
        by: the column along which the plans run (a share kept, an offset); a side that lacks it
            (full data) is compared with every row of the other.

    Returns:
        ``better − than`` in the unit of ``value``.

    Raises:
        ValueError: if a side picks no rows.
    """
    sides = []
    for pick in (better, than):
        rows = table.loc[(table[list(pick)] == pd.Series(pick)).all(axis=1)]
        if rows.empty:
            raise ValueError(f"no rows with {pick}; there are {table[list(pick)].drop_duplicates().to_dict('records')}")
        sides.append(rows.pivot_table(index=by, columns="seed", values=value))
    left, right = sides
    return left - (right.reindex(left.index) if len(right) > 1 else right.iloc[0])
