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
# # 00 · Start here: what a score says about one example
#
# **Question.** Five papers put a number on a single training example. What does each number say about the same pictures, which of the papers' claims held here, and which notebook answers which question?
#
# This notebook trains nothing. It reads the scores of all 60,000 training pictures of Fashion-MNIST that come with the study and the verdicts of the committed runs, and takes a few seconds.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
shown: str = "T-shirt/top"  # the class whose pictures are shown
pictures: int = 6  # at either end of a score
cards: list = ["CG", "EL2N", "memorization", "forgetting", "influence", "F-SI"]  # the top picture of each gets a card
device: str = "cpu"  # nothing is computed here that would need one
seed: int = 0  # draws the ordinary picture among the cards

# %% [markdown]
# ## One idea
#
# What is a training example worth? Take it away, train again, and look at what is different. All five papers do this, or foretell the outcome without training:
#
# ```text
#           who sees what                       a number an example
# data ──► train many networks ──► how often right, how early, how sure ──► memorization, C-score, forgetting, EL2N, GraNd
#   │                                                                  │
#   └────► or foretell it ───────► Gram matrix, tangent kernel, Hessian ──► CG-score, unique information, influence
#                                                                      │
#                                        prune · find wrong labels · find pairs · compare ──► claims, each with a verdict
# ```
#
# | paper | its number | what it asks | needs |
# | --- | --- | --- | --- |
# | Harutyunyan et al. 2021 | unique information, SI and F-SI | how far do weights, or predictions elsewhere, move when it is taken out? | gradients of an untrained network |
# | Feldman and Zhang 2020 | memorization, influence | how much likelier is its label got right by networks that saw it? which test pictures need it? | hundreds to thousands of trainings |
# | Ki, Choi and Chung 2023 | CG-score | how much simpler are the labels without it? | one matrix factorization |
# | Paul, Ganguli and Dziugaite 2021 | GraNd, EL2N | how large is its gradient, or its error, early in training? | a few short trainings |
# | Basu, Pope and Feizi 2021 | influence functions | what would a test loss be without it, to first order? | a trained network and its curvature |
#
# [The glossary](GLOSSARY.md) has the definitions, signs and units.

# %%
import numpy as np
import torch

from experiments.overview import chart, score_card, verdict_counts
from lib import plots
from lib.data import datasets, read_scores

plots.style()
COLUMNS = {  # name here: column of the file
    "input norm": "input_norm", "CG": "cg", "GraNd": "grand", "EL2N": "el2n",
    "forgetting": "forgetting", "loss": "loss", "TracIn": "tracin", "influence": "influence",
    "F-SI": "f_si", "memorization": "memorization",
}  # fmt: skip

# %% [markdown]
# ## The scores, in pictures
#
# Each row is one score; at its left the pictures of one class that score lowest, at its right those that score highest. All scores here are turned so that high means hard, unusual or needed. The file has every row of the training set, except for F-SI, which is known for a sample of them. (`shown` is the class; try another.)

# %%
images = datasets.load("fashion-mnist")
scores = read_scores("fashion-mnist", images.rows_train)
own = scores[(scores.label == images.classes.index(shown)).to_numpy()]
ends = {name: own[column].dropna().sort_values().index for name, column in COLUMNS.items()}
rows = np.stack([np.r_[order[:pictures], order[-pictures:]] for order in ends.values()])
shown_pictures = images.x_train[torch.as_tensor(rows)]
gap = torch.zeros_like(shown_pictures[:, :1])
grid = torch.cat([shown_pictures[:, :pictures], gap, shown_pictures[:, pictures:]], 1).flatten(0, 1)
fig = plots.pictures(grid, columns=2 * pictures + 1, titles=list(ends), size=0.55)
fig.suptitle(f"{shown}: lowest scores{' ' * 50}highest scores", fontsize=10)
plots.save(fig, "00_extremes", profile)

# %% [markdown]
# Read it row by row. *CG*, *EL2N*, *loss*, *TracIn* and *influence* agree about what is odd among T-shirts: bandeau tops, straps, long sleeves, dresses. *GraNd* before training has nearly the pictures of *input norm*: pale ones at the left, dark ones at the right, whatever they show (notebook 05 follows this up). The left of *forgetting* is an arbitrary choice among thousands that were never forgotten, and the left of *memorization* is noise below zero, where networks that had not seen the picture did a little better. *F-SI* calls plain grey shirts uninformative and pictures with a print informative: it asks what an example changes for *others*.

# %% [markdown]
# ## One picture, all scores
#
# The same scores as cards: the picture of all classes that one score puts highest, and where every score places it among the 60,000 (0 = lowest, 100 = highest). Below them a picture drawn at random.

# %%
everyone = scores[list(COLUMNS.values())].rename(columns={column: name for name, column in COLUMNS.items()})
percentile = 100 * everyone.rank(pct=True)
known = percentile["F-SI"].notna().to_numpy()
chosen = {f"highest {name}": everyone[name].where(known).idxmax() for name in cards}
chosen["at random"] = int(np.random.default_rng(seed).choice(np.flatnonzero(known)))
fig = score_card(images, chosen, percentile)
plots.save(fig, "00_cards", profile)

# %% [markdown]
# The oddest shirt of the CG-score is near the top of every score that looks at labels, but for one: memorization. So it is with the highest EL2N, a dress among the T-shirts. (Most rows have a memorization of exactly 0 and share a middling percentile.) What memorization and the C-score, the share of right answers by networks that had not seen the picture, say of these rows:

# %%
scores.loc[list(chosen.values()), ["memorization", "c_score", "loss"]].set_axis(list(chosen)).round(3)

# %% [markdown]
# Memorization asks whether a network gets the label right *because it saw the example*, and the labels of the first two no network gets right, seen or not, in the few epochs that these networks train. The sandal that looks like a boot is learned where it is seen, and almost always got wrong where it is not. Hard, wrong, and memorized are three different things, and a single "value" cannot tell them apart.
#
# How well do the scores agree over all rows that have all of them? Rank correlations with three of them:

# %%
ranks = everyone[known].rank().corr()
ranks[["CG", "EL2N", "memorization"]].round(2)

# %% [markdown]
# The scores that are read off a training, and the CG-score that needs none, rank the rows much alike; memorization is related to all of them and follows none; the two that look at the picture alone, or at a network before training, are about something else. Notebook 07 has the whole matrix, with intervals, and what each score buys.
#
# ## What held
#
# Every stated result of the five papers has a criterion that was written down before the run that judges it. These are the verdicts of the committed runs (profile `laptop`: small networks and thousands of examples, where the papers have large ones and tens of thousands), paper by paper:

# %%
counts = verdict_counts()
fig = chart(counts)
plots.save(fig, "00_verdicts", profile)
print(counts.to_string())

# %% [markdown]
# *Reproduced* asks for the published size, and for an interval over everything that another team would redraw. *Partly* is a smaller effect, a mixed one, or one whose interval leaves something out. *Not decided* is what is too uncertain, needs data or networks that a laptop does not have, or failed here before anything was moved towards the paper's setting. Identities *hold* or *fail*, costs are *measured*; neither counts as a reproduction.
#
# [RESULTS.md](../RESULTS.md) has all of them, with the section that has the evidence.

# %% [markdown]
# ## Where to go
#
# | you want to | read |
# | --- | --- |
# | score your own data, find wrong labels, see what can go | [08 · Score your own data](08_score_your_own_data.ipynb) |
# | choose a score for a purpose and a budget | [07 · Scores side by side](07_scores_side_by_side.ipynb), its guide at the end |
# | know whether a closed form can replace retraining | [01 · Linearized networks](01_linearization_accuracy.ipynb) |
# | measure how much an example informs, find redundant sources and rare kinds | [02 · Unique information](02_unique_information.ipynb) |
# | understand why networks memorize, and which test pictures depend on which training pictures | [03 · Long tail](03_long_tail_memorization.ipynb) |
# | score without training, prune, detect label noise | [04 · CG-score](04_cg_score_pruning.ipynb) |
# | prune after a few epochs, see what hard examples do to training | [05 · Data diet](05_data_diet.ipynb) |
# | know when an influence function may be trusted | [06 · Influence fragility](06_influence_fragility.ipynb) |
# | teach it | any of them: each asks for a guess before an experiment and ends in exercises with folded answers |
#
# A lecture of an hour fits 00, the first half of 04 and the pairs of 03; a course may take one notebook a week. Every notebook runs alone, in minutes on a laptop, and takes other data and sizes as parameters.
#
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, scores of {len(scores):,} rows")
