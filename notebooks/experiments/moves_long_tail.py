"""Is it us? Runs for notebooks 03 and 13, after Feldman and Zhang 2020; see ``experiments.moves``."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from experiments import pruning
from experiments.long_tail import fit, standardized
from experiments.moves import Moved, moves
from experiments.pairs import high_influence_pairs
from experiments.rankings import are_neighbours
from lib import statistics
from lib.data.datasets import DATA, load
from lib.networks import models, stacked
from lib.scores.memorization import memorization, subsets
from lib.store import Store
from lib.training import Recipe, Run, ensemble

LONG_TAIL = Recipe(lr=0.1, epochs=15, batch_size=100, momentum=0.9, schedule="warmup_linear")  # of 03
MLP = "mlp-128"
gap = lambda a, b, axis=-1: a.mean(axis) - b.mean(axis)
crossed = lambda points: (points.mean(), statistics.crossed_interval(points))  # (repetitions, test rows)


@moves("lt.fraction", "lt.marginal", "lt.marginal.axis", "lt.last_layer", "lt.last_layer.accuracy")
def cifar(n=2000, trials=150, count=8, bodies=5, name=DATA / "downloads" / "cifar10.npz") -> dict[str, Moved]:
    """03 and 13 on CIFAR-10: the same network, fewer trainings, and a rate at which it fits what it sees."""
    recipe = replace(LONG_TAIL, lr=0.05)
    d, sees, run = standardized(load(name, n_train=n, n_test=5000)), subsets(n, round(0.7 * n), trials, 0), Run()
    right, right_test = fit(d, sees, recipe, MLP, run=run)
    mem, plans = memorization(sees, right).value, {}
    for level in (0.2, 0.25, 0.4, 0.5, 0.6, 0.75, 0.8, 0.9):
        plans["memorized", level] = mem < level
        plans["random", level] = pruning.random_subsets(n, float((mem < level).double().mean()), range(count))
    model = models.by_name(MLP, shape=tuple(d.x_train.shape[1:]), classes=10)
    options = {"recipe": recipe, "seeds": range(count), "columns": ("removed", "level"), "run": run}
    table = pruning.retrain_pruned(model, d, plans, **options)
    points = pruning.points(table, {"removed": "random"}, {"removed": "memorized"}, by="level")
    value, ends = statistics.apart({level: crossed(by) for level, by in points.items()})
    whole, last = ensemble.train(model, (d.x_train, d.y_train), recipe, range(bodies), run=run).parameters, []
    for body in range(bodies):
        one = {key: part[body : body + 1] for key, part in whole.items()}
        x, x_test = (stacked.features(model, one, part)[0] for part in (d.x_train, d.x_test))
        masks = sees if body == 0 else sees[20 * body : 20 * body + 20]
        last.append(fit(standardized(replace(d, x_train=x, x_test=x_test)), masks, recipe, "linear", run=run))
    own = [20 * body + np.arange(20) for body in range(bodies)]
    ahead = [100 * (last[b][1][:20].double().mean(0) - right_test[own[b]].double().mean(0)) for b in range(bodies)]
    flags = [(part >= 0.25).double().numpy() for part in (mem, memorization(sees, last[0][0]).value)]
    changed = f"Fashion-MNIST → CIFAR-10, {trials} networks, learning rate .05"
    fits = f"{right[sees].double().mean():.1%} of what a network sees is fitted"
    at = lambda by, names: {name: by[float(name.split("≥ ")[1])] for name in names}
    four, axis = [f"≥ {v}" for v in (0.25, 0.5, 0.75, 0.9)], [f"varied, ≥ {v}" for v in (0.2, 0.4, 0.6, 0.8)]
    over, last_ones = (
        ("initializations", "test rows"),
        f"{fits}; {int(flags[0].sum())} against {int(flags[1].sum())} rows",
    )
    both = statistics.bootstrap_interval(gap, *flags, paired=True)
    share, its = statistics.share(flags[0] > 0)
    most = f"{fits}, and {share:.0%} of the rows are memorized"
    return {
        "lt.fraction": Moved(changed, share, its, n, ("rows",), fits),
        "lt.marginal": Moved(changed, at(value, four), at(ends, four), count, over, most),
        "lt.marginal.axis": Moved(changed, at(value, axis), at(ends, axis), count, over, most),
        "lt.last_layer": Moved(changed, gap(*flags), both, n, ("rows",), last_ones),
        "lt.last_layer.accuracy": Moved(changed, *crossed(torch.stack(ahead).numpy()), bodies, over, fits),
    }


@moves("lt.pairs.single", "lt.pairs.mnist", "lt.visual.duplicates")
def digits(n=60_000, trials=300, name="mnist", run=None) -> dict[str, Moved]:
    """Pairs among all digits, by the networks of 13, beside those of 03."""
    d, run = standardized(load(name, n_train=n, n_test=10_000)), run or Run(store=Store(profile="laptop"))
    sees, recipe = subsets(n, round(0.7 * n), trials, 0), replace(LONG_TAIL, epochs=10, batch_size=256)
    right, right_test = fit(d, sees, recipe, MLP, run=run)
    pairs = high_influence_pairs(sees, right, right_test, d.y_train, d.y_test)
    sure, strong = pairs[pairs.influence >= 0.2], pairs[pairs.influence >= 0.4]
    times, every = np.unique(sure.test, return_counts=True)[1], np.arange(len(d.y_test))
    varied, seen = standardized(load("fashion-mnist", n_train=2000, n_test=10_000)), subsets(2000, 1400, 4000, 0)
    theirs = high_influence_pairs(seen, *fit(varied, seen, LONG_TAIL, MLP, run=run), varied.y_train, varied.y_test)
    flags = [np.isin(every, side.test).astype(float) for side in (theirs, pairs)]
    i, j = (torch.tensor(strong[side].to_list(), dtype=torch.int64) for side in ("train", "test"))
    twins = are_neighbours(d.x_train, d.x_test, i, j).numpy()
    changed = f"2,000 rows → all {n:,} of MNIST"
    return {
        "lt.pairs.single": Moved(
            f"2,000 rows of Fashion-MNIST → all {n:,} of MNIST, pairs from .2 on", *statistics.share(times == 1),
            len(times), ("test rows",), f"{trials} networks: below .2 most pairs are luck",
        ),
        "lt.pairs.mnist": Moved(
            f"MNIST's {changed}", gap(*flags), statistics.bootstrap_interval(gap, *flags), len(every), ("test rows",),
            f"{flags[0].mean():.1%} against {flags[1].mean():.1%}, of which two thirds are luck with {trials} networks",
        ),
        "lt.visual.duplicates": Moved(f"Fashion-MNIST → MNIST, {changed}", *statistics.share(twins), len(i), ("rows",)),
    }  # fmt: skip


@moves("lt.utility", "lt.utility.influenced")
def strongest(share=0.02, n=2000, trials=4000, retrainings=50, run=None) -> dict[str, Moved]:
    """Networks without the training side of the strongest pairs of 03 alone, a share of the rows as in the paper."""
    d, run = standardized(load("fashion-mnist", n_train=n, n_test=10_000)), run or Run(store=Store(profile="laptop"))
    sees, train = subsets(n, round(0.7 * n), trials, 0), partial(fit, d, recipe=LONG_TAIL, network=MLP, run=run)
    pairs = high_influence_pairs(sees, *train(sees), d.y_train, d.y_test)
    least = pairs.influence[~pairs.train.duplicated()].iloc[: max(1, round(share * n))].min()
    some, every = pairs[pairs.influence >= least], torch.ones(retrainings, n, dtype=torch.bool)
    rest = every.clone()
    rest[:, some.train.unique().tolist()] = False
    lost = 100 * (train(every)[1].double() - train(rest)[1].double()).numpy()
    gone, over = int((~rest[0]).sum()), ("initializations", "test rows")
    changed = f"{pairs.train.nunique()} → {gone} rows removed, those of the pairs of {least:.2f} and more"
    on = some.test.unique()
    return {
        "lt.utility": Moved(changed, *crossed(lost), retrainings, over),
        "lt.utility.influenced": Moved(changed, *crossed(lost[:, on]), retrainings, over, f"{len(on)} test examples"),
    }


@moves("lt.followups.onion")
def onion(share=0.1, n=2000, trials=150, of=4000, run=None) -> dict[str, Moved]:
    """The onion of 13 with a tenth of the rows removed, outliers only."""
    d, run = standardized(load("fashion-mnist", n_train=n, n_test=10_000)), run or Run(store=Store(profile="laptop"))
    sees = subsets(n, round(0.7 * n), of, 0)
    right = fit(d, sees, LONG_TAIL, MLP, run=run)[0]
    mem = memorization(sees[: of // 2], right[: of // 2]).value
    before = memorization(sees[of // 2 :][:trials], right[of // 2 :][:trials]).value
    rest, other = pruning.prune(mem, 1 - share, drop="highest"), pruning.random_subsets(n, 1 - share, [3])[0]

    def peeled(keep, first_seed):
        inside, size = torch.zeros(trials, n, dtype=torch.bool), int(keep.sum())
        inside[:, keep] = subsets(size, round(0.7 * size), trials, 2)
        return memorization(inside, fit(d, inside, LONG_TAIL, MLP, run=Run(), first_seed=first_seed)[0]).value

    after, control = peeled(rest, of + trials), peeled(other, of + 2 * trials)
    arms = {"before": (after[rest], before[rest]), "random removal": (after[rest & other], control[rest & other])}
    flags = {s: [(side >= 0.25).double().numpy() for side in both] for s, both in arms.items()}
    found = {s: (gap(*f), statistics.bootstrap_interval(gap, *f, paired=True)) for s, f in flags.items()}
    return {
        "lt.followups.onion": Moved(
            f"24% → {share:.0%} of the rows removed", *statistics.apart(found), int(rest.sum()), ("rows",),
            f"memorization {mem[~rest].min():.2f} and more",
        )
    }  # fmt: skip


@moves("lt.fraction.mnist.whole")
def convolved_digits(n=2000, trials=40) -> dict[str, Moved]:
    """What a convolutional network does to the share of memorized digits, where many can be trained."""
    d, sees = standardized(load("mnist-5k", n_train=n, n_test=1000)), subsets(n, round(0.7 * n), trials, 0)
    nets = {"mlp-128": LONG_TAIL, "lenet": replace(LONG_TAIL, lr=0.05)}
    said = {name: fit(d, sees, recipe, name, run=Run()) for name, recipe in nets.items()}
    mem = {name: memorization(sees, bits[0]).value for name, bits in said.items()}
    test = " and ".join(f"{bits[1].double().mean():.1%}" for bits in said.values())
    here = float((mem["mlp-128"] >= 0.25).double().mean())
    changed = f"one hidden layer → LeNet, among {n:,} digits, {trials} networks"
    return {
        "lt.fraction.mnist.whole": Moved(
            changed, *statistics.share((mem["lenet"] >= 0.25).numpy()), n,
            ("rows",), f"right on test {test}", here,
        )
    }  # fmt: skip
