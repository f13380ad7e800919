"""Render a small set of synthetic videos, with captions, in MSR-VTT's file formats.

Under --output come videos/video0.mp4 and so on, and the annotations in anns/. Each video shows
a coloured shape that moves over a background. No test video shows a combination of shape,
colour, motion and background that a train video shows, and no test caption is worded like a
train caption. The same flags give the same frames and captions. A run that was stopped goes on
where it was.
"""

import argparse
import csv
import io
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from ffmpeg_tools import (
    UserError,
    exit_code,
    find_ffmpeg,
    part_path,
    positive_float,
    positive_int,
    publish,
    remove_leftovers,
    write_text,
)
from shapes_scene import FPS, HEIGHT, WIDTH, frames
from shapes_words import (
    TEST_TEMPLATES,
    TRAIN_TEMPLATES,
    Clip,
    captions,
    combination_count,
    draw_clips,
    least_train,
)
from tqdm import tqdm

MANIFEST_NAME = "shapes_manifest.json"
CONTENT_VERSION = 1  # raised when the same flags come to give other videos or captions


@dataclass(frozen=True)
class Plan:
    """What decides the content: numbers of videos and captions, seconds of a video, the seed."""

    train: int
    test: int
    captions: int
    seconds: float
    seed: int

    def __str__(self) -> str:
        return " ".join(f"--{name} {value}" for name, value in asdict(self).items())


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the data set")
    parser.add_argument("--train", type=positive_int, default=600, help="train videos [600]")
    parser.add_argument("--test", type=positive_int, default=200, help="test videos [200]")
    parser.add_argument("--captions", type=positive_int, default=5, help="captions per video [5]")
    parser.add_argument("--seconds", type=positive_float, default=3.0, help="of a video [3]")
    parser.add_argument("--seed", type=int, default=0, help="0 or more [0]")
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=os.cpu_count() or 1,
        help="videos at a time [one per core]",
    )
    return parser.parse_args(argv)


def check_plan(plan: Plan) -> None:
    """Raise UserError where the numbers asked for cannot be had."""
    if plan.seed < 0:
        raise UserError(f"--seed {plan.seed}: must be 0 or more")
    if plan.train < least_train():
        raise UserError(
            f"--train {plan.train}: at least {least_train()} are needed to show every shape, "
            "colour, motion and background once"
        )
    most = combination_count() - least_train()
    if plan.test > most:
        raise UserError(f"--test {plan.test}: there are only {most} combinations to hold out")


def manifest_text(plan: Plan, complete: bool) -> str:
    """Return the manifest: the flags, and whether the data set is complete."""
    record = {"version": CONTENT_VERSION, **asdict(plan), "complete": complete}
    return json.dumps(record, indent=1) + "\n"


def open_folder(output: Path, plan: Plan) -> bool:
    """Make `output` ready for `plan`; return whether the data set is there already.

    Raises UserError where the folder holds something else: it is for the user to empty.
    """
    manifest = output / MANIFEST_NAME
    try:
        if manifest.is_file():
            text = manifest.read_text(encoding="utf-8")
            if text not in (manifest_text(plan, True), manifest_text(plan, False)):
                raise UserError(
                    f"--output {output} holds videos of other flags than {plan} (see {manifest}); "
                    "empty it, or name another folder"
                )
            names = (output / "videos" / f"video{k}.mp4" for k in range(plan.train + plan.test))
            if text == manifest_text(plan, True) and all(name.is_file() for name in names):
                return True
        elif output.is_dir() and any(output.iterdir()):
            raise UserError(
                f"--output {output} is not empty and has no {MANIFEST_NAME}; "
                "empty it, or name another folder"
            )
        (output / "videos").mkdir(parents=True, exist_ok=True)
        (output / "anns").mkdir(exist_ok=True)
        remove_leftovers(output)
        write_text(manifest, manifest_text(plan, False))
    except OSError as error:
        raise UserError(f"--output {output}: {error}") from error
    return False


def _csv(rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def annotations(plan: Plan, train: list[Clip], test: list[Clip]) -> dict[str, str]:
    """Return the three annotation files' texts by name; the test videos come after the train."""
    ids: list[tuple[str]] = [("video_id",)]
    queries = [("key", "vid_key", "video_id", "sentence")]
    videos, sentences = [], []
    for index, clip in enumerate(train + test):
        is_train, video_id = index < len(train), f"video{index}"
        templates = TRAIN_TEMPLATES if is_train else TEST_TEMPLATES
        rng = np.random.default_rng([plan.seed, 1, index])
        texts = captions(clip, templates, plan.captions, rng)
        if is_train:
            ids.append((video_id,))
        else:
            queries.append((f"ret{index - len(train)}", f"msr{index}", video_id, texts[0]))
        videos.append(
            {
                "id": index,
                "video_id": video_id,
                "split": "train" if is_train else "test",
                "start time": 0.0,
                "end time": plan.seconds,
                "shown": asdict(clip),
            }
        )
        for text in texts:
            sentences.append({"video_id": video_id, "caption": text, "sen_id": len(sentences)})
    data = {"videos": videos, "sentences": sentences}
    return {
        "MSRVTT_train.9k.csv": _csv(ids),
        "MSRVTT_JSFUSION_test.csv": _csv(queries),
        "MSRVTT_data.json": json.dumps(data, indent=1) + "\n",
    }


def render(clip: Clip, index: int, plan: Plan, ffmpeg: str, output: Path) -> None:
    """Draw and encode one video. Raises UserError where ffmpeg cannot write it."""
    part = part_path(output)
    read = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS)]
    write = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-threads", "1"]
    command = [ffmpeg, "-v", "error", "-y", *read, "-i", "-", *write, str(part)]
    rng = np.random.default_rng([plan.seed, 2, index])
    count = max(1, round(plan.seconds * FPS))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            for image in frames(clip, count, rng):
                process.stdin.write(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).data)
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg gave up: it says why on stderr
        complaint = process.stderr.read().decode(errors="replace")
    if process.returncode != 0:
        part.unlink(missing_ok=True)
        raise UserError(f"ffmpeg could not write {output}: {' '.join(complaint.split())}")
    publish(part, output)


def render_all(clips: list[Clip], plan: Plan, folder: Path, workers: int) -> None:
    """Render the videos that are not there yet, several at a time."""
    ffmpeg = find_ffmpeg()
    outputs = [folder / f"video{index}.mp4" for index in range(len(clips))]
    missing = [index for index, output in enumerate(outputs) if not output.is_file()]
    executor = ThreadPoolExecutor(workers)
    try:
        futures = [
            executor.submit(render, clips[index], index, plan, ffmpeg, outputs[index])
            for index in missing
        ]
        with tqdm(
            total=len(clips),
            initial=len(clips) - len(missing),
            desc="render",
            unit="video",
            disable=None,
        ) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update()
    finally:
        executor.shutdown(cancel_futures=True)


def run(args: argparse.Namespace) -> int:
    """Do the whole job; return the exit code."""
    plan = Plan(args.train, args.test, args.captions, args.seconds, args.seed)
    check_plan(plan)
    if open_folder(args.output, plan):
        print(f"{args.output} is complete already; nothing to do")
        return 0
    cv2.setNumThreads(1)
    train, test = draw_clips(plan.train, plan.test, plan.seed)
    try:
        for name, text in annotations(plan, train, test).items():
            write_text(args.output / "anns" / name, text)
        render_all(train + test, plan, args.output / "videos", args.workers)
        write_text(args.output / MANIFEST_NAME, manifest_text(plan, True))
    except OSError as error:
        raise UserError(f"--output {args.output}: {error}") from error
    print(f"{len(train)} train and {len(test)} test videos in {args.output}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the script."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return exit_code("make_shapes.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
