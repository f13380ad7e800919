"""DiDeMo as paragraph retrieval: all descriptions of a video are one query."""

from __future__ import annotations

from pathlib import Path

from tvr.dataloaders.annotations import existing_files, json_list, listed_ids, refuse_overlaps
from tvr.dataloaders.captions import (
    NOT_LISTED,
    clean,
    known_broken,
    paragraph_captions,
    removed_broken,
)
from tvr.dataloaders.records import AnnotatedSplit, LeftOut
from tvr.dataloaders.videos import look_up, stem
from tvr.utils.errors import UserError

PROTOCOLS = ("standard",)
VALIDATED_PROTOCOLS = PROTOCOLS

LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
ANNOTATIONS = {"train": "train_data.json", "val": "val_data.json", "test": "test_data.json"}
VIDEOS = {"train": 8_392, "val": 1_065, "test": 1_004}
# The descriptions are about the first 30 seconds
SEGMENT = (0.0, 31.0)
UNREADABLE = frozenset(
    {
        "37996615073@N01_3336195519_579ea4136c.3gp",
        "44124421772@N01_2867159874_e39e716b7e.mpg",
        "59627558@N00_4659075184_253744838b.3gp",
    }
)


def needed_files(protocol: str, split: str) -> list[tuple[str, ...]]:
    """The list and the descriptions of one split."""
    return [(LISTS[split],), (ANNOTATIONS[split],)]


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and paragraphs of one split from the folder `anno_path`.

    Only videos that are both listed and described are used; the others and empty descriptions are
    left out. Raises UserError for a missing or malformed file, an id listed twice or also in the
    list of a later split, and a video with empty descriptions only.
    """
    assert protocol in PROTOCOLS, protocol
    list_file, path = existing_files(anno_path, needed_files(protocol, split))
    listed = listed_ids(list_file)
    refuse_overlaps(listed, split, anno_path, LISTS, listed_ids)
    entries = json_list(path)
    names = {stem(video_id): video_id for video_id in listed}
    sentences: dict[str, list[str]] = {}
    others: dict[str, LeftOut] = {}
    for number, row in enumerate(entries, start=1):
        where = f"{path}, entry {number}"
        video = row.get("video")
        if not isinstance(video, str):
            raise UserError(f"{where}: video is {video!r:.80}, a name is needed. Correct it.")
        video_id = look_up(video, names)
        if video_id is None:
            others.setdefault(stem(video), LeftOut(video, where))
        else:
            text = clean(row.get("description"), f"{where} (description)")
            sentences.setdefault(video_id, []).append(text)
    captions, left_out = paragraph_captions(listed, sentences, path)
    used = [caption.video_id for caption in captions]
    removed, excused = removed_broken(listed, UNREADABLE if split == "test" else (), VIDEOS[split])
    return AnnotatedSplit(
        {video_id: listed[video_id] for video_id in used},
        captions,
        VIDEOS[split],
        VIDEOS[split],
        excused,
        excused,
        {**left_out, **removed, NOT_LISTED: list(others.values())},
        segments=dict.fromkeys(used, SEGMENT),
        known_broken=known_broken(used, UNREADABLE),
        rows={list_file.name: len(listed), path.name: len(entries)},
    )
