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
# # 03 · What networks memorize, and what it is good for
#
# *Vitaly Feldman and Chiyuan Zhang, "What neural networks memorize and why: discovering the long tail via influence estimation", NeurIPS 2020.*
#
# **Question.** Which training labels does a network get right only because it has seen them, and does anything that it has not seen profit?
#
# *Symbols and scores: the [glossary](GLOSSARY.md).*

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # the varied data: a name that lib.data.datasets.load knows, or the path of an .npz
n: int = 2000  # training rows
n_test: int = 10000  # test rows
contrast: str = "mnist-5k"  # the easy data to compare with
n_contrast: int = 2000  # its training rows
n_test_contrast: int = 1000  # its test rows
architecture: str = "mlp-128"  # the network, a name that lib.networks.models.by_name knows
contrast_architecture: str = "mlp-128"  # the network on the easy data
trials: int = 4000  # networks, each trained on a random 70% of the rows
contrast_trials: int = 1000  # networks on the easy data
epochs: int = 15  # passes over a network's own rows
batch_size: int = 100  # examples a step
lr: float = 0.1  # peak of the learning rate, momentum 0.9, up over 15% of the steps, then down to 0
contrast_epochs: int = 15  # passes, on the easy data
contrast_batch_size: int = 100  # examples a step, on the easy data
contrast_lr: float = 0.1  # peak of the learning rate, on the easy data
augment: str = ""  # "", "crop", "flip" or "crop_flip", on the varied data
others: list = ["linear", "mlp-8", "mlp-16", "mlp-32", "mlp-128", "mlp-512", "mlp-32-32", "mlp-64-64", "mlp-128-128"]  # architectures compared
sizes: list = ["mlp-8", "mlp-32", "mlp-128", "mlp-512"]  # of these, a sweep of size, smallest first
other_trials: int = 300  # networks of each of them, and in each arm of the onion experiment
thresholds: list = [0.1, 0.25, 0.5, 0.75, 0.9]  # memorization above which examples are removed
retrainings: int = 50  # networks trained on each reduced set
permutations: int = 100  # deals of the subsets behind the null
reference: str = ""  # folder of the published arrays, absolute or from notebooks/; "" looks in data/downloads, then downloads
published_url: str = "https://pluskid.github.io/influence-memorization/data"  # the authors' page
device: str = "cpu"  # where to train: "cpu" or "cuda"
seed: int = 0  # rows, subsets, networks, bootstrap

# %% [markdown]
# ## What we test
#
# The paper's thesis: data have a long tail of rare kinds of examples, of which the training set holds one or two specimens each. A network can only get these right by memorizing their labels, and it pays, because each specimen carries a few test examples of its kind. The claims, what was published, and what we will call a success, written down before the run:

# %%
import dataclasses
import inspect
import itertools
import math
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments import pruning
from experiments.long_tail import consistency, consistency_of_ensembles, displayed_examples, pair_counts, permuted_pair_counts, shared_pairs
from lib import plots, statistics
from lib.data import datasets
from lib.data.score_files import Unavailable, published
from lib.ledger import Ledger
from lib.networks import models, stacked
from lib.rankings import are_neighbours, cosine, label_agreement
from lib.scores import definitions
from lib.scores.memorization import high_influence_pairs, influence_of_seeing, memorization, squared_error_bound, subsets
from lib.store import Store
from lib.training import ensemble, Recipe, Record, Run

plots.style()
ledger, store = Ledger("03", profile), Store(profile=profile)
ledger.criteria()

# %% [markdown]
# ## Data
#
# Two sets of ten classes and the same number of training rows: clothes, which vary, and digits, which vary little. Pixels are centred at the mean training image and divided by their standard deviation before training; pictures are shown as they are.

# %%
clothes = datasets.load(dataset, n_train=n, n_test=n_test, seed=seed)
digits = datasets.load(contrast, n_train=n_contrast, n_test=n_test_contrast, seed=seed)
for d in (clothes, digits):
    fig = plots.pictures(d.x_train[torch.linspace(0, len(d.y_train) - 1, 12).long()], columns=12, size=0.6, titles=[d.name])
    plots.save(fig, f"03_data_{d.name}", profile)
print(clothes, digits, sep="\n")

# %% [markdown]
# ## Method
#
# Memorization of example $i$ is what its own presence does to the chance of getting its label right, and influence on test example $j$ is what it does to the chance of getting that one right:
#
# $$ \mathrm{mem}(i) = \Pr_{h\leftarrow A(S)}[h(x_i)=y_i]-\Pr_{h\leftarrow A(S\setminus i)}[h(x_i)=y_i], \qquad \mathrm{infl}(i,j) = \Pr_{h\leftarrow A(S)}[h(x'_j)=y'_j]-\Pr_{h\leftarrow A(S\setminus i)}[h(x'_j)=y'_j]. $$
#
# Leaving out each example in turn would need $n/\sigma^2$ trainings for a standard deviation σ. Algorithm 1 trains $t$ networks on random subsets $I_k$ of $m = 0.7n$ examples and lets every network speak about every example, either as one that saw it or as one that did not; $1/\sigma^2$ trainings then serve all examples at once:
#
# $$ \mathrm{infl}_m(i,j) = \Pr_k[h_k(x'_j)=y'_j \mid i\in I_k]-\Pr_k[h_k(x'_j)=y'_j \mid i\notin I_k]. $$
#
# Read aloud, it is a loop over examples. We try it on answers that we make up ourselves, so that the truth is known: test example $j$ is right with probability ½ − ½τⱼ, and with ½ + ½τⱼ if training example $j$ was seen, so $\mathrm{infl}(j,j) = \tau_j$ and all other influences are 0.

# %%
def made_up(t, seed, examples=100):
    g = torch.Generator().manual_seed(seed)
    truth = torch.rand(examples, generator=g)
    saw = subsets(examples, round(0.7 * examples), t, seed)
    return saw, torch.rand(t, examples, generator=g) < 0.5 + truth * (saw.float() - 0.5), torch.diag(truth)


print(inspect.getsource(definitions.influence_of_seeing))

# %% [markdown]
# The library's version is one matrix product of two bit matrices (who saw what, who is right about what): the hits among the networks that saw $i$ are $\mathrm{saw}^\top\mathrm{right}$, exact in float32 up to $2^{24}$ networks; all else follows from counts. Memorization is the diagonal, with the training set as its own test set. Both must agree:

# %%
saw, right, truth = made_up(60, seed)
slow = definitions.influence_of_seeing(saw, right)
fast, own = influence_of_seeing(saw, right), memorization(saw, right)
error = float(max((fast.value - slow).abs().max(), (own.value - slow.diagonal()).abs().max()))
assert error < 1e-12, error
ledger.record("lt.estimator", error, n=slow.numel(), note="largest absolute difference; estimates are of order 1")
print(f"{slow.numel():,} influences by loop and by one product: largest difference {error:.0e}")

# %% [markdown]
# ### How many networks does it take?
#
# Lemma 2.1 bounds the mean squared error of any estimate, for any training algorithm, by $\frac1{pt}+\frac1{(1-p)t}+\frac12e^{-pt/16}$ with $p=\min(m/n,1-m/n)$. Our made-up answers are near coin flips, the worst case.
#
# **Predict.** By what factor does a bound that must hold for every training algorithm overshoot the squared error of these coin flips: hardly, by four, by a hundred?

# %%
grid, repeats = [50, 100, 200, 500, 1000, 2000, 4000], 10
squared = lambda saw, right, truth: float((influence_of_seeing(saw, right).value - truth).square().mean())
errors = np.array([[squared(*made_up(t, repeat)) for repeat in range(repeats)] for t in grid])  # (grid, repeats)
bounds = np.array([squared_error_bound(t, 100, 70) for t in grid])
ratios = errors / bounds[:, None]
worst = ratios.mean(1).argmax()
interval = statistics.t_interval(ratios[worst])
ledger.record("lt.estimator.bound", ratios[worst].mean(), interval=interval, n=repeats, note=f"worst at t = {grid[worst]}")

# %% [markdown]
# The same on logarithmic axes: what to expect of an estimate from $t$ networks.

# %%
fig, ax = plt.subplots(figsize=(5.5, 3.4))
ax.plot(grid, np.sqrt(bounds), color="0.35", ls="--", marker="s", label="bound (Lemma 2.1)")
ax.errorbar(grid, np.sqrt(errors.mean(1)), yerr=np.sqrt(errors).std(1, ddof=1), marker="o", capsize=3, label="measured, known truth (± 1 sd)")
plots.reference(ax, 0.15, "θ = 0.15, the paper's threshold for influence")
ax.set(xscale="log", yscale="log", xlabel="networks t", ylabel="root mean squared error")
ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
ax.set_xticks(grid, [str(t) for t in grid])
ax.minorticks_off()
ax.legend()
plots.save(fig, "03_bound", profile);

# %% [markdown]
# The bound is safe by a factor of four in the mean square, two in the root, once $t$ is large: its proof gives each of the two shares half of the networks and counts on half of those, where algorithm 1 uses all. Errors fall as $1/\sqrt t$. From 50 networks an influence of 0.15 is one standard deviation; from 4,000 it is eight, in this worst case.

# %% [markdown]
# ## Training the networks
#
# Each network sees its own random 70% of the rows for the same number of passes, by the paper's recipe: SGD with momentum 0.9, a learning rate that rises over the first 15% of the steps and falls linearly to zero. What we keep of a network is one bit an example. Finished work is stored, so an interrupted run goes on where it was.

# %%
def standardized(d):
    mean, spread = d.x_train.mean(0), d.x_train.std()
    return dataclasses.replace(d, x_train=(d.x_train - mean) / spread, x_test=(d.x_test - mean) / spread)



# %% [markdown]
# All trainings of this notebook but one go through the next function.

# %%
def fit(d, sees, recipe, *, network=architecture, first_seed=0):
    """Who is right about what: (networks, training rows) and (networks, test rows)."""
    model = models.by_name(network, shape=tuple(d.x_train.shape[1:]), classes=len(d.classes))
    run = ensemble.train(
        model, d, recipe, range(first_seed, first_seed + len(sees)), sees=sees, record=Record(parameters=False),
        run=Run(device=device, store=store),
    )  # fmt: skip
    return run.correct_train[:, -1], run.correct_test[:, -1]

# %% [markdown]
# Subsets, recipes, and the two large ensembles.

# %%
schedule = {"momentum": 0.9, "schedule": "warmup_linear"}
recipe = Recipe(lr=lr, epochs=epochs, batch_size=batch_size, augment=augment or None, **schedule)
contrast_recipe = Recipe(lr=contrast_lr, epochs=contrast_epochs, batch_size=contrast_batch_size, **schedule)
images, plain = standardized(clothes), standardized(digits)
sees = subsets(n, round(0.7 * n), trials, seed)
sees_plain = subsets(n_contrast, round(0.7 * n_contrast), contrast_trials, seed)
right, right_test = fit(images, sees, recipe)
right_plain, right_test_plain = fit(plain, sees_plain, contrast_recipe, network=contrast_architecture)

# %% [markdown]
# Networks that memorize must fit what they see: the first column should be near 1.

# %%
def summary(**ensembles):
    shares = lambda sees, *bits: [float(b.double().mean()) for b in (bits[0][sees], bits[0][~sees], bits[1])]
    rows = {name: [len(bits[0]), *shares(*bits)] for name, bits in ensembles.items()}
    columns = ["networks", "right on seen", "right on held out", "right on test"]
    return pd.DataFrame(rows, index=columns).T.style.format({"networks": "{:,.0f}"}, precision=4)


summary(varied=(sees, right, right_test), easy=(sees_plain, right_plain, right_test_plain))

# %% [markdown]
# ## How much is memorized?
#
# **Predict.** Both sets have ten classes and as many rows. What share of the clothes, and what share of the digits, has to be seen to be got right (memorization of .25 or more)?

# %%
mem = memorization(sees, right)
mem_plain = memorization(sees_plain, right_plain)
if (most := int((mem.value >= 0.5).sum())) < 10:
    raise ValueError(f"dataset: {most} of {n:,} examples of {clothes.name} are memorized (≥ .5), too few to study; take harder data or more of them")

# %% [markdown]
# The distribution of the estimates, and the share of examples above each threshold.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4))
for name, estimate, colour, dash in ((clothes.name, mem, "#0072b2", "-"), (digits.name, mem_plain, "#d55e00", "--")):
    value = estimate.value.numpy()
    axes[0].hist(value, bins=np.linspace(-0.1, 1, 45), histtype="step", color=colour, ls=dash, lw=1.6, label=name)
    axes[1].plot(np.sort(value)[::-1], np.arange(1, len(value) + 1) / len(value), color=colour, ls=dash, label=name)
axes[0].set(yscale="log", xlabel="memorization", ylabel="training examples")
axes[1].axvline(0.25, lw=0.9, color="0.35")
axes[1].annotate("θ = 0.25", (0.26, 0.95), fontsize=8, color="0.3")
axes[1].set(xlim=(0, 1), ylim=(0, 1), xlabel="memorization threshold", ylabel="share of examples above")
axes[0].legend()
plots.save(fig, "03_memorization", profile);

# %% [markdown]
# The distribution has two ends and little between. About six in ten clothes need not be seen at all, and some five in a hundred are got right only if they are. Above 0.25 lie a quarter of the clothes and a tenth of the digits. That is less than the 36% of CIFAR-100: fewer classes, simpler pictures, no crops. And it is much more than the paper's MNIST, because here there are only 200 examples a class: what is rare among 2,000 digits is not rare among 60,000.

# %%
memorized, memorized_plain = (mem.value >= 0.25).numpy(), (mem_plain.value >= 0.25).numpy()
share, interval = statistics.share(memorized)
gap = lambda a, b, axis=-1: a.mean(axis) - b.mean(axis)

# %% [markdown]
# The difference between the two sets, and what we cannot decide here:

# %%
flags = memorized.astype(float), memorized_plain.astype(float)
note = f"{n:,} rows, {architecture}; standard error of an estimate at most {mem.error.nan_to_num().max():.3f}"
ledger.record("lt.fraction", share, interval=interval, n=n, note=note, covers=["rows"])
interval, note = statistics.bootstrap_interval(gap, *flags, seed=seed), f"{share:.1%} against {memorized_plain.mean():.1%} of {contrast}"
ledger.record("lt.fraction.mnist", gap(*flags), interval=interval, n=n, note=note, covers=["rows"])
ledger.record("lt.fraction.imagenet", None)
print(f"≥ 0.25: {share:.1%} of {clothes.name}, {memorized_plain.mean():.1%} of {digits.name}")

# %% [markdown]
# ## What do they look like?
#
# The paper's Figure 1: examples with memorization near 0, near ½ and near 1, of one class each. We draw those whose estimate is closest to the value, so nobody chose them.
#
# **Predict.** What will a shirt look like whose label the networks get right if and only if they have seen it: blurred, rare, or like something else?

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
# Near 0 stand plain shirts, buttoned, long-sleeved, photographed flat. Near 1 stand tops, dresses and blouses that the catalogue happens to call shirts: nothing in the other 1,399 pictures says so, so their label can only be learnt by heart. In between are the borderline cuts. Among the digits the same happens with strokes. Whether such an example is a rare kind or a mistake of the catalogue cannot be seen from the number; that is the paper's point.
#
# To put a number on "atypical": of an example's ten nearest neighbours in the training set (by the angle between their pixels), how many share its label?

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
# Remove all examples above a threshold and train on the rest, as long a training a row as before; beside it, remove as many at random, drawn anew for each network.
#
# **Predict.** The memorized ones are odd, ambiguous or mislabelled. Will the network miss them more than as many others, or less? And will the answer be the same for those above .25 and for those above .9?

# %%
plans = {("all", 0.0): torch.ones(n, dtype=torch.bool)}
for threshold in thresholds:
    rest = mem.value < threshold
    plans["memorized", threshold] = rest
    plans["random", threshold] = pruning.random_subsets(n, float(rest.double().mean()), range(retrainings))
model = models.by_name(architecture, shape=tuple(images.x_train.shape[1:]), classes=len(images.classes))
options = {"recipe": recipe, "seeds": range(retrainings), "run": Run(device=device, store=store)}
reduced = pruning.retrain_pruned(model, images, plans, columns=("removed", "threshold"), **options)

# %% [markdown]
# Test accuracy with 95% bands over trainings, and what is left of the training set.

# %%
fig, (ax, left) = plt.subplots(2, 1, figsize=(6, 4.6), sharex=True, height_ratios=[3, 1])
whole = reduced[reduced.removed == "all"].accuracy.to_numpy()
plots.band(ax, reduced[reduced.removed == "memorized"], "threshold", "accuracy", "memorization", label="without the memorized")
plots.band(ax, reduced[reduced.removed == "random"], "threshold", "accuracy", "random", label="without as many at random")
plots.reference(ax, whole.mean(), "all rows", interval=statistics.t_interval(whole))
left.plot(thresholds, reduced[reduced.removed == "memorized"].groupby("threshold").kept.first() / n, marker=".", color="0.35")
left.set(ylim=(0, 1.05), xlabel="memorization above which examples are removed", ylabel="share kept")
ax.set(ylabel="test accuracy")
ax.legend(loc="lower right")
plots.save(fig, "03_marginal", profile);

# %% [markdown]
# Memorized examples are worth more than as many others: without the quarter above 0.25 the networks lose 1.8 points, without a random quarter 0.6. But the advantage shrinks as the threshold rises, and above 0.9 it turns: without these seven in a hundred the networks are *better* than without as many at random, and no worse than with all rows. At the top of the scale the useless ones, ambiguous or wrongly labelled, outweigh the useful, and the number alone does not tell the two apart.

# %%
lost = 100 * pruning.gain(reduced, {"removed": "random"}, {"removed": "memorized"}, by="threshold")
value = {f"≥ {threshold:g}": v.mean() for threshold, v in lost.iterrows()}
interval = {f"≥ {threshold:g}": statistics.t_interval(v) for threshold, v in lost.iterrows()}
ledger.record("lt.marginal", value, interval=interval, n=retrainings, note="intervals over trainings, paired by seed", covers=["initializations"])
table = pd.DataFrame(interval, index=["low", "high"]).T
table.assign(difference=value)[["difference", "low", "high"]].style.format("{:+.2f}").set_caption("random − memorized, points")

# %% [markdown]
# ## High-influence pairs
#
# If memorizing pays, some memorized training example must lift some test example of the same class. The paper's rule: $\mathrm{mem}_m(i)\ge 0.25$, $\mathrm{infl}_m(i,j)\ge 0.15$, $y_i=y'_j$. It looks through very many noisy estimates for large ones, and some are large by luck; the paper says so and gives no number. We give one: deal the subsets out to the networks anew. Each network keeps its answers and each example its number of networks, all true influences are now zero, and what still passes the threshold is luck.
#
# **Predict.** Among this many candidates, how many pairs will pass the paper's threshold by luck alone: none, a few, as many as there are?

# %%
def pairs_and_luck(d, sees, right, right_test):
    rows = {"rows_train": d.rows_train, "rows_test": d.rows_test}
    pairs = high_influence_pairs(sees, right, right_test, d.y_train, d.y_test, **rows)
    deal = {"candidates": memorization(sees, right).value >= 0.25, "permutations": permutations, "seed": seed}
    return pairs, permuted_pair_counts(sees, right_test, d.y_train, d.y_test, **deal)


pairs, null = pairs_and_luck(clothes, sees, right, right_test)
pairs_plain, null_plain = pairs_and_luck(digits, sees_plain, right_plain, right_test_plain)
pairs.head(5).drop(columns=["train", "test"]).style.format(precision=3).hide(axis="index")

# %% [markdown]
# Counts, the number expected from luck (mean over deals, and 97.5% point), and the published ones:

# %%
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
# The paper's Figure 3, on a logarithmic axis because both the pairs and the lucky ones fall off steeply.

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
# Luck explains none of the pairs: at 4,000 networks not one deal in a hundred gives a single one at this threshold. (A tenth of the networks would have found half as many pairs again. Little of that surplus is luck of this kind; most are true but smaller influences that noise lifts over the threshold, which the null does not count. See the exercises.) One test example in eight is in a pair, more than on CIFAR-100, although the data are easier. But barely more than half of these have a *single* influencer, where the paper finds nearly nine in ten: our 2,000 rows are few, and one odd specimen stands in for its whole kind.
#
# The digits have fewer pairs, and still far more than the paper's 33 in 10,000: with 200 examples a class even digits have a tail.

# %%
in_pair = np.isin(np.arange(n_test), pairs.test)
in_pair_plain = np.isin(np.arange(n_test_contrast), pairs_plain.test)
lucky = np.quantile(null.test_examples, [0.025, 0.975]) / n_test
share, interval = statistics.share(in_pair)
note = f"{len(pairs)} pairs, {null.pairs.mean():.1f} expected by luck"
ledger.record("lt.pairs", share, interval=interval, null=lucky, n=n_test, note=note, covers=["test rows"])

# %% [markdown]
# Of the influenced test examples, those with a single influencer:

# %%
single = np.unique(pairs.test, return_counts=True)[1] == 1
value, interval = statistics.share(single) if len(single) else (None, None)
ledger.record("lt.pairs.single", value, interval=interval, n=len(single), note=f"{single.sum()} of {len(single)} test examples", covers=["test rows"])

# %% [markdown]
# And the contrast with the easy data:

# %%
flags = in_pair.astype(float), in_pair_plain.astype(float)
interval, note = statistics.bootstrap_interval(gap, *flags, seed=seed), f"{share:.1%} against {in_pair_plain.mean():.1%}"
ledger.record("lt.pairs.mnist", gap(*flags), interval=interval, n=n_test, note=note, covers=["test rows"])

# %% [markdown]
# ### The published pairs
#
# The authors published the pairs that they found on CIFAR-100 and ImageNet. We count them, after checking the files' SHA-256.

# %%
stated, found = {"CIFAR-100": (1015, 888, 774), "ImageNet": (1641, 1462, 1298)}, {}
try:
    for name in stated:
        file = f"{name.replace('-', '').lower()}_high_infl_pairs_infl0.15_mem0.25.npz"
        found[name] = pair_counts(published(file, url=published_url, folder=reference or None)["tt_idx"])
    off = {name: max(abs(a / b - 1) for a, b in zip(found[name], stated[name], strict=True)) for name in stated}
    ledger.record("lt.pairs.published", off, n=sum(c.pairs for c in found.values()))
except Unavailable as reason:
    ledger.record("lt.pairs.published", None, note=f"the published arrays could not be had: {reason}")
pd.DataFrame(found, index=["pairs", "test examples", "single"]) if found else "The published arrays could not be had: not decided here."

# %% [markdown]
# ### Do the two sides of a pair look alike?
#
# Which pairs to show is fixed by the paper's appendix C: training examples sorted by their highest influence, five evenly spaced ones from top to bottom, and twice more their next in line. Each group of five columns starts with the training example and its memorization; then the four test examples that it influences most, with the influence. A ≈ marks near duplicates: one of the two is among the other's five nearest neighbours.
#
# **Predict.** The rows go from the strongest pairs to the weakest. In which of the five will you stop calling them twins?

# %%
drawn, captions = [], []
chosen = torch.tensor(displayed_examples(pairs).T.flatten().tolist())  # row by row, three groups a row
value = influence_of_seeing(sees[:, chosen], right_test).value
for i, row in zip(chosen, value, strict=True):
    best = row.topk(4).indices
    twin = are_neighbours(clothes.x_train, clothes.x_test, i.expand(4), best)
    drawn += [clothes.x_train[i], *clothes.x_test[best]]
    captions += [f"mem {mem.value[i]:.2f}", *(f"{v:.2f}{' ≈' if t else ''}" for v, t in zip(row[best], twin, strict=True))]
fig = plots.pictures(torch.stack(drawn), captions, columns=15, size=0.72)
for ax in fig.axes[::5]:  # a frame round the training examples
    ax.spines[:].set_visible(True)
plots.save(fig, "03_pairs", profile);

# %% [markdown]
# Strong pairs are twins: overalls and overalls, a long coat and a long coat, a collarless top and three of its kind. In the middle one still sees what the network sees (a V-neck, a sole, a check). In the last rows the likeness is of silhouettes. Nobody chose them: the appendix fixes who is shown. In numbers: a pair is closer by 0.12 in cosine than its training example is to its class, and three in four of the strongest pairs are near neighbours, against four in ten of all.

# %%
i, j = torch.tensor(pairs.train.tolist()), torch.tensor(pairs.test.tolist())
similarity = cosine(clothes.x_train, clothes.x_test)
mates = (clothes.y_train[:, None] == clothes.y_test).float()
closer = (similarity[i, j] - ((similarity * mates).sum(1) / mates.sum(1))[i]).numpy()

# %% [markdown]
# Near duplicates among the strongest pairs, and among all:

# %%
twins = are_neighbours(clothes.x_train, clothes.x_test, i, j).numpy()
strong = (pairs.influence >= 0.4).to_numpy()
interval, note = statistics.bootstrap_interval(np.mean, closer, seed=seed), f"cosine in a pair {similarity[i, j].mean():.3f}"
ledger.record("lt.visual", closer.mean(), interval=interval, n=len(pairs), note=note, covers=["rows"])
value, interval = statistics.share(twins[strong]) if strong.any() else (None, None)
note = f"{twins[strong].sum()} of {strong.sum()} pairs; of all pairs {twins.mean():.0%}"
ledger.record("lt.visual.duplicates", value, interval=interval, n=int(strong.sum()), note=note, covers=["rows"])
print(f"cosine {closer.mean():+.3f} above the class; neighbours: {note}")

# %% [markdown]
# ## What are the pairs worth?
#
# $S_h$ is the training side of all pairs, $S'_h$ the test side. Train new networks with all rows and without $S_h$. Two arms that the paper does not have: without as many rows at random, and without the memorized examples that are in no pair.
#
# **Predict.** How much of the loss of accuracy will fall on the few test examples in $S'_h$: their share of the test set, about half, or nearly all?

# %%
training_side = torch.zeros(n, dtype=torch.bool)
training_side[pairs.train.unique().tolist()] = True
lone = (mem.value >= 0.25) & ~training_side
everyone = torch.ones(retrainings, n, dtype=torch.bool)
at_random = pruning.random_subsets(n, float((~training_side).double().mean()), range(retrainings))
arms = {"all rows": everyone, "without Sₕ": everyone & ~training_side, "without as many at random": at_random}
arms["without the other memorized"] = everyone & ~lone
tested = {arm: fit(images, masks, recipe, first_seed=seed)[1].double() for arm, masks in arms.items()}

# %% [markdown]
# Accuracy on all test examples and on $S'_h$, in percent, with the standard deviation over trainings, and the falls with their 95% intervals.

# %%
on = {"all test examples": torch.ones(n_test, dtype=torch.bool), "S′ₕ": torch.from_numpy(in_pair)}
accuracy = {(arm, w): 100 * bits[:, mask].mean(1).numpy() for arm, bits in tested.items() for w, mask in on.items()}
falls = {(arm, where): accuracy["all rows", where] - accuracy[arm, where] for arm, where in accuracy}
rows = {
    (arm, where): {
        "rows removed": int((~arms[arm][0]).sum()),
        "accuracy": f"{accuracy[arm, where].mean():.2f} ± {accuracy[arm, where].std(ddof=1):.2f}",
        "fall (points)": "" if arm == "all rows" else "{:.2f} [{:.2f}, {:.2f}]".format(v.mean(), *statistics.t_interval(v)),
    }
    for (arm, where), v in falls.items()
}
pd.DataFrame.from_dict(rows, orient="index")

# %% [markdown]
# The paper's most telling result comes out. Without $S_h$, 1.8 points are lost (2.54 there), four times what as many random rows cost; on $S'_h$ it is 18 points (27 there). And the loss is *more* than wholly on $S'_h$: on the other test examples accuracy even rises a little. The last arm hints at why: the few memorized examples that help nobody are better left out. Each memorized example is a gain for its twins and a small harm for their neighbours, and the two do not fall on the same test examples.

# %%
fall, fall_on = falls["without Sₕ", "all test examples"], falls["without Sₕ", "S′ₕ"]
note = f"{int(training_side.sum())} of {n:,} rows removed"
ledger.record("lt.utility", fall.mean(), interval=statistics.t_interval(fall), n=retrainings, note=note, covers=["initializations"])
note = f"{in_pair.sum()} of {n_test:,} test examples"
ledger.record("lt.utility.influenced", fall_on.mean(), interval=statistics.t_interval(fall_on), n=retrainings, note=note, covers=["initializations"])

# %% [markdown]
# How much of the fall lies on $S'_h$?

# %%
part, ratio = fall_on * in_pair.mean(), lambda a, b, axis=-1: a.sum(axis) / b.sum(axis)
interval = statistics.bootstrap_interval(ratio, part, fall, paired=True, seed=seed)
note = f"{part.mean():.2f} of {fall.mean():.2f} points; by chance {in_pair.mean():.0%}"
ledger.record("lt.utility.share", ratio(part, fall), interval=interval, null=(0.0, in_pair.mean()), n=retrainings, note=note, covers=["initializations"])
print(f"S′ₕ holds {in_pair.mean():.1%} of the test examples and {ratio(part, fall):.0%} of the fall")

# %% [markdown]
# ## Would we find the same again?
#
# Two halves of the networks are two independent estimates. At each threshold θ: the Jaccard similarity of what exceeds it in either half, and the mean difference of the two estimates there. The paper chose 0.15 because its halves, of 2,000 networks each, agreed to 0.7 or better.
#
# **Predict.** Of the pairs that one half of the networks finds, what share will the other half find again? And how fast does that share fall if each half has fewer networks?

# %%
halves = [slice(0, trials // 2), slice(trials // 2, trials)]
pairs_of = lambda rows: high_influence_pairs(sees[rows], right[rows], right_test[rows], clothes.y_train, clothes.y_test)
first, second = (pairs_of(half) for half in halves)
shared = shared_pairs(first, second)
both, either, one, other = (shared[c].to_numpy(float) for c in ("both", "either", "first", "second"))
jaccard = lambda both, either, axis=-1: both.sum(axis) / either.sum(axis)
twice = lambda both, one, other, axis=-1: 2 * both.sum(axis) / (one.sum(axis) + other.sum(axis))

# %% [markdown]
# Jaccard similarity is the pairs in both halves over the pairs in either; the share found again is a gentler count of the same. Both intervals are over test examples.

# %%
interval, note = statistics.bootstrap_interval(jaccard, both, either, paired=True, seed=seed), f"{trials // 2:,} networks a half"
ledger.record("lt.consistency", jaccard(both, either), interval=interval, n=len(shared), note=note, covers=["test rows"])
interval, note = statistics.bootstrap_interval(twice, both, one, other, paired=True, seed=seed), f"{len(first)} and {len(second)} pairs"
ledger.record("lt.consistency.pairs", twice(both, one, other), interval=interval, n=len(shared), note=note, covers=["test rows"])
print(f"Jaccard {jaccard(both, either):.2f}; {twice(both, one, other):.0%} found again ({note})")

# %% [markdown]
# The two estimates of the selected pairs, beside the difference that binomial noise alone would make (for two independent estimates with standard errors $s$ and $s'$ the mean of $|a-a'|$ is $\sqrt{2/\pi}\,\sqrt{s^2+s'^2}$):

# %%
i, j = (torch.tensor(pd.concat([first, second]).drop_duplicates(["train", "test"])[c].tolist()) for c in ("train", "test"))
rows, at = i.unique(return_inverse=True)
estimates = [influence_of_seeing(sees[half][:, rows], right_test[half]) for half in halves]
differences = (estimates[0].value - estimates[1].value).abs()[at, j].numpy()
noise = math.sqrt(2 / math.pi) * (estimates[0].error.square() + estimates[1].error.square()).sqrt()[at, j].numpy()
interval, note = statistics.bootstrap_interval(np.mean, differences, seed=seed), f"binomial noise alone makes {noise.mean():.4f}"
ledger.record("lt.consistency.difference", differences.mean(), interval=interval, n=len(differences), note=note, covers=["rows"])
print(f"mean difference {differences.mean():.4f} [{interval[0]:.4f}, {interval[1]:.4f}]; {note}")

# %% [markdown]
# How fast does the agreement grow with the number of networks a half? What keeps growing was noise.

# %%
growth = {}
for t in [trials // 2 >> shift for shift in (4, 3, 2, 1, 0) if trials // 2 >> shift >= 8]:
    parts = [pairs_of(slice(half.start, half.start + t)) for half in halves]
    columns = shared_pairs(*parts).sum()
    growth[t] = [*map(len, parts), columns.both / columns.either, 2 * columns.both / (columns["first"] + columns["second"])]
table = pd.DataFrame(growth, index=["pairs, first half", "pairs, second half", "Jaccard", "found again"]).T
table.rename_axis("networks a half").style.format(precision=2).format("{:,.0f}", subset=list(table)[:2])

# %% [markdown]
# Two halves of 2,000 networks agree to 0.71, and find 83% of each other's pairs again: the paper's 0.7 and 82%, on other data, with another network. Halve the networks and agreement falls to 0.6, halve again and it is below one half, so it is the number of networks that sets it.
#
# The mean difference is another matter. The paper reports less than 0.015; here it is 0.027, of which binomial noise explains nearly all. In fact no two estimates from 2,000 networks can differ so little for a pair at the threshold: with shares of 1 and 0.85 the noise alone is $\sqrt{2/\pi}\sqrt{2\cdot0.85\cdot0.15/600} = 0.016$, and less certain answers make more. We take it that the figure in the paper refers to lower thresholds, where most pairs are near certain, and record what our criterion says.

# %% [markdown]
# ## And with other architectures?
#
# Fewer networks of each of several architectures, all on the same new subsets, compared with as many of the first ensemble. The curve of the same architecture is what agreement means at this number of networks.
#
# **Predict.** Which two networks will agree better on what is memorized, two of the same depth or two of the same accuracy?

# %%
few = slice(0, other_trials)
sees_other = subsets(n, round(0.7 * n), other_trials, seed + 1)
answers = {name: fit(images, sees_other, recipe, network=name, first_seed=trials) for name in others}
mem_other = {name: memorization(sees_other, bits[0]).value for name, bits in answers.items()}
accuracies = {name: float(bits[1].double().mean()) for name, bits in answers.items()}
levels = np.round(np.arange(0.05, 1.0, 0.05), 2).tolist()
ours = sees[few], right[few], right_test[few]
labels = clothes.y_train, clothes.y_test
curves = {name: consistency_of_ensembles(ours, (sees_other, *bits), *labels, levels) for name, bits in answers.items()}

# %% [markdown]
# Memorization above, influence below; in the legend the number of high-influence pairs and the test accuracy.

# %%
fig, axes = plt.subplots(2, 2, figsize=(11, 6.4), sharex=True)
looks = itertools.cycle(["-", "--", "-.", ":"])
for (name, tables), marker in zip(curves.items(), "osD^vPX*<>hp", strict=False):
    dash, grey = next(looks), {"color": "black", "lw": 2} if name == architecture else {}
    found = int(tables["influence"].set_index("threshold").loc[0.15, "second"])
    for row, kind in zip(axes, ("memorization", "influence"), strict=True):
        for ax, what in zip(row, ("jaccard", "difference"), strict=True):
            curve = tables[kind][tables[kind][["first", "second"]].min(axis=1) >= 5]
            ax.plot(curve.threshold, curve[what], ls=dash, marker=marker, ms=4, **grey, label=f"{name} ({found}, {accuracies[name]:.1%})")
            ax.set(xlabel=f"{kind} threshold", ylabel={"jaccard": "Jaccard similarity", "difference": "mean difference"}[what])
for ax, level, text in (*((ax, 0.7, "paper's choice of θ") for ax in axes[1, :1]), (axes[1, 1], 0.015, "paper's halves")):
    plots.reference(ax, level, text)
for ax in axes.flat:
    ax.set_ylim(0, 1.05 if ax in axes[:, 0] else None)
title = f"{other_trials} networks each, against the first {other_trials} of {architecture} (pairs, test accuracy)"
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title=title)
plots.save(fig, "03_architectures", profile);

# %% [markdown]
# On memorization even 300 networks a side agree within a few hundredths, and architectures differ visibly: four times as wide, nearly the same; deeper, somewhat less; linear and 8 units, quite different. On influence all curves are low at 0.15, also the one of the same architecture, because 300 networks are few: read the others against it.

# %%
couples = list(itertools.combinations(others, 2))
apart = np.array([abs(accuracies[a] - accuracies[b]) for a, b in couples])
unlike = np.array([consistency(mem_other[a], mem_other[b], [0.25]).difference[0] for a, b in couples])
rho, interval = statistics.spearman(apart, unlike, seed=seed)
band = statistics.permutation_band(statistics.spearman_r, apart, unlike, seed=seed)
note = f"{len(others)} architectures; intervals take their pairs as independent"
ledger.record("lt.consistency.architectures", rho, interval=interval, null=band, n=len(couples), note=note)

# %% [markdown]
# One point a pair of architectures:

# %%
fig, ax = plt.subplots(figsize=(5, 3.2))
ax.scatter(100 * apart, unlike, color="0.2")
ax.set(xlabel="gap in test accuracy (points)", ylabel="mean difference of memorization")
plots.save(fig, "03_accuracy_gap", profile)
print(f"Spearman {rho:.2f} [{interval[0]:.2f}, {interval[1]:.2f}] over {len(couples)} pairs of architectures")

# %% [markdown]
# The further apart in accuracy, the less two architectures agree on what is memorized, as the paper's curves suggest. But accuracy is not all: the points at the upper left are pairs of equally accurate networks, such as the linear model and 8 hidden units, that memorize different examples.

# %% [markdown]
# ## Does the last layer do the memorizing?
#
# Retraining only the last layer is far cheaper: train one network on all rows, take its penultimate features, and run the same algorithm with linear models on them.
#
# **Predict.** The last layer is where labels enter, and it has parameters enough to memorize. Will it memorize as many examples as the whole network, half as many, or hardly any?

# %%
run = ensemble.train(model, (images.x_train, images.y_train), recipe, [seed], run=Run(device=device, store=store))
hidden = [stacked.features(model, run.parameters, x, device=device)[0] for x in (images.x_train, images.x_test)]
layer = standardized(dataclasses.replace(clothes, x_train=hidden[0], x_test=hidden[1]))
half = halves[0]
right_last, right_test_last = fit(layer, sees[half], dataclasses.replace(recipe, augment=None), network="linear")
mem_last = memorization(sees[half], right_last).value
pairs_last = high_influence_pairs(sees[half], right_last, right_test_last, *labels, min_memorization=-math.inf)
summary(whole=(sees[half], right[half], right_test[half]), last=(sees[half], right_last, right_test_last))

# %% [markdown]
# The features know the training labels already. A linear model on 70% of the rows gets 97% of the rows right that it has *not* seen, because the network that made the features has.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4))
bins = np.linspace(-0.1, 1, 45)
mem_half = [memorization(sees[h], right[h]).value for h in halves]
axes[0].hist(mem_half[0].numpy(), bins=bins, color="0.8", label="whole network")
axes[0].hist(mem_last.numpy(), bins=bins, histtype="step", color="#d55e00", lw=1.6, label="last layer")
axes[0].set(yscale="log", xlabel="memorization", ylabel="training examples")
axes[0].legend()
rows = mem_half[0] >= 0.25
answered = {"other half": (sees[halves[1]], right_test[halves[1]]), "last layer": (sees[half], right_test_last)}
whole_network = influence_of_seeing(sees[half][:, rows], right_test[half]).value
for (name, (saw, said)), look in zip(answered.items(), ({"color": "black"}, {"color": "#d55e00", "ls": "--"}), strict=True):
    curve = consistency(whole_network, influence_of_seeing(saw[:, rows], said).value, levels).query("first >= 5")
    axes[1].plot(curve.threshold, curve.jaccard, marker="o", label=name, **look)
axes[1].set(ylim=(0, 1.05), xlabel="influence threshold", ylabel="Jaccard similarity")
axes[1].legend(title="first half against", loc="center right")
plots.save(fig, "03_last_layer", profile);

# %% [markdown]
# So little is left to memorize: 56 examples above 0.25 in place of 470. And where the linear models do find pairs, they are mostly other pairs. What an example does to a network is done in the representation.

# %%
flags = (mem_half[0] >= 0.25).double().numpy(), (mem_last >= 0.25).double().numpy()
interval = statistics.bootstrap_interval(gap, *flags, paired=True, seed=seed)
note = f"{int(flags[0].sum())} against {int(flags[1].sum())} examples"
ledger.record("lt.last_layer", gap(*flags), interval=interval, n=n, note=note, covers=["rows"])

# %% [markdown]
# The same question of the pairs:

# %%
tables = [t.reindex(range(n_test), fill_value=0) for t in (shared, shared_pairs(first, pairs_last))]
sums = [table[c].to_numpy(float) for table in tables for c in ("both", "either")]
apart = lambda a, b, c, d, axis=-1: jaccard(a, b, axis) - jaccard(c, d, axis)
interval = statistics.bootstrap_interval(apart, *sums, paired=True, seed=seed)
note = f"{int(sums[2].sum())} of the last layer's {len(pairs_last)} pairs are among the network's {len(first)}"
ledger.record("lt.last_layer.pairs", apart(*sums), interval=interval, n=n_test, note=note, covers=["test rows"])
print(f"Jaccard {jaccard(*sums[:2]):.2f} between halves, {jaccard(*sums[2:]):.2f} with the last layer; {note}")

# %% [markdown]
# ## What came after
#
# **Larger networks.** Later work (arXiv 2310.05337) trained networks of many sizes: most examples are memorized less by larger ones, a few more.
#
# **Predict.** More parameters give more room to memorize. Will mean memorization rise with the size of the network, or fall, and will most examples follow the mean?

# %%
by_size = torch.stack([mem_other[name] for name in sizes]).numpy()  # (sizes, n)
moved = by_size[-1] - by_size[0]
rng, steps = np.random.default_rng(seed), np.arange(len(sizes), dtype=float)
trend = [statistics.spearman_r(by_size[:, rng.integers(0, n, n)].mean(1), steps) for _ in range(2000)]
value = {"trend": float(statistics.spearman_r(by_size.mean(1), steps)), "ends": moved.mean()}
value["share of the moving that fall"] = np.mean(moved[moved != 0] < 0)  # shown, not judged

# %% [markdown]
# The verdict needs the trend and the ends; the table shows what else changes with size.

# %%
interval = {"trend": tuple(np.quantile(trend, [0.025, 0.975])), "ends": statistics.bootstrap_interval(np.mean, moved, seed=seed)}
note = f"from {sizes[0]} to {sizes[-1]}; interval over examples"
ledger.record("lt.followups", value, interval=interval, n=n, note=note, covers=["rows"])

# %% [markdown]
# By size:

# %%
columns = {"mean memorization": by_size.mean(1), "share ≥ 0.25": (by_size >= 0.25).mean(1)}
columns["right on seen"] = [float(answers[name][0][sees_other].double().mean()) for name in sizes]
columns["right on test"] = [accuracies[name] for name in sizes]
columns["less than by the smallest"] = [np.mean(m[m != by_size[0]] < by_size[0][m != by_size[0]]) if i else None for i, m in enumerate(by_size)]
pd.DataFrame(columns, index=sizes).style.format(precision=3, na_rep="–")

# %% [markdown]
# By the mean, our criterion, it goes the wrong way, and the table says why: networks of 8 units cannot fit all that they see, and what is not fitted is not memorized. By the count, it holds: of the examples whose estimate changes, well over half are memorized less by the largest network, as the later paper says of most examples; a smaller number, hard ones, are memorized much more. The later paper compares networks that all fit their training data.
#
# **The onion.** Removing the examples that are most at risk exposes others that had been safe (arXiv 2206.10469, for membership inference). We select the memorized by one half of the networks, remove them, and train new networks on 70% of what is left. Two things to compare with: the same examples before, as judged by the *other* half (which did not select), and a training set from which as many were removed at random.
#
# **Predict.** With the odd ones gone, will more of the rest be memorized than before, or fewer? And how does that compare with a training set that is smaller for no such reason?

# %%
def peeled(keep, first_seed):
    """Memorization in a world that consists of the rows ``keep`` only."""
    inside = torch.zeros(other_trials, n, dtype=torch.bool)
    inside[:, keep] = subsets(int(keep.sum()), round(0.7 * int(keep.sum())), other_trials, seed + 2)
    return memorization(inside, fit(images, inside, recipe, first_seed=first_seed)[0]).value


rest = mem_half[0] < 0.25
at_random = torch.zeros(n, dtype=torch.bool)
at_random[torch.randperm(n, generator=torch.Generator().manual_seed(seed + 3))[: int(rest.sum())]] = True
before = memorization(sees[halves[1]][few], right[halves[1]][few]).value
after, control = peeled(rest, trials + other_trials), peeled(at_random, trials + 2 * other_trials)

# %% [markdown]
# Shares above 0.25 among the examples that stay, each comparison on the same examples:

# %%
common = rest & at_random
arms = {"before": (after[rest], before[rest]), "random removal": (after[common], control[common])}
flags = {name: tuple((side >= 0.25).double().numpy() for side in both) for name, both in arms.items()}
value = {s: gap(*f) for s, f in flags.items()}
interval = {s: statistics.bootstrap_interval(gap, *f, paired=True, seed=seed) for s, f in flags.items()}
ledger.record("lt.followups.onion", value, interval=interval, n=int(rest.sum()), note=f"{int((~rest).sum())} of {n:,} rows removed", covers=["rows"])
rows = {s: [len(f[0]), f[0].mean(), f[1].mean()] for s, f in flags.items()}
columns = ["examples", "≥ 0.25, memorized removed", "≥ 0.25, compared with"]
pd.DataFrame(rows, index=columns).T.style.format({"examples": "{:,.0f}"}, precision=3)

# %% [markdown]
# There is a new layer: examples that were safe are memorized once the memorized are gone, several times as many as before. But that is simply a smaller training set: removing as many at random does the same to the same examples, within a point. The claim holds against the first comparison and not against the second.

# %% [markdown]
# ## What it costs
#
# Training one network on one example takes three times the operations of a forward pass. From that, and from the rate at which this machine trains the network of this notebook, the cost of the whole study here and at the paper's scale (ResNet-50, 160 passes over 35,000 images of 32×32, 4,000 times).

# %%
def training_flops(network, shape):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        models.by_name(network, shape=shape, classes=10).eval()(torch.zeros(1, *shape))
    return 3 * counter.get_total_flops()



# %% [markdown]
# A short run gives the rate.

# %%
start, once = time.perf_counter(), dataclasses.replace(recipe, epochs=1)
ensemble.train(model, (images.x_train, images.y_train), once, range(16), run=Run(device=device, progress=False))
shape = tuple(images.x_train.shape[1:])
rate = training_flops(architecture, shape) * 16 * n / (time.perf_counter() - start)

# %% [markdown]
# The two bills:

# %%
work = {"here": (architecture, shape, trials, epochs * round(0.7 * n)), "paper": ("resnet50", (3, 32, 32), 4000, 160 * 35_000)}
costs = pd.DataFrame(work, index=["network", "image", "networks", "images trained on, each"]).T
costs["operations (10¹⁵)"] = [training_flops(net, size) * t * seen / 1e15 for net, size, t, seen in work.values()]
costs["days at this rate"] = costs["operations (10¹⁵)"] * 1e15 / rate / 86400
costs.style.format(precision=4, thousands=",").set_caption(f"this machine, this run: {rate / 1e9:,.0f} GFLOP/s")

# %% [markdown]
# The paper's machines (P100, 90 seconds a pass) needed 4,000 × 160 × 90 s = 667 days of one GPU, for CIFAR-100 alone. Two cores would take some forty years. Small networks on few rows take minutes, and they suffice for most of the claims.
#
# ## Where we deviate, and why
#
# - **Sizes chosen after a first look.** A first judged run left two claims undecided; the test rows were then raised to 10,000 and the architectures to nine, and everything was run again. The criteria stayed as they were. Verdicts reached after such a second look deserve a little less trust than the others.
# - **Data and network.** The paper trains ResNet-50 on CIFAR-100 and ImageNet and an Inception on MNIST. We train networks with one hidden layer of 128 units on 2,000 rows, without augmentation, with the same optimizer, schedule, subset share and, in the `laptop` profile, the same number of networks. The `paper` profile has the published recipe on all 60,000 rows.
# - **The estimator** trains on subsets of size $m$ only, as the paper's own code does (its remark A.1; the lemma's proof also uses size $m-1$). An example that was always or never seen has no estimate here; the lemma sets ½.
# - **Same labels.** Pairs are of one label, as in the paper. Pictures of the most influenced test examples may show other labels, as in the paper's figures.
# - **Additions:** standard errors from the counts, the null of dealt-out subsets, the third arm of the utility experiment, the noise expected in the difference of halves, and the controls of the onion experiment.
# - **Architectures** differ in width and depth only, since convolutional networks are slow on two cores. The curves use fewer networks than the halves.
# - **Last layer.** Linear models use the same recipe as the network, on features scaled to unit variance; the paper lets them train for 40 passes.
# - **The published arrays** are counted where they can be downloaded, and left undecided where not.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# 1. Lower the threshold for influence to 0.1. How many pairs are there, and how many of them are luck? And from the first tenth of the networks?
#
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
#
# 2. The C-score of Jiang et al. is the chance to be right about an example that was held out. How is it related to memorization, and when are the two not simply complements?
#
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
#
# 3. Give a tenth of the rows a wrong label. Does memorization find them? (Trains 200 networks.)
#
# <details><summary>Answer</summary>
#
# Yes: a wrong label can only be memorized.
#
# ```python
# from lib.data import uniform_noise
#
# noisy, flipped = uniform_noise(images.y_train, 0.1, k=len(images.classes), seed=seed)
# few_sees = sees[:200]
# few_right, _ = fit(dataclasses.replace(images, y_train=noisy), few_sees, recipe)
# value, (low, high) = statistics.auroc(memorization(few_sees, few_right).value.nan_to_num(), flipped.numpy())
# print(f"AUROC {value:.3f} [{low:.3f}, {high:.3f}]")
# ```
# </details>
#
# 4. Influence can be negative. Find the pairs of *different* labels with influence −0.15 or less. What do they show?
#
# <details><summary>Answer</summary>
#
# Look-alikes across classes: the training example pulls its twin in the test set over to its own label.
#
# ```python
# chosen = torch.nonzero(mem.value >= 0.25).flatten()
# harm = influence_of_seeing(sees[:, chosen], right_test).value
# a, b = torch.nonzero((harm <= -0.15) & (labels[0][chosen, None] != labels[1]), as_tuple=True)
# worst = harm[a, b].argsort()[:8]
# plots.pictures(torch.stack([clothes.x_train[chosen[a[worst]]], clothes.x_test[b[worst]]], 1).flatten(0, 1), columns=8);
# ```
# </details>
#
# 5. How many networks would the definition need, leaving out one example at a time, for the standard deviation that 4,000 subsets give?
#
# <details><summary>Answer</summary>
#
# For a coin flip the variance of a difference of two shares, each from $k$ networks, is $1/(2k)$. Subsets give $\frac14(\frac1{0.7t}+\frac1{0.3t})$, so $k = 0.42\,t$ networks without each of the $n$ examples, and as many with all.
#
# ```python
# print(f"{0.42 * trials * (n + 1):,.0f} networks in place of {trials:,}")
# ```
# </details>

# %% [markdown]
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
