"""How long it takes to score all pairs: the literal form, the fast form, and the floor.

    python -m benchmarks.scoring [--texts 1000 --videos 1000 --frames 12] [--json OUT.json]

Features and ψ are made up; no encoder runs. The contenders take turns. "Floor" is the matrix
product without which the fast form cannot do, alone.

Shapes: A texts, B videos, F frames, L words, D embedding width.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import alternate, peak_mib, record, seconds, table
from tvr.models.score import ModelSettings, Scorer, TextFeatures, VideoFeatures
from tvr.models.scoring import TEXTS_PER_BLOCK, VIDEOS_PER_BLOCK, FastScore, slices

RELEASE_BLOCK = (16, 16)  # texts, videos
BLOCKS = (RELEASE_BLOCK, (32, 128), (128, 32), (64, 16), (16, 64), (8, 256), (256, 8))
TRIAL = 256  # texts and videos on which the blocks are compared


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    for name, default in (("texts", 1000), ("videos", 1000), ("frames", 12), ("words", 32)):
        add(f"--{name}", type=int, default=default)
    add("--width", type=int, default=512, help="D, the features' width")
    add("--context", choices=("frames", "words"), default="frames", help="what ψ attends to")
    add("--correct", choices=("text", "video"), default="text", help="the side that Δ is added to")
    add("--batch", type=int, default=128, help="videos of an evaluation batch")
    add("--repeats", type=int, default=3, help="rounds; the median is reported")
    add("--threads", type=int, default=2, help="CPU threads")
    add("--device", default="cpu")
    add("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


def make(args: argparse.Namespace) -> tuple[Scorer, TextFeatures, list[VideoFeatures]]:
    """Made-up ψ and features of CLIP's size: norm near 10, half of it common to all."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    settings = ModelSettings(context=args.context, correct=args.correct)
    model = Scorer(settings, args.width).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data = 0.03 * torch.randn_like(parameter) + float(parameter.ndim == 1)
    common_D = torch.randn(args.width)

    def features(*shape: int) -> Tensor:
        unit = torch.randn(*shape, args.width) + common_D
        return unit.to(args.device) * 10 / (2 * args.width) ** 0.5

    def mask(items: int, length: int) -> Tensor:
        lengths = torch.randint(1 + length // 2, length + 1, (items, 1))
        return (torch.arange(length) < lengths).to(args.device)

    words = features(args.texts, args.words) if args.context == "words" else None
    text = TextFeatures(features(args.texts), words, mask(args.texts, args.words))
    video = VideoFeatures(features(args.videos, args.frames), mask(args.videos, args.frames))
    return model.to(args.device), text, [video[rows] for rows in slices(args.videos, args.batch)]


def literal(
    model: Scorer, text: TextFeatures, batches: list[VideoFeatures], block: tuple[int, int]
) -> Tensor:
    """sim_AB by the paper's equations."""
    columns = []
    for video in batches:
        for rows_B in slices(len(video.mask_BF), block[1]):
            part = video[rows_B]
            rows = slices(len(text.text_AD), block[0])
            columns.append(torch.cat([model.score(text[r], part).sim_AB for r in rows]))
    return torch.cat(columns, dim=1)


def fast(model: Scorer, text: TextFeatures, batches: list[VideoFeatures]) -> Tensor:
    """sim_AB by the fast form, the folding of ψ included."""
    return FastScore(model)(text, batches)


def preparation(model: Scorer, text: TextFeatures, batches: list[VideoFeatures]) -> None:
    """What the fast form does per text and per video, without any pair."""
    score = FastScore(model)
    texts, frames = text.text_AD.shape[0], batches[0].mask_BF.shape[1]
    size_A, size_B = TEXTS_PER_BLOCK, score.videos_per_block(texts, frames)
    if model.settings.context == "words":
        size_A, size_B = score.texts_per_block(text, frames), VIDEOS_PER_BLOCK
    for rows in slices(texts, size_A):
        score.texts(text[rows])
    for video in batches:
        for rows in slices(len(video.mask_BF), size_B):
            score.videos(video[rows])


def best_block(
    model: Scorer, text: TextFeatures, batches: list[VideoFeatures], device: torch.device
) -> tuple[int, int]:
    """The block of the literal form that is fastest on a part of the pairs."""
    part, some = text[:TRIAL], batches[: max(1, TRIAL // len(batches[0].mask_BF))]
    times = {
        block: min(seconds(partial(literal, model, part, some, block), device) for _ in range(2))
        for block in BLOCKS
    }
    return min(times, key=lambda block: times[block])


def contenders(args: argparse.Namespace, block: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """Name and work of everything that is timed."""
    model, text, batches = make(args)
    per_video = 3 * args.frames if args.context == "frames" else 2 * (args.frames + args.words)
    vectors = torch.randn(args.videos * per_video, args.width, device=args.device)
    product = vectors.new_empty(len(vectors), args.texts)
    return {
        "literal, 16 × 16": partial(literal, model, text, batches, RELEASE_BLOCK),
        f"literal, best block ({block[0]} × {block[1]})": partial(
            literal, model, text, batches, block
        ),
        "fast": partial(fast, model, text, batches),
        "fast, preparation only": partial(preparation, model, text, batches),
        "floor": lambda: torch.mm(vectors, text.text_AD.T, out=product),
    }


def one(args: argparse.Namespace, block: tuple[int, int], name: str) -> Callable[[], Any]:
    """A single contender, for a process of its own."""
    return contenders(args, block)[name]


def ranks_changed(sim_AB: Tensor, other_AB: Tensor) -> int:
    """Queries of both directions whose own item, on the diagonal, has another rank."""
    changed = 0
    for mine, theirs in ((sim_AB, other_AB), (sim_AB.T, other_AB.T)):
        ranks = [(m >= m.diag()[:, None]).sum(dim=1) for m in (mine, theirs)]
        changed += int((ranks[0] != ranks[1]).sum())
    return changed


def compared(release_AB: Tensor, best_AB: Tensor, fast_AB: Tensor) -> dict[str, float | int]:
    """How far the forms differ. The literal form in two block sizes shows what rounding does."""
    facts = {"largest difference": float((release_AB - fast_AB).abs().max())}
    if len(release_AB) == release_AB.shape[1]:
        facts["ranks that differ, fast and literal"] = ranks_changed(release_AB, fast_AB)
        facts["ranks that differ, literal in two blocks"] = ranks_changed(release_AB, best_AB)
        facts["candidates 1e-6 apart that change places"] = apart_changed(release_AB, fast_AB)
    return facts


def apart_changed(sim_AB: Tensor, other_AB: Tensor) -> int:
    """Candidates that pass a query's own item, of both directions, though 1e-6 away from it."""
    changed = 0
    for mine, theirs in ((sim_AB, other_AB), (sim_AB.T, other_AB.T)):
        gaps, other_gaps = (m - m.diag()[:, None] for m in (mine, theirs))
        changed += int(((gaps.sign() != other_gaps.sign()) & (gaps.abs() > 1e-6)).sum())
    return changed


@torch.inference_mode()
def main() -> None:
    """Measure, print and record."""
    args = parse_args()
    device = torch.device(args.device)
    block = best_block(*make(args), device)
    works = contenders(args, block)
    release_AB, best_AB, fast_AB = (works[name]().cpu() for name in list(works)[:3])
    times = alternate(works, args.repeats, device)
    names = list(works)
    rows = []
    for name in names:
        memory = None if device.type == "cuda" else peak_mib(one, args, block, name)
        rows.append(
            {
                "form": name,
                "seconds": times[name],
                "times faster than 16 × 16": times[names[0]] / times[name],
                "peak MiB": memory,
            }
        )
    scoring = times["fast"] - times["fast, preparation only"]
    facts = {
        "shape": {k: getattr(args, k) for k in ("texts", "videos", "frames", "words", "width")},
        "scoring without preparation, seconds": scoring,
        "scoring over floor": scoring / times["floor"],
        **compared(release_AB, best_AB, fast_AB),
    }
    print(table(rows))
    for name, value in facts.items():
        print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")
    record(args.json, device, {"rows": rows, **facts})


if __name__ == "__main__":
    main()
