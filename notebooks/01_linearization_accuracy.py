# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Linearized networks: does the closed form predict what retraining finds?
#
# *Hrayr Harutyunyan, Alessandro Achille, Giovanni Paolini, Orchid Majumder, Avinash Ravichandran, Rahul Bhotika and Stefano Soatto, "Estimating informativeness of samples with smooth unique information", ICLR 2021.*
#
# **Question.** What a network would be without one of its training examples can be found by training it again, or written down for its first-order expansion. Where do the two agree, and do influence functions do better?
#
# *Symbols and scores: the [glossary](GLOSSARY.md).*

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "mnist-5k"  # the easier task: a name that lib.data.datasets.load knows, or the path of an .npz
classes: list = [4, 9]  # its two classes
n: int = 800  # training rows of the task, for the MLP
n_cnn: int = 100  # training rows of the convolutional networks
n_val: int = 200  # validation rows on which predictions are compared
hard_dataset: str = "fashion-mnist"  # the harder task
hard_classes: list = [0, 6]  # its two classes: T-shirt and shirt
n_hard: int = 500  # training and validation rows of the MLP there
n_resnet: int = 48  # training rows of the residual networks there
width: int = 1024  # hidden units of the MLP
left_out_mlp: int = 48  # examples left out in turn, for the MLPs
left_out_cnn: int = 20  # likewise for the convolutional networks
left_out_resnet: int = 16  # likewise for the residual networks
decay: float = 1.0  # λ of the mean loss where there is decay: 10³ of the sum over 1,000 examples
time_mlp: float = 2.0  # learning rate times steps, as published: .001 · 2,000
time_cnn: float = 10.0  # .01 · 1,000, the CNN from scratch
time_pretrained: float = 2.0  # .002 · 1,000, the pretrained CNN
time_resnet: float = 1.0  # .001 · 1,000
least_steps: int = 50  # of a training; more where the curvature asks for smaller steps
pretraining: str = ""  # data that the CNN is pretrained on, such as emnist-letters; "" is the other classes of the task
pretraining_rows: int = 3200  # rows to pretrain on, at most
pretraining_epochs: int = 3  # passes over them, of the CNN
resnet_epochs: int = 4  # of the residual networks
resnet_weights: str = ""  # IMAGENET1K_V1, or the path of a .pth; "" pretrains narrow ones on the other classes
resnet_width: int = 16  # channels of the first stage of the narrow ones (published: 64)
resnet_side: int = 224  # pixels to which images are enlarged for torchvision's weights
per_layer: list = [20, 200, 2000]  # coordinates kept of each parameter tensor, the last one judged
draws: int = 2  # random choices of coordinates
lissa_steps: int = 50  # recursion steps, and scale (published: 1,000 and 1,000)
lissa_batch: int = 4  # examples a step (published: 128)
lissa_for: list = ["MLP", "pretrained CNN"]  # networks it runs on
widths: list = [64, 128, 256, 512, 1024, 2048, 4096]  # hidden units, in the sweep
n_sweep: int = 200  # training rows of the sweep over widths
left_out_sweep: int = 12  # examples left out in turn, in both sweeps
width_seeds: int = 2  # networks of each width
lengths: list = [0, 3, 9]  # epochs of pretraining, in the sweep
n_lengths: int = 32  # training rows of that sweep
timed: int = 4  # examples on which the slow ways are timed
device: str = "cpu"  # where to train: "cpu" or "cuda"
seed: int = 0  # rows, networks, bootstrap

# %% [markdown]
# ## What we test
#
# Table 1 of the paper: over the left-out examples, the correlation between the predicted and the true change of the weights, $\lVert w-w_{-i}\rVert^2$, and of the predictions on validation data, $\lVert f_w(X_{val})-f_{w_{-i}}(X_{val})\rVert^2$. The claims and what we will call a success, written down before the run:

# %%
import inspect
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from experiments import linearization
from experiments.linearization import QUANTITIES, accuracy, correlation_gap, influence_by_solver, influence_in_closed_form, kernels, linearized, paced, pair, published_correlation, retrained, stable
from lib import plots, statistics
from lib.costs import best_seconds
from lib.data import datasets
from lib.ledger import Ledger
from lib.networks import models
from lib.numerics.gradients import ntk
from lib.numerics.spectral_filter import spectral_filter
from lib.scores import definitions
from lib.scores.influence import eigenvalue_range, gradient_norm
from lib.scores.unique_information import leave_one_out
from lib.store import Store

# %% [markdown]
# Style, and the criteria:

# %%
plots.style()
ledger = Ledger("01", profile)
ledger.criteria()

# %% [markdown]
# ## Data
#
# Two tasks of two classes: fours and nines, as in the paper, and for its cats and dogs a pair of garments that is hard to tell apart.

# %%
task = datasets.load(dataset, classes=classes, n_train=n, n_test=n_val, seed=seed)
hard = datasets.load(hard_dataset, classes=hard_classes, n_train=n_hard, n_test=min(n_hard, 2000), seed=seed)
shown = [part.x_train[part.y_train == c][:10] for part in (task, hard) for c in (0, 1)]
fig = plots.pictures(torch.cat(shown), titles=task.classes + hard.classes, size=0.55)
plots.save(fig, "01_data", profile)
task, hard


# %% [markdown]
# ## Method
#
# Around its initial weights $w_0$ a network is, to first order, $f(x)=f_0(x)+\nabla f_0(x)^\top(w-w_0)$: linear in the weights. Gradient descent with step $\eta$ on $\sum_i\tfrac12\lVert f(x_i)-y_i\rVert^2$, with decay $\tfrac\lambda2\lVert w-w_0\rVert^2$, then has a closed form at every step $t$. With the tangent kernel $\Theta=\nabla f_0(X)^\top\nabla f_0(X)$,
#
# $$ f_t(x)=f_0(x)+\Theta(x,X)\,p_t(\Theta+\lambda I)\,(Y-f_0(X)),\qquad p_t(\mu)=\frac{1-(1-\eta\mu)^t}{\mu}. $$
#
# (This is the paper's sum over examples. Everything below is trained on the mean, whose step $\eta$ and decay $\lambda$ stand for $\eta/n$ and $n\lambda$ here.) Without example $i$, delete its row and column of $\Theta$. Read literally, that is one training of $n-1$ coefficients for each example, here in double precision; the authors take one inverse and one matrix power, and update the inverse (their Appendix E), but the power remains:

# %%
print(inspect.getsource(definitions.coefficients), inspect.getsource(definitions.leave_one_out), sep="\n")


# %% [markdown]
# All of it can be had from **one** eigendecomposition. The filter $p_t$ is a sum of few resolvents, $p_t(\mu)\approx 2\,\mathrm{Re}\sum_j c_j/(z_j-\mu)$ (Cauchy's integral on a parabola; 14 terms for ten digits, whatever $t$), and deleting a row and a column changes a resolvent by a rank-one term. In the eigenbasis every resolvent is diagonal, so all left-out examples together are one matrix product. Both ways, on a few rows:

# %%
some = torch.arange(0, len(task.y_train), max(1, len(task.y_train) // 60))
x_few, y_few = task.x_train[some].double(), task.y_train[some]
net = models.initialize(models.mlp(x_few[0].numel(), (64,), 1), seed).double()
kernel, cross = ntk(net, x_few), ntk(net, x_few, task.x_test.double())
residual = (y_few[:, None] - net(x_few)).detach()
settings = {"lr": 1 / float(torch.linalg.eigvalsh(kernel)[-1]), "steps": 2000}
fast = leave_one_out(kernel, residual, cross_kernel=cross, **settings).predictions[..., 0]
slow = (cross @ definitions.leave_one_out(kernel, residual, **settings)).T
error = float((fast - slow).abs().max() / slow.abs().max())
assert error < 1e-6, error
print(f"{len(some)} deletions against one eigendecomposition: largest difference {error:.0e} of the largest change")

# %% [markdown]
# ## How few weights are enough?
#
# For large networks the authors compute $\Theta$ from 2,000 random coordinates of each layer. How well does the order of the examples survive, as the number grows? Here for three networks, each with the exact kernel of all its weights beside it. First the networks: an MLP with random weights, and a CNN and residual networks pretrained on the other classes, with a new last layer and with batch normalization that keeps its statistics.

# %%
store = Store(profile=profile)
shape = task.x_train[0].shape
letters = linearization.other_classes(pretraining or dataset, [] if pretraining else classes, n=pretraining_rows, seed=seed)
cnn = lambda outputs: models.cnn_unique_information(shape[0], shape[1], outputs)
body, right = linearization.pretrain(cnn(len(letters.classes)), letters, epochs=pretraining_epochs, seed=seed, store=store)
mlp = lambda width: models.initialize(models.mlp(task.x_train[0].numel(), (width,), 1), seed)
scratch, pretrained = models.initialize(cnn(1), seed), models.transferred(body, 1, seed=seed)
print(f"CNN pretrained on {letters.name}, {len(letters.classes)} classes: {right:.0%} right")


# %% [markdown]
# The residual networks are torchvision's with their ImageNet weights if `resnet_weights` says so; else narrow ones of the same depth and layout, pretrained on the other garments.

# %%
def resnet(depth):
    if resnet_weights:
        return models.transferred(models.torchvision_resnet(depth, weights=resnet_weights), 1, seed=seed)
    garments = linearization.other_classes(hard_dataset, hard_classes, n=pretraining_rows, seed=seed)
    net = models.narrow_resnet(depth, width=resnet_width, classes=len(garments.classes))
    net, right = linearization.pretrain(net, garments, epochs=resnet_epochs, seed=seed, store=store)
    print(f"ResNet-{depth}, width {resnet_width}: {sum(p.numel() for p in net.parameters()):,} weights, {right:.0%} right")
    return models.transferred(net, 1, seed=seed)

residual_networks = {f"ResNet-{depth}": resnet(depth) for depth in (18, 50)}

# %% [markdown]
# Each network gets its task, the published length of training $\eta t$, and the examples that are left out in turn. What counts for the closed form is the product $\eta t$: many small steps end where fewer larger ones do, as long as $\eta$ stays well below two over the curvature (the largest eigenvalue of $\Theta/n$). `paced` takes as few steps as that allows.

# %%
few = datasets.load(dataset, classes=classes, n_train=n_cnn, n_test=n_val, seed=seed)
fewer = datasets.load(hard_dataset, classes=hard_classes, n_train=n_resnet, n_test=n_val, seed=seed)
if resnet_weights:
    enlarged = {f"x_{part}": models.as_imagenet(getattr(fewer, f"x_{part}"), resnet_side) for part in ("train", "test")}
    fewer = replace(fewer, **enlarged)

# %% [markdown]
# Each network with its task, the published length of training, and the number of examples left out:

# %%
plan = {
    "MLP": (mlp(width), task, time_mlp, left_out_mlp),
    "MLP, hard task": (mlp(width), hard, time_mlp, left_out_mlp),
    "CNN from scratch": (scratch, few, time_cnn, left_out_cnn),
    "pretrained CNN": (pretrained, few, time_pretrained, left_out_cnn),
} | {name: (net, fewer, time_resnet, left_out_resnet) for name, net in residual_networks.items()}


# %% [markdown]
# The examples to leave out are drawn at random, the same for both convolutional networks.

# %%
def begin(model, images, length, held):
    some = torch.randperm(len(images.y_train), generator=torch.Generator().manual_seed(seed))[:held]
    return *paced(model, images.x_train, images.y_train, images.x_test, time=length, least=least_steps), some

starts = {name: begin(*row) for name, row in plan.items()}

# %% [markdown]
# Rows, weights, curvature at the start, and the pace that follows from it:

# %%
pd.DataFrame({
    name: {"rows": len(start.x), "weights": sum(p.numel() for p in start.model.parameters()), "curvature": known.curvature,
           "steps": start.steps, "learning rate": start.lr, "left out": len(some)}
    for name, (start, known, some) in starts.items()
}).T.style.format(lambda v: f"{v:,.0f}" if v >= 100 or v == int(v) else f"{v:.3g}")

# %% [markdown]
# Now the coordinates. The correlation is over all training rows, between the functional information from the subset and from all weights (ranks; mean and range over the random choices).

# %%
kept = {}
for name in ("MLP", "pretrained CNN", "ResNet-18"):
    start, known, _ = starts[name]
    whole = linearized(start, known).squared_predictions
    for count in per_layer:
        subsets = [kernels(start, per_layer=count, seed=draw) for draw in range(draws)]
        kept[name, count] = [statistics.spearman(linearized(stable(start, part), part).squared_predictions, whole, seed=seed) for part in subsets]

# %% [markdown]
# **Predict.** The MLP has one layer with 802,816 weights. Will 200 of them keep the order of the examples (a Spearman correlation above .95), or 2,000? And in a residual network, with its many small layers?

# %%
fig, ax = plt.subplots(figsize=(6, 3.4))
for name, marker in zip(("MLP", "pretrained CNN", "ResNet-18"), "os^", strict=True):
    line = np.array([[rho for rho, _ in kept[name, count]] for count in per_layer])
    reach = [line.mean(1) - line.min(1), line.max(1) - line.mean(1)]
    ax.errorbar(per_layer, line.mean(1), reach, marker=marker, capsize=3, label=name)
plots.reference(ax, 0.95, "well enough")
ax.set(xscale="log", xlabel="coordinates kept of each parameter tensor", ylabel="Spearman with all weights")
ax.set_xticks(per_layer, [f"{count:,}" for count in per_layer])
ax.minorticks_off()
ax.legend(loc="lower right")
plots.save(fig, "01_projection", profile)

# %% [markdown]
# Recorded for the largest number, of the random choices the one in the middle:

# %%
judged = {name: sorted(found)[len(found) // 2] for (name, count), found in kept.items() if count == per_layer[-1]}
value, interval = statistics.apart(judged)
note = f"{per_layer[-1]:,} coordinates a tensor; median of {draws} choices; {len(task.y_train)}, {n_cnn} and {n_resnet} examples"
ledger.record("ui.projection", value, interval=interval, n=n_resnet, note=note, covers=["rows"])

# %% [markdown]
# With 2,000 coordinates a tensor the order of the examples hardly changes: Spearman .97 for the MLP, .94 for the pretrained CNN and .998 for the residual network, whose layers are many and small. 200 are too few for the first two. (We keep so many of each weight and each bias; the first matrix of the MLP alone has 802,816 entries.)
#
# ## Is the ground truth one?
#
# Leaving out one example changes the weights by very little, so two doubts come first: is float32 precise enough, and does it matter that we take fewer, larger steps? Three examples, trained again in float64, and with four times as many steps a quarter as large:
#
# **Predict.** Which of the two will change the result more, and by how many percent?

# %%
start, known, some = starts["MLP"]
quarter = replace(start, lr=start.lr / 4, steps=4 * start.steps)
base = retrained(start, some[:3], device=device, store=store)[0]
other_ways = {
    "in float64": retrained(start, some[:3], precision="float64", device=device, store=store)[0],
    "with four times as many steps": retrained(quarter, some[:3], device=device, store=store)[0],
}
for name, change in other_ways.items():
    off = [float((part / whole - 1).abs().max()) for part, whole in zip(vars(change).values(), vars(base).values(), strict=True)]
    print(f"{name}: ‖Δw‖² differs by up to {off[0]:.0e}, ‖Δf‖² by up to {off[1]:.0e} of itself")


# %% [markdown]
# The second moves all examples alike, by a few percent, where the changes of different examples are powers of ten apart (below).
#
# ## Table 1, live
#
# For every network, without and with decay: train with all rows, and once more without each of the chosen ones, everything else equal. Beside it the predictions:
#
# - **linearization**, from the weights *before* training;
# - **LiSSA**, influence functions at the weights *after* training, $\Delta w_i=\tfrac1n(H+\delta I)^{-1}\nabla\ell_i$, with the inverse from the stochastic recursion and the paper's settings. Its damping of .01 is added to $H/s$ with a scale of $s=1{,}000$, so that in the unit of the curvature it is $\delta=10$;
# - **influence**, the same formula solved exactly (closed form with the Gauss–Newton matrix) and with $\delta=.01$, in the unit of the curvature, where there is no decay.
#
# **Predict.** On which of the six networks will the linearization fail, and will decay make it better or worse there? Which will come nearer to retraining, LiSSA or the exact solve?

# %%
def damping(weight_decay, exact):
    return 0.0 if weight_decay else 0.01 if exact else 10.0

def lissa(task, trained, end, some):
    own = damping(task.weight_decay, exact=False)
    scale = max(lissa_steps, int(end.curvature + task.weight_decay + own) + 1)
    settings = {"damping": own, "scale": scale, "depth": scale, "batch_size": lissa_batch, "seed": seed}
    return influence_by_solver(task, trained, some, solver="lissa", device=device, **settings)


# %% [markdown]
# A study of one network, with or without decay. The closed forms give all examples, of which we take the same few.

# %%
def study(name, weight_decay):
    start, known, some = starts[name]
    task = replace(start, weight_decay=weight_decay)
    truth, trained = retrained(task, some, device=device, store=store)
    end = kernels(replace(task, model=trained))
    closed = lambda exact, **options: influence_in_closed_form(
        end, weight_decay=weight_decay, damping=damping(weight_decay, exact), **options
    )[some]
    found = {"retrained": truth, "linearization": linearized(task, known)[some]}
    if name in lissa_for:
        found["LiSSA"] = lissa(task, trained, end, some)
    return found | {"LiSSA in the mean": closed(False, scale=1000.0), "influence": closed(True)}, trained, end


# %% [markdown]
# The scale and the number of recursion steps are smaller than 1,000 by the same factor, which keeps their ratio and with it the mean of the recursion (next section).

# %%
studies = {(name, w): study(name, w) for name in starts for w in (0.0, decay)}
fitted = {name: [float((studies[name, w][2].residual.abs() < 0.5).float().mean()) for w in (0.0, decay)] for name in starts}
pd.DataFrame(fitted, index=["λ = 0", f"λ = {1000 * decay:.0f}"]).style.format("{:.0%}").set_caption("training rows on the right side")

# %% [markdown]
# Predicted against true, on logarithmic axes: on the diagonal, the size is right too.

# %%
LOOKS = dict(zip(["linearization", "LiSSA", "LiSSA in the mean", "influence"], ["#0072b2", "#d55e00", "#e69f00", "#009e73"], strict=True))
MARKERS = dict(zip(LOOKS, "osD^", strict=True))

def scatters(weight_decay, quantity):
    fig, axes = plt.subplots(2, 3, figsize=(11, 6.6))
    for ax, name in zip(axes.flat, starts, strict=True):
        for method in ("influence", "LiSSA in the mean", "linearization"):
            guess, truth = pair(studies[name, weight_decay][0], method, quantity)
            ax.scatter(truth, guess, s=14, alpha=0.7, c=LOOKS[method], marker=MARKERS[method], label=method)
        ax.plot([truth.min(), truth.max()], [truth.min(), truth.max()], color="0.35", lw=0.9, zorder=0)
        ax.set(xscale="log", yscale="log", title=name, xlabel="retrained", ylabel="predicted")
        ax.tick_params(axis="x", which="both", labelsize=8, labelrotation=40)
    axes[0, 0].legend(fontsize=8)
    return fig

plots.save(scatters(0.0, "weights"), "01_scatter_weights", profile)

# %% [markdown]
# That was the change of weights without decay. The change of predictions, with decay:

# %%
plots.save(scatters(decay, "predictions"), "01_scatter_predictions", profile)

# %% [markdown]
# In numbers, one row for each network, decay, quantity and method:

# %%
table = pd.concat([accuracy(found, seed=seed, network=name, λ=round(1000 * w)) for (name, w), (found, *_) in studies.items()])
table["published"] = [published_correlation(*row) for row in table[["network", "quantity", "λ", "method"]].itertuples(index=False)]
words = lambda row: f"{row.pearson:.3f} [{row.low:.2f}, {row.high:.2f}]; {row.spearman:.2f}; " + (
    "–" if pd.isna(row.published) else f"{row.published:.3f}"
)
shown = table.assign(cell=table.apply(words, axis=1))
index = ["quantity", "λ", "method"]
shown = shown.pivot_table(index=index, columns="network", values="cell", aggfunc="first", sort=False)[list(starts)]
shown.fillna("").style.set_caption("Pearson [95%]; Spearman; published Pearson").set_properties(**{"font-size": "80%"})


# %% [markdown]
# Without decay, linearization correlates with retraining at .997 (weights) and .993 (predictions) for the MLP and at .98 for the pretrained CNN, where the paper has .987, .993, .870 and .875. LiSSA stands below it by .08 and .07 for the MLP (published: .05 and .07) and by .16 and .18 for the pretrained CNN (.13 and .11). From scratch, the CNN leaves the neighbourhood of its initial weights: the linearization knows something about its weights and nothing about its predictions. With decay nearly everything is good, and influence functions draw level, as published; that decay helps the linearization of the pretrained CNN further does not show, as there is little left to gain.
#
# Two cells of the paper look different here. The CNN from scratch with decay correlates at .78 and .91, where the paper has about 0: with $\lambda=10^3$ it gets half of the training rows right, so it does not learn and stays close to where it started. And ResNet-18 has a Spearman correlation of .91 to .96 but a Pearson correlation of .59 to .77: few examples with a long tail, and the Pearson correlation hangs on those that move the network most.
#
# As a picture, with the published values as crosses:

# %%
def dots(ax, part):
    for shift, method in zip((-0.24, -0.08, 0.08, 0.24), LOOKS, strict=True):
        own = part[part.method == method]
        where = np.array([list(starts).index(name) for name in own.network]) + shift
        reach = [own.pearson - own.low, own.high - own.pearson]
        ax.errorbar(where, own.pearson, reach, color=LOOKS[method], marker=MARKERS[method], ls="", ms=5, lw=1, label=method)
        ax.plot(where, own.published, "kx", ms=5, zorder=3)
    plots.reference(ax, 0, "no correlation")
    ax.set_xticks(range(len(starts)), [name.replace(" ", "\n", 1) for name in starts], fontsize=8)

fig, axes = plt.subplots(2, 2, figsize=(11, 6.4), sharex=True, sharey=True)
for ax, ((quantity, weight), part) in zip(axes.flat, table.groupby(["quantity", "λ"], sort=False), strict=True):
    dots(ax, part)
    ax.set(title=f"{quantity}, λ = {weight}", ylabel="Pearson with retraining")
axes[0, 1].legend(fontsize=7, loc="lower left")
plots.save(fig, "01_table", profile)


# %% [markdown]
# Recorded, by quantity, decay and network:

# %%
def recorded(names):
    rows = table[table.network.isin(names) & (table.method == "linearization")]
    key = [f"{row.quantity}, λ = {row.λ}, {row.network}" for row in rows.itertuples()]
    return dict(zip(key, rows.pearson, strict=True)), dict(zip(key, zip(rows.low, rows.high, strict=True), strict=True))

value, interval = recorded(["MLP", "pretrained CNN"])
ledger.record("ui.table1", value, interval=interval, n=left_out_cnn, note=f"{left_out_mlp} left out of the MLP", covers=["rows"])
value, interval = recorded(["ResNet-18", "ResNet-50"])
ledger.record("ui.table1.resnet", value, interval=interval, n=left_out_resnet, note="" if resnet_weights else f"width {resnet_width}", covers=["rows"])

# %% [markdown]
# And differences of two correlations, resampled together where they are over the same examples:

# %%
of = lambda name, w=0.0, method="linearization", quantity="weights": pair(studies[name, w][0], method, quantity)
gaps = {
    f"{quantity}, λ = 0, {name}": correlation_gap(*(of(name, 0.0, m, quantity) for m in ("linearization", "LiSSA")), seed=seed)
    for quantity in QUANTITIES for name in ("MLP", "pretrained CNN")
}
value, interval = statistics.apart(gaps)
ledger.record("ui.table1.influence", value, interval=interval, n=left_out_cnn, note=f"{left_out_mlp} left out of the MLP", covers=["rows"])

# %% [markdown]
# And the order of the networks:

# %%
value, interval = statistics.apart({
    "MLP − CNN from scratch": correlation_gap(of("MLP"), of("CNN from scratch"), seed=seed),
    "pretrained CNN − CNN from scratch": correlation_gap(of("pretrained CNN"), of("CNN from scratch"), seed=seed),
    "pretrained CNN, λ = 1000 − λ = 0": correlation_gap(of("pretrained CNN", decay), of("pretrained CNN"), seed=seed),
})
ledger.record("ui.table1.order", value, interval=interval, n=left_out_cnn, note=f"{left_out_mlp} left out of the MLP", covers=["rows"])

# %% [markdown]
# ## What LiSSA really computes
#
# With $\Delta w_i=\tfrac1n\,g(H)\,\nabla\ell_i$, an exact solve is $g(\mu)=1/(\mu+\delta)$. LiSSA's recursion, $h_j=v+(1-\beta)h_{j-1}-Hh_{j-1}/s$, is in the mean gradient descent with learning rate $1/s$: $J$ steps give the filter of a training of length $J/s$, which is **1** with the paper's settings, where the networks are trained for a length of 1 to 10. So it regularizes by stopping early, and for $\lambda=0$ it adds a damping of $\beta s=10$ on top. The linearization's own filter is that of the training, of its true length.
#
# **Predict.** In which directions will the exact solve go wrong, the steep ones or the flat ones, and towards changes that are too large or too small?

# %%
start, known, some = starts["MLP"]
_, _, end = studies["MLP", 0.0]
mu = torch.logspace(-3, 2, 300, dtype=torch.float64)
gains = {
    "training, ηt as trained": spectral_filter(mu, lr=start.lr, steps=start.steps, continuous=True),
    "LiSSA, λ = 0 (δ = 10)": spectral_filter(mu + 10, lr=1e-3, steps=1001),
    f"LiSSA, λ = {1000 * decay:.0f}": spectral_filter(mu + decay, lr=1e-3, steps=1001),
    "exact, δ = .01": 1 / (mu + 0.01),
}
fig, ax = plt.subplots(figsize=(6.5, 3.6))
for (name, gain), dash in zip(gains.items(), ["-", "--", "-.", ":"], strict=True):
    ax.plot(mu, gain, dash, label=name)
own = end.eigenvalues.numpy()
ax.plot(own[own > 1e-3], np.full((own > 1e-3).sum(), 0.02), "|", color="0.4", label="eigenvalues of the trained MLP")
ax.set(xscale="log", yscale="log", xlabel="curvature μ (eigenvalue of Θ/n)", ylabel="gain g(μ)")
ax.legend(fontsize=8, loc="upper right")
plots.save(fig, "01_filters", profile)

# %% [markdown]
# Where the curve of a method lies above that of the training, it predicts changes that a training of this length does not have the time to make; where it lies below, it misses changes. The exact solve, the limit of endless training, is off by orders of magnitude in the flat directions, which are most.
#
# Two things remain to be checked: how far a network is from the optimum that influence functions presume, and what the Gauss–Newton matrix leaves out. For the second, a solve with the whole Hessian by conjugate gradients for some of the examples, with decay.

# %%
start, known, some = starts["MLP"]
for weight_decay in (0.0, decay):
    task, (found, trained, end) = replace(start, weight_decay=weight_decay), studies["MLP", weight_decay]
    reference = {name: p.detach() for name, p in start.model.named_parameters()}
    options = {"weight_decay": weight_decay, "loss": "mse", "reference": reference}
    lowest, highest = eigenvalue_range(trained, start.x, start.y, **options)
    gradient = gradient_norm(trained, start.x, start.y, **options)
    alone = float(found["influence"].squared_weights.median().sqrt())
    print(f"λ = {1000 * weight_decay:.0f}: gradient {gradient:.3f}; eigenvalues of H from {lowest:.3f} to {highest:.1f}; "
          f"median ‖Δw‖ by influence {alone:.4f}, retrained {float(found['retrained'].squared_weights.median().sqrt()):.4f}")

# %% [markdown]
# Without decay the network is far from an optimum, the Hessian is not even positive definite, and the exact solve predicts changes ten times as large as the true ones; with decay the size is right. Against the whole Hessian, the Gauss–Newton matrix makes the squared change a little too small, by much the same factor for each example:

# %%
newton = influence_by_solver(replace(start, weight_decay=decay), trained, some[:timed], solver="cg", tol=1e-3, device=device)
ratio = newton.squared_weights / found["influence"].squared_weights[:timed]
print(f"‖Δw‖², whole Hessian over Gauss–Newton, λ = {1000 * decay:.0f}: {[round(v, 2) for v in ratio.tolist()]}")


# %% [markdown]
# ## How wide is wide?
#
# The paper argues, from theory, that a wide network is closer to its linearization. One hidden layer of 64 to 4,096 units on the same few rows, a few networks each. Beside the correlation, the size: the median over examples of $\lvert\text{predicted}/\text{true}-1\rvert$.
#
# **Predict.** Can a network be so narrow that the order of its examples is lost? And which will gain more from width, the order or the size of the predicted change?

# %%
def accuracy_of(model, images, length, weight_decay=0.0):
    start, known, some = begin(model, images, length, left_out_sweep)
    start = replace(start, weight_decay=weight_decay)
    found = {"retrained": retrained(start, some, device=device, store=store)[0], "linearization": linearized(start, known)[some]}
    return accuracy(found, seed=seed)

small = datasets.load(dataset, classes=classes, n_train=n_sweep, n_test=n_val, seed=seed)
sweep = lambda units, run: models.initialize(models.mlp(small.x_train[0].numel(), (units,), 1), run)
swept = pd.concat([
    accuracy_of(sweep(units, run), small, time_mlp).assign(width=units, run=run) for units in widths for run in range(width_seeds)
])

# %% [markdown]
# A mark is one network, the line their mean; at the top and the bottom lies a perfect prediction.

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3))
for ax, column, name in zip(axes, ("pearson", "off"), ("Pearson with retraining", "median relative error"), strict=True):
    for quantity, colour, marker in (("weights", "#0072b2", "o"), ("predictions", "#d55e00", "s")):
        part = swept[swept.quantity == quantity]
        ax.plot(part.width, part[column], marker, color=colour, ms=4, alpha=0.4)
        ax.plot(part.groupby("width")[column].mean(), marker + "-", color=colour, label=quantity)
    ax.set(xscale="log", xlabel="hidden units", ylabel=name)
    ax.set_xticks(widths, widths, fontsize=8)
    ax.minorticks_off()
axes[0].legend(loc="lower right")
plots.save(fig, "01_widths", profile)

# %% [markdown]
# Means over the networks of a width:

# %%
swept.groupby(["quantity", "width"])[["pearson", "spearman", "off"]].mean().unstack(0).style.format("{:.3f}")

# %% [markdown]
# The order survives at every width: even 64 units give more than .9. What the width buys is the size of the change, whose median error falls from 18% to 4% for the weights and from 32% to 8% for the predictions, as theory has it.
#
# ## How long must one pretrain?
#
# The CNN again on fewer rows, from scratch (0) and pretrained for more and more epochs, fine-tuned as in the table: a length of 10 from scratch, of 2 where it is pretrained.
#
# **Predict.** Must the network be good at its first task before the linearization of its fine-tuning holds, or will a few epochs do?

# %%
lesser = datasets.load(dataset, classes=classes, n_train=n_lengths, n_test=n_val, seed=seed)
longer = []
for epochs in lengths:
    body, right = linearization.pretrain(cnn(len(letters.classes)), letters, epochs=epochs, seed=seed, store=store)
    for weight_decay in (0.0, decay):
        length = time_pretrained if epochs else time_cnn
        rows = accuracy_of(models.transferred(body, 1, seed=seed), lesser, length, weight_decay)
        longer.append(rows.assign(epochs=epochs, right=right, λ=round(1000 * weight_decay)))
longer = pd.concat(longer)

# %% [markdown]
# Left the correlation with its interval, right the relative error:

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.5))
for shift, ((quantity, weight), part) in zip((-0.09, -0.03, 0.03, 0.09), longer.groupby(["quantity", "λ"]), strict=True):
    look = {"marker": "o" if quantity == "weights" else "s", "linestyle": "--" if weight else "-"}
    look |= {"color": "#0072b2" if quantity == "weights" else "#d55e00", "label": f"{quantity}, λ = {weight}"}
    where = np.arange(len(part)) + shift
    axes[0].errorbar(where, part.pearson, [part.pearson - part.low, part.high - part.pearson], lw=1, **look)
    axes[1].plot(where, part.off, **look)
for ax, name in zip(axes, ("Pearson with retraining", "median relative error"), strict=True):
    ax.set_xticks(range(len(lengths)), lengths)
    ax.set(xlabel="epochs of pretraining", ylabel=name)
axes[0].legend(fontsize=7, loc="lower right")
plots.save(fig, "01_pretraining", profile)

# %% [markdown]
# And how well the network does what it was pretrained for:

# %%
longer.groupby("epochs").right.first().rename("accuracy on the other classes").to_frame().T.style.format("{:.0%}")

# %% [markdown]
# Three epochs, after which the network does its first task nearly as well as after nine, are enough: the correlation goes from below zero (predictions, without decay) to .99, and the error from about 80% to 15 to 25%.
#
# ## What it costs
#
# All examples of the first task left out of the MLP, both quantities, each way on this machine, in this run. Our closed form is timed whole. The others are timed on a few examples and scaled up: the authors' procedure (one matrix power and one updated inverse an example, float32, the published 2,000 steps), LiSSA at the published settings (1,000 products with the Hessian over 128 examples, one example after the other as in the authors' code), and retraining at the published 2,000 steps.
#
# **Predict.** Put the four in order of their cost. Is LiSSA cheaper than to train again?

# %%
start, known, some = starts["MLP"]
count, steps = len(start.x), 2000
paper = replace(start, lr=time_mlp / steps, steps=steps)
kernel, cross = ntk(start.model, start.x), ntk(start.model, start.x, start.x_val)
residual, inverse = known.residual.float(), torch.linalg.inv(kernel + 1e-3 * torch.eye(count))


# %% [markdown]
# What the authors do for one example:

# %%
def authors_way(i):
    stay = torch.arange(count) != i
    part, column = inverse[stay][:, stay], kernel[stay, i, None]
    left = part @ column
    updated = part - left @ left.T / (kernel[i, i] + column.T @ left)
    power = torch.matrix_power(torch.eye(count - 1) - paper.lr / count * kernel[stay][:, stay], steps)
    return cross[:, stay] @ (updated @ (residual[stay] - power @ residual[stay]))


# %% [markdown]
# LiSSA's steps take equally long, so twenty will do; of the trainings a few, without a store.

# %%
trained = studies["MLP", 0.0][1]
recursion = {"solver": "lissa", "damping": 10.0, "scale": 1000.0, "batch_size": min(128, count), "device": device}
lissa_for_one = lambda depth: best_seconds(lambda: influence_by_solver(start, trained, some[:1], depth=depth, **recursion), repeats=2)
lissa_step = max(lissa_for_one(21) - lissa_for_one(1), 1e-4) / 20
one_training = best_seconds(lambda: retrained(start, some[:timed], device=device)) / (timed + 1) / start.steps * steps
kernels_alone = best_seconds(lambda: (ntk(start.model, start.x), ntk(start.model, start.x, start.x_val)), repeats=2)

# %% [markdown]
# Together:

# %%
costs = pd.Series({
    "linearization, ours": best_seconds(lambda: linearized(paper), repeats=3),
    "linearization, the authors' procedure": kernels_alone + count * best_seconds(lambda: authors_way(0), repeats=timed),
    "LiSSA, the published settings": count * 1000 * lissa_step,
    "retraining": (count + 1) * one_training,
})

# %% [markdown]
# Seconds for all examples; the published ratio is that of the third to the second line.

# %%
ratios = {"the authors' linearization": costs.iloc[2] / costs.iloc[1], "our linearization": costs.iloc[2] / costs.iloc[0]}
ledger.record("ui.speed", ratios, n=count, note="LiSSA and the authors' procedure timed on a few examples and scaled up")
pd.DataFrame({"seconds": costs, "times ours": costs / costs.iloc[0]}).style.format("{:,.1f}")

# %% [markdown]
# Both ratios are far above the published 30, which a GPU gave: on two cores 1,000 products with a Hessian for each example take half as long as to train again, while one matrix power is cheap. One eigendecomposition for all examples saves another factor of nearly 460 over the authors' procedure. (Measured with nothing else running; on a busy machine the many small steps of LiSSA and of training suffer most, and the ratios grow.)
#
# ## Where we deviate, and why
#
# - **Rows and examples left out.** Published: 1,000 training and 1,000 validation rows, and all 1,000 examples left out. Here the MLP has the 800 + 200 rows of the embedded digits, the convolutional networks fewer, and a random choice of examples is left out (the table under "How few weights" has the numbers; the intervals are over them). The `paper` profile has the published sizes, for a GPU; it has not been run here.
# - **Steps.** Fewer and larger, with the published product of learning rate and steps (checked above for the MLP). LiSSA likewise keeps the ratio of steps and scale; its batches are smaller, and their noise is what separates it from its mean (most with decay, where nothing else does).
# - **Cats and dogs, ImageNet, letters** cannot be had without a download. A hard pair of garments stands in for the first. The residual networks have the depth and layout of ResNet-18 and ResNet-50 at a quarter of the width and are pretrained on the other garments; the CNN is pretrained on the other digits. `resnet_weights`, `pretraining` and `dataset` take the originals.
# - **Leaving out** removes an example's term and keeps $1/n$. The authors' code takes the mean over the $n-1$ others, which also lengthens the training by one part in $n$, the same for all examples.
# - **Decay.** $\lambda=10^3$ for the sum over 1,000 examples is 1 for their mean, which is what we keep for other numbers of rows. (For the CNN from scratch the authors' published commands have a tenth of it, where the table says $10^3$.)
# - **LiSSA** takes by far the longest. In this profile it runs on the networks that `lissa_for` names, and is left to its mean in closed form on the others.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# 1. Rank the training rows by the change of predictions that the linearization gives, without training anything, and look at both ends.
#
# <details><summary>Answer</summary>
#
# The examples that change predictions most look like the other class, or like no digit at all.
#
# ```python
# start, known, _ = starts["MLP"]
# order = linearized(start, known).squared_predictions.argsort()
# plots.pictures(start.x[torch.cat([order[:10], order[-10:]])], titles=["least", "most"]);
# ```
# </details>
#
# 2. How much of the answer is simply how hard an example pulls at the start? Set the squared length of its first gradient, $(y_i-f_0(x_i))^2\,\Theta_{ii}$, beside the linearization.
#
# <details><summary>Answer</summary>
#
# Next to nothing: by ranks it agrees with the retrained networks at .20, and the linearization at .99. A strong pull changes the network only as far as no other example pulls the same way, and that is what the kernel's inverse knows.
#
# ```python
# start, known, some = starts["MLP"]
# truth = studies["MLP", 0.0][0]["retrained"].squared_weights
# pull = known.residual[:, 0].square() * (known.spectrum.vectors.square() @ known.spectrum.values)
# for name, guess in {"first gradient": pull[some], "linearization": linearized(start, known)[some].squared_weights}.items():
#     print(f"{name}: Pearson {statistics.pearson(guess, truth)[0]:.2f}, Spearman {statistics.spearman(guess, truth)[0]:.2f}")
# ```
# </details>
#
# 3. Give the closed form a wrong length of training, from a single step to a hundred times the true one. What goes wrong first, the order of the examples or the size of the change?
#
# <details><summary>Answer</summary>
#
# Both go wrong together. A single step is the exercise before this one; at ten times the length the changes are eight times too large and the ranks agree at .64, at a hundred times 200 times too large and at .20. How long one trains belongs to the question.
#
# ```python
# start, known, some = starts["MLP"]
# truth = studies["MLP", 0.0][0]["retrained"].squared_weights
# for steps in (1, start.steps // 10 + 1, start.steps, 10 * start.steps, 100 * start.steps):
#     guess = linearized(replace(start, steps=steps), known)[some].squared_weights
#     print(f"{steps} steps, true {start.steps}: Spearman {statistics.spearman(guess, truth)[0]:.2f}, median of predicted / true {float((guess / truth).median()):.2f}")
# ```
# </details>
#
# 4. Train one of the smaller networks of the sweep ten times as long. Does the closed form still hold? What about exact influence functions?
#
# <details><summary>Answer</summary>
#
# The weights move further, so the linearization loses accuracy (Pearson .98 to .93, and it foretells a third of the change); influence functions presume the end of training, so they gain (.60 to .83, from 48 times too large to a third).
#
# ```python
# for times in (1, 10):
#     start, known, some = begin(sweep(256, 0), small, times * time_mlp, left_out_sweep)
#     truth, trained = retrained(start, some, device=device, store=store)
#     end = kernels(replace(start, model=trained))
#     for name, guess in {"linearization": linearized(start, known), "influence": influence_in_closed_form(end, damping=0.01)}.items():
#         pearson, ratio = statistics.pearson(guess[some].squared_weights, truth.squared_weights)[0], guess[some].squared_weights / truth.squared_weights
#         print(f"{times} times as long, {name}: Pearson {pearson:.2f}, median of predicted / true {float(ratio.median()):.2f}")
# ```
# </details>
#
# 5. Damp the exact influence functions as LiSSA is damped, with $\delta=10$ where there is no decay. Which of the two differences between LiSSA and the exact solve explains more, the damping or the stopping?
#
# <details><summary>Answer</summary>
#
# The damping: with it the exact solve and LiSSA's mean agree, since $1/(\mu+10)$ is hardly changed by stopping at a length of 1. It makes the predicted changes small; their order hardly depends on it.
#
# ```python
# found, _, end = studies["MLP", 0.0]
# guesses = {f"exact, δ = {delta:g}": influence_in_closed_form(end, damping=delta)[starts["MLP"][2]] for delta in (0.01, 0.1, 1.0, 10.0, 100.0)}
# for name, guess in (guesses | {"LiSSA in the mean": found["LiSSA in the mean"]}).items():
#     pearson, ratio = statistics.pearson(guess.squared_weights, found["retrained"].squared_weights)[0], guess.squared_weights / found["retrained"].squared_weights
#     print(f"{name}: Pearson {pearson:.3f}, median of predicted / true {float(ratio.median()):.3f}")
# ```
# </details>

# %% [markdown]
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
