"""All scores of the study by name, on any data: one call, and each comes with its error, its cost and its direction.

    scored = compute(["CG", "EL2N", "memorization"], x, y)
    scored["EL2N"].values, scored["EL2N"].stderr, scored["EL2N"].seconds

``SCORES`` (``lib.scored``) says what there is. Scores of one group share their work (a factorization, an ensemble), and
each is charged with all of it that it needs: the time of a training counts up to the epoch at which the score is read.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from lib.score_groups import GROUPS, Task, standardized
from lib.scored import SCORES, Scored, Settings

__all__ = ["SCORES", "Scored", "Settings", "compute", "standardized"]

VERSION = {"f_si": 3}  # of what is kept in a store, by group, 2 otherwise; raise it when a result changes


def compute(
    names: Iterable[str],
    x: Tensor,
    y: Tensor,
    *,
    classes: int | None = None,
    x_val: Tensor | None = None,
    seed: int = 0,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    device: str = "cpu",
    store=None,
    shards=None,
    progress: bool = True,
) -> dict[str, Scored]:
    """Compute scores by name; networks, F-SI and the norm get x standardized by :func:`standardized`.

    Args:
        names: some of ``SCORES``.
        x: ``(n, …)`` float, pictures or features.
        y: integer labels ``(n,)``, or ``(r, n)``: several labellings of the same rows, for little more than one.
        classes: k; by default the largest label + 1.
        x_val: inputs on which F-SI compares predictions (no labels are needed); by default a part of x.
        seed: draws initial weights, batches, subsets.
        store: a ``lib.store.Store``, which keeps finished groups of scores, costs included.
        shards: another, passed to the ensembles: a killed run goes on, but then its seconds are those of the last part.

    Returns:
        Name → :class:`Scored`, in the order of ``names``; ``values`` in the shape of y.

    Raises:
        ValueError: for an unknown name (the valid ones are listed), shapes or labels that do not fit, settings out of
            range; and whatever a score itself refuses (CG: equal inputs, unless ``jitter``; classes of one member).

    Cost: see ``Scored.seconds``; n²·4 bytes and 2n³/3 operations for CG, about 10n³ and 3n²·8 bytes for F-SI.

    Example:
        >>> x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
        >>> found = compute(["CG", "input norm"], x, y)
        >>> {name: (tuple(one.values.shape), one.trainings) for name, one in found.items()}
        {'CG': ((40,), 0.0), 'input norm': ((40,), 0.0)}
    """
    names = list(dict.fromkeys(names))
    k = _check(names, x, y, classes, settings)
    task = Task(x, y.reshape(-1, len(x)), k, x_val, seed, settings, device, shards, progress)
    found = {}
    for group in dict.fromkeys(SCORES[name].group for name in names):
        own = [name for name in names if SCORES[name].group == group]
        arrays = lambda group=group, own=own: _packed(GROUPS[group](task, own), y.shape)
        kept = arrays() if store is None else store.cached(_key(task, group, own), arrays)
        found |= {name: _unpacked(name, kept) for name in own}
    return {name: found[name] for name in names}


def _check(names: list[str], x: Tensor, y: Tensor, classes: int | None, settings: Settings) -> int:
    if unknown := [name for name in names if name not in SCORES]:
        raise ValueError(f"names must be some of {', '.join(map(repr, SCORES))}; got {', '.join(map(repr, unknown))}")
    if not x.is_floating_point() or x.ndim < 2 or not x.isfinite().all():
        raise ValueError(f"x must be finite floats (n, …), got {x.dtype} {tuple(x.shape)}")
    if y.ndim not in (1, 2) or y.shape[-1] != len(x) or y.dtype != torch.int64:
        raise ValueError(f"y must be int64 labels ({len(x)},) or (r, {len(x)}), got {y.dtype} {tuple(y.shape)}")
    k = int(y.max()) + 1 if classes is None else classes
    if k < 2 or y.min() < 0 or y.max() >= k:
        raise ValueError(f"y must be labels 0…{k - 1} of at least 2 classes, got {int(y.min())}…{int(y.max())}")
    if settings.networks < 1 or settings.tangent_networks < 1 or settings.trials < 4 or not 0 < settings.share < 1:
        raise ValueError(f"settings need networks ≥ 1, tangent_networks ≥ 1, trials ≥ 4, 0 < share < 1; got {settings}")
    return k


def _digest(value: Tensor | None) -> str:
    return "" if value is None else hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _key(task: Task, group: str, names: list[str]) -> dict:
    data = {"x": _digest(task.x), "y": _digest(task.y), "x_val": _digest(task.x_val), "classes": task.k}
    made = {"function": "all_scores", "version": VERSION.get(group, 2), "group": group, "names": names}
    data["seed"] = task.seed
    return made | data | {"settings": asdict(task.settings), "device": task.device}


def _packed(found: dict[str, Scored], shape: torch.Size) -> dict[str, np.ndarray]:
    out = {}
    for number, one in enumerate(found.values()):
        out[f"{number}.costs"] = np.array([one.seconds, one.peak_bytes, one.trainings], dtype=float)
        for part in ("values", "stderr", "halves"):
            if (value := getattr(one, part)) is not None:
                out[f"{number}.{part}"] = (value if len(shape) == 2 else value[0]).numpy()
        out[f"{number}.name"] = np.array(one.name)
    return out


def _unpacked(name: str, kept: dict[str, np.ndarray]) -> Scored:
    number = next(key.split(".")[0] for key, value in kept.items() if key.endswith(".name") and str(value) == name)
    parts = [torch.from_numpy(np.asarray(kept[key])) if (key := f"{number}.{part}") in kept else None
             for part in ("values", "stderr", "halves")]  # fmt: skip
    seconds, peak, trainings = kept[f"{number}.costs"]
    return Scored(name, *parts, float(seconds), int(peak), float(trainings))
