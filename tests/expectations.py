"""What the profile smoke is expected to find, with tolerances argued from the spread over seeds.

    python tests/expectations.py [--only 04] [--seeds 5]

runs the notebooks under ``smoke`` with several seeds and rewrites their part of ``tests/expected/smoke.json``: by
claim, the verdict with the notebook's own seed, other verdicts that a seed gave, and by setting the value with its own
seed and a tolerance. Look at the difference before committing it, and say in the commit why it moved.

Another machine or version of a library changes the last bits, and training amplifies these to, at worst, what another
seed does. So a value may move by as much as two seeds differ in 95% of cases: t · s · √2, with s over m seeds and
Student's t with m − 1 degrees of freedom. Most move less: with one thread for two and AVX2 for AVX-512, 65 of notebook
04's 79 values stayed as they were to four digits, and one moved by more than s, by 2.6 s where 3.9 s are allowed.
Where seeds do not matter, a tenth of the half-width of the recorded interval, or one part in a thousand, stands for
rounding. An identity has no tolerance, as its verdict is the comparison. Of a cost only
that it was measured is expected: times of a few milliseconds depend on the machine and on what else it does.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy.stats import t as student

from lib.ledger.claims import load_claims
from lib.study import notebooks
from lib.study.notebooks import REPO, Notebook

FILE = Path(__file__).parent / "expected" / "smoke.json"
MEASURED = ("reproduced", "partly", "not reproduced")  # verdicts on a cost that was measured
DOWNLOADED = {"lt.pairs.published"}  # decided wherever the authors' page can be reached, or was
LEVEL = 0.95


def expected(rule: str, runs: Sequence[Mapping]) -> dict:
    """What to expect of one claim, from its records of several seeds; the first is the notebook's own seed."""
    verdict = runs[0]["verdict"]
    others = sorted({run["verdict"] for run in runs} - {verdict})
    if rule == "cost":
        others = sorted({*MEASURED, *others} - {verdict})
    values = {}
    for setting in _settings(runs[0]["value"]):
        seen = [_settings(run["value"]).get(setting) for run in runs]
        if rule in ("identity", "cost") or None in seen:
            continue
        values[setting] = {
            "value": _short(seen[0]),
            "tolerance": _short(_tolerance(setting, seen, runs)),
        }
    return {"verdict": verdict} | ({"or": others} if others else {}) | ({"values": values} if values else {})


def _tolerance(setting: str, seen: Sequence[float], runs: Sequence[Mapping]) -> float:
    m = len(seen)
    reach = student.ppf((1 + LEVEL) / 2, m - 1) * statistics.stdev(seen) * math.sqrt(2)
    low, high = _settings(runs[0]["interval"]).get(setting) or (0.0, 0.0)
    return max(reach, (high - low) / 20, 1e-3 * max(map(abs, seen)), 1e-12)


def differences(wanted: Mapping[str, Mapping], found: Mapping[str, Mapping]) -> list[str]:
    """Where what was found is not what is expected: a line each, with the claim, the old and the new."""
    lines = [f"{claim}: expected, and not recorded" for claim in wanted if claim not in found]
    lines += [
        f"{claim}: recorded, and not expected (refresh the expectations)" for claim in found if claim not in wanted
    ]
    for claim in (claim for claim in wanted if claim in found):
        want, got = wanted[claim], found[claim]
        if got["verdict"] not in (want["verdict"], *want.get("or", ())):
            others = f" (or {', '.join(want['or'])})" if want.get("or") else ""
            lines.append(f"{claim}: the verdict was {want['verdict']!r}{others}, now it is {got['verdict']!r}")
        values = _settings(got["value"])
        for setting, old in want.get("values", {}).items():
            new, at = values.get(setting), f" at {setting}" if setting else ""
            if new is None:
                lines.append(f"{claim}{at}: the value was {old['value']:g}, now there is none")
            elif not abs(new - old["value"]) <= old["tolerance"]:
                lines.append(f"{claim}{at}: the value was {old['value']:g} ± {old['tolerance']:g}, now it is {new:g}")
    return lines


def _settings(value) -> dict:
    """By setting; a single value stands under the empty setting, none under no setting."""
    return value if isinstance(value, Mapping) else {} if value is None else {"": value}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def refresh(chosen: Sequence[Notebook], seeds: int, file: Path = FILE) -> None:
    """Run the notebooks with as many seeds and rewrite their part of the file; nothing is expected of one that owns
    no claims."""
    for notebook in filter(notebooks.owned, chosen):
        rules = {claim.id: claim.rule for claim in load_claims(notebook.folder / "claims.yaml").values()}
        values = notebooks.overrides(notebook, "smoke")
        first = values.get("seed", notebooks.parameters(notebook)["seed"].default)
        records = []
        for seed in range(first, first + seeds):
            with tempfile.TemporaryDirectory() as results:
                run = notebooks.run(notebook, "smoke", values | {"seed": seed}, Path(results))
                if run.failure:
                    raise SystemExit(f"{notebook.name}, seed {seed}: {run.failure}")
                print(f"{notebook.name}, seed {seed}: {run.seconds:.0f} s", flush=True)
                records.append(
                    json.loads(Path(results, "smoke", "claims", f"{notebook.number}.json").read_text("utf8"))
                )
        everything = json.loads(file.read_text("utf8")) if file.exists() else {}  # now: others may be refreshing too
        everything[notebook.number] = {
            claim: expected(rules[claim], [record[claim] for record in records])
            | ({"or": list(MEASURED)} if claim in DOWNLOADED else {})
            for claim in records[0]
        }
        file.write_text(json.dumps(dict(sorted(everything.items())), indent=1, ensure_ascii=False) + "\n", "utf8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    from lib.study.runner import select

    refresh(select(notebooks.find(REPO / "notebooks"), asked.only), asked.seeds)
