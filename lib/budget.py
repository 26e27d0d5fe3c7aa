"""What fits in a given time: how much of each wish is granted, and a clock that keeps to it.

A plan is made before the work: every item gets its least, and all get the same share of the way from there to their
wish. Where even the least of everything does not fit, fewer rows are planned for.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd


class Item(NamedTuple):
    """A piece of work: so many units are wished for, at least so many are needed, each takes so long."""

    what: str
    unit: str
    wished: int
    least: int
    seconds: float  # a unit, for all rows
    power: int = 1  # of the number of rows that this time grows with


def plan(items: list[Item], seconds: float) -> pd.DataFrame:
    """How much of each item fits in some seconds.

    Returns:
        Indexed by ``what``: ``unit, wished, least, planned, each`` (seconds a unit), ``seconds`` (of the planned).

    Raises:
        ValueError: if the least of everything does not fit; says how many minutes would do.

    Example:
        >>> plan([Item("networks", "trainings", 10, 2, 1.0)], 6.5).planned.tolist()
        [6]
    """
    for item in items:
        if not 0 <= item.least <= item.wished or not item.seconds >= 0:
            raise ValueError(f"{item.what}: expected 0 ≤ least ≤ wished and a time, got {item}")
    least = _least(items)
    if not least <= seconds:
        needed = ", ".join(f"{item.least} {item.unit} for {item.what}" for item in items if item.least)
        raise ValueError(
            f"minutes: the least that makes sense ({needed}) takes {least / 60:.2g} minutes, and {seconds / 60:.2g} "
            "are left; allow more, or ask for fewer scores"
        )
    rest = sum((item.wished - item.least) * item.seconds for item in items)
    granted = 1.0 if rest <= seconds - least else (seconds - least) / rest
    lines = []
    for item in items:
        planned = item.least + math.floor(granted * (item.wished - item.least) + 1e-9)
        lines.append((item.what, item.unit, item.wished, item.least, planned, item.seconds, planned * item.seconds))
    columns = ["what", "unit", "wished", "least", "planned", "each", "seconds"]
    return pd.DataFrame(lines, columns=columns).set_index("what")


def rows_that_fit(items: list[Item], n: int, seconds: float, *, fewest: int) -> int:
    """The most rows, up to n, with which the least of every item fits; ``fewest`` where not even these do.

    Example:
        >>> rows_that_fit([Item("CG", "factorization", 1, 1, 80.0, power=3)], 1000, 10.0, fewest=100)
        500
    """
    low, high = min(fewest, n), n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _least(shrunk(items, middle / n)) <= seconds else (low, middle - 1)
    return low


def shrunk(items: list[Item], share: float) -> list[Item]:
    """The same items on a share of the rows."""
    return [item._replace(seconds=item.seconds * share**item.power) for item in items]


def _least(items: list[Item]) -> float:
    return sum(item.least * item.seconds for item in items)


@dataclass
class Clock:
    """Time spent by item, against what was planned for it."""

    planned: pd.DataFrame
    spent: dict[str, float] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def blocks(self, what: str, size: int, *, patience: float = 1.5) -> Iterator[range]:
        """The planned units of an item in blocks, until they are done or have taken ``patience`` times as planned.

        The least of the item is always given. What is done between two blocks counts as the item's time.
        """
        total, limit = int(self.planned.planned[what]), patience * float(self.planned.seconds[what])
        begun, at = time.perf_counter(), 0
        while at < total:
            end = min(at + size, total)
            yield range(at, end)
            at = end
            self.spent[what], self.done[what] = time.perf_counter() - begun, at
            if self.spent[what] > limit and at >= self.planned.least[what]:
                break

    def run(self, what: str, work: Callable[[], object]):
        """Do a whole item at once and return what it returns."""
        begun = time.perf_counter()
        result = work()
        self.spent[what], self.done[what] = time.perf_counter() - begun, int(self.planned.planned[what])
        return result

    def table(self) -> pd.DataFrame:
        """Wished, planned and done, with the seconds planned and taken."""
        table = self.planned[["unit", "wished", "planned"]].copy()
        table["done"] = [self.done.get(what, 0) for what in table.index]
        table["seconds planned"] = self.planned.seconds
        table["seconds taken"] = [self.spent.get(what, 0.0) for what in table.index]
        return table
