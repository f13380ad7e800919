"""Figure 5: R@1 over the values of α, of λ, or over the rows of any ablation table.

From the tables that `scripts/ablations.sh` has written: mean and standard deviation over seeds
after the last epoch, and the paper's numbers where the data are the paper's.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tvr.analysis.drawing import BLUE, RED, label, panels
from tvr.analysis.result import Cell, Result, Unavailable
from tvr.analysis.subject import Request
from tvr.utils.errors import UserError

NAME = "ablations"
METRIC = "R@1"
STYLES: dict[str, dict[str, Any]] = {
    "t2v": {"color": BLUE, "marker": "o"},
    "v2t": {"color": RED, "marker": "s"},
}
KINDS = ("mean", "sd", "paper")
HEADER = ("table", "row", *(f"{way} {METRIC} {kind}" for way in STYLES for kind in KINDS))
VALUE = re.compile(r"\S+ -?[\d.]+")  # a row named after one value of what is varied: α 0.5
ACROSS = 2
ASIDE = {"t2v": -0.08, "v2t": 0.08}  # of a row's place, so that no bar hides the other


@dataclass(frozen=True)
class Row:
    """A row of a table; per direction (mean, deviation, paper's), NaN for what it has not."""

    name: str
    values: dict[str, tuple[float, ...]]


def make(request: Request) -> Result:
    """All tables in the folder that `--run` names.

    Raises:
        Unavailable: there is none.
        UserError: one cannot be read, or holds no numbers where they should be.
    """
    files = sorted(request.run.glob("*.csv")) if request.run.is_dir() else []
    tables = {file.stem: read(file) for file in files if is_table(file)}
    if not tables:
        raise Unavailable(
            f"{request.run} holds no ablation table. Name the OUTPUT of scripts/ablations.sh."
        )
    said = [
        f"{name}, {way} {METRIC}: "
        + ", ".join(f"{row.name} {row.values[way][0]:.1f}" for row in rows)
        for name, rows in tables.items()
        for way in STYLES
    ]
    return Result(NAME, table(tables), draw(tables), said)


def lines_of(file: Path) -> list[list[str]]:
    """The cells of a CSV file. Raises UserError where it cannot be read."""
    try:
        with file.open(newline="", encoding="utf-8") as text:
            return list(csv.reader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error}).") from error


def is_table(file: Path) -> bool:
    """Whether it has the columns of an ablation table."""
    lines = lines_of(file)
    return bool(lines) and {"row", *HEADER[2:]} <= set(lines[0])


def read(file: Path) -> list[Row]:
    """The rows of a table. Raises UserError for a row without its numbers, or none at all."""
    header, *lines = lines_of(file)
    rows = []
    for number, cells in enumerate(lines, start=2):
        found = dict(zip(header, cells, strict=False))
        try:
            values = {
                way: tuple(float(found[f"{way} {METRIC} {kind}"] or "nan") for kind in KINDS)
                for way in STYLES
            }
        except (KeyError, ValueError) as error:
            raise UserError(f"{file}, line {number}: no number where one should be.") from error
        if any(math.isnan(mean) for mean, *_ in values.values()):
            raise UserError(f"{file}, line {number}: {found['row']} has no mean {METRIC}.")
        rows.append(Row(found["row"], values))
    if not rows:
        raise UserError(f"{file}: has no rows. Let scripts/ablations.sh finish one.")
    return rows


def table(tables: dict[str, list[Row]]) -> list[tuple[Cell, ...]]:
    """All tables after one another; what a row has not is empty."""
    found: list[tuple[Cell, ...]] = [HEADER]
    for name, rows in tables.items():
        for row in rows:
            numbers = (n for way in STYLES for n in row.values[way])
            found.append((name, row.name, *("" if math.isnan(n) else n for n in numbers)))
    return found


def draw(tables: dict[str, list[Row]]) -> Figure:
    """A panel for every table."""
    across = min(ACROSS, len(tables))
    rows = -(-len(tables) // across)
    figure, axes = panels(rows, across, f"{METRIC} after the last epoch, bars: one sd over seeds")
    for axis, (name, lines) in zip(axes.flat, tables.items(), strict=False):
        draw_table(axis, name, lines)
    for axis in axes.flat[len(tables) :]:
        axis.remove()
    return figure


def draw_table(axis: Axes, name: str, rows: list[Row]) -> None:
    """Rows from left to right; those named after a value are joined by a line."""
    joined = np.array([bool(VALUE.fullmatch(row.name)) for row in rows])
    for way, style in STYLES.items():
        places = np.arange(len(rows)) + ASIDE[way]
        mean, deviation, paper = np.array([row.values[way] for row in rows]).T
        bars: dict[str, Any] = {"yerr": np.nan_to_num(deviation), "capsize": 3, "linestyle": "none"}
        axis.errorbar(places, mean, **bars, **style, label=way)
        axis.plot(places[joined], mean[joined], color=style["color"], linewidth=1)
        if not np.isnan(paper).all():
            hollow: dict[str, Any] = {"markerfacecolor": "none", "linestyle": "none", **style}
            axis.plot(places, paper, **hollow, label=f"{way}, paper")
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "fontsize": 7, "parse_math": False}
    axis.set_xticks(range(len(rows)), [row.name for row in rows], **turned)
    label(axis, name, "", METRIC)
