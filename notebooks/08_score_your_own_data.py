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
# # 08 · Score your own data
#
# **Question.** What is in a data set of your own: which labels look wrong, which examples are there twice, which are redundant, and how many of them can go?
#
# *Symbols and scores: the [glossary](GLOSSARY.md).*
#
# This notebook is a template: put your data in, and what it says is about them. It owns no claim of the papers. The same in three lines of Python, without the pictures and without retraining:
#
#     from lib import audit
#     report = audit("my.csv", label="species", minutes=2)
#     report.suspects, report.copies, report.leaks, report.redundant, report.scores
#
# and the whole notebook from a terminal, or with papermill:
#
#     ./run_all.sh --only 08 -p dataset my.csv -p label species
#     papermill --cwd notebooks notebooks/08_score_your_own_data.ipynb out.ipynb -p dataset "$PWD/my.csv" -p label species
#
# `dataset` is the path of a `.csv` or `.parquet` file with a column of labels, a folder of pictures `class/name.png`, or an `.npz` file with `x_train` and `y_train` (and `x_test`, `y_test`, `classes`, if there are any). Labels may be text. As committed, it looks at the 5,000 digits of MNIST that come with the study.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results
dataset: str = "mnist-5k"  # the path of a .csv, .parquet, .npz or folder, or a name that lib.data.load knows
label: str = ""  # the column of labels, in a table
index: str = ""  # a column that names the rows, in a table
categorical: str = "refuse"  # columns of text, in a table: refuse, one-hot or leave out
missing: str = "refuse"  # missing values, in a table: refuse, drop (the rows) or median (of the column)
scores: str = "el2n,cg"  # with commas between: cg, el2n, grand, forgetting, memorization, c-score, tracin, influence, f-si …
minutes: float = 6.0  # decides how many networks are trained, at a presumed speed
n: int = 0  # training rows to look at, at most; 0 is all
n_test: int = 0  # test rows, at most; 0 is all
architecture: str = ""  # a network that lib.networks.models.by_name knows; "" chooses one to suit the data
epochs: int = 0  # passes in a training; 0 chooses
seeds: int = 5  # retrainings of every pruned set, if there is time
kept: list = [0.3, 0.5, 0.7, 0.9]  # shares of the rows that are kept in the pruning curve
by_class: bool = True  # prune each class by the same share, so that none disappears
tolerance: float = 1.0  # percentage points of accuracy that you would give up for fewer examples
shown: int = 20  # suspicious labels shown
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, flips, initial weights

# %% [markdown]
# ## Your data
#
# Whatever cannot be used is refused here, by row and column, before anything is trained.

# %%
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import pandas as pd
import torch

from experiments import own_data, pruning
from lib import audit, plots, rankings
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
# Every row is looked at. It keeps the number that it has in the file, or the name that `index` gives it.

# %%
data = own_data.bring(dataset, label=label, index=index, categorical=categorical, missing=missing, n=n, n_test=n_test, seed=seed)
audit.refuse(data.x_train, data.y_train)
x, y, k, pictures = data.x_train, data.y_train, len(data.classes), data.x_train.ndim == 4
print(data, "·", "no test part of its own" if data.unsplit else "with its own test part")

# %% [markdown]
# How many there are of each class, the rarest first. A class of few rows is judged by few.

# %%
sizes = pd.Series(data.classes)[y.numpy()].value_counts(ascending=True).rename_axis("class").rename("rows")
own_data.shown(sizes.head(12).to_frame().T)

# %% [markdown]
# What the data look like: the first examples of each class, or the first two principal components of the standardized features. Features with one value in all rows are of no use; with many of them, look whether the file was read rightly.

# %%
flat = x.flatten(1)
still = (flat.amax(0) == flat.amin(0)).nonzero().flatten().tolist()
print(f"features (pixels) with one value in all rows: {len(still)}", *[data.columns[i] if data.columns else i for i in still[:8]])
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
# *Judges* are networks trained on random seven tenths of the rows; each row is judged by those that did not see it. *EL2N* is the length of a network's error early in training, the mean over networks that see all rows. Both are done twice: with the labels as they are, and with some flipped on purpose, so that we know how many wrong labels are found. A rule chooses the network, and `architecture` overrides it.
#
# **Predict.** One label in twenty was flipped on purpose (in small sets, one in five at most). Of those flips, which share will be flagged? And how many of the labels as they came do you expect to be wrong?

# %%
report = audit(data, minutes=minutes / 2, seed=seed, device=device, architecture=architecture, epochs=epochs, store=store)
print(report, f"\n{report.facts['choice'].why}")

# %% [markdown]
# Confident learning counts the labels that the judges confidently call otherwise; the estimate of the wrong ones is this count over the share of flips that it counts, with an interval over rows and flips. It presumes that wrong labels are found as easily as flipped ones, and that odd examples are not counted: where classes run into each other it is too high, where errors have a system too low.
#
# How well two orders find the flips, as AUROC with its 95% interval over rows. EL2N decides the order, unless doubt (one less the judges' probability of the label) is clearly better:

# %%
pd.DataFrame({name: (value, *interval) for name, (value, interval) in report.facts["flips"].items()}, index=["AUROC", "low", "high"]).T.style.format("{:.3f}")

# %% [markdown]
# ## Which labels look wrong?
#
# The most suspicious first, with the class that the judges suggest. Suspicion is not proof: odd examples that are labelled rightly are among them, and these are often the ones most worth keeping.

# %%
own_data.shown(report.suspects.head(shown)).format("{:.3f}", subset=report.suspects.columns[2:])

# %% [markdown]
# The same as pictures, or in the plane of the first two principal components. Under each its row, its label, and what the judges would call it.
#
# **Predict.** Before you look: of those shown, how many will *you* call what the label says?

# %%
def show(positions, captions, name, marked):
    if pictures:
        fig = plots.pictures(x[positions, :3], captions, columns=10, size=0.9)
    else:
        fig, ax = plt.subplots(figsize=(7, 4.5))
        plots.projection(ax, audit.prepared(x), y, data.classes, {marked: positions}, names=data.index_train.tolist())
    plots.save(fig, name, profile)

suspicion = report.scores[report.facts["order"].lower()].where(report.scores.suspect, -1).to_numpy()
worst = suspicion.argsort()[::-1][: max(1, min(shown, len(report.suspects)))].copy()
told = report.scores.iloc[worst]
show(worst, [f"{row}\n{r.label} → {r.suggested}"[:40] for row, r in zip(told.index, told.itertuples(), strict=True)], "08_suspects", "most suspicious")

# %% [markdown]
# ## What is there twice?
#
# Copies are looked for among all pairs: exact ones; near ones, much closer than each is to its tenth neighbour; and of pictures also those shifted by a pixel or mirrored. A copy with another label is a contradiction; one in the test part is a leak, since the test asks what was taught. Neither table ends because something was found.

# %%
copies = pd.concat({"in training": report.copies, "in training and test": report.leaks}, names=["where"])
print(f"{len(report.copies)} pairs in training ({int((~report.copies.same_label).sum())} with two labels), {len(report.leaks)} in training and test")
own_data.shown(copies.sort_values("same_label").head(shown).reset_index()).hide().format({"distance": "{:.3g}"})

# %% [markdown]
# ## Which examples are redundant?
#
# At the other end of the scores are the examples that the others make superfluous. What the scores are is explained in notebooks [02](02_unique_information.ipynb) (F-SI), [03](03_long_tail_memorization.ipynb) (memorization), [04](04_cg_score_pruning.ipynb) (CG), [05](05_data_diet.ipynb) (EL2N, GraNd, forgetting) and [06](06_influence_fragility.ipynb) (influence).

# %%
choice = replace(report.facts["choice"], settings=replace(report.facts["choice"].settings, networks=10))
work = {"seed": seed, "device": device, "store": store, "shards": store}
scored = own_data.score(names, data, choice, **work)
print("; ".join(f"{name}: {SCORES[name].text}" for name in scored), *[f"({name} cannot be had here)" for name in names if name not in scored])
lowest = {name: rankings.ranks(value, seed=seed).argsort()[:10] for name, value in scored.items()}
ends = {name: [f"{data.index_train[i]} ({data.classes[y[i]]})" for i in rows.tolist()] for name, rows in lowest.items()}
own_data.shown(pd.DataFrame(ends)).hide().set_caption("rows of the lowest scores (class)")

# %% [markdown]
# The lowest of each score to look at, a line of pictures a score:

# %%
together = torch.cat(list(lowest.values())).numpy()
show(together, [str(data.index_train[i])[:20] for i in together], "08_redundant", "lowest scores")

# %% [markdown]
# Do the scores agree? Spearman correlations over all examples:

# %%
pd.DataFrame({name: value.numpy() for name, value in scored.items()}).corr(method="spearman").style.format("{:.2f}")

# %% [markdown]
# ## How many can go?
#
# For each score the lowest-scored examples are dropped, the network is retrained on the rest for as many steps, and compared with one trained on everything. Random subsets, drawn anew for each seed, are the reference: a score that does no better than chance is of no use for pruning. Where the data have no test part, a fifth of each class is held out for this section alone, and the scores are computed again without it.
#
# **Predict.** How much of this set could go before accuracy falls by one point, if the examples to go were chosen by chance? And by the best of the scores?

# %%
parts = own_data.parted(data, seed=seed)
hardness = own_data.score(names, parts, choice, **work)
own = parts.y_train if by_class else None
cuts = {("all", 1.0): lambda s: torch.ones(len(parts.y_train), dtype=torch.bool)}
for share in kept:
    cuts["random", share] = lambda s, share=share: pruning.random_subsets(len(parts.y_train), share, [s], y=own)[0]
    for name, value in hardness.items():
        cuts[name, share] = lambda s, share=share, value=value: pruning.prune(value, share, drop="lowest", y=own, seed=seed)
z = audit.prepared(parts.x_train, choice.side)
ready = replace(parts, x_train=z, x_test=audit.prepared(parts.x_test, choice.side, like=parts.x_train))

# %% [markdown]
# Every plan is trained with every seed, if the minutes allow for two at least. The loss in points against all data comes with a 95% interval that holds for other seeds and for other test examples.

# %%
model = models.by_name(choice.settings.architecture, shape=tuple(z.shape[1:]), classes=k)
steps = choice.settings.trial_epochs * -(-len(z) // choice.settings.batch_size)
fixed = {"recipe": replace(trial_recipe(choice.settings), epochs=None, iterations=steps), "run": Run(device=device, store=store, progress=False)}
fit = own_data.seeds_that_fit(choice.settings, z, k, plans=len(cuts), minutes=minutes / 2, most=seeds)
fit = fit if len(ready.y_test) > 1 else 0
print(f"{len(cuts)} plans, {fit} seeds each, {len(ready.y_test)} test examples" + ("" if fit > 1 else ": too little to tell; give more minutes, rows or fewer shares"))
marks = own_data.retrain_and_mark(model, ready, cuts, seeds=range(fit), **fixed) if fit > 1 else {}
lost = own_data.accuracy_lost(marks, ("all", 1.0)) if marks else pd.DataFrame(columns=["score", "kept", "accuracy", "loss", "low", "high"])

# %% [markdown]
# The dotted line is the tolerance.

# %%
fig, ax = plt.subplots(figsize=(7.5, 4.2))
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
# The largest share that can be dropped within the tolerance: as measured, surely within it, and at most. Where this is the largest share that was tried, more might go.

# %%
def advice(part):
    value, (low, high) = own_data.largest_drop(1 - part.kept, part.loss, part.low, part.high, tolerance=tolerance)
    return pd.Series({"surely": low, "dropped": value, "at most": high, "mean loss": -part.loss.mean()})

advised = pd.DataFrame({name: advice(part) for name, part in lost[lost.kept < 1].groupby("score", sort=False)}, dtype=float).T
advised = advised.sort_values(list(advised), ascending=False)
advised.style.format("{:.0%}", subset=list(advised)[:3])

# %% [markdown]
# The best of several choices looks better than it is. So the largest share that is surely within the tolerance is trained once more with new seeds. It is suggested only if the whole new interval lies within the tolerance too.

# %%
again = lost.head(0)
if len(advised) and advised.surely.iloc[0] > 0:
    chosen = ("all", 1.0), (advised.index[0], min(kept, key=lambda s: abs(1 - s - advised.surely.iloc[0])))
    new = own_data.retrain_and_mark(model, ready, {name: cuts[name] for name in chosen}, seeds=range(1000, 1000 + fit), **fixed)
    again = own_data.accuracy_lost(new, ("all", 1.0))
verdict = own_data.suggestion(again, tolerance=tolerance)
print(f"for a loss of at most {tolerance:g} points: {verdict}")

# %% [markdown]
# ## The table
#
# One row an example: its label, each score, what the judges suggest, and which row it is a copy of. Its name holds a part of the data's checksum, so that two files of one name do not share a table. How it was made stands inside.

# %%
path = results_folder(profile) / "scores" / f"{data.name}-{data.sha256[:8]}.parquet"
path.unlink(missing_ok=True)
made = {"dataset": data.name, "sha256": data.sha256, "settings": asdict(choice.settings), "minutes": minutes, "seed": seed, "networks": report.facts["networks"], "versions": ledger.versions(), "suggestion": verdict}
written = score_files.merge_scores(path, own_data.columns(report, scored, data), rows=data.rows_train.numpy(), group="own data", made=made)
report.to_html(path.with_suffix(".html"))
written.head()

# %% [markdown]
# To read it in Python: `pandas.read_parquet(path).set_index("row")`, and `lib.data.score_files.provenance(path)`. Beside it lies a page to send to a colleague. What was found, in short (`run_all.sh` repeats this at its end):

# %% tags=["summary"]
print(report)
print(f"for a loss of at most {tolerance:g} points: {verdict}")
print("the most suspicious labels:")
print(report.suspects.head(5).to_string(float_format="%.3f") if len(report.suspects) else "none")
print(f"table: results/{path.relative_to(results_folder())} (and .html), {len(written):,} rows")

# %% [markdown]
# ## What it cannot know
#
# - **Suspicion is not proof.** A flag says that networks taught by the other examples would have said something else. Look at the examples before you change or drop anything.
# - **Errors with a system stay hidden.** Where all examples of one kind bear the same wrong label, the judges learn it. The flips are random, and so easier to find than real confusions (exercise 2).
# - **The network is small.** On pictures in colour a larger one, named by `architecture`, judges better and takes longer; or hand your own model's probabilities or embeddings to `audit`. Scores are about the network that made them.
# - **Pruning was tried for one network, one recipe and one size of data.** Notebooks 04 and 05 show how far such a result carries.
# - **Copies that were cropped, turned or reworded are not found.** Where inputs repeat, and for all feature vectors, a thousandth is added to the diagonal of the CG-score's matrix, which is singular otherwise.
#
# ## Exercises
#
# 1. Spoil the data on purpose: copy 20 examples, and give 5 of the copies another label. Does the audit find them all?
#
# <details><summary>Answer</summary>
#
# All of them: twenty copies, of which five have two labels. (Copies that were there before come on top.)
#
# ```python
# spoilt_x, spoilt_y = torch.cat([x, x[:20]]), torch.cat([y, y[:20]])
# spoilt_y[-5:] = (spoilt_y[-5:] + 1) % k
# found = audit.find_copies(spoilt_x)
# found = found[(found.a >= len(x)) & (found.kind == "exact")]
# print(found.a.nunique(), int((spoilt_y[found.a.to_numpy()] != spoilt_y[found.b.to_numpy()]).sum()))
# ```
# </details>
#
# 2. Real mistakes are confusions. Flip a twentieth of the labels to the class that the judges find second likeliest. How many are flagged now?
#
# <details><summary>Answer</summary>
#
# Fewer than of random flips: what random flips say is an upper limit.
#
# ```python
# settings, z_all = choice.settings, audit.prepared(x, choice.side)
# judged = audit.judge(z_all, y[None], settings, blocks=1, k=k, seed=seed, run=Run(progress=False))[0]
# flipped = torch.rand(len(y), generator=torch.Generator().manual_seed(seed)) < 0.05
# confused = torch.where(flipped, judged.scatter(1, y[:, None], -1.0).argmax(1), y)
# judged = audit.judge(z_all, confused[None], settings, blocks=1, k=k, seed=seed, run=Run(progress=False))[0]
# print(f"{audit.wrong_labels(judged, confused)[flipped].double().mean():.0%} of the confusions are counted")
# ```
# </details>
#
# 3. Hand over probabilities of a model of your own, here logistic regression, in place of our networks. Do both name the same rows?
#
# <details><summary>Answer</summary>
#
# In part. Where they agree, two different models were surprised by the same label.
#
# ```python
# from sklearn.linear_model import LogisticRegression
#
# other = audit(data, probabilities=LogisticRegression(max_iter=200))
# print(f"{len(other.suspects)} and {len(report.suspects)} rows, {len(other.suspects.index.intersection(report.suspects.index))} of them the same")
# ```
# </details>
#
# 4. Hand over something that cannot work: a score that is none, one class only, and no time. What do you read?
#
# <details><summary>Answer</summary>
#
# One sentence each: which argument, what was expected, what came.
#
# ```python
# one = torch.zeros(50, dtype=torch.int64)
# for attempt in (lambda: own_data.score_names("cg, magic"), lambda: audit.refuse(x[:50], one), lambda: audit(data, minutes=0)):
#     try:
#         attempt()
#     except ValueError as error:
#         print(error)
# ```
# </details>

# %% [markdown]
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
