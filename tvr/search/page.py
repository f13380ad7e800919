"""The results of a search as a document of its own, and what the server's page shares with it.

The templates are in `templates/`, the style sheet is in `static/`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from tvr.search.engine import Answer, Hit

HERE = Path(__file__).parent
# Control characters, and what stands for the bytes of a file name that is not UTF-8
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


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
    style = (HERE / "static" / "style.css").read_text("utf-8")
    shown = [
        (answer, [inline_card(hit, preview(hit.row)) for hit in answer.hits]) for answer in answers
    ]
    template = environment().get_template("results.html")
    return template.render(answers=shown, facts=facts, style=Markup(style))


def inline_card(hit: Hit, preview: bytes) -> Card:
    """A hit with its pictures as data: addresses."""
    if not preview:
        return Card(hit)
    return Card(hit, data_address(preview), data_address(still_of(preview)))


def data_address(webp: bytes) -> str:
    """The picture itself as an address."""
    return "data:image/webp;base64," + b64encode(webp).decode("ascii")


def still_of(preview: bytes) -> bytes:
    """The first frame of an animated WebP, as a WebP."""
    still = BytesIO()
    with Image.open(BytesIO(preview)) as image:
        image.convert("RGB").save(still, "WEBP", quality=80)
    return still.getvalue()


def environment() -> Environment:
    """The templates, with everything escaped and every missing name an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(duration=duration, size=size)
    return made


def printable(value: Any) -> Any:
    """What a template shows; in a text, what HTML may not hold becomes a replacement character."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return UNPRINTABLE.sub("\ufffd", value)
    return value


def duration(seconds: float | None) -> str:
    """`4.2 s`, `1:05`, `1:02:03`, or that it is not known."""
    if seconds is None:
        return "length unknown"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """A number of bytes as people read it: `812 bytes`, `3.4 kB`, `12.0 MB`."""
    if count < 1000:
        return f"{count} byte" if count == 1 else f"{count} bytes"
    amount, unit = count / 1e3, "kB"
    for larger in ("MB", "GB", "TB"):
        if amount < 999.95:
            break
        amount, unit = amount / 1e3, larger
    return f"{amount:.1f} {unit}"
