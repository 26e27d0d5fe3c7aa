"""What a computation costs: memory free before it starts, seconds and operations by phase, the peak of memory."""

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from tqdm.auto import tqdm


def free_bytes(device="cpu") -> int:
    """Memory that can still be had on a device; on a CPU, within the limit of the container where there is one."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        free = min(free, int(text) - int(used.read_text()))
    return free


def peak_bytes() -> int:
    """The most memory that this process has held so far (resident set)."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def matrix_product_rate(n: int = 3000, *, dtype=torch.float32, device="cpu", repeats: int = 5) -> float:
    """10⁹ operations a second of this machine's matrix product, the best of some repeats: 2n³ operations each."""
    a, b = (torch.rand(n, n, dtype=dtype, device=device) for _ in range(2))
    best = 0.0
    for _ in range(repeats):
        phases = Phases(device, {"product": 2.0 * n**3})
        with phases("product"):
            a @ b
        best = max(best, 2e-9 * n**3 / phases.seconds["product"])
    return best


def best_seconds(work: Callable[[], object], *, repeats: int = 1) -> float:
    """Least wall-clock seconds of some calls of ``work``.

    Example:
        >>> 0 <= best_seconds(lambda: None, repeats=3) < 1
        True
    """
    spent = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
    return min(spent)


class Phases:
    """Seconds by phase, and one progress bar in 10⁹ operations; a phase inside another counts for itself alone.

    Example:
        >>> phases = Phases("cpu", {"square": 2e9})
        >>> with phases("square"):
        ...     phases.tick(2e9)
        >>> list(phases.seconds)
        ['square']
    """

    def __init__(self, device, operations: dict[str, float], *, progress: bool = False, title: str = ""):
        self.seconds: dict[str, float] = {}
        self.operations = operations
        self._wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
        self._inner = []  # seconds that phases inside the open ones took
        silent = not progress or "TQDM_DISABLE" in os.environ  # which tqdm's notebook bar does not look at itself
        form = "{l_bar}{bar}| {n:.0f}/{total:.0f} [{elapsed}<{remaining}, {rate_fmt}]"
        total = sum(operations.values()) / 1e9
        self.bar = tqdm(total=total, unit="GFLOP", desc=title, bar_format=form, disable=silent)

    def tick(self, operations: float) -> None:
        """Move the bar on by operations done."""
        self.bar.update(operations / 1e9)

    @contextmanager
    def __call__(self, phase: str):
        self._wait()
        begun = time.perf_counter()
        self._inner.append(0.0)
        yield
        self._wait()
        spent = time.perf_counter() - begun
        self.seconds[phase] = self.seconds.get(phase, 0.0) + spent - self._inner.pop()
        if self._inner:
            self._inner[-1] += spent


def _give_back_freed() -> None:
    """Return freed memory to the system where the C library can, so that what is taken next is seen to grow."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # not glibc
        pass


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
    gpu, process, seen, done = torch.device(device).type == "cuda", psutil.Process(), [0], threading.Event()
    _give_back_freed()
    before = torch.cuda.memory_allocated(device) if gpu else process.memory_info().rss
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)

    def watch():
        while not done.is_set():
            seen.append(process.memory_info().rss - before)
            done.wait(0.005)

    watcher = threading.Thread(target=(lambda: None) if gpu else watch, daemon=True)
    watcher.start()
    begun = time.perf_counter()
    try:
        result = work()
        if gpu:
            torch.cuda.synchronize(device)
    finally:
        seconds = time.perf_counter() - begun
        done.set()
        watcher.join()
    peak = (
        torch.cuda.max_memory_allocated(device) - before if gpu else max(*seen, process.memory_info().rss - before, 0)
    )
    return Measured(result, seconds, peak)
