"""VATEX: ten English captions a video, in either of two public forms."""

from __future__ import annotations

from pathlib import Path

from tvr.dataloaders.annotations import existing_files, json_object, listed_ids, refuse_overlaps
from tvr.dataloaders.captions import clean, matched, sentence_captions
from tvr.dataloaders.records import AnnotatedSplit
from tvr.utils.errors import UserError

PROTOCOLS = ("standard",)
VALIDATED_PROTOCOLS = PROTOCOLS

LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
VIDEOS = {"train": 25_991, "val": 1_500, "test": 1_500}
SENTENCES_A_VIDEO = 10
CAPTION_FILES = ("ref_captions.json", "vatex_data.json")
ENGLISH = "enCap"


def needed_files(protocol: str, split: str) -> list[tuple[str, ...]]:
    """The list and the captions of one split."""
    return [(LISTS[split],), CAPTION_FILES]


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and captions of one split from the folder `anno_path`.

    Empty captions are left out. Raises UserError for a missing or malformed file, an id listed
    twice or also in the list of a later split, and a listed video without captions.
    """
    assert protocol in PROTOCOLS, protocol
    list_file, path = existing_files(anno_path, needed_files(protocol, split))
    listed = listed_ids(list_file)
    refuse_overlaps(listed, split, anno_path, LISTS, listed_ids)
    content = json_object(path)
    found, _ = matched(listed, content, path)
    texts = {video_id: _texts(said, f"{path}, {video_id}") for video_id, said in found.items()}
    captions, left_out = sentence_captions(listed, texts, str(path))
    documented = VIDEOS[split], SENTENCES_A_VIDEO * VIDEOS[split]
    rows = {list_file.name: len(listed), path.name: len(content)}
    return AnnotatedSplit(listed, captions, *documented, left_out=left_out, rows=rows)


def _texts(said: object, where: str) -> list[str]:
    captions = said.get(ENGLISH) if isinstance(said, dict) else said
    if not isinstance(captions, list):
        raise UserError(
            f"{where}: a list of captions, or an object with such a list under {ENGLISH}, is "
            f"needed, not {said!r:.80}. Use the published file."
        )
    return [clean(text, f"{where}, caption {k}") for k, text in enumerate(captions, start=1)]
