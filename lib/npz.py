"""Own data from an ``.npz`` file, checked before anything is computed."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from lib.sources import Source, brief


def read(path: Path) -> Source:
    """The arrays of an ``.npz`` file, checked. Pickled objects are never read.

    ==================== =================================================================================
    ``x_train``          features ``(n, d)``, or images ``(n, h, w)``, ``(n, h, w, c)``, ``(n, c, h, w)`` with
                         c ≤ 4; uint8 (divided by 255) or floats (images: in [0, 1])
    ``y_train``          ``(n,)``, integers 0…k−1, each of them at least once
    ``x_test, y_test``   likewise, of the same shape and kind; may be left out, both
    ``classes``          k different names in label order; may be left out (then "0", "1", …)
    ==================== =================================================================================

    Raises:
        ValueError: naming the array, what was expected and what came.
    """
    arrays = _read_npz(path)
    y_train = _checked_labels(path, "y_train", arrays)
    classes, k = arrays.get("classes"), int(y_train.max()) + 1
    if classes is not None:
        if classes.ndim != 1 or classes.dtype.kind != "U" or len(set(classes.tolist())) != len(classes):
            raise ValueError(f"{path}: classes: expected different names (k,), got {_kind(classes)}")
        if k > len(classes):
            raise ValueError(f"{path}: y_train: expected labels 0…{len(classes) - 1} as in classes, got {k - 1}")
        k = len(classes)
    present = np.unique(y_train)
    if len(present) < k:
        missing = np.setdiff1d(np.arange(min(k, len(present) + 5)), present).tolist()
        raise ValueError(f"{path}: y_train: expected each label 0…{k - 1} at least once, got none of class {missing}")
    x_train, x_test, y_test = _checked_images(path, "x_train", arrays), None, None
    if "x_test" in arrays:
        x_test, y_test = _checked_images(path, "x_test", arrays), _checked_labels(path, "y_test", arrays)
        if x_test.shape[1:] != x_train.shape[1:] or x_test.dtype != x_train.dtype:
            raise ValueError(
                f"{path}: x_test: expected examples like {_kind(arrays['x_train'])}, got {_kind(arrays['x_test'])}"
            )
        if y_test.max() >= k:
            raise ValueError(f"{path}: y_test: expected labels 0…{k - 1} as in y_train, got {y_test.max()}")
    names = tuple(str(c) for c in (range(k) if classes is None else classes.tolist()))
    return Source(x_train, y_train, x_test, y_test, names, 255.0 if x_train.dtype == np.uint8 else 1.0)


def _read_npz(path):
    if not path.is_file():
        raise ValueError(f"expected an .npz file, got {path}, which {'is a folder' if path.is_dir() else 'is missing'}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected an .npz file of plain arrays, could not read it: {brief(error)}") from None
    known = ("x_train", "y_train", "x_test", "y_test", "classes")
    pair = {"x_test", "y_test"} & arrays.keys()
    if not {"x_train", "y_train"} <= arrays.keys() <= set(known) or len(pair) == 1:
        raise ValueError(
            f"{path}: expected the arrays x_train, y_train[, x_test, y_test][, classes], got {sorted(arrays)}"
        )
    for part in ("train", "test") if pair else ("train",):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.shape[:1] != y.shape[:1]:
            raise ValueError(f"{path}: expected as many rows in x_{part} as in y_{part}, got {x.shape} and {y.shape}")
    return arrays


def _checked_labels(path, key, arrays):
    y = arrays[key]
    if y.ndim != 1 or not len(y) or y.dtype.kind not in "iu":
        raise ValueError(f"{path}: {key}: expected integers (n,), n ≥ 1, got {_kind(y)}")
    if y.min() < 0:
        raise ValueError(f"{path}: {key}: expected labels 0…k−1, got {y.min()} in row {y.argmin()}")
    if y.max() > np.iinfo(np.int64).max // 2:
        raise ValueError(f"{path}: {key}: expected labels 0…k−1, got {y.max()}")
    return y.astype(np.int64)


def _checked_images(path, key, arrays):
    x = arrays[key]
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(f"{path}: {key}: expected (n, d), (n, h, w) or (n, h, w, c), none of them 0, got {x.shape}")
    if x.dtype != np.uint8 and x.dtype.kind != "f" and not (x.ndim == 2 and x.dtype.kind in "iu"):
        raise ValueError(f"{path}: {key}: expected uint8 or floating values, got {_kind(x)}")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused
            x = x.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1)).tolist()
        if bad:
            raise ValueError(f"{path}: {key}: expected finite values, got NaN or infinity in rows {bad[:5]}")
        if x.ndim > 2 and (x.min() < 0 or x.max() > 1):
            raise ValueError(f"{path}: {key}: expected images in [0, 1] or uint8, got {x.min():.3g}…{x.max():.3g}")
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4:
        last, first = x.shape[3] <= 4, x.shape[1] <= 4
        if last == first:
            raise ValueError(f"{path}: {key}: expected (n, h, w, c) or (n, c, h, w) of 1 to 4 channels, got {x.shape}")
        return np.moveaxis(x, -1, 1) if last else x
    return x


def _kind(array):
    return f"{array.dtype} {array.shape}"
