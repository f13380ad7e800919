"""What the address of a request asks for, bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tvr.search.engine import MOST_CHARACTERS
from tvr.utils.errors import UserError

# of a parameter: characters of the query, or its highest value
MOST = {"q": MOST_CHARACTERS, "topk": 100, "candidates": 10_000}


@dataclass(frozen=True)
class Question:
    """What a request asks for."""

    query: str = ""
    topk: int = 10
    candidates: int = 256
    exact: bool = False

    @property
    def has_options(self) -> bool:
        """Whether more is asked for than the query."""
        return self != Question(self.query)


def read_question(arguments: Mapping[str, str]) -> Question:
    """The question in an address, bounded.

    Raises:
        UserError: a number or a switch is not one that may be asked for.
    """
    exact = arguments.get("exact", "0")
    if exact not in ("0", "1"):
        raise UserError(f"exact={shorten(exact)}: use 1 to score every video exactly, or 0.")
    return Question(
        arguments.get("q", ""),
        read_number(arguments, "topk", Question.topk),
        read_number(arguments, "candidates", Question.candidates),
        exact == "1",
    )


def read_number(arguments: Mapping[str, str], name: str, default: int) -> int:
    """A number from 1 to the most of that name.

    Raises:
        UserError: it is not.
    """
    most = MOST[name]
    text = arguments.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise UserError(f"{name}={shorten(text)}: a whole number from 1 to {most:,} is needed.")
    return int(text)


def shorten(text: str) -> str:
    """As much of a value as its error message needs."""
    return text if len(text) <= 40 else text[:40] + "…"
