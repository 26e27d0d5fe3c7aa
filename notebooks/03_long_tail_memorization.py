# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · What networks memorize, and what it is good for
#
# *Vitaly Feldman and Chiyuan Zhang, "What neural networks memorize and why: discovering the long tail via influence estimation", NeurIPS 2020, [arXiv 2008.03703](https://arxiv.org/abs/2008.03703).*
#
# **Question.** Which training labels does a network get right only because it has seen them, and does anything that it has not seen profit?
#
# **What was found**
#
# - On 2,000 pictures of clothes, a quarter of the labels (23.5%) are memorized: seeing them raises the chance of being right by .25 or more. One in seventeen stands above .95: right almost only if seen. Of digits a tenth is memorized.
# - Memorized pictures are odd. Above .5 three of ten nearest neighbours share their label; below .05 it is eight.
# - They pay. Single memorized pictures lift single test pictures: 2,183 pairs, where luck alone gives none. Without their training side the networks lose 1.8 points, all of it on the test side.
# - The number does not tell the useful from the useless. The quarter above .25 is worth 1.2 points more than as many others, the top above .9 no more than they.
# - It is the dearest score here: 4,000 trainings. [07](07_scores_side_by_side.ipynb) asks which cheaper score ranks alike, [05](05_data_diet.ipynb) whether EL2N does.
#
# *Symbols and scores: the [glossary](GLOSSARY.md). Repeatability, other architectures, the last layer and later work: the [appendix](appendix/13_long_tail_further.ipynb).*
#
# To run a part, run the cells to the end of *Method*, then *How much is memorized?*, *What are memorized examples worth together?* or *High-influence pairs*.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # the varied data: a name that lib.data.datasets.load knows, or the path of an .npz
n: int = 2000  # training rows
architecture: str = "mlp-128"  # the network, a name that lib.networks.models.by_name knows
trials: int = 4000  # networks, each trained on a random 70% of the rows
seed: int = 0  # rows, subsets, networks, bootstrap
thresholds: list = [0.25, 0.5, 0.75, 0.9]  # memorization above which examples are removed
retrainings: int = 30  # networks trained on each reduced set
n_test: int = 10000  # test rows
contrast: str = "mnist-5k"  # the easy data to compare with
n_contrast: int = 2000  # its training rows
n_test_contrast: int = 1000  # its test rows
contrast_architecture: str = "mlp-128"  # the network on the easy data
contrast_trials: int = 1000  # networks on the easy data
epochs: int = 15  # passes over a network's own rows
batch_size: int = 100  # examples a step
lr: float = 0.1  # peak of the learning rate, momentum 0.9, up over 15% of the steps, then down to 0
contrast_epochs: int = 15  # passes, on the easy data
contrast_batch_size: int = 100  # examples a step, on the easy data
contrast_lr: float = 0.1  # peak of the learning rate, on the easy data
augment: str = ""  # "", "crop", "flip" or "crop_flip", on the varied data
permutations: int = 100  # deals of the subsets behind the null
device: str = "cpu"  # where to train: "cpu" or "cuda"

# %% [markdown]
# ## What we test
#
# The paper's thesis: data have a long tail of rare kinds, with one or two specimens of each in the training set. A network gets these right only by memorizing their labels. It pays, because each carries a few test examples of its kind. The claims, written before the run:

# %%
import inspect
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from experiments import moves, plots, pruning
from experiments.long_tail import displayed_examples, fit, pair_counts, permuted_pair_counts, right_by_role, shared_pairs, standardized
from experiments.pairs import high_influence_pairs
from experiments.rankings import are_neighbours, cosine, label_agreement
from lib import statistics
from lib.data import datasets
from lib.ledger import Ledger
from lib.networks import models
from lib.scores import definitions
from lib.scores.memorization import influence_of_seeing, memorization, subsets
from lib.store import Store
from lib.training import Recipe, Run

plots.style()
ledger, run = Ledger("03", profile), Run(device=device, store=Store(profile=profile))
fit = partial(fit, run=run)
ledger.criteria()

# %% [markdown]
# ## Data
#
# Two sets of ten classes and as many rows: clothes, which vary, and digits, which vary little.

# %%
clothes = datasets.load(dataset, n_train=n, n_test=n_test, seed=seed)
digits = datasets.load(contrast, n_train=n_contrast, n_test=n_test_contrast, seed=seed)
images, plain, labels = standardized(clothes), standardized(digits), (clothes.y_train, clothes.y_test)

for d in (clothes, digits):
    fig = plots.pictures(d.x_train[torch.linspace(0, len(d.y_train) - 1, 12).long()], columns=6, size=0.8, titles=[d.name])
    plots.save(fig, f"03_data_{d.name}", profile)
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")


# %% [markdown]
# ## Method
#
# Memorization of example $i$ is what its own presence does to the chance of getting its label right. Influence on test example $j$ is what it does to the chance of getting that one right. With $A(S)$ for a network trained on the set $S$:
#
# $$ \begin{aligned}\mathrm{mem}(i)=&\Pr_{h\leftarrow A(S)}[h(x_i)=y_i]\\ &-\Pr_{h\leftarrow A(S\setminus i)}[h(x_i)=y_i],\\ \mathrm{infl}(i,j)=&\Pr_{h\leftarrow A(S)}[h(x'_j)=y'_j]\\ &-\Pr_{h\leftarrow A(S\setminus i)}[h(x'_j)=y'_j].\end{aligned} $$
#
# Leaving out each in turn costs too much. Algorithm 1 trains $t$ networks on random subsets $I_k$ of $m = 0.7n$ examples. Every network speaks about every example, as one that saw it or as one that did not:
#
# $$ \begin{aligned}\mathrm{infl}_m(i,j)=&\Pr_k[h_k(x'_j)=y'_j\mid i\in I_k]\\ &-\Pr_k[h_k(x'_j)=y'_j\mid i\notin I_k].\end{aligned} $$
#
# A loop over examples, tried on made-up answers with a known truth: test example $j$ is right with probability ½ + ½τⱼ if training example $j$ was seen, and with ½ − ½τⱼ if not. Then $\mathrm{infl}(j,j) = \tau_j$.

# %%
def made_up(t, seed, examples=100):
    g = torch.Generator().manual_seed(seed)
    truth = torch.rand(examples, generator=g)
    saw = subsets(examples, round(0.7 * examples), t, seed)
    return saw, torch.rand(t, examples, generator=g) < 0.5 + truth * (saw.float() - 0.5), torch.diag(truth)


print(inspect.getsource(definitions.influence_of_seeing))

# %% [markdown]
# The library's version is one product of two bit matrices: who saw what, and who is right about what. Memorization is the diagonal, with the training set as its own test set. Both must agree:

# %%
saw, right, truth = made_up(60, seed)
slow = definitions.influence_of_seeing(saw, right)
fast, own = influence_of_seeing(saw, right), memorization(saw, right)
error = float(max((fast.value - slow).abs().max(), (own.value - slow.diagonal()).abs().max()) / slow.abs().max())
assert error < 1e-12, error
ledger.record("lt.estimator", error, n=slow.numel(), note="of the largest estimate")
print(f"{slow.numel():,} influences by loop and by one product: largest difference {error:.0e}")

# %% [markdown]
# ### Training the networks
#
# Each network sees its own random 70% of the rows, by the paper's recipe (momentum .9, a rate that rises and falls). Networks that memorize must fit what they see: the second column.

# %%
schedule = {"momentum": 0.9, "schedule": "warmup_linear"}
recipe = Recipe(lr=lr, epochs=epochs, batch_size=batch_size, augment=augment or None, **schedule)
contrast_recipe = Recipe(lr=contrast_lr, epochs=contrast_epochs, batch_size=contrast_batch_size, **schedule)
sees = subsets(n, round(0.7 * n), trials, seed)
sees_plain = subsets(n_contrast, round(0.7 * n_contrast), contrast_trials, seed)
right, right_test = fit(images, sees, recipe, architecture)
right_plain, right_test_plain = fit(plain, sees_plain, contrast_recipe, contrast_architecture)
mem, mem_plain = memorization(sees, right), memorization(sees_plain, right_plain)
memorized, memorized_plain = (mem.value >= 0.25).numpy(), (mem_plain.value >= 0.25).numpy()
gap = lambda a, b, axis=-1: a.mean(axis) - b.mean(axis)

right_by_role(varied=(sees, right, right_test), easy=(sees_plain, right_plain, right_test_plain))

# %% [markdown]
# ## How much is memorized?
#
# **Predict.** What share of the clothes, and of the digits, is memorized (.25 or more)?
#
# <details><summary>Answer</summary>
#
# A quarter of the clothes, a tenth of the digits.
# </details>

# %%
if (most := int((mem.value >= 0.5).sum())) < 10:
    raise ValueError(f"dataset: {most} of {n:,} examples of {clothes.name} are memorized (≥ .5), too few to study; take harder data or more of them")
fig, axes = plt.subplots(2, 1, figsize=(5.5, 5.6))
for name, estimate, colour, dash in ((clothes.name, mem, "#0072b2", "-"), (digits.name, mem_plain, "#d55e00", "--")):
    value = estimate.value.numpy()
    axes[0].hist(value, bins=np.linspace(-0.1, 1, 45), histtype="step", color=colour, ls=dash, lw=1.6, label=name)
    axes[1].plot(np.sort(value)[::-1], np.arange(1, len(value) + 1) / len(value), color=colour, ls=dash, label=name)
axes[0].set(yscale="log", xlabel="memorization", ylabel="training examples")
axes[1].axvline(0.25, lw=0.9, color="0.35")
axes[1].annotate("θ = .25", (0.26, 0.93), fontsize=8, color="0.3")
axes[1].set(xlim=(0, 1), ylim=(0, 1), xlabel="memorization threshold θ", ylabel="share of examples above")
axes[0].legend()
plots.save(fig, "03_memorization", profile);

# %% [markdown]
# Most examples lie near 0, a few near 1. Two thirds of the clothes (below .05) need not be seen; six in a hundred (above .95) must be. Above .25 lie fewer than on CIFAR-100 (36%). The digits have more than the paper's MNIST: what is rare among 2,000 digits is not rare among 60,000, of which 3.0% are memorized ([appendix](appendix/13_long_tail_further.ipynb#all-of-mnist)).

# %%
share, interval = statistics.share(memorized)
flags = memorized.astype(float), memorized_plain.astype(float)
note = f"{n:,} rows, {architecture}; standard error of an estimate at most {mem.error.nan_to_num().max():.3f}"
ledger.record("lt.fraction", share, interval=interval, n=n, note=note, covers=["rows"], moved=moves.told("lt.fraction", profile, was=share))
interval, note = statistics.bootstrap_interval(gap, *flags, seed=seed), f"{share:.1%} against {memorized_plain.mean():.1%} of {contrast}"
ledger.record("lt.fraction.mnist", gap(*flags), interval=interval, n=n, note=note, covers=["rows"])
ledger.record("lt.fraction.imagenet", None)
print(f"≥ 0.25: {share:.1%} of {clothes.name}, {memorized_plain.mean():.1%} of {digits.name}")


# %% [markdown]
# ### What do they look like?
#
# The paper's Figure 1: examples with memorization closest to 0, to ½ and to 1, so nobody chose them.
#
# **Predict.** What will a shirt look like whose label networks get right only if they have seen it?
#
# <details><summary>Answer</summary>
#
# Like something else: a top, a dress or a blouse that the catalogue happens to call a shirt.
# </details>

# %%
def around(d, estimate, label, count=8):
    own = torch.nonzero(d.y_train == label).flatten()
    return torch.cat([own[(estimate.value[own] - level).abs().argsort()[:count]] for level in (0.0, 0.5, 1.0)])


shown = [(clothes, mem, 6), (digits, mem_plain, 5)]
for d, estimate, label in shown:
    label %= len(d.classes)
    rows = around(d, estimate, label)
    captions = [f"{estimate.value[i]:.2f}" for i in rows]
    titles = [f"{d.classes[label]}, near {level}" for level in (0, 0.5, 1)]
    fig = plots.pictures(d.x_train[rows], captions, columns=8, size=0.7, titles=titles)
    plots.save(fig, f"03_examples_{d.name}", profile)

# %% [markdown]
# Near 0 stand plain shirts, photographed flat. The number does not tell a rare kind from a mistake of the catalogue; that is the paper's point. Of an example's ten nearest neighbours, by the angle between their pixels, how many share its label?

# %%
typical = label_agreement(clothes.x_train, clothes.y_train).numpy()
groups = typical[(mem.value <= 0.05).numpy()], typical[(mem.value >= 0.5).numpy()]
note = "neighbours with the same label: {:.2f} of 1 where memorization ≤ 0.05, {:.2f} where ≥ 0.5".format(*(g.mean() for g in groups))
interval = statistics.bootstrap_interval(gap, *groups, seed=seed)
ledger.record("lt.fraction.atypical", gap(*groups), interval=interval, n=sum(map(len, groups)), note=note, covers=["rows"])
print(note, f"({len(groups[0])} and {len(groups[1])} examples)")

# %% [markdown]
# ## What are memorized examples worth together?
#
# Remove all examples above a threshold, or as many at random, and train on the rest.
#
# **Predict.** Will the network miss the memorized more than as many others? And will the answer be the same above .25 and above .9?
#
# <details><summary>Answer</summary>
#
# More above .25, no more above .9: at the top of the scale stand ambiguous and wrongly labelled examples too.
# </details>

# %%
plans, seeds = {}, range(seed, seed + retrainings)
for threshold in thresholds:
    rest = mem.value < threshold
    plans["memorized", threshold] = rest
    plans["random", threshold] = pruning.random_subsets(n, float(rest.double().mean()), seeds)
model = models.by_name(architecture, shape=tuple(images.x_train.shape[1:]), classes=len(images.classes))
reduced = pruning.retrain_pruned(model, images, plans, columns=("removed", "threshold"), recipe=recipe, seeds=seeds, run=run)
everyone = torch.ones(retrainings, n, dtype=torch.bool)
whole = fit(images, everyone, recipe, architecture, first_seed=seed)[1].double().mean(1).numpy()

# %% [markdown]
# Test accuracy, with 95% bands over trainings alone; below, the share of rows that is left:

# %%
fig, (ax, left) = plt.subplots(2, 1, figsize=(6, 4.6), sharex=True, height_ratios=[3, 1])
plots.band(ax, reduced[reduced.removed == "memorized"], "threshold", "accuracy", "memorization", label="without the memorized")
plots.band(ax, reduced[reduced.removed == "random"], "threshold", "accuracy", "random", label="without as many at random")
plots.reference(ax, whole.mean(), "all rows", interval=statistics.t_interval(whole))
left.plot(thresholds, reduced[reduced.removed == "memorized"].groupby("threshold").kept.first() / n, marker=".", color="0.35")
left.set(ylim=(0, 1.05), xlabel="memorization above which examples are removed", ylabel="share kept")
ax.set(ylabel="test accuracy")
ax.legend(loc="lower right")
plots.save(fig, "03_marginal", profile);

# %% [markdown]
# Without the quarter above .25 the networks lose 1.2 points more than without a random quarter. The advantage shrinks as the threshold rises, and above .9 it is gone. On CIFAR-10 those above .25 (84%) are worth 5 points *less*. The intervals below are over trainings and test rows at once; over trainings alone they would be three or four times too narrow.

# %%
lost = pruning.points(reduced, {"removed": "random"}, {"removed": "memorized"}, by="threshold")  # (trainings, test rows) each
value = {f"≥ {threshold:g}": v.mean() for threshold, v in lost.items()}
interval = {f"≥ {threshold:g}": statistics.crossed_interval(v) for threshold, v in lost.items()}
ledger.record("lt.marginal", value, interval=interval, n=retrainings, note="over trainings, paired by seed, and test rows; one draw of the training rows", covers=["initializations", "test rows"], moved=moves.told("lt.marginal", profile, was=value))
alone = {f"≥ {threshold:g}": np.ptp(statistics.t_interval(v.mean(1))) / 2 for threshold, v in lost.items()}
table = pd.DataFrame(interval, index=["low", "high"]).T.assign(difference=value, **{"±, trainings alone": alone})
table[["difference", "low", "high", "±, trainings alone"]].style.format("{:+.2f}").set_caption("random − memorized, points")


# %% [markdown]
# ## High-influence pairs
#
# If memorizing pays, some memorized training example must lift some test example of its class. The paper's rule: $\mathrm{mem}_m(i)\ge 0.25$, $\mathrm{infl}_m(i,j)\ge 0.15$, $y_i=y'_j$. Among many noisy estimates some are large by luck. How many? Deal the subsets out to the networks anew: all true influences are now zero, and what still passes is luck.
#
# **Predict.** How many pairs will pass the paper's threshold by luck alone: none, a few, as many as there are?
#
# <details><summary>Answer</summary>
#
# None without any influence, with 4,000 networks; with 400, one in twenty (exercise 1). Noise also lifts pairs over the threshold: of those that 400 find, 44% are not found by the 3,600 others.
# </details>

# %%
def pairs_and_luck(d, sees, right, right_test):
    rows = {"rows_train": d.rows_train, "rows_test": d.rows_test}
    pairs = high_influence_pairs(sees, right, right_test, d.y_train, d.y_test, **rows)
    deal = {"candidates": memorization(sees, right).value >= 0.25, "permutations": permutations, "seed": seed}
    return pairs, permuted_pair_counts(sees, right_test, d.y_train, d.y_test, **deal)


pairs, null = pairs_and_luck(clothes, sees, right, right_test)
pairs_plain, null_plain = pairs_and_luck(digits, sees_plain, right_plain, right_test_plain)
columns = ["pairs", "test examples", "with one influencer", "networks", "candidates", "pairs by luck", "at most"]
luck = lambda null: (null.pairs.mean(), null.pairs.quantile(0.975))
rows = {
    clothes.name: (*pair_counts(pairs.test), trials, memorized.sum(), *luck(null)),
    digits.name: (*pair_counts(pairs_plain.test), contrast_trials, memorized_plain.sum(), *luck(null_plain)),
    "paper: MNIST": (35, 33, 31, 4000, None, None, None),
    "paper: CIFAR-100": (1015, 888, 774, 4000, 18_099, None, None),
    "paper: ImageNet": (1641, 1462, 1298, 2000, None, None, None),
}
table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
table.style.format("{:,.0f}", na_rep="–").format("{:,.1f}", subset=["pairs by luck"], na_rep="–")

# %% [markdown]
# How strong are the pairs? As in the paper's Figure 3, with a logarithmic axis:

# %%
fig, ax = plt.subplots(figsize=(6, 3.4))
bins = np.arange(0.15, 1.01, 0.05)
ax.hist(pairs.influence, bins=bins, color="0.75", edgecolor="0.3", label=clothes.name)
ax.hist(pairs_plain.influence, bins=bins, histtype="step", color="#d55e00", lw=1.8, ls="--", label=digits.name)
ax.axvline(0.4, lw=0.9, color="0.35")
ax.annotate("above: near duplicates,\nsays the paper", (0.41, 0.6), xycoords=("data", "axes fraction"), fontsize=8, color="0.3")
ax.set(yscale="log", xlabel="influence", ylabel="pairs")
ax.legend()
plots.save(fig, "03_pairs_histogram", profile);

# %% [markdown]
# One test example in eight is in a pair, more than on CIFAR-100. About half of these have a *single* influencer, where the paper finds nearly nine in ten. The digits have fewer pairs, and far more than the paper's 33 in 10,000: with 200 examples of each class even digits have a tail.

# %%
in_pair = np.isin(np.arange(n_test), pairs.test)
in_pair_plain = np.isin(np.arange(n_test_contrast), pairs_plain.test)
lucky = np.quantile(null.test_examples, [0.025, 0.975]) / n_test
share, interval = statistics.share(in_pair)
note = f"{len(pairs)} pairs, {null.pairs.mean():.1f} expected by luck"
ledger.record("lt.pairs", share, interval=interval, null=lucky, n=n_test, note=note, covers=["test rows"])
single = np.unique(pairs.test, return_counts=True)[1] == 1
value, interval = statistics.share(single) if len(single) else (None, None)
ledger.record("lt.pairs.single", value, interval=interval, n=len(single), note=f"{single.sum()} of {len(single)} test examples", covers=["test rows"], moved=moves.told("lt.pairs.single", profile, was=value))
flags = in_pair.astype(float), in_pair_plain.astype(float)
interval, note = statistics.bootstrap_interval(gap, *flags, seed=seed), f"{share:.1%} against {in_pair_plain.mean():.1%}"
ledger.record("lt.pairs.mnist", gap(*flags), interval=interval, n=n_test, note=note, covers=["test rows"], moved=moves.told("lt.pairs.mnist", profile, was=gap(*flags)))
below, all_pairs = (np.bincount(side, minlength=n_test).astype(float) for side in (pairs.test[pairs.influence < 0.4], pairs.test))
share_of = lambda some, every, axis=-1: some.sum(axis) / every.sum(axis)
interval = statistics.bootstrap_interval(share_of, below, all_pairs, paired=True, seed=seed)
ledger.record("lt.influence.size", share_of(below, all_pairs), interval=interval, n=len(pairs), note="over test examples", covers=["test rows"])
print(f"single influencer: {single.mean():.0%}; below .4: {share_of(below, all_pairs):.0%} of the pairs")
tenth, rest = slice(0, trials // 10), slice(trials // 10, None)
again = shared_pairs(*(high_influence_pairs(sees[part], right[part], right_test[part], *labels) for part in (tenth, rest))).sum()
print(f"of {again['first']:,} pairs of {trials // 10} networks the others find {again.both / max(1, again['first']):.0%}")

# %% [markdown]
# ### Do the two sides of a pair look alike?
#
# Appendix C of the paper fixes which pairs to show: training examples sorted by their highest influence, five evenly spaced ones from top to bottom, and twice more their next in line. A framed training example, with its memorization, stands before the four test examples that it influences most. A ≈ marks near neighbours, one among the other's five nearest.

# %%
drawn, captions = [], []
chosen = torch.tensor(displayed_examples(pairs).T.flatten().tolist())  # the strongest first
value = influence_of_seeing(sees[:, chosen], right_test).value
for i, row in zip(chosen, value, strict=True):
    best = row.topk(4).indices
    twin = are_neighbours(clothes.x_train, clothes.x_test, i.expand(4), best)
    drawn += [clothes.x_train[i], *clothes.x_test[best]]
    captions += [f"{mem.value[i]:.2f}", *(f"{v:.2f}{' ≈' if t else ''}" for v, t in zip(row[best], twin, strict=True))]
fig = plots.pictures(torch.stack(drawn), captions, columns=10, size=0.72)
for ax in fig.axes[: len(drawn) : 5]:  # a frame round the training examples
    ax.spines[:].set_visible(True)
plots.save(fig, "03_pairs", profile);

# %% [markdown]
# Strong pairs are twins; in the last rows the likeness is of silhouettes. How much closer is a pair, in cosine, than its training example to its class? How many of the strongest are near neighbours?

# %%
i, j = torch.tensor(pairs.train.tolist()), torch.tensor(pairs.test.tolist())
similarity = cosine(clothes.x_train, clothes.x_test)
mates = (clothes.y_train[:, None] == clothes.y_test).float()
closer = (similarity[i, j] - ((similarity * mates).sum(1) / mates.sum(1))[i]).numpy()
twins = are_neighbours(clothes.x_train, clothes.x_test, i, j).numpy()
strong = (pairs.influence >= 0.4).to_numpy()
interval, note = statistics.bootstrap_interval(np.mean, closer, seed=seed), f"cosine in a pair {similarity[i, j].mean():.3f}"
ledger.record("lt.visual", closer.mean(), interval=interval, n=len(pairs), note=note, covers=["rows"])
value, interval = statistics.share(twins[strong]) if strong.any() else (None, None)
note = f"{twins[strong].sum()} of {strong.sum()} pairs; of all pairs {twins.mean():.0%}"
ledger.record("lt.visual.duplicates", value, interval=interval, n=int(strong.sum()), note=note, covers=["rows"], moved=moves.told("lt.visual.duplicates", profile, was=value))
print(f"cosine {closer.mean():+.3f} above the class; neighbours: {note}")

# %% [markdown]
# ## What are the pairs worth?
#
# $S_h$ is the training side of all pairs, $S'_h$ the test side. Train new networks with all rows and without $S_h$; we add: without as many at random.
#
# **Predict.** How much of the loss of accuracy will fall on the few test examples in $S'_h$: their share of the test set, about half, or nearly all?
#
# <details><summary>Answer</summary>
#
# More than all of it: on the other test examples accuracy rises a little.
# </details>
#
# Accuracy in percent (± standard deviation over trainings), and the falls with their intervals over trainings and test examples:

# %%
training_side = torch.zeros(n, dtype=torch.bool)
training_side[pairs.train.unique().tolist()] = True
everyone = torch.ones(retrainings, n, dtype=torch.bool)
at_random = pruning.random_subsets(n, float((~training_side).double().mean()), range(seed, seed + retrainings))
arms = {"all rows": everyone, "without Sₕ": everyone & ~training_side, "without as many at random": at_random}
tested = {arm: fit(images, masks, recipe, architecture, first_seed=seed)[1].double() for arm, masks in arms.items()}

on = {"all test examples": torch.ones(n_test, dtype=torch.bool), "S′ₕ": torch.from_numpy(in_pair)}
accuracy = {(arm, w): 100 * bits[:, mask].mean(1).numpy() for arm, bits in tested.items() for w, mask in on.items()}
falls = {(arm, w): 100 * (tested["all rows"] - bits)[:, mask].numpy() for arm, bits in tested.items() for w, mask in on.items()}
rows = {
    (arm, where): {
        "rows removed": int((~arms[arm][0]).sum()),
        "accuracy": f"{accuracy[arm, where].mean():.2f} ± {accuracy[arm, where].std(ddof=1):.2f}",
        "fall (points)": "" if arm == "all rows" else "{:.2f} [{:.2f}, {:.2f}]".format(v.mean(), *statistics.crossed_interval(v)),
    }
    for (arm, where), v in falls.items()
}
pd.DataFrame.from_dict(rows, orient="index")

# %% [markdown]
# Without $S_h$ 1.8 points are lost (2.54 in the paper), four times what as many random rows cost; on $S'_h$ it is 18 points (27 there). *Is it us?* Without the strongest 2% of the rows alone it is .7, and 69 on their test side.
#
# How much of the fall lies on $S'_h$? To first order a ratio moves as the mean of (part − ratio · fall) / mean fall.

# %%
fall, fall_on = falls["without Sₕ", "all test examples"], falls["without Sₕ", "S′ₕ"]
note = f"{int(training_side.sum())} of {n:,} rows removed"
ledger.record("lt.utility", fall.mean(), interval=statistics.crossed_interval(fall), n=retrainings, note=note, covers=["initializations", "test rows"], moved=moves.told("lt.utility", profile, was=fall.mean()))
note = f"{in_pair.sum()} of {n_test:,} test examples"
ledger.record("lt.utility.influenced", fall_on.mean(), interval=statistics.crossed_interval(fall_on), n=retrainings, note=note, covers=["initializations", "test rows"], moved=moves.told("lt.utility.influenced", profile, was=fall_on.mean()))

def share_on(fall):
    """Share of the fall (trainings, test examples) on S′ₕ, with its interval."""
    part = fall * in_pair
    ratio = part.mean() / fall.mean()
    return ratio, tuple(ratio + end for end in statistics.crossed_interval((part - ratio * fall) / fall.mean()))

ratio, interval = share_on(fall)
lost, (low, high) = share_on(falls["without as many at random", "all test examples"])
note = f"{(fall * in_pair).mean():.2f} of {fall.mean():.2f} points; of what random rows cost {lost:.0%} [{low:.0%}, {high:.0%}]; by chance {in_pair.mean():.0%}"
ledger.record("lt.utility.share", ratio, interval=interval, null=(0.0, in_pair.mean()), n=retrainings, note=note, covers=["initializations", "test rows"])
print(f"S′ₕ holds {in_pair.mean():.1%} of the test examples and {ratio:.0%} of the fall; {note}")
print(f"rows of Sₕ among the random ones: {(~at_random[:, training_side]).double().sum(1).mean():.0f} of {int(training_side.sum())}")

# %% [markdown]
# Of what random rows cost, 115% is on $S'_h$ as well: a fifth of $S_h$ is among them, and $S'_h$ are test pictures on the edge. What sets $S_h$ apart is the size of the fall.
#
# ## Where we deviate, and why
#
# - **Data and network.** The paper trains ResNet-50 on CIFAR-100 and ImageNet and an Inception on MNIST. We train one hidden layer of 128 units on 2,000 rows, without augmentation; optimizer, schedule and share of rows are the same, and for the clothes the number of networks. *Is it us?* See below, claim by claim.
# - **A second look.** After a first judged run the test rows were raised to 10,000. The criteria stayed.
# - **The estimator** trains on subsets of size $m$ only, as the paper's own code does.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# Both stand on the set-up alone.
#
# 1. Lower the threshold for influence to 0.1. How many pairs are there, and how many of them are luck? And from the first tenth of the networks?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# Twice as many pairs, and still no luck at 4,000 networks. From a tenth of them one pair in twenty is luck at 0.15, and more than one in four at 0.1.
#
# ```python
# for part in (slice(None), slice(0, trials // 10)):
#     bits = sees[part], right[part], right_test[part]
#     for level in (0.15, 0.1):
#         found = high_influence_pairs(*bits, *labels, min_influence=level)
#         chosen = memorization(*bits[:2]).value >= 0.25
#         luck = permuted_pair_counts(bits[0], bits[2], *labels, candidates=chosen, permutations=10, min_influence=level)
#         print(f"{len(bits[0])} networks, θ = {level}: {len(found)} pairs, {luck.pairs.mean():.1f} by luck")
# ```
# </details>

# %% [markdown]
# 2. The C-score of Jiang et al. is the chance to be right about an example that was held out. How is it related to memorization, and when are the two not simply complements?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# mem = Pr[right | seen] − C-score, so mem = 1 − C-score wherever the network fits what it sees. They part where it does not.
#
# ```python
# from lib.scores.memorization import held_out_accuracy
# c_score = held_out_accuracy(sees, right)
# unfitted = 1 - c_score - mem.value  # the share of networks that saw the example and got it wrong
# print(f"correlation {np.corrcoef(c_score, mem.value)[0, 1]:.4f}, largest gap {unfitted.max():.2f}")
# ```
# </details>
