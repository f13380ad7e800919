"""Search: how many neighbours stage two needs, and how long a query takes.

    python -m benchmarks.search recall --index INDEX --queries FILE [--json OUT.json]
    python -m benchmarks.search latency --folder EMPTY [--sizes 1000 10000 100000]

`recall` takes a real index: of the ten best videos by GARE's own score over the whole gallery, the
share that is among the first N neighbours of the unadjusted text. `latency` makes up features of
the size of ViT-B/32's, in indexes below `--folder` that it leaves there, and asks one query at a
time: text encoder, nearest neighbours, reading, and GARE's score of the candidates.

Shapes: B videos of a shard, F frames, D embedding width.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import record, resident_mib, table
from tvr.checkpoint import save_checkpoint
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, VideoFeatures
from tvr.models.score import ModelSettings
from tvr.search.answers import read_queries
from tvr.search.engine import Engine
from tvr.search.indexing import VIDEOS_PER_SHARD, index_features
from tvr.search.model import SearchModel, open_model
from tvr.utils.logging import start_logging

TOPK = 10
CANDIDATES = (10, 16, 32, 64, 128, 256, 512, 1024)
WORDS = ("red", "blue", "circle", "square", "moves", "left", "up", "fast", "turns", "a", "the")


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    commands = parser.add_subparsers(dest="command", required=True)
    recall = commands.add_parser("recall")
    recall.add_argument("--index", type=Path, required=True)
    recall.add_argument("--queries", type=Path, required=True, help="one query a line")
    latency = commands.add_parser("latency")
    latency.add_argument("--folder", type=Path, required=True, help="for the made-up indexes")
    latency.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    latency.add_argument("--frames", type=int, default=12)
    latency.add_argument("--candidates", type=int, default=256)
    latency.add_argument("--queries", type=int, default=50, help="timed after 5 that warm up")
    latency.add_argument("--base_encoder", default="ViT-B/32", help="its size; weights are random")
    return parser.parse_args()


def recall(args: argparse.Namespace) -> list[dict]:
    """Share of the exact best ten that stage one finds, by how many it passes on."""
    engine = Engine.open(args.index)
    answers = engine.search(read_queries(args.queries), TOPK, exact=True)
    places = np.array([[hit.first_rank for hit in answer.hits] for answer in answers])
    return [
        {
            "candidates": count,
            "recall of the best 10, %": 100 * float((places <= count).mean()),
            "recall of the best, %": 100 * float((places[:, 0] <= count).mean()),
        }
        for count in (*(c for c in CANDIDATES if c < engine.gallery), engine.gallery)
    ]


def latency(args: argparse.Namespace) -> list[dict]:
    """Time, memory and disk of one query at a time, for each size of gallery."""
    model = made_up_model(args)
    return [measure(args, model, size) for size in args.sizes]


def made_up_model(args: argparse.Namespace) -> SearchModel:
    """A model of the encoder's size with random weights, as a checkpoint in the folder."""
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    settings = ModelSettings(base_encoder=args.base_encoder, agg_module="None", temp=3.0)
    path = args.folder / "model.pt"
    backbone = build_backbone(args.base_encoder, pretrained=False)
    save_checkpoint(path, GARE(backbone, settings), config={"max_frames": args.frames})
    return open_model(str(path), {}, "cpu", start_logging(args.folder, is_main=False))


def blocks(size: int, frames: int, width: int) -> Iterator[VideoFeatures]:
    """Features near CLIP's norm of 10, the frames of a video alike."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, size, VIDEOS_PER_SHARD):
        count = min(VIDEOS_PER_SHARD, size - start)
        video_B1D = torch.randn(count, 1, width, generator=generator)
        frames_BFD = video_B1D + 0.5 * torch.randn(count, frames, width, generator=generator)
        mask_BF = torch.ones(count, frames, dtype=torch.bool)
        yield VideoFeatures(frames_BFD * 10 / (1.25 * width) ** 0.5, mask_BF)


def measure(args: argparse.Namespace, model: SearchModel, size: int) -> dict:
    """One size of gallery."""
    index = args.folder / f"{size}"
    if not index.exists():
        index_features(
            index, model, args.folder, blocks(size, args.frames, model.gare.backbone.width)
        )
    before = resident_mib("RssAnon"), resident_mib("RssFile")
    started = time.perf_counter()
    engine = Engine.open(index)
    opened = time.perf_counter() - started
    random = np.random.default_rng(0)
    seconds = []
    for _ in range(5 + args.queries):
        query = " ".join(random.choice(WORDS, size=8))
        seconds.append(engine.search([query], TOPK, args.candidates)[0].seconds)
    return {
        "videos": size,
        "median ms": 1000 * float(np.median(seconds[5:])),
        "95th percentile ms": 1000 * float(np.percentile(seconds[5:], 95)),
        "opening s": opened,
        "memory MiB": grown("RssAnon", before[0]),
        "mapped from disk MiB": grown("RssFile", before[1]),
        "index on disk MiB": sum(path.stat().st_size for path in index.iterdir()) / 2**20,
    }


def grown(field: str, before: float | None) -> float | None:
    """How much more of one kind of memory there is than before, where the system tells."""
    now = resident_mib(field)
    return None if before is None or now is None else now - before


def main() -> None:
    """Measure, print and record."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    rows = {"recall": recall, "latency": latency}[args.command](args)
    print(table(rows))
    record(args.json, torch.device("cpu"), {"rows": rows})


if __name__ == "__main__":
    main()
