# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · The data diet: finding important examples early in training
#
# *Mansheej Paul, Surya Ganguli and Gintare Karolina Dziugaite, "Deep learning on a data diet: finding important examples early in training", NeurIPS 2021* ([arXiv 2107.07075](https://arxiv.org/abs/2107.07075)).
#
# **Question.** How soon in training can one tell which half of the data is enough, and what does the answer depend on?
#
# What was found, on Fashion-MNIST with small networks:
#
# 1. Of 8,000 rows, the half with the largest early errors (EL2N) teaches a network as much as all rows do, and 1.6 points more than a random half.
# 2. That is no law. At the paper's learning rate the gain is gone, and of 1,000 rows the hardest half is clearly *worse*, of 2,000 and 4,000 in the mean. [Notebook 04](04_cg_score_pruning.ipynb) finds it worse, too.
# 3. Two of twelve epochs are enough to choose.
# 4. Before the first step the norm of the gradient (GraNd) chooses worse than chance. It follows the length of the input, as [later work](https://arxiv.org/abs/2303.14753) had found.
# 5. With a tenth of the rows left, the hardest alone are useless. Where labels are wrong, the best choice leaves out the highest scores.
#
# *Symbols and scores: the [glossary](GLOSSARY.md). Further claims of the paper: [appendix 15](appendix/15_data_diet_further.ipynb).*
#
# To run a part, run the cells to the end of *Method*, then *What the diet depends on*, *How early?* or *Which window?*.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # a name that lib.data.datasets.load knows (cifar10 is downloaded), or the path of an .npz of pictures
n: int = 8000  # training rows that are scored, pruned and trained on
lr: float = 0.03  # learning rate, divided by 5 after 30, 60 and 80% of the epochs
kept: list = [0.1, 0.2, 0.4, 0.5, 0.6, 0.75, 0.8]  # shares of the training rows kept
noise_levels: list = [0.1, 0.2]  # shares of the labels that are permuted
sizes: list = [1000, 2000, 4000, 8000]  # training rows in "What the diet depends on"
rates: list = [0.03, 0.1]  # learning rates there, ours first, the published one last
n_test: int = 10000  # test rows
architecture: str = "mlp-128"  # the network, a name that lib.networks.models.by_name knows
convolutional: str = "lenet"  # and a convolutional one, for GraNd at initialization
n_convolutional: int = 4000  # its training rows, a part of the same
epochs: int = 12  # passes over the full set; every pruned set takes as many steps
batch_size: int = 100  # examples in a step
augment: str = ""  # "", "crop", "flip" or "crop_flip"
early: int = 4  # the epoch at which EL2N is taken, not after the first drop of the learning rate
moments: list = [0, 1, 2, 4]  # epochs at which scores are taken in "How early?", and at the last
networks: int = 10  # trainings averaged in a score
seeds: int = 5  # retrainings of every pruned set; in "How early?" and "How much?" each on another draw of the rows
width: float = 0.4  # share of the rows in a sliding window
left_out: list = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3]  # highest scores left out by a window
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, noise, ties, bootstrap

# %% [markdown]
# ## What we test
#
# The claims, and what we will call a success, written down before the run:

# %%
import dataclasses
import functools
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from experiments import moves, noise, plots, pruning, repeats
from lib import statistics
from lib.data import datasets
from lib.ledger import Ledger
from lib.networks import models
from lib.scores import definitions
from lib.scores.data_diet import el2n, forgetting, grand
from lib.store import Store
from lib.training import ensemble, Recipe, Record, Run, Start

plots.style()
ledger, store = Ledger("05", profile), Store(profile=profile)
ledger.criteria()

# %% [markdown]
# ## Data
#
# As in the paper, each channel has mean 0 and standard deviation 1 over the training set. Labels are made noisy, as there, by permuting those of a random share of the examples.

# %%
pictures = datasets.load(dataset, n_train=n, n_test=n_test, seed=seed)
channel = {"dim": (0, 2, 3), "keepdim": True}
mean, spread = pictures.x_train.mean(**channel), pictures.x_train.std(**channel)
images = dataclasses.replace(pictures, x_train=(pictures.x_train - mean) / spread, x_test=(pictures.x_test - mean) / spread)
x, y, k = images.x_train, images.y_train, len(images.classes)
labels = {0.0: y} | {level: noise.permuted_noise(y, level, seed=seed)[0] for level in noise_levels}
named = {level: f"{level:.0%} noise" if level else "clean" for level in labels}
fig = plots.pictures(pictures.x_train[torch.cat([torch.nonzero(y == c).flatten()[:10] for c in range(k)])], titles=images.classes, size=0.5)
plots.save(fig, "05_data", profile)
print(pictures, "labels wrong: " + ", ".join(f"{named[level]} {(noisy != y).float().mean():.1%}" for level, noisy in labels.items()), sep="\n")
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")

# %% [markdown]
# ## Method
#
# With $p(w,x)$ the softmax of the outputs and $\ell$ the cross-entropy,
#
# $$ \begin{aligned}\mathrm{GraNd}_t(x,y)&=\mathbb E_{w_t}\bigl\|\nabla_w\,\ell(p(w_t,x),y)\bigr\|_2,\\ \mathrm{EL2N}_t(x,y)&=\mathbb E_{w_t}\bigl\|p(w_t,x)-y\bigr\|_2,\end{aligned} $$
#
# the mean over runs. Why the gradient? Leaving $x_j$ out of a step of SGD changes the loss at any $x'$ by at most $\eta\,\|\nabla\ell(x')\|\,\|\nabla\ell(x_j)\|$, to first order (Lemma 2.2). Why the error? The gradient is $\sum_c (p_c-y_c)\,\nabla_w f_c(x)$. If the logits' gradients are about orthogonal and equally long for all examples, only the error is left.
#
# By definition, one backward pass for each example:

# %%
print(inspect.getsource(definitions.gradients), inspect.getsource(definitions.grand), sep="\n")

# %% [markdown]
# The library writes no gradient out. In a dense layer with inputs $a$ and backpropagated signals $\delta$ the gradient of one example is $\delta a^\top$, with norm $\|\delta\|\|a\|$: one backward pass for all examples gives every norm. For a convolution two small Gram matrices do the same ("ghost norms"). Both ways, in double precision:

# %%
error = 0.0
for name in (architecture, convolutional):
    net = models.initialize(models.by_name(name, shape=tuple(x.shape[1:]), classes=k), seed).double().eval()
    state = {key: value.detach() for key, value in net.state_dict().items()}
    slow = definitions.gradients(net, state, x[:20], y[:20]).norm(dim=1)
    fast = grand(net, {key: value[None] for key, value in state.items()}, x[:20].double(), y[:20])[0]
    error = max(error, float((fast / slow - 1).abs().max()))
assert error < 1e-10, error
print(f"20 gradients written out against ghost norms: largest relative difference {error:.0e}")

# %% [markdown]
# The recipe is the paper's with a smaller learning rate. Ten networks make a score; we keep their errors and weights at some epochs, and whether each was right about an example when a batch had it: [forgetting](https://arxiv.org/abs/1812.05159) counts how often this was lost.
#
# Another team would have other rows and other initial weights. So a repetition has its own draw of the rows, scored and retrained anew, and intervals are over repetitions and test rows, where nothing else is said.

# %%
model = models.by_name(architecture, shape=tuple(x.shape[1:]), classes=k)
schedule = {"schedule": "step", "milestones": tuple(round(epochs * part) for part in (0.3, 0.6, 0.8)), "gamma": 0.2}
common = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "augment": augment or None, **schedule}
recipe = Recipe(lr=lr, batch_size=batch_size, epochs=epochs, **common)
steps, engine, taken = epochs * -(-n // batch_size), Run(device=device, store=store), sorted({*moments, early, epochs})
record = Record(visits=True, errors_at=tuple(taken), checkpoints_at=tuple(taken), parameters=False)
briefly = {"start": Start(until=early), "record": Record(errors_at=(early,), checkpoints_at=(0,), parameters=False)}

@functools.cache
def drawn(rows):
    """The repetitions' draws of the rows, the first as above, scaled like that one."""
    parts = pruning.draws(dataset, seeds, n=rows, n_test=n_test, seed=seed)
    test = (parts[0].x_test - mean) / spread
    return [dataclasses.replace(part, x_train=(part.x_train - mean) / spread, x_test=test) for part in parts]

@functools.cache
def watched(i=0, level=0.0):
    """Networks on the i-th draw; with noise, which only the first has, until EL2N is taken."""
    part, asked = drawn(n)[i], briefly if level else {"record": record}
    data = part.x_train, labels[level] if level else part.y_train, part.x_test, part.y_test
    return ensemble.train(model, data, recipe, range(networks), run=engine, **asked)

right = [float(of.mean()) for of in (watched().accuracy_train, watched().accuracy_test)]
print("{} networks of {:,} steps fit {:.1%} of their labels, and {:.1%} of the test rows".format(networks, steps, *right))


# %% [markdown]
# The scores of each network, and their means. Pruned sets are retrained for as many steps as the full one, with new seeds:

# %%
@functools.cache
def per_run(name, epoch, i=0, level=0.0):
    """(networks, rows of the draw)"""
    seen, part = watched(i, level), drawn(n)[i]
    if name == "GraNd":
        return grand(model, seen.checkpoints[epoch], part.x_train, labels[level] if level else part.y_train, device=device)
    return el2n(seen.errors[epoch]) if name == "EL2N" else forgetting(seen.correct_visits[:, :epoch])

score = lambda *which: per_run(*which).mean(0)
settings = {"recipe": dataclasses.replace(recipe, epochs=None, iterations=steps), "seeds": range(100, 100 + seeds), "run": engine}
over_both = lambda points: (points.mean(), statistics.crossed_interval(points))  # (repetitions, test rows)


# %% [markdown]
# ## What the diet depends on
#
# Rows and learning rate are ours, not the paper's. Here is the gain of EL2N's half over a random one with fewer rows (steps in proportion), and at the paper's rate.
#
# **Predict.** With an eighth of the rows, is the hardest half still the better one? And at the higher rate?
#
# <details><summary>Answer</summary>
#
# At our rate it is about five points behind, with an interval that reaches 0; at the higher rate it is twelve. Few data ask for easy examples and many for hard ones, as [Sorscher et al. 2022](https://arxiv.org/abs/2206.14486) found.
# </details>

# %%
def gains(rows, rate):
    """EL2N − random in points, half of the rows kept, (repetitions, test rows)."""
    own, tables = dataclasses.replace(recipe, lr=rate), []
    length = dataclasses.replace(own, epochs=None, iterations=epochs * -(-rows // batch_size))
    for i, part in enumerate(drawn(rows)):
        if (rows, rate) == (n, lr):
            values = score("EL2N", early, i)
        else:
            seen = ensemble.train(model, (part.x_train, part.y_train), own, range(networks), run=engine, **briefly)
            values = el2n(seen.errors[early]).mean(0)
        plans = {("random", 0.5): pruning.random_subsets(rows, 0.5, [i]), ("EL2N", 0.5): pruning.prune(values, 0.5, drop="lowest", seed=seed)}
        tables.append(pruning.retrain_pruned(model, part, plans, columns=("score", "keep"), **settings | {"recipe": length, "seeds": [100 + i]}))
    return pruning.points(pd.concat(tables, ignore_index=True), {"score": "EL2N"}, {"score": "random"}, by="keep")[0.5]

gained = {(rows, rate): gains(rows, rate) for rows in sizes for rate in rates}

# %% [markdown]
# Points gained by EL2N over random choice; 95% bands over repetitions alone, here and in all figures of this kind:

# %%
fig, ax = plt.subplots(figsize=(5, 3.3))
for rate, look in zip(rates, ({"linestyle": "-"}, {"linestyle": ":", "mfc": "white", "color": "0.35"}), strict=False):
    table = pd.DataFrame([(rows, own.mean()) for rows in sizes for own in gained[rows, rate]], columns=["rows", "points"])
    plots.band(ax, table, "rows", "points", "EL2N", label=f"learning rate {rate:g}", **look)
plots.reference(ax, 0, "random")
ax.set(xlabel="training rows", xscale="log", ylabel="gain (points)")
ax.set_xticks(sizes, [f"{rows:,}" for rows in sizes])
ax.minorticks_off()
ax.legend(loc="lower right")
plots.save(fig, "05_depends", profile)

# %% [markdown]
# Two claims are ours: the gain is smaller at the published rate, and grows with the rows. Mean gains:

# %%
of_all = {rows: f"{100 * rows / n:g}% of the rows" for rows in sizes}
ours = {of_all[rows]: gained[rows, rates[0]] for rows in sizes}
less = {of_all[rows]: gained[rows, rates[0]] - gained[rows, rates[-1]] for rows in sizes}
for claim, by in {"dd.rate": less, "dd.rate.rows": ours}.items():
    value, interval = statistics.apart({where: over_both(points) for where, points in by.items()})
    ledger.record(claim, value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows in all", covers=["initializations", "rows", "test rows"])
nearer = "half of the rows kept, " + ", ".join(f"learning rate {rate:g} {gained[sizes[-1], rate].mean():+.1f}" for rate in rates)
gains_nearer = over_both(gained[sizes[-1], rates[-1]])[1][0] > 0
means = {f"learning rate {rate:g}": {f"{rows:,} rows": gained[rows, rate].mean() for rows in sizes} for rate in rates}
pd.DataFrame(means).T.style.format("{:+.1f}").set_caption("points gained over random choice")


# %% [markdown]
# At .03 EL2N's halves of 4,000 and 8,000 rows are better than random ones, those of 2,000 level. At the paper's rate those of 8,000 are level, smaller ones worse in the mean, those of 1,000 clearly.
#
# **How this fits [notebook 04](04_cg_score_pruning.ipynb).** There, of 8,000 rows, EL2N's half is about three points *below* a random one, at two learning rates. It keeps as many rows of every class, which by exercise 3 costs as much. "Half of the data is enough" is a statement about a data set, its size and a recipe.
#
# ## How early?
#
# Half of the rows are kept, those with the highest scores, taken at different epochs. Again each repetition has its own rows.
#
# **Predict.** Before the first step a network knows nothing about clothes. Will the half with the largest gradients at that moment train a better network than a random half, or a worse one?
#
# <details><summary>Answer</summary>
#
# A far worse one, by either score. After one epoch both are level with chance, and from the second on ahead of it.
# </details>

# %%
def half_plans(i):
    """By score and the epoch at which it is taken; -1 for none."""
    part = drawn(n)[i]
    plans = {("random", -1): pruning.random_subsets(n, 0.5, [i]), ("full data", -1): torch.ones(n, dtype=torch.bool)}
    plans["input norm", -1] = pruning.prune(part.x_train.flatten(1).norm(dim=1), 0.5, drop="lowest", seed=seed)
    for name, epoch in [(name, epoch) for name in ("GraNd", "EL2N", "forgetting") for epoch in taken if epoch >= 2 or name != "forgetting"]:
        plans[name, epoch] = pruning.prune(score(name, epoch, i), 0.5, drop="lowest", seed=seed)
    return plans

def on_draws(plans, columns):
    each = [pruning.retrain_pruned(model, part, plans(i), columns=columns, **settings | {"seeds": [100 + i]}) for i, part in enumerate(drawn(n))]
    return pd.concat(each, ignore_index=True)

halved = on_draws(half_plans, ("score", "epoch"))


# %% [markdown]
# The three scores, taken at five moments; the right panel leaves out the first of them:

# %%
def half_figure(ax, table, names, epochs_shown, first):
    place = {epoch: i for i, epoch in enumerate(epochs_shown)}
    for name in names:
        part = table[table.score == name]
        plots.band(ax, part.assign(place=part.epoch.map(place)), "place", "accuracy", name)
    for name, text in (("full data", "all rows"), ("random", "random half")):
        level = table[table.score == name].accuracy
        plots.reference(ax, level.mean(), text if first else "", interval=statistics.t_interval(level.to_numpy()))
    ax.set_xticks(range(len(epochs_shown)), epochs_shown)
    ax.set(xlabel="epoch of the score")

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4))
for ax, first in zip(axes, (0, 1), strict=True):
    half_figure(ax, halved[(halved.epoch < 0) | (halved.epoch >= first)], ("GraNd", "EL2N", "forgetting"), [epoch for epoch in taken if epoch >= first], first)
axes[0].set(ylabel="test accuracy")
axes[0].legend(loc="lower right")
plots.save(fig, "05_epochs", profile);

# %% [markdown]
# Before the first step both scores choose far worse than chance: EL2N then ranks classes (exercise 2), GraNd the length of the input (below). After two epochs, a sixth of the training, the half that either chooses is worth as much as all rows. Forgetting brings about three quarters of their gain.
#
# We judge EL2N after some epochs against EL2N before the first. Epoch 1 beats that, but not chance. The first table has all against chance.
#
# EL2N is the cheap stand-in for GraNd. Does it rank and choose as GraNd does? The second table tells.

# %%
compare = lambda table, better, than, by: 100 * pruning.gain(table, better, than, by=by)
late = pruning.points(halved, {"score": "EL2N"}, {"score": "EL2N", "epoch": 0}, by="epoch")
value, interval = statistics.apart({f"epoch {epoch}": over_both(points) for epoch, points in late.items() if epoch > 0})
ledger.record("dd.prune_early.moment", value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"])
chance = pd.DataFrame({name: compare(halved, {"score": name}, {"score": "random"}, "epoch").mean(axis=1) for name in ("GraNd", "EL2N", "forgetting")})
display(chance.style.format("{:+.1f}", na_rep="–").set_caption("half of the rows, against random halves: percentage points, by epoch"))

alike = {f"epoch {epoch}": repeats.correlation_of_means(per_run("EL2N", epoch), per_run("GraNd", epoch), same_runs=True) for epoch in taken if epoch}
ahead = {f"epoch {epoch}": over_both(points) for epoch, points in pruning.points(halved, {"score": "EL2N"}, {"score": "GraNd"}, by="epoch").items() if epoch > 0}
(rho, within), (lead, around) = statistics.apart(alike), statistics.apart(ahead)
ledger.record("dd.el2n_is_grand", rho, interval=within, n=n, note=f"{networks} networks", covers=["initializations", "rows"])
ledger.record("dd.el2n_is_grand.prune", lead, interval=around, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"])
pd.DataFrame({"Spearman": rho, "EL2N − GraNd, half of the rows (points)": lead}).style.format("{:+.2f}")

# %% [markdown]
# At epoch 4 the two rank alike (Spearman 1.00), and their halves gain the same 1.6 points.
#
# ## How much?
#
# Now all shares, with each score where the paper takes it: GraNd at initialization, EL2N early, forgetting at the end.
#
# **Predict.** With a tenth of the rows left, which network is right more often, the one that was trained on the hardest or the one that was trained on random ones?
#
# <details><summary>Answer</summary>
#
# The one on random rows, by 60 points. The hardest alone do not say what the classes are.
# </details>

# %%
moment = {"EL2N": early, "forgetting": epochs, "GraNd": 0}

def share_plans(i):
    plans = {}
    for share in [share for share in kept if share != 0.5]:
        plans["random", share] = pruning.random_subsets(n, share, [i])
        plans |= {(name, share): pruning.prune(score(name, epoch, i), share, drop="lowest", seed=seed) for name, epoch in moment.items()}
    return plans

at_half = halved[halved.epoch == halved.score.map(moment).fillna(-1)]
at_half = at_half.assign(keep=(at_half.score == "full data").map({True: 1.0, False: 0.5}))
pruned = pd.concat([at_half, on_draws(share_plans, ("score", "keep"))], ignore_index=True)

# %% [markdown]
# Left: test accuracy, by the share of rows kept. Right: the gain over random choice.

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.6))
pruning.draw_shares(axes, pruned, moment)
axes[0].legend(loc="lower right")
plots.save(fig, "05_pruning", profile);

# %% [markdown]
# The comparisons that the claims make, and at half the norm of the input beside GraNd, not judged:

# %%
by_share = lambda better, than: {f"drop {1 - share:.0%}": points for share, points in pruning.points(pruned, {"score": better}, {"score": than}, by="keep").items()}
sides = {
    "dd.prune_early": ("EL2N", "random"), "dd.prune_early.full": ("EL2N", "full data"),
    "dd.prune_early.forgetting": ("EL2N", "forgetting"), "dd.grand_init": ("GraNd", "random"),
}
rows = {claim: by_share(*pair) for claim, pair in sides.items()}
norm = pruning.points(pruned[pruned.keep == 0.5], {"score": "input norm"}, {"score": "random"}, by="keep")
rows["input norm − random"] = {"drop 50%": norm[0.5]}
for claim in sides:
    value, interval = statistics.apart({drop: over_both(points) for drop, points in rows[claim].items()})
    moved = {"dd.prune_early": nearer, "dd.grand_init": moves.told("dd.grand_init", profile, was=value)}.get(claim, "")
    ledger.record(claim, value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"], moved=moved, reached={"dd.prune_early": gains_nearer}.get(claim))
fall = {f"{name}, {drop}": -points for name, claim in (("EL2N", "dd.prune_early"), ("GraNd", "dd.grand_init")) for drop, points in rows[claim].items()}
value, interval = statistics.apart({where: over_both(points) for where, points in fall.items() if where.endswith(("80%", "90%"))})
ledger.record("dd.extreme", value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"])
words = {claim: " − ".join(pair) for claim, pair in sides.items()}
pd.DataFrame({words.get(name, name): {drop: points.mean() for drop, points in part.items()} for name, part in rows.items()}).style.format("{:+.2f}", na_rep="–").set_caption("percentage points")

# %% [markdown]
# Down to half of the rows EL2N's choice keeps the accuracy of all rows, and is not behind forgetting. At 60% dropped its gain over random is open; beyond, accuracy falls off sharply, as published.
#
# ### What GraNd at initialization measures
#
# GraNd at initialization loses to random choice at every share, by six points at half, where the norm of the input loses nearly as much. Why? At first the softmax is near uniform, so all errors are nearly of one length. What is left of the gradient's norm is the length of the features, which follows that of the input.
#
# **Predict.** How near 1 will the rank correlation of GraNd with the norm of the input be in the fully connected network, and how near in a convolutional one?
#
# <details><summary>Answer</summary>
#
# .996, and .89: a hair below the .9 that we had set.
# </details>

# %%
reduced = datasets.load(dataset, n_train=n_convolutional, n_test=n_test, seed=seed)
fewer = dataclasses.replace(reduced, x_train=(reduced.x_train - mean) / spread, x_test=(reduced.x_test - mean) / spread)
cnn = models.by_name(convolutional, shape=tuple(x.shape[1:]), classes=k)
born = [{name: value.clone() for name, value in models.initialize(cnn, i).state_dict().items()} for i in range(networks)]
grand_cnn = grand(cnn, {name: torch.stack([state[name] for state in born]) for name in born[0]}, fewer.x_train, fewer.y_train, device=device)
pairs = {
    "fully connected": (score("GraNd", 0), x.flatten(1).norm(dim=1)),
    "convolutional": (grand_cnn.mean(0), fewer.x_train.flatten(1).norm(dim=1)),
}
found = {name: statistics.spearman(*pair, seed=seed) for name, pair in pairs.items()}
value, interval = statistics.apart(found)
ledger.record("dd.grand_init.norm", value, interval=interval, n=n, note=f"{architecture}; {convolutional} on {n_convolutional:,} rows", covers=["rows"], moved=moves.told("dd.grand_init.norm", profile, was=value))

# %% [markdown]
# GraNd at initialization, the mean over networks, against the norm of the input, with their Spearman.

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.2))
for ax, (name, (ours, length)) in zip(axes, pairs.items(), strict=True):
    ax.hexbin(length, ours, gridsize=60, norm="log", vmin=0.3, cmap="Greys", mincnt=1)
    ax.set(xlabel="norm of the input", title=f"{name}: {value[name]:.2f}")
axes[0].set(ylabel="GraNd at initialization")
plots.save(fig, "05_grand_norm", profile);


# %% [markdown]
# *Is it us?* The paper's networks are convolutional. A LeNet on the half that its own GraNd picks loses as well, by 4.2 points. This is what Kirsch found in *Does "Deep Learning on a Data Diet" reproduce?* ([arXiv 2303.14753](https://arxiv.org/abs/2303.14753)). On CIFAR-10 GraNd at initialization is below random choice (90.0 against 91.4 at half) and close to the norm of the input. He traces the published advantage to a bug in restoring checkpoints; EL2N at epoch 20 he replicates. We lose by more: the norm of a picture of clothing is how dark it is.
#
# ## Which window?
#
# Sort by score, leave out some of the highest, keep a window of fixed width below them, drop the rest. We do so with right labels, and with 10% and 20% permuted, for scores and trainings alike.
#
# **Predict.** At 10% noise, will the best window leave out a tenth of the examples, more, or fewer? And with right labels, any at all?
#
# <details><summary>Answer</summary>
#
# A tenth at 10% noise, a fifth at 20%. With right labels 2%; the paper has 1%.
# </details>

# %%
def slide(level):
    plans = {("random", 0.0): pruning.random_subsets(n, width, range(seeds)), ("GraNd", 0.0): pruning.window(score("GraNd", 0, 0, level), width, 1 - width, seed=seed)}
    plans |= {("EL2N", out): pruning.window(score("EL2N", early, 0, level), width, max(0, 1 - width - out), seed=seed) for out in left_out if out <= 1 - width + 1e-9}
    return pruning.retrain_pruned(model, images, plans, columns=("score", "out"), labels=labels[level], **settings)

slid = pd.concat([slide(level).assign(level=level) for level in labels], ignore_index=True)

# %% [markdown]
# From left (the hardest examples kept) to right (easier ones), as far as it is near random choice. Dotted: the share of wrong labels.

# %%
fig, axes = plt.subplots(1, len(labels), figsize=(6.4, 3.6), sharey=True)
for ax, level in zip(axes, labels, strict=True):
    here = slid[slid.level == level]
    for name in ("EL2N", "GraNd"):
        plots.band(ax, here[here.score == name], "out", "accuracy", name)
    chance = here[here.score == "random"].accuracy.to_numpy()
    plots.reference(ax, chance.mean(), "random" if ax is axes[-1] else "", interval=statistics.t_interval(chance))
    ax.axvline((labels[level] != y).float().mean(), lw=0.8, ls=":", color="0.3")
    ax.set(xlabel="left out at the top", title=named[level])
axes[0].set(ylabel=f"test accuracy, {width:.0%} kept", ylim=(slid[slid.score == "random"].accuracy.min() - 0.12, slid.accuracy.max() + 0.005))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plots.save(fig, "05_window", profile);


# %% [markdown]
# A best window found by looking is flattered by luck. So each seed takes the window that was best for the others.
#
# Recorded: its lead over the window at the top, what each seed's own best window leaves out, and GraNd's highest against random. Rows and wrong labels are one draw here.

# %%
def lead(level):
    """Of the window that is best for the other seeds over the one at the top, in points, (seeds, test rows)."""
    of = slid[(slid.level == level) & (slid.score == "EL2N")]
    curve, bits = (of.pivot(index="out", columns="seed", values=what) for what in ("accuracy", "correct"))
    best = {one: curve.drop(columns=one).mean(axis=1).idxmax() for one in curve}
    return 100.0 * np.stack([bits.loc[out, one] - bits.loc[0.0, one] for one, out in best.items()]), best, curve.idxmax().to_numpy()

leads = {named[level]: lead(level) for level in labels}
note = "left out by the best window: " + ", ".join(f"{name} {np.median(list(best.values())):.0%}" for name, (_, best, _) in leads.items())
value, interval = statistics.apart({name: over_both(points) for name, (points, *_) in leads.items()})
ledger.record("dd.window", value, interval=interval, n=seeds, note=note, covers=["initializations", "test rows"], moved=moves.told("dd.window", profile, was=value))
table = pd.DataFrame({"best − top window (points)": value, "95%": {name: "[{:+.1f}, {:+.1f}]".format(*ends) for name, ends in interval.items()}})
value, interval = statistics.apart({name: (own.mean(), statistics.t_interval(own)) for name, (*_, own) in leads.items()})
ledger.record("dd.window.shift", value, interval=interval, n=seeds, covers=["initializations"], moved=moves.told("dd.window.shift", profile, was=value))
behind = {named[level]: pruning.points(slid[(slid.level == level) & (slid.out == 0.0)], {"score": "random"}, {"score": "GraNd"}, by="out")[0.0] for level in labels}
noisy, interval = over_both(behind[named[noise_levels[0]]])
note = "; ".join(f"{name} {points.mean():+.1f} points" for name, points in behind.items())
ledger.record("dd.window.grand", noisy, interval=interval, n=seeds, note=note, covers=["initializations", "test rows"], moved=moves.told("dd.window.grand", profile, was=noisy))
table.assign(**{"left out by the best": {name: ", ".join(f"{out:.0%}" for out in best.values()) for name, (_, best, _) in leads.items()}}).style.format(precision=1)

# %% [markdown]
# With right labels the lead is 2 points. Under noise it is 38 and 58 points, because the window at the top is then made of wrong labels for a good part. GraNd at initialization is behind random choice under noise, as published, and also without, against the paper. *Is it us?* At the published rate the lead with right labels is 5.5 points; with 10% wrong GraNd is 12 behind.
#
# ## Where we deviate, and why
#
# - **Data and networks.** The paper trains ResNet-18 and -50 on CIFAR-10, CIFAR-100 and CINIC-10 for 200 epochs, augmented. Here small networks train for 12 epochs on 8,000 rows. The `paper` profile has the published sizes; nobody ran it.
# - **Version.** The proceedings' abstract no longer has the gradient at initialization, and adds that EL2N carries over to other architectures, which no claim tests.
# - **Learning rate.** .03 in place of .1 (see the first experiment), chosen in dry runs on other rows and seeds.
# - **Early** is the last epoch before the learning rate drops, a third of the training; the paper's epochs 10 and 20 of 200 come earlier in share, later in steps.
# - **Intervals** are 95% of the mean, paired by seed; the paper shows the 16th to 84th percentile of four runs.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# All three stand on the set-up alone.
#
# 1. Make every input twice as bright. What happens to GraNd at initialization, and what to EL2N?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# GraNd about doubles, EL2N hardly moves. A score that a change of units moves cannot be about importance alone.
#
# ```python
# from lib.networks import stacked
#
# first, truth = watched().checkpoints[0], torch.nn.functional.one_hot(y[:500], k)
# errors = lambda scale: stacked.predict(model, first, scale * x[:500]).softmax(2) - truth
# for name, of in {"GraNd": lambda scale: grand(model, first, scale * x[:500], y[:500]), "EL2N": lambda scale: el2n(errors(scale))}.items():
#     print(f"{name} changes by a factor of {float((of(2).mean(0) / of(1).mean(0)).median()):.2f}")
# ```
# </details>

# %% [markdown]
# 2. Why is EL2N at initialization so poor? Count the rows that its half has of each class.

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# An untrained network favours some classes by chance, so the score ranks classes: 785 shirts are kept, and 79 sneakers.
#
# ```python
# blind = pruning.prune(score("EL2N", 0), 0.5, drop="lowest", seed=seed)
# print(dict(zip(images.classes, torch.bincount(y[blind], minlength=k).tolist())))
# ```
# </details>

# %% [markdown]
# 3. Prune to half of the rows class by class (`pruning.prune(..., y=y)`). Which classes had lost most without that, and does accuracy change?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# Easy classes had: 83 of 800 trousers and 142 bags are kept, but more than 720 shirts. And EL2N is right about that: with as many of every class the network is three points worse.
#
# ```python
# half = {choice: pruning.prune(score("EL2N", early), 0.5, drop="lowest", y=within) for choice, within in {("balanced",): y, ("as it comes",): None}.items()}
# print(dict(zip(images.classes, torch.bincount(y[half["as it comes",]], minlength=k).tolist())))
# print(pruning.retrain_pruned(model, images, half, columns=("choice",), **settings).groupby("choice").accuracy.mean())
# ```
# </details>
