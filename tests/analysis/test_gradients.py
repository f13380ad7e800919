"""The gradient of every anchor, split by pair, against loops over pairs in double precision."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from figure_files import numbers, rows_of
from random_scores import as_dtype, random_features, random_model

from tvr.analysis.__main__ import main
from tvr.analysis.gradients import Parts, batch_parts, pair_weights
from tvr.analysis.subject import Request
from tvr.dataloaders.sampler import global_batches
from tvr.models.losses import LossSettings, info_nce, total_loss
from tvr.models.score import Scorer

ANCHORS, WIDTH = 5, 16
SCALE = torch.tensor(7.0, dtype=torch.double)
VIDEOS = torch.tensor([0, 1, 2, 1, 4])  # 1 and 3 are the same file
SETTINGS = {
    "as trained": LossSettings(lambda_dir=0.3, lambda_epsilon=0.2, lambda_lower=1e6),
    "duplicates ignored": LossSettings(same_video="ignore", beta=0.5),
}
FORMS = [
    {"correct": "text", "context": "frames"},
    {"correct": "text", "context": "frames", "eta": -1, "padding": "release"},
    {"correct": "text", "context": "words", "query": "text"},
    {"correct": "video", "context": "words"},
]
every_form = pytest.mark.parametrize(
    "form", [*FORMS, {"increment": "none"}], ids=lambda form: "-".join(map(str, form.values()))
)
every_loss = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


def toy(form, seed=4):
    """A random model, its features of as many videos as texts, and the logits' factor."""
    model = random_model(seed, WIDTH, **form)
    text, video = random_features(seed + 1, WIDTH)
    # a video of few frames gives all texts nearly the same Δ, where the bottleneck is not smooth
    video.mask_BF[:, :4] = True
    return model, (text[:ANCHORS], video[:ANCHORS], SCALE)


def weights_by_formula(sim_AB, scale, ignored):
    """G_ij = scale / 2A · (softmax over i's row + softmax over j's column − 2 where j = i)."""
    count = len(sim_AB)
    pairs = list(itertools.product(range(count), repeat=2))
    raised = {
        (i, j): 0.0 if (i, j) in ignored else float(torch.exp(scale * sim_AB[i, j]))
        for i, j in pairs
    }
    found = torch.zeros(count, count, dtype=torch.double)
    for i, j in pairs:
        row = sum(raised[i, k] for k in range(count))
        column = sum(raised[k, j] for k in range(count))
        share = raised[i, j] / row + raised[i, j] / column - 2 * (i == j)
        found[i, j] = scale / (2 * count) * share
    return found


def ignored_pairs(settings, video_B):
    """Pairs of an anchor with another caption's copy of its own video."""
    count = len(video_B)
    return {
        (i, j)
        for i, j in itertools.product(range(count), repeat=2)
        if settings.same_video == "ignore" and i != j and video_B[i] == video_B[j]
    }


def pair_by_pair(model, features, video_B, settings):
    """(positive, negative) of every anchor on t and on x^Δ, from one pair's score at a time."""
    text, video, scale = features
    count = len(text.text_AD)
    sim_AB = model.score(text, video).sim_AB.detach()
    weight_AB = weights_by_formula(sim_AB, scale, ignored_pairs(settings, video_B))
    on_text = torch.zeros(2, count, text.text_AD.shape[1], dtype=torch.double)
    on_corrected = torch.zeros_like(on_text)
    for i, j in itertools.product(range(count), repeat=2):
        one, other = text[i : i + 1], video[j : j + 1]
        t_AD = one.text_AD.clone().requires_grad_()
        scores = model.score(replace(one, text_AD=t_AD), other)
        (grad_AD,) = torch.autograd.grad(scores.sim_AB.sum(), t_AD)
        part = int(i != j)
        on_text[part, i] += weight_AB[i, j] * grad_AD[0]
        if scores.delta_ABD is None:
            continue
        t, p, delta = one.text_AD[0], scores.pooled_ABD[0, 0].detach(), scores.delta_ABD[0, 0]
        x, y = (t, p) if model.settings.correct == "text" else (p, t)
        x = x + delta.detach()
        # the derivative of a cosine: (y/‖y‖ − s x/‖x‖) / ‖x‖
        s = sim_AB[i, j]
        on_corrected[part, i] += weight_AB[i, j] * (y / y.norm() - s * x / x.norm()) / x.norm()
    return on_text, on_corrected


@every_loss
def test_weights_of_pairs(settings):
    generator = torch.Generator().manual_seed(0)
    sim_AB = torch.rand(ANCHORS, ANCHORS, generator=generator, dtype=torch.double)
    ignored = ignored_pairs(settings, VIDEOS)
    mask_AB = torch.zeros(ANCHORS, ANCHORS, dtype=torch.bool)
    for pair in ignored:
        mask_AB[pair] = True
    expected = weights_by_formula(sim_AB, SCALE, ignored)
    torch.testing.assert_close(pair_weights(sim_AB, SCALE, mask_AB), expected)


@every_form
@every_loss
def test_positive_and_negative_parts_on_t_and_on_the_corrected_side(form, settings):
    model, features = toy(form)
    found = batch_parts(model, features, VIDEOS, settings)
    on_text, on_corrected = pair_by_pair(model, features, VIDEOS, settings)
    expected = {"text": on_text}
    if model.psi is not None:
        expected["corrected"] = on_corrected
    assert found.keys() - {"delta"} == expected.keys()
    for on, (positive_ND, negative_ND) in expected.items():
        torch.testing.assert_close(found[on].positive_ND, positive_ND)
        torch.testing.assert_close(found[on].negative_ND, negative_ND)


@every_form
def test_both_parts_together_are_the_gradient_of_l_nce(form):
    model, (text, video, scale) = toy(form)
    found = batch_parts(model, (text, video, scale), VIDEOS, LossSettings())
    text_AD = text.text_AD.clone().requires_grad_()
    scores = model.score(replace(text, text_AD=text_AD), video)
    (expected,) = torch.autograd.grad(info_nce(scores.sim_AB, scale), text_AD)
    torch.testing.assert_close(found["text"].sum_ND, expected)


def loss_of(delta_ABD, model, features, settings):
    """L for given increments, with the cosine spelt out."""
    text, video, scale = features
    t, p = text.text_AD[:, None], model.score(text, video).pooled_ABD
    x, y = (t + delta_ABD, p) if model.settings.correct == "text" else (p + delta_ABD, t)
    sim_AB = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))
    return total_loss(sim_AB, delta_ABD, scale, VIDEOS, settings)["loss"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
@every_loss
def test_parts_on_delta_are_slopes_of_the_whole_loss(form, settings):
    """By differences: an anchor's positive increment is moved, or all its negatives together."""
    model, features = toy(form)
    found = batch_parts(model, features, VIDEOS, settings)["delta"]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        delta_ABD = model.score(*features[:2]).delta_ABD
        for i, part in itertools.product(range(ANCHORS), ("positive", "negative")):
            direction_D = torch.randn(WIDTH, generator=generator, dtype=torch.double)
            move_ABD = torch.zeros_like(delta_ABD)
            own = torch.arange(ANCHORS) == i
            move_ABD[i, own if part == "positive" else ~own] = 1e-6 * direction_D
            up, down = (
                loss_of(delta_ABD + sign * move_ABD, model, features, settings) for sign in (1, -1)
            )
            slope = float(getattr(found, f"{part}_ND")[i] @ direction_D)
            assert slope == pytest.approx(float(up - down) / 2e-6, rel=1e-4, abs=1e-7)


def test_what_cancels():
    one, other = torch.tensor([[3.0, 0, 0]] * 3), torch.tensor([[-3.0, 0, 0], [3, 0, 0], [0, 3, 0]])
    expected = torch.tensor([1, 0, 1 - 0.5**0.5])
    torch.testing.assert_close(Parts(one, other).cancelled(), expected)


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """What the figure of two batches has written, and the model that it is of."""
    output = tmp_path_factory.mktemp("gradients")
    flags = ("--batches", "2", "--workers", "0", "--device", "cpu", "--output", str(output))
    assert main(["2", "--run", str(trained[0]), *flags]) == 0
    request = Request(trained[0], given={"workers": 0, "device": "cpu"})
    return rows_of(output, "gradients"), request.subject


def test_the_table_of_a_run_is_that_of_its_batches_pair_by_pair(made):
    rows, subject = made
    batches = list(subject.batches(subject.split("train"), 2))
    scorer = Scorer(subject.model.settings, subject.model.backbone.width)
    scorer.psi.load_state_dict(subject.model.psi.state_dict())
    scorer.double().eval()
    settings = subject.config.loss_settings()
    found = []
    for batch in batches:
        text, video, scale = subject.features(batch)
        features = (*as_dtype(torch.double, text, video), scale.double())
        found.append(pair_by_pair(scorer, features, batch.video_B, settings))
    parts = dict(zip(("text", "corrected"), zip(*found, strict=True), strict=True))
    for on, batch_wise in parts.items():
        positive_ND, negative_ND = torch.cat(batch_wise, dim=1)
        by_name = {"positive": positive_ND, "negative": negative_ND}
        by_name["sum"] = positive_ND + negative_ND
        for part, values_ND in by_name.items():
            these = [row for row in rows if (row["on"], row["part"]) == (on, part)]
            assert [row["dimension"] for row in these] == [str(d) for d in range(128)]
            size = float(positive_ND.abs().max())
            mean, variance = values_ND.mean(0), values_ND.var(0)
            np.testing.assert_allclose(numbers(these, "mean"), mean, atol=1e-4 * size)
            np.testing.assert_allclose(numbers(these, "variance"), variance, rtol=1e-2)
        whole_N = positive_ND.norm(dim=1) + negative_ND.norm(dim=1)
        cancelled = float((1 - by_name["sum"].norm(dim=1) / whole_N).mean())
        [row] = [row for row in rows if (row["on"], row["part"]) == (on, "cancelled")]
        assert float(row["mean"]) == pytest.approx(cancelled, abs=1e-4)


def test_the_table_has_the_whole_loss_on_delta(made):
    rows, subject = made
    settings = subject.config.loss_settings()
    found = [
        batch_parts(subject.model, subject.features(batch), batch.video_B, settings)["delta"]
        for batch in subject.batches(subject.split("train"), 2)
    ]
    for part in ("positive", "negative", "sum"):
        values = np.concatenate([getattr(parts, f"{part}_ND").numpy() for parts in found])
        these = [row for row in rows if (row["on"], row["part"]) == ("delta", part)]
        size = 1e-5 * np.abs(values).max()
        np.testing.assert_allclose(numbers(these, "mean"), values.mean(axis=0), atol=size)
        variance = values.var(axis=0, ddof=1)
        np.testing.assert_allclose(numbers(these, "variance"), variance, rtol=1e-4)


def test_the_batches_are_those_of_training(made, trained):
    """The captions of epoch 1 in the order of the run's seed, and pixels without augmentation."""
    subject = made[1]
    split = subject.split("train")
    batches = list(subject.batches(split, 1000))
    config = torch.load(trained[0] / "checkpoint_last.pt", weights_only=True)["config"]
    expected = global_batches(len(split.captions), 12, config["seed"], epoch=1)
    assert [batch.caption_B.tolist() for batch in batches] == expected.tolist()
    clip = split.clips[int(batches[0].video_B[0])]
    first = subject.run.frames(subject.model).read(clip)
    place = int(batches[0].clip_B[0])
    start = sum(batches[0].frames_of_clip[:place])
    assert torch.equal(batches[0].frames_NCHW[start : start + len(first)], first)


def test_a_baseline_has_gradients_on_t_alone(baseline, analyse, tmp_path):
    done = analyse("gradients", "--run", baseline, "--batches", 1, "--output", tmp_path)
    assert done.code == 0, done.err
    rows = rows_of(tmp_path, "gradients")
    assert {row["on"] for row in rows} == {"text"}
    assert "% cancelled" in done.out
