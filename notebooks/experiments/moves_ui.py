"""Runs of ``moves`` for unique information: 01's CNN with less decay and more rows; 12's cats and dogs, photographs."""

from dataclasses import replace

import numpy as np
import torch

from experiments.linearization import draws, gap, paced, published_correlation, replicated, study, typical
from experiments.moves import Moved, moves
from experiments.transfer import transferred
from experiments.unique_information import drawn, narrow_resnet, one_form, pretrained, successes
from lib.data.datasets import DATA, Dataset, load
from lib.networks import models
from lib.numerics.gradients import jacobians
from lib.scores.unique_information import Tangent, f_si, tangent
from lib.statistics import auroc, t_interval
from lib.store import Store
from lib.training import Recipe, Run, Start, ensemble

CIFAR, CATS_AND_DOGS = DATA / "downloads" / "cifar10.npz", [3, 5]
KEPT = {"per_layer": 2000, "seed": 0}


def trained(model, d: Dataset, recipe: Recipe, seed: int, start: Start | None = None):
    """The model with the weights that it comes to."""
    run = ensemble.train(model, (d.x_train, d.y_train), recipe, [seed], **({"start": start} if start else {}))
    model.load_state_dict({name: value[0] for name, value in run.parameters.items()})
    return model


def gain_by_attack(body, seed: int, epsilon: float = 0.01) -> float:
    """AUROC of attacked cats and dogs against the others, after the attack − before it, as notebook 12 has it."""
    d = load(CIFAR, n_train=1000, n_test=250, classes=CATS_AND_DOGS, seed=seed)
    start = transferred(body, 1, seed=seed)
    begin = Start({name: value[None] for name, value in start.state_dict().items()})
    recipe = Recipe(lr=0.002, momentum=0.9, epochs=10, batch_size=50, loss="mse")
    tuned, fresh = trained(start, d, recipe, seed, begin), transferred(body, 1, seed=500 + seed).eval()
    moved, flips = successes(tuned, d.x_train, d.y_train, epsilon)
    rows = flips.nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:100]]
    flags = torch.zeros(1000, dtype=torch.bool).index_fill(0, rows, True).numpy()
    other, found = jacobians(fresh, d.x_test, **KEPT), []
    for x in (d.x_train, d.x_train.index_copy(0, rows, moved[rows])):
        own = jacobians(fresh, x, **KEPT)
        with torch.no_grad():
            net = Tangent(own @ own.T, other @ own.T, fresh(x))
        found.append(auroc(f_si(net, d.y_train, lr=0.001, steps=1000).numpy(), flags)[0])
    return found[1] - found[0]


def left_out(build, images: Dataset, n: int, *, time: float, decay: float, held: int, networks: int, store: Store):
    """Changes by method of each of notebook 01's first networks, and the share of training rows on the right side."""
    found, right = [], []
    for run, rows in enumerate(draws(images.y_train, n, 5)[:networks]):
        x, y = images.x_train[rows], images.y_train[rows]
        start, known = paced(build(run), x, y, images.x_test, time=time)
        changes, _, end = study(replace(start, weight_decay=decay), known, torch.arange(held), store=store)
        found.append(changes)
        right.append(float((end.residual.abs() < 0.5).double().mean()))
    return found, float(np.mean(right))


@moves("ui.table1.all", "ui.table1.order")
def decay_and_rows(networks: int = 5, wider: int = 2, n: int = 64, more: int = 160, held: int = 10) -> dict[str, Moved]:
    """The CNN from scratch with the decay of the authors' commands; and with as many rows as the MLP has."""
    images, name = load("mnist-5k", classes=[4, 9], n_train=5 * more, n_test=200), "CNN from scratch"
    mlp = lambda run: models.initialize(models.mlp(784, (1024,), 1), run)
    cnn = lambda run: models.initialize(models.cnn_unique_information(1, 28, 1), run)
    how = {"store": Store(profile="laptop"), "held": held, "time": 10.0}
    gentle, right = left_out(cnn, images, n, decay=0.1, networks=networks, **how)
    few, full = (left_out(cnn, images, size, decay=1.0, networks=wider, **how)[0] for size in (n, more))
    wide, _ = left_out(mlp, images, more, decay=1.0, networks=wider, **how | {"time": 2.0, "held": min(32, more)})
    table = replicated({(name, 100): gentle, ("few", 1000): few, ("full", 1000): full, ("MLP", 1000): wide})
    values, ends, others = {}, {}, []
    for row in table[table.method != "influence"].itertuples():
        published = published_correlation(name, row.quantity, 1000, row.method)
        if row.network == name:
            setting = f"{row.quantity}, λ = 1000, {name}, {row.method}"
            values[setting], ends[setting] = row.pearson - published, (row.low - published, row.high - published)
        elif row.network == "full":
            others.append(f"{row.quantity}, {row.method} {row.pearson:.2f} (published {published:.2f})")
    rows, over = f"{n} → {more} rows", ("initializations", "rows")
    changed = f"{name}, λ = 1000 → 100 as in the authors' commands, ours − published"
    note = f"{right:.0%} of the training rows right; with {rows}, Pearson of {wider} networks: {'; '.join(others)}"
    r = table[(table.quantity == "weights") & (table.method == "linearization")].set_index("network").r
    (before, _), (after, interval) = gap(r["MLP"], r["few"]), gap(r["MLP"], r["full"])
    setting = "MLP − CNN from scratch"
    moved = f"λ = 1000, and the CNN from scratch with {rows}, as the MLP has (published 1,000)"
    own = f"Pearson of the CNN {typical(r['few'])[0]:.2f} → {typical(r['full'])[0]:.2f}, published −.01"
    return {
        "ui.table1.all": Moved(changed, values, ends, networks, over, note.replace("-", "−")),
        "ui.table1.order": Moved(moved, {setting: after}, {setting: interval}, wider, over, own, was={setting: before}),
    }


@moves("ui.adversarial.control")
def attacks_on_cats_and_dogs(draws: int = 3) -> dict[str, Moved]:
    """CIFAR-10's cats and dogs, and a residual network pretrained on its other classes."""
    others = [c for c in range(10) if c not in CATS_AND_DOGS]
    body = narrow_resnet(18, width=16, channels=3, classes=len(others))
    recipe = Recipe(lr=0.02, momentum=0.9, schedule="cosine", epochs=3)
    body = trained(body, load(CIFAR, n_train=6000, n_test=10, classes=others), recipe, 0)
    gains = [gain_by_attack(body, seed) for seed in range(draws)]
    changed = "two garments → cats and dogs (CIFAR-10's, where the paper has Kaggle's), pretrained on the other classes"
    over = ("initializations", "rows")
    return {"ui.adversarial.control": Moved(changed, float(np.mean(gains)), t_interval(gains), draws, over)}


@moves("ui.sources")
def digits_before_photographs() -> dict[str, Moved]:
    """Half of the digits before patches of photographs, as SVHN's are: |photograph − digit|."""
    garments = load("fashion-mnist", n_train=6000, n_test=1000)
    body = pretrained("ResNet-18", garments, width=16, epochs=3, seed=0, run=Run())
    digits, photographs = load("mnist-5k"), load(CIFAR, n_train=300, n_test=10)
    rows = drawn(digits.y_train, dict.fromkeys(range(10), 60), seed=0)
    rows = rows[torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    x, y = digits.x_train[rows], digits.y_train[rows]
    x[300:] = (one_form(photographs.x_train, box=28) - x[300:]).abs()
    train = torch.cat([torch.arange(200), 300 + torch.arange(200)])
    val = torch.cat([200 + torch.arange(100), 500 + torch.arange(100)])
    net = tangent(transferred(body, 10, seed=0), x[train], x[val], **KEPT)
    score = f_si(net, y[train], lr=0.0001, steps=20000)
    value, interval = auroc(score.numpy(), (train >= 300).numpy())
    changed = "digits of scikit-learn → digits before photographs (of CIFAR-10), as SVHN's are"
    return {"ui.sources": Moved(changed, {"ResNet": value}, {"ResNet": interval}, 400, ("rows",))}
