"""Where the examples come from: files kept in ``data/``, scikit-learn, torchvision's downloads, own ``.npz`` files.

Every reader returns a `Source`: arrays as they are stored, checked, before any row is chosen or scaled. What is wrong
with a file is said once, here, before anything is computed.
"""

import gzip
import math
import shutil
import socket
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data"
DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FASHION_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
TIMEOUT = 60.0  # seconds without a byte until a download is given up
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
        parts = (read_idx(DATA / name / f"{part}-ubyte.gz") for part in FASHION_FILES)
        x_train, y_train, x_test, y_test = parts
        return Source(
            x_train[:, None], y_train.astype(np.int64), x_test[:, None], y_test.astype(np.int64), FASHION, 255.0
        )
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


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes: 0x0000080d for d axes, d big-endian sizes, the values."""
    raw = _kept(path, lambda f: gzip.decompress(Path(f).read_bytes()))
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes (000008…), got {raw[:4].hex()}")
    shape = tuple(np.frombuffer(raw[4 : 4 + 4 * raw[3]], ">u4").tolist())
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if len(values) != math.prod(shape):
        raise ValueError(f"{path}: expected {shape} values, got {len(values)}")
    return values.reshape(shape)


def _kept(path, read):
    try:
        return read(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
        raise ValueError(f"{path} is {reason}; `python data/make_data.py` makes it again") from None


def downloaded(name: str, root: Path) -> Source:
    """One of torchvision's own sets, downloaded once into ``root`` and kept there.

    torchvision checks the MD5 of what arrives. The set is downloaded into a temporary folder beside its place and
    renamed when it is whole, so a download that fails or is broken off leaves nothing that looks like a data set.

    Raises:
        RuntimeError: if the download fails or has the wrong checksum, or if the kept copy is damaged.
    """
    kind, _ = DOWNLOADED[name]
    folder = root / kind.lower()
    if not folder.exists():
        _download(name, folder)
    try:
        train, test = (_torchvision(name, folder, train=train) for train in (True, False))
    except Exception as error:  # whatever a broken file makes torchvision, pickle or scipy say
        raise RuntimeError(
            f"the copy of {name} in {folder} is damaged ({brief(error)}); delete that folder and load again"
        ) from None
    (x_train, classes), (x_test, _) = (_layout(kind, d) for d in (train, test))
    return Source(x_train, _labels(name, train), x_test, _labels(name, test), classes, 255.0)


def _download(name, folder):
    patience = socket.getdefaulttimeout()
    temporary = None
    try:
        socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none: a silent server would be waited for for ever
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        whole = temporary / folder.name
        whole.mkdir()
        for train in (True, False):
            _torchvision(name, whole, train=train, download=True)
        try:
            whole.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
    except Exception as error:
        raise RuntimeError(
            f"could not download {name}: {brief(error)}. Nothing was kept in {folder.parent}. "
            f"Without a network, load one of {', '.join(EMBEDDED)} or the path of an .npz file"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _torchvision(name, folder, *, train, download=False):
    import torchvision

    kind, split = DOWNLOADED[name]
    part = {"split": "train" if train else "test"} if kind == "SVHN" else {"train": train}
    part |= {"split": split} if split else {}
    return getattr(torchvision.datasets, kind)(folder, download=download, **part)


def _layout(kind, dataset):
    """Pixels as ``(n, c, h, w)`` and the names of the classes."""
    x = np.asarray(dataset.data)
    if kind == "EMNIST":  # stored lying on its side, unlike MNIST
        x = x.swapaxes(1, 2)
    if x.ndim == 3:
        x = x[:, None]
    elif kind.startswith("CIFAR"):
        x = np.moveaxis(x, -1, 1)
    named = kind.startswith("CIFAR") or kind in ("EMNIST", "KMNIST")
    return x, tuple(c for c in dataset.classes if c != "N/A") if named else DIGITS


def _labels(name, dataset):
    y = np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets, np.int64)
    return y - 1 if name == "emnist-letters" else y  # letters count from 1


def brief(error):
    """Type and text of an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
