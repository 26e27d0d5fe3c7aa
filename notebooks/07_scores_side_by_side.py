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
# # 07 · All scores side by side
#
# *Not in any of the papers: their scores on the same rows, under the same budgets, against the same wrong labels, by the same clock.*
#
# **Question.** A dozen numbers claim to say what a training example is worth. Do they say the same, and which of them is worth its price, for what?
#
# *Symbols and scores: the [glossary](GLOSSARY.md).*

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # a name that lib.data.datasets.load knows, or the path of an .npz of pictures
n: int = 4000  # training rows that are scored, pruned and trained on
n_test: int = 10000  # test rows
architecture: str = "mlp-128"  # the network that is scored with and retrained, a name that lib.networks.models.by_name knows
epochs: int = 12  # passes over the full set; every pruned set takes as many steps
early: int = 4  # the epoch at which EL2N is taken
networks: int = 10  # trainings averaged in the scores that are read off a training
curvatures: int = 4  # of these, how many have an influence function taken
trials: int = 200  # trainings on 70% of the rows, for memorization and the C-score
trial_epochs: int = 15  # passes in each of these
tangent_width: int = 1024  # hidden units of the linearized network of F-SI
tangent_networks: int = 2  # initial weights that F-SI is averaged over
tangent_inputs: int = 500  # inputs on which F-SI compares predictions
small: int = 200  # rows on which formulas are checked
resamples: int = 400  # of the bootstrap of rank correlations
extreme: float = 0.05  # the share of the rows that counts as the top, or the bottom, of a score
seeds: int = 5  # retrainings of every choice of rows
kept: list = [0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8]  # shares of the rows kept; 0.5 is the one that is judged
left_out: list = [0.05, 0.1, 0.2, 0.3]  # highest scores left out by a window of half of the rows
noise_levels: list = [0.1, 0.2, 0.4]  # shares of wrong labels, uniform; 0.2 is the one that is judged
paired_level: float = 0.2  # share of the labels that become that of the most similar class
shares_of_runs: list = [0.1, 0.3]  # cheaper versions of the scores, with fewer trainings
shown: int = 8  # pictures a row where two scores disagree
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, noise, initial weights, ties, bootstrap

# %% [markdown]
# ## What we test
#
# Notebooks 01 to 06 take each score on its own ground. Here all of them get the same rows. Four statements that one would like to be true, with what we will call a success, written down before the run:

# %%
import dataclasses
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from experiments import pruning
from lib import catalogue, plots, rankings, statistics
from lib import rankings as sides
from lib.data import datasets, noise, provenance, read_scores
from lib.data.datasets import DATA
from lib.ledger import Ledger
from lib.networks import models
from lib.scores import definitions
from lib.scores.memorization import subsets
from lib.scores.unique_information import f_si, f_si_by_class, tangent
from lib.store import Store
from lib.training import ensemble, Run

plots.style()
ledger, store = Ledger("07", profile), Store(profile=profile)
if 0.5 not in kept or 0.2 not in noise_levels:
    raise ValueError(f"kept must hold 0.5 and noise_levels 0.2, which are judged; got {kept} and {noise_levels}")
ledger.criteria()

# %% [markdown]
# ## Data
#
# A class-balanced sample of the training set, small enough for the scores that need an $n\times n$ matrix. Networks get pictures that are standardized over the training rows; the CG-score gets them as they are, since it takes their directions only.

# %%
images = datasets.load(dataset, n_train=n, n_test=n_test, seed=seed)
x, y, k = images.x_train, images.y_train, len(images.classes)
fig = plots.pictures(x[torch.cat([torch.nonzero(y == c).flatten()[:10] for c in range(k)])], titles=images.classes, size=0.5)
plots.save(fig, "07_data", profile)
print(images)

# %% [markdown]
# ## Method
#
# The scores, the work that they share, and what they say about an example. Every one is turned so that *high = hard, unusual, needed*; where the score's own definition has it the other way round, the table says so. The CG-score comes with its three terms. **random** and **input norm** (the length of the picture, that is, how dark it is) are controls: what they achieve needs no score.

# %%
controls, terms = ["random", "input norm"], ["CG quadratic", "CG partial", "CG diagonal"]
judged = ["CG", "F-SI", "memorization", "C-score", "GraNd", "EL2N", "forgetting", "TracIn", "influence", "loss"]
names = [*controls, *terms, *judged]
works = {"input": "no training", "cg": "one factorization", "runs": "trained networks", "f_si": "linearized networks", "subsets": "networks on subsets"}
about = {name: (works[one.group], "turned" if one.sign < 0 else "", one.text) for name, one in catalogue.SCORES.items() if name in names}
pd.DataFrame(about, index=["from", "", "what it is"]).T.style.set_properties(**{"text-align": "left"})

# %% [markdown]
# All of them come from one call of the library, `lib.catalogue.compute`, with one set of settings. Each formula is checked in the notebook of its paper; what is new here is checked now, on a few rows.
#
# *Memorization, read literally:* train networks on random subsets, and count.

# %%
few = torch.cat([torch.nonzero(y == c).flatten()[: small // k] for c in range(k)])
tiny = catalogue.Settings(architecture="mlp-32", trials=20, trial_epochs=3)
sees = subsets(len(few), round(0.7 * len(few)), 20, seed)

def alone(member):
    """Who is right at the end, (1, n), of one network trained by itself."""
    net, own = models.by_name("mlp-32", shape=tuple(x.shape[1:]), classes=k), sees[member : member + 1]
    run = ensemble.train(net, (statistics.standardized(x[few]), y[few]), catalogue.trial_recipe(tiny), [member], sees=own, run=Run(progress=False))
    return run.correct_train[:, 0]

print(*map(inspect.getsource, (definitions.influence_of_seeing, definitions.memorization, definitions.c_scores)), sep="\n")
right = torch.cat([alone(member) for member in range(20)])
literal = {"memorization": definitions.memorization(sees, right), "C-score": 1 - definitions.c_scores(sees, right)}

# %% [markdown]
# *The CG-score, read literally,* is a difference of two quadratic forms for each example (notebook 04). Both against the library:

# %%
found = catalogue.compute(["CG", "memorization", "C-score"], x[few], y[few], settings=tiny, seed=seed, progress=False)
literal["CG"] = definitions.cg_scores(x[few], y[few])
error = {name: float((found[name].hardness - (value if name != "C-score" else value - 1)).abs().nan_to_num().max() / value.abs().nan_to_num().max()) for name, value in literal.items()}
assert max(error.values()) < 1e-3, error
print("largest difference, of the largest score:", {name: f"{value:.0e}" for name, value in error.items()})

# %% [markdown]
# *F-SI* needs the tangent kernel of all outputs, $nk\times nk$ numbers: 40,000 rows here, which is out of reach. So we give each class a network of its own with one output, "this class or another", as the CG-score does. Their kernels are the same $n\times n$ matrix, and the score is the sum over the classes. In the limit of infinite width this is the same score; on a few rows and at our width:

# %%
inside, outside = (statistics.standardized(rows, x).flatten(1) for rows in (x[few], images.x_test[:100]))
make = lambda outputs: models.initialize(models.mlp(x[0].numel(), (tangent_width,), outputs), seed)
whole = f_si(tangent(make(k), inside, outside), y[few], lr=0.001, steps=2000)
apart = f_si_by_class(tangent(make(1), inside, outside), y[few], classes=k, lr=0.001, steps=2000)
print("Spearman of F-SI by classes with that of one network of {} outputs: {:.2f} [{:.2f}, {:.2f}], {} rows".format(k, *(lambda v, i: (v, *i))(*statistics.spearman(apart, whole, seed=seed)), len(few)))

# %% [markdown]
# ## All scores of all rows
#
# The network and recipe are those of notebook 05. Groups of scores are kept in the store as they are finished, together with what they cost.

# %%
settings = catalogue.Settings(
    architecture=architecture, epochs=epochs, early=early, networks=networks, curvatures=curvatures, trials=trials,
    trial_epochs=trial_epochs, tangent_width=tangent_width, tangent_networks=tangent_networks, tangent_inputs=tangent_inputs,
)
common = {"x_val": images.x_test, "seed": seed, "device": device, "store": store}
scored = catalogue.compute(names, x, y, settings=settings, **common)

# %% [markdown]
# With few networks it happens that all of them saw an example; its memorization is unknown and counts as the median. The noise that is left in each score, as the standard error of an example over the spread between examples:

# %%
known = lambda values: torch.where(values.isnan(), values.nanmedian(), values)
hard = {name: known(one.hardness) for name, one in scored.items()}
noisiness = {name: float((one.stderr.square().nanmean() / hard[name].var()).sqrt()) for name, one in scored.items() if one.stderr is not None}
pd.DataFrame({"standard error / spread": noisiness}).sort_values("standard error / spread").style.format("{:.2f}")

# %% [markdown]
# A score is relative to its company: the same example among other rows has another score. `data/scores/fashion-mnist.parquet` has the scores of all 60,000 training rows, computed among all of them, so we can see how much the company matters.
#
# **Predict.** Which score of an example will change least when fifteen times as many others join it: the one that needs no other example at all, the one from the networks, or the one from the kernel?

# %%
columns = {"input norm": "input_norm", "CG": "cg", "memorization": "memorization", "C-score": "c_score", "GraNd": "grand", "EL2N": "el2n",
           "forgetting": "forgetting", "TracIn": "tracin", "influence": "influence", "loss": "loss"}  # fmt: skip
if images.name == "fashion-mnist":
    stored = read_scores("fashion-mnist", images.rows_train)
    company = {name: statistics.spearman(scored[name].sign * hard[name], stored[column]) for name, column in columns.items()}
else:
    company = {}  # nothing is stored of other data
in_words = lambda found, form="{:.2f} [{:.2f}, {:.2f}]": {name: form.format(v, *ends) for name, (v, ends) in found.items()}
pd.DataFrame({f"Spearman, among {n:,} and among 60,000 rows": in_words(company)})

# %% [markdown]
# The norm and GraNd at initialization keep their order (1.00): they look at one example at a time. EL2N comes next (.93), then loss, TracIn and influence (.90). CG, C-score and forgetting stay alike to about three quarters (.74 to .76), and memorization changes most (.61): what has to be learned by heart among 4,000 rows may have a near twin among 60,000. (With 60,000 rows the networks also train for more steps.) "The score of an example" means little without saying: among which others.
#
# ## Do they rank alike?
#
# **Predict.** Some scores ask how an example is *fitted* (EL2N, loss, forgetting, TracIn), some what *changes without it* (memorization, F-SI, influence, CG). Will the clusters follow this line?

# %%
rho = sides.correlations(hard)
order = sides.clustered(rho)
fig, ax = plt.subplots(figsize=(8.2, 6.8))
plots.heatmap(ax, rho.loc[order, order], "Spearman, all turned so that high = hard", vmin=-1, vmax=1)
for (i, j), value in np.ndenumerate(rho.loc[order, order].to_numpy()):
    ax.text(j, i, f"{value:.2f}".replace("0.", ".").replace("-", "−"), ha="center", va="center", fontsize=7, color="black" if value > 0 else "white")
ax.set_xticks(range(len(order)), order, rotation=60, ha="right")
ax.set_yticks(range(len(order)), order)
plots.save(fig, "07_correlations", profile)

# %% [markdown]
# The judged number is the median of each score's correlations with the other nine; its interval comes from resampling the examples. Beside it the closest and the most distant of the nine.

# %%
agreement = sides.median_agreement({name: hard[name] for name in judged}, resamples=resamples, seed=seed)
value, interval = statistics.apart(agreement)
ledger.record("all.ranks", value, interval=interval, n=n, note=f"{images.name}, {architecture}", covers=["rows"])
nine = rho.loc[judged, judged].where(~np.eye(len(judged), dtype=bool))
pd.DataFrame({
    "median": in_words(agreement),
    "closest": nine.idxmax() + nine.max().map(" {:.2f}".format), "most distant": nine.idxmin() + nine.min().map(" {:.2f}".format),
})

# %% [markdown]
# All pairs with their intervals, from the pair that agrees most to the one that agrees least; here the ends of the list:

# %%
every = [(a, b, *statistics.spearman(hard[a], hard[b], seed=seed)) for i, a in enumerate(judged) for b in judged[i + 1 :]]
pairs = pd.DataFrame(every, columns=["one", "other", "Spearman", "interval"]).sort_values("Spearman", ascending=False)
pairs["95%"] = [f"[{low:.2f}, {high:.2f}]" for low, high in pairs.pop("interval")]
pd.concat([pairs.head(5), pairs.tail(5)]).style.format({"Spearman": "{:.2f}"}).hide()

# %% [markdown]
# The line is not where one might draw it. EL2N, loss, influence and TracIn are nearly one score (.95 to .99), although one of them asks what would change without the example. Memorization and C-score are another (.98): our networks are right about nearly every right label that they have seen, and then the difference says no more than its second part. Forgetting lies between the two groups, CG (.73 to .83) and F-SI (.63 to .78) beside them.
#
# GraNd at initialization agrees with none of the other nine; it is the norm of the picture (1.00). CG's diagonal term goes with it (.59): neither knows the labels. CG's quadratic term runs against everything else.
#
# So the statement holds, for nine scores of ten: the median of a score's correlations with the others is .68 to .83, and −.02 for GraNd.
#
# ### Do they name the same examples?
#
# A correlation is about all rows; whoever looks for wrong labels or for rows to drop cares about the ends.
#
# **Predict.** Two scores with a Spearman of .8: how many of the hardest twentieth do they have in common? And of the easiest?

# %%
fig, axes = plt.subplots(1, 2, figsize=(13, 5.6), sharey=True)
ends = {"hardest": True, "easiest": False}
for ax, (end, highest) in zip(axes, ends.items(), strict=True):
    common_part = sides.overlap(hard, extreme, highest=highest, seed=seed).loc[order, order]
    plots.heatmap(ax, common_part, f"share in common of the {end} {extreme:.0%} (chance {extreme:.2f})", vmin=0, vmax=1)
    for (i, j), part in np.ndenumerate(common_part.to_numpy()):
        ax.text(j, i, f"{part:.2f}".replace("0.", "."), ha="center", va="center", fontsize=7, color="black" if part > 0.5 else "white")
    ax.set_xticks(range(len(order)), order, rotation=60, ha="right")
axes[0].set_yticks(range(len(order)), order)
plots.save(fig, "07_overlap", profile)
low, high = sides.overlap_chance(n, extreme)
tied = {name: int((hard[name] == hard[name].kthvalue(round(extreme * n))[0]).sum()) for name in ("C-score", "memorization", "forgetting", "EL2N")}
print("rows that tie at the border of the easiest:", tied)
print(f"{round(extreme * n)} rows at each end; two random choices have {low:.3f} to {high:.3f} in common (95%)")

# %% [markdown]
# Agreement at the ends is another matter. Of the hardest twentieth, EL2N and loss share .78 at a Spearman of .99, EL2N and CG .56 at .82, memorization and CG .10 at .75: memorization's hardest are those that networks *can* learn by heart, and the hardest of all, which they get wrong even when they have seen them, are not among them.
#
# Among the easiest, EL2N, loss, influence and TracIn have nearly all in common (.78 to .96), CG and they only a fifth. C-score, memorization and forgetting agree with nobody, not even with each other: 2,500 of the 4,000 rows and more tie for the easiest place, and which of them are named is chance. By these scores one can find the rows that matter, but not rank those that do not.
#
# ### Would the same score say it twice?
#
# A score that changes from run to run cannot agree with another better than with itself. Each half of the runs gives a score; we compare the halves (for random, two draws). CG and the norm have nothing random in them.
#
# **Predict.** Ten networks or two hundred: whose halves agree better?

# %%
halves = {name: known(one.halves) for name, one in scored.items() if one.halves is not None}
stable = {name: (*statistics.spearman(*pair, seed=seed), sides.overlap({"a": pair[0], "b": pair[1]}, extreme, highest=scored[name].sign > 0).loc["a", "b"]) for name, pair in halves.items()}
table = pd.DataFrame(stable, index=["Spearman", "95%", "in common"]).T.sort_values("Spearman", ascending=False)
fig, ax = plt.subplots(figsize=(7, 3.6))
place = np.arange(len(table))[::-1]
ax.barh(place, table["Spearman"].astype(float), color="0.75", label="Spearman of the two halves")
ax.plot(table["in common"].astype(float), place, "o", color="#d55e00", label=f"hardest {extreme:.0%} in common")
ax.set_yticks(place, table.index)
ax.set(xlabel="agreement of two halves of the runs", xlim=(min(0, ax.get_xlim()[0]), 1))
ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
plots.save(fig, "07_stability", profile)

# %% [markdown]
# In numbers, with the trainings behind one half:

# %%
behind = pd.Series({name: scored[name].trainings / 2 for name in table.index}).round(1)
table.assign(**{"95%": table["95%"].map(lambda i: f"[{i[0]:.2f}, {i[1]:.2f}]"), "trainings a half": behind}).style.format({"Spearman": "{:.2f}", "in common": "{:.2f}", "trainings a half": "{:g}"})

# %% [markdown]
# The halves of loss, influence, TracIn and EL2N agree nearly perfectly, those of EL2N after less than two trainings' worth of steps each. Two hundred networks are not better: .94 and .93 for C-score and memorization, whose single outcomes are yes or no. F-SI (.90) depends on the initial weights alone, and would agree better with more of them. Forgetting has the lowest rank correlation (.85), since most rows are hardly ever forgotten and tie; its hardest twentieth repeats as well as anybody's. And GraNd shows that repeating oneself (.97) is no proof of having something to say.
#
# ## Whose choice trains best?
#
# Each score chooses rows: the hardest, the easiest, or half of the rows below a share of the hardest. Every choice is trained on with the same seeds and for as many steps as the full set takes; random choices, drawn anew for each seed, are the reference. Classes are not balanced: what a score does to them is part of it.

# %%
model = models.by_name(architecture, shape=tuple(x.shape[1:]), classes=k)
steps = epochs * -(-n // settings.batch_size)
fixed = dataclasses.replace(catalogue.run_recipe(settings), epochs=None, iterations=steps)
normal = dataclasses.replace(images, x_train=statistics.standardized(x), x_test=statistics.standardized(images.x_test, x))
retraining = {"recipe": fixed, "seeds": range(100, 100 + seeds), "columns": ("score", "choice", "share"), "run": Run(device=device, store=store)}
contest = [*judged, "input norm"]
print(f"{len(contest)} scores, networks of {steps:,} steps")

# %% [markdown]
# A plan a score, direction and share:

# %%
plans = {("full data", "all", 1.0): torch.ones(n, dtype=torch.bool)}
for share in kept:
    plans["random", "random", share] = pruning.random_subsets(n, share, range(seeds))
for name in contest:
    for share in kept:
        plans[name, "hardest", share] = pruning.prune(hard[name], share, drop="lowest", seed=seed)
        plans[name, "easiest", share] = pruning.prune(hard[name], share, drop="highest", seed=seed)
    plans |= {(name, "window", out): pruning.window(hard[name], 0.5, 0.5 - out, seed=seed) for out in left_out}
pruned = pruning.retrain_pruned(model, normal, plans, **retraining)

# %% [markdown]
# **Predict.** With half of the rows, will any score's hardest do better than random rows? And with a tenth, would you rather have the hardest, the easiest or random ones?

# %%
fig, axes = plt.subplots(3, 4, figsize=(13, 8.2), sharex=True, sharey=True)
for ax, name in zip(axes.flat, contest, strict=False):
    plots.band(ax, pruned[pruned.score == "random"], "share", "accuracy", "random")
    for choice, dash in (("hardest", "-"), ("easiest", "--")):
        part = pruned[(pruned.score == name) & (pruned.choice == choice)]
        plots.band(ax, part, "share", "accuracy", name, label=choice, linestyle=dash, marker="o" if choice == "hardest" else "")
    plots.reference(ax, pruned[pruned.score == "full data"].accuracy.mean(), "")
    ax.set(title=name)
worst = pruned[pruned.score == "random"].accuracy.min()
axes[0, 0].set(ylim=(worst - 0.25, pruned.accuracy.max() + 0.01))
axes[0, 0].legend(fontsize=8, loc="lower right")
axes[-1, -1].set_axis_off()
fig.supxlabel("share of the rows kept")
fig.supylabel("test accuracy")
plots.save(fig, "07_pruning", profile)

# %% [markdown]
# The gain over random choices in percentage points, with half of the rows: from the hardest half on the left, over windows that leave out more and more of the hardest rows, to the easiest half.

# %%
chance = lambda share: {"score": "random", "choice": "random", "share": share}
def gain(table, name, choice, share, width=0.5):
    mine = table[(table.score == name) & (table.choice == choice) & (table.share == share)].set_index("seed").accuracy
    reference = table[(table.score == "random") & (table.share == width)].set_index("seed").accuracy
    return 100 * (mine - reference)

offsets = {"hardest": ("hardest", 0.5)} | {f"without top {out:.0%}": ("window", out) for out in left_out} | {"easiest": ("easiest", 0.5)}
half = pd.DataFrame({label: {name: gain(pruned, name, *where).mean() for name in contest} for label, where in offsets.items()})
fig, ax = plt.subplots(figsize=(7.5, 4.8))
limit = np.nanquantile(np.abs(half.to_numpy()), 0.9)
ax.imshow(half, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
for (i, j), points in np.ndenumerate(half.to_numpy()):
    ax.text(j, i, f"{points:+.1f}".replace("-", "−"), ha="center", va="center", fontsize=9, color="white" if abs(points) > 0.7 * limit else "black")
ax.set_xticks(range(len(offsets)), offsets, rotation=30, ha="right")
ax.set_yticks(range(len(contest)), contest)
ax.set(title="half of the rows: points above random halves")
plots.save(fig, "07_windows", profile)

# %% [markdown]
# What is judged is the hardest half, with the interval over seeds:

# %%
over_seeds = lambda points: (points.mean(), statistics.t_interval(points.to_numpy()))
hardest_half = {name: over_seeds(gain(pruned, name, "hardest", 0.5)) for name in contest}
value, interval = statistics.apart(hardest_half)
ledger.record("all.prune", value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations"])
print("all rows: {:+.1f} [{:+.1f}, {:+.1f}] points above random halves".format(*(lambda v, ends: (v, *ends))(*over_seeds(gain(pruned, "full data", "all", 1.0)))))
both = [(name, choice) for name in contest for choice in ("hardest", "easiest")]
shares = pd.DataFrame({f"{share:.0%}": [gain(pruned, *one, share, share).mean() for one in both] for share in kept}, index=map(", ".join, both))
shares.style.format("{:+.1f}").background_gradient("RdBu", vmin=-8, vmax=8).set_caption("points above random choices, by share kept")

# %% [markdown]
# And which classes are the easiest tenth of the rows from?

# %%
tenth = {name: torch.bincount(y[sides.extremes(hard[name], 0.1, highest=False, seed=seed)], minlength=k).tolist() for name in ("EL2N", "F-SI", "CG", "C-score")}
pd.DataFrame(tenth, index=list(images.classes)).T

# %% [markdown]
# With half of the rows, eight of the ten scores choose better than chance, by 1.2 to 2.1 points, where keeping all rows is worth 1.5. Two choose worse: GraNd by 5.6 points, just as the norm does (5.1), and F-SI by 1.9. The statement that every score beats chance is therefore not reproduced. F-SI's fault is at its top: without its highest tenth, the half below gains a point.
#
# Which score is best depends on the share. Down to half, influence, EL2N and loss lead; with 40% memorization, C-score and influence are still ahead of random rows, by a point and a half, and EL2N is behind; with 30% no score's hardest rows are of use, and with a tenth the hardest rows are a catastrophe (28 to 61 points below random rows). There the *easiest* rows by C-score, memorization and forgetting do about as well as random ones, and the easiest by EL2N and its kin 30 points worse. The classes say why: EL2N's easiest tenth has no T-shirt, no pullover, no dress and no coat, but 237 trousers, while the C-score, by which most rows are equally easy, leaves all classes in. The labels being right, no score gains much by leaving out the very hardest rows.
#
# ## Who finds the wrong labels?
#
# The same rows with wrong labels: some shares at random, and one where a label becomes that of the most similar class (by the mean picture), as a tired person would mislabel. The scores are computed anew from the noisy labels, which is all that they get.

# %%
partner = noise.nearest_class(x, y)
labels = {f"{level:.0%} uniform": noise.uniform_noise(y, level, k=k, seed=seed) for level in noise_levels}
labels[f"{paired_level:.0%} similar class"] = noise.paired_noise(y, paired_level, partner, seed=seed)
wrong = {name: flipped for name, (_, flipped) in labels.items()}
noisy = torch.stack([given for given, _ in labels.values()])
print({images.classes[c]: images.classes[int(other)] for c, other in enumerate(partner)})

# %% [markdown]
# One call for all labellings: kernels and networks' starting points are shared.

# %%
suspects = ["random", "input norm", "CG partial", *judged]
under_noise = catalogue.compute(suspects, x, noisy, classes=k, settings=settings, **common)
found = sides.detection({name: known(one.hardness) for name, one in under_noise.items()}, wrong, seed=seed)

# %% [markdown]
# **Predict.** Where will wrong labels be harder to find: when many are wrong, or when they are wrong in a plausible way? And is there a score that cannot find them at all?
#
# Left: the chance that a wrong label scores above a right one. Right: of as many rows as there are wrong labels, those with the highest scores, the share that is wrong indeed; the dotted lines are what chance gives.

# %%
fig, axes = plt.subplots(1, 2, figsize=(12.5, 4.8), sharey=True)
ranked = found.groupby("score").auroc.mean().sort_values().index
marks = dict(zip(wrong, zip("os^D", ["#56b4e9", "#0072b2", "#332288", "#d55e00"], strict=True), strict=False))
for ax, what in zip(axes, ("auroc", "precision"), strict=True):
    for labelling, (marker, colour) in marks.items():
        rows = found[found.labels == labelling].set_index("score").loc[ranked]
        ax.plot(rows[what], range(len(ranked)), marker, color=colour, label=labelling)
        ax.axvline(0.5 if what == "auroc" else float(wrong[labelling].float().mean()), lw=0.8, ls=":", color=colour if what == "precision" else "0.3")
axes[0].set_yticks(range(len(ranked)), ranked)
axes[0].set(xlabel="AUROC, wrong against right labels")
axes[1].set(xlabel="precision at the noise rate")
axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, columnspacing=1)
plots.save(fig, "07_noise", profile)

# %% [markdown]
# The judged column is 20% uniform. All numbers:

# %%
main = f"{0.2:.0%} uniform"
rows = found[found.labels == main].set_index("score")
ledger.record("all.noise", rows.auroc[judged].to_dict(), interval={name: (rows.low[name], rows.high[name]) for name in judged}, n=n, note=f"{int(wrong[main].sum())} wrong labels", covers=["rows"])
grid = found.pivot_table(index="score", columns="labels", values=["auroc", "precision"], sort=False).loc[ranked[::-1]]
grid.style.format("{:.2f}").background_gradient("cividis", vmin=0, vmax=1)

# %% [markdown]
# Eight of the ten scores find wrong labels far better than chance, and EL2N and loss (.98) do so best, before C-score, forgetting, influence and TracIn; CG reaches .94 without any training, and its middle term .96, which is what its paper uses it for. GraNd is blind (.51). Wrong labels of a similar class are harder for everyone: the best AUROC is .92, and of the rows named by the best score three in ten are right after all. Of the more frequent wrong labels a larger share is found, as it must be; but CG, F-SI, TracIn and influence lose in AUROC at 40%, and EL2N, loss, forgetting and C-score hardly.
#
# The surprise is memorization, .61: the score that was made for labels which nothing but memory explains.
#
# How often are networks right about a label when they have seen it, and when not? Memorization is the difference, the C-score the second alone.

# %%
mem, held = (known(under_noise[name].values) for name in ("memorization", "C-score"))
when = {"seen": mem + held, "not seen": held}
rates = {
    (kind, f"{what} labels"): {name: float(rate[i][flip == (what == "wrong")].mean()) for i, (name, flip) in enumerate(wrong.items())}
    for what in ("right", "wrong") for kind, rate in when.items()
}
pd.DataFrame(rates).style.format("{:.2f}").set_caption("share of the networks that are right")

# %% [markdown]
# The table has the answer: with 20% wrong labels, networks that have seen a wrong label are right about it in 29% of the cases, and in 1 to 2% if they have not. So the wrong labels' memorization is about .27, more than that of a typical right label but less than that of a rare right one; with more wrong labels the difference shrinks. Our short trainings do not memorize enough for memorization to find them. The C-score does not need this: nobody guesses a wrong label.
#
# ### And what does finding them buy?
#
# Train on what is left of the labels with 20% noise when as many of the most suspicious rows are dropped as there are wrong labels; the reference drops as many at random, the upper bound drops just the wrong ones.

# %%
clean_up = {("random", "random", 0.8): pruning.random_subsets(n, 0.8, range(seeds)), ("oracle", "easiest", 0.8): ~wrong[main], ("nothing dropped", "all", 0.8): torch.ones(n, dtype=torch.bool)}
at = list(wrong).index(main)
clean_up |= {(name, "easiest", 0.8): pruning.prune(known(under_noise[name].hardness)[at], 0.8, drop="highest", seed=seed) for name in contest}
cleaned = pruning.retrain_pruned(model, normal, clean_up, labels=noisy[at], **retraining)
bought = {name: gain(cleaned, name, "easiest" if name != "nothing dropped" else "all", 0.8, 0.8) for name in [*contest, "oracle", "nothing dropped"]}
bought = dict(sorted(((name, over_seeds(points)) for name, points in bought.items()), key=lambda one: -one[1][0]))
pd.DataFrame({"points above dropping at random": in_words(bought, "{:+.1f} [{:+.1f}, {:+.1f}]")})

# %% [markdown]
# Dropping just the wrong labels gains 1.4 points on dropping as many rows at random, dropping by loss, influence or C-score about 1.1, by CG .7. But doing nothing gains .6, because dropping at random throws right labels away. What a good score buys here is half a point; a poor one costs as much. Twenty per cent of uniform noise does little harm to a network that is trained as shortly as ours.
#
# ## What does it cost?
#
# Seconds by the wall clock, all trainings included that the score needs; the most memory that was taken on the way; and how many trainings of the network, whole or in part. The scores of a group are charged as if each were the only one wanted.
#
# **Predict.** The CG-score needs no training at all. Is it the cheapest?

# %%
unit = scored["loss"].seconds / networks  # one training of this network on these rows
costs = pd.DataFrame({name: (one.seconds, one.seconds / unit, one.peak_bytes / 1e6, one.trainings) for name, one in scored.items()}, index=["seconds", "in trainings' time", "peak MB", "trainings"]).T
ratio = {name: scored[name].seconds / scored["CG"].seconds for name in judged if name != "CG"}
ledger.record("all.cost", ratio, n=n, note=f"{torch.get_num_threads()} threads; CG {scored['CG'].seconds:.2f} s, one training {unit:.2f} s")
whole = provenance(DATA / "scores" / "fashion-mnist.parquet")
print(f"all 60,000 rows: CG {whole['cg']['seconds']['all']:.0f} s on {whole['cg']['threads']} threads, EL2N {whole['grand']['seconds']['el2n']:.0f} s on {whole['grand']['threads']}")
costs.loc[[*controls, *judged]].sort_values("seconds").style.format({"seconds": "{:.2f}", "in trainings' time": "{:.1f}", "peak MB": "{:.0f}", "trainings": "{:.1f}"})

# %% [markdown]
# Fewer runs cost less. The same scores with fewer trainings (or starting points), for both uses: how well do they find the wrong labels, and what is their hardest half worth?

# %%
def cheaper(share):
    fewer = lambda count, least=1: max(least, round(share * count))
    return dataclasses.replace(settings, networks=fewer(networks), curvatures=fewer(curvatures), trials=fewer(trials, 4), tangent_networks=fewer(tangent_networks))

cut = [name for name in judged if name not in ("CG", "F-SI")]
versions = {1.0: (scored, {name: known(one.hardness)[at] for name, one in under_noise.items()})}
for share in shares_of_runs:
    less = catalogue.compute(cut, x, y, settings=cheaper(share), **common)
    blind = catalogue.compute(cut, x, noisy[at], classes=k, settings=cheaper(share), **common)
    versions[share] = less, {name: known(one.hardness) for name, one in blind.items()}

# %% [markdown]
# Their hardest halves, retrained like all others:

# %%
plans = {
    (name, "hardest", share): pruning.prune(known(versions[share][0][name].hardness), 0.5, drop="lowest", seed=seed)
    for share in shares_of_runs for name in cut
}
retrained = [pruning.retrain_pruned(model, normal, plans, **retraining)] if plans else []
halved = pd.concat([*retrained, pruned[pruned.score == "random"]])

# %% [markdown]
# What each version offers: purpose, score, seconds, and what one gets for them.

# %%
FIND, KEEP = "find wrong labels, 20% (AUROC)", "keep the hardest half (points)"
def offer(purpose, by_score, seconds):
    chance = 0.5 if "AUROC" in purpose else 0.0
    rows = [(purpose, name, seconds[name], value, *ends, chance) for name, (value, ends) in by_score.items()]
    return pd.DataFrame(rows, columns=["purpose", "score", "seconds", "value", "low", "high", "chance"])

offers = []
for share, (costing, suspicious) in versions.items():
    own, before = contest if share == 1 else cut, len(offers)
    seconds = {name: costing[name].seconds for name in own}
    offers.append(offer(FIND, {name: statistics.auroc(suspicious[name].numpy(), wrong[main].numpy(), seed=seed) for name in own}, seconds))
    worth = hardest_half if share == 1 else {name: over_seeds(gain(halved, name, "hardest", share)) for name in own}
    offers.append(offer(KEEP, worth, seconds))
    offers[before:] = [part.assign(runs=f"{share:.0%} of the runs") for part in offers[before:]]
bought_for = pd.concat(offers, ignore_index=True)
bought_for.pivot_table(index="score", columns=["purpose", "runs"], values="value", sort=False).style.format("{:.2f}", na_rep="–")

# %% [markdown]
# Each line is a score with ever more runs (a few tenths of a second are noisy, so that fewer runs may seem to take longer); the steps are what one can buy at best for a given time. Points inside the steps are dominated: something cheaper does as well or better.

# %%
fig, axes = plt.subplots(1, 2, figsize=(13, 5))
for ax, (purpose, part) in zip(axes, bought_for.groupby("purpose", sort=False), strict=True):
    for name, line in part.sort_values("seconds").groupby("score", sort=False):
        ax.plot(line.seconds, line.value, **plots.look(name) | {"lw": 1.2})
    best = part[sides.frontier(part.seconds, part.value)].sort_values("seconds")
    ax.step(best.seconds, best.value, where="post", color="0.6", lw=5, alpha=0.4, zorder=0)
    ax.axvline(unit, lw=0.8, ls=":", color="0.3")
    ax.set(xscale="log", xlabel="seconds (dotted: one training)", ylabel=purpose)
plots.reference(axes[0], 0.5, "chance")
plots.reference(axes[1], 0, "random half")
axes[1].set(ylim=(max(part.value.min(), -6) - 0.5, part.value.max() + 0.5))  # what is far below is not shown
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
plots.save(fig, "07_frontier", profile)

# %% [markdown]
# The CG-score is not the cheapest: GraNd before training costs an eighth of it, being a glance at untrained networks. All others cost more, from EL2N (1.1 times as much) over loss and forgetting (3.3 times) and F-SI (24 times) to memorization and the C-score (29 times): the statement holds for eight of nine. In units of this small network, CG costs three trainings. It grows with $n^3$, though: for all 60,000 rows it took 9.5 minutes on two cores (`data/scores`), where EL2N took a quarter of a minute on one.
#
# To find wrong labels, EL2N after four epochs of *one* network is nearly all that there is to be had (.98); nothing dearer is much better. To choose half of the rows one network's EL2N is not enough (−.9 points), three are (+1.0), and the loss of a single network at the end of its training, or its influence, is worth 1.9 and 2.1. CG is close to these at the price of three trainings. Memorization, C-score and F-SI are dominated here: what they are good for is not ranking, but saying what would happen without an example.
#
# ## Where they disagree
#
# For a few pairs of scores, the rows on which their ranks differ most: above those that the first calls hard and the second easy, below the reverse. Under each picture its label.
#
# **Predict.** What do you expect of a picture that is hard to predict early (EL2N) but that no prediction depends on (F-SI)?

# %%
duels = [("F-SI", "EL2N"), ("CG", "EL2N"), ("CG", "memorization"), ("GraNd", "EL2N")]
rank = {name: torch.tensor(pd.Series(value.numpy()).rank(pct=True).to_numpy()) for name, value in hard.items()}
cells, titles = [], []
for a, b in duels:
    for first, second in ((a, b), (b, a)):
        cells.append(sides.extremes(rank[first] - rank[second], shown / n)[:shown])
        titles.append(f"{first} high,\n{second} low")
rows = torch.cat(cells)
fig = plots.pictures(x[rows], [images.classes[c] for c in y[rows].tolist()], columns=shown, titles=titles, size=0.72)
plots.save(fig, "07_disagreement", profile)

# %% [markdown]
# What goes with the disagreement? Over all rows, the correlation of the difference of ranks with three plain properties of a picture: how dark it is, which share of its ten nearest neighbours has its label, and how far its nearest neighbour is.

# %%
near = rankings.cosine(x, x).fill_diagonal_(-1).amax(1)
plain = {"dark": hard["input norm"], "neighbours with its label": rankings.label_agreement(x, y), "alone": 1 - near}
why = {f"{a} − {b}": {what: statistics.spearman(rank[a] - rank[b], trait, seed=seed)[0] for what, trait in plain.items()} for a, b in duels}
pd.DataFrame(why).T.style.format("{:+.2f}").background_gradient("RdBu", vmin=-1, vmax=1)

# %% [markdown]
# The same properties against the scores themselves:

# %%
traits = {name: {what: statistics.spearman(hard[name], trait, seed=seed)[0] for what, trait in plain.items()} for name in judged}
pd.DataFrame(traits).T.style.format("{:+.2f}").background_gradient("RdBu", vmin=-1, vmax=1)

# %% [markdown]
# *F-SI against EL2N:* F-SI's favourites are dark bags and high sandals, which any network recognizes early; EL2N's, which F-SI thinks little of, are grey sneakers and patterned dresses. Darkness explains .39 of the difference: a dark picture pulls harder at every prediction, whether or not its label is in doubt (notebook 02). *CG against EL2N:* CG finds unusual members of easy classes (a bag with a print, a two-coloured dress); EL2N finds ordinary shirts, whose class is difficult. *CG against memorization:* shirts, pullovers and coats that look like another class and that networks get wrong even when they have seen them, against light shirts and sandals that are learned once they are seen. *GraNd against EL2N:* black bags against light shirts; .74 is darkness.
#
# What the nine scores have in common shows in the last table: they follow the share of neighbours with the same label (−.63 to −.72), a number that takes one matrix product.
#
# ## Which score, then?
#
# A table from the results above: for each purpose and budget (in the time of one training of this network on these rows) the score that does best within it, and after "or" those that the 95% intervals cannot tell from it, the cheapest first.

# %%
areas = {f"find wrong labels, {noise_levels[-1]:.0%} (AUROC)": f"{noise_levels[-1]:.0%} uniform", f"find labels of a similar class, {paired_level:.0%} (AUROC)": list(wrong)[-1]}
for purpose, labelling in areas.items():
    part = found[found.labels == labelling].set_index("score").loc[contest]
    offers.append(offer(purpose, {name: (row.auroc, (row.low, row.high)) for name, row in part.iterrows()}, costs.seconds))
offers.append(offer("drop as many suspicious labels, 20% (points)", {name: bought[name] for name in contest}, costs.seconds))
for choice, share in (("hardest", kept[-1]), ("easiest", kept[0])):
    worth = {name: over_seeds(gain(pruned, name, choice, share, share)) for name in contest}
    offers.append(offer(f"keep {share:.0%}, the {choice} (points)", worth, costs.seconds))
budgets = {f"{count} × a training ({count * unit:.1f} s)": count * unit for count in (1, 5, 20)} | {"any": np.inf}
sides.guide(pd.concat(offers), budgets).style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# In plain words, for data like these and some thousand rows:
#
# - **To find wrong labels:** EL2N, or the loss, of a few networks. One network will do if need be. Before any training, the CG-score's middle term.
# - **To find labels that a tired person got wrong:** the same, expecting three in ten false alarms at best, and a look at the pictures.
# - **To keep half or more:** the hardest by influence, loss or EL2N, averaged over at least three networks; CG where no network may be trained. Expect to lose nothing, and to gain little.
# - **To keep less than a third:** random rows. No score here is better.
# - **To clean up before training:** loss, influence or C-score; but check that doing nothing is worse.
# - **Not for choosing:** GraNd at initialization (use the norm of the input, if that is wanted), memorization and F-SI. Their use is to explain single examples and pairs (notebooks 02 and 03).
#
# "–" in the table: nothing within the budget is better than chance. Cheaper versions of the scores, with fewer trainings, were tried for the first two purposes only.
#
# ## Where we deviate, and why
#
# - **One data set, one network, one size.** The table above is for 4,000 rows of Fashion-MNIST and a network with one hidden layer. Notebook 05 shows that the sign of a score's gain can turn with the number of rows and the learning rate; take the ranking of scores as a starting point, not as a law.
# - **F-SI** is taken for one network a class with one output, and in the linearized network; the paper has one network with all outputs and, for pictures, a pretrained one. The correlation of the two forms stands under Method.
# - **C-score** from subsets of one size (70%), not of several.
# - **TracIn** takes all layers, at five checkpoints; **influence** is EK-FAC's on networks that were not trained to an optimum, damped: a ranking, not a forecast of retraining (notebook 06 is about that).
# - **Loss** is that of the trained networks at the end; EL2N's is early.
# - **Costs** are of one run on one machine, by this library; a score's published cost is for other networks. Times grow differently: CG and F-SI with $n^3$, the others with $n$.
# - Intervals of rank correlations and AUROCs are over examples, with the networks as they are; those of accuracies over seeds of retraining, with the choice as it is.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# 1. Average the ranks of all judged scores. Does the committee find the wrong labels better than its best member?
#
# <details><summary>Answer</summary>
#
# No: the committee has an AUROC of .96, the best member .985. Averaging helps where errors are independent; here it dilutes the good scores with GraNd, memorization and F-SI, and most of the others are one opinion.
#
# ```python
# place = lambda values: torch.tensor(pd.Series(values.numpy()).rank().to_numpy())
# committee = sum(place(known(under_noise[name].hardness)[at]) for name in judged)
# best = max(judged, key=lambda name: rows_at[name]) if (rows_at := found[found.labels == main].set_index("score").auroc.to_dict()) else None
# print(f"committee {statistics.auroc(committee.numpy(), wrong[main].numpy())[0]:.3f}, {best} alone {rows_at[best]:.3f}")
# ```
# </details>
#
# 2. Choose the hardest half class by class (`pruning.prune(..., y=y)`) for EL2N and for CG. Who gains by balance?
#
# <details><summary>Answer</summary>
#
# Nobody: both lose by it, CG three points (.837 to .805) and EL2N five (.840 to .790). Which classes are hard is a good part of what they know: half of the trousers is more than a network needs, and half of the shirts is too little.
#
# ```python
# balanced = {(name, choice, 0.5): pruning.prune(hard[name], 0.5, drop="lowest", y=labelled) for name in ("EL2N", "CG") for choice, labelled in (("balanced", y), ("as it comes", None))}
# print(pruning.retrain_pruned(model, normal, balanced, **retraining).groupby(["score", "choice"]).accuracy.mean())
# ```
# </details>
#
# 3. Divide out what the norm of the input explains: compare F-SI's correlation with EL2N over all rows and within tenths of equal norm.
#
# <details><summary>Answer</summary>
#
# Hardly any: .75 over all rows, .76 within tenths of equal norm. Darkness moves F-SI, but it is not what separates the two over all rows.
#
# ```python
# tenth = pd.qcut(hard["input norm"].numpy(), 10, labels=False)
# inside = [statistics.spearman_r(hard["F-SI"].numpy()[tenth == t], hard["EL2N"].numpy()[tenth == t]) for t in range(10)]
# print(f"over all rows {rho.loc['F-SI', 'EL2N']:.2f}, within tenths of equal norm {np.mean(inside):.2f}")
# ```
# </details>
#
# 4. Which class has most of the hardest rows by each score?
#
# <details><summary>Answer</summary>
#
# Shirts, by every score but GraNd, whose hardest rows are dark pullovers and coats. Memorization and influence spread over the classes most evenly.
#
# ```python
# share = {name: torch.bincount(y[sides.extremes(hard[name], extreme)], minlength=k).numpy() for name in judged}
# print(pd.DataFrame(share, index=list(images.classes)).T)
# ```
# </details>

# %% [markdown]
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
