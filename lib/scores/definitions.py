"""Every score of the study by its definition: in float64, one example after another, for small problems.

The library computes the same numbers in faster ways, with the same arguments, units and signs; tests hold it to these.
n examples, k outputs, p weights. ``state`` holds a network's parameters and buffers by name, ``parameters`` those of E
networks, stacked: (E, …). Labels y are (n,), or (E, n) where networks have their own. Ki et al. are those of 2023.
"""

import copy
import math

import torch
from torch.nn import functional as F


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


def jacobian(model, state, x):
    """J = ∂f(X)/∂w, (n·k, p), example by example and output by output within; Θ = JJᵀ is the tangent kernel."""
    f, w = network(model, state)
    return torch.func.jacrev(lambda w: f(w, x))(w).flatten(0, 1)


def hessian(model, x, y, *, weight_decay=0.0, loss="cross_entropy", gauss_newton=False):
    """H (p, p) of (1/n) Σ ℓᵢ + λ/2 ‖w − w_ref‖², the same for any w_ref. ``gauss_newton`` first makes f linear at w."""
    f, w0 = network(model, model.state_dict())
    line = lambda w: f(w0, x) + torch.func.jvp(lambda v: f(v, x), (w0,), (w - w0,))[1]
    mean = lambda w: losses(line(w) if gauss_newton else f(w, x), y, loss).mean()
    return torch.func.hessian(mean)(w0) + weight_decay * torch.eye(len(w0)).double()


def el2n(errors):
    """EL2N = ‖softmax(f(xᵢ)) − onehot(yᵢ)‖, (E, n), of errors (E, n, k) (Paul et al. 2021, def. 2.3). High = hard."""
    return errors.double().square().sum(2).sqrt()


def grand(model, parameters, x, y, *, loss="cross_entropy", layers="all"):
    """GraNd = ‖∇_w ℓ(f_w(xᵢ), yᵢ)‖, (E, n) (Paul et al. 2021, definition 2.1). High = hard."""
    return run_gradients(model, parameters, x, y, loss=loss, layers=layers).square().sum(2).sqrt()


def margin(outputs, y):
    """f(xᵢ)_y − max_{c ≠ y} f(xᵢ)_c, (E, n), of outputs (E, n, k). High = easy, below 0 = wrong."""
    outputs, label = outputs.double(), F.one_hot(y.expand(outputs.shape[:2]), outputs.shape[2]).bool()
    return outputs[label].view(label.shape[:2]) - outputs.masked_fill(label, -math.inf).amax(2)


def forgetting(correct, *, never_learned="most"):
    """Σₜ 1[right at t − 1] 1[wrong at t], (E, n), of correct (E, T, n). High = hard. An example that is never right
    gets T, more than any other (``most``, Toneva et al. 2019), or 0 (``none``, Ki et al., eq. 10)."""
    forgotten = sum((correct[:, t - 1] & ~correct[:, t]).double() for t in range(1, correct.shape[1]))
    return torch.where(~correct.any(1) & (never_learned == "most"), float(correct.shape[1]), forgotten)


def tracin(model, checkpoints, rates, x, y, x_val, y_val, *, layers="last", loss="cross_entropy"):
    """Σₜ ηₜ ∇ℓ(wₜ, zᵢ)·∇ℓ(wₜ, z′ⱼ), (E, n, n′), of checkpoints wₜ and rates ηₜ (Ki et al., eq. 11). High = helps."""
    at = lambda t, x, y: run_gradients(model, checkpoints[t], x, y, loss=loss, layers=layers)
    return sum(rate * at(t, x, y) @ at(t, x_val, y_val).mT for t, rate in rates.items())


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


def influence_of_seeing(member_sees, correct_test):
    """P[right about j | i seen] − P[right about j | i not seen], (n, n′), over networks: ``member_sees`` is (t, n).
    Positive = seeing i helps j; NaN where all networks saw i, or none (Feldman and Zhang 2020, algorithm 1)."""
    right = correct_test.double()
    return torch.stack([right[saw].mean(0) - right[~saw].mean(0) for saw in member_sees.T])


def memorization(member_sees, correct_train):
    """The influence of seeing i on i itself, (n,) (ibid.). High = networks are right about it only if they saw it."""
    return influence_of_seeing(member_sees, correct_train).diagonal()


def c_scores(member_sees, correct_train):
    """Mean over subset sizes of P[right about i | i not in the subset], (n,) (Jiang et al. 2021). High = regular."""
    sizes, unseen = member_sees.sum(1), torch.where(member_sees, torch.nan, correct_train.double())
    return torch.stack([unseen[sizes == m].nanmean(0) for m in sizes.unique()]).nanmean(0)


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


def parameter_change(model, x, y, *, damping=0.0, loss="cross_entropy", **curvature):
    """Δwᵢ = (1/n)(H + δI)⁻¹∇ℓᵢ upon removal of i, to first order, (n, p) (Basu et al. 2021, eq. 3 with ε = −1/n)."""
    h, g = hessian(model, x, y, loss=loss, **curvature), gradients(model, model.state_dict(), x, y, loss=loss)
    return torch.linalg.solve(h + damping * torch.eye(len(h)).double(), g.T).T / len(x)


def influence(model, x_train, y_train, x_test, y_test, *, loss="cross_entropy", **options):
    """∇ℓ_test·Δwᵢ, (m, n): the rise of each test loss upon removal of i (ibid., eq. 5). Positive = helpful."""
    change = parameter_change(model, x_train, y_train, loss=loss, **options)
    return gradients(model, model.state_dict(), x_test, y_test, loss=loss) @ change.T
