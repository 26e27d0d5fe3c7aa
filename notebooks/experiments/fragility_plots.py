"""06 and 16: how well does influence agree with retraining? Figures of correlations, intervals, bands of chance."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments import plots
from lib.statistics import t_interval

BLUE, RED, GREY = "#0072b2", "#d55e00", "0.4"
PAIRS = ((BLUE, "o"), (RED, "s"), (GREY, "^"))


def sweeps(panels: Sequence[tuple], chance: tuple[float, float], *, log: bool = False) -> Figure:
    """Two panels a row, each ``(x label, title, {name: {setting: values over networks}})``: mean with its 95% band and
    each network. Where the title speaks of Spearman grey is the band of ``chance``; else the axis is logarithmic."""
    rows = math.ceil(len(panels) / 2)
    fig, axes = plt.subplots(rows, 2, figsize=(6.2, 3 * rows))
    for ax, (xlabel, title, lines) in zip(axes.flat, panels, strict=True):
        for (name, line), (colour, marker) in zip(lines.items(), PAIRS, strict=False):
            pairs = [(setting, value) for setting, values in line.items() for value in values]
            table = pd.DataFrame(pairs, columns=["x", "y"]).dropna()
            plots.band(ax, table, "x", y="y", score=name, color=colour, marker=marker, linestyle="-")
            ax.plot(table.x, table.y, ".", ms=2.5, color=colour, alpha=0.4)
        ax.set(xlabel=xlabel, xscale="log" if log else "linear")
        ax.set_title(title, fontsize=10.5)
        if "Spearman" in title:
            ax.axhspan(*chance, color="0.9", zorder=0)
            ax.set_ylim(-1, 1.02)
        else:
            ax.set_yscale("log")
            ax.yaxis.set(
                major_locator=LogLocator(subs=(1, 3)), major_formatter="{x:g}", minor_formatter=NullFormatter()
            )
        if len(lines) > 1:
            ax.legend(loc="lower left")
    return fig


def on_one_scale(groups: Mapping[str, Mapping[str, tuple]]) -> Figure:
    """Question ↦ network ↦ ``(correlation, interval, band of chance)``, top first; dark marks clear their band."""
    lines = [line for question, rows in groups.items() for line in ((question, None), *rows.items())]
    fig, ax = plt.subplots(figsize=(5.8, 0.3 * len(lines) + 0.8))
    for place, (name, found) in enumerate(lines):
        if found is None:
            ax.text(-1.02, place, name, ha="right", va="center", weight="bold", fontsize=10.5)
            continue
        middle, ends, chance = found
        colour = BLUE if ends[0] > chance[1] else "0.6"
        ax.barh(place, np.ptp(chance), 0.75, left=chance[0], color="0.92", zorder=0)
        ax.plot(ends, (place, place), color=colour)
        ax.plot(middle, place, "o", mfc=colour if colour == BLUE else "white", color=colour)
        ax.text(-1.02, place, name, ha="right", va="center", fontsize=10.5)
    ax.set(xlim=(-1, 1.02), ylim=(len(lines) - 0.4, -0.6), xlabel="Spearman, predicted with true change", yticks=[])
    return fig


def by_test_point(selected: Mapping[str, pd.DataFrame]) -> Figure:
    """Tables of ``fragility.agreement_with_truth``, a row a test example; ticks bound the band of chance."""
    fig, ax = plt.subplots(figsize=(6, 3.6))
    for shift, (name, rows), (colour, marker) in zip((-0.2, 0, 0.2), selected.items(), PAIRS, strict=True):
        places = np.arange(len(rows)) + shift
        bars(ax, places, rows.to_dict("records"), fmt=marker, color=colour, label=name)
        ax.plot(np.tile(places, (2, 1)), np.array(rows.spearman_null.tolist()).T, "_", color="0.5", ms=8)
    ax.axhline(0, color="0.35", lw=0.8)
    ax.set(xlabel="test image, by loss (0: highest)", ylabel="Spearman with retraining", ylim=(-1, 1.02))
    ax.set_xticks(range(len(rows)))
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return fig


def bars(ax, places, agreements: Sequence[Mapping], **how) -> None:
    """Spearman of each of ``fragility.agreement_with_truth`` with its interval."""
    middle = np.array([r["spearman"] for r in agreements])
    ends = np.abs(np.array([r["spearman_interval"] for r in agreements]).T - middle)
    ax.errorbar(places, middle, yerr=ends, capsize=2, **how)


def grid(
    results: Mapping[tuple, Mapping], names: Mapping[str, str], sets: Mapping[str, str], kinds: Sequence[str]
) -> Figure:
    """A panel a data set, a row a network, a mark a kind: Pearson of ``results[name, set, kind]``; grey is chance."""
    fig, axes = plt.subplots(len(sets), 1, figsize=(5.8, 0.5 + 4 * len(sets)), sharex=True, squeeze=False)
    axes = axes[:, 0]
    for ax, (where, title) in zip(axes, sets.items(), strict=True):
        for i, name in enumerate(names):
            for shift, kind, (colour, marker) in zip((-0.24, 0, 0.24), kinds, PAIRS, strict=True):
                r = results[name, where, kind]
                ax.barh(i + shift, np.ptp(r["pearson_null"]), 0.22, left=r["pearson_null"][0], color="0.9", zorder=0)
                ax.plot(r["pearson_interval"], [i + shift] * 2, color=colour, lw=1.2)
                ax.plot(r["pearson"], i + shift, marker, color=colour, label=kind if i == 0 else None)
        ax.set(title=title, xlim=(-1, 1.02), ylim=(len(names) - 0.5, -0.5))
        ax.axvline(0, color="0.35", lw=0.8)
        ax.set_yticks(range(len(names)), list(names.values()))
    axes[-1].set_xlabel("Pearson of influence with retraining")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return fig


def choices(runs: Mapping, optimizers: Mapping, small: Mapping, deep: Mapping, chance: tuple, title: str) -> Figure:
    """Initializations, optimizers, decays: agreements by name, optimizer and λ; ``deep``: λ ↦ Spearmans ``(r,)``."""
    fig, axes = plt.subplots(3, 1, figsize=(5.6, 9), sharey=True)
    for i, of_network in enumerate(runs.values()):
        axes[0].plot([i] * len(of_network), [r["spearman"] for r in of_network], "o", mfc="none", color=BLUE)
    axes[0].set_xticks(range(len(runs)), list(runs))
    bars(axes[1], range(len(optimizers)), list(optimizers.values()), fmt="s", color=RED)
    axes[1].set_xticks(range(len(optimizers)), list(optimizers))
    least = 0.4 * min(lam for lam in small if lam)
    places, name = [lam or least for lam in small], "small CNN (leftmost: 0)"
    bars(axes[2], places, list(small.values()), fmt="o-", color=BLUE, label=name)
    middle, half = zip(*[(np.mean(v), np.ptp(t_interval(v)) / 2) for v in deep.values()], strict=True)
    axes[2].errorbar(list(deep), middle, yerr=half, fmt="s--", color=RED, capsize=3, label=title)
    axes[2].set(xscale="log", xlabel="weight decay λ")
    axes[2].legend(loc="lower left")
    for ax, text in zip(axes, ("initializations", "LeNet, optimizers", "weight decay"), strict=True):
        plots.reference(ax, 0, "chance", interval=chance)
        ax.set(title=text, ylim=(-1, 1.05), ylabel="Spearman")
    return fig


def by_size(lines: Mapping[str, Mapping[int, Mapping]]) -> Figure:
    """Agreement by group size, a line a network."""
    fig, ax = plt.subplots(figsize=(6, 3.4))
    for (name, line), (colour, marker) in zip(lines.items(), PAIRS, strict=False):
        bars(ax, list(line), list(line.values()), fmt=f"{marker}-", color=colour, label=name)
    sizes, nulls = zip(*[(size, r["spearman_null"]) for size, r in next(iter(lines.values())).items()], strict=True)
    plots.reference(ax, 0, "chance", interval=nulls[0])
    ax.set(xscale="log", xlabel="training images removed together", ylabel="Spearman with retraining", ylim=(-1, 1.05))
    ax.set_xticks(sizes, sizes)
    ax.legend(loc="lower left")
    return fig
