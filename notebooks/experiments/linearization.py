"""What leaving out a training example does to a network, and how well it is foretold without training again.

For notebook 01, after Table 1 of Harutyunyan et al. (ICLR 2021). A model descends, from its initial weights and by full
batches, the mean squared error with decay towards these, ``L = (1/n) Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖²``. For each
example i that is left out (its term goes, 1/n stays: everything else equal) there are two quantities,

    ‖w − w₋ᵢ‖²      and      ‖f_w(X_val) − f_{w₋ᵢ}(X_val)‖²

They come from retraining, one network an example; from the linearized network (eq. 10 and 11); and from influence
functions at the *trained* weights, to first order ``Δwᵢ = (1/n)(H + δI)⁻¹∇ℓᵢ`` (``lib.scores.influence``). With the
Gauss–Newton matrix for H, and the tangent kernel Θ there, that is for one output, from one eigendecomposition,

    Δwᵢ = (eᵢ/n) Jᵀ a_{·i},      A = g(Θ/n),      g(x) = 1/(x + λ + δ)      eᵢ = f(xᵢ) − yᵢ

LiSSA in the mean over its batches is the same with another g: ``h_j = v + (1 − β)h_{j−1} − H h_{j−1}/s``, h₀ = v,
taken J times, gives ``g(x) = p_{J+1}(x + λ + δ)`` with δ = βs and the filter p of gradient descent in J + 1 steps with
the learning rate 1/s (``lib.numerics.spectral_filter``).

Predicted and true changes are held against each other by Pearson's correlation, as in the paper, whose values are in
``PUBLISHED``; by Spearman's, since a few examples with large changes carry much of a Pearson correlation; and, since
neither sees the size, by the median of |predicted/true − 1|.
"""

import copy
import math
import warnings
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import NullFormatter
from torch import Tensor, nn

from lib.data.datasets import Dataset, load
from lib.networks.models import Classifier
from lib.networks.stacked import chain, predict
from lib.numerics.gradients import along
from lib.numerics.spectral_filter import spectral_filter
from lib.scores.influence import inverse_hessian
from lib.scores.unique_information import Spectrum, leave_one_out, regression_targets, tangent
from lib.statistics import pearson, pearson_r, spearman, t_interval
from lib.training.ensemble import train
from lib.training.parallel import VERSION as ENGINE
from lib.training.parallel import digest
from lib.training.recipe import Recipe, Run, Start

VERSION = 1  # of what is kept: raise it when the same arguments give other numbers
QUANTITIES = {"weights": "squared_weights", "predictions": "squared_predictions"}
NETWORKS = ("MLP", "CNN from scratch", "pretrained CNN", "ResNet-18", "ResNet-50")
PUBLISHED = {  # (quantity, λ of the sum over 1,000 examples, method): Pearson of each network; influence is by LiSSA
    ("weights", 0, "linearization"): (0.987, 0.193, 0.870, 0.895, 0.968),
    ("weights", 0, "LiSSA"): (0.935, 0.319, 0.736, 0.675, 0.897),
    ("weights", 1000, "linearization"): (0.977, -0.012, 0.964, 0.940, 0.816),
    ("weights", 1000, "LiSSA"): (0.978, 0.069, 0.979, 0.858, 0.912),
    ("predictions", 0, "linearization"): (0.993, 0.033, 0.875, 0.877, 0.895),
    ("predictions", 0, "LiSSA"): (0.920, 0.647, 0.770, 0.530, 0.715),
    ("predictions", 1000, "linearization"): (0.993, 0.070, 0.974, 0.931, 0.519),
    ("predictions", 1000, "LiSSA"): (0.990, 0.407, 0.954, 0.753, 0.506),
}


SCALE, DAMPING = 1000.0, 0.01  # of LiSSA, as published: the damping is added to H/scale
LOOKS = {"linearization": ("#0072b2", "o"), "LiSSA in the mean": ("#d55e00", "D"), "influence": ("#009e73", "^")}


def other_classes(name: str, taken, *, n: int, n_test: int = 1000, seed: int = 0) -> Dataset:
    """To pretrain for a task whose classes ``taken`` come from the same data: at most so many rows of all others.

    Example:
        >>> other_classes("mnist-5k", [4, 9], n=400, n_test=80)
        Dataset(mnist-5k: 400 training and 80 test examples of 1×28×28, 8 classes)
    """
    whole = load(name)
    if not (others := [c for c in range(len(whole.classes)) if c not in set(taken)]):
        raise ValueError(f"taken leaves no class of {name}, which has {len(whole.classes)}; got {list(taken)}")
    most = [int(sum((y == c).sum() for c in others)) for y in (whole.y_train, whole.y_test)]
    return load(name, classes=others, n_train=min(n, most[0]), n_test=min(n_test, most[1]), seed=seed)


def pretrain(model: Classifier, images: Dataset, *, epochs: int, seed: int = 0, device="cpu", store=None):
    """``model`` trained to tell the classes apart, and its test accuracy; for 0 epochs as drawn from ``seed``."""
    recipe = Recipe(lr=0.1, momentum=0.9, weight_decay=5e-4, epochs=epochs, batch_size=50, schedule="cosine")
    run = train(model, images, recipe, [seed], run=Run(device=device, store=store, progress=False))
    trained = copy.deepcopy(model)
    trained.load_state_dict({name: value[0] for name, value in run.parameters.items()})
    return trained, float(run.accuracy_test[0])


@dataclass(frozen=True)
class Training:
    """From which weights, on what and how: λ is that of the mean loss (the sum over n examples has nλ)."""

    model: nn.Module  # at its initial weights; one output or more
    x: Tensor  # (n, …)
    y: Tensor  # (n,) labels: the targets 0 and 1 of one output, one-hot for more
    x_val: Tensor  # (m, …)
    lr: float
    steps: int
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Change:
    """What leaving out each of some examples changes; indexed, what some of these do."""

    squared_weights: Tensor  # (e,) ‖w − w₋ᵢ‖²
    squared_predictions: Tensor  # (e,) ‖f_w(X_val) − f_{w₋ᵢ}(X_val)‖², summed over examples and outputs

    def __getitem__(self, rows) -> "Change":
        return Change(self.squared_weights[rows], self.squared_predictions[rows])


@dataclass(frozen=True)
class Kernels:
    """The tangent kernel at some weights, and what else the closed forms need of them."""

    spectrum: Spectrum  # of Θ(X, X)
    cross: Tensor  # Θ(X_val, X), (m·k, n·k)
    residual: Tensor  # y − f(X), (n, k) float64

    @property
    def eigenvalues(self) -> Tensor:
        """Of Θ/n, ascending: those of the Gauss–Newton matrix of the mean loss that are not 0."""
        return self.spectrum.values / len(self.residual)

    @property
    def curvature(self) -> float:
        """The largest of them: gradient descent on the mean loss diverges for lr above 2 over it."""
        return self.eigenvalues[-1].item()


def kernels(training: Training, *, per_layer: int | None = None, seed: int = 0) -> Kernels:
    """Kernels at the model's present weights: from all parameters, or from ``per_layer`` random ones of each tensor.

    Cost: that of ``lib.scores.unique_information.tangent``, and an eigendecomposition of n·k.
    """
    net = tangent(copy.deepcopy(training.model), training.x, training.x_val, per_layer=per_layer, seed=seed)
    return Kernels(net.spectrum, net.cross_kernel, regression_targets(training.y, net.outputs.shape[1]) - net.outputs)


def paced(
    model: nn.Module, x: Tensor, y: Tensor, x_val: Tensor, *, time: float, least: int = 50, most: int = 20_000
) -> tuple[Training, Kernels]:
    """A training of length ηt = ``time`` in as few steps as keep η at most 1.25 over the curvature, but ``least``.

    Only ηt counts while η is far below 2 over the curvature: many small steps end where fewer large ones do. The
    curvature is that of the linearized network, without decay, at the start.

    Example:
        >>> x, y = 3 * torch.eye(4), torch.tensor([0, 1, 0, 1])  # curvature 9/4 + 1 with the bias
        >>> training, known = paced(nn.Linear(4, 1), x, y, x, time=50.0)
        >>> training.steps, training.lr * training.steps
        (130, 50.0)
    """
    known = kernels(Training(model, x, y, x_val, lr=1.0, steps=0))
    steps = max(least, math.ceil(time * known.curvature / 1.25))
    if steps > most:
        raise ValueError(
            f"a training of length {time:g} at a curvature of {known.curvature:.3g} needs {steps:,} steps, more than "
            f"most = {most:,}: is the network badly scaled, or its pretraining too short?"
        )
    return Training(model, x, y, x_val, lr=time / steps, steps=steps), known


def stable(training: Training, known: Kernels) -> Training:
    """The same length ηt in smaller steps where these kernels, of few coordinates perhaps, would make it diverge."""
    if training.lr * known.curvature < 2:
        return training
    steps = math.ceil(training.lr * training.steps * known.curvature / 1.25)
    return replace(training, lr=training.lr * training.steps / steps, steps=steps)


def linearized(training: Training, known: Kernels | None = None) -> Change:
    """All n examples, each left out of the linearized network's training (eq. 10 and 11).

    ``known`` are the kernels at the initial weights, if they are there already: they depend on neither λ nor time.
    """
    known, n = known or kernels(training), len(training.x)
    changes = leave_one_out(
        known.spectrum, known.residual, lr=training.lr / n, steps=training.steps,
        weight_decay=n * training.weight_decay, cross_kernel=known.cross,
    )  # fmt: skip
    return Change(changes.squared_weights, changes.predictions.square().sum((1, 2)))


def retrained(
    training: Training, left_out: Tensor, *, precision: str = "float32", device="cpu", at_once: int = 16, store=None
) -> tuple[Change, nn.Module]:
    """The same by training without each example of ``left_out (e,)``, and the network trained with all of them.

    Args:
        precision: as in ``lib.training.ensemble.train``; the changes are differences of nearly equal weights.
        at_once: networks whose weights are held at a time.
        store: a ``lib.store.Store``; what is kept are the changes and the weights of the full training.

    Cost: e + 1 trainings.
    """
    n, rows = len(training.x), torch.as_tensor(left_out)
    if rows.ndim != 1 or not len(rows) or rows.is_floating_point() or not 0 <= rows.min() <= rows.max() < n:
        raise ValueError(f"left_out must be rows, integers from 0 to {n - 1}, got {rows.dtype} {tuple(rows.shape)}")
    start = {name: value.detach().cpu() for name, value in training.model.state_dict().items()}
    narrow = any(isinstance(layer, nn.Conv2d) and layer.out_channels <= 16 for layer in training.model.modules())
    run = Run(precision=precision, device=device, progress=False, wide=narrow)  # 16 channels fill no vector unit
    everyone = _train(training, start, torch.full((1,), -1), run=run, store=store)
    full = {name[2:]: value for name, value in everyone.items() if name.startswith("w.")}
    shards = [_train(training, start, shard, run=run, store=store, full=full) for shard in rows.split(at_once)]
    squared, predictions = (torch.cat([shard[name] for shard in shards]) for name in ("squared", "f"))
    model = copy.deepcopy(training.model)
    model.load_state_dict(full)
    return Change(squared, (predictions - everyone["f"]).square().flatten(1).sum(1)), model


def _train(training: Training, start: dict, rows: Tensor, run: Run, store, *, full: dict | None = None) -> dict:
    """Networks without ``rows`` (−1: none): outputs ``f``, ‖w − w₋ᵢ‖² from ``full``; without it weights, ``w.…``."""

    def compute():
        recipe = Recipe(lr=training.lr, epochs=training.steps, batch_size=None, loss="mse", decay_to="init",
                        weight_decay=training.weight_decay)  # fmt: skip
        model, x, begin, lift = _in_span(training, start, run.precision)
        trained = train(
            model, (x, training.y), recipe, [0] * len(rows), masked=True, run=run,
            sees=torch.arange(len(x)) != rows[:, None],
            start=Start({name: value.expand(len(rows), *value.shape) for name, value in begin.items()}),
        )  # fmt: skip
        parameters = lift(trained.parameters)
        f = predict(training.model, parameters, training.x_val, device=run.device).double()
        if not f.isfinite().all():
            raise RuntimeError(f"training diverged: lr = {training.lr} is too large for this network")
        if full is None:
            return {"f": f} | {f"w.{name}": value[0] for name, value in parameters.items()}
        moved = [parameters[name] - full[name] for name, _ in training.model.named_parameters()]
        squared = torch.stack([change.double().square().flatten(1).sum(1) for change in moved]).sum(0)
        return {"f": f, "squared": squared}

    if store is None:
        return compute()
    key = {"function": "lib.removal.retrained", "version": [VERSION, ENGINE],
           "data": digest(training.x, training.y, training.x_val, rows, *start.values()), "model": repr(training.model),
           "lr": training.lr, "steps": training.steps, "weight_decay": training.weight_decay,
           "precision": run.precision, "device": torch.device(run.device).type, "weights": full is None}  # fmt: skip
    return {name: torch.from_numpy(value) for name, value in store.cached(key, compute).items()}


def _in_span(training: Training, start: dict, precision: str):
    """A model, inputs and weights with the same trainings, and what takes these weights back to those of ours.

    Full batches move a first dense layer within the span of its n inputs. If it is no narrower, nothing changes;
    else, with X = LQᵀ, W₀Q on the rows of L goes through the same outputs in n columns, and W = W₀ + (V − W₀Q)Qᵀ.
    """
    layers, (n, *_), wide = chain(training.model), training.x.shape, training.x.flatten(1)
    if not layers or wide.shape[1] <= n or wide.dtype != getattr(torch, precision):  # more digits asked: lose none
        return training.model, training.x, start, lambda parameters: parameters
    name, model = layers[0].weight, copy.deepcopy(training.model)
    q, turned = torch.linalg.qr(wide.T.double())
    q, first = q.to(start[name]), model.get_submodule(name.rpartition(".")[0])
    first.in_features, first.weight = n, nn.Parameter(start[name] @ q)
    lift = lambda parameters: parameters | {name: start[name] + (parameters[name] - start[name] @ q) @ q.T}
    return model, turned.T.to(training.x), start | {name: start[name] @ q}, lift


def pair(changes: dict[str, Change], method: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true changes, ``(e,)`` each; ``changes`` has the truth under ``retrained``."""
    return tuple(getattr(changes[name], QUANTITIES[quantity]).numpy() for name in (method, "retrained"))


def accuracy(changes: dict[str, Change], *, seed: int = 0, **columns) -> pd.DataFrame:
    """A row for each quantity and method: pearson with low and high (95%, bootstrap), spearman, off (median error).

    ``changes`` are those of the same examples by method, the truth under ``retrained``; ``columns`` are put in front.

    Example:
        >>> change = Change(torch.tensor([1.0, 2.0, 4.0, 3.0]), torch.tensor([1.0, 2.0, 4.0, 3.0]))
        >>> accuracy({"retrained": change, "guess": change}, network="MLP").pearson.tolist()
        [1.0, 1.0]
    """
    rows = []
    for quantity in QUANTITIES:
        for method in (name for name in changes if name != "retrained"):
            guess, truth = pair(changes, method, quantity)
            r, (low, high) = pearson(guess, truth, seed=seed)
            rho, off = spearman(guess, truth, seed=seed)[0], float(np.median(np.abs(guess / truth - 1)))
            rows.append(columns | {"quantity": quantity, "method": method, "pearson": r, "low": low, "high": high,
                                   "spearman": rho, "off": off})  # fmt: skip
    return pd.DataFrame(rows)


def published_correlation(network: str, quantity: str, penalty: int, method: str) -> float | None:
    """A cell of the paper's table, None where there is none. ``penalty``: λ, 0 or 1000."""
    row = PUBLISHED.get((quantity, penalty, method.removesuffix(" in the mean")))
    return row[NETWORKS.index(network)] if row and network in NETWORKS else None


def draws(y: Tensor, n: int, count: int, *, seed: int = 0) -> list[Tensor]:
    """Rows ``(n,)`` of ``count`` draws that share no row, each with the classes' shares of ``y``, in random order.

    Example:
        >>> parts = draws(torch.tensor([0, 1] * 6), 4, 3)
        >>> [len(set(part.tolist())) for part in parts], len(set(torch.cat(parts).tolist()))
        ([4, 4, 4], 12)
    """
    if n * count > len(y):
        raise ValueError(f"{count} draws of {n} rows need {n * count} rows, got {len(y)}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    ranks = [(torch.arange(len(part)) + 0.5) / len(part) for part in (order[y[order] == c] for c in y.unique())]
    by_class = torch.cat([order[y[order] == c] for c in y.unique()])[torch.cat(ranks).argsort(stable=True)]
    parts = by_class[: n * count].split(n)  # any n in a row have the shares of all
    return [part[torch.randperm(n, generator=generator)] for part in parts]


def typical(r) -> tuple[float, tuple[float, float]]:
    """The typical one of R correlations ``r (R,)``, and its interval: Student's t of Fisher's z, back on r's scale.

    If every replicate has its own network, its own rows and its own examples left out, the interval is over all three.
    With 5 replicates of 8 to 48 examples it covers 93 to 95% of the time; that of the plain mean of r, 78 to 93%.

    Example:
        >>> value, (low, high) = typical([0.9, 0.95, 0.97])
        >>> round(value, 3), round(low, 2), round(high, 3)
        (0.947, 0.77, 0.988)
    """
    z = _z(r)
    return float(np.tanh(z.mean())), tuple(float(np.tanh(end)) for end in t_interval(z))


def gap(first, second) -> tuple[float, tuple[float, float]]:
    """``typical(first) − typical(second)``, paired by replicate, with Zou's interval (Psychological Methods 12, 2007).

    The two intervals' arms, joined as the sides of a triangle: ``√(x² + y² − 2ρxy)``, ρ the correlation of the z.

    Example:
        >>> value, (low, high) = gap([0.9, 0.95, 0.97], [0.5, 0.7, 0.8])
        >>> round(value, 2), bool(low < value < high)
        (0.26, True)
    """
    (a, (a_low, a_high)), (b, (b_low, b_high)), (u, v) = typical(first), typical(second), (_z(first), _z(second))
    shared = float(np.corrcoef(u, v)[0, 1]) if np.ptp(u) and np.ptp(v) else 0.0
    arm = lambda x, y: math.sqrt(max(x * x + y * y - 2 * shared * x * y, 0.0))
    return a - b, (a - b - arm(a - a_low, b_high - b), a - b + arm(a_high - a, b - b_low))


def _z(r):
    return np.arctanh(np.clip(np.asarray(r, dtype=float), -1 + 1e-12, 1 - 1e-12))


def replicated(found: dict[tuple[str, int], list[dict[str, Change]]]) -> pd.DataFrame:
    """A row for each quantity, penalty, method and network: each replicate's ``r``, what is typical, the paper's value.

    Args:
        found: by network and λ, of each replicate the changes by method, the truth under ``retrained``.

    Columns: network, λ, quantity, method, r (R values), pearson with low and high (:func:`typical`), published, and
    ``turns`` where the published value lies outside the interval.
    """
    rows = []
    for quantity in QUANTITIES:
        for (network, penalty), replicates in found.items():
            for method in (name for name in replicates[0] if name != "retrained"):
                r = [float(pearson_r(*pair(changes, method, quantity))) for changes in replicates]
                value, (low, high) = typical(r)
                paper = published_correlation(network, quantity, penalty, method)
                rows.append({"network": network, "λ": penalty, "quantity": quantity, "method": method, "r": r,
                             "pearson": value, "low": low, "high": high, "published": paper,
                             "turns": paper is not None and not low <= paper <= high})  # fmt: skip
    return pd.DataFrame(rows)


def influence_in_closed_form(
    known: Kernels, *, weight_decay: float = 0.0, damping: float = 0.0, scale: float | None = None, depth: int = 1000
) -> Change:
    """All n examples by influence functions with the Gauss–Newton matrix of the mean squared error; one output.

    Args:
        known: kernels at the trained weights. weight_decay, damping: λ and δ, of the mean loss.
        scale, depth: s and J of LiSSA, whose mean is then taken in place of the inverse.

    Cost: 4n³ + 2mn² operations for m validation examples.

    Example:
        >>> x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1])
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 0.5)  # the mean of y: removal moves it by eᵢ/n = ± 1/4
        >>> known = kernels(Training(model, x, y, x, lr=0.1, steps=1))
        >>> influence_in_closed_form(known, damping=1e-9).squared_weights
        tensor([0.0625, 0.0625], dtype=torch.float64)
    """
    n, outputs = known.residual.shape
    if outputs != 1:
        raise ValueError(f"known must be of a network with one output, got {outputs}")
    values, vectors = known.spectrum.values, known.spectrum.vectors
    x = values / n + weight_decay + damping
    if x[0] <= 1e-13 * x[-1]:
        raise ValueError("the kernel is singular: give weight_decay or damping")
    if scale is not None and x[-1] > 2 * scale:
        raise ValueError(f"LiSSA diverges at scale {scale:.3g}: it must be at least {x[-1] / 2:.3g}")
    gain = 1 / x if scale is None else spectral_filter(x, lr=1 / scale, steps=depth + 1)
    moved = gain[:, None] * vectors.T * (known.residual[:, 0] / n)  # (n, n): Vᵀ of each example's coefficients
    squared = values @ moved**2
    return Change(squared, (known.cross.double() @ vectors @ moved).square().sum(0))


def influence_by_solver(
    training: Training, trained: nn.Module, left_out: Tensor, *, damping: float = 0.0, **options
) -> Change:
    """Some examples by ``lib.scores.influence`` with the whole Hessian: ``solver="lissa"``, ``"cg"``, ``"exact"``.

    Args:
        training, trained: as ``retrained`` took and gave them; the penalty holds to the initial weights.
        damping, options: δ, and those of ``lib.scores.influence.inverse_hessian``.
    """
    reference = {name: value.detach() for name, value in training.model.named_parameters()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the weights are no optimum")  # which is the point of comparing
        inverse = inverse_hessian(
            trained, training.x, training.y, loss="mse", weight_decay=training.weight_decay, reference=reference,
            damping=damping, **options,
        )  # fmt: skip
        changes = inverse.on_parameters(examples=torch.as_tensor(left_out))
    shifts = along(inverse.objective, inverse.objective.place(training.x_val)[0], None, changes)  # (m·k, e)
    return Change(changes.double().square().sum(1).cpu(), shifts.double().square().sum(0).cpu())


def study(
    training: Training, known: Kernels, left_out: Tensor, *, depth: int = 1000, device="cpu", store=None
) -> tuple[dict[str, Change], nn.Module, Kernels]:
    """Changes of the examples ``left_out`` by method, the network trained with all rows, and its kernels then.

    The methods are retrained; linearization; LiSSA in the mean, of ``depth`` steps with the published scale and
    damping; and influence, solved exactly. ``known`` are the kernels at the initial weights.
    """
    truth, trained = retrained(training, left_out, device=device, store=store)
    end, decay = kernels(replace(training, model=trained)), training.weight_decay
    solved = {"LiSSA in the mean": (DAMPING * SCALE, {"scale": SCALE, "depth": depth}), "influence": (DAMPING, {})}
    found = {"retrained": truth, "linearization": linearized(training, known)[left_out]}
    for name, (damping, how) in solved.items():  # damped as published, where there is no decay
        guess = influence_in_closed_form(end, weight_decay=decay, damping=0.0 if decay else damping, **how)
        found[name] = guess[left_out]
    return found, trained, end


def scatters(found: dict[str, list[dict[str, Change]]], quantity: str):
    """Predicted against retrained changes, one panel for each network of ``found``, all its replicates in it."""
    symbol = {"weights": "‖w − w₋ᵢ‖²", "predictions": "‖f − f₋ᵢ‖²"}[quantity]
    fig, axes = plt.subplots(math.ceil(len(found) / 2 + 0.5), 2, figsize=(6, 8.6), layout="constrained")
    for ax, (name, replicates) in zip(axes.flat, found.items(), strict=False):
        for method, (colour, marker) in LOOKS.items():
            guess, truth = np.concatenate([pair(one, method, quantity) for one in replicates], 1)
            ax.scatter(truth, guess, s=12, alpha=0.6, c=colour, marker=marker, label=method)
        ax.axline((truth.min(), truth.min()), (truth.max(), truth.max()), color="0.35", lw=0.9, zorder=0)
        ax.set(xscale="log", yscale="log", title=name, xlabel=f"{symbol}, retrained", ylabel=f"{symbol}, predicted")
        ax.xaxis.set_minor_formatter(NullFormatter())  # where less than a decade is seen, the labels would overlap
    for ax in axes.flat[len(found) :]:
        ax.axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", title="predicted by")
    return fig


def dots(table: pd.DataFrame):
    """Correlations by network, one panel for each quantity and penalty; the paper's as crosses."""
    names = list(table.network.unique())
    parts = table.groupby(["quantity", "λ"], sort=False)
    fig, axes = plt.subplots(len(parts), 1, figsize=(6, 11), sharey=True, layout="constrained")
    for ax, ((quantity, penalty), part) in zip(axes, parts, strict=True):
        for shift, (method, (colour, marker)) in zip((-0.2, 0, 0.2), LOOKS.items(), strict=True):
            own = part[part.method == method]
            where, reach = np.arange(len(own)) + shift, [own.pearson - own.low, own.high - own.pearson]
            ax.errorbar(where, own.pearson, reach, color=colour, marker=marker, ls="", ms=5, lw=1, label=method)
            cross = ax.plot(where, own.published.astype(float), "kx", ms=6, zorder=3)
        ax.axhline(0, color="0.6", lw=0.8, zorder=0)
        ax.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names])
        ax.set(title=f"change of the {quantity}, λ = {penalty}", ylabel="Pearson with retraining")
    cross[0].set_label("published")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend([*handles, cross[0]], [*labels, "published"], loc="outside upper center", ncols=4, columnspacing=1)
    return fig
