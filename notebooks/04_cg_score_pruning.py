# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · The complexity-gap score: valuing data without training
#
# *Nohyun Ki, Hoyong Choi and Hye Won Chung, "Data valuation without training of a model", ICLR 2023.*
#
# **Question.** Can one matrix factorization, with no network trained, tell which examples a network can do without, and which of them carry a wrong label?

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # a name that lib.data.load knows, or the path of an .npz
n: int = 8000  # training rows that are scored, pruned and trained on
n_test: int = 10000  # test rows
n_small: int = 3000  # rows of the subsampling experiment
architecture: str = "mlp"  # the network that is trained, a name that lib.models.by_name knows
second_architecture: str = "densenet_small"  # the network of the robustness check
second_n: int = 1000  # training rows of the robustness check
epochs: int = 20  # passes over the full set; every pruned set takes as many steps
batch_size: int = 128  # examples a step
lr: float = 0.02  # peak learning rate of a cosine schedule, momentum 0.9, decay 5e-4
augment: str = ""  # "", "crop", "flip" or "crop_flip"
networks: int = 5  # trainings averaged in EL2N, forgetting and the feature scores
seeds: int = 5  # retrainings of every pruned set
kept: list = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]  # shares of the training rows kept
noise_levels: list = [0.2, 0.5, 0.8]  # shares of labels replaced, uniformly over the other classes
offsets: list = [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]  # left ends of the window
feature_epochs: list = [1, 2, 3, 5, 7, 10, 15, 20]  # moments at which features are taken
draws: int = 20  # subsampled runs averaged
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, noise, networks, bootstrap

# %% [markdown]
# ## What we test
#
# The score of an example is how much the data become easier when it is removed, measured by a bound on how far a wide two-layer network must move to fit them. The claims, what was published, and what we will call a success, written down before the run:

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from lib import cg_score, data, ensemble, models, noise, plots, pruning, score_files, stats
from lib.claims import Ledger
from lib.data_diet import el2n, forgetting
from lib.sources import DATA
from lib.store import Store

STORED = DATA / "scores" / "fashion-mnist.parquet"  # exact scores of all 60,000 training rows
plots.style()
ledger = Ledger("04", profile)
ledger.criteria()

# %% [markdown]
# ## Data
#
# We score, prune and train on the same rows, a class-balanced sample of the training set; the test rows are never scored. The lowest row of pictures is drawn from the last class, and so on.

# %%
images = data.load(dataset, n_train=n, n_test=n_test, seed=seed)
x, y, k = images.x_train, images.y_train, len(images.classes)
first = torch.cat([torch.nonzero(y == c).flatten()[:10] for c in range(k)])
fig = plots.pictures(x[first], titles=images.classes, size=0.55)
plots.save(fig, "04_data", profile)
print(f"{images.name}: {len(y):,} training rows of {tuple(x.shape[1:])}, {len(images.y_test):,} test rows, {k} classes")

# %% [markdown]
# ## Method
#
# For unit inputs, a two-layer ReLU network of infinite width trained on its first layer has the kernel
#
# $$ H_{ij} = \frac{x_i^\top x_j\,\bigl(\pi-\arccos x_i^\top x_j\bigr)}{2\pi}, $$
#
# and $y^\top H^{-1}y$ bounds both how far its weights travel to fit the labels $y\in\{\pm1\}^n$ and its error on new data. The **complexity-gap score** is the share of that bound that goes away with example $i$:
#
# $$ \mathrm{CG}(i) \;=\; y^\top H^{-1}y \;-\; y_{-i}^\top H_{-i}^{-1}y_{-i}. $$
#
# With several classes, an example is scored with its own class as $+1$ and all others as $-1$. Read literally, that is one inverse of an $(n-1)\times(n-1)$ matrix for each example:

# %%
def slow_cg_scores(x, y):
    gram, scores = cg_score.relu_gram(x), []
    for i in range(len(y)):
        target = torch.where(y == y[i], 1.0, -1.0).double()
        complexity = lambda rows: target[rows] @ torch.linalg.solve(gram[rows][:, rows], target[rows])
        everyone = torch.arange(len(y))
        scores.append(complexity(everyone) - complexity(everyone[everyone != i]))
    return torch.stack(scores)

# %% [markdown]
# Two observations make it cheap. Writing $H^{-1}$ with column $(h_i, d_i)$ for example $i$, the inverse without $i$ is a rank-one update of the rest (Schur complement), which gives
#
# $$ \mathrm{CG}(i) = \underbrace{\tfrac{1}{d_i}(y_{-i}^\top h_i)^2}_{\text{quadratic}} + \underbrace{2y_i\,y_{-i}^\top h_i}_{\text{partial}} + \underbrace{y_i^2 d_i}_{\text{diagonal}} \;=\; \frac{(H^{-1}y)_i^2}{(H^{-1})_{ii}} . $$
#
# And $H$ does not know the labels: **one** Cholesky factorization serves all classes, and all labellings we may want to try. Both ways, on a few rows:

# %%
few = torch.cat([torch.nonzero(y == c).flatten()[:8] for c in range(k)])
slow = slow_cg_scores(x[few].flatten(1).double(), y[few])
fast = cg_score.cg_scores(x[few].double(), y[few])
terms = fast.quadratic + fast.partial + fast.diagonal
error = float(max((fast.score / slow - 1).abs().max(), (terms / slow - 1).abs().max()))
assert error < 1e-6, error
ledger.record("cg.closed_form", error, n=len(few))
print(f"{len(few)} deletions against one factorization: largest relative difference {error:.0e}")

# %% [markdown]
# ## Two Gaussians: what the score sees
#
# Two classes of 1,000 points in 3,000 dimensions, with means $\pm e_1$ and covariance $I/4$; then the same with 10% of the labels flipped.
#
# *Before you run: only the first coordinate tells the classes apart. Will a point with a large first coordinate score high or low?*

# %%
generator = torch.Generator().manual_seed(seed)
side = torch.arange(2000) % 2
points = torch.randn(2000, 3000, generator=generator) / 2
points[:, 0] += 2.0 * side - 1
flipped_side, flipped = noise.uniform_noise(side, 0.1, k=2, seed=seed)
clean, noisy = cg_score.cg_scores(points, side).score, cg_score.cg_scores(points, flipped_side).score
inverse = torch.linalg.inv(cg_score.relu_gram(points[torch.argsort(side)].double()))

# %% [markdown]
# The paper's picture: the inverse is near twice the identity, scores are highest at the boundary, and flipped labels (crosses) stand above the rest.

# %%
fig, axes = plt.subplots(1, 3, figsize=(12, 3.4))
corner = inverse[900:1100, 900:1100]
plots.heatmap(axes[0], corner, "two blocks of 100 points, $H^{-1}$", vmin=-0.02, vmax=2.2)
for ax, score, marked in [(axes[1], clean, flipped & False), (axes[2], noisy, flipped)]:
    for label, colour, marker in [(0, "#0072b2", "o"), (1, "#d55e00", "s")]:
        own = (side == label) & ~marked
        ax.scatter(points[own, 0], score[own], s=5, c=colour, marker=marker, alpha=0.5, label=f"mean {2 * label - 1:+d}")
    ax.scatter(points[marked, 0], score[marked], s=18, c="black", marker="x", lw=0.8, label="flipped" if marked.any() else None)
    ax.set(xlabel="first coordinate", ylabel="CG-score", title="10% flipped" if marked.any() else "clean labels")
    ax.legend(loc="upper left", fontsize=7)
plots.save(fig, "04_gaussians", profile);

# %% [markdown]
# In numbers: how far the inverse is from $2I$, how the score falls with the distance from the boundary, and how well it finds the flips.

# %%
boundary, boundary_ci = stats.spearman(points[:, 0].abs().numpy(), clean.numpy(), seed=seed)
auc, auc_ci = stats.auroc(noisy.numpy(), flipped.numpy(), seed=seed)
entries = {"diagonal": inverse.diagonal() - 2, "off-diagonal": inverse[torch.triu_indices(2000, 2000, 1).unbind()]}
central = {name: tuple(np.quantile(part, [0.025, 0.975]).tolist()) for name, part in entries.items()}
ledger.record("cg.geometry", boundary, interval=boundary_ci, n=2000)
ledger.record("cg.geometry.inverse", {name: float(part.mean()) for name, part in entries.items()}, interval=central, n=2000)
ledger.record("cg.geometry.flipped", auc, interval=auc_ci, n=2000)
print(f"Spearman of score and |x₁| {boundary:.2f}; AUROC of flipped labels {auc:.3f}")

# %% [markdown]
# READ gaussians
#
# ## Scores on real images
#
# One factorization gives the scores under the true labels and under every noisy labelling that we shall need, since $H$ is the same for all. `labels` has one row a labelling.

# %%
labellings = [(y, torch.zeros(len(y), dtype=torch.bool))] + [noise.uniform_noise(y, share, k=k, seed=seed) for share in noise_levels]
labels, wrong = (torch.stack(part) for part in zip(*labellings, strict=True))
start = time.perf_counter()
cg = cg_score.cg_scores(x, labels, device=device)
cg_seconds = time.perf_counter() - start
cg_clean = cg.score[0]
print(f"{len(y):,} rows, {len(labels)} labellings, {cg_seconds:.1f} s")

# %% [markdown]
# *Before you run: which classes do you expect to have similar pictures and low scores, and which a wide spread?*

# %%
edges = {end: torch.cat([torch.nonzero(y == c).flatten()[cg_clean[y == c].argsort(descending=end == "highest")[:8]] for c in range(k)])
         for end in ("lowest", "highest")}
both = torch.cat([part.view(k, 8) for part in edges.values()], 1).flatten()
fig = plots.pictures(x[both], columns=16, titles=images.classes, size=0.5)
fig.suptitle("eight lowest (left) and eight highest (right) scores of each class", fontsize=9)
plots.save(fig, "04_extremes", profile);

# %% [markdown]
# READ pictures
#
# To put a number on "look alike": the mean cosine between pictures within the lowest-scored 5% of a class, against the highest-scored 5%.

# %%
def alikeness(rows):
    unit = torch.nn.functional.normalize(x[rows].flatten(1), dim=1)
    return float((unit @ unit.T).fill_diagonal_(torch.nan).nanmean())

alike = pd.DataFrame([{end: alikeness(torch.nonzero(y == c).flatten()[pruning.prune(cg_clean[y == c], 0.05, drop=drop)])
                       for end, drop in [("lowest", "highest"), ("highest", "lowest")]} for c in range(k)], index=images.classes)
gap = alike.lowest - alike.highest
ledger.record("cg.pictures", float(gap.mean()), interval=stats.t_interval(gap.to_numpy()), n=k, note="interval over classes")
fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
plots.dumbbell(axes[0], alike, "mean cosine between pictures of the class")
plots.spread(axes[1], {name: cg_clean[y == c] for c, name in enumerate(images.classes)}, "CG-score")
plots.save(fig, "04_classes", profile);

# %% [markdown]
# READ classes
#
# ## Is a subsample enough?
#
# The paper could not factorize everything. It keeps the examples of a class and, for each of them, a few of the others (one to four), and averages over draws. We compare with the exact scores of the same rows.
#
# *Before you run: does averaging more draws bring the subsampled score to the exact one, or only to a limit that depends on the ratio?*

# %%
small = data.load(dataset, n_train=n_small, n_test=k, seed=seed)
exact = cg_score.cg_scores(small.x_train, small.y_train, device=device).score
ratios, runs = [1, 2, 3, 4], {}
for ratio in ratios:
    runs[ratio] = [cg_score.cg_scores(small.x_train, small.y_train, negatives=ratio, seed=seed + r, device=device) for r in range(draws)]

# %% [markdown]
# Correlation of the running mean with the exact score, after 1, 2, … draws:

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3), sharey=True)
final = {}
for ax, (name, correlation) in zip(axes, {"Spearman": stats.spearman, "Pearson": stats.pearson}.items(), strict=True):
    for ratio, marker in zip(ratios, "osD^", strict=True):
        running = torch.stack([run.score for run in runs[ratio]]).cumsum(0) / torch.arange(1, draws + 1)[:, None]
        plain = spearmanr if name == "Spearman" else lambda a, b: np.corrcoef(a, b)[None, 0, 1]
        ax.plot(range(1, draws + 1), [plain(mean, exact)[0] for mean in running], marker=marker, ms=4, label=f"1:{ratio}")
        final[name, ratio] = correlation(running[-1].numpy(), exact.numpy(), seed=seed)
    ax.set(xlabel="draws averaged", ylabel="correlation with the exact score", title=name)
axes[1].legend(title="own class : others")
plots.save(fig, "04_subsampling", profile);

# %% [markdown]
# READ subsampling

# %%
split = lambda results: ({name: value for name, (value, _) in results.items()}, {name: ci for name, (_, ci) in results.items()})
for claim, name in [("cg.stochastic", "Spearman"), ("cg.stochastic.pearson", "Pearson")]:
    value, interval = split({f"1:{r}": final[name, r] for r in ratios})
    ledger.record(claim, value, interval=interval, n=n_small, note=f"{draws} draws")

# %% [markdown]
# The same draws say which of the three terms decides the order.

# %%
parts = ["quadratic", "partial", "diagonal"]
mean = {r: {part: torch.stack([getattr(run, part) for run in runs[r]]).mean(0) for part in [*parts, "score"]} for r in ratios}
order = {(part, r): stats.spearman(mean[r][part].numpy(), mean[r]["score"].numpy(), seed=seed) for part in parts for r in ratios}
value, interval = split({f"1:{r}": order["partial", r] for r in ratios})
ledger.record("cg.terms", value, interval=interval, n=n_small)
pd.DataFrame({f"1:{r}": {part: order[part, r][0] for part in parts} for r in ratios}).style.format("{:.3f}").set_caption("Spearman with the score")

# %% [markdown]
# READ terms
#
# ## Scores that need training
#
# For comparison we train networks, all of them as one ensemble: for each labelling (clean, then each noise level) a few seeds. On the way we record every example's correctness and loss after each epoch, the error vectors after a fifth of the training (for EL2N, at the 20th of 100 epochs in the paper), and the weights at several epochs (for features).

# %%
model = models.by_name(architecture, shape=tuple(x.shape[1:]), classes=k)
steps = epochs * -(-len(y) // batch_size)
recipe = ensemble.Recipe(lr=lr, momentum=0.9, weight_decay=5e-4, batch_size=batch_size, iterations=steps, schedule="cosine", augment=augment or None)
early, tenth = max(1, round(epochs / 5)), max(1, round(epochs / 10))
moments = tuple(sorted({e for e in feature_epochs if e <= epochs} | {tenth}))
record = ensemble.Record(correct="epoch", loss="epoch", errors_at=(early,), checkpoints_at=moments)
start = time.perf_counter()
watched = ensemble.train(model, x, y, recipe=recipe, seeds=list(range(networks)) * len(labels), labels=labels.repeat_interleave(networks, 0), record=record, device=device, store=Store())
watch_seconds = (time.perf_counter() - start) / len(labels)
print(f"{len(watched.accuracy_train)} networks of {steps:,} steps, {watch_seconds / networks:.1f} s each; accuracy on their labels {watched.accuracy_train.view(len(labels), -1).mean(1).tolist()}")

# %% [markdown]
# Scores with a row a labelling, the mean over networks:

# %%
by_labelling = lambda per_run: per_run.view(len(labels), networks, -1).mean(1)
errors, learned = watched.errors[early], watched.correct_train[:, 1:]
trained_scores = {"EL2N": by_labelling(el2n(errors)), "forgetting": by_labelling(forgetting(learned))}
prime = cg_score.cg_prime(x, y)

# %% [markdown]
# Does the training-free score agree with them, and does the inverse matter? The paper's control is $\mathrm{CG}'$, which uses $H$ in place of $H^{-1}$. (The sign of $\mathrm{CG}'$ turns: a large value means *easy*, as the paper notes, so we list it as it stands.)

# %%
agreement, advantage = {}, {}
for name, score in trained_scores.items():
    target, turn = score[0].numpy(), np.sign(spearmanr(prime, score[0])[0])
    agreement[name], agreement[name + ", CG′"] = (stats.spearman(a.numpy(), target, seed=seed) for a in (cg_clean, prime))
    advantage[name] = stats.spearman_difference(cg_clean.numpy(), turn * prime.numpy(), target)
open_, value, interval = {"C-score": None}, *split({name: result for name, result in agreement.items() if "′" not in name})
ledger.record("cg.correlations", value | open_, interval=interval, n=n, note=f"mean of {networks} networks")
value, interval = split(advantage)
ledger.record("cg.correlations.inverse", value | open_, interval=interval, n=n)
pd.DataFrame(agreement, index=["Spearman", "95%"]).T

# %% [markdown]
# READ agreement
#
# ## Scores from features
#
# The same formula runs on any representation. We take the features of the last hidden layer of the clean networks at several epochs (duplicated feature vectors would make $H$ singular, hence the small jitter), and compare with the scores of the pictures and with the trained ones.
#
# *Before you run: with training, will the feature score move towards the picture score or towards EL2N?*

# %%
def feature_scores(epoch, members, y):
    part = {name: value[members] for name, value in watched.checkpoints[epoch].items()}
    hidden = ensemble.features(model, part, x, device=device)
    return torch.stack([cg_score.cg_scores(h, y, jitter=1e-4, device=device).score for h in hidden])

trace = {epoch: feature_scores(epoch, slice(0, min(networks, 2)), y) for epoch in moments}

# %% [markdown]
# Correlation over epochs, one line for each score compared with, averaged over the networks:

# %%
compared = {"CG": cg_clean, "EL2N": trained_scores["EL2N"][0], "forgetting": trained_scores["forgetting"][0]}
rows = [(epoch, name, run, spearmanr(score, other)[0]) for epoch in moments for run, score in enumerate(trace[epoch]) for name, other in compared.items()]
curve = pd.DataFrame(rows, columns=["epoch", "score", "run", "spearman"])
fig, ax = plt.subplots(figsize=(6, 3.4))
for name, part in curve.groupby("score"):
    plots.band(ax, part, "epoch", "spearman", name)
ax.set(xlabel="epoch at which the features are taken", ylabel="Spearman with the feature score", xscale="log")
ax.set_xticks(moments, moments)
ax.legend(title="feature score against")
plots.save(fig, "04_feature_epochs", profile);

# %% [markdown]
# READ feature epochs

# %%
lines = curve.pivot_table(index="epoch", columns=["score", "run"], values="spearman")
change = lines.iloc[-1] - lines.iloc[0]
value, interval = split({name: (change[name].mean(), stats.t_interval(change[name].to_numpy())) for name in compared})
ledger.record("cg.features.epochs", value, interval=interval, n=change["CG"].size, note="interval over networks")
lines.T.groupby("score").mean().style.format("{:.3f}").set_caption("Spearman with the feature score, by epoch")

# %% [markdown]
# For pruning and for noise we use the features at a tenth of the training, as the paper does (its tenth epoch of 100), averaged over the networks, and under each labelling.

# %%
members = [slice(row * networks, row * networks + min(networks, 2)) for row in range(len(labels))]
trained_scores["CG features"] = torch.stack([feature_scores(tenth, part, labels[row]).mean(0) for row, part in enumerate(members)])
every_score = {"CG": cg.score, "CG features": trained_scores["CG features"], "EL2N": trained_scores["EL2N"], "forgetting": trained_scores["forgetting"]}

# %% [markdown]
# ## Pruning
#
# Drop a share of the examples, lowest scores first or highest scores first, the same share of every class; train what is left for as many steps as the full set takes; test. Random choice, drawn anew for each seed, is the reference. Every network of the experiment is one member of one ensemble.
#
# *Before you run: with a tenth of the data left, would you rather keep the highest or the lowest scores?*

# %%
plans = {("full data", "–", 1.0): torch.ones(len(y), dtype=torch.bool)}
for share in kept:
    plans["random", "–", share] = pruning.random_subsets(len(y), share, range(seeds), y=y)
    for name, score in every_score.items():
        for drop in ("lowest", "highest"):
            plans[name, drop, share] = pruning.prune(score[0], share, drop=drop, y=y, seed=seed)
pruned = pruning.retrain(model, images, plans, recipe=recipe, seeds=range(seeds), columns=("score", "drop", "keep"), device=device, store=Store())

# %% [markdown]
# Mean test accuracy with 95% bands over seeds. In the left panel the better score stays high for longer; in the right one it falls sooner.

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 4.2), sharey=True)
full = pruned[pruned.score == "full data"].accuracy
for ax, drop in zip(axes, ("lowest", "highest"), strict=True):
    for name in ["random", *every_score]:
        part = pruned[(pruned.score == name) & pruned["drop"].isin(["–", drop])]
        plots.band(ax, part, "keep", "accuracy", name)
    plots.reference(ax, full.mean(), "full data", interval=stats.t_interval(full.to_numpy()))
    ax.set(xlabel="share of the training rows kept", title=f"{drop} scores dropped first", ylabel="test accuracy")
axes[1].legend()
plots.save(fig, "04_pruning", profile);

# %% [markdown]
# READ pruning
#
# Differences, paired by seed, in percentage points:

# %%
def points_gained(better, than):
    gained = 100 * pruning.gain(pruned, better, than, by="keep")
    name = [f"drop {1 - share:.0%}" for share in gained.index]
    return dict(zip(name, gained.mean(axis=1), strict=True)), dict(zip(name, map(stats.t_interval, gained.to_numpy()), strict=True))

low, high = ({"score": "CG", "drop": drop} for drop in ("lowest", "highest"))
differences = {
    "cg.prune_low": (low, {"score": "random"}), "cg.prune_low.loss": (low, {"score": "full data"}),
    "cg.prune_low.el2n": (low, {"score": "EL2N", "drop": "lowest"}), "cg.prune_low.forgetting": (low, {"score": "forgetting", "drop": "lowest"}),
    "cg.prune_high": ({"score": "random"}, high), "cg.prune_high.el2n": ({"score": "EL2N", "drop": "highest"}, high),
    "cg.prune_high.forgetting": ({"score": "forgetting", "drop": "highest"}, high),
    "cg.features.prune": ({"score": "CG features", "drop": "lowest"}, low),
}
table = {claim: points_gained(*sides) for claim, sides in differences.items()}
pd.DataFrame({claim: value for claim, (value, _) in table.items()}).style.format("{:+.2f}").set_caption("percentage points")

# %% [markdown]
# READ differences

# %%
for claim, (value, interval) in table.items():
    ledger.record(claim, value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps; interval over seeds")

# %% [markdown]
# ### Another architecture
#
# The paper repeats the experiment with DenseNet-BC-100 and a fine-tuned vision transformer. Here a small DenseNet-BC (the same blocks, fewer and narrower) is trained on fewer rows; the transformer's pretrained weights cannot be had without a download, so that half stays open.

# %%
less = data.load(dataset, n_train=second_n, n_test=min(n_test, 2000), seed=seed)
again = models.by_name(second_architecture, shape=tuple(x.shape[1:]), classes=k)
again_score = cg_score.cg_scores(less.x_train, less.y_train, device=device).score
again_plans = {}
for share in (0.4, 0.6):
    again_plans["random", share] = pruning.random_subsets(len(less.y_train), share, range(seeds), y=less.y_train)
    again_plans["CG", share] = pruning.prune(again_score, share, drop="lowest", y=less.y_train)
again_recipe = ensemble.Recipe(lr=0.1, momentum=0.9, weight_decay=5e-4, batch_size=50, iterations=10 * -(-len(less.y_train) // 50), schedule="cosine")
other = pruning.retrain(again, less, again_plans, recipe=again_recipe, seeds=range(seeds), columns=("score", "keep"), device=device, store=Store())

# %% [markdown]
# Accuracy, and the difference in points:

# %%
gained = 100 * pruning.gain(other, {"score": "CG"}, {"score": "random"}, by="keep")
setting = [f"drop {1 - share:.0%}" for share in gained.index]
ledger.record("cg.models", dict(zip(setting, gained.mean(axis=1), strict=True)), interval=dict(zip(setting, map(stats.t_interval, gained.to_numpy()), strict=True)),
              n=seeds, note=f"{second_architecture}, {len(less.y_train):,} rows")
other.pivot_table(index="keep", columns="score", values="accuracy", aggfunc=["mean", "std"]).style.format("{:.3f}")

# %% [markdown]
# READ models
#
# ## Wrong labels
#
# A share of the labels is replaced, each by one of the other classes at random. Left: scores of right and wrong labels. Right: examine the examples from the highest score down; which share of the wrong labels has been found? The oracle finds nothing else.
#
# *Before you run: at 80% noise, each class holds more strangers than members. Will the score still find them?*

# %%
fig, axes = plt.subplots(len(noise_levels), 2, figsize=(10, 3 * len(noise_levels)), squeeze=False)
for row, share in enumerate(noise_levels, start=1):
    left, right = axes[row - 1]
    plots.two_histograms(left, cg.score[row], wrong[row], "CG-score", ("right label", "wrong label"))
    for name, score in {**every_score, "CG partial": cg.partial}.items():
        found = wrong[row][score[row].argsort(descending=True)].cumsum(0) / wrong[row].sum()
        right.plot(np.linspace(0, 1, len(found)), found, **plots.look(name) | {"marker": ""})
    right.plot([0, share, 1], [0, 1, 1], **plots.look("oracle"))
    right.plot([0, 1], [0, 1], **plots.look("random") | {"marker": ""})
    right.set(xlabel="share examined, highest scores first", ylabel="share of wrong labels found", title=f"{share:.0%} noise")
axes[0, 1].legend(fontsize=7)
plots.save(fig, "04_noise", profile);

# %% [markdown]
# READ noise

# %%
detectors = {**every_score, "CG partial": cg.partial}
aurocs = {(name, f"{share:.0%}"): stats.auroc(score[row].numpy(), wrong[row].numpy(), seed=seed)
          for name, score in detectors.items() for row, share in enumerate(noise_levels, start=1)}
value, interval = split({level: result for (owner, level), result in aurocs.items() if owner == "CG"})
ledger.record("cg.noise", value, interval=interval, n=n)
pd.Series({key: value for key, (value, _) in aurocs.items()}).unstack().style.format("{:.3f}").set_caption("AUROC of wrong against right labels")

# %% [markdown]
# Differences between detectors on the same examples: is the training-free score better than the trained ones, does the middle term do the work alone, and is feature space better, as the paper finds?

# %%
def auroc_gain(better, than, rows):
    pairs = {f"{share:.0%}": (detectors[name][row].numpy() for name in (better, than)) for row, share in enumerate(noise_levels, start=1) if row in rows}
    return {level: stats.auroc_difference(*pair, wrong[row].numpy()) for row, (level, pair) in enumerate(pairs.items(), start=1)}

everywhere = range(1, len(labels))
best = {name: auroc_gain("CG", name, [1])[f"{noise_levels[0]:.0%}"] for name in ("EL2N", "forgetting")}
for claim, result in [("cg.noise.best", best), ("cg.partial.auroc", auroc_gain("CG partial", "CG", everywhere)), ("cg.features", auroc_gain("CG features", "CG", everywhere))]:
    value, interval = split(result)
    ledger.record(claim, value, interval=interval, n=n)

# %% [markdown]
# ### The sign of the middle term
#
# The partial score compares an example's likeness to its own class and to the others. Where it is positive, the label is suspect, and nobody needs to know the noise rate. The sign depends on how many others there are, so we subsample as the paper does, three of them for each example of the class, and set the exact scores beside.

# %%
sampled = cg_score.cg_scores(x, labels[1], negatives=3, runs=3, seed=seed, device=device).partial
stored = pd.read_parquet(STORED)
columns = {
    f"1:3, {n:,} rows": (sampled.numpy(), wrong[1].numpy()),
    f"exact, {n:,} rows": (cg.partial[1].numpy(), wrong[1].numpy()),
    "exact, 60,000 rows": (stored.cg_partial_noise20.to_numpy(), (stored.label_noise20 != stored.label).to_numpy()),
}

# %% [markdown]
# The table has the sign's share in both groups, and the share of wrong labels among the highest-scored fifth. The last column is the paper's Table 2.

# %%
def sign_test(partial, wrong):
    top = np.argsort(-partial)[: wrong.sum()]
    return {"mislabelled positive": stats.share(partial[wrong] > 0), "clean negative": stats.share(partial[~wrong] <= 0), "wrong among the top fifth": stats.share(wrong[top])}

signs = {name: sign_test(*pair) for name, pair in columns.items()}
value, interval = split(signs[f"1:3, {n:,} rows"])
top, top_ci = value.pop("wrong among the top fifth"), interval.pop("wrong among the top fifth")
ledger.record("cg.partial", value, interval=interval, n=n)
ledger.record("cg.noise.precision", top, interval=top_ci, n=int(wrong[1].sum()))
table = pd.DataFrame({name: split(result)[0] for name, result in signs.items()})
table.assign(published=[11796 / 12000, 44538 / 48000, 10776 / 12000]).style.format("{:.3f}")

# %% [markdown]
# READ sign
#
# ## Which half to keep when labels are wrong
#
# A window holds half of the data, from an offset upwards in score, at the first noise level. Low offsets leave out the hard examples and all wrong labels; high offsets take them in.

# %%
slide = {("CG", offset): pruning.window(cg.score[1], 0.5, offset, y=labels[1], seed=seed) for offset in offsets}
slide["random", 0.0] = pruning.random_subsets(len(y), 0.5, range(seeds), y=labels[1])
slid = pruning.retrain(model, images, slide, recipe=recipe, seeds=range(seeds), columns=("score", "offset"), labels=labels[1], device=device, store=Store())

# %% [markdown]
# Test accuracy (the test labels are right):

# %%
fig, ax = plt.subplots(figsize=(6, 3.4))
plots.band(ax, slid[slid.score == "CG"], "offset", "accuracy", "CG")
half = slid[slid.score == "random"].accuracy
plots.reference(ax, half.mean(), "random half", interval=stats.t_interval(half.to_numpy()))
ax.axvline(0.5 - noise_levels[0], lw=0.8, ls=":", color="0.3")
ax.annotate("window meets the top 20%", (0.5 - noise_levels[0], ax.get_ylim()[0]), rotation=90, fontsize=7, ha="right", va="bottom")
ax.set(xlabel="offset (share of lower scores left out)", ylabel="test accuracy", title=f"half of the data, {noise_levels[0]:.0%} wrong labels")
plots.save(fig, "04_window", profile);

# %% [markdown]
# READ window

# %%
curve = 100 * slid[slid.score == "CG"].pivot_table(index="offset", columns="seed", values="accuracy")
moves = {"rise to 30%": curve.loc[0.3] - curve.loc[0.0], "fall after 30%": curve.loc[0.3] - curve.loc[0.5]}
ledger.record("cg.window", {name: move.mean() for name, move in moves.items()}, interval={name: stats.t_interval(move.to_numpy()) for name, move in moves.items()}, n=seeds)
print(f"best offset {curve.mean(axis=1).idxmax():.0%}; " + "; ".join(f"{name}: {move.mean():+.1f} points" for name, move in moves.items()))

# %% [markdown]
# ## Are high scores learned later?
#
# Ten groups by score, from the lowest to the highest tenth, watched while the clean networks train.

# %%
group = pruning.ranks(cg_clean, seed=seed) * 10 // len(y)
loss = torch.stack([watched.loss_train[:networks, :, group == g].mean(2) for g in range(10)])  # (10, networks, epochs)
accuracy = torch.stack([watched.correct_train[:networks, :, group == g].float().mean(2) for g in range(10)])
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4))
for g, colour in enumerate(plt.get_cmap("cividis")(np.linspace(0, 0.95, 10))):
    axes[0].plot(loss[g].mean(0), color=colour, label=f"{g * 10}–{g * 10 + 10}%")
    axes[1].plot(accuracy[g].mean(0), color=colour)
axes[0].set(xlabel="epoch", ylabel="mean loss (nats)")
axes[1].set(xlabel="epoch", ylabel="training accuracy")
axes[0].legend(title="score group", fontsize=7, ncols=2)
plots.save(fig, "04_dynamics", profile);

# %% [markdown]
# READ dynamics

# %%
slowness = loss[:, :, 1:].mean(2)  # (10, networks), the loss averaged over epochs
rho = [spearmanr(range(10), slowness[:, run])[0] for run in range(networks)]
apart = (slowness[9] - slowness[0]).numpy()
ledger.record("cg.dynamics", {"trend": float(np.mean(rho)), "ends": float(apart.mean())},
              interval={"trend": (min(rho), max(rho)), "ends": stats.t_interval(apart)}, n=networks,
              note="trend: range over networks")
ledger.record("cg.dynamics.velocity", None)

# %% [markdown]
# ## What it costs
#
# The paper inverts one matrix a class and a draw. We time that procedure on our rows (one draw, as its Table 4 does), beside our exact scores and the trainings.

# %%
def papers_way(ratio):
    start = time.perf_counter()
    for c in range(k):
        own = torch.nonzero(y == c).flatten()
        others = torch.nonzero(y != c).flatten()[torch.randperm(int((y != c).sum()), generator=generator)[: ratio * len(own)]]
        torch.linalg.inv(cg_score.relu_gram(x[torch.cat([own, others])]))
    return time.perf_counter() - start

seconds = {ratio: papers_way(ratio) for ratio in (1, 2, 3)}

# %% [markdown]
# All 60,000 training images of Fashion-MNIST were scored once, exactly, on a machine of two cores; the scores are part of the repository, with the record of how they were made.

# %%
made = score_files.provenance(STORED)["cg"]
published = {"1:1": 1063, "1:2": 2610, "1:3": 4834, "EL2N, one run": 370, "forgetting, one run": 1879}
ours = {f"1:{ratio}": value for ratio, value in seconds.items()} | {"exact, one labelling or many": cg_seconds, "EL2N, one run": watch_seconds / networks * early / epochs, "forgetting, one run": watch_seconds / networks}
costs = pd.DataFrame({"here (s)": ours, "paper, 60,000 images, A100 (s)": published})
grown = {f"1:{ratio} over 1:1": seconds[ratio] / seconds[1] for ratio in (2, 3)}
ledger.record("cg.cost", grown, n=n, note=f"one draw each; our exact scores took {cg_seconds:.1f} s against {seconds[3]:.1f} s for 1:3 the paper's way")
ledger.record("cg.baselines", None)
ledger.record("cg.models.vit", None)
costs.style.format("{:,.1f}", na_rep="–")

# %% [markdown]
# READ cost

# %%
phases = pd.DataFrame({"seconds": made["seconds"], "GFLOP/s": made["gflops"]})
print(f"{made['n']:,} rows on {made['threads']} threads: {made['seconds']['all'] / 60:.1f} min, peak {made['peak_bytes'] / 1e9:.1f} GB; "
      f"matrix products before and after: {made['matrix_product_gflops']['before']:.0f} and {made['matrix_product_gflops']['after']:.0f} GFLOP/s")
phases.style.format("{:,.0f}", na_rep="–")

# %% [markdown]
# ## Where we deviate, and why
#
# - **Data and network.** The paper trains ResNet-18 on all 60,000 images for 100 epochs. The `laptop` profile trains a network with one hidden layer of 256 units on fewer rows, with the same optimizer, schedule, decay and batch size, so that hundreds of retrainings fit into minutes; the `paper` profile has the published sizes. Moments are kept as shares of the training: EL2N at a fifth, features at a tenth.
# - **Exact scores** in place of the subsampled ones, except where subsampling is the question.
# - **Forgetting** is counted at the ends of epochs; an example that is never learned counts as forgotten most, as in Toneva et al.
# - **Feature scores** need a jitter of 10⁻⁴ on the diagonal: hidden features of different examples can coincide.
# - **Not here:** C-score (needs thousands of trainings; notebook 03 has them), kernel velocity, TracIn and CRAIG (they belong to notebook 05), the transformer.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# 1. Add a near copy of an example, with the right label. What happens to the score of the original, and why must it?
#
# <details><summary>Answer</summary>
#
# It collapses: what the original said is now said by its copy as well, so removing it frees almost nothing.
#
# ```python
# few_x, few_y = x[:500], y[:500]
# copy = (few_x[:1] + 0.01 * torch.rand_like(few_x[:1])).clamp(0, 1)
# alone = cg_score.cg_scores(few_x, few_y).score[0]
# with_copy = cg_score.cg_scores(torch.cat([few_x, copy]), torch.cat([few_y, few_y[:1]])).score[0]
# print(f"{alone:.2f} alone, {with_copy:.2f} beside its copy")
# ```
# </details>
#
# 2. Give the copy another label instead. Which of the two labels does the score now distrust?
#
# <details><summary>Answer</summary>
#
# Both: two like pictures with unlike labels pull the function in two directions, and removing either relieves it.
#
# ```python
# contradiction = torch.cat([few_y, (few_y[:1] + 1) % k])
# print(cg_score.cg_scores(torch.cat([few_x, copy]), contradiction).score[[0, -1]])
# ```
# </details>
#
# 3. Make every picture twice as bright. Before you run it: which scores change?
#
# <details><summary>Answer</summary>
#
# None. Inputs are scaled to unit length first, so only directions count.
#
# ```python
# torch.testing.assert_close(cg_score.cg_scores(2 * few_x, few_y).score, cg_score.cg_scores(few_x, few_y).score, rtol=1e-3, atol=1e-3)
# ```
# </details>
#
# 4. Shuffle all labels. What is the mean score then, compared with the clean one, and what does it say about the bound?
#
# <details><summary>Answer</summary>
#
# It rises: fitting noise moves the network further, and each example carries more of it.
#
# ```python
# shuffled = few_y[torch.randperm(500, generator=torch.Generator().manual_seed(0))]
# for name, these in {"clean": few_y, "shuffled": shuffled}.items():
#     print(name, round(float(cg_score.cg_scores(few_x, these).score.mean()), 2))
# ```
# </details>

# %% [markdown]
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
