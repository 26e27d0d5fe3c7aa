"""Where the examples come from: files kept in ``data/``, scikit-learn, torchvision's downloads, own ``.npz`` files.

Every reader returns a `Source`: arrays as they are stored, checked, before any row is chosen or scaled. What is wrong
with a file is said once, here, before anything is computed.
"""

import gzip
import shutil
import socket
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data"
DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EMBEDDED = ("fashion-mnist", "mnist-5k", "digits", "iris")
DOWNLOADED = {  # name: (torchvision class, its split argument where it has one)
    "mnist": ("MNIST", None),
    "kmnist": ("KMNIST", None),
    "emnist-letters": ("EMNIST", "letters"),
    "emnist-digits": ("EMNIST", "digits"),
    "emnist-balanced": ("EMNIST", "balanced"),
    "usps": ("USPS", None),
    "svhn": ("SVHN", None),
    "cifar10": ("CIFAR10", None),
    "cifar100": ("CIFAR100", None),
}


class Source(NamedTuple):
    """A whole data set as stored. ``x_test`` is None where the set has no test part of its own."""

    x_train: np.ndarray  # (n, c, h, w), or (n, d) for features
    y_train: np.ndarray  # (n,) int64
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    classes: tuple[str, ...]
    scale: float  # stored value that means 1.0; pixels are divided by it


def embedded(name: str) -> Source:
    """One of the four sets that need no network (see ``data/README.md``)."""
    if name == "fashion-mnist":
        part = lambda p: (read_idx(DATA / name / f"{p}-images-idx3-ubyte.gz", 3)[:, None],
                          read_idx(DATA / name / f"{p}-labels-idx1-ubyte.gz", 1).astype(np.int64))  # fmt: skip
        return Source(*part("train"), *part("t10k"), FASHION, 255.0)
    if name == "mnist-5k":
        table = _kept(DATA / name / "mnist_5k.csv.gz", lambda f: np.loadtxt(f, delimiter=",", dtype=np.uint8))
        return Source(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64), None, None, DIGITS, 255.0)
    from sklearn.datasets import load_digits, load_iris

    if name == "digits":
        table = load_digits()
        return Source(table.images[:, None].astype(np.uint8), table.target.astype(np.int64), None, None, DIGITS, 16.0)
    table = load_iris()
    classes = tuple(str(c) for c in table.target_names)
    return Source(table.data.astype(np.float32), table.target.astype(np.int64), None, None, classes, 1.0)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes with ``ndim`` axes (magic number 0x0000080n, big-endian sizes, values)."""
    raw = _kept(path, lambda f: gzip.decompress(Path(f).read_bytes()))
    shape = tuple(np.frombuffer(raw[4 : 4 + 4 * ndim], ">u4").tolist())
    if raw[:4] != bytes([0, 0, 8, ndim]) or len(raw) != 4 + 4 * ndim + int(np.prod(shape)):
        raise ValueError(
            f"{path}: expected an IDX file of bytes with {ndim} axes, got {raw[:4].hex()} and shape {shape}"
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def _kept(path, read):
    try:
        return read(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
        raise ValueError(f"{path} is {reason}; `python data/make_data.py` makes it again") from None
