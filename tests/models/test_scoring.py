"""The fast form of the score against the literal one in double precision."""

import itertools

import pytest
import torch
from random_scores import A, B, F, as_dtype, random_features, random_model
from torch import nn

from tvr.models import scoring
from tvr.models.increment import IncrementByQuery
from tvr.models.score import TextFeatures, VideoFeatures
from tvr.models.scoring import FastScore, why_literal

FORMS = [
    {"context": context, "correct": correct, "query": query, "eta": eta, "padding": padding}
    for context, correct, (query, eta), padding in itertools.product(
        ("frames", "words"),
        ("text", "video"),
        (("gap", 1), ("gap", -1), ("text", 1)),
        ("mask", "release"),
    )
]


@torch.no_grad()
def oracle(model, text, video):
    return model.score(*as_dtype(torch.double, text, video)).sim_AB


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
@pytest.mark.parametrize("seed", range(3))
def test_fast_is_the_literal_form(form, seed):
    model, (text, video) = random_model(seed, **form), random_features(seed + 10)
    expected = oracle(model, text, video)
    fast = FastScore(model, torch.double)(text, [video])
    torch.testing.assert_close(fast, expected, atol=1e-12, rtol=0)
    single = FastScore(model)(*[as_dtype(torch.float, text, video)[0]], [video])
    assert single.dtype == torch.float
    torch.testing.assert_close(single.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_by_query_is_the_literal_form(form):
    model, (text, video) = random_model(0, **form), random_features(10)
    expected = oracle(model, text, video)
    model.psi = IncrementByQuery(model.psi)
    torch.testing.assert_close(oracle(model, text, video), expected, atol=1e-12, rtol=0)
    with torch.no_grad():
        single = model.float().score(*as_dtype(torch.float, text, video)).sim_AB
    torch.testing.assert_close(single.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [8, 96, 512])
def test_any_width(seed, width):
    model, (text, video) = random_model(seed, width), random_features(seed, width)
    expected = oracle(model, text, video)
    fast = FastScore(model, torch.double)(text, [video])
    torch.testing.assert_close(fast, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
@pytest.mark.parametrize("context", ["frames", "words"])
def test_half_precision_features_are_scored_in_fp32(dtype, context):
    model, (text, video) = random_model(0, context=context), random_features(1)
    text, video = as_dtype(dtype, text, video)
    fast = FastScore(model)(text, [video])
    torch.testing.assert_close(fast.double(), oracle(model, text, video), atol=2e-6, rtol=0)


@pytest.mark.parametrize("padding", ["mask", "release"])
def test_the_baseline_has_no_increment(padding):
    model = random_model(0, increment="none", padding=padding)
    text, video = random_features(1)
    text = TextFeatures(text.text_AD, None, text.mask_AL)
    fast = FastScore(model, torch.double)(text, [video])
    torch.testing.assert_close(fast, oracle(model, text, video), atol=1e-12, rtol=0)


@pytest.mark.parametrize("context", ["frames", "words"])
@pytest.mark.parametrize("numbers", [1, 40, 300])
def test_blocks_and_batches_change_nothing(context, numbers, monkeypatch):
    """Blocks down to one pair, and batches of uneven size, give the same matrix."""
    model, (text, video) = random_model(2, context=context), random_features(3)
    expected = oracle(model, text, video)
    monkeypatch.setattr(scoring, "NUMBERS_PER_BLOCK", numbers)
    monkeypatch.setattr(scoring, "TEXTS_PER_BLOCK", 3)
    batches = [video[:4], video[4:5], video[5:]]
    fast = FastScore(model, torch.double)(text, batches)
    torch.testing.assert_close(fast, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("context", ["frames", "words"])
def test_a_batch_has_the_same_scores_whatever_is_beside_it(context, monkeypatch):
    """Bit for bit: processes with other batches must not give other ranks."""
    model = random_model(2, context=context).float()
    text, video = as_dtype(torch.float, *random_features(3))
    monkeypatch.setattr(scoring, "NUMBERS_PER_BLOCK", 4096)
    alone = FastScore(model)(text, [video[7:]])
    among = FastScore(model)(text, [video[:7], video[7:]])
    assert torch.equal(among[:, 7:], alone)


def test_a_text_in_the_place_of_the_mean_frame():
    """The gap is rounding only: its variance must not come out negative."""
    model = random_model(1).float()
    _, video = as_dtype(torch.float, *random_features(1))
    same = VideoFeatures(100 * video.frames_BFD[:, :1].expand(-1, F, -1), video.mask_BF)
    text = TextFeatures(same.frames_BFD[:, 0].clone(), None, torch.ones(B, 1, dtype=torch.bool))
    assert FastScore(model)(text, [same]).isfinite().all()


def test_a_correction_that_takes_the_text_to_zero_scores_no_more_than_one():
    model, (text, video) = random_model(0).float(), as_dtype(torch.float, *random_features(0))
    model.psi.mean.weight.data.zero_()
    model.psi.mean.bias.data = 10 * torch.nn.functional.normalize(text.text_AD[0], dim=0)
    gone_AD = -model.psi.mean.bias * (1 + 1e-7 * torch.arange(A)[:, None])
    scores = FastScore(model)(TextFeatures(gone_AD, None, text.mask_AL), [video])
    assert scores.isfinite().all()
    assert scores.abs().max() <= 1


def test_no_two_candidates_change_places():
    """fp32 orders all candidates as double precision does, but for what fp32 cannot tell apart."""
    generator = torch.Generator().manual_seed(0)
    model = random_model(1)
    text = TextFeatures(torch.randn(60, 64, generator=generator), None, torch.ones(60, 1).bool())
    frames = torch.randn(80, 4, 64, generator=generator)
    video = VideoFeatures(frames, torch.ones(80, 4, dtype=torch.bool))
    expected = oracle(model, text, video)
    fast = FastScore(model)(text, [video])
    gaps, fast_gaps = (sim[:, :, None] - sim[:, None, :] for sim in (expected, fast))
    apart = gaps.abs() > 1e-6
    assert apart.float().mean() > 0.98
    assert torch.equal(fast_gaps.sign()[apart].double(), gaps.sign()[apart])


def test_one_frame_and_equal_frames():
    """All context vectors alike: LN2 sees no differences, and nothing divides by zero."""
    model = random_model(3)
    text, video = random_features(4)
    same = VideoFeatures(video.frames_BFD[:, :1].expand(-1, F, -1), video.mask_BF)
    fast = FastScore(model, torch.double)(text, [same])
    torch.testing.assert_close(fast, oracle(model, text, same), atol=1e-12, rtol=0)


def test_nan_is_not_hidden():
    model, (text, video) = random_model(0), random_features(0)
    video.frames_BFD[2, 0] = float("nan")
    fast = FastScore(model, torch.double)(text, [video])
    assert fast[:, 2].isnan().all()
    assert fast[:, :2].isfinite().all()


@pytest.mark.parametrize("context", ["frames", "words"])
def test_autocast_around_it_changes_nothing(context):
    model, (text, video) = random_model(0, context=context).float(), random_features(0)
    text, video = as_dtype(torch.float, text, video)
    plain = FastScore(model)(text, [video])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(FastScore(model)(text, [video]), plain)


def test_another_psi_is_refused():
    model = random_model(0)
    assert why_literal(model) is None
    model.psi = nn.Identity()
    assert "Identity" in why_literal(model)
    with pytest.raises(AssertionError):
        FastScore(model)
