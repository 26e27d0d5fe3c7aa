"""Runs of ``moves`` for unique information, notebook 12: cats and dogs, and digits before photographs."""

import numpy as np
import torch

from experiments.moves import Moved, moves
from experiments.transfer import transferred
from experiments.unique_information import drawn, narrow_resnet, one_form, pretrained, successes
from lib.data.datasets import DATA, Dataset, load
from lib.numerics.gradients import jacobians
from lib.scores.unique_information import Tangent, f_si, tangent
from lib.statistics import auroc, t_interval
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
