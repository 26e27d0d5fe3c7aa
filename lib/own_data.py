"""From a data set that nobody has prepared to one that can be scored: names, standardization, a network, its speed."""

import re
import time
from dataclasses import asdict, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import ensemble, models
from lib.all_scores import SCORES, Settings, compute
from lib.budget import Item, plan, rows_that_fit, shrunk
from lib.checkup import standardized
from lib.costs import best_seconds, free_bytes, matrix_product_rate
from lib.data import Dataset
from lib.score_groups import trial_recipe
from lib.shards import digest

LARGE = 40  # pixels a side; larger pictures are shrunk to SMALL, unless a network is named
SMALL = 32
EXACT = "exact factorization"
LEAST = 24  # networks among whom some have not seen an example, for all but one in 5,000
RESERVE = 0.85  # of the time left that is planned with; loading, figures and slower moments take the rest
JITTER = 1e-3  # on the diagonal of the CG-score's matrix (½) where inputs repeat


class Choice(NamedTuple):
    """A network for a data set, and why this one."""

    settings: Settings
    side: int | None  # pixels that pictures are shrunk to; None leaves them as they are
    why: str


def came_unsplit(name: str) -> bool:
    """Whether a data set has no test part of its own, so that ``lib.data.load`` splits one off."""
    if not str(name).endswith(".npz"):
        return name in ("mnist-5k", "digits", "iris")
    with np.load(name, allow_pickle=False) as file:
        return "x_test" not in file.files


def score_names(text: str) -> list[str]:
    """The scores that a list such as ``"cg, el2n, c-score"`` names; capitals, spaces and dashes do not matter.

    Raises:
        ValueError: for a name that is none (the valid ones are listed), or none at all.

    Example:
        >>> score_names("cg,EL2N,c score")
        ['CG', 'EL2N', 'C-score']
    """
    plain = lambda name: re.sub(r"[^a-z0-9]", "", name.lower())
    known, words = {plain(name): name for name in SCORES}, [word for word in text.split(",") if word.strip()]
    strange = [word.strip() for word in words if plain(word) not in known]
    if strange or not words:
        valid = ", ".join(name.lower().replace(",", "") for name in SCORES)
        raise ValueError(f"scores: expected some of {valid}; got {', '.join(map(repr, strange)) or 'none'}")
    return list(dict.fromkeys(known[plain(word)] for word in words))


def choose(shape: tuple[int, ...], n: int, classes: int, *, architecture: str = "", epochs: int = 0) -> Choice:
    """A network, and how it is trained, for examples of one shape; by rule, not by search.

    Feature vectors get one hidden layer (64 units up to 128 features, else 128); grey square pictures up to 32 pixels
    one of 256; other pictures a LeNet, for which those over 40 pixels, or not square, are shrunk to 32 × 32. Pictures
    keep their size where ``architecture`` names the network.

    Args:
        shape: of one example, ``(d,)`` or ``(c, h, w)``.
        n: training rows.
        classes: k.
        architecture: a name that ``lib.models.by_name`` knows; "" chooses.
        epochs: passes; 0 chooses: 15, or as many as make 300 steps, at most 60.

    Raises:
        ValueError: for an unknown name, or one that does not take examples of this shape.
    """
    batch = 100 if n >= 2000 else 50 if n >= 500 else 20
    epochs = epochs or max(15, min(60, -(-300 * batch // n)))
    side = None
    if architecture:
        why = "as asked for"
    elif len(shape) == 1:
        architecture = "mlp-64" if shape[0] <= 128 else "mlp-128"
        why = f"feature vectors of {shape[0]} numbers: one hidden layer, on standardized features"
    elif shape[0] == 1 and shape[1] == shape[2] <= SMALL:
        architecture, why = "mlp-256", "small grey pictures: one hidden layer does well and trains fastest"
    else:
        architecture, why = "lenet", "pictures: a small convolutional network"
        if shape[1] != shape[2] or shape[1] > LARGE:
            side, why = SMALL, f"{why}, which gets them shrunk from {shape[1]}×{shape[2]} to {SMALL}×{SMALL}"
    models.by_name(architecture, shape=tuple(shape) if side is None else (shape[0], side, side), classes=classes)
    dense = architecture == "linear" or architecture.startswith("mlp")
    settings = Settings(
        architecture=architecture, epochs=epochs, early=max(1, epochs // 3), batch_size=batch,
        trial_epochs=epochs, trial_lr=0.1 if dense else 0.05,
    )  # fmt: skip
    return Choice(settings, side, why)


def prepared(dataset: Dataset, side: int | None = None) -> Dataset:
    """The data as networks get them: pictures shrunk to ``side`` pixels where asked for, everything standardized."""
    parts = [dataset.x_train, dataset.x_test]
    if side is not None:
        parts = [torch.nn.functional.interpolate(x, (side, side), mode="area") for x in parts]
    x_train, x_test = standardized(*parts)
    return replace(dataset, x_train=x_train, x_test=x_test)


def make_plan(
    names: list[str], x: Tensor, y: Tensor, settings: Settings, *, minutes: float, begun: float, trials: int,
    networks: int, seeds: int, plans: int, store=None, device: str = "cpu",
) -> tuple[int, pd.DataFrame]:  # fmt: skip
    """Measure the speed on short trials and plan with it: ``(rows, plan)``, see ``lib.budget.plan``.

    The measured times and the time left are kept in ``store``, so that a run that goes on has the plan that it had.
    An exact CG-score is planned where it takes no more than a third of the time and half of the free memory; else
    draws of a subsample. Fewer rows than there are, class by class, are planned where the least of everything does not
    fit: 50 of each class at the fewest, or all.

    Args:
        names: of scores.
        x: standardized, ``(n, …)``.
        y: ``(r, n)``, the labellings.
        minutes: for everything.
        begun: when the clock started, by ``time.perf_counter()``.
        trials, networks, seeds: wished for: trainings on parts of the rows, trainings behind a score that is a mean
            over runs, retrainings of every pruned set.
        plans: pruned sets, each trained once a seed.

    Raises:
        ValueError: if ``minutes`` is not above 0, a wish is below 2, or the least does not fit even on the fewest rows.
    """
    if not (minutes > 0 and np.isfinite(minutes)):
        raise ValueError(f"minutes: expected more than 0, got {minutes}")
    for name, wish in (("trials", trials), ("networks", networks), ("seeds", seeds)):
        if wish < 2:
            raise ValueError(f"{name}: expected 2 or more, since spread is measured, got {wish}")
    key = {
        "function": "own_data.make_plan", "version": 1, "names": names, "data": digest(x, y), "minutes": float(minutes),
        "settings": asdict(settings), "threads": torch.get_num_threads(), "device": device,
    }  # fmt: skip
    work = lambda: measure(names, x, y, settings, device=device) | {"left": 60 * minutes - time.perf_counter() + begun}
    kept = None if store is None else store.get(key)
    cost = {name: float(value) for name, value in (work() if kept is None else kept).items()}
    left = RESERVE * cost["left"]
    n, k = len(x), int(y.max()) + 1
    one = lambda part: cost["training"] + settings.trial_epochs * part * n / settings.batch_size * cost["step"]
    items = []
    if cost["CG"] and cost["CG"] <= left / 3 and 4.0 * n**2 <= free_bytes() / 2:
        items.append(Item("CG", EXACT, 1, 1, cost["CG"], 2))
    elif cost["CG"]:  # blocks of 2n/k rows for k classes, and as much again for what is around them
        items.append(Item("CG", "draws of a subsample", 10, 1, cost["CG"] * min(1.0, 16 / k**2), 2))
    if cost["F-SI"]:
        items.append(Item("F-SI", "computation", 1, 1, cost["F-SI"], 3))
    if any(SCORES[name].group == "runs" for name in names):
        items.append(Item("runs", "networks", networks, 2, len(y) * one(1.0) + cost["reading"]))
    items.append(Item("judges", "networks", trials, min(LEAST, trials), len(y) * one(settings.share)))
    items.append(Item("pruning", "seeds", seeds, 2, plans * one(1.0)))
    rows = rows_that_fit(items, n, left, fewest=50 * k)
    table = plan(shrunk(items, rows / n), left)
    if store is not None and kept is None:  # a plan that failed is measured anew
        store.put(key, {name: np.array(value) for name, value in cost.items()})
    return rows, table


def measure(names: list[str], x: Tensor, y: Tensor, settings: Settings, *, device: str = "cpu") -> dict[str, float]:
    """Seconds of each kind of work, from short trials; what was not asked for is 0.

    Times are taken at two sizes, so that what every call costs once is not counted a thousand times.

    Returns:
        ``step`` (of one of many networks), ``training`` (what one costs beside its steps: starting it, and looking at
        all examples at its end), ``reading`` (the scores of one network), ``CG`` and ``F-SI``, for all n rows.
    """
    n, k = len(x), int(y.max()) + 1
    model = models.by_name(settings.architecture, shape=tuple(x.shape[1:]), classes=k)
    options = {"record": ensemble.Record(parameters=False), "device": device, "chunk": 8, "progress": False}

    def trained(steps: int) -> float:
        recipe = replace(trial_recipe(settings), epochs=None, iterations=steps)
        return best_seconds(lambda: ensemble.train(model, x, y[0], recipe=recipe, seeds=range(8), **options), repeats=2)

    def computed(own: list[str], most: int, **fewer) -> tuple[float, int]:
        some = _few(y[0], most)
        how = {"settings": replace(settings, jitter=JITTER, **fewer), "device": device, "classes": k, "progress": False}
        return best_seconds(lambda: compute(own, x[some], y[:, some], **how), repeats=2), len(some)

    short, long = trained(5), trained(35)
    cost = {"step": max((long - short) / 30 / 8, 1e-7), "reading": 0.0, "CG": 0.0, "F-SI": 0.0}
    cost["training"] = max(short / 8 - 5 * cost["step"], 0.0)
    of = {group: [name for name in names if SCORES[name].group == group] for group in ("runs", "cg", "f_si")}
    if of["runs"]:
        fewer = {"networks": 4, "curvatures": 2, "epochs": 1, "early": 1}
        (one, few), (two, many) = (computed(of["runs"], size, **fewer) for size in (250, 500))
        if many > few:
            steps = len(y) * 4 * (many - few) / settings.batch_size * cost["step"]
            cost["reading"] = max(two - one - steps, 0.0) / (many - few) * n / 4
    if of["cg"]:  # what grows with n² from the trial, and (2/3)n³ operations at the rate of matrix products
        seconds, rows = computed(of["cg"], 1000)
        cost["CG"] = seconds * (n / rows) ** 2 + 2e-9 / 3 * n**3 / matrix_product_rate(1000, device=device)
    if of["f_si"]:
        seconds, rows = computed(of["f_si"], 400)
        cost["F-SI"] = seconds * (n / rows) ** 3
    return cost


def _few(y: Tensor, most: int) -> Tensor:
    """Positions of about ``most`` examples, class by class in proportion, two of each class at least; ascending."""
    rng, share, chosen = np.random.default_rng(0), min(1.0, most / len(y)), []
    for label in y.unique():
        own = (y == label).nonzero().flatten().numpy()
        chosen.append(rng.permutation(own)[: max(2, round(share * len(own)))])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))
