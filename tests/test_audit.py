"""Auditing a data set: every row scored, planted wrong labels, copies and leaks, and what is not claimed."""

import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from lib import audit, statistics
from lib.data import load, uniform_noise
from lib.data.datasets import Dataset
from lib.scores.data_diet import el2n


def clusters(n=120, k=3, d=5, seed=0, apart=4.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return torch.tensor(apart * np.eye(k, d)[y] + rng.normal(size=(n, d))), torch.tensor(y)


def sure(y, k, p=0.9):
    """Probabilities that say y."""
    return torch.full((len(y), k), (1 - p) / (k - 1), dtype=torch.float64).scatter(1, y[:, None], p)


def pairs(found):
    return sorted(zip(found.kind, found.a, found.b, strict=True))


# --- three lines -----------------------------------------------------------------------------------------------------


def test_three_lines_name_planted_labels_by_the_callers_index():
    x, y = clusters()
    names = np.array(["ant", "bee", "cat"])[y]
    table = pd.DataFrame(x.numpy()).assign(species=names)
    table.index = [f"no. {i}" for i in range(len(table))]
    wrong = [f"no. {i}" for i in (7, 30, 77, 101)]
    table.loc[wrong, "species"] = ["cat", "bee", "ant", "ant"]  # were bee, ant, cat, cat
    report = audit(table, label="species", minutes=1e-6)
    assert set(report.suspects.index) >= set(wrong) and len(report.suspects) <= 6
    assert report.suspects.suggested[wrong].tolist() == ["bee", "ant", "cat", "cat"]
    assert report.scores.index.equals(table.index) and report.scores.label.tolist() == table.species.tolist()
    assert report.scores[["el2n", "doubt", "p_label"]].notna().all(axis=None)  # every row has its score
    value, (low, high) = report.facts["wrong"]
    assert low <= value <= high and low <= 4 <= high
    said = r"10 networks .*; EL2N is of 1 more\n.*look wrong: .*, in the order"  # in networks, not in seconds
    assert re.search(said, str(report)) and "no test part" in str(report)
    again = audit(table, label="species", minutes=1e-6)
    pd.testing.assert_frame_equal(report.scores, again.scores)


def test_rows_left_out_for_missing_values_are_counted_by_column_and_label(tmp_path):
    x, y = clusters(60)
    table = pd.DataFrame(x.numpy(), columns=list("abcde")).assign(kind=np.array(["ant", "bee", "<cat>"])[y])
    table.loc[[0, 3, 4], "b"], table.loc[[3, 5], "d"], table.loc[9, "kind"] = np.nan, np.inf, None
    left = "5 of 60 rows were left out, as values are missing in b 3, d 2, the label 1; labels of these rows: "
    report = audit(table, label="kind", missing="drop", probabilities=LogisticRegression())
    assert f"\n{left}ant 2, bee 1, <cat> 1\n" in str(report) and report.facts["rows"] == 55
    report.to_html(tmp_path / "page.html")
    assert f"{left}ant 2, bee 1, &lt;cat&gt; 1" in (tmp_path / "page.html").read_text("utf8")
    filled = audit(table.drop(index=9), label="kind", missing="median", probabilities=LogisticRegression())
    assert "\nmissing values became their column's median (of text: no category): b 3, d 2\n" in str(filled)
    whole = audit(table.dropna().drop(index=5), label="kind", missing="drop", probabilities=LogisticRegression())
    assert "missing" not in str(whole)


def test_a_page_escapes_what_names_hold(tmp_path):
    x, y = clusters(40, 2)
    report = audit((x, np.array(["<unk>", "$10"])[y]), probabilities=sure(y, 2))
    report.to_html(tmp_path / "page.html")
    assert "&lt;unk&gt;" in (page := (tmp_path / "page.html").read_text("utf8")) and "<unk>" not in page


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    x, y = clusters(40, 2)
    report = audit((x, y), probabilities=sure(y, 2))
    monkeypatch.setenv("HOME", str(tmp_path)), monkeypatch.setenv("USERPROFILE", str(tmp_path))
    report.to_html("~/page.html")
    before = (tmp_path / "page.html").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        report.to_html(tmp_path / "page.html", rows=1)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_every_class_survives_however_few_its_rows():
    x, y = clusters(21, 7, 8)
    x, y = torch.cat([x, x[:1] + 9]), torch.cat([y, torch.tensor([7])])  # three of each, and one alone
    report = audit((x, y), minutes=np.float32(1e-6))
    assert report.facts["classes"] == 8 and len(report.scores) == 22
    assert audit((x, y), probabilities=LogisticRegression()).scores.p_label.notna().all()


@pytest.mark.parametrize("n", [2, 9, 10, 25, 101])
def test_every_row_is_left_out_by_three_judges_in_ten(n):
    y = torch.arange(n) % 2
    sees = audit.held_out(y, seed=3)
    assert ((~sees).sum(0) == 3).all()
    if n > 20:  # no judge misses a class
        assert not sees.equal(audit.held_out(y, seed=4))
        assert all(set(y[one].tolist()) == {0, 1} for one in sees)


def test_a_judge_says_nothing_of_what_it_saw():
    """Labels that are nothing but chance: by heart when seen, at chance when not."""
    x, y = torch.randn(60, 30, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2
    settings = audit.choose((30,), 60, 2).settings
    p = audit.judge(x, y[None], settings, blocks=1, k=2, run=audit.Run(progress=False))[0]
    torch.testing.assert_close(p.sum(1), torch.ones(60).double())
    assert 0.2 < (p.argmax(1) == y).double().mean() < 0.8


def test_hopeless_data_and_wishes_are_refused():
    x, y = clusters(60)
    p = pd.DataFrame(sure(y, 3).numpy())
    for call, message in [
        (lambda: audit((x, y * 0)), "y_train: expected two classes at least, got 1 in 60 rows"),
        (lambda: audit((x[:12], y[:12])), "x_train: expected 20 rows at least .* got 12"),
        (lambda: audit((x * 0 + 5, y)), "x_train: expected examples that differ, got 60 "),
        (lambda: audit((x, y), minutes=0), "minutes: expected more than 0, got 0"),
        (lambda: audit((x, y), minutes="2"), "minutes: expected more than 0, got '2'"),
        (
            lambda: audit((x, y), probabilities=torch.ones(60, 3)),
            r"rows that add up to 1, got \[1.0, 1.0, 1.0\] in row 0",
        ),
        (lambda: audit((x, y), probabilities=torch.ones(60, 1)), "expected 3 columns.* got 1 columns"),
        (lambda: audit((x, y), probabilities=p[::-1]), "probabilities: expected the rows in the order of the data"),
        (
            lambda: audit((x, y), probabilities=p.set_axis(range(5, 65))),
            "probabilities: expected the rows in the order",
        ),
        (lambda: audit((x, y), probabilities=p.set_axis(list("abc"), axis=1)), "columns called 0, 1, 2, got a, b, c"),
        (lambda: audit((x, y), embeddings=x[:9]), "embeddings: expected a row for each of the 60 examples"),
        (
            lambda: audit((x, y), embeddings=x.where(y[:, None] < 2, torch.nan)),
            "embeddings: expected finite .* in row 2",
        ),
        (lambda: audit((x, y), embeddings=[["a"]] * 60), "embeddings: expected finite numbers, got others in row 0"),
        (lambda: audit((x, y), architecture="magic", minutes=1), "name must be one of linear, mlp"),
        (lambda: audit((x, y), probabilities=LinearSVC()), "probabilities: expected a classifier .* got LinearSVC"),
        (lambda: audit((x, torch.arange(60)), probabilities=LogisticRegression()), "classifier that fits .* n_splits"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


# --- a model of one's own --------------------------------------------------------------------------------------------


def test_probabilities_and_embeddings_stand_in_for_our_networks():
    x, y = clusters()
    given = y.clone()
    given[[5, 50]] = (y[[5, 50]] + 1) % 3
    p = sure(y, 3)
    report = audit((x, given), probabilities=p)
    assert sorted(report.suspects.index) == [5, 50] and "as given" in str(report)
    errors = p - torch.nn.functional.one_hot(given, 3)
    np.testing.assert_allclose(report.scores.el2n, el2n(errors[None])[0])
    named = pd.DataFrame(p.numpy(), columns=["a", "b", "c"])[["c", "a", "b"]]  # by name, in any order
    again = audit((x, np.array(list("abc"))[given]), probabilities=named)
    np.testing.assert_array_equal(report.scores.p_label, again.scores.p_label)
    other = x.clone()
    other[9] = other[3]
    assert audit((x, given), probabilities=p, embeddings=other).copies.of.to_dict() == {9: 3}


def test_embeddings_of_texts_need_no_other_column():
    x, y = clusters(40, 2)
    table = pd.DataFrame(
        {"text": [f"sentence {i}" for i in range(40)], "length": np.nan, "mood": np.array(["-", "+"])[y]}
    )
    report = audit(table, label="mood", embeddings=x, probabilities=LogisticRegression())
    assert len(report.scores) == 40 and report.facts["accuracy"][0] > 0.9
    assert report.scores.label.tolist() == table.mood.tolist()


def test_a_classifier_is_cross_fitted():
    x, y = clusters()
    given, flipped = uniform_noise(y, 0.05, k=3, seed=1)
    report = audit((x, given), probabilities=LogisticRegression())
    assert flipped[torch.tensor(report.suspects.index)].sum() >= 5
    assert report.facts["found"][0] > 0.6 and "cross-fitted" in str(report)


# --- how many --------------------------------------------------------------------------------------------------------


def simulated(seed, n=1500, k=4, rate=0.08):
    """Right labels that judges know at 60 to 99%, and some replaced."""
    rng = np.random.default_rng(seed)
    y = torch.tensor(rng.integers(0, k, n))
    strength = torch.tensor(rng.uniform(0.6, 0.99, n))
    p = (1 - strength[:, None]) / (k - 1) * torch.ones(1, k)
    return p.scatter(1, y[:, None], strength[:, None]).double(), *uniform_noise(y, rate, k=k, seed=seed)


def test_planted_wrong_labels_are_counted_within_the_interval():
    held, shares = 0, []
    for seed in range(20):
        p, y, flipped = simulated(seed)
        report = audit((torch.randn(1500, 2), y), probabilities=p)
        _, (low, high) = report.facts["wrong"]
        held += low <= int(flipped.sum()) <= high
        shares.append(flipped[torch.tensor(report.suspects.index)].double().mean())
    assert held >= 19 and np.mean(shares) > 0.9


def test_nothing_seen_is_not_nothing_there():
    x, y = clusters(60)
    report = audit((x, y), probabilities=sure(y, 3))
    value, (low, high) = report.facts["wrong"]
    assert (value, low) == (0, 0) and high >= 3  # the rule of three


def test_how_many_are_wrong_is_not_told_by_judges_that_know_nothing():
    rng = np.random.default_rng(0)
    one, y = torch.tensor(rng.random(400)), torch.tensor(rng.integers(0, 2, 400))
    p = torch.stack([one, 1 - one], 1)  # of labels that these do not depend on, a third or so look wrong
    report = audit((torch.randn(400, 2), y), probabilities=p)
    assert len(report.suspects) > 80 and "how many are wrong cannot be told" in str(report)


def test_confident_learning_by_hand():
    p = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9], [0.75, 0.25], [0.45, 0.55]])
    y = torch.tensor([0, 0, 1, 1, 1, 0])  # means: class 0 .617, class 1 .617
    assert audit.wrong_labels(p, y).tolist() == [False, False, False, False, True, False]


def test_a_row_alone_in_its_class_is_not_judged_by_those_who_never_saw_the_class():
    p = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.1, 0.9, 0.0], [1.0, 0.0, 0.0]])
    assert not audit.wrong_labels(p, torch.tensor([0, 0, 1, 1, 2])).any()
    assert audit.wrong_labels(p, torch.tensor([0, 0, 1, 1, 1])).tolist() == [False] * 4 + [True]


# --- copies ----------------------------------------------------------------------------------------------------------


def test_all_members_of_a_group_are_copies_and_all_of_them_leak():
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0], [5.0, 3.0], [7.0, 2.0], [-0.0, 1.0]])
    assert pairs(audit.find_copies(x)) == [("exact", 1, 0), ("exact", 4, 0)]
    found = audit.find_copies(x, x[:1])
    assert pairs(found[found.a == 5]) == [("exact", 5, 0), ("exact", 5, 1), ("exact", 5, 4)]


def test_few_pictures_are_compared_and_such_of_one_pixel():
    assert pairs(audit.find_copies(torch.rand(30, 1, 16, 16)[torch.arange(31) % 30]))[:1] == [("exact", 30, 0)]
    x = torch.linspace(0, 1, 20).reshape(20, 1, 1, 1)
    assert pairs(audit.find_copies(torch.cat([x, x[3:4]])))[:1] == [("exact", 20, 3)]


def test_rows_of_equal_values_are_compared_too():
    x = torch.tensor([[0.0] * 3, [0.0] * 3, [1.0] * 3, [1.0] * 3, [0.0, 1.0, 2.0], [3.0, 1.0, 0.0]])
    assert pairs(audit.find_copies(x)) == [("exact", 1, 0), ("exact", 3, 2)]


def test_near_copies_are_found_where_most_rows_have_one():
    g = torch.Generator().manual_seed(0)
    a = torch.rand(100, 1, 12, 12, generator=g)
    near = (a + 1e-3 * torch.rand(a.shape, generator=g)).clamp(0, 1)
    assert pairs(audit.find_copies(torch.cat([a, near]))) == sorted(("near", i + 100, i) for i in range(100))


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_copies_in_disguise(name):
    """Forty of each; and none where nothing was planted."""
    x = load(name, n_train=600).x_train
    assert not len(audit.find_copies(x))
    noise = 0.02 * torch.randn(40, *x.shape[1:], generator=torch.Generator().manual_seed(0))
    disguises = {
        "exact": ("exact", lambda x: x),
        "darker": ("near", lambda x: 0.6 * x),
        "noise": ("near", lambda x: (x + noise).clamp(0, 1)),
        "left": ("shifted", lambda x: torch.roll(x, -1, -1)),
        "down": ("shifted", lambda x: torch.nn.functional.pad(x, (0, 0, 1, 0))[..., :-1, :]),
        "mirror": ("mirrored", lambda x: x.flip(-1)),
    }
    for number, (kind, change) in enumerate(disguises.values()):
        rows = slice(40 * number, 40 * number + 40)
        found = audit.find_copies(torch.cat([x, change(x[rows])]))
        right = (found.a - len(x) == found.b - rows.start) & (found.kind == kind)
        assert right.sum() >= 36 and len(found) <= right.sum() + 4


@pytest.mark.parametrize("d", [1, 2, 3, 8, 100])
def test_few_copies_by_chance_in_any_dimension(d):
    x = torch.randn(500, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
    assert len(audit.find_copies(x)) <= 2
    scaled = torch.cat([x, x[:40] * (1 + 1e-9)]) * torch.logspace(-9, 9, d)
    assert len(audit.find_copies(scaled)) >= 38  # whatever the units


def test_large_numbers_that_differ_are_no_copies():
    ids = np.column_stack([20_000_001 + np.arange(200), np.full(200, 3), np.full(200, 5)])
    report = audit(
        (ids, np.arange(200) % 2, ids + [1000, 0, 0], np.arange(200) % 2), probabilities=np.full((200, 2), 0.5)
    )
    assert report.copies.empty and report.leaks.empty


def test_copies_with_another_label_and_leaks_by_row():
    iris = load("iris")
    report = audit(iris, probabilities=sure(iris.y_train, 3))
    assert report.leaks.of.to_dict() == {142: 101} and "in the test part too: 1" in str(report)
    x, y = clusters(60)
    x[31] = x[30]  # of another class
    report = audit((x, y), probabilities=sure(y, 3))
    assert (
        report.copies.same_label.to_dict() == {31: False}
        and 31 not in report.redundant.why[lambda w: w.str.contains("copy")]
    )


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (3, 15, 15), (4, 32, 32), (2, 20, 20), (1, 4, 40), (1, 128, 5), (3, 200, 300), (1,)]
)
def test_pictures_of_any_size_have_a_network(shape):
    choice = audit.choose(shape, 500, 3)
    ready = audit.prepared(torch.rand(4, *shape), choice.side)
    audit.models.by_name(choice.settings.architecture, shape=tuple(ready.shape[1:]), classes=3)(ready)


def test_the_scale_of_features_does_not_matter():
    x, _ = clusters()
    for scale in (1e-300, 1e-9, 1e9, 1e300):
        torch.testing.assert_close(statistics.standardized(x * scale), statistics.standardized(x))
    assert not statistics.standardized(torch.full((9, 1), 14.62e-300, dtype=torch.float64)).any()


def test_iris_as_a_new_user_would():
    report = audit(load_iris(as_frame=True), minutes=1e-6)
    assert report.copies.of.to_dict() == {142: 101} and report.facts["accuracy"][0] > 0.9
    assert isinstance(load("iris", split=False), Dataset)
