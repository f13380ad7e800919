"""MSR-VTT: two training protocols of the 1k-A split, and the full official split."""

from __future__ import annotations

from pathlib import Path

from tvr.dataloaders.annotations import csv_rows, existing, json_list, refuse_shared, unique_ids
from tvr.dataloaders.captions import clean, sentence_captions
from tvr.dataloaders.records import AnnotatedSplit, Caption
from tvr.utils.errors import UserError

PROTOCOLS = ("9k", "7k", "full")
# 9k + test is all of MSR-VTT: that leaves no videos for validation
VALIDATED_PROTOCOLS = ("7k", "full")

TRAIN_LISTS = {"9k": "MSRVTT_train.9k.csv", "7k": "MSRVTT_train.7k.csv"}
TRAIN_VIDEOS = {"9k": 9_000, "7k": 7_010}
TEST_LIST = "MSRVTT_JSFUSION_test.csv"
TEST_VIDEOS = 1_000
SENTENCES_A_VIDEO = 20

# The organisers' own split: N of the ids video{N}
OFFICIAL = {"train": range(6_513), "val": range(6_513, 7_010), "test": range(7_010, 10_000)}

# The public forms of the captions, best first: files, key of the list, key of the video id
CAPTION_FORMS = (
    (("MSRVTT_data.json",), "sentences", "video_id"),
    (("MSR_VTT.json",), "annotations", "image_id"),
    (("train_val_videodatainfo.json", "test_videodatainfo.json"), "sentences", "video_id"),
)


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and captions of one split from the folder `anno_path`.

    The tests of "9k" and "7k" are 1k-A's. The list of "7k" is the organisers' training and
    validation videos together: for a validation that is honest, the latter are not trained on.
    Videos come in the order of the list ("full" and validation: in the order of their numbers),
    a video's captions in the order of the captions file, so the result is the same for every
    public form of the captions. Raises UserError, naming file and row, for a missing or malformed
    file, a row without a caption, an id listed twice or in two splits, a training id without any
    caption, and a captions file without any official video of the split.
    """
    assert protocol in PROTOCOLS, protocol
    assert split in ("train", "test") or (split == "val" and protocol in VALIDATED_PROTOCOLS)
    if protocol == "full":
        return _read_official(anno_path, split)
    test_list = anno_path / TEST_LIST
    if split == "test":
        return _read_test(existing(anno_path, TEST_LIST))
    tested = unique_ids(test_list) if test_list.is_file() else {}
    if split == "val":
        annotated = _read_official(anno_path, split)
        numbered = dict.fromkeys(annotated.video_ids, f"the official {split} videos")
        refuse_shared(numbered, tested, "test")
        return annotated
    listed = unique_ids(existing(anno_path, TRAIN_LISTS[protocol]))
    refuse_shared(listed, tested, "test")
    return _read_train(anno_path, protocol, listed)


def _read_test(path: Path) -> AnnotatedSplit:
    captions = []
    for where, row in csv_rows(path, ("video_id", "sentence")):
        if not row["sentence"]:
            raise UserError(
                f"{where}: {row['video_id'] or 'the row'} has no caption (column sentence). "
                "Fill it in; leaving it out would change the test set."
            )
        captions.append(Caption(f"{row['video_id']}#0", row["video_id"], row["sentence"]))
    return AnnotatedSplit(list(unique_ids(path)), captions, TEST_VIDEOS, TEST_VIDEOS)


def _read_train(anno_path: Path, protocol: str, listed: dict[str, str]) -> AnnotatedSplit:
    left_out = {}
    if protocol in VALIDATED_PROTOCOLS:
        validated = listed.keys() & set(_official_ids("val"))
        if validated:
            left_out["validation videos"] = len(validated)
        listed = {v: where for v, where in listed.items() if v not in validated}
    texts, source = _texts(anno_path, list(listed))
    captions, _ = sentence_captions(listed, texts, source)
    documented = TRAIN_VIDEOS[protocol]
    return AnnotatedSplit(
        list(listed), captions, documented, SENTENCES_A_VIDEO * documented, left_out
    )


def _official_ids(split: str) -> list[str]:
    return [f"video{number}" for number in OFFICIAL[split]]


def _read_official(anno_path: Path, split: str) -> AnnotatedSplit:
    ids = _official_ids(split)
    texts, source = _texts(anno_path, ids)
    listed = {video_id: source for video_id in ids if texts[video_id]}
    if not listed:
        raise UserError(
            f"{source}: no captions of the {len(ids):,} official {split} videos ({ids[0]} to "
            f"{ids[-1]}). Get a captions file that has them."
        )
    captions, _ = sentence_captions(listed, texts, source)
    silent = len(ids) - len(listed)
    left_out = {f"official {split} videos without a caption": silent} if silent else {}
    return AnnotatedSplit(list(listed), captions, len(ids), SENTENCES_A_VIDEO * len(ids), left_out)


def _texts(anno_path: Path, video_ids: list[str]) -> tuple[dict[str, list[str]], str]:
    """The captions of each of `video_ids`, perhaps none, and the names of the files read."""
    files, list_key, id_key = _caption_form(anno_path)
    texts: dict[str, list[str]] = {video_id: [] for video_id in video_ids}
    for path in files:
        _collect_texts(path, list_key, id_key, texts)
    return texts, " or ".join(str(path) for path in files)


def _caption_form(anno_path: Path) -> tuple[list[Path], str, str]:
    """The files of the first public form that is there, its list key and its id key."""
    for names, list_key, id_key in CAPTION_FORMS:
        # training and validation need only the first file of the organisers' pair
        files = [anno_path / name for name in names if (anno_path / name).is_file()]
        if files and files[0].name == names[0]:
            return files, list_key, id_key
    forms = ", or ".join(" with ".join(names) for names, _, _ in CAPTION_FORMS)
    raise UserError(
        f"--anno_path {anno_path}: looked for the captions as {forms}; none of them is "
        "there. data/README.md says where to get one."
    )


def _collect_texts(path: Path, list_key: str, id_key: str, texts: dict[str, list[str]]) -> None:
    """Append each caption of `path` to its video's list; videos not in `texts` are passed over."""
    for number, row in enumerate(json_list(path, list_key), start=1):
        video_id = row.get(id_key)
        if not isinstance(video_id, str):
            raise UserError(
                f'{path}, row {number} of "{list_key}": {id_key} is {video_id!r}, a string is '
                "needed. Use the published file."
            )
        found = texts.get(video_id)
        if found is None:
            continue
        text = row.get("caption")
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f'{path}, row {number} of "{list_key}": {video_id} has no caption there '
                f"(caption is {text!r}). Fill it in or remove the row."
            )
        found.append(clean(text, str(path)))
