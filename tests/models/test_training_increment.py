"""ψ as training computes it against its literal form, with every gradient."""

import itertools

import pytest
import torch
from random_scores import A, B, as_dtype, random_features, random_model
from torch.utils.flop_counter import FlopCounterMode

from tvr.models.increment import Increment
from tvr.models.score import TextFeatures, VideoFeatures
from tvr.models.training_increment import training_increments

FORMS = [
    {"context": context, "query": query, "eta": eta, "padding": padding}
    for context, (query, eta), padding in itertools.product(
        ("frames", "words"), (("gap", 1), ("gap", -1), ("text", 1)), ("mask", "release")
    )
]
every_form = pytest.mark.parametrize(
    "form", FORMS, ids=lambda form: "-".join(map(str, form.values()))
)


def increments_and_gradients(model, form, text, video):
    """Δ, and by name the gradients of a random function of it, for weights and features."""
    leaves = {"text": text.text_AD, "words": text.words_ALD, "frames": video.frames_BFD}
    leaves = {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}
    text = TextFeatures(leaves["text"], leaves["words"], text.mask_AL)
    torch.manual_seed(7)
    delta_ABD = getattr(model, form)(text, VideoFeatures(leaves["frames"], video.mask_BF))
    generator = torch.Generator().manual_seed(8)
    wanted_ABD = torch.randn(delta_ABD.shape, generator=generator, dtype=torch.double)
    model.zero_grad()
    delta_ABD.backward(wanted_ABD.to(delta_ABD))
    leaves |= dict(model.named_parameters())
    return {"delta": delta_ABD.detach(), **{name: leaf.grad for name, leaf in leaves.items()}}


def assert_same(ours, expected, tolerance):
    """Every tensor within `tolerance` of its norm; those that nothing depends on are None in both.

    The keys' bias has gradient 0, so that there is only noise, which has to be small beside what
    the queries' bias has.
    """
    sizes = {name: None if value is None else value.norm() for name, value in expected.items()}
    sizes["psi.key.bias"] = sizes["psi.query.bias"] + sizes["psi.value.bias"]
    for name, value in expected.items():
        if value is None:
            assert ours[name] is None, name
        else:
            error = (ours[name].double() - value).norm()
            assert error <= tolerance * sizes[name], (name, error / sizes[name])


def literally(model, text, video):
    """The literal form in double precision, for weights and features of any."""
    text, video = as_dtype(torch.double, text, video)
    return increments_and_gradients(model.double(), "increments", text, video)


@every_form
@pytest.mark.parametrize("seed", range(3))
def test_the_literal_form_with_dropout(form, seed):
    """The same seed drops the same."""
    model, (text, video) = random_model(seed, **form).train(), random_features(seed + 10)
    assert model.psi.dropout.p == 0.3
    expected = literally(model, text, video)
    ours = increments_and_gradients(model, "increments_folded", text, video)
    assert_same(ours, expected, 1e-10)


@every_form
@pytest.mark.parametrize("seed", range(3))
def test_the_literal_form_in_single_precision(form, seed):
    model = random_model(seed, **form).float()
    text, video = as_dtype(torch.float, *random_features(seed + 10))
    ours = increments_and_gradients(model, "increments_folded", text, video)
    assert_same(ours, literally(model, text, video), 1e-5)


@every_form
def test_one_context_vector(form):
    """Clips of one frame and captions of one token: nothing to choose from."""
    model, (text, video) = random_model(0, **form).train(), random_features(1)
    text = TextFeatures(text.text_AD, text.words_ALD[:, :1], text.mask_AL[:, :1])
    video = VideoFeatures(video.frames_BFD[:, :1], video.mask_BF[:, :1])
    expected = literally(model, text, video)
    assert not expected["psi.query.weight"].any()
    assert_same(increments_and_gradients(model, "increments_folded", text, video), expected, 1e-10)


def test_single_precision_drops_the_same():
    model = random_model(0).float().train()
    text, video = as_dtype(torch.float, *random_features(1))
    literal = increments_and_gradients(model, "increments", text, video)
    after = torch.get_rng_state()
    folded = increments_and_gradients(model, "increments_folded", text, video)
    assert torch.equal(torch.get_rng_state(), after)
    torch.testing.assert_close(folded["delta"], literal["delta"], atol=1e-5, rtol=0)


def near_pairs(gap):
    """Texts near the mean frame of every video, in single precision: gaps of a share of both."""
    generator = torch.Generator().manual_seed(0)
    text, video = random_features(1)
    frames_BFD = video.frames_BFD - video.frames_BFD.mean(dim=1, keepdim=True) + text.text_AD[0]
    noise_AD = torch.randn(text.text_AD.shape, generator=generator) * text.text_AD[0].std()
    text_AD = text.text_AD[:1] + gap * noise_AD
    text = TextFeatures(text_AD, text.words_ALD, text.mask_AL)
    return as_dtype(torch.float, text, VideoFeatures(frames_BFD, torch.ones_like(video.mask_BF)))


def test_a_gap_much_smaller_than_the_features():
    """Digits are lost in proportion to the gap, not to its square."""
    model, (text, video) = random_model(3).float(), near_pairs(gap=0.01)
    ours = increments_and_gradients(model, "increments_folded", text, video)
    assert_same(ours, literally(model, text, video), 1e-6 / 0.01)


def test_a_gap_of_nothing():
    model, (text, video) = random_model(3).float(), near_pairs(gap=0)
    results = increments_and_gradients(model, "increments_folded", text, video)
    assert all(value.isfinite().all() for value in results.values() if value is not None)


def pair_multiplications(increments, width, frames):
    """Multiplications a pair: what grows with the product of the two numbers of items."""
    psi, counts = Increment(width), {}
    for owners, others in itertools.product((A, 2 * A), (B, 2 * B)):
        sides = torch.randn(owners, width), torch.randn(others, width)
        with FlopCounterMode(display=False) as counter:
            increments(psi, *sides, torch.randn(owners, frames, width), None)
        counts[owners, others] = counter.get_total_flops() // 2
    mixed = counts[2 * A, 2 * B] - counts[2 * A, B] - counts[A, 2 * B] + counts[A, B]
    return mixed / (A * B)


def test_one_product_with_a_matrix_per_pair():
    """All but W_μ is of the context's length times the width, or less."""
    width, frames = 32, 3

    def literal(psi, owner_ND, other_MD, context_NCD, mask_NC):
        return psi(owner_ND[:, None] + other_MD, context_NCD, mask_NC)

    small = 3 * frames * width + frames**2
    assert pair_multiplications(training_increments, width, frames) == width**2 + small
    assert pair_multiplications(literal, width, frames) == 4 * width**2 + 2 * frames * width
