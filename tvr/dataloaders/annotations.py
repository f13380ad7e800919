"""Annotation files as plain rows and ids, with errors that name the file and the row."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tvr.dataloaders.videos import look_up, stem
from tvr.utils.errors import UserError

# How a file begins that is not what its name says, what that is, and what to do
OTHER_KINDS = (
    (b"<", "a web page (HTML or XML)", "Download the file itself"),
    (b"version https://git-lfs", "a git-lfs pointer", "Get what it stands for: git lfs pull"),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip"),
    (b"PK\x03\x04", "a zip archive", "Unpack it: unzip"),
)


def first_there(anno_path: Path, names: tuple[str, ...]) -> Path | None:
    """The first of some interchangeable files that is in the annotation folder, if any is."""
    paths = (anno_path / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def existing_files(anno_path: Path, needed: list[tuple[str, ...]]) -> list[Path]:
    """For each group of interchangeable names, the first file that is in the annotation folder.

    Raises UserError, naming all of them, for groups of which none is there.
    """
    found = {names: first_there(anno_path, names) for names in needed}
    missing = [" or ".join(names) for names, path in found.items() if path is None]
    if missing:
        raise UserError(
            f"--anno_path {anno_path}: not there: {'; '.join(missing)}. "
            "data/README.md says what they are."
        )
    return [path for path in found.values() if path is not None]


def read_content(path: Path) -> bytes:
    """The bytes of an annotation file, without a byte-order mark.

    Raises UserError if it cannot be read, or is a page, a pointer or an archive by its looks.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Get it again.") from error
    beginning = content[:1000].lstrip()
    for sign, kind, way_out in OTHER_KINDS:
        if beginning.startswith(sign):
            raise UserError(f"{path}: it looks like {kind}, not annotations. {way_out}.")
    return content


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, with or without a byte-order mark.

    Raises UserError as `read_content` and, naming the line, if it is not UTF-8.
    """
    content = read_content(path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8. Get the file "
            "again, or convert it (if it is Latin-1: iconv -f latin1 -t utf-8)."
        ) from error


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (where, line) for each line that is not blank, without its line end.

    `where` names the file and the line. Lines end with a line feed only: a sentence may hold
    characters that `str.splitlines` takes for ends. Where the file has none at all, they end
    with a carriage return, as in files of old Macs. Raises UserError as `read_text`.
    """
    text = read_text(path)
    for number, line in enumerate(text.split("\n" if "\n" in text else "\r"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.rstrip("\r")


def csv_rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (where, row) for each data row of a CSV file, UTF-8 with or without BOM.

    `where` names the file and the row, ready to start an error message; the row's values have
    no surrounding whitespace, and a value that is not there is an empty string. Raises UserError
    if the file cannot be read, lacks one of the `needed` columns, or a row has more fields than
    the header (a comma outside quotes would otherwise cut a sentence silently).
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    # DictReader's own line_num stays behind at a row that cannot be read
    lines = reader.reader
    complete = 0
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
        if not set(needed) <= set(columns):
            raise UserError(
                f"{path}: the columns are {', '.join(columns) or '(none)'}, but "
                f"{', '.join(needed)} are needed. Use the published file, header included."
            )
        reader.fieldnames = columns
        complete = lines.line_num
        for number, row in enumerate(reader, start=1):
            complete = lines.line_num
            where = f"{path}, row {number} (line {complete})"
            if None in row:
                raise UserError(
                    f"{where}: more fields than the {len(columns)} columns of the header. "
                    "Put double quotes around a sentence that contains a comma."
                )
            yield where, {name: (value or "").strip() for name, value in row.items()}
    except csv.Error as error:
        first, last = complete + 1, lines.line_num
        place = f"lines {first} to {last}" if first < last else f"line {last}"
        raise UserError(
            f"{path}, {place}: not readable as CSV ({error}). Correct the quotes, or get it again."
        ) from error


def unique_ids(path: Path) -> dict[str, str]:
    """The ids of a CSV file's column `video_id` in file order, each with its place in the file.

    Raises UserError as `csv_rows` and `unique`.
    """
    return unique(path, ((where, row["video_id"]) for where, row in csv_rows(path, ("video_id",))))


def listed_ids(path: Path) -> dict[str, str]:
    """The ids of a file with one id a line, in file order, each with its place in the file.

    Blank lines do not count. Raises UserError for a line with more than an id, and as `unique`.
    """
    places = unique(path, ((where, line.strip()) for where, line in text_lines(path)))
    for video_id, where in places.items():
        if any(sign in video_id for sign in ",\t\r<"):
            raise UserError(
                f"{where}: {video_id!r} is not one id. Use the published list, one id a line."
            )
    return places


def json_ids(path: Path) -> dict[str, str]:
    """The ids of a JSON list of strings, in file order, each with its place in the file.

    Raises UserError for anything else than strings, and as `unique`.
    """
    content = _json(path)
    if not isinstance(content, list) or not all(isinstance(row, str) for row in content):
        raise UserError(f"{path}: a JSON list of video ids is needed. Use the published file.")
    named = ((f"{path}, id {i}", row.strip()) for i, row in enumerate(content, start=1))
    return unique(path, named)


def unique(path: Path, rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The ids of rows (where, id) of the file, in their order, each with its place in the file.

    Raises UserError for an empty id, an id that occurs twice (with or without extension and
    `v_`), and a file without ids.
    """
    places: dict[str, str] = {}
    names: dict[str, str] = {}
    for where, video_id in rows:
        if not video_id:
            raise UserError(f"{where}: the video id is empty. Fill it in or remove the row.")
        first = look_up(video_id, names)
        if first is not None:
            raise UserError(
                f"{where}: {video_id} is listed a second time (first: {places[first]}). "
                "Remove one of the two rows."
            )
        names[stem(video_id)] = video_id
        places[video_id] = where
    if not places:
        raise UserError(f"{path}: it lists no videos. Use the published file.")
    return places


def refuse_overlaps(
    listed: dict[str, str],
    split: str,
    anno_path: Path,
    names: Mapping[str, str],
    read: Callable[[Path], dict[str, str]],
) -> None:
    """Raises UserError if a video of `split` is also in the list of a later split.

    `names` has the names of the list files in the order of the splits, training first. Those that
    are not in the annotation folder are passed over: a run needs only some of them.
    """
    splits = list(names)
    for later in splits[splits.index(split) + 1 :]:
        path = anno_path / names[later]
        if path.is_file():
            refuse_shared(listed, read(path), later)


def refuse_shared(listed: dict[str, str], others: dict[str, str], kind: str) -> None:
    """Raises UserError if a video of one list is also in that of the split `kind`.

    Both map ids to places.
    """
    names = {stem(video_id): video_id for video_id in others}
    for video_id, where in listed.items():
        other = look_up(video_id, names)
        if other is not None:
            raise UserError(
                f"{where}: {video_id} is also a {kind} video ({others[other]}). Using it for both "
                f"would spoil the {kind} results: remove it from the first list."
            )


def json_list(path: Path, key: str | None = None) -> list[dict[str, Any]]:
    """The list of objects under `key` of a JSON object, or at the top if `key` is None.

    Raises UserError if the file cannot be read, is not valid JSON (cut off, for example), or has
    no such list.
    """
    content = rows = _json(path)
    if key is not None:
        rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        place = "at the top" if key is None else f'under "{key}"'
        seen = ", ".join(sorted(content)[:10]) if isinstance(content, dict) else "no object"
        raise UserError(
            f"{path}: a list of objects {place} is needed; seen at the top: {seen}. "
            "Use the published file."
        )
    return rows


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object; UserError for anything else and for a key that occurs twice in an object."""

    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise UserError(f"{path}: {twice!r} occurs twice. Remove one of the two entries.")
        return content

    content = _json(path, without_repeats)
    if not isinstance(content, dict):
        raise UserError(f"{path}: an object from video ids is needed. Use the published file.")
    return content


def _json(path: Path, object_pairs_hook: Any = None) -> Any:
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not valid JSON ({error}); the file may be cut off. Get it again."
        ) from error
