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
