"""What a figure has written, read again by other means than wrote it."""

import csv

from PIL import Image


def rows_of(folder, name):
    """The rows of a figure's CSV, each a dictionary of texts; its picture has to be one, too."""
    with Image.open(folder / f"{name}.png") as picture:
        picture.load()
        assert min(picture.size) > 200
        assert not {"date", "creation time", "software"} & {key.lower() for key in picture.info}
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(rows, column):
    """A column's numbers; what is empty is left out."""
    return [float(row[column]) for row in rows if row[column]]
