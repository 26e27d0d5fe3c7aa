# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here: what a score says about one example
#
# **Question.** Five papers put a number on a single training example. What does each number say about the same pictures, and which claims held here?
#
# **What the study found:**
#
# - For wide and pretrained networks a formula foretells training without an example ([01](01_linearization_accuracy.ipynb)). What it calls informative is rare, odd or wrongly labelled ([02](02_unique_information.ipynb)).
# - Networks memorize odd pictures, and it pays: test pictures are right more often thanks to one ([03](03_long_tail_memorization.ipynb)).
# - One matrix factorization, the CG-score, finds wrong labels without training, but prunes less well than published ([04](04_cg_score_pruning.ipynb)).
# - EL2N, errors early in training, prunes well where rows are many and the learning rate is small. GraNd before training sorts by darkness ([05](05_data_diet.ipynb)).
# - Influence functions foretell the retraining of smooth networks at an optimum; of others they may not ([06](06_influence_fragility.ipynb)).
#
# This notebook trains nothing. It reads the scores of all 60,000 training pictures of Fashion-MNIST (F-SI: of 4,000).
#
# To run a part, run the cells to the end of *One idea*, then *The scores, in pictures*, *One picture, all scores*, *Try it* or *What held*.

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
# Take an example away, train again, and see what differs. All five papers do this, or foretell it without training:
#
# ![Data lead, by training with and without an example or by foretelling the outcome, to a number for each example, and to uses](../figures/idea.svg)
#
# | paper | its number, and what it asks | needs |
# | --- | --- | --- |
# | Harutyunyan et al. 2021 | **unique information, F-SI**: how far do predictions for others move without it? | gradients of an untrained network |
# | Feldman and Zhang 2020 | **memorization, influence**: how much likelier is its label got right by networks that saw it? | hundreds of trainings or more |
# | Ki, Choi and Chung 2023 | **CG-score**: how much simpler are the labels without it? | one matrix factored |
# | Paul, Ganguli and Dziugaite 2021 | **GraNd, EL2N**: how large is its gradient, or its error, early in training? | a few short trainings |
# | Basu, Pope and Feizi 2021 | **influence functions**: what would a test loss be without it, to first order? | a trained network, its curvature |
#
# Definitions, signs, units: [the glossary](GLOSSARY.md).

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from experiments import plots
from experiments.overview import chart, score_card, verdict_counts
from lib.data import datasets, noise, read_scores
from lib.scores import cg_scores

plots.style()
COLUMNS = {  # name here: column of the file
    "input norm": "input_norm", "CG": "cg", "GraNd": "grand", "EL2N": "el2n",
    "forgetting": "forgetting", "loss": "loss", "TracIn": "tracin", "influence": "influence",
    "F-SI": "f_si", "memorization": "memorization",
}  # fmt: skip
images = datasets.load("fashion-mnist")
scores = read_scores("fashion-mnist", images.rows_train)
print(f"profile {profile}; torch {torch.__version__}, scores of {len(scores):,} rows")

# %% [markdown]
# ## The scores, in pictures
#
# Each row is one score: at the left the pictures of a class (`shown`) that score lowest, at the right the highest. High means hard, unusual or needed.
#
# **Predict.** Which two scores will show the same pictures, and which will not look at what a picture shows?

# %%
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
# *GraNd* before training has nearly the pictures of *input norm*: pale at the left, dark at the right.
# </details>
#
# *CG*, *EL2N*, *loss*, *TracIn* and *influence* agree about what is odd among T-shirts: bandeau tops, straps, long sleeves, dresses. The left of *forgetting* is arbitrary: thousands were never forgotten. *F-SI* asks what an example changes for *others* (here among 400 shirts, not 6,000).

# %% [markdown]
# ## One picture, all scores
#
# Of the 4,000 rows with an F-SI, each score's highest, and its place among all 60,000 (100 = highest; F-SI: among 4,000). The last is drawn at random.

# %%
everyone = scores[list(COLUMNS.values())].rename(columns={column: name for name, column in COLUMNS.items()})
percentile = 100 * everyone.rank(pct=True)
known = percentile["F-SI"].notna().to_numpy()
chosen = {f"highest {name}": everyone[name].where(known).idxmax() for name in cards}
chosen["at random"] = int(np.random.default_rng(seed).choice(np.flatnonzero(known)))
fig = score_card(images, chosen, percentile)
plots.save(fig, "00_cards", profile)

# %% [markdown]
# The oddest shirt of the CG-score is near the top of every score that looks at labels, but for one: memorization. So is the highest EL2N, a dress among the T-shirts, but F-SI has it at 75. (C-score: the share of right answers by networks that had not seen the picture.)

# %%
three = scores.loc[list(chosen.values()), ["memorization", "c_score", "loss"]]
three.set_axis(list(chosen)).rename(columns={"c_score": "C-score"}).round(3)

# %% [markdown]
# No network gets the first two right, seen or not. The sandal that looks like a boot is learned where it is seen, and almost always wrong where it is not. Hard, wrong and memorized are three things; a single "value" cannot tell them apart.
#
# Rank correlations over these 4,000 rows (over all: ±.01):

# %%
ranks = everyone[known].rank().corr()
ranks[["CG", "EL2N", "memorization"]].round(2)


# %% [markdown]
# The scores read off a training rank the rows much alike, and so does the CG-score. Memorization is related to all of them and follows none ([07](07_scores_side_by_side.ipynb)).
#
# ## Try it
#
# We make some labels wrong and compute the CG-scores anew. Each mark is a picture. In a running notebook sliders change their number, the wrong labels and the share kept:

# %%
def view(n, wrong, kept):
    labels, flipped = noise.uniform_noise(images.y_train[:n], wrong, k=10, seed=seed)
    place = cg_scores(images.x_train[:n], labels).score.argsort().argsort().numpy() / n
    fig, ax = plt.subplots(figsize=(6, 1.7))
    ax.eventplot([place[~flipped], place[flipped]], colors=["0.6", "#d55e00"], linelengths=0.8, linewidths=1)
    ax.axvline(kept, color="black")
    ax.set_yticks([0, 1], ["right labels", "wrong labels"])
    among = flipped.numpy()[place < kept].mean()
    ax.set(xlim=(0, 1), xlabel="rank of the CG-score (line: what is kept lies left of it)", title=f"{wrong:.0%} of {n:,} labels wrong; of the {kept:.0%} kept, {among:.1%} are")
    return fig


plots.save(view(1000, 0.1, 0.8), "00_keep", profile)
plt.show()
try:
    from ipywidgets import FloatSlider, IntSlider, interactive

    share = lambda value, most: FloatSlider(value=value, min=0.1, max=most, step=0.1, continuous_update=False)
    rows = IntSlider(value=1000, min=200, max=2000, step=200, continuous_update=False)
    sliders = interactive(lambda n, wrong, kept: view(n, wrong, kept) and None, n=rows, wrong=share(0.1, 0.5), kept=share(0.8, 0.9))
except ImportError:
    sliders = "no sliders without ipywidgets; call view(500, 0.2, 0.5)"
sliders

# %% [markdown]
# Drop the highest scores, and most wrong labels are gone. So are odd pictures, which may be worth keeping.
#
# ## What held
#
# Most stated results of the papers have a criterion, written before its run (`REPRODUCIBILITY.md` names exceptions). Our networks are small, our examples thousands where the papers have tens of thousands. The verdicts:

# %%
counts = verdict_counts()
fig = chart(counts)
plots.save(fig, "00_verdicts", profile)
print(counts.sum().rename_axis(None).to_string())

# %% [markdown]
# *Reproduced* asks for an effect of a size that counts, with an interval over the sources of variation that its claim names. *Partly* is a smaller or mixed effect, or one whose interval leaves something out. *Not decided* is too uncertain, or needs other data. [RESULTS.md](../RESULTS.md) links each claim to its evidence.
#
# ## Where to go
#
# | you want to | read |
# | --- | --- |
# | score your own data | [08](08_score_your_own_data.ipynb) |
# | copy a score in twenty lines | [09](09_scores_in_twenty_lines.ipynb) |
# | choose a score for a purpose | [07](07_scores_side_by_side.ipynb) |
# | replace retraining by a closed form | [01](01_linearization_accuracy.ipynb) |
# | measure what one example adds | [02](02_unique_information.ipynb) |
# | understand why networks memorize | [03](03_long_tail_memorization.ipynb) |
# | score without training | [04](04_cg_score_pruning.ipynb) |
# | prune after a few epochs | [05](05_data_diet.ipynb) |
# | trust an influence function | [06](06_influence_fragility.ipynb) |
# | teach it | [TEACHING](TEACHING.md) |
#
# Each runs alone, in minutes, and takes other data and sizes as parameters. Appendices, 11 to 18, go further.
