"""Hard negatives: scores and ranks against the run's own rankings and the plain score."""

import csv

import numpy as np
import pytest
import torch
from figure_files import rows_of

from tvr.analysis.hard_negatives import candidates, chosen
from tvr.analysis.subject import Request
from tvr.encode import encode_clips, encode_texts, evaluating
from tvr.models.score import VideoFeatures


def ranks_of(folder):
    """The rank of every caption's target, as the training wrote it."""
    with (folder / "rankings_last.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["direction"] == "t2v"]
    return {row["query"]: int(row["rank"]) for row in rows}


@pytest.fixture(scope="module")
def plain(trained):
    """Unadjusted and corrected scores of all pairs by the equations, and the split."""
    subject = Request(trained[0], given={"workers": 0, "device": "cpu"}).subject
    split, model = subject.split("test"), subject.model
    with evaluating(model):
        text = encode_texts(subject.run, model, [caption.text for caption in split.captions])
        batches = encode_clips(subject.run, model, split).batches
        frames = torch.cat([batch.frames_BFD for batch in batches])
        video = VideoFeatures(frames, torch.cat([batch.mask_BF for batch in batches]))
        scores = model.score(text, video)
        pooled_ABD, text_A1D = scores.pooled_ABD, text.text_AD[:, None]
        before_AB = torch.cosine_similarity(text_A1D, pooled_ABD, dim=-1)
    return before_AB.numpy(), scores.sim_AB.numpy(), split


def test_every_row_is_that_of_the_scores(trained, baseline, plain, analyse, tmp_path):
    flags = ("--queries", 3, "--baseline", baseline, "--output", tmp_path)
    done = analyse("6", "--run", trained[0], *flags)
    assert done.code == 0, done.err
    before_AB, after_AB, split = plain
    place = {clip.video_id: i for i, clip in enumerate(split.clips)}
    caption = {c.caption_id: i for i, c in enumerate(split.captions)}
    rows = rows_of(tmp_path, "hard_negatives")
    assert len(rows) == 3 * 5
    for row in rows:
        i, j = caption[row["query"]], place[row["video"]]
        assert row["caption"] == split.captions[i].text
        for when, sim_AB in (("before Δ", before_AB), ("after Δ", after_AB)):
            assert float(row[f"score {when}"]) == pytest.approx(sim_AB[i, j], abs=1e-5)
            above = (sim_AB[i] > sim_AB[i, j] + 1e-6).sum() + 1
            assert above <= int(row[f"rank {when}"]) <= (sim_AB[i] >= sim_AB[i, j] - 1e-6).sum()
    targets = [row for row in rows if row["kind"] == "target"]
    assert len(targets) == 3
    for folder, column in ((trained[0], "rank after Δ"), (baseline, "rank baseline")):
        written = ranks_of(folder)
        assert [int(row[column]) for row in targets] == [written[row["query"]] for row in targets]


def test_the_hardest_negatives_come_first(trained, plain, analyse, tmp_path):
    done = analyse("hard_negatives", "--run", trained[0], "--queries", 2, "--output", tmp_path)
    assert done.code == 0, done.err
    before_AB, _, split = plain
    for row in range(0, 10, 5):
        target, *negatives = rows_of(tmp_path, "hard_negatives")[row : row + 5]
        assert target["kind"] == "target"
        assert target["score baseline"] == target["rank baseline"] == ""
        i = [caption.caption_id for caption in split.captions].index(target["query"])
        own = split.video_of_caption()[i]
        hardest = sorted(np.delete(before_AB[i], own), reverse=True)[:4]
        found = [float(negative["score before Δ"]) for negative in negatives]
        assert found == pytest.approx(hardest, abs=1e-5)


def test_queries_are_those_that_change_most_then_those_ranked_worst():
    before, after = np.array([1, 5, 9, 2, 4]), np.array([1, 2, 9, 5, 4])
    assert chosen(before, after, 5) == [3, 1, 2, 4, 0]
    assert chosen(before, after, 2) == [3, 1]


def test_ties_count_against_a_candidate_and_a_small_gallery_has_fewer():
    by = {"before Δ": np.array([[0.5, 0.5, 0.1]]), "after Δ": np.array([[0.2, 0.3, 0.3]])}
    found = candidates(0, 1, by)
    assert [(it.video, it.kind) for it in found] == [
        (1, "target"),
        (0, "negative"),
        (2, "negative"),
    ]
    assert [it.by["before Δ"][1] for it in found] == [2, 2, 3]
    assert [it.by["after Δ"][1] for it in found] == [2, 3, 2]
