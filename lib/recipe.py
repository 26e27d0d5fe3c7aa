"""How a network is trained and what is kept of it: the two arguments that every experiment states.

Conventions, for a batch of B examples with outputs f and one-hot targets y:

    loss = (1/B) Σ_b ℓ(f_b, y_b) + λ/2 ‖w − w_ref‖²       ℓ = −log softmax(f)_y   or   ½ ‖f − y‖²

with w_ref = 0 or the initial weights; the penalty is on every parameter, biases too, and enters the gradient g
before the optimizer (as in ``torch.optim``, so λ here is its ``weight_decay``). The optimizers are torch's:

    sgd       v ← μv + g,  w ← w − ηv     (Nesterov: w ← w − η(g + μv))
    adam      m ← β₁m + (1−β₁)g,  s ← β₂s + (1−β₂)g²,  w ← w − η m̂ / (√ŝ + ε), both bias-corrected
    rmsprop   s ← αs + (1−α)g²,  v ← μv + g/(√s + ε),  w ← w − ηv
"""

import math
from dataclasses import dataclass

OPTIMIZERS = ("sgd", "adam", "rmsprop")
SCHEDULES = ("constant", "step", "cosine", "warmup_linear")
LOSSES = ("cross_entropy", "mse")
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
