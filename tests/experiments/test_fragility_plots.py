"""The figures show the numbers they were given: values, intervals, bands of chance, and the line of equality."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments import fragility_plots as draw

ENTRY = {f"{kind}{part}": value for kind in ("spearman", "pearson")
         for part, value in (("", 0.5), ("_interval", (0.2, 0.7)), ("_null", (-0.3, 0.31)))}  # fmt: skip


def entry(value, half=0.1):
    ends = (value - half, value + half)
    return ENTRY | {"spearman": value, "spearman_interval": ends, "pearson": -value, "pearson_interval": (-value, 1)}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def points(ax):
    """All ``(x, y)`` of lines without a stroke."""
    return [tuple(map(float, xy)) for line in ax.lines if line.get_linestyle() == "None" for xy in line.get_xydata()]


def bands(ax):
    """Extents of filled rectangles along x."""
    boxes = [patch.get_bbox() for patch in ax.patches]
    return [(round(box.x0, 6), round(box.x1, 6)) for box in boxes]


def test_test_points_have_bars_and_ticks_of_chance():
    ax = draw.by_test_point({name: pd.DataFrame([entry(0.5), entry(0.1)]) for name in "abc"}).axes[0]
    assert len(ax.containers) == 3 and [text.get_text() for text in ax.get_legend().get_texts()] == list("abc")
    (line, _, _), shift = ax.containers[0], -0.2
    np.testing.assert_allclose(line.get_xydata(), [(shift, 0.5), (1 + shift, 0.1)])
    assert {y for _, y in points(ax)} >= {-0.3, 0.31}


def test_bars_end_at_the_intervals():
    ax = plt.figure().add_subplot()
    draw.bars(ax, [3], [ENTRY], fmt="o")
    _, _, (segments,) = ax.containers[0]
    np.testing.assert_allclose(segments.get_segments()[0], [(3, 0.2), (3, 0.7)])


def test_the_grid_has_a_mark_a_kind_and_its_chance_behind():
    kinds = ("A", "B", "C")
    results = {
        (n, w, k): entry(0.1 * i) for i, (n, w, k) in enumerate((n, w, k) for n in "xy" for w in "uv" for k in kinds)
    }
    axes = draw.grid(results, {"x": "net x", "y": "net y"}, {"u": "set u", "v": "set v"}, kinds).axes
    assert [ax.get_title() for ax in axes] == ["set u", "set v"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["net x", "net y"]
    assert bands(axes[0]) == [(-0.3, 0.31)] * 6
    assert (results["y", "v", "B"]["pearson"], 1.0) in points(axes[1])


def test_sweeps_are_two_a_row_with_means_and_chance_where_it_is_a_correlation():
    lines = {"tanh": {1: np.array([0.2, 0.4]), 8: np.array([0.9, np.nan])}}
    panels = [("depth", "Spearman", lines), ("depth", "eigenvalue", lines), ("width", "Spearman", lines)]
    axes = draw.sweeps(panels + panels[:1], (-0.4, 0.5)).axes
    assert [ax.get_yscale() for ax in axes] == ["linear", "log", "linear", "linear"]
    np.testing.assert_allclose(axes[0].lines[0].get_xydata(), [(1, 0.3), (8, 0.9)])
    assert len(bands(axes[0])) == 1 and not bands(axes[1])


def test_one_scale_has_a_row_for_each_question_and_each_answer():
    groups = {"deep?": {"one": (0.9, (0.8, 0.95), (-0.3, 0.4)), "two": (0.3, (0.1, 0.5), (-0.3, 0.4))}}
    (ax,) = draw.on_one_scale(groups).axes
    assert [(text.get_text(), text.get_position()[1]) for text in ax.texts] == [("deep?", 0), ("one", 1), ("two", 2)]
    assert [tuple(line.get_xdata()) for line in ax.lines] == [(0.8, 0.95), (0.9,), (0.1, 0.5), (0.3,)]
    assert [line.get_color() for line in ax.lines[1::2]] == [draw.BLUE, "0.6"]
    assert len(bands(ax)) == 2


def test_choices_and_group_sizes():
    runs, optimizers = {"a": [entry(0.1), entry(0.3)]}, {"SGD": entry(0.4)}
    small, deep = {0.0: entry(0.2), 0.1: entry(0.3)}, {0.001: np.array([0.1, 0.5]), 0.1: np.array([0.2, 0.2])}
    one, two, three = draw.choices(runs, optimizers, small, deep, (-0.3, 0.3), "deep").axes
    assert points(one)[:2] == [(0, 0.1), (0, 0.3)] and points(two)[0] == (0, 0.4)
    assert three.get_xscale() == "log"
    lines = {bars.get_label(): bars[0].get_xydata() for bars in three.containers}
    np.testing.assert_allclose(lines["deep"], [(0.001, 0.3), (0.1, 0.2)])
    np.testing.assert_allclose(lines["small CNN (leftmost: 0)"], [(0.04, 0.2), (0.1, 0.3)])
    ax = draw.by_size({"a": {1: entry(0.2), 10: entry(0.6)}, "b": {10: entry(0.1)}}).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "10"]
    np.testing.assert_allclose(ax.containers[0][0].get_xydata(), [(1, 0.2), (10, 0.6)])
