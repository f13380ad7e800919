"""Draws the picture at the top of README.md: how a text and a video come to a score.

python -m scripts.method_figure docs/images/method.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from tvr.analysis.drawing import BLACK, BLUE, GREEN, RED

SIZE = (10.0, 3.4)  # inches, in which all places below are, from the lower left corner
DPI = 100
TEXT_Y, GAP_Y, VIDEO_Y = 2.85, 1.7, 0.55
HEIGHT = 0.62  # of a box
# x and y of its middle, its width, what it says, its colour
BOXES = (
    (0.8, TEXT_Y, 1.44, "“a red disc\nmoves left”", BLACK),
    (2.4, TEXT_Y, 1.1, "CLIP's text\nencoder", BLACK),
    (2.4, VIDEO_Y, 1.1, "CLIP's image\nencoder, time", BLACK),
    (4.5, GAP_Y, 1.1, "gap\n$\\bar{v}_j - t_i$", GREEN),
    (6.1, GAP_Y, 1.2, "ψ attends to\nthe frames", RED),
    (7.7, TEXT_Y, 1.2, "$t_i + \\Delta_{ij}$", RED),
    (7.7, VIDEO_Y, 1.3, "$p_{ij}$: frames\nweighted by $t_i$", BLUE),
    (9.3, GAP_Y, 1.2, "score $s_{ij}$:\ntheir cosine", BLACK),
)
# from where to where, what is written beside it, and its place
ARROWS = (
    ((1.52, TEXT_Y), (1.83, TEXT_Y), "", (0.0, 0.0)),
    ((1.52, VIDEO_Y), (1.83, VIDEO_Y), "", (0.0, 0.0)),
    ((2.97, TEXT_Y), (7.08, TEXT_Y), "$t_i$", (3.1, TEXT_Y + 0.15)),
    ((2.97, VIDEO_Y), (7.03, VIDEO_Y), "frame features", (3.1, VIDEO_Y + 0.15)),
    ((4.5, TEXT_Y), (4.5, GAP_Y + 0.33), "", (0.0, 0.0)),
    ((4.5, VIDEO_Y), (4.5, GAP_Y - 0.33), "their mean $\\bar{v}_j$", (4.56, 1.12)),
    ((5.07, GAP_Y), (5.48, GAP_Y), "", (0.0, 0.0)),
    ((6.1, VIDEO_Y), (6.1, GAP_Y - 0.33), "", (0.0, 0.0)),
    ((6.72, GAP_Y), (7.7, TEXT_Y - 0.33), "$\\Delta_{ij}$", (6.95, 2.3)),
    ((8.32, TEXT_Y), (9.3, GAP_Y + 0.33), "", (0.0, 0.0)),
    ((8.37, VIDEO_Y), (9.3, GAP_Y - 0.33), "", (0.0, 0.0)),
)
FRAMES = 3


def disc_frames(side: int = 60) -> np.ndarray:
    """Frames (FRAMES, side, side, 3), 0 to 1, of a red disc that moves to the left."""
    rows, columns = np.mgrid[:side, :side] / side
    frames = np.full((FRAMES, side, side, 3), 0.93)
    for frame, x in zip(frames, np.linspace(0.72, 0.28, FRAMES), strict=True):
        frame[(rows - 0.5) ** 2 + (columns - x) ** 2 < 0.2**2] = (0.84, 0.15, 0.16)
    return frames


def draw(axis: Axes) -> None:
    """The whole picture, on axes whose units are inches."""
    for start, end, text, place in ARROWS:
        arrow = {"arrowstyle": "->", "color": "#555555", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", end, start, arrowprops=arrow)
        axis.text(*place, text, fontsize=10, va="center")
    for x, y, width, text, colour in BOXES:
        corner, style = (x - width / 2, y - HEIGHT / 2), "round,pad=0,rounding_size=0.08"
        box = FancyBboxPatch(corner, width, HEIGHT, style, fc="white", ec=colour, lw=1.4)
        axis.add_patch(box)
        axis.text(x, y, text, fontsize=10, ha="center", va="center", color=colour)
    for number, frame in enumerate(disc_frames()):
        left, bottom = 0.1 + 0.48 * number, VIDEO_Y - 0.22
        axis.imshow(frame, extent=(left, left + 0.44, bottom, bottom + 0.44))


def main(path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=SIZE, dpi=DPI)
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    draw(axis)
    axis.set(xlim=(0, SIZE[0]), ylim=(0, SIZE[1]), aspect="equal")
    axis.set_axis_off()
    figure.savefig(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
