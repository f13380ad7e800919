"""Angles, lengths and distances of pairs against a loop that looks at one pair after another."""

import itertools
import math

import pytest
import torch
from random_scores import as_dtype, random_features, random_model

from tvr.models.geometry import delta_statistics, geometry_statistics, pair_geometry

FORMS = [
    {"correct": correct, "context": context, "eta": eta, "padding": padding}
    for (correct, context), eta, padding in itertools.product(
        (("text", "frames"), ("video", "words")), (1, -1), ("mask", "release")
    )
]
every_form = pytest.mark.parametrize(
    "form", [*FORMS, {"increment": "none"}], ids=lambda form: "-".join(map(str, form.values()))
)


def angle(x, y):
    return math.degrees(math.acos(float(x @ y / (x.norm() * y.norm()))))


def of_a_pair(model, text, video, i, j):
    """All quantities of text i and video j, from their vectors alone."""
    s = model.settings
    scores = model.score(text[i : i + 1], video[j : j + 1])
    t, p = text.text_AD[i], scores.pooled_ABD[0, 0]
    found = {
        "norm_text": t.norm(),
        "norm_video": p.norm(),
        "distance": (t - p).norm(),
        "cosine": t @ p / (t.norm() * p.norm()),
    }
    if model.psi is None:
        return found
    delta = scores.delta_ABD[0, 0]
    frames = video.frames_BFD[j]
    mean = (frames if s.padding == "release" else frames[video.mask_BF[j]]).mean(dim=0)
    x, y = (t, p) if s.correct == "text" else (p, t)
    corrected = x + delta
    return found | {
        "norm_delta": delta.norm(),
        "angle_gap": angle(delta, s.eta * (mean - t)),
        "angle_x": angle(delta, x),
        "norm_corrected": corrected.norm(),
        "distance_corrected": (corrected - y).norm(),
        "cosine_corrected": corrected @ y / (corrected.norm() * y.norm()),
    }


def all_pairs(model, text, video):
    """The same of every pair, as (A, B) by name."""
    found = {}
    for i, j in itertools.product(range(len(text.text_AD)), range(len(video.mask_BF))):
        for name, value in of_a_pair(model, text, video, i, j).items():
            found.setdefault(name, {})[i, j] = float(value)
    shape = len(text.text_AD), len(video.mask_BF)
    return {name: torch.tensor(list(v.values())).view(shape).double() for name, v in found.items()}


@every_form
@pytest.mark.parametrize("seed", range(2))
@torch.no_grad()
def test_every_quantity_is_that_of_the_pair_alone(form, seed):
    model, (text, video) = random_model(seed, **form), random_features(seed + 10)
    expected = all_pairs(model, text, video)
    found = pair_geometry(text, video, model.score(text, video), model.settings)
    assert found.keys() == expected.keys()
    for name, value_AB in found.items():
        torch.testing.assert_close(value_AB, expected[name], rtol=1e-6, atol=1e-6, msg=name)


@every_form
@torch.no_grad()
def test_single_precision(form):
    """Angles are good to a hundredth of a degree, the rest to five digits."""
    model, (text, video) = random_model(1, **form), random_features(3)
    expected = pair_geometry(text, video, model.score(text, video), model.settings)
    model, (text, video) = model.float(), as_dtype(torch.float, text, video)
    found = pair_geometry(text, video, model.score(text, video), model.settings)
    for name, value_AB in found.items():
        tolerance = {"rtol": 0, "atol": 0.01} if "angle" in name else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(value_AB.double(), expected[name], **tolerance, msg=name)


@torch.no_grad()
def test_a_delta_of_nothing_gives_numbers():
    """`--psi_init zero`: there are no angles, and nothing is corrected."""
    model, (text, video) = random_model(0), random_features(1)
    for parameter in model.psi.mean.parameters():
        parameter.zero_()
    found = pair_geometry(text, video, model.score(text, video), model.settings)
    assert all(value_AB.isfinite().all() for value_AB in found.values())
    torch.testing.assert_close(found["norm_corrected"], found["norm_text"])
    torch.testing.assert_close(found["distance_corrected"], found["distance"])
    torch.testing.assert_close(found["cosine_corrected"], found["cosine"])


@every_form
@torch.no_grad()
def test_means_over_positives_and_over_negatives(form):
    model, (text, video) = random_model(2, **form), random_features(4)
    video = video[: len(text.text_AD)]
    expected = all_pairs(model, text, video)
    found = geometry_statistics(text, video, model.score(text, video), model.settings)
    own = torch.eye(len(text.text_AD), dtype=torch.bool)
    assert len(found) == 2 * len(expected)
    for name, value_AB in expected.items():
        for part, pairs in (("positive", own), ("negative", ~own)):
            assert float(found[f"{part}/{name}"]) == pytest.approx(float(value_AB[pairs].mean()))


@torch.no_grad()
def test_statistics_of_the_length():
    generator = torch.Generator().manual_seed(0)
    delta_ABD = torch.randn(5, 7, 16, generator=generator, dtype=torch.double)
    rows = [[float(delta.norm()) for delta in row] for row in delta_ABD]
    spread = [torch.tensor(row, dtype=torch.double).std() for row in rows]
    found = delta_statistics(delta_ABD)
    assert float(found["delta/norm"]) == pytest.approx(sum(map(sum, rows)) / 35)
    assert float(found["delta/norm_sd"]) == pytest.approx(float(sum(spread)) / 5)
