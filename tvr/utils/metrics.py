"""Retrieval metrics as pure NumPy functions of a similarity matrix and a correspondence.

Shapes: A captions, B videos (the gallery), Q queries, C candidates.
"""

from __future__ import annotations

import numpy as np

RECALLS = (1, 5, 10, 50)


def ranks(scores_QC: np.ndarray, target_Q: np.ndarray) -> np.ndarray:
    """The 1-based rank of each query's target among its candidates.

    rank = 1 + candidates scored strictly higher + other candidates with the same score: ties
    count against the query, so that a constant matrix is worthless and not perfect.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    scores_QC = np.asarray(scores_QC)
    refuse_non_finite(scores_QC)
    own_Q = scores_QC[np.arange(len(scores_QC)), target_Q]
    return (scores_QC >= own_Q[:, None]).sum(axis=1)


def refuse_non_finite(scores: np.ndarray) -> None:
    """Raises ValueError, with the count and the first place, for NaN and infinite scores."""
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        raise ValueError(
            f"the similarity matrix holds {len(bad):,} values that are NaN or infinite, the first "
            f"at row {bad[0][0]}, column {bad[0][1]}"
        )


def text_to_video_ranks(sim_AB: np.ndarray, video_of_caption_A: np.ndarray) -> np.ndarray:
    """Every caption is a query against all videos; returns ranks_A."""
    return ranks(sim_AB, np.asarray(video_of_caption_A))


def video_to_text_ranks(sim_AB: np.ndarray, video_of_caption_A: np.ndarray) -> np.ndarray:
    """Every video that has captions is a query against the captions of all videos.

    Each candidate video's captions are first reduced to their maximum; the query's own captions
    are then ranked as one candidate. With one caption per video this is ordinary ranking.
    """
    refuse_non_finite(sim_AB)  # the maximum below could hide one
    best_CB, described_C = best_of_videos(sim_AB, np.asarray(video_of_caption_A))
    return ranks(best_CB[:, described_C].T, np.arange(len(described_C)))


def best_of_videos(sim_AB: np.ndarray, owner_A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each described video's best score among its captions, best_CB, and which these videos are.

    `owner_A` is the video of each caption, C videos have any.
    """
    order_A = np.argsort(owner_A, kind="stable")
    described_C, starts = np.unique(owner_A[order_A], return_index=True)
    return np.maximum.reduceat(sim_AB[order_A], starts, axis=0), described_C


def summarise(ranks_Q: np.ndarray, seed: int = 0) -> dict[str, float | list[float]]:
    """R@1/5/10/50 in percent, median and mean rank, and a 95 % bootstrap interval of R@1."""
    summary: dict[str, float | list[float]] = {
        f"R@{k}": float(100 * np.mean(ranks_Q <= k)) for k in RECALLS
    }
    summary["MdR"] = float(np.median(ranks_Q))
    summary["MnR"] = float(np.mean(ranks_Q))
    summary["R@1 95%"] = bootstrap_interval(ranks_Q <= 1, seed)
    return summary


def bootstrap_interval(hits_Q: np.ndarray, seed: int, resamples: int = 2000) -> list[float]:
    """A 95 % percentile interval of the mean hit rate over resampled queries, in percent."""
    # The mean of a resample of Q hits with replacement is binomial: no need to draw the indices
    counts = np.random.default_rng(seed).binomial(len(hits_Q), np.mean(hits_Q), size=resamples)
    low, high = np.percentile(100 * counts / len(hits_Q), [2.5, 97.5])
    return [float(low), float(high)]


def paired_interval(
    hits_Q: np.ndarray, others_Q: np.ndarray, seed: int = 0, resamples: int = 2000
) -> list[float]:
    """A 95 % percentile interval of the difference of two mean hit rates, in percent.

    Both are of the same queries, which are resampled together.
    """
    assert len(hits_Q) == len(others_Q), "hits of other queries"
    difference_Q = np.asarray(hits_Q, dtype=int) - np.asarray(others_Q, dtype=int)
    shares = [np.mean(difference_Q == value) for value in (-1, 0, 1)]
    # As above: how often each difference comes in a resample is multinomial
    counts = np.random.default_rng(seed).multinomial(len(difference_Q), shares, size=resamples)
    means = 100 * (counts[:, 2] - counts[:, 0]) / len(difference_Q)
    low, high = np.percentile(means, [2.5, 97.5])
    return [float(low), float(high)]


def both_directions(
    sim_AB: np.ndarray, video_of_caption_A: np.ndarray, v2t_AB: np.ndarray | None = None
) -> dict[str, dict]:
    """{"t2v": …, "v2t": …} of a similarity matrix; `v2t_AB` where that direction has its own."""
    v2t_AB = sim_AB if v2t_AB is None else v2t_AB
    return {
        "t2v": summarise(text_to_video_ranks(sim_AB, video_of_caption_A)),
        "v2t": summarise(video_to_text_ranks(v2t_AB, video_of_caption_A)),
    }


def table(metrics: dict[str, dict]) -> str:
    """The metrics of both directions as aligned text."""
    lines = [f"{'':6}{'R@1':>7}{'R@5':>7}{'R@10':>7}{'R@50':>7}{'MdR':>7}{'MnR':>8}   R@1 95 %"]
    for direction in ("t2v", "v2t"):
        m = metrics[direction]
        cells = "".join(f"{m[f'R@{k}']:7.1f}" for k in RECALLS)
        low, high = m["R@1 95%"]
        lines.append(
            f"{direction:6}{cells}{m['MdR']:7.1f}{m['MnR']:8.1f}   {low:.1f} to {high:.1f}"
        )
    return "\n".join(lines)
