"""Line charts as SVG pictures, one for light and one for dark pages, and what they show in words.

matplotlib is imported when a chart is drawn: nothing else needs it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvr.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.0, 2.4)  # inches
AXES = (0.14, 0.13, 0.84, 0.75)  # left, bottom, width, height as shares of these
FEW_POINTS = 15  # are marked
BAND = 0.15  # opacity
SMALL = 1e-3  # below it, numbers are written with an exponent
# Of light pages, and what takes their place on dark ones: lines, text, grid
LINES = {"#0b57d0": "#8ab4f8", "#9a4300": "#ffb77c", "#0f6b2f": "#7fdb9b", "#6b21a8": "#d7a6f5"}
TEXT, GRID = ("#565d68", "#a9b0ba"), ("#dde1e6", "#33383f")
DARK = LINES | dict([TEXT, GRID])
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # names within the file are the same every time
    "text.parse_math": False,
    **{"text.color": TEXT[0], "xtick.color": TEXT[0], "ytick.color": TEXT[0]},
    **{"axes.edgecolor": TEXT[0], "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none"},
    **{"axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID[0]},
    **{"legend.frameon": False, "legend.borderpad": 0, "legend.columnspacing": 1.5},
}


@dataclass(frozen=True)
class Curve:
    """Values after so many steps; `spread` is drawn above and below them."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    spread: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over the same axes; `lowest` is where the axis begins if the values do not decide."""

    title: str
    curves: list[Curve]
    note: str = ""
    lowest: float | None = None

    def words(self) -> str:
        """What is to be seen, in numbers."""
        return f"Chart. {self.title}. " + " ".join(map(in_words, self.curves))

    def rows(self) -> list[tuple[str, ...]]:
        """The points as a table without its header: steps, then every curve's value there."""
        by_step = [dict(zip(c.steps, c.values, strict=True)) for c in self.curves]
        steps = sorted(set().union(*by_step))
        return [
            (f"{step:,}", *(even(values[step]) if step in values else "" for values in by_step))
            for step in steps
        ]


def in_words(curve: Curve) -> str:
    """Where a curve begins and ends, and its lowest and its highest point."""
    points = list(zip(curve.steps, curve.values, strict=True))
    lowest, highest = (pick(points, key=lambda point: point[1]) for pick in (min, max))
    named = {"first": points[0], "last": points[-1], "lowest": lowest, "highest": highest}
    told = (f"{what} {short(value)} (step {step:,})" for what, (step, value) in named.items())
    return f"{curve.name}: {', '.join(told)}."


def short(value: float) -> str:
    """A number with four digits that count, without zeros at its end."""
    if 0 < abs(value) < SMALL:
        digits, exponent = f"{value:.3e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def even(value: float) -> str:
    """The same with the zeros, for columns."""
    if 0 < abs(value) < SMALL:
        digits, exponent = f"{value:.3e}".split("e")
        return f"{digits}e{int(exponent)}"
    return f"{value:#.4g}"


def drawn(chart: Chart) -> tuple[bytes, bytes]:
    """The chart as SVG for light and for dark pages; equal charts give equal bytes.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib import style
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"matplotlib: {error}. Run pip install -r requirements.txt.") from error
    file = io.BytesIO()
    with style.context(["default", STYLE]):
        figure = Figure(figsize=SIZE)
        draw(chart, figure.add_axes(AXES))
        if len(chart.curves) > 1:
            figure.legend(loc="upper left", bbox_to_anchor=(AXES[0], 1), ncols=len(chart.curves))
        no_date = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(file, metadata=no_date)
    light = file.getvalue().decode()
    dark = re.sub("|".join(DARK), lambda found: DARK[found[0]], light)
    return light.encode(), dark.encode()


def draw(chart: Chart, axes: Axes) -> None:
    """Draw the curves, told apart by colour and by dashes."""
    from matplotlib.ticker import MaxNLocator

    for curve, colour, dash in zip(chart.curves, LINES, DASHES, strict=False):
        (line,) = axes.plot(curve.steps, curve.values, color=colour, linestyle=dash, linewidth=1.6)
        line.set(label=curve.name, marker="o" if len(curve.steps) <= FEW_POINTS else "")
        line.set(markersize=3.5)
        if curve.spread:
            pairs = list(zip(curve.values, curve.spread, strict=True))
            low, high = ([value + sign * by for value, by in pairs] for sign in (-1, 1))
            axes.fill_between(curve.steps, low, high, color=colour, alpha=BAND, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    if chart.lowest is not None:
        axes.set_ylim(bottom=chart.lowest)
