"""The benchmarks' annotation files, made up but in their true formats, quirks included."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

LSMDC_TIMES = "00:23:28,872\t00:23:34,843\t00:23:28,872\t00:23:34,843"
PIANIST = "0017_Pianist_00.23.28.872-00.23.34.843"
SPARKLE = "3064_SPARKLE_2012_01.41.07.000-01.41.11.793"
TITANIC = "1010_TITANIC_00.41.32.072-00.41.40.196"
JUNO = "1014_Juno_00.00.51.926-00.00.54.129"
UGLY = "0029_The_Ugly_Truth_00.01.02.003-00.01.04.000"
UNREADABLE = "59627558@N00_4659075184_253744838b.3gp"


def write_ids(path: Path, ids: list[str]) -> None:
    """One id a line."""
    path.write_text("".join(f"{video_id}\n" for video_id in ids))


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def touch(folder: Path, *names: str) -> Path:
    """Empty files, for tests that only look for them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write_msvd(folder: Path) -> None:
    """Two training videos, one to validate and two to test; captions are lists of tokens."""
    write_ids(folder / "train_list.txt", ["-4wsuPCjDBc_5_15", "mv89psg6zh4_33_46"])
    write_ids(folder / "val_list.txt", ["vid1_0_9"])
    write_ids(folder / "test_list.txt", ["vid2_0_9", "vid3_0_9"])
    captions = {
        "vid3_0_9": [["a", "dog"], ["the", "dog", "runs"], ["🐕", "!"]],
        "mv89psg6zh4_33_46": [["a", "bird", "sings"]],
        "-4wsuPCjDBc_5_15": [["a", "squirrel", "eats", "a", "nut"], ["a", "nut", "is", "eaten"]],
        "vid1_0_9": [["a", "man"]],
        "vid2_0_9": [["a", "cat"]],
        "vid9_0_9": [["nobody", "listed", "it"]],
    }
    (folder / "raw-captions.pkl").write_bytes(pickle.dumps(captions))


def lsmdc_row(clip_id: str, sentence: str) -> str:
    return f"{clip_id}\t{LSMDC_TIMES}\t{sentence}\n"


def write_lsmdc(folder: Path) -> None:
    """Three training rows for two clips, one to validate on, two to test; no header."""
    train = lsmdc_row(UGLY, "SOMEONE waits.") + lsmdc_row(TITANIC, '"SOMEONE swims.')
    train += lsmdc_row(UGLY, 'He says "hello" to her.')
    (folder / "LSMDC16_annos_training.csv").write_text(train)
    (folder / "LSMDC16_annos_val.csv").write_text(lsmdc_row(JUNO, "She walks."))
    test = '"' + lsmdc_row(PIANIST, "He plays, softly.") + lsmdc_row(SPARKLE, "She sings.")
    (folder / "LSMDC16_challenge_1000_publictect.csv").write_text(test)


def didemo_entry(number: int, video: str, description: str) -> dict:
    return {
        "annotation_id": number,
        "description": description,
        "video": video,
        "times": [[0, 0], [1, 1], [0, 1], [0, 0]],
        "num_segments": 6,
        "dl_link": "https://www.flickr.com/video_download.gne?id=1",
    }


def write_didemo(folder: Path) -> None:
    """Test: three videos, one with two descriptions apart, one that ends in a bare dot."""
    lists = {
        "train": ["1@N01_1_aa.mov"],
        "val": ["2@N02_2_bb.avi"],
        "test": ["3@N03_3_cc.mp4", "4@N04_4_dd.", UNREADABLE],
    }
    entries = {
        "train": [didemo_entry(1, "1@N01_1_aa.mov", "a boat"), didemo_entry(2, "9@N9_9_x.", "a")],
        "val": [didemo_entry(3, "2@N02_2_bb.avi", "a tree")],
        "test": [
            didemo_entry(4, "4@N04_4_dd.", "a man turns"),
            didemo_entry(5, "3@N03_3_cc.mp4", "the camera pans. "),
            didemo_entry(6, UNREADABLE, "a child waves"),
            didemo_entry(7, "4@N04_4_dd.", "he sits down"),
        ],
    }
    for split, names in lists.items():
        write_ids(folder / f"{split}_list.txt", names)
        write_json(folder / f"{split}_data.json", entries[split])


def write_activity(folder: Path) -> None:
    """Train: two videos of which one is annotated; test: one, and an annotation too many."""

    def entry(duration: float, *sentences: str) -> dict:
        stamps = [[0, duration]] * len(sentences)
        return {"duration": duration, "timestamps": stamps, "sentences": list(sentences)}

    write_json(folder / "train_ids.json", ["v_QOlSCBRmfWY", "v_gone"])
    write_json(folder / "val_ids.json", ["v_uqiMw7tQ1Cc"])
    train = {"v_QOlSCBRmfWY": entry(82.73, "A woman dances.", " The girl  dances around.", " ")}
    write_json(folder / "train.json", train)
    test = {"uqiMw7tQ1Cc": entry(55, " Weights are lifted."), "v_other": entry(3, "It ends.")}
    write_json(folder / "val_1.json", test)


def write_vatex(folder: Path) -> None:
    """Two training videos, one to validate on, one to test on."""
    write_ids(folder / "train_list.txt", ["--07WQ2iBlw_000001_000011", "a_000002_000012"])
    write_ids(folder / "val_list.txt", ["b_000003_000013"])
    write_ids(folder / "test_list.txt", ["c_000004_000014"])
    captions = {
        "c_000004_000014": ["A cook.", "Café 🍳"],
        "a_000002_000012": ["A boy rides."],
        "--07WQ2iBlw_000001_000011": ["A man ties a knot.", " "],
        "b_000003_000013": ["A dog."],
    }
    write_json(folder / "ref_captions.json", captions)
