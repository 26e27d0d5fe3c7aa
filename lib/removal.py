"""What leaving out a training example does to a network: by retraining, and by the linearized network in closed form.

For a model at its initial weights, full-batch gradient descent on the mean squared error with decay towards them,
``L = (1/n) Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖²``, and for each example i that is left out (its term goes, 1/n stays:
everything else equal), the two quantities of Table 1 of Harutyunyan et al. (ICLR 2021):

    ‖w − w₋ᵢ‖²      and      ‖f_w(X_val) − f_{w₋ᵢ}(X_val)‖²

Retraining trains one network an example; the linearized network takes all from one eigendecomposition.
``lib.removal_influence`` predicts the same from the trained network alone.
"""

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.ensemble import Recipe, predict, train
from lib.leave_one_out import leave_one_out
from lib.linearized import Spectrum
from lib.shards import VERSION as ENGINE
from lib.shards import digest
from lib.tangent import tangent, targets

VERSION = 1  # of what is kept: raise it when the same arguments give other numbers


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

    @property
    def recipe(self) -> Recipe:
        """How the engine is told."""
        return Recipe(
            lr=self.lr, epochs=self.steps, batch_size=None, loss="mse", weight_decay=self.weight_decay, decay_to="init"
        )


@dataclass(frozen=True)
class Change:
    """What leaving out each of some examples changes."""

    squared_weights: Tensor  # (e,) ‖w − w₋ᵢ‖²
    squared_predictions: Tensor  # (e,) ‖f_w(X_val) − f_{w₋ᵢ}(X_val)‖², summed over examples and outputs

    def __getitem__(self, rows) -> "Change":
        """Of some examples alone."""
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

    Cost: that of ``lib.tangent.tangent``, and an eigendecomposition of n·k.
    """
    net = tangent(copy.deepcopy(training.model), training.x, training.x_val, per_layer=per_layer, seed=seed)
    return Kernels(net.spectrum, net.cross_kernel, targets(training.y, net.outputs.shape[1]) - net.outputs)


def paced(
    model: nn.Module, x: Tensor, y: Tensor, x_val: Tensor, *, time: float, least: int = 50, most: int = 20_000,
    weight_decay: float = 0.0,
) -> tuple[Training, Kernels]:  # fmt: skip
    """A training of length ηt = ``time`` in as few steps as keep η at most 1.25 over the curvature, but ``least``.

    Only ηt counts while η is far below 2 over the curvature; so a long training with a small η has the same end as a
    shorter one with a larger. The curvature is that of the linearized network, without decay, at the start.

    Raises:
        ValueError: where that takes more than ``most`` steps.

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
    return Training(model, x, y, x_val, lr=time / steps, steps=steps, weight_decay=weight_decay), known


def stable(training: Training, known: Kernels) -> Training:
    """The same length ηt in smaller steps, where its own would diverge at these kernels: few coordinates can have more
    curvature than all.

    Example:
        >>> training, known = paced(nn.Linear(4, 1), torch.eye(4), torch.tensor([0, 1, 0, 1]), torch.eye(4), time=50.0)
        >>> stable(training, known) is training
        True
    """
    if training.lr * known.curvature < 2:
        return training
    steps = math.ceil(training.lr * training.steps * known.curvature / 1.25)
    return replace(training, lr=training.lr * training.steps / steps, steps=steps)


def linearized(training: Training, known: Kernels | None = None) -> Change:
    """All n examples, each left out of the linearized network's training (eq. 10 and 11).

    Args:
        known: kernels at the initial weights, if they are there already: they depend on neither λ nor time.

    Raises:
        ValueError: for a learning rate at which the linearized network diverges.

    Example:
        >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
        >>> linearized(Training(nn.Linear(4, 1), x, y, x[:2], lr=0.1, steps=5)).squared_weights.shape
        torch.Size([4])
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
        precision: as in ``lib.ensemble.train``; the changes are differences of nearly equal weights.
        at_once: networks whose weights are held at a time.
        store: a ``lib.store.Store``; what is kept are the changes and the weights of the full training.

    Raises:
        ValueError: for ``left_out`` that are no rows; RuntimeError if a training diverges.

    Cost: e + 1 trainings.

    Example:
        >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
        >>> change, model = retrained(Training(nn.Linear(4, 1), x, y, x, lr=0.1, steps=5), torch.tensor([0, 2]))
        >>> change.squared_weights.shape
        torch.Size([2])
    """
    n, rows = len(training.x), torch.as_tensor(left_out)
    if rows.ndim != 1 or not len(rows) or rows.is_floating_point() or not 0 <= rows.min() <= rows.max() < n:
        raise ValueError(f"left_out must be rows, integers from 0 to {n - 1}, got {rows.dtype} {tuple(rows.shape)}")
    start = {name: value.detach().cpu() for name, value in training.model.state_dict().items()}
    settings = {"precision": precision, "device": device}
    with_all, f = _train(training, start, torch.full((1,), -1), settings, store, weights=True)
    found = [_train(training, start, part, settings, store, full=with_all) for part in rows.split(at_once)]
    squared, predictions = (torch.cat(parts) for parts in zip(*found, strict=True))
    model = copy.deepcopy(training.model)
    model.load_state_dict(with_all)
    return Change(squared, (predictions - f).square().flatten(1).sum(1)), model


def at(training: Training, model: nn.Module) -> Training:
    """The same training, its model replaced by another (the trained one, for what is computed at the end)."""
    return replace(training, model=model)


def _train(training, start, rows, settings, store, *, full=None, weights=False):
    """Networks without ``rows`` (−1: with all): their weights if asked for, else ‖w − w₋ᵢ‖²; predictions."""

    def compute():
        sees = torch.arange(len(training.x)) != rows[:, None]
        run = train(
            training.model, training.x, training.y, recipe=training.recipe, seeds=[0] * len(rows), member_sees=sees,
            masked=True, initial={name: value.expand(len(rows), *value.shape) for name, value in start.items()},
            progress=False, **settings,
        )  # fmt: skip
        f = predict(training.model, run.parameters, training.x_val, device=settings["device"]).double()
        if not f.isfinite().all():
            raise RuntimeError(f"training diverged: lr = {training.lr} is too large for this network")
        if weights:
            return {"f": f} | {f"w.{name}": value[0] for name, value in run.parameters.items()}
        apart = [(run.parameters[name] - full[name]).double().square().flatten(1).sum(1) for name in _trained(training)]
        return {"f": f, "squared": torch.stack(apart).sum(0)}

    if store is None:
        arrays = compute()
    else:
        data = digest(training.x, training.y, training.x_val, rows, *start.values())
        key = {"function": "lib.removal.retrained", "version": [VERSION, ENGINE], "data": data,
               "model": repr(training.model), "lr": training.lr, "steps": training.steps,
               "weight_decay": training.weight_decay, "precision": settings["precision"],
               "device": torch.device(settings["device"]).type, "weights": weights}  # fmt: skip
        arrays = {name: torch.from_numpy(value) for name, value in store.cached(key, compute).items()}
    f = arrays.pop("f")
    return ({name[2:]: value for name, value in arrays.items()}, f) if weights else (arrays["squared"], f)


def _trained(training: Training) -> list[str]:
    return [name for name, _ in training.model.named_parameters()]
