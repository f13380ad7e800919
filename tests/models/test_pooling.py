"""Text-conditioned pooling and the mean frame against loops."""

import math

import pytest
import torch

from tvr.models.pooling import mean_frame, pool_frames

TEXTS, VIDEOS, FRAMES, WIDTH = 3, 4, 5, 6
MASK = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool
)


def random_features():
    generator = torch.Generator().manual_seed(5)
    text = torch.randn(TEXTS, WIDTH, generator=generator, dtype=torch.double)
    frames = torch.randn(VIDEOS, FRAMES, WIDTH, generator=generator, dtype=torch.double)
    return text, frames


def slow_pool(text, frames, temp, padding):
    pooled = torch.zeros(TEXTS, VIDEOS, WIDTH, dtype=torch.double)
    for i in range(TEXTS):
        for j in range(VIDEOS):
            real = [f for f in range(FRAMES) if MASK[j, f]]
            attended = real if padding == "mask" else range(FRAMES)
            exps = {f: math.exp(float(text[i] @ frames[j, f]) / temp) for f in attended}
            for f in real:
                pooled[i, j] += exps[f] / sum(exps.values()) * frames[j, f]
    return pooled


@pytest.mark.parametrize("padding", ["mask", "release"])
@pytest.mark.parametrize("temp", [0.5, 3.0, 5.0])
def test_pool_frames_equals_a_loop(padding, temp):
    text, frames = random_features()
    pooled = pool_frames(text, frames, MASK, temp, padding)
    torch.testing.assert_close(pooled, slow_pool(text, frames, temp, padding), rtol=1e-12, atol=0)


def test_pool_frames_works_on_raw_features():
    """Longer features sharpen the softmax: nothing is normalised on the way."""
    text, frames = random_features()
    longer = pool_frames(1e4 * text, frames, MASK, temp=3.0)
    best = (text @ frames.flatten(0, 1).T).view(TEXTS, VIDEOS, FRAMES)
    best = best.masked_fill(~MASK, -math.inf).argmax(dim=-1)
    torch.testing.assert_close(longer, frames[torch.arange(VIDEOS), best], rtol=1e-6, atol=1e-6)


def test_release_weights_of_padded_videos_do_not_sum_to_one():
    text, frames = random_features()
    ones = torch.ones_like(frames)
    ones[~MASK] = 0  # the release pads with zeros before CLIP; any padding gives the effect
    total = pool_frames(text, ones, MASK, 3.0, "release")[..., 0]
    torch.testing.assert_close(total[:, 0], torch.ones(TEXTS, dtype=torch.double))
    assert (total[:, 1:] < 0.999).all()
    whole = pool_frames(text, ones, MASK, 3.0, "mask")[..., 0]
    torch.testing.assert_close(whole, torch.ones(TEXTS, VIDEOS, dtype=torch.double))


def test_mean_frame_equals_a_loop():
    _, frames = random_features()
    masked = [
        sum(frames[j, f] for f in range(FRAMES) if MASK[j, f]) / int(MASK[j].sum())
        for j in range(VIDEOS)
    ]
    padded = [sum(frames[j, f] for f in range(FRAMES)) / FRAMES for j in range(VIDEOS)]
    # the weights 1/n are single precision, whatever the features are
    torch.testing.assert_close(mean_frame(frames, MASK), torch.stack(masked), rtol=0, atol=1e-7)
    torch.testing.assert_close(mean_frame(frames, MASK, "release"), torch.stack(padded))


def test_padded_values_matter_to_the_release_only():
    text, frames = random_features()
    other = torch.where(MASK[..., None], frames, 1e3 * torch.rand_like(frames))
    for function in (
        lambda f, padding: pool_frames(text, f, MASK, 3.0, padding),
        lambda f, padding: mean_frame(f, MASK, padding),
    ):
        torch.testing.assert_close(function(frames, "mask"), function(other, "mask"))
        assert not torch.allclose(function(frames, "release"), function(other, "release"))


@pytest.mark.parametrize("padding", ["mask", "release"])
def test_gradients(padding):
    text, frames = random_features()
    inputs = (text[:2].requires_grad_(), frames.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda t, f: pool_frames(t, f, MASK, 3.0, padding), inputs, fast_mode=True
    )
    # see above: single precision weights; the function is linear, so a large step is exact
    assert torch.autograd.gradcheck(lambda f: mean_frame(f, MASK, padding), (frames,), eps=0.1)
