"""From video files to batches: decoders, the frame cache, RandAugment, and the loader as a whole.

    python -m benchmarks.data [--videos FOLDER] [--clips 64] [--workers 0,1,2] [--json OUT.json]

Without `--videos` the clips are made by the demo's generator, `--seconds` long, and compressed to
3 frames a second as the demo's are; they stay in `--made`. Contenders take turns; medians of
`--repeats` rounds. Decoding and caching run in one process; every file is in the system's memory
after the first round, so no disk is measured. "Cold" decodes and writes, "warm" reads, each with a
cache that was just opened.

The loader's epochs are timed after a first one, in which its processes start, and one loader runs
at a time. "Left to the GPU" only draws what is to be done to each clip.

Shapes: F frames of a clip, N of many, C = 3 channels, H = W the resolution.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.clips import make_shapes, split_of
from benchmarks.measure import alternate, record, table
from benchmarks.plain_form import PilAugment
from tvr.dataloaders.augment import RAND_AUGMENT, RandAugment, apply
from tvr.dataloaders.datasets import FrameSettings, PairDataset, pair_loader
from tvr.dataloaders.records import Split
from tvr.dataloaders.sampler import RankSampler
from tvr.dataloaders.transforms import clip_seed
from tvr.dataloaders.workers import checked
from tvr.models.clip import Tokenizer
from tvr.utils.arguments import count, rate
from tvr.utils.errors import UserError

DECORD, OPENCV = "decode with decord", "decode with OpenCV"
COLD, WARM = "frame cache, cold", "frame cache, warm"
PIL, TENSORS = "PIL, frame by frame", "batched tensors"
CPU = torch.device("cpu")
FEWEST_CLIPS = 24  # the generator shows every shape, colour and motion once
TIMED_EPOCH = 2  # of a loader, whose processes start in the first


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--videos", type=Path, help="folder of mp4 files; without it, some are made")
    add("--made", type=Path, default=Path("ckpts/benchmarks"), help="where to make them")
    add("--seconds", type=rate, default=15.0, help="of a made-up clip")
    add("--clips", type=count, default=64, help="how many")
    add("--max_frames", type=count, default=12, help="frames of a clip at most")
    add("--framerate", type=rate, default=1.0, help="frames to take per second")
    add("--resolution", type=count, default=224, help="pixels of a frame's side")
    add("--batch_size", type=count, default=16, help="captions of a batch")
    add("--workers", default="0,1,2", help="processes of the loader, several with commas")
    add("--repeats", type=count, default=3, help="rounds; the median is reported")
    add("--threads", type=count, default=2, help="CPU threads of the main process")
    add("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


def made_up_videos(args: argparse.Namespace) -> Path:
    """A folder of made-up clips, made where it is missing. Raises UserError: see `make_shapes`."""
    number = max(args.clips, FEWEST_CLIPS)
    folder = args.made / f"{number}_clips_of_{args.seconds:g}_s"
    make_shapes(folder, number, 1, args.seconds)
    return folder / "videos_3fps"


def read_all(frames: FrameSettings, split: Split) -> list[Tensor]:
    """Every clip's frames_FCHW."""
    return [frames.read(clip) for clip in split.clips]


def read_each(frames: FrameSettings, split: Split) -> None:
    """The same without keeping them, so that new memory for all is no part of what is timed."""
    for clip in split.clips:
        frames.read(clip)


def identical(some: list[Tensor], others: list[Tensor]) -> int:
    """How many clips have the same frames, bit for bit."""
    return sum(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def decoding(
    split: Split, decord: FrameSettings, scratch: Path, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows for decoders and cache, and whether their frames are the same."""
    sampling = (decord.framerate, decord.max_frames, decord.resolution)
    opencv = FrameSettings(*sampling, "opencv")
    filled = scratch / "filled"
    live = read_all(decord, split)
    kept = read_all(decord.cached(filled), split)
    cached = read_all(decord.cached(filled), split)
    works: dict[str, Callable[[], Any]] = {
        DECORD: partial(read_each, decord, split),
        OPENCV: partial(read_each, opencv, split),
        COLD: lambda: read_each(decord.cached(Path(tempfile.mkdtemp(dir=scratch))), split),
        WARM: lambda: read_each(decord.cached(filled), split),
    }
    times = alternate(works, repeats, CPU)
    same = {OPENCV: read_all(opencv, split), COLD: kept, WARM: cached}
    facts = {
        f"clips bit for bit as with decord: {name}": f"{identical(live, frames)} of {len(live)}"
        for name, frames in same.items()
    }
    return _rows("frames from", times, len(split.clips)), facts


def _rows(what: str, times: dict[str, float], clips: int) -> list[dict[str, Any]]:
    first = next(iter(times.values()))
    return [
        {
            what: name,
            "clips/s": clips / seconds,
            "ms per clip": 1000 * seconds / clips,
            "times faster": first / seconds,
        }
        for name, seconds in times.items()
    ]


def in_pil(augment: PilAugment, clips: list[Tensor]) -> Tensor:
    """All clips' frames_NCHW, augmented clip after clip, frame after frame."""
    return torch.cat([augment(frames, seed_of(place)) for place, frames in enumerate(clips)])


def seed_of(place: int) -> int:
    """A clip's seed in the epoch of the loader that is timed."""
    return clip_seed(0, TIMED_EPOCH, place)


def in_tensors(augment: RandAugment, clips: list[Tensor], size: int, device: str) -> Tensor:
    """All clips' frames_NCHW, taken to the device and augmented there, `size` clips at a time."""
    parts = []
    for start in range(0, len(clips), size):
        batch = clips[start : start + size]
        plans = [augment.draw(seed_of(start + place)) for place in range(len(batch))]
        frames_NCHW = torch.cat(batch)
        if device == "cuda":
            frames_NCHW = frames_NCHW.pin_memory().to(device, non_blocking=True)
        parts.append(apply(frames_NCHW, plans, [len(frames_FCHW) for frames_FCHW in batch]))
    return torch.cat(parts)


def augmentation(
    clips: list[Tensor], size: int, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, str | float]]:
    """Rows for RandAugment, and whether its forms give the same frames."""
    ours = RandAugment(RAND_AUGMENT)
    works: dict[str, Callable[[], Tensor]] = {PIL: partial(in_pil, PilAugment(RAND_AUGMENT), clips)}
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        works[f"{TENSORS}, {device}"] = partial(in_tensors, ours, clips, size, device)
    expected_NCHW, *others = (work().cpu() for work in works.values())
    times = alternate(works, repeats, torch.device(devices[-1]))
    facts: dict[str, str | float] = {}
    for name, frames_NCHW in zip(list(works)[1:], others, strict=True):
        same = identical(list(frames_NCHW), list(expected_NCHW))
        other = 100 * float((frames_NCHW != expected_NCHW).double().mean())
        facts[f"frames bit for bit as in PIL: {name}"] = f"{same} of {len(expected_NCHW)}"
        facts[f"values that are not as in PIL, %: {name}"] = other
    return _rows("RandAugment", times, len(clips)), facts


def epoch_seconds(dataset: PairDataset, batch_size: int, workers: int) -> float:
    """Seconds of a loader's epoch, after one that is not timed."""
    sampler = RankSampler(dataset.video_of_caption, batch_size, 0, 1, 0, range(1, TIMED_EPOCH + 1))
    pin_memory = torch.cuda.is_available()
    batches: Iterator[Any] = checked(pair_loader(dataset, sampler, workers, pin_memory))
    for _ in islice(batches, sampler.steps_per_epoch):
        pass
    started = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - started


def loading(
    split: Split, live: FrameSettings, cached: FrameSettings, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row of clips a second for every number of processes."""
    batch_size = min(args.batch_size, len(split.clips))
    tokenize = partial(Tokenizer(), length=32)
    sources = {
        "decode, augment": (live, False),
        "warm cache, augment": (cached, False),
        "warm cache, augmentation left to the GPU": (cached, True),
    }
    datasets = {
        name: PairDataset(split, frames, tokenize, RAND_AUGMENT, 0, augment_later=later)
        for name, (frames, later) in sources.items()
    }
    counts = [int(number) for number in args.workers.split(",")]
    times: dict[tuple[int, str], list[float]] = {
        (workers, name): [] for workers in counts for name in datasets
    }
    for _ in range(args.repeats):
        for workers, name in times:
            seconds = epoch_seconds(datasets[name], batch_size, workers)
            times[workers, name].append(seconds)
    clips = len(split.clips) // batch_size * batch_size
    return [
        {"processes": workers}
        | {f"{name}: clips/s": clips / median(times[workers, name]) for name in datasets}
        for workers in counts
    ]


def main() -> int:
    """Measure, print and record; the exit code."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    frames = FrameSettings(args.framerate, args.max_frames, args.resolution, "decord")
    try:
        split = split_of(args.videos or made_up_videos(args), args.clips)
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            decoded, same = decoding(split, frames, scratch, args.repeats)
            cached = frames.cached(scratch / "filled")
            clips = read_all(cached, split)
            augmented, as_in_pil = augmentation(clips, args.batch_size, args.repeats)
            loaded = loading(split, frames, cached, args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    facts = {
        "clips": len(clips),
        "frames of a clip": sum(map(len, clips)) / len(clips),
        "resolution": args.resolution,
        **same,
        **as_in_pil,
    }
    print(table(decoded), table(augmented), table(loaded), sep="\n\n", end="\n\n")
    for name, value in facts.items():
        print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")
    device = torch.device("cuda") if torch.cuda.is_available() else CPU
    rows = {"decoding": decoded, "augmentation": augmented, "loader": loaded}
    record(args.json, device, {**rows, **facts})
    return 0


if __name__ == "__main__":
    sys.exit(main())
