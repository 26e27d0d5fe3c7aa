"""Runs of ``moves`` for the CG-score, notebooks 04 and 14: the published data, more rows, the published rate."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from experiments.craig import retrain_craig
from experiments.moves import Moved, moves
from experiments.pruning import draws, points, points_gained, retrain_draws, retrain_pruned, window
from lib import statistics
from lib.data.datasets import DATA, load
from lib.data.noise import uniform_noise
from lib.data.score_files import read_scores
from lib.networks.models import by_name
from lib.scores.complexity_gap import CGScores, cg_scores
from lib.training import Recipe

PUBLISHED = Recipe(lr=0.02, momentum=0.9, weight_decay=5e-4, schedule="cosine", batch_size=128, iterations=1260)
THREE = ("initializations", "rows", "test rows")


def lead_of_the_middle_term(scores: CGScores) -> tuple[float, tuple[float, float]]:
    """Spearman of the middle term with the score − the larger |Spearman| of the two others, with its interval."""
    score, others = scores.score.numpy(), [scores.quadratic.numpy(), scores.diagonal.numpy()]
    rho = [statistics.spearman_r(term, score) for term in others]
    first = int(np.argmax(np.abs(rho)))
    return statistics.spearman_difference(scores.partial.numpy(), others[first] * np.sign(rho[first]), score)


@moves("cg.stochastic", "cg.stochastic.pearson", "cg.terms")
def on_cifar10(n: int = 10_000, runs: int = 5) -> dict[str, Moved]:
    """The set of A.3: 1,000 rows of each class of CIFAR-10, exact and as means of five subsamples."""
    part = load(DATA / "downloads" / "cifar10.npz", n_train=n, n_test=10, seed=0)
    exact = cg_scores(part.x_train, part.y_train).score
    drawn = {f"1:{a}": cg_scores(part.x_train, part.y_train, negatives=a, runs=runs) for a in (1, 2, 3, 4)}
    ways = {
        "cg.stochastic": lambda some: statistics.spearman(some.score, exact),
        "cg.stochastic.pearson": lambda some: statistics.pearson(some.score, exact),
        "cg.terms": lead_of_the_middle_term,
    }
    changed = f"3,000 rows of Fashion-MNIST → {n:,} of CIFAR-10 (from JPEG), {runs} runs (published 20)"
    found = {claim: {ratio: way(some) for ratio, some in drawn.items()} for claim, way in ways.items()}
    return {claim: Moved(changed, *statistics.apart(one), n, ("rows",)) for claim, one in found.items()}


@moves("cg.partial", "cg.noise.precision")
def signs_of_more_rows(n: int = 24_000, runs: int = 3) -> dict[str, Moved]:
    """The sign of the middle term, and the top fifth by it, at 1:3 and 20% noise, with three times as many rows."""
    part = load("fashion-mnist", n_train=n, n_test=10, seed=0)
    given, wrong = uniform_noise(part.y_train, 0.2, k=10, seed=0)
    partial = cg_scores(part.x_train, given, negatives=3, runs=runs).partial
    groups = {"mislabelled positive": partial[wrong] > 0, "clean negative": partial[~wrong] <= 0}
    top = statistics.share(wrong[partial.argsort(descending=True)[: int(wrong.sum())]].numpy())
    changed = f"8,000 → {n:,} rows (published 60,000), {runs} runs as before"
    signs = statistics.apart({name: statistics.share(flags.numpy()) for name, flags in groups.items()})
    return {
        "cg.partial": Moved(changed, *signs, n, ("rows",)),
        "cg.noise.precision": Moved(changed, *top, int(wrong.sum()), ("rows",)),
    }


@moves("cg.window")
def window_of_all_rows(seeds: int = 3) -> dict[str, Moved]:
    """Halves of all 60,000 rows, from three offsets, at the published rate."""
    whole, stored = load("fashion-mnist"), read_scores("fashion-mnist").sort_index()
    given = torch.tensor(stored.label_noise20.to_numpy()).long()
    score, columns = torch.tensor(stored.cg_noise20.to_numpy()), ("score", "offset")
    plans = {("CG", offset): window(score, 0.5, offset, y=given) for offset in (0.0, 0.3, 0.5)}
    recipe, mlp = replace(PUBLISHED, iterations=10 * 469), by_name("mlp", shape=(1, 28, 28), classes=10)
    slid = retrain_pruned(mlp, whole, plans, columns=columns, labels=given, seeds=range(seeds), recipe=recipe)
    at, found = lambda offset: {"score": "CG", "offset": offset}, {}
    for name, other in {"rise to 30%": 0.0, "fall after 30%": 0.5}.items():
        gained = points(slid, at(0.3), at(other), by="score")["CG"]
        found[name] = gained.mean(), statistics.crossed_interval(gained)
    value, interval = statistics.apart(found)
    changed = "8,000 → 60,000 rows and a learning rate of .1 → .02, both as published"
    return {"cg.window": Moved(changed, value, interval, seeds, ("initializations", "test rows"))}


@moves("cg.baselines.craig")
def craig_at_the_published_rate(seeds: int = 5, kept=(0.4, 0.5, 0.7)) -> dict[str, Moved]:
    """CG and CRAIG without 30, 50 and 60%, at the published learning rate."""
    mlp, redrawn = by_name("mlp", shape=(1, 28, 28), classes=10), draws("fashion-mnist", seeds, n=8000, n_test=10_000)
    scores = [{"CG": cg_scores(part.x_train, part.y_train).score} for part in redrawn]
    kept = list(kept)
    tables = [retrain_draws(mlp, redrawn, scores, kept, recipe=PUBLISHED, highest_from=1.0)]
    for i, part in enumerate(redrawn):
        anew = retrain_craig(mlp, part, kept, seeds=[i], recipe=PUBLISHED, every=2)
        tables.append(anew.assign(score="CRAIG", drop="lowest"))
    sides = {"score": "CG", "drop": "lowest"}, {"score": "CRAIG", "drop": "lowest"}
    value, interval = statistics.apart(points_gained(pd.concat(tables, ignore_index=True), *sides))
    return {"cg.baselines.craig": Moved("a learning rate of .1 → .02, as published", value, interval, seeds, THREE)}
