"""The results of a search as a document of its own, and what the server's page shares with it.

The templates are in `templates/`, the style sheet is in `static/`; what other pages have as well is
in `tvr/pages/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tvr.pages.html import environment, style
from tvr.pages.pictures import data_address, still_of
from tvr.search.engine import Answer, Hit

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"


@dataclass(frozen=True)
class Card:
    """A hit as it is shown, with the addresses of its pictures and of the video where they are."""

    hit: Hit
    moving: str | None = None
    still: str | None = None
    video: str | None = None
    trouble: str = ""  # why the video cannot be opened

    @property
    def folders(self) -> str:
        """The path up to the file's name, with its last slash; empty for a file at the top."""
        return self.hit.path[: len(self.hit.path) - len(self.name)]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.hit.path.rpartition("/")[2]


def results_page(
    answers: list[Answer], preview: Callable[[int], bytes], facts: dict[str, str]
) -> str:
    """One HTML document with everything inside: no script, no other file, no network.

    `preview` gives the animated WebP of a row of the index, or nothing where there is none;
    `facts` tell about the index.
    """
    shown = [
        (answer, [inline_card(hit, preview(hit.row)) for hit in answer.hits]) for answer in answers
    ]
    template = environment(TEMPLATES).get_template("results.html")
    own = HERE / "static" / "style.css"
    return template.render(answers=shown, facts=facts, style=style(own))


def inline_card(hit: Hit, preview: bytes) -> Card:
    """A hit with its pictures as data: addresses."""
    if not preview:
        return Card(hit)
    return Card(hit, data_address(preview), data_address(still_of(preview)))
