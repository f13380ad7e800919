"""What all our pages have in common: how templates are filled in, and how values are shown.

Their common templates are in `templates/`, the common part of their style sheets is
`static/base.css`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent
STATIC, BASE_STYLE = HERE / "static", "base.css"
# Control characters, and what stands for the bytes of a file name that is not UTF-8
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def environment(folder: Path) -> Environment:
    """A folder's templates, with everything escaped and every missing name an error."""
    made = Environment(
        loader=FileSystemLoader([folder, HERE / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(duration=duration, size=size)
    return made


def style(own: Path) -> Markup:
    """The common style sheet and a page's own, to be put inside that page."""
    sheets = (STATIC / BASE_STYLE, own)
    return Markup("\n".join(sheet.read_text("utf-8") for sheet in sheets))


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
