"""Files of per-example scores.

A score file is one Parquet file a data set: a row an example, a column a score, provenance inside, its SHA-256 in
``SHA256SUMS`` beside it. A score computed elsewhere or later is merged in by original row; what is there stays.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib.data.datasets import DATA
from lib.store import expanded, new_file, unfinished


def read_scores(name: str, rows=None, *, folder: str | Path | None = None) -> pd.DataFrame:
    """The scores of a data set that come with the study, a column a score; ``name_stderr`` stands beside ``name``.

    Args:
        name: of the data set: the file is ``name.parquet`` in ``folder``, by default ``data/scores``.
        rows: original rows ``(n,)``, as ``Dataset.rows_train``, in which order they come; all rows by default.

    Raises: ValueError if there is no such file, it is not what its checksum says, or it lacks a row.

    Example:
        >>> read_scores("fashion-mnist", [7, 3])[["label", "cg"]].index.tolist()
        [7, 3]
    """
    folder = DATA / "scores" if folder is None else expanded(folder)
    path = folder / f"{name}.parquet"
    if path.parent != folder or not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.parquet"))) or "none"
        raise ValueError(f"name must be a data set with stored scores ({there}), got {name!r}")
    table = _verified(path)
    if rows is None:
        return table
    if len(strange := np.setdiff1d(rows, table.index)):
        raise ValueError(f"rows must be among the {len(table)} of {path.name}, got {strange[:5].tolist()} …")
    return table.loc[np.asarray(rows)]


def provenance(path: str | Path) -> dict:
    """How the columns of a score file were made: group → dataset and its SHA-256, settings, versions, cost, checks."""
    return json.loads((pq.read_schema(expanded(path)).metadata or {}).get(b"provenance", b"{}"))


def merge_scores(path: str | Path, columns: Mapping, *, rows, group: str, made: dict, fresh=False) -> pd.DataFrame:
    """Add columns to a score file by row, or start one, and return the whole table as written, by ascending ``row``.

    Writers of one folder wait for each other; a file is replaced whole, and ``SHA256SUMS`` has its line at any moment.

    Args:
        columns: name → ``(n,)`` array; a column that the file already has is replaced.
        rows: ``(n,)`` original rows, among the file's. File rows without a new value get NaN, so integer columns must
            cover all of them.
        group: name of the columns' common origin, such as ``"cg"``. Others of an earlier merge stay: ``"cg (b, c)"``.
        made: how they were made, JSON-able, kept under ``group``. Its ``dataset_sha256``, if it has one, must be among
            those of the file's other groups.
        fresh: start a new file in place of one that is there, which goes when the new one is whole.

    Raises: ValueError if anything of that does not hold, or the file is not what its checksum says; it stays as it is.
    """
    import fcntl  # POSIX alone has it

    path, rows = expanded(path), np.asarray(rows)
    if len(path.name.splitlines()) != 1:
        raise ValueError(f"path must have a name of one line, as SHA256SUMS lists it, got {path.name!r}")
    wrong = {name: np.shape(values) for name, values in columns.items() if np.shape(values) != rows.shape}
    if rows.ndim != 1 or wrong:
        raise ValueError(f"columns must be (n,) for rows {rows.shape}, got {wrong}")
    if rows.dtype.kind not in "iu" or (len(rows) and not 0 <= rows.min() <= rows.max() < 2**31):
        raise ValueError(f"rows must be whole numbers from 0, got {rows.dtype} {rows[:5].tolist()}")
    if len(np.unique(rows)) != len(rows):
        raise ValueError("rows must not repeat")
    new = pd.DataFrame(dict(columns), index=pd.Index(rows.astype("int32"), name="row")).sort_index()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one writer at a time in a folder
        for left in filter(unfinished, path.parent.iterdir()):
            if left.name.startswith((f"{path.name}.", "SHA256SUMS.")):  # by one that was killed: others need our lock
                left.unlink()
        old, origin = (new[[]], {}) if fresh or not path.exists() else (_verified(path), provenance(path))
        if len(strange := new.index.difference(old.index)):
            raise ValueError(f"rows must be among the {len(old)} of {path.name}, got {strange[:5].tolist()} …")
        whole = [name for name in new if pd.api.types.is_integer_dtype(new[name])]
        if whole and len(new) < len(old):
            raise ValueError(f"integer columns must have a value in every row of {path.name}: {whole}")
        data = {known["dataset_sha256"] for known in origin.values() if "dataset_sha256" in known}
        if data and made.get("dataset_sha256") not in {None, *data}:
            raise ValueError(f"{path.name} holds scores of other data (SHA-256 {min(data)[:12]}…): name another file")
        names = [*old.columns, *new.columns.difference(old.columns, sort=False)]
        table = old.drop(columns=old.columns.intersection(new.columns)).join(new)[names].reset_index()
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        stay = {name: [c for c in known["columns"] if c not in columns] for name, known in origin.items()}
        called = {group: f"{group} ({', '.join(stay.get(group, []))})"}
        origin = {called.get(one, one): known | {"columns": stay[one]} for one, known in origin.items() if stay[one]}
        text = json.dumps({**origin, group: {**made, "columns": list(columns)}}, sort_keys=True)
        with new_file(path) as file:
            metadata = {**arrow.schema.metadata, b"provenance": text}
            pq.write_table(arrow.replace_schema_metadata(metadata), file, compression="zstd")
            file.seek(0)
            sums, new = _sums(path.parent), (path.name, hashlib.file_digest(file, "sha256").hexdigest())
            _vouch(path.parent, sums | {new})  # for both, as a run may be killed before the file has its name, or after
        _vouch(path.parent, {one for one in sums if one[0] != path.name} | {new})
    return table


def _sums(folder: Path) -> set[tuple[str, str]]:
    """File names (they may hold spaces) with the SHA-256; two of one name while it is replaced."""
    path = folder / "SHA256SUMS"
    lines = path.read_bytes().decode().split("\n") if path.is_file() else []  # a name may hold what else ends lines
    return {(name, digest) for digest, name in (line.split("  ", 1) for line in lines if "  " in line)}


def _vouch(folder: Path, sums: set[tuple[str, str]]) -> None:
    with new_file(folder / "SHA256SUMS") as file:
        file.write("".join(f"{digest}  {name}\n" for name, digest in sorted(sums)).encode())


def _verified(path: Path) -> pd.DataFrame:
    before, data = _sums(path.parent), path.read_bytes() if path.is_file() else b""  # a writer vouches first
    if (path.name, hashlib.sha256(data).hexdigest()) not in before | _sums(path.parent):
        raise ValueError(f"{path.name} is not what SHA256SUMS says: fetch it again, or make it with make_scores.py")
    return pd.read_parquet(io.BytesIO(data)).set_index("row")
