"""What a computation costs: memory free before it starts, seconds and operations by phase, the peak of memory."""

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor
from tqdm.auto import tqdm


def device_of(device, *, here: bool = True) -> torch.device:
    """The device of that name, ``cpu``, ``cuda`` or ``cuda:1``; ValueError for another, or if no GPU is ``here``."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with suppress(RuntimeError, TypeError):
        found = torch.device(device)
        if found.type == "cpu" or (found.type == "cuda" and (not here or (found.index or 0) < gpus)):
            return found
    raise ValueError(f"device: expected 'cpu' or 'cuda' (GPUs that are visible here: {gpus}), got {device!r}")


def one_of(name: str, value, valid) -> None:
    """ValueError that says what is valid, unless ``value`` is."""
    if value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(map(str, valid))}, got {value!r}")


def as_tensor(values, name: str = "values") -> Tensor:
    """Numbers as a tensor without its graph, from tensors, arrays, tables, sparse matrices or lists.

    Raises: ValueError for text and other objects, complex numbers, sparse tensors, arrays with masked entries.
    """
    if isinstance(values, Tensor):
        if values.is_complex() or values.layout != torch.strided:
            raise ValueError(f"{name}: expected real numbers in a dense tensor, got {values.dtype}, {values.layout}")
        return values.detach()
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: expected a number in each place, got masked ones; fill or drop them")
    values = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected numbers, got {values.dtype} {values.shape}")
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def check_inputs(x: Tensor, name: str, kind: str = "numbers") -> None:
    """ValueError unless x, ``(n, …)``, holds finite ``numbers``, or finite ``floats``, at least one in each example."""
    real, got = x.is_floating_point(), f"{x.dtype} {tuple(x.shape)}"
    if real and x.numel() and not all(end.isfinite() for end in x.aminmax()):  # in one pass, and without a mask
        got += f", NaN or infinity in rows {(~x.reshape(len(x), -1).isfinite().all(1)).nonzero()[:5, 0].tolist()}"
    elif x.numel() and (real or kind == "numbers"):
        return
    raise ValueError(f"{name} must be finite {kind} (n, …), at least one in at least one example; got {got}")


def free_bytes(device="cpu") -> int:
    """Memory that can still be had on a device; on a CPU, within the limits of this process and of its containers."""
    if device_of(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [psutil.virtual_memory().available, *_left_in_groups()]
    if hasattr(psutil, "RLIMIT_AS") and (limit := psutil.Process().rlimit(psutil.RLIMIT_AS)[0]) >= 0:  # -1: none
        free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def _left_in_groups(own: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What the memory limits of this process's control groups leave, and those around them (versions 2 and 1)."""
    names, left = {"": ("max", "current"), "memory": ("limit_in_bytes", "usage_in_bytes")}, []
    for _, kind, path in (line.split(":", 2) for line in (own.read_text().splitlines() if own.exists() else ())):
        group = mount / kind / path.lstrip("/")
        for folder in (group, *group.parents) if kind in names else ():
            with suppress(OSError, ValueError):  # no such group here, or no limit
                limit, used = (int((folder / f"memory.{name}").read_text()) for name in names[kind])
                left.append(limit - used)
    return left


def best_seconds(work: Callable[[], object], *, repeats: int = 1, device="cpu") -> float:
    """Least wall-clock seconds of some calls of ``work``, which a GPU finishes before the clock is read."""
    seconds = []
    for _ in range(repeats):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def matrix_product_rate(n: int = 3000, *, dtype=torch.float32, device="cpu", repeats: int = 5) -> float:
    """10⁹ operations a second of this machine's matrix product, the best of some repeats: 2n³ operations each."""
    a, b = (torch.rand(n, n, dtype=dtype, device=device_of(device)) for _ in range(2))
    return 2e-9 * n**3 / best_seconds(lambda: a @ b, repeats=repeats, device=device)


def bar(jobs=None, *, progress: bool = True, **how) -> tqdm:
    """tqdm's bar over ``jobs``, for what takes longer than ten seconds; silent where TQDM_DISABLE is set."""
    return tqdm(jobs, disable=not progress or "TQDM_DISABLE" in os.environ, **how)  # in notebooks it does not look


class Phases:
    """Seconds by phase, and one progress bar in 10⁹ operations; a phase inside another counts for itself alone."""

    def __init__(self, device, operations: dict[str, float], *, progress: bool = False, title: str = ""):
        self.device, self.operations, self.seconds = device_of(device), operations, {}
        self._inner = []  # seconds that phases inside the open ones took
        self.bar = bar(
            total=sum(operations.values()) / 1e9, unit="GFLOP", desc=title, progress=progress,
            bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} [{elapsed}<{remaining}, {rate_fmt}]",
        )  # fmt: skip

    def tick(self, operations: float) -> None:
        """Move the bar on by operations done."""
        self.bar.update(operations / 1e9)

    @contextmanager
    def __call__(self, phase: str):
        _wait(self.device)
        begun = time.perf_counter()
        self._inner.append(0.0)
        yield
        _wait(self.device)
        spent = time.perf_counter() - begun
        self.seconds[phase] = self.seconds.get(phase, 0.0) + spent - self._inner.pop()
        if self._inner:
            self._inner[-1] += spent


class Measured(NamedTuple):
    """What a computation gave and what it cost."""

    result: object
    seconds: float
    peak_bytes: int  # resident memory beyond what was held before, at most, as seen every 5 ms; on a GPU exact


def measured(work: Callable[[], object], *, device="cpu") -> Measured:
    """Run ``work`` once, with its wall-clock seconds and the peak of the memory that it takes.

    Example:
        >>> measured(lambda: torch.zeros(10_000_000) + 1).peak_bytes > 2e7
        True
    """
    process, done, results = psutil.Process(), threading.Event(), []
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)  # give back what was freed, so that what is taken next is seen to grow
    held = lambda: process.memory_info().rss
    if device_of(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = lambda: torch.cuda.max_memory_allocated(device)
    peaks = [held()]

    def watch():
        while not done.wait(0.005):
            peaks.append(held())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        seconds = best_seconds(lambda: results.append(work()), device=device)
    finally:
        done.set()
        watcher.join()
    return Measured(results[0], seconds, max(*peaks, held()) - peaks[0])


def _wait(device) -> None:
    if device_of(device).type == "cuda":
        torch.cuda.synchronize(device)
