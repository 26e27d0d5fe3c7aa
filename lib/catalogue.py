"""Every score of the study by name, on any data: one call, and each comes with its error, its cost and its direction.

    scores = compute(["CG", "EL2N", "memorization"], x, y)
    scores["EL2N"].values, scores["EL2N"].stderr, scores["EL2N"].seconds

``SCORES`` says what there is. Scores of one group share their work (one factorization, one ensemble, …), and each is
charged with all of it that it needs: the time of a training counts up to the epoch at which the score is read.
"""

import copy
import warnings
from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.costs import measured
from lib.networks import models, stacked
from lib.scores import as_tensor
from lib.scores.complexity_gap import cg_scores
from lib.scores.data_diet import el2n, forgetting, grand, input_norm, margin
from lib.scores.influence import influence, self_influence
from lib.scores.memorization import held_out_accuracy, memorization, subsets
from lib.scores.neighbours import knn_agreement, knn_shapley
from lib.scores.tracin import tracin_mean, tracin_self
from lib.scores.unique_information import f_si_by_class, tangent
from lib.statistics import standardized
from lib.training import ensemble
from lib.training.parallel import digest
from lib.training.recipe import Recipe, Record, Run, Start, learning_rates


class About(NamedTuple):
    """What is known of a score before it is computed."""

    group: str  # scores of one group share their work
    sign: int  # 1 = high means hard, unusual, needed; -1 = high means easy
    text: str


SCORES = {  # the cheap ones first
    "random": About("input", 1, "a draw: the reference"),
    "input norm": About("input", 1, "length of the standardized input"),
    "CG": About("cg", 1, "what the example adds to the complexity yᵀH⁻¹y of the labels"),
    "CG quadratic": About("cg", 1, "first term of CG: how the others see it"),
    "CG partial": About("cg", 1, "middle term of CG: how the label agrees with the others'"),
    "CG diagonal": About("cg", 1, "last term of CG: how far the input is from the others, whatever the labels"),
    "GraNd": About("runs", 1, "length of the loss gradient before training"),
    "GraNd early": About("runs", 1, "length of the loss gradient early in training"),
    "EL2N": About("runs", 1, "length of the error vector early in training"),
    "margin": About("runs", -1, "probability of the label less that of the next class, early in training"),
    "forgetting": About("runs", 1, "times that a visit finds it forgotten, over the training"),
    "forgetting, epochs": About("runs", 1, "the same, looked at after each epoch"),
    "loss": About("runs", 1, "loss at the end of the training"),
    "TracIn": About("runs", 1, "how much the steps on it lowered its own loss"),
    "influence": About("runs", 1, "rise of its own loss if it were removed, by an influence function (EK-FAC)"),
    "F-SI": About("f_si", 1, "change of predictions elsewhere if it were removed, in the linearized network"),
    "memorization": About("subsets", 1, "how much likelier its label is got right by networks that saw it"),
    "C-score": About("subsets", -1, "how often networks that did not see it get its label right"),
}
VALUES = {  # towards labelled validation data, x_val and y_val; high = its removal would cost
    "TracIn, validation": About("runs", 1, "how much the steps on it lowered the mean validation loss"),
    "influence, validation": About("runs", 1, "rise of the mean validation loss if it were removed (EK-FAC)"),
    "KNN-Shapley": About("neighbours", 1, "its Shapley value for the accuracy of 5 nearest neighbours on them"),
    "kNN agreement": About("neighbours", -1, "share of its 10 nearest others that bear its label; needs no x_val"),
}
ALL = SCORES | VALUES


@dataclass(frozen=True)
class Settings:
    """How the scores are computed; the defaults suit a few thousand examples on two cores."""

    architecture: str = "mlp-128"  # a name for lib.networks.models.by_name; influence needs one of linear layers
    epochs: int = 12
    early: int = 4  # the epoch of EL2N, GraNd early and margin
    batch_size: int = 100
    lr: float = 0.03  # Nesterov momentum 0.9; divided by 5 after 30, 60 and 80% of the epochs
    weight_decay: float = 5e-4
    networks: int = 10  # trainings behind a score that is a mean over runs
    curvatures: int = 4  # of these, how many have their curvature taken for "influence"
    damping: float = 1e-3  # δ there
    trials: int = 200  # trainings behind memorization and the C-score
    share: float = 0.7  # of the rows, in each of these
    trial_lr: float = 0.1  # their learning rate, up over 15% of the steps and then down to 0
    trial_epochs: int = 15
    tangent_width: int = 1024  # hidden units of the networks of F-SI
    tangent_networks: int = 2  # initial weights averaged over
    tangent_time: float = 2.0  # gradient flow on the mean loss for this time
    tangent_inputs: int = 500  # inputs on which predictions are compared
    jitter: float = 0.0  # added to the diagonal of the CG-score's matrix; above 0 where inputs repeat


UNTIL = {"GraNd": "start", "GraNd early": "early", "EL2N": "early", "margin": "early"}  # others: the training's end
VERSION = {"f_si": 4, "cg": 2}  # of what is kept in a store, by group, 3 otherwise; raise it when a result changes


@dataclass(frozen=True)
class Scored:
    """One score of n examples (of r labellings: one more dimension in front)."""

    name: str
    values: Tensor  # (n,) float64, by the score's own definition
    stderr: Tensor | None = field(default=None, repr=False)  # (n,), over runs; None where nothing is drawn
    halves: Tensor | None = field(default=None, repr=False)  # (2, n), from either half of the runs; None likewise
    _: KW_ONLY
    seconds: float  # by the wall clock, everything that it needs included
    peak_bytes: int  # of memory taken on the way
    trainings: float  # whole trainings behind it; a third of one counts as that

    @property
    def sign(self) -> int:
        """1 where high means hard, -1 where high means easy."""
        return ALL[self.name].sign

    @property
    def hardness(self) -> Tensor:
        """The values, turned so that high = hard, unusual, needed."""
        return self.sign * self.values


class Task(NamedTuple):
    """Rows, labellings and settings: what all the scores of one call have in common."""

    x: Tensor
    y: Tensor  # (r, n)
    k: int
    x_val: Tensor | None
    y_val: Tensor | None
    seed: int
    settings: Settings
    device: str
    run: Run  # of the ensembles: where, and what is kept on the way

    def model(self):
        return models.by_name(self.settings.architecture, shape=tuple(self.x.shape[1:]), classes=self.k)


def from_inputs(task: Task, names: list[str]) -> dict[str, Scored]:
    (r, n), draw = task.y.shape, torch.Generator().manual_seed(task.seed)
    work = {
        "random": lambda: torch.rand(3, n, generator=draw, dtype=torch.float64),  # and two more for its halves
        "input norm": lambda: input_norm(standardized(task.x)).double()[None],
    }
    scores = {}
    for name in names:
        drawn, seconds, peak = measured(work[name])
        values, halves = drawn[0].expand(r, n), drawn[1:].expand(r, 2, n) if len(drawn) > 1 else None
        scores[name] = Scored(name, values, None, halves, seconds=seconds, peak_bytes=peak, trainings=0.0)
    return scores


def from_neighbours(task: Task, names: list[str]) -> dict[str, Scored]:
    x, scores = standardized(task.x), {}
    for name in names:
        if name == "kNN agreement":
            one = lambda y: knn_agreement(x, y, k=min(10, len(x) - 1))
        else:
            one = lambda y: knn_shapley(x, y, standardized(task.x_val, task.x), task.y_val, k=min(5, len(x)))
        values, seconds, peak = measured(lambda one=one: torch.stack([one(y) for y in task.y]))
        scores[name] = Scored(name, values, seconds=seconds, peak_bytes=peak, trainings=0.0)
    return scores


def from_cg(task: Task, names: list[str]) -> dict[str, Scored]:
    work = lambda: cg_scores(task.x, task.y, device=task.device, jitter=task.settings.jitter)
    result, seconds, peak = measured(work, device=task.device)
    term = lambda name: getattr(result, name.removeprefix("CG").strip() or "score").double()
    costs = {"seconds": seconds, "peak_bytes": peak, "trainings": 0.0}
    return {name: Scored(name, term(name), **costs) for name in names}


def from_linearization(task: Task, names: list[str]) -> dict[str, Scored]:
    s, x = task.settings, standardized(task.x)
    drawn = torch.randperm(len(x), generator=torch.Generator().manual_seed(task.seed))[: s.tangent_inputs]
    others = x[drawn] if task.x_val is None else standardized(task.x_val[: s.tangent_inputs], task.x)

    def one(number):
        net = models.initialize(models.mlp(x[0].numel(), (s.tangent_width,), 1), 1000 * task.seed + number)
        seen = tangent(net.to(task.device), x.flatten(1), others.flatten(1))
        return f_si_by_class(seen, task.y, classes=task.k, lr=1.0, steps=s.tangent_time, continuous=True)

    work = lambda: torch.stack([one(number) for number in range(s.tangent_networks)], 1).cpu()
    per_run, seconds, peak = measured(work, device=task.device)
    return {"F-SI": _averaged("F-SI", per_run, seconds=seconds, peak_bytes=peak, trainings=0.0)}


def run_recipe(settings: Settings) -> Recipe:
    """How the networks are trained that GraNd, EL2N, forgetting, loss, TracIn and influence are read from."""
    return Recipe(
        lr=settings.lr, epochs=settings.epochs, batch_size=settings.batch_size, momentum=0.9, nesterov=True,
        weight_decay=settings.weight_decay, schedule="step", gamma=0.2,
        milestones=tuple(round(settings.epochs * share) for share in (0.3, 0.6, 0.8)),
    )  # fmt: skip


def from_runs(task: Task, names: list[str]) -> dict[str, Scored]:
    s, x, model, recipe = task.settings, standardized(task.x).float(), task.model(), run_recipe(task.settings)
    (r, n), early = task.y.shape, min(s.early, s.epochs)
    until = {name: {"start": 0, "early": early}.get(UNTIL.get(name), s.epochs) for name in names}
    last = max(until.values())
    traced = tuple(sorted({*range(1, s.epochs, max(1, s.epochs // 4)), s.epochs}))
    record = Record(
        visits="forgetting" in names, loss="final" if "loss" in names else None, correct="epoch", parameters=False,
        errors_at=(early,) if last >= early else (),
        checkpoints_at=tuple(epoch for epoch in sorted({0, early, *traced}) if epoch <= last),
    )  # fmt: skip
    seeds, y = [1000 * task.seed + i for i in range(s.networks)] * r, task.y.repeat_interleave(s.networks, 0)
    how = {"labels": y, "start": Start(until=last), "record": record, "run": task.run}
    work = lambda: ensemble.train(model, (x, task.y[0]), recipe, seeds, **how)
    run, trained_seconds, trained_peak = measured(work, device=task.device)
    curved = torch.arange(len(y)).view(r, -1)[:, : min(s.curvatures, s.networks)].flatten()
    rates = {epoch: rate for epoch, rate in learning_rates(recipe, traced, n).items() if epoch <= last}
    at = lambda epoch, networks=slice(None): {key: value[networks] for key, value in run.checkpoints[epoch].items()}

    def read(name: str) -> Tensor:
        match name:
            case "GraNd" | "GraNd early":
                return grand(model, at(until[name]), x, y, device=task.device)
            case "EL2N":
                return el2n(run.errors[early])
            case "margin":
                return margin(run.errors[early] + torch.nn.functional.one_hot(y, task.k), y)
            case "forgetting" | "forgetting, epochs":
                return forgetting(run.correct_visits if name == "forgetting" else run.correct_train[:, 1:])
            case "loss":
                return run.loss_train[:, -1]
            case "TracIn":
                checkpoints = {epoch: at(epoch) for epoch in rates}
                return tracin_self(model, checkpoints, rates, x, y=y, layers="all", device=task.device)
            case "TracIn, validation":
                checkpoints, val = {epoch: at(epoch) for epoch in rates}, standardized(task.x_val, task.x).float()
                options = {"layers": "all", "device": task.device}
                return tracin_mean(model, checkpoints, rates, x, y, val, task.y_val, **options)
            case "influence, validation":
                states = stacked.members(model, at(s.epochs, curved), device=task.device)
                pairs = zip(states, y[curved], strict=True)
                return torch.stack([_on_validation(task, model, state, x=x, y=own) for state, own in pairs])
            case "influence":
                options = {"weight_decay": s.weight_decay, "damping": s.damping, "device": task.device}
                return self_influence(model, at(s.epochs, curved), x, y[curved], **options)

    scores = {}
    for name in names:
        per_run, seconds, peak = measured(lambda name=name: read(name), device=task.device)
        per_run = per_run.double().view(r, -1, n)
        share = until[name] / last if last else 0.0  # of the training that was done
        seconds += share * (per_run.shape[1] / s.networks) * trained_seconds
        peak, trainings = max(peak, trained_peak if share else 0), per_run.shape[1] * until[name] / s.epochs
        scores[name] = _averaged(name, per_run, seconds=seconds, peak_bytes=peak, trainings=trainings)
    return scores


def trial_recipe(settings: Settings) -> Recipe:
    """How the networks on subsets are trained that memorization and the C-score are read from."""
    return Recipe(
        lr=settings.trial_lr, epochs=settings.trial_epochs, batch_size=settings.batch_size, momentum=0.9,
        schedule="warmup_linear",
    )  # fmt: skip


def from_subsets(task: Task, names: list[str]) -> dict[str, Scored]:
    s, x, (r, n), scores = task.settings, standardized(task.x).float(), task.y.shape, {}
    sees = subsets(n, round(s.share * n), s.trials, task.seed)
    work = lambda: ensemble.train(
        task.model(), (x, task.y[0]), trial_recipe(s), [10**6 * task.seed + i for i in range(s.trials)] * r,
        sees=sees.repeat(r, 1), labels=task.y.repeat_interleave(s.trials, 0),
        record=Record(parameters=False), run=task.run,
    )  # fmt: skip
    run, seconds, peak = measured(work, device=task.device)
    right, half = run.correct_train[:, -1].view(r, s.trials, n), s.trials // 2
    of = {"memorization": lambda sees, hit: memorization(sees, hit).value, "C-score": held_out_accuracy}
    parts = slice(None), slice(half), slice(half, None)
    for name in names:
        values = torch.stack([torch.stack([of[name](sees[part], hit[part]) for part in parts]) for hit in right])
        errors = (values[:, 0] * (1 - values[:, 0]) / ((~sees).sum(0) - 1)).sqrt()  # of one share
        if name == "memorization":
            errors = torch.stack([memorization(sees, hit).error for hit in right])
        costs = {"seconds": seconds, "peak_bytes": peak, "trainings": float(s.trials)}
        scores[name] = Scored(name, values[:, 0], errors, values[:, 1:], **costs)
    return scores


def _on_validation(task: Task, model, state: dict[str, Tensor], *, x: Tensor, y: Tensor) -> Tensor:
    """Rise of the mean validation loss upon removal of each example, ``(n,)``."""
    net, val = copy.deepcopy(model), standardized(task.x_val, task.x).float()
    net.load_state_dict(state)
    how = {"weight_decay": task.settings.weight_decay, "damping": task.settings.damping, "device": task.device}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the weights are no optimum, and need not be for a ranking
        return influence(net, x, y, val, task.y_val, solver="ekfac", **how).on_loss.double().mean(0).cpu()


GROUPS = {
    "input": from_inputs, "neighbours": from_neighbours, "cg": from_cg, "runs": from_runs,
    "f_si": from_linearization, "subsets": from_subsets,
}  # fmt: skip


def _averaged(name: str, per_run: Tensor, **costs) -> Scored:
    """Mean, standard error and halves of ``(r, R, n)``."""
    runs, values = per_run.shape[1], per_run.mean(1)
    if runs < 2:
        return Scored(name, values, **costs)
    halves = torch.stack([per_run[:, : runs // 2].mean(1), per_run[:, runs // 2 :].mean(1)], 1)
    return Scored(name, values, per_run.std(1) / runs**0.5, halves, **costs)


def compute(
    names: Iterable[str], x: Tensor, y: Tensor, *, classes: int | None = None, x_val: Tensor | None = None,
    y_val: Tensor | None = None, seed: int = 0, settings: Settings = Settings(), device: str = "cpu", store=None,
    shards=None, progress: bool = True,
) -> dict[str, Scored]:  # fmt: skip
    """Compute scores by name; networks, F-SI and the norm get x ``standardized``.

    Args:
        names: some of ``SCORES`` and ``VALUES``.
        x: ``(n, …)`` numbers, pictures or features.
        y: integer labels ``(n,)``, or ``(r, n)``: several labellings of the same rows, for little more than one.
        classes: k; by default the largest label + 1. seed: draws initial weights, batches, subsets.
        x_val: inputs on which F-SI compares predictions (no labels are needed); by default a part of x. With their
            labels ``y_val (n′,)`` also the scores of ``VALUES``.
        store, shards: of ``lib.store.Store``. The first keeps finished groups, costs included; the second is the
            ensembles': a killed run goes on, but then its seconds are those of the last part.

    Returns: name → :class:`Scored`, in the order of ``names``; ``values`` in the shape of y.

    Raises: ValueError for an unknown name (the valid ones are listed), shapes or labels that do not fit, settings out
    of range; and whatever a score itself refuses (CG: equal inputs, unless ``jitter``; classes of one member).

    Cost: see ``Scored.seconds``; n²·4 bytes and 2n³/3 operations for CG, about 10n³ and 3n²·8 bytes for F-SI.

    Example:
        >>> x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
        >>> compute(["CG", "input norm"], x, y)["CG"].trainings
        0.0
    """
    names, x, y = list(dict.fromkeys(names)), as_tensor(x, "x"), as_tensor(y, "y")
    x, y = x if x.is_floating_point() else x.double(), y if y.is_floating_point() else y.long()
    k = _check(names, x, y, classes=classes, settings=settings)
    x_val = None if x_val is None else as_tensor(x_val, "x_val")
    y_val = None if y_val is None else as_tensor(y_val, "y_val").long()
    valued = [name for name in names if name in VALUES and name != "kNN agreement"]
    if valued and (x_val is None or y_val is None or not len(x_val) or len(x_val) != len(y_val)):
        raise ValueError(f"{valued[0]} needs x_val and y_val, as many of each and at least one")
    like = x_val is None or (x_val.shape[1:] == x.shape[1:] and bool(x_val.isfinite().all()))
    if not like or (y_val is not None and not (y_val.ndim == 1 and ((y_val >= 0) & (y_val < k)).all())):
        wanted = f"examples {tuple(x.shape[1:])} and labels 0…{k - 1}, as in x and y, all finite"
        raise ValueError(f"x_val, y_val: expected {wanted}")
    run = Run(device=device, store=shards, progress=progress)
    task = Task(x, y.reshape(-1, len(x)), k, x_val, y_val, seed, settings, device, run)
    scores = {}
    for group in dict.fromkeys(ALL[name].group for name in names):
        members = [name for name in names if ALL[name].group == group]
        arrays = lambda group=group, members=members: _packed(GROUPS[group](task, members), y.shape)
        kept = arrays() if store is None else store.cached(_key(task, group, members), arrays)
        scores |= {name: _unpacked(name, kept) for name in members}
    return {name: scores[name] for name in names}


def _check(names: list[str], x: Tensor, y: Tensor, *, classes: int | None, settings: Settings) -> int:
    if unknown := [name for name in names if name not in ALL]:
        raise ValueError(f"names must be some of {', '.join(map(repr, ALL))}; got {', '.join(map(repr, unknown))}")
    if not x.is_floating_point() or x.ndim < 2 or not x.isfinite().all():
        raise ValueError(f"x must be finite floats (n, …), got {x.dtype} {tuple(x.shape)}")
    if y.ndim not in (1, 2) or y.shape[-1] != len(x) or y.is_floating_point():
        raise ValueError(f"y must be integer labels ({len(x)},) or (r, {len(x)}), got {y.dtype} {tuple(y.shape)}")
    k = int(y.max()) + 1 if classes is None else classes
    if k < 2 or (y == y[..., :1]).all(-1).any() or y.min() < 0 or y.max() >= k:
        raise ValueError(f"y must be labels 0…{k - 1} of at least 2 classes, got {int(y.min())}…{int(y.max())}")
    least = dict.fromkeys(("epochs", "networks", "curvatures", "tangent_networks", "tangent_inputs", "trial_epochs"), 1)
    least["trials"] = 4
    if not 0 < settings.share < 1 or any(getattr(settings, name) < low for name, low in least.items()):
        wanted = ", ".join(f"{name} ≥ {low}" for name, low in least.items())
        raise ValueError(f"settings need {wanted}, 0 < share < 1; got {settings}")
    return k


def _key(task: Task, group: str, names: list[str]) -> dict:
    return {
        "function": "all_scores", "version": VERSION.get(group, 3), "group": group, "names": names,
        "data": digest(task.x, task.y, task.x_val, task.y_val), "classes": task.k,
        "seed": task.seed, "settings": asdict(task.settings), "device": task.device,
    }  # fmt: skip


def _packed(scores: dict[str, Scored], shape: torch.Size) -> dict[str, np.ndarray]:
    out = {}
    for number, one in enumerate(scores.values()):
        out[f"{number}.name"] = np.array(one.name)
        out[f"{number}.costs"] = np.array([one.seconds, one.peak_bytes, one.trainings], dtype=float)
        for part in ("values", "stderr", "halves"):
            if (value := getattr(one, part)) is not None:
                out[f"{number}.{part}"] = (value if len(shape) == 2 else value[0]).numpy()
    return out


def _unpacked(name: str, kept: dict[str, np.ndarray]) -> Scored:
    number = next(key.split(".")[0] for key, value in kept.items() if key.endswith(".name") and str(value) == name)
    array = lambda key: torch.from_numpy(np.asarray(kept[key])) if key in kept else None
    parts = [array(f"{number}.{part}") for part in ("values", "stderr", "halves")]
    seconds, peak, trainings = kept[f"{number}.costs"]
    return Scored(name, *parts, seconds=float(seconds), peak_bytes=int(peak), trainings=float(trainings))
