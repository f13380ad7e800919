"""Fill a frame cache before a run does: decode each clip of its splits once.

    python -m tvr.dataloaders.cache --frame_cache DIR --anno_path A --video_path V --datatype X

Give the data flags of the run. What is there already is verified and kept, so that the command can
be stopped and started again; several may fill one folder at once. Exit code: 0 if every clip is
in the cache, 1 if some could not be read, which would end a training, 2 for a command that cannot
be carried out, as on a full disk, 130 if it was stopped.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from tvr.dataloaders.benchmarks import DATATYPES, SPLITS, has_validation, load_split, protocols
from tvr.dataloaders.cache_store import FrameCache, NotWritten, readable
from tvr.dataloaders.containers import inspect
from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.incidents import Incident, Incidents
from tvr.dataloaders.reading import DECODERS
from tvr.dataloaders.records import Clip
from tvr.dataloaders.workers import WorkerDied, checked, deaths_reported, init_worker
from tvr.utils.arguments import add_partial_switches, count, path, rate, seconds
from tvr.utils.errors import UserError
from tvr.utils.terminal import show_escapes

# of the named encoders; to ask the models would take their weights
RESOLUTIONS = {"ViT-B/32": 224, "ViT-B/16": 224, "ViT-L/14": 224, "tiny": 96}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tvr.dataloaders.cache",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--frame_cache", type=path, required=True, help="folder of the cache, or for a new one")
    add("--datatype", choices=tuple(DATATYPES), default="msrvtt", help="benchmark [msrvtt]")
    add("--protocol", help="which of the benchmark's splits [its first]")
    add("--anno_path", type=path, required=True, help="folder of annotation files")
    add("--video_path", type=path, required=True, help="folder of videos")
    add("--splits", help="which of train,val,test [all that the protocol has]")
    add_partial_switches(parser)
    add("--max_frames", type=count, default=12, help="as the run's [12]")
    add("--video_framerate", type=rate, default=1.0, help="as the run's [1]")
    add("--video_decoder", choices=DECODERS, default=DECODERS[0], help="as the run's [decord]")
    add("--decode_timeout", type=seconds, default=60.0, help="as the run's [60]")
    add("--base_encoder", default="ViT-B/32", help="as the run's, for its resolution [ViT-B/32]")
    add("--resolution", type=count, help="pixels of a frame's side, for other encoders")
    add("--workers", type=count, default=os.cpu_count() or 1, help="clips at a time [cores]")
    args = parser.parse_args(argv)
    args.protocol = args.protocol or protocols(args.datatype)[0]
    return args


def main(argv: list[str] | None = None) -> int:
    """The exit code; a mistake of the user's is printed without a traceback."""
    show_escapes()
    args = parse_args(argv)
    # whoever ends it keeps what is decoded, as with Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; what is in {args.frame_cache} is kept", file=sys.stderr)
        return 130


def run(args: argparse.Namespace) -> int:
    """Fill the cache and say what was done; 1 if a clip could not be read.

    Raises:
        UserError: the command cannot be carried out. What was done is kept.
    """
    settings = FrameSettings(
        args.video_framerate, args.max_frames, resolution(args), args.video_decoder
    )
    clips = load_clips(args)
    frames = settings.limited(args.decode_timeout).cached(args.frame_cache)
    cache = frames.cache
    assert cache is not None
    if cache.unwritable is not None:
        raise UserError(f"--frame_cache {cache.folder}: cannot be written ({cache.unwritable}).")
    print(cache.describe())
    refuse_without_space(clips, frames, cache, args.workers)
    decoded, unreadable, incidents = fill(clips, frames, cache, args.workers)
    for problem in unreadable:
        print(f"unreadable: {problem}", file=sys.stderr)
    for line in incidents.lines():
        print(line)
    facts, _ = cache.news()
    for fact in facts:
        print(fact)
    there = len(clips) - decoded - len(unreadable)
    print(f"{len(clips):,} clips: {there:,} were there, {decoded:,} decoded now, ", end="")
    print(f"{len(unreadable):,} unreadable")
    return 1 if unreadable else 0


def resolution(args: argparse.Namespace) -> int:
    """Pixels of a frame's side. Raises UserError where the encoder is not a named one."""
    if args.resolution is not None:
        return args.resolution
    if args.base_encoder not in RESOLUTIONS:
        raise UserError(
            f"--base_encoder {args.base_encoder}: its resolution is not known without its weights. "
            f"Give --resolution; it is known of {', '.join(RESOLUTIONS)}."
        )
    return RESOLUTIONS[args.base_encoder]


def load_clips(args: argparse.Namespace) -> list[Clip]:
    """The clips of the splits, each once, in random order.

    Raises:
        UserError: see `load_split`; or an unknown protocol or split.
    """
    if args.protocol not in protocols(args.datatype):
        known = ", ".join(protocols(args.datatype))
        raise UserError(f"--protocol {args.protocol}: {args.datatype} has {known}. Use one.")
    validated = has_validation(args.datatype, args.protocol)
    offered = [name for name in SPLITS if name != "val" or validated]
    names = offered if args.splits is None else args.splits.split(",")
    for name in names:
        if name not in offered:
            raise UserError(
                f"--splits {args.splits}: {args.datatype} {args.protocol} has {', '.join(offered)}."
            )
    splits = [
        load_split(
            args.datatype,
            args.protocol,
            name,
            args.anno_path,
            args.video_path,
            args.allow_partial_gallery,
            args.allow_partial_training,
        )
        for name in names
    ]
    unique = list(dict.fromkeys(clip for split in splits for clip in split.clips))
    # two commands that work at the same time seldom come to the same clip together
    random.shuffle(unique)
    return unique


def refuse_without_space(
    clips: list[Clip], frames: FrameSettings, cache: FrameCache, workers: int
) -> None:
    """Print what the clips that are not there will take on the disk.

    Raises:
        UserError: that is more than there is.
    """
    missing = [clip for clip in clips if not cache.has_entry(clip)]
    sizes = in_processes(Sizes(missing, frames), "look at", workers)
    need, free = sum(sizes), shutil.disk_usage(cache.folder).free
    facts = f"{len(missing):,} clips to decode need {readable(need)}, {readable(free)} are free"
    if need > free:
        raise UserError(
            f"--frame_cache {cache.folder}: {facts}. Free space, or name a folder on another disk."
        )
    print(facts, flush=True)


def fill(
    clips: list[Clip], frames: FrameSettings, cache: FrameCache, workers: int
) -> tuple[int, list[str], Incidents]:
    """How many clips were decoded and kept, and why others could not be, in the order of paths.

    The last are those that the decoder asked for could not read.

    Raises:
        UserError: the cache cannot be written any more, or a process that decodes died.
    """
    decoded, unreadable, incidents = 0, [], Incidents()
    try:
        with deaths_reported():
            for outcome in in_processes(Filling(clips, frames, cache), "cache", workers):
                decoded += outcome.decoded
                incidents.add(outcome.incidents)
                if outcome.problem is not None:
                    unreadable.append(outcome.problem)
    except WorkerDied as error:
        raise UserError(f"{error} What is decoded is kept.") from error
    return decoded, sorted(unreadable), incidents


def in_processes(dataset: Dataset[Any], action: str, workers: int) -> Iterator[Any]:
    """The items, computed by `workers` processes, behind a progress bar on a terminal."""
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, worker_init_fn=init_worker)
    return checked(tqdm(loader, action, unit="clip", disable=None))


class Sizes(Dataset[int]):
    """The bytes that a clip's frames will take, as far as its container states its length."""

    def __init__(self, clips: list[Clip], frames: FrameSettings) -> None:
        self._clips, self._frames = clips, frames

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> int:
        clip, frames = self._clips[index], self._frames
        seconds = None
        # without a decoder, as a file may be one that no decoder bears
        with suppress(OSError):
            seconds = inspect(clip.path).video_seconds
        count = frames.max_frames
        if seconds is not None:
            end = seconds if clip.end is None else min(clip.end, seconds)
            shown = max(0.0, end - (clip.start or 0.0))
            count = min(count, math.ceil(shown * frames.framerate))
        return count * 3 * frames.resolution**2


@dataclass(frozen=True)
class Outcome:
    """Whether a clip was decoded and kept; `problem` is why it could not be read or kept.

    `incidents` says if another decoder than the one asked for read it.
    """

    incidents: list[Incident]
    decoded: bool = False
    problem: str | None = None


class Filling(Dataset[Outcome | UserError]):
    """Puts a clip into the cache, unless it is there. A `UserError` concerns all clips."""

    def __init__(self, clips: list[Clip], frames: FrameSettings, cache: FrameCache) -> None:
        self._clips, self._frames, self._cache = clips, frames, cache

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Outcome | UserError:
        clip = self._clips[index]
        incidents: list[Incident] = []
        decode = partial(self._frames.fresh, tell=incidents.append)
        try:
            return Outcome(incidents, decoded=self._cache.fill(clip, decode))
        except NotWritten as error:
            return UserError(
                f"{error} What is decoded is kept: free space, and give the command again."
            )
        except UserError as error:
            # not about this file: the decoder is not installed
            if not str(error).startswith(f"{clip.path}: "):
                return error
            return Outcome([], problem=str(error))


if __name__ == "__main__":
    sys.exit(main())
