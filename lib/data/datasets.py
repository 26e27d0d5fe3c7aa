"""Data sets as plain tensors: load one, and choose rows and classes.

Examples come from files kept in ``data/``, scikit-learn, torchvision's downloads, or what a reader brings
(`lib.data.own`), as a `Source`: arrays as they are stored, checked before any row is chosen or scaled. Every example
keeps the number of its row in the original, because every score is reported by it. Drawing is numpy's.
"""

import gzip
import hashlib
import math
import operator
import socket
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.data import own
from lib.data.own import Source
from lib.store import expanded

DATA = Path(__file__).resolve().parents[2] / "data"
DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FASHION_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
TIMEOUT = 60.0  # seconds without a byte until a download is given up
TEST_SHARE = 0.2  # of the rows of each class, where a set has no test part of its own
SPLIT, TRAIN, TEST = range(3)  # independent random streams of one seed
EMBEDDED = ("fashion-mnist", "mnist-5k", "digits", "iris")
DOWNLOADED = {  # name: (torchvision class, its split argument where it has one)
    "mnist": ("MNIST", None), "kmnist": ("KMNIST", None), "emnist-letters": ("EMNIST", "letters"),
    "emnist-digits": ("EMNIST", "digits"), "emnist-balanced": ("EMNIST", "balanced"), "usps": ("USPS", None),
    "svhn": ("SVHN", None), "cifar10": ("CIFAR10", None), "cifar100": ("CIFAR100", None),
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples to train on and to test on.

    Images are float32 in [0, 1]; features are as stored, the reader's own in float64. To change a part use
    `dataclasses.replace`, for instance with ``y_train=noisy_y``: the hash follows.
    """

    x_train: Tensor  # (n, c, h, w), or (n, d) for features
    y_train: Tensor  # (n,) int64, 0…k−1
    x_test: Tensor
    y_test: Tensor
    rows_train: Tensor  # (n,) int64, row of each example in the original training file
    rows_test: Tensor  # likewise in the test file, or in the same one file where a set came unsplit
    classes: tuple[str, ...]  # k names in label order
    name: str
    index: pd.Index | None = None  # what the caller calls the rows of the original; None = their numbers
    columns: tuple[str, ...] = ()  # names of the features, if there are any
    unsplit: bool = False  # whether the original had no test part
    note: str = ""  # how many rows were left out for missing values, where and of which labels, or what was filled in

    @property
    def index_train(self) -> pd.Index:
        """What the caller calls the training examples."""
        rows = self.rows_train.numpy()
        return pd.Index(rows, name="row") if self.index is None else self.index[rows]

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
    name, label=None, *, n_train: int | None = None, n_test: int | None = None,
    classes: Iterable[int | str] | None = None, seed: int = 0, root: str | Path | None = None,
    split: bool = True, **options,
) -> Dataset:  # fmt: skip
    """A data set, whole or in part.

    A set without a test part gives a fifth of its rows to testing, class by class in proportion: the embedded sets
    always the same rows, an own file those that ``seed`` draws. A smaller number of rows is a random subset, class by
    class in proportion (at least one of each); of one seed, those of a balanced set are nested.

    Args:
        name: ``fashion-mnist``, ``mnist-5k``, ``digits``, ``iris`` (embedded); ``mnist``, ``kmnist``,
            ``emnist-letters``, ``cifar10``, ``svhn``, … (downloaded by torchvision once); or your own: the path of a
            .csv, .parquet or .npz file or of a folder of pictures, a DataFrame, a Bunch or arrays; what they hold, and
            what ``label`` (the column of labels) and ``options`` are for, see `lib.data.own.source`.
        n_train, n_test: rows to keep for training and for testing, of the chosen classes; None keeps all.
        classes: indices or names of the classes to keep, relabelled 0…k−1 in this order; None keeps all.
        seed: draws the subsets, and the split of an own file; at least 0.
        root: folder of the downloads, ``data/downloads`` if None. split: whether to set a test part aside where there
            is none; else all rows are for training.

    Returns: `Dataset`; rows stand in their original order.

    Raises:
        ValueError: for an unknown name or class, more rows than there are, or a bad file: what was expected, what came.
        RuntimeError: for a download that fails or is damaged; nothing half-written stays.

    Example:
        >>> load("fashion-mnist", n_train=1000, n_test=200, classes=["Shirt", "T-shirt/top"])
        Dataset(fashion-mnist: 1,000 training and 200 test examples of 1×28×28, 2 classes)
    """
    seed = _whole("seed", seed, at_least=0)
    source, split_seed = _source(name, seed, root, label=label, **options)
    wanted = _class_indices(classes, source.classes)
    every = np.arange(len(source.y_train))
    if source.x_test is None:
        test = _split(source.y_train, split_seed, source.classes) if split else every[:0]
        train = np.setdiff1d(every, test)
        parts = [(source.x_train[rows], source.y_train[rows], rows) for rows in (train, test)]
    else:
        parts = [(source.x_train, source.y_train, every), (source.x_test, source.y_test, np.arange(len(source.y_test)))]
    asked = (("n_train", n_train, TRAIN), ("n_test", n_test, TEST))
    tensors = []
    for (key, n, stream), (x, y, rows) in zip(asked, parts, strict=True):
        keep, label = _relabel(y, wanted)
        if n is not None:
            n, each = _whole(key, n, at_least=1), len(np.unique(label))
            if not each <= n <= len(label):
                raise ValueError(f"{key}: expected {each} (one of each class) to {len(label)} rows of {name}, got {n}")
            chosen = _subset(label, n, (seed, stream))
            keep, label = keep[chosen], label[chosen]
        kind = np.float64 if x.dtype == np.float64 else np.float32
        pixels = torch.from_numpy(np.array(x[keep], kind)).div_(source.scale)
        tensors.append((pixels, torch.from_numpy(label), torch.from_numpy(rows[keep])))
    (x_train, y_train, rows_train), (x_test, y_test, rows_test) = tensors
    names = tuple(source.classes[c] for c in wanted)
    title = Path(name).stem if isinstance(name, str | Path) else "data"
    about = {"index": source.index, "columns": source.columns, "unsplit": source.x_test is None, "note": source.note}
    return Dataset(x_train, y_train, x_test, y_test, rows_train, rows_test, names, title, **about)


def _source(name, seed, root, **options):
    """The whole set, and the seed that splits it where it came unsplit."""
    if isinstance(name, str) and name in (*EMBEDDED, *DOWNLOADED):
        own.refuse_options(**options)
        return embedded(name) if name in EMBEDDED else downloaded(name, expanded(root or DATA / "downloads")), 0
    if isinstance(name, str | Path) and not Path(name).suffix and not expanded(name).is_dir():
        valid = ", ".join((*EMBEDDED, *DOWNLOADED))
        raise ValueError(f"name: expected one of {valid} or the path of a file or folder, got {name!r}")
    return own.source(name, **options), seed


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
    label = np.full(max(y.max(initial=0), *wanted) + 1, -1, np.int64)
    label[wanted] = np.arange(len(wanted))
    keep = np.flatnonzero(label[y] >= 0)
    return keep, label[y[keep]]


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


def embedded(name: str) -> Source:
    """One of the four sets that need no network (see ``data/README.md``)."""
    if name == "fashion-mnist":
        x_train, y_train, x_test, y_test = (_idx(DATA / name / f"{part}-ubyte.gz") for part in FASHION_FILES)
        train, test = ((x[:, None], y.astype(np.int64)) for x, y in ((x_train, y_train), (x_test, y_test)))
        return Source(*train, *test, FASHION, 255.0)
    if name == "mnist-5k":
        table = _kept(DATA / name / "mnist_5k.csv.gz", lambda path: np.loadtxt(path, delimiter=",", dtype=np.uint8))
        return Source(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64), None, None, DIGITS, 255.0)
    from sklearn.datasets import load_digits, load_iris

    bunch = load_digits() if name == "digits" else load_iris()
    y = bunch.target.astype(np.int64)
    if name == "digits":
        return Source(bunch.images[:, None].astype(np.uint8), y, None, None, DIGITS, 16.0)
    return Source(bunch.data.astype(np.float32), y, None, None, tuple(map(str, bunch.target_names)), 1.0)


def _idx(path):
    """A gzipped IDX file of unsigned bytes: 0x0000080d for d axes, d big-endian sizes, the values."""
    raw = _kept(path, lambda path: gzip.decompress(path.read_bytes()))
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes (000008…), got {raw[:4].hex()}")
    shape = tuple(np.frombuffer(raw, ">u4", count=raw[3], offset=4).tolist())
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if len(values) != math.prod(shape):
        raise ValueError(f"{path}: expected {shape} values, got {len(values)}")
    return values.reshape(shape)


def _kept(path, reader):
    cure = "`python data/make_data.py` makes it again"
    if not path.is_file():  # a named pipe would be waited for for ever
        raise ValueError(f"{path} is missing; {cure}")
    try:
        return reader(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from None


def downloaded(name: str, root: Path) -> Source:
    """One of torchvision's own sets, downloaded once into ``root`` (torchvision checks the MD5) and kept there.

    It gets its name when it is whole: a download that is broken off leaves nothing that looks like a data set.

    Raises: RuntimeError if the download fails or has the wrong checksum, or if the kept copy is damaged.
    """
    folder = root / DOWNLOADED[name][0].lower()
    if not folder.exists():
        _download(name, folder)
    try:
        parts = [_torchvision(name, folder, train=train) for train in (True, False)]
    except Exception as error:  # whatever a broken file makes torchvision, pickle or scipy say
        cure = "delete that folder and load again"
        raise RuntimeError(f"the copy of {name} in {folder} is damaged ({_brief(error)}); {cure}") from None
    (x_train, y_train, classes), (x_test, y_test, _) = (_arrays(name, part) for part in parts)
    return Source(x_train, y_train, x_test, y_test, classes, 255.0)


def _download(name, folder):
    patience = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none: a silent server would be waited for for ever
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = {"prefix": f".{name}-", "dir": folder.parent, "ignore_cleanup_errors": True}
        with tempfile.TemporaryDirectory(**beside) as temporary:
            whole = Path(temporary) / folder.name
            whole.mkdir()
            for train in (True, False):
                _torchvision(name, whole, train=train, download=True)
            try:
                whole.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was faster
                    raise
    except Exception as error:
        why = f"{_brief(error)}. Nothing was kept in {folder.parent}"
        cure = f"Without a network, load one of {', '.join(EMBEDDED)} or the path of a file or folder"
        raise RuntimeError(f"could not download {name}: {why}. {cure}") from None
    finally:
        socket.setdefaulttimeout(patience)


def _torchvision(name, folder, *, train, download=False):
    import torchvision

    kind, split = DOWNLOADED[name]
    part = {"split": "train" if train else "test"} if kind == "SVHN" else {"train": train}
    part |= {"split": split} if split else {}
    return getattr(torchvision.datasets, kind)(folder, download=download, **part)


def _arrays(name, dataset):
    """Pixels ``(n, c, h, w)``, labels from 0, and the names of the classes."""
    kind, _ = DOWNLOADED[name]
    x = np.asarray(dataset.data)
    if kind == "EMNIST":  # stored lying on its side, unlike MNIST
        x = x.swapaxes(1, 2)
    if x.ndim == 3:
        x = x[:, None]
    elif kind.startswith("CIFAR"):
        x = np.moveaxis(x, -1, 1)
    y = np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets, np.int64)
    named = kind.startswith("CIFAR") or kind in ("EMNIST", "KMNIST")
    classes = tuple(c for c in dataset.classes if c != "N/A") if named else DIGITS
    return x, y - 1 if name == "emnist-letters" else y, classes  # letters count from 1


def _brief(error):
    """Type and text of an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
