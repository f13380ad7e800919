"""The evaluation protocol: encode a split once, score every pair in blocks, rank both ways.

Shapes: A captions, B videos of the gallery, N videos of this rank, F frames.

Every item is encoded in the same batch, and every pair scored in the same block, however many
processes there are: so every process count gives the same metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tvr.build import Run, build_model
from tvr.checkpoint import write_json
from tvr.config import Config
from tvr.contact_sheet import draw_contact_sheet
from tvr.dataloaders.datasets import ClipDataset, checked, clip_loader
from tvr.dataloaders.records import Split
from tvr.models.gare import GARE, PairScores, TextFeatures, VideoFeatures
from tvr.utils.distributed import gather_uneven
from tvr.utils.errors import UserError
from tvr.utils.metrics import both_directions, table
from tvr.utils.postprocess import dual_softmax, qb_norm, sinkhorn

TEXTS_PER_BLOCK = 32  # with 128 videos, the pairs whose increments are held at a time


Score = Callable[[TextFeatures, VideoFeatures], PairScores]


def evaluate(run: Run, model: GARE, split: Split) -> dict[str, dict]:
    """The metrics of both directions, on every rank.

    Raises:
        UserError: a video cannot be read, or a score is not a finite number.
    """
    texts = [caption.text for caption in split.captions]
    [sim_AB] = similarities(run, model, split, texts, [model.score])
    return ranked(sim_AB, sim_AB, split)


def ranked(t2v_AB: np.ndarray, v2t_AB: np.ndarray, split: Split) -> dict[str, dict]:
    """The metrics of both directions, each from its own scores."""
    try:
        return both_directions(t2v_AB, np.array(split.video_of_caption()), v2t_AB)
    except ValueError as error:
        raise UserError(f"{split.name}: {error}. The model's weights are unusable.") from error


@torch.inference_mode()
def similarities(
    run: Run, model: GARE, split: Split, texts: list[str], scores: Sequence[Score]
) -> list[np.ndarray]:
    """For every way to score, sim_AB of all texts with a split's clips, on every rank.

    Each rank encodes its share of the clips, once, and scores them against all texts.
    """
    was_training = model.training
    model.eval()
    size, ranks = run.config.batch_size_val, run.ranks
    batches = [
        list(range(start, min(start + size, len(split.clips))))
        for start in range(0, len(split.clips), size)
    ][ranks.rank :: ranks.world_size]
    text = encode_texts(run, model, texts)
    loader = clip_loader(
        ClipDataset(split, run.frames(model)), batches, run.config.workers, pin_memory(run)
    )
    parts = [torch.zeros(0, len(scores), len(texts), device=run.device)]
    rows = [torch.zeros(0, dtype=torch.long, device=run.device)]
    quiet = None if ranks.is_main else True  # None: only on a terminal
    for batch in tqdm(checked(loader), "evaluate", len(batches), leave=False, disable=quiet):
        batch = batch.to(run.device, non_blocking=True)
        with run.autocast():
            video = model.encode_video(batch.frames_BFCHW, batch.frame_mask_BF)
        columns = [score_in_blocks(score, text, video) for score in scores]
        parts.append(torch.stack(columns).permute(2, 0, 1))
        rows.append(batch.video_B)
    model.train(was_training)
    order_B = gather_uneven(torch.cat(rows)).argsort()
    sim_SAB = gather_uneven(torch.cat(parts))[order_B].permute(1, 2, 0)
    return list(sim_SAB.cpu().numpy())


def encode_texts(run: Run, model: GARE, texts: list[str]) -> TextFeatures:
    """All texts' features; each rank encodes its share of the batches, then all exchange."""
    size, ranks = run.config.batch_size_val, run.ranks
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


def score_in_blocks(score: Score, text: TextFeatures, video: VideoFeatures) -> Tensor:
    """sim_AB of one batch of clips against all texts, a block of texts at a time."""
    blocks = [
        score(text[start : start + TEXTS_PER_BLOCK], video).sim_AB
        for start in range(0, len(text.text_AD), TEXTS_PER_BLOCK)
    ]
    return torch.cat(blocks)


def pin_memory(run: Run) -> bool:
    return run.device.type == "cuda"


def run_evaluation(run: Run) -> None:
    """`--do_eval`: `--init_model`, or CLIP alone, on the test split; writes metrics.json."""
    run.refuse_earlier_results()
    config, split = run.config, run.split("test")
    model = build_model(run)
    ways: dict[str, Score] = {"evaluated": model.score}
    if config.zero_shot:
        ways = {
            "zero-shot, mean of the frames": model.score_by_mean,
            "zero-shot, text-conditioned pooling": model.score,
        }
    texts = [caption.text for caption in split.captions]
    bank = run.training_captions(config.qb_bank) if config.qb_norm else []
    matrices = similarities(run, model, split, texts + bank, list(ways.values()))
    if not run.ranks.is_main:
        return
    results = []
    for way, sim_AB in zip(ways, matrices, strict=True):
        sim_AB, bank_KB = sim_AB[: len(texts)], sim_AB[len(texts) :]
        for label, t2v_AB, v2t_AB in processed(config, sim_AB, bank_KB):
            metrics = ranked(t2v_AB, v2t_AB, split)
            name = f"{way}, {label}" if label else way
            run.log.info("%s: %s\n%s", split.name, name, table(metrics))
            results.append({"label": name, "checkpoint": config.init_model, **metrics})
    path = run.output_dir / "metrics.json"
    write_json(path, {**run.report(split), "results": results})
    run.log.info("wrote %s", path)
    if config.contact_sheet:
        sheet = run.output_dir / "contact_sheet.jpg"
        draw_contact_sheet(sheet, matrices[-1], split, config.contact_sheet)
        run.log.info("wrote %s", sheet)


def processed(
    config: Config, sim_AB: np.ndarray, bank_KB: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The raw scores, then each post-processing that was asked for: label, t2v_AB and v2t_AB."""
    yield "", sim_AB, sim_AB
    for name, method in (("dual_softmax", dual_softmax), ("sinkhorn", sinkhorn)):
        temperature = getattr(config, name)
        if temperature:
            label = f"{name} at {temperature:g}, which looks at the whole test set"
            yield label, method(sim_AB, temperature), method(sim_AB.T, temperature).T
    if config.qb_norm:
        label = f"qb_norm at {config.qb_norm:g} with {len(bank_KB)} training captions (v2t: raw)"
        yield label, qb_norm(sim_AB, bank_KB, config.qb_norm), sim_AB
