"""rankings_NAME.csv: the rank of every query's target and what was ranked above it.

    direction,query,target,rank,score,candidate_1,score_1,…,candidate_5,score_5

A row of `t2v` has a caption's id as its query and videos' ids as candidates; a row of `v2t` has a
video's id and, for each of the candidate videos, the id of its best caption. Two such files of the
same split can be compared query by query.

Shapes: A captions, B videos, Q queries, C candidates, K candidates that are kept.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvr.build import Run
from tvr.dataloaders.records import Split
from tvr.utils.files import write_csv
from tvr.utils.metrics import best_of_videos, ranks

KEPT = 5
LAST, BEST, EVALUATED = "last", "best", "evaluated"
# How the label of a result begins while the training has not ended
SO_FAR = "so far"
HEADER = (
    *("direction", "query", "target", "rank", "score"),
    *(f"{what}_{k}" for k in range(1, KEPT + 1) for what in ("candidate", "score")),
)


@dataclass(frozen=True)
class Ranking:
    """One query: its target's rank and score, and the best candidates with their scores."""

    direction: str
    query: str
    target: str
    rank: int
    score: float
    best: list[tuple[str, float]]


def ranked_result(labels: Sequence[str]) -> int:
    """Which result of an evaluation has its rankings in the file: the last without post-processing.

    That of "A" is labelled "A, …".
    """
    raw = [k for k, it in enumerate(labels) if not any(it.startswith(f"{a}, ") for a in labels)]
    return raw[-1]


def rankings_file(folder: Path, name: str) -> Path:
    """Where the rankings of a result called `name` are."""
    return folder / f"rankings_{name}.csv"


def write_rankings(run: Run, name: str, sim_AB: np.ndarray, split: Split) -> None:
    """Write the rankings of a result called `name`, on the main process.

    Raises:
        LocalError: the file cannot be written.
    """
    if run.ranks.is_main:
        rows = (as_row(ranking) for ranking in rankings(sim_AB, split))
        write_csv(rankings_file(run.output_dir, name), (HEADER, *rows))


def rankings(sim_AB: np.ndarray, split: Split) -> Iterator[Ranking]:
    """Every caption against all videos, then every described video against all their captions.

    A tie counts against the query, as in `tvr/utils/metrics.py`; among the best it is in no order.
    """
    owner_A = np.array(split.video_of_caption())
    captions = [caption.caption_id for caption in split.captions]
    videos = [clip.video_id for clip in split.clips]
    yield from _direction("t2v", sim_AB, owner_A, captions, lambda _, video: videos[video])
    best_CB, described_C = best_of_videos(sim_AB, owner_A)
    captions_of_C = [np.flatnonzero(owner_A == video) for video in described_C]

    def best_caption(query: int, candidate: int) -> str:
        own = captions_of_C[candidate]
        return captions[own[sim_AB[own, described_C[query]].argmax()]]

    queries = [videos[video] for video in described_C]
    scores_CC, own_C = best_CB[:, described_C].T, np.arange(len(described_C))
    yield from _direction("v2t", scores_CC, own_C, queries, best_caption)


def _direction(
    direction: str,
    scores_QC: np.ndarray,
    target_Q: np.ndarray,
    queries: list[str],
    name: Callable[[int, int], str],
) -> Iterator[Ranking]:
    """The rankings of one direction; `name` gives the id of a candidate for a query."""
    rank_Q = ranks(scores_QC, target_Q)
    for query, (rank, target) in enumerate(zip(rank_Q, target_Q, strict=True)):
        scores_C = scores_QC[query]
        kept = np.argpartition(-scores_C, min(KEPT, len(scores_C)) - 1)[:KEPT]
        kept = kept[np.argsort(-scores_C[kept], kind="stable")]
        best = [(name(query, place), float(scores_C[place])) for place in kept]
        own, score = name(query, target), float(scores_C[target])
        yield Ranking(direction, queries[query], own, int(rank), score, best)


def as_row(ranking: Ranking) -> tuple[str, ...]:
    """A ranking as it stands in the file."""
    best = [cell for name, score in ranking.best for cell in (name, f"{score:.6f}")]
    cells = [ranking.direction, ranking.query, ranking.target, str(ranking.rank)]
    missing = [""] * (len(HEADER) - 5 - len(best))
    return (*cells, f"{ranking.score:.6f}", *best, *missing)


def read_rankings(path: Path) -> list[Ranking]:
    """What `write_rankings` has written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
    """
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = csv.reader(file)
        if next(lines, None) != list(HEADER):
            raise ValueError(f"{path}: has not the columns of a rankings file")
        return [_of_row(cells) for cells in lines]


def _of_row(cells: list[str]) -> Ranking:
    direction, query, target, rank, score, *best = cells
    pairs = zip(best[::2], best[1::2], strict=True)
    kept = [(name, float(value)) for name, value in pairs if value]
    return Ranking(direction, query, target, int(rank), float(score), kept)
