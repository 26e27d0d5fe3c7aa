"""What an ensemble is asked to do: what all members share, what each has of its own, and whether it fits together."""

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.groups import group
from lib.recipe import Recipe, Record

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
    layers: list | None = None  # ``lib.batched.chain(model)``
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


def stacked_members(model: nn.Module, parameters: dict[str, Tensor]) -> int:
    """E of stacked parameters that fit ``model``; ValueError names the first that does not."""
    members = {len(value) for value in parameters.values()}
    if len(members) != 1:
        raise ValueError(f"parameters must be stacked, (E, …) with one E; got E = {sorted(members)}")
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in expected.keys() | parameters.keys():
        got = tuple(parameters[name].shape[1:]) if name in parameters else "nothing"
        if got != expected.get(name):
            raise ValueError(
                f"parameters[{name!r}]: the model has {expected.get(name, 'none')}, got {got} for each member"
            )
    return members.pop()


def _check_network(work: Work) -> None:
    model, precision, device = work.model, work.precision, work.device
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: no GPU is visible here")
    if precision == "bfloat16" and kind == "cpu" and not torch.cpu._is_amx_tile_supported():
        raise ValueError("precision 'bfloat16' needs AMX on a CPU; without it the products are slower than float32")
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
