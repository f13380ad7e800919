"""Positive pairs of a split, against one pair's features at a time."""

import numpy as np
import pytest
import torch
from figure_files import rows_of

from tvr.analysis.subject import Request
from tvr.dataloaders.batches import packed

QUANTITIES = ("cosine", "norm_text", "norm_video", "distance")
HERE = {"workers": 0, "device": "cpu"}


def one_by_one(folder):
    """(before, after) of every positive pair of the test split: quantity to list."""
    subject = Request(folder, given=HERE).subject
    model, split = subject.model, subject.split("test")
    frames = subject.run.frames(model)
    before, after = ({name: [] for name in QUANTITIES} for _ in range(2))
    with torch.no_grad():
        for caption, owner in zip(split.captions, split.video_of_caption(), strict=True):
            tokens = model.backbone.tokenize([caption.text], subject.config.max_words)
            pixels, mask = packed([frames.read(split.clips[owner])], frames.max_frames)
            text, video = model.encode_text(tokens), model.encode_video(pixels, mask)
            scores = model.score(text, video)
            t, p = text.text_AD[0].double(), scores.pooled_ABD[0, 0].double()
            delta = 0 if scores.delta_ABD is None else scores.delta_ABD[0, 0].double()
            for found, x in ((before, t), (after, t + delta)):
                found["cosine"].append(float(x @ p / (x.norm() * p.norm())))
                found["norm_text"].append(float(x.norm()))
                found["norm_video"].append(float(p.norm()))
                found["distance"].append(float((x - p).norm()))
    return before, after


@pytest.fixture(scope="module")
def expected(trained, baseline):
    before, after = one_by_one(trained[0])
    return {"baseline": one_by_one(baseline)[0], "before Δ": before, "after Δ": after}


def test_every_statistic_is_that_of_the_pairs(expected, trained, baseline, analyse, tmp_path):
    done = analyse("3", "--run", trained[0], "--baseline", baseline, "--output", tmp_path)
    assert done.code == 0, done.err
    rows = rows_of(tmp_path, "positives")
    seen = {(row["quantity"], row["of"]) for row in rows}
    # the text is corrected: the video's length stays
    assert seen == {(q, of) for q in QUANTITIES for of in expected} - {("norm_video", "after Δ")}
    for quantity, of in seen:
        values = np.array(expected[of][quantity])
        assert len(values) == 13
        these = [row for row in rows if (row["quantity"], row["of"]) == (quantity, of)]
        found = {row["statistic"]: float(row["value"]) for row in these if not row["low"]}
        wanted = {"pairs": 13, "mean": values.mean(), "sd": values.std(ddof=1)}
        wanted |= {f"quantile {q}": np.quantile(values, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)
        bins = [row for row in these if row["low"]]
        assert sum(int(row["value"]) for row in bins) == 13
        assert float(bins[0]["low"]) <= values.min() + 1e-4
        assert float(bins[-1]["high"]) >= values.max() - 1e-4


def test_training_pairs(trained, baseline, analyse, tmp_path):
    flags = ("--split", "train", "--output", tmp_path)
    done = analyse("positives", "--run", trained[0], "--baseline", baseline, *flags)
    assert done.code == 0, done.err
    counted = [r for r in rows_of(tmp_path, "positives") if r["statistic"] == "pairs"]
    assert int(counted[0]["value"]) == 24 * 5


def test_without_a_baseline_it_says_so(trained, analyse, tmp_path):
    done = analyse("positives", "--run", trained[0], "--output", tmp_path)
    assert done.code == 2
    assert "--baseline" in done.err


def test_a_baseline_with_a_delta_is_refused(trained, logged, analyse, tmp_path):
    flags = ("--baseline", logged, "--output", tmp_path)
    done = analyse("positives", "--run", trained[0], *flags)
    assert done.code == 2
    assert f"--baseline {logged / 'checkpoint_last.pt'}: has a Δ" in done.err


def test_a_baseline_that_is_not_there_is_a_mistake(trained, analyse, tmp_path):
    flags = ("--baseline", tmp_path, "--output", tmp_path / "out")
    for figure in ("positives", "all"):
        done = analyse(figure, "--run", trained[0], "--batches", 1, *flags)
        assert done.code == 2
        assert f"--baseline {tmp_path}: there is no {tmp_path / 'checkpoint_last.pt'}" in done.err
