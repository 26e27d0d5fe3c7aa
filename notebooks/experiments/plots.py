"""How the study looks: one style, one colour, dash and marker a score, pictures, bands, saving."""

import io
import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sklearn.utils.extmath import randomized_svd

from lib.statistics import t_interval
from lib.store import new_file, results_folder

#: Colour (Okabe and Ito), dash and marker of each score, the same in every notebook and readable in grey.
LOOK = {
    "random": ("#7f7f7f", (0, (1, 1)), "x"),
    "random anew": ("black", (0, (1, 3)), "+"),
    "CG": ("#0072b2", "-", "o"),
    "CG partial": ("#56b4e9", (0, (4, 1)), "h"),
    "CG features": ("#009e73", (0, (4, 1, 1, 1)), "D"),
    "EL2N": ("#d55e00", (0, (3, 1)), "s"),
    "forgetting": ("#cc79a7", (0, (5, 1, 1, 1, 1, 1)), "^"),
    "GraNd": ("#e69f00", (0, (2, 1)), "v"),
    "input norm": ("#999933", (0, (3, 1, 1, 1)), "<"),
    "TracIn": ("#44aa99", (0, (1, 1, 3, 1)), ">"),
    "CRAIG": ("#aa4499", (0, (7, 1)), "p"),
    "memorization": ("#332288", (0, (6, 2)), "P"),
    "influence": ("#882255", (0, (3, 2, 1, 2)), "*"),
    "C-score": ("#6699cc", (0, (8, 2, 1, 2)), "X"),
    "loss": ("#994455", (0, (2, 2)), "1"),
    "F-SI": ("#117733", (0, (1, 2)), "d"),
    "oracle": ("black", (0, (5, 2)), ""),
}
#: Colours of classes, where there are few enough to tell them apart.
CLASSES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#999933")


def style() -> None:
    """Set the study's style; call once at the top of a notebook."""
    sns.set_theme(context="notebook", style="ticks", palette=[look[0] for look in LOOK.values()][1:])
    plt.rcParams.update({
        "figure.dpi": 100, "savefig.dpi": 110, "figure.constrained_layout.use": True, "image.cmap": "gray_r",
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium", "legend.frameon": False,
        "legend.fontsize": "small", "lines.markersize": 5,
    })  # fmt: skip


def look(score: str) -> dict:
    """Keyword arguments for ``Axes.plot`` of a score's curve; an unlisted score gets the style's next colour."""
    if score not in LOOK:
        return {"label": score}
    colour, dash, marker = LOOK[score]
    return {"color": colour, "linestyle": dash, "marker": marker, "label": score}


def save(fig: Figure, name: str, profile: str) -> None:
    """Write ``results/<profile>/figures/<name>.png`` in 256 colours, with text of 8 px or more on a phone (390 px)."""
    for text in fig.findobj(Text):
        text.set_size(max(text.get_size(), fig.get_figwidth() * 72 * 8 / 390))
    folder = results_folder(profile) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    raw = io.BytesIO()
    fig.savefig(raw, format="png")
    with new_file(folder / f"{name}.png") as file:
        Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, "png", optimize=True)


def band(ax: Axes, table: pd.DataFrame, x: str, y: str, score: str, **kwargs) -> None:
    """Mean of ``y`` over the rows that share ``x``, with its 95% Student-t band over seeds."""
    groups = table.groupby(x)[y]
    middle = groups.mean()
    ends = np.array([t_interval(values.to_numpy()) if len(values) > 1 else (np.nan,) * 2 for _, values in groups])
    line = ax.plot(middle.index, middle, **(look(score) | kwargs))[0]
    ax.fill_between(middle.index, ends[:, 0], ends[:, 1], color=line.get_color(), alpha=0.18, lw=0)


def reference(ax: Axes, level: float, text: str, *, interval: tuple[float, float] | None = None) -> None:
    """A grey horizontal line (chance, full data), its name right of the axes, and its interval where given."""
    ax.axhline(level, lw=0.9, color="0.35", zorder=0)
    if interval is not None:
        ax.axhspan(*interval, color="0.5", alpha=0.15, lw=0, zorder=0)
    beside = {"transform": ax.get_yaxis_transform(), "va": "center", "size": 10, "color": "0.3"}
    ax.text(1.01, level, textwrap.fill(text, 10), **beside)


def pictures(images, captions=None, *, columns: int = 10, titles=None, size: float = 0.8) -> Figure:
    """A grid of ``images (m, c, h, w)`` in [0, 1], of one or three channels, ``size`` inches each, row by row.

    ``captions`` are m short texts, one under each picture; ``titles`` a text at the left of each row.
    """
    rows = math.ceil(len(images) / columns)
    inches = columns * size + (1.1 if titles else 0), rows * size * (1.3 if captions is not None else 1.05)
    fig, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for i, image in enumerate(images):
        picture = np.moveaxis(np.asarray(image), 0, -1)
        axes.flat[i].imshow(picture if picture.shape[-1] == 3 else picture[..., 0], vmin=0, vmax=1)
        if captions is not None:
            axes.flat[i].set_xlabel(captions[i], fontsize=max(7, 8 * size), labelpad=2)
    for row, title in enumerate(titles or []):
        axes[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8, parse_math=False)
    fig.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    return fig


def heatmap(ax: Axes, matrix, title: str, **limits) -> None:
    """A matrix as an image with its colour bar."""
    shown = ax.imshow(matrix, cmap="cividis", interpolation="nearest", **limits)
    ax.figure.colorbar(shown, ax=ax, shrink=0.85)
    ax.set(xticks=[], yticks=[], title=title)


def dumbbell(ax: Axes, table: pd.DataFrame, xlabel: str) -> None:
    """One row a class, two marks a row: the two columns of ``table``, joined by a line."""
    height = np.arange(len(table))[::-1]
    left, right = table.columns
    ax.hlines(height, table[left], table[right], color="0.7", lw=1.5, zorder=0)
    for name, colour, marker in [(left, "#0072b2", "o"), (right, "#d55e00", "s")]:
        ax.scatter(table[name], height, c=colour, marker=marker, label=name)
    ax.set(xlabel=xlabel)
    ax.set_yticks(height, table.index)
    ax.legend()


def spread(ax: Axes, groups: dict, xlabel: str) -> None:
    """One horizontal box a group: quartiles, 5th and 95th percentile, in the order given, top first."""
    names = list(groups)[::-1]
    ax.boxplot(
        [np.asarray(groups[name]) for name in names], positions=range(len(names)), orientation="horizontal",
        whis=(5, 95), showfliers=False, widths=0.6, medianprops={"color": "#d55e00"},
    )  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel=xlabel)


def two_histograms(ax: Axes, values, marked, xlabel: str, names: tuple[str, str], *, bins: int = 60) -> None:
    """Densities of a score for unmarked and marked examples, the extreme 0.5% at either side left out of view."""
    values, marked = np.asarray(values), np.asarray(marked)
    edges = np.linspace(*np.quantile(values, [0.005, 0.995]), bins)
    filled, drawn = {"histtype": "stepfilled", "alpha": 0.35}, {"histtype": "step", "lw": 1.8}
    for rows, name, colour, kind in [(~marked, names[0], "#0072b2", filled), (marked, names[1], "#d55e00", drawn)]:
        ax.hist(values[rows], edges, density=True, color=colour, label=name, **kind)
    ax.set(xlabel=xlabel, ylabel="density")
    ax.legend()


def examination_curves(ax: Axes, scores: dict, marked) -> None:
    """Examining from the highest score down: share of the marked examples found, for each score and the oracle."""
    marked = np.asarray(marked)
    examined = np.arange(len(marked) + 1) / len(marked)
    order = lambda score: np.argsort(-np.asarray(score), kind="stable")
    share_found = lambda score: np.concatenate([[0], marked[order(score)].cumsum()]) / marked.sum()
    ax.plot(examined, share_found(marked.astype(float)), **look("oracle"))
    for name, score in scores.items():
        ax.plot(examined, share_found(score), **look(name) | {"marker": ""})
    ax.plot([0, 1], [0, 1], **look("random") | {"marker": ""})
    ax.set(xlabel="share examined, highest scores first", ylabel="share of marked found")


def projection(ax: Axes, x, y, classes, marked: dict | None = None, *, names=None) -> None:
    """Standardized features ``x (n, d)`` in their first two principal components, a colour and a marker a class.

    ``marked``, name → positions, get a ring of their own; ``names``, a short text an example, are written beside the
    marked ones where they are at most 25.
    """
    centred = np.asarray(x, float) - np.asarray(x, float).mean(0)
    sample = np.random.default_rng(0).permutation(len(centred))[:5000]  # as many as fix two directions
    _, lengths, axes = randomized_svd(centred[sample], 2, random_state=0)  # a whole one takes minutes at d = 16,000
    place, share = centred @ axes.T, lengths**2 / max(np.square(centred[sample]).sum(), 1e-300)
    if place.shape[1] < 2:
        place, share = np.column_stack([place, np.zeros(len(place))]), np.append(share, 0.0)
    few = len(classes) <= 12
    for c, name in enumerate(classes):
        members, colour, marker = np.asarray(y) == c, CLASSES[c % len(CLASSES)], "osD^v<>ph*"[c // len(CLASSES) % 10]
        label = f" {name}" if name[:1] in ("", "_") else name  # which legends leave out
        ax.scatter(*place[members].T, s=12, alpha=0.5, color=colour, marker=marker, label=label if few else None, lw=0)
    rings = (("black", 70), ("#d55e00", 28), ("#882255", 140))  # of three sizes, where an example bears several
    for (name, where), (colour, size) in zip((marked or {}).items(), rings, strict=False):
        ax.scatter(*place[where].T, s=size, facecolors="none", edgecolors=colour, lw=1.3, label=name)
        for i in where if names is not None and len(where) <= 25 else ():
            ax.annotate(names[i], place[i], textcoords="offset points", xytext=(5, 4), fontsize=7, parse_math=False)
    ax.set(xlabel=f"first component ({share[0]:.0%} of the variance)", ylabel=f"second ({share[1]:.0%})")
    for text in ax.legend().get_texts() if few or marked else ():
        text.set_parse_math(False)
