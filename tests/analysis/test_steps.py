"""The trust region's step against a loop, and the actual one against an update written out."""

import math

import pytest
import torch
from figure_files import numbers, rows_of

from tvr.analysis.steps import analytic_step, learner_at, steps
from tvr.analysis.subject import Request
from tvr.models.losses import total_loss
from tvr.resume import states
from tvr.step import StepSettings, gradients

A, B, D = 4, 6, 8


def draw(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(A, B, D, generator=generator, dtype=torch.double)


def by_loop(gradient_ABD, actual_ABD):
    found = torch.zeros_like(actual_ABD)
    for i in range(A):
        radius = math.sqrt(sum(float(actual_ABD[i, k] @ actual_ABD[i, k]) for k in range(B)))
        size = math.sqrt(sum(float(gradient_ABD[i, k] @ gradient_ABD[i, k]) for k in range(B)))
        for j in range(B):
            found[i, j] = -radius * gradient_ABD[i, j] / size
    return found


def test_the_analytic_step():
    gradient_ABD, actual_ABD = draw(0), draw(1)
    found = analytic_step(gradient_ABD, actual_ABD)
    torch.testing.assert_close(found, by_loop(gradient_ABD, actual_ABD))


def test_no_step_in_the_ball_lowers_the_linearised_loss_further():
    gradient_ABD, actual_ABD = draw(0), draw(1)
    best_A = (gradient_ABD * analytic_step(gradient_ABD, actual_ABD)).sum(dim=(1, 2))
    radius_A = actual_ABD.norm(dim=(1, 2))
    for seed in range(2, 200):
        other_ABD = draw(seed)
        other_ABD *= (radius_A / other_ABD.norm(dim=(1, 2)))[:, None, None]
        assert ((gradient_ABD * other_ABD).sum(dim=(1, 2)) > best_A).all()


def test_a_gradient_of_nothing_is_no_step():
    found = analytic_step(torch.zeros(A, B, D), torch.ones(A, B, D))
    assert not found.any()


@pytest.fixture
def at_state(trained):
    """The last state of a training, as the figure opens it."""
    state = states(trained[0])[0]
    subject = Request(state, given={"workers": 0, "device": "cpu"}).subject
    return subject, torch.load(state, weights_only=True)


def written_out(learner, saved, batch):
    """Training's step by hand: clipped gradients, moments without bias correction, decay."""
    model, config = learner.model, learner.run.config
    model.train()
    torch.manual_seed(config.seed * 1_000_003)  # the dropout of a step 0
    gradients(model, learner.encoders, batch, StepSettings.of(learner.run))
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in parameters]).norm()
    share = min(1.0, config.max_grad_norm / (float(norm) + 1e-6))
    groups = learner.optimizer.param_groups
    order = [(p, group) for group in groups for p in group["params"]]
    with torch.no_grad():
        for (p, group), state in zip(order, saved["moments"], strict=True):
            grad = p.grad * share
            m = 0.9 * state["exp_avg"] + 0.1 * grad
            v = 0.98 * state["exp_avg_sq"] + 0.02 * grad.square()
            p.mul_(1 - group["base_lr"] * group["weight_decay"])
            p.sub_(group["base_lr"] * m / (v.sqrt() + 1e-6))


def increments(subject, batch):
    """Δ and the two gradients on it, with dropout off."""
    text, video, scale = subject.features(batch)
    scores = subject.model.score(text, video)
    settings = subject.config.loss_settings()
    terms = total_loss(scores.sim_AB, scores.delta_ABD, scale, batch.video_B, settings)
    wanted = {}
    for loss in ("loss", "nce"):
        kept = {"retain_graph": True}
        wanted[loss] = torch.autograd.grad(terms[loss], scores.delta_ABD, **kept)[0]
    return scores.delta_ABD.detach(), wanted


def test_the_table_is_that_of_a_step_written_out(at_state, trained, analyse, tmp_path):
    before_files = {path: path.read_bytes() for path in trained[0].glob("*.*") if path.is_file()}
    done = analyse("9", "--run", trained[0], "--batches", 1, "--output", tmp_path)
    assert done.code == 0, done.err
    assert "with its moments" in done.out
    after_files = {path: path.read_bytes() for path in trained[0].glob("*.*") if path.is_file()}
    assert after_files == before_files
    subject, saved = at_state
    split = subject.split("train")
    [batch] = subject.batches(split, 1)
    before_ABD, wanted = increments(subject, batch)
    written_out(learner_at(subject, split), saved, batch)
    actual_ABD = increments(subject, batch)[0] - before_ABD
    rows = rows_of(tmp_path, "steps")
    for loss, gradient_ABD in wanted.items():
        radius_A, size_A = actual_ABD.norm(dim=(1, 2)), gradient_ABD.norm(dim=(1, 2))
        these = [row for row in rows if row["gradient"] == loss and row["anchor"]]
        assert len(these) == 12 * 12
        cosines = {"positive": [], "negative": []}
        for row in these:
            i, j = int(row["anchor"]), int(row["candidate"])
            assert row["pairs"] == ("positive" if i == j else "negative")
            delta, gradient = actual_ABD[i, j], gradient_ABD[i, j]
            assert float(row["actual"]) == pytest.approx(float(delta.norm()), rel=1e-2)
            analytic = float(radius_A[i] / size_A[i] * gradient.norm())
            assert float(row["analytic"]) == pytest.approx(analytic, rel=1e-2, abs=1e-7)
            cosine = float(-(delta @ gradient) / (delta.norm() * gradient.norm()))
            assert float(row["cosine"]) == pytest.approx(cosine, abs=1e-2)
            cosines[row["pairs"]].append(float(row["cosine"]))
        for kind, values in cosines.items():
            [mean] = [
                row
                for row in rows
                if (row["gradient"], row["pairs"]) == (loss, f"mean over {kind}s")
            ]
            assert float(mean["cosine"]) == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_every_step_is_from_the_same_start(at_state):
    subject, saved = at_state
    split = subject.split("train")
    learner = learner_at(subject, split)
    batch, other = subject.batches(split, 2)
    taken = []
    for each in (batch, other, batch):
        [(actual_ABD, _)] = steps(subject, learner, iter([each]))
        taken.append(actual_ABD)
    assert torch.equal(taken[0], taken[2])
    assert not torch.equal(taken[0], taken[1])
    for name, value in subject.model.state_dict().items():
        assert torch.equal(value, saved["model"][name]), name


def test_a_checkpoint_has_an_optimiser_without_moments(trained, analyse, tmp_path):
    flags = ("--batches", 1, "--output", tmp_path)
    done = analyse("steps", "--run", trained[0] / "checkpoint_last.pt", *flags)
    assert done.code == 0, done.err
    assert "an optimiser without moments" in done.out
    assert min(numbers(rows_of(tmp_path, "steps"), "actual")) > 0


def test_a_baseline_has_no_steps_of_delta(baseline, analyse, tmp_path):
    done = analyse("steps", "--run", baseline, "--output", tmp_path)
    assert done.code == 2
    assert "has no Δ" in done.err
    assert not list(tmp_path.iterdir())


def test_moments_of_other_weights_are_refused(trained, analyse, tmp_path):
    state = torch.load(states(trained[0])[0], weights_only=True)
    path = tmp_path / "state_00000001.pt"
    torch.save({**state, "moments": state["moments"][:-1]}, path)
    done = analyse("steps", "--run", path, "--output", tmp_path / "out")
    assert done.code == 2
    assert f"{path}: the optimiser's state is not one of these weights" in done.err
