"""The ranks and best candidates of every query, against loops over the matrix."""

from pathlib import Path

import numpy as np
import pytest

from tvr.dataloaders.records import Caption, Clip, Split
from tvr.rankings import HEADER, KEPT, as_row, rankings, rankings_file, read_rankings
from tvr.utils.files import write_csv
from tvr.utils.metrics import text_to_video_ranks, video_to_text_ranks

OWNERS = [2, 0, 0, 3, 2, 0]  # video 1 has no caption
VIDEOS = 4


@pytest.fixture
def split():
    clips = [Clip(f"v{k}", Path(f"v{k}.mp4")) for k in range(VIDEOS)]
    captions = [Caption(f"c{k}", f"v{owner}", f"text {k}") for k, owner in enumerate(OWNERS)]
    return Split("test", clips, captions)


@pytest.fixture
def scores():
    return np.random.default_rng(0).standard_normal((len(OWNERS), VIDEOS)).astype(np.float32)


def test_ranks_are_the_metrics_own(split, scores):
    found = list(rankings(scores, split))
    t2v = [r.rank for r in found if r.direction == "t2v"]
    v2t = [r.rank for r in found if r.direction == "v2t"]
    assert t2v == text_to_video_ranks(scores, np.array(OWNERS)).tolist()
    assert v2t == video_to_text_ranks(scores, np.array(OWNERS)).tolist()


def test_the_best_candidates_of_a_caption_are_videos(split, scores):
    for row, ranking in enumerate(list(rankings(scores, split))[: len(OWNERS)]):
        order = sorted(range(VIDEOS), key=lambda video: -scores[row, video])
        assert ranking.best == [(f"v{k}", float(scores[row, k])) for k in order][:KEPT]
        assert (ranking.query, ranking.target) == (f"c{row}", f"v{OWNERS[row]}")
        assert ranking.score == float(scores[row, OWNERS[row]])


def test_the_best_candidates_of_a_video_are_each_videos_best_caption(split, scores):
    described = [0, 2, 3]
    for video, ranking in zip(described, list(rankings(scores, split))[len(OWNERS) :], strict=True):
        best = {}
        for caption, owner in enumerate(OWNERS):
            if owner not in best or scores[caption, video] > scores[best[owner], video]:
                best[owner] = caption
        order = sorted(best.values(), key=lambda caption: -scores[caption, video])
        assert [name for name, _ in ranking.best] == [f"c{k}" for k in order]
        assert (ranking.query, ranking.target) == (f"v{video}", f"c{best[video]}")


def test_a_tie_counts_against_the_query(split):
    assert {r.rank for r in rankings(np.zeros((len(OWNERS), VIDEOS)), split)} == {3, 4}


def test_a_file_is_read_as_it_was_written(split, scores, tmp_path):
    split.captions[0] = Caption('a, "b"\n#0', "v2", "text")
    path = rankings_file(tmp_path, "last")
    found = list(rankings(scores, split))
    write_csv(path, (HEADER, *map(as_row, found)))
    read = read_rankings(path)
    assert [(r.query, r.target, r.rank) for r in read] == [
        (r.query, r.target, r.rank) for r in found
    ]
    assert read[0].query == 'a, "b"\n#0'
    for ours, theirs in zip(read, found, strict=True):
        assert [name for name, _ in ours.best] == [name for name, _ in theirs.best]
        assert ours.score == pytest.approx(theirs.score, abs=1e-6)


@pytest.mark.parametrize("text", ["", "a,b\n", ",".join(HEADER) + "\nt2v,a,b,one,0.5" + "," * 10])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=r"columns|invalid literal"):
        read_rankings(tmp_path / "x.csv")
