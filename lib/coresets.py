"""Training on CRAIG's weighted coresets, chosen anew as training goes on (Ki et al. 2023, appendix F)."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import ensemble
from lib.craig import craig
from lib.pruning import random_subsets
from lib.reselection import train_reselecting
from lib.shards import key_of, shard_size
from lib.spread import beside
from lib.work import Work


def retrain_craig(
    model, data, shares, *, recipe, seeds, every: int, control=False, labels=None, balanced=True, store=None, **options
) -> pd.DataFrame:
    """Train on coresets of several sizes with every seed, and report test accuracy; beside ``pruning.retrain``.

    At the start and after every few epochs, ``lib.craig.craig`` (stochastic greedy) picks from each member's own error
    vectors the share to train on. A chosen example's loss has the weight γ·r/n, where it stands for γ of n examples and
    r are chosen: 1 on average, so that a batch estimates the gradient over all n.

    Args:
        model, data, recipe, seeds, labels: as in ``pruning.retrain``; recipes with ``iterations`` compare with those.
        shares: of the rows, to train on, in (0, 1].
        every: epochs from one choice to the next; 10 in the paper.
        control: choose as many at random instead, unweighted: what choosing anew does by itself.
        balanced: choose the same share of every class, to stand for that class.
        store: a ``Store``; each finished share is kept (what lies between two choices is not).
        options: passed on to ``ensemble.train``.

    Returns:
        A row for each share and seed: ``keep``, ``kept``, ``seed``, ``accuracy``.

    Raises:
        ValueError: as ``craig`` and ``ensemble.train``.

    Cost: S · len(shares) trainings, and for each a choice every few epochs.
    """
    seeds, shares = [int(s) for s in seeds], [float(share) for share in shares]
    y = data.y_train if labels is None else labels
    sets = (data.x_train, y, data.x_test, data.y_test)
    computed = {name: value for name, value in options.items() if name in ("device", "precision")}
    work = Work(model, recipe, ensemble.Record(parameters=False), *sets, **computed)
    question = {"function": "lib.coresets.retrain_craig", "every": every, "balanced": balanced, "members": seeds}
    keys = {share: key_of(work) | question | {"keep": share} for share in shares}
    if control:
        keys = {share: key | {"control": True} for share, key in keys.items()}
    found = {share: None if store is None else store.get(key) for share, key in keys.items()}
    missing = [share for share in shares if found[share] is None]
    together = max(1, shard_size(work) // len(seeds))  # shares trained at once
    for some in (missing[i : i + together] for i in range(0, len(missing), together)):

        def choose(epoch, run, some=some):
            return (_by_lot if control else _choose)(run.errors[epoch], some, y, balanced, epoch)

        run = train_reselecting(
            model, *sets, recipe=recipe, seeds=seeds * len(some), every=every, choose=choose, record=work.record,
            **options,
        )  # fmt: skip
        for share, accuracy in zip(some, run.accuracy_test.view(len(some), -1).numpy(), strict=True):
            found[share] = {"accuracy": accuracy}
            if store is not None:
                store.put(keys[share], found[share])
    rows = [
        (share, round(share * len(y)), *pair)
        for share in shares for pair in zip(seeds, found[share]["accuracy"], strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["keep", "kept", "seed", "accuracy"])


def _choose(errors: Tensor, shares: list[float], y: Tensor, balanced: bool, epoch: int) -> tuple[Tensor, Tensor]:
    """Coresets of S members for each share, from ``errors (shares·S, n, k)``: rows, and weights of mean 1 over them."""
    size, cores = len(errors) // len(shares), torch.get_num_threads()
    jobs = [
        (i, part) for i in range(len(shares)) for part in np.array_split(np.arange(size), min(cores, size))
    ]  # fmt: skip

    def call(job, tick):
        i, part = job
        own = errors[i * size + torch.from_numpy(part)]
        options = {"y": y if balanced else None, "method": "stochastic", "seed": 1000 * epoch + int(part[0])}
        return craig(own, shares[i], **options)

    chosen = beside(call, jobs, cores, one_core=True)
    kept, weights = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    return kept, weights * kept.sum(1, keepdim=True) / errors.shape[1]


def _by_lot(errors: Tensor, shares: list[float], y: Tensor, balanced: bool, epoch: int) -> tuple[Tensor, None]:
    """Random rows in place of :func:`_choose`'s, other ones at every epoch; ``errors`` only say how many members."""
    draws = range(1000 * epoch, 1000 * epoch + len(errors) // len(shares))
    return torch.cat([random_subsets(len(y), share, draws, y=y if balanced else None) for share in shares]), None
