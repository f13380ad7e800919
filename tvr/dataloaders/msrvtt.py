"""MSR-VTT: two training protocols of the 1k-A split, and the full official split."""

from __future__ import annotations

from pathlib import Path

from tvr.dataloaders.annotations import (
    csv_rows,
    existing_files,
    json_list,
    refuse_shared,
    unique,
    unique_ids,
)
from tvr.dataloaders.captions import clean, sentence_captions
from tvr.dataloaders.records import AnnotatedSplit, Caption, LeftOut
from tvr.dataloaders.videos import stem
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

# The public forms of the captions, best first; the organisers' own is a pair
WHOLE_FILES = ("MSRVTT_data.json", "MSR_VTT.json")
TRAIN_VAL_FILE = "train_val_videodatainfo.json"
TEST_FILE = "test_videodatainfo.json"
# Names for the list and the video id in them, where they are not "sentences" and "video_id"
OTHER_KEYS = {"MSR_VTT.json": ("annotations", "image_id")}


def needed_files(protocol: str, split: str) -> list[tuple[str, ...]]:
    """The list of one split (an official one has none), and its captions where they are apart."""
    if split == "test" and protocol != "full":
        return [(TEST_LIST,)]
    captions = (*WHOLE_FILES, TEST_FILE if split == "test" else TRAIN_VAL_FILE)
    if split == "train" and protocol != "full":
        return [(TRAIN_LISTS[protocol],), captions]
    return [captions]


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and captions of one split from the folder `anno_path`.

    The tests of "9k" and "7k" are 1k-A's. The list of "7k" is the organisers' training and
    validation videos together: for a validation that is honest, the latter are not trained on.
    Videos come in the order of the list ("full" and validation: in the order of their numbers),
    a video's captions in the order of the captions file, so the result is the same for every
    public form of the captions. Empty captions are left out, but not from 1k-A's test list. Raises
    UserError, naming file and row, for a missing or malformed file, a row of that list without a
    caption, an id listed twice or in two splits, a training id without any caption, and a captions
    file without any official video of the split.
    """
    assert protocol in PROTOCOLS, protocol
    assert split in ("train", "test") or (split == "val" and protocol in VALIDATED_PROTOCOLS)
    paths = existing_files(anno_path, needed_files(protocol, split))
    if protocol == "full":
        return _read_official(paths[0], split)
    if split == "test":
        return _read_test(*paths)
    test_list = anno_path / TEST_LIST
    tested = unique_ids(test_list) if test_list.is_file() else {}
    if split == "val":
        annotated = _read_official(paths[0], split)
        numbered = dict.fromkeys(annotated.video_ids, f"the official {split} videos")
        refuse_shared(numbered, tested, "test")
        return annotated
    train_list, captions_file = paths
    listed = unique_ids(train_list)
    refuse_shared(listed, tested, "test")
    return _read_train(protocol, train_list, listed, captions_file)


def _read_test(path: Path) -> AnnotatedSplit:
    ids: list[tuple[str, str]] = []
    captions = []
    for where, row in csv_rows(path, ("video_id", "sentence")):
        if not row["sentence"]:
            raise UserError(
                f"{where}: {row['video_id'] or 'the row'} has no caption (column sentence). "
                "Fill it in; leaving it out would change the test set."
            )
        ids.append((where, row["video_id"]))
        captions.append(Caption(f"{row['video_id']}#0", row["video_id"], row["sentence"]))
    rows = {path.name: len(captions)}
    return AnnotatedSplit(unique(path, ids), captions, TEST_VIDEOS, TEST_VIDEOS, rows=rows)


def _read_train(
    protocol: str, train_list: Path, listed: dict[str, str], captions_file: Path
) -> AnnotatedSplit:
    rows = {train_list.name: len(listed)}
    validated = set(_official_ids("val")) if protocol in VALIDATED_PROTOCOLS else set()
    held_out = [LeftOut(*item) for item in listed.items() if stem(item[0]) in validated]
    listed = {v: where for v, where in listed.items() if stem(v) not in validated}
    files, source = _halves(captions_file)
    texts: dict[str, list[str]] = {video_id: [] for video_id in listed}
    for path in files:
        rows[path.name] = _collect_texts(path, texts)
    captions, left_out = sentence_captions(listed, texts, source)
    left_out["validation videos"] = held_out
    videos = TRAIN_VIDEOS[protocol] - len(held_out)
    documented = videos, SENTENCES_A_VIDEO * videos
    return AnnotatedSplit(listed, captions, *documented, left_out=left_out, rows=rows)


def _halves(captions_file: Path) -> tuple[list[Path], str]:
    """The captions file, or the organisers' pair as far as it is there, and a name for that."""
    if captions_file.name != TRAIN_VAL_FILE:
        return [captions_file], str(captions_file)
    other = captions_file.with_name(TEST_FILE)
    if not other.is_file():
        return [captions_file], f"{captions_file} ({other.name} is not there)"
    return [captions_file, other], f"{captions_file} or {other}"


def _official_ids(split: str) -> list[str]:
    return [f"video{number}" for number in OFFICIAL[split]]


def _read_official(path: Path, split: str) -> AnnotatedSplit:
    ids = _official_ids(split)
    texts: dict[str, list[str]] = {video_id: [] for video_id in ids}
    rows = {path.name: _collect_texts(path, texts)}
    listed = {video_id: str(path) for video_id in ids if texts[video_id]}
    if not listed:
        raise UserError(
            f"{path}: no captions of the {len(ids):,} official {split} videos ({ids[0]} to "
            f"{ids[-1]}). Get a captions file that has them."
        )
    captions, left_out = sentence_captions(listed, texts, str(path))
    left_out[f"official {split} videos without a caption"] = [
        LeftOut(video_id) for video_id in ids if video_id not in listed
    ]
    documented = len(ids), SENTENCES_A_VIDEO * len(ids)
    return AnnotatedSplit(listed, captions, *documented, left_out=left_out, rows=rows)


def _collect_texts(path: Path, texts: dict[str, list[str]]) -> int:
    """Append each caption of `path` to its video's list; videos not in `texts` are passed over.

    Ids match with or without extension. Returns how many captions the file has.
    """
    by_stem = {stem(video_id): said for video_id, said in texts.items()}
    list_key, id_key = OTHER_KEYS.get(path.name, ("sentences", "video_id"))
    rows = json_list(path, list_key)
    for number, row in enumerate(rows, start=1):
        video_id = row.get(id_key)
        if not isinstance(video_id, str):
            raise UserError(
                f'{path}, row {number} of "{list_key}": {id_key} is {video_id!r}, a string is '
                "needed. Use the published file."
            )
        said = by_stem.get(stem(video_id))
        if said is not None:
            said.append(clean(row.get("caption"), f'{path}, row {number} of "{list_key}"'))
    return len(rows)
