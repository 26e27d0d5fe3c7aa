"""What there is to know of a score: by which names the scores go, how they are computed, what comes with one.

``lib.all_scores`` computes them.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class About(NamedTuple):
    """What is known of a score before it is computed."""

    group: str  # scores of one group share their work
    sign: int  # 1 = high means hard, unusual, needed; -1 = high means easy
    text: str


#: Every score by name, the cheap ones first.
SCORES = {
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


@dataclass(frozen=True)
class Settings:
    """How the scores are computed; the defaults suit a few thousand examples on two cores."""

    architecture: str = "mlp-128"  # a name for lib.models.by_name; influence needs one of linear layers
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


@dataclass(frozen=True)
class Scored:
    """One score of n examples (of r labellings: one more dimension in front)."""

    name: str
    values: Tensor  # (n,) float64, by the score's own definition
    stderr: Tensor | None = field(repr=False)  # (n,), over runs; None where nothing is drawn
    halves: Tensor | None = field(repr=False)  # (2, n): the score from either half of the runs; None likewise
    seconds: float  # by the wall clock, everything that it needs included
    peak_bytes: int  # of memory taken on the way
    trainings: float  # whole trainings behind it; a third of one counts as that

    @property
    def sign(self) -> int:
        """1 where high means hard, -1 where high means easy."""
        return SCORES[self.name].sign

    @property
    def hardness(self) -> Tensor:
        """The values, turned so that high = hard, unusual, needed."""
        return self.sign * self.values
