"""JSON files that are not trusted: every value is checked as it is taken out."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tvr.utils.errors import UserError

LARGEST = 2**53  # up to which every whole number is a float
NUMBER, PLAIN = (int, float), (str, int, float, bool, type(None))
ADVICE = "Name the output folder of a run that has come to an evaluation."


class Content:
    """An object of a JSON file; `place` says where in the file it is.

    Raises:
        UserError: a value is missing or of another kind, in every method.
    """

    def __init__(self, path: Path, values: Any, place: str = "") -> None:
        self.path, self.place = path, place
        if not isinstance(values, dict):
            raise self.wrong("", "is no object")
        self.values = values

    def wrong(self, name: str, what: str) -> UserError:
        """The error about a value."""
        at = self._place_of(name) or "the whole"
        return UserError(f"{self.path}: {at} {what}. {ADVICE}")

    def take(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """The value called `name`, of that kind. A switch is no number; a number is not huge."""
        if name not in self.values:
            raise self.wrong(name, "is missing")
        value = self.values[name]
        if type(value) not in (kind if isinstance(kind, tuple) else (kind,)):
            raise self.wrong(name, "is of another kind")
        if type(value) in NUMBER and not is_number(value):
            raise self.wrong(name, "is no number that a run writes")
        return value

    def one_of(self, name: str, choices: Collection[Any]) -> Any:
        """The value called `name`, which has to be one of the choices."""
        value = self.take(name, PLAIN)
        if value not in choices:
            raise self.wrong(name, f"is none of {', '.join(map(str, choices))}")
        return value

    def at_least_0(self, name: str, kind: type | tuple[type, ...] = int) -> Any:
        """The number called `name`, which must not be below 0."""
        value = self.take(name, kind)
        if value is not None and value < 0:
            raise self.wrong(name, "is below 0")
        return value

    def inner(self, name: str) -> Content:
        """The object called `name`."""
        return Content(self.path, self.take(name, dict), self._place_of(name))

    def each(self, name: str) -> list[Content]:
        """The objects in the list called `name`, one at least."""
        values = self.take(name, list)
        if not values:
            raise self.wrong(name, "is empty")
        place = self._place_of(name)
        return [Content(self.path, v, f"{place}[{i}]") for i, v in enumerate(values)]

    def plain(self, name: str) -> dict[str, Any]:
        """The object called `name`, which holds texts, numbers, switches and nulls only."""
        inner = self.inner(name)
        return {each: inner.take(each, PLAIN) for each in inner.values}

    def _place_of(self, name: str) -> str:
        return ".".join(filter(None, (self.place, name)))


def read_content(path: Path) -> Content:
    """A JSON file that holds an object. Raises UserError where it is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: is not there. {ADVICE}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged: no JSON. Run again.") from error
    return Content(path, values)


def is_number(value: Any) -> bool:
    """Whether it is a number that a run may write: no switch, no NaN, and not huge."""
    return type(value) in NUMBER and abs(value) <= LARGEST
