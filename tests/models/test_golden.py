"""Numbers that the authors' release computes in fp32 on a CPU, for the same weights and inputs.

`tests/golden/recipe.py` makes the weights and inputs, `tests/golden/expected.npz` holds what came
out of the release.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tvr.models.clip import Backbone, openai_model
from tvr.models.gare import GARE, ModelSettings
from tvr.models.losses import LossSettings, total_loss
from tvr.models.release import RENAMED, from_release
from tvr.utils.optim import build_optimizer, clip_gradients, schedule, set_learning_rate

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
import recipe  # noqa: E402

EXPECTED = np.load(GOLDEN / "expected.npz")
GRADIENTS = [name.removeprefix("grad/") for name in EXPECTED.files if name.startswith("grad/")]
# Softmax is blind to what every key shares, so this gradient is exactly 0: only noise to compare
ZERO = "psi.layers.0.cross_attn.k_proj.bias"
QUERY_BIAS = "psi.layers.0.cross_attn.q_proj.bias"
LOSS = LossSettings(beta=1e-4, kl="joint")
UNIT_ROUNDOFF = 2.0**-24


def own_name(name):
    for prefix, replacement in RENAMED.items():
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    return name


def golden_model():
    clip = {name: torch.tensor(value) for name, value in recipe.clip_state().items()}
    # The recipe's frames are normalised already: these statistics undo the division by 255
    statistics = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
    backbone = Backbone(
        openai_model(clip, Path("golden"), half=False), 512, 224, **statistics, tokenize=None
    )
    model = GARE(backbone, ModelSettings(temp=3.0, padding="release"), dropout=0.0)
    release = {name: torch.tensor(value) for name, value in recipe.psi_state().items()}
    state, ignored = from_release(release, set(model.state_dict()))
    assert not ignored
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    return model


def golden_inputs():
    ids, _, video, mask = recipe.inputs()
    mask = torch.tensor(mask).bool()
    return torch.tensor(ids), torch.tensor(video)[mask], mask


def losses(model, inputs, folded=False):
    text, video, scale = model.encode(*inputs)
    scores = model.score(text, video, folded)
    return scores, total_loss(scores.sim_AB, scores.delta_ABD, scale, torch.arange(6), LOSS)


def gradients(model):
    named = dict(model.named_parameters())
    return {name: named[own_name(name)].grad.double().clone() for name in GRADIENTS}


def statistics(gradient):
    return np.array([gradient.norm().item(), gradient.sum().item()])


@pytest.fixture(scope="module", params=[False, True], ids=["literal", "folded"])
def fp32(request):
    torch.manual_seed(0)
    model = golden_model()
    scores, terms = losses(model, golden_inputs(), folded=request.param)
    terms["loss"].backward()
    return scores, terms, gradients(model)


@pytest.fixture(scope="module")
def fp64():
    """The model in double precision: its scores and scale, and what goes in and out of ψ's layers.

    All with the graph behind it.
    """
    torch.manual_seed(0)
    model = golden_model().double()
    layers = {}
    for layer in (model.psi.query, model.psi.key, model.psi.value, model.psi.out):
        layer.register_forward_hook(
            lambda layer, given, made: layers.update({layer: (*given, made)})
        )
    # The model casts features to fp32 on purpose; here they must stay double
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        tokens, video, mask = golden_inputs()
        text, video, scale = model.encode(tokens, video.double(), mask)
        scores = model.score(text, video)
    return model, scores, scale, layers


def loss_at(delta_ABD, fp64):
    """The loss in double precision, but with these numbers in the place of the increments'."""
    _, scores, scale, _ = fp64
    delta_ABD = scores.delta_ABD + (delta_ABD - scores.delta_ABD).detach()
    return total_loss(scores.sim_AB, delta_ABD, scale, torch.arange(6), LOSS)["loss"]


def gradients_behind(fp64, start, gradient=None):
    model = fp64[0]
    model.zero_grad(set_to_none=False)
    start.backward(gradient, retain_graph=True)
    return gradients(model)


@pytest.fixture(scope="module")
def exact(fp64):
    return gradients_behind(fp64, loss_at(fp64[1].delta_ABD, fp64))


@pytest.fixture(scope="module")
def exact_at_fp32(fp32, fp64):
    """The exact gradients at the increments that fp32 computes.

    For one video and dimension the six increments differ by as little as 1e-5 while they are near
    0.3, and rounded by 1e-7 and more, whatever computes them. L_ib's −log σ turns that 1 % of their
    differences into 1e-4 and more of every gradient behind Δ, which then depends on the order of
    sums. From the same increments on, fp32 has to agree.
    """
    return gradients_behind(fp64, loss_at(fp32[0].delta_ABD, fp64))


@pytest.fixture(scope="module")
def query_bias_rounding(fp64):
    """What one rounding of each summand can do to the gradient of the queries' bias.

    That gradient is Σ dL/dlogit · k / √D over all pairs and frames. The summands cancel: their
    sizes add up to 2,700 times the sum, so that one rounding of each may come to 1.6e-4 of it.
    """
    model, scores, _, layers = fp64
    psi = model.psi
    query, key, value = (layers[layer][1].detach() for layer in (psi.query, psi.key, psi.value))
    attended = layers[psi.out][0]
    (wanted,) = torch.autograd.grad(loss_at(scores.delta_ABD, fp64), attended, retain_graph=True)
    logits = (query @ key.mT / query.shape[-1] ** 0.5).requires_grad_()
    (dlogits,) = torch.autograd.grad(logits.softmax(dim=-1), logits, wanted @ value.mT)
    sizes = (dlogits.abs() @ key.abs()).sum(dim=(0, 1)) / query.shape[-1] ** 0.5
    return UNIT_ROUNDOFF * sizes.norm()


@pytest.fixture(scope="module")
def release_rounding(fp64):
    """Samples of what rounding does to the release's gradient.

    The release differentiates torch.std over six increments. Where these nearly agree, the
    rounding error of their mean, bounded by 5·u·|mean|, is amplified by β/(B·5·σ²) into every
    gradient behind Δ.
    """
    delta_ABD = fp64[1].delta_ABD
    mean_BD, std_BD = delta_ABD.detach().mean(dim=0), delta_ABD.detach().std(dim=0)
    samples = []
    for seed in range(4):
        noise_BD = torch.rand(mean_BD.shape, generator=torch.manual_seed(seed)) * 2 - 1
        error_BD = noise_BD.double() * 5 * UNIT_ROUNDOFF * mean_BD.abs()
        amplified_BD = LOSS.beta / (6 * 5) * error_BD / std_BD**2
        samples.append(gradients_behind(fp64, delta_ABD, amplified_BD.expand_as(delta_ABD)))
    return samples


def test_text_features_and_similarity():
    model = golden_model().eval()
    tokens, video, mask = golden_inputs()
    with torch.no_grad():
        text = model.encode_text(tokens)
        sim_AB = model.score(text, model.encode_video(video, mask)).sim_AB
    np.testing.assert_allclose(text.text_AD, EXPECTED["cls"], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(sim_AB, EXPECTED["sim"], atol=1e-5, rtol=0)


def test_loss_terms(fp32):
    _, terms, _ = fp32
    regularisers = LOSS.beta * terms["ib"]
    regularisers += LOSS.lambda_epsilon * terms["epsilon"] + LOSS.lambda_dir * terms["dir"]
    ours = [terms["loss"].item(), terms["nce"].item(), regularisers.item()]
    np.testing.assert_allclose(ours, EXPECTED["loss"], rtol=1e-5)


def test_fp32_increments_are_the_exact_ones(fp32, fp64):
    ours, exact = fp32[0].delta_ABD.double(), fp64[1].delta_ABD
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n != ZERO])
def test_fp32_gradient_is_the_exact_one(name, fp32, exact_at_fp32, query_bias_rounding):
    ours, exact = fp32[2][name], exact_at_fp32[name]
    rounding = query_bias_rounding if name == QUERY_BIAS else 0
    assert (ours - exact).norm() <= 1e-4 * exact.norm() + rounding


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n != ZERO])
def test_gradient_of_the_release(name, exact, release_rounding):
    """Within 1e-4 of the release, plus what the release's own rounding can explain."""
    golden = EXPECTED[f"grad/{name}"]
    ours = statistics(exact[name])
    rounding = np.max(
        [np.abs(statistics(exact[name] + sample[name]) - ours) for sample in release_rounding],
        axis=0,
    )
    tolerance = 1e-4 * np.abs(golden).max() + rounding
    assert (np.abs(ours - golden) <= tolerance).all(), (ours, golden, rounding)


def test_gradient_that_must_vanish(fp32):
    assert fp32[2][ZERO].norm() < 1e-6
    assert EXPECTED[f"grad/{ZERO}"][0] < 1e-6


def test_optimiser_trace():
    parameter = torch.nn.Parameter(torch.ones(4))
    group = {"params": [parameter], "base_lr": 1e-2, "lr": 0.0, "weight_decay": 0.2}
    optimizer = build_optimizer([group])
    trace = []
    for step in range(20):
        parameter.grad = torch.tensor([1, -0.5, 0.1, 2.0]) * (1 + step % 3)
        clip_gradients([parameter], 1.0, "release")
        set_learning_rate(optimizer, schedule(step, 20, 0.1))
        optimizer.step()
        trace.append(parameter.detach().clone().numpy())
    np.testing.assert_allclose(np.array(trace), EXPECTED["adam"], atol=1e-6, rtol=0)
