"""What people bring: tables, folders of pictures, files and arrays, checked and as one `Source`.

Labels become 0…k−1 in sorted order and keep their names; rows keep the caller's index; features stay float64 until they
are standardized. Whatever cannot be used is refused by name: the array or column, the row, and what to do.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.store import expanded

TABLES = (".csv", ".tsv", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
SIDE = 64  # pixels; pictures of several sizes, or larger ones, are resized to a square of at most this side
BROKEN = (OSError, EOFError, MemoryError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


class Source(NamedTuple):
    """A whole data set as stored. ``x_test`` is None where the set has no test part of its own."""

    x_train: np.ndarray  # (n, c, h, w), or (n, d) for features
    y_train: np.ndarray  # (n,) int64
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    classes: tuple[str, ...]
    scale: float  # stored value that means 1.0; pixels are divided by it
    index: pd.Index | None = None  # what the caller calls the rows; None = their numbers
    columns: tuple[str, ...] = ()  # of features, where they have names
    note: str = ""  # what became of missing values


def source(data, label=None, *, index=None, categorical="refuse", missing="refuse", features=True) -> Source:
    """Check what was brought.

    ======================== =======================================================================================
    a path                   ``.csv``, ``.tsv`` (also .gz), ``.parquet`` (as a table), ``.npz`` (as a mapping; pickled
                             objects are never read), or a folder ``class/name.png`` of pictures
    a table                  a DataFrame; ``label`` names its column of labels (or is an array of them)
    a mapping                ``x_train, y_train[, x_test, y_test][, classes]``, or scikit-learn's Bunch
    a tuple                  ``(x, y)`` or ``(x, y, x_test, y_test)``; or x alone, with ``label`` an array
    ======================== =======================================================================================

    Features are ``(n, d)``; pictures ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)`` with c ≤ 4, bytes or floats in
    [0, 1]. Pictures of a folder keep their size if they share one of 8 to 64 pixels a side; else all are resized
    (bilinear, antialiased, aspect not kept) to a square of the median shorter side, 8 to 64; of 16 bits the upper 8
    count, what is hidden (``.name``) does not. Labels are text, bool or whole numbers, gaps allowed. In a table,
    ``categorical`` columns are refused, or ``"one-hot"``, or ``"leave out"``; ``missing`` values are refused, or rows
    that have some are left out (``"drop"``), or they become the column's ``"median"`` (of text: no category). ``index``
    names a column that names the rows. A .csv is UTF-8 with names in its first line; what separates its columns is
    found out; pandas decides what is missing (nothing, NA, None, null, nan, …), in labels too; a first column without a
    name, as pandas writes one, names the rows. Without ``features`` a table gives its labels alone, and zeros.

    Raises: ValueError naming the array or column, what was expected and what came.
    """
    path = expanded(data) if isinstance(data, str | Path) else None
    try:
        data = data.to_pandas() if hasattr(data, "to_pandas") else data if path is None else _read(path)
        if label is not None and np.ndim(label) == 0 and not isinstance(data, pd.DataFrame):
            columns = isinstance(data, Mapping) and label in data and not {"x_train", "data"} & data.keys()
            if not columns and not (isinstance(data, list) and data and isinstance(data[0], Mapping)):
                raise _wrong("label", "an array of labels, or none if they come with the data", f"the name {label!r}")
            data = pd.DataFrame(data)
        options = {"index": index, "categorical": categorical, "missing": missing}
        if isinstance(data, pd.DataFrame) and (label is None or np.ndim(label) == 0):
            data = data if features else data[[c for c in data if c in (label, index)]].assign(**{"": 0.0})
            data, options = _table(data, label, **options), {}
        elif isinstance(data, Mapping):
            refuse_options(label)
            bunch = {"x_train": "data", "y_train": "target", "classes": "target_names", "columns": "feature_names"}
            data = {a: data[b] for a, b in bunch.items() if b in data} if "target" in data else dict(data)
        else:
            data = (data, label) if label is not None else data
            if not isinstance(data, tuple | list) or len(data) not in (2, 4):
                raise _wrong("data", "a path, table, mapping, (x, y) or (x, y, x_test, y_test)", f"{data!r:.80}")
            data = dict(zip(("x_train", "y_train", "x_test", "y_test"), data, strict=False))
        return _checked(data, **options)
    except ValueError as error:
        raise ValueError(f"{error}" if path is None or str(path) in str(error) else f"{path}: {error}") from None


def refuse_options(label=None, index=None, categorical="refuse", missing="refuse", features=True) -> None:
    """Raise ValueError for options of tables, where none has come."""
    if label is not None or index is not None or (categorical, missing) != ("refuse", "refuse"):
        raise ValueError("label, index, categorical, missing: expected none, as they are of tables; bring a DataFrame")


def _wrong(what: str, expected: str, got) -> ValueError:
    return ValueError(f"{what}: expected {expected}, got {got}")


def _read(path: Path):
    if path.is_dir() and path.suffix != ".npz":
        return _folder(path)
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if not path.is_file() or kind not in (*TABLES, ".npz"):
        kinds = "an .npz file" if path.suffix == ".npz" else "a .csv, .tsv, .parquet or .npz file or a folder"
        state = "is a folder" if path.is_dir() else "is missing" if not path.is_file() else "is another file"
        raise ValueError(f"expected {kinds}, got {path}, which {state}")
    if kind in TABLES:
        try:
            return pd.read_parquet(path) if kind == ".parquet" else _text(path)
        except BROKEN as error:  # UnicodeDecodeError is one
            wanted = "a table" if kind == ".parquet" else "a table in UTF-8 with names in its first line"
            raise _wrong(str(path), wanted, f"{type(error).__name__}: {' '.join(str(error).split())}") from None
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                arrays[key] = None
                arrays[key] = file[key]
    except BROKEN as error:
        which = "".join(f" {key}:" for key, array in arrays.items() if array is None)
        cure = "; store numbers, or text as numpy's str" if "pickle" in str(error) and which else ""
        said = f"could not read it: {type(error).__name__}: {' '.join(str(error).split())}{cure}"
        raise ValueError(f"{path}:{which} expected an .npz file of plain arrays, {said}") from None
    return arrays


def _text(path: Path) -> pd.DataFrame:
    sep = max(",;\t|", key=pd.read_csv(path, sep="\x1f", nrows=0).columns[0].count)
    marks = ".," if sep == ";" else "."  # 3,14 where columns end with a semicolon
    tables = [pd.read_csv(path, sep=sep, decimal=mark, skipinitialspace=True) for mark in marks]
    table = max(tables, key=lambda table: table.select_dtypes("number").shape[1])
    table.columns = table.columns.str.strip()
    table = table.loc[:, ~(table.columns.str.startswith("Unnamed: ") & table.isna().all())]  # commas at the ends
    unnamed = str(table.columns[0]).startswith("Unnamed: 0")
    return table.set_index(table.columns[0]).rename_axis(None) if unnamed else table


def _folder(path: Path) -> dict:
    from PIL import Image

    inside = [p.relative_to(path) for p in path.glob("*/**/*") if p.suffix.lower() in PICTURES and p.is_file()]
    names = sorted(p for p in inside if not any(part.startswith(".") for part in p.parts))
    classes = {p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if bare := sorted(classes - {p.parts[0] for p in names}) or ([] if classes else ["it"]):
        raise _wrong(str(path), f"folders of pictures, class/name.png ({', '.join(PICTURES)})", f"none in {bare[0]}")
    if {name.lower() for name in classes} <= {"train", "test", "val", "valid", "validation"}:
        raise _wrong(str(path), "folders of classes", f"the parts {', '.join(sorted(classes))}; hand over one of them")

    def opened(name, mode="", size=()):
        """How a picture looks; if a mode is given, its pixels."""
        try:
            with Image.open(path / name) as image:
                if image.mode in ("I", "F"):
                    raise ValueError(f"mode {image.mode} has no largest value; save 8 or 16 bits")
                if not mode:
                    return image.size, image.mode, "A" in image.mode or "transparency" in image.info
                deep = image.mode.startswith("I;16")
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if deep else image
                return np.asarray(image.convert(mode).resize(size, Image.Resampling.BILINEAR))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _wrong(str(path / name), "a picture", f"{type(error).__name__}: {error}") from None

    looks = [opened(name) for name in names]
    sizes, modes, alpha = map(set, zip(*looks, strict=True))
    grey = modes <= {"1", "L", "I;16", "I;16B", "I;16L", "I;16N"}
    mode, (size, *others) = "RGBA" if True in alpha else "L" if grey else "RGB", sizes
    if others or not 8 <= min(size) <= max(size) <= SIDE:
        size = (max(8, min(SIDE, int(np.median([min(look[0]) for look in looks])))),) * 2
    x, labels = np.stack([opened(name, mode, size) for name in names]), [name.parts[0] for name in names]
    x = x if mode == "L" else np.moveaxis(x, -1, 1)
    return {"x_train": x, "y_train": labels, "index": pd.Index(map(str, names), name="file")}


def _table(frame: pd.DataFrame, label, *, index=None, categorical="refuse", missing="refuse") -> dict:
    valid = ("refuse", "one-hot", "leave out", "refuse", "drop", "median")
    for name, value, fit in (("categorical", categorical, valid[:3]), ("missing", missing, valid[3:])):
        if value not in fit:
            raise _wrong(name, f"one of {', '.join(fit)}", repr(value))
    if len(twice := frame.columns[frame.columns.duplicated()]):
        raise _wrong("columns", "different names", f"{twice[0]!r} twice")
    named = np.ndim(label) == 0
    for what, name in (("label", label),) * named + (("index", index),) * (index is not None):
        if name is None or name not in frame or (what == "index" and named and name == label):
            others = [str(c) for c in frame if what == "label" or not named or c != label]
            raise _wrong(what, f"one of the columns {', '.join(others)}", repr(name))
    frame = frame if index is None else frame.set_index(index)
    y = frame[label] if named else pd.Series(_flat("label", label), frame.index)
    x = frame.drop(columns=label) if named else frame
    if 0 in x.shape:
        raise _wrong("table", "rows, and columns of features beside the labels", f"{len(x)} and {x.shape[1]}")
    x = x.infer_objects()
    words = [c for c in x if not pd.api.types.is_numeric_dtype(x[c]) or x[c].dtype.kind == "c"]
    if words and categorical == "refuse":
        some = ", ".join(f"{c!r} ({x[c].astype(str).nunique()} values, {_strange(x[c])}, …)" for c in words)
        raise ValueError(f"columns that are not numbers: {some}; say categorical='one-hot' or 'leave out', or convert")
    if counters := [c for c in x if c not in words and _counts(x[c])]:
        name = counters[0]
        raise ValueError(f"column {name!r} counts the rows and says nothing else: say index={name!r}, or take it out")
    x, words = (x.drop(columns=words), []) if categorical == "leave out" else (x, words)
    if not x.shape[1]:
        raise _wrong("table", "a column of numbers, or categorical='one-hot'", "text alone")
    x = x.replace([np.inf, -np.inf], np.nan)
    gone, holes, note = x.isna().any(axis=1) | y.isna(), _listed(x.isna().sum()), ""
    if missing == "drop" and gone.any():
        holes = ", ".join([holes] * bool(holes) + [f"the label {y.isna().sum():,}"] * y.hasnans)
        note = f"{gone.sum():,} of {len(x):,} rows were left out, as values are missing in {holes}"
        note += f"; labels of these rows: {_listed(y[gone].value_counts()) or 'none'}"
        x, y = x[~gone], y[~gone]
        if gone.all():
            raise _wrong("missing='drop'", "rows without missing values", f"none: {note}")
    if missing == "median":
        note = f"missing values became their column's median (of text: no category): {holes}" if holes else ""
        holes = [c for c in x if c not in words and x[c].hasnans]
        x = x.astype(dict.fromkeys(holes, float))  # pandas' whole numbers that may be missing have no half
        x = x.fillna(x[holes].median())
    rows, columns = np.nonzero((x.drop(columns=words) if missing == "median" else x).isna().to_numpy())
    if len(rows):
        where = f"{len(set(rows))} rows, the first in row {x.index[rows[0]]!r}, column {x.columns[columns[0]]!r}"
        empty = [c for c in x if x[c].isna().all()]
        cure = "say missing='drop' (these rows) or 'median' (of the column)"
        cure = f"take out {empty[0]!r}, which has no value at all" if empty else cure
        raise ValueError(f"missing or infinite values: {len(rows)} in {where}; {cure}, or fill them in")
    x = pd.get_dummies(x.astype(dict.fromkeys(words, "str")), columns=words, dtype=float)
    return {"x_train": _exact(x), "y_train": y, "index": x.index, "columns": x.columns, "note": note}


def _listed(counts: pd.Series) -> str:
    some = [f"{name} {count:,}" for name, count in counts.items() if count]
    return ", ".join(some[:8] + ["…"] * (len(some) > 8))


def _strange(column: pd.Series) -> str:
    """The first value that is no number, and in how many rows such stand, where the others are numbers."""
    there = column.dropna()
    odd = there[pd.to_numeric(there.astype(str), errors="coerce").isna()]
    few = f" in {len(odd)} of {len(column)} rows" if 0 < len(odd) < len(there) else ""
    return f"{next(iter(odd if len(odd) else there), None)!r}{few}"


def _counts(column: pd.Series) -> bool:
    """Whether it goes 0, 1, 2, … or 1, 2, 3, …, as numbers of rows do."""
    whole = len(column) > 9 and column.notna().all() and float(column.iloc[0]) in (0, 1)
    return whole and np.array_equal(column.to_numpy(float), float(column.iloc[0]) + np.arange(len(column)))


def _exact(x: pd.DataFrame) -> np.ndarray:
    """Columns as float64; whole numbers beyond 2⁵³ are counted from the column's least, so that none become equal."""

    def counted(column):
        near = (column.astype(object) - int(column.min())).astype(float)
        if near.nunique() < column.nunique():
            got = f"{column.min()} to {column.max()}, some too close; take it out"
            raise _wrong(f"column {str(column.name)!r}", "numbers within 2⁵³", got)
        return near

    large = [c for c in x if x[c].dtype.kind in "iu" and max(-int(x[c].min()), int(x[c].max())) > 2**53]
    return x.apply(lambda c: counted(c) if c.name in large else c).to_numpy(float) if large else x.to_numpy(float)


def _tables(x, y, x_test=None, y_test=None, **options) -> dict:
    """Features in a table, with labels beside; those of a test part go by the names of the columns."""
    for part, table, own in (("train", x, y), ("test", x_test, y_test)):
        if table is None:
            continue
        if own is None or len(plain(own)) != len(table):
            got = None if own is None else len(plain(own))
            raise _wrong(f"y_{part}", f"a label for each of the {len(table)} rows of x_{part}", got)
        if isinstance(own, pd.Series) and not own.index.equals(table.index) and set(own.index) == set(table.index):
            raise _wrong(f"y_{part}", f"the rows of x_{part} in their order", f"another; say y.loc[x_{part}.index]")
    if not isinstance(x_test, pd.DataFrame):
        return _table(x, y, **options) | ({} if x_test is None else {"x_test": x_test, "y_test": y_test})
    if odd := set(x) ^ set(x_test):
        raise _wrong("x_test", "the columns of x_train", ", ".join(map(repr, odd)) + " in one of them alone")
    if options["index"] is not None:
        raise _wrong("index", "none where two tables come; set their index", repr(options["index"]))
    both = _table(pd.concat({"train": x, "test": x_test[x.columns]}), [*plain(y), *plain(y_test)], **options)
    train = both["index"].get_level_values(0) == "train"
    rows = {"train": train, "test": ~train}
    parts = {f"{key}_{part}": both[f"{key}_train"][own] for key in "xy" for part, own in rows.items()}
    return both | parts | {"index": both["index"][train].droplevel(0)}


def _checked(arrays: dict, **options) -> Source:
    if isinstance(arrays.get("x_train"), pd.DataFrame):
        arrays |= _tables(*map(arrays.get, ("x_train", "y_train", "x_test", "y_test")), **options)
    else:
        refuse_options(**options)
    index, columns = arrays.pop("index", None), tuple(map(str, arrays.pop("columns", ())))
    note = arrays.pop("note", "")
    arrays = {key: plain(value) for key, value in arrays.items() if value is not None}
    known, pair = {"x_train", "y_train", "x_test", "y_test", "classes"}, {"x_test", "y_test"} & arrays.keys()
    if not {"x_train", "y_train"} <= arrays.keys() <= known or len(pair) == 1:
        raise ValueError(f"expected the arrays x_train, y_train[, x_test, y_test][, classes], got {sorted(arrays)}")
    for part in ("train", "test") if pair else ("train",):
        x, y = arrays[f"x_{part}"].shape, arrays[f"y_{part}"].shape
        if x[:1] != y[:1]:
            raise ValueError(f"expected as many rows in x_{part} as in y_{part}, got {x} and {y}")
    y_train, names = labels("y_train", arrays["y_train"], names=arrays.get("classes"))
    both = [arrays[f"x_{part}"] for part in ("train", "test") if pair]
    same = len({(x.dtype, x.shape[1:]) for x in both}) == 1 and both[0].ndim == 2
    if same and both[0].dtype.kind in "iu" and both[0].dtype != np.uint8:
        exact = _exact(pd.DataFrame(np.concatenate(both)))  # from the least of both
        arrays["x_train"], arrays["x_test"] = np.split(exact, [len(both[0])])
    x_train, x_test, y_test = _images("x_train", arrays["x_train"]), None, None
    if pair:
        x_test = _images("x_test", arrays["x_test"])
        y_test, _ = labels("y_test", arrays["y_test"], names=arrays.get("classes"), among=names)
        if x_test.shape[1:] != x_train.shape[1:] or x_test.dtype != x_train.dtype:
            like, got = (_kind(arrays[key]) for key in ("x_train", "x_test"))
            raise _wrong("x_test", f"examples like {like}", got)
    scale = 255.0 if x_train.dtype == np.uint8 else 1.0
    return Source(x_train, y_train, x_test, y_test, names, scale, index, columns, note)


def plain(values) -> np.ndarray:
    """Tensors, tables, sparse matrices and lists as a numpy array."""
    values = values.detach().cpu() if hasattr(values, "detach") else values
    values = values.float() if str(getattr(values, "dtype", "")) == "torch.bfloat16" else values
    values = values.astype(float).filled(np.nan) if np.ma.is_masked(values) else values
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def _flat(key: str, values) -> np.ndarray:
    """Labels from one column, or one-hot from several."""
    y = plain(values)
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iufb" and (np.sort(y, 1) == np.eye(y.shape[1])[-1]).all():
        return y.argmax(1)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or not len(y) or y.dtype.kind not in "iufbUSO":
        raise _wrong(key, "labels (n,), n ≥ 1, as text, bool or whole numbers", _kind(y))
    return y


def labels(key: str, values, *, names=None, among: tuple[str, ...] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as 0…k−1 and the k names, in sorted order; ``names`` are those of whole numbers from 0.

    Example:
        >>> labels("y", ["b", "a", "b"])
        (array([1, 0, 1]), ('a', 'b'))
    """
    y = _flat(key, values)
    y = np.asarray(pd.Series(y).infer_objects()) if y.dtype.kind == "O" else y
    y = y.astype(str) if y.dtype.kind == "S" else y
    if len(holes := np.flatnonzero(pd.isna(y))):
        raise _wrong(key, "a label in every row", f"none in rows {holes[:5].tolist()}; leave them out, missing='drop'")
    if y.dtype.kind == "f" and (odd := [*y[y != y.round()], *y[abs(y) > 2**53]]):
        raise _wrong(key, "classes", f"fractions such as {odd[0]}; cut them (pandas.cut)")
    y = np.array([*map(str, y)]) if y.dtype.kind == "O" else y
    kind = np.int64 if y.dtype.kind == "f" else y.dtype.newbyteorder("=")
    codes, found = pd.factorize(y.astype(kind), sort=True)
    if names is not None and y.dtype.kind in "iuf":
        if names.ndim != 1 or names.dtype.kind not in "UO" or len(set(names.tolist())) != len(names):
            raise _wrong("classes", "different names (k,)", _kind(names))
        if found[0] < 0 or found[-1] >= len(names):
            raise _wrong(key, f"labels 0…{len(names) - 1} as in classes", f"{found[0]}…{found[-1]}")
        found = names[found]
    found = tuple(map(str, found))
    alike = {name.strip(): name for name in found}
    if twice := [name for name in found if alike[name.strip()] != name]:
        raise _wrong(key, "labels that differ by more than spaces", f"{twice[0]!r} and {alike[twice[0].strip()]!r}")
    if among is None:
        return codes.astype(np.int64), found
    if strange := [name for name in found if name not in among]:
        raise _wrong(key, f"labels of y_train ({', '.join(among[:10])})", strange[0])
    return np.array([among.index(name) for name in found])[codes], among


def _images(key, x):
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise _wrong(key, "(n, d), (n, h, w) or (n, h, w, c), none of them 0", x.shape)
    if x.dtype != np.uint8 and x.dtype.kind != "f" and not (x.ndim == 2 and x.dtype.kind in "iu"):
        raise _wrong(key, "uint8 or floating values", _kind(x) + "; hand over a table itself" * (x.dtype.kind == "O"))
    if x.dtype != np.uint8:
        x = _exact(pd.DataFrame(x)) if x.ndim == 2 else x.astype(float)
        if len(bad := np.argwhere(~np.isfinite(x.reshape(len(x), -1)))):
            rows = np.unique(bad[:5, 0]).tolist()
            raise _wrong(key, "finite values", f"NaN or infinity in rows {rows}, first in column {bad[0, 1]}")
        if x.ndim > 2 and (x.min() < 0 or x.max() > 1):
            raise _wrong(key, "images in [0, 1] or uint8", f"{x.min():.3g}…{x.max():.3g}")
        x = x.astype(np.float32) if x.ndim > 2 else x
    if x.ndim == 4:
        last, first = x.shape[3] <= 4, x.shape[1] <= 4
        if last == first:
            raise _wrong(key, "(n, h, w, c) or (n, c, h, w) of 1 to 4 channels", x.shape)
        return np.moveaxis(x, -1, 1) if last else x
    return x[:, None] if x.ndim == 3 else x


def _kind(array):
    return f"{array.dtype} {array.shape}"
