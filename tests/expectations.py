"""What the profile smoke is expected to find on any processor, and how far off counts.

    python tests/expectations.py [--only 04] [--records FOLDER]

runs the notebooks under ``smoke`` with their own seed, with four more, and with their own once more as another
processor would (``plain`` in ``conftest.py``), and rewrites their part of ``tests/expected/smoke.json``. With
``--records`` it keeps what each run recorded and does not run again what is there. Look at the difference before
committing it, and say in the commit why it moved.

Three things are held, such that false alarms of all of them together, in the whole file, come on less than 1% of new
processors:

**Numbers.** Another processor or version of a library changes the last bits, and training amplifies these to, at worst,
what another seed does. So a value may be whatever one more seed may give: with mean x̄ and standard deviation s over m
seeds, x̄ ± t √(1 + 1/m) s̃, at level 1 − ALARM / NUMBERS each. However they depend on one another, one of NUMBERS is
then outside with probability ALARM at most (Bonferroni). Four degrees of freedom would make t 39 and trust an s that
may be small by chance, so the variance is pooled: s̃² = (d₀ s₀² + (m − 1) s²) / (d₀ + m − 1), with d₀ + m − 1 degrees of
freedom for t. This is exact where, over the numbers of the file, σ² varies as d₀ s₀² / χ²(d₀). One s₀ serves for all on
the scale of what is recorded with each, its standard error (the interval's half-width over Student's t): s₀ = RATIO ×
standard error. ``fit`` finds d₀ = PRIOR_DF and RATIO from the variance and mean of log s², less what chance gives these
(trigamma and digamma).

A value is *steady* if, with the notebook's own seed, two processors gave it the same to SAME. It moves on a third with
probability MOVES at most, and only then is it like another seed's: its level is 1 − ALARM / NUMBERS / MOVES. Of 314
values in 122 claims that were steady on an AMD EPYC with and without its vector instructions, 2 in 2 claims were not
what another machine had recorded before: fewer than 5.1% of claims, at 95%.

**Verdicts.** The ends of each interval have such boxes too, and count among NUMBERS. A claim is judged by its own rule
wherever in their boxes its numbers may be, each setting apart from the others, and each verdict that comes of it is
allowed; a verdict is wrong only where a number left its box. Where nothing in the boxes leads to another it is held, be
it but few: under ``smoke`` most lie near a border. What was not measured stays unmeasured. An identity is held to its
verdict; of a cost only that it was measured is expected, since times of milliseconds depend on what else runs.

**Most stays as it was.** All this finds a reversed sign and hardly an epoch too few. But most values are steady. So if
more than HALF of a notebook's steady values have moved, in more than HALF of its claims and in more than FEWEST, all
claims with such values are named. The values of a claim come from the same trainings and move together; a test computes
how improbable half is if claims move apart from one another with probability MOVES. Counts (``n``) that all runs share
are held as they are.

``test_notebooks.py`` simulates the first: a number is out of its box on fewer than .9% of processors for normal draws
and Student's t of 10, the ends of intervals included (most of which no verdict depends on), and values alone for
Student's t of 5; the last on fewer than .1%.
"""

import argparse
import itertools
import json
import math
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import PLAIN
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import t as student

from lib.ledger.claims import Claim, load_claims
from lib.ledger.verdicts import DIRECT, VERDICTS, combine, judge, qualify
from lib.study import notebooks
from lib.study.notebooks import REPO, Notebook

FILE = Path(__file__).parent / "expected" / "smoke.json"
#: Decided only where the data are.
DOWNLOADED = {"lt.pairs.published", "ui.text", "cg.noise.human", "cg.pictures.features"}
DOWNLOADED |= {"lt.fraction.mnist.whole", "lt.pairs.mnist.whole", "lt.marginal.mnist"}
SEEDS = 5
ALARM, NUMBERS = 0.003, 1700  # of all numbers together; at least as many as there are (a test counts)
PRIOR_DF, RATIO = 1.6, 1.0  # see ``fit``
SAME, MOVES = 2e-3, 0.05  # what is steady, and how often it is not on a third processor: see above
HALF, FEWEST = 0.5, 2  # of a notebook's steady values and claims may move; always so many claims


def reach(spread, error, steady=False, seeds: int = SEEDS):
    """How far from the mean of some seeds a number may be; ``error`` is the standard error recorded with it, or 0."""
    df = PRIOR_DF + seeds - 1
    prior = np.where(error, np.multiply(RATIO, error), spread)
    pooled = np.sqrt((PRIOR_DF * prior**2 + (seeds - 1) * np.square(spread)) / df)
    alarm = ALARM / NUMBERS / np.where(steady, MOVES, 1.0)
    return student.ppf(1 - alarm / 2, df) * math.sqrt(1 + 1 / seeds) * pooled


def expected(claim: Claim, runs: Sequence[Mapping], plain: Mapping | None = None) -> dict:
    """What to expect of one claim, from its records of several seeds, the notebook's own first, and from one of its own
    seed on another processor."""
    own, values = runs[0], {}
    for setting, value in _settings(own["value"]).items():
        seen = [_settings(run["value"]).get(setting) for run in runs]
        if claim.rule in ("identity", "cost") or None in seen:
            continue
        error, there = _error(runs, setting), _settings((plain or own)["value"]).get(setting)
        steady = there is not None and not _moved(value, there, error)
        values[setting] = [_short(value) if steady else None]
        values[setting] += map(_short, (statistics.fmean(seen), statistics.stdev(seen), error))
    others = sorted(reachable(claim, runs) - {own["verdict"]})
    counted = own["n"] is not None and len({run["n"] for run in [*runs, plain or own]}) == 1
    return (
        {"verdict": own["verdict"]}
        | ({"or": others} if others else {})
        | ({"n": own["n"]} if counted else {})
        | ({"values": values} if values else {})
    )


def reachable(claim: Claim, runs: Sequence[Mapping]) -> set[str]:
    """The verdicts that the claim's rule gives anywhere in the boxes of its numbers, and those that a seed gave."""
    given = {run["verdict"] for run in runs}
    if claim.id in DOWNLOADED:
        return given | {"not decided here", *(("holds",) if claim.rule == "identity" else VERDICTS[:3])}
    if claim.rule in ("identity", "cost") or all(run["value"] is None for run in runs):
        return given
    if claim.rule == "trend" and set(claim.settings) != set(DIRECT):
        return given | set(VERDICTS[:4])
    some = {(finding,) for finding in _trends(claim, runs)} if claim.rule == "trend" else {()}  # findings so far
    for setting in claim.keys if claim.rule != "trend" else ():
        found = _findings(claim, setting, runs)
        some = {tuple(sorted((*before, finding))) for before in some for finding in found}
    lacks = [source for source in claim.covers if source not in runs[0]["covers"]]
    asked = None if claim.paper == "this study" else bool(runs[0]["moved"])
    found = {combine(findings, every=claim.every) for findings in some}
    reached = {None} if all(run.get("reached") is None for run in runs) else {False, True}  # the run varies, too
    return given | {qualify(verdict, lacks, asked, there)[0] for verdict in found for there in reached}


def _rule(claim: Claim) -> dict:
    return {"side": claim.side, "size": claim.size, "effect": claim.published_effect, "threshold": claim.threshold}


def _findings(claim: Claim, setting: str, runs: Sequence[Mapping]) -> set[str]:
    """All findings at one setting."""
    seen = [_settings(run["value"]).get(setting) for run in runs]
    found = {"open"} if None in seen else set()
    if all(value is None for value in seen):
        return found
    chance, size, effect = claim.threshold[setting], claim.size[setting] or 0.0, claim.published_effect[setting] or 0.0
    for null in itertools.product(*_boxes(runs, setting, "null", (chance, chance))):
        middle = sum(null) / 2
        cuts = (chance, size, effect, *null, *(centre + e for centre in (chance, middle) for e in (-size, size)))
        ends = [_points(box, cuts) for box in _boxes(runs, setting, "interval")]
        values = _points(_box([v for v in seen if v is not None], _error(runs, setting)), cuts)
        for value, low, high in itertools.product(values, *ends):
            if low <= high:
                numbers = {setting: value}, {setting: (low, high)}, {setting: null}
                found |= set(judge(claim.rule, *numbers, settings=(setting,), **_rule(claim)).findings.values())
    return found


def _trends(claim: Claim, runs: Sequence[Mapping]) -> set[str]:
    size, effect = abs(claim.size["ends"] or 0.0), claim.published_effect["ends"] or 0.0
    cuts = (0.0, size, -size, effect)
    ends = [_points(box, cuts) for name in DIRECT for box in _boxes(runs, name, "interval")]
    seen = [_settings(run["value"]).get("ends") for run in runs]
    if None in seen:
        return {"open"}
    found, values = set(), _points(_box(seen, _error(runs, "ends")), cuts)
    for a, b, c, d, value in itertools.product(*ends, values):
        if a <= b and c <= d:
            numbers = {"trend": 0.0, "ends": value}, dict(zip(DIRECT, ((a, b), (c, d)), strict=True))
            found.add(judge("trend", *numbers, settings=claim.settings, **_rule(claim)).findings["ends"])
    return found


def _boxes(runs: Sequence[Mapping], setting: str, what: str, default: tuple | None = None) -> list[tuple]:
    """For both ends of the interval or of the band of chance: from where to where it may be."""
    pairs = [_pair(run[what], setting) or default for run in runs]
    error = _error(runs, setting) if what == "interval" else 0.0
    return [_box(ends, error) for ends in zip(*filter(None, pairs), strict=True)]


def _box(numbers: Sequence[float], error: float) -> tuple[float, float]:
    centre, far = statistics.fmean(numbers), reach(statistics.stdev(numbers) if len(numbers) > 1 else 0.0, error)
    return centre - far, centre + far


def _points(box: tuple[float, float], cuts: Sequence[float]) -> list[float]:
    """A rule changes its mind at the cuts alone: the ends of the box, the cuts in it, and what lies between them."""
    edges = [box[0], *sorted({cut for cut in cuts if box[0] < cut < box[1]}), box[1]]
    return sorted({*edges, *(sum(pair) / 2 for pair in itertools.pairwise(edges))})


def _error(runs: Sequence[Mapping], setting: str) -> float:
    """Standard error of a value, from the recorded 95% intervals; those over few seeds or runs are Student's."""
    squares = []
    for run in runs:
        if pair := _pair(run["interval"], setting):
            few = run["n"] is not None and 1 < run["n"] <= 10
            squares.append(((pair[1] - pair[0]) / 2 / student.ppf(0.975, run["n"] - 1 if few else math.inf)) ** 2)
    return math.sqrt(statistics.fmean(squares)) if squares else 0.0


def _pair(by, setting: str) -> tuple[float, float] | None:
    """An interval, by setting or the only one."""
    return by.get(setting) if isinstance(by, Mapping) else by if setting == "" else None


def differences(wanted: Mapping[str, Mapping], found: Mapping[str, Mapping]) -> list[str]:
    """Where what a notebook found is not what is expected: a line each, with the claim, the old and the new."""
    lines = [f"{claim}: expected, and not recorded" for claim in wanted if claim not in found]
    lines += [
        f"{claim}: recorded, and not expected (refresh the expectations)" for claim in found if claim not in wanted
    ]
    steady, moved = {}, {}
    for claim in (claim for claim in wanted if claim in found):
        want, got = wanted[claim], found[claim]
        if got["verdict"] not in (want["verdict"], *want.get("or", ())):
            others = f" (or {', '.join(want['or'])})" if want.get("or") else ""
            lines.append(f"{claim}: the verdict was {want['verdict']!r}{others}, now it is {got['verdict']!r}")
        if "n" in want and got["n"] != want["n"]:
            lines.append(f"{claim}: n was {want['n']}, now it is {got['n']}")
        values = _settings(got["value"])
        for setting, (own, mean, spread, error) in want.get("values", {}).items():
            new, at = values.get(setting), f" at {setting}" if setting else ""
            if new is None:
                lines.append(f"{claim}{at}: the value was {mean:g}, now there is none")
                continue
            far = reach(spread, error, own is not None) + SAME * abs(mean)
            if not abs(new - mean) <= far:
                lines.append(f"{claim}{at}: the value was {mean:g} ± {far:.3g}, now it is {new:g}")
            if own is not None:
                steady[claim] = steady.get(claim, 0) + 1
                if _moved(own, new, error):
                    moved.setdefault(claim, []).append(f"{setting} {own:g} → {new:g}".strip())
    if len(moved) > max(FEWEST, HALF * len(steady)) and sum(map(len, moved.values())) > HALF * sum(steady.values()):
        lines += [f"{claim}: no longer what two processors gave: {'; '.join(what)}" for claim, what in moved.items()]
    return lines


def _moved(old: float, new: float, error: float) -> bool:
    return not abs(new - old) <= SAME * max(abs(old), abs(new), error)


def _settings(value) -> dict:
    """By setting; a single value stands under the empty setting, none under no setting."""
    return value if isinstance(value, Mapping) else {} if value is None else {"": value}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def fit(everything: Mapping, seeds: int = SEEDS) -> tuple[float, float]:
    """PRIOR_DF and RATIO from the spreads that stand in the file, but for the lowest twentieth: what hardly depends on
    the seed would make the others' spreads look more diverse than they are."""
    logs = sorted(
        2 * math.log(spread / error)
        for claims in everything.values()
        for claim in claims.values()
        for _, _, spread, error in claim.get("values", {}).values()
        if spread and error
    )
    logs, df = logs[len(logs) // 20 :], seeds - 1
    excess = statistics.variance(logs) - polygamma(1, df / 2)
    prior = 2 * brentq(lambda half: polygamma(1, half) - excess, 1e-3, 1e3)
    mean = statistics.fmean(logs) - digamma(df / 2) + math.log(df / 2) + digamma(prior / 2) - math.log(prior / 2)
    return prior, math.exp(mean / 2)


def refresh(chosen: Sequence[Notebook], kept: Path, file: Path = FILE) -> None:
    """Run the notebooks and rewrite their part of the file; nothing is expected of one that owns no claims."""
    for notebook in filter(notebooks.owned, chosen):
        claims = load_claims(notebook.home / "claims.yaml")
        *runs, plain = (_recorded(notebook, offset, kept) for offset in (*range(SEEDS), "plain"))
        everything = json.loads(file.read_text("utf8")) if file.exists() else {}  # now: others may be refreshing too
        everything[notebook.number] = {
            claim: expected(claims[claim], [run[claim] for run in runs], plain[claim]) for claim in runs[0]
        }
        text = json.dumps(dict(sorted(everything.items())), indent=1, ensure_ascii=False)
        lists = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")  # in a line each
        file.write_text(lists.sub(lambda list_: "[" + re.sub(r",\s+", ", ", list_[1]) + "]", text) + "\n", "utf8")


def _recorded(notebook: Notebook, offset: int | str, kept: Path) -> dict:
    """What a run recorded, from where it is kept if it is."""
    path = kept / f"{notebook.number}-{offset}.json"
    if not path.exists():
        values = notebooks.overrides(notebook, "smoke")
        first = values.get("seed", notebooks.parameters(notebook)["seed"].default)
        seed, processor = (first, PLAIN) if offset == "plain" else (first + offset, {})
        with tempfile.TemporaryDirectory() as results, pytest.MonkeyPatch.context() as patch:
            for name, value in processor.items():
                patch.setenv(name, value)
            run = notebooks.run(notebook, "smoke", values | {"seed": seed}, Path(results))
            if run.failure:
                raise SystemExit(f"{notebook.name}, {offset}: {run.failure}")
            print(f"{notebook.name}, {offset}: {run.seconds:.0f} s", flush=True)
            path.write_text(Path(results, "smoke", "claims", f"{notebook.number}.json").read_text("utf8"), "utf8")
    return json.loads(path.read_text("utf8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--records", type=Path)
    asked = parser.parse_args()
    from lib.study.runner import select

    with tempfile.TemporaryDirectory() as folder:
        kept = asked.records or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        refresh(select(notebooks.find(REPO / "notebooks"), asked.only, not asked.only), kept)
    print("PRIOR_DF {:.2f}, RATIO {:.2f}".format(*fit(json.loads(FILE.read_text("utf8")))))
