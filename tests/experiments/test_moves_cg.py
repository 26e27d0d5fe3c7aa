"""Runs that move our departures: the lead of a term, and what a run on few rows comes to."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr

from experiments import moves_cg
from lib.data.datasets import load
from lib.ledger.claims import load_claims
from lib.scores.complexity_gap import cg_scores


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
