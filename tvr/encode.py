"""Encode a split once: every text, and every clip, each rank its share.

Every item is encoded in the same batch however many processes there are, so that every number of
processes gives the same features.

Shapes: A captions, N videos of this rank, F frames, L tokens, D embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from tvr.build import Run
from tvr.dataloaders.datasets import ClipDataset, checked, clip_loader
from tvr.dataloaders.records import Split
from tvr.models.gare import GARE, TextFeatures, VideoFeatures
from tvr.utils.distributed import gather_uneven


@dataclass(frozen=True)
class EncodedClips:
    """This rank's share of a split's clips, in batches, and their places in the split."""

    batches: list[VideoFeatures]
    clip_N: Tensor


@contextmanager
def evaluating(model: GARE) -> Iterator[None]:
    """Dropout off and no gradients; the model's mode is restored afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def encode_clips(run: Run, model: GARE, split: Split) -> EncodedClips:
    """The features of this rank's share of the split's clips.

    Raises:
        UserError: a video cannot be read.
    """
    size, ranks = run.config.batch_size_val, run.ranks
    shares = [
        list(range(start, min(start + size, len(split.clips))))
        for start in range(0, len(split.clips), size)
    ][ranks.rank :: ranks.world_size]
    loader = clip_loader(
        ClipDataset(split, run.frames(model)), shares, run.config.workers, run.pin_memory
    )
    quiet = None if ranks.is_main else True  # None: only on a terminal
    batches, rows = [], [torch.zeros(0, dtype=torch.long, device=run.device)]
    for batch in tqdm(checked(loader), "encode videos", len(shares), leave=False, disable=quiet):
        batch = batch.to(run.device, non_blocking=True)
        with run.autocast():
            batches.append(model.encode_video(batch.frames_BFCHW, batch.frame_mask_BF))
        rows.append(batch.video_B)
    return EncodedClips(batches, torch.cat(rows))


def encode_texts(run: Run, model: GARE, texts: list[str], words: bool = False) -> TextFeatures:
    """All texts' features on every rank; each rank encodes its share of the batches.

    `words` asks for word features also where the score does not need them.
    """
    size, ranks = run.config.batch_size_val, run.ranks
    words = words or model.needs_words
    parts, rows = [], []
    for start in range(0, len(texts), size)[ranks.rank :: ranks.world_size]:
        tokens_AL = model.backbone.tokenize(texts[start : start + size], run.config.max_words)
        with run.autocast():
            parts.append(model.encode_text(tokens_AL.to(run.device), words))
        rows.append(torch.arange(start, start + len(tokens_AL), device=run.device))
    return exchange(run, model, parts, rows, words)


def exchange(
    run: Run, model: GARE, parts: list[TextFeatures], rows: list[Tensor], words: bool
) -> TextFeatures:
    """Every rank's text features in the order of the captions."""
    width, length = model.backbone.width, run.config.max_words
    empty = {"device": run.device}
    row_N = torch.cat([torch.zeros(0, dtype=torch.long, **empty), *rows])
    order_A = gather_uneven(row_N).argsort()

    def gathered(pieces: list[Tensor], *shape: int, dtype: torch.dtype) -> Tensor:
        stacked = torch.cat([torch.zeros(0, *shape, dtype=dtype, **empty), *pieces])
        return gather_uneven(stacked)[order_A]

    words_ALD = None
    if words:
        pieces = [part.words_ALD for part in parts]
        words_ALD = gathered(pieces, length, width, dtype=torch.float32)
    return TextFeatures(
        gathered([part.text_AD for part in parts], width, dtype=torch.float32),
        words_ALD,
        gathered([part.mask_AL for part in parts], length, dtype=torch.bool),
    )
