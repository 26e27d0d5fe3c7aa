"""Is it us? Runs that move a departure of ours towards the published setting and cost too much for a notebook.

A claim of a paper that is partly or not reproduced carries such a run (``lib.ledger.verdicts``). Those below 15 seconds
stand in their notebooks; these write what came into ``verdicts/moves.json``, which the notebooks read. From
``notebooks/``, on one core, some minutes each:

    python -m experiments.moves              # every run
    python -m experiments.moves lt.fraction  # the runs behind these claims, and no other

A run is a function under ``@moves("claim", …)``, in a module ``moves_*`` beside this one, that returns a ``Moved`` for
each of its claims. It may need ``data/downloads``; some begin with the networks of a notebook, and train these anew
where the store does not have them.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from lib.ledger.claims import load_claims
from lib.ledger.ledger import VERDICTS, judged, read_records, versions
from lib.ledger.tables import in_digits
from lib.store import new_file

FILE = VERDICTS / "moves.json"
RUNS: dict[Callable, tuple[str, ...]] = {}  # run → the claims that it serves
ON_THE_SIDE = ("stronger", "as published", "weaker")


class Moved(NamedTuple):
    """What a run found for a claim. ``value`` and ``interval`` (95%) are by setting where the claim has settings."""

    changed: str  # "ours → theirs", one clause
    value: float | Mapping[str, float]
    interval: tuple | Mapping[str, tuple]
    n: int  # what the interval is over, with ``covers``
    covers: tuple[str, ...]  # some of lib.ledger.verdicts.COVERS
    note: str = ""  # what else a reader must know
    was: float | Mapping[str, float] | None = None  # of the run itself; default the record's


def moves(*claims: str) -> Callable:
    """Decorator: the function, called without arguments, returns ``{claim: Moved}`` for these claims."""

    def register(run: Callable[..., dict[str, Moved]]) -> Callable[..., dict[str, Moved]]:
        RUNS[run] = claims
        return run

    return register


def told(claim: str, profile: str = "laptop", file: str | Path = FILE, *, was=None) -> str:
    """``moved=`` of the claim's record: the change, the value from → to, its interval, n and what it covers.

    ``was`` is the value of the record itself; by default the run's own, or that of the committed record at its time.
    Empty where no run is on file, and under another profile than "laptop", whose settings were moved.
    """
    one = _read(file).get(claim)
    if one is None or profile != "laptop":
        return ""
    value = one["value"] if isinstance(one["value"], Mapping) else {"": one["value"]}
    before = {"value": one["was"] if was is None else was, "interval": None}
    values = "; ".join(f"{s and s + ' '}{in_digits(before, s)} → {in_digits(one, s)}" for s in value)
    note = one["note"] and f"; {one['note']}"
    over = " and ".join(filter(None, [", ".join(one["covers"][:-1]), one["covers"][-1]]))
    return f"{one['changed']}: {values} (n = {one['n']:,}, 95% over {over}{note})"


def reached(claim: str, profile: str = "laptop", file: str | Path = FILE) -> bool | None:
    """``reached=`` of the claim's record: whether the run came to the claimed side, at every setting that it moved."""
    return _read(file)[claim]["reached"] if told(claim, profile, file) else None


def write(claims: list[str], file: str | Path = FILE) -> dict[str, dict]:
    """Run what serves ``claims`` (all if none), write each result as it comes; what was on file stays.

    Raises:
        ValueError: for a claim that no run serves; they are listed.
    """
    served = {claim for those in RUNS.values() for claim in those}
    if strange := set(claims) - served:
        raise ValueError(f"claims must be some of {', '.join(sorted(served))}; got {', '.join(sorted(strange))}")
    known, records = load_claims(), read_records(VERDICTS / "laptop")
    for run in [run for run, those in RUNS.items() if not claims or set(those) & set(claims)]:
        start = time.process_time()
        found = run()
        seconds = round(time.process_time() - start)
        every = _read(file)
        for claim, one in found.items():
            one = one._replace(value=_plain(one.value), interval=_plain(one.interval))
            measured = one._asdict() | {"covers": list(one.covers), "null": None, "moved": one.changed}
            findings = judged(known[claim], measured)["findings"]
            there = [findings] if isinstance(findings, str) else [findings[s] for s in one.value if s in findings]
            was = records[claim]["value"] if one.was is None else one.was
            every[claim] = {
                **one._asdict(), "was": was, "reached": all(f in ON_THE_SIDE for f in there),
                "run": run.__name__, "cpu_seconds": seconds, "versions": versions(),
            }  # fmt: skip
        with new_file(Path(file)) as out:
            out.write(json.dumps(dict(sorted(every.items())), indent=1, ensure_ascii=False, allow_nan=False).encode())
        print(f"{run.__name__}: {seconds} s of CPU", *(f"{c}: {told(c, file=file)}" for c in found), sep="\n  ")
    return _read(file)


def _read(file: str | Path) -> dict[str, dict]:
    return json.loads(Path(file).read_text("utf8")) if Path(file).exists() else {}


def _plain(value):
    """Numbers of any kind, in tuples and by setting, as JSON has them."""
    if isinstance(value, Mapping):
        return {setting: _plain(each) for setting, each in value.items()}
    return tuple(map(float, value)) if isinstance(value, tuple) else float(value)


if __name__ == "__main__":
    from experiments import moves as itself  # under its own name, or the runs would register elsewhere

    for module in sorted(Path(__file__).parent.glob("moves_*.py")):
        importlib.import_module(f"experiments.{module.stem}")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("claims", nargs="*", help="claims whose runs to repeat; default all")
    itself.write(parser.parse_args().claims)
