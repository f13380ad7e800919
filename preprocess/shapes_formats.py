"""Dress the made-up shapes set up as another benchmark, for trying that benchmark's code.

    python preprocess/shapes_formats.py --shapes DIR --videos DIR --datatype lsmdc --output DIR

--shapes is what make_shapes.py wrote, --videos its (compressed) videos. --output gets `anns`, in
the benchmark's own file formats, and `videos`, links under the benchmark's kind of names.
"""

import argparse
import csv
import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ffmpeg_tools import UserError

SECONDS = 3.0  # what make_shapes.py renders unless told otherwise
VALIDATION = 4  # training videos that become the validation split


@dataclass(frozen=True)
class Video:
    """A video of the shapes set, under its new id, with its captions."""

    source: str
    name: str
    captions: list[str]


Splits = dict[str, list[Video]]


def read_shapes(shapes: Path, rename: Callable[[int], str]) -> Splits:
    """The shapes set as train, val and test, its videos renamed by their numbers."""
    anns = shapes / "anns"
    try:
        data = json.loads((anns / "MSRVTT_data.json").read_text(encoding="utf-8"))
        train = (anns / "MSRVTT_train.9k.csv").read_text(encoding="utf-8").split()[1:]
        with (anns / "MSRVTT_JSFUSION_test.csv").open(encoding="utf-8") as file:
            test = [row["video_id"] for row in csv.DictReader(file)]
    except OSError as error:
        raise UserError(
            f"--shapes {shapes}: make_shapes.py has not finished there ({error})."
        ) from error
    captions: dict[str, list[str]] = {}
    for sentence in data["sentences"]:
        captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
    ids = {"train": train[:-VALIDATION], "val": train[-VALIDATION:], "test": test}
    return {
        split: [Video(i, rename(int(i.removeprefix("video"))), captions[i]) for i in names]
        for split, names in ids.items()
    }


def write_msvd(anns: Path, splits: Splits) -> None:
    """Lists of ids, and a pickle of token lists."""
    for split, videos in splits.items():
        (anns / f"{split}_list.txt").write_text("".join(f"{v.name}\n" for v in videos))
    tokens = {v.name: [c.split() for c in v.captions] for videos in splits.values() for v in videos}
    (anns / "raw-captions.pkl").write_bytes(pickle.dumps(tokens))


def write_lsmdc(anns: Path, splits: Splits) -> None:
    """Six tab-separated columns, no header; one caption a clip outside training."""
    names = {
        "train": "LSMDC16_annos_training.csv",
        "val": "LSMDC16_annos_val.csv",
        "test": "LSMDC16_challenge_1000_publictect.csv",
    }
    times = ("00.00.00.000", f"00.00.{SECONDS:06.3f}") * 2
    for split, videos in splits.items():
        rows = [
            "\t".join((v.name, *times, caption))
            for v in videos
            for caption in (v.captions if split == "train" else v.captions[:1])
        ]
        (anns / names[split]).write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_didemo(anns: Path, splits: Splits) -> None:
    """Descriptions with times, several a video, and lists of names with extension."""
    number = 0
    for split, videos in splits.items():
        entries = []
        for video in videos:
            for caption in video.captions[:2]:
                entry = {"annotation_id": number, "description": caption, "times": [[0, 0]]}
                entries.append({**entry, "video": f"{video.name}.mp4"})
                number += 1
        (anns / f"{split}_data.json").write_text(json.dumps(entries))
        (anns / f"{split}_list.txt").write_text("".join(f"{v.name}.mp4\n" for v in videos))


def write_activity(anns: Path, splits: Splits) -> None:
    """Paragraphs in sentences that begin with a space; val_1 is validation and test in one."""
    parts = {"train": splits["train"] + splits["val"], "val": splits["test"]}
    for split, videos in parts.items():
        content = {
            v.name: {
                "duration": SECONDS,
                "timestamps": [[0, 1.5], [1.5, SECONDS]],
                "sentences": [f" {caption}" for caption in v.captions[:2]],
            }
            for v in videos
        }
        (anns / f"{split}_ids.json").write_text(json.dumps(list(content)))
        name = "train.json" if split == "train" else "val_1.json"
        (anns / name).write_text(json.dumps(content))


def write_vatex(anns: Path, splits: Splits) -> None:
    """Lists of ids, and captions by id."""
    for split, videos in splits.items():
        (anns / f"{split}_list.txt").write_text("".join(f"{v.name}\n" for v in videos))
    captions = {v.name: v.captions for videos in splits.values() for v in videos}
    (anns / "ref_captions.json").write_text(json.dumps(captions))


FORMATS: dict[str, tuple[Callable[[int], str], Callable[[Path, Splits], None]]] = {
    "msvd": (lambda n: f"shape{n:04}_0_{int(SECONDS)}", write_msvd),
    "lsmdc": (lambda n: f"{n:04}_SHAPES_00.00.00.000-00.00.03.000", write_lsmdc),
    "didemo": (lambda n: f"1000{n:04}@N01_{n:010}_shapes", write_didemo),
    "activity": (lambda n: f"v_shapes{n:05}", write_activity),
    "vatex": (lambda n: f"shapes{n:05}_000000_{int(SECONDS):06}", write_vatex),
}


def run(args: argparse.Namespace) -> None:
    """Write the annotations and link the videos."""
    rename, write = FORMATS[args.datatype]
    splits = read_shapes(args.shapes, rename)
    anns, videos = args.output / "anns", args.output / "videos"
    anns.mkdir(parents=True, exist_ok=True)
    videos.mkdir(exist_ok=True)
    write(anns, splits)
    for video in (video for split in splits.values() for video in split):
        link = videos / f"{video.name}.mp4"
        link.unlink(missing_ok=True)
        os.symlink((args.videos / f"{video.source}.mp4").resolve(), link)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=Path, required=True, help="folder of make_shapes.py")
    parser.add_argument("--videos", type=Path, required=True, help="its videos")
    parser.add_argument("--datatype", choices=FORMATS, required=True, help="benchmark")
    parser.add_argument("--output", type=Path, required=True, help="folder for the result")
    try:
        run(parser.parse_args(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
