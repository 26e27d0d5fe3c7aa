"""How a network is trained and what is kept of it: the two arguments that every experiment states.

Conventions, for a batch of B examples with outputs f and one-hot targets y:

    loss = (1/B) Σ_b ℓ(f_b, y_b) + λ/2 ‖w − w_ref‖²       ℓ = −log softmax(f)_y   or   ½ ‖f − y‖²

with w_ref = 0 or the initial weights; the penalty is on every parameter, biases too, and enters the gradient g
before the optimizer (as in ``torch.optim``, so λ here is its ``weight_decay``). The optimizers are torch's:

    sgd       v ← μv + g,  w ← w − ηv     (Nesterov: w ← w − η(g + μv))
    adam      m ← β₁m + (1−β₁)g,  s ← β₂s + (1−β₂)g²,  w ← w − η m̂ / (√ŝ + ε), both bias-corrected
    rmsprop   s ← αs + (1−α)g²,  v ← μv + g/(√s + ε),  w ← w − ηv
"""

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.networks.stacked import LOSSES, group, stacked_members

OPTIMIZERS = ("sgd", "adam", "rmsprop")
SCHEDULES = ("constant", "step", "cosine", "warmup_linear")
AUGMENTATIONS = (None, "crop", "flip", "crop_flip")


def _one_of(name, value, valid):
    if value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(map(str, valid))}, got {value!r}")


@dataclass(frozen=True)
class Recipe:
    """One way to train a network; see the module's text for the loss and the update rules.

    Args:
        lr: learning rate η, at its highest.
        epochs, iterations: how long; exactly one of them. A member that sees m examples takes ⌈m/B⌉ steps an epoch.
        batch_size: B; ``None`` is full-batch gradient descent (one step an epoch).
        optimizer: ``sgd``, ``adam`` or ``rmsprop``.
        momentum, nesterov: μ of SGD and RMSprop.
        betas, alpha, eps: β₁, β₂ of Adam; α of RMSprop; ε of both.
        weight_decay: λ. ``decay_to``: ``zero`` or ``init``.
        schedule: of step t of T, as a factor of ``lr``: ``constant``; ``step`` (``gamma`` to the number of
            ``milestones``, in epochs, that have passed); ``cosine`` (½(1 + cos πt/T)); ``warmup_linear``
            (up over the warm-up, then linearly down to 0).
        warmup: share of the steps over which the factor also rises linearly from 0; ``None`` is 0.15 for
            ``warmup_linear`` and 0 for the others.
        loss: ``cross_entropy`` or ``mse``.
        augment: ``crop`` (pad by 4, cut out at random), ``flip`` (left–right, half of the time), ``crop_flip``.

    Raises:
        ValueError: if an option is unknown or a number is out of its range.

    Example:
        >>> Recipe(lr=0.1, epochs=2, schedule="cosine").factor(1, steps=2, per_epoch=1)
        0.5
    """

    lr: float
    epochs: int | None = None
    iterations: int | None = None
    batch_size: int | None = 100
    optimizer: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple = (0.9, 0.999)
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_to: str = "zero"
    schedule: str = "constant"
    milestones: tuple = ()
    gamma: float = 0.1
    warmup: float | None = None
    loss: str = "cross_entropy"
    augment: str | None = None

    def __post_init__(self):
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("loss", self.loss, LOSSES)
        _one_of("decay_to", self.decay_to, ("zero", "init"))
        _one_of("augment", self.augment, AUGMENTATIONS)
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError(f"give epochs or iterations, one of them; got {self.epochs} and {self.iterations}")
        for name, low in (("epochs", 0), ("iterations", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        if not self.lr > 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                "expected lr > 0, weight_decay ≥ 0 and 0 ≤ momentum < 1, "
                f"got {self.lr}, {self.weight_decay} and {self.momentum}"
            )
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs optimizer 'sgd' and momentum > 0")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.warmup is None:
            object.__setattr__(self, "warmup", 0.15 if self.schedule == "warmup_linear" else 0.0)
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the steps, expected 0 ≤ warmup < 1, got {self.warmup}")

    def factor(self, t: int, *, steps: int, per_epoch: int) -> float:
        """Factor of the learning rate at step t = 0 … steps − 1."""
        warm = self.warmup * steps
        rise = min(1.0, (t + 1) / warm) if warm > 1 else 1.0
        if self.schedule == "step":
            return rise * self.gamma ** sum(t >= m * per_epoch for m in self.milestones)
        if self.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * t / steps))
        if self.schedule == "warmup_linear":
            return rise if t < warm else (steps - t) / (steps - warm)
        return rise


@dataclass(frozen=True)
class Record:
    """What is kept of each member.

    Args:
        correct: ``final``, or ``epoch`` for the end of every epoch; epoch 0 is the initialization.
        loss: per-example losses, ``None``, ``final`` or ``epoch``.
        errors_at: epochs at which softmax − one-hot of the training examples is kept.
        checkpoints_at: epochs at which the parameters are kept.
        parameters: keep the final parameters.
        visits: whether each example was right each time that it was in a batch, before the step, as the network in
            training mode saw it (augmented, if so): the moments of Toneva et al. 2019. Of whole passes only.
        state: keep the optimizer's state at the end, for a training that goes on from there.
    """

    correct: str = "final"
    loss: str | None = None
    errors_at: tuple = ()
    checkpoints_at: tuple = ()
    parameters: bool = True
    visits: bool = False
    state: bool = False

    def __post_init__(self):
        _one_of("correct", self.correct, ("final", "epoch"))
        _one_of("loss", self.loss, (None, "final", "epoch"))
        object.__setattr__(self, "errors_at", tuple(int(t) for t in self.errors_at))
        object.__setattr__(self, "checkpoints_at", tuple(int(t) for t in self.checkpoints_at))


# --- work -----------------------------------------------------------------------------------------------------------
#
# What an ensemble is asked to do: what all members share, what each has of its own, and whether it fits together.


PRECISIONS = ("float32", "float64", "bfloat16")


@dataclass(frozen=True)
class Work:
    """What all members share."""

    model: nn.Module
    recipe: Recipe
    record: Record
    x: Tensor
    y: Tensor
    x_test: Tensor | None = None
    y_test: Tensor | None = None
    masked: bool = False
    precision: str = "float32"
    device: str = "cpu"
    layers: list | None = None  # ``lib.networks.stacked.chain(model)``
    start: int = 0  # epoch at whose end training begins
    stop: int | None = None  # and ends; the recipe's last
    wide: bool = False  # networks with convolutions as one network of many channels

    def epochs(self) -> int:
        """The last epoch; the same for all members."""
        steps, per_epoch = step_counts(self.recipe, len(self.x), len(self.x))
        return math.ceil(steps / per_epoch)

    def span(self) -> tuple[int, int]:
        """The epochs at whose end training begins and ends."""
        return self.start, self.epochs() if self.stop is None else self.stop

    def placed(self) -> "Work":
        """With the data where, and in the type in which, it is computed with."""
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        place = lambda v, dtype=None: None if v is None else v.to(self.device, dtype)
        x, x_test, y, y_test = place(self.x, dtype), place(self.x_test, dtype), place(self.y), place(self.y_test)
        return replace(self, x=x, x_test=x_test, y=y, y_test=y_test)

    def group(self, size: int):
        """That many networks, their parameters zero."""
        how = {"precision": self.precision, "device": self.device, "layers": self.layers, "wide": self.wide}
        return group(self.model, size, **how)


@dataclass(frozen=True)
class Members:
    """What each member has of its own, E of each."""

    seeds: list[int]
    sees: Tensor | None = None  # (E, n) bool
    labels: Tensor | None = None  # (E, n)
    initial: dict[str, Tensor] | None = None  # (E, *shape)
    weights: Tensor | None = None  # (E, n) of each row's loss
    state: dict[str, Tensor] | None = None  # of the optimizer, (E, *shape)

    def pick(self, who: list[int]) -> "Members":
        some = lambda value: None if value is None else value[who]
        each = lambda named: None if named is None else {name: value[who] for name, value in named.items()}
        seeds = [self.seeds[e] for e in who]
        return Members(
            seeds, some(self.sees), some(self.labels), each(self.initial), some(self.weights), each(self.state)
        )

    def steps_before(self) -> list[int]:
        """Updates that the optimizer has behind it."""
        return [0] * len(self.seeds) if self.state is None else self.state["steps"].tolist()


def state_kinds(recipe: Recipe) -> list[str]:
    """The vectors, one as long as the weights each, that an optimizer remembers from step to step."""
    kinds = {"velocity": True, "second": recipe.optimizer != "sgd"}  # Adam's first and second moment, say
    kinds["reference"] = recipe.weight_decay > 0 and recipe.decay_to == "init"
    return [kind for kind, there in kinds.items() if there]


def step_counts(recipe: Recipe, seen: int, n: int) -> tuple[int, int]:
    """Steps in all and steps an epoch of a member that draws its batches from ``seen`` of n rows.

    With ``epochs``, ⌈seen/B⌉ an epoch; with ``iterations``, an epoch is ⌈n/B⌉ steps, so that members that see fewer
    rows are recorded, and their learning rate falls, at the same steps as the others. Full batch: one step an epoch.

    Example:
        >>> step_counts(Recipe(lr=0.1, epochs=3, batch_size=100), seen=250, n=1000)
        (9, 3)
    """
    rows = n if recipe.epochs is None else seen
    per_epoch = 1 if recipe.batch_size is None else math.ceil(rows / recipe.batch_size)
    return (recipe.iterations if recipe.epochs is None else recipe.epochs * per_epoch), per_epoch


def step_range(work: Work, seen: int) -> range:
    """The steps, counted from the recipe's first, that a member takes which draws its batches from ``seen`` rows."""
    steps, per_epoch = step_counts(work.recipe, seen, len(work.x))
    return range(*(min(steps, epoch * per_epoch) for epoch in work.span()))


def check(work: Work, members: Members) -> None:
    """Raise ValueError at what does not fit together, naming it."""
    _check_network(work)
    _check_members(work, members)
    _check_span(work, members)
    _check_labels(work, members)


def _check_network(work: Work) -> None:
    model, precision, device = work.model, work.precision, work.device
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: no GPU is visible here")
    if precision == "bfloat16" and kind != "cuda":
        raise ValueError(f"precision 'bfloat16' is for a GPU, got device {device!r}: take 'float32'")
    drops = [name for name, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p]
    if drops:
        raise ValueError(f"model must not draw random numbers while training, got dropout in {drops[0] or 'itself'}")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        raise ValueError(f"every parameter of model is trained, got {frozen[0]} frozen: train the head on features")


def _check_members(work: Work, members: Members) -> None:
    size, n = len(members.seeds), len(work.x)
    if not size or min(members.seeds) < 0:
        raise ValueError(f"seeds must be integers, at least one and none negative, got {members.seeds[:5]}")
    sees, labels = members.sees, members.labels
    if sees is not None and (tuple(sees.shape) != (size, n) or sees.dtype != torch.bool):
        raise ValueError(f"member_sees must be bool ({size}, {n}), got {sees.dtype} {tuple(sees.shape)}")
    if sees is not None and not sees.any(1).all():
        raise ValueError(f"member_sees: member {int((~sees.any(1)).nonzero()[0])} sees no row")
    if work.masked and sees is None:
        raise ValueError("masked needs member_sees: the rows to give weight to")
    if labels is not None and (tuple(labels.shape) != (size, *work.y.shape) or labels.dtype != work.y.dtype):
        raise ValueError(
            f"labels must be {work.y.dtype} {(size, *work.y.shape)}, got {labels.dtype} {tuple(labels.shape)}"
        )
    if members.initial is not None and stacked_members(work.model, members.initial) != size:
        raise ValueError(f"initial must hold {size} members, got {len(next(iter(members.initial.values())))}")
    weights = members.weights
    if weights is not None and (tuple(weights.shape) != (size, n) or not torch.isfinite(weights).all()):
        raise ValueError(f"weights must be finite ({size}, {n}), got {tuple(weights.shape)}")
    drawn_apart = sees is not None and not work.masked and work.recipe.batch_size is not None
    if work.record.visits and drawn_apart and len(sees.sum(1).unique()) > 1:
        raise ValueError("record.visits needs members that see equally many rows, for as many passes each")


def _check_span(work: Work, members: Members) -> None:
    (start, stop), last = work.span(), work.epochs()
    if not 0 <= start <= stop <= last:
        raise ValueError(f"expected 0 ≤ start ≤ stop ≤ {last}, the recipe's last epoch; got {start} and {stop}")
    other = [t for t in (*work.record.errors_at, *work.record.checkpoints_at) if not start <= t <= stop]
    if other:
        whose = "the recipe has" if (start, stop) == (0, last) else "trained are"
        raise ValueError(f"record asks for epoch {other[0]}, {whose} epochs {start} to {stop}")
    if members.state is None:
        return
    names = {f"{kind}:{name}": p for kind in state_kinds(work.recipe) for name, p in work.model.named_parameters()}
    shapes = {name: (len(members.seeds), *p.shape) for name, p in names.items()} | {"steps": (len(members.seeds),)}
    for name in sorted(shapes.keys() | members.state.keys()):
        got = tuple(members.state[name].shape) if name in members.state else "nothing"
        if members.initial is None or got != shapes.get(name):
            raise ValueError(
                f"state goes with initial and is an Ensemble.state of this recipe; "
                f"expected {name!r} {shapes.get(name, 'not to be there')}, got {got}"
            )


def _check_labels(work: Work, members: Members) -> None:
    for name, x, y in (("train", work.x, work.y), ("test", work.x_test, work.y_test)):
        if name == "test" and x is None and y is None:
            continue
        if x is None or y is None or len(x) != len(y) or not len(x) or not x.is_floating_point():
            got = [None if v is None else (v.dtype, tuple(v.shape)) for v in (x, y)]
            raise ValueError(f"x_{name} must be float (n, …) with as many labels y_{name}, at least one; got {got}")
        if y.dtype != torch.int64 and not (work.recipe.loss == "mse" and y.is_floating_point()):
            raise ValueError(f"y_{name} must be int64 classes (or float values for 'mse'), got {y.dtype}")
    if work.recipe.augment and work.x.ndim != 4:
        raise ValueError(f"augment needs images (n, c, h, w), got x_train {tuple(work.x.shape)}")
    with torch.no_grad():
        outputs = copy.deepcopy(work.model).cpu().float().eval()(work.x[:1].cpu().float()).shape[-1]
    labels = work.y if members.labels is None else members.labels
    if labels.is_floating_point():
        if (work.y.shape[1] if work.y.ndim == 2 else 1) != outputs:
            raise ValueError(f"the model has {outputs} outputs, got values y_train {tuple(work.y.shape)}")
    elif work.recipe.loss == "cross_entropy" and outputs < 2:
        raise ValueError("cross_entropy needs a model with at least two outputs; for one output take 'mse'")
    elif not 0 <= labels.min() <= labels.max() < max(2, outputs):
        raise ValueError(f"the model has {outputs} outputs, got labels {int(labels.min())} to {int(labels.max())}")
