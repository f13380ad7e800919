"""The optimiser against its update rule written out, the schedule, groups and clipping."""

import math

import pytest
import torch
from torch import nn

from tvr.utils.optim import (
    build_optimizer,
    clamp_logit_scale,
    clip_gradients,
    parameter_groups,
    schedule,
    set_learning_rate,
)


@pytest.mark.parametrize(
    ("step", "total", "warmup", "expected"),
    [
        (0, 100, 0.1, 0.0),  # the very first update does nothing
        (1, 100, 0.1, 0.1),
        (9, 100, 0.1, 0.9),
        # progress is counted from step 0: the warm-up ends below 1
        (10, 100, 0.1, 0.5 * (1 + math.cos(0.1 * math.pi))),
        (50, 100, 0.1, 0.5),
        (75, 100, 0.1, 0.5 - 0.25 * math.sqrt(2)),
        (99, 100, 0.1, 0.5 * (1 + math.cos(0.99 * math.pi))),
        (100, 100, 0.1, 0.0),
        (0, 100, 0.0, 1.0),
        (25, 100, 0.5, 0.5),
        (7030 // 10, 7030, 0.1, 0.5 * (1 + math.cos(0.1 * math.pi))),
    ],
)
def test_schedule(step, total, warmup, expected):
    assert schedule(step, total, warmup) == pytest.approx(expected, abs=1e-12)


def test_the_schedule_rises_once_and_falls_once():
    factors = [schedule(step, 200, 0.1) for step in range(201)]
    top = factors.index(max(factors))
    assert top == 20
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)


SHAPES = [(3, 4), (5,), ()]
RATES, DECAYS = [0.0, 0.03, 0.1, 0.05, 0.001], [0.2, 0.0, 0.2]
STEPS = 30


def random_gradients():
    """Of very different sizes, exact zeros among them: √v must meet ε."""
    generator = torch.Generator().manual_seed(8)
    steps = []
    for step in range(STEPS):
        scale = 10.0 ** -(step % 9)
        gradients = [scale * torch.randn(shape, generator=generator) for shape in SHAPES]
        gradients[0][1] = 0.0
        steps.append(gradients)
    return steps


def starts():
    generator = torch.Generator().manual_seed(9)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def literal_adam(gradients):
    """θ ← θ − lr·(m/(√v + ε) + wd·θ) in double precision, m and v never corrected."""
    theta = [start.double() for start in starts()]
    m, v = ([torch.zeros_like(t) for t in theta] for _ in range(2))
    for step, step_gradients in enumerate(gradients):
        lr = RATES[step % len(RATES)]
        for i, gradient in enumerate(step_gradients):
            gradient = gradient.double()
            m[i] = 0.9 * m[i] + 0.1 * gradient
            v[i] = 0.98 * v[i] + 0.02 * gradient**2
            theta[i] = theta[i] - lr * (m[i] / (v[i].sqrt() + 1e-6) + DECAYS[i] * theta[i])
    return theta


def optimise(gradients, save_at=None):
    """Thirty steps; at step `save_at` the optimiser is replaced by one loaded from its state."""

    def fresh():
        groups = [
            {"params": [parameter], "weight_decay": decay, "base_lr": 1.0, "lr": 0.0}
            for parameter, decay in zip(parameters, DECAYS, strict=True)
        ]
        return build_optimizer(groups)

    parameters = [nn.Parameter(start.clone()) for start in starts()]
    optimizer = fresh()
    for step, step_gradients in enumerate(gradients):
        if step == save_at:
            saved, optimizer = optimizer.state_dict(), fresh()
            optimizer.load_state_dict(saved)
        for parameter, gradient in zip(parameters, step_gradients, strict=True):
            parameter.grad = gradient.clone()
        set_learning_rate(optimizer, RATES[step % len(RATES)])
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_the_optimiser_is_adam_without_bias_correction():
    gradients = random_gradients()
    for own, expected in zip(optimise(gradients), literal_adam(gradients), strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, expected.float(), rtol=1e-5, atol=1e-6)


def test_a_resumed_optimiser_continues_exactly():
    gradients = random_gradients()
    through, resumed = optimise(gradients), optimise(gradients, save_at=11)
    assert all(torch.equal(a, b) for a, b in zip(through, resumed, strict=True))


def test_the_first_step_is_that_of_uncorrected_moments():
    """With bias correction it would be lr; without, it is lr·0.1/√0.02."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = build_optimizer([{"params": [parameter], "lr": 0.01, "weight_decay": 0.0}])
    parameter.grad = torch.full((1,), 5.0)
    optimizer.step()
    assert parameter.item() == pytest.approx(1 - 0.01 * 0.1 / math.sqrt(0.02), abs=1e-7)


def test_a_parameter_without_gradient_stays():
    """Of the baseline, of the frozen stem: neither moved nor decayed."""
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([{"params": [used, unused], "lr": 0.1, "weight_decay": 0.2}])
    used.grad = torch.ones(2)
    optimizer.step()
    assert (used != 1).all()
    assert (unused == 1).all()


class Toy(nn.Module):
    """The names and shapes that the rules look at, as GARE has them."""

    def __init__(self):
        super().__init__()
        self.clip = nn.Module()
        self.clip.logit_scale = nn.Parameter(torch.zeros([]))
        self.clip.positional_embedding = nn.Parameter(torch.zeros(7, 4))
        self.clip.text_projection = nn.Parameter(torch.zeros(4, 4))
        self.clip.token_embedding = nn.Embedding(5, 4)
        self.clip.ln_final = nn.LayerNorm(4)
        self.clip.attn = nn.MultiheadAttention(4, 1)
        self.clip.visual = nn.Module()
        self.clip.visual.class_embedding = nn.Parameter(torch.zeros(4))
        self.clip.visual.positional_embedding = nn.Parameter(torch.zeros(3, 4))
        self.clip.visual.conv1 = nn.Conv2d(3, 4, 2, bias=False).requires_grad_(False)
        self.clip.visual.proj = nn.Parameter(torch.zeros(4, 4))
        self.temporal = nn.Module()
        self.temporal.position = nn.Embedding(7, 4)
        self.temporal.lstm = nn.LSTM(4, 4)
        self.psi = nn.ModuleDict({"norm_in": nn.LayerNorm(4), "query": nn.Linear(4, 4)})


ALWAYS = {
    *("clip.text_projection", "clip.token_embedding.weight", "clip.attn.in_proj_weight"),
    *("clip.attn.out_proj.weight", "clip.visual.proj", "psi.query.weight"),
    *("temporal.lstm.weight_ih_l0", "temporal.lstm.weight_hh_l0"),
}
RELEASE_ONLY = {
    *("clip.logit_scale", "clip.positional_embedding", "clip.visual.positional_embedding"),
    *("clip.visual.class_embedding", "clip.ln_final.weight", "psi.norm_in.weight"),
    "temporal.position.weight",
}
NEVER = {
    *("clip.ln_final.bias", "clip.attn.in_proj_bias", "clip.attn.out_proj.bias"),
    *("psi.norm_in.bias", "psi.query.bias", "temporal.lstm.bias_ih_l0", "temporal.lstm.bias_hh_l0"),
}


@pytest.mark.parametrize(
    ("decay", "decayed"), [("standard", ALWAYS), ("release", ALWAYS | RELEASE_ONLY)]
)
def test_parameter_groups(decay, decayed):
    model = Toy()
    groups = parameter_groups(model, lr=1e-4, coef_lr=1e-3, weight_decay=0.2, decay=decay)
    assert len(groups) == 4
    found = {
        id(parameter): (group["base_lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained.keys() == ALWAYS | RELEASE_ONLY | NEVER
    assert sum(len(group["params"]) for group in groups) == len(trained)
    for name, parameter in trained.items():
        rate = pytest.approx(1e-7 if name.startswith("clip.") else 1e-4)
        assert found[id(parameter)] == (rate, 0.2 if name in decayed else 0.0), name
    assert all(group["lr"] == 0.0 for group in groups)


def test_the_learning_rate_scales_with_the_schedule():
    groups = parameter_groups(Toy(), lr=1e-4, coef_lr=1e-3, weight_decay=0.2, decay="standard")
    optimizer = build_optimizer(groups)
    for factor in (0.5, 0.25, 1.0):  # from the base rate each time, not from the last one
        set_learning_rate(optimizer, factor)
        rates = sorted({group["lr"] for group in optimizer.param_groups})
        assert rates == pytest.approx([1e-7 * factor, 1e-4 * factor])


def gradients_of_sizes(*sizes):
    parameters = [nn.Parameter(torch.zeros(3)) for _ in sizes]
    for parameter, size in zip(parameters, sizes, strict=True):
        parameter.grad = torch.tensor([2.0, -1.0, 2.0]) / 3 * size
    return parameters


@pytest.mark.parametrize(
    ("how", "sizes", "limit", "after"),
    [
        ("global", (3.0, 4.0), 1.0, (0.6, 0.8)),
        ("global", (3.0, 4.0), 2.5, (1.5, 2.0)),
        ("global", (0.3, 0.4), 1.0, (0.3, 0.4)),
        # The release's second limit, 1 per tensor, only matters behind a larger first one
        ("release", (3.0, 4.0), 1.0, (0.6, 0.8)),
        ("release", (0.0, 7.0), 1.0, (0.0, 1.0)),
        ("release", (1.2, 1.6), 2.5, (1.0, 1.0)),
        ("release", (0.5, 4.0), 2.5, (0.5 * 2.5 / 16.25**0.5, 1.0)),
    ],
)
def test_gradient_norms_are_limited(how, sizes, limit, after):
    parameters = gradients_of_sizes(*sizes)
    without = nn.Parameter(torch.zeros(2))
    norm = clip_gradients([*parameters, without], limit, how)
    assert norm.item() == pytest.approx(math.hypot(*sizes))  # the norm before
    assert [p.grad.norm().item() for p in parameters] == pytest.approx(after, rel=1e-5)
    directions = [p.grad / s for p, s in zip(parameters, sizes, strict=True) if s]
    assert all(d[0] == d[2] > 0 > d[1] for d in directions)
    assert without.grad is None


def test_clipping_takes_a_generator():
    """`model.parameters()` can be walked once only."""
    model = nn.Linear(3, 3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    clip_gradients(model.parameters(), 1.0, "release")
    squares = sum(p.grad.square().sum() for p in model.parameters())
    assert squares.item() == pytest.approx(1.0, rel=1e-5)


def test_a_gradient_that_is_no_number_shows_in_the_norm():
    parameters = gradients_of_sizes(1.0, 1.0)
    parameters[0].grad[1] = math.nan
    assert math.isnan(clip_gradients(parameters, 1.0, "global").item())


@pytest.mark.parametrize(
    ("before", "after"), [(0.0, 1.0), (math.log(99.0), 99.0), (4.7, 100.0), (50.0, 100.0)]
)
def test_the_logit_scale_is_kept_at_100(before, after):
    scale = nn.Parameter(torch.tensor(before))
    clamp_logit_scale(scale)
    assert scale.exp().item() == pytest.approx(after, rel=1e-5)
    assert scale.requires_grad
