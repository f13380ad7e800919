"""Render a small set of synthetic videos, with captions, in MSR-VTT's file formats.

Under --output come videos/video0.mp4 and so on, and the annotations in anns/. Each video shows
a coloured shape that moves over a background. No test video shows a combination of shape,
colour, motion and background that a train video shows, and no test caption is worded like a
train caption. The same flags give the same frames and captions. A run that was stopped goes on
where it was.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ffmpeg_tools import UserError, exit_code, positive_float, positive_int
from made_up_drawing import FPS, Image
from made_up_set import (
    MadeUpSet,
    Part,
    Video,
    annotation_texts,
    write_set,
)
from shapes_scene import frames
from shapes_words import (
    TEST_TEMPLATES,
    TRAIN_TEMPLATES,
    Clip,
    captions,
    combination_count,
    draw_clips,
    least_train,
)

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


def videos(plan: Plan, train: list[Clip], test: list[Clip]) -> list[Video]:
    """Return all videos with their captions, the test videos after the train."""
    made = []
    for index, clip in enumerate(train + test):
        is_train = index < len(train)
        templates = TRAIN_TEMPLATES if is_train else TEST_TEMPLATES
        rng = np.random.default_rng([plan.seed, 1, index])
        texts = captions(clip, templates, plan.captions, rng)
        made.append(Video(is_train, plan.seconds, texts, asdict(clip)))
    return made


def annotations(plan: Plan, train: list[Clip], test: list[Clip]) -> dict[str, str]:
    """Return the three annotation files' texts by name."""
    return annotation_texts(videos(plan, train, test))


def drawn(clip: Clip, index: int, plan: Plan) -> Iterator[Image]:
    """Draw the frames of one video."""
    rng = np.random.default_rng([plan.seed, 2, index])
    return frames(clip, max(1, round(plan.seconds * FPS)), rng)


def run(args: argparse.Namespace) -> int:
    """Do the whole job; return the exit code."""
    plan = Plan(args.train, args.test, args.captions, args.seconds, args.seed)
    check_plan(plan)
    train, test = draw_clips(plan.train, plan.test, plan.seed)
    clips = train + test
    part = Part(".", videos(plan, train, test), lambda k: drawn(clips[k], k, plan))
    write_set(MadeUpSet(MANIFEST_NAME, CONTENT_VERSION, plan, [part]), args.output, args.workers)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the script."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return exit_code("make_shapes.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
