"""Runs that move our departures: the lead of a term, and what a run on few rows comes to."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr

from experiments import moves_cg
from experiments.pruning import draws, prune, random_subsets
from lib.data.datasets import load
from lib.ledger.claims import load_claims
from lib.networks.models import by_name
from lib.scores.complexity_gap import cg_scores
from lib.training import ensemble


def test_the_lead_is_over_the_stronger_of_the_other_terms_whatever_its_sign():
    g = torch.Generator().manual_seed(0)
    score = torch.randn(400, generator=g)
    add = lambda weight: weight * score + torch.randn(400, generator=g)
    scores = SimpleNamespace(score=score, partial=add(1.0), quadratic=add(-3.0), diagonal=add(0.3))
    lead, (low, high) = moves_cg.lead_of_the_middle_term(scores)
    of = lambda term: spearmanr(getattr(scores, term), score)[0]
    assert low < lead < high < 0 and abs(of("quadratic")) > abs(of("diagonal"))
    assert lead == pytest.approx(of("partial") - abs(of("quadratic")))


def test_the_terms_of_real_scores_lead_as_counted_by_hand():
    x = torch.rand(60, 5, generator=torch.Generator().manual_seed(1))
    scores = cg_scores(x, torch.arange(60) % 2, negatives=0.5, runs=2)
    terms = {name: spearmanr(getattr(scores, name), scores.score)[0] for name in ("quadratic", "partial", "diagonal")}
    lead, _ = moves_cg.lead_of_the_middle_term(scores)
    assert lead == pytest.approx(terms["partial"] - max(abs(terms["quadratic"]), abs(terms["diagonal"])))


def test_signs_are_shares_of_wrong_and_right_labels():
    found = moves_cg.signs_of_more_rows(n=300, runs=1)
    signs, top = found["cg.partial"], found["cg.noise.precision"]
    assert set(signs.value) == {"mislabelled positive", "clean negative"} and signs.n == 300 and top.n == 60
    assert all(low < signs.value[name] < high for name, (low, high) in signs.interval.items())
    assert top.value > 0.5  # where a fifth of the labels are wrong


def test_what_needs_a_download_on_a_stand_in(monkeypatch):
    part, claims = load("mnist-5k", n_train=120, n_test=10), load_claims()
    monkeypatch.setattr(moves_cg, "load", lambda path, **how: part)
    for name, one in moves_cg.on_cifar10(n=120, runs=2).items():
        assert set(one.value) == set(one.interval) == set(claims[name].keys) and one.n == 120
        assert all(low <= one.value[s] <= high for s, (low, high) in one.interval.items())


def test_pruning_at_the_published_rate_by_hand():
    how = {"count": 2, "networks": 2, "n": 100, "n_test": 200, "epochs": 5}
    dense, lenet = moves_cg.pruned_at_the_published_rate(**how), moves_cg.pruned_by_a_lenet(**how)
    assert {*dense, *lenet} == set(moves_cg.PRUNED) and set(lenet) == set(moves_cg.BY_LENET)
    claims = load_claims()
    for name, one in (dense | lenet).items():
        assert set(one.value) == set(one.interval) == {"drop 50%", *(["drop 30%"] if name in dense else [])}
        assert one.n == 2 and set(one.covers) == set(claims[name].covers)
        assert all(low <= one.value[s] <= high for s, (low, high) in one.interval.items())
    parts = draws("fashion-mnist", 2, n=100, n_test=200)
    recipe, model = replace(moves_cg.PUBLISHED, iterations=5), by_name("mlp-128", shape=(1, 28, 28), classes=10)
    gained = []
    for i, part in enumerate(parts):
        keep = prune(cg_scores(part.x_train, part.y_train).score, 0.5, drop="highest", y=part.y_train)
        sees = torch.stack([random_subsets(100, 0.5, [i], y=part.y_train)[0], keep])
        fitted = ensemble.train(model, part, recipe, [i, i], sees=sees)
        gained.append(100 * (fitted.accuracy_test[0] - fitted.accuracy_test[1]).item())
    assert dense["cg.prune_high"].value["drop 50%"] == pytest.approx(sum(gained) / 2, abs=1e-3)
