import bz2
import dataclasses
import gzip
import hashlib
import io
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import sklearn.datasets
import torch
import torchvision
from served import Server
from small_notebooks import script

from experiments.noise import permuted_noise
from lib.data import datasets
from lib.data.datasets import Dataset, load
from lib.data.noise import uniform_noise

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def fashion():
    return load("fashion-mnist")


# --- the embedded files ---------------------------------------------------------------------------------------------


def test_every_file_matches_its_sum():
    assert script(ROOT / "data" / "make_data.py").check() == []


def test_a_changed_a_missing_and_an_unlisted_file_are_named(tmp_path, monkeypatch):
    make_data = script(ROOT / "data" / "make_data.py")
    monkeypatch.setattr(make_data, "HERE", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good").write_bytes(b"good")
    (tmp_path / "a" / "bad").write_bytes(b"bad")
    (tmp_path / "a" / "new").write_bytes(b"new")
    good = hashlib.sha256(b"good").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{good}  a/good\n{good}  a/bad\n{good}  a/gone\n")
    missing, unlisted, changed = make_data.check()
    assert missing == "a/gone: missing" and unlisted.startswith("a/new: not in SHA256SUMS")
    assert changed == f"a/bad: expected SHA-256 {good}, got {hashlib.sha256(b'bad').hexdigest()}"


def test_the_files_are_taken_out_of_their_packages(tmp_path, monkeypatch):
    make_data = script(ROOT / "data" / "make_data.py")
    monkeypatch.setattr(make_data, "HERE", tmp_path)
    monkeypatch.setattr(make_data, "SOURCES", {"a/one": "usr/share/one", "b/two": "inside/two"})
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", b"odd"),
        ("data.tar.gz", tar_of({"./usr/share/one": b"1"})),
    ]
    deb, wheel = tmp_path / "x.deb", tmp_path / "x.whl"
    headers = [f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() for name, body in members]
    bodies = [body + b"\n" * (len(body) % 2) for _, body in members]
    deb.write_bytes(b"!<arch>\n" + b"".join(h + b for h, b in zip(headers, bodies, strict=True)))
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("inside/two", b"2")
    monkeypatch.setattr(make_data, "DEB_SHA256", make_data.sha256(deb))
    with pytest.raises(ValueError, match=r"x.whl: expected SHA-256 71b9500d\w+, got"):
        make_data.make(deb, wheel)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.deb", "x.whl"]
    monkeypatch.setattr(make_data, "WHEEL_SHA256", make_data.sha256(wheel))
    make_data.make(deb, wheel)
    assert (tmp_path / "a" / "one").read_bytes() == b"1" and (tmp_path / "b" / "two").read_bytes() == b"2"


def test_the_published_checksums_are_those_of_torchvision():
    official = script(ROOT / "data" / "make_data.py").OFFICIAL
    assert {name: md5 for name, (_, md5) in official.items()} == dict(torchvision.datasets.FashionMNIST.resources)


def test_scikit_learn_ships_the_documented_files():
    text = (ROOT / "data" / "README.md").read_text()
    for name in ("digits.csv.gz", "iris.csv"):
        path = Path(sklearn.datasets.__file__).parent / "data" / name
        assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}" in text


def test_fashion_mnist_is_whole(fashion):
    assert fashion.x_train.shape == (60000, 1, 28, 28) and fashion.x_test.shape == (10000, 1, 28, 28)
    assert fashion.y_train.bincount().tolist() == [6000] * 10 and fashion.y_test.bincount().tolist() == [1000] * 10
    assert (fashion.x_train.min(), fashion.x_train.max()) == (0, 1) and fashion.x_train.dtype == torch.float32
    assert fashion.classes == tuple(torchvision.datasets.FashionMNIST.classes)
    assert fashion.rows_train.equal(torch.arange(60000)) and fashion.rows_test.equal(torch.arange(10000))


def test_fashion_mnist_is_what_torchvision_reads(fashion, tmp_path):
    for part, x, y in (("train", fashion.x_train, fashion.y_train), ("t10k", fashion.x_test, fashion.y_test)):
        for kind in ("images-idx3", "labels-idx1"):
            packed = ROOT / "data" / "fashion-mnist" / f"{part}-{kind}-ubyte.gz"
            (tmp_path / f"{part}-{kind}").write_bytes(gzip.decompress(packed.read_bytes()))
        images = torchvision.datasets.mnist.read_image_file(tmp_path / f"{part}-images-idx3")
        assert images.equal((x[:, 0] * 255).round().to(torch.uint8))
        assert torchvision.datasets.mnist.read_label_file(tmp_path / f"{part}-labels-idx1").equal(y)


def test_loading_everything_is_quick():
    durations = []
    for _ in range(3):
        start = time.process_time()
        load("fashion-mnist").sha256  # noqa: B018
        durations.append(time.process_time() - start)
    assert min(durations) < 4  # of a core; 0.6 s alone


@pytest.mark.parametrize(
    ("name", "shape", "train", "test"),
    [
        ("mnist-5k", (1, 28, 28), [400] * 10, [100] * 10),
        ("iris", (4,), [40] * 3, [10] * 3),
        ("digits", (1, 8, 8), None, None),
    ],
)
def test_our_splits_are_fixed_stratified_and_disjoint(name, shape, train, test):
    a, b = load(name, seed=0), load(name, seed=7)
    assert a.sha256 == b.sha256 and a.x_train.shape[1:] == shape
    rows = torch.cat([a.rows_train, a.rows_test])
    assert rows.sort().values.equal(torch.arange(len(rows)))
    assert a.rows_train.diff().min() > 0 and a.rows_test.diff().min() > 0
    if train is None:  # a fifth of each class, rounded either way
        every = np.bincount(sklearn.datasets.load_digits().target)
        assert (np.abs(a.y_test.bincount().numpy() - every / 5) < 1).all()
    else:
        assert a.y_train.bincount().tolist() == train and a.y_test.bincount().tolist() == test


def test_rows_find_the_original():
    iris, digits = sklearn.datasets.load_iris(), sklearn.datasets.load_digits()
    ours = load("iris", n_train=17, classes=["virginica", "setosa"])
    np.testing.assert_array_equal(ours.x_train, iris.data[ours.rows_train].astype(np.float32))
    np.testing.assert_array_equal(np.array([2, 0])[ours.y_train], iris.target[ours.rows_train])
    ours = load("digits", n_test=50, seed=3)
    np.testing.assert_array_equal(ours.x_test[:, 0] * 16, digits.images[ours.rows_test])
    np.testing.assert_array_equal(ours.y_test, digits.target[ours.rows_test])


def test_mnist_5k_holds_500_upright_digits_of_each_class():
    data = load("mnist-5k")
    assert (data.rows_train // 500).equal(data.y_train) and (data.rows_test // 500).equal(data.y_test)
    ones = data.x_train[data.y_train == 1].mean((0, 1))  # a stroke from top to bottom: taller than wide
    assert (ones.amax(1) > 0.2).sum() > (ones.amax(0) > 0.2).sum()


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DATA", tmp_path)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz is missing; `python data/make_data.py`"):
        load("fashion-mnist")
    (tmp_path / "fashion-mnist").mkdir()
    path = tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes((ROOT / "data" / "fashion-mnist" / "train-images-idx3-ubyte.gz").read_bytes()[:100000])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz is damaged"):
        load("fashion-mnist")
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x05abc"))
    with pytest.raises(ValueError, match=r"expected \(5,\) values, got 3"):
        load("fashion-mnist")
    path.write_bytes(gzip.compress(b"no"))
    with pytest.raises(ValueError, match="expected an IDX file"):
        load("fashion-mnist")


# --- subsets, classes, hash -----------------------------------------------------------------------------------------


def test_a_subset_is_stratified_nested_and_ascending(fashion):
    few, more = load("fashion-mnist", n_train=1000, n_test=55), load("fashion-mnist", n_train=2503)
    assert few.y_train.bincount().tolist() == [100] * 10
    assert set(few.y_test.bincount().tolist()) == {5, 6} and set(more.y_train.bincount().tolist()) == {250, 251}
    assert set(few.rows_train.tolist()) < set(more.rows_train.tolist())
    assert few.rows_train.diff().min() > 0
    assert few.x_train.equal(fashion.x_train[few.rows_train]) and few.y_train.equal(fashion.y_train[few.rows_train])


def test_the_seed_draws_the_subset_evenly():
    draws = [load("digits", n_train=100, seed=s).rows_train for s in range(60)]
    assert draws[0].equal(load("digits", n_train=100, seed=0).rows_train) and not draws[0].equal(draws[1])
    counts = torch.cat(draws).bincount(minlength=1797)[load("digits").rows_train].double()
    expected = 60 * 100 / 1438  # times that a row is drawn; binomial, so the variance is a little smaller
    assert counts.mean() == pytest.approx(expected) and counts.var() == pytest.approx(expected, rel=0.2)


def test_unbalanced_classes_keep_their_shares_and_none_vanishes(tmp_path):
    x, y = np.random.default_rng(0).random((1000, 2)), np.repeat([0, 1, 2], [900, 97, 3])
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    for n, expected in ((100, [89, 10, 1]), (10, [8, 1, 1]), (3, [1, 1, 1]), (999, [899, 97, 3]), (1000, [900, 97, 3])):
        counts = load(tmp_path / "own.npz", n_train=n).y_train.bincount().tolist()
        assert sum(counts) == n and np.abs(np.subtract(counts, expected)).max() <= 1 and min(counts) > 0


def test_classes_are_relabelled_in_the_order_asked(fashion):
    data = load("fashion-mnist", classes=["Bag", 0, "Shirt"])
    assert data.classes == ("Bag", "T-shirt/top", "Shirt") and len(data.y_train) == 18000
    assert torch.tensor([8, 0, 6])[data.y_train].equal(fashion.y_train[data.rows_train])
    assert torch.tensor([8, 0, 6])[data.y_test].equal(fashion.y_test[data.rows_test])


def test_the_hash_follows_every_array():
    data = load("iris")
    assert data.sha256 == load("iris").sha256 and len(data.sha256) == 64
    hashes = {data.sha256, dataclasses.replace(data, classes=("a", "b", "c")).sha256}
    for field in ("x_train", "y_train", "rows_train", "x_test", "y_test", "rows_test"):
        changed = getattr(data, field).clone()
        changed.view(-1)[-1] += 1
        hashes.add(dataclasses.replace(data, **{field: changed}).sha256)
    hashes.add(load("iris", n_train=60).sha256)
    assert len(hashes) == 9
    assert (
        dataclasses.replace(data, x_train=data.x_train.T.contiguous().T).sha256 == data.sha256
    )  # strides do not count


def test_the_hash_ignores_where_it_came_from(tmp_path):
    data = load("digits", n_train=100)
    np.savez(tmp_path / "d.npz", x_train=data.x_train, y_train=data.y_train, x_test=data.x_test, y_test=data.y_test)
    own = load(tmp_path / "d.npz")
    own = dataclasses.replace(own, rows_train=data.rows_train, rows_test=data.rows_test)
    assert own.sha256 == data.sha256 and repr(own).startswith("Dataset(d: 100 training and 359 test examples of 1×8×8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "mnits"},
            r"name: expected one of fashion-mnist, .*cifar100 or the path of a file or folder, got 'mnits'",
        ),
        ({"n_train": 121}, r"n_train: expected 3 \(one of each class\) to 120 rows of iris, got 121"),
        ({"n_test": 31}, r"n_test: expected 3 \(one of each class\) to 30 rows of iris, got 31"),
        ({"n_train": 2}, "n_train: expected 3"),
        ({"n_train": 0}, "n_train: expected a whole number, at least 1, got 0"),
        ({"n_train": 50.0}, "n_train: expected a whole number, at least 1, got 50.0"),
        ({"n_train": 81, "classes": [0, 1]}, r"2 \(one of each class\) to 80 rows"),
        ({"classes": [0, 3]}, r"different ones of 0 \(setosa\), 1 \(versicolor\), 2 \(virginica\), got 3"),
        ({"classes": [-1]}, "got -1"),
        ({"classes": ["rose"]}, "got 'rose'"),
        ({"classes": [1, "versicolor"]}, "got 'versicolor' twice"),
        ({"classes": [1.5]}, "got 1.5"),
        ({"classes": [True]}, "got True"),
        ({"classes": []}, "got none"),
        ({"classes": "setosa"}, "as a list, got 'setosa'"),
        ({"seed": -1}, "seed: expected a whole number, at least 0, got -1"),
        ({"seed": None}, "seed: expected a whole number, at least 0, got None"),
    ],
)
def test_what_cannot_be_had_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**{"name": "iris"} | arguments)


# --- label noise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0, 0.2, 0.501, 0.8, 1])
def test_uniform_noise_replaces_exactly_so_many(fraction):
    y = torch.arange(1000) % 7
    noisy, flipped = uniform_noise(y, fraction, k=7, seed=1)
    assert flipped.sum() == round(1000 * fraction) and flipped.dtype == torch.bool
    assert flipped.equal(noisy != y) and noisy.min() >= 0 and noisy.max() < 7 and noisy.dtype == y.dtype


def test_uniform_noise_is_uniform_over_the_other_classes_and_over_rows():
    y = torch.full((40000,), 2)
    noisy, flipped = uniform_noise(y, 0.5, k=5, seed=0)
    counts = noisy[flipped].bincount(minlength=5).double()
    assert counts[2] == 0
    others = counts[[0, 1, 3, 4]]
    assert ((others - 5000) ** 2 / 5000).sum() < 16.3  # chi-square, 3 degrees of freedom, 0.999 quantile
    assert flipped[:20000].sum().item() == pytest.approx(10000, abs=4 * (40000 / 16) ** 0.5)  # hypergeometric, 4 sd


def test_noise_follows_the_seed_alone():
    y = torch.arange(300) % 3
    state = torch.get_rng_state()
    for noise in (lambda s: uniform_noise(y, 0.3, k=3, seed=s)[0], lambda s: permuted_noise(y, 0.3, seed=s)[0]):
        assert noise(0).equal(noise(0)) and not noise(0).equal(noise(1))
    assert torch.get_rng_state().equal(state)
    assert y.equal(torch.arange(300) % 3)


def test_uniform_noise_does_not_overflow_small_integers():
    y = torch.full((500,), 199, dtype=torch.uint8)
    noisy, _ = uniform_noise(y, 1.0, k=200, seed=0)
    assert noisy.dtype == torch.uint8 and noisy.max() < 199 and len(noisy.unique()) > 150


def test_permuted_noise_keeps_the_class_counts():
    y = torch.arange(5000) % 10
    noisy, flipped = permuted_noise(y, 0.4, seed=2)
    assert noisy.bincount().equal(y.bincount()) and flipped.equal(noisy != y)
    assert flipped.sum().item() == pytest.approx(2000 * 0.9, abs=60)  # one in ten meets its own label again
    assert permuted_noise(y, 0.0, seed=2)[0].equal(y)
    whole = permuted_noise(torch.arange(50), 1.0, seed=2)[0]
    assert whole.sort().values.equal(torch.arange(50)) and (whole != torch.arange(50)).sum() > 40


@pytest.mark.parametrize(
    ("y", "fraction", "k", "message"),
    [
        (torch.arange(3), 1.1, 3, "fraction: expected 0 to 1, got 1.1"),
        (torch.arange(3), float("nan"), 3, "fraction: expected 0 to 1, got nan"),
        (torch.arange(3), 0.5, 2, "y: expected labels 0…1, got 0…2"),
        (torch.arange(3) - 1, 0.5, 3, "y: expected labels 0…2, got -1…1"),
        (torch.zeros(3, dtype=torch.int64), 0.5, 1, "k: expected at least 2 classes, got 1"),
        (torch.zeros(3), 0.5, 2, r"y: expected integer labels \(n,\), n ≥ 1, got torch.float32 \(3,\)"),
        (torch.zeros(3, 1, dtype=torch.int64), 0.5, 2, r"got torch.int64 \(3, 1\)"),
    ],
)
def test_noise_refuses(y, fraction, k, message):
    with pytest.raises(ValueError, match=message):
        uniform_noise(y, fraction, k=k, seed=0)


# --- own .npz -------------------------------------------------------------------------------------------------------


def images(n=12, shape=(5, 6), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


LABELS = np.arange(12) % 3
OWN = {"x_train": images(), "y_train": LABELS, "x_test": images(6, seed=1), "y_test": np.arange(6) % 3}


def save(path, **arrays):
    np.savez(path, **{key: value for key, value in (OWN | arrays).items() if value is not None})
    return path


def test_own_grey_images_are_scaled_and_get_a_channel(tmp_path):
    data = load(save(tmp_path / "own.npz", classes=np.array(["ant", "bee", "cat"])))
    assert isinstance(data, Dataset) and data.name == "own" and data.classes == ("ant", "bee", "cat")
    torch.testing.assert_close(data.x_train, torch.from_numpy(OWN["x_train"]).float()[:, None] / 255, rtol=0, atol=1e-7)
    assert data.y_train.tolist() == LABELS.tolist() and data.rows_test.tolist() == list(range(6))
    assert load(str(tmp_path / "own.npz"), classes=["cat", "ant"]).y_train.tolist() == [1, 0] * 4


def test_own_colour_images_are_channels_first(tmp_path):
    x, test = images(shape=(5, 6, 3)), images(6, (5, 6, 3))
    last = load(save(tmp_path / "last.npz", x_train=x, x_test=test))
    first = load(save(tmp_path / "first.npz", x_train=x.transpose(0, 3, 1, 2), x_test=test.transpose(0, 3, 1, 2)))
    assert last.x_train.shape == (12, 3, 5, 6) and last.sha256 == first.sha256
    assert last.x_train[7, 2, 4, 1] == torch.tensor(x[7, 4, 1, 2] / 255).float()


def test_own_features_and_floats_stay_as_they_are(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 4)) * 100
    data = load(save(tmp_path / "own.npz", x_train=x, x_test=x[:6], y_train=LABELS.astype(np.uint8)))
    assert data.x_train.shape == (12, 4) and data.y_train.dtype == torch.int64
    np.testing.assert_array_equal(data.x_train, x)  # in float64: ids beyond 2²⁴ stay apart


def test_own_data_without_a_test_part_are_split_by_seed(tmp_path):
    x, y = images(100), np.repeat([0, 1], [70, 30])
    path = save(tmp_path / "own.npz", x_train=x, y_train=y, x_test=None, y_test=None)
    a, b = load(path, seed=0), load(path, seed=1)
    for data in (a, b, load(path, seed=0, n_train=40, n_test=10)):
        assert not set(data.rows_train.tolist()) & set(data.rows_test.tolist())
        np.testing.assert_array_equal((data.x_test[:, 0] * 255).round(), x[data.rows_test])
        np.testing.assert_array_equal(data.y_train, y[data.rows_train])
    assert a.y_test.bincount().tolist() == [14, 6] and a.y_train.bincount().tolist() == [56, 24]
    assert not a.rows_test.equal(b.rows_test) and a.rows_test.equal(load(path, seed=0).rows_test)


def with_value(array, row, value):
    array = array.copy()
    array[row] = value
    return array


FLOATS = images() / 255


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"y_train": None},
            r"expected the arrays x_train, y_train\[, x_test, y_test\].*got \['x_test', 'x_train', 'y_t",
        ),
        ({"y_test": None}, r"expected the arrays .*got \['x_test', 'x_train', 'y_train'\]"),
        ({"X_test": images()}, r"expected the arrays .*got \['X_test', "),
        ({"y_train": LABELS[:-1]}, r"as many rows in x_train as in y_train, got \(12, 5, 6\) and \(11,\)"),
        ({"y_test": LABELS}, r"as many rows in x_test as in y_test, got \(6, 5, 6\) and \(12,\)"),
        ({"x_train": np.uint8(3), "y_train": 3}, r"y_train: expected labels \(n,\), n ≥ 1, .*got int64 \(\)"),
        ({"x_train": images(0), "y_train": LABELS[:0]}, r"y_train: expected labels \(n,\), n ≥ 1, .*got int64 \(0,\)"),
        ({"x_train": images(shape=())}, r"x_train: expected \(n, d\), \(n, h, w\) or \(n, h, w, c\).*got \(12,\)"),
        ({"x_train": images(shape=(5, 0))}, r"x_train: expected .*none of them 0, got \(12, 5, 0\)"),
        ({"x_train": images(shape=(2, 5, 6, 3, 1))}, r"got \(12, 2, 5, 6, 3, 1\)"),
        ({"x_train": images(shape=(5, 6, 7))}, r"of 1 to 4 channels, got \(12, 5, 6, 7\)"),
        ({"x_train": images(shape=(3, 6, 3))}, r"of 1 to 4 channels, got \(12, 3, 6, 3\)"),
        ({"x_train": images().astype(int)}, r"x_train: expected uint8 or floating values, got int64 \(12, 5, 6\)"),
        ({"x_train": images() > 9}, "x_train: expected uint8 or floating values, got bool"),
        ({"x_train": with_value(FLOATS, (7, 0, 0), np.nan)}, r"x_train: expected finite values, got .*in rows \[7\]"),
        ({"x_train": with_value(FLOATS, (3, 1, 2), np.inf)}, r"x_train: expected finite values, got .*in rows \[3\]"),
        (
            {"x_train": with_value(FLOATS, (3, 1, 2), 1e300)},
            r"x_train: expected images in \[0, 1\] or uint8, got 0…1e\+300",
        ),
        ({"x_train": FLOATS * 255}, r"x_train: expected images in \[0, 1\] or uint8, got 0…25"),
        ({"x_test": FLOATS[:6]}, r"x_test: expected examples like uint8 \(12, 5, 6\), got float64 \(6, 5, 6\)"),
        ({"x_test": images(6, (6, 5))}, r"x_test: expected examples like uint8 \(12, 5, 6\), got uint8 \(6, 6, 5\)"),
        ({"y_train": LABELS + 0.5}, r"y_train: expected classes, got fractions such as 0.5; cut them"),
        ({"y_train": with_value(LABELS.astype(float), 4, np.nan)}, r"a label in every row, got none in rows \[4\]"),
        ({"y_train": np.zeros((12, 2))}, r"y_train: expected labels \(n,\), .*got float64 \(12, 2\)"),
        ({"y_test": np.arange(6)}, r"y_test: expected labels of y_train \(0, 1, 2\), got 3"),
        ({"classes": np.array(["a", "b"])}, "y_train: expected labels 0…1 as in classes, got 0…2"),
        ({"classes": np.array(["a", "b", "b"])}, r"classes: expected different names \(k,\)"),
        ({"classes": np.arange(3)}, r"classes: expected different names \(k,\), got int64 \(3,\)"),
        (
            {"x_train": np.array([{}] * 12, object)},
            "x_train: expected an .npz file of plain arrays, could not read it: .*pickle.*; store numbers, or text",
        ),
    ],
)
def test_bad_own_data_get_one_clear_error(tmp_path, arrays, message):
    path = save(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_own_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"expected an .npz file, got .*gone.npz, which is missing"):
        load(tmp_path / "gone.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match="which is a folder"):
        load(tmp_path / "folder.npz")
    (tmp_path / "text.npz").write_text("x_train,y_train")
    with pytest.raises(ValueError, match="could not read it"):
        load(tmp_path / "text.npz")
    whole = save(tmp_path / "own.npz").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="could not read it"):
            load(tmp_path / "cut.npz")
    changed = bytearray(whole)
    changed[200] ^= 255
    (tmp_path / "changed.npz").write_bytes(changed)
    with pytest.raises(ValueError, match="could not read it"):
        load(tmp_path / "changed.npz")
    np.save(tmp_path / "one.npy", images())
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match="could not read it"):
        load(tmp_path / "one.npz")
    with pytest.raises(ValueError, match=r"n_train: expected 3 \(one of each class\) to 12 rows of .*, got 13"):
        load(save(tmp_path / "own.npz"), n_train=13)
    alone = save(tmp_path / "alone.npz", y_train=with_value(LABELS, 0, 3), x_test=None, y_test=None)
    with pytest.raises(ValueError, match=r"two rows or more of each class to split off a test set, got one of \['3'\]"):
        load(alone)


@pytest.mark.skipif(not (SHARED / "unpack.py").exists(), reason="no copy of CIFAR-10 beside the repository")
def test_cifar10_unpacked_to_npz(tmp_path):
    subprocess.run([sys.executable, str(SHARED / "unpack.py"), str(tmp_path / "cifar10.npz")], check=True)
    data = load(tmp_path / "cifar10.npz")
    assert data.x_train.shape == (50000, 3, 32, 32) and data.x_test.shape == (10000, 3, 32, 32)
    assert data.y_train.bincount().tolist() == [5000] * 10 and data.y_test.bincount().tolist() == [1000] * 10
    mean = data.x_train.mean((0, 2, 3))  # published channel means of the training set
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=2e-3, rtol=0)
    few = load(tmp_path / "cifar10.npz", n_train=500, classes=[3, 5])
    assert few.classes == ("3", "5") and few.x_train.equal(data.x_train[few.rows_train])


# --- downloads, from a server of our own ----------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.close()


def put(server, name, body):
    """Serves it under this name; its MD5."""
    server.files[name] = body
    return hashlib.md5(body).hexdigest()


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


TEN = np.arange(30, dtype=np.uint8) % 10


@pytest.fixture
def mnist(server, monkeypatch):
    """A tiny MNIST: 30 and 20 images of 28 × 28."""
    resources = [
        (f"{part}-{kind}-ubyte.gz", put(server, f"{part}-{kind}-ubyte.gz", gzip.compress(idx(array))))
        for part, n in (("train", 30), ("t10k", 20))
        for kind, array in (("images-idx3", images(n, (28, 28), seed=n)), ("labels-idx1", TEN[:n]))
    ]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [server.url])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    return server


def test_a_set_is_downloaded_once(mnist, tmp_path):
    data = load("mnist", root=tmp_path)
    np.testing.assert_array_equal((data.x_train[:, 0] * 255).round(), images(30, (28, 28), seed=30))
    assert data.y_test.tolist() == TEN[:20].tolist() and data.classes == tuple("0123456789")
    asked = len(mnist.asked)
    assert asked >= 4 and load("mnist", root=tmp_path, n_train=10).x_train.shape == (10, 1, 28, 28)
    assert len(mnist.asked) == asked and [p.name for p in tmp_path.iterdir()] == ["mnist"]


def refused(root, name="mnist"):
    with pytest.raises(RuntimeError) as caught:
        load(name, root=root)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ and "\n" not in str(caught.value)
    assert not root.exists() or list(root.iterdir()) == []
    return str(caught.value)


def test_a_wrong_checksum_leaves_nothing(mnist, tmp_path):
    mnist.files["t10k-images-idx3-ubyte.gz"] = gzip.compress(b"something else")
    message = refused(tmp_path / "downloads")
    assert message.startswith("could not download mnist: RuntimeError: Error downloading t10k-images-idx3-ubyte.gz")
    assert "corrupted" in message and "load one of fashion-mnist, mnist-5k, digits, iris or the path of" in message


def test_a_missing_file_leaves_nothing(mnist, tmp_path):
    del mnist.files["train-labels-idx1-ubyte.gz"]
    assert "HTTP Error 404" in refused(tmp_path / "downloads")


def test_a_file_cut_short_leaves_nothing(mnist, tmp_path, monkeypatch):
    original = mnist.http.RequestHandlerClass.do_GET

    def cut(self):
        body = mnist.files[self.path.lstrip("/")]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])

    monkeypatch.setattr(mnist.http.RequestHandlerClass, "do_GET", cut)
    assert "could not download mnist" in refused(tmp_path / "downloads")
    monkeypatch.setattr(mnist.http.RequestHandlerClass, "do_GET", original)
    assert len(load("mnist", root=tmp_path / "downloads").y_train) == 30  # the next attempt starts clean


def test_a_refused_connection_leaves_nothing(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody listens there, and as long as it is bound nobody else can
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"http://127.0.0.1:{port}/cifar-10-python.tar.gz")
        for name in ("mnist", "cifar10"):
            message = refused(tmp_path / "downloads", name)
            assert message.startswith(f"could not download {name}: ") and "refused" in message


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        assert "timed out" in refused(tmp_path / "downloads")
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_written(mnist, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match=r"could not download mnist: (NotADirectory|FileExists)Error"):
        load("mnist", root=tmp_path / "file")


def test_a_damaged_copy_is_named_and_not_downloaded_over(mnist, tmp_path):
    load("mnist", root=tmp_path)
    kept = tmp_path / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    kept.write_bytes(kept.read_bytes()[:-5])
    asked = len(mnist.asked)
    with pytest.raises(RuntimeError, match=r"the copy of mnist in .*mnist is damaged .*; delete that folder"):
        load("mnist", root=tmp_path)
    assert len(mnist.asked) == asked


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return out.getvalue()


def test_cifar10_comes_channels_first_with_its_names(server, tmp_path, monkeypatch):
    kind, names = torchvision.datasets.CIFAR10, [f"class {i}" for i in range(10)]
    pixels = {part: images(n, (3, 32, 32), seed=n) for part, n in (("data_batch_1", 30), ("test_batch", 20))}
    batch = lambda part: {"data": pixels[part].reshape(-1, 3072), "labels": TEN[: len(pixels[part])].tolist()}
    files = {part: pickle.dumps(batch(part)) for part in pixels} | {
        "batches.meta": pickle.dumps({"label_names": names})
    }
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in files.items()}
    packed = tar_of({f"{kind.base_folder}/{name}": body for name, body in files.items()})
    monkeypatch.setattr(kind, "tgz_md5", put(server, kind.filename, packed))
    monkeypatch.setattr(kind, "url", server.url + kind.filename)
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5["batches.meta"]})
    data = load("cifar10", root=tmp_path)
    np.testing.assert_array_equal((data.x_train * 255).round(), pixels["data_batch_1"])
    np.testing.assert_array_equal((data.x_test * 255).round(), pixels["test_batch"])
    assert data.classes == tuple(names) and data.y_train.tolist() == TEN.tolist()


def test_svhn_counts_nought_as_0(server, tmp_path, monkeypatch):
    pixels, split = images(30, (32, 32, 3)), {}
    for part, n in (("train", 30), ("test", 20)):
        out = io.BytesIO()
        scipy.io.savemat(out, {"X": pixels[:n].transpose(1, 2, 3, 0), "y": np.where(TEN == 0, 10, TEN)[:n, None]})
        split[part] = [f"{server.url}{part}.mat", f"{part}.mat", put(server, f"{part}.mat", out.getvalue())]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split)
    data = load("svhn", root=tmp_path)
    np.testing.assert_array_equal((data.x_train * 255).round(), pixels.transpose(0, 3, 1, 2))
    assert data.y_train.tolist() == TEN.tolist() and data.classes == tuple("0123456789") and len(data.y_test) == 20


def test_emnist_letters_stand_upright_and_count_from_0(server, tmp_path, monkeypatch):
    pixels, letters, out = images(52, (28, 28)), np.arange(52, dtype=np.uint8) % 26 + 1, io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for part in ("train", "test"):
            for kind, array in (("images-idx3", pixels), ("labels-idx1", letters)):
                packed.writestr(f"gzip/emnist-letters-{part}-{kind}-ubyte.gz", gzip.compress(idx(array)))
    monkeypatch.setattr(torchvision.datasets.EMNIST, "md5", put(server, "gzip.zip", out.getvalue()))
    monkeypatch.setattr(torchvision.datasets.EMNIST, "url", server.url + "gzip.zip")
    data = load("emnist-letters", root=tmp_path)
    np.testing.assert_array_equal((data.x_train[:, 0] * 255).round(), pixels.transpose(0, 2, 1))
    assert data.y_train.tolist() == (letters - 1).tolist() and "".join(data.classes) == "abcdefghijklmnopqrstuvwxyz"


def test_usps(server, tmp_path, monkeypatch):
    split, x = {}, np.random.default_rng(0).uniform(-1, 1, (30, 256)).round(3)
    for part, n in (("train", 30), ("test", 20)):
        lines = [
            f"{y + 1} " + " ".join(f"{j + 1}:{v}" for j, v in enumerate(r)) for y, r in zip(TEN[:n], x, strict=False)
        ]
        body = bz2.compress(("\n".join(lines) + "\n").encode())
        split[part] = [f"{server.url}{part}.bz2", f"{part}.bz2", put(server, f"{part}.bz2", body)]
    monkeypatch.setattr(torchvision.datasets.USPS, "split_list", split)
    data = load("usps", root=tmp_path)
    assert data.x_train.shape == (30, 1, 16, 16) and data.y_train.tolist() == TEN.tolist()
    np.testing.assert_allclose(data.x_train.flatten(1), (x + 1) / 2, atol=1 / 255)


@pytest.mark.parametrize(("kind", "split"), datasets.DOWNLOADED.values(), ids=list(datasets.DOWNLOADED))
def test_every_downloadable_name_is_known_to_torchvision(kind, split):
    assert split is None or split in getattr(torchvision.datasets, kind).splits
    assert issubclass(getattr(torchvision.datasets, kind), torchvision.datasets.VisionDataset)
