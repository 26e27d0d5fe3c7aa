"""Is it us? Runs for notebooks 05 and 15, after Paul et al. 2021; see ``experiments.moves``."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments import dynamics, noise, pruning
from experiments.moves import Moved, moves
from lib import statistics
from lib.data.datasets import DATA, Dataset, load
from lib.networks import models
from lib.scores.data_diet import el2n, grand
from lib.training import Recipe, Record, Start, ensemble

ALL, PUBLISHED = ("initializations", "rows", "test rows"), 0.1  # the published learning rate
EARLY, EPOCHS = 4, 12  # of 05
crossed = lambda points: (points.mean(), statistics.crossed_interval(points))  # (repetitions, test rows)
of_mean = lambda values: (values.mean(), statistics.t_interval(values))


def scaled(d: Dataset, to: Dataset) -> Dataset:
    """Each channel less its mean over the training rows of ``to``, over the standard deviation there."""
    mean, spread = (of(to.x_train, dim=(0, 2, 3), keepdim=True) for of in (torch.mean, torch.std))
    return replace(d, x_train=(d.x_train - mean) / spread, x_test=(d.x_test - mean) / spread)


def recipe_of(lr: float) -> Recipe:
    """That of 05 and 15, at another learning rate."""
    step = {"schedule": "step", "milestones": (4, 7, 10), "gamma": 0.2}
    return Recipe(lr=lr, epochs=EPOCHS, batch_size=100, momentum=0.9, nesterov=True, weight_decay=5e-4, **step)


def at_birth(model, x: Tensor, y: Tensor, networks: int) -> Tensor:
    """GraNd before the first step, (networks, n)."""
    born = [copy.deepcopy(models.initialize(model, i).state_dict()) for i in range(networks)]
    return grand(model, {name: torch.stack([state[name] for state in born]) for name in born[0]}, x, y)


def steps(recipe: Recipe, n: int) -> Recipe:
    """As many steps as n rows take, whatever is kept of them."""
    return replace(recipe, epochs=None, iterations=EPOCHS * -(-n // 100))


def early(model, x: Tensor, y: Tensor, recipe: Recipe, networks: int) -> Tensor:
    """Errors after four epochs, (networks, n, classes)."""
    record = Record(errors_at=(EARLY,), parameters=False)
    return ensemble.train(model, (x, y), recipe, range(networks), start=Start(until=EARLY), record=record).errors[EARLY]


@moves("dd.window", "dd.window.shift", "dd.window.grand", "dd.average.accuracy")
def rate(draws=4, n=8000, networks=10, places=(0.0, 0.02, 0.05, 0.1, 0.2)) -> dict[str, Moved]:
    """The windows and the averaging of 05 and 15 at the published rate, on several draws of the rows."""
    parts = pruning.draws("fashion-mnist", draws, n=n, n_test=10_000)
    parts, recipe = [scaled(part, parts[0]) for part in parts], recipe_of(PUBLISHED)
    model = models.by_name("mlp-128", shape=tuple(parts[0].x_train.shape[1:]), classes=10)
    kept, found, fresh = {}, [], {}

    def retrained(i, y, plans, seed):
        options = {"recipe": steps(recipe, n), "columns": ("score", "out"), "labels": y}
        return pruning.retrain_pruned(model, parts[i], plans, seeds=[seed], **options).assign(seed=i)

    named = {"clean": 0.0, "10% noise": 0.1, "20% noise": 0.2}
    for i, part in enumerate(parts):
        for name, level in named.items():
            y = noise.permuted_noise(part.y_train, level, seed=i)[0] if level else part.y_train
            seen = el2n(early(model, part.x_train, y, recipe, networks))
            first, plans = at_birth(model, part.x_train, y, networks), {}
            for out in places:
                plans["EL2N", out] = pruning.window(seen.mean(0), 0.4, 0.6 - out)
            kept[i, name] = y, dict(plans)
            plans["random", 0.0] = pruning.random_subsets(n, 0.4, [i])
            plans["GraNd", 0.0] = pruning.prune(first.mean(0), 0.4, drop="lowest")
            for score, of in {"EL2N": seen, "GraNd": first}.items() if not level else ():
                plans[f"{score}, half by ten", 0.0] = pruning.prune(of.mean(0), 0.5, drop="lowest")
                plans[f"{score}, half by one", 0.0] = pruning.prune(of[i % networks], 0.5, drop="lowest")
            found.append(retrained(i, y, plans, 100 + i).assign(level=name))
    found = pd.concat(found)
    points = lambda level, a, b: pruning.points(found[found.level == level], {"score": a}, {"score": b}, by="out")[0.0]
    curve = found[found.score == "EL2N"].pivot_table(index="out", columns=["level", "seed"], values="accuracy")
    for name in named:
        best = curve[name].mean(axis=1).idxmax()
        again = [
            retrained(i, y, {key: plans[key] for key in {("EL2N", best), ("EL2N", 0.0)}}, 200 + i)
            for i, (y, plans) in ((i, kept[i, name]) for i in range(draws))
        ]
        lead = pruning.points(pd.concat(again), {"out": best}, {"out": 0.0}, by="score")["EL2N"]
        fresh[name] = crossed(lead)
    shift = {name: of_mean(curve[name].idxmax().to_numpy()) for name in named}
    mean = {
        name: crossed(points("clean", f"{name}, half by ten", f"{name}, half by one")) for name in ("GraNd", "EL2N")
    }
    changed = f"learning rate .03 → .1, one draw of the rows → {draws}"
    return {
        "dd.window": Moved(changed, *statistics.apart(fresh), draws, ALL),
        "dd.window.shift": Moved(changed, *statistics.apart(shift), draws, ALL[:2]),
        "dd.window.grand": Moved(changed, *crossed(points("10% noise", "random", "GraNd")), draws, ALL),
        "dd.average.accuracy": Moved(changed, *statistics.apart(mean), draws, ALL),
    }


@moves("dd.barrier", "dd.velocity")
def moving(n=8000, networks=5, groups=10, size=100, subset=1000) -> dict[str, Moved]:
    """Barriers and kernel velocity of 15 at the published rate, with fewer networks and groups."""
    d = load("fashion-mnist", n_train=n, n_test=10)
    x, y, recipe, epochs = scaled(d, d).x_train, d.y_train, recipe_of(PUBLISHED), (1, 2, 4, 8)
    model = models.by_name("mlp-128", shape=tuple(x.shape[1:]), classes=10)
    when, after = {"early": 0, "middle": 4, "late": 6}, tuple(epoch + 1 for epoch in epochs)
    record = Record(errors_at=epochs, checkpoints_at=tuple(sorted({*epochs, *after, *when.values()})), parameters=False)
    seen = ensemble.train(model, (x, y), recipe, range(networks), record=record)
    parents, siblings = {e: seen.checkpoints[e] for e in when.values()}, [range(s, s + networks) for s in (5000, 6000)]
    order, barrier, speed = el2n(seen.errors[EARLY]).mean(0).argsort(), {}, []
    rows = torch.cat([order[-subset:], order[:subset]])
    for epoch, pair in dynamics.children(model, (x, y), recipe, siblings, parents=parents).items():
        wrong = dynamics.errors_on_segment(model, *pair, x[rows], y[rows])
        barrier[epoch] = [dynamics.error_barrier(part) for part in wrong.split(subset, dim=2)]
    for epoch in epochs:
        order = el2n(seen.errors[epoch]).mean(0).argsort()
        sets = [order[at : at + size] for at in torch.linspace(0, n - size, groups).long()]
        both = seen.checkpoints[epoch], seen.checkpoints[epoch + 1]
        speed.append(torch.stack([dynamics.kernel_velocity(model, *both, x[rows]) for rows in sets]))
    mean = torch.stack(speed).mean(0).numpy()  # (groups, networks)
    rho = statistics.spearman_r(np.broadcast_to(np.arange(groups), mean.T.shape), mean.T)
    fast = {"trend": of_mean(rho), "ends": of_mean(mean[-1] - mean[0])}
    higher = {name: of_mean((barrier[epoch][0] - barrier[epoch][1]).numpy()) for name, epoch in when.items()}
    changed = "learning rate .03 → .1"
    return {
        "dd.barrier": Moved(changed, *statistics.apart(higher), networks, ALL[:1]),
        "dd.velocity": Moved(changed, *statistics.apart(fast), networks, ALL[:1], f"{groups} groups"),
    }


@moves("dd.grand_init")
def born(n=4000, networks=10, draws=5) -> dict[str, Moved]:
    """A LeNet trains on the half that its own GraNd before the first step picks, on several draws of the rows."""
    parts, tables = pruning.draws("fashion-mnist", draws, n=n, n_test=10_000), []
    model, recipe = models.by_name("lenet", shape=(1, 28, 28), classes=10), replace(recipe_of(0.03), batch_size=50)
    length = replace(recipe, epochs=None, iterations=EPOCHS * -(-n // 50))
    for i, part in enumerate(parts):
        part = scaled(part, parts[0])
        plans = {("random", 0.5): pruning.random_subsets(n, 0.5, [i])}
        first = at_birth(model, part.x_train, part.y_train, networks).mean(0)
        plans["GraNd", 0.5] = pruning.prune(first, 0.5, drop="lowest")
        options = {"recipe": length, "columns": ("score", "keep"), "seeds": [100 + i]}
        tables.append(pruning.retrain_pruned(model, part, plans, **options))
    lead = pruning.points(pd.concat(tables, ignore_index=True), {"score": "GraNd"}, {"score": "random"}, by="keep")
    (value, ends), key = crossed(lead[0.5]), "drop 50%"
    changed = "a dense network on 8,000 rows → LeNet on 4,000 in batches of 50"
    return {"dd.grand_init": Moved(changed, {key: value}, {key: ends}, draws, ALL)}


@moves("dd.grand_init.norm")
def residual(n=300, networks=10, name=DATA / "downloads" / "cifar10.npz") -> dict[str, Moved]:
    """GraNd before the first step of a narrow ResNet-18, on CIFAR-10."""
    d = load(name, n_train=n, n_test=10)
    x, model = scaled(d, d).x_train, models.by_name("resnet18-16", shape=(3, 32, 32), classes=10)
    rho, ends = statistics.spearman(at_birth(model, x, d.y_train, networks).mean(0), x.flatten(1).norm(dim=1))
    changed = "LeNet on Fashion-MNIST → ResNet-18 with a quarter of the channels on CIFAR-10"
    key = "convolutional"
    return {"dd.grand_init.norm": Moved(changed, {key: rho}, {key: ends}, n, ("rows",), f"{networks} networks")}


@moves("dd.architectures")
def convolved(n=8000, networks=5, seeds=3) -> dict[str, Moved]:
    """The halves of the LeNet of 15 on twice its rows, in batches of 100 as for the other networks."""
    d = load("fashion-mnist", n_train=n, n_test=10_000)
    d, recipe, model = scaled(d, d), recipe_of(0.03), models.by_name("lenet", shape=(1, 28, 28), classes=10)
    score = el2n(early(model, d.x_train, d.y_train, recipe, networks)).mean(0)
    plans = {("random", 0.5): pruning.random_subsets(n, 0.5, range(seeds))}
    plans["EL2N", 0.5] = pruning.prune(score, 0.5, drop="lowest")
    options = {"recipe": steps(recipe, n), "columns": ("score", "keep"), "seeds": range(100, 100 + seeds)}
    table = pruning.retrain_pruned(model, d, plans, **options)
    value, ends = crossed(pruning.points(table, {"score": "EL2N"}, {"score": "random"}, by="keep")[0.5])
    changed, key = "LeNet on 4,000 rows in batches of 50 → on 8,000 in batches of 100", "convolutional"
    return {"dd.architectures": Moved(changed, {key: value}, {key: ends}, seeds, ALL[::2])}
