"""Text that others have written, on a terminal."""

from __future__ import annotations

import io
import sys


def show_escapes() -> None:
    """From now on, what the terminal cannot show is printed as its escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def complain(text: str) -> None:
    """Print the lines of a text on stderr, each as `printable` has it."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text without anything that moves a terminal's cursor or is not seen: as escapes."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
