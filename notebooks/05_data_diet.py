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
# # 05 · The data diet: finding important examples early in training
#
# *Mansheej Paul, Surya Ganguli and Gintare Karolina Dziugaite, "Deep learning on a data diet: finding important examples early in training", NeurIPS 2021.*
#
# **Question.** How soon in training can one tell which half of the data is enough, and what do the hard examples do to the network meanwhile?
#
# *Symbols and scores: the [glossary](GLOSSARY.md).*

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # a name that lib.data.datasets.load knows (cifar10 is downloaded), or the path of an .npz of pictures
n: int = 8000  # training rows that are scored, pruned and trained on
n_test: int = 10000  # test rows
architecture: str = "mlp-128"  # the network, a name that lib.networks.models.by_name knows
deeper: str = "mlp-128-128-128"  # a deeper one, for the comparison of architectures
convolutional: str = "lenet"  # and a convolutional one
n_convolutional: int = 4000  # its training rows, a part of the same
convolutional_batch: int = 50  # examples a step, for it
epochs: int = 12  # passes over the full set; every pruned set takes as many steps
batch_size: int = 100  # examples a step
lr: float = 0.03  # learning rate, divided by 5 after 30, 60 and 80% of the epochs
augment: str = ""  # "", "crop", "flip" or "crop_flip"
early: int = 4  # the epoch at which EL2N is taken, not after the first drop of the learning rate
moments: list = [0, 1, 2, 4, 8, 12]  # epochs at which scores are taken for pruning
networks: int = 10  # trainings averaged in a score
initializations: int = 100  # untrained networks for the experiment on averaging, in sets of the number above, at least two
seeds: int = 5  # retrainings of every pruned set; in "How early?" and "How much?" each on another draw of the rows
kept: list = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9]  # shares of the training rows kept
kept_convolutional: list = [0.5, 0.8]  # the same for the convolutional network
averaged: list = [1, 2, 5, 10]  # runs behind a score in the experiment on averaging
noise_levels: list = [0.1, 0.2]  # shares of the labels that are permuted
widths: list = [0.4, 0.5]  # shares of the rows in a sliding window, the paper's main one first
left_out: list = [0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6]  # highest scores left out by a window
groups: int = 20  # positions along the score axis for kernel velocity
group_size: int = 100  # examples in each
velocity_epochs: list = [1, 2, 4, 8]  # epochs after which velocity is taken
spawn: list = [0, 1, 2, 3, 4, 6, 9]  # epochs at which children leave their parent
spawn_judged: list = [0, 4, 6]  # of these, the early, the middle and the late one
subset: int = 1000  # examples on which error barriers are measured
n_memorization: int = 2000  # rows of notebook 03, on which memorization is estimated
memorization_architecture: str = "mlp-128"  # its network
memorization_lr: float = 0.1  # and its learning rate
trials: int = 1024  # its networks, each on a random 70% of these rows
sizes: list = [1000, 2000, 4000, 8000]  # training rows in the last experiment
rates: list = [0.01, 0.03, 0.1]  # learning rates in the last experiment
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, noise, ties, bootstrap

# %% [markdown]
# ## What we test
#
# The paper scores an example by the size of its gradient (GraNd) or of its error (EL2N), early in training and averaged over several runs, and keeps the high scores. The claims, what was published, and what we will call a success, written down before the run:

# %%
import dataclasses
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from experiments import dynamics, pruning
from lib import plots, rankings, statistics
from lib.data import datasets, noise
from lib.ledger import Ledger
from lib.networks import models
from lib.scores import definitions
from lib.scores.data_diet import el2n, forgetting, grand
from lib.scores.memorization import high_influence_pairs, memorization, subsets
from lib.store import Store
from lib.training import ensemble, retraining, Recipe, Record, Run, Start

plots.style()
ledger, store = Ledger("05", profile), Store(profile=profile)
ledger.criteria()

# %% [markdown]
# ## Data
#
# As in the paper, each channel is centred at its mean over the training set and divided by its standard deviation. Labels are made noisy by permuting those of a random share of the examples among themselves, which leaves the class counts as they were.

# %%
pictures = datasets.load(dataset, n_train=n, n_test=n_test, seed=seed)
channel = {"dim": (0, 2, 3), "keepdim": True}
mean, spread = pictures.x_train.mean(**channel), pictures.x_train.std(**channel)
images = dataclasses.replace(pictures, x_train=(pictures.x_train - mean) / spread, x_test=(pictures.x_test - mean) / spread)
x, y, k = images.x_train, images.y_train, len(images.classes)

# %% [markdown]
# The labels, right and permuted, and ten pictures of each class:

# %%
labels = {0.0: y} | {level: noise.permuted_noise(y, level, seed=seed)[0] for level in noise_levels}
named = {level: f"{level:.0%} noise" if level else "clean" for level in labels}
fig = plots.pictures(pictures.x_train[torch.cat([torch.nonzero(y == c).flatten()[:10] for c in range(k)])], titles=images.classes, size=0.5)
plots.save(fig, "05_data", profile)
print(pictures, {named[level]: f"{(noisy != y).float().mean():.1%} of the labels wrong" for level, noisy in labels.items()})

# %% [markdown]
# ## Method
#
# With $p(w,x)$ the softmax of the outputs and $\ell$ the cross-entropy,
#
# $$ \mathrm{GraNd}_t(x,y)=\mathbb E_{w_t}\bigl\|\nabla_w\,\ell(p(w_t,x),y)\bigr\|_2,\qquad \mathrm{EL2N}_t(x,y)=\mathbb E_{w_t}\bigl\|p(w_t,x)-y\bigr\|_2, $$
#
# the expectation being over runs: initial weights and the order of batches. Why the gradient? In a step of SGD the loss at any $(x',y')$ changes by $-\eta\,\nabla\ell(x')^\top\sum_j\nabla\ell(x_j)$, so leaving $x_j$ out of the batch changes this by at most $\eta\,\|\nabla\ell(x')\|\,\|\nabla\ell(x_j)\|$ (Lemma 2.2): whatever the other example, a small gradient cannot matter much *in this step*. Why the error? The gradient is $\sum_c (p_c-y_c)\,\nabla_w f_c(x)$; if the logits' gradients are about orthogonal and of equal length for all examples, only the error is left.
#
# Read literally, GraNd is one backward pass an example:

# %%
print(inspect.getsource(definitions.gradients), inspect.getsource(definitions.grand), sep="\n")

# %% [markdown]
# The library never writes a gradient out. In a dense layer with inputs $a$ and backpropagated signals $\delta$ the gradient of one example is $\delta a^\top$, with norm $\|\delta\|\|a\|$ (and $\|\delta\|$ for the bias): one backward pass for all examples gives every norm. A convolution sums such products over positions, and its norm follows from two small Gram matrices ("ghost norms"). Both ways, in double precision, for a dense network and a convolutional one:

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
# ## Watching networks train
#
# The recipe is the paper's with a smaller learning rate: SGD with Nesterov momentum .9, decay 5·10⁻⁴, the learning rate divided by 5 after 30, 60 and 80% of the epochs. Ten networks make a score; ten more, with seeds of their own, are held out to see how well scores repeat; and ten are trained under each level of noise. We keep the errors and weights at some epochs, and at each visit of an example to a batch whether the network was right about it, before the step: that is what forgetting counts (Toneva et al. 2019).

# %%
model = models.by_name(architecture, shape=tuple(x.shape[1:]), classes=k)
schedule = {"schedule": "step", "milestones": tuple(round(epochs * part) for part in (0.3, 0.6, 0.8)), "gamma": 0.2}
common = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "augment": augment or None, **schedule}
recipe = Recipe(lr=lr, batch_size=batch_size, epochs=epochs, **common)
steps = epochs * -(-n // batch_size)
errors_at = tuple(sorted({*moments, *velocity_epochs, early}))
weights_at = tuple(sorted({*moments, *velocity_epochs, *(epoch + 1 for epoch in velocity_epochs), *spawn}))
record = Record(visits=True, correct="epoch", errors_at=errors_at, checkpoints_at=weights_at, parameters=False)

# %% [markdown]
# One ensemble: the clean networks, the held-out ones, then those under noise.

# %%
runs = {0.0: slice(0, networks)} | {level: slice((i + 2) * networks, (i + 3) * networks) for i, level in enumerate(noise_levels)}
held_out = slice(networks, 2 * networks)
given = torch.stack([y, y, *(labels[level] for level in noise_levels)]).repeat_interleave(networks, 0)
numbers = [*range(2 * networks), *list(range(networks)) * len(noise_levels)]
engine = Run(device=device, store=store)
watched = ensemble.train(model, (x, y, images.x_test, images.y_test), recipe, numbers, labels=given, record=record, run=engine)
fitted = {named[level]: [f"{float(part[own].mean()):.3f}" for part in (watched.accuracy_train, watched.accuracy_test)] for level, own in runs.items()}
print(f"{len(given)} networks of {steps:,} steps")
pd.DataFrame(fitted, index=["fits of its labels", "right on test"])

# %% [markdown]
# Scores, per run (the means over runs come later, so that we can look at what averaging does):

# %%
def weights(epoch, own):
    return {name: value[own] for name, value in watched.checkpoints[epoch].items()}

per_run = {
    "GraNd": lambda epoch, level=0.0, own=None: grand(model, weights(epoch, own or runs[level]), x, labels[level], device=device),
    "EL2N": lambda epoch, level=0.0, own=None: el2n(watched.errors[epoch][own or runs[level]]),
    "forgetting": lambda epoch, level=0.0, own=None: forgetting(watched.correct_visits[own or runs[level], :epoch]),
}
score = lambda name, epoch, level=0.0: per_run[name](epoch, level).mean(0)
norm = x.flatten(1).norm(dim=1)  # of the normalized input

# %% [markdown]
# ## How early?
#
# Half of the rows are kept, those with the highest scores, the scores being taken at different epochs. The pruned sets are trained for as many steps as the full one, with new seeds. Random halves are the reference. Forgetting needs two visits at least. Another team would have other training rows, other initial weights and other test rows. So here and in the next section each repetition draws its training rows anew and scores them anew, and intervals are over repetitions and test rows at once. The first draw is the one above; the others are watched like it:

# %%
def watch(part):
    """Ten networks on other training rows, for their scores."""
    kept_of = Record(visits=True, errors_at=tuple(sorted({*moments, early})), checkpoints_at=tuple(moments), parameters=False)
    return ensemble.train(model, (part.x_train, part.y_train), recipe, range(networks), record=kept_of, run=engine)

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

# %% [markdown]
# **Predict.** Before the first step a network knows nothing about clothes. Will the half with the largest gradients at that moment train a better network than a random half, or a worse one? And after how many epochs will the chosen half be worth as much as all rows?

# %%
def half_plans(i):
    rows = len(draws[i].y_train)
    plans = {("random", -1): pruning.random_subsets(rows, 0.5, [i]), ("full data", -1): torch.ones(rows, dtype=torch.bool)}
    for name, epoch in [(name, epoch) for name in per_run for epoch in moments if epoch >= 2 or name != "forgetting"]:
        plans[name, epoch] = pruning.prune(score_on(i, name, epoch), 0.5, drop="lowest", seed=seed)
    return plans

fixed = dataclasses.replace(recipe, epochs=None, iterations=steps)
settings = {"recipe": fixed, "seeds": range(100, 100 + seeds), "run": engine}

def on_draws(plans, columns):
    each = [pruning.retrain_pruned(model, part, plans(i), columns=columns, **settings | {"seeds": [100 + i]}) for i, part in enumerate(draws)]
    return pd.concat(each, ignore_index=True)

halved = on_draws(half_plans, ("score", "epoch"))

# %% [markdown]
# Test accuracy with 95% bands over trainings alone, here and in all figures of this kind.

# %%
def half_figure(ax, table, names, epochs_shown):
    place = {epoch: i for i, epoch in enumerate(epochs_shown)}
    for name in names:
        part = table[table.score == name]
        plots.band(ax, part.assign(place=part.epoch.map(place)), "place", "accuracy", name)
    for name, text in (("full data", "all rows"), ("random", "random half")):
        level = table[table.score == name].accuracy
        plots.reference(ax, level.mean(), text, interval=statistics.t_interval(level.to_numpy()))
    ax.set_xticks(range(len(epochs_shown)), epochs_shown)
    ax.set(xlabel="epoch at which the score is taken (not to scale)", ylabel="test accuracy")


# %% [markdown]
# Three scores at six moments:

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 3.8))
for ax, first in zip(axes, (0, 1), strict=True):
    half_figure(ax, halved[(halved.epoch < 0) | (halved.epoch >= first)], per_run, [epoch for epoch in moments if epoch >= first])
axes[1].set(title="the same without the initialization")
axes[0].legend(loc="lower right")
plots.save(fig, "05_epochs", profile);

# %% [markdown]
# Before the first step both scores choose far worse than chance. One epoch later they are level with it, and after two, at a sixth of the training, the half that either of them chooses is worth as much as all rows. From the fourth epoch on it is worth more, and EL2N and GraNd cannot be told apart. Forgetting, even counted over the whole training, brings a little over half of their gain.
#
# The comparison that is judged, EL2N after some epochs with EL2N before the first, its interval over repetitions (initializations and training rows) and test rows; and all scores against random halves:

# %%
compare = lambda table, better, than, by: 100 * pruning.gain(table, better, than, by=by)
over_both = lambda points: (points.mean(), statistics.crossed_interval(points))  # (repetitions, test rows)
late = pruning.points(halved, {"score": "EL2N"}, {"score": "EL2N", "epoch": 0}, by="epoch")
value, interval = statistics.apart({f"epoch {epoch}": over_both(points) for epoch, points in late.items() if epoch > 0})
ledger.record("dd.prune_early.moment", value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "rows", "test rows"])
chance = pd.DataFrame({name: compare(halved, {"score": name}, {"score": "random"}, "epoch").mean(axis=1) for name in per_run})
chance.style.format("{:+.1f}", na_rep="–").set_caption("half of the rows, against random halves: percentage points, by epoch")

# %% [markdown]
# Why is EL2N at initialization so poor? An untrained network favours some classes by chance, and the error is the larger, the less it favours the example's class. So the score ranks classes. The rows that it keeps of each:

# %%
blind = pruning.prune(score("EL2N", 0), 0.5, drop="lowest", seed=seed)
print({name: int(count) for name, count in zip(images.classes, torch.bincount(y[blind], minlength=k), strict=True)})

# %% [markdown]
# ## How much?
#
# Now all fractions, with each score where the paper takes it: GraNd at initialization, EL2N early, forgetting at the end. The norm of the input stands beside GraNd for the later work's sake.
#
# **Predict.** With a tenth of the rows left, which network is right more often, the one that was trained on the hardest or the one that was trained on random ones, and by how many points?

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
# Left: test accuracy. Right: the same as gain over random choice, paired by seed, where the differences can be seen.

# %%
def fraction_figure(axes, table, names, lowest=0.4):
    for name in ["random", *names]:
        plots.band(axes[0], table[table.score == name], "keep", "accuracy", name)
    for name in names:
        gained = compare(table, {"score": name}, {"score": "random"}, "keep").query(f"keep >= {lowest}")
        plots.band(axes[1], gained.melt(ignore_index=False, value_name="points").reset_index(), "keep", "points", name)
    whole = table[table.score == "full data"].accuracy.to_numpy()
    plots.reference(axes[0], whole.mean(), "all rows", interval=statistics.t_interval(whole))
    plots.reference(axes[1], 0, "random")
    axes[0].set(xlabel="share of the rows kept", ylabel="test accuracy")
    axes[1].set(xlabel="share of the rows kept", ylabel="gain over random (points)")


# %% [markdown]
# All four choices:

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 4))
fraction_figure(axes, pruned, chosen)
axes[0].legend(loc="lower right")
plots.save(fig, "05_pruning", profile);

# %% [markdown]
# The comparisons that the claims make:

# %%
by_share = lambda better, than: {f"drop {1 - share:.0%}": points for share, points in pruning.points(pruned, {"score": better}, {"score": than}, by="keep").items()}
sides = {
    "dd.prune_early": ("EL2N", "random"), "dd.prune_early.full": ("EL2N", "full data"),
    "dd.prune_early.forgetting": ("EL2N", "forgetting"), "dd.grand_init": ("GraNd", "random"),
}
rows = {claim: by_share(*pair) for claim, pair in sides.items()}
rows |= {"GraNd − input norm (not judged)": by_share("GraNd", "input norm")}

# %% [markdown]
# Recorded with the interval over repetitions and test rows; the table has the means. GraNd is set beside the norm of the input too, which no claim asks for.

# %%
recorded = {}
for claim in sides:
    value, interval = statistics.apart({drop: over_both(points) for drop, points in rows[claim].items()})
    recorded[claim] = {"value": value, "interval": interval, "n": seeds, "note": f"{architecture}, {n:,} rows, {steps:,} steps"}
    ledger.record(claim, **recorded[claim], covers=["initializations", "rows", "test rows"])
pd.DataFrame({name: {drop: points.mean() for drop, points in part.items()} for name, part in rows.items()}).T.style.format("{:+.2f}").set_caption("percentage points")

# %% [markdown]
# How many repetitions and test rows would show half a point? From the components of variance of this run, the test rows that so many repetitions need for an interval of ±½ (–: more than a million would not do):

# %%
needed = {drop: statistics.samples_needed(points, 0.5, replicates=(5, 10, 20)) for drop, points in rows["dd.prune_early"].items()}
pd.DataFrame(needed).T.rename_axis(columns="repetitions").style.format("{:,.0f}", na_rep="–").set_caption("EL2N − random: test rows needed")

# %% [markdown]
# Down to half of the rows EL2N's choice does not merely keep the accuracy of all rows, it gains half a point, and 1.8 points on random halves. At 60% dropped the gain is gone, and with a tenth of the rows left the network is right on fewer than one picture in five: the hardest examples alone do not say what the classes are. The paper sees the same sharp drop, with its many more rows further to the left. Forgetting over the whole training is a little behind at half and a point ahead at 60% dropped, more than the half point that our criterion forgives.
#
# GraNd at initialization loses to random choice at every fraction, by two points when a fifth is dropped and by six at half. The norm of the input draws nearly the same curve.
#
# ### What GraNd at initialization measures
#
# In a network of one hidden layer, at initialization the softmax is near uniform, so all errors have nearly the same length, and what is left of the gradient's norm is the length of the hidden features, which is that of the input up to a factor. The later paper found the same for ResNet-18. For a convolutional network we need no training: this is initialization.
#
# **Predict.** How near 1 will the rank correlation of GraNd with the norm of the input be in the fully connected network, and how near in the convolutional one, whose weights look at small patches?

# %%
reduced = datasets.load(dataset, n_train=n_convolutional, n_test=n_test, seed=seed)
fewer = dataclasses.replace(reduced, x_train=(reduced.x_train - mean) / spread, x_test=(reduced.x_test - mean) / spread)
cnn = models.by_name(convolutional, shape=tuple(x.shape[1:]), classes=k)

def at_initialization(net, x, y):
    """GraNd of whole sets of networks before their first step, (runs, n)."""
    count = networks * max(2, initializations // networks)
    born = [{name: value.clone() for name, value in models.initialize(net, i).state_dict().items()} for i in range(count)]
    return grand(net, {name: torch.stack([state[name] for state in born]) for name in born[0]}, x, y, device=device)

# %% [markdown]
# Each point is an example: its GraNd at initialization, the mean over networks, against the norm of its normalized input.

# %%
grand_cnn = at_initialization(cnn, fewer.x_train, fewer.y_train)
pairs = {
    "fully connected": (per_run["GraNd"](0).mean(0), norm),
    "convolutional": (grand_cnn[:networks].mean(0), fewer.x_train.flatten(1).norm(dim=1)),
}
found = {name: statistics.spearman(*pair, seed=seed) for name, pair in pairs.items()}
value, interval = statistics.apart(found)
ledger.record("dd.grand_init.norm", value, interval=interval, n=n, note=f"{architecture}; {convolutional} on {n_convolutional:,} rows", covers=["rows"])

# %% [markdown]
# The two clouds, darker where there are more examples:

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, (name, (ours, length)) in zip(axes, pairs.items(), strict=True):
    ax.hexbin(length, ours, gridsize=60, norm="log", vmin=0.3, cmap="Greys", mincnt=1)
    ax.set(xlabel="norm of the input", ylabel="GraNd at initialization", title=f"{name}: Spearman {value[name]:.2f}")
plots.save(fig, "05_grand_norm", profile);

# %% [markdown]
# Our data take the later paper's side. In the fully connected network GraNd at initialization ranks examples as the norm of the input does (Spearman .996), in the LeNet nearly so (.89, a hair below the .9 that we had set). And it does not choose better than chance, but worse, and by more than on CIFAR-10 (there 90.0 against 91.4 at half): the norm of a picture of clothing is how dark it is, so the half that is kept has hardly a light shirt in it. The later paper traces the published advantage to a bug in restoring checkpoints.
#
# ## How many runs?
#
# The paper averages each score over ten runs and finds one run's GraNd at initialization correlated by .75 with that mean. A run is part of its own mean, which flatters it; the held-out networks do not have this fault.
#
# **Predict.** For which of three will one run agree least with the mean of ten: GraNd or EL2N in the fully connected network, or GraNd in the convolutional one? And where a single run ranks nearly as ten do, will it choose the half as well?

# %%
repeated = {
    "GraNd": (per_run["GraNd"](0), per_run["GraNd"](0, own=held_out)),
    "EL2N": (per_run["EL2N"](early), per_run["EL2N"](early, own=held_out)),
    "GraNd, convolutional": (grand_cnn[:networks], grand_cnn[networks : 2 * networks]),
}
agreement = {name: rankings.agreement(*both) for name, both in repeated.items()}

# %% [markdown]
# And what the choice of half the rows is worth with scores from so many runs; each seed takes other runs.

# %%
half = lambda scores: torch.stack([pruning.prune(one, 0.5, drop="lowest", seed=seed) for one in scores])
plans = {(name, m): half(rankings.rolling_means(repeated[name][0], m)) for name in ("GraNd", "EL2N") for m in averaged}
plans["random", 0] = pruning.random_subsets(n, 0.5, range(networks))
many = settings | {"seeds": range(200, 200 + networks)}
means = pruning.retrain_pruned(model, images, plans, columns=("score", "runs"), **many)

# %% [markdown]
# Left: solid, with the mean of all ten; dashed, with the mean of ten other runs. Right: accuracy with half of the rows.

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 3.8))
for name, table in agreement.items():
    shape = {"color": plots.LOOK["random"][0], "marker": "D"} if name not in plots.LOOK else {}
    plots.band(axes[0], table, "runs", "own", name, linestyle="-", **shape)
    plots.band(axes[0], table, "runs", "others", name, linestyle="--", mfc="white", **{"label": None} | shape)
for name in ("GraNd", "EL2N"):
    plots.band(axes[1], means[means.score == name], "runs", "accuracy", name)
level = means[means.score == "random"].accuracy.to_numpy()
plots.reference(axes[1], level.mean(), "random half", interval=statistics.t_interval(level))
axes[0].set(xlabel="runs averaged", ylabel="Spearman with the mean of all runs")
axes[1].set(xlabel="runs averaged", ylabel="test accuracy")
axes[0].legend(loc="lower right")
plots.save(fig, "05_averaging", profile);

# %% [markdown]
# Runs that share a mean are not independent. But initializations cost no training, so we take many more, in sets of as many runs: each set gives one mean agreement, and the interval is over sets.

# %%
untrained = {"fully connected": at_initialization(model, x, y), "convolutional": grand_cnn}

def single_run(per_run):
    """Spearman of one run with the mean of its set, and with that of another set: the mean over runs, a row a set."""
    sets = per_run.split(networks)
    both = [rankings.agreement(*pair).query("runs == 1") for pair in zip(sets, (*sets[1:], sets[0]), strict=True)]
    return pd.DataFrame([part[["own", "others"]].mean() for part in both])

by_set = {name: single_run(per_run) for name, per_run in untrained.items()}
value, interval = statistics.apart({name: (part.own.mean(), statistics.t_interval(part.own)) for name, part in by_set.items()})
note = f"sets of {networks}; with another set's mean: " + ", ".join(f"{name} {part.others.mean():.2f}" for name, part in by_set.items())
ledger.record("dd.average", value, interval=interval, n=len(by_set["convolutional"]), note=note, covers=["initializations"])

# %% [markdown]
# Accuracy, paired by seed, the interval over seeds and test rows (the training rows are one draw); and the curves on the left as a table.

# %%
gains = {name: pruning.points(means, {"score": name, "runs": networks}, {"score": name, "runs": 1}, by="score")[name] for name in ("GraNd", "EL2N")}
value, interval = statistics.apart({name: over_both(points) for name, points in gains.items()})
ledger.record("dd.average.accuracy", value, interval=interval, n=networks, note="paired by seed", covers=["initializations", "test rows"])
table = pd.DataFrame({name: rows.groupby("runs")[["own", "others"]].mean().stack() for name, rows in agreement.items()})  # noqa: PD013
table.unstack().loc[[1, 2, 5, networks] if networks >= 5 else [1, networks]].style.format("{:.3f}").set_caption("Spearman, by runs averaged")

# %% [markdown]
# In the fully connected network one run knows the ranks: Spearman .95 for GraNd and .96 for EL2N with the mean of ten, hardly less with ten *other* runs. In the LeNet, over ten sets of ten initializations, it is .73 for GraNd, and .69 with another set's mean, close to the published .75. So "one run is not enough" depends on the network; initializations of a convolutional one differ more.
#
# But the right panel warns against reading much into a rank correlation: the half that a single run's EL2N chooses is no better than a random half, in spite of its .96, while the mean of ten is 1.7 points better. What matters is who is near the border, and a run's own accidents decide that. Two runs bring most of the gain, five nearly all.
#
# ## Which window?
#
# Sort by score, leave out some of the highest, keep a window of fixed width below them, drop the rest. With right labels, and with 10% and 20% of the labels permuted (scores and trainings both see the noisy labels; the test labels are right).
#
# **Predict.** At 10% noise, will the best window leave out a tenth of the examples, more, or fewer? And with right labels, any at all?

# %%
def slide(level):
    plans = {("random", width, 0.0): pruning.random_subsets(n, width, range(seeds)) for width in widths}
    for name, epoch, width in [("EL2N", early, width) for width in widths] + [("GraNd", 0, widths[0])]:
        values, places = score(name, epoch, level), [out for out in left_out if out <= 1 - width + 1e-9]
        plans |= {(name, width, out): pruning.window(values, width, max(0, 1 - width - out), seed=seed) for out in places}
    return pruning.retrain_pruned(model, images, plans, columns=("score", "width", "out"), labels=labels[level], **settings)

slid = pd.concat([slide(level).assign(level=level) for level in labels], ignore_index=True)

# %% [markdown]
# The share left out at the top runs from left (the hardest examples kept) to right (the easiest kept).

# %%
def window_panel(ax, level):
    here = slid[(slid.level == level) & (slid.width == widths[0])]
    for name in ("EL2N", "GraNd"):
        plots.band(ax, here[here.score == name], "out", "accuracy", name, label=f"{name}, {widths[0]:.0%} kept")
    for width in widths[1:]:
        part = slid[(slid.level == level) & (slid.width == width) & (slid.score == "EL2N")]
        plots.band(ax, part, "out", "accuracy", "EL2N", label=f"EL2N, {width:.0%} kept", linestyle="-", mfc="white", alpha=0.6)
    chance = here[here.score == "random"].accuracy.to_numpy()
    plots.reference(ax, chance.mean(), f"random {widths[0]:.0%}", interval=statistics.t_interval(chance))
    ax.axvline((labels[level] != y).float().mean(), lw=0.8, ls=":", color="0.3")

# %% [markdown]
# The upper row has everything, the lower one the part above the worst random set. Dotted: the share of labels that are wrong.

# %%
fig, axes = plt.subplots(2, len(labels), figsize=(4.4 * len(labels), 6), sharex=True, sharey="row")
for column, level in zip(axes.T, labels, strict=True):
    for ax in column:
        window_panel(ax, level)
    column[0].set(title=named[level])
    column[1].set(xlabel="highest scores left out (share)")
close = slid[(slid.score == "random") & (slid.width == widths[0])].accuracy.min() - 0.02, slid.accuracy.max() + 0.005
axes[1, 0].set(ylim=close, ylabel="test accuracy")
axes[0, 0].set(ylabel="test accuracy")
axes[0, -1].legend(fontsize=8, loc="lower right")
plots.save(fig, "05_window", profile);

# %% [markdown]
# The best window was found by looking, so its lead over the window at the top is too large by luck. We train both again, with seeds that had no part in the choice. Intervals are over seeds and test rows; in this section the training rows, and which of their labels are wrong, are one draw.

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

# %% [markdown]
# Recorded with, for each seed on its own, how much its best window leaves out; and GraNd's highest against random.

# %%
note = "left out by the best window: " + ", ".join(f"{name} {best:.0%}" for name, (*_, best) in leads.items())
value, interval = statistics.apart({name: lead[:2] for name, lead in leads.items()})
ledger.record("dd.window", value, interval=interval, n=networks, note=note, covers=["initializations", "test rows"])

# %% [markdown]
# For each seed on its own, how much its best window leaves out, with the interval over seeds alone:

# %%
own_best = {named[level]: curve(level).idxmax().to_numpy() for level in labels}
value, interval = statistics.apart({name: (best.mean(), statistics.t_interval(best)) for name, best in own_best.items()})
ledger.record("dd.window.shift", value, interval=interval, n=seeds, covers=["initializations"])

# %% [markdown]
# GraNd at initialization against random choice, and all of it in a table:

# %%
def grand_behind(level):
    here = slid[(slid.level == level) & (slid.width == widths[0]) & (slid.out == 0.0)]
    return pruning.points(here, {"score": "random"}, {"score": "GraNd"}, by="width")[widths[0]]

behind = {named[level]: grand_behind(level) for level in labels}
noisy, interval = over_both(behind[named[noise_levels[0]]])
note = "; ".join(f"{name} {points.mean():+.1f} points" for name, points in behind.items())
ledger.record("dd.window.grand", noisy, interval=interval, n=seeds, note=note, covers=["initializations", "test rows"])
rows = {name: [f"{lead:+.2f}", "[{:+.2f}, {:+.2f}]".format(*ends), f"{best:.0%}"] for name, (lead, ends, best) in leads.items()}
for width in widths[1:]:
    for level in labels:
        rows[named[level]].append(f"{curve(level, width=width).mean(axis=1).idxmax():.0%}")
others = [f"the same, {width:.0%} kept" for width in widths[1:]]
pd.DataFrame(rows, index=["best − top window (points)", "95%", "left out by the best", *others]).T

# %% [markdown]
# The best window of 40% leaves out the top 2% with right labels (the paper: 1% of CIFAR-10), and 10% and 20% under noise, where 9% and 18% of the labels are wrong: all of these, and a little more. The lead over the window at the top is 2.3 points when labels are right. Under noise it is 38 and 58 points, because the window at the top is then made of wrong labels for a good part. With 50% kept and right labels nothing is left out, as in the paper's appendix E.1: whoever has enough room can afford the odd ones.
#
# GraNd at initialization is behind random choice under noise, as published. But it is also behind without noise, which is against the paper, so it is not the noise that breaks it. It does not see labels at all, as the next section shows.
#
# ## What happens to the score of a wrong label?
#
# At the first noise level: EL2N of the examples with right and with wrong labels (left), and of the corrupted examples before and after their labels were permuted (right), that is by the networks that saw the true labels and by those that saw the noisy ones.
#
# **Predict.** For what share of the corrupted examples will EL2N rise? And at which epoch will it tell wrong labels from right ones best: before the first step, early, or at the end?

# %%
level = noise_levels[0]
wrong = labels[level] != y
before, after = score("EL2N", early), score("EL2N", early, level)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4))
plots.two_histograms(axes[0], after, wrong, "EL2N", ("right label", "wrong label"))
both = torch.cat([before[wrong], after[wrong]])
plots.two_histograms(axes[1], both, torch.arange(len(both)) >= int(wrong.sum()), "EL2N of the corrupted examples", ("before", "after"), bins=40)
plots.save(fig, "05_noise", profile);

# %% [markdown]
# How well EL2N tells wrong labels from right ones (the area under the ROC curve, AUROC), and for how many of the corrupted it rose:

# %%
auc, interval = statistics.auroc(after, wrong, seed=seed)
ledger.record("dd.noise_scores", auc, interval=interval, n=n, note=f"{int(wrong.sum())} wrong labels", covers=["rows"])
rose, interval = statistics.share((after > before)[wrong].numpy())
ledger.record("dd.noise_scores.before", rose, interval=interval, n=int(wrong.sum()), covers=["rows"])
print(f"AUROC {auc:.3f}; EL2N rose for {rose:.1%} of the corrupted examples")

# %% [markdown]
# The same for each score, level and epoch:

# %%
rows = {
    (name, epoch): {named[level]: statistics.auroc(score(name, epoch, level), labels[level] != y)[0] for level in noise_levels}
    for name in per_run for epoch in moments if epoch >= 2 or name != "forgetting"
}
pd.DataFrame(rows).T.unstack(0).style.format("{:.3f}", na_rep="–").set_caption("AUROC of wrong against right labels, by epoch")

# %% [markdown]
# A wrong label raises EL2N for 97% of the examples that get one, and EL2N tells wrong from right labels almost perfectly, from the first epoch on (AUROC .98): long before the networks could have learned the wrong ones, which is why it works. GraNd at initialization is at .50, chance: all errors have the same length then, whatever the label. Forgetting, which must wait, does slightly less well.
#
# ## Where the kernel moves
#
# The data-dependent tangent kernel of some examples is the Gram matrix $K=\Psi\Psi^\top$ of the gradients of their logits; its velocity is the cosine distance between $K$ at the ends of two successive epochs. If the network were linear in its weights it would be 0. We take 100 examples next to each other in EL2N at twenty places along the axis, scores and kernels at the same epoch.
#
# **Predict.** Where along the score axis does the kernel move fastest, at the easy end, in the middle or at the hard end? And where once the hard end is full of wrong labels?

# %%
def velocities(level, epoch):
    order = score("EL2N", epoch, level).argsort()
    now, then = weights(epoch, runs[level]), weights(epoch + 1, runs[level])
    sets = [order[at : at + group_size] for at in torch.linspace(0, n - group_size, groups).long()]
    return torch.stack([dynamics.kernel_velocity(model, now, then, x[rows], device=device) for rows in sets])

levels = [0.0, noise_levels[0]]
velocity = {level: torch.stack([velocities(level, epoch) for epoch in velocity_epochs]) for level in levels}  # (epochs, groups, networks)

# %% [markdown]
# One line an epoch, bands over networks.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
place = np.linspace(0, 1, groups)
for ax, level in zip(axes, levels, strict=True):
    for epoch, values, colour, marker in zip(velocity_epochs, velocity[level], plt.get_cmap("viridis")(np.linspace(0, 0.85, len(velocity_epochs))), "osD^v", strict=False):
        rows = pd.DataFrame(values.numpy(), index=place).melt(ignore_index=False, value_name="velocity").reset_index(names="place")
        plots.band(ax, rows, "place", "velocity", f"epoch {epoch}", color=colour, marker=marker)
    ax.set(xlabel="EL2N, lowest to highest (rank)", title=named[level])
axes[0].set(ylabel="kernel velocity (1 epoch)")
axes[1].legend(title="after")
plots.save(fig, "05_velocity", profile);

# %% [markdown]
# Averaged over these epochs, network by network. The fastest group is chosen on the other networks, since a maximum over noisy values is too high.

# %%
def drop_at_top(speed):  # (groups, networks) → per network, fastest group of the others − top group
    chosen = [(speed.sum(1) - speed[:, j]).argmax() for j in range(speed.shape[1])]
    return np.array([float(speed[g, j] - speed[-1, j]) for j, g in enumerate(chosen)])


# %% [markdown]
# The trend, network by network:

# %%
speed = {level: values.mean(0) for level, values in velocity.items()}
clean = speed[0.0].numpy()
rho = statistics.spearman_r(np.broadcast_to(np.arange(groups), clean.T.shape), clean.T)
low, high = statistics.t_interval(rho)
ends = clean[-1] - clean[0]
value, interval = {"trend": rho.mean(), "ends": ends.mean()}, {"trend": (low, min(1.0, high)), "ends": statistics.t_interval(ends)}
ledger.record("dd.velocity", value, interval=interval, n=networks, note=f"{groups} groups, epochs {velocity_epochs}", covers=["initializations"])

# %% [markdown]
# And the drop at the top, with wrong labels and without:

# %%
fall = {level: drop_at_top(values) for level, values in speed.items()}
note = "without noise {:+.4f} [{:+.4f}, {:+.4f}]".format(fall[0.0].mean(), *statistics.t_interval(fall[0.0]))
ledger.record("dd.velocity.noise", fall[levels[1]].mean(), interval=statistics.t_interval(fall[levels[1]]), n=networks, note=note, covers=["initializations"])
print(f"Spearman with the score {rho.mean():.2f}; drop at the top: {fall[levels[1]].mean():.4f} with noise, {note}")

# %% [markdown]
# Velocity rises along the score axis at each epoch (Spearman .95), up to about the 90th percentile, and drops at the very top. Under noise, where the top group is all wrong labels, it drops by a half. A small drop is there without noise as well, five thousandths with an interval clear of zero: this training set has ambiguous and odd labels of its own. Networks move where they can still learn something, not where nothing can be learned. The later epochs are slower because the learning rate has dropped.
#
# ## When do two networks end in one valley?
#
# A parent is copied at some epoch, and two children train on to the end with different batches. If the error along the straight line between them stays below the line between their errors, they ended in one linearly connected valley. The barrier is how far it rises above, measured on the examples with the lowest, the highest and random scores.
#
# **Predict.** For children that part at the very start, on which examples will the error rise between them, and by how many points? And until which epoch of parting will the barrier last?

# %%
parents = {epoch: weights(epoch, runs[0.0]) for epoch in spawn}
siblings = [range(5000, 5000 + networks), range(6000, 6000 + networks)]
grown = retraining.children(model, (x, y), recipe, siblings, parents=parents, run=engine)
order = score("EL2N", early).argsort()
some = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:subset]
tested = {"lowest EL2N": order[:subset], "random": some, "highest EL2N": order[-subset:]}

# %% [markdown]
# The three subsets together, on eleven points of each line:

# %%
def barriers(pair):
    rows = torch.cat(list(tested.values()))
    wrong = dynamics.errors_on_segment(model, *pair, x[rows], y[rows], device=device)
    return {name: dynamics.error_barrier(part) for name, part in zip(tested, wrong.split(subset, dim=2), strict=True)}

barrier = {epoch: barriers(pair) for epoch, pair in grown.items()}

# %% [markdown]
# How the barriers fall with the time of spawning, bands over pairs of children:

# %%
rows = [(epoch, name, run, 100 * float(v)) for epoch, by in barrier.items() for name, each in by.items() for run, v in enumerate(each)]
risen = pd.DataFrame(rows, columns=["epoch", "examples", "run", "points"])
fig, ax = plt.subplots(figsize=(6.5, 3.6))
for name, colour, mark in [("highest EL2N", "#d55e00", "^"), ("random", "#7f7f7f", "x"), ("lowest EL2N", "#0072b2", "v")]:
    plots.band(ax, risen[risen.examples == name], "epoch", "points", name, color=colour, marker=mark, linestyle={"random": ":"}.get(name, "-"))
plots.reference(ax, 0, "")
ax.set(xlabel=f"epoch at which the children leave (of {epochs})", ylabel="error barrier (points)")
ax.legend()
plots.save(fig, "05_barrier", profile);

# %% [markdown]
# At three moments of spawning:

# %%
when = dict(zip(["early", "middle", "late"], spawn_judged, strict=True))
higher = {name: (barrier[epoch]["highest EL2N"] - barrier[epoch]["lowest EL2N"]).numpy() for name, epoch in when.items()}
value, interval = statistics.apart({name: (gap.mean(), statistics.t_interval(gap)) for name, gap in higher.items()})
lowest = max(float(by["lowest EL2N"].max()) for by in barrier.values())
ledger.record("dd.barrier", value, interval=interval, n=networks, note=f"spawned at {list(when.values())}; on the lowest-scored at most {lowest:.3f}", covers=["initializations"])
risen.pivot_table(index="examples", columns="epoch", values="points").style.format("{:.2f}").set_caption("mean barrier, points of training error")

# %% [markdown]
# On the lowest-scored examples there is no barrier at all, whenever the children part. On the highest-scored it is 3.6 points of training error for children that part at the start, and falls fast; once the learning rate has dropped (epoch 4), two tenths of a point are left, and these stay to the end, small but with intervals above zero. So the order is the published one, and "lasting" is a matter of two examples in a thousand here: a small network with a small learning rate finds nearly one valley from the start.
#
# ## The extremes
#
# As in the paper, of each class the two examples with the lowest scores and the two with the highest, by GraNd at initialization and by early EL2N.
#
# **Predict.** At the top of which of the two will you see odd clothes, and what will the other one have there?

# %%
def extremes(values, share, drop):
    return [rows[pruning.prune(values[rows], share, drop=drop)] for rows in (torch.nonzero(y == c).flatten() for c in range(k))]

two = 2 / min(torch.bincount(y)).item()
for name in ("GraNd", "EL2N"):
    picked = [extremes(chosen[name], two, drop) for drop in ("highest", "lowest")]
    grid = torch.stack([torch.stack([rows[chosen[name][rows].argsort()][i] for rows in part]) for part in picked for i in (0, 1)])
    titles = ["lowest", "second lowest", "second highest", "highest"]
    captions = [""] * 3 * k + list(images.classes)
    fig = plots.pictures(pictures.x_train[grid.flatten()], captions, columns=k, titles=[f"{name}: {title}" for title in titles], size=0.66)
    plots.save(fig, f"05_extremes_{name.lower()}", profile)

# %% [markdown]
# A number for the pictures: which share of an example's ten nearest neighbours (by the angle between pixels) has its label, for the lowest-scored 5% of each class and for the highest-scored?

# %%
regular = rankings.label_agreement(pictures.x_train, y, k=10)
gap = lambda a, b, axis=-1: a.mean(axis) - b.mean(axis)
found, shares = {}, {}
for name in ("GraNd", "EL2N"):
    ends = [regular[torch.cat(extremes(chosen[name], 0.05, drop))].numpy() for drop in ("highest", "lowest")]
    found[name], shares[name] = (gap(*ends), statistics.bootstrap_interval(gap, *ends, seed=seed)), [part.mean() for part in ends]
value, interval = statistics.apart(found)
ledger.record("dd.examples", value, interval=interval, n=2 * len(ends[0]), covers=["rows"])
pd.DataFrame(shares, index=["lowest-scored", "highest-scored"]).style.format("{:.2f}").set_caption("neighbours with the same label")

# %% [markdown]
# EL2N's lowest are plain specimens. Its highest are T-shirts cut like dresses, dungarees among the trousers, a pullover with the sleeves of a T-shirt, a dressing gown among the coats, a boot among the sneakers. 97% and 25% of the neighbours share the label. GraNd at initialization sorts by darkness, light clothes first and black ones last, and neither end is more typical than the other.
#
# ## Other architectures
#
# The same with a deeper network, all fractions, and with a convolutional one on fewer rows at two fractions (a step of it costs ten times one of the others on a CPU). Each is pruned by its own scores.
#
# **Predict.** With half of the rows kept by EL2N, will the deeper network gain more on a random half than the one above, or less? And the convolutional one?

# %%
deep = models.by_name(deeper, shape=tuple(x.shape[1:]), classes=k)
seen = ensemble.train(
    deep, (x, y, images.x_test, images.y_test), recipe, range(networks),
    record=Record(visits=True, errors_at=(early,), checkpoints_at=(0,), parameters=False), run=engine
)  # fmt: skip
deep_scores = {
    "EL2N": el2n(seen.errors[early]).mean(0), "forgetting": forgetting(seen.correct_visits).mean(0),
    "GraNd": grand(deep, seen.checkpoints[0], x, y, device=device).mean(0),
}

# %% [markdown]
# The deeper network's retrainings, planned as the shallower one's were:

# %%
plans = {("full data", 1.0): torch.ones(n, dtype=torch.bool)}
for share in kept:
    plans["random", share] = pruning.random_subsets(n, share, range(seeds))
    plans |= {(name, share): pruning.prune(value, share, drop="lowest", seed=seed) for name, value in deep_scores.items()}
deeply = pruning.retrain_pruned(deep, images, plans, columns=("score", "keep"), **settings)

# %% [markdown]
# The convolutional network, its EL2N at the same epoch:

# %%
conv_recipe = dataclasses.replace(recipe, batch_size=convolutional_batch)
conv_steps = epochs * -(-n_convolutional // convolutional_batch)
seen = ensemble.train(
    cnn, (fewer.x_train, fewer.y_train), conv_recipe, range(seeds), start=Start(until=early),
    record=Record(errors_at=(early,), parameters=False), run=engine
)  # fmt: skip
conv_scores = {"EL2N": el2n(seen.errors[early]).mean(0), "GraNd": grand_cnn[:networks].mean(0)}

# %% [markdown]
# And its retrainings, at two fractions:

# %%
plans = {("full data", 1.0): torch.ones(n_convolutional, dtype=torch.bool)}
for share in kept_convolutional:
    plans["random", share] = pruning.random_subsets(n_convolutional, share, range(seeds))
    plans |= {(name, share): pruning.prune(value, share, drop="lowest", seed=seed) for name, value in conv_scores.items()}
conv_fixed = dataclasses.replace(conv_recipe, epochs=None, iterations=conv_steps)
convolved = pruning.retrain_pruned(cnn, fewer, plans, columns=("score", "keep"), **settings | {"recipe": conv_fixed})

# %% [markdown]
# The deeper network, as the shallower one before:

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 4))
fraction_figure(axes, deeply, deep_scores)
axes[0].legend(loc="lower right")
axes[0].set(title=deeper)
plots.save(fig, "05_deeper", profile)

# %% [markdown]
# Gains over random, with the networks side by side; intervals over trainings and test rows. The shallower one's trainings each have their own training rows, those of the other two share one draw:

# %%
tables = {"shallower": pruned, "deeper": deeply, "convolutional": convolved}
own = {name: pruning.points(table, {"score": "EL2N"}, {"score": "random"}, by="keep") for name, table in tables.items()}
value, interval = statistics.apart({name: over_both(points[0.5]) for name, points in own.items()})
ledger.record("dd.architectures", value, interval=interval, n=seeds, note=f"{architecture}, {deeper}, {convolutional} ({n_convolutional:,} rows)", covers=["initializations", "test rows"])
rows = {
    (name, score_name): compare(table, {"score": score_name}, {"score": "random"}, "keep").mean(axis=1).loc[kept_convolutional]
    for name, table in tables.items() for score_name in ("EL2N", "GraNd")
}
pd.DataFrame(rows).T.style.format("{:+.2f}").set_caption("gain over random, percentage points, by share kept")

# %% [markdown]
# **Is it us?** The paper's networks are deep and convolutional. What these do to GraNd at initialization goes into its verdict:

# %%
behind = {name: pruning.points(tables[name], {"score": "GraNd"}, {"score": "random"}, by="keep")[0.5].mean() for name in ("deeper", "convolutional")}
nearer = "half of the rows kept, " + ", ".join(f"{name} network {points:+.1f}" for name, points in behind.items())
ledger.record("dd.grand_init", **recorded["dd.grand_init"], covers=["initializations", "rows", "test rows"], moved=nearer)

# %% [markdown]
# Three hidden layers give the same picture as one: gains down to half of the rows, a fall below 40%, GraNd at initialization behind chance everywhere. The LeNet agrees when a fifth is dropped (+.8 points), and at half it loses four points to random choice. It has fewer rows, but that is not the reason (at 4,000 rows the fully connected network gains, see the last figure): in four epochs a LeNet with this recipe has learned less. In dry runs on other rows, scores from its eighth epoch chose better, and still not as well as chance. Where the break comes depends on the network; before it, all agree.
#
# ## Do the scores agree with each other?
#
# GraNd at initialization, early EL2N and forgetting over the whole training, as in the paper's Figure 12. All three are means over the same ten networks; the intervals are over networks and examples at once.
#
# **Predict.** Which of the three pairs will rank examples most alike, and which will have nothing to do with one another?

# %%
def rank_agreement(a, b):
    """Spearman with its interval, or nothing where a score is the same for all: of easy data none may be forgotten."""
    return statistics.spearman(a, b, seed=seed) if len(a.unique()) > 1 and len(b.unique()) > 1 else (None, None)

by_network = {name: per_run[name](epoch) for name, epoch in moment.items()}  # (networks, n)
named_pairs = {"GraNd and EL2N": ("GraNd", "EL2N"), "GraNd and forgetting": ("GraNd", "forgetting"), "EL2N and forgetting": ("EL2N", "forgetting")}
varied = lambda *names: all(len(chosen[name].unique()) > 1 for name in names)
found = {name: statistics.correlation_of_means(by_network[a], by_network[b], same_runs=True) if varied(a, b) else (None, None) for name, (a, b) in named_pairs.items()}
value, interval = statistics.apart(found)
ledger.record("dd.correlations", value, interval=interval, n=n, note="a score is the same for all examples" if None in value.values() else "", covers=["initializations", "rows"])

# %% [markdown]
# The three clouds:

# %%
axis = {"GraNd": "GraNd at initialization", "EL2N": f"EL2N at epoch {early}", "forgetting": f"forgetting over {epochs} epochs"}
fig, axes = plt.subplots(1, 3, figsize=(13, 3.6))
for ax, (name, (a, b)) in zip(axes, named_pairs.items(), strict=True):
    ax.hexbin(chosen[a], chosen[b], gridsize=50, norm="log", vmin=0.3, cmap="Greys", mincnt=1)
    ax.set(xlabel=axis[a], ylabel=axis[b], title="no ranks" if value[name] is None else f"Spearman {value[name]:.2f}")
plots.save(fig, "05_correlations", profile);

# %% [markdown]
# All pairs, with the norm of the input and GraNd at the epoch of EL2N beside, and both ways to count forgetting: at visits, which we use as the paper does, and at the ends of epochs.

# %%
every = chosen | {f"GraNd@{early}": score("GraNd", early), "forgetting, ends of epochs": forgetting(watched.correct_train[runs[0.0], 1:]).mean(0)}
pd.DataFrame({name: value.numpy() for name, value in every.items()}).corr("spearman").style.format("{:.2f}").set_caption("Spearman")

# %% [markdown]
# EL2N and forgetting rank alike (.81). GraNd at initialization has nothing to do with either (within .05 of zero), and everything with the norm of the input: again the later paper's finding. The approximation that leads from GraNd to EL2N, on the other hand, is as good as one could wish: at the fourth epoch the two have Spearman 1.00. Counting forgetting at visits or at the ends of epochs makes a small difference (.90).
#
# ## Hard and memorized: the same thing?
#
# Memorization (notebook 03) asks whether a label is got right only if it was seen. The paper compares EL2N with it on the 1,015 examples of CIFAR-100 whose values were published, which are those in high-influence pairs, all with memorization of at least .25. We estimate memorization on the rows of notebook 03, by its recipe and with the same subsets (its stored networks are used where it has run), compute EL2N on these rows, and compare both on the selected examples and on all.
#
# **Predict.** The selected examples were selected for their memorization. Will its rank correlation with EL2N be higher among them than over all rows, lower, or gone?

# %%
clothes = datasets.load(dataset, n_train=n_memorization, n_test=n_test, seed=seed)
mean_image, deviation = clothes.x_train.mean(0), clothes.x_train.std()
clothes = dataclasses.replace(clothes, x_train=(clothes.x_train - mean_image) / deviation, x_test=(clothes.x_test - mean_image) / deviation)
net = models.by_name(memorization_architecture, shape=tuple(x.shape[1:]), classes=k)
rising = Recipe(lr=memorization_lr, epochs=15, batch_size=100, momentum=0.9, schedule="warmup_linear")
sees = subsets(n_memorization, round(0.7 * n_memorization), trials, seed)
everything = clothes.x_train, clothes.y_train, clothes.x_test, clothes.y_test
subsampled = ensemble.train(net, everything, rising, range(trials), sees=sees, record=Record(parameters=False), run=engine)
whole = ensemble.train(net, everything[:2], rising, range(networks), record=Record(errors_at=(1, 2, 4, 8, 15), visits=True), run=engine)

# %% [markdown]
# The selected examples are the training side of the pairs of notebook 03's definition.

# %%
right, right_test = subsampled.correct_train[:, -1], subsampled.correct_test[:, -1]
mem = memorization(sees, right)
found = high_influence_pairs(sees, right, right_test, clothes.y_train, clothes.y_test)
selected = torch.zeros(n_memorization, dtype=torch.bool)
selected[torch.tensor(sorted(set(found.train)), dtype=torch.long)] = True

# %% [markdown]
# All examples, the selected ones marked:

# %%
errors = el2n(whole.errors[4]).mean(0)
fig, ax = plt.subplots(figsize=(5.6, 3.8))
ax.scatter(errors[~selected], mem.value[~selected], s=7, c="0.7", label="other examples")
ax.scatter(errors[selected], mem.value[selected], s=10, c="#d55e00", marker="^", label="in a high-influence pair")
ax.axhline(0.25, lw=0.8, ls=":", color="0.3")
ax.set(xlabel="EL2N at epoch 4", ylabel="memorization")
ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
plots.save(fig, "05_memorization", profile);

# %% [markdown]
# Spearman with memorization on both sets, for EL2N at several epochs and forgetting:

# %%
scores = {f"EL2N@{epoch}": el2n(e).mean(0) for epoch, e in whole.errors.items()} | {"forgetting": forgetting(whole.correct_visits).mean(0)}
sets = {"selected": selected, "memorization ≥ .25": mem.value >= 0.25, "all": torch.ones_like(selected)}
both = {name: {where: rank_agreement(value[rows], mem.value[rows]) for where, rows in sets.items()} for name, value in scores.items()}

# %% [markdown]
# The one that is judged, its interval over the networks behind EL2N and over examples (the networks behind memorization as they are), beside the band in which chance would put it:

# %%
value, interval = both["EL2N@4"]["selected"]
if value is None:
    shown, note = "", "too few examples are in high-influence pairs to rank them"
else:
    value, interval = statistics.correlation_of_means(el2n(whole.errors[4])[:, selected], mem.value[selected])
    band = statistics.permutation_band(statistics.spearman_r, errors[selected].numpy(), mem.value[selected].numpy(), seed=seed)
    note = "chance [{:.2f}, {:.2f}]; over all rows {:.2f}".format(*band, both["EL2N@4"]["all"][0])
    shown = f"EL2N@4 {value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]; "
other_moments = ", ".join(f"{name.replace('@', ' at epoch ')} {by['selected'][0]:.2f}" for name, by in both.items() if name not in ("EL2N@4", "forgetting") and by["selected"][0] is not None)
ledger.record("dd.memorization", value, interval=interval, n=int(selected.sum()), note=f"{trials:,} networks; {note}", covers=["rows"], moved=other_moments)
print(f"{int(selected.sum())} selected of {n_memorization:,}; {shown}{note}")
pd.DataFrame({name: statistics.apart(by)[0] for name, by in both.items()}).T.style.format("{:.2f}", na_rep="–").set_caption("Spearman with memorization")

# %% [markdown]
# Over all rows EL2N and memorization go together closely (.84). Among the selected examples this is weaker, since selection has cut off everything with little memorization, but far from nothing: .55, where chance would stay within .10. The paper's picture of no correlation is not what we see; how much there is depends on the epoch (.30 after one, .27 at the end of the training), and forgetting among the selected is indeed uncorrelated. Whatever CIFAR-100 shows, a scatter plot of examples that were selected for being memorized cannot say that hard and memorized are unrelated.
#
# ## What the diet depends on
#
# Sizes and the learning rate are ours, not the paper's. How much do they matter? EL2N's gain over random halves, with other numbers of rows (epochs, and so steps, in proportion) and with other learning rates (for the scores and for the retrained networks).
#
# **Predict.** With an eighth of the rows, is the hardest half still the better one? And with a higher learning rate?

# %%
def gain_at_half(rows, rate):
    part = datasets.load(dataset, n_train=rows, n_test=n_test, seed=seed)
    part = dataclasses.replace(part, x_train=(part.x_train - mean) / spread, x_test=(part.x_test - mean) / spread)
    own = dataclasses.replace(recipe, lr=rate)
    seen = ensemble.train(model, (part.x_train, part.y_train), own, range(networks), start=Start(until=early), record=Record(errors_at=(early,), parameters=False), run=engine)
    plans = {("random",): pruning.random_subsets(rows, 0.5, range(seeds)), ("EL2N",): pruning.prune(el2n(seen.errors[early]).mean(0), 0.5, drop="lowest", seed=seed)}
    length = dataclasses.replace(own, epochs=None, iterations=epochs * -(-rows // batch_size))
    table = pruning.retrain_pruned(model, part, plans, columns=("score",), **settings | {"recipe": length})
    accuracy = 100 * table.pivot_table(index="score", columns="seed", values="accuracy")
    return accuracy.loc["EL2N"] - accuracy.loc["random"]

by_size = {rows: gain_at_half(rows, lr) for rows in sizes}
by_rate = {rate: gain_at_half(n, rate) for rate in rates}
nearer = "half of the rows kept, " + ", ".join(f"learning rate {rate:g} {points.mean():+.1f}" for rate, points in by_rate.items())
ledger.record("dd.prune_early", **recorded["dd.prune_early"], covers=["initializations", "rows", "test rows"], moved=nearer)

# %% [markdown]
# Points gained by EL2N over random, half of the rows kept:

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, (label, gains) in zip(axes, {"training rows": by_size, "learning rate": by_rate}.items(), strict=True):
    rows = pd.DataFrame(gains).melt(var_name="setting", value_name="points").astype(float)
    plots.band(ax, rows, "setting", "points", "EL2N")
    plots.reference(ax, 0, "random")
    ax.set(xlabel=label, xscale="log")
    ax.set_xticks(list(gains), [f"{setting:g}" for setting in gains])
    ax.minorticks_off()
axes[0].set(ylabel="gain over random (points)")
plots.save(fig, "05_depends", profile);

# %% [markdown]
# With 1,000 or 2,000 rows EL2N's halves are *worse* than random ones, by two points and more than one; with 4,000 and 8,000 they are better by nearly two. That few data ask for easy examples and many for hard ones is what Sorscher et al. (2022) found. And at the paper's learning rate, .1, our networks have no gain at all, which may be why EL2N does less well in notebook 04, whose networks learn at that rate (exercise 4 has another reason). "Half of the data is enough" is a statement about a data set, its size and a recipe.
#
# ## Where we deviate, and why
#
# - **Data and networks.** The paper trains ResNet-18 and -50 on all of CIFAR-10, CIFAR-100 and CINIC-10, with augmentation, for 200 epochs and 15,000 GPU hours. Here networks with one and with three hidden layers, and a LeNet, train on 8,000 and 4,000 rows of Fashion-MNIST for 12 epochs without augmentation, so that more than a thousand trainings fit into minutes. The `paper` profile has the published sizes on CIFAR-10; it was not run.
# - **Learning rate.** .03 in place of .1, and batches of 100 in place of 128; the last experiment shows what that does. Sizes and rate were chosen in dry runs on other rows and seeds.
# - **Early** is the last epoch before the learning rate drops, a third of the training; the paper's epochs 10 and 20 of 200 are earlier in share and later in steps.
# - **Intervals.** The paper shows the 16th to 84th percentile of four runs; we give 95% intervals of the mean over five to ten, paired by seed where two choices are compared, and over the test rows, which all networks share (components of variance of the two-way layout). Where a section says so, each repetition has its own training rows. We train the best window again with new seeds. How well one run knows the mean is judged over ten sets of ten initializations. In a first judged run it was one set, which left the LeNet open (.72 [.53, .91]); the criterion is unchanged.
# - **Corrupted labels** are permuted as in the paper, so that about one in ten of the chosen keeps its label by chance; such examples count as right.
# - **Children** start with their momentum at rest, both of a pair alike; the paper compares the parent with one child.
# - **Memorization** is estimated by our own networks on 2,000 rows, the published values being for CIFAR-100.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# 1. Make every input twice as bright before training. What happens to GraNd at initialization, and what to EL2N?
#
# <details><summary>Answer</summary>
#
# GraNd about doubles: the gradient of the first layer is the input times a signal, and the features double too. EL2N at initialization hardly moves, as long as the softmax stays near uniform. A score that a change of units moves cannot be about importance alone.
#
# ```python
# from lib.networks import stacked
#
# born, truth = weights(0, runs[0.0]), torch.nn.functional.one_hot(y[:500], k)
# errors = lambda scale: stacked.predict(model, born, scale * x[:500]).softmax(2) - truth
# by_scale = {"GraNd": [grand(model, born, scale * x[:500], y[:500]) for scale in (1, 2)], "EL2N": [el2n(errors(scale)) for scale in (1, 2)]}
# for name, (once, twice) in by_scale.items():
#     print(f"{name} changes by a factor of {float((twice.mean(0) / once.mean(0)).median()):.2f}")
# ```
# </details>
#
# 2. Scale every input to the same norm and take GraNd at initialization again. Does the score still say anything?
#
# <details><summary>Answer</summary>
#
# A tenth of the spread is left, and what is left is not nothing: it follows EL2N a little (Spearman .35 on our rows), which GraNd itself does not.
#
# ```python
# unit = x / norm[:, None, None, None] * norm.mean()
# left = grand(model, weights(0, runs[0.0]), unit, y).mean(0)
# print(f"spread {float(left.std() / left.mean()):.3f} of the mean, with the norm {float(score('GraNd', 0).std() / score('GraNd', 0).mean()):.3f}")
# print(f"Spearman with EL2N {statistics.spearman(left, chosen['EL2N'])[0]:+.2f}")
# ```
# </details>
#
# 3. Check Lemma 2.2: for one batch, leave out one example at a time, and compare the change of the loss's rate at a test picture with the bound.
#
# <details><summary>Answer</summary>
#
# Without $x_j$ the rate changes by $|\nabla\ell(x')^\top\nabla\ell(x_j)|$ (η = 1), which is at most the product of the norms; for most examples it is far below, since gradients of different examples are far from parallel.
#
# ```python
# state = {name: value[0] for name, value in weights(early, runs[0.0]).items()}
# flat = lambda rows, own: definitions.gradients(model, state, rows, own)
# batch, other = flat(x[:100], y[:100]), flat(images.x_test[:1], images.y_test[:1])[0]
# share = (batch @ other).abs() / (batch.norm(dim=1) * other.norm())
# print(f"the change reaches {float(share.median()):.1%} of the bound in the median, at most {float(share.max()):.0%}")
# ```
# </details>
#
# 4. Prune to half of the rows class by class (`pruning.prune(..., y=y)`). Which classes had lost most without that, and does accuracy change?
#
# <details><summary>Answer</summary>
#
# Easy classes lose most: on our rows 84 of 800 trousers are kept and 141 bags, but more than 720 each of the shirts and the coats. And EL2N is right about that: with as many of every class the network is three points worse. Notebook 04 balances the classes, as its paper does, which may be part of why EL2N gains less there.
#
# ```python
# mask = pruning.prune(chosen["EL2N"], 0.5, drop="lowest")
# print({name: int(count) for name, count in zip(images.classes, torch.bincount(y[mask], minlength=k))})
# balanced = {("balanced",): pruning.prune(chosen["EL2N"], 0.5, drop="lowest", y=y), ("as it comes",): mask}
# print(pruning.retrain_pruned(model, images, balanced, columns=("choice",), **settings).groupby("choice").accuracy.mean())
# ```
# </details>

# %% [markdown]
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
