"""From the texts found in annotation files to captions, the same way for every benchmark."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tvr.dataloaders.records import Caption, LeftOut
from tvr.dataloaders.videos import look_up, stem
from tvr.utils.errors import UserError

EMPTY = "empty captions"
NOT_LISTED = "annotated videos that are not in the list"
NOT_ANNOTATED = "listed videos without annotation"


def clean(text: object, where: str) -> str:
    """`text` without surrounding whitespace; may be empty. UserError if it is not a string.

    Half of a surrogate pair (an escape that was cut in two) cannot be encoded as UTF-8 and
    becomes a replacement character.
    """
    if not isinstance(text, str):
        kind = type(text).__name__
        raise UserError(f"{where}: the caption is of type {kind}, a string is needed. Correct it.")
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.strip()


def matched(
    listed: Mapping[str, str], annotated: Mapping[Any, Any], path: Path
) -> tuple[dict[str, Any], list[LeftOut]]:
    """The annotations of the listed videos under their listed ids, and the others.

    Ids match with or without extension and `v_`. Raises UserError for an id that is not a string
    and for two annotations of one video.
    """
    names = {stem(video_id): video_id for video_id in listed}
    found: dict[str, Any] = {}
    others: list[LeftOut] = []
    place = str(path)
    for annotated_id, content in annotated.items():
        if not isinstance(annotated_id, str):
            kind = type(annotated_id).__name__
            raise UserError(f"{path}: an id is of type {kind}, a string is needed. Correct it.")
        video_id = look_up(annotated_id, names)
        if video_id is None:
            others.append(LeftOut(annotated_id, place))
        elif video_id in found:
            raise UserError(
                f"{path}: {video_id} is annotated twice (with and without v_ or extension). "
                "Remove one of the two entries."
            )
        else:
            found[video_id] = content
    return found, others


def sentence_captions(
    listed: Mapping[str, str], texts: Mapping[str, list[str]], source: str
) -> tuple[list[Caption], dict[str, list[LeftOut]]]:
    """One caption a text, in the order of `listed`, and what was left out: empty texts.

    Raises UserError, naming the place in the list, if a listed video has no text in `source`.
    """
    silent = [video_id for video_id in listed if not any(texts.get(video_id, ()))]
    if silent:
        raise UserError(
            f"{listed[silent[0]]}: {silent[0]} has no caption in {source} ({len(silent):,} of "
            f"{len(listed):,} listed videos have none). Get the complete captions file, or remove "
            "the ids."
        )
    captions = [
        Caption(f"{video_id}#{k}", video_id, text)
        for video_id in listed
        for k, text in enumerate(filter(None, texts[video_id]))
    ]
    return captions, {EMPTY: _empty(listed, texts, source, "caption")}


def paragraph_captions(
    listed: Mapping[str, str], sentences: Mapping[str, list[str]], path: Path
) -> tuple[list[Caption], dict[str, list[LeftOut]]]:
    """One caption a video with sentences, joined by spaces, and what was left out.

    That is listed videos without sentences, and empty sentences. Raises UserError if no listed
    video has sentences, or one has only empty ones.
    """
    captions = []
    for video_id in listed:
        said = sentences.get(video_id, [])
        kept = [sentence for sentence in said if sentence]
        if said and not kept:
            raise UserError(
                f"{path}: {video_id} has only empty sentences. Fill them in or remove the entry."
            )
        if kept:
            captions.append(Caption(f"{video_id}#0", video_id, " ".join(kept)))
    if not captions:
        some = next(iter(listed))
        raise UserError(
            f"{listed[some]}: neither {some} nor another listed video is in {path}. "
            "Use the list and the annotations of the same split."
        )
    silent = [
        LeftOut(video_id, listed[video_id]) for video_id in listed if video_id not in sentences
    ]
    empty = _empty(listed, sentences, str(path), "sentence")
    return captions, {NOT_ANNOTATED: silent, EMPTY: empty}


def _empty(
    listed: Mapping[str, str], texts: Mapping[str, list[str]], source: str, kind: str
) -> list[LeftOut]:
    return [
        LeftOut(video_id, f"{source}, {video_id}, {kind} {number}")
        for video_id in listed
        for number, text in enumerate(texts.get(video_id, ()), start=1)
        if not text
    ]


def known_broken(video_ids: Iterable[str], names: frozenset[str]) -> frozenset[str]:
    """Those of `video_ids` that are among `names`, with or without extension."""
    stems = {stem(name) for name in names}
    return frozenset(video_id for video_id in video_ids if stem(video_id) in stems)


def removed_broken(
    listed: Collection[str], names: Collection[str], documented: int
) -> tuple[dict[str, list[LeftOut]], int]:
    """What makes a list shorter than documented with good reason: videos of `names`.

    Returns those that it lacks, under the reason that names them, and by how many videos it is
    short; nothing and 0 if it is not short, or by more than they explain.
    """
    stems = set(map(stem, listed))
    absent = sorted(name for name in names if stem(name) not in stems)
    short = documented - len(listed)
    if not 0 < short <= len(absent):
        return {}, 0
    reason = f"known broken videos that are not in the list ({', '.join(absent)})"
    return {reason: [LeftOut(name) for name in absent]}, short
