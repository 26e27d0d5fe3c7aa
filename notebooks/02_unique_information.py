# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Unique information: what an example tells that no other does
#
# **Question.** Compare predictions with and without one training example, in closed form. Which examples turn out to be informative, and what is that good for?
#
# *Hrayr Harutyunyan and six others, "Estimating informativeness of samples with smooth unique information", ICLR 2021, [arXiv:2101.06640](https://arxiv.org/abs/2101.06640): definitions in its sections 3 and 4, experiments in section 6.*
#
# What we found:
#
# - Most inform less than the mean, 64% of the digits. But of the squares of a Gaussian variable 68% do. The most informative ones look unusual.
# - An example of a rare class informs more than one of a common class, with probability .91.
# - A wrong label informs more than a right one, with probability .93 among digits. But among ten garments the plain loss finds more of them ([07](07_scores_side_by_side.ipynb)).
# - Of the digits 4 and 9, the least informative 60% can go at no cost that we see; of two garments that look alike, only 20%. Likewise in [07](07_scores_side_by_side.ipynb): the half of a training set with the highest F-SI is worse than a random half.
# - *Joint*, a rule of ours, weighs the whole group that is dropped. With 95% of the digits gone it is 9 points [1, 16] ahead of a random choice; the claim stays open.
#
# *Symbols: the [glossary](GLOSSARY.md). Sources, attacks, text and SGD: [appendix 12](appendix/12_unique_information_further.ipynb).*
#
# To run a part, run the cells to the end of *Method*, then *Which examples are informative?*, *Rare classes*, *Wrong labels* or *Data summarization*.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # the larger set, a name that lib.data.datasets.load knows, or the path of an .npz
pair: list = [2, 4]  # two of its classes, for the binary task "garments"
digit_pair: list = [4, 9]  # two digits, for the binary task "digits"
seeds: int = 10  # draws of rows and networks in the binary experiments
removed: list = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]  # shares dropped
digits: str = "mnist-5k"  # the set of digits
n: int = 1000  # training rows of "garments"
n_val: int = 1000  # rows on which predictions are compared there
n_digits: int = 600  # training rows of "digits"
n_val_digits: int = 200  # rows on which predictions are compared there; the rest tests
width: int = 1024  # hidden units of the network that scores
lr: float = 0.001  # learning rate of the mean loss, full batch
steps: int = 2000  # steps
n_ten: int = 300  # training rows of the task with all ten classes
n_val_ten: int = 200  # rows on which predictions are compared there
seeds_ten: int = 5  # draws of rows and networks there
seeds_even: int = 30  # fresh draws for the question whether balanced classes are alike
rare_counts: list = [35, 5]  # rows of a common and of a rare class
body: str = "ResNet-18"  # the pretrained network, or DenseNet
body_width: int = 16  # channels of the first stage of a residual network (64 is the usual)
n_pretrain: int = 6000  # rows on which it is pretrained
epochs_pretrain: int = 3  # passes over these
n_body: int = 500  # training rows of the task on which it scores
n_val_body: int = 250  # rows on which predictions are compared there
runs: int = 5  # draws of rows and last layers there
per_layer: int = 2000  # coordinates kept of each of its parameter tensors
summary_width: int = 256  # hidden units of the networks of the summarization (1,024 in the paper)
removed_transfer: list = [0.2, 0.4, 0.6, 0.8, 0.9, 0.95]  # of the shares, for the second network
iterations: int = 200  # steps of a retraining, batches of 64, whatever is kept
lr_retrain: float = 0.02  # its peak learning rate, momentum 0.9, cosine
device: str = "cpu"  # where to train: "cpu" or "cuda"
seed: int = 0  # first of all seeds

# %% [markdown]
# ## What we test
#
# The paper takes its score to look at data, to find wrong labels and to summarize. The claims and what we call a success were written down before the run:

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from experiments import plots, rankings
from experiments.processes import each_in_a_process
from experiments.transfer import transferred
from experiments.unique_information import STRATEGIES, accuracies, drawn, gap, kept, linearized_hessian, points, pretrained, redrawn_interval, removal_order
from lib import statistics
from lib.costs import bar
from lib.data import datasets, noise
from lib.ledger import Ledger
from lib.networks import models
from lib.numerics.gradients import jacobians
from lib.scores import definitions
from lib.scores import unique_information as si
from lib.scores.unique_information import f_si, leave_one_out, regression_targets, tangent
from lib.store import Store
from lib.training import Recipe, Run

plots.style()
run = Run(device=device, store=Store(profile=profile))
ledger = Ledger("02", profile)
ledger.criteria()


# %% [markdown]
# ## Data
#
# Two binary tasks, the paper's 4 against 9 and a hard pair of garments; and all ten garments. A seed draws training rows, validation rows (predictions are compared on them, and their labels never used) and, from the rest, test rows.
#
# Six pictures of each class of the binary tasks:

# %%
def pooled(d):
    return torch.cat([d.x_train, d.x_test]), torch.cat([d.y_train, d.y_test])

whole = datasets.load(dataset, seed=seed)
two_garments = datasets.load(dataset, n_train=2 * n, n_test=n + n_val, classes=pair, seed=seed)
two_digits = datasets.load(digits, classes=digit_pair, seed=seed)
tasks = {"digits": (*pooled(two_digits), n_digits, n_val_digits), "garments": (*pooled(two_garments), n, n_val)}
names = {"digits": two_digits.classes, "garments": two_garments.classes}
k = len(whole.classes)

def split(task, s):
    """Training, validation and test positions of one seed."""
    _, y, train, val = tasks[task]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed + s))
    return order[:train], order[train : train + val], order[train + val :]

first = [x[torch.nonzero(y == c).flatten()[:6]] for x, y, *_ in tasks.values() for c in (0, 1)]
fig = plots.pictures(torch.cat(first), columns=6, titles=[c for pair in names.values() for c in pair], size=0.6)
plots.save(fig, "02_data", profile)
for task, (_, y, train, val) in tasks.items():
    print(f"{task}: {len(y):,} rows, of which a seed draws {train:,} to train on, {val:,} to compare, the rest to test")
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")

# %% [markdown]
# ## Method
#
# Let training on the data $S$ give the weights $w$, and without example $i$ the weights $w_{-i}$. The paper smooths both with Gaussian noise of covariance $\Sigma$, since the information in a point is infinite. The divergence between the two is
#
# $$ \begin{aligned}\mathrm{SI}_\Sigma(i)&=\mathrm{KL}\bigl(p(w\mid S)\,\|\,p(w\mid S_{-i})\bigr)\\ &=\tfrac12\,(w-w_{-i})^\top\Sigma^{-1}(w-w_{-i}),\end{aligned} $$
#
# and for predictions on other inputs, smoothed by noise of standard deviation $\sigma$ (here 1),
#
# $$ \text{F-SI}(i) = \frac{1}{2\sigma^2}\,\mathbb E_x\,\|f_w(x)-f_{w_{-i}}(x)\|^2 \quad\text{nats}. $$
#
# What another example says as well is not in it. In place of retraining, we take the network linearized at its first weights. Gradient descent moves its predictions by
#
# $$ \begin{gathered}f_t(x)-f_0(x)=\\ \Theta(x,X)\,\Theta^{-1}\bigl(1-(1-\tfrac{\eta}{n}\Theta)^t\bigr)\,(Y-f_0(X))\end{gathered} $$
#
# with the kernel $\Theta=\nabla f_0(X)^\top\nabla f_0(X)$, of which leaving out $i$ deletes a row and a column. How well this foretells real retraining is the subject of [01](01_linearization_accuracy.ipynb). In code, one training for each example:

# %%
print(inspect.getsource(definitions.f_si), inspect.getsource(definitions.leave_one_out), sep="\n")

# %% [markdown]
# The library takes all left-out examples at once from one eigendecomposition. We compare both, and a second form by weights, with the Fisher information of the validation inputs as $\Sigma^{-1}$.

# %%
x, y, *_ = tasks["digits"]
train, val, _ = (rows[:40] for rows in split("digits", 0))
model = models.initialize(models.mlp(x[0].numel(), (4,), 1), seed).double()  # few weights
net, j = tangent(model, x[train].double(), x[val].double()), jacobians(model, x[train].double())
slow = definitions.f_si(model, x[train], y[train], x[val], lr=lr, steps=steps)
fast = f_si(net, y[train], lr=lr, steps=steps)
found = leave_one_out(net.kernel, regression_targets(y[train], 1) - net.outputs, lr=lr / 40, steps=steps)
fisher = linearized_hessian(jacobians(model, x[val].double()), outputs=1)
by_weights = si.sample_information(found.weights(j), precision=fisher)
error = max(float((other / slow - 1).abs().max()) for other in (fast, by_weights))
assert error < 1e-6, error
print(f"40 trainings against one eigendecomposition, predictions against weights: largest relative difference {error:.0e}")


# %% [markdown]
# We score with one hidden layer, trained for the published time ($t=2000$, $\eta=.001$). The same networks score the same rows with 10% wrong labels, for later.

# %%
def network(inputs, outputs, s, hidden=(width,)):
    return models.initialize(models.mlp(inputs[0].numel(), hidden, outputs), seed + s)

def scored(x, y, val, classes, s):
    """F-SI under right and under partly wrong labels, which labels are wrong, and how usual each example is."""
    net = tangent(network(x, 1 if classes == 2 else classes, s), x, val)
    wrong, flipped = noise.uniform_noise(y, 0.1, k=classes, seed=seed + s)
    right, noisy = (f_si(net, labels, lr=lr, steps=steps) for labels in (y, wrong))
    return {"score": right, "noisy": noisy, "flipped": flipped, "regular": rankings.label_agreement(x, y), "y": y, "x": x}

def scored_rows(task, s):
    if task == "ten classes":
        ten = datasets.load(dataset, n_train=n_ten, n_test=n_val_ten, seed=seed + s)
        return scored(ten.x_train, ten.y_train, ten.x_test, k, s)
    (x, y, *_), (train, val, _) = tasks[task], split(task, s)
    return scored(x[train], y[train], x[val], 2, s)

jobs = [("ten classes", s) for s in range(seeds_ten)] + [(task, s) for task in tasks for s in range(seeds)]
results = each_in_a_process(scored_rows, jobs)
every = {task: [one for (of, _), one in zip(jobs, results, strict=True) if of == task] for task in (*tasks, "ten classes")}

# where seeds shuffle the same rows, so that intervals are widened: test rows over training rows
redrawn = {task: (len(y) - train - val) / train for task, (_, y, train, val) in tasks.items() if 2 * train > len(y)}

def over_seeds(values, task=""):
    values = np.array([float(value) for value in values])
    return float(values.mean()), redrawn_interval(values, share=redrawn.get(task, 0))

def auc(score, flags):
    return statistics.auroc(score.numpy(), flags.numpy(), seed=seed)[0]


# %% [markdown]
# ## Which examples are informative?
#
# **Predict.** What share of the examples lies below the mean: half, or nearly all?
#
# <details><summary>Answer</summary>
#
# 62% to 67%. F-SI is a square, and of the squares of a Gaussian variable 68% do: the tail is shorter than theirs.
# </details>

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.2, 2.9), sharey=True)
for ax, task in zip(axes, ("digits", "ten classes"), strict=True):
    score = every[task][0]["score"]
    ax.hist(score.log10().clamp(min=score.max().log10() - 5), 30, color="#0072b2", alpha=0.6)
    ax.axvline(score.mean().log10(), color="black", lw=1.2, ls="--", label="mean")
    ax.set(xlabel="log₁₀ F-SI (nats)", title=f"{task}, {len(score):,} examples")
axes[0].set(ylabel="examples")
axes[0].legend()
plots.save(fig, "02_histograms", profile)


# %% [markdown]
# Among the digits F-SI spans more than three orders of magnitude, among the ten classes one and a half. The least and the most informative pictures of the first seed:

# %%
def extremes(task, columns=6):
    found = every[task][0]
    order = found["score"].argsort()
    rows = torch.cat([order[:columns], order.flip(0)[:columns]])
    labels = names[task] if task in names else whole.classes
    return found["x"][rows], [labels[c] for c in found["y"][rows].tolist()]

ends = [extremes(task) for task in every]
pictures, captions = torch.cat([pixels for pixels, _ in ends]), [label for _, labels in ends for label in labels]
titles = [f"{task},\n{end}" for task in every for end in ("least", "most")]
fig = plots.pictures(pictures, captions, columns=6, titles=titles, size=0.8)
for ax in fig.axes:
    ax.xaxis.label.set_size(9.5), ax.yaxis.label.set_size(10)
plots.save(fig, "02_extremes", profile)


# %% [markdown]
# Informative 4s lean and close at the top, informative 9s are wide open circles. Informative garments are dark: the kernel of a dense network grows with the length of its input. In numbers, how many of the ten nearest neighbours share an example's label, for the least informative twentieth against the most informative:

# %%
def regularity_gap(found):
    order, twentieth = found["score"].argsort(), max(1, len(found["y"]) // 20)
    return found["regular"][order[:twentieth]].mean() - found["regular"][order[-twentieth:]].mean()

below = {task: over_seeds(((f["score"] < f["score"].mean()).double().mean() for f in found), task) for task, found in every.items()}
gaps = {task: over_seeds(map(regularity_gap, found), task) for task, found in every.items()}
for (claim, what), values in {("ui.fsi.examples", "below the mean"): below, ("ui.fsi.examples.atypical", "neighbours, least − most informative"): gaps}.items():
    value, interval = statistics.apart(values)
    ledger.record(claim, value, interval=interval, n=seeds, note=f"ten classes: {seeds_ten} seeds", covers=["initializations", "rows"])
    print(f"{what}:", ", ".join(f"{task} {v:.2f}" for task, v in value.items()))


# %% [markdown]
# The least informative twentieth has more such neighbours, by 34 to 56 points: they are typical, the others are not.
#
# ## Rare classes
#
# In a balanced task, how often is an example of the second class more informative than one of the first?

# %%
def second_over_first(task, s):
    (x, y, *_), (train, val, _) = tasks[task], split(task, s)
    net = tangent(network(x[train], 1, s), x[train], x[val])
    return auc(f_si(net, y[train], lr=lr, steps=steps), y[train] == 1)

fresh = [(task, s) for task in tasks for s in range(1000, 1000 + seeds_even)]
shares = np.reshape(each_in_a_process(second_over_first, fresh), (len(tasks), seeds_even))
even = {task: over_seeds(share, task) for task, share in zip(tasks, shares, strict=True)}
value, interval = statistics.apart(even)
ledger.record("ui.rare_class.even", value, interval=interval, n=seeds_even, covers=["initializations", "rows"])
print(pd.Series({task: "{:.3f} [{:.3f}, {:.3f}]".format(value[task], *interval[task]) for task in tasks}).to_string())

# %% [markdown]
# Nearly even (.56), but the interval of the digits reaches .62, beyond the .10 that we allowed. Next, ten classes, each rare once, two at a time.
#
# **Predict.** How often is an example of a rare class more informative than one of a common class: six times in ten, or nine?
#
# <details><summary>Answer</summary>
#
# Nine: the AUROC is .91 (95% interval over five pairs: .86 to .96).
# </details>

# %%
pool_x, pool_y = pooled(whole)

def imbalanced(s):
    rare = torch.tensor([2 * s % k, (2 * s + 1) % k])
    counts = {c: rare_counts[int(c in rare)] for c in range(k)}
    rows = drawn(pool_y, {c: 2 * count for c, count in counts.items()}, seed=seed + s)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + s))]
    train = drawn(pool_y[rows], counts, seed=seed + s)
    val = torch.from_numpy(np.setdiff1d(np.arange(len(rows)), train))
    return pool_x[rows[train]], pool_y[rows[train]], pool_x[rows[val]], rare

def score_of(x, y, val, rare, s):
    return f_si(tangent(network(x, k, s), x, val), y, lr=lr, steps=steps), torch.isin(y, rare), y

uneven = each_in_a_process(score_of, [(*imbalanced(s), s) for s in range(seeds_ten)])
value, interval = over_seeds(auc(score, rare) for score, rare, _ in uneven)
ledger.record("ui.rare_class", value, interval=interval, n=seeds_ten, note="over pairs of rare classes", covers=["initializations", "rows"])

# %% [markdown]
# The mean F-SI of each class, rare and common, over that of the whole set:

# %%
rows = [(int(c), bool(flag), float(s / score.mean())) for score, rare, y in uneven for s, flag, c in zip(score, rare, y, strict=True)]
by_class = pd.DataFrame(rows, columns=["class", "rare", "relative"]).pivot_table(index="class", columns="rare", values="relative")
by_class = by_class.set_axis([whole.classes[c] for c in by_class.index]).rename(columns={False: "common", True: "rare"}).dropna()
fig, ax = plt.subplots(figsize=(6, 3.4))
plots.dumbbell(ax, by_class[["common", "rare"]], "mean F-SI / mean over all examples")
ax.set(title=f"{rare_counts[1]} or {rare_counts[0]} examples of the class; AUROC {value:.2f}")
plots.save(fig, "02_rare", profile)

# %% [markdown]
# Every class is more informative when it is rare, by a factor between one and a half and seven.
#
# ## Wrong labels
#
# We replace a tenth of the labels. A fourth network scores the pair of garments: a ResNet pretrained on the other garments, with a new last layer.
#
# **Predict.** In which of the four are wrong labels found best: digits, garments, ten classes, or garments with the ResNet?
#
# <details><summary>Answer</summary>
#
# Digits (.93): the easier the task, the less do right labels look wrong.
# </details>
#
# How often a wrong label is more informative than a right one; the ResNet has five draws and 1,000 steps:

# %%
others = [c for c in range(k) if c not in pair]
on_others = datasets.load(dataset, n_train=n_pretrain, n_test=1000, classes=others, seed=seed)
resnet = pretrained(body, on_others, width=body_width, epochs=epochs_pretrain, seed=seed, run=run)

def noisy_run(s):
    d = datasets.load(dataset, n_train=n_body, n_test=n_val_body, classes=pair, seed=seed + s)
    net = tangent(transferred(resnet, 1, seed=seed + s), d.x_train, d.x_test, per_layer=per_layer, seed=seed)
    wrong, flipped = noise.uniform_noise(d.y_train, 0.1, k=2, seed=seed + s)
    return {"noisy": f_si(net, wrong, lr=0.001, steps=1000), "flipped": flipped}

noisy = every | {"pretrained ResNet": [noisy_run(s) for s in bar(range(runs))]}
found = {task: over_seeds((auc(f["noisy"], f["flipped"]) for f in results), task) for task, results in noisy.items()}
value, interval = statistics.apart(found)
ledger.record("ui.mislabelled", value, interval=interval, n=seeds, note=f"ten classes {seeds_ten} seeds, ResNet {runs}", covers=["initializations", "rows"])

# %% [markdown]
# Above: right and wrong labels among the digits. Below: which share of the wrong labels is found if the most informative examples are examined first.

# %%
fig, axes = plt.subplots(2, 1, figsize=(6, 6.6))
one = noisy["digits"][0]
plots.two_histograms(axes[0], one["noisy"].log10(), one["flipped"], "log₁₀ F-SI (nats)", ("right label", "wrong label"), bins=25)
axes[0].set(title="digits, first seed")
for (task, (one, *_)), dash in zip(noisy.items(), ("-", "--", "-.", ":"), strict=True):
    hit = one["flipped"][one["noisy"].argsort(descending=True)].double().cumsum(0) / one["flipped"].sum()
    axes[1].plot(np.linspace(0, 1, len(hit)), hit, dash, label=f"{task}, AUROC {value[task]:.2f}")
axes[1].plot([0, 1], [0, 1], color="0.5", lw=0.9)
axes[1].set(xlabel="share examined, most informative first", ylabel="share of wrong labels found")
axes[1].legend()
plots.save(fig, "02_mislabelled", profile)


# %% [markdown]
# A wrong label is more informative in all four, as published. A tenth of the digits holds more than half of the wrong labels. Among pullovers and coats, right labels that look wrong get in between.
#
# ## Data summarization
#
# Drop the least informative examples and train on the rest. Of two copies each is dispensable, but not both. So the paper has *bottom* (score once) and *bottom iterative* (score anew after each 5%), beside *top* (drop the most informative) and *random*.
#
# The last rule, *joint*, is ours. If $f_K$ are the predictions after training on what is kept, and $\delta_i$ the change that $i$ makes in them, the information of the dropped group grows to $\|f_{\text{all}}-f_K+\delta_i\|^2$ when $i$ joins it. *Joint* drops the example that makes this smallest, and computes $f_K$ anew after each 5%.
#
# Every share, strategy and seed is a network of one ensemble, tested on rows not seen before.

# %%
def orders(task, s):
    x, y, *_ = tasks[task]
    train, val, test = split(task, s)
    net = tangent(network(x, 1, s, (summary_width,)), x[train], x[val])
    order = lambda strategy: removal_order(net, y[train], strategy, lr=lr, steps=steps, until=max(removed), seed=seed + s)
    return [{"strategy": one, "seed": seed + s, "order": order(one), "rows": train, "test": test} for one in STRATEGIES]

ordered = each_in_a_process(orders, [(task, s) for task in tasks for s in range(seeds)])
dropped = {task: [one for found in ordered[i * seeds : (i + 1) * seeds] for one in found] for i, task in enumerate(tasks)}

recipe = Recipe(lr=lr_retrain, momentum=0.9, schedule="cosine", iterations=iterations, batch_size=64, loss="mse")

def retrained(task, hidden, shares, strategies=STRATEGIES):
    x, y, *_ = tasks[task]
    plans = [
        {"strategy": one["strategy"], "removed": share, "seed": one["seed"], "test": one["test"],
         "train": one["rows"][kept(one["order"], share)]}
        for one in dropped[task] if one["strategy"] in strategies for share in (0.0, *shares)
        if share or one["strategy"] == "random"
    ]  # fmt: skip
    model = models.mlp(x[0].numel(), hidden, 1)
    return accuracies(model, x, y, plans, recipe=recipe, run=run)

curves = {task: retrained(task, (summary_width,), removed) for task in tasks}

# %% [markdown]
# **Predict.** With nineteen of twenty examples gone, which network is right most often: that with the most informative ones left, the least informative ones, random ones, or those that *joint* leaves?
#
# <details><summary>Answer</summary>
#
# *Joint*: 93% on digits, against 84% with random rows. With the most informative ones (*bottom*) it is 52%.
# </details>

# %%
LINES = {
    "bottom": {"color": "#d55e00", "linestyle": "-", "marker": "v"},
    "bottom iterative": {"color": "#e69f00", "linestyle": (0, (5, 1)), "marker": "s"},
    "top": {"color": "#cc79a7", "linestyle": (0, (3, 1, 1, 1)), "marker": "^"},
    "random": {"color": "#7f7f7f", "linestyle": (0, (1, 1)), "marker": "x"},
    "joint": {"color": "#0072b2", "linestyle": (0, (6, 2)), "marker": "o"},
}

def draw(ax, table, title):
    for strategy in table.strategy.unique():
        plots.band(ax, table[(table.strategy == strategy) & (table.removed > 0)], "removed", "accuracy", strategy, **LINES[strategy])
    full = table[table.removed == 0].accuracy
    plots.reference(ax, full.mean(), "all", interval=statistics.t_interval(full.to_numpy()))
    plots.reference(ax, 0.5, "chance")
    ax.set(xlabel="share of the training examples dropped", title=title, ylim=(min(0.45, table.accuracy.min()), 1.01))

fig, axes = plt.subplots(2, 1, figsize=(6, 8))
for ax, (task, table) in zip(axes, curves.items(), strict=True):
    draw(ax, table, f"{task}: {names[task][0]} against {names[task][1]}")
    ax.set(ylabel=f"test accuracy, {seeds} seeds")
axes[1].legend(*axes[0].get_legend_handles_labels(), loc=(0.02, 0.31))
plots.save(fig, "02_summarization", profile)


# %% [markdown]
# The upper half is the paper's Fig. 2c. Dropping the *least* informative digits costs nothing up to 60%; scoring anew moves the break to 80%. *Top* hurts from the start, but past 80% it beats *bottom*, which has only outliers left.
#
# The lower half shows classes that overlap. *Bottom* is flat for 20% only, and at 90% below chance. The most informative pullovers look like coats, and a network that sees nothing else learns the task upside down. *Random* then beats both *bottom* rules, and *joint* leads only at 95%.
#
# The claims, in points of accuracy:

# %%
def compared(first, second, shares, tables=curves):
    """Mean difference in points and its interval, by task and share."""
    rows = {task: gap(table, first, second) for task, table in tables.items()}
    return {
        f"{task}, drop {share:.0%}": over_seeds(v, task)
        for task, table in rows.items()
        for share, v in table[table.index.isin(shares)].iterrows()
    }

questions = {
    "ui.summarize": ("bottom", "all", (0.2, 0.4, 0.6)),
    "ui.summarize.top": ("bottom", "top", (0.2, 0.4, 0.6)),
    "ui.summarize.iterative": ("bottom iterative", "bottom", (0.6, 0.8, 0.9)),
    "ui.summarize.crossing": ("top", "bottom", (0.9, 0.95)),
    "ui.summarize.random": ("random", "bottom", (0.8, 0.9)),
    "ui.summarize.joint": ("joint", "random", (0.6, 0.8, 0.9, 0.95)),
}
for claim, question in questions.items():
    value, interval = statistics.apart(compared(*question))
    ledger.record(claim, value, interval=interval, n=seeds, covers=["initializations", "rows", "test rows"])


# %% [markdown]
# The paper's claims hold on its own task, which decides them; on the harder one three do. There *bottom* costs 5 points at 40%, no less than *top*. What is left of the first seed with 95% dropped:

# %%
def last_kept(task, strategy, many=8):
    one = next(one for one in dropped[task] if one["strategy"] == strategy)
    return tasks[task][0][one["rows"][one["order"].flip(0)[:many]]]

rows = [(task, strategy) for task in tasks for strategy in STRATEGIES]
fig = plots.pictures(torch.cat([last_kept(*row) for row in rows]), columns=8, titles=[",\n".join(row) for row in rows], size=0.55)
for ax in fig.axes:
    ax.yaxis.label.set_size(9)
plots.save(fig, "02_kept", profile)

# %% [markdown]
# *Bottom* keeps the odd ones, *top* the plain ones, *joint* a mixture.
#
# ### For another network
#
# Rows chosen with one hidden layer, a network with two trained on them:

# %%
second = {"digits": retrained("digits", (summary_width, summary_width), removed_transfer)}
fig, ax = plt.subplots(figsize=(6, 4))
draw(ax, second["digits"], "digits, two hidden layers")
ax.set(ylabel=f"test accuracy, {seeds} seeds")
ax.legend(loc=(0.02, 0.31))
plots.save(fig, "02_transfer", profile)

# %% [markdown]
# We compare *bottom* with *top*, and each curve with the one that the first network gave:

# %%
found = compared("bottom", "top", (0.2, 0.4, 0.6), second)
value, interval = statistics.apart({key.removeprefix("digits, "): pair for key, pair in found.items()})
ledger.record("ui.summarize.transfer", value, interval=interval, n=seeds, covers=["initializations", "rows", "test rows"])
by_seed = lambda table, s: points(table, s).loc[removed_transfer]
apart = {s: (by_seed(second["digits"], s) - by_seed(curves["digits"], s)).mean() for s in STRATEGIES}
value, interval = statistics.apart({strategy: over_seeds(moved, "digits") for strategy, moved in apart.items()})
ledger.record("ui.summarize.transfer.same", value, interval=interval, n=seeds, covers=["initializations", "rows", "test rows"])
print("two hidden layers − one, points:", ", ".join(f"{strategy} {v:+.1f}" for strategy, v in value.items()))

# %% [markdown]
# The order is the same. *Top* and *random* lose less than a point more, the two *bottom* rules about two. Of those judged, our margin of two holds for *random* alone; the others stay open.
#
# ## Where we deviate, and why
#
# - **Data.** 600 digits to train on where the paper has 1,000; garments for its photographs, mostly scored by an untrained dense network. Ten classes have 300 examples, since their kernel has $nk$ rows.
# - **Pretraining** is on other garments and not on ImageNet, at a quarter of the width.
# - **Test rows** are not those on which predictions are compared, as they are in the authors' code. That code drops 5% of what is *left*, the paper 5% of all; we follow the paper.
# - **Seeds** of the digits shuffle the same 1,000 rows, so their intervals are widened (Nadeau and Bengio, *Machine Learning* 2003; of ten seeds 2.1 times). The garments', whose draws share less, are not.
# - **Retrainings.** The authors' commands have 1,024 units, and 2,000 full batches at .001; ours 256, and 200 batches of 64 with momentum.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# Both stand on the set-up alone.
#
# 1. Add a copy of the most informative digit. What happens to its F-SI? And if training goes on for ever?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# It falls, but little after 2,000 steps: two copies also pull twice as hard. With $t\to\infty$ nothing is left. The others keep their order.
#
# ```python
# (x, y, *_), (train, val, _), best = tasks["digits"], split("digits", 0), every["digits"][0]["score"].argmax()
# rows = torch.cat([train, train[best][None]])
# single, doubled = (tangent(network(x, 1, 0), x[some], x[val]) for some in (train, rows))
# for t in (steps, 10 * steps, 1000 * steps):
#     before, after = f_si(single, y[train], lr=lr, steps=t), f_si(doubled, y[rows], lr=lr, steps=t)
#     others = statistics.spearman(before, after[:-1])[0]
#     print(f"{t:,} steps: {float(after[best] / before[best]):.0e} of its F-SI is left; Spearman of all {others:.3f}")
# ```
# </details>

# %% [markdown]
# 2. Informative garments are dark. Scale every picture to the same length and score again. Are wrong labels still found?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# Better than before: the AUROC is .88, and was .84.
#
# ```python
# (x, y, *_), (train, val, _), found = tasks["garments"], split("garments", 0), every["garments"][0]
# ink = x.flatten(1).norm(dim=1)
# unit = x / ink[:, None, None, None] * ink.mean()
# again = scored(unit[train], y[train], unit[val], 2, 0)
# for name, one in {"as they are": found, "same length": again}.items():
#     follows = statistics.spearman(one["score"], ink[train])[0]
#     print(f"{name}: Spearman with the ink {follows:+.2f}, AUROC of wrong labels {auc(one['noisy'], one['flipped']):.2f}")
# ```
# </details>
