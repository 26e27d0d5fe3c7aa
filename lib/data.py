"""Data sets as plain tensors: load one, choose rows and classes, add label noise.

Every example keeps the number of its row in the original file, because every score in the study is reported by it.
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

from lib import sources

TEST_SHARE = 0.2  # of the rows of each class, where a set has no test part of its own
SPLIT_SEED = 0  # of the embedded sets, whatever ``seed`` says: their split never changes


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples to train and to test on.

    Images are float32 in [0, 1]; features are float32 as stored. Use `dataclasses.replace` to change a part
    (say, ``y_train``): the hash follows.
    """

    x_train: Tensor  # (n, c, h, w), or (n, d) for features
    y_train: Tensor  # (n,) int64 in 0…k−1
    x_test: Tensor
    y_test: Tensor
    rows_train: Tensor  # (n,) int64, row of each example in the original training file
    rows_test: Tensor  # likewise in the test file; in the same one file where the set came unsplit
    classes: tuple[str, ...]  # names in label order
    name: str

    @cached_property
    def sha256(self) -> str:
        """Hash of all the arrays and the class names, a cache key. Computed once, when first asked for."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for key in ("x_train", "y_train", "rows_train", "x_test", "y_test", "rows_test"):
            array = np.ascontiguousarray(getattr(self, key).detach().cpu().numpy())
            digest.update(f"{key} {array.dtype} {array.shape}".encode())
            digest.update(array)
        return digest.hexdigest()

    def __repr__(self) -> str:
        shape = "×".join(str(s) for s in self.x_train.shape[1:])
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
    source = sources.embedded(name)
    wanted = _class_indices(classes, source.classes)
    parts = [(source.x_train, source.y_train, np.arange(len(source.y_train)))]
    if source.x_test is None:
        x, y, rows = parts[0]
        test = _draw(y, _quotas(np.bincount(y), round(TEST_SHARE * len(y))), [SPLIT_SEED, 0])
        train = np.setdiff1d(rows, test)
        parts = [(x[train], y[train], train), (x[test], y[test], test)]
    else:
        parts.append((source.x_test, source.y_test, np.arange(len(source.y_test))))
    out = []
    for tag, n, (x, y, rows) in zip((1, 2), (n_train, n_test), parts, strict=True):
        keep, label = _relabel(y, wanted)
        if n is not None:
            chosen = _draw(label, _quotas(np.bincount(label, minlength=len(wanted)), n), [seed, tag])
            keep, label = keep[chosen], label[chosen]
        x = torch.from_numpy(x[keep]).to(torch.float32)
        out.append((x.div_(source.scale), torch.from_numpy(label), torch.from_numpy(rows[keep])))
    (x_train, y_train, rows_train), (x_test, y_test, rows_test) = out
    names = tuple(source.classes[c] for c in wanted)
    return Dataset(x_train, y_train, x_test, y_test, rows_train, rows_test, names, str(name))


def _class_indices(classes, names):
    if classes is None:
        return list(range(len(names)))
    return [names.index(c) if isinstance(c, str) else operator.index(c) for c in classes]


def _relabel(y, wanted):
    table = np.full(max(y.max() + 1, max(wanted) + 1), -1, np.int64)
    table[wanted] = np.arange(len(wanted))
    label = table[y]
    keep = np.flatnonzero(label >= 0)
    return keep, label[keep]


def _quotas(counts, n):
    """Members of each class among n: in proportion, whole, at least one of each class that there is."""
    ideal = counts * n / counts.sum()
    quota = np.clip(np.floor(ideal).astype(np.int64), np.minimum(counts, 1), counts)
    while quota.sum() > n:
        quota[np.argmax(np.where(quota > 1, quota - ideal, -np.inf))] -= 1
    while quota.sum() < n:
        quota[np.argmax(np.where(quota < counts, ideal - quota, -np.inf))] += 1
    return quota


def _draw(y, quotas, seed):
    """Rows, ascending: each row gets a uniform key and a class gives its rows with the smallest keys."""
    key = np.random.default_rng(seed).random(len(y))
    order = np.lexsort((key, y))
    starts = np.searchsorted(y[order], np.arange(len(quotas)))
    return np.sort(np.concatenate([order[s : s + q] for s, q in zip(starts, quotas, strict=True)]))
