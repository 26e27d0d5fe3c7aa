"""Which training examples to keep, and what a network learns from them (notebooks 03, 04, 05, 07, 08, 14 and 15).

A *plan* maps a name (a tuple of labels, one a column of the resulting table) to a boolean mask over the n training
rows, ``(n,)``, or one mask a seed, ``(S, n)``; True = kept. All plans of an experiment are trained in one call of the
engine, as members of one ensemble; accuracies are those on the test rows, in [0, 1].
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments import plots
from experiments.rankings import ranks
from lib.data.datasets import Dataset, load
from lib.statistics import crossed_interval, t_interval
from lib.training import ensemble
from lib.training.recipe import Record, Run


def window(score: Tensor, width: float, offset: float, *, y: Tensor | None = None, seed: int = 0) -> Tensor:
    """Keep the examples between two quantiles of a score, ``(n,)`` bool.

    Args:
        score: ``(n,)``, any unit; NaN is refused, since it has no rank.
        width: share kept, in (0, 1]: ``round(width·m)``, and at least one, of each class of m (of all n without ``y``).
        offset: share of lower-scored examples left out, at least 0, with ``offset + width ≤ 1``.
        y: labels ``(n,)``; given, ranks are within the class, and class proportions survive (Ki et al. 2023, D.3).
        seed: orders ties.

    Example:
        >>> window(torch.tensor([3.0, 1.0, 2.0, 4.0]), width=0.5, offset=0.25)
        tensor([ True, False,  True, False])
    """
    if score.ndim != 1 or (y is not None and y.shape != score.shape):
        labels = None if y is None else tuple(y.shape)
        raise ValueError(f"expected score (n,) and y (n,), got {tuple(score.shape)} and {labels}")
    if torch.isnan(score).any():
        raise ValueError(f"score must have a rank everywhere, got NaN in {int(torch.isnan(score).sum())} rows")
    if not 0 < width <= 1 or not 0 <= offset <= 1 or offset + width > 1 + 1e-9:
        raise ValueError(f"expected 0 < width, 0 ≤ offset and offset + width ≤ 1, got width {width}, offset {offset}")
    kept = torch.zeros(len(score), dtype=torch.bool)
    groups = [torch.arange(len(score))] if y is None else [torch.nonzero(y == c).flatten() for c in y.unique()]
    for rows in groups:
        rank, size = ranks(score[rows], seed=seed), max(1, round(width * len(rows)))
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


def random_subsets(n: int, keep: float, seeds, *, y: Tensor | None = None) -> Tensor:
    """One random subset a seed, ``(S, n)`` bool; with ``y`` the same share of every class."""
    draws = [torch.rand(n, generator=torch.Generator().manual_seed(10_000 + int(seed))) for seed in seeds]
    return torch.stack([window(draw, keep, 0.0, y=y) for draw in draws])


def draws(name: str, count: int, *, n: int, n_test: int, seed: int = 0) -> list[Dataset]:
    """A data set with its training rows drawn ``count`` times, the test rows always the same.

    The first is ``load(name, n_train=n, …)``. Where there are N rows to draw from, a share n/N of the rows of two draws
    is the same, and the variance between draws falls short by as much.
    """
    first, whole = (load(name, n_train=rows, n_test=n_test, seed=seed) for rows in (n, None))
    seeds = range(1000 * seed + 1, 1000 * seed + count)
    masks = random_subsets(len(whole.y_train), n / len(whole.y_train), seeds, y=whole.y_train)
    train = {key: getattr(whole, key) for key in ("x_train", "y_train", "rows_train")}
    return [first, *(replace(first, **{key: rows[mask] for key, rows in train.items()}) for mask in masks)]


def train_plans(model, data, plans: dict, *, recipe, seeds, labels=None, run: Run = Run()) -> ensemble.Ensemble:
    """Train every plan with every seed, all as one ensemble: S networks of the first plan, S of the second, …

    Args:
        data: a ``lib.data.datasets.Dataset``. plans: name → mask.
        recipe: a ``Recipe``; with ``iterations`` every plan takes as many steps, whatever it keeps.
        seeds: S integers; member (plan, s) starts from seed s, so that plans are compared seed by seed.
        labels: ``(n,)`` labels to train on (noisy ones, say) instead of the dataset's.

    Cost: S · len(plans) trainings.
    """
    sees = torch.cat([mask.expand(len(seeds), len(data.y_train)) for mask in plans.values()])
    sets = (data.x_train, data.y_train if labels is None else labels, data.x_test, data.y_test)
    record = Record(parameters=False)
    return ensemble.train(model, sets, recipe, seeds * len(plans), sees=sees, record=record, run=run)


def retrain_pruned(model, data, plans: dict, *, seeds, columns: tuple[str, ...], **options) -> pd.DataFrame:
    """Test accuracy of every plan with every seed; arguments as of :func:`train_plans`.

    A name is a tuple with one entry for each of ``columns``.

    Returns: a row for each plan and seed: ``columns``, ``kept`` (examples), ``seed``, ``accuracy``, and ``correct``, an
    array ``(n_test,)`` of 0 and 1 (int8).
    """
    seeds, n = [int(s) for s in seeds], len(data.y_train)
    for name, mask in plans.items():
        if len(name) != len(columns) or tuple(mask.shape) not in {(n,), (len(seeds), n)}:
            wanted = f"a name of {len(columns)} entries and a mask ({n},) or ({len(seeds)}, {n})"
            raise ValueError(f"plan {name}: expected {wanted}, got {tuple(mask.shape)}")
    trained = train_plans(model, data, plans, seeds=seeds, **options)
    kept = torch.cat([mask.expand(len(seeds), n).sum(1) for mask in plans.values()])
    table = pd.DataFrame([name for name in plans for _ in seeds], columns=list(columns))
    correct = list(trained.correct_test[:, -1].numpy().view(np.int8))
    return table.assign(
        kept=kept.numpy(), seed=seeds * len(plans), accuracy=trained.accuracy_test.numpy(), correct=correct
    )


def retrain_draws(
    model, draws, scores: list[dict], shares, *, references=False, highest_from=0.0, first=0, seed=0, **options
) -> pd.DataFrame:  # fmt: skip
    """Each draw of the training rows pruned by its own scores, and one network trained on what is left, from its seed.

    Args:
        draws: as of :func:`draws`; the i-th trains from seed ``first`` + i.
        scores: for each draw name → ``(n,)``; the lowest are dropped, or the highest, as many of every class.
        shares: kept, in (0, 1).
        references: train on all rows (``"full data"``), and on random ones as often, too.
        highest_from: the smallest share with which the highest are dropped too; 1 for none.
        options: ``recipe`` and ``run``, as of :func:`train_plans`.

    Returns: as :func:`retrain_pruned`, with the columns ``score``, ``drop`` and ``keep``.
    """
    tables = []
    for i, (part, own) in enumerate(zip(draws, scores, strict=True), start=first):
        y = part.y_train
        plans = {("full data", "–", 1.0): torch.ones(len(y), dtype=torch.bool)} if references else {}
        for share in shares:
            if references:
                plans["random", "–", share] = random_subsets(len(y), share, [i], y=y)
            for name, score in own.items():
                for drop in ("lowest", "highest") if share >= highest_from else ("lowest",):
                    plans[name, drop, share] = prune(score, share, drop=drop, y=y, seed=seed)
        tables.append(retrain_pruned(model, part, plans, seeds=[i], columns=("score", "drop", "keep"), **options))
    return pd.concat(tables, ignore_index=True)


def gain(table: pd.DataFrame, better: dict, than: dict, *, by: str, value: str = "accuracy") -> pd.DataFrame:
    """``better − than`` seed by seed, in the unit of ``value``: rows indexed by ``by``, a column a seed.

    Args:
        table: from :func:`retrain_pruned`.
        better, than: the entries that pick each side, such as ``{"score": "CG", "drop": "lowest"}``.
        by: the column along which the plans run (a share kept, an offset). The sides are compared where both are; a
            ``than`` that picks its place there, or lies elsewhere (full data), with every row of ``better``.
    """
    sides = []
    for pick in (better, than):
        rows = table.loc[(table[list(pick)] == pd.Series(pick)).all(axis=1)]
        if rows.empty:
            raise ValueError(f"no rows with {pick}; there are {table[list(pick)].drop_duplicates().to_dict('records')}")
        sides.append(rows.pivot(index=by, columns="seed", values=value))  # noqa: PD010 (an array has no mean)
    left, right = sides
    both = left.index.intersection(right.index)
    elsewhere = by in than or (both.empty and len(right) == 1)
    return left - right.iloc[0] if elsewhere else left.loc[both] - right.loc[both]


def points(table: pd.DataFrame, better: dict, than: dict, *, by: str) -> dict:
    """As :func:`gain`, in percentage points and test row by test row: entry of ``by`` → ``(S, n_test)``.

    For ``lib.statistics.crossed_interval``, over seeds and test rows, and over training rows too if each seed of the
    table trained on its own draw.
    """
    gained = gain(table, better, than, by=by, value="correct")
    return {entry: 100.0 * np.stack(by_seed) for entry, by_seed in zip(gained.index, gained.to_numpy(), strict=True)}


def points_gained(table: pd.DataFrame, better: dict, than: dict) -> dict[str, tuple]:
    """Share dropped, ``"drop 30%"``, → gain in percentage points and its 95% interval, over seeds and test rows."""
    gained = points(table, better, than, by="keep")
    return {f"drop {1 - share:.0%}": (each.mean(), crossed_interval(each)) for share, each in gained.items()}


def draw_shares(axes, table: pd.DataFrame, names, *, lowest: float = 0.4) -> None:
    """Two panels over the share kept: test accuracy, and from ``lowest`` on the gain over random choice in points.

    ``table`` has the columns ``score`` and ``keep``, and beside the ``names`` rows for "random" and "full data".
    """
    for name in ["random", *names]:
        plots.band(axes[0], table[table.score == name], "keep", "accuracy", name)
    for name in names:
        gained = 100 * gain(table, {"score": name}, {"score": "random"}, by="keep").query("keep >= @lowest")
        plots.band(axes[1], gained.melt(ignore_index=False, value_name="points").reset_index(), "keep", "points", name)
    whole = table[table.score == "full data"].accuracy.to_numpy()
    plots.reference(axes[0], whole.mean(), "all rows", interval=t_interval(whole))
    plots.reference(axes[1], 0, "random")
    axes[0].set(xlabel="share of the rows kept", ylabel="test accuracy")
    axes[1].set(xlabel="share of the rows kept", ylabel="gain over random (points)")
