# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 18 · Your own data, further: three worked examples
#
# *Not in any of the papers; [08](../08_score_your_own_data.ipynb) is the template for a data set of your own.*
#
# **Question.** What does the audit of 08 find in digits, in a table and in embeddings, where we have put some of the errors there ourselves?
#
# *Symbols and scores: the [glossary](../GLOSSARY.md). No claim is judged here.*

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results and labels the tables
minutes: float = 3.0  # of an audit of digits; decides how many networks are trained, at a presumed speed
n: int = 0  # digits, at most; 0 is all
n_pictures: int = 2000  # pictures of clothes that are audited
n_body: int = 8000  # other pictures of clothes, on which the network behind the embeddings is trained
confused: float = 0.05  # share of the digits' labels that become the second likeliest class
device: str = "cpu"  # where to compute: "cpu" or "cuda"
seed: int = 0  # rows, errors, initial weights

# %% [markdown]
# ## Digits
#
# The 5,000 digits of MNIST that come with the study, as 08 looks at them when nothing else is given.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer

from experiments import own_data, plots, rankings
from lib import audit
from lib.data import load
from lib.data.noise import uniform_noise
from lib.networks import models
from lib.store import Store
from lib.training import Recipe, Run, train

plots.style()
store, run = Store(profile=profile), Run(device=device)
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
digits = own_data.bring("mnist-5k", n=n, seed=seed)
report = audit(digits, minutes=minutes, seed=seed, device=device, store=store, progress=True)
print(report)

# %% [markdown]
# [08](../08_score_your_own_data.ipynb) shows the most suspicious: a 4 that is a 9 to most eyes, and many that are labelled rightly and badly written. So its estimate is several times too high: at the rate of MNIST's test set, .15%, about 8 of 5,000 labels would be wrong. At the other end are the ten digits of the lowest EL2N (two rows) and the ten of the lowest CG-score (two more rows):

# %%
scored = own_data.score(["EL2N", "CG"], digits, report.facts["choice"], seed=seed, device=device, store=store, shards=store)
lowest = torch.cat([rankings.ranks(value, seed=seed).argsort()[:10] for value in scored.values()])
plots.save(plots.pictures(digits.x_train[lowest], columns=5, size=0.9), "18_redundant", profile)
print("rank correlation of the two:", round(pd.Series(scored["EL2N"].numpy()).corr(pd.Series(scored["CG"].numpy()), method="spearman"), 2))

# %% [markdown]
# EL2N puts lowest what is learned first: zeros, but for one. CG's lowest are of eight classes. Whether either can go, only retraining tells.
#
# ## Confusions in place of flips
#
# The audit flips labels by chance, to see how many it finds. Real mistakes are confusions. We give one digit in twenty the label that the judges find second likeliest, and count again; beside it as many flips by chance.

# %%
choice, y, k = report.facts["choice"], digits.y_train, len(digits.classes)
z = audit.prepared(digits.x_train, choice.side)
judge = lambda labels: audit.judge(z, labels[None], choice.settings, blocks=1, k=k, seed=seed, run=run)[0]
judged = judge(y)
changed = torch.rand(len(y), generator=torch.Generator().manual_seed(seed)) < confused
mistaken = torch.where(changed, judged.scatter(1, y[:, None], -1.0).argmax(1), y)
counted = audit.wrong_labels(judge(mistaken), mistaken)
given, flips = uniform_noise(y, confused, k=k, seed=seed)
by_chance = audit.wrong_labels(judge(given), given)
print(f"of {int(flips.sum())} flips by chance, {by_chance[flips].double().mean():.0%} are counted as wrong")
print(f"of {int(changed.sum())} confusions, {counted[changed].double().mean():.0%} are counted as wrong")

# %% [markdown]
# Confusions are counted as often as flips. (*Counted* is stricter than *flagged* above: the judges must be confident of another label.)
#
# ## A table
#
# The breast cancer data of scikit-learn: 569 rows, 30 measurements, two classes. As a table comes, with names for rows and columns; but a table with a column of text, or with a missing value, is refused first.

# %%
bunch = load_breast_cancer(as_frame=True)
table = bunch.data.assign(kind=bunch.target_names[bunch.target], patient=[f"no. {i}" for i in range(len(bunch.data))])
spoilt = table.copy()
spoilt.loc[7, "mean area"] = np.nan
for attempt in (table, spoilt.drop(columns="patient")):
    try:
        audit(attempt, label="kind")
    except ValueError as error:
        print(error)

# %% [markdown]
# Planted: a wrong label in twenty, and ten copies of rows, of which three get the other label.

# %%
draw = np.random.default_rng(seed)
wrong = draw.choice(len(table), len(table) // 20, replace=False)
table.loc[wrong, "kind"] = table.kind[wrong].map({"benign": "malignant", "malignant": "benign"})
copied = table.iloc[draw.choice(len(table), 10, replace=False)].assign(patient=[f"copy {i}" for i in range(10)])
copied.iloc[:3, copied.columns.get_loc("kind")] = copied.kind.iloc[:3].map({"benign": "malignant", "malignant": "benign"})
found = audit(pd.concat([table, copied], ignore_index=True), label="kind", index="patient", minutes=min(1, minutes), seed=seed, device=device, progress=True)
print(found)
named = [f"no. {i}" for i in wrong]
print(f"of {len(wrong)} wrong labels, {found.suspects.index.isin(named).sum()} are among the {len(found.suspects)} that look wrong")
own_data.shown(found.copies[["kind", "of", "same_label"]].rename_axis("row").reset_index().rename(columns={"kind": "sort of copy", "of": "copy of", "same_label": "same label"}).replace({True: "yes", False: "no"})).hide()

# %% [markdown]
# The copies are all found, and which have two labels. Where the wrong labels lie, in the plane of the first two principal components:

# %%
fig, ax = plt.subplots(figsize=(6, 4.5))
features = audit.prepared(torch.tensor(bunch.data.to_numpy()))
flagged = np.flatnonzero(table.patient.isin(found.suspects.index))
plots.projection(ax, features, torch.tensor(pd.factorize(table.kind)[0]), tuple(pd.factorize(table.kind)[1]), {"planted": wrong, "flagged": flagged})
plots.save(fig, "18_table", profile)

# %% [markdown]
# Black rings alone are the three that were missed: they lie where the two classes meet. What was planted deep in the other class was found.
#
# ## Embeddings
#
# Pictures of clothes, judged by their pixels, and by what a network makes of them that was trained on *other* pictures. This is how a model of yours can help: hand over what it computes before its last layer.

# %%
clothes = load("fashion-mnist", n_train=n_body + n_pictures, n_test=10, seed=seed)
mine = torch.randperm(n_body + n_pictures, generator=torch.Generator().manual_seed(seed)) < n_pictures
x, y = clothes.x_train, clothes.y_train
body = models.by_name("lenet", shape=(1, 28, 28), classes=10)
trained = train(body, (x[~mine], y[~mine]), Recipe(epochs=15, batch_size=100, lr=0.05, momentum=0.9), [seed], run=run)
body.load_state_dict({name: value[0] for name, value in trained.parameters.items()})
with torch.no_grad():
    embeddings, right = body.eval().features(x[mine]), body(x[mine]).argmax(1) == y[mine]
print(f"{len(embeddings):,} pictures as {embeddings.shape[1]} numbers each, by a network that names {right.double().mean():.0%} of them rightly")

# %% [markdown]
# Both audits flip the same labels by chance. Which finds more of them, and whose judges agree with more of the labels as they are?

# %%
pictures = (x[mine].numpy(), y[mine].numpy())
how = {"minutes": min(1, minutes), "seed": seed, "device": device, "progress": True}
by = {"pixels": audit(pictures, **how), "embeddings": audit(pictures, embeddings=embeddings, **how)}
share = lambda pair: f"{pair[0]:.0%} [{pair[1][0]:.0%}, {pair[1][1]:.0%}]"
lines = {"flips that were flagged": "found", "labels that judges agree with": "accuracy"}
own_data.shown(pd.DataFrame({name: {line: share(one.facts[key]) for line, key in lines.items()} | {"labels that look wrong": str(len(one.suspects))} for name, one in by.items()}))

# %% [markdown]
# In brackets: 95% intervals over rows and flips. The judges of embeddings agree with more labels and call fewer pictures suspicious. No difference in the flips is shown: the intervals overlap, and they leave out the training of the network behind the embeddings. So try both, and look at what both flag.
