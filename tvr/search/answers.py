"""Queries from a file, and answers as text for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tvr.search.engine import MOST_CHARACTERS, Answer, Hit
from tvr.utils.errors import UserError
from tvr.utils.terminal import printable

COLUMNS = ("rank", "score", "first rank", "first score", "seconds", "path")
GONE = " (no longer there)"


def read_queries(path: Path) -> list[str]:
    """The lines of a UTF-8 file; blank ones are passed over.

    Raises:
        UserError: it cannot be read, is not UTF-8, or has no query or one that is too long.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"--file {path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"--file {path}, line {line}: not UTF-8. Save it as UTF-8.") from error
    queries = [line.strip() for line in text.split("\n")]
    for line, query in enumerate(queries, start=1):
        if len(query) > MOST_CHARACTERS:
            raise UserError(
                f"--file {path}, line {line}: has {len(query):,} characters; give at most "
                f"{MOST_CHARACTERS:,}."
            )
    if not any(queries):
        raise UserError(f"--file {path}: holds no query. Write one a line.")
    return [query for query in queries if query]


def as_json(answers: list[Answer], folder: Path) -> str:
    """ASCII JSON. Bytes of a path that are not UTF-8 are lone surrogates, as in Python."""
    return json.dumps([described(answer, folder) for answer in answers], indent=2)


def described(answer: Answer, folder: Path) -> dict:
    """An answer as plain data; of each hit also whether its file is still there."""
    hits = [asdict(hit) | {"there": is_there(hit, folder)} for hit in answer.hits]
    return asdict(answer) | {"folder": str(folder), "hits": hits}


def as_table(answers: list[Answer], folder: Path) -> str:
    """One table a query."""
    return "\n\n".join(one_table(answer, folder) for answer in answers)


def one_table(answer: Answer, folder: Path) -> str:
    rows = [COLUMNS]
    for hit in answer.hits:
        rows.append(
            (
                str(hit.rank),
                f"{hit.score:.4f}",
                str(hit.first_rank),
                f"{hit.first_score:.4f}",
                "?" if hit.seconds is None else f"{hit.seconds:.1f}",
                printable(hit.path) + ("" if is_there(hit, folder) else GONE),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # paths are last and of any length
    widths[-1] = 0
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    head = (
        f"{printable(answer.query)}\n{answer.candidates:,} of {answer.gallery:,} videos scored in "
        f"{answer.seconds:.2f} s"
    )
    return "\n".join([head, *lines])


def is_there(hit: Hit, folder: Path) -> bool:
    return (folder / hit.path).exists()
