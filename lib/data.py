"""Data sets as plain tensors: load one, choose rows and classes, add label noise.

Every example keeps the number of its row in the original file, because every score in the study is reported by it.
Nothing here depends on a global random state: a seed is passed in, and drawing is numpy's, whose streams are stable.
"""

import hashlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib import npz, sources
from lib.noise import permuted_noise, uniform_noise

__all__ = ["Dataset", "binary", "load", "permuted_noise", "uniform_noise"]

TEST_SHARE = 0.2  # of the rows of each class, where a set has no test part of its own
SPLIT, TRAIN, TEST = range(3)  # independent random streams of one seed


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples to train on and to test on.

    Images are float32 in [0, 1]; features are float32 as stored. To change a part use `dataclasses.replace`, for
    instance with ``y_train=noisy_y``: the hash follows.
    """

    x_train: Tensor  # (n, c, h, w), or (n, d) for features
    y_train: Tensor  # (n,) int64, 0…k−1
    x_test: Tensor
    y_test: Tensor
    rows_train: Tensor  # (n,) int64, row of each example in the original training file
    rows_test: Tensor  # likewise in the test file, or in the same one file where a set came unsplit
    classes: tuple[str, ...]  # k names in label order
    name: str

    @cached_property
    def sha256(self) -> str:
        """Hash of all the arrays and the class names: a cache key. Computed when first asked for (1.4 GB/s)."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for key in ("x_train", "y_train", "rows_train", "x_test", "y_test", "rows_test"):
            array = np.ascontiguousarray(getattr(self, key).detach().cpu().numpy())
            digest.update(f"{key} {array.dtype} {array.shape}".encode())
            digest.update(array)
        return digest.hexdigest()

    def __repr__(self) -> str:
        shape = "×".join(str(size) for size in self.x_train.shape[1:])
        rows = f"{len(self.y_train):,} training and {len(self.y_test):,} test examples"
        return f"Dataset({self.name}: {rows} of {shape}, {len(self.classes)} classes)"


def load(
    name: str | Path,
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    classes: Iterable[int | str] | None = None,
    seed: int = 0,
    root: str | Path | None = None,
) -> Dataset:
    """A data set, whole or in part.

    A set without a test part of its own gives a fifth of its rows to testing, class by class in proportion: the
    embedded sets always the same rows, an own file those that ``seed`` draws. A smaller number of rows is a random
    subset, class by class in proportion (at least one of each); of one seed, those of a balanced set are nested.

    Args:
        name: ``fashion-mnist``, ``mnist-5k``, ``digits``, ``iris`` (embedded); ``mnist``, ``kmnist``,
            ``emnist-letters``, ``cifar10``, ``svhn``, … (downloaded by torchvision once); or the path of an ``.npz``
            with ``x_train, y_train[, x_test, y_test][, classes]``, see `lib.npz.read`.
        n_train: training rows to keep, of the chosen classes; None keeps all.
        n_test: likewise for testing.
        classes: indices or names of the classes to keep, relabelled 0…k−1 in this order; None keeps all.
        seed: draws the subsets, and the split of an own file; at least 0.
        root: folder of the downloads, ``data/downloads`` if None.

    Returns:
        `Dataset`; rows stand in their original order.

    Raises:
        ValueError: for an unknown name or class, more rows than there are, or a bad file: what was expected, what came.
        RuntimeError: for a download that fails or is damaged; nothing half-written stays.

    Example:
        >>> load("fashion-mnist", n_train=1000, n_test=200, classes=["Shirt", "T-shirt/top"])
        Dataset(fashion-mnist: 1,000 training and 200 test examples of 1×28×28, 2 classes)
    """
    seed = _whole("seed", seed, at_least=0)
    source, split_seed = _source(name, seed, root)
    wanted = _class_indices(classes, source.classes)
    x, y, rows = source.x_train, source.y_train, np.arange(len(source.y_train))
    if source.x_test is None:
        test = _split(y, split_seed, source.classes)
        train = np.setdiff1d(rows, test)
        parts = (x[train], y[train], train), (x[test], y[test], test)
    else:
        parts = (x, y, rows), (source.x_test, source.y_test, np.arange(len(source.y_test)))
    ours = []
    for key, n, stream, part in zip(("n_train", "n_test"), (n_train, n_test), (TRAIN, TEST), parts, strict=True):
        x, y, rows = part
        keep, label = _relabel(y, wanted)
        if n is not None:
            chosen = _subset(label, _rows_asked(key, n, label, name), (seed, stream))
            keep, label = keep[chosen], label[chosen]
        pixels = torch.from_numpy(np.ascontiguousarray(x[keep])).to(torch.float32).div_(source.scale)
        ours.append((pixels, torch.from_numpy(label), torch.from_numpy(rows[keep])))
    (x_train, y_train, rows_train), (x_test, y_test, rows_test) = ours
    names = tuple(source.classes[c] for c in wanted)
    title = Path(name).stem if str(name).endswith(".npz") else str(name)
    return Dataset(x_train, y_train, x_test, y_test, rows_train, rows_test, names, title)


def binary(dataset: Dataset, a: int | str, b: int | str) -> Dataset:
    """The task of telling class ``a`` (label 0) from class ``b`` (label 1); rows keep their numbers.

    Example:
        >>> binary(load("mnist-5k"), 4, 9)
        Dataset(mnist-5k: 800 training and 200 test examples of 1×28×28, 2 classes)
    """
    wanted = _class_indices((a, b), dataset.classes)
    parts = {}
    for part in ("train", "test"):
        keep, label = (torch.from_numpy(v) for v in _relabel(getattr(dataset, f"y_{part}").cpu().numpy(), wanted))
        parts[f"x_{part}"] = getattr(dataset, f"x_{part}")[keep]
        parts[f"y_{part}"] = label.to(getattr(dataset, f"y_{part}").device)
        parts[f"rows_{part}"] = getattr(dataset, f"rows_{part}")[keep]
    return replace(dataset, **parts, classes=tuple(dataset.classes[c] for c in wanted))


def _source(name, seed, root):
    """The whole set, and the seed that splits it where it came unsplit."""
    if str(name).endswith(".npz"):
        return npz.read(Path(name).expanduser()), seed
    if name in sources.EMBEDDED:
        return sources.embedded(name), 0
    if name in sources.DOWNLOADED:
        return sources.downloaded(name, sources.DATA / "downloads" if root is None else Path(root).expanduser()), 0
    valid = ", ".join((*sources.EMBEDDED, *sources.DOWNLOADED))
    raise ValueError(f"name: expected one of {valid} or the path of an .npz file, got {name!r}")


def _class_indices(classes, names):
    """Indices of the classes asked for, in the order asked."""
    if classes is None:
        return list(range(len(names)))
    what = f"expected different ones of {', '.join(f'{i} ({c})' for i, c in enumerate(names))}"
    if isinstance(classes, str):
        raise ValueError(f"classes: {what}, as a list, got {classes!r}")
    wanted = []
    for c in classes:
        try:
            index = names.index(c) if isinstance(c, str) else operator.index(c)
        except (ValueError, TypeError):
            index = -1
        if not 0 <= index < len(names) or index in wanted or isinstance(c, bool):
            raise ValueError(f"classes: {what}, got {c!r}{' twice' if index in wanted else ''}")
        wanted.append(index)
    if not wanted:
        raise ValueError(f"classes: {what}, got none")
    return wanted


def _relabel(y, wanted):
    """Rows whose class is wanted, and their labels: the place of the class in ``wanted``."""
    label = np.full(max(y.max(), *wanted, 0) + 1, -1, np.int64)
    label[wanted] = np.arange(len(wanted))
    keep = np.flatnonzero(label[y] >= 0)
    return keep, label[y[keep]]


def _rows_asked(key, n, label, name):
    present = len(np.unique(label))
    n = _whole(key, n, at_least=1)
    if not present <= n <= len(label):
        raise ValueError(f"{key}: expected {present} (one of each class) to {len(label)} rows of {name}, got {n}")
    return n


def _whole(key, value, *, at_least):
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < at_least:
        raise ValueError(f"{key}: expected a whole number, at least {at_least}, got {value!r}")
    return operator.index(value)


def _split(y, seed, classes):
    """Rows that are for testing, where a set comes unsplit."""
    counts = np.bincount(y)
    if counts.min() < 2:
        few = [classes[c] for c in np.flatnonzero(counts < 2)[:5]]
        raise ValueError(f"y_train: expected two rows or more of each class to split off a test set, got one of {few}")
    return _subset(y, max(round(TEST_SHARE * len(y)), len(counts)), (seed, SPLIT))


def _subset(y, n, seed):
    """A stratified random subset, ascending: each row draws a uniform key, a class gives its rows of smallest key."""
    key = np.random.default_rng(seed).random(len(y))
    order = np.lexsort((key, y))
    counts = np.bincount(y)
    starts = np.cumsum(counts) - counts
    quotas = _quotas(counts, n)
    return np.sort(np.concatenate([order[s : s + q] for s, q in zip(starts, quotas, strict=True)]))


def _quotas(counts, n):
    """Members of each class among n: whole, in proportion (largest remainders), at least one of a class that exists."""
    ideal = counts * (n / counts.sum())
    quota = np.clip(np.floor(ideal).astype(np.int64), np.minimum(counts, 1), counts)
    while quota.sum() > n:
        quota[np.argmax(np.where(quota > 1, quota - ideal, -np.inf))] -= 1
    while quota.sum() < n:
        quota[np.argmax(np.where(quota < counts, ideal - quota, -np.inf))] += 1
    return quota
