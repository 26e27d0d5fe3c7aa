# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
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
# **What the study found**, a line each with its notebook:
#
# - The linearized network foretells retraining well for wide and pretrained networks ([01](01_linearization_accuracy.ipynb)); what it calls informative is rare, odd or wrongly labelled ([02](02_unique_information.ipynb)).
# - Networks memorize a tail of odd examples, and it pays: a few test pictures depend on each ([03](03_long_tail_memorization.ipynb)).
# - The CG-score finds wrong labels without any training, and prunes less well than published ([04](04_cg_score_pruning.ipynb)).
# - EL2N prunes well where rows are many and the learning rate is small; GraNd at initialization is the length of the picture ([05](05_data_diet.ipynb)).
# - Influence functions foretell retraining where a smooth network stands at an optimum; elsewhere they may not ([06](06_influence_fragility.ipynb)).
#
# This notebook trains nothing. It reads the scores of all 60,000 training pictures of Fashion-MNIST that come with the study, and takes a few seconds.

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
# ![Data lead along two ways, training with and without an example or foretelling the outcome, to a number for each example, and from there to uses](../figures/idea.svg)
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
# Each row is one score: at its left the pictures of one class that score lowest, at its right those that score highest. All scores are turned so that high means hard, unusual or needed. (`shown` is the class; try another.)
#
# **Predict.** Which two of these scores will show the same pictures, and which one will not look at what a picture shows at all?

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
# <details><summary>Answer</summary>
#
# *GraNd* before training has nearly the pictures of *input norm*: pale ones at the left, dark ones at the right, whatever they show.
# </details>
#
# *CG*, *EL2N*, *loss*, *TracIn* and *influence* agree about what is odd among T-shirts: bandeau tops, straps, long sleeves, dresses. The left of *forgetting* is an arbitrary choice among thousands that were never forgotten. *F-SI* calls plain grey shirts uninformative and pictures with a print informative: it asks what an example changes for *others*.

# %% [markdown]
# ## One picture, all scores
#
# The same scores as cards: the picture of all classes that one score puts highest, and where every score places it among the 60,000 (0 = lowest, 100 = highest). The last is drawn at random.

# %%
everyone = scores[list(COLUMNS.values())].rename(columns={column: name for name, column in COLUMNS.items()})
percentile = 100 * everyone.rank(pct=True)
known = percentile["F-SI"].notna().to_numpy()
chosen = {f"highest {name}": everyone[name].where(known).idxmax() for name in cards}
chosen["at random"] = int(np.random.default_rng(seed).choice(np.flatnonzero(known)))
fig = score_card(images, chosen, percentile)
plots.save(fig, "00_cards", profile)

# %% [markdown]
# The oddest shirt of the CG-score is near the top of every score that looks at labels, but for one: memorization. So it is with the highest EL2N, a dress among the T-shirts. What memorization and the C-score, the share of right answers by networks that had not seen the picture, say of these rows:

# %%
scores.loc[list(chosen.values()), ["memorization", "c_score", "loss"]].set_axis(list(chosen)).round(3)

# %% [markdown]
# No network gets the labels of the first two right, seen or not. The sandal that looks like a boot is learned where it is seen, and almost always got wrong where it is not. Hard, wrong, and memorized are three different things, and a single "value" cannot tell them apart.
#
# How well do the scores agree over all rows? Rank correlations with three of them:

# %%
ranks = everyone[known].rank().corr()
ranks[["CG", "EL2N", "memorization"]].round(2)

# %% [markdown]
# The scores that are read off a training, and the CG-score that needs none, rank the rows much alike. Memorization is related to all of them and follows none. [07](07_scores_side_by_side.ipynb) has the whole matrix, with intervals, and what each score buys.
#
# ## What held
#
# Every stated result of the five papers has a criterion that was written down before the run that judges it. The verdicts of the committed runs (profile `laptop`: small networks and thousands of examples, where the papers have large ones and tens of thousands):

# %%
counts = verdict_counts()
fig = chart(counts)
plots.save(fig, "00_verdicts", profile)
print(counts.to_string())

# %% [markdown]
# *Reproduced* asks for the published size, and for an interval over everything that another team would redraw. *Partly* is a smaller effect, a mixed one, or one whose interval leaves something out. *Not decided* is what is too uncertain, or needs data that a laptop does not have. Identities *hold*, costs are *measured*. [RESULTS.md](../RESULTS.md) has each claim, with a link to its evidence.

# %% [markdown]
# ## Where to go
#
# | you want to | read |
# | --- | --- |
# | score your own data | [08 · Score your own data](08_score_your_own_data.ipynb) |
# | copy a score in twenty lines | [09 · Scores in twenty lines](09_scores_in_twenty_lines.ipynb) |
# | choose a score for a purpose | [07 · Scores side by side](07_scores_side_by_side.ipynb) |
# | know whether a closed form can replace retraining | [01 · Linearized networks](01_linearization_accuracy.ipynb) |
# | measure how much an example informs | [02 · Unique information](02_unique_information.ipynb) |
# | understand why networks memorize | [03 · Long tail](03_long_tail_memorization.ipynb) |
# | score without training | [04 · CG-score](04_cg_score_pruning.ipynb) |
# | prune after a few epochs | [05 · Data diet](05_data_diet.ipynb) |
# | know when an influence function may be trusted | [06 · Influence fragility](06_influence_fragility.ipynb) |
# | teach it | [TEACHING](TEACHING.md), with lessons and slides |
#
# Each notebook runs alone, in minutes on a laptop, and takes other data and sizes as parameters. What a paper claims beyond the line of argument stands in appendices, 11 to 17, to which each notebook links.
#
# ## Versions

# %%
print(f"profile {profile}; torch {torch.__version__}, scores of {len(scores):,} rows")
