# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Every score in twenty lines
#
# **Question.** What does each score compute, in code that one can read, copy and run in half a minute?
#
# You will find:
#
# - each score by its definition: at most twenty lines of plain torch, the text of `lib/scores/definitions.py`;
# - beside each score, how `lib` computes the same number faster;
# - eleven scores ask how hard a digit is. They rank digits alike, and put wrong labels at the hard end;
# - three ask whether a digit *helps* others. They rank digits otherwise, and put wrong labels last;
# - half of the digits is enough: the hardest half if all labels are right, the easiest if three in ten are wrong.
#
# *Symbols: the [glossary](GLOSSARY.md). What the scores are good for: notebook [07](07_scores_side_by_side.ipynb).*
#
# To run a part, run the cells to the end of *Networks*, then *Read off a training*, *Seen or not*, *Without training*, *Leaving one out of a linearized network*, *Influence functions* or *Along a training*.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke, laptop or paper: names the folder of results
n: int = 200  # digits that are scored
flipped: float = 0.1  # share of their labels that we make wrong
trials: int = 300  # networks that see a random part of the digits
device: str = "cpu"  # nothing here is large enough for another
seed: int = 0  # draws digits, wrong labels and random parts

# %% [markdown]
# ## Data
#
# Digits of scikit-learn: 3, 8 and 9, which are easily confused. We make one label in ten wrong, to see which scores notice.

# %%
import copy
import math
import os
import warnings
from collections import OrderedDict
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)  # for matrices this small a second one only waits
warnings.filterwarnings("ignore", message=".*jit.script")  # torch about its own
CLASSES = torch.tensor([3, 8, 9])
k, draw = len(CLASSES), torch.Generator().manual_seed(seed)
digits, numbers = (torch.tensor(part) for part in load_digits(return_X_y=True))
rows = torch.randperm(len(numbers), generator=draw)
rows = rows[torch.isin(numbers[rows], CLASSES)]
inputs, labels = digits[rows].float() / 16, torch.searchsorted(CLASSES, numbers[rows])
x, x_test, right, y_test = inputs[:n], inputs[n:], labels[:n], labels[n:]
wrong = torch.rand(n, generator=draw).argsort() < round(flipped * n)
other = (right + torch.randint(1, k, (n,), generator=draw)) % k
y = torch.where(wrong, other, right)
score = {}
print(f"{n} digits, {int(wrong.sum())} with a wrong label; {len(y_test)} to test on")


# %% [markdown]
# ## Networks
#
# SGD with momentum for E small networks at once; `sees` (E, n) says which network sees which digit. (`lib.training.train` takes any architecture.)

# %%
def new(seed):
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(hidden=nn.Linear(64, 8), bend=nn.Tanh(), head=nn.Linear(8, k)))


def outputs(w, x):  # (E, n, k)
    hidden = torch.tanh(x @ w["hidden.weight"].mT + w["hidden.bias"][:, None])
    return hidden @ w["head.weight"].mT + w["head.bias"][:, None]


def fit(seeds, sees, x, y, *, epochs=20, batch=20, lr=0.1, decay=0.0):
    def loss(w, rows, weight):
        each = F.cross_entropy(outputs(w, x[rows]).mT, y[rows], reduction="none")
        return (each * weight).sum() + decay / 2 * sum(part.square().sum() for part in w.values())

    starts, order = [new(seed).state_dict() for seed in seeds], torch.Generator().manual_seed(0)
    w = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    speed, epochs_w = dict.fromkeys(w, 0.0), [w]
    for _ in range(epochs):
        for rows in torch.rand(sees.shape, generator=order).argsort(1).split(batch, 1):
            weight = sees.float().gather(1, rows)
            step = torch.func.grad(loss)(w, rows, weight / weight.sum(1, keepdim=True).clamp(min=1))
            speed = {name: 0.9 * speed[name] + step[name] for name in w}
            w = {name: w[name] - lr * speed[name] for name in w}
        epochs_w.append(w)
    return epochs_w


runs = fit(range(5), torch.ones(5, n), x, y)
outs = torch.stack([outputs(w, x) for w in runs], 1)  # (E, epochs + 1, n, k)


# %% [markdown]
# Scores need a network as a function of all its weights, a loss for each example, and its gradient. (`lib.numerics.gradients` takes all gradients at once, from the layers' factors.)

# %%
def network(model, state):
    """A network in evaluation mode: outputs f(w, x) (n, k) as a function of all weights, and its weights w (p,)."""
    model = copy.deepcopy(model).double().eval()
    model.load_state_dict(state)
    names, parts = zip(*model.named_parameters(), strict=True)
    split = lambda w: [v.view(p.shape) for v, p in zip(w.split([p.numel() for p in parts]), parts, strict=True)]
    f = lambda w, x: torch.func.functional_call(model, dict(zip(names, split(w), strict=True)), (x.double(),))
    return f, torch.cat([p.detach().flatten() for p in parts])


def targets(y, outputs):
    """What squared error compares f (n, k) with: y if it holds values, else one-hot labels; 0 and 1 for one output."""
    return (y.view(len(y), -1) if outputs == 1 or y.is_floating_point() else F.one_hot(y, outputs)).double()


def losses(f, y, loss="cross_entropy"):
    """ℓ of each example, (n,): −log softmax(f)_y, or ½‖f − y‖² for ``mse``."""
    if loss == "cross_entropy":
        return F.cross_entropy(f, y, reduction="none")
    return 0.5 * (f - targets(y, f.shape[1])).square().sum(1)


def gradients(model, state, x, y, *, loss="cross_entropy", layers="all"):
    """∇ℓᵢ of each example alone, (n, p), over all weights, or for ``last`` over those of ``model.head`` (the last)."""
    f, w = network(model, state)
    alone = lambda w, i: losses(f(w, x[i : i + 1]), y[i : i + 1], loss)[0]
    rows = torch.stack([torch.func.grad(alone)(w, i) for i in range(len(x))])
    return rows if layers == "all" else rows[:, -sum(p.numel() for p in model.head.parameters()) :]


def run_gradients(model, parameters, x, y, **options):
    """The same for each of E networks, (E, n, p)."""
    states = [dict(zip(parameters, values, strict=True)) for values in zip(*parameters.values(), strict=True)]
    own = zip(states, y.expand(len(states), -1), strict=True)
    return torch.stack([gradients(model, state, x, labels, **options) for state, labels in own])


# %% [markdown]
# ## Read off a training
#
# **Predict.** Which will find the wrong labels best: the length of the error, the margin, or how often a digit was forgotten?
#
# <details><summary>Answer</summary>
#
# All do: the AUROC (table at the end) is .99, .99 and .96.
#
# </details>
#
# *EL2N* is the length of the error, *margin* how far the label leads. *Forgetting* counts how often a digit turned from right to wrong. (`lib.scores.data_diet.el2n`, `margin` and `forgetting` take all networks at once.)

# %%
def el2n(errors):
    """EL2N = ‖softmax(f(xᵢ)) − onehot(yᵢ)‖, (E, n), of errors (E, n, k) (Paul et al. 2021, def. 2.3). High = hard."""
    return errors.double().square().sum(2).sqrt()


def margin(outputs, y):
    """f(xᵢ)_y − max_{c ≠ y} f(xᵢ)_c, (E, n), of outputs (E, n, k). High = easy, below 0 = wrong."""
    outputs, label = outputs.double(), F.one_hot(y.expand(outputs.shape[:2]), outputs.shape[2]).bool()
    return outputs[label].view(label.shape[:2]) - outputs.masked_fill(label, -math.inf).amax(2)


def forgetting(correct, *, never_learned="most"):
    """Σₜ 1[right at t − 1] 1[wrong at t], (E, n), of correct (E, T, n). High = hard. An example that is never right
    gets T, more than any other (``most``, Toneva et al. 2019), or 0 (``none``, Ki et al., eq. 10)."""
    forgotten = sum((correct[:, t - 1] & ~correct[:, t]).double() for t in range(1, correct.shape[1]))
    return torch.where(~correct.any(1) & (never_learned == "most"), float(correct.shape[1]), forgotten)


score["EL2N"] = el2n(outs[:, 4].softmax(2) - F.one_hot(y, k)).mean(0)
score["margin"] = margin(outs[:, 4], y).mean(0)
score["forgetting"] = forgetting(outs.argmax(3) == y).mean(0)


# %% [markdown]
# *GraNd* (here *early*) is the length of the whole gradient: how far a step on this digit would move the network. (`lib.scores.data_diet.grand` never writes it out: two short vectors for each layer give its length.)

# %%
def grand(model, parameters, x, y, *, loss="cross_entropy", layers="all"):
    """GraNd = ‖∇_w ℓ(f_w(xᵢ), yᵢ)‖, (E, n) (Paul et al. 2021, definition 2.1). High = hard."""
    return run_gradients(model, parameters, x, y, loss=loss, layers=layers).square().sum(2).sqrt()


score["GraNd"] = grand(new(0), runs[4], x, y).mean(0)


# %% [markdown]
# ## Seen or not
#
# Networks on random parts of the digits. *Memorization*: how much likelier a digit's label is got right by those that saw it. The *influence of seeing* is the same on test digits, here their mean. (`lib.scores.memorization.memorization` and `influence_of_seeing` are one matrix product.)
#
# *C-score*: how often networks that did *not* see the digit get its label right. (`lib.scores.memorization.c_scores`.)

# %%
def influence_of_seeing(member_sees, correct_test):
    """P[right about j | i seen] − P[right about j | i not seen], (n, n′), over networks: ``member_sees`` is (t, n).
    Positive = seeing i helps j; NaN where all networks saw i, or none (Feldman and Zhang 2020, algorithm 1)."""
    right = correct_test.double()
    return torch.stack([right[saw].mean(0) - right[~saw].mean(0) for saw in member_sees.T])


def memorization(member_sees, correct_train):
    """The influence of seeing i on i itself, (n,) (ibid.). High = networks are right about it only if they saw it."""
    return influence_of_seeing(member_sees, correct_train).diagonal()


share = torch.tensor([0.3, 0.5, 0.7])[torch.arange(trials) % 3]
sees = torch.rand(trials, n, generator=draw).argsort(1).argsort(1) < (share * n)[:, None]
trained = fit(range(100, 100 + trials), sees, x, y)[-1]
good, good_test = outputs(trained, x).argmax(2) == y, outputs(trained, x_test).argmax(2) == y_test
score["memorization"] = memorization(sees, good)
score["influence of seeing"] = influence_of_seeing(sees, good_test).mean(1)


def c_scores(member_sees, correct_train):
    """Mean over subset sizes of P[right about i | i not in the subset], (n,) (Jiang et al. 2021). High = regular."""
    sizes, unseen = member_sees.sum(1), torch.where(member_sees, torch.nan, correct_train.double())
    return torch.stack([unseen[sizes == m].nanmean(0) for m in sizes.unique()]).nanmean(0)


score["C-score"] = c_scores(sees, good)


# %% [markdown]
# ## Without training
#
# *CG-score*: how much less a very wide network would have to move without the digit. *CG′* has the kernel in place of its inverse. (`lib.scores.complexity_gap.cg_scores` needs one Cholesky factorization for all digits.)
#
# **Predict.** No network is trained here. Will CG find the wrong labels as well as EL2N?
#
# <details><summary>Answer</summary>
#
# Yes: .99 for both, although their rank correlation is only .59.
#
# </details>

# %%
def relu_gram(x):
    """H∞ᵢⱼ = xᵢᵀxⱼ (π − arccos xᵢᵀxⱼ) / 2π, (n, n), of rows made unit length (Ki et al., eq. 1)."""
    unit = [row / row.norm() for row in x.flatten(1).double()]
    cosine = lambda a, b: 1.0 if a is b else max(-1.0, min(1.0, float(a @ b)))
    entry = lambda c: c * (math.pi - math.acos(c)) / (2 * math.pi)
    return torch.tensor([[entry(cosine(a, b)) for b in unit] for a in unit], dtype=torch.float64)


def cg_scores(x, y, *, jitter=0.0, complexity=lambda h, s: s @ torch.linalg.solve(h, s)):
    """CG(i) = sᵀH⁻¹s − s₋ᵢᵀ(H₋ᵢ)⁻¹s₋ᵢ, (n,), s = +1 in the class of i, else −1 (Ki et al., eq. 2). High = irregular."""
    gram, signs = relu_gram(x) + jitter * torch.eye(len(x)).double(), torch.where(y == y[:, None], 1.0, -1.0).double()
    others = ~torch.eye(len(x), dtype=torch.bool)
    without = [complexity(gram[rest][:, rest], s[rest]) for rest, s in zip(others, signs, strict=True)]
    return torch.stack([complexity(gram, s) for s in signs]) - torch.stack(without)


def cg_prime(x, y):
    """CG′(i) = sᵀHs − s₋ᵢᵀH₋ᵢs₋ᵢ, (n,) (Ki et al., §3.2). High = learnt fast."""
    return cg_scores(x, y, complexity=lambda h, s: s @ h @ s)


score["CG"], score["CG′"] = cg_scores(x, y), cg_prime(x, y)


# %% [markdown]
# ## Leaving one out of a linearized network
#
# Made linear at its first weights, a network is trained in closed form: here once without each digit. (`lib.scores.unique_information.leave_one_out` needs one eigendecomposition for all.)

# %%
def jacobian(model, state, x):
    """J = ∂f(X)/∂w, (n·k, p), example by example and output by output within; Θ = JJᵀ is the tangent kernel."""
    f, w = network(model, state)
    return torch.func.jacrev(lambda w: f(w, x))(w).flatten(0, 1)


def coefficients(kernel, residual, *, lr, steps, weight_decay=0.0, continuous=False, loss="sum"):
    """α (n, k), with w − w₀ = Jᵀα, after t steps η (or a flow for ηt) down Σ ½‖f − y‖² + λ/2 ‖w − w₀‖²; ``mean``: Σ/n.
    The kernel is JJᵀ, the residual Y − f₀(X); t may be ∞ (Harutyunyan et al. 2021, eq. 10, 50, 53)."""
    r, n = residual.double().flatten(), len(residual)
    lr, weight_decay = (lr / n, n * weight_decay) if loss == "mean" else (lr, weight_decay)
    a, alpha = kernel.double() + weight_decay * torch.eye(len(r)).double(), torch.zeros_like(r)
    if continuous or math.isinf(steps):
        left = 0.0 if math.isinf(steps) else torch.matrix_exp(-lr * steps * a) @ r
        return torch.linalg.solve(a, r - left).view(n, -1)
    for _ in range(steps):
        alpha = alpha + lr * (r - a @ alpha)
    return alpha.view(n, -1)


def leave_one_out(kernel, residual, **training):
    """Column i is α − α₋ᵢ, with i minus without, (n·k, n). Θ(x, X) times it is f_w(x) − f_{w₋ᵢ}(x) (ibid., eq. 11)."""
    n, outputs = len(residual), residual.numel() // len(residual)
    changes = coefficients(kernel, residual, **training).view(-1, 1).repeat(1, n)
    for i, rest in enumerate(~torch.eye(n, dtype=torch.bool)):
        stay = rest.repeat_interleave(outputs)
        changes[stay, i] -= coefficients(kernel[stay][:, stay], residual[rest], **training).flatten()
    return changes


start = new(0).double()
j, (f, w) = jacobian(start, start.state_dict(), x), network(start, start.state_dict())
alpha = leave_one_out(j @ j.T, targets(y, k) - f(w, x), lr=1.0, steps=math.inf, weight_decay=0.01 * n)


# %% [markdown]
# *Sample information*: how far the weights move. *F-SI*: how far the predictions for other digits move. (`lib.scores.unique_information.sample_information` and `f_si`.)

# %%
def sample_information(changes, *, covariance=None, precision=None):
    """SI(i) = ½ ΔwᵀΣ⁻¹Δw, (n,) nats, of Δw = w − w₋ᵢ (n, p) and Σ or Σ⁻¹ (p, p) (ibid., eq. 5). High = unique."""
    inverse = torch.linalg.inv(covariance) if precision is None else precision
    return torch.stack([change @ inverse @ change / 2 for change in changes.double()])


def f_si(model, x, y, x_val, *, lr, steps, weight_decay=0.0, sigma=1.0):
    """F-SI(i) = (1/2σ²m) Σ_x ‖f_w(x) − f_{w₋ᵢ}(x)‖², (n,) nats, over m inputs x_val (ibid., eq. 16). The network is
    made linear at its weights and trained on the mean loss; without i the others keep their η/n. High = unique."""
    j, j_val = (jacobian(model, model.state_dict(), rows) for rows in (x, x_val))
    (f, w), n = network(model, model.state_dict()), len(x)
    residual = targets(y, len(j) // n) - f(w, x)
    changes = leave_one_out(j @ j.T, residual, lr=lr / n, steps=steps, weight_decay=n * weight_decay)
    return (j_val @ j.T @ changes).square().sum(0) / (2 * sigma**2 * len(x_val))


score["sample information"] = sample_information(alpha.T @ j, precision=torch.eye(len(w)).double())
score["F-SI"] = f_si(start, x, y, x_test[:100], lr=1.0, steps=math.inf, weight_decay=0.01)


# %% [markdown]
# ## Influence functions
#
# At an optimum, removal moves the weights by the inverse Hessian times the digit's gradient, to first order. *Influence on itself*: the rise of its own loss. *Influence on tests*: of the mean test loss. (`lib.scores.influence.influence` also has conjugate gradients and EK-FAC for the inverse.)

# %%
def hessian(model, x, y, *, weight_decay=0.0, loss="cross_entropy", gauss_newton=False):
    """H (p, p) of (1/n) Σ ℓᵢ + λ/2 ‖w − w_ref‖², the same for any w_ref. ``gauss_newton`` first makes f linear at w."""
    f, w0 = network(model, model.state_dict())
    line = lambda w: f(w0, x) + torch.func.jvp(lambda v: f(v, x), (w0,), (w - w0,))[1]
    mean = lambda w: losses(line(w) if gauss_newton else f(w, x), y, loss).mean()
    return torch.func.hessian(mean)(w0) + weight_decay * torch.eye(len(w0)).double()


def parameter_change(model, x, y, *, damping=0.0, loss="cross_entropy", **curvature):
    """Δwᵢ = (1/n)(H + δI)⁻¹∇ℓᵢ upon removal of i, to first order, (n, p) (Basu et al. 2021, eq. 3 with ε = −1/n)."""
    h, g = hessian(model, x, y, loss=loss, **curvature), gradients(model, model.state_dict(), x, y, loss=loss)
    return torch.linalg.solve(h + damping * torch.eye(len(h)).double(), g.T).T / len(x)


def influence(model, x_train, y_train, x_test, y_test, *, loss="cross_entropy", **options):
    """∇ℓ_test·Δwᵢ, (m, n): the rise of each test loss upon removal of i (ibid., eq. 5). Positive = helpful."""
    change = parameter_change(model, x_train, y_train, loss=loss, **options)
    return gradients(model, model.state_dict(), x_test, y_test, loss=loss) @ change.T


optimum = {"epochs": 500, "batch": n, "lr": 0.2, "decay": 0.01}
last = fit([0], torch.ones(1, n), x, y, **optimum)[-1]
net = new(0).double()
net.load_state_dict({name: part[0] for name, part in last.items()})
curved = {"weight_decay": 0.01, "damping": 0.01}
score["influence on itself"] = influence(net, x, y, x, y, **curved).diagonal()
score["influence on tests"] = influence(net, x, y, x_test[:100], y_test[:100], **curved).mean(0)


# %% [markdown]
# ## Along a training
#
# *TracIn* adds up what the steps on a digit did to the loss of others. (`lib.scores.tracin.tracin_mean` multiplies by the mean test gradient, once for all.)

# %%
def tracin(model, checkpoints, rates, x, y, x_val, y_val, *, layers="last", loss="cross_entropy"):
    """Σₜ ηₜ ∇ℓ(wₜ, zᵢ)·∇ℓ(wₜ, z′ⱼ), (E, n, n′), of checkpoints wₜ and rates ηₜ (Ki et al., eq. 11). High = helps."""
    at = lambda t, x, y: run_gradients(model, checkpoints[t], x, y, loss=loss, layers=layers)
    return sum(rate * at(t, x, y) @ at(t, x_val, y_val).mT for t, rate in rates.items())


checkpoints = {epoch: {name: part[:1] for name, part in runs[epoch].items()} for epoch in (2, 6, 10, 14, 18)}
rates = dict.fromkeys(checkpoints, 0.1)
score["TracIn"] = tracin(new(0), checkpoints, rates, x, y, x_test[:100], y_test[:100])[0].mean(1)


# %% [markdown]
# *CRAIG's weight*: for how many digits a chosen one can stand. (`experiments.craig` tries some random candidates for each choice.)

# %%
def medoids(g, size):
    """S grows by the j of least L(S) = Σᵢ min_{j ∈ S} ‖gᵢ − gⱼ‖. How many of g (n, k) are nearest to each j, (n,)."""
    distance, chosen = (g[:, None] - g).norm(dim=2), []
    for _ in range(size):
        chosen.append(min(set(range(len(g))) - set(chosen), key=lambda j: distance[:, [*chosen, j]].amin(1).sum()))
    return torch.bincount(torch.tensor(chosen)[distance[:, chosen].argmin(1)], minlength=len(g)).double()


def craig(errors, keep, *, y=None):
    """Weights (E, n), 0 where not chosen, from the medoids of errors (E, n, k) of each class (Ki et al., eq. 12)."""
    weights = torch.zeros(errors.shape[:2]).double()
    for e, labels in enumerate((torch.zeros(errors.shape[1]) if y is None else y).expand(errors.shape[:2])):
        for rows in [(labels == c).nonzero()[:, 0] for c in labels.unique()]:
            weights[e, rows] = medoids(errors[e, rows].double(), max(1, round(keep * len(rows))))
    return weights


score["CRAIG's weight"] = craig(outs[:1, 4].softmax(2) - F.one_hot(y, k), 0.2, y=y)[0]


# %% [markdown]
# ## All of them
#
# The lowest (left) and highest (right) digits of each score. Orange frames: wrong labels.
#
# **Predict.** In which rows will the frames stand at the right?
#
# <details><summary>Answer</summary>
#
# Where high means hard. They stand at the left where high means easy (margin, C-score, CG′), and for the three scores of help to other digits: a wrong label harms them.
#
# </details>

# %%
def save(fig, name):
    folder = Path(os.environ.get("STUDY_RESULTS") or "../results") / profile / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")


fig, ax = plt.subplots(figsize=(4.6, 5.2), layout="constrained")
sheet = torch.full((10 * len(score), 105), float("nan"))
for row, value in enumerate(score.values()):
    order = value.argsort()
    for column, i in enumerate([*order[:5], *order[-5:]]):
        top, left = 10 * row + 1, 10 * column + 1 + 5 * (column >= 5)
        sheet[top : top + 8, left : left + 8] = x[i].view(8, 8)
        if wrong[i]:
            ax.add_patch(plt.Rectangle((left - 1, top - 1), 9, 9, fill=False, color="#e66100", lw=2))
ax.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
ax.set_yticks(range(4, 10 * len(score), 10), score, fontsize=9)
ax.set_xticks([25, 80], ["lowest", "highest"], fontsize=9)
ax.xaxis.tick_top()
ax.tick_params(length=0)
ax.spines[:].set_visible(False)
save(fig, "09_digits")

# %% [markdown]
# The hard end holds the wrong labels and, between them, oddly written digits. At the easy end many others would do as well.
#
# How alike are the rankings? Red: alike; blue, with a minus: opposite. Scores whose high means *easy* are turned.

# %%
turned = {name: -value if name in ("margin", "C-score", "CG′") else value for name, value in score.items()}
table = pd.DataFrame({name: value.detach().double().numpy() for name, value in turned.items()})
table = table.rename(columns=lambda name: name if turned[name] is score[name] else f"{name}, turned")
ranks = table.corr(method="spearman")
fig, ax = plt.subplots(figsize=(4.6, 5), layout="constrained")
shown = ax.imshow(ranks, cmap="RdBu_r", vmin=-1, vmax=1)
for i, c in zip(*(ranks.to_numpy() < -0.1).nonzero(), strict=True):
    ax.text(c, i, "−", ha="center", va="center", fontsize=9)
ax.set_xticks(range(len(ranks)), ranks.columns, rotation=90, fontsize=9)
ax.set_yticks(range(len(ranks)), ranks.columns, fontsize=9)
fig.colorbar(shown, location="bottom", shrink=0.6, label="rank correlation")
save(fig, "09_ranks")

# %% [markdown]
# The red block is hardness, whether read off errors, gradients, counts or a kernel. The three scores of help to others are hardly related to it, and little to each other: TracIn and the influence on tests by .45, the influence of seeing and these by .14 and .25. With 300 networks it is mostly noise (exercise 2).
#
# As numbers. *Wrong labels*: the chance that a wrong label ranks above a right one (AUROC); .5 is guessing.

# %%
print(f"profile {profile}; torch {torch.__version__}, {torch.get_num_threads()} threads, device {device}")
above = (table.rank()[wrong.numpy()].mean() - (wrong.sum().item() + 1) / 2) / (n - wrong.sum().item())
pd.DataFrame({"wrong labels": above, "with EL2N": ranks["EL2N"], "with influence on tests": ranks["influence on tests"]}).round(2)


# %% [markdown]
# ## Try it
#
# Which half should be kept? Networks trained on the highest CG-scores, the lowest, as many by chance, and all:

# %%
def view(rows, flipped, kept, ax=None):
    ax, few = ax or plt.subplots(figsize=(4.6, 1.8), layout="constrained")[1], round(kept * rows)
    these = torch.where(turn[:rows].argsort().argsort() < round(flipped * rows), other[:rows], right[:rows])
    order = cg_scores(x[:rows], these).argsort()
    sets = {"highest": order[-few:], "lowest": order[:few], "by chance": torch.arange(few), "all": order}
    members = torch.zeros(4, 1, rows)
    for member, chosen in zip(members, sets.values(), strict=True):
        member[:, chosen] = 1
    w = fit([*range(5)] * 4, members.expand(4, 5, rows).flatten(0, 1), x[:rows], these)[-1]
    accuracy = 100 * (outputs(w, x_test).argmax(2) == y_test).float().mean(1).view(4, 5)
    for i, five in enumerate(accuracy):
        ax.plot(five, [i] * 5, "o", color="0.6", markersize=5)
        ax.plot(five.mean(), i, "|", color="black", markersize=16, markeredgewidth=2)
    ax.set_yticks(range(4), sets, fontsize=10)
    ax.set_ylim(-0.6, 3.6)
    ax.set_title(f"{rows} digits, {flipped:.0%} of labels wrong, {kept:.0%} kept", fontsize=10, loc="left")
    ax.tick_params(axis="x", labelsize=10)


turn = torch.rand(n, generator=draw)
fig, axes = plt.subplots(3, figsize=(4.6, 5.2), sharex=True, layout="constrained")
for ax, share in zip(axes, (0.0, 0.1, 0.3), strict=True):
    view(n, share, 0.5, ax)
axes[-1].set_xlabel("test accuracy of five networks, and their mean (%)", fontsize=10)
save(fig, "09_keep")

# %% [markdown]
# With right labels the highest half is as good as all. With three in ten wrong it is the worst choice, since the wrong labels are in it; the lowest half is better than all.
#
# Where a kernel runs, sliders change the rows, the wrong labels and the share kept:

# %%
try:
    from ipywidgets import FloatSlider, IntSlider, interactive

    rows = IntSlider(value=n, min=min(40, n), max=n, step=20, continuous_update=False)
    wrong_share = FloatSlider(value=0.1, max=0.5, step=0.1, continuous_update=False)
    kept = FloatSlider(value=0.5, min=0.1, max=0.9, step=0.1, continuous_update=False)
    sliders = interactive(lambda rows, wrong, kept: view(rows, wrong, kept), rows=rows, wrong=wrong_share, kept=kept)
except ImportError:
    sliders = "no sliders without ipywidgets; call view(100, 0.2, 0.3)"
sliders

# %% [markdown]
# ## Exercises
#
# The first stands on *Without training*, the second on *Seen or not*, the third on *Influence functions*.
#
# 1. Add a near copy of the first digit, with its label. What does its CG-score do, and why?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# It falls from .98 to .05: what the digit says, its copy says too.
#
# ```python
# copied = torch.cat([x, x[:1] + 0.01]), torch.cat([y, y[:1]])
# print(f"{score['CG'][0]:.2f} alone, {cg_scores(*copied)[0]:.2f} beside its copy")
# ```
# </details>

# %% [markdown]
# 2. Split the networks into two halves. Do both rank digits alike by the influence of seeing? By memorization?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# By memorization (rank correlation .85); hardly by the influence of seeing (.12): what one digit changes for others is less than luck among 150 networks.
#
# ```python
# halves = [(sees[part], good[part], good_test[part]) for part in (slice(0, trials // 2), slice(trials // 2, trials))]
# two = {"influence of seeing": [influence_of_seeing(s, t).mean(1) for s, _, t in halves],
#        "memorization": [memorization(s, g) for s, g, _ in halves]}
# print({name: round(pd.DataFrame(torch.stack(v).T.numpy()).corr("spearman")[0][1], 2) for name, v in two.items()})
# ```
# </details>

# %% [markdown]
# 3. Retrain without one digit, for eight that range from the highest influence on themselves to the lowest. Does the loss on each rise as foretold?

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# It rises more than foretold, twice as much at the top, in the same order. Damping accounts for part.
#
# ```python
# some = score["influence on itself"].argsort(descending=True)[:: n // 8][:8]
# members = torch.ones(8, n)
# members[range(8), some] = 0
# without = fit([0] * 8, members, x, y, **optimum)[-1]
# loss = lambda w: F.cross_entropy(outputs(w, x[some]).mT, y[some].expand(len(w["head.bias"]), 8), reduction="none")
# print("foretold", score["influence on itself"][some].numpy().round(3))
# print("found   ", (loss(without).diagonal() - loss(last)[0]).numpy().round(3))
# ```
# </details>
