"""Figure 3: pairs that belong together, in a run and in its baseline.

Of every positive pair (i, i), with v the video pooled by its text: the cosine s_ii, ‖t‖, ‖v‖ and
‖t − v‖, for the baseline, and for the run before the correction by Δ and after it.

Shapes: A captions, K captions of a block.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from tvr.analysis.drawing import BLACK, BLUE, RED, label, panels
from tvr.analysis.result import Cell, Result, Unavailable
from tvr.analysis.subject import Request, Subject
from tvr.dataloaders.records import Split
from tvr.encode import encode_clips, encode_texts, evaluating
from tvr.models.geometry import pair_geometry
from tvr.models.score import VideoFeatures
from tvr.models.scoring import slices

NAME = "positives"
BLOCK = 32  # captions whose pairs are computed together
BINS = 40
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BASELINE, BEFORE, AFTER = "baseline", "before Δ", "after Δ"
COSINE, TEXT, VIDEO, DISTANCE = "cosine", "norm_text", "norm_video", "distance"
TITLES = {COSINE: "cosine", TEXT: "‖t‖", VIDEO: "‖v‖", DISTANCE: "‖t − v‖"}
STYLES = {
    BASELINE: {"color": BLACK, "linestyle": ":"},
    BEFORE: {"color": BLUE, "linestyle": "--"},
    AFTER: {"color": RED, "linestyle": "-"},
}

Series = dict[str, dict[str, np.ndarray]]  # quantity, then of what


def of_positives(subject: Subject, split: Split) -> dict[str, np.ndarray]:
    """The quantities of `pair_geometry` for every caption with its own clip, each (A,).

    Raises:
        UserError: a video cannot be read.
    """
    run, model = subject.run, subject.model
    with evaluating(model):
        text = encode_texts(run, model, [caption.text for caption in split.captions])
        clips = encode_clips(run, model, split)
        order_B = clips.clip_N.argsort()
        video = VideoFeatures(
            torch.cat([batch.frames_BFD for batch in clips.batches])[order_B],
            torch.cat([batch.mask_BF for batch in clips.batches])[order_B],
        )
        own_A = torch.tensor(split.video_of_caption(), device=order_B.device)
        blocks = []
        for rows in slices(len(own_A), BLOCK):
            text_K, video_K = text[rows], video[own_A[rows]]
            scores = model.score(text_K, video_K, folded=True)
            found = pair_geometry(text_K, video_K, scores, model.settings)
            blocks.append({name: value.diagonal() for name, value in found.items()})
    return {name: torch.cat([b[name] for b in blocks]).cpu().numpy() for name in blocks[0]}


def compared(run: dict[str, np.ndarray], baseline: dict[str, np.ndarray], correct: str) -> Series:
    """What is set beside each other, of every quantity; only the corrected side's norm changes."""
    series: Series = {name: {BASELINE: baseline[name], BEFORE: run[name]} for name in TITLES}
    if "norm_delta" in run:
        corrected = TEXT if correct == "text" else VIDEO
        series[COSINE][AFTER] = run["cosine_corrected"]
        series[corrected][AFTER] = run["norm_corrected"]
        series[DISTANCE][AFTER] = run["distance_corrected"]
    return series


def make(request: Request) -> Result:
    """Histograms of the positive pairs of a split, and their means, deviations and quantiles.

    Raises:
        Unavailable: no baseline is named.
        UserError: no such checkpoints or data, or a video cannot be read.
    """
    baseline = request.compared
    if baseline is None:
        raise Unavailable("positives are compared with a baseline's: name one with --baseline.")
    subject = request.subject
    split = subject.split(request.split or "test")
    of_run, of_baseline = (of_positives(it, split) for it in (subject, baseline))
    series = compared(of_run, of_baseline, subject.config.correct)
    edges = {
        name: np.histogram_bin_edges(np.concatenate(list(these.values())), BINS)
        for name, these in series.items()
    }
    pairs = len(of_run[COSINE])
    said = [f"{pairs} positive pairs of {split.name}; {subject.file} and {baseline.file}"]
    said += [
        f"{TITLES[name]}: " + ", ".join(f"{of} {v.mean():.3f}" for of, v in these.items())
        for name, these in series.items()
    ]
    title = f"{pairs} positive pairs of {split.name}"
    return Result(NAME, table(series, edges), draw(series, edges, title), said)


def table(series: Series, edges: dict[str, np.ndarray]) -> list[tuple[Cell, ...]]:
    """Statistics, then the histograms: `pairs` with a value from `low` to below `high`."""
    rows: list[tuple[Cell, ...]] = [("quantity", "of", "statistic", "low", "high", "value")]
    for name, these in series.items():
        for of, values in these.items():
            found = {"pairs": len(values), "mean": values.mean(), "sd": values.std(ddof=1)}
            found |= {f"quantile {q}": np.quantile(values, q) for q in QUANTILES}
            rows += [(name, of, what, "", "", float(value)) for what, value in found.items()]
        for of, values in these.items():
            counts = np.histogram(values, edges[name])[0].tolist()
            bins = zip(edges[name].tolist(), edges[name][1:].tolist(), counts, strict=False)
            rows += [(name, of, "pairs", low, high, count) for low, high, count in bins]
    return rows


def draw(series: Series, edges: dict[str, np.ndarray], title: str) -> Figure:
    """A panel for every quantity."""
    figure, axes = panels(2, 2, title)
    for axis, (name, these) in zip(axes.flat, series.items(), strict=True):
        for of, values in these.items():
            counts = np.histogram(values, edges[name])[0]
            axis.stairs(counts, edges[name], label=of, linewidth=1.5, **STYLES[of])
        label(axis, TITLES[name], "", "pairs")
    return figure
