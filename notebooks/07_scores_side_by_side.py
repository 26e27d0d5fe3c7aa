# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
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
# **What was found**, for 4,000 rows of Fashion-MNIST and a network with one hidden layer:
#
# - **To find wrong labels,** take EL2N or the loss of a few networks (AUROC .98). One network will do. Before any training, the CG-score's middle term finds six for every seven of theirs.
# - **To find labels that a tired person got wrong,** take the same. Expect three in ten false alarms at best.
# - **To keep half or more of the rows,** keep the hardest by influence or loss, of one network, or by EL2N averaged over ten. You lose nothing and gain little. [05](05_data_diet.ipynb) shows that the sign of this gain turns with the number of rows and the learning rate.
# - **To keep a fifth,** keep random rows. No score here is better.
# - **Not for choosing:** GraNd at initialization (it is the norm of the picture), memorization and F-SI. They explain single examples ([02](02_unique_information.ipynb), [03](03_long_tail_memorization.ipynb)).
#
# *Symbols and scores: the [glossary](GLOSSARY.md). The ends of the rankings, repeatability, company and disagreement: the [appendix](appendix/17_scores_side_by_side_further.ipynb).*
#
# To run a part, run the cells to the end of *Method*, then *Do they rank alike?*, *Whose choice trains best?* or *Who finds the wrong labels?*.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # a name that lib.data.datasets.load knows, or the path of an .npz of pictures
n: int = 4000  # training rows that are scored, pruned and trained on
architecture: str = "mlp-128"  # the network that is scored with and retrained, a name that lib.networks.models.by_name knows
networks: int = 10  # trainings averaged in the scores that are read off a training
trials: int = 200  # trainings on 70% of the rows, for memorization and the C-score
noise_levels: list = [0.2, 0.4]  # shares of wrong labels, uniform; 0.2 is the one that is judged
seed: int = 0  # rows, noise, initial weights, ties, bootstrap
n_test: int = 10000  # test rows
epochs: int = 12  # passes over the full set; every pruned set takes as many steps
early: int = 4  # the epoch at which EL2N is taken
curvatures: int = 4  # of these, how many have an influence function taken
trial_epochs: int = 15  # passes in each of these
tangent_width: int = 1024  # hidden units of the linearized network of F-SI
tangent_networks: int = 2  # initial weights that F-SI is averaged over
tangent_inputs: int = 500  # inputs on which F-SI compares predictions
resamples: int = 400  # of the bootstrap of rank correlations
seeds: int = 5  # retrainings of every choice of rows
kept: list = [0.2, 0.5, 0.8]  # shares of the rows kept; 0.5 is the one that is judged
left_out: list = [0.1]  # shares of the highest scores that a window of half of the rows leaves out
paired_level: float = 0.2  # share of the labels that become that of the most similar class
shares_of_runs: list = [0.1, 0.3]  # cheaper versions of the scores, with fewer trainings
device: str = "cpu"  # where to compute: "cpu" or "cuda"

# %% [markdown]
# ## What we test
#
# Four statements that one would like to be true, with what counts as success, written before the run:

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from experiments import plots, pruning
from experiments import side_by_side as sides
from experiments.noise import nearest_class, paired_noise
from lib import catalogue, statistics
from lib.data import datasets, noise, provenance
from lib.data.datasets import DATA
from lib.ledger import Ledger
from lib.networks import models
from lib.store import Store
from lib.training import Run

plots.style()
ledger, store = Ledger("07", profile), Store(profile=profile)
if 0.5 not in kept or 0.2 not in noise_levels:
    raise ValueError(f"kept must hold 0.5 and noise_levels 0.2, which are judged; got {kept} and {noise_levels}")
ledger.criteria()

# %% [markdown]
# ## Data
#
# A class-balanced sample, small enough for the scores that need an $n\times n$ matrix. Networks get pictures standardized over the training rows; the CG-score takes their directions only.

# %%
images = datasets.load(dataset, n_train=n, n_test=n_test, seed=seed)
x, y, k = images.x_train, images.y_train, len(images.classes)
fig = plots.pictures(x[torch.cat([torch.nonzero(y == c).flatten()[:8] for c in range(k)])], titles=images.classes, columns=8, size=0.6)
plots.save(fig, "07_data", profile)
print(images)
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")

# %% [markdown]
# ## Method
#
# Every score is turned so that *high = hard, unusual, needed*; where its own definition has it the other way round, the table says so. **Random** and **input norm** (how dark a picture is) are controls: what they achieve needs no score. All scores come from one call, `lib.catalogue.compute`. Each formula is checked in the notebook of its paper and in the [appendix](appendix/17_scores_side_by_side_further.ipynb). F-SI would need a kernel of $nk\times nk$ numbers, so each class gets a network of one output, all from the same initial weights.

# %%
controls, terms = ["random", "input norm"], ["CG quadratic", "CG partial", "CG diagonal"]
judged = ["CG", "F-SI", "memorization", "C-score", "GraNd", "EL2N", "forgetting", "TracIn", "influence", "loss"]
names = [*controls, *terms, *judged]
works = {"input": "no training", "cg": "one factorization", "runs": "trained networks", "f_si": "linearized networks", "subsets": "networks on subsets"}
about = {name: (works[one.group], "turned" if one.sign < 0 else "", one.text) for name, one in catalogue.SCORES.items() if name in names}
pd.DataFrame(about, index=["from", "", "what it is"]).T.style.set_properties(**{"text-align": "left"})

# %% [markdown]
# All scores of all rows, with the network and recipe of [05](05_data_diet.ipynb). What is finished is kept, with what it cost.

# %%
settings = catalogue.Settings(
    architecture=architecture, epochs=epochs, early=early, networks=networks, curvatures=curvatures, trials=trials,
    trial_epochs=trial_epochs, tangent_width=tangent_width, tangent_networks=tangent_networks, tangent_inputs=tangent_inputs,
)
common = {"x_val": images.x_test, "seed": seed, "device": device, "store": store}
scored = catalogue.compute(names, x, y, settings=settings, **common)
known = lambda values: torch.where(values.isnan(), values.nanmedian(), values)
hard = {name: known(one.hardness) for name, one in scored.items()}
in_words = lambda found, form="{:.2f} [{:.2f}, {:.2f}]": {name: form.format(v, *ends) for name, (v, ends) in found.items()}
model = models.by_name(architecture, shape=tuple(x.shape[1:]), classes=k)
steps = epochs * -(-n // settings.batch_size)
fixed = dataclasses.replace(catalogue.run_recipe(settings), epochs=None, iterations=steps)
normal = dataclasses.replace(images, x_train=statistics.standardized(x), x_test=statistics.standardized(images.x_test, x))
retraining = {"recipe": fixed, "seeds": range(100, 100 + seeds), "columns": ("score", "choice", "share"), "run": Run(device=device, store=store)}
contest = [*judged, "input norm"]
over_both = lambda points: (points.mean(), statistics.crossed_interval(points))

def gain(table, name, choice, share, width=0.5, over="random"):
    """(seeds, test rows)"""
    mine = table[(table.score == name) & (table.choice == choice) & (table.share == share)].assign(at="")
    reference = table[(table.score == over) & (table.share == width)].assign(at="")
    return pruning.points(pd.concat([mine, reference]), {"score": name}, {"score": over}, by="at")[""]


# %% [markdown]
# ## Do they rank alike?
#
# **Predict.** Some scores ask how an example is *fitted* (EL2N, loss, forgetting, TracIn), some what *changes without it* (memorization, F-SI, influence, CG). Will the clusters follow this line?
#
# <details><summary>Answer</summary>
#
# No. EL2N, loss, influence and TracIn are nearly one score; memorization and C-score are another.
# </details>

# %%
rho = sides.correlations({name: hard[name] for name in judged})
order = sides.clustered(rho)
fig, ax = plt.subplots(figsize=(5.6, 5.2))
sns.heatmap(rho.loc[order, order], ax=ax, annot=True, fmt=".2f", cmap="RdBu_r", vmin=-1, vmax=1, cbar=False, square=True, annot_kws={"size": 9})
ax.set(title="Spearman, high = hard")
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
# EL2N, loss, influence and TracIn are nearly one score (.95 to .99), although one of them asks what would change without the example. Memorization and C-score are another (.99): these networks are right about nearly every label that they have seen, so over most rows the difference says no more than its second part. (At the hard end they part.) Forgetting lies between the groups, CG and F-SI beside them. GraNd at initialization agrees with none; it is the norm of the picture (1.00).
#
# ## Whose choice trains best?
#
# Each score chooses the hardest or the easiest rows, or half of the rows below a share of the hardest. Every choice is trained for as many steps as the full set takes; random choices, drawn anew for each seed, are the reference. Intervals are over seeds and test rows; the training rows are one draw.
#
# **Predict.** With half of the rows, will any score's hardest do better than random rows? And with a fifth, would you rather have the hardest, the easiest or random ones?
#
# <details><summary>Answer</summary>
#
# With half, eight of ten do. With a fifth, random ones: the hardest are a catastrophe.
# </details>

# %%
plans = {("full data", "all", 1.0): torch.ones(n, dtype=torch.bool)}
for share in kept:
    plans["random", "random", share] = pruning.random_subsets(n, share, range(seeds))
plans["input norm", "hardest", 0.5] = pruning.prune(hard["input norm"], 0.5, drop="lowest", seed=seed)
for name in judged:
    plans |= {(name, "hardest", share): pruning.prune(hard[name], share, drop="lowest", seed=seed) for share in kept}
    plans |= {(name, "easiest", share): pruning.prune(hard[name], share, drop="highest", seed=seed) for share in kept if share <= 0.5}
    plans |= {(name, "window", out): pruning.window(hard[name], 0.5, 0.5 - out, seed=seed) for out in left_out}
print(f"{len(plans)} choices of rows, {seeds} networks of {steps:,} steps each")
pruned = pruning.retrain_pruned(model, normal, plans, **retraining)

# %% [markdown]
# Percentage points above random halves: the hardest half (left), the half below the hardest tenth, the easiest half.

# %%
offsets = {"hardest": ("hardest", 0.5)} | {f"less top {out:.0%}": ("window", out) for out in left_out} | {"easiest": ("easiest", 0.5)}
half = pd.DataFrame({label: {name: gain(pruned, name, *where).mean() for name in judged} for label, where in offsets.items()})
fig, ax = plt.subplots(figsize=(5.6, 4.8))
limit = np.nanquantile(np.abs(half.to_numpy()), 0.9)
sns.heatmap(half, ax=ax, annot=True, fmt="+.1f", cmap="RdBu", vmin=-limit, vmax=limit, cbar=False, annot_kws={"size": 10})
ax.set(title="half of the rows: points above random halves")
plots.save(fig, "07_windows", profile)

# %% [markdown]
# What is judged is the hardest half, with the interval over seeds and test rows; below, all shares kept.

# %%
hardest_half = {name: over_both(gain(pruned, name, "hardest", 0.5)) for name in contest}
value, interval = statistics.apart(hardest_half)
ledger.record("all.prune", value, interval=interval, n=seeds, note=f"{architecture}, {n:,} rows, {steps:,} steps", covers=["initializations", "test rows"])
print("all rows: {:+.1f} [{:+.1f}, {:+.1f}] points above random halves".format(*(lambda v, ends: (v, *ends))(*over_both(gain(pruned, "full data", "all", 1.0)))))
shares = pd.DataFrame({(choice, f"{share:.0%}"): {name: gain(pruned, name, choice, share, share).mean() for name in judged} for choice in ("hardest", "easiest") for share in kept if (judged[0], choice, share) in plans})
shares.style.format("{:+.1f}").background_gradient("RdBu", vmin=-8, vmax=8).set_caption("points above random choices, by share kept")

# %% [markdown]
# With half of the rows, eight of the ten scores choose better than chance, by 1.2 to 2.1 points, where keeping all rows is worth 1.5. Two choose worse: GraNd by 5.6 points, just as the norm does, and F-SI by 1.8. F-SI's fault is at its top: without its highest tenth, the half below gains a point. With a fifth of the rows no score's hardest are of use. The *easiest* fifth by C-score, memorization and forgetting does about as well as random rows, within a point.
#
# ## Who finds the wrong labels?
#
# The same rows with wrong labels: some shares at random, and one where a label becomes that of the most similar class, as a tired person would mislabel. The scores get the noisy labels only. The three dearest get 20% at random alone.
#
# **Predict.** Where will wrong labels be harder to find: when many are wrong, or when they are wrong in a plausible way? And is there a score that cannot find them at all?
#
# <details><summary>Answer</summary>
#
# When they are plausible. GraNd is blind, and memorization nearly so.
# </details>

# %%
partner = nearest_class(x, y)
labels = {f"{level:.0%} uniform": noise.uniform_noise(y, level, k=k, seed=seed) for level in noise_levels}
labels[f"{paired_level:.0%} similar class"] = paired_noise(y, paired_level, partner, seed=seed)
wrong = {name: flipped for name, (_, flipped) in labels.items()}
noisy = torch.stack([given for given, _ in labels.values()])

main, dear = f"{0.2:.0%} uniform", ["F-SI", "memorization", "C-score"]
at = list(wrong).index(main)
cheap = ["random", "input norm", "CG partial", *(name for name in judged if name not in dear)]
under_noise = {name: known(one.hardness) for name, one in catalogue.compute(cheap, x, noisy, classes=k, settings=settings, **common).items()}
dearly = {name: known(one.hardness) for name, one in catalogue.compute(dear, x, noisy[at], classes=k, settings=settings, **common).items()}
suspicious = {name: values[at] for name, values in under_noise.items()} | dearly
found = pd.concat([
    sides.detection(under_noise, wrong, seed=seed),
    sides.detection({name: values[None] for name, values in dearly.items()}, {main: wrong[main]}, seed=seed),
])

# %% [markdown]
# Above: the chance that a wrong label scores above a right one. Below: of as many of the highest scores as there are wrong labels, the share that is wrong indeed. Dotted lines are what chance gives.

# %%
fig, axes = plt.subplots(2, 1, figsize=(5.6, 8.4))
ranked = found[found.labels == main].sort_values("auroc").score
marks = dict(zip(wrong, zip("os^D", ["#0072b2", "#332288", "#d55e00", "#56b4e9"], strict=True), strict=False))
for ax, what in zip(axes, ("auroc", "precision"), strict=True):
    ax.set_yticks(range(len(ranked)), ranked)
    for labelling, (marker, colour) in marks.items():
        rows = found[found.labels == labelling].set_index("score").reindex(ranked)
        ax.plot(rows[what], range(len(ranked)), marker, color=colour, label=labelling)
        ax.axvline(0.5 if what == "auroc" else float(wrong[labelling].float().mean()), lw=0.8, ls=":", color=colour if what == "precision" else "0.3")
axes[0].set(xlabel="AUROC, wrong against right labels")
axes[1].set(xlabel="precision at the noise rate")
axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9, columnspacing=1)
plots.save(fig, "07_noise", profile)

# %% [markdown]
# In numbers, the chance that the upper half shows. What is judged is the column 20% uniform:

# %%
rows = found[found.labels == main].set_index("score")
ledger.record("all.noise", rows.auroc[judged].to_dict(), interval={name: (rows.low[name], rows.high[name]) for name in judged}, n=n, note=f"{int(wrong[main].sum())} wrong labels", covers=["rows"])
found.pivot_table(index="score", columns="labels", values="auroc", sort=False).loc[ranked[::-1]].style.format("{:.2f}", na_rep="").set_caption("AUROC")

# %% [markdown]
# Eight of the ten scores find wrong labels far better than chance, EL2N and loss best (.98), CG without any training (.94). GraNd is blind (.51). The surprise is memorization (.61), made for labels which nothing but memory explains. These short trainings do not memorize enough for it ([appendix](appendix/17_scores_side_by_side_further.ipynb)). The C-score does not need this: nobody guesses a wrong label.
#
# **And what does finding them buy?** With 20% noise, drop as many of the most suspicious rows as there are wrong labels, and train on the rest. The reference drops as many at random, the oracle just the wrong ones.

# %%
clean_up = {("random", "random", 0.8): pruning.random_subsets(n, 0.8, range(seeds)), ("oracle", "easiest", 0.8): ~wrong[main], ("nothing dropped", "all", 0.8): torch.ones(n, dtype=torch.bool)}
clean_up |= {(name, "easiest", 0.8): pruning.prune(suspicious[name], 0.8, drop="highest", seed=seed) for name in judged}
cleaned = pruning.retrain_pruned(model, normal, clean_up, labels=noisy[at], **retraining)
bought = {name: gain(cleaned, name, "easiest" if name != "nothing dropped" else "all", 0.8, 0.8) for name in [*judged, "oracle", "nothing dropped"]}
bought = dict(sorted(((name, over_both(points)) for name, points in bought.items()), key=lambda one: -one[1][0]))
net = {name: over_both(gain(cleaned, name, "easiest", 0.8, 0.8, "nothing dropped")) for name in bought if name != "nothing dropped"}
pd.DataFrame({f"points above {what}": in_words(points, "{:+.1f} [{:+.1f}, {:+.1f}]") for what, points in {"dropping at random": bought, "dropping nothing": net}.items()}).fillna("")

# %% [markdown]
# Dropping just the wrong labels gains 1.4 points on dropping as many rows at random, dropping by loss, influence or C-score about 1.1. But doing nothing gains .6, because dropping at random throws right labels away. Against doing nothing these three gain .4 to .5; the gains of EL2N, forgetting, TracIn and CG may be zero.
#
# ## What does it cost?
#
# Seconds by the wall clock with all trainings that the score needs, the most memory taken, and the number of trainings. The scores of a group are charged as if each were the only one wanted.
#
# **Predict.** The CG-score needs no training at all. Is it the cheapest?
#
# <details><summary>Answer</summary>
#
# No: GraNd at initialization is a glance at untrained networks, and EL2N costs about as much as CG.
# </details>

# %%
unit = scored["loss"].seconds / networks  # one of so many trainings of this network on these rows, side by side
costs = pd.DataFrame({name: (one.seconds, one.seconds / unit, one.peak_bytes / 1e6, one.trainings) for name, one in scored.items()}, index=["seconds", "in trainings' time", "peak MB", "trainings"]).T
ratio = {name: scored[name].seconds / scored["CG"].seconds for name in judged if name != "CG"}
ledger.record("all.cost", ratio, n=n, note=f"{torch.get_num_threads()} threads; CG {scored['CG'].seconds:.2f} s, one training {unit:.2f} s")
whole = provenance(DATA / "scores" / "fashion-mnist.parquet")
print(f"all 60,000 rows: CG {whole['cg']['seconds']['all']:.0f} s on {whole['cg']['threads']} threads, EL2N {whole['grand']['seconds']['el2n']:.0f} s on {whole['grand']['threads']}")
costs.loc[[*controls, *judged]].sort_values("seconds").style.format({"seconds": "{:.2f}", "in trainings' time": "{:.1f}", "peak MB": "{:.0f}", "trainings": "{:.1f}"})


# %% [markdown]
# Fewer runs cost less. With fewer trainings, how well do the scores that are read off a training find wrong labels, and what is their hardest half worth?

# %%
def cheaper(share):
    fewer = lambda count: max(1, round(share * count))
    return dataclasses.replace(settings, networks=fewer(networks), curvatures=fewer(curvatures))

cut = ["EL2N", "forgetting", "TracIn", "influence", "loss"]
versions = {1.0: (scored, suspicious)}
for share in shares_of_runs:
    less = catalogue.compute(cut, x, y, settings=cheaper(share), **common)
    blind = catalogue.compute(cut, x, noisy[at], classes=k, settings=cheaper(share), **common)
    versions[share] = less, {name: known(one.hardness) for name, one in blind.items()}
plans = {(name, "hardest", share): pruning.prune(known(versions[share][0][name].hardness), 0.5, drop="lowest", seed=seed) for share in shares_of_runs for name in cut}
retrained = [pruning.retrain_pruned(model, normal, plans, **retraining)] if plans else []
halved = pd.concat([*retrained, pruned[pruned.score.isin(["random", "full data"])]])

FIND, KEEP = "find wrong labels, 20% (AUROC)", "keep the hardest half (points)"
def offer(purpose, by_score, seconds):
    chance = 0.5 if "AUROC" in purpose else 0.0
    rows = [(purpose, name, seconds[name], value, *ends, chance) for name, (value, ends) in by_score.items()]
    return pd.DataFrame(rows, columns=["purpose", "score", "seconds", "value", "low", "high", "chance"])

offers = []
for share, (costing, suspected) in versions.items():
    own, before = contest if share == 1 else cut, len(offers)
    seconds = {name: costing[name].seconds for name in own}
    offers.append(offer(FIND, {name: statistics.auroc(suspected[name].numpy(), wrong[main].numpy(), seed=seed) for name in own}, seconds))
    worth = hardest_half if share == 1 else {name: over_both(gain(halved, name, "hardest", share)) for name in own}
    offers.append(offer(KEEP, worth, seconds))
    offers[before:] = [part.assign(runs=f"{share:.0%} of the runs") for part in offers[before:]]
bought_for = pd.concat(offers, ignore_index=True)
full = {(name, f"{share:.0%} of the runs"): over_both(gain(pruned if share == 1 else halved, name, "hardest", 0.5 if share == 1 else share, 1.0, "full data")) for name in ("EL2N", "influence", "loss") for share in sorted(versions)}
print(f"one training alone: {versions[min(versions)][0]['loss'].seconds / max(1, round(min(versions) * networks)):.1f} s")
pd.DataFrame({"the hardest half: points above all rows": in_words(full, "{:+.1f} [{:+.1f}, {:+.1f}]")})

# %% [markdown]
# Each line is a score with ever more runs, named at its end. The steps are what one can buy at best for a given time.

# %%
from scipy.optimize import linear_sum_assignment

fig, axes = plt.subplots(2, 1, figsize=(5.6, 9))
for ax, (purpose, part) in zip(axes, bought_for.groupby("purpose", sort=False), strict=True):
    bottom, top = max(part.value.min(), -6) - 0.02 * part.value.max(), part.value.max() * 1.02  # far below is not shown
    for name, line in part.sort_values("seconds").groupby("score", sort=False):
        ax.plot(line.seconds, line.value, **plots.look(name) | {"lw": 1.2})
    best = part[sides.frontier(part.seconds, part.value)].sort_values("seconds")
    ax.step(best.seconds, best.value, where="post", color="0.6", lw=5, alpha=0.4, zorder=0)
    ax.axvline(unit, lw=0.8, ls=":", color="0.3")
    ax.set(xscale="log", xlabel="seconds (dotted: one training)", ylabel=purpose, ylim=(bottom, top))
    last = part.sort_values("seconds").groupby("score")[["seconds", "value"]].last()
    left, right = np.log10(ax.get_xlim())
    ends = np.column_stack([(np.log10(last.seconds) - left) / (right - left), (last.value.clip(lower=bottom) - bottom) / (top - bottom)])
    beside = np.column_stack([np.full(len(last), 1.04), (np.arange(len(last)) + 0.5) / len(last)])
    for end, place in zip(*linear_sum_assignment(np.linalg.norm(ends[:, None] - beside, axis=2)), strict=True):  # shortest in all: none cross
        name = last.index[end]
        ax.annotate(name, ends[end], beside[place], "axes fraction", va="center", fontsize=9, color=plots.look(name).get("color", "black"), arrowprops={"arrowstyle": "-", "color": "0.8", "lw": 0.6})
plots.reference(axes[1], 0, "")
axes[1].text(0.02, 0.1, "random", transform=axes[1].get_yaxis_transform(), fontsize=10, color="0.3")
plots.save(fig, "07_frontier", profile)

# %% [markdown]
# The CG-score is not the cheapest: GraNd before training costs an eighth of it, and EL2N about as much. Whole trainings cost three to four times as much, F-SI 27, memorization and the C-score 34 times. CG grows with $n^3$, though: for all 60,000 rows it took 9.5 minutes on two cores, where EL2N took a quarter of a minute on one.
#
# To find wrong labels, nothing dearer than EL2N of *one* network is much better. To choose half of the rows, one network's EL2N is not enough; that of three beats chance, that of ten loses nothing. A single network's influence, or loss at the end, loses nothing either.
#
# ## Which score, then?
#
# For each purpose and budget, the table names the score that does best. Budgets are in times of one of ten trainings side by side. After "or" stand those that the intervals cannot tell from it, the cheapest first. "–": nothing that was tried within the budget is better than chance (cheaper versions: the first two rows only).

# %%
areas = {f"find wrong labels, {noise_levels[-1]:.0%} (AUROC)": f"{noise_levels[-1]:.0%} uniform", f"find labels of a similar class, {paired_level:.0%} (AUROC)": list(wrong)[-1]}
for purpose, labelling in areas.items():
    part = found[(found.labels == labelling) & found.score.isin(contest)].set_index("score")
    offers.append(offer(purpose, {name: (row.auroc, (row.low, row.high)) for name, row in part.iterrows()}, costs.seconds))
offers.append(offer("drop as many suspicious labels, 20% (points)", {name: bought[name] for name in judged}, costs.seconds))
for choice, share in (("hardest", kept[-1]), ("easiest", kept[0])):
    worth = {name: over_both(gain(pruned, name, choice, share, share)) for name in judged}
    offers.append(offer(f"keep {share:.0%}, the {choice} (points)", worth, costs.seconds))
budgets = {f"{count} × a training ({count * unit:.1f} s)": count * unit for count in (1, 5, 20)} | {"any": np.inf}
sides.guide(pd.concat(offers), budgets).style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# ## Where we deviate, and why
#
# - **One data set, one network, one size.** Take the ranking of scores as a starting point, not as a law.
# - **TracIn** takes all layers, at five checkpoints. **Influence** is EK-FAC's on networks that were not trained to an optimum, damped: a ranking, not a forecast of retraining ([06](06_influence_fragility.ipynb)).
# - **F-SI** compares predictions on 500 test pictures, without their labels.
# - **Loss** is that of the trained networks at the end; EL2N's is early.
# - **Costs** are of one run on one machine, by this library.
# - **Intervals** of correlations and AUROCs are over examples, with the networks as they are; those of accuracies over seeds of retraining and test rows.
#
# ## Claims

# %%
ledger.table()

# %% [markdown]
# ## Exercises
#
# The first stands on *Who finds the wrong labels?*, the second on the set-up.
#
# 1. Average the ranks of all judged scores. Does the committee find the wrong labels better than its best member?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# No: the committee has an AUROC of .96, the best member .985.
#
# ```python
# place = lambda values: torch.tensor(pd.Series(values.numpy()).rank().to_numpy())
# committee = sum(place(suspicious[name]) for name in judged)
# best = max(judged, key=lambda name: rows_at[name]) if (rows_at := found[found.labels == main].set_index("score").auroc.to_dict()) else None
# print(f"committee {statistics.auroc(committee.numpy(), wrong[main].numpy())[0]:.3f}, {best} alone {rows_at[best]:.3f}")
# ```
# </details>

# %% [markdown]
# 2. Choose the hardest half class by class (`pruning.prune(..., y=y)`) for EL2N and for CG. Who gains by balance?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nobody: both lose by it, CG three points (.837 to .805) and EL2N five (.840 to .790). Which classes are hard is a good part of what they know.
#
# ```python
# balanced = {(name, choice, 0.5): pruning.prune(hard[name], 0.5, drop="lowest", y=labelled) for name in ("EL2N", "CG") for choice, labelled in (("balanced", y), ("as it comes", None))}
# print(pruning.retrain_pruned(model, normal, balanced, **retraining).groupby(["score", "choice"]).accuracy.mean())
# ```
# </details>
