"""The scores by the work that they share: from inputs alone, one factorization, one ensemble, a linearization, subsets.

Each function takes a :class:`Task` and the names that are wanted, and measures what they cost. ``lib.all_scores`` calls
them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lib import ensemble, models
from lib.cg_score import cg_scores
from lib.costs import measured
from lib.data_diet import el2n, forgetting, grand, margin
from lib.memorization import held_out_accuracy, memorization, subsets
from lib.pruning import input_norm
from lib.scored import Scored, Settings
from lib.self_influence import self_influence
from lib.tangent import f_si_by_class, tangent
from lib.tracin import learning_rates, tracin_self


def standardized(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Each channel (or feature) centred at its mean and divided by its standard deviation; constant ones become 0.

    Mean and deviation are those of ``like``, the training rows, where x are others.

    Example:
        >>> standardized(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """
    like, over = x if like is None else like, [0, *range(2, x.ndim)]
    mean = like.mean(over, keepdim=True)
    spread = (like - mean).square().mean(over, keepdim=True).sqrt()
    return (x - mean) / torch.where(spread > 1e-8, spread, 1.0)


class Task(NamedTuple):
    """Rows, labellings and settings: what all the scores of one call have in common."""

    x: Tensor
    y: Tensor  # (r, n)
    k: int
    x_val: Tensor | None
    seed: int
    settings: Settings
    device: str
    shards: object
    progress: bool

    @property
    def train(self) -> dict:
        return {"device": self.device, "store": self.shards, "progress": self.progress}

    def model(self):
        return models.by_name(self.settings.architecture, shape=tuple(self.x.shape[1:]), classes=self.k)


def from_inputs(task: Task, names: list[str]) -> dict[str, Scored]:
    (r, n), found = task.y.shape, {}
    for name in names:
        if name == "random":
            draw = lambda: torch.rand(3, n, generator=torch.Generator().manual_seed(task.seed), dtype=torch.float64)
            drawn, seconds, peak = measured(draw)
            values, halves = drawn[0].expand(r, n), drawn[1:].expand(r, 2, n)
        else:
            norm, seconds, peak = measured(lambda: input_norm(standardized(task.x)))
            values, halves = norm.double().expand(r, n), None
        found[name] = Scored(name, values, None, halves, seconds, peak, 0.0)
    return found


def from_cg(task: Task, names: list[str]) -> dict[str, Scored]:
    work = lambda: cg_scores(task.x, task.y, device=task.device, jitter=task.settings.jitter)
    result, seconds, peak = measured(work, device=task.device)
    part = {"CG": "score", "CG quadratic": "quadratic", "CG partial": "partial", "CG diagonal": "diagonal"}
    return {name: Scored(name, getattr(result, part[name]).double(), None, None, seconds, peak, 0.0) for name in names}


def from_linearization(task: Task, names: list[str]) -> dict[str, Scored]:
    s, x = task.settings, standardized(task.x)
    if task.x_val is None:
        some = torch.randperm(len(x), generator=torch.Generator().manual_seed(task.seed))[: s.tangent_inputs]
        others = x[some]
    else:
        others = standardized(task.x_val[: s.tangent_inputs], task.x)

    def one(number):
        net = models.initialize(models.mlp(x[0].numel(), (s.tangent_width,), 1), 1000 * task.seed + number)
        seen = tangent(net.to(task.device), x.flatten(1), others.flatten(1))
        return f_si_by_class(seen, task.y, classes=task.k, lr=1.0, steps=s.tangent_time, continuous=True)

    work = lambda: torch.stack([one(number) for number in range(s.tangent_networks)], 1)
    per_run, seconds, peak = measured(work, device=task.device)
    return {"F-SI": _averaged("F-SI", per_run.cpu(), seconds, peak, 0.0)}


def recipe(settings: Settings) -> ensemble.Recipe:
    """How the networks are trained that GraNd, EL2N, forgetting, loss, TracIn and influence are read from."""
    milestones = tuple(round(settings.epochs * part) for part in (0.3, 0.6, 0.8))
    return ensemble.Recipe(
        lr=settings.lr, epochs=settings.epochs, batch_size=settings.batch_size, momentum=0.9, nesterov=True,
        weight_decay=settings.weight_decay, schedule="step", milestones=milestones, gamma=0.2,
    )  # fmt: skip


def from_runs(task: Task, names: list[str]) -> dict[str, Scored]:
    s, x, model, how = task.settings, standardized(task.x), task.model(), recipe(task.settings)
    (r, n), early = task.y.shape, min(task.settings.early, task.settings.epochs)
    traced = tuple(sorted({*range(1, s.epochs, max(1, s.epochs // 4)), s.epochs}))
    until = {"GraNd": 0, "GraNd early": early, "EL2N": early, "margin": early}  # the others: to the end
    last = max(until.get(name, s.epochs) for name in names)
    y = task.y.repeat_interleave(s.networks, 0)
    record = ensemble.Record(
        visits=any(name == "forgetting" for name in names), loss="final" if "loss" in names else None,
        correct="epoch", errors_at=(early,) if last >= early else (), parameters=False,
        checkpoints_at=tuple(epoch for epoch in sorted({0, early, *traced}) if epoch <= last),
    )  # fmt: skip
    seeds = [1000 * task.seed + i for i in range(s.networks)] * r
    work = lambda: ensemble.train(
        model, x, task.y[0], recipe=how, seeds=seeds, labels=y, record=record, stop=last, **task.train
    )
    watched, trained, room = measured(work, device=task.device)
    some = torch.arange(len(y)).view(r, -1)[:, : min(s.curvatures, s.networks)].flatten()  # runs with curvature
    at = lambda epoch, rows=slice(None): {name: value[rows] for name, value in watched.checkpoints[epoch].items()}
    rates = {epoch: rate for epoch, rate in learning_rates(how, traced, n).items() if epoch <= last}
    read = {
        "GraNd": lambda: grand(model, at(0), x, y, device=task.device),
        "GraNd early": lambda: grand(model, at(early), x, y, device=task.device),
        "EL2N": lambda: el2n(watched.errors[early]),
        "margin": lambda: margin(watched.errors[early] + torch.nn.functional.one_hot(y, task.k), y),
        "forgetting": lambda: forgetting(watched.correct_visits),
        "forgetting, epochs": lambda: forgetting(watched.correct_train[:, 1:]),
        "loss": lambda: watched.loss_train[:, -1],
        "TracIn": lambda: tracin_self(
            model, {epoch: at(epoch) for epoch in rates}, rates, x, y, layers="all", device=task.device
        ),
        "influence": lambda: self_influence(
            model, at(s.epochs, some), x, y[some], weight_decay=s.weight_decay, damping=s.damping, device=task.device
        ),
    }
    found = {}
    for name in names:
        part = until.get(name, s.epochs) / last if last else 0.0
        per_run, seconds, peak = measured(read[name], device=task.device)
        behind = per_run.numel() // (r * n) * until.get(name, s.epochs) / s.epochs
        share = part * (per_run.numel() / (len(y) * n))
        per_run = per_run.double().view(r, -1, n)
        found[name] = _averaged(name, per_run, share * trained + seconds, max(peak, room if part else 0), behind)
    return found


def trial_recipe(settings: Settings) -> ensemble.Recipe:
    """How the networks on subsets are trained that memorization and the C-score are read from."""
    return ensemble.Recipe(
        lr=settings.trial_lr, epochs=settings.trial_epochs, batch_size=settings.batch_size, momentum=0.9,
        schedule="warmup_linear",
    )  # fmt: skip


def from_subsets(task: Task, names: list[str]) -> dict[str, Scored]:
    s, x, (r, n), found = task.settings, standardized(task.x), task.y.shape, {}
    sees = subsets(n, round(s.share * n), s.trials, task.seed)
    work = lambda: ensemble.train(
        task.model(), x, task.y[0], recipe=trial_recipe(s), seeds=list(range(s.trials)) * r,
        labels=task.y.repeat_interleave(s.trials, 0), member_sees=sees.repeat(r, 1),
        record=ensemble.Record(parameters=False), **task.train,
    )  # fmt: skip
    run, seconds, peak = measured(work, device=task.device)
    right, half = run.correct_train[:, -1].view(r, s.trials, n), s.trials // 2
    of = {"memorization": lambda seen, hit: memorization(seen, hit).value, "C-score": held_out_accuracy}
    for name in names:
        values = torch.stack([of[name](sees, hit) for hit in right])
        split = lambda hit, of=of[name]: torch.stack([of(sees[:half], hit[:half]), of(sees[half:], hit[half:])])
        halves = torch.stack([split(hit) for hit in right])
        if name == "memorization":
            error = torch.stack([memorization(sees, hit).error for hit in right])
        else:
            error = (values * (1 - values) / ((~sees).sum(0) - 1)).sqrt()
        found[name] = Scored(name, values, error, halves, seconds, peak, float(s.trials))
    return found


GROUPS = {
    "input": from_inputs,
    "cg": from_cg,
    "runs": from_runs,
    "f_si": from_linearization,
    "subsets": from_subsets,
}


def _averaged(name: str, per_run: Tensor, seconds: float, peak: int, trainings: float) -> Scored:
    """Mean, standard error and halves of ``(r, R, n)``."""
    runs = per_run.shape[1]
    if runs < 2:
        return Scored(name, per_run.mean(1), None, None, seconds, peak, trainings)
    halves = torch.stack([per_run[:, : runs // 2].mean(1), per_run[:, runs // 2 :].mean(1)], 1)
    return Scored(name, per_run.mean(1), per_run.std(1) / runs**0.5, halves, seconds, peak, trainings)
