"""Notebooks 02, 06, 12, 15 and 16: the same for many jobs, in processes beside each other."""

import os
import threading
import time
import warnings
from collections.abc import Callable

import torch
from joblib import Parallel, delayed, parallel_config

from lib.costs import bar


def each_in_a_process(call: Callable, jobs: list[tuple]) -> list:
    """``call(*job)`` for each job, in as many processes as torch has threads, one core each, under a bar; in order.

    For many small steps, most of their time in Python, where threads would wait for one another; and for what one core
    does nearly as fast as two, such as an eigendecomposition. ``call`` may be
    defined in a notebook: it goes over by value, with what it refers to. Results must be picklable.

    Example:
        >>> each_in_a_process(lambda a, b: a + b, [(1, 2)])
        [3]
    """
    cores = min(torch.get_num_threads(), len(jobs))
    if cores < 2:
        return [call(*job) for job in bar(jobs)]
    begun = {"initializer": _begin, "initargs": (os.getpid(), warnings.filters[:])}
    with parallel_config("loky", n_jobs=cores, inner_max_num_threads=1, **begun):
        results = Parallel(batch_size=1, return_as="generator")(delayed(call)(*job) for job in jobs)
        return list(bar(results, total=len(jobs)))


def _begin(parent: int, filters: list) -> None:
    """Warn of what the parent warns of; end once it is gone, however that ended, and whatever is being computed."""
    warnings.filters[:] = filters

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
