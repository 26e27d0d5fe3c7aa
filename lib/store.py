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
from pathlib import Path

import numpy as np

KEY = "__key__"
MARK = b"\nsha256:"
TRAILER = len(MARK) + 64  # bytes after the archive, which zip readers skip


def results_folder(profile: str | None = None) -> Path:
    """Where results go: ``$STUDY_RESULTS``, or ``results/`` beside ``lib/``; with ``profile``, its folder in there.

    Raises:
        ValueError: if ``profile`` is not a plain name.

    Example:
        >>> results_folder("smoke").name
        'smoke'
    """
    root = Path(os.environ.get("STUDY_RESULTS") or Path(__file__).resolve().parents[1] / "results").expanduser()
    if profile is None:
        return root
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", profile):
        raise ValueError(f"profile must be a plain name such as 'laptop', got {profile!r}")
    return root / profile


def canonical(key: Mapping) -> str:
    """The key as JSON in one spelling: names sorted, no spaces; equal keys give equal text whatever their order.

    A tuple equals a list of the same items; 1, 1.0, True and "1" are four different values.

    Raises:
        ValueError: if ``key`` is not a dict, or holds what JSON cannot (the place is named), or a NaN or infinity.

    Example:
        >>> canonical({"seed": 0, "dataset": "digits"})
        '{"dataset":"digits","seed":0}'
    """
    if not isinstance(key, Mapping):
        raise ValueError(f"key must be a dict of settings, got {type(key).__name__}")
    _check(key, "key")
    return json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=dict)


def _check(value, place: str) -> None:
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} must be finite, got {value}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{place} must have text as names, got {name!r} ({type(name).__name__})")
            _check(item, f"{place}[{name!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check(item, f"{place}[{i}]")
    else:
        raise ValueError(
            f"{place} must be text, a number, a boolean, None, or a list or dict of these; "
            f"got {type(value).__name__} (convert it: int(…), float(…), .tolist(), or a digest of an array)"
        )


class Store:
    """A folder of shards: ``put`` keeps named arrays under a key, ``get`` returns them, ``cached`` does both.

    The key must hold all that the result depends on: function name and version, dataset SHA-256, settings, seed,
    range of the shard. Safe for many processes on one folder. The object is only its folder, so it pickles.

    Args:
        folder: made on the first ``put``; default ``results_folder(profile) / "cache"``.
        profile: used where ``folder`` is not given.

    Cost: one pass over the bytes to write, two to read (checksum, then arrays); memory of the arrays and 16 MiB.

    Example:
        >>> store = Store(tempfile.mkdtemp())
        >>> store.cached({"function": "squares", "version": 1, "n": 3}, lambda: {"square": np.arange(3) ** 2})
        {'square': array([0, 1, 4])}
    """

    def __init__(self, folder: str | os.PathLike | None = None, *, profile: str | None = None):
        self.folder = Path(folder) if folder is not None else results_folder(profile) / "cache"

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def path(self, key: Mapping) -> Path:
        """The file of a key, there or not."""
        return self.folder / f"{hashlib.sha256(canonical(key).encode()).hexdigest()}.npz"

    def __contains__(self, key: Mapping) -> bool:
        """Whether a shard is there; its checksum is looked at by ``get`` only."""
        return self.path(key).exists()

    def get(self, key: Mapping) -> dict[str, np.ndarray] | None:
        """The arrays of ``key``, or None where there are none.

        A damaged shard is named in a ``RuntimeWarning``, renamed ``*.damaged``, and counts as none.

        Raises:
            ValueError: if the key is not JSON.
            OSError: if the file is there but cannot be opened.
        """
        path = self.path(key)
        try:
            with open(path, "rb") as file:
                arrays, fault = _read(file)
        except FileNotFoundError:
            return None
        if not fault and str(arrays.pop(KEY, "")) != canonical(key):
            fault = "it holds another key"
        if not fault:
            return arrays
        aside = path.with_name(path.name + ".damaged")
        try:
            os.replace(path, aside)
        except FileNotFoundError:  # another process has set it aside
            pass
        warnings.warn(f"damaged shard {path} ({fault}): set aside as {aside.name}", RuntimeWarning, stacklevel=2)
        return None

    def put(self, key: Mapping, arrays: Mapping[str, np.ndarray]) -> Path:
        """Keep ``arrays`` under ``key``, replacing what was there, and return the file.

        When this returns the shard is on the disk; when it is interrupted nothing is there under the shard's name.

        Raises:
            ValueError: if the key is not JSON, or an array holds Python objects or has a name that a file cannot.
        """
        path, arrays = self.path(key), _plain(arrays)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        temporary = self.folder / f"{path.stem}.{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "wb") as file:
                _write(file, {KEY: np.array(canonical(key)), **arrays})
                file.flush()
                os.fsync(file.fileno())
            _rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def cached(self, key: Mapping, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of ``key``; where there are none (or they are damaged), those of ``compute()``, then kept."""
        arrays = self.get(key)
        if arrays is None:
            arrays = _plain(compute())
            self.put(key, arrays)
        return arrays

    def _sweep(self, hours: float = 24) -> None:
        """Remove what killed writers left; an hours-old temporary belongs to nobody."""
        for left in self.folder.glob("*.tmp"):
            try:
                if left.stat().st_mtime < time.time() - 3600 * hours:
                    left.unlink()
            except FileNotFoundError:  # another process was faster
                pass


def _plain(arrays: Mapping) -> dict[str, np.ndarray]:
    if not isinstance(arrays, Mapping):
        raise ValueError(f"arrays must be a dict of named arrays, got {type(arrays).__name__}")
    out = {}
    for name, value in arrays.items():
        if not isinstance(name, str) or not name or name == KEY or re.search(r"[\x00/\\]", name):
            raise ValueError(f"arrays must have plain text as names (not {KEY!r}), got {name!r}")
        out[name] = np.asarray(value)
        if out[name].dtype.hasobject:
            raise ValueError(f"arrays[{name!r}] must hold numbers, booleans or text, got Python objects")
    return out


class _Hashed:
    """A file that can only be written to, and knows the SHA-256 of what was."""

    def __init__(self, file):
        self.file, self.sha = file, hashlib.sha256()

    def write(self, data) -> int:
        self.sha.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write(file, arrays: Mapping[str, np.ndarray]) -> None:
    hashed = _Hashed(file)
    with zipfile.ZipFile(hashed, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    file.write(MARK + hashed.sha.hexdigest().encode())


def _read(file) -> tuple[dict[str, np.ndarray], str]:
    """The arrays and "", or nothing and what is wrong with the file."""
    left = os.fstat(file.fileno()).st_size - TRAILER
    if left <= 0:
        return {}, "too short"
    sha, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
    while left:
        got = file.readinto(buffer[: min(left, len(buffer))])
        sha.update(buffer[:got])
        left -= got
    if file.read() != MARK + sha.hexdigest().encode():
        return {}, "its checksum does not match"
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive), ""


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except PermissionError:  # Windows, while another process reads the same shard: it is there already
        if not path.exists():
            raise
    if os.name == "posix":  # make the new name itself durable
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
