"""Notebook 08: how is a data set that nobody has prepared scored within some minutes, and how much of it can go?

A plan is made before the work: every item gets its least, and all get the same share of the way from there to their
wish; where even the least of everything does not fit, fewer rows are planned for. Then networks on random parts of the
rows judge the examples, every score is computed by name, and pruned sets are trained on again.
"""

import math
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor

from experiments.checkup import Votes, held_out_sums, votes
from experiments.pruning import train_plans
from experiments.unique_information import drawn
from lib.catalogue import SCORES, Scored, Settings, compute, trial_recipe
from lib.costs import best_seconds, free_bytes, matrix_product_rate, measured
from lib.data.datasets import Dataset
from lib.networks import models
from lib.scores.complexity_gap import cg_scores
from lib.scores.memorization import held_out_accuracy, memorization, subsets
from lib.statistics import standardized
from lib.training import ensemble
from lib.training.parallel import digest
from lib.training.recipe import Record, Run

LARGE = 40  # pixels a side; larger pictures are shrunk to SMALL, unless a network is named
SMALL = 32
EXACT = "exact factorization"
LEAST = 24  # networks among whom some have not seen an example, for all but one in 5,000
RESERVE = 0.85  # of the time left that is planned with; loading, figures and slower moments take the rest
JITTER = 1e-3  # on the diagonal of the CG-score's matrix (½) where inputs repeat


class Item(NamedTuple):
    """A piece of work: so many units are wished for, at least so many are needed, each takes so long."""

    what: str
    unit: str
    wished: int
    least: int
    seconds: float  # a unit, for all rows
    power: int = 1  # of the number of rows that this time grows with


def plan_work(items: list[Item], seconds: float) -> pd.DataFrame:
    """How much of each item fits: by ``what``, ``unit, wished, least, planned, each`` (seconds a unit), ``seconds``.

    Example:
        >>> plan_work([Item("networks", "trainings", 10, 2, 1.0)], 6.5).planned.tolist()
        [6]
    """
    for item in items:
        if not 0 <= item.least <= item.wished or not item.seconds >= 0:
            raise ValueError(f"{item.what}: expected 0 ≤ least ≤ wished and a time, got {item}")
    least = _least(items)
    if not least <= seconds:
        needed = ", ".join(f"{item.least} {item.unit} for {item.what}" for item in items if item.least)
        raise ValueError(
            f"minutes: the least that makes sense ({needed}) takes {least / 60:.2g} minutes, and {seconds / 60:.2g} "
            "are left; allow more, or ask for fewer scores"
        )
    rest = sum((item.wished - item.least) * item.seconds for item in items)
    granted = 1.0 if rest <= seconds - least else (seconds - least) / rest
    table = pd.DataFrame(items).drop(columns="power").rename(columns={"seconds": "each"}).set_index("what")
    above = [math.floor(granted * (item.wished - item.least) + 1e-9) for item in items]
    table.insert(3, "planned", table.least + above)
    return table.assign(seconds=table.planned * table.each)


def rows_that_fit(items: list[Item], n: int, seconds: float, *, fewest: int) -> int:
    """The most rows, up to n, with which the least of every item fits; ``fewest`` where not even these do.

    Example:
        >>> rows_that_fit([Item("CG", "factorization", 1, 1, 80.0, power=3)], 1000, 10.0, fewest=100)
        500
    """
    fewest, too_many = min(fewest, n), lambda rows: not _least(shrunk(items, rows / n)) <= seconds
    return fewest + bisect_left(range(fewest + 1, n + 1), True, key=too_many)


def shrunk(items: list[Item], share: float) -> list[Item]:
    """The same items on a share of the rows."""
    return [item._replace(seconds=item.seconds * share**item.power) for item in items]


def _least(items: list[Item]) -> float:
    return sum(item.least * item.seconds for item in items)


@dataclass
class Clock:
    """Time spent by item, against what was planned for it."""

    planned: pd.DataFrame
    spent: dict[str, float] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def blocks(self, what: str, size: int, *, patience: float = 1.5) -> Iterator[range]:
        """The planned units of an item in blocks, until they are done or have taken ``patience`` times as planned.

        The least of the item is always given. What is done between two blocks counts as the item's time.
        """
        total, limit = int(self.planned.planned[what]), patience * float(self.planned.seconds[what])
        begun = time.perf_counter()
        for first in range(0, total, size):
            block = range(first, min(first + size, total))
            yield block
            self.spent[what], self.done[what] = time.perf_counter() - begun, block.stop
            if self.spent[what] > limit and block.stop >= self.planned.least[what]:
                break

    def run(self, what: str, work: Callable[[], object]):
        """Do a whole item at once and return what it returns."""
        begun = time.perf_counter()
        result = work()
        self.spent[what], self.done[what] = time.perf_counter() - begun, int(self.planned.planned[what])
        return result

    def table(self) -> pd.DataFrame:
        """Wished, planned and done, with the seconds planned and taken."""
        items = self.planned.index
        seconds = {"seconds planned": self.planned.seconds, "seconds taken": [self.spent.get(w, 0.0) for w in items]}
        return self.planned[["unit", "wished", "planned"]].assign(done=[self.done.get(w, 0) for w in items], **seconds)


def retrain_and_mark(
    model, data, plans: Mapping[tuple, Callable], *, blocks: Iterable[range], first_seed: int = 0, **options
) -> dict[tuple, Tensor]:
    """Train every plan with every seed, a block after the other: which test examples they get right, ``(S, n_test)``.

    As ``experiments.pruning.train_plans`` does, but plans are functions of a seed that give the mask ``(n,)``, and the
    seeds are the numbers in blocks, such as those of :meth:`Clock.blocks`, plus ``first_seed``.
    """
    marks: dict[tuple, list[Tensor]] = {name: [] for name in plans}
    for block in blocks:
        seeds = [first_seed + number for number in block]
        masks = {name: torch.stack([mask(seed) for seed in seeds]) for name, mask in plans.items()}
        right = train_plans(model, data, masks, seeds=seeds, **options).correct_test[:, -1]
        for name, marks_of_plan in zip(plans, right.split(len(seeds)), strict=True):
            marks[name].append(marks_of_plan)
    return {name: torch.cat(parts) for name, parts in marks.items()}


def accuracy_lost(
    correct: Mapping[tuple, Tensor], full: tuple, *, columns: tuple[str, ...] = ("score", "kept")
) -> pd.DataFrame:
    """Accuracy lost against the full data, in percentage points (negative = gained), with its 95% interval.

    The interval is for other seeds *and* other test examples: with dₛⱼ the difference of seed s at test example j, its
    half-width is that of Student's t over the S seed means and that of the normal over the test examples' means, put
    together as √(a² + b²). (Training noise is in both terms, which errs on the wide side.)

    ``correct`` is of :func:`retrain_and_mark`, ``full`` the name of the plan that drops nothing, ``columns`` name the
    entries of a plan's name. A line a plan: ``columns``, ``accuracy`` (in [0, 1]), ``loss``, ``low``, ``high``.
    """
    reference, lines = correct[full].double().numpy(), []
    seeds, tests = reference.shape
    if seeds < 2:
        raise ValueError(f"seeds: expected two at least for an interval, got {seeds}")
    over_seeds, over_tests = student.ppf(0.975, seeds - 1), norm.ppf(0.975)
    for name, marks in correct.items():
        lost = 100 * (reference - marks.double().numpy())
        value, by_seed, by_test = float(lost.mean()), lost.mean(1).var(ddof=1), lost.mean(0).var(ddof=1)
        half = np.sqrt(over_seeds**2 * by_seed / seeds + over_tests**2 * by_test / tests)
        lines.append((*name, float(marks.double().mean()), value, value - half, value + half))
    return pd.DataFrame(lines, columns=[*columns, "accuracy", "loss", "low", "high"])


def largest_drop(dropped, loss, low, high, *, tolerance: float) -> tuple[float, tuple[float, float]]:
    """The largest share that can be dropped for a loss within ``tolerance``, going up from the smallest.

    The value goes by the loss as measured; the interval's lower end by the upper end of the loss (surely within), its
    upper end by the lower end of the loss (not surely beyond). 0 where not even the smallest share passes. The shares
    ``dropped`` come in any order, the loss and its interval in the unit of ``tolerance``.

    Example:
        >>> largest_drop([0.1, 0.5, 0.9], [0.2, 0.8, 4.0], [-0.5, 0.1, 3.0], [0.9, 1.5, 5.0], tolerance=1.0)
        (0.5, (0.1, 0.5))
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected a loss of 0 or more, got {tolerance}")
    order = np.argsort(dropped)
    shares = np.concatenate([[0.0], np.asarray(dropped, float)[order]])

    def furthest(values) -> float:
        passes = np.asarray(values, float)[order] <= tolerance
        return float(shares[passes.cumprod().sum()])

    return furthest(loss), (furthest(high), furthest(low))


class Choice(NamedTuple):
    """A network for a data set, and why this one."""

    settings: Settings
    side: int | None  # pixels that pictures are shrunk to; None leaves them as they are
    why: str


def came_unsplit(name: str) -> bool:
    """Whether a data set has no test part of its own, so that ``lib.data.datasets.load`` splits one off."""
    if not str(name).endswith(".npz"):
        return name in ("mnist-5k", "digits", "iris")
    with np.load(name, allow_pickle=False) as file:
        return "x_test" not in file.files


def score_names(text: str) -> list[str]:
    """The scores that a list such as ``"cg, el2n, c-score"`` names; capitals, spaces and dashes do not matter.

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
    one of 256; other pictures a LeNet, for which those over 40 pixels, or not square, are shrunk to 32 × 32. Where
    ``architecture`` names a network (of ``lib.networks.models.by_name``), pictures keep their size. ``epochs`` = 0
    chooses 15 passes over the n rows, or as many as make 300 steps, at most 60.
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
    return replace(dataset, x_train=standardized(parts[0]), x_test=standardized(parts[1], parts[0]))


def make_plan(
    names: list[str], x: Tensor, y: Tensor, settings: Settings, *, minutes: float, begun: float, trials: int,
    networks: int, seeds: int, plans: int, store=None, device: str = "cpu",
) -> tuple[int, pd.DataFrame]:  # fmt: skip
    """Measure the speed on short trials and plan with it: ``(rows, plan)``, see :func:`plan_work`.

    The measured times and the time left are kept in ``store``, so that a run that goes on has the plan that it had.
    An exact CG-score is planned where it takes no more than a third of the time and half of the free memory; else
    draws of a subsample. Fewer rows than there are, class by class, are planned where the least of everything does not
    fit: 50 of each class at the fewest, or all.

    Args:
        x, y: standardized, ``(n, …)``, and the labellings, ``(r, n)``.
        minutes: for everything, from when ``time.perf_counter()`` was ``begun``.
        trials, networks, seeds: wished for: trainings on parts of the rows, trainings behind a score that is a mean
            over runs, retrainings of each of the ``plans`` (pruned sets).
    """
    if not (minutes > 0 and np.isfinite(minutes)):
        raise ValueError(f"minutes: expected more than 0, got {minutes}")
    for name, wish in {"trials": trials, "networks": networks, "seeds": seeds}.items():
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
        items.append(Item("CG", EXACT, 1, least=1, seconds=cost["CG"], power=2))
    elif cost["CG"]:  # blocks of 2n/k rows for k classes, and as much again for what is around them
        items.append(Item("CG", "draws of a subsample", 10, 1, seconds=cost["CG"] * min(1.0, 16 / k**2), power=2))
    if cost["F-SI"]:
        items.append(Item("F-SI", "computation", 1, least=1, seconds=cost["F-SI"], power=3))
    if any(SCORES[name].group == "runs" for name in names):
        items.append(Item("runs", "networks", networks, least=2, seconds=len(y) * one(1.0) + cost["reading"]))
    items.append(Item("judges", "networks", trials, least=min(LEAST, trials), seconds=len(y) * one(settings.share)))
    items.append(Item("pruning", "seeds", seeds, least=2, seconds=plans * one(1.0)))
    rows = rows_that_fit(items, n, left, fewest=50 * k)
    table = plan_work(shrunk(items, rows / n), left)
    if store is not None and kept is None:  # a plan that failed is measured anew
        store.put(key, {name: np.array(value) for name, value in cost.items()})
    return rows, table


def measure(names: list[str], x: Tensor, y: Tensor, settings: Settings, *, device: str = "cpu") -> dict[str, float]:
    """Seconds of each kind of work, from short trials; what was not asked for is 0.

    ``step`` (of one of many networks), ``training`` (what one costs beside its steps: starting it, and looking at all
    examples at its end), ``reading`` (the scores of one network), ``CG`` and ``F-SI``, for all n rows. Times are taken
    at two sizes, so that what every call costs once is not counted a thousand times.
    """
    n, k = len(x), int(y.max()) + 1
    model = models.by_name(settings.architecture, shape=tuple(x.shape[1:]), classes=k)
    options = {"record": Record(parameters=False), "run": Run(device=device, chunk=8, progress=False)}

    def trained(steps: int) -> float:
        recipe = replace(trial_recipe(settings), epochs=None, iterations=steps)
        return best_seconds(lambda: ensemble.train(model, (x, y[0]), recipe, range(8), **options), repeats=2)

    def computed(group: str, most: int, **fewer) -> tuple[float, int]:
        share, sizes = min(1.0, most / n), torch.bincount(y[0]).tolist()
        rows = drawn(y[0], {c: min(size, max(2, round(share * size))) for c, size in enumerate(sizes)}, seed=0)
        how = {"settings": replace(settings, jitter=JITTER, **fewer), "device": device, "classes": k, "progress": False}
        return best_seconds(lambda: compute(grouped[group], x[rows], y[:, rows], **how), repeats=2), len(rows)

    short, long = trained(5), trained(35)
    cost = {"step": max((long - short) / 30 / 8, 1e-7), "reading": 0.0, "CG": 0.0, "F-SI": 0.0}
    cost["training"] = max(short / 8 - 5 * cost["step"], 0.0)
    grouped = by_group(names)
    if grouped["runs"]:
        fewer = {"networks": 4, "curvatures": 2, "epochs": 1, "early": 1}
        (one, few), (two, many) = (computed("runs", size, **fewer) for size in (250, 500))
        if many > few:
            steps = len(y) * 4 * (many - few) / settings.batch_size * cost["step"]
            cost["reading"] = max(two - one - steps, 0.0) / (many - few) * n / 4
    if grouped["cg"]:  # what grows with n² from the trial, and (2/3)n³ operations at the rate of matrix products
        seconds, rows = computed("cg", 1000)
        cost["CG"] = seconds * (n / rows) ** 2 + 2e-9 / 3 * n**3 / matrix_product_rate(1000, device=device)
    if grouped["f_si"]:
        seconds, rows = computed("f_si", 400)
        cost["F-SI"] = seconds * (n / rows) ** 3
    return cost


class Trials(NamedTuple):
    """Networks trained on random parts of the rows, under one labelling."""

    member_sees: Tensor  # (t, n) bool
    correct: Tensor  # (t, n) bool
    votes: Votes


def trial_blocks(
    x: Tensor, y: Tensor, settings: Settings, blocks: Iterator[range], *, seed: int = 0, run: Run = Run(),
) -> list[Trials]:  # fmt: skip
    """Train networks on random parts of the rows, block by block, until ``blocks`` ends: :class:`Trials` a labelling.

    ``x`` is standardized; every labelling of ``y (r, n)`` gets the same subsets and initial weights.
    """
    (r, n), k = y.shape, int(y.max()) + 1
    model = models.by_name(settings.architecture, shape=tuple(x.shape[1:]), classes=k)
    record = Record(errors_at=(settings.trial_epochs,), parameters=False)
    parts = []
    for block in blocks:
        sees = subsets(n, round(settings.share * n), block.stop, seed)[block.start :]
        trained = ensemble.train(
            model, (x, y[0]), trial_recipe(settings), list(block) * r, sees=sees.repeat(r, 1),
            labels=y.repeat_interleave(len(block), 0), record=record, run=run,
        )  # fmt: skip
        errors = trained.errors[settings.trial_epochs].view(r, len(block), n, k)
        right = trained.correct_train[:, -1].view(r, len(block), n)
        parts.append([(sees, right[i], held_out_sums(sees, errors[i], y[i])) for i in range(r)])
    by_labelling = [tuple(zip(*blocks_of_one, strict=True)) for blocks_of_one in zip(*parts, strict=True)]
    return [Trials(torch.cat(sees), torch.cat(right), votes(sums)) for sees, right, sums in by_labelling]


def score(
    names: list[str], examples: Tensor, x: Tensor, *, y: Tensor, settings: Settings, trials: list[Trials], clock: Clock,
    seed: int = 0, store=None, device: str = "cpu",
) -> dict[str, Scored]:  # fmt: skip
    """Scores by name, of every labelling: ``lib.catalogue.compute``, but for what the judges have said already.

    ``examples`` are as loaded, ``(n, c, h, w)`` or ``(n, d)``, ``x`` the same, standardized; ``y`` is ``(r, n)``, and
    ``settings`` have ``jitter`` where inputs repeat. Memorization and C-score are read off the ``trials`` of each
    labelling (:func:`trial_blocks`). The ``store`` is for finished scores and shards.
    """
    common = {"seed": seed, "device": device, "store": store, "shards": store, "progress": False}
    grouped, scored, planned = by_group(names), {}, clock.planned.planned
    how = replace(settings, networks=int(planned["runs"])) if grouped["runs"] else settings
    work = lambda group, inputs: compute(grouped[group], inputs, y, settings=how, **common)
    if grouped["input"]:
        scored |= work("input", x)
    if grouped["cg"]:
        inputs, exact = directions(examples, x), clock.planned.unit["CG"] == EXACT
        options = {"runs": int(planned["CG"]), "seed": seed, "jitter": how.jitter, "device": device}
        draws = lambda: _drawn(grouped["cg"], inputs, y, **options)
        scored |= clock.run("CG", lambda: work("cg", inputs) if exact else draws())
    for group, what in (("f_si", "F-SI"), ("runs", "runs")):
        if grouped[group]:
            scored |= clock.run(what, lambda group=group: work(group, x))
    costs = {"seconds": clock.spent["judges"], "peak_bytes": 0, "trainings": float(len(trials[0].member_sees))}
    for name in grouped["subsets"]:
        if name == "memorization":
            made = [memorization(one.member_sees, one.correct)[:2] for one in trials]
            values, error = (torch.stack(parts) for parts in zip(*made, strict=True))
        else:
            values = torch.stack([held_out_accuracy(one.member_sees, one.correct) for one in trials])
            error = (values * (1 - values) / ((~trials[0].member_sees).sum(0) - 1)).sqrt()
        scored[name] = Scored(name, values, error, None, **costs)
    return {name: scored[name] for name in names}


def by_group(names: list[str]) -> dict[str, list[str]]:
    """Group of ``lib.catalogue.SCORES`` → those of the names that are in it, for every group."""
    groups = dict.fromkeys(about.group for about in SCORES.values())
    return {group: [name for name in names if SCORES[name].group == group] for group in groups}


def _drawn(names, inputs, y, *, runs, device, **options) -> dict[str, Scored]:
    """CG-scores as means over draws, each class against as many rows of the others."""
    work = lambda: cg_scores(inputs, y, negatives=1, runs=runs, device=device, **options)
    result, seconds, peak = measured(work, device=device)
    part = lambda name: getattr(result, "score" if name == "CG" else name.removeprefix("CG ")).double()
    error = lambda name: result.spread.double() / runs**0.5 if name == "CG" else None
    costs = {"seconds": seconds, "peak_bytes": peak, "trainings": 0.0}
    return {name: Scored(name, part(name), error(name), None, **costs) for name in names}


def directions(examples: Tensor, x: Tensor) -> Tensor:
    """What the CG-score is given: pictures, or standardized features and a constant coordinate, in double precision.

    It looks at directions alone (in one dimension there are only two), and an empty picture has none: pictures get that
    coordinate too where one of them is all zero.
    """
    if examples.ndim == 4 and examples.flatten(1).any(1).all():
        return examples
    flat = (examples if examples.ndim == 4 else x).flatten(1).double()
    return torch.cat([flat, torch.ones(len(x), 1, dtype=torch.float64)], 1)


def columns(scored: dict[str, Scored], suggested: pd.DataFrame, flags: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of the file: each score with its standard error, what the judges say, the flags of the check-up."""
    table = {}
    for name, one in scored.items():
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
        table[plain] = one.values[0].numpy()
        if one.stderr is not None:
            table[f"{plain}_error"] = one.stderr[0].numpy()
    for frame in (suggested, flags.drop(columns=["row", "label"])):
        table |= {name: frame[name].to_numpy() for name in frame}
    return table
