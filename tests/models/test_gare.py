"""The assembled model: features, masks, sides, contexts, start values, and release checkpoints."""

import pytest
import torch
import torch.nn.functional as F

from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings, TextFeatures, VideoFeatures
from tvr.models.release import RENAMED, from_release, is_release


def tiny(**settings):
    torch.manual_seed(0)
    return GARE(build_backbone("tiny"), ModelSettings(base_encoder="tiny", **settings)).eval()


@pytest.fixture(scope="module")
def model():
    return tiny(num_hidden_layers=2)


def clips(model, count=4, frames=3):
    generator = torch.Generator().manual_seed(1)
    side = model.backbone.resolution
    pixels = torch.randint(0, 256, (count, frames, 3, side, side), generator=generator)
    mask = torch.arange(frames) < 1 + torch.arange(count)[:, None] % frames
    return pixels.to(torch.uint8), mask


def captions(model, length=12):
    return model.backbone.tokenize(["a red circle", "two", "a very long tale of a star"], length)


@torch.no_grad()
def scores(model, length=12, garbage=0):
    pixels, mask = clips(model)
    pixels[~mask] = garbage
    text = model.encode_text(captions(model, length))
    return model.score(text, model.encode_video(pixels[mask], mask))


@pytest.mark.parametrize("context", ["frames", "words"])
@pytest.mark.parametrize("correct", ["text", "video"])
def test_score_is_the_cosine_of_the_corrected_side(correct, context):
    model = tiny(correct=correct, context=context, temp=2.0, agg_module="None")
    pixels, mask = clips(model)
    with torch.no_grad():
        text, video = model.encode_text(captions(model)), model.encode_video(pixels[mask], mask)
        both = model.score(text, video)
        for i, t in enumerate(text.text_AD):
            for j, (frames, real) in enumerate(zip(video.frames_BFD, mask, strict=True)):
                frames = frames[real]
                pooled = ((frames @ t) / 2.0).softmax(0) @ frames
                gap = frames.mean(0) - t
                words = text.words_ALD[i][text.mask_AL[i]] if context == "words" else None
                around = frames if words is None else words
                delta = model.psi(gap[None, None], around[None], None)[0, 0]
                sides = (t + delta, pooled) if correct == "text" else (t, pooled + delta)
                expected = F.cosine_similarity(*sides, dim=0)
                torch.testing.assert_close(both.sim_AB[i, j], expected, atol=1e-6, rtol=0)
                torch.testing.assert_close(both.delta_ABD[i, j], delta, atol=1e-5, rtol=1e-4)


def test_eta_and_query_change_what_psi_is_asked():
    plus, minus, text = tiny(), tiny(eta=-1), tiny(query="text")
    pixels, mask = clips(plus)
    with torch.no_grad():
        t, v = plus.encode_text(captions(plus)), plus.encode_video(pixels[mask], mask)
        deltas = [m.score(t, v).delta_ABD for m in (plus, minus, text)]
        # asked with t_i only, ψ cannot tell two copies of one video from each other's neighbours
        mirrored = VideoFeatures(v.frames_BFD, v.mask_BF)
        flipped = TextFeatures(-t.text_AD, None, t.mask_AL)
    assert not torch.allclose(deltas[0], deltas[1], atol=1e-4)
    assert not torch.allclose(deltas[0], deltas[2], atol=1e-4)
    with torch.no_grad():
        again = text.increments(flipped, mirrored)
    assert not torch.allclose(again, deltas[2], atol=1e-4)


def test_baseline_has_no_increment_and_no_psi():
    model = tiny(increment="none")
    assert model.psi is None
    assert scores(model).delta_ABD is None
    assert not any(name.startswith("psi") for name, _ in model.named_parameters())


@pytest.mark.parametrize("agg", ["seqTransf", "seqLSTM", "None"])
def test_padding_does_not_matter_when_masked(agg):
    model = tiny(agg_module=agg, context="frames", num_hidden_layers=2)
    torch.testing.assert_close(scores(model).sim_AB, scores(model, garbage=200).sim_AB)
    words = tiny(agg_module=agg, context="words", num_hidden_layers=2)
    short, long = scores(words, length=12).sim_AB, scores(words, length=30).sim_AB
    torch.testing.assert_close(short, long, atol=1e-5, rtol=0)


def test_release_padding_lets_padded_frames_in():
    """A slow loop over the release's rules: ψ and the mean see padded (blank) frames, and pooling
    sets their weight to 0 after the softmax without renormalising."""
    model = tiny(agg_module="None", padding="release", temp=3.0)
    pixels, mask = clips(model)
    with torch.no_grad():
        text, video = model.encode_text(captions(model)), model.encode_video(pixels[mask], mask)
        both = model.score(text, video)
        blank = model.clip.encode_image(torch.zeros(1, 3, *pixels.shape[-2:]))[0]
        torch.testing.assert_close(video.frames_BFD[0, -1], blank, atol=1e-5, rtol=1e-4)
        for i, t in enumerate(text.text_AD):
            for j, frames in enumerate(video.frames_BFD):
                weights = ((frames @ t) / 3.0).softmax(0) * mask[j]
                gap = frames.mean(0) - t
                delta = model.psi(gap[None, None], frames[None], None)[0, 0]
                expected = F.cosine_similarity(t + delta, weights @ frames, dim=0)
                torch.testing.assert_close(both.sim_AB[i, j], expected, atol=1e-6, rtol=0)


def test_increment_starts_as_large_as_the_features():
    """The paper's start: ‖Δ‖ near 10 at D = 512, √D·0.02·√D in general."""
    model = tiny()
    expected = 0.02 * model.backbone.width
    radius = scores(model).delta_ABD.norm(dim=-1)
    assert ((radius > 0.7 * expected) & (radius < 1.3 * expected)).all(), radius


def test_temporal_module_starts_as_clips_text_blocks():
    model = tiny(num_hidden_layers=2)
    assert model.temporal_from_clip
    for own, block in zip(
        model.temporal.transformer.resblocks, model.clip.transformer.resblocks, strict=True
    ):
        for name, weight in block.state_dict().items():
            torch.testing.assert_close(own.state_dict()[name], weight, atol=0, rtol=0)
    assert torch.equal(model.temporal.position.weight, model.clip.positional_embedding)


def test_new_linear_layers_start_small_and_unbiased(model):
    for module in model.psi.modules():
        if isinstance(module, torch.nn.Linear):
            assert 0.018 < module.weight.std() < 0.022
            assert (module.bias == 0).all()


def test_conv1_is_frozen_and_all_else_is_trained(model):
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["clip.visual.conv1.weight"]


def test_release_names_map_onto_ours_and_the_rest_is_listed(model):
    own = model.state_dict()
    release = {}
    for name, tensor in own.items():
        for theirs, ours in RENAMED.items():
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        release["module." + name] = tensor
    extra = ["weight_fc.weight", "psi.log_std_proj.bias", "agent.psi.mean_proj.weight"]
    release |= dict.fromkeys(extra, torch.zeros(1))
    assert is_release(release)
    assert not is_release(own)
    mapped, ignored = from_release(release, set(own))
    assert sorted(ignored) == sorted(extra)
    assert mapped.keys() == own.keys()
    assert all(torch.equal(mapped[name], own[name]) for name in own)
