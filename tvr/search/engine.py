"""Text-to-video search in two stages over an index that is open.

Stage one: the videos whose mean frame is nearest to the unadjusted text. Stage two: GARE's own
score, with the increment of each pair, on these candidates, or exactly on all videos.

Shapes: A queries, B videos, N videos of the index, D embedding width.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from tvr.encode import encode_texts, evaluating
from tvr.models.gare import GARE, TextFeatures
from tvr.models.increment import IncrementByQuery
from tvr.models.score import Scorer
from tvr.models.scoring import FastScore, slices
from tvr.search.model import SearchModel, open_model
from tvr.search.shards import unit
from tvr.search.store import Store
from tvr.utils.errors import UserError

MOST_CHARACTERS = 2000
VIDEOS_PER_BLOCK = 256


@dataclass(frozen=True)
class Hit:
    """A video found. Ranks count from 1; `first_*` are stage one's.

    `path` is relative to the indexed folder, as on disk; `seconds` is None where it is not known.
    `first_rank` is stage one's among all videos: the candidates are its first.
    """

    row: int
    path: str
    seconds: float | None
    size: int
    score: float
    rank: int
    first_score: float
    first_rank: int


@dataclass(frozen=True)
class Answer:
    """A query's best videos: of `gallery` videos `candidates` were scored exactly.

    `seconds` is the time that the call took, for all its queries.
    """

    query: str
    hits: list[Hit]
    candidates: int
    gallery: int
    seconds: float


class Engine:
    """A model and an index that belong together. Threads may share it."""

    def __init__(self, store: Store, model: SearchModel) -> None:
        self._store, self._model = store, model
        self._lock = threading.Lock()
        self._few, self._many = scorer_by_query(model.gare), FastScore(model.gare)

    @classmethod
    def open(cls, index: Path, model: str | None = None, device: str = "auto") -> Engine:
        """The index in a folder, with its model from where it was, or from `model`.

        Raises:
            UserError: the index is missing or damaged, or the model is missing or another one.
        """
        store = Store.open(index)
        origin = store.manifest.origin
        # what it would say was said when the index was made
        silent = logging.Logger("tvr.search", logging.ERROR)
        try:
            opened = open_model(model or origin.model, origin.given, device, silent)
        except UserError as error:
            if model is not None:
                raise
            raise UserError(f"{error}\n{index} was made with it. Name it with --model.") from error
        if opened.fingerprint != origin.fingerprint:
            raise UserError(
                f"--model {opened.name} (fingerprint {opened.fingerprint}) is not the model that "
                f"{index} was made with: {origin.model} (fingerprint {origin.fingerprint}). Name "
                "that one, or make another index."
            )
        if store.vectors.d != opened.gare.backbone.width:
            raise UserError(
                f"{index}: its vectors have {store.vectors.d} numbers, {opened.name}'s have "
                f"{opened.gare.backbone.width}. Make another index."
            )
        return cls(store, opened)

    @property
    def gallery(self) -> int:
        """How many videos the index holds."""
        return len(self._store.videos)

    @property
    def folder(self) -> Path:
        """The indexed folder."""
        return Path(self._store.manifest.origin.folder)

    def describe(self) -> dict[str, str]:
        """What a page says about the index."""
        manifest = self._store.manifest
        return {
            "model": manifest.origin.model,
            "fingerprint": manifest.origin.fingerprint,
            "videos": f"{self.gallery:,}",
            "folder": manifest.origin.folder,
            "made": manifest.made,
            "version": str(manifest.version),
        }

    def path(self, row: int) -> str:
        """Where a video lies in the indexed folder, as `Hit.path`."""
        return self._store.videos[row].file.path

    def preview(self, row: int) -> bytes:
        """A looping WebP, 160 pixels wide; empty where none was made.

        Raises:
            IndexError: no such row.
        """
        return self._store.preview(row)

    def search(
        self, queries: list[str], topk: int = 10, candidates: int = 256, exact: bool = False
    ) -> list[Answer]:
        """The best `topk` videos of each query.

        At least `topk` candidates are scored, and with `exact` all videos.

        Raises:
            UserError: a query is empty, too long or no text, or a count is below 1.
        """
        check(queries, topk, candidates)
        started = time.perf_counter()
        count = self.gallery if exact else min(max(candidates, topk), self.gallery)
        with self._lock, evaluating(self._model.gare):
            text = encode_texts(self._model.run, self._model.gare, queries)
            first_AN, rows_AN = self._nearest(text, count)
            if exact:
                all_AN = self._scores(text, np.arange(self.gallery))
                scores_AN = np.take_along_axis(all_AN, rows_AN, axis=1)
            else:
                scores_AN = np.stack(
                    [self._scores(text[i : i + 1], rows_AN[i])[0] for i in range(len(queries))]
                )
        if not np.isfinite(scores_AN).all():
            raise UserError(f"--model {self._model.name}: it gives no finite scores.")
        found = [
            self._hits(*parts, topk) for parts in zip(rows_AN, first_AN, scores_AN, strict=True)
        ]
        seconds = time.perf_counter() - started
        return [
            Answer(query, hits, count, self.gallery, seconds)
            for query, hits in zip(queries, found, strict=True)
        ]

    def _nearest(self, text: TextFeatures, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Stage one: cosines with the mean frames, falling, and their rows."""
        # Its threads and PyTorch's would wait for each other on the same cores
        faiss.omp_set_num_threads(1)
        return self._store.vectors.search(unit(text.text_AD), count)

    def _scores(self, text: TextFeatures, rows_N: np.ndarray) -> np.ndarray:
        """GARE's scores of the texts with these rows, block by block."""
        blocks = [
            self._scores_of_block(text, rows_N[block])
            for block in slices(len(rows_N), VIDEOS_PER_BLOCK)
        ]
        return np.concatenate(blocks, axis=1)

    def _scores_of_block(self, text: TextFeatures, rows_B: np.ndarray) -> np.ndarray:
        """GARE's scores of the texts with so few rows that their features fit into memory."""
        video = self._store.features(rows_B.tolist()).to(self._model.run.device)
        if len(text.text_AD) < video.mask_BF.shape[1]:
            return self._few.score(text, video).sim_AB.cpu().numpy()
        return self._many(text, [video]).cpu().numpy()

    def _hits(
        self, rows_N: np.ndarray, first_N: np.ndarray, scores_N: np.ndarray, topk: int
    ) -> list[Hit]:
        """The best of one query's candidates, which are in stage one's order."""
        hits = []
        # of equal scores, the one that comes first in the index
        for rank, place in enumerate(np.lexsort((rows_N, -scores_N))[:topk], start=1):
            row = int(rows_N[place])
            video = self._store.videos[row]
            hits.append(
                Hit(
                    row=row,
                    path=video.file.path,
                    seconds=video.seconds,
                    size=video.file.size,
                    score=float(scores_N[place]),
                    rank=rank,
                    first_score=float(first_N[place]),
                    first_rank=int(place) + 1,
                )
            )
        return hits


def scorer_by_query(gare: GARE) -> Scorer:
    """The model's score; for few queries ψ's products are in the order that takes least."""
    if gare.psi is None or gare.needs_words:
        return gare
    scorer = Scorer(gare.settings, gare.backbone.width)
    # another class on purpose, called in the same way
    scorer.psi = IncrementByQuery(gare.psi)  # type: ignore[assignment]
    return scorer


def check(queries: list[str], topk: int, candidates: int) -> None:
    """Raises UserError for a query that cannot be answered, or a count below 1."""
    if not queries:
        raise UserError('no query: give one, as in "a red circle moves left".')
    for name, count in (("topk", topk), ("candidates", candidates)):
        if count < 1:
            raise UserError(f"--{name} {count}: give at least 1.")
    for query in queries:
        if not query.strip():
            raise UserError("the query is empty: describe what the video shows.")
        if len(query) > MOST_CHARACTERS:
            raise UserError(
                f"the query has {len(query):,} characters; give at most {MOST_CHARACTERS:,}."
            )
        if any("\ud800" <= character <= "\udfff" for character in query):
            raise UserError(f"the query {query!a} is not UTF-8 text.")
