"""MSR-VTT: the two training protocols of the 1k-A split and its 1,000 test videos."""

from __future__ import annotations

from pathlib import Path

from tvr.dataloaders.annotations import csv_rows, json_list, unique_ids
from tvr.dataloaders.records import AnnotatedSplit, Caption
from tvr.utils.errors import UserError

PROTOCOLS = ("9k", "7k")
# 9k + test is all of MSR-VTT: 1k-A leaves no videos for validation
VALIDATED_PROTOCOLS: tuple[str, ...] = ()

TRAIN_LISTS = {"9k": "MSRVTT_train.9k.csv", "7k": "MSRVTT_train.7k.csv"}
TRAIN_VIDEOS = {"9k": 9_000, "7k": 7_010}
TEST_LIST = "MSRVTT_JSFUSION_test.csv"
TEST_VIDEOS = 1_000

# The public forms of the captions, best first: files, key of the list, key of the video id
CAPTION_FORMS = (
    (("MSRVTT_data.json",), "sentences", "video_id"),
    (("MSR_VTT.json",), "annotations", "image_id"),
    (("train_val_videodatainfo.json", "test_videodatainfo.json"), "sentences", "video_id"),
)


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and captions of split "train" or "test" (1k-A) from the folder `anno_path`.

    Videos come in the order of the list, a video's captions in the order of the captions file,
    so the result is the same for every public form of the captions. Raises UserError, naming
    file and row, for a missing or malformed file, a row without a caption, an id listed twice or
    in both train and test, and a training id without any caption.
    """
    assert protocol in PROTOCOLS, protocol
    assert split in ("train", "test"), split
    if split == "test":
        return _read_test(_existing(anno_path, TEST_LIST))
    return _read_train(anno_path, protocol)


def _existing(anno_path: Path, name: str) -> Path:
    path = anno_path / name
    if not path.is_file():
        raise UserError(
            f"--anno_path {anno_path}: looked for {name}, which is not there. "
            "data/README.md says where to get it."
        )
    return path


def _read_test(path: Path) -> AnnotatedSplit:
    captions = []
    for where, row in csv_rows(path, ("video_id", "sentence")):
        if not row["sentence"]:
            raise UserError(
                f"{where}: {row['video_id'] or 'the row'} has no caption (column sentence). "
                "Fill it in; leaving it out would change the test set."
            )
        captions.append(Caption(f"{row['video_id']}#0", row["video_id"], row["sentence"]))
    return AnnotatedSplit(list(unique_ids(path)), captions, TEST_VIDEOS)


def _read_train(anno_path: Path, protocol: str) -> AnnotatedSplit:
    listed = unique_ids(_existing(anno_path, TRAIN_LISTS[protocol]))
    test_list = anno_path / TEST_LIST
    if test_list.is_file():
        tested = unique_ids(test_list)
        for video_id in listed.keys() & tested.keys():
            raise UserError(
                f"{listed[video_id]}: {video_id} is also a test video ({tested[video_id]}). "
                "Training on it would spoil the test: remove it from the training list."
            )
    files, list_key, id_key = _caption_form(anno_path)
    texts: dict[str, list[str]] = {video_id: [] for video_id in listed}
    for path in files:
        _collect_texts(path, list_key, id_key, texts)
    silent = [video_id for video_id, found in texts.items() if not found]
    if silent:
        raise UserError(
            f"{listed[silent[0]]}: {silent[0]} has no caption in "
            f"{' or '.join(str(path) for path in files)} ({len(silent):,} of {len(listed):,} "
            "training videos have none). Get the complete captions file, or remove the ids."
        )
    captions = [
        Caption(f"{video_id}#{k}", video_id, text)
        for video_id, found in texts.items()
        for k, text in enumerate(found)
    ]
    return AnnotatedSplit(list(listed), captions, TRAIN_VIDEOS[protocol])


def _caption_form(anno_path: Path) -> tuple[list[Path], str, str]:
    """The files of the first public form that is there, its list key and its id key."""
    for names, list_key, id_key in CAPTION_FORMS:
        # 7k needs only the first file of the organisers' pair
        files = [anno_path / name for name in names if (anno_path / name).is_file()]
        if files and files[0].name == names[0]:
            return files, list_key, id_key
    forms = ", or ".join(" with ".join(names) for names, _, _ in CAPTION_FORMS)
    raise UserError(
        f"--anno_path {anno_path}: looked for the training captions as {forms}; none of them is "
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
        found.append(text.strip())
