import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from served import Server

from experiments.long_tail import pair_counts
from experiments.published import FILES, Unavailable, published

NAME = "cifar100_high_infl_pairs_infl0.15_mem0.25.npz"
REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference"


@pytest.fixture
def server(monkeypatch):
    """A small stand-in for the authors' page, on loopback, with its own checksum on record."""
    np.savez(file := io.BytesIO(), tr_idx=[5, 6], tt_idx=[1, 1], infl=[0.2, 0.3], mem=[0.9, 0.8])
    monkeypatch.setitem(FILES, NAME, ("http://unused.invalid", hashlib.sha256(file.getvalue()).hexdigest()))
    made = Server()
    made.files[NAME] = file.getvalue()
    yield made.url.rstrip("/"), made.files
    made.close()


def test_downloads_once_and_keeps(server, tmp_path):
    url, files = server
    arrays = published(NAME, url=url, folder=tmp_path / "kept")
    assert pair_counts(arrays["tt_idx"]) == (2, 1, 0)
    del files[NAME]
    assert published(NAME, url=url, folder=tmp_path / "kept")["mem"].tolist() == [0.9, 0.8]


def test_another_file_under_the_name_is_refused_and_not_kept(server, tmp_path):
    url, files = server
    files[NAME] = b"not the array"
    with pytest.raises(ValueError, match="hash"):
        published(NAME, url=url, folder=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_damaged_copy_is_named_and_left(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"{NAME} .*is not the published file"):
        published(NAME, url=server[0], folder=tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"damaged"


def test_a_missing_file_is_unavailable(server, tmp_path):
    url, files = server
    del files[NAME]
    with pytest.raises(Unavailable, match=rf"{NAME} is not in kept/ and {url}/{NAME} cannot be reached"):
        published(NAME, url=url, folder=tmp_path / "kept")


def test_no_server_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="cannot be reached"):
        published(NAME, url="http://127.0.0.1:9", folder=tmp_path, timeout=1)


def test_the_checksums_on_record_are_sha256():
    for home, sha256 in FILES.values():
        assert home.startswith("https://") and len(bytes.fromhex(sha256)) == 32


def test_unknown_files_list_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match="cifar10-cscores-orig-order.npz.*got 'pairs.npz'"):
        published("pairs.npz", folder=tmp_path)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the published arrays are not beside this checkout")
class TestReference:
    """Section 3.3 states these counts."""

    @pytest.mark.parametrize(("data", "expected"), [("cifar100", (1015, 888, 774)), ("imagenet", (1641, 1462, 1298))])
    def test_published_pairs_give_the_papers_counts(self, data, expected):
        arrays = published(f"{data}_high_infl_pairs_infl0.15_mem0.25.npz", folder=REFERENCE)
        assert pair_counts(arrays["tt_idx"]) == expected
        assert arrays["infl"].min() >= 0.15 and arrays["mem"].min() >= 0.25

    @pytest.mark.parametrize("data", ["cifar10", "cifar100"])
    def test_consistency_scores_cover_the_training_set(self, data):
        arrays = published(f"{data}-cscores-orig-order.npz", folder=REFERENCE)
        assert arrays["scores"].shape == arrays["labels"].shape == (50_000,)
