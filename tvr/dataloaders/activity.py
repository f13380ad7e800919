"""ActivityNet Captions as paragraph retrieval: all sentences of a video are one query."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tvr.dataloaders.annotations import existing_files, json_ids, json_object, refuse_overlaps
from tvr.dataloaders.captions import NOT_LISTED, clean, matched, paragraph_captions
from tvr.dataloaders.records import AnnotatedSplit
from tvr.utils.errors import UserError

PROTOCOLS = ("standard",)
# val_1 is what the literature tests on, which leaves nothing to validate on
VALIDATED_PROTOCOLS: tuple[str, ...] = ()

LISTS = {"train": "train_ids.json", "test": "val_ids.json"}
ANNOTATIONS = {"train": "train.json", "test": "val_1.json"}
LONGEST_S = 1e9  # no video is longer; such a number times a frame rate still is one
VIDEOS = {"train": 10_009, "test": 4_917}


def needed_files(protocol: str, split: str) -> list[tuple[str, ...]]:
    """The list and the annotations of one split."""
    return [(LISTS[split],), (ANNOTATIONS[split],)]


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and paragraphs of split "train" or "test" (val_1) from the folder `anno_path`.

    Only videos that are both listed and annotated are used; the others and empty sentences are
    left out. Raises UserError for a missing or malformed file, an id listed twice or also in the
    test list, an annotation without a usable duration, and one with empty sentences only.
    """
    assert protocol in PROTOCOLS, protocol
    list_file, path = existing_files(anno_path, needed_files(protocol, split))
    listed = json_ids(list_file)
    refuse_overlaps(listed, split, anno_path, LISTS, json_ids)
    annotations = json_object(path)
    found, others = matched(listed, annotations, path)
    sentences: dict[str, list[str]] = {}
    segments: dict[str, tuple[float, float]] = {}
    for video_id, content in found.items():
        where = f"{path}, {video_id}"
        sentences[video_id] = _sentences(content, where)
        segments[video_id] = (0.0, float(math.ceil(_duration(content, where))))
    captions, left_out = paragraph_captions(listed, sentences, path)
    return AnnotatedSplit(
        {caption.video_id: listed[caption.video_id] for caption in captions},
        captions,
        VIDEOS[split],
        VIDEOS[split],
        left_out={**left_out, NOT_LISTED: others},
        segments=segments,
        rows={list_file.name: len(listed), path.name: len(annotations)},
    )


def _sentences(content: object, where: str) -> list[str]:
    said = content.get("sentences") if isinstance(content, dict) else None
    if not isinstance(said, list) or not said:
        raise UserError(
            f"{where}: an object with duration and a list of sentences is needed, not "
            f"{content!r:.80}. Use the published file."
        )
    return [clean(text, f"{where}, sentence {k}") for k, text in enumerate(said, start=1)]


def _duration(content: dict[str, Any], where: str) -> float:
    seconds: Any = content.get("duration")
    if type(seconds) not in (int, float) or not 0 < seconds < LONGEST_S:
        raise UserError(
            f"{where}: the duration is {seconds!r:.80}, a number of seconds above 0 is needed. "
            "Use the published file."
        )
    return seconds
