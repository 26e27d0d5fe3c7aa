"""Notebook 08: which scores have the examples of a data set that nobody has prepared, and how many of them can go?

Everything is scored by name, networks are trained again without the lowest, and nothing is suggested that was not found
twice: on the seeds by which it was chosen, and on new ones, with an interval that lies within the tolerance.
"""

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from pandas.io.formats.style import Styler
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor

from experiments.pruning import train_plans
from lib import audit
from lib.catalogue import SCORES, Settings, compute
from lib.data import Dataset, load

JITTER = 1e-3  # on the diagonal of the CG-score's matrix (½), which equal inputs make singular
EXACT = 10_000  # rows up to which CG-scores are computed
NONE_SEEN = 300  # percentage points times test examples: a difference that none of them shows may be so large


def bring(dataset, *, n: int = 0, n_test: int = 0, seed: int = 0, **options) -> Dataset:
    """All rows of a data set, or n of them class by class; a test part only if it came with one.

    ``n`` and ``n_test`` are wishes: of fewer rows all are taken. ``options`` as for ``lib.data.load``, "" for none.
    """
    options = {name: value for name, value in options.items() if value} | {"seed": seed, "split": False}
    whole = load(dataset, **options)
    fewer = {"n_train": n if 0 < n < len(whole.y_train) else None}
    fewer["n_test"] = n_test if 0 < n_test < len(whole.y_test) else None
    return load(dataset, **options, **fewer) if any(fewer.values()) else whole


def parted(data: Dataset, *, seed: int = 0) -> Dataset:
    """The same with a test part: its own, or a fifth of each class, drawn; classes below 5 give none."""
    if not data.unsplit:
        return data
    drawn = pd.Series(np.random.default_rng(seed).permutation(len(data.y_train)))
    test = torch.tensor((drawn.groupby(data.y_train.numpy()).rank() % 5 == 0).to_numpy())
    parts = {f"{key}_train": getattr(data, f"{key}_train")[~test] for key in ("x", "y", "rows")}
    return replace(data, **parts, **{f"{key}_test": getattr(data, f"{key}_train")[test] for key in ("x", "y", "rows")})


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


def score(names: list[str], data: Dataset, choice: audit.Choice, **options) -> dict[str, Tensor]:
    """Scores of the training examples by name, ``(n,)``, high = hard; ``options`` as for ``lib.catalogue.compute``.

    CG-scores are left out where they cannot be had: a class of one row, or more than 10,000 rows.
    """
    z, groups = audit.prepared(data.x_train, choice.side), {}
    for name in names:
        groups.setdefault(SCORES[name].group == "cg", []).append(name)
    if len(data.y_train) > EXACT or data.y_train.bincount().min() < 2:
        groups.pop(True, None)
    how = {
        "classes": len(data.classes),
        "settings": replace(choice.settings, jitter=JITTER),
        "progress": False,
        **options,
    }
    scored = {}
    for cg, some in groups.items():
        scored |= compute(some, directions(data.x_train, z) if cg else z, data.y_train, **how)
    return {name: scored[name].hardness.nan_to_num(nan=0.0) for name in names if name in scored}


def directions(examples: Tensor, x: Tensor) -> Tensor:
    """What the CG-score is given: pictures, or standardized features and a constant coordinate, in double precision.

    It looks at directions alone (in one dimension there are only two), and an empty picture has none: pictures get that
    coordinate too where one of them is all zero.
    """
    if examples.ndim == 4 and examples.flatten(1).any(1).all():
        return examples
    flat = (examples if examples.ndim == 4 else x).flatten(1).double()
    return torch.cat([flat, torch.ones(len(x), 1, dtype=torch.float64)], 1)


def seeds_that_fit(settings: Settings, x: Tensor, k: int, *, plans: int, minutes: float, most: int) -> int:
    """How many times every plan can be trained in the minutes, at the speed that ``lib.audit`` presumes; at most so."""
    once = plans * settings.trial_epochs * audit.operations(settings, x, k)
    return int(min(most, 60 * minutes * audit.RATE / once))


def retrain_and_mark(model, data, plans: Mapping[tuple, Callable], *, seeds, **options) -> dict[tuple, Tensor]:
    """Train every plan with every seed: which test examples they get right, ``(S, n_test)``.

    As ``experiments.pruning.train_plans`` does, but plans are functions of a seed that give the mask ``(n,)``.
    """
    masks = {name: torch.stack([mask(seed) for seed in seeds]) for name, mask in plans.items()}
    right = train_plans(model, data, masks, seeds=list(seeds), **options).correct_test[:, -1]
    return dict(zip(plans, right.split(len(seeds)), strict=True))


def accuracy_lost(
    correct: Mapping[tuple, Tensor], full: tuple, *, columns: tuple[str, ...] = ("score", "kept")
) -> pd.DataFrame:
    """Accuracy lost against the full data, in percentage points (negative = gained), with its 95% interval.

    The interval is for other seeds *and* other test examples: with dₛⱼ the difference of seed s at test example j, its
    half-width is that of Student's t over the S seed means and that of the normal over the test examples' means, put
    together as √(a² + b²), and no less than 3 in the number of test examples: what none of them shows is not nothing.

    ``correct`` is of :func:`retrain_and_mark`, ``full`` the name of the plan that drops nothing, ``columns`` name the
    entries of a plan's name. A line a plan: ``columns``, ``accuracy`` (in [0, 1]), ``loss``, ``low``, ``high``.
    """
    reference, lines = correct[full].double().numpy(), []
    seeds, tests = reference.shape
    if seeds < 2 or tests < 2:
        raise ValueError(f"expected two seeds and two test examples at least for an interval, got {seeds} and {tests}")
    over_seeds, over_tests = student.ppf(0.975, seeds - 1), norm.ppf(0.975)
    for name, marks in correct.items():
        lost = 100 * (reference - marks.double().numpy())
        value, by_seed, by_test = float(lost.mean()), lost.mean(1).var(ddof=1), lost.mean(0).var(ddof=1)
        half = np.sqrt(over_seeds**2 * by_seed / seeds + over_tests**2 * by_test / tests)
        half = 0.0 if name == full else max(half, NONE_SEEN / tests)
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


def suggestion(again: pd.DataFrame, *, tolerance: float) -> str:
    """What is suggested by a table of :func:`accuracy_lost` over new seeds: full data, what is to be dropped, …

    Nothing, unless the whole interval of the loss lies within the tolerance, and is no wider than it on either side.

    Example:
        >>> lines = [("all", 1.0, 0.9, 0.0, 0.0, 0.0), ("CG", 0.6, 0.9, 0.1, -0.3, 0.5)]
        >>> again = pd.DataFrame(lines, columns=["score", "kept", "accuracy", "loss", "low", "high"])
        >>> suggestion(again, tolerance=1.0)
        'drop 40%, those with the lowest CG: loss +0.10 [-0.30, +0.50] points with new seeds'
        >>> suggestion(again, tolerance=0.4)
        'nothing is suggested: with new seeds dropping 40% costs +0.10 [-0.30, +0.50] points'
    """
    if len(again) < 2:
        return "nothing is suggested: no share that was tried is surely within the tolerance"
    row = again.iloc[1]
    told = f"{row.loss:+.2f} [{row.low:+.2f}, {row.high:+.2f}] points"
    if row.high > tolerance or (row.high - row.low) / 2 > tolerance:
        return f"nothing is suggested: with new seeds dropping {1 - row.kept:.0%} costs {told}"
    how = "drawn by chance" if row.score == "random" else f"those with the lowest {row.score}"
    return f"drop {1 - row.kept:.0%}, {how}: loss {told} with new seeds"


def shown(table: pd.DataFrame) -> Styler:
    """The table to be shown, with the text of its cells, rows, columns and their names as text: none of it is HTML.

    Example:
        >>> "&lt;script&gt;" in shown(pd.DataFrame({"<script>": [1]})).to_html()
        True
    """
    plain = lambda value: html.escape(value).replace("$", "&#36;") if isinstance(value, str) else value
    axes = {"index": table.index, "columns": table.columns}
    axes = {key: axis.map(plain).set_names([plain(name) for name in axis.names]) for key, axis in axes.items()}
    return table.map(plain).set_axis(axes["index"]).set_axis(axes["columns"], axis=1).style


def columns(report: audit.Report, scored: Mapping[str, Tensor], data: Dataset) -> dict[str, np.ndarray]:
    """The columns of the file: what the caller calls the row, the report's, and each further score."""
    table = {} if data.index is None else {"index": data.index_train.astype(str).to_numpy(object)}
    for name, values in report.scores.items():
        text = values.dtype == object or name in ("copy_of", "label", "suggested")
        table[name] = values.astype(str).where(values.notna(), "").to_numpy(object) if text else values.to_numpy()
    plain = lambda name: re.sub(r"[^a-z0-9]+", "_", name.lower())
    return {plain(name): value.numpy() for name, value in scored.items()} | table
