"""Retrieval metrics against matrices ranked by hand and loops over every pair."""

import math

import numpy as np
import pytest

from tvr.utils.metrics import (
    bootstrap_interval,
    both_directions,
    ranks,
    summarise,
    table,
    text_to_video_ranks,
    video_to_text_ranks,
)


def slow_rank(scores, target):
    """1 + those strictly higher + the others that tie."""
    rank = 1
    for candidate, score in enumerate(scores):
        if candidate != target and score >= scores[target]:
            rank += 1
    return rank


def slow_video_to_text(sim, owner):
    """Each described video's own captions against those of every other, best caption each."""
    described = sorted(set(owner))
    result = []
    for video in described:
        best = [
            max(sim[a][video] for a in range(len(owner)) if owner[a] == other)
            for other in described
        ]
        result.append(slow_rank(best, described.index(video)))
    return result


def tied_matrix(rows, columns, seed, levels=6):
    """Few distinct scores, so that ties are everywhere."""
    return np.random.default_rng(seed).integers(levels, size=(rows, columns)) / levels


def test_ranks_by_hand():
    scores = np.array(
        [
            [0.9, 0.1, 0.5, 0.2],  # best of all: 1
            [0.9, 0.1, 0.5, 0.2],  # worst of all: 4
            [0.5, 0.9, 0.5, 0.2],  # one higher, one tie: 3
            [0.2, 0.2, 0.2, 0.2],  # three ties: 4
            [0.5, 0.2, 0.5, 0.5],  # target 0, two ties: 3
        ]
    )
    assert ranks(scores, np.array([0, 1, 2, 3, 0])).tolist() == [1, 4, 3, 4, 3]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ranks_equal_a_loop(dtype):
    scores = tied_matrix(40, 9, seed=0).astype(dtype)
    target = np.random.default_rng(1).integers(9, size=40)
    expected = [slow_rank(row, t) for row, t in zip(scores.tolist(), target, strict=True)]
    assert ranks(scores, target).tolist() == expected
    assert len(set(expected)) > 5


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_a_constant_matrix_is_worthless(value):
    """A rank found by looking for an equal score would make it perfect."""
    metrics = both_directions(np.full((6, 6), value), np.arange(6))
    for direction in metrics.values():
        assert direction["R@1"] == direction["R@5"] == 0.0
        assert direction["MdR"] == direction["MnR"] == 6.0
        assert direction["R@1 95%"] == [0.0, 0.0]


def test_a_single_candidate_is_found():
    assert ranks(np.zeros((3, 1)), np.zeros(3, dtype=int)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (2, 1), (4, 2)])
def test_a_score_that_is_no_number_is_an_error(value, place):
    sim, owner = tied_matrix(5, 3, seed=0), np.array([0, 0, 1, 1, 2])
    sim[place] = value
    with pytest.raises(ValueError, match=f"1 values .* row {place[0]}, column {place[1]}"):
        text_to_video_ranks(sim, owner)
    with pytest.raises(ValueError, match="NaN or infinite"):
        both_directions(sim, owner)


def test_nan_is_an_error_from_video_to_text_too():
    sim = tied_matrix(5, 3, seed=0)
    sim[3, 1] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        video_to_text_ranks(sim, np.array([0, 0, 1, 1, 2]))


@pytest.mark.parametrize("seed", range(5))
def test_square_matrices_are_ranked_like_their_transpose(seed):
    sim, own = tied_matrix(12, 12, seed, levels=30), np.arange(12)
    assert text_to_video_ranks(sim, own).tolist() == ranks(sim, own).tolist()
    assert video_to_text_ranks(sim, own).tolist() == ranks(sim.T, own).tolist()
    metrics = both_directions(sim, own)
    assert metrics == {"t2v": summarise(ranks(sim, own)), "v2t": summarise(ranks(sim.T, own))}
    assert metrics["t2v"] != metrics["v2t"]


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("undescribed", [False, True], ids=["all described", "some undescribed"])
@pytest.mark.parametrize("seed", range(4))
def test_multi_sentence_galleries_equal_a_loop(seed, shuffled, undescribed):
    generator = np.random.default_rng(seed)
    videos = np.arange(8)
    captions = generator.integers(1, 5, size=8)
    if undescribed:
        captions[[0, 3, 7]] = 0
    owner = np.repeat(videos, captions)
    if shuffled:
        generator.shuffle(owner)
    sim = tied_matrix(len(owner), 8, seed, levels=12)
    expected = [slow_rank(sim[a].tolist(), owner[a]) for a in range(len(owner))]
    assert text_to_video_ranks(sim, owner).tolist() == expected
    expected = slow_video_to_text(sim.tolist(), owner.tolist())
    assert video_to_text_ranks(sim, owner).tolist() == expected
    assert len(expected) == (captions > 0).sum()


def test_the_order_of_the_captions_does_not_matter():
    owner = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])
    sim = tied_matrix(10, 4, seed=3, levels=9)
    order = np.random.default_rng(0).permutation(10)
    assert not (owner[order][:-1] <= owner[order][1:]).all()
    expected = text_to_video_ranks(sim, owner)[order].tolist()
    assert text_to_video_ranks(sim[order], owner[order]).tolist() == expected
    expected = video_to_text_ranks(sim, owner).tolist()
    assert video_to_text_ranks(sim[order], owner[order]).tolist() == expected


# Three videos with two captions each. Every video is found by its last caption alone, the first
# one is noise: so the boundaries between the videos' captions decide everything.
OWNER = np.array([0, 0, 1, 1, 2, 2])
LAST_DECIDES = np.array(
    [
        [0.3, 0.2, 0.1],
        [0.9, 0.1, 0.2],
        [0.2, 0.3, 0.1],
        [0.1, 0.9, 0.2],
        [0.2, 0.1, 0.3],
        [0.1, 0.2, 0.9],
    ]
)


def shifted(owner):
    """The peers' mistake: a video's last caption goes to the next video."""
    moved = owner.copy()
    last = np.flatnonzero(np.append(owner[1:] != owner[:-1], True))
    moved[last] = np.minimum(moved[last] + 1, owner.max())
    return moved


def test_the_last_caption_of_a_video_is_its_own():
    assert shifted(OWNER).tolist() == [0, 1, 1, 2, 2, 2]
    assert text_to_video_ranks(LAST_DECIDES, OWNER).tolist() == [1] * 6
    assert video_to_text_ranks(LAST_DECIDES, OWNER).tolist() == [1] * 3
    # what the mistake would have made of it, so that these numbers do tell the two apart
    assert text_to_video_ranks(LAST_DECIDES, shifted(OWNER)).tolist() == [1, 3, 1, 2, 1, 1]
    assert video_to_text_ranks(LAST_DECIDES, shifted(OWNER)).tolist() == [2, 2, 1]


def test_captions_are_reduced_to_their_best_and_not_to_their_mean_or_first():
    owner = np.array([0, 0, 1, 1])
    # video 0's captions: one perfect, one hopeless; those of video 1 are both middling
    sim = np.array([[0.0, 0.0], [0.9, 0.0], [0.6, 0.7], [0.6, 0.7]])
    assert video_to_text_ranks(sim, owner).tolist() == [1, 1]


def test_a_videos_own_other_captions_are_no_rivals():
    """Its captions are one candidate: two good ones of its own do not push it to rank 2."""
    sim = np.array([[0.9, 0.0], [0.9, 0.0], [0.1, 0.5]])
    assert video_to_text_ranks(sim, np.array([0, 0, 1])).tolist() == [1, 1]


def test_videos_without_captions_are_candidates_but_no_queries():
    owner = np.array([1, 3])
    sim = np.array([[0.9, 0.5, 0.1, 0.2], [0.1, 0.2, 0.3, 0.8]])
    assert text_to_video_ranks(sim, owner).tolist() == [2, 1]
    assert video_to_text_ranks(sim, owner).tolist() == [1, 1]


def test_the_summary_of_known_ranks():
    summary = summarise(np.array([1, 1, 2, 5, 6, 10, 11, 50, 51, 400]))
    interval = summary.pop("R@1 95%")
    assert summary == {
        **{"R@1": 20.0, "R@5": 40.0, "R@10": 60.0, "R@50": 80.0},
        **{"MdR": 8.0, "MnR": 53.7},
    }
    assert 0 <= interval[0] < 20 < interval[1] <= 60


def test_the_interval_agrees_with_resampling_query_by_query():
    generator = np.random.default_rng(5)
    hits = generator.random(400) < 0.45
    means = [100 * generator.choice(hits, size=400).mean() for _ in range(4000)]
    expected = np.percentile(means, [2.5, 97.5])
    # two runs of 2,000 resamples differ by a query or two of 400, which is 0.25 % each
    assert bootstrap_interval(hits, seed=0) == pytest.approx(expected, abs=0.75)


def test_the_interval_is_ordered_covers_the_rate_and_is_reproducible():
    for rate in (0.02, 0.5, 0.98):
        hits = np.arange(1000) < 1000 * rate
        low, high = bootstrap_interval(hits, seed=0)
        assert low < 100 * rate < high
        # 95 % of a normal distribution lie within 1.96 standard deviations of its mean
        assert high - low == pytest.approx(392 * math.sqrt(rate * (1 - rate) / 1000), rel=0.15)
    # so many queries that two random intervals would not agree by chance
    many = np.arange(1_000_000) % 2 == 0
    assert bootstrap_interval(many, seed=0) == bootstrap_interval(many, seed=0)
    assert bootstrap_interval(many, seed=0) != bootstrap_interval(many, seed=1)
    assert bootstrap_interval(np.ones(5, dtype=bool), seed=0) == [100.0, 100.0]


def test_the_interval_has_95_percent_coverage():
    """Over many samples of a known rate the interval holds the rate about 95 % of the time."""
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        low, high = bootstrap_interval(generator.random(300) < 0.4, seed=trial)
        covered += low <= 40.0 <= high
    assert 0.91 < covered / 400 < 0.98


def test_the_table_shows_every_number_of_both_directions():
    metrics = both_directions(tied_matrix(60, 60, 0, levels=900), np.arange(60))
    lines = table(metrics).splitlines()
    assert len(lines) == 3
    for name, line in zip(("t2v", "v2t"), lines[1:], strict=True):
        m = metrics[name]
        numbers = [m[key] for key in ("R@1", "R@5", "R@10", "R@50", "MdR", "MnR")]
        numbers += m["R@1 95%"]
        expected = [name, *[f"{n:.1f}" for n in numbers]]
        assert line.replace(" to ", " ").split() == expected
