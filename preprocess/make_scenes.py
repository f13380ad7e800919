"""Render a made-up data set that is hard to search, with captions, in MSR-VTT's file formats.

It is for comparing retrieval methods, and each of its difficulties is one of real videos:

* Order. In a scene of two or three things, one of them does two things after another, or two of
  them act in turn. Every motion ends where it began, so a video shows the same frames in either
  order. 40 % of the videos have a twin in their split that shows the other order.
* Details. 20 % have a neighbour in their split that differs in one thing: a colour (two actors
  exchange theirs), a shape, a motion or the background.
* Clutter. Things that only stand there are in no caption.
* Captions that leave things out: the background in half of them, and in training at times the
  colours or one of the two motions. Sizes are named at times. Some captions name the second
  motion first ("it rises after it vanishes").
* False negatives. 30 % of the training videos share all that is named in their captions with
  another one: these two differ in places, lengths, clutter and background only.
* Length. Each motion takes 2, 3 or 4 s, a video 4 to 8 s. Seen once a second, each motion is
  seen away from its start at least once.

In the test split no two videos share all that can be named, and each query, like each other test
caption, fits one video only. No test video tells the story (actors and motions, in whatever
order) of a train video, and no test caption is worded like a train caption.

Under --output come anns/ and videos/, and in pretrain/ the same for --pretrain very short videos
in which nothing moves. Their captions say what there is, and where. They are for training an
encoder on single frames before it sees videos, as CLIP was; one in 16 of them is for testing.

The same flags give the same frames and captions. A run that was stopped goes on where it was.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ffmpeg_tools import UserError, exit_code, natural_int, positive_int
from made_up_drawing import Image
from made_up_set import MadeUpSet, Part, Video, write_set
from scenes_plan import LEAST_TRAIN, draw_clips, story_count, tell_apart
from scenes_stills import SECONDS, draw_stills, still_captions, still_frames
from scenes_video import frames
from scenes_words import captions

MANIFEST_NAME = "scenes_manifest.json"
CONTENT_VERSION = 1  # raised when the same flags come to give other videos or captions


@dataclass(frozen=True)
class Plan:
    """What decides the content: numbers of videos and captions, and the seed."""

    train: int
    test: int
    pretrain: int
    captions: int
    seed: int


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the data set")
    parser.add_argument("--train", type=positive_int, default=1200, help="train videos [1200]")
    parser.add_argument("--test", type=positive_int, default=300, help="test videos [300]")
    parser.add_argument(
        "--pretrain", type=natural_int, default=3000, help="still train videos; 0: none [3000]"
    )
    parser.add_argument("--captions", type=positive_int, default=5, help="captions per video [5]")
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
    if plan.train < LEAST_TRAIN:
        raise UserError(
            f"--train {plan.train}: at least {LEAST_TRAIN} are needed to show every shape, "
            "colour, motion and background"
        )
    most = story_count() // 2  # beyond, drawing new ones at random would take long
    if plan.train + plan.test > most:
        raise UserError(
            f"--train {plan.train} and --test {plan.test}: there are only stories for {most} videos"
        )


def scenes(plan: Plan) -> Part:
    """Return the videos with motion."""
    train, test = draw_clips(plan.train, plan.test, plan.seed)
    clips, videos, names_ground = train + test, [], []
    for index, clip in enumerate(clips):
        rng, is_train = np.random.default_rng([plan.seed, 1, index]), index < len(train)
        said = captions(clip, is_train, plan.captions, rng)
        names_ground.append([caption.names_ground for caption in said])
        texts = [caption.text for caption in said]
        videos.append(Video(is_train, clip.seconds, texts, asdict(clip)))
    for nth in zip(*names_ground[len(train) :], strict=True):
        assert tell_apart(test, list(nth)), "a test caption must fit one test video only"

    def draw(index: int) -> Iterator[Image]:
        rng = np.random.default_rng([plan.seed, 2, clips[index].scene])
        return frames(clips[index], rng)

    return Part(".", videos, draw)


def stills(plan: Plan) -> Part:
    """Return the videos without motion."""
    train, test = draw_stills(plan.pretrain, plan.seed)
    shown, videos = train + test, []
    for index, still in enumerate(shown):
        rng, is_train = np.random.default_rng([plan.seed, 4, index]), index < len(train)
        texts = still_captions(still, is_train, plan.captions, rng)
        videos.append(Video(is_train, SECONDS, texts, asdict(still)))

    def draw(index: int) -> Iterator[Image]:
        return still_frames(shown[index], np.random.default_rng([plan.seed, 5, index]))

    return Part("pretrain", videos, draw)


def run(args: argparse.Namespace) -> int:
    """Do the whole job; return the exit code."""
    plan = Plan(args.train, args.test, args.pretrain, args.captions, args.seed)
    check_plan(plan)
    parts = [scenes(plan)] + ([stills(plan)] if plan.pretrain else [])
    write_set(MadeUpSet(MANIFEST_NAME, CONTENT_VERSION, plan, parts), args.output, args.workers)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the script."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return exit_code("make_scenes.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
