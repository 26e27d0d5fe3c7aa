"""Reviews as averages of word vectors (Harutyunyan et al. 2021, appendix A.8): IMDB with GloVe, or a stand-in.

The large movie review data set (Maas et al., ACL 2011) and GloVe 6B (Pennington et al., EMNLP 2014) are downloaded once
and checked against the SHA-256 below. What is generated has no meaning: it has lengths, frequencies of words and a
sentiment, which is what the average of word vectors sees of a review.
"""

import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pooch
import torch
from torch import Tensor

from lib.data.datasets import DATA
from lib.data.score_files import Unavailable

IMDB = (
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
GLOVE = (
    "https://nlp.stanford.edu/data/glove.6B.zip",
    "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
)
VECTORS = "glove.6B.300d.txt"  # in the archive
REVIEW = re.compile(r"(?:^|/)train/(neg|pos)/[^/]+\.txt$")
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[!?]")


def words(text: str) -> list[str]:
    """Lower-case words, and the marks ! and ?; HTML line breaks are left out.

    Example:
        >>> words("Don't miss it!<br />Great")
        ["don't", 'miss', 'it', '!', 'great']
    """
    return WORD.findall(text.lower().replace("<br />", " "))


def imdb(n: int, *, seed: int = 0, source: tuple[str, str] = IMDB, folder: str | Path | None = None):
    """n random reviews of IMDB's training part, half of them positive: texts (a list) and labels ``(n,)``.

    Args:
        source: URL and SHA-256 of the archive. folder: where it lies or is kept, ``data/downloads`` by default.

    Raises:
        ValueError: for more reviews than there are, or a file with another SHA-256.
        Unavailable: if it is not there and cannot be downloaded.
    """
    texts: dict[str, list[str]] = {"neg": [], "pos": []}
    with tarfile.open(_kept(source, folder), "r:gz") as archive:
        for member in archive:
            if found := REVIEW.search(member.name):
                texts[found[1]].append(archive.extractfile(member).read().decode("utf8"))
    rng, half = np.random.default_rng(seed), (n // 2, n - n // 2)
    if n < 2 or any(count > len(texts[kind]) for kind, count in zip(texts, half, strict=True)):
        raise ValueError(f"n must be 2 to {2 * min(map(len, texts.values()))}, half of each kind, got {n}")
    chosen = [(text, label) for label, (kind, count) in enumerate(zip(texts, half, strict=True))
              for text in rng.permutation(np.array(sorted(texts[kind]), dtype=object))[:count]]  # fmt: skip
    order = rng.permutation(n)
    return [chosen[i][0] for i in order], torch.tensor([chosen[i][1] for i in order])


def glove(
    vocabulary: Iterable[str], *, source: tuple[str, str] = GLOVE, file: str = VECTORS, folder: str | Path | None = None
) -> dict[str, np.ndarray]:
    """The vectors of these words, as far as there are any; read line by line, so only they are held in memory.

    Raises:
        ValueError: for a file with another SHA-256, or an archive without ``file``. Unavailable: as :func:`imdb`.
    """
    wanted, found = set(vocabulary), {}
    with zipfile.ZipFile(_kept(source, folder)) as archive:
        if file not in archive.namelist():
            raise ValueError(f"file must be one of {', '.join(archive.namelist())}, got {file!r}")
        with archive.open(file) as lines:
            for line in lines:
                word, _, numbers = line.decode("utf8").partition(" ")
                if word in wanted:
                    found[word] = np.array(numbers.split(), np.float32)
    return found


def averaged(texts: list[str], vectors: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    """The mean of each text's word vectors ``(n, d)``, and its length in words that have one, ``(n,)``.

    Raises:
        ValueError: for a text without any such word.

    Example:
        >>> averaged(["good good bad"], {"good": np.ones(1), "bad": -np.ones(1)})
        (tensor([[0.3333]]), tensor([3]))
    """
    means, lengths = [], []
    for i, text in enumerate(texts):
        known = [vectors[word] for word in words(text) if word in vectors]
        if not known:
            raise ValueError(f"texts[{i}] holds no word that has a vector: {text[:60]!r}")
        means.append(np.mean(known, axis=0))
        lengths.append(len(known))
    return torch.from_numpy(np.stack(means)).float(), torch.tensor(lengths)


def generated(n: int, *, seed: int = 0, vocabulary: int = 2000, width: int = 300, sentiment: float = 0.15):
    """Stand-in reviews: texts, labels ``(n,)`` and word vectors.

    Lengths are log-normal with IMDB's median and spread (about 175 words, log-spread .6). Words follow Zipf's law;
    one in ten leans to praise or blame. A review draws ``sentiment`` of its words from those that lean its way, the
    rest from all. Vectors are Gaussian, with one direction for the lean.
    """
    rng = np.random.default_rng(seed)
    names = np.array([f"w{i}" for i in range(vocabulary)])
    lean = np.where(rng.random(vocabulary) < 0.1, rng.choice([-1, 1], vocabulary), 0)
    table = rng.standard_normal((vocabulary, width)).astype(np.float32) * 0.4
    table[:, 0] += lean
    often = 1 / (np.arange(vocabulary) + 10.0)
    labels, texts = np.arange(n) % 2, []
    for label in labels:
        length = max(10, round(np.exp(rng.normal(np.log(175), 0.6))))
        strong = rng.binomial(length, sentiment)
        side = often * (lean == 2 * label - 1)
        drawn = [rng.choice(vocabulary, size, p=p / p.sum()) for size, p in ((strong, side), (length - strong, often))]
        texts.append(" ".join(rng.permutation(names[np.concatenate(drawn)])))
    return texts, torch.from_numpy(labels), dict(zip(names.tolist(), table, strict=True))


def _kept(source: tuple[str, str], folder: str | Path | None) -> Path:
    """The archive, downloaded if it is not there yet, and of the right SHA-256."""
    (url, sha256), folder = source, DATA / "downloads" / "text" if folder is None else Path(folder)
    path = folder / url.rsplit("/", 1)[1]
    if path.exists() and pooch.file_hash(path) != sha256:
        raise ValueError(f"{path.name} in {folder.name}/ is not the published file: its SHA-256 is not {sha256}")
    if not path.exists():
        pooch.get_logger().setLevel("ERROR")  # what it would say names folders of this machine
        try:
            pooch.retrieve(url, f"sha256:{sha256}", fname=path.name, path=folder,
                           downloader=pooch.HTTPDownloader(timeout=10, progressbar=False))  # fmt: skip
        except OSError as error:
            raise Unavailable(f"{path.name} is not in {folder.name}/ and {url} cannot be reached") from error
    return path
