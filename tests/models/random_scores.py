"""Random weights and features for tests of the score.

Shapes: A texts, B videos, F frames, L tokens.
"""

import torch

from tvr.models.score import ModelSettings, Scorer, TextFeatures, VideoFeatures

A, B, F, L = 7, 9, 5, 6


def random_model(seed, width=64, **settings):
    """ψ whose every parameter matters, of a scale that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    model = Scorer(ModelSettings(**settings), width).double().eval()
    scale = float(torch.rand((), generator=generator) * 0.4 + 0.01)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.data = scale * noise + (0.5 if parameter.ndim == 1 else 0.0)
    return model


def random_features(seed, width=64, dtype=torch.double):
    """Features near CLIP's norm of 10, with masks of every length from 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        centre = torch.randn(width, generator=generator, dtype=torch.double)
        noise = torch.randn(*shape, width, generator=generator, dtype=torch.double)
        return ((noise + centre) * 10 / (2 * width) ** 0.5).to(dtype)

    def mask(items, length):
        lengths = torch.randint(1, length + 1, (items, 1), generator=generator)
        return torch.arange(length) < lengths

    text = TextFeatures(draw(A), draw(A, L), mask(A, L))
    return text, VideoFeatures(draw(B, F), mask(B, F))


def as_dtype(dtype, text, video):
    words = None if text.words_ALD is None else text.words_ALD.to(dtype)
    return (
        TextFeatures(text.text_AD.to(dtype), words, text.mask_AL),
        VideoFeatures(video.frames_BFD.to(dtype), video.mask_BF),
    )
