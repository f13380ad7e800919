"""Figure 6: queries with their target and their hardest negatives, and what Δ does to both.

The negatives that are hardest are those with the highest score before the correction,
cos(t_i, p_ij). Shown are the queries whose target's rank Δ changes most, among equals those whose
target is ranked worst after it.

Shapes: A captions, B videos, F frames, H height, W width, C colours.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from tvr.analysis.drawing import GREEN, RED
from tvr.analysis.result import Cell, Result, Unavailable
from tvr.analysis.subject import Request, Subject
from tvr.dataloaders.records import Split
from tvr.encode import encode_clips, encode_texts, evaluating
from tvr.evaluate import Score, model_score, similarities
from tvr.models.score import Scorer
from tvr.models.scoring import FastScore
from tvr.utils.errors import UserError
from tvr.utils.metrics import ranks

NAME = "hard_negatives"
NEGATIVES = 4
TARGET, NEGATIVE = "target", "negative"
TEXT_SHOWN = 110  # characters of a caption
BEFORE, AFTER, BASELINE = "before Δ", "after Δ", "baseline"
HEADER = (
    *("query", "caption", "video", "kind"),
    *(f"{what} {when}" for when in (BEFORE, AFTER, BASELINE) for what in ("score", "rank")),
)


@dataclass(frozen=True)
class Candidate:
    """A video for a query: its place in the split, what it is, and (score, rank) by each score."""

    video: int
    kind: str
    by: dict[str, tuple[float, int]]


def unadjusted(subject: Subject) -> Score:
    """cos(t_i, p_ij): the subject's own score with Δ = 0."""
    settings = replace(subject.model.settings, increment="none")
    return FastScore(Scorer(settings, subject.model.backbone.width))


def scores(subject: Subject, split: Split, before: bool) -> dict[str, np.ndarray]:
    """sim_AB of every caption with every video; `before` asks for the unadjusted ones as well.

    Raises:
        UserError: a video cannot be read.
    """
    run, model = subject.run, subject.model
    ways = {AFTER: model_score(run, model)}
    if before:
        ways[BEFORE] = unadjusted(subject)
    with evaluating(model):
        text = encode_texts(run, model, [caption.text for caption in split.captions])
        clips = encode_clips(run, model, split)
        return {name: similarities(score, text, clips) for name, score in ways.items()}


def chosen(before_A: np.ndarray, after_A: np.ndarray, count: int) -> list[int]:
    """The captions to show, from their targets' ranks before and after the correction."""
    order = np.lexsort((np.arange(len(after_A)), -after_A, -np.abs(before_A - after_A)))
    return order[:count].tolist()


def candidates(query: int, target: int, by: dict[str, np.ndarray]) -> list[Candidate]:
    """The target and the negatives with the highest unadjusted score, hardest first."""
    order = np.argsort(-by[BEFORE][query], kind="stable")
    negatives = [int(video) for video in order if video != target][:NEGATIVES]

    def found(video: int, kind: str) -> Candidate:
        each = {}
        for name, sim_AB in by.items():
            own = sim_AB[query, video]
            each[name] = float(own), int((sim_AB[query] >= own).sum())
        return Candidate(video, kind, each)

    return [found(target, TARGET), *(found(video, NEGATIVE) for video in negatives)]


def make(request: Request) -> Result:
    """The most changed queries of a split, with pictures.

    Raises:
        Unavailable: the run has no Δ.
        UserError: no such checkpoint or data, a video cannot be read, or weights are unusable.
    """
    subject, baseline = request.subject, request.compared
    if subject.model.psi is None:
        raise Unavailable(f"{subject.file} has no Δ that could change a rank.")
    split = subject.split(request.split or "test")
    by = scores(subject, split, before=True)
    if baseline is not None:
        by[BASELINE] = scores(baseline, split, before=False)[AFTER]
    owners = np.array(split.video_of_caption())
    try:
        rank_A = {name: ranks(sim_AB, owners) for name, sim_AB in by.items()}
    except ValueError as error:
        raise UserError(f"{split.name}: {error}. The model's weights are unusable.") from error
    queries = chosen(rank_A[BEFORE], rank_A[AFTER], request.queries)
    shown = {query: candidates(query, int(owners[query]), by) for query in queries}
    change_A = rank_A[AFTER] - rank_A[BEFORE]
    said = [
        f"{len(owners)} queries of {split.name}; {subject.file}",
        f"with Δ the target rises for {(change_A < 0).sum()}, falls for {(change_A > 0).sum()}, "
        f"stays for {(change_A == 0).sum()}",
    ]
    said.append("target first: " + ", ".join(f"{n} {(r == 1).sum()}" for n, r in rank_A.items()))
    return Result(NAME, table(split, shown), draw(subject, split, shown), said)


def table(split: Split, shown: dict[int, list[Candidate]]) -> list[tuple[Cell, ...]]:
    """A row a candidate; a rank counts ties against it."""
    rows: list[tuple[Cell, ...]] = [HEADER]
    for query, these in shown.items():
        caption = split.captions[query]
        for it in these:
            values = [v for name in (BEFORE, AFTER, BASELINE) for v in it.by.get(name, ("", ""))]
            video = split.clips[it.video].video_id
            rows.append((caption.caption_id, caption.text, video, it.kind, *values))
    return rows


def draw(subject: Subject, split: Split, shown: dict[int, list[Candidate]]) -> Figure:
    """A line of thumbnails for every query: its target first, then the negatives."""
    figure = Figure(figsize=(2.1 * (1 + NEGATIVES), 2.3 * len(shown)), layout="constrained")
    lines = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    frames = subject.run.frames(subject.model)
    for line, (query, these) in zip(lines, shown.items(), strict=True):
        text = textwrap.shorten(split.captions[query].text, TEXT_SHOWN, placeholder=" …")
        line.suptitle(text, fontsize=9, parse_math=False)
        axes = line.subplots(1, 1 + NEGATIVES, squeeze=False)[0]
        for axis, it in zip(axes, these, strict=False):
            frames_FHWC = frames.decode(split.clips[it.video]).frames_FHWC
            axis.imshow(frames_FHWC[len(frames_FHWC) // 2])
            colour = GREEN if it.kind == TARGET else RED
            axis.set_xlabel(described(it), fontsize=7, color=colour)
            axis.spines[:].set(color=colour, linewidth=2)
            axis.set(xticks=[], yticks=[])
        # a gallery may have fewer negatives
        for axis in axes[len(these) :]:
            axis.remove()
    return figure


def described(it: Candidate) -> str:
    """A candidate's scores and ranks in a few words, without Δ first."""
    (before, rank_before), (after, rank_after) = it.by[BEFORE], it.by[AFTER]
    text = f"{it.kind}: rank {rank_before} → {rank_after}\ncos {before:.3f} → {after:.3f}"
    if BASELINE in it.by:
        text += f"\nbaseline: rank {it.by[BASELINE][1]}"
    return text
