"""ψ against a loop over pairs and context vectors, written from the paper's equations."""

import math

import pytest
import torch
from torch import nn

from tvr.models.increment import Increment

ITEMS, QUERIES, CONTEXT, WIDTH = 3, 4, 5, 6
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)


def random_psi(dropout=0.3):
    """ψ in double precision whose every parameter matters: no bias 0, no norm weight 1."""
    generator = torch.Generator().manual_seed(3)
    psi = Increment(WIDTH, dropout).double()
    for parameter in psi.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.data = 0.7 * noise + (0.2 if parameter.ndim == 1 else 0.0)
    return psi


def random_inputs():
    generator = torch.Generator().manual_seed(4)
    query = torch.randn(ITEMS, QUERIES, WIDTH, generator=generator, dtype=torch.double)
    context = torch.randn(ITEMS, CONTEXT, WIDTH, generator=generator, dtype=torch.double)
    return query, context


def layer_norm(x, norm):
    """LayerNorm by its definition: biased variance, eps 1e-5."""
    centred = x - x.mean()
    return centred / torch.sqrt(centred.square().mean() + 1e-5) * norm.weight + norm.bias


def affine(x, linear):
    return linear.weight @ x + linear.bias


@torch.no_grad()
def slow_increment(psi, query, context, mask):
    """One pair at a time; masked context vectors are skipped, not weighted by 0."""
    delta = torch.empty(ITEMS, QUERIES, WIDTH, dtype=torch.double)
    for n in range(ITEMS):
        kept = [layer_norm(context[n, f], psi.norm_in) for f in range(CONTEXT) if mask[n, f]]
        for m in range(QUERIES):
            q = affine(layer_norm(query[n, m], psi.norm_in), psi.query)
            exps = [math.exp(float(q @ affine(c, psi.key)) / math.sqrt(WIDTH)) for c in kept]
            attended = sum(
                e / sum(exps) * affine(c, psi.value) for e, c in zip(exps, kept, strict=True)
            )
            h = layer_norm(affine(attended, psi.out), psi.norm_attended)
            z = layer_norm(h + affine(h, psi.residual), psi.norm_out)
            delta[n, m] = affine(z, psi.mean)
    return delta


@pytest.mark.parametrize("masked", [True, False])
def test_psi_equals_a_loop(masked):
    psi, (query, context) = random_psi().eval(), random_inputs()
    expected = slow_increment(psi, query, context, MASK if masked else torch.ones_like(MASK))
    result = psi(query, context, MASK if masked else None)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


def test_no_mask_attends_to_all():
    psi, (query, context) = random_psi().eval(), random_inputs()
    torch.testing.assert_close(
        psi(query, context, None), psi(query, context, torch.ones_like(MASK)), rtol=0, atol=0
    )


def test_masked_context_does_not_matter():
    psi, (query, context) = random_psi().eval(), random_inputs()
    other = torch.where(MASK[..., None], context, 50 * torch.randn_like(context))
    assert not torch.equal(other, context)
    torch.testing.assert_close(
        psi(query, other, MASK), psi(query, context, MASK), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("mask", [MASK, None], ids=["masked", "unmasked"])
def test_gradients(mask):
    psi, (query, context) = random_psi().eval(), random_inputs()
    names, parameters = zip(*psi.named_parameters(), strict=True)

    def run(query, context, *values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(psi, state, (query, context, mask))

    inputs = (query.requires_grad_(), context.requires_grad_(), *parameters)
    # fast mode compares one projection of the Jacobian; 18 parameter tensors in full are slow
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_dropout_is_on_the_residual_branch_only():
    """With everything dropped z = LN3(h) is left, which still depends on the pair."""
    psi, (query, context) = random_psi(dropout=1.0), random_inputs()
    dropped = psi.train()(query, context, MASK)
    nn.init.zeros_(psi.residual.weight)
    nn.init.zeros_(psi.residual.bias)
    torch.testing.assert_close(dropped, psi.eval()(query, context, MASK))


def test_half_dropout_draws_anew_in_training_only():
    psi, (query, context) = random_psi(dropout=0.5), random_inputs()
    assert not torch.equal(psi(query, context, MASK), psi(query, context, MASK))
    psi.eval()
    assert torch.equal(psi(query, context, MASK), psi(query, context, MASK))


def test_about_1_58_million_parameters_at_width_512():
    """Six D×D projections with biases and three LayerNorms, all of which receive a gradient."""
    psi = Increment(512)
    psi(torch.randn(2, 3, 512), torch.randn(2, 4, 512), None).square().sum().backward()
    live = sum(p.numel() for p in psi.parameters() if p.grad is not None)
    assert live == 6 * (512 * 512 + 512) + 3 * 2 * 512
    assert live == pytest.approx(1.58e6, rel=0.005)


def test_started_at_zero_every_increment_is_zero_and_learns():
    psi = random_psi(dropout=0.0)
    nn.init.zeros_(psi.mean.bias)
    psi.start("zero")
    delta = psi(*random_inputs(), MASK)
    assert torch.equal(delta, torch.zeros_like(delta))
    delta.sum().backward()
    assert psi.mean.weight.grad.abs().sum() > 0


def test_started_as_the_identity_all_maps_are_it_and_increments_have_the_norm_of_ln3():
    psi = Increment(WIDTH, dropout=0.0).double()
    for part in psi.children():
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
    psi.start("identity")
    eye = torch.eye(WIDTH, dtype=torch.double)
    assert all(
        torch.equal(part.weight, eye) for part in psi.children() if hasattr(part, "in_features")
    )
    norms = psi(*random_inputs(), MASK).norm(dim=-1)
    torch.testing.assert_close(norms, torch.full_like(norms, math.sqrt(WIDTH)), rtol=1e-3, atol=0)
