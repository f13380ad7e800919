"""Annotation files as plain rows, with errors that name the file and the row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvr.utils.errors import UserError


def csv_rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (where, row) for each data row of a CSV file, UTF-8 with or without BOM.

    `where` names the file and the row, ready to start an error message; the row's values have
    no surrounding whitespace, and a value that is not there is an empty string. Raises UserError
    if the file cannot be read, lacks one of the `needed` columns, or a row has more fields than
    the header (a comma outside quotes would otherwise cut a sentence silently).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            if not set(needed) <= set(columns):
                raise UserError(
                    f"{path}: the columns are {', '.join(columns) or '(none)'}, but "
                    f"{', '.join(needed)} are needed. Use the published file, header included."
                )
            reader.fieldnames = columns
            for number, row in enumerate(reader, start=1):
                where = f"{path}, row {number} (line {reader.line_num})"
                if None in row:
                    raise UserError(
                        f"{where}: more fields than the {len(columns)} columns of the header. "
                        "Put double quotes around a sentence that contains a comma."
                    )
                yield where, {name: (value or "").strip() for name, value in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable as UTF-8 CSV ({error}). Get it again.") from error


def unique_ids(path: Path, column: str = "video_id") -> dict[str, str]:
    """The ids of one CSV column in file order, each with its place in the file.

    Raises UserError for an empty id, an id that occurs twice, and a list without rows.
    """
    places: dict[str, str] = {}
    for where, row in csv_rows(path, (column,)):
        video_id = row[column]
        if not video_id:
            raise UserError(f"{where}: the {column} is empty. Fill it in or remove the row.")
        if video_id in places:
            raise UserError(
                f"{where}: {video_id} is listed a second time (first: {places[video_id]}). "
                "Remove one of the two rows."
            )
        places[video_id] = where
    if not places:
        raise UserError(f"{path}: no rows below the header. Use the published file.")
    return places


def json_list(path: Path, key: str) -> list[dict[str, Any]]:
    """The list of objects under `key` of a JSON object.

    Raises UserError if the file cannot be read, is not valid JSON (cut off, for example), or has
    no such list.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not valid JSON ({error}); the file may be cut off. Get it again."
        ) from error
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        seen = ", ".join(sorted(content)[:10]) if isinstance(content, dict) else "no object"
        raise UserError(
            f'{path}: a list of objects under "{key}" is needed; seen at the top: {seen}. '
            "Use the published file."
        )
    return rows
