"""What is in a data set of your own: labels that look wrong, copies, leaks, what is superfluous.

    from lib import audit
    report = audit(df, label="species", minutes=2)
    report.suspects, report.copies, report.leaks, report.redundant, report.scores  # tables by the caller's index

*Judges* are networks trained on seven tenths of the rows, each row left out by three in ten: what they say of rows that
they did not see counts the wrong labels (confident learning, Northcutt et al. 2021). EL2N orders them, unless the
judges' doubt finds more of the labels that are flipped on purpose. Nothing depends on the clock.
"""

import sys
import warnings
from dataclasses import dataclass, field, replace
from html import escape
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from lib import statistics
from lib.catalogue import Settings, compute, trial_recipe
from lib.data.datasets import Dataset, load
from lib.data.noise import uniform_noise
from lib.data.own import plain
from lib.networks import models
from lib.statistics import standardized
from lib.store import expanded, new_file
from lib.training import ensemble
from lib.training.recipe import Record, Run

LARGE, SMALL = 40, 32  # pixels a side: pictures above the first are shrunk to the second for the networks
BLOCK = 10  # judges, of which three have not seen a row
MOST = 50  # judges
RATE = 2e10  # operations a second that a plan presumes, whatever the machine
LEAST = 20  # rows
NEAR = 0.3  # of the distance to the tenth neighbour: near copies are closer
NEIGHBOURS = 10
STYLE = (
    "<meta charset=utf-8><meta name=viewport content='width=device-width'><style>body{font:15px sans-serif;margin:1em}"
    "pre{white-space:pre-wrap}table{display:block;width:fit-content;max-width:100%;overflow:auto}"
    "td,th{padding:2px 8px}</style><h1>Audit</h1><pre>"
)
TABLES = {
    "suspects": "labels that look wrong, the most suspicious first; p: the predicted probabilities",
    "copies": "rows that are the same as an earlier one, or nearly: of which",
    "leaks": "training rows that are in the test part too: as which row of it",
    "redundant": "rows that may be superfluous; let none go before retraining has shown that it can",
    "scores": "all rows; suspicious is a high el2n (error early in training) or doubt (1 − p_label)",
}


@dataclass(frozen=True)
class Report:
    """What was found: tables by the caller's index, the most striking rows first, and what was done."""

    suspects: pd.DataFrame  # label, suggested, p_label, p_suggested, and the score that orders them
    copies: pd.DataFrame  # kind (exact, near, shifted, mirrored), of (an earlier row), same_label, distance
    leaks: pd.DataFrame  # of training rows into the test part: kind, of (the test row), same_label, distance
    redundant: pd.DataFrame  # why; nothing is suggested to go before retraining has shown that it can
    scores: pd.DataFrame = field(repr=False)  # every row: label, el2n, doubt, p_label, suggested, suspect, copy_of
    facts: dict  # rows, classes, networks, accuracy, wrong and found with intervals, order

    def __str__(self) -> str:
        f, shares = self.facts, lambda pair: f"{pair[0]:.0%} [{pair[1][0]:.0%}, {pair[1][1]:.0%}]"
        value, (low, high) = f["wrong"]
        wrong = f"wrong in all, as estimated: {value:,} [{low:,}, {high:,}] (too many where classes overlap)"
        wrong = wrong if 2 * value <= f["rows"] else "how many are wrong cannot be told: judges and labels disagree"
        leaks = f"training rows that are in the test part too: {self.leaks.index.nunique():,}"
        return "\n".join([
            f"{f['rows']:,} rows, {f['classes']} classes; {f['networks']}",
            *filter(None, [f["note"]]),
            f"labels that look wrong: {len(self.suspects):,}, in the order of {f['order']}; {wrong}",
            f"of labels that were flipped on purpose, to see how many are found, {shares(f['found'])} were flagged",
            f"rows that are copies of an earlier one: {self.copies.index.nunique():,} "
            f"({(~self.copies.same_label).sum():,} pairs with two labels); {leaks if f['tested'] else 'no test part'}",
            f"labels that are also the prediction, out of sample: {shares(f['accuracy'])}; in brackets: 95% intervals",
        ])  # fmt: skip

    def to_html(self, path, *, rows: int = 200) -> None:
        """Write a page that stands alone; tables up to so many rows."""
        parts = [STYLE, escape(str(self)), "</pre>"]
        for name, text in TABLES.items():
            table = getattr(self, name)
            parts += [f"<h2>{name} ({len(table):,})</h2><p>{text}", table.head(rows).to_html(float_format="%.3g")]
        with new_file(expanded(path)) as file:
            file.write("".join(parts).encode())


def audit(
    data, label=None, *, probabilities=None, embeddings=None, minutes: float = 2.0, seed: int = 0, device: str = "cpu",
    architecture: str = "", epochs: int = 0, store=None, progress: bool = False, **options,
) -> Report:  # fmt: skip
    """Look a data set over: every row is scored, by networks that did not see it where these judge.

    Args:
        data, label, options: as `lib.data.load` takes them, or a `Dataset`. Copies are looked for among all rows. A
            test part that comes with the data is looked through for leaks, and left alone otherwise.
        probabilities: in place of our judges: out-of-sample probabilities ``(n, k)``, columns in the order of the
            sorted labels (a DataFrame: by name), or a scikit-learn classifier, which is cross-fitted.
        embeddings: ``(n, d)`` in place of pictures or features; of a table the labels are used alone.
        minutes: decides how many networks are trained, at a presumed speed: at least 10 judges of each labelling.
        architecture, epochs: of the networks; chosen by :func:`choose` if not given.
        store: of ``lib.store.Store``, for work that can be continued. progress: show bars while networks train.

    Raises: ValueError for data that cannot be used (``lib.data.own.source``), fewer than 20 rows, a single class.

    Cost: at least 20 short trainings and a search of nearest neighbours; with given probabilities the search alone.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> report = audit(load_iris(), probabilities=np.eye(3)[load_iris().target])
        >>> len(report.suspects), report.copies.of.to_dict()
        (0, {142: 101})
    """
    if not isinstance(minutes, int | float | np.integer | np.floating) or not 0 < minutes < np.inf:
        raise ValueError(f"minutes: expected more than 0, got {minutes!r}")
    run = Run(device=device, store=store, progress=progress)
    only = {} if embeddings is None else {"features": False}
    d = data if isinstance(data, Dataset) else load(data, label, split=False, seed=seed, **only, **options)
    y, k, index, names = d.y_train, len(d.classes), d.index_train, np.array(d.classes, object)
    x, x_test = (d.x_train, d.x_test) if embeddings is None else (_rows("embeddings", embeddings, index), None)
    refuse(x, y)
    noisy, flipped = uniform_noise(y, max(0.05, min(12, len(y) // 5) / len(y)), k=k, seed=seed)
    labels, errors = torch.stack([y, noisy]), None
    choice = choose(tuple(x.shape[1:]), len(y), k, architecture=architecture, epochs=epochs)
    if probabilities is None:
        z = prepared(x, choice.side)
        settings, blocks = plan(choice.settings, z, k, minutes=minutes)
        p = judge(z, labels, settings, blocks=blocks, k=k, seed=seed, run=run)
        how = {"classes": k, "settings": settings, "seed": seed, "device": device, "shards": store}
        # Networks of its own: read off the judges, at three epochs, EL2N found fewer wrong labels.
        el2n = compute(["EL2N"], z, labels, progress=progress, **how)["EL2N"]
        order, errors = el2n.values, el2n.stderr  # noqa: PD011
        said = f"{blocks * BLOCK} networks ({settings.architecture}) judge rows that they have not seen"
        said += f"; EL2N is of {settings.networks} more"
    else:
        fit = hasattr(probabilities, "fit")
        both = [_crossfit(probabilities, x, one, k, seed) for one in labels] if fit else None
        p = torch.stack(both or [_given(probabilities, d.classes, index)] * 2)
        order = (p - functional.one_hot(labels, k)).norm(dim=2)
        said = "probabilities " + (f"of {type(probabilities).__name__}, cross-fitted" if fit else "as given")
    doubt = 1 - p.gather(2, labels[..., None])[..., 0]
    flips = {"EL2N": order[1].numpy(), "doubt": doubt[1].numpy()}
    flips = {name: (one, *statistics.auroc(one, flipped.numpy(), seed=seed)) for name, one in flips.items()}
    surer = statistics.auroc_difference(flips["doubt"][0], flips["EL2N"][0], flipped.numpy())[1][0] > 0
    by, ranked = ("doubt", doubt) if surer else ("EL2N", order)
    counted = [wrong_labels(one, own) for one, own in zip(p, labels, strict=True)]
    p_best, best = p.max(2)
    parts = zip(ranked, best, labels, counted, strict=True)
    flagged = [_first(one.where(call != own, -1.0), int(some.sum())) for one, call, own, some in parts]
    found = statistics.share(torch.isin(flipped.nonzero()[:, 0], flagged[1]).numpy())
    (value, bounds), (hit, hits) = statistics.share(counted[0].numpy()), statistics.share(counted[1][flipped].numpy())
    scaled = lambda share, of_flips: round(len(y) * min(1.0, share / of_flips if of_flips > 0 else 1.0))
    wrong = scaled(value, hit), (scaled(bounds[0], hits[1]), scaled(bounds[1], hits[0]))
    worst, easy = flagged[0].numpy(), _first(-ranked[0], len(y) // 10).numpy()
    columns = {"label": names[y], "el2n": order[0]} | ({} if errors is None else {"el2n_error": errors[0]})
    columns |= {"doubt": doubt[0], "p_label": 1 - doubt[0], "suggested": names[best[0]], "p_suggested": p_best[0]}
    table = pd.DataFrame({name: np.asarray(value) for name, value in columns.items()}, index)
    table["suspect"] = np.isin(np.arange(len(y)), worst)
    copies, leaks = _by_index(find_copies(x, x_test), d, index)
    table["copy_of"] = copies.of[~copies.index.duplicated()].reindex(index) if index.is_unique else None
    table["in_test"] = index.isin(leaks.index)
    same = copies[copies.kind.isin(["exact", "near"]) & copies.same_label]
    lowest = pd.Series(f"among the lowest tenth by {by}", index[easy])
    redundant = pd.concat([same.kind + " copy of " + same.of.astype(str), lowest]).to_frame("why")
    facts = {
        "rows": len(y), "note": d.note, "classes": k, "tested": len(d.y_test) > 0, "networks": said, "order": by,
        "found": found, "flips": {name: one[1:] for name, one in flips.items()}, "wrong": wrong, "choice": choice,
        "accuracy": statistics.share((best[0] == y).numpy()),
    }  # fmt: skip
    shown = dict.fromkeys(["label", "suggested", "p_label", "p_suggested", by.lower()])
    return Report(table.iloc[worst][list(shown)], copies, leaks, redundant, table, facts)


def _first(score: Tensor, count: int) -> Tensor:
    """Positions of the highest scores, the highest first."""
    return score.argsort(descending=True, stable=True)[:count]


def refuse(x: Tensor, y: Tensor) -> None:
    """Raise ValueError where nothing can be said: one class, fewer than 20 rows, values that are not finite."""
    if len(y) < LEAST:
        raise ValueError(f"x_train: expected {LEAST} rows at least to learn anything from, got {len(y)}")
    if len(found := y.unique()) < 2:
        raise ValueError(f"y_train: expected two classes at least, got {len(found)} in {len(y)} rows")
    if bad := (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten().tolist():
        raise ValueError(f"x_train: expected finite values, got NaN or infinity at positions {bad[:5]}")
    if (x == x[:1]).all():
        raise ValueError(f"x_train: expected examples that differ, got {len(x)} that are all the same")


@dataclass(frozen=True)
class Choice:
    """A network for a data set, and why this one."""

    settings: Settings
    side: int | None  # pixels that pictures are resized to; None leaves them as they are
    why: str


def choose(shape: tuple[int, ...], n: int, classes: int, *, architecture: str = "", epochs: int = 0) -> Choice:
    """A network, and how it is trained, for examples of one shape; by rule, not by search.

    Feature vectors get one hidden layer (64 units up to 128 features, else 128); grey square pictures up to 32 pixels
    one of 256; other pictures a LeNet, for which those under 16 or over 40 pixels, or not square, are resized to
    32 × 32. Where ``architecture`` names a network (of ``lib.networks.models.by_name``), pictures keep their size.
    ``epochs`` = 0 chooses 15 passes over the n rows (5 from 20,000 on), or as many as make 300 steps, at most 60.
    """
    batch = 100 if n >= 2000 else 50 if n >= 500 else 20
    epochs, side = epochs or max(15 if n < 20_000 else 5, min(60, -(-300 * batch // n))), None
    if architecture:
        why = "as asked for"
    elif len(shape) == 1:
        architecture = "mlp-64" if shape[0] <= 128 else "mlp-128"
        why = f"feature vectors of {shape[0]} numbers: one hidden layer, on standardized features"
    elif shape[0] == 1 and shape[1] == shape[2] <= SMALL:
        architecture, why = "mlp-256", "small grey pictures: one hidden layer does well and trains fastest"
    else:
        architecture, why = "lenet", "pictures: a small convolutional network"
        if shape[1] != shape[2] or not SMALL // 2 <= shape[1] <= LARGE:
            side, why = SMALL, f"{why}, which gets them resized from {shape[1]}×{shape[2]} to {SMALL}×{SMALL}"
    models.by_name(architecture, shape=tuple(shape) if side is None else (shape[0], side, side), classes=classes)
    dense = architecture == "linear" or architecture.startswith("mlp")
    settings = Settings(
        architecture=architecture, epochs=epochs, early=max(1, epochs // 3), batch_size=batch,
        trial_epochs=epochs, trial_lr=0.1 if dense else 0.05,
    )  # fmt: skip
    return Choice(settings, side, why)


def prepared(x: Tensor, side: int | None = None, like: Tensor | None = None) -> Tensor:
    """Examples as networks get them: pictures resized to ``side`` pixels, everything standardized, float32."""
    resized = lambda x: functional.interpolate(x, (side, side), mode="area") if side and x is not None else x
    return standardized(resized(x), resized(like)).float()


def operations(settings: Settings, x: Tensor, k: int) -> float:
    """Operations of one pass of a network over x, there and back."""
    model = models.by_name(settings.architecture, shape=tuple(x.shape[1:]), classes=k)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x[:1])
    return 3 * counter.get_total_flops() * len(x)


def plan(settings: Settings, x: Tensor, k: int, *, minutes: float) -> tuple[Settings, int]:
    """How many networks are trained: EL2N's in the settings, and blocks of ten judges; by operations, not by clock."""
    once = 2 * BLOCK * settings.trial_epochs * operations(settings, x, k)  # a block for both labellings, and EL2N's
    blocks = 60 * minutes * RATE / once
    return replace(settings, networks=10 if blocks >= 1 else 1), int(np.clip(blocks, 1, MOST // BLOCK))


def held_out(y: Tensor, *, seed: int = 0) -> Tensor:
    """Who sees what in a block of judges, ``(10, n)`` bool: seven tenths each, and each row is left out by three.

    Example:
        >>> (~held_out(torch.arange(50) % 2)).sum(0).unique()
        tensor([3])
    """
    drawn = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    fold = torch.empty_like(drawn)
    fold[drawn[y[drawn].argsort(stable=True)]] = (torch.arange(len(y)) + seed) % BLOCK  # a class over all the folds
    return (fold - torch.arange(BLOCK)[:, None]) % BLOCK >= 3


def judge(x: Tensor, y: Tensor, settings: Settings, *, blocks: int, k: int, seed: int = 0, run: Run = Run()) -> Tensor:
    """Mean probabilities of networks that did not see the row, ``(r, n, k)``, of labellings ``y (r, n)``."""
    model = models.by_name(settings.architecture, shape=tuple(x.shape[1:]), classes=k)
    record, end, total = Record(errors_at=(settings.trial_epochs,), parameters=False), settings.trial_epochs, 0.0
    for b in range(blocks):
        sees = held_out(y[0], seed=seed * MOST + b)
        seeds = [BLOCK * (seed * MOST + b) + i for i in range(BLOCK)] * len(y)
        more = {"sees": sees.repeat(len(y), 1), "labels": y.repeat_interleave(BLOCK, 0), "record": record, "run": run}
        errors = ensemble.train(model, (x, y[0]), trial_recipe(settings), seeds, **more).errors[end]
        softmax = errors.view(len(y), BLOCK, *errors.shape[1:]).double() + functional.one_hot(y, k)[:, None]
        total = total + (softmax * ~sees[..., None]).sum(1)
    return (total / (3 * blocks)).clamp(0, 1)


def wrong_labels(p: Tensor, y: Tensor) -> Tensor:
    """Which labels confident learning counts as wrong, ``(n,)`` bool (Northcutt et al. 2021, off-diagonal of Q).

    A row counts for class j if its out-of-sample probability ``p (n, k)`` of j reaches the mean of the rows that bear
    the label j, the likeliest such class where several do. Counted is what counts for another class than its label,
    and has not its label as the likeliest of all. Right labels of odd examples are among them, but no row that is alone
    in its class: who did not see it knew of no such class.

    Example:
        >>> p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])
        >>> wrong_labels(p, torch.tensor([0, 0, 1, 1, 1]))
        tensor([False, False, False, False,  True])
    """
    own = functional.one_hot(y, p.shape[1]).to(p)
    level = (p * own).sum(0) / own.sum(0)  # NaN for a class without rows, which nothing reaches
    sure, call = torch.where(p >= level - 1e-6, p, -1.0).max(1)
    return (sure >= 0) & (call != y) & (p.argmax(1) != y) & (own.sum(0)[y] > 1)


def find_copies(x: Tensor, x_test: Tensor | None = None, *, near: float = NEAR) -> pd.DataFrame:
    """Pairs of rows that are the same, or nearly: ``kind, a, b, distance``, b earlier; test rows count on from n.

    Exact: equal in every value, all rows of a group with its first; in two parts, all with all. *Near*: closer than a
    share of the distance of either to its tenth neighbour: ``near``, or less in few dimensions, so that less than one
    pair is expected by chance. Pictures are compared by the angle between them, less their means (brightness and
    contrast do not matter), also with one of them *shifted* by a pixel or *mirrored*; features standardized. Beyond 64
    dimensions candidates come from 64 principal components. Cost: 1 (pictures 4) searches of n nearest neighbours.
    """
    n, every = len(x), x if x_test is None else torch.cat([x, x_test])
    flat = every.flatten(1).numpy() + 0.0  # −0 is 0
    group, _ = pd.factorize(np.array([row.tobytes() for row in flat], object))
    place = pd.Series(np.arange(len(group)))
    first, part = place.groupby(group).transform("min"), place >= n
    pairs = [pd.DataFrame({"kind": "exact", "a": place, "b": first, "distance": 0.0})[place > first]]
    both = place.to_frame("a").assign(group=group)
    across = both[part].merge(both[~part], on="group", suffixes=("", "_b"))
    pairs.append(pd.DataFrame({"kind": "exact", "a": across.a, "b": across.a_b, "distance": 0.0}))
    distinct = np.flatnonzero(place == first)
    if len(distinct) > 3 and near > 0:
        found = _near(every[distinct], near)
        members = both.assign(rep=first)  # what is near one of a group is near all of it
        found = found.assign(a=distinct[found.a], b=distinct[found.b]).merge(members, left_on="a", right_on="rep")
        found = found.drop(columns=["a_x", "rep", "group"]).rename(columns={"a_y": "a"})
        found = found.merge(members, left_on="b", right_on="rep", suffixes=("", "_m"))
        pairs.append(pd.DataFrame({"kind": found.kind, "a": found.a, "b": found.a_m, "distance": found.distance}))
    pairs = pd.concat(pairs)
    pairs = pairs.assign(a=np.maximum(pairs.a, pairs.b), b=np.minimum(pairs.a, pairs.b))
    return pairs.drop_duplicates(["a", "b"]).astype({"a": int, "b": int}).reset_index(drop=True)


def _near(x: Tensor, near: float) -> pd.DataFrame:
    def space(x):
        if x.ndim == 2:
            return standardized(x).float()
        flat = x.flatten(1)
        return functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)

    views = [("near", x, x)]
    if x.ndim == 4 and min(x.shape[2:]) > 1:  # of shifted ones what both show
        views += [("shifted", x[..., :-1], x[..., 1:]), ("shifted", x[..., :-1, :], x[..., 1:, :])]
        views += [("mirrored", x.flip(-1), x)]
    few = min(NEIGHBOURS, len(x) - 1)
    tables, scale = [], None
    for kind, query, base in views:
        z = space(base)
        w = z if query is base else space(query)
        brief = lambda v: v.numpy()
        if z.shape[1] > 64:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                axes = torch.pca_lowrank(z[torch.randperm(len(z))[:2000]], min(64, len(z)))[2]
            brief = lambda v, axes=axes: (v @ axes).numpy()
        search = NearestNeighbors(n_neighbors=few + 1).fit(brief(z))
        nearest = torch.from_numpy(search.kneighbors(brief(w), return_distance=False))
        rows = torch.arange(len(z)).split(max(1, 2**24 // z.shape[1] // few))
        apart = torch.cat([(w[r, None] - z[nearest[r]]).norm(dim=2) for r in rows])
        apart[nearest == torch.arange(len(z))[:, None]] = torch.inf
        if scale is None:
            ordered = apart.sort(1)[0]
            scale, half = ordered[:, few - 1], max(1, few // 2)
            spread = (scale / ordered[:, half - 1].clamp_min(1e-30)).log().median().clamp_min(1e-6)
            dimension = np.log(few / half) / float(spread) if half < few else 1.0
            near = min(near, (0.5 / (len(x) * few)) ** (1 / dimension))
        close = apart <= near * torch.minimum(scale[:, None], scale[nearest])
        a, j = close.nonzero(as_tuple=True)
        tables.append(pd.DataFrame({"kind": kind, "a": a, "b": nearest[a, j], "distance": apart[a, j]}))
    return pd.concat(tables, ignore_index=True)


def _by_index(pairs: pd.DataFrame, d: Dataset, index) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copies among the training rows, and leaks, as the caller names the rows."""
    n, y = len(d.y_train), torch.cat([d.y_train, d.y_test]).numpy()
    pairs = pairs.assign(same_label=y[pairs.a] == y[pairs.b])[["kind", "same_label", "distance", "a", "b"]]
    inside, leak = pairs[pairs.a < n], pairs[(pairs.a >= n) & (pairs.b < n)]
    named = lambda rows, own, other: rows.drop(columns=["a", "b"]).assign(of=other).set_index(own)
    of = d.rows_test.numpy()[leak.a - n]
    return named(inside, index[inside.a], index[inside.b]), named(leak, index[leak.b], of)


def _rows(name: str, values, index: pd.Index) -> Tensor:
    own, n = getattr(values, "index", None), len(index)
    counted = isinstance(own, pd.RangeIndex) and own.start == 0  # rows by number: taken in their order
    if isinstance(own, pd.Index) and not counted and not own.equals(index) and set(own) & set(index):
        raise ValueError(f"{name}: expected the rows in the order of the data, got another; say .loc[…] with its index")
    x = plain(values)
    if x.ndim != 2 or len(x) != n:
        raise ValueError(f"{name}: expected a row for each of the {n} examples, ({n}, …), got {x.shape}")
    x = torch.from_numpy(x.astype(float) if x.dtype.kind in "biuf" else np.full(x.shape, np.nan))
    if bad := (~x.isfinite().all(1)).nonzero().flatten().tolist():
        raise ValueError(f"{name}: expected finite numbers, got others in row {index[bad[0]]}")
    return x


def _given(p, classes: tuple[str, ...], index: pd.Index) -> Tensor:
    if isinstance(p, pd.DataFrame) and list(p) != list(range(len(classes))):
        if set(map(str, p)) != set(classes):
            got = ", ".join(map(str, p))
            raise ValueError(f"probabilities: expected columns called {', '.join(classes)}, got {got}")
        p = p.rename(columns=str)[list(classes)]
    p, k = _rows("probabilities", p, index), len(classes)
    off = ((p < 0).any(1) | ((p.sum(1) - 1).abs() > 1e-3)).nonzero().flatten().tolist()
    if p.shape[1] != k or off:
        got = f"{p.shape[1]} columns" if p.shape[1] != k else f"{p[off[0]].tolist()} in row {index[off[0]]}"
        raise ValueError(f"probabilities: expected {k} columns from 0 to 1, rows that add up to 1, got {got}")
    return p


def _crossfit(classifier, x: Tensor, y: Tensor, k: int, seed: int) -> Tensor:
    """Out-of-sample probabilities ``(n, k)``; a class that a fold lacks gets 0 there."""
    folds = StratifiedKFold(max(2, min(5, int(y.bincount().max()))), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            p = cross_val_predict(classifier, x.flatten(1).numpy(), y.numpy(), cv=folds, method="predict_proba")
        except Exception as error:
            expected = "expected a classifier that fits the data and has predict_proba"
            raise ValueError(f"probabilities: {expected}, got {classifier!r}: {error}") from error
    full = torch.zeros(len(y), k, dtype=torch.float64)
    full[:, y.unique()] = torch.from_numpy(p).double()
    return full


class _Callable(ModuleType):
    """``from lib import audit`` gives this module, which is called like its function."""

    def __call__(self, *args, **kwargs) -> Report:
        return audit(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
