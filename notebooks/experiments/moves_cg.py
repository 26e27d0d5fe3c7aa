"""Runs of ``moves`` for the CG-score, notebooks 04 and 14: the published data, more rows, the published rate."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments.craig import retrain_craig
from experiments.moves import Moved, moves
from experiments.pruning import draws, points, points_gained, prune, retrain_draws, retrain_pruned, window
from lib import statistics
from lib.data.datasets import DATA, Dataset, load
from lib.data.noise import uniform_noise
from lib.data.score_files import read_scores
from lib.networks.models import by_name
from lib.networks.stacked import features
from lib.scores.complexity_gap import CGScores, cg_scores
from lib.scores.data_diet import el2n, forgetting
from lib.training import Recipe, Record, ensemble

PUBLISHED = Recipe(lr=0.02, momentum=0.9, weight_decay=5e-4, schedule="cosine", batch_size=128, iterations=1260)
THREE = ("initializations", "rows", "test rows")
LOW, HIGH = ({s: {"score": s, "drop": drop} for s in ("CG", "EL2N", "forgetting")} for drop in ("lowest", "highest"))
CHANCE, EVERYTHING = {"score": "random"}, {"score": "full data"}
PRUNED = {  # claim → whose accuracy less whose, in the table of ``retrain_draws``
    "cg.prune_low": (LOW["CG"], CHANCE),
    "cg.prune_low.loss": (LOW["CG"], EVERYTHING),
    "cg.prune_low.el2n": (LOW["CG"], LOW["EL2N"]),
    "cg.prune_low.forgetting": (LOW["CG"], LOW["forgetting"]),
    "cg.prune_high": (CHANCE, HIGH["CG"]),
    "cg.prune_high.el2n": (HIGH["EL2N"], HIGH["CG"]),
    "cg.prune_high.forgetting": (HIGH["forgetting"], HIGH["CG"]),
}
BY_LENET = ("cg.prune_high.el2n", "cg.prune_high.forgetting")


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


def scored(model, part: Dataset, recipe: Recipe, networks: int, early: int) -> dict[str, Tensor]:
    """The score, and EL2N and forgetting (eq. 10) of the model's own networks, ``(n,)`` each."""
    record = Record(correct="epoch", errors_at=(early,), parameters=False)
    seen = ensemble.train(model, (part.x_train, part.y_train), recipe, range(networks), record=record)
    forgotten = forgetting(seen.correct_train[:, 1:], never_learned="none").mean(0)
    cg = cg_scores(part.x_train, part.y_train).score
    return {"CG": cg, "EL2N": el2n(seen.errors[early]).mean(0), "forgetting": forgotten}


@moves(*(claim for claim in PRUNED if claim not in BY_LENET))
def pruned_at_the_published_rate(count=5, networks=5, n=8000, n_test=10_000, epochs=20) -> dict[str, Moved]:
    """04 without 30 and 50%, at the published learning rate and by scores of networks trained so."""
    model = by_name("mlp-128", shape=(1, 28, 28), classes=10)
    recipe = replace(PUBLISHED, iterations=epochs * -(-n // 128))
    parts = draws("fashion-mnist", count, n=n, n_test=n_test)
    scores = [scored(model, part, recipe, networks, epochs // 5) for part in parts]
    table = retrain_draws(model, parts, scores, [0.5, 0.7], references=True, recipe=recipe)
    found = {claim: statistics.apart(points_gained(table, *PRUNED[claim])) for claim in PRUNED if claim not in BY_LENET}
    changed = "a learning rate of .1 → .02, as published, for the scores too"
    return {claim: Moved(changed, *one, count, THREE) for claim, one in found.items()}


@moves(*BY_LENET)
def pruned_by_a_lenet(count=3, networks=3, n=8000, n_test=10_000, epochs=20) -> dict[str, Moved]:
    """Without the highest half, by a LeNet and its own scores, at the published learning rate."""
    model = by_name("lenet", shape=(1, 28, 28), classes=10)
    recipe = replace(PUBLISHED, iterations=epochs * -(-n // 128))
    tables, columns = [], ("score", "drop", "keep")
    for i, part in enumerate(draws("fashion-mnist", count, n=n, n_test=n_test)):
        scores, y = scored(model, part, recipe, networks, epochs // 5), part.y_train
        plans = {(name, "highest", 0.5): prune(score, 0.5, drop="highest", y=y) for name, score in scores.items()}
        tables.append(retrain_pruned(model, part, plans, seeds=[i], columns=columns, recipe=recipe))
    found = {claim: points_gained(pd.concat(tables, ignore_index=True), *PRUNED[claim]) for claim in BY_LENET}
    changed = "a dense network at a learning rate of .1 → a convolutional one, LeNet, at .02, by its own scores"
    return {claim: Moved(changed, *statistics.apart(one), count, THREE) for claim, one in found.items()}


@moves("cg.window")
def window_of_all_rows(seeds: int = 3) -> dict[str, Moved]:
    """Halves of all 60,000 rows, from three offsets, at the published rate."""
    whole, stored = load("fashion-mnist"), read_scores("fashion-mnist").sort_index()
    given = torch.tensor(stored.label_noise20.to_numpy()).long()
    score, columns = torch.tensor(stored.cg_noise20.to_numpy()), ("score", "offset")
    plans = {("CG", offset): window(score, 0.5, offset, y=given) for offset in (0.0, 0.3, 0.5)}
    recipe, mlp = replace(PUBLISHED, iterations=10 * 469), by_name("mlp-128", shape=(1, 28, 28), classes=10)
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
    mlp = by_name("mlp-128", shape=(1, 28, 28), classes=10)
    redrawn = draws("fashion-mnist", seeds, n=8000, n_test=10_000)
    scores = [{"CG": cg_scores(part.x_train, part.y_train).score} for part in redrawn]
    kept = list(kept)
    tables = [retrain_draws(mlp, redrawn, scores, kept, recipe=PUBLISHED, highest_from=1.0)]
    for i, part in enumerate(redrawn):
        anew = retrain_craig(mlp, part, kept, seeds=[i], recipe=PUBLISHED, every=2)
        tables.append(anew.assign(score="CRAIG", drop="lowest"))
    sides = {"score": "CG", "drop": "lowest"}, {"score": "CRAIG", "drop": "lowest"}
    value, interval = statistics.apart(points_gained(pd.concat(tables, ignore_index=True), *sides))
    return {"cg.baselines.craig": Moved("a learning rate of .1 → .02, as published", value, interval, seeds, THREE)}


@moves("cg.features.prune")
def by_features_of_a_lenet(seeds: int = 5, kept=(0.5, 0.7, 0.9), n: int = 2000, networks: int = 3) -> dict[str, Moved]:
    """Pruning by a LeNet's features at a tenth of its training, and by pictures; a LeNet is trained on what is left."""
    lenet, epochs = by_name("lenet", shape=(1, 28, 28), classes=10), replace(PUBLISHED, iterations=None, epochs=20)
    redrawn, early = draws("fashion-mnist", seeds, n=n, n_test=10_000), Record(checkpoints_at=(2,))
    scores = []
    for part in redrawn:
        seen = ensemble.train(lenet, (part.x_train, part.y_train), epochs, range(networks), record=early)
        hidden = features(lenet, seen.checkpoints[2], part.x_train)
        of_features = [cg_scores(one, part.y_train, jitter=1e-4).score for one in hidden]
        of_pictures = cg_scores(part.x_train, part.y_train).score
        scores.append({"CG": of_pictures, "CG features": torch.stack(of_features).mean(0)})
    recipe = replace(PUBLISHED, iterations=20 * -(-n // PUBLISHED.batch_size))
    table = retrain_draws(lenet, redrawn, scores, list(kept), recipe=recipe, highest_from=1.0)
    sides = ({"score": name, "drop": "lowest"} for name in ("CG features", "CG"))
    value, interval = statistics.apart(points_gained(table, *sides))
    changed = f"a dense network on 8,000 rows → a LeNet on {n:,}, learning rate .1 → .02"
    return {"cg.features.prune": Moved(changed, value, interval, seeds, THREE)}
