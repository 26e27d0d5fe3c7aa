"""One image network at a time: trained, its influences, and what retraining says about them.

What the studies of Basu, Pope and Feizi (2021, sections 5.2 and 5.3, appendix 9.7 to 9.12) share, put together from
``lib.ensemble``, ``lib.influence``, ``lib.retraining`` and ``lib.fragility``. Changes are signed, positive = helpful.
"""

import time
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor, nn

from lib import ensemble, fragility, models
from lib.data import Dataset
from lib.influence import InverseHessian, inverse_hessian
from lib.retraining import loss_changes, losses_on, part_of, removals, retrain


@dataclass(frozen=True)
class Setting:
    """How the networks of a study are trained and retrained, and how many training examples are compared.

    Args:
        recipe: of the training; its epochs and decay are each network's own.
        share: of the steps that a retraining takes; ``again``: what is different about it.
        damping: δ. top: examples compared. store, device: of the engine. seed: of the bootstrap.
    """

    recipe: ensemble.Recipe
    share: float
    again: dict
    damping: float
    top: int
    store: object = None
    device: str = "cpu"
    seed: int = 0


@dataclass
class Net:
    """A trained network. The inverse Hessian stays behind when it goes to another process, and is made again there."""

    model: nn.Module
    weights: dict[str, Tensor]  # name → (1, …)
    recipe: ensemble.Recipe
    again: ensemble.Recipe
    images: Dataset
    setting: Setting
    seed: int
    losses: Tensor  # (m,) of the test examples
    fitted: float  # share of its labels
    gradient_ratio: float = 0.0  # norm of the gradient in units of one example's share: influence presumes below 1
    seconds: float = 0.0  # that the inverse Hessian and one test example's influences took
    table: pd.DataFrame | None = field(default=None, repr=False)

    @cached_property
    def inverse(self) -> InverseHessian:
        """The Gauss–Newton matrix's up to 5,000 parameters, EK-FAC's beyond."""
        few = sum(p.numel() for p in self.model.parameters()) <= 5_000
        return inverse_hessian(
            fragility.placed(self.model, self.weights), self.images.x_train, self.images.y_train,
            weight_decay=self.recipe.weight_decay, damping=self.setting.damping,
            solver="gauss_newton" if few else "ekfac",
        )  # fmt: skip

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "inverse"}

    def scores(self, tests, **which) -> Tensor:
        """Influences on the losses of test examples, ``(tests, n)``."""
        return self.inverse.on_loss(self.images.x_test[tests], self.images.y_test[tests], **which).on_loss.double()


def fit(
    name: str, images: Dataset, setting: Setting, *, epochs: int, weight_decay: float, seed=0, initial=None, **changes
) -> Net:  # fmt: skip
    """Train ``lib.models.by_name(name)``, from ``initial`` weights if given, with ``changes`` to the recipe.

    A change of optimizer holds for the retraining too, at a tenth of its learning rate.
    """
    x, y = images.x_train, images.y_train
    model = models.by_name(name, shape=tuple(x.shape[1:]), classes=len(images.classes))
    recipe = replace(setting.recipe, epochs=epochs, weight_decay=weight_decay, **changes)
    options = {"store": setting.store, "device": setting.device, "progress": False}
    run = ensemble.train(model, x, y, recipe=recipe, seeds=[seed], initial=initial, **options)
    own = {"lr": recipe.lr / 10} if "optimizer" in changes else setting.again
    again = part_of(recipe, setting.share, len(y), schedule="constant", **own)
    losses = losses_on(model, run.parameters, images.x_test, images.y_test)[0]
    net = Net(model, run.parameters, recipe, again, images, setting, seed, losses, float(run.accuracy_train[0]))
    begin = time.perf_counter()
    net.inverse.on_loss(images.x_test[:1], images.y_test[:1])
    net.seconds = time.perf_counter() - begin
    net.gradient_ratio = net.inverse.gradient_norm / net.inverse.one_example
    return net


def true_changes(net: Net, removed: Tensor, tests=slice(None), *, scratch: bool = False) -> Tensor:
    """Changes of test losses by retraining without each of ``removed (g, n)``: ``(g, tests)``."""
    again = retrain(
        net.model, net.images.x_train, net.images.y_train, removed, seeds=[net.seed], progress=False,
        recipe=net.recipe if scratch else net.again, weights=None if scratch else net.weights,
        store=net.setting.store, device=net.setting.device, wide=True,
    )  # fmt: skip
    return loss_changes(net.model, again, net.images.x_test[tests], net.images.y_test[tests])[0]


def compared(net: Net, percentiles=(100,), *, scratch: bool = False) -> Net:
    """The net with its ``table`` of predicted and true changes at test examples of these percentiles of the loss."""
    tests = sorted({fragility.at_percentile(net.losses, percentile) for percentile in percentiles})
    truths = {"retrained": lambda gone, x, y: (true_changes(net, gone[0], tests)[None], None)}
    if scratch:
        truths["from scratch"] = lambda gone, x, y: (true_changes(net, gone[0], tests, scratch=True)[None], None)
    net.table = fragility.compare(
        net.model, net.weights, [net.inverse], net.images.x_test, net.images.y_test, truths,
        percentiles=percentiles, top=net.setting.top,
    )  # fmt: skip
    return net


def agreed(net: Net, percentile: float = 100, truth: str = "retrained") -> dict:
    """:func:`lib.fragility.agreement` of a compared net at one test example."""
    part = net.table[net.table.percentile == percentile]
    return fragility.agreement(part.predicted, part[truth], seed=net.setting.seed)


def several(net: Net) -> list[int]:
    """Eight test examples: two each at the 100th, 75th, 50th and 25th percentile of the loss."""
    m, order = len(net.losses), net.losses.argsort().tolist()
    return [order[round(m * part) - 1 - i] for part in (1, 0.75, 0.5, 0.25) for i in (0, 1)]


def grouped(net: Net, sizes, groups: int) -> dict[int, dict]:
    """Agreement over random groups of each size, on the summed loss of :func:`several` test examples."""
    n, generator, tests = len(net.images.y_train), torch.Generator().manual_seed(net.setting.seed), several(net)
    score, found = net.scores(tests).sum(0), {}
    for size in sizes:
        removed = removals([torch.randperm(n, generator=generator)[:size] for _ in range(groups)], n)
        truth = true_changes(net, removed, tests).sum(1)
        found[size] = fragility.agreement(removed.double() @ score, truth, seed=net.setting.seed)
    return found


def together(net: Net, truth: Tensor | None = None) -> dict:
    """Agreement over the top examples on the summed loss of :func:`several`; ``truth (n, m)``, if it is there."""
    tests = several(net)
    score = net.scores(tests).sum(0)
    rows = fragility.most_influential(score, net.setting.top)
    known = truth is not None
    changes = truth[rows][:, tests] if known else true_changes(net, removals(rows, len(score)), tests)
    return fragility.agreement(score[rows], changes.sum(1), seed=net.setting.seed)
