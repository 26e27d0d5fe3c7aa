"""Notebooks 12, 13 and 14: files that the papers' authors published, downloaded once and checked by their SHA-256."""

from pathlib import Path

import numpy as np
import pooch
import torch
from torch import Tensor

from lib.data.datasets import DATA

FILES = {  # name: (folder of the authors' page, SHA-256), from a registry as pooch reads it
    name: (url.rpartition("/")[0], sha256)
    for name, sha256, url in map(str.split, (DATA / "published.txt").read_text("utf8").splitlines())
}


class Unavailable(Exception):
    """The file could be neither found nor downloaded; says where it was looked for."""


def fetch(file: str, *, url: str | None = None, folder: str | Path | None = None, timeout: float = 10.0) -> Path:
    """The path of a published file, downloaded (tried once) from ``url`` or its authors' page if it is not there yet.

    Args:
        file: one of ``FILES``, which ``data/published.txt`` lists with their SHA-256.
        folder: where the file lies or is kept, ``data/downloads/published`` by default.
        timeout: seconds without an answer until the download is given up.

    Raises:
        ValueError: for an unknown file, or another SHA-256 (a file that lies there is left as it is).
        Unavailable: if it is not in ``folder`` and cannot be downloaded.
    """
    if file not in FILES:
        raise ValueError(f"file must be one of {', '.join(FILES)}; got {file!r}")
    (home, sha256), folder = FILES[file], DATA / "downloads" / "published" if folder is None else Path(folder)
    path, source = folder / file, f"{(url or home).rstrip('/')}/{file}"
    if path.exists() and not (path.is_file() and pooch.file_hash(path) == sha256):
        raise ValueError(f"{file} in {folder.name}/ is not the published file: its SHA-256 is not {sha256}")
    if not path.exists():
        pooch.get_logger().setLevel("ERROR")  # what it would say names folders of this machine
        downloader = pooch.HTTPDownloader(timeout=timeout, progressbar=False)
        try:
            pooch.retrieve(source, f"sha256:{sha256}", fname=file, path=folder, downloader=downloader)
        except OSError as error:
            raise Unavailable(f"{file} is not in {folder.name}/ and {source} cannot be reached") from error
    return path


def published(file: str, **where) -> dict[str, np.ndarray]:
    """The arrays of one published ``.npz`` file; ``where`` and errors as :func:`fetch`.

    High-influence pairs (Feldman and Zhang 2020): ``tr_idx, tt_idx, infl, mem``, one entry a pair. Consistency scores
    (Jiang et al. 2021): ``labels, scores``, official training order, high = regular.
    """
    with np.load(fetch(file, **where)) as arrays:
        return dict(arrays)


def published_c_scores(file: str, rows: Tensor, y: Tensor, **where) -> Tensor:
    """The C-scores of ``rows`` of CIFAR's official training set, whose labels are ``y``: ``(n,)`` float64."""
    arrays = published(file, **where)
    scores, labels = (torch.from_numpy(arrays[name]) for name in ("scores", "labels"))
    if int(rows.max()) >= len(scores) or not torch.equal(labels[rows].long(), y.cpu()):
        raise ValueError(f"rows must be those of the data that {file} scores, with their labels; these are others")
    return scores[rows].double()
