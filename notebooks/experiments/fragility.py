"""06 and 16: how well do influence functions foretell what retraining without an example does to a test loss?

The procedure of Basu, Pope and Feizi (2021, section 5): take the test example at some percentile of the test losses
(100 = the highest), the k training examples with the largest |influence| on it, retrain without each of them, and
correlate the predicted with the true changes of that loss. Changes are signed: **positive = helpful**. For one image
network at a time (:class:`Net`; sections 5.2, 5.3, 9.7 to 9.12); Iris is in ``experiments.iris``.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from scipy.stats import chi2
from torch import Tensor, nn

from lib.data.datasets import Dataset
from lib.networks import models
from lib.scores.influence import InverseHessian, inverse_hessian
from lib.statistics import pearson, pearson_r, permutation_band, spearman, spearman_r, t_interval
from lib.training import ensemble
from lib.training.recipe import Recipe, Run, Start, step_counts
from lib.training.retraining import loss_changes, losses_on, removals, retrain

GAIN = {"relu": math.sqrt(2), "tanh": 5 / 3, "selu": 1.0}


def wide_start(model: nn.Module, seeds: Sequence[int], activation: str = "relu") -> dict[str, Tensor]:
    """Initial weights N(0, gain²/inputs) of a chain of linear layers, biases 0: ``name → (r, …)`` (He et al. 2015)."""
    if activation not in GAIN:
        raise ValueError(f"activation must be one of {', '.join(GAIN)}, got {activation!r}")
    generators, start = [torch.Generator().manual_seed(seed) for seed in seeds], {}
    for name, p in model.named_parameters():
        scale = 0 if p.ndim == 1 else (1.0 if name.startswith("head") else GAIN[activation]) / math.sqrt(p.shape[1])
        start[name] = torch.stack([scale * torch.randn(p.shape, generator=g) for g in generators])
    return start


def placed(model: nn.Module, weights: Mapping[str, Tensor], member: int = 0) -> nn.Module:
    """``model`` itself with the weights of one member of stacked ones ``(r, …)``, in their type, for evaluation."""
    state = {name: value[member] for name, value in weights.items()}
    model = model.to(next(v.dtype for v in state.values() if v.is_floating_point()))
    model.load_state_dict(state)
    return model.eval()


def at_percentile(losses: Tensor, percentile: float) -> int:
    """Position of the test example at a percentile of the losses ``(m,)``: 100 is the highest, 50 the median."""
    return int(losses.argsort()[round(percentile / 100 * (len(losses) - 1))])


def most_influential(scores: Tensor, k: int) -> Tensor:
    """Positions of the k largest |influence|, descending, ``(k,)``."""
    return scores.abs().argsort(descending=True)[:k]


def around_percentile(scores: Tensor, percentile: float, k: int) -> Tensor:
    """Positions of the k training examples around a percentile of |influence|, ascending, ``(k,)``."""
    order, n = scores.abs().argsort(), len(scores)
    first = min(max(0, round(percentile / 100 * (n - 1)) - k // 2), n - k)
    return order[first : first + k]


def agreement_with_truth(predicted, actual, *, seed: int = 0) -> dict:
    """Pearson and Spearman of predicted with true changes: each with its interval, and its band when paired at random.

    Where one side is constant the correlation is 0; where too few values differ to resample, the interval (−1, 1).
    """
    predicted, actual = np.asarray(predicted, float), np.asarray(actual, float)
    varies, result = np.ptp(predicted) > 0 and np.ptp(actual) > 0, {}
    for name, measure, plain in (("pearson", pearson, pearson_r), ("spearman", spearman, spearman_r)):
        value, interval, null = 0.0, (-1.0, 1.0), (-1.0, 1.0)
        if varies:
            try:
                value, interval = measure(predicted, actual, seed=seed)
            except ValueError:  # the bootstrap, where nearly all values are equal
                value = float(plain(predicted, actual))
            null = permutation_band(plain, predicted, actual, seed=seed)
        result |= {name: value, f"{name}_interval": interval, f"{name}_null": null}
    return result


def over_runs(values, *, correlation: bool = False) -> tuple[float, tuple[float, float]]:
    """Mean over the runs ``(r,)`` that are not NaN, and its 95% interval: Student's, of a ``correlation`` on Fisher's
    z scale, where a mean m with standard error e has the error e/(1 − m²): so the interval ends within (−1, 1). Of 28
    skewed values near .94 it holds the mean 91 times of 100, Student's plain one 90 times."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    mean, interval = float(values.mean()), t_interval(values)
    if not correlation or abs(mean) == 1:
        return mean, interval
    half = np.ptp(interval) / 2 / (1 - mean**2)
    return mean, tuple(float(np.tanh(np.arctanh(mean) + side * half)) for side in (-1, 1))


def trend_and_ends(sweep: Mapping[float, np.ndarray], *, log: bool = False) -> dict:
    """Along a sweep, setting → ``(r,)`` of the same r initializations: Spearman with the setting, and last minus first.

    ``{"trend": (mean, interval over networks as in ``over_runs``), "ends": …}``, a NaN left out; ``log``: of log₁₀.
    """
    values = np.stack([np.asarray(v, float) for v in sweep.values()], 1)  # (r, settings)
    values = values[np.isfinite(values).all(1)]
    values = np.log10(values) if log else values
    rho = spearman_r(values, np.broadcast_to(np.fromiter(sweep, float), values.shape)) if len(sweep) > 1 else values * 0
    return {"trend": over_runs(rho, correlation=True), "ends": over_runs(values[:, -1] - values[:, 0])}


def independent_difference(one: tuple, other: tuple) -> tuple[float, tuple[float, float]]:
    """``one − other`` of two independent ``(value, (low, high))``, its interval by Zou and Donner's (2008) MOVER."""
    (a, (a_low, a_high)), (b, (b_low, b_high)) = one, other
    return a - b, (a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low))


def range_beyond_sampling(values, intervals, *, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Largest − smallest of m correlations, less the range of m that differ by sampling alone, and 95% of its spread.

    Their errors are taken as normal on Fisher's z scale, with the widths of the intervals, about one common value.
    """
    values = np.asarray(values, float)
    z = np.arctanh(np.clip([(v, *i) for v, i in zip(values, intervals, strict=True)], -0.999, 0.999))
    error = (z[:, 2] - z[:, 1]) / (2 * 1.96)
    noise = np.random.default_rng(seed).standard_normal((4000, len(values))) * error
    ranges = np.ptp(np.tanh(z[:, 0].mean() + noise), axis=1)
    low, high = np.quantile(ranges, [0.025, 0.975])
    return float(np.ptp(values) - ranges.mean()), (float(np.ptp(values) - high), float(np.ptp(values) - low))


def spread_over_runs(values) -> tuple[float, tuple[float, float]]:
    """Standard deviation over r runs, with its interval for normal values (χ²)."""
    values = np.asarray(values, float)
    s, r = float(values.std(ddof=1)), len(values)
    return s, tuple(float(s * math.sqrt((r - 1) / chi2.ppf(q, r - 1))) for q in (0.975, 0.025))


@dataclass(frozen=True)
class Setting:
    recipe: Recipe  # of the training; its epochs and decay are each network's own
    share: float  # of the steps, that a retraining takes
    again: dict  # what is different about it
    damping: float  # δ
    top: int  # examples compared
    store: object = None  # of the engine, as is the device
    device: str = "cpu"
    seed: int = 0  # of the bootstrap


@dataclass
class Net:
    """A trained network. The inverse Hessian stays behind when it goes to another process, and is made again there."""

    model: nn.Module
    weights: dict[str, Tensor]  # name → (1, …)
    recipe: Recipe
    again: Recipe
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
            placed(self.model, self.weights), self.images.x_train, self.images.y_train,
            weight_decay=self.recipe.weight_decay, damping=self.setting.damping,
            solver="gauss_newton" if few else "ekfac",
        )  # fmt: skip

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "inverse"}

    def scores(self, tests) -> Tensor:
        return self.inverse.on_loss(self.images.x_test[tests], self.images.y_test[tests]).on_loss.double()


def part_of(recipe: Recipe, share: float, n: int, **changes) -> Recipe:
    """The recipe for ``share`` of its steps on n rows (at least one), with ``changes``: the paper retrains for 6%.

    Example:
        >>> part_of(Recipe(lr=0.1, epochs=10, batch_size=50), 0.06, 500).iterations
        6
    """
    steps = max(1, round(share * step_counts(recipe, n, n)[0]))
    return replace(recipe, epochs=None, iterations=steps, **changes)


def train_net(
    name: str, images: Dataset, setting: Setting, *, epochs: int, weight_decay: float, seed=0, initial=None, **changes
) -> Net:
    """Train the network of that name by a changed recipe; another optimizer retrains at a tenth of its rate."""
    x, y = images.x_train, images.y_train
    model = models.by_name(name, shape=tuple(x.shape[1:]), classes=len(images.classes))
    recipe = replace(setting.recipe, epochs=epochs, weight_decay=weight_decay, **changes)
    run = Run(store=setting.store, device=setting.device, progress=False)
    trained = ensemble.train(model, (x, y), recipe, [seed], start=Start(initial), run=run)
    different = {"lr": recipe.lr / 10} if "optimizer" in changes else setting.again
    again = part_of(recipe, setting.share, len(y), schedule="constant", **different)
    losses = losses_on(model, trained.parameters, images.x_test, images.y_test)[0]
    facts = {"seed": seed, "losses": losses, "fitted": float(trained.accuracy_train[0])}
    net = Net(model, trained.parameters, recipe, again=again, images=images, setting=setting, **facts)
    begin = time.perf_counter()
    net.inverse.on_loss(images.x_test[:1], images.y_test[:1])
    net.seconds = time.perf_counter() - begin
    net.gradient_ratio = net.inverse.gradient_norm / net.inverse.one_example
    return net


def true_changes(net: Net, removed: Tensor, tests=slice(None), *, scratch: bool = False) -> Tensor:
    """Changes of test losses by training on (or ``scratch``: anew) without each of ``removed (g, n)``, ``(g, m)``."""
    again = retrain(
        net.model, (net.images.x_train, net.images.y_train), net.recipe if scratch else net.again, [net.seed],
        removed=removed, start=Start(None if scratch else net.weights),
        run=Run(device=net.setting.device, store=net.setting.store, wide=True, progress=False),
    )  # fmt: skip
    return loss_changes(net.model, again, net.images.x_test[tests], net.images.y_test[tests])[0]


def compared(net: Net, percentiles=(100,), *, scratch: bool = False) -> Net:
    """The net with its ``table``: at test examples of these percentiles of the loss, the training examples of largest
    |influence|, descending; columns ``percentile, test, row, predicted, retrained`` (and ``from scratch``), in nats."""
    tests = [at_percentile(net.losses, percentile) for percentile in percentiles]
    scores = net.scores(tests)
    rows = torch.stack([most_influential(score, net.setting.top) for score in scores])  # (tests, top)
    repeated = {"percentile": np.repeat(percentiles, rows.shape[1]), "test": np.repeat(tests, rows.shape[1])}
    net.table = pd.DataFrame(repeated | {"row": rows.flatten(), "predicted": scores.gather(1, rows).flatten()})
    distinct, which = rows.unique(return_inverse=True)
    for name in ("retrained", *["from scratch"] * scratch):
        changes = true_changes(net, removals(distinct, len(net.images.y_train)), tests, scratch=name == "from scratch")
        net.table[name] = changes[which, torch.arange(len(tests))[:, None]].flatten().numpy()
    return net


def agreed(net: Net, percentile: float = 100, truth: str = "retrained") -> dict:
    """:func:`agreement_with_truth` of a compared net at one test example."""
    rows = net.table[net.table.percentile == percentile]
    return agreement_with_truth(rows.predicted, rows[truth], seed=net.setting.seed)


def several(net: Net) -> list[int]:
    """Eight test examples: two each at the 100th, 75th, 50th and 25th percentile of the loss."""
    m, order = len(net.losses), net.losses.argsort().tolist()
    return [order[round(m * share) - 1 - i] for share in (1, 0.75, 0.5, 0.25) for i in (0, 1)]


def grouped(net: Net, sizes, groups: int) -> dict[int, dict]:
    """Agreement over random groups of each size, on the summed loss of :func:`several` test examples."""
    n, generator, tests = len(net.images.y_train), torch.Generator().manual_seed(net.setting.seed), several(net)
    score, by_size = net.scores(tests).sum(0), {}
    for size in sizes:
        removed = removals([torch.randperm(n, generator=generator)[:size] for _ in range(groups)], n)
        truth = true_changes(net, removed, tests).sum(1)
        by_size[size] = agreement_with_truth(removed.double() @ score, truth, seed=net.setting.seed)
    return by_size


def agreement_on_summed_loss(net: Net, truth: Tensor | None = None) -> dict:
    """Agreement over the top examples on the summed loss of :func:`several`; ``truth (n, m)``, if it is there."""
    tests = several(net)
    score = net.scores(tests).sum(0)
    rows = most_influential(score, net.setting.top)
    changes = true_changes(net, removals(rows, len(score)), tests) if truth is None else truth[rows][:, tests]
    return agreement_with_truth(score[rows], changes.sum(1), seed=net.setting.seed)
