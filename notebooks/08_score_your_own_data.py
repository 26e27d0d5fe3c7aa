# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Score your own data
#
# **Question.** What is in a data set of your own: which labels look wrong, which examples are there twice, and how many of them can go?
#
# You will find:
#
# - labels that look wrong, and an estimate of their number;
# - how many such a search finds here, tried on labels that we flip;
# - copies, contradictions, and leaks into the test part;
# - examples that the others make superfluous;
# - what may be dropped, if retraining bears it out.
#
# *Symbols and scores: the [glossary](GLOSSARY.md). Worked examples (digits, a table, embeddings): [18](appendix/18_own_data_examples.ipynb).*
#
#     ./run_all.sh --only 08 -p dataset my.csv -p label species
#
# `dataset` is the path of a `.csv` or `.parquet` file with a column of labels, a folder of pictures `class/name.png`, or an `.npz` file with `x_train` and `y_train`. (It may have `x_test`, `y_test` and `classes`.) Without retraining, in Python:
#
#     from lib import audit
#     report = audit("my.csv", label="species", minutes=2)
#     report.suspects, report.copies, report.leaks, report.redundant, report.scores
#
# To run a part, run the cells to the end of *What the audit finds*, then *Which labels look wrong?*, *What is there twice?*, *Which examples are redundant?* or *How many can go?*.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results
dataset: str = "mnist-5k"  # the path of a .csv, .parquet, .npz or folder, or a name that lib.data.load knows
label: str = ""  # the column of labels, in a table
index: str = ""  # a column that names the rows, in a table
minutes: float = 6.0  # decides how many networks are trained, at a presumed speed
tolerance: float = 1.0  # percentage points of accuracy that you would give up for fewer examples
categorical: str = "refuse"  # columns of text, in a table: refuse, one-hot or leave out
missing: str = "refuse"  # missing values, in a table: refuse, drop (the rows) or median (of the column)
scores: str = "el2n,cg"  # with commas between: cg, el2n, grand, forgetting, memorization, c-score, tracin, influence, f-si …
n: int = 0  # training rows to look at, at most; 0 is all
n_test: int = 0  # test rows, at most; 0 is all
architecture: str = ""  # a network that lib.networks.models.by_name knows; "" chooses one to suit the data
epochs: int = 0  # passes in a training; 0 chooses
seeds: int = 5  # retrainings of every pruned set, if there is time
kept: list = [0.3, 0.5, 0.7, 0.9]  # shares of the rows that are kept in the pruning curve
by_class: bool = True  # prune each class by the same share, so that none disappears
shown: int = 20  # suspicious labels shown
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, flips, initial weights

# %% [markdown]
# ## Your data
#
# What cannot be used is refused here, by row and column, before any training.

# %%
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

from experiments import own_data, plots, pruning, rankings
from lib import audit
from lib.catalogue import SCORES, trial_recipe
from lib.data import score_files
from lib.ledger import ledger
from lib.networks import models
from lib.store import Store, results_folder
from lib.training import Run

plots.style()
plt.rcParams["text.parse_math"] = False  # a class may be called under_$10
names, store = own_data.score_names(scores), Store(profile=profile)
if not (minutes > 0 and tolerance >= 0 and seeds >= 2 and kept and all(0 < share < 1 for share in kept)):
    raise ValueError(f"expected minutes > 0, tolerance ≥ 0, seeds ≥ 2 and shares kept between 0 and 1, got {minutes}, {tolerance}, {seeds}, {kept}")

# %% [markdown]
# A row keeps its number in the file, or the name that `index` gives it. The table counts each class, the rarest first: a class of few rows is judged by few.

# %%
data = own_data.bring(dataset, label=label, index=index, categorical=categorical, missing=missing, n=n, n_test=n_test, seed=seed)
audit.refuse(data.x_train, data.y_train)
x, y, k, pictures = data.x_train, data.y_train, len(data.classes), data.x_train.ndim == 4
flat = x.flatten(1)
still = (flat.amax(0) == flat.amin(0)).nonzero().flatten().tolist()
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
print(data, "·", "no test part of its own" if data.unsplit else "with its own test part")
print(f"features (pixels) with one value in all rows: {len(still)}", *[data.columns[i] for i in still[:8] if data.columns])
sizes = pd.Series(data.classes)[y.numpy()].value_counts(ascending=True).rename_axis("class").rename("rows")
own_data.shown(sizes.head(12).to_frame().T)

# %% [markdown]
# The first examples of each class, or the plane of the first two principal components. Was the file read rightly?

# %%
if pictures:
    some = [torch.nonzero(y == c).flatten()[:10] for c in range(min(k, 10))]
    fig = plots.pictures(x[torch.cat([rows[: min(map(len, some))] for rows in some]), :3], columns=min(map(len, some)), titles=data.classes[:10], size=0.5)
else:
    fig, ax = plt.subplots(figsize=(6, 4))
    plots.projection(ax, audit.prepared(x), y, data.classes)
plots.save(fig, "08_data", profile)

# %% [markdown]
# ## What the audit finds
#
# *Judges* are networks trained on random seven tenths of the rows; each row is judged by those that did not see it. *EL2N* is the length of a network's error early in training. Both are computed twice: for the labels as they are, and with one in twenty flipped on purpose.
#
# **Predict.** Which share of the flips will be flagged? How many labels were wrong before?

# %%
report = audit(data, minutes=minutes / 2, seed=seed, device=device, architecture=architecture, epochs=epochs, store=store, progress=True)
choice = replace(report.facts["choice"], settings=replace(report.facts["choice"].settings, networks=10))
work = {"seed": seed, "device": device, "store": store, "shards": store, "progress": True}
print(report, f"\n{report.facts['choice'].why}")
print("AUROC of the flips:", *[f"{name} {value:.3f} [{low:.3f}, {high:.3f}]" for name, (value, (low, high)) in report.facts["flips"].items()])

# %% [markdown]
# The estimate: labels that the judges confidently call otherwise, over the share of flips counted in the same way. It is too high where classes run into each other, too low where errors have a system. For digits it is too high: others count about 8.
#
# ## Which labels look wrong?
#
# The most suspicious first, with the class that the judges suggest. EL2N decides the order, unless *doubt* (1 − the judges' probability of the label) finds flips clearly better.
#
# The same to look at, each with its row, its label, and what the judges would call it.
#
# **Predict.** Of how many will *you* say that the label is right?

# %%
display(own_data.shown(report.suspects.head(shown)).format("{:.3f}", subset=report.suspects.columns[2:]))

suspicion = report.scores[report.facts["order"].lower()].where(report.scores.suspect, -1).to_numpy()
worst = suspicion.argsort()[::-1][: min(shown, len(report.suspects))].copy()
if pictures and len(worst):
    told = report.scores.iloc[worst]
    captions = [f"{row}\n{r.label} → {r.suggested}"[:40] for row, r in zip(told.index, told.itertuples(), strict=True)]
    fig = plots.pictures(x[worst, :3], captions, columns=5, size=1.25)
else:
    fig, ax = plt.subplots(figsize=(7, 4.5))
    marked = {"most suspicious": worst} if len(worst) else {}
    plots.projection(ax, audit.prepared(x).flatten(1), y, data.classes, marked, names=data.index_train.tolist())
plots.save(fig, "08_suspects", profile)

# %% [markdown]
# ## What is there twice?
#
# All pairs are compared. A near copy is much closer than either is to its tenth neighbour. Pictures may also be shifted by a pixel or mirrored. A copy with another label is a contradiction; one in the test part is a leak.

# %%
copies = pd.concat({"in training": report.copies, "in training and test": report.leaks}, names=["where"])
print(f"{len(report.copies)} pairs in training ({int((~report.copies.same_label).sum())} with two labels), {len(report.leaks)} in training and test")
own_data.shown(copies.sort_values("same_label").head(shown).reset_index()).hide().format({"distance": "{:.3g}"}) if len(copies) else None

# %% [markdown]
# ## Which examples are redundant?
#
# Perhaps those at the low end of a score. [07](07_scores_side_by_side.ipynb) compares the scores, [09](09_scores_in_twenty_lines.ipynb) defines them.

# %%
scored = own_data.score(names, data, choice, **work)
print("; ".join(f"{name}: {SCORES[name].text}" for name in scored), *[f"({name} cannot be had here)" for name in names if name not in scored])
lowest = {name: rankings.ranks(value, seed=seed).argsort()[:10].tolist() for name, value in scored.items()}
ends = {name: [f"{data.index_train[i]} ({data.classes[y[i]]})" for i in rows] for name, rows in lowest.items()}
own_data.shown(pd.DataFrame(ends)).hide().set_caption("rows of the lowest scores (class)")

# %% [markdown]
# ## How many can go?
#
# We drop the lowest of each score and train on the rest for as many steps. Subsets drawn by chance are the reference. Without a test part, a fifth of each class is held out here.
#
# **Predict.** How many could go before accuracy falls by one point, if chance chose them? If the best score did?

# %%
parts = own_data.parted(data, seed=seed)
hardness, own = own_data.score(names, parts, choice, **work), parts.y_train if by_class else None
cuts = {("all", 1.0): lambda s: torch.ones(len(parts.y_train), dtype=torch.bool)}
for share in kept:
    cuts["random", share] = lambda s, share=share: pruning.random_subsets(len(parts.y_train), share, [s], y=own)[0]
    for name, value in hardness.items():
        cuts[name, share] = lambda s, share=share, value=value: pruning.prune(value, share, drop="lowest", y=own, seed=seed)
z = audit.prepared(parts.x_train, choice.side)
ready = replace(parts, x_train=z, x_test=audit.prepared(parts.x_test, choice.side, like=parts.x_train))
model = models.by_name(choice.settings.architecture, shape=tuple(z.shape[1:]), classes=k)
steps = choice.settings.trial_epochs * -(-len(z) // choice.settings.batch_size)
fixed = {"recipe": replace(trial_recipe(choice.settings), epochs=None, iterations=steps), "run": Run(device=device, store=store)}
fit = own_data.seeds_that_fit(choice.settings, z, k, plans=len(cuts), minutes=minutes / 2, most=seeds) if len(ready.y_test) > 1 else 0
print(f"{len(cuts)} plans, {fit} seeds each, {len(ready.y_test)} test examples" + ("" if fit > 1 else ": too little to tell; give more minutes, rows or fewer shares"))
marks = own_data.retrain_and_mark(model, ready, cuts, seeds=range(fit), **fixed) if fit > 1 else {}
lost = own_data.accuracy_lost(marks, ("all", 1.0)) if marks else pd.DataFrame(columns=["score", "kept", "accuracy", "loss", "low", "high"])

# %% [markdown]
# Accuracy, with the 95% interval of its loss over seeds and test examples. Dotted: the tolerance.

# %%
fig, ax = plt.subplots(figsize=(6, 4))
for name, part in lost[lost.kept < 1].groupby("score", sort=False):
    middle, half = 100 * part.accuracy, part.high - part.loss
    line = ax.plot(part.kept, middle, **plots.look(name))[0]
    ax.fill_between(part.kept, middle - half, middle + half, color=line.get_color(), alpha=0.12, lw=0)
if len(lost):
    plots.reference(ax, 100 * lost.accuracy[0], "all examples")
    ax.axhline(100 * lost.accuracy[0] - tolerance, lw=0.9, ls=":", color="0.35")
    ax.legend(loc="lower right")
ax.set(xlabel="share of the examples kept", ylabel="test accuracy (%)")
plots.save(fig, "08_pruning", profile)


# %% [markdown]
# The largest share that can be dropped within the tolerance: surely, as measured, at most. The best of several choices looks better than it is. So it is trained again with new seeds (the test examples are the same, so a little luck remains), and suggested only if the new interval lies within the tolerance.

# %%
def advice(part):
    value, (low, high) = own_data.largest_drop(1 - part.kept, part.loss, part.low, part.high, tolerance=tolerance)
    return pd.Series({"surely": low, "as measured": value, "at most": high, "mean loss": -part.loss.mean()})

advised = pd.DataFrame({name: advice(part) for name, part in lost[lost.kept < 1].groupby("score", sort=False)}, dtype=float).T
advised, again = advised.sort_values(list(advised), ascending=False), lost.head(0)
if len(advised) and advised.surely.iloc[0] > 0:
    chosen = ("all", 1.0), (advised.index[0], min(kept, key=lambda s: abs(1 - s - advised.surely.iloc[0])))
    new = own_data.retrain_and_mark(model, ready, {name: cuts[name] for name in chosen}, seeds=range(1000, 1000 + fit), **fixed)
    again = own_data.accuracy_lost(new, ("all", 1.0))
verdict, within = own_data.suggestion(again, tolerance=tolerance), f"for a loss of at most {tolerance:g} point" + "s" * (tolerance != 1)
print(f"{within}: {verdict}")
advised[list(advised)[:3]].style.format("{:.0%}")

# %% [markdown]
# ## The table
#
# One row for each example, for `pandas.read_parquet(path)`; `lib.data.score_files.provenance(path)` says how it was made. Beside it lies a page to send to a colleague.

# %%
path = results_folder(profile) / "scores" / f"{data.name}-{data.sha256[:8]}.parquet"
made = {"dataset": data.name, "sha256": data.sha256, "settings": asdict(choice.settings), "minutes": minutes, "seed": seed, "networks": report.facts["networks"], "versions": ledger.versions(), "suggestion": verdict}
written = score_files.merge_scores(path, own_data.columns(report, scored, data), rows=data.rows_train.numpy(), group="own data", made=made, fresh=True)
report.to_html(path.with_suffix(".html"))
own_data.shown(written.head()).hide().format(precision=3)

# %% [markdown]
# What was found, in short, with the place of the table. `run_all.sh` repeats this when it ends.

# %% tags=["summary"]
print(report)
print(f"{within}: {verdict}")
print("the most suspicious labels:")
print(report.suspects.head(5).to_string(float_format="%.3f") if len(report.suspects) else "none")
root = "results" if results_folder().resolve() == Path("../results").resolve() else "$STUDY_RESULTS"
print(f"table: {root}/{path.relative_to(results_folder())} (and .html), {len(written):,} rows")

# %% [markdown]
# ## What it cannot know
#
# - **Suspicion is not proof.** Odd examples with right labels are flagged too, and are often most worth keeping.
# - **Errors with a system stay hidden.** A wrong label that all examples of a kind bear is learned.
# - **The network is small.** A larger `architecture` judges better; so may your own model (exercise 2).
# - **Pruning was tried for one network and one size.** [05](05_data_diet.ipynb) shows how far that carries.
# - **Copies that were cropped, turned or reworded are not found.**

# %% [markdown]
# ## Exercises
#
# Both stand on the set-up alone.
#
# 1. Copy 20 examples, and give 5 of the copies another label. Does the audit find them all?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# All of them: twenty copies, of which five have two labels.
#
# ```python
# spoilt_x, spoilt_y = torch.cat([x, x[:20]]), torch.cat([y, y[:20]])
# spoilt_y[-5:] = (spoilt_y[-5:] + 1) % k
# found = audit.find_copies(spoilt_x)
# found = found[(found.a >= len(x)) & (found.kind == "exact")]
# print(found.a.nunique(), int((spoilt_y[found.a.to_numpy()] != spoilt_y[found.b.to_numpy()]).sum()))
# ```
# </details>

# %% [markdown]
# 2. Hand over a model of your own, here logistic regression. Does it name the same rows?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# In part. Where they do, two models were surprised by the same label.
#
# ```python
# from sklearn.linear_model import LogisticRegression
#
# other = audit(data, probabilities=LogisticRegression(max_iter=200))
# both = len(other.suspects.index.intersection(report.suspects.index))
# print(f"{len(other.suspects)} and {len(report.suspects)} rows, {both} of them the same")
# ```
# </details>
