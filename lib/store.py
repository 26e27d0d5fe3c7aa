"""Long work kept in shards: a killed run goes on where it was and loses at most the shard it was writing.

A shard is an uncompressed ``.npz`` (``numpy.load`` opens it) named by the SHA-256 of its key, holding the key itself
as ``__key__``, and ending in a line with the SHA-256 of all bytes before it. A shard appears under its name whole or
not at all (temporary name, sync, rename), so a reader needs no lock and two writers of one key do no harm.
"""

import hashlib
import json
import math
import os
import re
import time
import uuid
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

KEY = "__key__"
MARK = b"\nsha256:"
TRAILER = len(MARK) + 64  # bytes after the archive, which zip readers skip


def results_folder(profile: str | None = None) -> Path:
    """Results: ``$STUDY_RESULTS``, or ``results/`` beside ``lib/``; in there of a ``profile``, a plain name."""
    root = expanded(os.environ.get("STUDY_RESULTS") or Path(__file__).resolve().parents[1] / "results")
    if profile is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", profile):
        raise ValueError(f"profile must be a plain name such as 'laptop', got {profile!r}")
    return root if profile is None else root / profile


def expanded(path: str | os.PathLike) -> Path:
    """A path that a user wrote: ``~`` is a home."""
    return Path(os.path.expanduser(path))  # as it stands where nobody has that home: a file may be called ~draft.csv


@contextmanager
def new_file(path: Path):
    """A file open for writing bytes, and reading them, that takes its name when it is whole and on the disk."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> bool:
    """Whether it is what a killed ``new_file`` left behind, and nobody else's."""
    return bool(re.fullmatch(r".+\.[0-9a-f]{32}\.tmp", path.name))


def canonical(key: Mapping) -> str:
    """The key as JSON in one spelling: names sorted, no spaces. What JSON cannot hold is a ValueError with its place.

    A tuple equals a list of the same items; 1, 1.0, True and "1" are four different values.

    Example:
        >>> canonical({"seed": 0, "dataset": "digits"})
        '{"dataset":"digits","seed":0}'
    """
    if not isinstance(key, Mapping):
        raise ValueError(f"key must be a dict of settings, got {type(key).__name__}")
    _check(key, "key")
    return json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=dict)


def _check(value, place: str) -> None:
    if isinstance(value, Mapping | list | tuple):
        named = isinstance(value, Mapping)
        for name, item in value.items() if named else enumerate(value):
            if named and not isinstance(name, str):
                raise ValueError(f"{place} must have text as names, got {name!r} ({type(name).__name__})")
            _check(item, f"{place}[{name!r}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} must be finite, got {value}")
    elif value is not None and not isinstance(value, str | bool | int | float):
        kinds, cure = "text, a number, a boolean, None, or a list or dict of these", "int(…), float(…), .tolist()"
        raise ValueError(f"{place} must be {kinds}; got {type(value).__name__} (convert it: {cure}, or a digest)")


class Store:
    """A folder of shards: ``put`` keeps named arrays under a key, ``get`` returns them, ``cached`` does both.

    The key must hold all that the result depends on: function name and version, dataset SHA-256, settings, seed,
    range of the shard. Safe for many processes on one folder (default ``results_folder(profile) / "cache"``, made on
    the first ``put``). Cost: two passes over the bytes to write and two to read (checksum, then arrays).

    Example:
        >>> store = Store(tempfile.mkdtemp())
        >>> store.cached({"function": "squares", "version": 1, "n": 3}, lambda: {"square": np.arange(3) ** 2})
        {'square': array([0, 1, 4])}
    """

    def __init__(self, folder: str | os.PathLike | None = None, *, profile: str | None = None):
        self.folder = expanded(folder) if folder is not None else results_folder(profile) / "cache"

    def path(self, key: Mapping) -> Path:
        """The file of a key, there or not."""
        return self.folder / f"{hashlib.sha256(canonical(key).encode()).hexdigest()}.npz"

    def get(self, key: Mapping) -> dict[str, np.ndarray] | None:
        """The arrays of ``key``, or None where there are none; OSError where there is something that is not a file.

        A damaged shard is named in a ``RuntimeWarning``, renamed ``*.damaged``, and counts as none.
        """
        path = self.path(key)
        if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
            raise OSError(f"{path} must be a file: it is a folder, a pipe or a device; remove it")
        try:
            with open(path, "rb") as file:
                arrays = _read(file)
        except FileNotFoundError:
            return None
        if arrays is not None and str(arrays.pop(KEY, "")) == canonical(key):
            return arrays
        fault = "its checksum does not match" if arrays is None else "it holds another key"
        with suppress(OSError):  # another process has set it aside, or nobody may
            os.replace(path, f"{path}.damaged")
        warnings.warn(f"damaged shard {path} ({fault}): now {path.name}.damaged", RuntimeWarning, stacklevel=2)
        return None

    def put(self, key: Mapping, arrays: Mapping[str, np.ndarray]) -> Path:
        """Keep ``arrays`` of numbers, booleans or text under ``key``, replacing what was there; return the file."""
        path, plain = self.path(key), _plain(arrays)
        self.folder.mkdir(parents=True, exist_ok=True)
        for temporary in filter(unfinished, self.folder.iterdir()):
            with suppress(FileNotFoundError):  # another process was faster
                if temporary.stat().st_mtime < time.time() - 86_400:  # a day old: a killed writer's
                    temporary.unlink()
        with new_file(path) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, array in {KEY: np.array(canonical(key)), **plain}.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            file.seek(0)
            file.write(MARK + hashlib.file_digest(file, "sha256").hexdigest().encode())
        return path

    def cached(self, key: Mapping, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of ``key``; where there are none (or they are damaged), those of ``compute()``, then kept."""
        arrays = self.get(key)
        if arrays is None:
            arrays = _plain(compute())
            self.keep(key, arrays)
        return arrays

    def keep(self, key: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
        """``put``, with a ``RuntimeWarning`` where the disk does not take it: what was computed outlives that."""
        try:
            self.put(key, arrays)
        except OSError as error:
            lost = f"a result is not kept ({error}): a later run computes it again"
            warnings.warn(lost, RuntimeWarning, stacklevel=3)


def _plain(arrays: Mapping) -> dict[str, np.ndarray]:
    if not isinstance(arrays, Mapping):
        raise ValueError(f"arrays must be a dict of named arrays, got {type(arrays).__name__}")
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    for name, array in plain.items():
        if not isinstance(name, str) or not name or name == KEY or re.search(r"[\x00/\\]", name):
            raise ValueError(f"arrays must have plain text as names (not {KEY!r}), got {name!r}")
        if array.dtype.hasobject:
            raise ValueError(f"arrays[{name!r}] must hold numbers, booleans or text, got Python objects")
    return plain


def _read(file) -> dict[str, np.ndarray] | None:
    """The arrays of a shard, or None where its checksum does not match."""
    unread = max(os.fstat(file.fileno()).st_size - TRAILER, 0)
    sha256, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
    while unread and (count := file.readinto(buffer[: min(unread, len(buffer))])):  # 0 where the file has shrunk
        sha256.update(buffer[:count])
        unread -= count
    if file.read() != MARK + sha256.hexdigest().encode():
        return None
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive)
