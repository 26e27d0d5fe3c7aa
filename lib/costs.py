"""What a computation costs: memory that is free before it starts, seconds and operations of each of its phases."""

import time
from contextlib import contextmanager
from pathlib import Path

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
        shown = {} if progress else {"disable": True}  # left out, so that TQDM_DISABLE is heard
        form = "{l_bar}{bar}| {n:.0f}/{total:.0f} [{elapsed}<{remaining}, {rate_fmt}]"
        self.bar = tqdm(total=sum(operations.values()) / 1e9, unit="GFLOP", desc=title, bar_format=form, **shown)

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
