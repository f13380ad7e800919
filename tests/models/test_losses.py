"""Every term of the loss against a loop written from its equation, in plain Python floats."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from tvr.models.losses import (
    LossSettings,
    bottleneck_loss,
    direction_loss,
    duplicate_videos,
    info_nce,
    radius_loss,
    total_loss,
)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def variance(values):
    centre = mean(values)
    return sum((v - centre) ** 2 for v in values) / (len(values) - 1)


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(x):
    length = math.sqrt(dot(x, x))
    return [a / length for a in x]


def slow_info_nce(sim, scale, ignore=None):
    """½(cross-entropy over rows + over columns), diagonal targets, ignored pairs left out."""
    n = len(sim)

    def keep(i, j):
        return ignore is None or not ignore[i][j]

    def cross_entropy(i, logits):
        return math.log(sum(math.exp(x) for x in logits)) - scale * sim[i][i]

    rows = [cross_entropy(i, [scale * sim[i][j] for j in range(n) if keep(i, j)]) for i in range(n)]
    columns = [
        cross_entropy(j, [scale * sim[i][j] for i in range(n) if keep(i, j)]) for j in range(n)
    ]
    return (mean(rows) + mean(columns)) / 2


def slow_radius_variance(delta):
    return mean(variance([math.sqrt(dot(d, d)) for d in of_anchor]) for of_anchor in delta)


def slow_uniformity(delta, alpha):
    def of_anchor(candidates):
        z = [unit(d) for d in candidates]
        kernels = [math.exp(-alpha * (1 - dot(a, b))) for a, b in product(z, z)]
        return math.log(mean(kernels) + 1e-8)

    return mean(of_anchor(candidates) for candidates in delta)


def slow_orthogonality(delta):
    squares = []
    for candidates in delta:
        z = [unit(d) for d in candidates]
        pairs = product(range(len(z)), repeat=2)
        squares += [dot(z[j], z[k]) ** 2 for j, k in pairs if j != k]
    return mean(squares)


def slow_bottleneck(delta, convention, anchor, prior, normalize):
    """KL of one diagonal Gaussian per anchor and dimension, by the textbook formula."""
    texts, videos, width = len(delta), len(delta[0]), len(delta[0][0])
    if normalize:
        delta = [[unit(d) for d in row] for row in delta]
    total = 0.0
    anchors = videos if anchor == "video" else texts
    for n, d in product(range(anchors), range(width)):
        if anchor == "video":
            sample = [delta[i][n][d] for i in range(texts)]
        else:
            sample = [delta[n][j][d] for j in range(videos)]
        sigma = math.sqrt(variance(sample)) + 1e-6
        total += math.log(prior / sigma) + (sigma**2 + mean(sample) ** 2) / (2 * prior**2) - 0.5
    return total / (anchors * width) if convention == "per_dim" else total / anchors


def increments(texts=4, videos=3, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(texts, videos, width, generator=generator, dtype=torch.double)
    return (noise * 1.5 + 0.4).requires_grad_()


def similarities(count=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    sim = torch.rand(count, count, generator=generator, dtype=torch.double) * 2 - 1
    return sim.requires_grad_()


SCALE = torch.tensor(7.0, dtype=torch.double)
# videos 0, 2 and 4 are one file, 1 and 3 are others
VIDEO_B = torch.tensor([7, 3, 7, 9, 7])


def test_info_nce_equals_a_loop():
    sim = similarities()
    assert info_nce(sim, SCALE).item() == pytest.approx(slow_info_nce(sim.tolist(), 7.0), abs=1e-12)
    scale = SCALE.clone().requires_grad_()
    assert torch.autograd.gradcheck(info_nce, (sim, scale))


def test_info_nce_stays_finite_at_the_largest_scale():
    sim = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], requires_grad=True)
    loss = info_nce(sim, torch.tensor(100.0))
    assert loss.item() == pytest.approx(200.0)
    assert torch.autograd.grad(loss, sim)[0].isfinite().all()


def test_duplicate_videos_are_those_of_the_same_file_elsewhere():
    expected = [[i != j and a == b for j, b in enumerate(VIDEO_B)] for i, a in enumerate(VIDEO_B)]
    assert duplicate_videos(VIDEO_B).tolist() == expected
    assert not duplicate_videos(torch.tensor([3, 1, 2])).any()


def test_ignored_pairs_leave_the_denominators():
    sim, ignore = similarities(), duplicate_videos(VIDEO_B)
    loss = info_nce(sim, SCALE, ignore)
    assert loss.item() == pytest.approx(slow_info_nce(sim.tolist(), 7.0, ignore), abs=1e-12)
    assert loss.item() < info_nce(sim, SCALE).item()
    gradient = torch.autograd.grad(loss, sim)[0]
    assert (gradient[ignore] == 0).all()
    assert (gradient[~ignore] != 0).all()
    assert torch.autograd.gradcheck(lambda s: info_nce(s, SCALE, ignore), (sim,))


@pytest.mark.parametrize(("texts", "videos"), [(4, 3), (2, 6), (5, 5)])
def test_radius_loss_equals_a_loop(texts, videos):
    delta = increments(texts, videos)
    spread = slow_radius_variance(delta.tolist())
    assert radius_loss(delta, lower=50.0).item() == pytest.approx(-spread, abs=1e-12)
    assert radius_loss(delta, lower=spread / 3).item() == pytest.approx(-spread / 3, abs=1e-12)
    smooth = math.log(math.exp(-spread) + math.exp(-0.5))
    assert radius_loss(delta, lower=0.5, form="smooth").item() == pytest.approx(smooth, abs=1e-12)


def test_radius_loss_has_a_gradient_only_while_the_variance_is_below_the_bound():
    delta = increments()
    spread = slow_radius_variance(delta.tolist())
    below, beyond = spread * 1.01, spread * 0.99
    assert torch.autograd.grad(radius_loss(delta, below), delta)[0].abs().sum() > 1e-3
    assert (torch.autograd.grad(radius_loss(delta, beyond), delta)[0] == 0).all()
    assert torch.autograd.gradcheck(lambda d: radius_loss(d, below), (delta,))
    assert torch.autograd.gradcheck(lambda d: radius_loss(d, beyond), (delta,))


def test_the_smooth_radius_loss_stays_above_its_bound_and_keeps_a_gradient():
    delta = increments()
    for bound in (0.01, 0.5, 5.0):
        loss = radius_loss(delta, bound, "smooth")
        assert loss.item() > -bound
        assert torch.autograd.grad(loss, delta)[0].abs().sum() > 1e-3
        assert torch.autograd.gradcheck(lambda d, b=bound: radius_loss(d, b, "smooth"), (delta,))


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
@pytest.mark.parametrize(("texts", "videos"), [(4, 3), (2, 6)])
def test_uniformity_equals_a_loop(alpha, texts, videos):
    delta = increments(texts, videos)
    expected = slow_uniformity(delta.tolist(), alpha)
    assert direction_loss(delta, alpha).item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda d: direction_loss(d, alpha), (delta,))


@pytest.mark.parametrize(("texts", "videos"), [(4, 3), (2, 6)])
def test_orthogonality_equals_a_loop(texts, videos):
    delta = increments(texts, videos)
    loss = direction_loss(delta, alpha=2.0, form="orthogonal")
    assert loss.item() == pytest.approx(slow_orthogonality(delta.tolist()), abs=1e-12)
    assert torch.autograd.gradcheck(lambda d: direction_loss(d, 2.0, "orthogonal"), (delta,))


def test_direction_losses_at_their_extremes():
    """Equal directions are the worst case; orthogonal ones have no orthogonality loss."""
    equal = torch.ones(2, 3, 4, dtype=torch.double) * torch.tensor([1.0, 5.0, 0.1])[:, None]
    assert direction_loss(equal, 2.0).item() == pytest.approx(0.0, abs=1e-7)
    assert direction_loss(equal, 2.0, "orthogonal").item() == pytest.approx(1.0)
    axes = torch.eye(3, dtype=torch.double)[None] * 9
    assert direction_loss(axes, 2.0, "orthogonal").item() == pytest.approx(0.0, abs=1e-12)
    one_of_three_pairs = math.log(1 / 3 + 2 / 3 * math.exp(-2.0) + 1e-8)
    assert direction_loss(axes, 2.0).item() == pytest.approx(one_of_three_pairs, abs=1e-12)


@pytest.mark.parametrize("convention", ["per_dim", "joint"])
@pytest.mark.parametrize("anchor", ["video", "text"])
@pytest.mark.parametrize("prior", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("normalize", [False, True])
def test_bottleneck_loss_equals_a_loop(convention, anchor, prior, normalize):
    variant = (convention, anchor, prior, normalize)
    for texts, videos in ((4, 3), (2, 6)):
        delta = increments(texts, videos)
        expected = slow_bottleneck(delta.tolist(), *variant)
        assert bottleneck_loss(delta, *variant).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda d: bottleneck_loss(d, *variant), (delta,))


def test_the_two_conventions_differ_by_the_width():
    delta = increments(4, 3, 7)
    joint = bottleneck_loss(delta, "joint").item()
    assert joint == pytest.approx(7 * bottleneck_loss(delta, "per_dim").item(), rel=1e-12)


def test_the_bottleneck_vanishes_for_a_standard_normal_sample():
    # two values ±1/√2 have mean 0 and unbiased variance 1; σ is 1e-6 more than 1
    delta = torch.tensor([1.0, -1.0], dtype=torch.double).view(2, 1, 1).expand(2, 3, 4) / 2**0.5
    assert bottleneck_loss(delta).item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("anchor", ["video", "text"])
def test_the_bottleneck_gradient_survives_nearly_equal_increments(anchor):
    """At the start of training the increments of one video differ by 1e-5 of their size.

    The rounding error of their fp32 mean is then no longer small beside their differences. That
    error is shared by all of them and must cancel in the gradient, which autograd of a centring
    step sees to and the formula behind torch.std's gradient does not.
    """
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(1, 1, 32, generator=generator)
    delta = shared + 1e-5 * torch.randn(12, 10, 32, generator=generator)
    gradients = []
    for dtype in (torch.float, torch.double):
        leaf = delta.to(dtype).requires_grad_()
        gradients.append(torch.autograd.grad(bottleneck_loss(leaf, anchor=anchor), leaf)[0])
    single, double = gradients
    # 8e-3 with torch.std, 2e-4 when centred once
    assert (single - double).norm() / double.norm() < 1e-5


@pytest.mark.parametrize("texts", [3, 4])
def test_equal_increments_have_the_gradient_of_their_mean(texts):
    """ψ attends to a video of one frame with weight 1: all texts get the very same increment.

    σ is at its minimum there and has no gradient (with four texts the fp32 mean is exact, with
    three it is not, and the rounding error must not pass for a deviation). μ²/2 remains.
    """
    videos, width = 2, 5
    shared = torch.randn(1, videos, width, generator=torch.Generator().manual_seed(0))
    delta = shared.repeat(texts, 1, 1).requires_grad_()
    gradient = torch.autograd.grad(bottleneck_loss(delta), delta)[0]
    expected = delta.detach() / (texts * videos * width)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=0)


SETTINGS = LossSettings(alpha=3.0, beta=0.5, lambda_dir=0.25, lambda_epsilon=2.0, lambda_lower=90.0)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"kl": "joint", "kl_anchor": "text", "kl_prior": 10.0, "kl_normalize": True},
        {"dir_form": "orthogonal", "epsilon_form": "smooth", "lambda_lower": 0.3},
        {"same_video": "ignore"},
    ],
)
def test_total_loss_weighs_the_terms_of_its_settings(change):
    s = replace(SETTINGS, **change)
    sim, delta = similarities(), increments(5, 5)
    terms = total_loss(sim, delta, SCALE, VIDEO_B, s)
    ignore = duplicate_videos(VIDEO_B) if s.same_video == "ignore" else None
    rows = delta.tolist()
    floored = max(-slow_radius_variance(rows), -s.lambda_lower)
    if s.epsilon_form == "smooth":
        spread = slow_radius_variance(rows)
        floored = math.log(math.exp(-spread) + math.exp(-s.lambda_lower))
    spread_out = (
        slow_orthogonality(rows) if s.dir_form == "orthogonal" else slow_uniformity(rows, s.alpha)
    )
    expected = {
        "nce": slow_info_nce(sim.tolist(), 7.0, ignore),
        "ib": slow_bottleneck(rows, s.kl, s.kl_anchor, s.kl_prior, s.kl_normalize),
        "epsilon": floored,
        "dir": spread_out,
    }
    expected["loss"] = (
        expected["nce"] + 0.5 * expected["ib"] + 2.0 * expected["epsilon"] + 0.25 * expected["dir"]
    )
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda m, d: total_loss(m, d, SCALE, VIDEO_B, s)["loss"], (sim, delta), fast_mode=True
    )


def test_the_baseline_has_the_contrastive_term_alone():
    sim = similarities()
    terms = total_loss(sim, None, SCALE, VIDEO_B, SETTINGS)
    assert set(terms) == {"loss", "nce"}
    assert terms["loss"].item() == pytest.approx(slow_info_nce(sim.tolist(), 7.0))


@pytest.mark.parametrize(
    ("flag", "term"), [("beta", "ib"), ("lambda_epsilon", "epsilon"), ("lambda_dir", "dir")]
)
def test_a_term_of_weight_zero_is_left_out(flag, term):
    sim, delta = similarities(), increments(5, 5)
    full = total_loss(sim, delta, SCALE, VIDEO_B, SETTINGS)
    without = total_loss(sim, delta, SCALE, VIDEO_B, replace(SETTINGS, **{flag: 0.0}))
    assert set(full) - set(without) == {term}
    share = getattr(SETTINGS, flag) * full[term].item()
    assert without["loss"].item() == pytest.approx(full["loss"].item() - share, rel=1e-12)
