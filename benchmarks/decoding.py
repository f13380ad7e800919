"""Decoding in a process of its own: what it costs, and whether its memory grows.

    python -m benchmarks.decoding cost [--videos FOLDER] [--json OUT.json]
    python -m benchmarks.decoding memory --decodes 20000 --video_decoder decord

The clips are the made-up ones of the demo, 15 s long, or those of a folder. `cost` reads each of
them here and in the process in turns, with each decoder, as they go to the model, 224 pixels; the
time of the processor stands beside that of the clock, which other programs disturb. `memory` reads
them over and over and prints the resident memory of the process that decodes and of this one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import torch

from benchmarks.clips import make_shapes, split_of
from benchmarks.measure import alternate, record, resident_mib, table
from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.reading import DECODERS
from tvr.dataloaders.records import Clip

CPU = torch.device("cpu")
REPORTS = 10


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("cost", "memory"):
        command = commands.add_parser(name)
        command.add_argument("--videos", type=Path, help="folder of .mp4 files [made-up clips]")
        command.add_argument("--clips", type=int, default=20)
        command.add_argument("--json", type=Path, help="where to write the figures")
    commands.choices["cost"].add_argument("--repeats", type=int, default=9)
    memory = commands.choices["memory"]
    memory.add_argument("--decodes", type=int, default=20_000)
    memory.add_argument("--video_decoder", choices=DECODERS, default=DECODERS[0])
    return parser.parse_args()


def cost(clips: list[Clip], repeats: int) -> list[dict]:
    """A row a decoder: medians over the clips of each clip's median time, and mean CPU times."""
    rows = []
    for decoder in DECODERS:
        here = FrameSettings(1.0, 12, 224, decoder)
        there = here.limited(60.0)
        process = there.process
        assert process is not None
        ways = {"here": here.read, "in the process": there.read}
        for read in ways.values():
            read(clips[0])
        times, used = [], dict.fromkeys(ways, 0.0)
        for clip in clips:
            calls = {name: partial(read, clip) for name, read in ways.items()}
            times.append(alternate(calls, repeats, CPU))
        for _ in range(repeats):
            for name, read in ways.items():
                before = processor_seconds(process)
                for clip in clips:
                    read(clip)
                used[name] += processor_seconds(process) - before
        medians = {name: 1e3 * statistics.median(time[name] for time in times) for name in ways}
        means = {f"{name}, CPU": 1e3 * used[name] / repeats / len(clips) for name in ways}
        rows.append({"ms a clip": decoder, **medians, **means})
        process.close()
    return rows


def processor_seconds(process: DecoderProcess) -> float:
    """What this process and the one that decodes have used so far."""
    numbers = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
    return time.process_time() + (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def memory(clips: list[Clip], decodes: int, decoder: str) -> list[dict]:
    """A row now and then: how many decodes, and both processes' resident MiB."""
    frames = FrameSettings(1.0, 12, 224, decoder).limited(60.0)
    process = frames.process
    assert process is not None
    rows, started = [], time.monotonic()
    for number, clip in enumerate(islice(cycle(clips), decodes), start=1):
        frames.read(clip)
        if number in (100, 1000) or number % max(1, decodes // REPORTS) == 0:
            assert process.pid is not None
            row = {
                "decodes": number,
                "decoder MiB": resident_mib(process=process.pid),
                "this process MiB": resident_mib(),
                "seconds": time.monotonic() - started,
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    args = parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = args.videos or Path(name)
        if args.videos is None:
            make_shapes(folder, train=args.clips, test=1, seconds=15.0)
        clips = split_of(
            folder / "videos_3fps" if args.videos is None else folder, args.clips
        ).clips
        if args.command == "cost":
            rows = cost(clips, args.repeats)
        else:
            rows = memory(clips, args.decodes, args.video_decoder)
    print(table(rows))
    record(args.json, CPU, {"videos": len(clips), args.command: rows})


if __name__ == "__main__":
    main()
