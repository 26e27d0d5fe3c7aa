import importlib
import json
import math

import pytest

from experiments import moves, moves_data_diet, moves_long_tail, moves_ui
from experiments.moves import FILE, Moved
from lib.ledger.claims import load_claims
from lib.ledger.ledger import VERDICTS, read_records
from lib.training import Run

ONE = Moved("2,000 → 8,000 rows", 0.4, (0.35, 0.45), 800, ("rows",), "one network")


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Two runs, and a file for what they find."""
    short = Moved(
        "one rate → another", {"≥ 0.25": 1.0, "≥ 0.5": -1.0}, {"≥ 0.25": (0.9, 1.1), "≥ 0.5": (-2, 0)}, 5, ("rows",)
    )
    monkeypatch.setattr(moves, "RUNS", {})
    moves.moves("lt.fraction")(lambda: {"lt.fraction": ONE})
    moves.moves("lt.marginal")(lambda: {"lt.marginal": short})
    return tmp_path / "moves.json"


def test_what_a_run_found_is_written_and_told(file):
    moves.write(["lt.fraction"], file)
    was = read_records(VERDICTS / "laptop")["lt.fraction"]["value"]
    said = f"2,000 → 8,000 rows: {was:.3g} → 0.40 [0.35, 0.45] (n = 800, 95% over rows; one network)"
    assert moves.told("lt.fraction", file=file) == said
    assert moves.told("lt.fraction", file=file, was=0.3) == said.replace(f"{was:.3g}", "0.3")
    assert moves.told("lt.marginal", file=file) == moves.told("lt.fraction", "smoke", file) == ""
    assert moves.reached("lt.fraction", file=file) and not moves.reached("lt.fraction", "smoke", file)
    moves.write(["lt.marginal"], file)  # by setting, one of which did not come to the claimed side
    assert moves.told("lt.marginal", file=file).count("→") == 3 and not moves.reached("lt.marginal", file=file)
    assert list(json.loads(file.read_text("utf8"))) == ["lt.fraction", "lt.marginal"]


def test_a_claim_that_no_run_serves_is_named(file):
    with pytest.raises(ValueError, match="xx.none"):
        moves.write(["xx.none"], file)
    assert not file.exists()


def test_every_run_is_on_file():
    claims, kept = load_claims(), json.loads(FILE.read_text("utf8"))
    for module in FILE.parents[1].glob("experiments/moves_*.py"):
        importlib.import_module(f"experiments.{module.stem}")
    served = [claim for those in moves.RUNS.values() for claim in those]
    assert set(kept) == set(served) <= set(claims) and len(served) == len(kept)
    assert all(claims[claim].paper != "this study" and claims[claim].departs for claim in served)


@pytest.mark.parametrize(
    ("run", "sizes"),
    [
        (moves_data_diet.rate, {"draws": 2, "n": 200, "networks": 2, "places": (0.0, 0.1)}),
        (moves_data_diet.born, {"draws": 2, "n": 100, "networks": 2}),
        (moves_long_tail.strongest, {"n": 300, "trials": 40, "retrainings": 3, "run": Run(progress=False)}),
        (moves_ui.decay_and_rows, {"networks": 2, "n": 10, "more": 12, "held": 4}),
        (moves_data_diet.moving, {"n": 400, "networks": 2, "groups": 3, "size": 20, "subset": 50}),
    ],
)
def test_runs_at_tiny_sizes(run, sizes, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))  # 01's run has a store
    found, claims = run(**sizes), load_claims()
    assert set(found) == set(moves.RUNS[run])
    for name, one in found.items():
        value, ends = (side if claims[name].settings else {"": side} for side in (one.value, one.interval))
        assert set(value) == set(ends) and set(value) <= set(claims[name].keys)
        assert all(math.isfinite(v) and ends[s][0] <= v <= ends[s][1] for s, v in value.items())
