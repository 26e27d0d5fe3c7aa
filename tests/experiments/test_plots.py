"""What figures of several notebooks share."""

import matplotlib.pyplot as plt
import pytest

from experiments import plots


@pytest.fixture
def axes():
    with plt.rc_context():
        plots.style()
        fig, axes = plt.subplots(1, 2, figsize=(6, 3), sharey=True)
        yield axes
        plt.close(fig)


def test_the_name_of_a_reference_stands_beside_what_is_drawn(axes):
    """Right of its axes and inside the figure, over no curve, nor over the neighbour's."""
    for ax in axes:
        ax.plot([1, 2, 3], [0.1, 0.5, 0.9])
        plots.reference(ax, 0.5, "random half", interval=(0.4, 0.6))
    axes[0].figure.draw_without_rendering()
    boxes = [ax.texts[0].get_window_extent() for ax in axes]
    drawn = [ax.get_window_extent() for ax in axes]
    assert drawn[0].x1 < boxes[0].x0 and boxes[0].x1 < drawn[1].x0
    assert drawn[1].x1 < boxes[1].x0 and boxes[1].x1 <= axes[0].figure.bbox.x1
    assert boxes[0].y0 < axes[0].transData.transform((1, 0.5))[1] < boxes[0].y1


def test_a_long_name_of_a_reference_takes_few_lines(axes):
    plots.reference(axes[0], 0.5, "mean of the groups")
    assert axes[0].texts[0].get_text() == "mean of\nthe groups"


def test_text_is_legible_on_a_phone(axes, monkeypatch, tmp_path):
    """Six inches shown on 390 pixels: a pixel is a little more than a point."""
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    small, large = axes[0].text(0, 0, "small", size=3), axes[0].text(0, 0, "large", size=20)
    plots.save(axes[0].figure, "one", "smoke")
    assert small.get_size() * 390 / (6 * 72) == pytest.approx(8) and large.get_size() == 20
    assert (tmp_path / "smoke" / "figures" / "one.png").exists()


def test_a_legend_names_every_class_as_it_is_called(axes):
    classes = ("_unknown", "", "$a$", "plain")
    plots.projection(axes[0], [[0.0, 1], [1, 0], [1, 1], [0, 0]], range(4), classes, {"marked": [0]}, names=["$b$"])
    axes[0].figure.draw_without_rendering()
    texts = axes[0].get_legend().get_texts()
    assert [text.get_text().strip() for text in texts] == [*classes, "marked"]
    assert not any(text.get_parse_math() for text in [*texts, *axes[0].texts])
