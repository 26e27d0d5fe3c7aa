# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 17 · The scores side by side, further: ends, repeats, company, disagreement
#
# *Not in any of the papers; [07](../07_scores_side_by_side.ipynb) has the main results.*
#
# **Question.** Do the scores name the same examples at the ends of their rankings, and would each say the same twice? How much does the company of an example matter? What sort of example do two scores disagree on?
#
# - Two scores with a Spearman of .99 share three quarters of their hardest twentieth (EL2N and loss), or .38 of it (memorization and C-score); memorization and CG, at .75, share a tenth.
# - EL2N and loss repeat themselves nearly perfectly. GraNd does too, which shows that repeating oneself is no proof of having something to say.
# - Among fifteen times as many rows EL2N keeps its order (.93), memorization does not (.62).
#
# *Symbols and scores: the [glossary](../GLOSSARY.md). No claim is judged here.*

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
dataset: str = "fashion-mnist"  # a name that lib.data.datasets.load knows, or the path of an .npz of pictures
n: int = 4000  # training rows that are scored, pruned and trained on
architecture: str = "mlp-128"  # the network that is scored with and retrained, a name that lib.networks.models.by_name knows
networks: int = 10  # trainings averaged in the scores that are read off a training
trials: int = 200  # trainings on 70% of the rows, for memorization and the C-score
seed: int = 0  # rows, noise, initial weights, ties, bootstrap
n_test: int = 10000  # test rows
epochs: int = 12  # passes over the full set; every pruned set takes as many steps
early: int = 4  # the epoch at which EL2N is taken
curvatures: int = 4  # of these, how many have an influence function taken
trial_epochs: int = 15  # passes in each of these
tangent_width: int = 1024  # hidden units of the linearized network of F-SI
tangent_networks: int = 2  # initial weights that F-SI is averaged over
tangent_inputs: int = 500  # inputs on which F-SI compares predictions
small: int = 200  # rows on which formulas are checked
extreme: float = 0.05  # the share of the rows that counts as the top, or the bottom, of a score
seeds: int = 5  # retrainings of every choice of rows
noise_levels: list = [0.1, 0.2, 0.4]  # shares of wrong labels, uniform; 0.2 is the one that is judged
paired_level: float = 0.2  # share of the labels that become that of the most similar class
shown: int = 8  # pictures a row where two scores disagree
device: str = "cpu"  # where to compute: "cpu" or "cuda"

# %% [markdown]
# ## Data and scores
#
# The rows, the settings and the scores are those of [07](../07_scores_side_by_side.ipynb), from its store where they are there.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from experiments import plots, rankings, side_by_side as sides
from experiments.noise import nearest_class, paired_noise
from lib import catalogue, statistics
from lib.data import datasets, noise, read_scores
from lib.networks import models
from lib.scores import definitions
from lib.scores.memorization import subsets
from lib.scores.unique_information import f_si, f_si_by_class, tangent
from lib.store import Store
from lib.training import ensemble, Run

plots.style()
store = Store(profile=profile)

images = datasets.load(dataset, n_train=n, n_test=n_test, seed=seed)
x, y, k = images.x_train, images.y_train, len(images.classes)
print(images)

# %% [markdown]
# The settings of the scores, which are those of 07, and the scores of all rows, turned so that high = hard:

# %%
controls, terms = ["random", "input norm"], ["CG quadratic", "CG partial", "CG diagonal"]
judged = ["CG", "F-SI", "memorization", "C-score", "GraNd", "EL2N", "forgetting", "TracIn", "influence", "loss"]
names = [*controls, *terms, *judged]
settings = catalogue.Settings(
    architecture=architecture, epochs=epochs, early=early, networks=networks, curvatures=curvatures, trials=trials,
    trial_epochs=trial_epochs, tangent_width=tangent_width, tangent_networks=tangent_networks, tangent_inputs=tangent_inputs,
)
common = {"x_val": images.x_test, "seed": seed, "device": device, "store": store}
scored = catalogue.compute(names, x, y, settings=settings, **common)
known = lambda values: torch.where(values.isnan(), values.nanmedian(), values)
hard = {name: known(one.hardness) for name, one in scored.items()}
in_words = lambda found, form="{:.2f} [{:.2f}, {:.2f}]": {name: form.format(v, *ends) for name, (v, ends) in found.items()}

# %% [markdown]
# ## The formulas, on a few rows
#
# *Memorization, read literally:* train networks on random subsets, and count. *The CG-score* is a difference of two quadratic forms for each example ([04](../04_cg_score_pruning.ipynb)). Both against the library:

# %%
few = torch.cat([torch.nonzero(y == c).flatten()[: small // k] for c in range(k)])
tiny = catalogue.Settings(architecture="mlp-32", trials=20, trial_epochs=3)
sees = subsets(len(few), round(0.7 * len(few)), 20, seed)

def alone(member):
    """Who is right at the end, (1, n), of one network trained by itself."""
    net, own = models.by_name("mlp-32", shape=tuple(x.shape[1:]), classes=k), sees[member : member + 1]
    run = ensemble.train(net, (statistics.standardized(x[few]), y[few]), catalogue.trial_recipe(tiny), [10**6 * seed + member], sees=own, run=Run(progress=False))
    return run.correct_train[:, 0]

print(*map(inspect.getsource, (definitions.influence_of_seeing, definitions.memorization, definitions.c_scores)), sep="\n")
right = torch.cat([alone(member) for member in range(20)])
literal = {"memorization": definitions.memorization(sees, right), "C-score": 1 - definitions.c_scores(sees, right)}
found = catalogue.compute(["CG", "memorization", "C-score"], x[few], y[few], settings=tiny, seed=seed, progress=False)
literal["CG"] = definitions.cg_scores(x[few], y[few])
error = {name: float((found[name].hardness - (value if name != "C-score" else value - 1)).abs().nan_to_num().max() / value.abs().nan_to_num().max()) for name, value in literal.items()}
assert max(error.values()) < 1e-3, error
print("largest difference, of the largest score:", ", ".join(f"{name} {value:.0e}" for name, value in error.items()))

# %% [markdown]
# *F-SI* needs the tangent kernel of all outputs, $nk\times nk$ numbers: 40,000 rows in 07, which is out of reach. So we give each class an output of its own, "this class or another", as the CG-score does, all from the same initial weights. They share an $n\times n$ kernel, and the score is the sum over the classes. In the limit of infinite width it has the same mean over initial weights (k outputs start apart, ours together); on a few rows and at our width:

# %%
inside, outside = (statistics.standardized(rows, x).flatten(1) for rows in (x[few], images.x_test[:100]))
make = lambda outputs: models.initialize(models.mlp(x[0].numel(), (tangent_width,), outputs), seed)
whole = f_si(tangent(make(k), inside, outside), y[few], lr=0.001, steps=2000)
apart = f_si_by_class(tangent(make(1), inside, outside), y[few], classes=k, lr=0.001, steps=2000)
print("Spearman of F-SI by classes with that of one network of {} outputs: {:.2f} [{:.2f}, {:.2f}], {} rows".format(k, *(lambda v, i: (v, *i))(*statistics.spearman(apart, whole, seed=seed)), len(few)))

# %% [markdown]
# ## How noisy is each score?
#
# The noise that is left in each score: the standard error of an example over the spread between examples.

# %%
noisiness = {name: float((one.stderr.square().nanmean() / hard[name].var()).sqrt()) for name, one in scored.items() if one.stderr is not None}
pd.DataFrame({"standard error / spread": noisiness}).sort_values("standard error / spread").style.format("{:.2f}")

# %% [markdown]
# ## How much does the company matter?
#
# A score is relative to its company: the same example among other rows has another score. `data/scores/fashion-mnist.parquet` has the scores of all 60,000 training rows, computed among all of them.
#
# **Predict.** Which score of an example will change least when fifteen times as many others join it?
#
# <details><summary>Answer</summary>
#
# Those that look at one example at a time: the input norm, and GraNd before training. Memorization changes most.
# </details>

# %%
columns = {"input norm": "input_norm", "CG": "cg", "memorization": "memorization", "C-score": "c_score", "GraNd": "grand", "EL2N": "el2n",
           "forgetting": "forgetting", "TracIn": "tracin", "influence": "influence", "loss": "loss"}  # fmt: skip
if images.name == "fashion-mnist":
    stored = read_scores("fashion-mnist", images.rows_train)
    company = {name: statistics.spearman(scored[name].sign * hard[name], stored[column]) for name, column in columns.items()}
else:
    company = {}  # nothing is stored of other data
pd.DataFrame({f"Spearman, among {n:,} and among 60,000 rows": in_words(company)})

# %% [markdown]
# The norm and GraNd at initialization keep their order (1.00): they look at one example at a time. EL2N comes next (.93), then loss, TracIn and influence (.90 to .91). CG, C-score and forgetting stay alike to about three quarters (.74 to .76), and memorization changes most (.62): what has to be learned by heart among 4,000 rows may have a near twin among 60,000. (With 60,000 rows the networks also train for more steps.) "The score of an example" means little without saying: among which others.
#
# ## Do they name the same examples?
#
# A correlation is about all rows; whoever looks for wrong labels or for rows to drop cares about the ends. First the pairs of scores that agree most and least:

# %%
rho = sides.correlations({name: hard[name] for name in judged})
order = sides.clustered(rho)
every = [(a, b, *statistics.spearman(hard[a], hard[b], seed=seed)) for i, a in enumerate(judged) for b in judged[i + 1 :]]
pairs = pd.DataFrame(every, columns=["a score", "another", "Spearman", "interval"]).sort_values("Spearman", ascending=False)
pairs["95%"] = [f"[{low:.2f}, {high:.2f}]" for low, high in pairs.pop("interval")]
pd.concat([pairs.head(5), pairs.tail(5)]).style.format({"Spearman": "{:.2f}"}).hide()

# %% [markdown]
# **Predict.** Two scores with a Spearman of .8: how many of the hardest twentieth do they have in common? And of the easiest?
#
# <details><summary>Answer</summary>
#
# EL2N and CG, at .82: just over half of the hardest, a fifth of the easiest.
# </details>

# %%
fig, axes = plt.subplots(2, 1, figsize=(5.6, 9.6))
for ax, (end, highest) in zip(axes, {"hardest": True, "easiest": False}.items(), strict=True):
    common_part = sides.overlap({name: hard[name] for name in judged}, extreme, highest=highest, seed=seed).loc[order, order]
    sns.heatmap(common_part, ax=ax, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True, annot_kws={"size": 9})
    ax.set(title=f"share in common of the {end} {extreme:.0%} (chance {extreme:.2f})")
plots.save(fig, "17_overlap", profile)
low, high = sides.overlap_chance(n, extreme)
tied = {name: int((hard[name] == hard[name].kthvalue(round(extreme * n))[0]).sum()) for name in ("C-score", "memorization", "forgetting", "EL2N")}
print("rows that tie at the border of the easiest:", ", ".join(f"{name} {count:,}" for name, count in tied.items()))
print(f"{round(extreme * n)} rows at each end; two random choices have {low:.3f} to {high:.3f} in common (95%)")

# %% [markdown]
# Agreement at the ends is another matter. Of the hardest twentieth, EL2N and loss share .78 at a Spearman of .99. EL2N and CG share .56 at .82, memorization and CG .11 at .75. Memorization's hardest are those that networks *can* learn by heart. The hardest of all, which they get wrong even when they have seen them, are not among them.
#
# Among the easiest, EL2N, loss, influence and TracIn have nearly all in common (.78 to .96), CG and they only a fifth. C-score, memorization and forgetting agree with nobody, not even with each other: 2,500 of the 4,000 rows and more tie for the easiest place, and which of them are named is chance. By these scores one can find the rows that matter, but not rank those that do not.
#
# ## Would the same score say it twice?
#
# A score that changes from run to run cannot agree with another better than with itself. Each half of the runs gives a score; we compare the halves. CG and the norm have nothing random in them.
#
# **Predict.** Ten networks or two hundred: whose halves agree better?
#
# <details><summary>Answer</summary>
#
# Those of ten, where each network tells the size of an error. Two hundred answers of yes and no are noisier.
# </details>

# %%
halves = {name: known(one.halves) for name, one in scored.items() if one.halves is not None}
stable = {name: (*statistics.spearman(*pair, seed=seed), sides.overlap({"a": pair[0], "b": pair[1]}, extreme, highest=scored[name].sign > 0).loc["a", "b"]) for name, pair in halves.items()}
table = pd.DataFrame(stable, index=["Spearman", "95%", "in common"]).T.sort_values("Spearman", ascending=False)
fig, ax = plt.subplots(figsize=(5.6, 4))
place = np.arange(len(table))[::-1]
ax.barh(place, table["Spearman"].astype(float), color="0.75", label="Spearman of the two halves")
ax.plot(table["in common"].astype(float), place, "o", color="#d55e00", label=f"hardest {extreme:.0%} in common")
ax.set_yticks(place, table.index)
ax.set(xlabel="agreement of two halves of the runs", xlim=(min(0, ax.get_xlim()[0]), 1))
ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
plots.save(fig, "17_stability", profile)
behind = pd.Series({name: scored[name].trainings / 2 for name in table.index}).round(1)
table.assign(**{"95%": table["95%"].map(lambda i: f"[{i[0]:.2f}, {i[1]:.2f}]"), "trainings in each half": behind}).style.format({"Spearman": "{:.2f}", "in common": "{:.2f}", "trainings in each half": "{:g}"})

# %% [markdown]
# The halves of loss, influence, TracIn and EL2N agree nearly perfectly, those of EL2N after less than two trainings' worth of steps each. Two hundred networks are not better: .93 and .92 for C-score and memorization, whose single outcomes are yes or no. F-SI (.90) depends on the initial weights alone, and would agree better with more of them. Forgetting has the lowest rank correlation (.85), since most rows are hardly ever forgotten and tie; its hardest twentieth (.86) repeats better than EL2N's (.82). And GraNd shows that repeating oneself (.97) is no proof of having something to say.
#
# ## Which classes are the easiest rows from?
#
# The easiest tenth of the rows, by class. It says why training on the easiest rows by EL2N fails ([07](../07_scores_side_by_side.ipynb)): some classes are missing.

# %%
tenth = {name: torch.bincount(y[sides.extremes(hard[name], 0.1, highest=False, seed=seed)], minlength=k).tolist() for name in ("EL2N", "F-SI", "CG", "C-score")}
pd.DataFrame(tenth, index=list(images.classes)).T

# %% [markdown]
# ## Why does memorization miss wrong labels?
#
# How often are networks right about a label when they have seen it, and when not? Memorization is the difference, the C-score the second alone.

# %%
partner = nearest_class(x, y)
labels = {f"{level:.0%} uniform": noise.uniform_noise(y, level, k=k, seed=seed) for level in noise_levels}
labels[f"{paired_level:.0%} similar class"] = paired_noise(y, paired_level, partner, seed=seed)
wrong = {name: flipped for name, (_, flipped) in labels.items()}
noisy = torch.stack([given for given, _ in labels.values()])
under_noise = catalogue.compute(["memorization", "C-score"], x, noisy, classes=k, settings=settings, **common)
mem, held = (known(under_noise[name].values) for name in ("memorization", "C-score"))
when = {"seen": mem + held, "not seen": held}
rates = {
    (kind, f"{what} labels"): {name: float(rate[i][flip == (what == "wrong")].mean()) for i, (name, flip) in enumerate(wrong.items())}
    for what in ("right", "wrong") for kind, rate in when.items()
}
pd.DataFrame(rates).style.format("{:.2f}").set_caption("share of the networks that are right")

# %% [markdown]
# With 20% wrong labels, networks that have seen a wrong label are right about it in 29% of the cases, and in 2% if they have not. So the wrong labels' memorization is about .27, more than that of a typical right label but less than that of a rare right one. Our short trainings do not memorize enough for memorization to find them.
#
# ## Where they disagree
#
# For a few pairs of scores, the rows on which their ranks differ most: above those that the first calls hard and the second easy, below the reverse. Under each picture its label.
#
# **Predict.** What do you expect of a picture that is hard to predict early (EL2N) but that no prediction depends on (F-SI)?
#
# <details><summary>Answer</summary>
#
# It is pale. What F-SI ranks above EL2N is dark (.39).
# </details>

# %%
duels = [("F-SI", "EL2N"), ("CG", "EL2N"), ("CG", "memorization"), ("GraNd", "EL2N")]
rank = {name: torch.tensor(pd.Series(value.numpy()).rank(pct=True).to_numpy()) for name, value in hard.items()}
cells, titles = [], []
for a, b in duels:
    for first, second in ((a, b), (b, a)):
        cells.append(sides.extremes(rank[first] - rank[second], shown / n)[:shown])
        titles.append(f"{first} high,\n{second} low")
rows = torch.cat(cells)
fig = plots.pictures(x[rows], [images.classes[c].replace(" ", "\n").replace("/", "/\n") for c in y[rows].tolist()], columns=shown, titles=titles, size=0.72)
plots.save(fig, "17_disagreement", profile)

# %% [markdown]
# What goes with the disagreement? We correlate the difference of ranks, over all rows, with three plain properties of a picture. How dark is it? Which share of its ten nearest neighbours has its label? How far is its nearest neighbour?

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
# *F-SI against EL2N:* F-SI's favourites are dark bags and high sandals, which any network recognizes early; EL2N's, which F-SI thinks little of, are grey sneakers and patterned dresses. The difference goes with darkness (.39): a dark picture pulls harder at every prediction, whether or not its label is in doubt ([02](../02_unique_information.ipynb)). *CG against EL2N:* CG finds unusual members of easy classes (a bag with a print, a two-coloured dress); EL2N finds ordinary shirts, whose class is difficult. *CG against memorization:* clothes that networks always get wrong, or (the coats) always right, seen or not, against light shirts and sandals that a few networks get wrong that have not seen them. *GraNd against EL2N:* black bags against light shirts; the difference goes with darkness (.74).
#
# What all but GraNd have in common shows in the last table: they follow the share of neighbours with the same label (−.63 to −.72), a number that takes one matrix product.
#
# ## Versions
#
# The numbers above come from this profile, with these versions:

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
