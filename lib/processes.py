"""Jobs beside each other where threads would wait for one another: many small steps, most of their time in Python.

A thread that starts an operation of ten microseconds gives up the interpreter and must get it back; two threads that do
so all the time finish hardly sooner than one. Processes share nothing.
"""

import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
from distributed.protocol.pickle import dumps, loads


def each_in_a_process(call: Callable, jobs: list[tuple]) -> list:
    """``call(*job)`` for each job, in as many processes as torch has threads, one core each; the results in order.

    ``call`` may be defined in a notebook: it goes over by value, with what it refers to. Results must be picklable.
    With one thread, or one job, all is done here. A script that calls this needs ``if __name__ == "__main__"``.

    Example:
        >>> each_in_a_process(lambda a, b: a + b, [(1, 2)])
        [3]
    """
    cores = min(torch.get_num_threads(), len(jobs))
    if cores < 2:
        return [call(*job) for job in jobs]
    text, spawn = dumps(call), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, spawn, initializer=_alone, initargs=(warnings.filters,)) as pool:
        return [future.result() for future in [pool.submit(_called, text, job) for job in jobs]]


def _alone(filters: list) -> None:
    torch.set_num_threads(1)
    warnings.filters[:] = filters


def _called(text: bytes, job: tuple):
    return loads(text)(*job)
