"""Notebook 14: CRAIG, weighted subsets whose gradients stand for those of all examples (Mirzasoleiman et al. 2020).

The gradients are those at the logits, p − onehot(y), which bound the rest of the gradient of a network under
cross-entropy (Ki et al. 2023, appendix F): what ``Ensemble.errors[epoch]`` keeps. The subset is to follow training;
Ki et al. choose it anew every ten epochs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from experiments.pruning import random_subsets
from lib.networks.stacked import labels_by_run
from lib.training.ensemble import Ensemble, train
from lib.training.parallel import beside, key_of, shard_size
from lib.training.recipe import Data, Recipe, Record, Run, Start, Work


class Coreset(NamedTuple):
    """Which examples stand for the others, and for how many, in each run."""

    kept: Tensor  # (E, n) bool
    weights: Tensor  # (E, n) float32, examples stood for: sums to n; 0 where not kept


def craig(errors: Tensor, keep: float, *, y: Tensor | None = None, epsilon: float = 0.1, seed: int = 0) -> Coreset:
    """Choose medoids of the gradients greedily, per run (Mirzasoleiman et al. 2020, alg. 1; Ki et al. 2023, eq. 12).

        S = argmin_{|S| = r} L(S),   L(S) = Σᵢ min_{j ∈ S} ‖gᵢ − gⱼ‖,   weight of j = #{i : j is nearest to i in S}

    so that ‖Σᵢ gᵢ − Σ_{j ∈ S} weightⱼ gⱼ‖ ≤ L(S). L(∅) − L(S), with L(∅) n times the largest distance, is submodular:
    greedy reaches 1 − 1/e of the best. This is stochastic greedy, which looks at m/r·log(1/ε) random candidates for
    each choice of r among m, at most all, and reaches 1 − 1/e − ε on average (Mirzasoleiman et al. 2015).

    Args:
        errors: g, ``(E, n, k)``.
        keep: share chosen, in (0, 1].
        y: labels ``(n,)`` or ``(E, n)``. Given, the same share of each class is chosen, to stand for that class alone,
            as the authors' code does; it saves the distances between classes.
        epsilon, seed: ε, 0 for a look at all of them, and the draw of the candidates.

    Returns:
        ``max(1, round(keep·m))`` of each class of m, in each run. An example whose equal was chosen has weight 0.

    Raises: ValueError for other shapes or options, or errors that are not finite.

    Cost: m²k·log(1/ε) for a class of m, classes and runs of one size side by side.

    Example:
        >>> g = torch.tensor([[[-0.1], [0.0], [0.1], [0.2], [5.0]]])
        >>> craig(g, keep=0.4, epsilon=0).weights  # the middle of all, which is in the cluster, and the one apart
        tensor([[0., 0., 4., 0., 1.]])
    """
    if errors.ndim != 3 or not torch.isfinite(errors).all():
        raise ValueError(f"errors must be finite (runs, examples, classes), got {tuple(errors.shape)}")
    if not 0 < keep <= 1 or not 0 <= epsilon < 1:
        raise ValueError(f"expected 0 < keep ≤ 1 and 0 ≤ epsilon < 1, got keep {keep}, epsilon {epsilon}")
    runs, n = errors.shape[:2]
    groups = labels_by_run(torch.zeros(n, dtype=torch.int64) if y is None else y, runs, n)
    kept, weights = torch.zeros(runs, n, dtype=torch.bool), torch.zeros(runs, n)
    by_size: dict[int, list] = {}  # runs and their rows of one class
    for e in range(runs):
        for c in groups[e].unique():
            rows = torch.nonzero(groups[e] == c).flatten()
            by_size.setdefault(len(rows), []).append((e, rows))
    draw = [torch.Generator().manual_seed(seed + e) for e in range(runs)]
    for m, problems in by_size.items():
        size = max(1, round(keep * m))
        g = torch.stack([errors[e, rows] for e, rows in problems])
        draws = None
        if epsilon:
            few = min(m, math.ceil(m / size * math.log(1 / epsilon)))
            draws = [torch.rand(size, few, generator=draw[e], dtype=torch.float64) for e, _ in problems]
            draws = torch.stack(draws).to(g.device)
        for (e, rows), chosen, owner in zip(problems, *_greedy(g, size, draws), strict=True):
            kept[e, rows[chosen.cpu()]] = True
            weights[e, rows[chosen.cpu()]] = torch.bincount(owner.cpu(), minlength=size).float()
    return Coreset(kept, weights)


def _greedy(g: Tensor, size: int, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Greedy among a few candidates drawn anew for each choice, or all, in P problems ``g (P, m, k)`` side by side.

    ``draws (P, size, few)`` are uniform in [0, 1). Returns whom they chose ``(P, size)``, and which of these stands for
    each example ``(P, m)``.
    """
    problems, m, k = g.shape
    left = torch.arange(m, device=g.device).expand(problems, m).clone()
    near = 2 * torch.linalg.vector_norm(g, dim=2).amax(1, keepdim=True).expand(problems, m)
    owner, chosen = torch.zeros_like(left), left.new_empty(problems, size)
    for choice in range(size):
        count = m - choice
        all_of_them = torch.arange(count, device=g.device).expand(problems, -1)
        places = all_of_them if draws is None else (draws[:, choice, :count] * count).long()
        tried = left.gather(1, places)
        some = g.gather(1, tried[..., None].expand(-1, -1, k))
        distance = torch.cdist(some, g, compute_mode="donot_use_mm_for_euclid_dist")  # (P, few, m): exact at 0
        best = (near[:, None] - distance).clamp_(min=0).sum(2).argmax(1)[:, None]
        distance = distance.gather(1, best[..., None].expand(-1, -1, m))[:, 0]
        owner.masked_fill_(distance < near, choice)
        near = torch.minimum(near, distance)
        chosen[:, choice] = tried.gather(1, best)[:, 0]
        left.scatter_(1, places.gather(1, best), left[:, count - 1 : count].clone())
    return chosen, owner


def train_reselecting(
    model: nn.Module, data: Data | tuple, recipe: Recipe, seeds: Sequence[int], *, every: int, choose: Callable,
    record: Record = Record(), run: Run = Run(),
) -> Ensemble:  # fmt: skip
    """Train as ``train`` does, on rows (CRAIG's, say) that ``choose`` names at the start and after every few epochs.

    Parameters and optimizer go on from stretch to stretch, and so does the learning rate; the batches of a stretch are
    those that a training on its rows alone would have in these epochs. With ``choose`` always the same, this is
    ``train`` on that choice, to the bit. A ``store`` keeps every stretch, and a killed run goes on from there.

    Args:
        recipe: with ``iterations`` an epoch is ⌈n/B⌉ steps, however few rows are chosen.
        every: epochs from one choice to the next.
        choose: called with an epoch t (0, every, 2·every, …) and an ``Ensemble`` with ``parameters`` and ``errors[t]``
            then; returns rows ``(E, n)`` bool and weights ``(E, n)`` or ``None``. A function of these alone, so that a
            killed run comes by the same again.
        record: what to keep of the last stretch; its epochs lie there.

    Raises:
        ValueError: if ``every`` is below 1, or as ``train``.

    Example:
        >>> data = torch.randn(64, 8), torch.arange(64) % 2
        >>> halves = lambda epoch, trained: ((torch.arange(64) % 2 == epoch % 2)[None], None)
        >>> recipe, how = Recipe(lr=0.1, epochs=4, batch_size=16), {"every": 1, "run": Run(progress=False)}
        >>> train_reselecting(nn.Linear(8, 2), data, recipe, [0], choose=halves, **how).epochs
        (4,)
    """
    if every < 1:
        raise ValueError(f"every must be at least 1 epoch, got {every}")
    data = Data.of(data)
    (_, last), at_first = Work(model, data, recipe).span(), Record(errors_at=(0,))
    trained = train(model, data[:2], recipe, seeds, start=Start(until=0), record=at_first, run=run)
    for epoch in range(0, last, every):
        sees, weights = choose(epoch, trained)
        until = min(last, epoch + every)
        start = Start(trained.parameters, trained.state, after=epoch, until=until)
        sets, kept = (data, record) if until == last else (data[:2], Record(state=True, errors_at=(until,)))
        how = {"sees": sees, "weights": weights, "start": start, "record": kept, "run": run}
        trained = train(model, sets, recipe, seeds, **how)
    return trained


def retrain_craig(
    model, data, shares, *, recipe, seeds, every: int, control=False, labels=None, balanced=True, run: Run = Run(),
) -> pd.DataFrame:  # fmt: skip
    """Train on coresets of several sizes with every seed, and report test accuracy; beside ``pruning.retrain_pruned``.

    At the start and after every few epochs, ``craig`` picks from each member's own
    error vectors the share to train on. A chosen example's loss has the weight γ·r/n, where it stands for γ of n
    examples and r are chosen: 1 on average, so that a batch estimates the gradient over all n.

    Args:
        model, data, recipe, seeds, labels: as in ``pruning.train_plans``; with ``iterations`` results compare.
        shares: of the rows, to train on, in (0, 1].
        every: epochs from one choice to the next; 10 in the paper.
        control: choose as many at random instead, unweighted: what choosing anew does by itself.
        balanced: choose the same share of every class, to stand for that class.
        run: of the engine; in its ``store`` each finished share is kept (what lies between two choices is not).

    Returns: a row for each share and seed: ``keep``, ``kept``, ``seed``, ``accuracy``, ``correct``.
    Cost: S · len(shares) trainings, and for each a choice every few epochs.
    """
    seeds, shares = [int(s) for s in seeds], [float(share) for share in shares]
    y = data.y_train if labels is None else labels
    sets = (data.x_train, y, data.x_test, data.y_test)
    store, run = run.store, replace(run, store=None)
    work = Work(model, Data.of(sets), recipe, Record(parameters=False), replace(run, wide=False))
    question = {"function": "lib.coresets.retrain_craig", "every": every, "balanced": balanced, "members": seeds}
    question["keeps"] = "correct"
    question |= {"control": True} if control else {}
    keys = {share: key_of(work) | question | {"keep": share} for share in shares}
    results = {share: None if store is None else store.get(key) for share, key in keys.items()}
    missing = [share for share in shares if results[share] is None]
    at_once = max(1, shard_size(work) // len(seeds))  # shares
    for group in (missing[i : i + at_once] for i in range(0, len(missing), at_once)):
        choose = partial(_choose, shares=group, y=y if balanced else None, control=control)
        trained = train_reselecting(
            model, sets, recipe, seeds * len(group), every=every, choose=choose, record=work.record, run=run
        )  # fmt: skip
        accuracies, right = trained.accuracy_test.numpy(), trained.correct_test[:, -1].numpy().view(np.int8)
        for share, members in zip(group, np.arange(len(right)).reshape(len(group), -1), strict=True):
            results[share] = {"accuracy": accuracies[members], "correct": right[members]}
            if store is not None:
                store.keep(keys[share], results[share])
    rows = [
        (share, round(share * len(y)), *member)
        for share in shares for member in zip(seeds, results[share]["accuracy"], results[share]["correct"], strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["keep", "kept", "seed", "accuracy", "correct"])


def _choose(epoch: int, trained, *, shares: list[float], y: Tensor | None, control: bool) -> tuple:
    """Coresets of S members for each share by their errors ``(shares·S, n, k)``: rows, and weights of mean 1 over them.

    With ``control`` random rows, other ones at every epoch, and no weights.
    """
    errors = trained.errors[epoch]
    size, n, cores = len(errors) // len(shares), errors.shape[1], torch.get_num_threads()
    if control:
        draws = range(1000 * epoch, 1000 * epoch + size)
        return torch.cat([random_subsets(n, share, draws, y=y) for share in shares]), None
    batches = np.array_split(np.arange(size), min(cores, size))

    def call(job, tick):
        i, members = job
        members_errors = errors[i * size + torch.from_numpy(members)]
        return craig(members_errors, shares[i], y=y, seed=1000 * epoch + int(members[0]))

    chosen = beside(call, [(i, members) for i in range(len(shares)) for members in batches], cores, one_core=True)
    kept, weights = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    return kept, weights * kept.sum(1, keepdim=True) / n
