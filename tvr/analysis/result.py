"""What every figure comes to: a table, a picture of what is in it, and lines that sum it up."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from tvr.utils.errors import UserError
from tvr.utils.files import replacing, write_csv

Cell = str | int | float


class Unavailable(UserError):
    """This run cannot give the figure: there is nothing wrong with it, and it has none to show."""


@dataclass(frozen=True)
class Result:
    """A figure's table, header first, its picture, and what is said about it, line by line."""

    name: str
    rows: list[tuple[Cell, ...]]
    picture: Figure
    said: list[str]

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.csv and NAME.png, each whole or not at all; returns their paths.

        Raises:
            LocalError: one cannot be written.
        """
        pixels = png(self.picture)
        table, picture = folder / f"{self.name}.csv", folder / f"{self.name}.png"
        write_csv(table, (tuple(map(cell, row)) for row in self.rows))
        with replacing(picture) as file:
            file.write(pixels)
        return [picture, table]


def cell(value: Cell) -> str:
    """A value as it stands in a table, numbers with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def png(picture: Figure) -> bytes:
    """The picture, the same bytes for the same content: no date and no version are in it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # captions in scripts that the font lacks show boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        picture.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
