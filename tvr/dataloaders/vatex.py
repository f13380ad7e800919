"""VATEX: ten English captions a video, in either of two public forms."""

from __future__ import annotations

from pathlib import Path

from tvr.dataloaders.annotations import existing, json_object, listed_ids, refuse_shared
from tvr.dataloaders.captions import EMPTY, clean, counted, matched, sentence_captions
from tvr.dataloaders.records import AnnotatedSplit
from tvr.utils.errors import UserError

PROTOCOLS = ("standard",)
VALIDATED_PROTOCOLS = PROTOCOLS

LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
VIDEOS = {"train": 25_991, "val": 1_500, "test": 1_500}
SENTENCES_A_VIDEO = 10
CAPTION_FILES = ("ref_captions.json", "vatex_data.json")
ENGLISH = "enCap"


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and captions of one split from the folder `anno_path`.

    Empty captions are left out and counted. Raises UserError for a missing or malformed file, an
    id listed twice or also in the test list, and a listed video without captions.
    """
    assert protocol in PROTOCOLS, protocol
    listed = listed_ids(existing(anno_path, LISTS[split]))
    if split != "test" and (anno_path / LISTS["test"]).is_file():
        refuse_shared(listed, listed_ids(anno_path / LISTS["test"]), "test")
    path = _captions_file(anno_path)
    found, _ = matched(listed, json_object(path), path)
    texts = {video_id: _texts(said, f"{path}, {video_id}") for video_id, said in found.items()}
    captions, empty = sentence_captions(listed, texts, str(path))
    documented = VIDEOS[split], SENTENCES_A_VIDEO * VIDEOS[split]
    return AnnotatedSplit(list(listed), captions, *documented, counted({EMPTY: empty}))


def _captions_file(anno_path: Path) -> Path:
    for name in CAPTION_FILES:
        if (anno_path / name).is_file():
            return anno_path / name
    raise UserError(
        f"--anno_path {anno_path}: looked for the captions as {' or '.join(CAPTION_FILES)}; "
        "neither is there. data/README.md says where to get one."
    )


def _texts(said: object, where: str) -> list[str]:
    captions = said.get(ENGLISH) if isinstance(said, dict) else said
    if not isinstance(captions, list):
        raise UserError(
            f"{where}: a list of captions, or an object with such a list under {ENGLISH}, is "
            f"needed, not {said!r:.80}. Use the published file."
        )
    return [clean(text, f"{where}, caption {k}") for k, text in enumerate(captions, start=1)]
