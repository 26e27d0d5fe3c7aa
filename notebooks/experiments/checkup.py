"""Notebook 08: what is wrong with a data set, before training (copies, contradictions, gaps) and with its labels?

Two examples are *near-duplicates* where they are much closer to each other than examples usually are to their nearest
one: pictures by the angle between their pixels (a brighter copy is a copy), feature vectors by the distance between
their standardized features. The judges of a label are networks that never saw its example, each trained on a random
part of the rows. How good they are is measured by flipping some labels on purpose and looking how many are found.
"""

import hashlib
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import chi2
from torch import Tensor

from lib import statistics
from lib.statistics import standardized

NONE = -1  # in place of a row: there is no such example
FEW = 6  # rows that a line of the table names
BLOCK = 2048


@dataclass(frozen=True)
class Checkup:
    """What was looked at, and what was found."""

    findings: pd.DataFrame  # a line a check: finding, found (how many), rows (the first of them), advice
    flags: pd.DataFrame  # a line a training example: row, label, and what is the matter with it
    pairs: pd.DataFrame  # a line a pair of copies: kind, a, b (positions), part (of b), same_label, distance


def checkup(x: Tensor, y: Tensor, *, x_test=None, y_test=None, rows=None, rows_test=None, near: float = 0.1) -> Checkup:
    """Look a data set over; nothing is changed, and a check that finds nothing says so.

    Args:
        x: pictures ``(n, c, h, w)``, as a rule in [0, 1], or feature vectors ``(n, d)``; examples with values that are
            not finite are left out of the search for copies. y: labels ``(n,)``, 0…k−1.
        x_test, y_test: likewise, if there are any.
        rows, rows_test: original row of each example, by which it is named; its position where left out.
        near: how close near-duplicates are, as a share of the median distance to the nearest other example.

    Flags are ``duplicate_of`` and ``near_duplicate_of`` (the row of an earlier example, −1 for none), ``contradicted``
    (a copy or near copy has another label), ``in_test`` (the row of a test example that is a copy or a near copy, −1),
    ``constant`` and ``not_finite``. Cost: one n × (n + n_test) product, 2,048 rows at a time.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [2.0, 2.0], [0.0, 1.0], [5.0, 3.0]])
        >>> checkup(x, torch.tensor([0, 0, 1, 1])).flags.contradicted.tolist()
        [True, False, True, False]
    """
    x, y, x_test, y_test = _checked(x, y, x_test, y_test=y_test, near=near)
    rows, rows_test = _rows(rows, y), _rows(rows_test, y_test)
    finite, finite_test = (torch.isfinite(features.flatten(1)).all(1) for features in (x, x_test))
    flat = x.flatten(1)
    still = finite & (flat.amax(1) == flat.amin(1)) & torch.tensor(flat.shape[1] > 1)
    pairs = _pairs(x, y, x_test, y_test=y_test, usable=finite & ~still, usable_test=finite_test, near=near)
    flags = _flags(pairs, rows, rows_test, y=y, still=still, broken=~finite)
    what = "pictures of " + "×".join(map(str, x.shape[1:])) if x.ndim == 4 else f"feature vectors of {x.shape[1]}"
    lines = [
        (f"training examples, {what}, {int(y.max()) + 1} classes", len(x), "", "–"),
        ("test examples", len(x_test), "", "–" if len(x_test) else "none given: nothing to judge by"),
        _line("values that are not finite", rows[~finite.numpy()], "repair or leave out: nothing can be trained on it"),
        _range(x[finite], rows),
        _line("constant examples", rows[still.numpy()], "look at them: an empty picture or record has no content"),
        _constant_features(flat[finite]),
        *_copies(pairs, rows, rows_test),
        *_classes(y, y_test),
    ]
    return Checkup(pd.DataFrame(lines, columns=["finding", "found", "rows", "advice"]), flags, pairs)


def refuse(x: Tensor, y: Tensor, *, least: int = 20) -> None:
    """Raise ValueError where no score can be had: one class, a class of one, fewer than ``least`` rows, NaN."""
    counts = torch.bincount(y)
    if (counts > 0).sum() < 2:
        raise ValueError(f"y_train: expected two classes at least, got {int((counts > 0).sum())} in {len(y)} rows")
    if len(y) < least:
        raise ValueError(f"x_train: expected {least} rows at least to learn anything from, got {len(y)}")
    if counts[counts > 0].min() < 2:
        alone = int((counts == 1).nonzero()[0])
        row = int((y == alone).nonzero()[0])
        raise ValueError(f"y_train: expected two rows or more of each class, got one of class {alone} (position {row})")
    if bad := (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten().tolist():
        raise ValueError(f"x_train: expected finite values, got NaN or infinity at positions {bad[:5]}")


def _checked(x, y, x_test, y_test, near):
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    if (x_test is None) != (y_test is None):
        raise ValueError("x_test and y_test: expected both or neither, got one of them")
    x_test = x[:0] if x_test is None else torch.as_tensor(x_test)
    y_test = y[:0] if y_test is None else torch.as_tensor(y_test)
    for part, features, labels in (("train", x, y), ("test", x_test, y_test)):
        fit = features.ndim in (2, 4) and labels.shape == features.shape[:1]
        if not fit or not features.is_floating_point() or labels.is_floating_point() or labels.dtype == torch.bool:
            expected = f"x_{part}, y_{part}: expected floats (n, c, h, w) or (n, d) and whole numbers (n,)"
            came = f"{features.dtype} {tuple(features.shape)} and {labels.dtype} {tuple(labels.shape)}"
            raise ValueError(f"{expected}, got {came}")
    if not len(y) or y.min() < 0 or x_test.shape[1:] != x.shape[1:]:
        what = f"x_train {tuple(x.shape)}, x_test {tuple(x_test.shape)}, labels from {y.min() if len(y) else None}"
        raise ValueError(f"expected one row at least, labels from 0, and tests like the training examples, got {what}")
    if not 0 <= near < 1:
        raise ValueError(f"near: expected a share of the usual distance, 0 ≤ near < 1, got {near}")
    return x, y.long(), x_test, y_test.long()


def _rows(rows, y) -> np.ndarray:
    rows = np.arange(len(y)) if rows is None else np.asarray(rows)
    if rows.shape != (len(y),):
        raise ValueError(f"rows: expected one for each example, ({len(y)},), got {rows.shape}")
    return rows


def _pairs(x, y, x_test, y_test, usable, usable_test, near) -> pd.DataFrame:
    """Each example that is a copy of an earlier one or of a test example, and those whose nearest other is near."""
    flat = [np.ascontiguousarray(features.flatten(1).numpy()) + 0.0 for features in (x, x_test)]  # −0 is 0
    hashes, hashes_test = ([hashlib.blake2b(row, digest_size=16).digest() for row in part] for part in flat)
    first, earlier, copies = {}, np.full(len(x), NONE), []
    for i in usable.nonzero().flatten().tolist():
        earlier[i] = first.setdefault(hashes[i], i)
        if earlier[i] != i:
            copies.append(("exact", i, int(earlier[i]), "train", 0.0))
    copies += [("exact", first[h], j, "test", 0.0) for j, h in enumerate(hashes_test) if h in first]
    distinct = torch.from_numpy(np.flatnonzero(earlier == np.arange(len(x))))
    others = [j for j in usable_test.nonzero().flatten().tolist() if hashes_test[j] not in first]
    if near > 0 and len(distinct) > 2:
        space, space_test = _space(x[distinct], x_test[others])
        nearest, distance = _nearest(space, space, same=True)
        close = near * float(distance.median())
        for i in (distance <= close).nonzero().flatten().tolist():
            a, b = int(distinct[max(i, nearest[i])]), int(distinct[min(i, nearest[i])])
            copies.append(("near", a, b, "train", float(distance[i])))
        if others:
            nearest, distance = _nearest(space_test, space, same=False)
            for j in (distance <= close).nonzero().flatten().tolist():
                copies.append(("near", int(distinct[nearest[j]]), others[j], "test", float(distance[j])))
    pairs = pd.DataFrame(copies, columns=["kind", "a", "b", "part", "distance"]).drop_duplicates(["a", "b", "part"])
    other = [int(y[b] if part == "train" else y_test[b]) for b, part in zip(pairs.b, pairs.part, strict=True)]
    same = y.numpy()[pairs.a.to_numpy(int)] == np.array(other, int)
    return pairs.assign(same_label=same).reset_index(drop=True)


def _space(x: Tensor, x_test: Tensor) -> tuple[Tensor, Tensor]:
    """Where closeness is looked at: directions of pictures, standardized features."""
    if x.ndim == 4:
        return tuple(torch.nn.functional.normalize(part.flatten(1).double(), dim=1).float() for part in (x, x_test))
    return standardized(x).double(), standardized(x_test, x).double()


def _nearest(a: Tensor, b: Tensor, *, same: bool) -> tuple[Tensor, Tensor]:
    """For each row of a the nearest one of b (another one, where they are the same set), and its distance."""
    index, squares = [], (b * b).sum(1)
    for rows in torch.arange(len(a)).split(BLOCK):
        closeness = 2 * a[rows] @ b.T - squares
        if same:
            closeness[torch.arange(len(rows)), rows] = -torch.inf
        index.append(closeness.argmax(1))
    nearest = torch.cat(index)
    apart = [(a[r] - b[nearest[r]]).double().norm(dim=1) for r in torch.arange(len(a)).split(BLOCK)]
    return nearest, torch.cat(apart)


def _flags(pairs, rows, rows_test, y, still, broken) -> pd.DataFrame:
    flags = pd.DataFrame({"row": rows, "label": y.numpy()})
    flags = flags.assign(duplicate_of=NONE, near_duplicate_of=NONE, in_test=NONE, contradicted=False)
    for pair in pairs.itertuples():
        if pair.part == "test":
            flags.loc[pair.a, "in_test"] = rows_test[pair.b]
        else:
            flags.loc[pair.a, "duplicate_of" if pair.kind == "exact" else "near_duplicate_of"] = rows[pair.b]
        if not pair.same_label:
            flags.loc[[pair.a] + ([pair.b] if pair.part == "train" else []), "contradicted"] = True
    return flags.assign(constant=still.numpy(), not_finite=broken.numpy())


def _line(finding: str, rows, advice: str, *, found: int | None = None) -> tuple:
    """One check; ``rows`` are shown, ``found`` counts where rows cannot."""
    found = len(rows) if found is None else found
    named = [str(row) for row in rows[:FEW]]
    return finding, found, ", ".join(named) + (" …" if len(rows) > FEW else ""), advice if found else "–"


def _range(x, rows) -> tuple:
    if not len(x):
        return _line("values out of range", [], "")
    if x.ndim == 4:
        low, high = float(x.min()), float(x.max())
        strange = high <= 0.1 or low < 0 or high > 1
        advice = "pictures should fill 0 to 1: divided by 255 twice, or not at all?"
        return _line(f"values from {low:.3g} to {high:.3g}", [], advice, found=int(strange))
    spread = x.double().std(0, correction=0)
    spread = spread[spread > 0]
    ratio = float(spread.max() / spread.min()) if len(spread) else 1.0
    scaled = f"features on different scales (spreads up to {ratio:.3g} to 1)"
    return _line(scaled, [], "they are standardized below", found=int(ratio > 10))


def _constant_features(flat) -> tuple:
    still = (flat.amax(0) == flat.amin(0)).nonzero().flatten().tolist() if len(flat) else []
    advice = "harmless, and of no use; with many, look whether the file was read rightly"
    finding, found, which, advice = _line("features (pixels) with one value in all examples", still, advice)
    return finding, found, f"columns {which}" if found else "", advice


def _copies(pairs, rows, rows_test) -> list[tuple]:
    leave = "keep one of each: the others teach nothing, and count twice"
    look = "one of the two labels is wrong, or both are right and the examples cannot tell"
    leak = "take them out of the training part: the test would ask what was taught"
    lines = []
    for part, kind, same in itertools.product(("train", "test"), ("exact", "near"), (True, False)):
        alike = pairs[(pairs.kind == kind) & (pairs.part == part) & (pairs.same_label == same)]
        others, where = (rows, "") if part == "train" else (rows_test, ", in training and test")
        named = [f"{rows[a]} = {others[b]}" for a, b in zip(alike.a, alike.b, strict=True)]
        advice = leak if part == "test" else leave if same else look
        lines.append(_line(f"{kind} copies{where}{'' if same else ' with different labels'}", named, advice))
    return lines


def _classes(y, y_test) -> list[tuple]:
    counts = torch.bincount(y)
    fair = len(y) / len(counts)
    small = (counts < 0.5 * fair).nonzero().flatten().tolist()
    named = [f"class {c}: {int(counts[c])}" for c in small]
    text = f"classes with less than half of a fair share ({fair:.0f} rows; smallest {int(counts.min())})"
    few = _line(text, named, "read accuracy class by class; prune class by class")
    absent = [f"class {c}" for c in range(len(counts)) if not (y_test == c).any()]
    untested = _line("classes without a test example", absent, "nothing is known of them from the test")
    return [few, untested] if len(y_test) else [few]


class Votes(NamedTuple):
    """What networks say of the examples that they were not trained on."""

    probability: Tensor  # (n, k) float64, mean softmax; NaN where every network saw the example
    error: Tensor  # (n, k) float64, standard error of that mean over networks; NaN with fewer than two
    networks: Tensor  # (n,) int64, how many there are


class Probe(NamedTuple):
    """What a flag was worth on labels that were flipped on purpose: ``(share, (low, high))`` each."""

    found: tuple  # of the flipped labels, the share flagged
    alarms: tuple  # of the other labels, the share flagged; those that were wrong before are among them
    precision: tuple  # of the flags, the share on flipped labels
    right: tuple  # of the flipped labels that are flagged, the share whose suggestion is the label before


def held_out_sums(member_sees: Tensor, errors: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count ``(n,)``, sum and sum of squares ``(n, k)`` of the softmax of networks that did not see an example.

    ``errors`` are softmax minus one-hot label, ``(t, n, k)``, as ``Record(errors_at=…)`` keeps them; ``y (n,)`` the
    labels that were trained on.
    """
    n, k = errors.shape[1:]
    label = torch.nn.functional.one_hot(y.long(), k).double()
    count, total, squares = torch.zeros(n, dtype=torch.float64), torch.zeros(n, k).double(), torch.zeros(n, k).double()
    for sees, error in zip(member_sees, errors, strict=True):
        softmax = torch.where(sees[:, None], 0.0, error.double() + label)
        count, total, squares = count + ~sees, total + softmax, squares + softmax**2
    return count, total, squares


def votes(sums: list[tuple[Tensor, Tensor, Tensor]]) -> Votes:
    """The votes that blocks of :func:`held_out_sums` add up to.

    Example:
        >>> sees = torch.tensor([[True, False], [False, True]])
        >>> right = torch.zeros(2, 2, 2)  # no errors: each network sure of each label
        >>> votes([held_out_sums(sees, right, torch.tensor([0, 1]))]).probability
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    count, total, squares = (sum(parts) for parts in zip(*sums, strict=True))
    mean = total / count[:, None]  # 0/0 = NaN
    variance = (squares / count[:, None] - mean**2).clamp_min(0.0)
    error = (variance / (count - 1).clamp_min(0.0)[:, None]).sqrt()
    return Votes(mean, torch.where(count[:, None] > 1, error, torch.nan), count.long())


def suggestions(judged: Votes, y: Tensor, *, sure: float = 0.5) -> pd.DataFrame:
    """A line an example: what its label should be by those who never saw it, and whether it is flagged.

    ``sure`` is the mean probability that another class must reach for a flag. Columns: ``label, suggested`` (the
    likeliest class, −1 without votes), ``p_label, p_label_error, p_suggested``, ``doubt`` = 1 − p_label (NaN without
    votes), ``suspect`` (bool).
    """
    if not 0 < sure <= 1:
        raise ValueError(f"sure: expected a probability, 0 < sure ≤ 1, got {sure}")
    known = judged.networks > 0
    best, suggested = judged.probability.nan_to_num(-1.0).max(1)
    p_label = judged.probability.gather(1, y[:, None])[:, 0]
    columns = {
        "label": y, "suggested": torch.where(known, suggested, -1), "p_label": p_label,
        "p_label_error": judged.error.gather(1, y[:, None])[:, 0], "p_suggested": torch.where(known, best, torch.nan),
        "doubt": 1 - p_label, "suspect": known & (suggested != y) & (best >= sure),
    }  # fmt: skip
    return pd.DataFrame({name: value.numpy() for name, value in columns.items()})


def filled(score: Tensor) -> Tensor:
    """The score with its median where it has no value, so that such examples rank neither high nor low.

    Example:
        >>> filled(torch.tensor([1.0, torch.nan, 5.0, 2.0]))
        tensor([1., 2., 5., 2.])
    """
    return torch.where(score.isnan(), score.nanmedian(), score)


def flip_detection(scores: dict, flipped: Tensor) -> pd.DataFrame:
    """How well each score ``(n,)`` tells flipped labels ``(n,)`` from the others, high = suspicious; best first.

    Columns ``score, auroc, low, high`` (95%), ``precision`` among as many of the highest as labels were flipped
    (chance: their share).
    """
    lines, flips = [], int(flipped.sum())
    for name, score in scores.items():
        value, (low, high) = statistics.auroc(np.asarray(score), flipped.numpy())
        top = torch.as_tensor(np.asarray(score)).argsort(descending=True, stable=True)[:flips]
        lines.append((name, value, low, high, float(flipped[top].double().mean())))
    columns = ["score", "auroc", "low", "high", "precision"]
    return pd.DataFrame(lines, columns=columns).sort_values("auroc", ascending=False, ignore_index=True)


def probe(suggested: pd.DataFrame, flipped: Tensor, before: Tensor) -> Probe:
    """What flags (``suggested`` with flipped labels) were worth, by the labels ``before``; Wilson's 95% intervals."""
    flipped, flagged = flipped.numpy(), suggested.suspect.to_numpy()
    right = suggested.suggested.to_numpy() == before.numpy()
    share = lambda flags: statistics.share(flags) if len(flags) else (np.nan, (0.0, 1.0))
    marks = (flagged[flipped], flagged[~flipped], flipped[flagged], right[flipped & flagged])
    return Probe(*[share(flags) for flags in marks])


def precision_at(measured: Probe, rate: float) -> float:
    """Share of flags that are right in data with a share ``rate`` of wrong labels, found as easily as the flipped.

        rate · found / (rate · found + (1 − rate) · alarms)

    On the careful side, as long as real errors are as easy to find as random flips: alarms count what was wrong before.

    Example:
        >>> sure = (0.9, (0.8, 0.95))
        >>> round(precision_at(Probe(sure, (0.01, (0.0, 0.02)), sure, sure), 0.01), 3)
        0.476
    """
    found, alarms = measured.found[0], measured.alarms[0]
    every = rate * found + (1 - rate) * alarms
    return rate * found / every if every else float("nan")


def most_wrong(flags: int, measured: Probe) -> float:
    """The most wrong labels that some number of flags leaves room for, were they found as easily as the flipped ones.

    The number u for which no more than ``flags`` Poisson events of mean u have a chance of 5%, over the lower end of
    the share found; infinite where nothing was surely found.

    Example:
        >>> surely = (1.0, (1.0, 1.0))
        >>> round(most_wrong(0, Probe(surely, surely, surely, surely)), 2)
        3.0
    """
    low = measured.found[1][0]
    return float(chi2.ppf(0.95, 2 * (flags + 1)) / 2 / low) if low > 0 else float("inf")
