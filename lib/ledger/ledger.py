"""The ledger: what a notebook found, judged by the criterion that ``claims.yaml`` stated before the run."""

import importlib.metadata
import json
import math
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from lib.ledger.claims import CLAIMS, Claim, criterion, digest, load_claims
from lib.ledger.tables import criteria_table, in_words, verdict_table
from lib.ledger.verdicts import COVERS, judge, runs_needed
from lib.store import expanded, new_file, results_folder

VERDICTS = CLAIMS.parent / "verdicts"  # the committed records, <profile>/NN.json
NOTHING = dict(value=None, verdict="not run", word="", note="", reasons=[], moved="", n=None, covers=())
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")


class Ledger:
    """The claims that one notebook owns, and what it found.

    Every ``record`` writes ``<results>/<profile>/claims/<notebook>.json``: ``{id: {id, value, interval, n, covers,
    null, note, moved, reached, profile, versions}}`` and what ``judged`` adds. A ledger's first record starts that
    file afresh; to open one loses nothing. ``$STUDY_PARTIAL``, set while a whole notebook runs, precedes ``.json``.

    Args:
        notebook: its number, ``"04"``; a name such as ``"04_cg_score_pruning"`` is cut to it.
        profile: names the folder of results and labels the tables.
        results: root of results; default ``results_folder()``.
        claims: the list of claims; default ``notebooks/claims.yaml``.

    Raises: ValueError if the notebook owns no claim (those that do are listed), or the profile is not a plain name.

    Example:
        >>> ledger = Ledger("04", "smoke", results=tempfile.mkdtemp())
        >>> ledger.record("cg.closed_form", 3e-12, n=80)
        >>> ledger.found["cg.closed_form"]["verdict"]
        'holds'
    """

    def __init__(
        self, notebook: str, profile: str, results: str | Path | None = None, claims: str | Path | None = None
    ):
        every = load_claims(claims)
        self.notebook, self.profile, self.found = str(notebook)[:2], profile, {}
        self.owned = {name: claim for name, claim in every.items() if claim.notebook == self.notebook}
        self._owners = {name: claim.notebook for name, claim in every.items()}
        if not self.owned:
            raise ValueError(f"notebook must be one of {sorted(set(self._owners.values()))}, got {notebook!r}")
        folder = results_folder(profile)  # also checks the name
        folder = folder if results is None else expanded(results) / profile
        self.path = folder / "claims" / f"{self.notebook}{os.environ.get('STUDY_PARTIAL', '')}.json"

    def record(
        self, id: str, value: float | Mapping[str, float | None] | None, *,
        interval: tuple | Mapping[str, tuple] | None = None, n: int | None = None, covers: Sequence[str] = (),
        note: str = "", moved: str = "", reached: bool | None = None, null: float | tuple | Mapping | None = None,
    ) -> None:  # fmt: skip
        """Judge a claim and write it down; a second record of the same claim replaces the first.

        ``value``, ``interval`` and ``null`` are dicts by setting where the claim has settings. Settings that the claim
        does not name are shown and not judged; those that it names and that are missing count as open.

        Args:
            value: in the unit of the claim's measure; None = not decided here, for the reason in ``note``.
            interval: 95%, ``(low, high)``; needed except for identities and costs.
            n: how many examples, seeds or runs the interval is over.
            covers: what the interval is over, some of initializations, rows, test rows and architectures.
            note: what a reader of the table must know.
            moved: "is it us?": which of our departures a run moved towards the published setting, and what the value
                did. Without it a claim that fails is not decided.
            reached: whether that run was on the claimed side: it must fail, or be, where the claim does or is.
            null: band of chance of a correlation or share, ``(low, high)`` or a number; default the claim's threshold.

        Raises: ValueError naming the claim and what was expected; nothing is written then.
        """
        if id not in self.owned:
            owner = f"belongs to notebook {self._owners.get(id)}, this is"
            owner = owner if id in self._owners else "is no claim of notebook"
            raise ValueError(f"{id} {owner} {self.notebook}, which has {', '.join(self.owned)}")
        claim = self.owned[id]
        note = note or (claim.waits if value is None else "")
        values = _by_setting(claim, "value", value, _number)
        if all(v is None for v in values.values()) and not note:
            raise ValueError(f"value of {id} is None: say why in note")
        intervals = {s: i for s, i in _by_setting(claim, "interval", interval, _interval).items() if i is not None}
        band = lambda null, name: _interval((null, null) if isinstance(null, int | float) else null, name)
        bands = {s: ends for s, ends in _by_setting(claim, "null", null, band).items() if ends is not None}
        bare = [s for s in claim.keys if values.get(s) is not None and s not in intervals]
        if bare and claim.rule not in ("identity", "cost"):
            raise ValueError(f"interval of {id}{_at(bare[0])} must be (low, high): a {claim.rule} is judged by it")
        if isinstance(covers, str) or set(covers) - set(COVERS):
            raise ValueError(f"covers of {id} must be some of {', '.join(COVERS)}, got {covers!r}")
        plain = lambda by: None if not by else by if claim.settings else by.get("")
        self.found[id] = judged(claim, {
            "id": id, "value": plain(values), "interval": plain({s: list(i) for s, i in intervals.items()}),
            "n": None if n is None else int(n), "covers": list(covers),
            "null": plain({s: list(ends) for s, ends in bands.items()}), "note": note, "moved": moved,
            "reached": None if reached is None else bool(reached), "profile": self.profile, "versions": versions(),
        })  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(self.path) as file:
            file.write(json.dumps(self.found, indent=1, ensure_ascii=False, allow_nan=False).encode())

    def criteria(self) -> Styler:
        """What this notebook will judge, and how: for its head, before any run."""
        return criteria_table(self.owned.values())

    def table(self) -> Styler:
        """Claim, published, ours ± interval, criterion, verdict and later finding of every claim of the notebook.

        Where a part of a notebook was run by hand, the other claims are "not run"; where all of it runs, ValueError.
        """
        missing = [name for name in self.owned if name not in self.found]
        if missing and "STUDY_PARTIAL" in os.environ:
            raise ValueError(f"notebook {self.notebook} owns claims that were not recorded: {', '.join(missing)}")
        found = dict.fromkeys(missing, NOTHING) | self.found
        return verdict_table(self.owned.values(), found, self.profile)


def judged(claim: Claim, record: Mapping) -> dict:
    """The record with its verdict, word, findings, reasons and the digest of the criterion that gave them."""
    by = lambda field: record[field] or {} if claim.settings else {} if record[field] is None else {"": record[field]}
    lacks = [source for source in claim.covers if source not in record["covers"]]
    asked = None if claim.paper == "this study" else bool(record["moved"])
    verdict, word, findings, reasons = judge(
        claim.rule, by("value"), by("interval"), by("null"),
        settings=claim.keys, side=claim.side, size=claim.size, effect=claim.published_effect,
        threshold=claim.threshold, every=claim.every, lacks=lacks, asked=asked, reached=record.get("reached"),
    )  # fmt: skip
    remarks = _remarks(claim, by("value"), by("interval"), by("null"), findings, record["n"])
    found = findings if claim.settings else findings[""]
    return {**record, "verdict": verdict, "word": word, "findings": found, "reasons": [*reasons, *remarks],
            "criterion": digest(claim)}  # fmt: skip


def read_records(folder: str | Path) -> dict[str, dict]:
    """All records by id, from the ``NN.json`` of ``<results>/<profile>/claims`` or of ``VERDICTS / profile``."""
    records = {}
    for file in sorted(Path(folder).glob("[0-9][0-9].json")):
        try:
            records |= json.loads(file.read_text("utf8"))
        except (OSError, ValueError, TypeError) as error:
            warnings.warn(f"{file} is damaged ({error}): its notebook counts as not run", stacklevel=2)
    return records


def summary(records: Mapping[str, Mapping], claims: str | Path | None = None) -> pd.DataFrame:
    """All claims of all notebooks, one a row in the order of ``claims.yaml``, with what the records say of each.

    Returns: columns id, notebook, paper, claim, published, ours (text), n, criterion, verdict, word, note, reasons,
    departs, moved, later, covers. The verdict of what no run recorded is "not run"; the reasons say where a run was
    judged by an earlier form of its criterion.
    """
    every = load_claims(claims)
    if stray := sorted(set(records) - set(every)):
        warnings.warn(f"the records hold claims that claims.yaml does not: {', '.join(stray)}", stacklevel=2)
    rows = []
    for name, claim in every.items():
        record = NOTHING | {"criterion": digest(claim)} | records.get(name, {})
        changed = "judged by an earlier criterion" if record["criterion"] != digest(claim) else ""
        rows.append({
            "id": name, "notebook": claim.notebook, "paper": claim.paper, "claim": claim.claim,
            "published": claim.published, "covers": ", ".join(record["covers"]),
            "ours": "; ".join(in_words(claim, record, judged_only=True)) if name in records else "",
            "n": record["n"], "criterion": criterion(claim), "verdict": record["verdict"], "word": record["word"],
            "note": record["note"], "reasons": "; ".join(filter(None, [*record["reasons"], changed])),
            "departs": claim.departs, "moved": record["moved"], "later": claim.later,
        })  # fmt: skip
    return pd.DataFrame(rows).astype({"n": "Int64"})


def versions() -> dict[str, str]:
    """The versions that made a result."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _at(setting: str) -> str:
    return f" at {setting}" if setting else ""


def _by_setting(claim: Claim, what: str, given, check: Callable) -> dict:
    """What was given, by setting, checked; a single number stands under ``""``."""
    if given is None:
        return {}
    if not claim.settings:
        if isinstance(given, Mapping):
            raise ValueError(f"{what} of {claim.id} must be single, it has no settings; got {list(given)}")
        given = {"": given}
    elif not isinstance(given, Mapping):
        raise ValueError(f"{what} of {claim.id} must be a dict by setting ({', '.join(claim.settings)}), got {given!r}")
    return {str(s): None if v is None else check(v, f"{what} of {claim.id}{_at(str(s))}") for s, v in given.items()}


def _number(value, name: str) -> float:
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(value):
        kind = "NaN" if math.isnan(value) else "infinite"
        raise ValueError(f"{name} is {kind}: give a number, or None and the reason in note")
    return value


def _interval(interval, name: str) -> tuple[float, float]:
    try:
        low, high = interval
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be (low, high), got {interval!r}") from None
    low, high = _number(low, name), _number(high, name)
    if low > high:
        raise ValueError(f"{name} must be (low, high) with low ≤ high, got ({low}, {high})")
    return low, high


def _remarks(claim: Claim, values: dict, intervals: dict, bands: dict, findings: dict, n: int | None) -> list[str]:
    """Which settings were not measured or not judged, and how many runs would decide the open ones."""
    there = {s for s, v in values.items() if v is not None}
    remarks, factors = [], {}
    if there and (missing := [s for s in claim.keys if s not in there]):
        remarks.append("not measured: " + ", ".join(missing))
    if extra := sorted(s for s in values if s not in claim.keys):
        remarks.append("not judged: " + ", ".join(extra))
    for s in (s for s in claim.keys if s in there and s in intervals and findings[s] == "open" and claim.side[s]):
        start = max(bands.get(s, [claim.threshold[s]]), key=lambda end: claim.side[s] * end)
        if claim.size[s] is not None:
            factors[s] = runs_needed(intervals[s], claim.size[s], start)
    factor = max((f for f in factors.values() if 1 < f < 1e6), default=0.0)
    if factor and claim.rule != "trend":
        would = f"n of about {math.ceil(factor * n):,}, here {n:,}," if n else f"about {factor:.1f} times as many"
        remarks.append(f"open{_at('; '.join(filter(None, factors)))}: {would} would decide")
    return remarks
