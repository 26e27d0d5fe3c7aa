"""Reviews as averages of word vectors (Harutyunyan et al. 2021, appendix A.8): IMDB with GloVe, or a stand-in.

The large movie review data set (Maas et al., ACL 2011) and GloVe 6B (Pennington et al., EMNLP 2014) are downloaded once
(``where``, errors: `experiments.published.fetch`; kept in ``data/downloads/text``), or are what `local_files` finds.
What is generated has lengths, frequencies of words and a sentiment: what an average of word vectors sees, no meaning.
"""

import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments.published import fetch
from lib.data.datasets import DATA

FOLDER = DATA / "downloads" / "text"
VECTORS = "glove.6B.300d.txt"  # in the archive
ARCHIVES = "aclImdb_v1.tar.gz", "imdb_train.tar.gz"  # the whole data set, or its training part
REVIEW = re.compile(r"(?:^|/)train/(neg|pos)/[^/]+\.txt$")
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[!?]")


def words(text: str) -> list[str]:
    """Lower-case words, and the marks ! and ?; HTML line breaks are left out.

    Example:
        >>> words("Don't miss it!<br />Great")
        ["don't", 'miss', 'it', '!', 'great']
    """
    return WORD.findall(text.lower().replace("<br />", " "))


def local_files(folder=FOLDER.parent):
    """The archive of reviews and the folder of 50-d vectors (``make_data.py --extra glove``); None without either."""
    reviews = [folder / "text" / name for name in ARCHIVES if (folder / "text" / name).is_file()]
    return (reviews[0], folder / "glove") if reviews and (folder / "glove").is_dir() else None


def imdb(n: int, *, seed: int = 0, source=None, **where):
    """n random reviews of IMDB's training part, half positive, and labels ``(n,)``; ``source``: an archive here."""
    texts: dict[str, list[str]] = {"neg": [], "pos": []}
    with tarfile.open(source or fetch(ARCHIVES[0], **{"folder": FOLDER} | where), "r:gz") as archive:
        for member in archive:
            if review := REVIEW.search(member.name):
                texts[review[1]].append(archive.extractfile(member).read().decode("utf8"))
    rng, half = np.random.default_rng(seed), (n // 2, n - n // 2)
    if n < 2 or any(count > len(texts[kind]) for kind, count in zip(texts, half, strict=True)):
        raise ValueError(f"n must be 2 to {2 * min(map(len, texts.values()))}, half of each kind, got {n}")
    chosen = [(text, label) for label, (kind, count) in enumerate(zip(texts, half, strict=True))
              for text in rng.permutation(np.array(sorted(texts[kind]), dtype=object))[:count]]  # fmt: skip
    order = rng.permutation(n)
    return [chosen[i][0] for i in order], torch.tensor([chosen[i][1] for i in order])


def glove(vocabulary: Iterable[str], *, file: str = VECTORS, **where) -> dict[str, np.ndarray]:
    """The vectors of these words, as far as there are any; read line by line, so only they are held in memory."""
    wanted, vectors = set(vocabulary), {}
    with zipfile.ZipFile(fetch("glove.6B.zip", **{"folder": FOLDER} | where)) as archive:
        if file not in archive.namelist():
            raise ValueError(f"file must be one of {', '.join(archive.namelist())}, got {file!r}")
        with archive.open(file) as lines:
            for line in lines:
                word, _, numbers = line.decode("utf8").partition(" ")
                if word in wanted:
                    vectors[word] = np.array(numbers.split(), np.float32)
    return vectors


def small_glove(vocabulary: Iterable[str], folder) -> dict[str, np.ndarray]:
    """As `glove`, of 50 dimensions, from the extra's ``vectors.npy`` and ``words.parquet``."""
    row = {word: i for i, word in enumerate(pd.read_parquet(folder / "words.parquet")["index"])}
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    return {word: np.array(vectors[row[word]]) for word in sorted(set(vocabulary)) if word in row}


def averaged(texts: list[str], vectors: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    """The mean of each text's word vectors ``(n, d)``, and its length in words that have one, ``(n,)``.

    Raises:
        ValueError: for a text without any such word.

    Example:
        >>> averaged(["good good bad"], {"good": np.ones(1), "bad": -np.ones(1)})
        (tensor([[0.3333]]), tensor([3]))
    """
    known = [[vectors[word] for word in words(text) if word in vectors] for text in texts]
    if [] in known:
        i = known.index([])
        raise ValueError(f"texts[{i}] holds no word that has a vector: {texts[i][:60]!r}")
    means = np.stack([np.mean(each, axis=0) for each in known])
    return torch.from_numpy(means).float(), torch.tensor([len(each) for each in known])


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
