"""The evaluation protocol: encode a split once, score every pair in blocks, rank both ways.

Shapes: A captions, B videos of the gallery, N videos of this rank, F frames.

Every item is encoded in the same batch, and every pair scored in the same block, however many
processes there are: so every process count gives the same metrics.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tvr.build import Run, build_model
from tvr.checkpoint import write_json
from tvr.contact_sheet import draw_contact_sheet
from tvr.dataloaders.datasets import ClipDataset, checked, clip_loader
from tvr.dataloaders.records import Split
from tvr.models.gare import GARE, TextFeatures
from tvr.utils.distributed import gather_uneven
from tvr.utils.errors import UserError
from tvr.utils.metrics import both_directions, table

TEXTS_PER_BLOCK = 32  # with 128 videos, the pairs whose increments are held at a time


@torch.inference_mode()
def evaluate(run: Run, model: GARE, split: Split) -> tuple[dict[str, dict], np.ndarray]:
    """The metrics of both directions, and sim_AB, on every rank.

    Raises:
        UserError: a video cannot be read, or a score is not a finite number.
    """
    was_training = model.training
    model.eval()
    sim_AB = similarity(run, model, split)
    model.train(was_training)
    try:
        metrics = both_directions(sim_AB, np.array(split.video_of_caption()))
    except ValueError as error:
        raise UserError(f"{split.name}: {error}. The model's weights are unusable.") from error
    return metrics, sim_AB


def similarity(run: Run, model: GARE, split: Split) -> np.ndarray:
    """sim_AB of a whole split: each rank scores its share of the videos against all captions."""
    size, ranks = run.config.batch_size_val, run.ranks
    batches = [
        list(range(start, min(start + size, len(split.clips))))
        for start in range(0, len(split.clips), size)
    ][ranks.rank :: ranks.world_size]
    text = encode_captions(run, model, split)
    loader = clip_loader(
        ClipDataset(split, run.frames(model)), batches, run.config.workers, pin_memory(run)
    )
    columns, videos = [], []
    bar = tqdm(
        checked(loader),
        "evaluate",
        len(batches),
        leave=False,
        disable=None if ranks.is_main else True,
    )
    for batch in bar:
        batch = batch.to(run.device, non_blocking=True)
        columns.append(score_columns(run, model, text, batch.frames_BFCHW, batch.frame_mask_BF))
        videos.append(batch.video_B)
    count = len(split.captions)
    sim_NA = torch.cat(columns) if columns else torch.zeros(0, count, device=run.device)
    video_N = torch.cat(videos) if videos else torch.zeros(0, dtype=torch.long, device=run.device)
    order_B = gather_uneven(video_N).argsort()
    return gather_uneven(sim_NA)[order_B].T.cpu().numpy()


def encode_captions(run: Run, model: GARE, split: Split) -> TextFeatures:
    """All captions' features; each rank encodes its share of the batches, then all exchange."""
    size, ranks = run.config.batch_size_val, run.ranks
    texts = [caption.text for caption in split.captions]
    starts = range(0, len(texts), size)[ranks.rank :: ranks.world_size]
    parts, rows = [], []
    for start in starts:
        tokens_AL = model.backbone.tokenize(texts[start : start + size], run.config.max_words)
        with run.autocast():
            parts.append(model.encode_text(tokens_AL.to(run.device)))
        rows.append(torch.arange(start, start + len(tokens_AL), device=run.device))
    return exchange(run, model, parts, rows)


def exchange(run: Run, model: GARE, parts: list[TextFeatures], rows: list[Tensor]) -> TextFeatures:
    """Every rank's text features in the order of the captions."""
    width, length = model.backbone.width, run.config.max_words
    empty = {"device": run.device}
    row_N = torch.cat([torch.zeros(0, dtype=torch.long, **empty), *rows])
    order_A = gather_uneven(row_N).argsort()

    def gathered(pieces: list[Tensor], *shape: int, dtype: torch.dtype) -> Tensor:
        stacked = torch.cat([torch.zeros(0, *shape, dtype=dtype, **empty), *pieces])
        return gather_uneven(stacked)[order_A]

    words_ALD = None
    if model.needs_words:
        words = [part.words_ALD for part in parts]
        words_ALD = gathered(words, length, width, dtype=torch.float32)
    return TextFeatures(
        gathered([part.text_AD for part in parts], width, dtype=torch.float32),
        words_ALD,
        gathered([part.mask_AL for part in parts], length, dtype=torch.bool),
    )


def score_columns(
    run: Run, model: GARE, text: TextFeatures, frames_BFCHW: Tensor, mask_BF: Tensor
) -> Tensor:
    """sim_BA of one batch of clips against all captions, a block of captions at a time."""
    with run.autocast():
        video = model.encode_video(frames_BFCHW, mask_BF)
    blocks = [
        model.score(text[start : start + TEXTS_PER_BLOCK], video).sim_AB
        for start in range(0, len(text.text_AD), TEXTS_PER_BLOCK)
    ]
    return torch.cat(blocks).T


def pin_memory(run: Run) -> bool:
    return run.device.type == "cuda"


def run_evaluation(run: Run) -> None:
    """`--do_eval`: evaluate `--init_model` on the test split; print, and write metrics.json."""
    run.refuse_earlier_results()
    split = run.split("test")
    model = build_model(run)
    metrics, sim_AB = evaluate(run, model, split)
    if not run.ranks.is_main:
        return
    run.log.info("%s\n%s", split.name, table(metrics))
    result = {"label": "evaluated", "checkpoint": str(run.config.init_model), **metrics}
    path = run.output_dir / "metrics.json"
    write_json(path, {**run.report(split), "results": [result]})
    run.log.info("wrote %s", path)
    if run.config.contact_sheet:
        sheet = run.output_dir / "contact_sheet.jpg"
        draw_contact_sheet(sheet, sim_AB, split, run.config.contact_sheet)
        run.log.info("wrote %s", sheet)
