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
    return torch.tensor(ids), torch.tensor(video), torch.tensor(mask).bool()


def losses(model, inputs):
    scores, scale = model(*inputs)
    return scores, total_loss(scores.sim_AB, scores.delta_ABD, scale, torch.arange(6), LOSS)


def gradients(model):
    named = dict(model.named_parameters())
    return {name: named[own_name(name)].grad.double().clone() for name in GRADIENTS}


def statistics(gradient):
    return np.array([gradient.norm().item(), gradient.sum().item()])


@pytest.fixture(scope="module")
def fp32():
    torch.manual_seed(0)
    model = golden_model()
    scores, terms = losses(model, golden_inputs())
    terms["loss"].backward()
    return scores, terms, gradients(model)


@pytest.fixture(scope="module")
def fp64():
    """The same in double precision, and samples of what rounding does to the release's gradient.

    The release differentiates torch.std over six increments. For one video and dimension these
    differ by as little as 1e-5 while the increments are near 0.3, so that the rounding error of
    their mean, bounded by 5·u·|mean|, is amplified by β/(B·5·σ²) into every gradient behind Δ.
    """
    torch.manual_seed(0)
    model = golden_model().double()
    # The model casts features to fp32 on purpose; here they must stay double
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        tokens, video, mask = golden_inputs()
        scores, terms = losses(model, (tokens, video.double(), mask))
        terms["loss"].backward(retain_graph=True)
        exact = gradients(model)
        delta_ABD = scores.delta_ABD.detach()
        mean_BD, std_BD = delta_ABD.mean(dim=0), delta_ABD.std(dim=0)
        samples = []
        for seed in range(4):
            noise_BD = torch.rand(mean_BD.shape, generator=torch.manual_seed(seed)) * 2 - 1
            error_BD = noise_BD.double() * 5 * UNIT_ROUNDOFF * mean_BD.abs()
            model.zero_grad(set_to_none=False)
            amplified_BD = LOSS.beta / (6 * 5) * error_BD / std_BD**2
            scores.delta_ABD.backward(amplified_BD.expand_as(delta_ABD), retain_graph=True)
            samples.append(gradients(model))
    return exact, samples


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


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n != ZERO])
def test_fp32_gradient_is_the_exact_one(name, fp32, fp64):
    ours, exact = statistics(fp32[2][name]), statistics(fp64[0][name])
    assert (np.abs(ours - exact) <= 1e-4 * np.abs(exact).max()).all(), (ours, exact)


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n != ZERO])
def test_gradient_of_the_release(name, fp64):
    """Within 1e-4 of the release, plus what the release's own rounding can explain."""
    exact, samples = fp64
    golden = EXPECTED[f"grad/{name}"]
    ours = statistics(exact[name])
    rounding = np.max(
        [np.abs(statistics(exact[name] + sample[name]) - ours) for sample in samples], axis=0
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
