import hashlib
import io
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from served import Server

from experiments import text
from experiments.published import FILES, Unavailable

REVIEWS, VECTORS = "aclImdb_v1.tar.gz", "glove.6B.zip"


def archive_of_reviews(path, reviews):
    with tarfile.open(path, "w:gz") as archive:
        for name, words in reviews.items():
            raw = words.encode()
            info = tarfile.TarInfo(f"aclImdb/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The two archives in small, in their own layout, served on loopback."""
    folder, made = tmp_path / "site", Server()
    folder.mkdir()
    reviews = {f"train/{kind}/{i}_7.txt": f"{kind} film {i}<br /><br />It's {kind}!" for kind in ("pos", "neg")
               for i in range(5)}  # fmt: skip
    archive_of_reviews(folder / REVIEWS, reviews | {"test/pos/0_9.txt": "of the test part", "README": "no"})
    vectors = {"pos": "1 0", "neg": "-1 0", "film": "0 1", "it's": "0 3", "unused": "9 9"}
    with zipfile.ZipFile(folder / VECTORS, "w") as archive:
        archive.writestr("small.txt", "".join(f"{word} {numbers}\n" for word, numbers in vectors.items()))
    for name in (REVIEWS, VECTORS):
        made.files[name] = (folder / name).read_bytes()
        sha256 = hashlib.sha256(made.files[name]).hexdigest()
        monkeypatch.setitem(FILES, name, ("http://unused.invalid", sha256))
    yield made.url.rstrip("/"), made.files
    made.close()


def test_from_the_archives_to_vectors(site, tmp_path):
    url, files = site
    texts, y = text.imdb(6, url=url, folder=tmp_path / "kept")
    assert y.sum() == 3 and len(set(texts)) == 6
    assert [("pos" in t) for t in texts] == y.bool().tolist()
    vocabulary = {word for review in texts for word in text.words(review)}
    found = text.glove(vocabulary, url=url, file="small.txt", folder=tmp_path / "kept")
    assert set(found) == {"pos", "neg", "film", "it's"}
    x, lengths = text.averaged(texts, found)
    torch.testing.assert_close(x, torch.stack([2 * (2.0 * y - 1), torch.full((6,), 4.0)], 1) / 4)
    assert lengths.tolist() == [4] * 6  # the number and the mark have no vector
    del files[REVIEWS]  # kept, so not asked for again
    again, _ = text.imdb(6, url=url, folder=tmp_path / "kept")
    assert again == texts
    assert text.imdb(6, seed=1, url=url, folder=tmp_path / "kept")[0] != texts


def test_from_local_files_to_vectors(tmp_path):
    assert text.local_files(tmp_path) is None
    (tmp_path / "text").mkdir()
    (tmp_path / "glove").mkdir()
    reviews = {f"train/{kind}/{i}_7.txt": f"{kind} film {i}" for kind in ("pos", "neg") for i in range(5)}
    archive_of_reviews(tmp_path / "text" / "imdb_train.tar.gz", reviews)
    pd.DataFrame({"index": ["film", "pos", "neg"]}).to_parquet(tmp_path / "glove" / "words.parquet")
    np.save(tmp_path / "glove" / "vectors.npy", np.float32([[0, 1], [1, 0], [-1, 0]]))
    archive, vectors = text.local_files(tmp_path)
    texts, y = text.imdb(6, source=archive)
    x, lengths = text.averaged(texts, text.small_glove(["pos", "film", "neg", "none"], vectors))
    torch.testing.assert_close(x, torch.stack([2.0 * y - 1, torch.ones(6)], 1) / 2)
    assert lengths.tolist() == [2] * 6 and list(text.small_glove(["none"], vectors)) == []


def test_a_wrong_checksum_is_refused(site, tmp_path, monkeypatch):
    url, _ = site
    monkeypatch.setitem(FILES, VECTORS, ("http://unused.invalid", "0" * 64))
    with pytest.raises(ValueError, match="hash"):
        text.glove(["film"], url=url, file="small.txt", folder=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []
    (tmp_path / REVIEWS).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"{REVIEWS} .*is not the published file: its SHA-256 is not"):
        text.imdb(2, url=url, folder=tmp_path)


def test_nobody_there(tmp_path):
    with pytest.raises(Unavailable, match=f"{VECTORS} is not in .* cannot be reached"):
        text.glove(["film"], url="http://127.0.0.1:9", folder=tmp_path)


def test_refusals(site, tmp_path):
    url, _ = site
    with pytest.raises(ValueError, match="n must be 2 to 10, half of each kind, got 12"):
        text.imdb(12, url=url, folder=tmp_path)
    with pytest.raises(ValueError, match="file must be one of small.txt, got 'glove.6B.300d.txt'"):
        text.glove(["film"], url=url, folder=tmp_path)
    with pytest.raises(ValueError, match=r"texts\[1\] holds no word that has a vector: 'nothing'"):
        text.averaged(["film", "nothing"], {"film": np.ones(2)})


def test_generated_reviews_have_lengths_and_a_sentiment():
    texts, y, vectors = text.generated(400, seed=0, vocabulary=500, width=20)
    x, lengths = text.averaged(texts, vectors)
    assert y.sum() == 200 and x.shape == (400, 20)
    assert 150 < lengths.float().median() < 205 and 0.5 < lengths.float().log().std() < 0.7
    assert (x[y == 1, 0].mean() - x[y == 0, 0].mean()) > 3 * x[:, 1].std()
    assert text.generated(400, seed=0, vocabulary=500, width=20)[0] == texts
    assert text.generated(4, seed=1)[0] != text.generated(4, seed=2)[0]
