"""What an ensemble is asked to do: how to train, what to keep, where to compute, and what each member has of its own.

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
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lib.costs import as_tensor, check_inputs, device_of, one_of
from lib.networks.stacked import LOSSES, chain, check_targets, group, stacked_members


@dataclass(frozen=True)
class Recipe:
    """One way to train a network, by the module's loss and update rules; ValueError for what is out of its range.

    ``schedule`` is a factor of ``lr`` at step t of T: ``constant``; ``step`` (``gamma`` to the number of ``milestones``
    that have passed); ``cosine`` (½(1 + cos πt/T)); ``warmup_linear`` (up over the warm-up, then linearly down to 0).

    Example:
        >>> Recipe(lr=0.1, epochs=2, schedule="cosine").factor(1, steps=2, per_epoch=1)
        0.5
    """

    lr: float  # learning rate η, at its highest
    epochs: int | None = None  # how long; a member that sees m examples takes ⌈m/B⌉ steps an epoch
    iterations: int | None = None  # or how many steps; exactly one of the two
    batch_size: int | None = 100  # B; None is full-batch gradient descent (one step an epoch)
    optimizer: str = "sgd"  # or adam, rmsprop
    momentum: float = 0.0  # μ of SGD and RMSprop
    nesterov: bool = False
    betas: tuple = (0.9, 0.999)  # β₁, β₂ of Adam
    alpha: float = 0.99  # α of RMSprop
    eps: float = 1e-8  # ε of both
    weight_decay: float = 0.0  # λ
    decay_to: str = "zero"  # w_ref; or init
    schedule: str = "constant"  # or step, cosine, warmup_linear
    milestones: tuple = ()  # epochs
    gamma: float = 0.1
    warmup: float | None = None  # share of the steps in which η also rises from 0; None: 0.15 for warmup_linear, else 0
    loss: str = "cross_entropy"  # or mse
    augment: str | None = None  # crop (pad by 4, cut out at random), flip (left–right, half of the time), crop_flip

    def __post_init__(self):
        one_of("optimizer", self.optimizer, ("sgd", "adam", "rmsprop"))
        one_of("schedule", self.schedule, ("constant", "step", "cosine", "warmup_linear"))
        one_of("loss", self.loss, LOSSES)
        one_of("decay_to", self.decay_to, ("zero", "init"))
        one_of("augment", self.augment, (None, "crop", "flip", "crop_flip"))
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError(f"give epochs or iterations, one of them; got {self.epochs} and {self.iterations}")
        for name, low in (("epochs", 0), ("iterations", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and (not hasattr(value, "__index__") or value < low):
                raise ValueError(f"{name} must be a whole number of at least {low}, got {value}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be finite and above 0, got {self.lr}")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs optimizer 'sgd' and momentum > 0")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.warmup is None:
            object.__setattr__(self, "warmup", 0.15 if self.schedule == "warmup_linear" else 0.0)
        if len(self.betas) != 2:
            raise ValueError(f"betas must be β₁ and β₂ of Adam, got {self.betas}")
        below = {"momentum": 1, "betas": 1, "alpha": 1, "warmup": 1}  # a share of what was, or of the steps
        for name in ("weight_decay", "eps", "gamma", "milestones", *below):
            value, high = getattr(self, name), below.get(name, math.inf)
            if not all(0 <= number < high for number in (value if isinstance(value, tuple) else [value])):
                raise ValueError(f"{name} must be at least 0 and below {high}, got {value}")

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
    """What is kept of each member; epoch 0 is the initialization.

    ``visits`` are the moments of Toneva et al. 2019: whether each example was right each time that it was in a batch,
    before the step, as the network in training mode saw it (augmented, if so). Of whole passes only.
    """

    correct: str = "final"  # or epoch, for the end of every epoch
    loss: str | None = None  # of each example: None, final or epoch
    errors_at: tuple = ()  # epochs at which softmax − one-hot of the training examples is kept
    checkpoints_at: tuple = ()  # epochs at which the parameters are kept
    parameters: bool = True  # keep the final parameters
    visits: bool = False
    state: bool = False  # keep the optimizer's state at the end, for a training that goes on from there

    def __post_init__(self):
        one_of("correct", self.correct, ("final", "epoch"))
        one_of("loss", self.loss, (None, "final", "epoch"))
        object.__setattr__(self, "errors_at", tuple(int(t) for t in self.errors_at))
        object.__setattr__(self, "checkpoints_at", tuple(int(t) for t in self.checkpoints_at))


@dataclass(frozen=True)
class Run:
    """Where and by what means a training is computed: changes how long it takes, and the result by rounding at most.

    ``bfloat16``, on a GPU, rounds the factors of products and convolutions; what is kept is float32. ``float32`` there
    rounds those of convolutions to TF32, unless ``torch.backends.cudnn.allow_tf32`` is switched off. ``wide`` trains
    networks with convolutions as one of many channels: up to twice as fast for narrow ones on a CPU; members then
    depend on their company by rounding.
    """

    device: str = "cpu"  # or cuda, cuda:1
    precision: str = "float32"  # or float64; on a GPU bfloat16
    chunk: int | None = None  # members computed side by side, at most; None: by the network's size and the free memory
    store: object = None  # a ``lib.store.Store``: keeps finished shards, so that a killed run goes on after the last
    scheduler: object = None  # address or Client of Dask, whose workers train the shards
    wide: bool = False
    progress: bool = True  # show a bar, in model-steps

    def __post_init__(self):
        device_of(self.device, here=self.scheduler is None)  # the workers have their own
        one_of("precision", self.precision, ("float32", "float64", "bfloat16"))
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")


@dataclass(frozen=True)
class Start:
    """Where a training begins and ends, if not at fresh weights, at epoch 0 and at the recipe's last epoch.

    With ``parameters`` and ``state`` of a run that stopped at the end of epoch t, ``after=t`` gives what would have
    followed: learning rates and batches are those that these epochs have in the whole training.
    """

    parameters: dict[str, Tensor] | None = None  # name → (E, …), as in Ensemble.parameters; None: drawn from the seeds
    state: dict[str, Tensor] | None = None  # Ensemble.state; None: at rest, and penalties to init pull to parameters
    after: int = 0  # the epoch at whose end training begins
    until: int | None = None  # and at whose end it stops; None: the recipe's last


class Data(NamedTuple):
    """What is trained on, and what else is evaluated on; a tuple ``(x, y)`` or ``(x, y, x_test, y_test)`` does too."""

    x_train: Tensor  # (n, …) float
    y_train: Tensor  # (n,) integer classes; for ``mse`` also float values (n,) or (n, k)
    x_test: Tensor | None = None
    y_test: Tensor | None = None

    @classmethod
    def of(cls, data) -> "Data":
        """From a tuple of tensors or arrays, or whatever has these four attributes, such as a ``lib.data`` dataset."""
        parts = [getattr(data, name) for name in cls._fields] if hasattr(data, "x_train") else data
        if not 2 <= len(parts) <= 4 or len(parts) == 3:
            raise ValueError(f"data must be (x, y) or (x, y, x_test, y_test), got {len(parts)} parts")
        named = zip(cls._fields, parts, strict=False)
        return cls(*(part if part is None else tensor_of(part, name) for name, part in named))


def tensor_of(values, name: str) -> Tensor:
    """Values as a tensor, labels (``labels`` or ``y_…``), integers of any width, as int64; errors of ``as_tensor``."""
    tensor = as_tensor(values, name)
    return tensor.long() if name[0] in "ly" and not tensor.is_floating_point() else tensor


@dataclass(frozen=True)
class Work:
    """What all members share."""

    model: nn.Module
    data: Data
    recipe: Recipe
    record: Record = Record()
    run: Run = Run()
    masked: bool = False
    after: int = 0  # as in Start
    until: int | None = None
    steppers: dict = field(default_factory=dict, compare=False, repr=False)  # size → what a GPU has captured

    @cached_property
    def outputs(self) -> int:
        """k of the model."""
        with torch.no_grad():
            probe = copy.deepcopy(self.model).cpu().float().eval()
            return probe(self.data.x_train[:1].cpu().float()).shape[-1]

    @cached_property
    def layers(self) -> list | None:
        """Of a chain of linear layers; ``None`` for other networks."""
        return chain(self.model)

    @property
    def n(self) -> int:
        return len(self.data.x_train)

    def span(self) -> tuple[int, int]:
        """The epochs at whose end training begins and ends, the same for all members."""
        steps, per_epoch = step_counts(self.recipe, self.n, self.n)
        return self.after, math.ceil(steps / per_epoch) if self.until is None else self.until

    def placed(self) -> "Work":
        """With the data where, and in the type in which, it is computed with."""
        dtype = torch.float64 if self.run.precision == "float64" else torch.float32
        place = lambda part, dtype=None: None if part is None else part.to(self.run.device, dtype)
        return replace(self, data=Data(*(place(part, None if i % 2 else dtype) for i, part in enumerate(self.data))))

    def group(self, size: int):
        """That many networks, their parameters zero."""
        how = {"precision": self.run.precision, "device": self.run.device, "layers": self.layers, "wide": self.run.wide}
        return group(self.model, size, **how)


@dataclass(frozen=True)
class Members:
    """What each member has of its own, E of each."""

    seeds: list[int]
    sees: Tensor | None = None  # (E, n) bool
    labels: Tensor | None = None  # (E, n)
    weights: Tensor | None = None  # (E, n) of each row's loss
    parameters: dict[str, Tensor] | None = None  # to start from, (E, *shape)
    state: dict[str, Tensor] | None = None  # of the optimizer, (E, *shape)

    def pick(self, who: list[int]) -> "Members":
        of = lambda value: {name: v[who] for name, v in value.items()} if isinstance(value, dict) else value[who]
        own = {name: of(value) for name, value in vars(self).items() if name != "seeds" and value is not None}
        return Members([self.seeds[e] for e in who], **own)


def state_kinds(recipe: Recipe) -> list[str]:
    """The vectors, one as long as the weights each, that an optimizer remembers from step to step."""
    reference = recipe.weight_decay > 0 and recipe.decay_to == "init"
    return ["velocity"] + ["second"] * (recipe.optimizer != "sgd") + ["reference"] * reference  # Adam's moments, say


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


def learning_rates(recipe: Recipe, epochs, n: int) -> dict[int, float]:
    """Epoch → the learning rate of its last step, at epoch 0 of the first step, in a training on n rows.

    Example:
        >>> learning_rates(Recipe(lr=1.0, epochs=4, batch_size=10, schedule="step", milestones=(2,)), (0, 2, 3), n=50)
        {0: 1.0, 2: 1.0, 3: 0.1}
    """
    steps, per_epoch = step_counts(recipe, n, n)
    last_steps = {epoch: min(max(0, epoch * per_epoch - 1), max(0, steps - 1)) for epoch in epochs}
    return {epoch: recipe.lr * recipe.factor(t, steps=steps, per_epoch=per_epoch) for epoch, t in last_steps.items()}


def step_range(work: Work, seen: int) -> range:
    """The steps, counted from the recipe's first, that a member takes which draws its batches from ``seen`` rows."""
    steps, per_epoch = step_counts(work.recipe, seen, work.n)
    return range(*(min(steps, epoch * per_epoch) for epoch in work.span()))


def check(work: Work, members: Members) -> None:
    """Raise ValueError at what does not fit together, naming it."""
    model, kind = work.model, torch.device(work.run.device).type
    if work.run.precision == "bfloat16" and kind != "cuda":
        raise ValueError(f"precision 'bfloat16' is for a GPU, got device {work.run.device!r}: take 'float32'")
    if drops := [name for name, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p]:
        raise ValueError(f"model must not draw random numbers while training, got dropout in {drops[0] or 'itself'}")
    if frozen := [name for name, p in model.named_parameters() if not p.requires_grad]:
        raise ValueError(f"every parameter of model is trained, got {frozen[0]} frozen: train the head on features")
    _check_members(work, members)
    _check_data(work, members)
    _check_span(work, members)


def _check_members(work: Work, members: Members) -> None:
    size, n, y = len(members.seeds), work.n, work.data.y_train
    sees, labels, weights = members.sees, members.labels, members.weights
    if not size or min(members.seeds) < 0:
        raise ValueError(f"seeds must be integers, at least one and none negative, got {members.seeds[:5]}")
    if sees is not None and (tuple(sees.shape) != (size, n) or sees.dtype != torch.bool):
        raise ValueError(f"sees must be bool ({size}, {n}), got {sees.dtype} {tuple(sees.shape)}")
    if sees is not None and not sees.any(1).all():
        raise ValueError(f"sees: member {int((~sees.any(1)).nonzero()[0])} sees no row")
    if work.masked and sees is None:
        raise ValueError("masked needs sees: the rows to give weight to")
    if labels is not None and (tuple(labels.shape) != (size, *y.shape) or labels.dtype != y.dtype):
        raise ValueError(f"labels must be {y.dtype} {(size, *y.shape)}, got {labels.dtype} {tuple(labels.shape)}")
    if members.parameters is not None and (held := stacked_members(work.model, members.parameters)) != size:
        raise ValueError(f"start.parameters must hold {size} members, got {held}")
    if weights is not None and (tuple(weights.shape) != (size, n) or not torch.isfinite(weights).all()):
        raise ValueError(f"weights must be finite ({size}, {n}), got {tuple(weights.shape)}")
    drawn_apart = sees is not None and not work.masked and work.recipe.batch_size is not None
    if work.record.visits and drawn_apart and len(sees.sum(1).unique()) > 1:
        raise ValueError("record.visits needs members that see equally many rows, for as many passes each")


def _check_span(work: Work, members: Members) -> None:
    (after, until), (_, last) = work.span(), replace(work, until=None).span()
    if not 0 <= after <= until <= last:
        raise ValueError(f"expected 0 ≤ after ≤ until ≤ {last}, the recipe's last epoch; got {after} and {until}")
    other = [t for t in (*work.record.errors_at, *work.record.checkpoints_at) if not after <= t <= until]
    if other:
        raise ValueError(f"record asks for epoch {other[0]}, trained are epochs {after} to {until}")
    if members.state is None:
        return
    size, vectors = len(members.seeds), list(work.model.named_parameters())
    shapes = {f"{kind}:{name}": (size, *p.shape) for kind in state_kinds(work.recipe) for name, p in vectors}
    shapes, got = shapes | {"steps": (size,)}, {name: tuple(value.shape) for name, value in members.state.items()}
    if members.parameters is None or got != shapes:
        wrong = sorted(name for name in shapes.keys() | got.keys() if got.get(name) != shapes.get(name))
        first = [(name, shapes.get(name)) for name in wrong[:1]], [got.get(name) for name in wrong[:1]]
        wanted = "start.state goes with start.parameters and is an Ensemble.state of this recipe"
        raise ValueError(f"{wanted}; expected {first[0]}, got {first[1]}")


def _check_data(work: Work, members: Members) -> None:
    data, labels, loss = work.data, members.labels, work.recipe.loss
    if (data.x_test is None) != (data.y_test is None):
        raise ValueError("x_test and y_test must be given together, got one of them")
    check_inputs(data.x_train, "x_train", "floats")
    if work.recipe.augment and data.x_train.ndim != 4:
        raise ValueError(f"augment needs images (n, c, h, w), got x_train {tuple(data.x_train.shape)}")
    name, own = ("y_train", data.y_train[None]) if labels is None else ("labels", labels)
    for y in own:  # a member's
        check_targets(y, work.n, work.outputs, loss, name)
    if data.x_test is not None:
        check_inputs(data.x_test, "x_test", "floats")
        check_targets(data.y_test, len(data.x_test), work.outputs, loss, "y_test")
