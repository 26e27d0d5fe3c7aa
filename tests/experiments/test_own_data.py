"""Data of one's own: the check-up, the choice of a network, the plan, the judges, what can be dropped."""

import math
import time
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from experiments import checkup, own_data
from lib import statistics
from lib.catalogue import Settings, compute
from lib.data import datasets, noise, score_files
from lib.store import Store
from lib.study import notebooks
from lib.study.notebooks import REPO, Notebook
from lib.training.recipe import Run

SMALL = Settings(architecture="linear", epochs=3, early=1, batch_size=20, networks=2, trials=8, trial_epochs=4)


def clusters(n=60, k=3, d=4, seed=0):
    """Features of k classes far apart, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return torch.tensor(4 * np.eye(k, d)[y] + 0.5 * rng.normal(size=(n, d)), dtype=torch.float32), torch.tensor(y)


def found(checked, text):
    (line,) = checked.findings[checked.findings.finding.str.startswith(text)].itertuples()
    return line


# --- the check-up ----------------------------------------------------------------------------------------------------


def test_planted_copies_are_found_by_row():
    pictures = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    y = torch.arange(40) % 4
    pictures[30], y[30] = pictures[3], y[3]
    pictures[31], y[31] = pictures[4], (y[4] + 1) % 4
    pictures[32] = 0.5 * pictures[5]  # a darker copy; 32 and 5 are of different classes
    pictures[33] = 0.25
    test = torch.rand(10, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    test[2] = pictures[7]
    rows, y_test = 100 + torch.arange(40), torch.arange(10) % 4
    seen = checkup.checkup(pictures, y, x_test=test, y_test=y_test, rows=rows)
    exact = seen.findings.set_index("finding")
    assert exact.loc["exact copies", ["found", "rows"]].tolist() == [1, "130 = 103"]
    assert exact.loc["exact copies with different labels", ["found", "rows"]].tolist() == [1, "131 = 104"]
    near = [name for name in exact.index if name.startswith("near copies") and exact.found[name]]
    assert near == ["near copies with different labels"]
    assert exact.rows[near[0]] == "132 = 105"
    leak = exact[exact.index.str.startswith("exact copies, in training and test")]
    assert leak.found.sum() == 1
    assert leak.rows[leak.found > 0].tolist() == ["107 = 2"]
    assert exact.loc["constant examples", ["found", "rows"]].tolist() == [1, "133"]
    flags = seen.flags.set_index("row")
    assert flags.duplicate_of[130] == 103
    assert flags.near_duplicate_of[132] == 105
    assert flags.in_test[107] == 2
    assert flags.index[flags.contradicted].tolist() == [104, 105, 107, 131, 132]  # 107 is a 3, and a 2 in the test
    assert flags.index[flags.constant].tolist() == [133]
    assert (flags.drop([130]).duplicate_of.drop(131) == checkup.NONE).all()


def test_nothing_is_found_where_nothing_is_wrong():
    x, y = clusters()
    seen = checkup.checkup(x, y, x_test=clusters(seed=1)[0], y_test=y)
    ordinary = seen.findings[~seen.findings.finding.str.contains("examples, feature|^test examples")]
    assert len(ordinary) == 14
    assert (ordinary.found == 0).all()
    assert (ordinary.advice == "–").all()


def test_features_copies_do_not_depend_on_units():
    x, y = clusters(n=90)
    x[50], x[51] = x[10], x[11] + 1e-3
    for scale in (torch.ones(4), torch.tensor([1e-4, 1.0, 50.0, 1e3])):
        pairs = checkup.checkup(x * scale, y).pairs
        assert sorted(zip(pairs.kind, pairs.a, pairs.b, strict=True)) == [("exact", 50, 10), ("near", 51, 11)]


def test_three_copies_point_to_the_first():
    x, y = clusters()
    x[20] = x[30] = x[10]
    assert checkup.checkup(x, y).flags.duplicate_of[[20, 30]].tolist() == [10, 10]


def test_imbalance_constants_range_and_what_is_not_finite():
    x, y = clusters(n=100)
    keep = torch.cat([torch.nonzero(y != 2).flatten(), torch.nonzero(y == 2).flatten()[:5]])
    x, y = x[keep].clone(), y[keep]
    x[:, 3], x[7, 0] = 2.0, math.nan
    seen = checkup.checkup(x, y, x_test=x[:4] + 9, y_test=y[:4] * 0)
    assert found(seen, "classes with less than half").rows == "class 2: 5"
    assert found(seen, "classes without a test example").rows == "class 1, class 2"
    assert found(seen, "features (pixels) with one value").rows == "columns 3"
    assert found(seen, "values that are not finite").rows == "7"
    assert seen.flags.not_finite.sum() == 1
    dim = checkup.checkup(torch.rand(30, 1, 4, 4) / 255, torch.arange(30) % 2)
    assert found(dim, "values from").found == 1
    wide = checkup.checkup(torch.rand(30, 2) * torch.tensor([1.0, 1000.0]), torch.arange(30) % 2)
    assert found(wide, "features on different scales").found == 1


def test_the_trousers_that_are_one_picture_but_for_brightness():
    """``data/README.md`` names these three rows of Fashion-MNIST."""
    trousers = datasets.load("fashion-mnist", classes=["Trouser"])
    same = torch.isin(trousers.rows_train, torch.tensor([753, 29413, 43549]))
    some = same | (torch.arange(len(same)) < 300)
    y = torch.zeros(int(some.sum()), dtype=torch.int64)
    seen = checkup.checkup(trousers.x_train[some], y, rows=trousers.rows_train[some])
    assert set(seen.flags.row[seen.pairs.a]) | set(seen.flags.row[seen.pairs.b]) >= {753, 29413, 43549}
    assert (seen.pairs.kind == "near").all()


def test_iris_keeps_a_flower_in_both_parts():
    iris = datasets.load("iris")
    test = {"x_test": iris.x_test, "y_test": iris.y_test, "rows_test": iris.rows_test}
    seen = checkup.checkup(iris.x_train, iris.y_train, rows=iris.rows_train, **test)
    leak = seen.findings[seen.findings.rows == "142 = 101"]
    assert leak.finding.tolist() == ["exact copies, in training and test"]


def test_hopeless_data_are_refused():
    x, y = clusters()
    with pytest.raises(ValueError, match="y_train: expected two classes at least, got 1 in 60 rows"):
        checkup.refuse(x, y * 0)
    with pytest.raises(ValueError, match="x_train: expected 20 rows at least .* got 12"):
        checkup.refuse(x[:12], y[:12])
    with pytest.raises(ValueError, match="two rows or more of each class, got one of class 3 \\(position 59\\)"):
        checkup.refuse(x, torch.cat([y[:59], torch.tensor([3])]))
    x[5, 0] = math.inf
    with pytest.raises(ValueError, match=r"x_train: expected finite values, got NaN or infinity at positions \[5\]"):
        checkup.refuse(x, y)
    with pytest.raises(ValueError, match=r"expected floats .* and whole numbers \(n,\)"):
        checkup.checkup(x, y.double())
    with pytest.raises(ValueError, match="both or neither"):
        checkup.checkup(x, y, x_test=x)
    with pytest.raises(ValueError, match="near: expected a share"):
        checkup.checkup(x, y, near=1.5)


# --- names and networks ----------------------------------------------------------------------------------------------


def test_names_of_scores():
    assert own_data.score_names("cg, EL2N,c-score ,cg") == ["CG", "EL2N", "C-score"]
    assert own_data.score_names("forgetting epochs,f-si") == ["forgetting, epochs", "F-SI"]
    with pytest.raises(ValueError, match="scores: expected some of random, .*cg.*; got 'magic'"):
        own_data.score_names("cg,magic")
    with pytest.raises(ValueError, match="got none"):
        own_data.score_names(" ")


@pytest.mark.parametrize(
    ("shape", "architecture", "side"),
    [
        ((4,), "mlp-64", None),
        ((768,), "mlp-128", None),
        ((1, 28, 28), "mlp-256", None),
        ((3, 32, 32), "lenet", None),
        ((3, 200, 300), "lenet", 32),
        ((1, 64, 64), "lenet", 32),
    ],
)
def test_the_network_suits_the_data(shape, architecture, side):
    choice = own_data.choose(shape, 5000, 7)
    assert (choice.settings.architecture, choice.side) == (architecture, side)
    assert choice.why
    x = torch.rand(6, *shape)
    part = datasets.Dataset(x[:4], torch.arange(4), x[4:], torch.arange(2), *[torch.arange(4)] * 2, ("a",) * 4, "own")
    ready = own_data.prepared(part, side)
    assert ready.x_train.shape[1:] == (shape if side is None else (shape[0], side, side))
    assert ready.x_train.mean().abs() < 1e-5


def test_a_network_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="lenet takes square images"):
        own_data.choose((30,), 100, 2, architecture="lenet")
    with pytest.raises(ValueError, match="name must be one of linear, mlp"):
        own_data.choose((30,), 100, 2, architecture="transformer")


def test_few_rows_are_seen_often_enough():
    for n in (40, 400, 4000, 40000):
        s = own_data.choose((10,), n, 2).settings
        assert 15 <= s.trial_epochs <= 60
        assert s.trial_epochs * n / s.batch_size >= 100


# --- the plan --------------------------------------------------------------------------------------------------------


ITEMS = [
    own_data.Item("a", "runs", 10, 2, 3.0),
    own_data.Item("b", "seeds", 5, 1, 2.0),
    own_data.Item("c", "one", 1, 1, 1.0, 3),
]


def test_wishes_are_granted_where_there_is_time_and_cut_alike_where_not():
    assert own_data.plan_work(ITEMS, 41.0).planned.tolist() == [10, 5, 1]
    half = own_data.plan_work(ITEMS, 25.0)  # 9 at least; of 32 more, 16 are there
    assert half.planned.tolist() == [6, 3, 1]
    assert half.seconds.sum() <= 25
    assert own_data.plan_work(ITEMS, 9.0).planned.tolist() == [2, 1, 1]


@pytest.mark.parametrize("seconds", [8.9, 0.0, -5.0, math.nan])
def test_too_little_time_says_how_much_would_do(seconds):
    with pytest.raises(ValueError, match="minutes: the least that makes sense .2 runs for a, 1 seeds for b, 1 one"):
        own_data.plan_work(ITEMS, seconds)


def test_rows_are_cut_until_the_least_fits():
    assert own_data.rows_that_fit(ITEMS, 1000, 100.0, fewest=50) == 1000
    rows = own_data.rows_that_fit(ITEMS, 1000, 4.0, fewest=50)
    assert sum(item.least * item.seconds for item in own_data.shrunk(ITEMS, rows / 1000)) <= 4.0
    assert sum(item.least * item.seconds for item in own_data.shrunk(ITEMS, (rows + 1) / 1000)) > 4.0
    assert own_data.rows_that_fit(ITEMS, 1000, 0.0, fewest=50) == 50


def test_the_clock_gives_blocks_until_time_is_out():
    clock = own_data.Clock(own_data.plan_work(ITEMS, 41.0))
    assert [(b.start, b.stop) for b in clock.blocks("a", 4)] == [(0, 4), (4, 8), (8, 10)]
    slow = own_data.Clock(own_data.plan_work([own_data.Item("a", "runs", 100, 1, 0.001)], 1.0))
    for _ in slow.blocks("a", 1, patience=1.0):
        time.sleep(0.02)
    assert 1 <= slow.done["a"] <= 6
    assert slow.table().loc["a", "planned"] == 100
    least = own_data.Clock(own_data.plan_work([own_data.Item("a", "seeds", 5, 2, 1e-6)], 1.0))
    for _ in least.blocks("a", 1):
        time.sleep(0.01)
    assert least.done["a"] == 2
    assert clock.run("b", lambda: "result") == "result"
    assert clock.done == {"a": 10, "b": 5}


def test_a_plan_is_measured_once(tmp_path):
    x, y = clusters()
    wish = {"minutes": 5, "begun": time.perf_counter(), "trials": 30, "networks": 3, "seeds": 2, "plans": 4}
    names, labels = ["CG", "EL2N", "memorization"], torch.stack([y, y])
    store = Store(tmp_path)
    rows, plan = own_data.make_plan(names, x, labels, SMALL, **wish, store=store)
    assert rows == 60
    assert plan.planned.to_dict() == {"CG": 1, "runs": 3, "judges": 30, "pruning": 2}
    assert plan.unit["CG"] == own_data.EXACT
    again = own_data.make_plan(names, x, labels, SMALL, **wish, store=store)[1]
    pd.testing.assert_frame_equal(plan, again)
    with pytest.raises(ValueError, match="minutes: expected more than 0, got -1"):
        own_data.make_plan(names, x, labels, SMALL, **wish | {"minutes": -1})
    with pytest.raises(ValueError, match="seeds: expected 2 or more"):
        own_data.make_plan(names, x, labels, SMALL, **wish | {"seeds": 1})


def test_a_plan_that_failed_is_measured_anew(tmp_path, monkeypatch):
    x, y = clusters()
    wish = {"minutes": 1, "begun": time.perf_counter(), "trials": 30, "networks": 3, "seeds": 2, "plans": 4}
    cost = {"step": 10.0, "training": 0.0, "reading": 0.0, "CG": 0.0, "F-SI": 0.0}
    monkeypatch.setattr(own_data, "measure", lambda *a, **k: cost)
    with pytest.raises(ValueError, match="minutes: the least that makes sense"):
        own_data.make_plan(["memorization"], x, y[None], SMALL, **wish, store=Store(tmp_path))
    cost["step"] = 1e-6
    own_data.make_plan(["memorization"], x, y[None], SMALL, **wish, store=Store(tmp_path))


def test_an_expensive_factorization_becomes_draws(monkeypatch):
    x, y = clusters()
    cost = {"step": 1e-6, "training": 0.0, "reading": 0.0, "CG": 400.0, "F-SI": 0.0}
    monkeypatch.setattr(own_data, "measure", lambda *a, **k: cost)
    wish = {"minutes": 10, "begun": time.perf_counter(), "trials": 30, "networks": 3, "seeds": 2, "plans": 4}
    rows, plan = own_data.make_plan(["CG"], x, y[None], SMALL, **wish)
    assert plan.unit["CG"] == "draws of a subsample"
    cost["step"] = 10.0
    rows, plan = own_data.make_plan(["CG"], x.repeat(10, 1), y.repeat(10)[None], SMALL, **wish | {"minutes": 200})
    assert 150 <= rows < 600


# --- judges ----------------------------------------------------------------------------------------------------------


def test_votes_count_only_those_who_did_not_see():
    sees = torch.tensor([[True, False, False], [False, False, True], [True, True, True]])
    p = torch.tensor(np.random.default_rng(0).dirichlet(np.ones(2), (3, 3)), dtype=torch.float64)
    y = torch.tensor([0, 1, 1])
    errors = (p - torch.nn.functional.one_hot(y, 2)).float()
    judged = checkup.votes([checkup.held_out_sums(sees, errors, y)])
    assert judged.networks.tolist() == [1, 2, 1]
    expected = torch.stack([p[1, 0], (p[0, 1] + p[1, 1]) / 2, p[0, 2]])
    torch.testing.assert_close(judged.probability, expected, atol=1e-6, rtol=0)
    spread = torch.stack([p[0, 1], p[1, 1]]).std(0) / math.sqrt(2)
    torch.testing.assert_close(judged.error[1], spread, atol=1e-6, rtol=0)
    assert judged.error[0].isnan().all()
    halves = [checkup.held_out_sums(sees[part], errors[part], y) for part in (slice(1), slice(1, None))]
    torch.testing.assert_close(checkup.votes(halves).probability, judged.probability)


def test_suggestions():
    p = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3], [math.nan] * 3], dtype=torch.float64)
    judged = checkup.Votes(p, torch.zeros_like(p), torch.tensor([5, 5, 5, 0]))
    table = checkup.suggestions(judged, torch.tensor([0, 0, 0, 2]), sure=0.5)
    assert table.suggested.tolist() == [0, 1, 1, -1]
    assert table.suspect.tolist() == [False, True, False, False]
    assert table.doubt.round(6).tolist()[:3] == [0.1, 0.8, 0.7]
    assert math.isnan(table.doubt[3])
    with pytest.raises(ValueError, match="sure: expected a probability"):
        checkup.suggestions(judged, torch.zeros(4, dtype=torch.int64), sure=0.0)


def test_the_probe_counts_by_hand():
    flipped = torch.tensor([True, True, True, False, False, False, False, False])
    table = pd.DataFrame({"suspect": [True, True, False, True] + [False] * 4, "suggested": [0, 2, 0, 0, 1, 1, 1, 1]})
    measured = checkup.probe(table, flipped, torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]))
    assert [round(part[0], 6) for part in measured] == [round(v, 6) for v in (2 / 3, 1 / 5, 2 / 3, 1 / 2)]
    assert checkup.precision_at(measured, 3 / 8) == pytest.approx(2 / 3)
    assert checkup.precision_at(measured, 0.0) == 0.0
    silent = checkup.probe(table.assign(suspect=False), flipped, torch.zeros(8, dtype=torch.int64))
    assert silent.found[0] == 0
    assert math.isnan(silent.precision[0])
    assert math.isnan(checkup.precision_at(silent, 0.1))


def test_detection_orders_scores():
    flipped = torch.arange(40) < 8
    good, bad = flipped.double() + 0.01 * torch.arange(40), torch.arange(40).double() % 7
    table = checkup.flip_detection({"bad": bad, "good": good}, flipped)
    assert table.score.tolist() == ["good", "bad"]
    assert table.precision[0] == 1


def test_flipped_labels_are_found_and_mended(tmp_path):
    """Classes far apart: the judges name every flip and its label, and every score puts them first."""
    x, y = clusters(n=200)
    given, flipped = noise.uniform_noise(y, 0.05, k=3, seed=1)
    labels, store = torch.stack([y, given]), Store(tmp_path)
    ready = statistics.standardized(x)
    wishes = [("CG", own_data.EXACT, 1, 1, 0.0), ("runs", "networks", 3, 2, 0.0), ("judges", "networks", 30, 8, 0.1)]
    clock = own_data.Clock(own_data.plan_work([own_data.Item(*wish) for wish in wishes], 60))
    how = replace(SMALL, jitter=own_data.JITTER)
    judges = own_data.trial_blocks(ready, labels, how, clock.blocks("judges", 8), run=Run(store=store, progress=False))
    assert judges[0].member_sees.shape == (30, 200)
    probe = checkup.suggestions(judges[1].votes, given)
    measured = checkup.probe(probe, flipped, y)
    assert (measured.found[0], measured.precision[0], measured.right[0]) == (1, 1, 1)
    assert not checkup.suggestions(judges[0].votes, y).suspect.any()
    names = own_data.score_names("cg,el2n,memorization,c-score,input norm")
    scored = own_data.score(names, x, ready, y=labels, settings=how, trials=judges, clock=clock, store=store)
    assert list(scored) == names
    for name in ("CG", "EL2N", "C-score"):
        table = checkup.flip_detection({name: checkup.filled(scored[name].hardness[1])}, flipped)
        assert table.auroc[0] > 0.97, name
    one = own_data.trial_blocks(ready, labels[1:], how, iter([range(30)]), run=Run(progress=False))[0]
    assert torch.equal(one.correct, judges[1].correct)  # blocks, store and the other labelling do not matter
    torch.testing.assert_close(one.votes.probability, judges[1].votes.probability)
    direct = compute(["CG"], own_data.directions(x, ready), labels, settings=how)["CG"]
    assert torch.equal(scored["CG"].hardness, direct.hardness)


def test_empty_pictures_do_not_stop_the_scores():
    x, y = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    assert own_data.directions(x, x) is x
    x[[7, 8]] = 0.0
    scored = compute(["CG"], own_data.directions(x, x), y, settings=Settings(jitter=own_data.JITTER))["CG"]
    assert scored.hardness.isfinite().all()


def test_drawn_scores_are_near_the_exact_ones():
    x, y = clusters(n=150)
    ready = statistics.standardized(x)
    plan = own_data.plan_work(
        [own_data.Item("CG", "draws of a subsample", 10, 1, 0.0), own_data.Item("judges", "n", 4, 2, 0.0)], 9
    )
    clock = own_data.Clock(plan)
    how = replace(SMALL, jitter=own_data.JITTER)
    judges = own_data.trial_blocks(ready, y[None], how, clock.blocks("judges", 4), run=Run(progress=False))
    drawn = own_data.score(["CG"], x, ready, y=y[None], settings=how, trials=judges, clock=clock)["CG"]
    exact = compute(["CG"], own_data.directions(x, ready), y, settings=how)["CG"]
    assert statistics.spearman(drawn.hardness[0], exact.hardness)[0] > 0.7
    assert (drawn.stderr >= 0).all()


# --- dropping --------------------------------------------------------------------------------------------------------


def test_losses_by_hand():
    full = torch.tensor([[True, True, True, False], [True, True, True, True]])
    less = torch.tensor([[True, False, True, False], [True, True, False, True]])
    table = own_data.accuracy_lost({("all", 1.0): full, ("random", 0.5): less}, ("all", 1.0))
    assert table.columns.tolist() == ["score", "kept", "accuracy", "loss", "low", "high"]
    assert table.loss.tolist() == [0, 25]
    assert table.accuracy.tolist() == [0.875, 0.625]
    by_test = np.array([0, 50, 50, 0.0]).var(ddof=1) / 4  # both seeds lose 25 points
    assert table.high[1] - 25 == pytest.approx(1.959964 * math.sqrt(by_test))
    assert table.low[0] == table.high[0] == 0
    with pytest.raises(ValueError, match="two at least"):
        own_data.accuracy_lost({("all", 1.0): full[:1]}, ("all", 1.0))


def test_the_largest_drop_stops_at_the_first_that_loses_too_much():
    drop = [0.2, 0.8, 0.4, 0.6]
    assert own_data.largest_drop(drop, [0, 0.5, 3, 0], [-1, -1, 2, -1], [1, 2, 4, 1], tolerance=1.0) == (
        0.2,
        (0.2, 0.2),
    )
    assert own_data.largest_drop(drop, [0, 9, 0, 0], [-1, 5, -1, -1], [0.5, 12, 0.5, 2], tolerance=1.0) == (
        0.6,
        (0.4, 0.6),
    )
    assert own_data.largest_drop(drop, [2] * 4, [1.5] * 4, [3] * 4, tolerance=1.0) == (0.0, (0.0, 0.0))
    with pytest.raises(ValueError, match="tolerance"):
        own_data.largest_drop(drop, [0] * 4, [0] * 4, [0] * 4, tolerance=-1.0)


# --- the notebook ----------------------------------------------------------------------------------------------------


def run(tmp_path, **values):
    notebook = Notebook(REPO / "notebooks", "08_score_your_own_data")
    given = {"minutes": "2", "n": "0", "n_test": "0", "trials": "24", **values}
    values = notebooks.overrides(notebook, "smoke", {name: str(value) for name, value in given.items()})
    done = notebooks.run(notebook, "smoke", values, tmp_path / "results")
    return done, nbformat.read(done.executed, as_version=4)


@pytest.mark.notebooks
def test_a_file_of_features_from_end_to_end(tmp_path):
    """Planted: a copy, a contradiction, a constant feature, four wrong labels; no test part."""
    x, y = (part.numpy() for part in clusters(n=150, d=5))
    x[:, 4] = 7.0
    wrong = [12, 40, 77, 101]
    y[wrong] = (y[wrong] + 1) % 3
    x[140], y[140] = x[20], y[20]
    np.savez(tmp_path / "own.npz", x_train=x.astype("float32"), y_train=y)
    done, executed = run(tmp_path, dataset=tmp_path / "own.npz", scores="cg,el2n,c-score", architecture="linear")
    assert not done.failure
    said = "\n".join(str(output) for cell in executed.cells for output in cell.get("outputs", []))
    assert "no test part of its own" in said
    (path,) = (tmp_path / "results/smoke/scores").glob("*.parquet")
    table = pd.read_parquet(path).set_index("row")
    assert {"label", "cg", "el2n", "el2n_error", "c_score", "suggested", "p_label", "duplicate_of"} <= set(table)
    there = [row for row in wrong if row in table.index]
    assert there
    assert table.index[table.suspect].tolist() == there
    assert (table.suggested[there] == (table.label[there] + 2) % 3).all()
    assert (table.label == y[table.index]).all()
    copies = table.duplicate_of[table.duplicate_of >= 0].to_dict() | table.in_test[table.in_test >= 0].to_dict()
    assert copies in ({140: 20}, {20: 140}) or not {20, 140} & {*table.index}
    assert score_files.provenance(path)["own data"]["dataset"] == "own"


@pytest.mark.notebooks
def test_a_bad_file_is_named_in_one_sentence(tmp_path):
    x, y = (part.numpy() for part in clusters())
    np.savez(tmp_path / "words.npz", x_train=x, y_train=np.array(["a", "b", "c"])[y])
    done, _ = run(tmp_path, dataset=tmp_path / "words.npz")
    assert "y_train: expected integers (n,), n ≥ 1, got <U1 (60,)" in done.failure
