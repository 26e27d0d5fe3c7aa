"""Scoring a data set under a plan: networks on random parts of the rows, every score by name, the table of it all."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import ensemble, models
from lib.all_scores import SCORES, Scored, Settings, compute
from lib.budget import Clock
from lib.cg_score import cg_scores
from lib.costs import measured
from lib.memorization import held_out_accuracy, memorization, subsets
from lib.own_data import EXACT
from lib.score_groups import trial_recipe
from lib.suspects import Votes, tally, votes


class Trials(NamedTuple):
    """Networks trained on random parts of the rows, under one labelling."""

    member_sees: Tensor  # (t, n) bool
    correct: Tensor  # (t, n) bool
    votes: Votes


def trial_blocks(
    x: Tensor, y: Tensor, settings: Settings, blocks: Iterator[range], *, seed: int = 0, **options
) -> list[Trials]:
    """Train networks on random parts of the rows, block by block, until ``blocks`` ends.

    Args:
        x: standardized.
        y: ``(r, n)``, labellings; every one gets the same subsets and initial weights.
        blocks: ranges of trials, such as those of ``lib.budget.Clock.blocks``.
        options: passed on to ``ensemble.train`` (``device``, ``store``, …).

    Returns:
        For each labelling its :class:`Trials`.
    """
    (r, n), k = y.shape, int(y.max()) + 1
    model = models.by_name(settings.architecture, shape=tuple(x.shape[1:]), classes=k)
    record = ensemble.Record(errors_at=(settings.trial_epochs,), parameters=False)
    parts = []
    for block in blocks:
        sees = subsets(n, round(settings.share * n), block.stop, seed)[block.start :]
        run = ensemble.train(
            model, x, y[0], recipe=trial_recipe(settings), seeds=list(block) * r, member_sees=sees.repeat(r, 1),
            labels=y.repeat_interleave(len(block), 0), record=record, **options,
        )  # fmt: skip
        errors = run.errors[settings.trial_epochs].view(r, len(block), n, k)
        counts = [tally(sees, errors[i], y[i]) for i in range(r)]
        parts.append((sees, run.correct_train[:, -1].view(r, len(block), n), counts))
    sees, right = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts], 1)
    return [Trials(sees, right[i], votes([part[2][i] for part in parts])) for i in range(r)]


def score(
    names: list[str], examples: Tensor, x: Tensor, y: Tensor, settings: Settings, trials: list[Trials], clock: Clock, *,
    seed: int = 0, store=None, device: str = "cpu",
) -> dict[str, Scored]:  # fmt: skip
    """Scores by name, of every labelling: ``lib.all_scores.compute``, but for what the judges have said already.

    CG takes pictures as they are, and feature vectors standardized and with a constant coordinate added, since it
    looks at directions alone (in one dimension there are only two). Memorization and C-score are read off ``trials``.

    Args:
        examples: as loaded, ``(n, c, h, w)`` or ``(n, d)``.
        x: the same, standardized.
        y: ``(r, n)``.
        settings: with ``jitter`` where inputs repeat.
        trials: for each labelling, of :func:`trial_blocks`.
        clock: with the plan.
        store: a ``lib.store.Store`` for finished scores and shards.

    Returns:
        Name → ``Scored``, its values and errors ``(r, n)``.
    """
    common = {"seed": seed, "device": device, "store": store, "shards": store, "progress": False}
    asked = {
        group: [name for name in names if SCORES[name].group == group] for group in ("input", "cg", "f_si", "runs")
    }
    found, wishes = {}, clock.planned
    how = replace(settings, networks=int(wishes.planned["runs"])) if asked["runs"] else settings
    if asked["input"]:
        found |= compute(asked["input"], x, y, settings=how, **common)
    for group, what in (("cg", "CG"), ("f_si", "F-SI"), ("runs", "runs")):
        own, inputs = asked[group], directions(examples, x) if group == "cg" else x
        work = lambda own=own, inputs=inputs: compute(own, inputs, y, settings=how, **common)
        if group == "cg" and own and wishes.unit["CG"] != EXACT:
            work = lambda own=own, inputs=inputs: _drawn(own, inputs, y, int(wishes.planned["CG"]), how, seed, device)
        if own:
            found |= clock.run(what, work)
    count = float(len(trials[0].member_sees))
    for name in (name for name in names if SCORES[name].group == "subsets"):
        if name == "memorization":
            made = [memorization(one.member_sees, one.correct) for one in trials]
            values, error = (torch.stack([part[i] for part in made]) for i in (0, 1))
        else:
            values = torch.stack([held_out_accuracy(one.member_sees, one.correct) for one in trials])
            error = (values * (1 - values) / ((~trials[0].member_sees).sum(0) - 1)).sqrt()
        found[name] = Scored(name, values, error, None, clock.spent["judges"], 0, count)
    return {name: found[name] for name in names}


def _drawn(names, inputs, y, draws, settings, seed, device) -> dict[str, Scored]:
    """CG-scores as means over draws, each class against as many rows of the others."""
    work = lambda: cg_scores(inputs, y, negatives=1, runs=draws, seed=seed, jitter=settings.jitter, device=device)
    result, seconds, peak = measured(work, device=device)
    part = lambda name: getattr(result, "score" if name == "CG" else name.removeprefix("CG ")).double()
    error = lambda name: result.spread.double() / draws**0.5 if name == "CG" else None
    return {name: Scored(name, part(name), error(name), None, seconds, peak, 0.0) for name in names}


def directions(examples: Tensor, x: Tensor) -> Tensor:
    """What the CG-score is given: pictures, or standardized features and a constant coordinate, in double precision.

    Pictures get that coordinate too where one of them is empty (all zero), and so has no direction.
    """
    pictures = examples.ndim == 4
    if pictures and examples.flatten(1).any(1).all():
        return examples
    flat = (examples if pictures else x).flatten(1).double()
    return torch.cat([flat, torch.ones(len(x), 1, dtype=torch.float64)], 1)


def columns(scored: dict[str, Scored], suggested: pd.DataFrame, flags: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of the file: each score with its standard error, what the judges say, the flags of the check-up."""
    table = {}
    for name, one in scored.items():
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
        table[plain] = one.values[0].numpy()  # noqa: PD011 (a tensor)
        if one.stderr is not None:
            table[f"{plain}_error"] = one.stderr[0].numpy()
    for frame in (suggested, flags.drop(columns=["row", "label"])):
        table |= {name: frame[name].to_numpy() for name in frame}
    return table
