"""What the pictures have in common: colours that everyone can tell apart, and a grid of panels."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours; lines and marks differ as well, so that grey is enough
BLUE, RED, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
POSITIVE, NEGATIVE = "positive", "negative"
COLOURS = {POSITIVE: BLUE, NEGATIVE: RED}
PANEL = (4.2, 2.9)  # width and height in inches


def panels(rows: int, across: int, title: str) -> tuple[Figure, np.ndarray]:
    """A figure of rows x across panels, and their axes in that shape."""
    figure = Figure(figsize=(across * PANEL[0], rows * PANEL[1] + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, across, squeeze=False)
    for axis in axes.flat:
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    return figure, axes


def label(axis: Axes, title: str, x: str, y: str = "") -> None:
    """Name a panel and its axes, and show what its lines are."""
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=7)
