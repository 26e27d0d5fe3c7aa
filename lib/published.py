"""Arrays that the papers' authors published, downloaded once and checked against the SHA-256 of what we read."""

from pathlib import Path

import numpy as np
import pooch

from lib.sources import DATA

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
