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
kept: list = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9]  # shares of the training rows kept
noise_levels: list = [0.1, 0.2]  # shares of the labels that are permuted
sizes: list = [1000, 2000, 4000, 8000]  # training rows in "What the diet depends on"
rates: list = [0.03, 0.1]  # learning rates there, ours first, the published one last
shares: list = [0.5, 0.8]  # shares kept there, the first is judged
n_test: int = 10000  # test rows
architecture: str = "mlp-128"  # the network, a name that lib.networks.models.by_name knows
convolutional: str = "lenet"  # and a convolutional one, for GraNd at initialization
n_convolutional: int = 4000  # its training rows, a part of the same
convolutional_batch: int = 50  # examples in one of its steps
epochs: int = 12  # passes over the full set; every pruned set takes as many steps
batch_size: int = 100  # examples in a step
augment: str = ""  # "", "crop", "flip" or "crop_flip"
early: int = 4  # the epoch at which EL2N is taken, not after the first drop of the learning rate
moments: list = [0, 1, 2, 4, 8, 12]  # epochs at which scores are taken in "How early?"
networks: int = 10  # trainings averaged in a score
seeds: int = 5  # retrainings of every pruned set; in "How early?" and "How much?" each on another draw of the rows
widths: list = [0.4, 0.5]  # shares of the rows in a sliding window, the paper's main one first
left_out: list = [0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6]  # highest scores left out by a window
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, noise, ties, bootstrap

# %% [markdown]
# ## What we test
#
# The claims, and what we will call a success, written down before the run:

# %%
import dataclasses
import inspect

import matplotlib.pyplot as plt
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
print(pictures, {named[level]: f"{(noisy != y).float().mean():.1%} of the labels wrong" for level, noisy in labels.items()})
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
# The recipe is the paper's with a smaller learning rate. Ten networks make a score; ten more are trained under each level of noise. We keep their errors and weights at some epochs, and whether it was right about an example when a batch had it: [forgetting](https://arxiv.org/abs/1812.05159) counts how often this was lost.

# %%
model = models.by_name(architecture, shape=tuple(x.shape[1:]), classes=k)
schedule = {"schedule": "step", "milestones": tuple(round(epochs * part) for part in (0.3, 0.6, 0.8)), "gamma": 0.2}
common = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "augment": augment or None, **schedule}
recipe = Recipe(lr=lr, batch_size=batch_size, epochs=epochs, **common)
steps, engine = epochs * -(-n // batch_size), Run(device=device, store=store)
record = Record(visits=True, errors_at=tuple(sorted({*moments, early})), checkpoints_at=tuple(moments), parameters=False)
runs = {level: slice(i * networks, (i + 1) * networks) for i, level in enumerate(labels)}
given = torch.stack(list(labels.values())).repeat_interleave(networks, 0)
numbers = list(range(networks)) * len(labels)
watched = ensemble.train(model, (x, y, images.x_test, images.y_test), recipe, numbers, labels=given, record=record, run=engine)
fitted = {named[level]: [f"{float(part[own].mean()):.3f}" for part in (watched.accuracy_train, watched.accuracy_test)] for level, own in runs.items()}
print(f"{len(given)} networks of {steps:,} steps")
pd.DataFrame(fitted, index=["fits of its labels", "right on test"])

# %% [markdown]
# The scores of each run, and their means over runs. Pruned sets are retrained for as many steps as the full one, with new seeds:

# %%
per_run = {
    "GraNd": lambda epoch, level=0.0: grand(model, {name: value[runs[level]] for name, value in watched.checkpoints[epoch].items()}, x, labels[level], device=device),
    "EL2N": lambda epoch, level=0.0: el2n(watched.errors[epoch][runs[level]]),
    "forgetting": lambda epoch, level=0.0: forgetting(watched.correct_visits[runs[level], :epoch]),
}
score = lambda name, epoch, level=0.0: per_run[name](epoch, level).mean(0)
settings = {"recipe": dataclasses.replace(recipe, epochs=None, iterations=steps), "seeds": range(100, 100 + seeds), "run": engine}
many = settings | {"seeds": range(200, 200 + networks)}
over_both = lambda points: (points.mean(), statistics.crossed_interval(points))  # (repetitions, test rows)


# %% [markdown]
# ## What the diet depends on
#
# Rows and learning rate are ours, not the paper's. Here is EL2N's gain over random choice with fewer rows (steps in proportion), at the paper's rate, and with more kept. Another team would have other rows and other initial weights. So each repetition draws and scores its rows anew, and intervals are over repetitions and test rows.
#
# **Predict.** With an eighth of the rows, is the hardest half still the better one? And at the higher rate?
#
# <details><summary>Answer</summary>
#
# At our rate it is about five points behind, with an interval that reaches 0; at the higher rate it is thirteen. Few data ask for easy examples and many for hard ones, as [Sorscher et al. 2022](https://arxiv.org/abs/2206.14486) found.
# </details>

# %%
def gains(rows, rate):
    """EL2N − random in points: share kept → (repetitions, test rows), each repetition with its own draw of the rows."""
    own, tables = dataclasses.replace(recipe, lr=rate), []
    length = dataclasses.replace(own, epochs=None, iterations=epochs * -(-rows // batch_size))
    asked = {"start": Start(until=early), "record": Record(errors_at=(early,), parameters=False), "run": engine}
    for i, part in enumerate(pruning.draws(dataset, seeds, n=rows, n_test=n_test, seed=seed)):
        part = dataclasses.replace(part, x_train=(part.x_train - mean) / spread, x_test=(part.x_test - mean) / spread)
        seen = ensemble.train(model, (part.x_train, part.y_train), own, range(networks), **asked)
        plans = {("random", share): pruning.random_subsets(rows, share, [i]) for share in shares}
        plans |= {("EL2N", share): pruning.prune(el2n(seen.errors[early]).mean(0), share, drop="lowest", seed=seed) for share in shares}
        tables.append(pruning.retrain_pruned(model, part, plans, columns=("score", "keep"), **settings | {"recipe": length, "seeds": [100 + i]}))
    return pruning.points(pd.concat(tables, ignore_index=True), {"score": "EL2N"}, {"score": "random"}, by="keep")

gained = {(rows, rate): gains(rows, rate) for rows in sizes for rate in rates}

# %% [markdown]
# Points gained by EL2N over random choice; 95% bands over repetitions alone, here and in all figures of this kind:

# %%
fig, axes = plt.subplots(1, len(shares), figsize=(6.4, 3.3), sharey=True)
for ax, share in zip(axes, shares, strict=True):
    for rate, look in zip(rates, ({"linestyle": "-"}, {"linestyle": ":", "mfc": "white"}), strict=False):
        table = pd.DataFrame([(rows, own.mean()) for rows in sizes for own in gained[rows, rate][share]], columns=["rows", "points"])
        plots.band(ax, table, "rows", "points", "EL2N", label=f"learning rate {rate:g}", **look)
    plots.reference(ax, 0, "random" if ax is axes[-1] else "")
    ax.set(xlabel="training rows", xscale="log", title=f"{share:.0%} kept")
    ax.set_xticks(sizes, [f"{rows:,}" for rows in sizes])
    ax.minorticks_off()
axes[0].set(ylabel="gain (points)")
axes[-1].legend(loc="lower right")
plots.save(fig, "05_depends", profile)

# %% [markdown]
# Two claims are ours: the gain is smaller at the published rate, and grows with the rows. Mean gains:

# %%
of_all, half = {rows: f"{100 * rows / n:g}% of the rows" for rows in sizes}, shares[0]
ours = {of_all[rows]: gained[rows, rates[0]][half] for rows in sizes}
less = {of_all[rows]: gained[rows, rates[0]][half] - gained[rows, rates[-1]][half] for rows in sizes}
for claim, by in {"dd.rate": less, "dd.rate.rows": ours}.items():
    value, interval = statistics.apart({where: over_both(points) for where, points in by.items()})
    ledger.record(claim, value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows in all", covers=["initializations", "rows", "test rows"])
nearer = "half of the rows kept, " + ", ".join(f"learning rate {rate:g} {gained[sizes[-1], rate][half].mean():+.1f}" for rate in rates)
means = {(f"learning rate {rate:g}", f"{share:.0%} kept"): {f"{rows:,} rows": gained[rows, rate][share].mean() for rows in sizes} for share in shares for rate in rates}
pd.DataFrame(means).T.style.format("{:+.1f}").set_caption("points gained over random choice")


# %% [markdown]
# At .03 EL2N's halves of 4,000 and 8,000 rows are better than random ones, those of 2,000 level. At the paper's rate those of 8,000 are level, smaller ones worse in the mean, those of 1,000 clearly. With 80% kept, EL2N is ahead in every mean.
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
def watch(part):
    """Ten networks on other training rows, for their scores."""
    return ensemble.train(model, (part.x_train, part.y_train), recipe, range(networks), record=record, run=engine)

draws = [images] + [
    dataclasses.replace(images, x_train=(part.x_train - mean) / spread, y_train=part.y_train, rows_train=part.rows_train)
    for part in pruning.draws(dataset, seeds, n=n, n_test=n_test, seed=seed)[1:]
]
watched_anew = [None, *map(watch, draws[1:])]

def score_on(i, name, epoch):
    """The same scores on the i-th draw."""
    if i == 0:
        return score(name, epoch)
    seen, part = watched_anew[i], draws[i]
    of_draw = {
        "GraNd": lambda: grand(model, seen.checkpoints[epoch], part.x_train, part.y_train, device=device),
        "EL2N": lambda: el2n(seen.errors[epoch]), "forgetting": lambda: forgetting(seen.correct_visits[:, :epoch]),
    }  # fmt: skip
    return of_draw[name]().mean(0)

def half_plans(i):
    rows = len(draws[i].y_train)
    plans = {("random", -1): pruning.random_subsets(rows, 0.5, [i]), ("full data", -1): torch.ones(rows, dtype=torch.bool)}
    for name, epoch in [(name, epoch) for name in per_run for epoch in moments if epoch >= 2 or name != "forgetting"]:
        plans[name, epoch] = pruning.prune(score_on(i, name, epoch), 0.5, drop="lowest", seed=seed)
    return plans

def on_draws(plans, columns):
    each = [pruning.retrain_pruned(model, part, plans(i), columns=columns, **settings | {"seeds": [100 + i]}) for i, part in enumerate(draws)]
    return pd.concat(each, ignore_index=True)

halved = on_draws(half_plans, ("score", "epoch"))


# %% [markdown]
# The three scores, taken at six moments; the right panel leaves out the first of them:

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
    half_figure(ax, halved[(halved.epoch < 0) | (halved.epoch >= first)], per_run, [epoch for epoch in moments if epoch >= first], first)
axes[0].set(ylabel="test accuracy")
axes[0].legend(loc="lower right")
plots.save(fig, "05_epochs", profile);

# %% [markdown]
# Before the first step both scores choose far worse than chance: EL2N then ranks classes (exercise 2), GraNd the length of the input (below). After two epochs, a sixth of the training, the half that either chooses is worth as much as all rows. Forgetting brings about three quarters of their gain.
#
# What is judged, EL2N after some epochs against EL2N before the first (which epoch 1 beats without beating chance); and all scores against random halves.
#
# EL2N is the cheap stand-in for GraNd. Does it rank and choose as GraNd does? The second table tells.

# %%
compare = lambda table, better, than, by: 100 * pruning.gain(table, better, than, by=by)
late = pruning.points(halved, {"score": "EL2N"}, {"score": "EL2N", "epoch": 0}, by="epoch")
value, interval = statistics.apart({f"epoch {epoch}": over_both(points) for epoch, points in late.items() if epoch > 0})
ledger.record("dd.prune_early.moment", value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"])
chance = pd.DataFrame({name: compare(halved, {"score": name}, {"score": "random"}, "epoch").mean(axis=1) for name in per_run})
display(chance.style.format("{:+.1f}", na_rep="–").set_caption("half of the rows, against random halves: percentage points, by epoch"))

alike = {f"epoch {epoch}": repeats.correlation_of_means(per_run["EL2N"](epoch), per_run["GraNd"](epoch), same_runs=True) for epoch in moments if epoch}
ahead = {f"epoch {epoch}": over_both(points) for epoch, points in pruning.points(halved, {"score": "EL2N"}, {"score": "GraNd"}, by="epoch").items() if epoch > 0}
(rho, within), (lead, around) = statistics.apart(alike), statistics.apart(ahead)
ledger.record("dd.el2n_is_grand", rho, interval=within, n=n, note=f"{networks} networks", covers=["initializations", "rows"])
ledger.record("dd.el2n_is_grand.prune", lead, interval=around, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"])
pd.DataFrame({"Spearman": rho, "EL2N − GraNd, half of the rows (points)": lead}).style.format("{:+.2f}")

# %% [markdown]
# At epoch 4 the two rank alike (Spearman 1.00), and their halves gain the same 1.7 points.
#
# ## How much?
#
# Now all shares, with each score where the paper takes it: GraNd at initialization, EL2N early, forgetting at the end.
#
# **Predict.** With a tenth of the rows left, which network is right more often, the one that was trained on the hardest or the one that was trained on random ones?
#
# <details><summary>Answer</summary>
#
# The one on random rows, by 59 points. The hardest alone do not say what the classes are.
# </details>

# %%
moment = {"EL2N": early, "forgetting": epochs, "GraNd": 0}
length = lambda part: part.x_train.flatten(1).norm(dim=1)
chosen_on = [{name: score_on(i, name, epoch) for name, epoch in moment.items()} | {"input norm": length(part)} for i, part in enumerate(draws)]
chosen = chosen_on[0]

def share_plans(i):
    plans = {("full data", 1.0): torch.ones(len(draws[i].y_train), dtype=torch.bool)}
    for share in kept:
        plans["random", share] = pruning.random_subsets(len(draws[i].y_train), share, [i])
        plans |= {(name, share): pruning.prune(value, share, drop="lowest", seed=seed) for name, value in chosen_on[i].items()}
    return plans

pruned = on_draws(share_plans, ("score", "keep"))

# %% [markdown]
# Left: test accuracy, by the share of rows kept. Right: the gain over random choice.

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.6))
pruning.draw_shares(axes, pruned, chosen)
axes[0].legend(loc="lower right")
plots.save(fig, "05_pruning", profile);

# %% [markdown]
# The comparisons that the claims make, and GraNd beside the norm of the input, not judged:

# %%
by_share = lambda better, than: {f"drop {1 - share:.0%}": points for share, points in pruning.points(pruned, {"score": better}, {"score": than}, by="keep").items()}
sides = {
    "dd.prune_early": ("EL2N", "random"), "dd.prune_early.full": ("EL2N", "full data"),
    "dd.prune_early.forgetting": ("EL2N", "forgetting"), "dd.grand_init": ("GraNd", "random"),
}
rows = {claim: by_share(*pair) for claim, pair in sides.items()}
rows |= {"GraNd − input norm": by_share("GraNd", "input norm")}
recorded = {}
for claim in sides:
    value, interval = statistics.apart({drop: over_both(points) for drop, points in rows[claim].items()})
    recorded[claim] = {"value": value, "interval": interval, "n": seeds, "note": f"{architecture}, {n:,} rows, {steps:,} steps", "covers": ["initializations", "rows", "test rows"]}
    ledger.record(claim, **recorded[claim], moved=nearer if claim == "dd.prune_early" else "")
fall = {f"{name}, {drop}": -points for name, claim in (("EL2N", "dd.prune_early"), ("GraNd", "dd.grand_init")) for drop, points in rows[claim].items()}
value, interval = statistics.apart({where: over_both(points) for where, points in fall.items() if where.endswith(("80%", "90%"))})
ledger.record("dd.extreme", value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"])
words = {claim: " − ".join(pair) for claim, pair in sides.items()}
pd.DataFrame({words.get(name, name): {drop: points.mean() for drop, points in part.items()} for name, part in rows.items()}).style.format("{:+.2f}").set_caption("percentage points")

# %% [markdown]
# Down to half of the rows EL2N's choice keeps the accuracy of all rows, and is not behind forgetting. At 60% dropped its gain over random is open; beyond, accuracy falls off sharply, as published.
#
# ### What GraNd at initialization measures
#
# GraNd at initialization loses to random choice at every share, by six points at half, and the norm of the input draws nearly the same curve. Why? At first the softmax is near uniform, so all errors are nearly of one length. What is left of the gradient's norm is the length of the features, which follows that of the input.
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
    "fully connected": (per_run["GraNd"](0).mean(0), x.flatten(1).norm(dim=1)),
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
# **Is it us?** The paper's networks are convolutional. So the convolutional network trains on the half that its own GraNd picks:

# %%
plans = {
    ("random", 0.5): pruning.random_subsets(n_convolutional, 0.5, range(seeds)),
    ("GraNd", 0.5): pruning.prune(pairs["convolutional"][0], 0.5, drop="lowest", seed=seed),
}
conv_recipe = dataclasses.replace(recipe, batch_size=convolutional_batch, epochs=None, iterations=epochs * -(-n_convolutional // convolutional_batch))
convolved = pruning.retrain_pruned(cnn, fewer, plans, columns=("score", "keep"), **settings | {"recipe": conv_recipe})
behind = pruning.points(convolved, {"score": "GraNd"}, {"score": "random"}, by="keep")[0.5].mean()
ledger.record("dd.grand_init", **recorded["dd.grand_init"], moved=f"half of the rows kept, convolutional network {behind:+.1f}")
print(f"GraNd at initialization − random, half of the rows, {convolutional}: {behind:+.1f} points")


# %% [markdown]
# It loses there as well. This is what Kirsch found in *Does "Deep Learning on a Data Diet" reproduce?* ([arXiv 2303.14753](https://arxiv.org/abs/2303.14753)). On CIFAR-10 GraNd at initialization is below random choice (90.0 against 91.4 at half) and close to the norm of the input. He traces the published advantage to a bug in restoring checkpoints; EL2N at epoch 20 he replicates. We lose by more: the norm of a picture of clothing is how dark it is.
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
    plans = {("random", width, 0.0): pruning.random_subsets(n, width, range(seeds)) for width in widths}
    for name, epoch, width in [("EL2N", early, width) for width in widths] + [("GraNd", 0, widths[0])]:
        values, places = score(name, epoch, level), [out for out in left_out if out <= 1 - width + 1e-9]
        plans |= {(name, width, out): pruning.window(values, width, max(0, 1 - width - out), seed=seed) for out in places}
    return pruning.retrain_pruned(model, images, plans, columns=("score", "width", "out"), labels=labels[level], **settings)

slid = pd.concat([slide(level).assign(level=level) for level in labels], ignore_index=True)


# %% [markdown]
# From left (the hardest examples kept) to right (the easiest kept), as far as it is near random choice. Dotted: the share of wrong labels.

# %%
def window_panel(ax, level):
    here = slid[(slid.level == level) & (slid.width == widths[0])]
    for name in ("EL2N", "GraNd"):
        plots.band(ax, here[here.score == name], "out", "accuracy", name, label=f"{name}, {widths[0]:.0%} kept")
    for width in widths[1:]:
        part = slid[(slid.level == level) & (slid.width == width) & (slid.score == "EL2N")]
        plots.band(ax, part, "out", "accuracy", "EL2N", label=f"EL2N, {width:.0%} kept", linestyle="-", mfc="white", alpha=0.6)
    chance = here[here.score == "random"].accuracy.to_numpy()
    plots.reference(ax, chance.mean(), f"random {widths[0]:.0%}" if ax is axes[-1] else "", interval=statistics.t_interval(chance))
    ax.axvline((labels[level] != y).float().mean(), lw=0.8, ls=":", color="0.3")
    ax.set(ylim=(chance.min() - 0.02, slid.accuracy.max() + 0.005), xlabel="share left out at the top", title=named[level])

fig, axes = plt.subplots(1, 2, figsize=(6.4, 4), sharey=True)
for ax, level in zip(axes, labels, strict=False):
    window_panel(ax, level)
axes[0].set(ylabel="test accuracy")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plots.save(fig, "05_window", profile);


# %% [markdown]
# The best window was found by looking, so its lead over the window at the top is too large by luck. Both train again, with new seeds.
#
# The ledger records this lead; how much each seed's own best window leaves out; GraNd's highest against random. Rows and wrong labels are one draw here.

# %%
def curve(level, name="EL2N", width=widths[0]):
    part = slid[(slid.level == level) & (slid.score == name) & (slid.width == width)]
    return part.pivot_table(index="out", columns="seed", values="accuracy")

def fresh_lead(level, width=widths[0]):
    best, values = curve(level).mean(axis=1).idxmax(), score("EL2N", early, level)
    plans = {(out,): pruning.window(values, width, 1 - width - out, seed=seed) for out in {best, 0.0}}
    table = pruning.retrain_pruned(model, images, plans, columns=("out",), labels=labels[level], **many)
    return *over_both(pruning.points(table, {"out": best}, {"out": 0.0}, by="out")[best]), best

leads = {named[level]: fresh_lead(level) for level in labels}

note = "left out by the best window: " + ", ".join(f"{name} {best:.0%}" for name, (*_, best) in leads.items())
value, interval = statistics.apart({name: lead[:2] for name, lead in leads.items()})
ledger.record("dd.window", value, interval=interval, n=networks, note=note, covers=["initializations", "test rows"], moved=moves.told("dd.window", profile, was=value))
own_best = {named[level]: curve(level).idxmax().to_numpy() for level in labels}
value, interval = statistics.apart({name: (best.mean(), statistics.t_interval(best)) for name, best in own_best.items()})
ledger.record("dd.window.shift", value, interval=interval, n=seeds, covers=["initializations"], moved=moves.told("dd.window.shift", profile, was=value))
def grand_behind(level):
    here = slid[(slid.level == level) & (slid.width == widths[0]) & (slid.out == 0.0)]
    return pruning.points(here, {"score": "random"}, {"score": "GraNd"}, by="width")[widths[0]]

behind = {named[level]: grand_behind(level) for level in labels}
noisy, interval = over_both(behind[named[noise_levels[0]]])
note = "; ".join(f"{name} {points.mean():+.1f} points" for name, points in behind.items())
ledger.record("dd.window.grand", noisy, interval=interval, n=seeds, note=note, covers=["initializations", "test rows"], moved=moves.told("dd.window.grand", profile, was=noisy))
rows = {name: [f"{lead:+.2f}", "[{:+.2f}, {:+.2f}]".format(*ends), f"{best:.0%}"] for name, (lead, ends, best) in leads.items()}
for width in widths[1:]:
    for level in labels:
        rows[named[level]].append(f"{curve(level, width=width).mean(axis=1).idxmax():.0%}")
others = [f"the same, {width:.0%} kept" for width in widths[1:]]
pd.DataFrame(rows, index=["best − top window (points)", "95%", "left out by the best", *others]).T

# %% [markdown]
# With right labels the lead is 2 points. Under noise it is 38 and 59 points, because the window at the top is then made of wrong labels for a good part. GraNd at initialization is behind random choice under noise, as published, and also without, against the paper. *Is it us?* At the published rate the lead with right labels is 5.5 points, and GraNd 12 behind.
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
# first, truth = watched.checkpoints[0], torch.nn.functional.one_hot(y[:500], k)
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
# Easy classes had: 84 of 800 trousers and 141 bags are kept, but more than 720 shirts. And EL2N is right about that: with as many of every class the network is three points worse.
#
# ```python
# half = {choice: pruning.prune(score("EL2N", early), 0.5, drop="lowest", y=within) for choice, within in {("balanced",): y, ("as it comes",): None}.items()}
# print(dict(zip(images.classes, torch.bincount(y[half["as it comes",]], minlength=k).tolist())))
# print(pruning.retrain_pruned(model, images, half, columns=("choice",), **settings).groupby("choice").accuracy.mean())
# ```
# </details>
