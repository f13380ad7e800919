"""The evaluation protocol: encode a split once, score every pair, rank both ways.

Shapes: A captions, B videos of the gallery, N videos of this rank.

Pairs are scored in the same blocks however many processes there are: so every number of processes
gives the same metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tvr.build import Run, build_model, starting_checkpoint
from tvr.checkpoint import write_json
from tvr.config import Config
from tvr.contact_sheet import draw_contact_sheet
from tvr.dataloaders.records import Split
from tvr.encode import EncodedClips, encode_clips, encode_texts, evaluating
from tvr.export import export_features
from tvr.models.gare import GARE
from tvr.models.score import PairScores, TextFeatures, VideoFeatures
from tvr.models.scoring import FastScore, slices, why_literal
from tvr.output_folder import write_config
from tvr.rankings import EVALUATED, write_rankings
from tvr.report.page import write_report
from tvr.utils.distributed import gather_uneven
from tvr.utils.errors import UserError
from tvr.utils.metrics import both_directions, table
from tvr.utils.postprocess import dual_softmax, qb_norm, sinkhorn

TEXTS_PER_BLOCK = 32  # with 128 videos, the pairs whose increments the literal form holds

# sim_AN of all texts with the videos of all batches
Score = Callable[[TextFeatures, Sequence[VideoFeatures]], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """The metrics of both directions, and the scores sim_AB that they are of."""

    metrics: dict[str, dict]
    sim_AB: np.ndarray


def evaluate(
    run: Run, model: GARE, split: Split, between: Callable[[], None] = lambda: None
) -> Evaluation:
    """Every caption against every video of a split, on every rank.

    `between` is called now and then, equally often on every rank, and may end it by an exception.

    Raises:
        UserError: a video cannot be read, or a score is not a finite number.
    """
    with evaluating(model):
        text = encode_texts(run, model, [caption.text for caption in split.captions])
        clips = encode_clips(run, model, split, between)
        sim_AB = similarities(model_score(run, model), text, clips)
    return Evaluation(ranked(sim_AB, sim_AB, split), sim_AB)


def ranked(t2v_AB: np.ndarray, v2t_AB: np.ndarray, split: Split) -> dict[str, dict]:
    """The metrics of both directions, each from its own scores."""
    try:
        return both_directions(t2v_AB, np.array(split.video_of_caption()), v2t_AB)
    except ValueError as error:
        raise UserError(f"{split.name}: {error}. The model's weights are unusable.") from error


def similarities(score: Score, text: TextFeatures, clips: EncodedClips) -> np.ndarray:
    """sim_AB of all texts with all ranks' clips, in the order of the split, on every rank."""
    if clips.batches:
        sim_NA = score(text, clips.batches).T
    else:
        sim_NA = text.text_AD.new_zeros(0, len(text.text_AD))
    order_B = gather_uneven(clips.clip_N).argsort()
    return gather_uneven(sim_NA)[order_B].T.cpu().numpy()


def model_score(run: Run, model: GARE) -> Score:
    """The model's score in the form that `--scoring` asks for, or the literal one if need be."""
    if run.config.scoring == "literal":
        return literal(model.score)
    reason = why_literal(model)
    if reason is None:
        return FastScore(model)
    run.log.info("--scoring literal, since %s", reason)
    return literal(model.score)


def literal(score: Callable[[TextFeatures, VideoFeatures], PairScores]) -> Score:
    """`score` of every pair, in blocks that bound the memory."""

    def in_blocks(text: TextFeatures, batches: Sequence[VideoFeatures]) -> Tensor:
        blocks = [text[rows] for rows in slices(len(text.text_AD), TEXTS_PER_BLOCK)]
        columns = [torch.cat([score(block, video).sim_AB for block in blocks]) for video in batches]
        return torch.cat(columns, dim=1)

    return in_blocks


def run_evaluation(run: Run) -> None:
    """`--do_eval`: `--init_model`, or CLIP alone, on the test split; writes metrics.json."""
    run.refuse_earlier_results()
    config, split = run.config, run.split("test")
    checkpoint = starting_checkpoint(run)
    model = build_model(run, checkpoint)
    write_config(run)
    ways: dict[str, Score] = {"evaluated": model_score(run, model)}
    if config.zero_shot:
        ways = {
            "zero-shot, mean of the frames": literal(model.score_by_mean),
            "zero-shot, text-conditioned pooling": model_score(run, model),
        }
    texts = [caption.text for caption in split.captions]
    bank = run.training_captions(config.qb_bank) if config.qb_norm else []
    scored: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    with evaluating(model):
        text = encode_texts(run, model, texts, words=config.export_features is not None)
        bank_text = encode_texts(run, model, bank) if bank else None
        clips = encode_clips(run, model, split)
        for way, score in ways.items():
            bank_KB = similarities(score, bank_text, clips) if bank_text else None
            scored[way] = similarities(score, text, clips), bank_KB
    if run.ranks.is_main:
        origin = {"checkpoint": config.init_model}
        facts = checkpoint or {}
        origin |= {k: facts[k] for k in ("epoch", "step") if k in facts}
        report_ways(run, split, origin, scored)
    # last, as they may fail over a full disk
    if config.export_features is not None:
        export_features(run, split, text, clips)
    write_report(run, split)


def report_ways(
    run: Run,
    split: Split,
    origin: dict[str, Any],
    scored: dict[str, tuple[np.ndarray, np.ndarray | None]],
) -> None:
    """Log and write the metrics of every way to score: sim_AB, and the query bank's bank_KB.

    `origin` says which checkpoint they are of.
    """
    results = []
    for way, (sim_AB, bank_KB) in scored.items():
        for label, t2v_AB, v2t_AB in processed(run.config, sim_AB, bank_KB):
            metrics = ranked(t2v_AB, v2t_AB, split)
            name = f"{way}, {label}" if label else way
            run.log.info("%s: %s\n%s", split.name, name, table(metrics))
            results.append({"label": name, **origin, **metrics})
    path = run.output_dir / "metrics.json"
    write_json(path, {**run.report(split), "results": results})
    run.log.info("wrote %s", path)
    write_rankings(run, EVALUATED, sim_AB, split)
    if run.config.contact_sheet:
        sheet = run.output_dir / "contact_sheet.jpg"
        draw_contact_sheet(sheet, sim_AB, split, run.config.contact_sheet)
        run.log.info("wrote %s", sheet)


def processed(
    config: Config, sim_AB: np.ndarray, bank_KB: np.ndarray | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The raw scores, then each post-processing that was asked for: label, t2v_AB and v2t_AB."""
    yield "", sim_AB, sim_AB
    for name, method in (("dual_softmax", dual_softmax), ("sinkhorn", sinkhorn)):
        temperature = getattr(config, name)
        if temperature:
            label = f"{name} at {temperature:g}, which looks at the whole test set"
            yield label, method(sim_AB, temperature), method(sim_AB.T, temperature).T
    if bank_KB is not None:
        label = f"qb_norm at {config.qb_norm:g} with {len(bank_KB)} training captions (v2t: raw)"
        yield label, qb_norm(sim_AB, bank_KB, config.qb_norm), sim_AB
