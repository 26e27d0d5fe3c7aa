"""Files of per-example scores: one Parquet file a dataset, a row an example, a column a score, provenance inside.

A score computed elsewhere or later is merged in by original row; what is there stays. To read one,

    read_scores("fashion-mnist")    # or pandas.read_parquet("data/scores/fashion-mnist.parquet").set_index("row")

and ``provenance(path)`` for how each group of columns was made.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from lib.data.datasets import DATA


def published_c_scores(file: str, rows: Tensor, y: Tensor, **where) -> Tensor:
    """The C-scores that Jiang et al. published, of some rows of CIFAR-10 or CIFAR-100.

    Args:
        file: as in ``lib.data.score_files``, ``cifar10-cscores-orig-order.npz`` say.
        rows: ``(n,)``, rows of the official training set, ``Dataset.rows_train``.
        y: their labels ``(n,)``, held against the published ones.
        where: ``url`` and ``folder`` of ``published``.

    Returns:
        ``(n,)`` float64.

    Raises:
        ValueError: if rows lie beyond the file or labels differ: then the rows are of other data.
        Unavailable: as ``published``.
    """
    arrays = published(file, **where)
    scores, labels = (torch.from_numpy(arrays[name]) for name in ("scores", "labels"))
    if int(rows.max()) >= len(scores) or not torch.equal(labels[rows].long(), y.cpu()):
        raise ValueError(f"rows must be those of the data that {file} scores, with their labels; these are others")
    return scores[rows].double()


KEY = b"provenance"


def merge_scores(path: str | Path, columns: Mapping[str, np.ndarray], *, rows, group: str, made: dict) -> pd.DataFrame:
    """Add columns to a score file by row, or start one; then renew its line in ``SHA256SUMS`` beside it.

    Args:
        path: of the ``.parquet`` file.
        columns: name → ``(n,)`` array; a column that the file already has is replaced.
        rows: ``(n,)`` original rows of the examples. They must be among the file's; file rows without a new value
            get NaN, so integer columns must cover all of them.
        group: name of the columns' common origin, such as ``"cg"``.
        made: how they were made, JSON-able; kept under ``group``, beside that of other groups.

    Returns:
        The whole table as written, by ascending ``row``.

    Raises:
        ValueError: lengths that differ, rows that repeat, rows that the file does not have, an integer column that
            leaves rows out.
    """
    path, rows = Path(path), np.asarray(rows)
    wrong = {name: np.shape(values) for name, values in columns.items() if np.shape(values) != rows.shape}
    if rows.ndim != 1 or wrong:
        raise ValueError(f"columns must be (n,) for rows {rows.shape}, got {wrong}")
    if len(np.unique(rows)) != len(rows):
        raise ValueError("rows must not repeat")
    new = pd.DataFrame(dict(columns), index=pd.Index(rows.astype("int32"), name="row")).sort_index()
    old = pd.read_parquet(path).set_index("row") if path.exists() else pd.DataFrame(index=new.index)
    strange = new.index.difference(old.index)
    if len(strange):
        raise ValueError(f"rows must be among the {len(old)} of {path.name}, got {strange[:5].tolist()} …")
    whole = [name for name in new if pd.api.types.is_integer_dtype(new[name])]
    if whole and len(new) < len(old):
        raise ValueError(f"integer columns must have a value in every row of {path.name}: {whole}")
    names = [*old.columns, *new.columns.difference(old.columns, sort=False)]
    table = old.drop(columns=old.columns.intersection(new.columns)).join(new)[names].reset_index()
    origin = provenance(path) if path.exists() else {}
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    text = json.dumps({**origin, group: {**made, "columns": list(columns)}}, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    pq.write_table(arrow.replace_schema_metadata({**arrow.schema.metadata, KEY: text}), part, compression="zstd")
    os.replace(part, path)
    _renew_checksum(path)
    return table


def provenance(path: str | Path) -> dict:
    """How the columns of a score file were made: group → dataset and its SHA-256, settings, versions, cost, checks."""
    return json.loads((pq.read_schema(path).metadata or {}).get(KEY, b"{}"))


def read_scores(name: str, rows=None, *, folder: str | Path | None = None) -> pd.DataFrame:
    """The scores of a data set that come with the study, a column a score.

    Args:
        name: of the data set, such as ``fashion-mnist``.
        rows: original rows ``(n,)``, as ``Dataset.rows_train``; all rows by default.
        folder: where the file is; default ``data/scores``.

    Returns:
        Indexed by ``row``, in the order of ``rows``; ``name_stderr`` stands beside ``name``.

    Raises:
        ValueError: if there is no such file (those there are are listed), it is not what its checksum says, or it
            lacks a row.

    Example:
        >>> read_scores("fashion-mnist", [7, 3])[["label", "cg"]].index.tolist()
        [7, 3]
    """
    folder = DATA / "scores" if folder is None else Path(folder)
    path = folder / f"{name}.parquet"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.parquet"))) or "none"
        raise ValueError(f"name must be a data set with stored scores ({there}), got {name!r}")
    sums = dict(line.split()[::-1] for line in path.with_name("SHA256SUMS").read_text().splitlines())
    if sums.get(path.name) != hashlib.sha256(path.read_bytes()).hexdigest():
        raise ValueError(f"{path.name} is not what SHA256SUMS says: fetch it again, or make it with make_scores.py")
    table = pd.read_parquet(path).set_index("row")
    if rows is None:
        return table
    rows = np.asarray(rows)
    if len(strange := np.setdiff1d(rows, table.index)):
        raise ValueError(f"rows must be among the {len(table)} of {path.name}, got {strange[:5].tolist()} …")
    return table.loc[rows]


def _renew_checksum(path: Path) -> None:
    sums = path.with_name("SHA256SUMS")
    lines = sums.read_text().splitlines() if sums.exists() else []
    lines = [line for line in lines if line.split()[-1] != path.name]
    lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    sums.write_text("\n".join(sorted(lines, key=lambda line: line.split()[-1])) + "\n")


# --- published ------------------------------------------------------------------------------------------------------
#
# Arrays that the papers' authors published, downloaded once and checked against the SHA-256 of what we read.


INFLUENCE = "https://pluskid.github.io/influence-memorization/data"
REGULARITY = "https://pluskid.github.io/structural-regularity/cscores"

#: file name: (folder of the authors' page, SHA-256)
FILES = {
    "cifar100_high_infl_pairs_infl0.15_mem0.25.npz": (
        INFLUENCE,
        "aea6b093184112f2cdb2056dc387b653ef31658389ccd3c7ac1904d58506b8f3",
    ),
    "imagenet_high_infl_pairs_infl0.15_mem0.25.npz": (
        INFLUENCE,
        "9002166f3f7ad18b97eb62662db4cce1b0c98a7362d69fb1806e3487b1e5bb0a",
    ),
    "cifar10-cscores-orig-order.npz": (
        REGULARITY,
        "0f8b3e219fd37867fc1ef532335b6169f8109d137275ae53b802bb8177556ac8",
    ),
    "cifar100-cscores-orig-order.npz": (
        REGULARITY,
        "8e1f3cfc7075052ae2ff4d4b66441dfe399b0d0e125394675cb52b5cc3c18a3a",
    ),
}


class Unavailable(Exception):
    """The array could be neither found nor downloaded; says where it was looked for."""


def published(
    file: str, *, url: str | None = None, folder: str | Path | None = None, timeout: float = 5.0
) -> dict[str, np.ndarray]:
    """The arrays of one published file.

    High-influence pairs (Feldman and Zhang 2020): ``tr_idx, tt_idx, infl, mem``, one entry a pair. Consistency scores
    (Jiang et al. 2021): ``labels, scores``, official training order, high = regular.

    Args:
        file: one of ``FILES``.
        url: folder to download from, in place of the authors' page.
        folder: where the file lies or is kept, ``data/downloads/published`` by default.
        timeout: seconds without an answer until the download is given up; it is tried once.

    Raises:
        ValueError: for an unknown file, or one whose SHA-256 is not the recorded one (it is left as it is).
        Unavailable: if it is not in ``folder`` and cannot be downloaded.
    """
    if file not in FILES:
        raise ValueError(f"file must be one of {', '.join(FILES)}; got {file!r}")
    home, sha256 = FILES[file]
    folder = DATA / "downloads" / "published" if folder is None else Path(folder)
    path, source = folder / file, f"{(url or home).rstrip('/')}/{file}"
    if path.exists() and pooch.file_hash(path) != sha256:
        raise ValueError(f"{path.name} in {folder.name}/ is not the published file: its SHA-256 is not {sha256}")
    if not path.exists():
        pooch.get_logger().setLevel("ERROR")  # what it would say names folders of this machine
        downloader = pooch.HTTPDownloader(timeout=timeout, progressbar=False)
        try:
            pooch.retrieve(source, f"sha256:{sha256}", fname=file, path=folder, downloader=downloader)
        except OSError as error:
            raise Unavailable(f"{file} is not in {folder.name}/ and {source} cannot be reached") from error
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
