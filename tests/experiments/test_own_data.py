"""Data of one's own in notebook 08: the parts, the scores, what can be dropped, and the notebook from end to end."""

import math

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from experiments import own_data, pruning
from lib import audit
from lib.catalogue import Settings, compute
from lib.data import datasets, score_files
from lib.study import notebooks
from lib.study.notebooks import REPO, Notebook


def clusters(n=60, k=3, d=4, seed=0):
    """Features of k classes far apart, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return torch.tensor(4 * np.eye(k, d)[y] + 0.5 * rng.normal(size=(n, d)), dtype=torch.float32), torch.tensor(y)


# --- the parts -------------------------------------------------------------------------------------------------------


def test_a_fifth_of_each_class_is_held_out_and_small_classes_stay():
    y = np.array([0] * 50 + [1] * 10 + [2] * 4 + [3])
    data = datasets.load((np.random.default_rng(0).normal(size=(65, 2)), y), split=False)
    parts = own_data.parted(data, seed=1)
    assert parts.y_test.bincount(minlength=4).tolist() == [10, 2, 0, 0]
    together = torch.cat([parts.rows_train, parts.rows_test])
    assert together.sort()[0].equal(torch.arange(65)) and parts.x_test.equal(data.x_train[parts.rows_test])
    assert not own_data.parted(parts, seed=2).rows_test.equal(parts.rows_test)


def test_wishes_for_rows_are_granted_as_far_as_they_go():
    data = (np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 3)
    assert len(own_data.bring(data, n=400).y_train) == 60
    assert len(own_data.bring(data, n=30).y_train) == 30
    assert len(own_data.bring(data, n_test=9).y_test) == 0


def test_names_of_scores():
    assert own_data.score_names("cg, EL2N,c-score ,cg") == ["CG", "EL2N", "C-score"]
    assert own_data.score_names("forgetting epochs,f-si") == ["forgetting, epochs", "F-SI"]
    with pytest.raises(ValueError, match="scores: expected some of random, .*cg.*; got 'magic'"):
        own_data.score_names("cg,magic")
    with pytest.raises(ValueError, match="got none"):
        own_data.score_names(" ")


def test_scores_are_those_of_the_catalogue_and_cg_is_left_out_where_it_cannot_be_had():
    x, y = clusters()
    data = datasets.load((x, y), split=False)
    choice = audit.choose((4,), 60, 3, epochs=2)
    scored = own_data.score(["CG", "EL2N"], data, choice)
    z = audit.prepared(data.x_train)
    alone = compute(["CG"], own_data.directions(data.x_train, z), y, settings=Settings(jitter=own_data.JITTER))["CG"]
    torch.testing.assert_close(scored["CG"], alone.hardness)
    lonely = datasets.load((x, np.append(y[:59], 3)), split=False)
    assert list(own_data.score(["CG", "EL2N"], lonely, choice)) == ["EL2N"]


def test_empty_pictures_do_not_stop_the_scores():
    x, y = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    assert own_data.directions(x, x) is x
    x[[7, 8]] = 0.0
    scored = compute(["CG"], own_data.directions(x, x), y, settings=Settings(jitter=own_data.JITTER))["CG"]
    assert scored.hardness.isfinite().all()


def test_no_class_is_pruned_away():
    y = torch.tensor([0] * 100 + [1] * 5 + [2] * 4 + [3])
    for keep in (0.01, 0.1, 0.2):
        for kept in (
            pruning.prune(torch.rand(110), keep, drop="lowest", y=y),
            *pruning.random_subsets(110, keep, [0], y=y),
        ):
            assert (y[kept].bincount(minlength=4) > 0).all()


def test_seeds_follow_the_minutes_and_not_the_machine():
    settings = audit.choose((30,), 500, 2).settings
    fit = lambda minutes: own_data.seeds_that_fit(settings, torch.rand(500, 30), 2, plans=10, minutes=minutes, most=5)
    assert fit(1e-6) == 0 and fit(100.0) == 5


# --- dropping --------------------------------------------------------------------------------------------------------


def test_losses_by_hand():
    full = torch.tensor([[True, True, True, False], [True, True, True, True]])
    less = torch.tensor([[True, False, True, False], [True, True, False, True]])
    table = own_data.accuracy_lost({("all", 1.0): full, ("random", 0.5): less}, ("all", 1.0))
    assert table.columns.tolist() == ["score", "kept", "accuracy", "loss", "low", "high"]
    assert table.loss.tolist() == [0, 25]
    assert table.accuracy.tolist() == [0.875, 0.625]
    by_test = np.array([0, 50, 50, 0.0]).var(ddof=1) / 4  # both seeds lose 25 points
    assert table.high[1] - 25 == pytest.approx(max(1.959964 * math.sqrt(by_test), 300 / 4))
    assert table.low[0] == table.high[0] == 0
    with pytest.raises(ValueError, match="two seeds and two test examples"):
        own_data.accuracy_lost({("all", 1.0): full[:1]}, ("all", 1.0))


def test_the_interval_of_a_loss_that_differs_by_seed():
    full, less = torch.ones(4, 100, dtype=torch.bool), torch.arange(100) >= torch.tensor([[10], [20], [30], [40]])
    table = own_data.accuracy_lost({("all", 1.0): full, ("random", 0.5): less}, ("all", 1.0))
    by_seed = np.array([10, 20, 30, 40]).var(ddof=1) / 4
    by_test = np.repeat([100, 75, 50, 25, 0], [10, 10, 10, 10, 60]).var(ddof=1) / 100
    assert table.high[1] - 25 == pytest.approx(math.sqrt(3.182446**2 * by_seed + 1.959964**2 * by_test))


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


def test_few_test_examples_are_never_certain():
    same = torch.ones(3, 36, dtype=torch.bool)
    table = own_data.accuracy_lost({("all", 1.0): same, ("CG", 0.1): same}, ("all", 1.0))
    assert table.high[1] == pytest.approx(100 / 12)  # 3 in 36
    assert own_data.suggestion(table, tolerance=1.0).startswith("nothing is suggested")
    with pytest.raises(ValueError, match="got 3 and 1"):
        own_data.accuracy_lost({("all", 1.0): same[:, :1]}, ("all", 1.0))


def test_what_new_seeds_refute_is_not_suggested():
    full = torch.ones(4, 2000, dtype=torch.bool)
    worse, alike = full.clone(), full.clone()
    worse[:, :60], alike[0, 0] = False, False
    for marks, word in ((worse, "nothing is suggested: with new seeds dropping 90%"), (alike, "drop 90%, those with")):
        table = own_data.accuracy_lost({("all", 1.0): full, ("CG", 0.1): marks}, ("all", 1.0))
        assert own_data.suggestion(table, tolerance=1.0).startswith(word)


# --- the notebook ----------------------------------------------------------------------------------------------------


def run(tmp_path, **values):
    notebook = Notebook(REPO / "notebooks", "08_score_your_own_data")
    values = notebooks.overrides(notebook, "smoke", {name: str(value) for name, value in values.items()})
    done = notebooks.run(notebook, "smoke", values, tmp_path / "results")
    return done, nbformat.read(done.executed, as_version=4)


@pytest.mark.notebooks
def test_a_table_from_end_to_end(tmp_path):
    """Sixty rows with classes in words, one in a price and one in brackets; planted: a copy, two wrong labels."""
    x, y = (part.numpy() for part in clusters(n=60, d=5))
    names = np.array(["under_$10", "<unk>", "$"])
    table = pd.DataFrame(x, columns=[f"f{i}" for i in range(5)]).assign(
        kind=names[y], id=[f"no. {i}" for i in range(60)]
    )
    table.loc[[12, 40], "kind"] = names[(y[[12, 40]] + 1) % 3]
    table.iloc[50, :5] = table.iloc[20, :5]
    folder = tmp_path / "{a} b"
    folder.mkdir()
    table.to_csv(folder / "own.csv", index=False)
    done, _ = run(tmp_path, dataset=folder / "own.csv", label="kind", index="id", architecture="linear")
    assert not done.failure
    (path,) = (tmp_path / "results/smoke/scores").glob("own-*.parquet")
    scores = pd.read_parquet(path).set_index("index")
    assert len(scores) == 60 and scores[["cg", "el2n", "doubt"]].notna().all(axis=None)
    assert {"no. 12", "no. 40"} <= set(scores.index[scores.suspect]) and scores.copy_of["no. 50"] == "no. 20"
    assert score_files.provenance(path)["own data"]["suggestion"].startswith("nothing is suggested")
    told = "".join(notebooks.told(done.executed))
    assert "no. 12" in told and "at most 1 point: " in told and path.with_suffix(".html").exists()
    assert f"table: $STUDY_RESULTS/smoke/scores/{path.name}" in told


@pytest.mark.notebooks
def test_a_bad_file_is_named_in_one_sentence(tmp_path):
    pd.DataFrame({"a": ["x", "y"] * 30, "b": range(60), "y": [0, 1] * 30}).to_csv(tmp_path / "words.csv")
    done, _ = run(tmp_path, dataset=tmp_path / "words.csv", label="y")
    assert "columns that are not numbers: 'a'" in done.failure
