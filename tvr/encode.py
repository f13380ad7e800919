"""Encode a split once: every text, and every clip, each rank its share.

Every item is encoded in the same batch however many processes there are, so that every number of
processes gives the same features.

Shapes: A captions, N videos of this rank, K rows of all ranks' next batches, F frames, L tokens,
D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from tvr.build import Run
from tvr.dataloaders.datasets import ClipDataset, clip_loader
from tvr.dataloaders.incidents import Incidents
from tvr.dataloaders.records import Split
from tvr.dataloaders.workers import checked
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


def encode_clips(
    run: Run, model: GARE, split: Split, between: Callable[[], None] = lambda: None
) -> EncodedClips:
    """The features of this rank's share of the split's clips.

    `between` is called before each round of batches, of which every rank has at most one.

    Raises:
        UserError: a video cannot be read.
    """
    size, ranks = run.config.batch_size_val, run.ranks
    shares = [
        list(range(start, min(start + size, len(split.clips))))
        for start in range(0, len(split.clips), size)
    ]
    rounds = range(0, len(shares), ranks.world_size)
    loader = clip_loader(
        ClipDataset(split, run.frames(model)),
        shares[ranks.rank :: ranks.world_size],
        run.config.workers,
        run.pin_memory,
    )
    quiet = None if ranks.is_main else True  # None: only on a terminal
    batches, rows = [], [torch.zeros(0, dtype=torch.long, device=run.device)]
    incidents, reading = Incidents(), checked(loader)
    for _ in tqdm(rounds, "encode videos", leave=False, disable=quiet):
        between()
        batch = next(reading, None)
        if batch is None:
            continue
        batch = batch.to(run.device, non_blocking=True)
        with run.autocast():
            batches.append(model.encode_video(batch.frames_NCHW, batch.mask_UF))
        rows.append(batch.video_B)
        incidents.add(batch.incidents)
    run.log_incidents(incidents)
    run.log_frame_cache()
    return EncodedClips(batches, torch.cat(rows))


def encode_texts(run: Run, model: GARE, texts: list[str], words: bool = False) -> TextFeatures:
    """All texts' features on every rank; each rank encodes its share of the batches.

    `words` asks for word features also where the score does not need them: on the main process.
    """
    size, ranks = run.config.batch_size_val, run.ranks
    text, word, mask, rows = [], [], [], []
    for start in range(0, len(texts), size)[ranks.rank :: ranks.world_size]:
        tokens_AL = model.backbone.tokenize(texts[start : start + size], run.config.max_words)
        with run.autocast():
            part = model.encode_text(tokens_AL.to(run.device), words or model.needs_words)
        text.append(part.text_AD)
        if part.words_ALD is not None:
            word.append(part.words_ALD)
        mask.append(part.mask_AL)
        rows.append(torch.arange(start, start + len(tokens_AL), device=run.device))
    width, length, count = model.backbone.width, run.config.max_words, len(texts)
    text_AD = in_order(run, text, rows, torch.zeros(0, width), count)
    mask_AL = in_order(run, mask, rows, torch.zeros(0, length, dtype=torch.bool), count)
    assert text_AD is not None
    assert mask_AL is not None
    words_ALD = None
    if words or model.needs_words:
        none_ALD = torch.zeros(0, length, width)
        words_ALD = in_order(run, word, rows, none_ALD, count, everywhere=model.needs_words)
    return TextFeatures(text_AD, words_ALD, mask_AL)


def in_order(
    run: Run,
    pieces: list[Tensor],
    rows: Sequence[Tensor],
    none: Tensor,
    count: int,
    everywhere: bool = True,
) -> Tensor | None:
    """All ranks' pieces as one tensor, with its rows in order.

    Args:
        pieces: this rank's, one a batch; they are taken out of the list, so that memory holds
            them once.
        rows: where the rows of each piece belong.
        none: no rows, of the pieces' shape and type, for a rank without a piece.
        count: how many rows all ranks have.
        everywhere: on every rank, or on the main process alone; the others get None.
    """
    wanted = everywhere or run.ranks.is_main
    none = none.to(run.device)
    whole = none.new_empty(count if wanted else 0, *none.shape[1:])
    no_row = torch.zeros(0, dtype=torch.long, device=run.device)
    for turn in range(math.ceil(count / (run.config.batch_size_val * run.ranks.world_size))):
        row_K = gather_uneven(rows[turn] if pieces else no_row)
        piece = gather_uneven(pieces.pop(0) if pieces else none)
        if wanted:
            whole[row_K] = piece
    return whole if wanted else None
