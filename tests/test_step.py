"""One training step: what is updated, what is noticed, what is refused."""

import logging
import math

import open_clip
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tvr.build import Run, build_model
from tvr.config import Config
from tvr.dataloaders.batches import PairBatch
from tvr.models.clip import TINY, Backbone, build_backbone
from tvr.models.gare import GARE, ModelSettings
from tvr.step import Learner, distribute, refuse_chunks, train_step
from tvr.utils.distributed import Ranks
from tvr.utils.errors import UserError
from tvr.utils.optim import build_optimizer, parameter_groups, set_learning_rate
from tvr.watch import Watch

PAIRS, FRAMES = 4, 2


def learner(**settings):
    torch.manual_seed(0)
    config = Config(num_hidden_layers=1, base_encoder="tiny", **settings)
    config.resolve()
    run = Run(config, Ranks(0, 0, 1), torch.device("cpu"), logging.getLogger("test"))
    model = GARE(build_backbone("tiny"), config.model_settings()).train()
    optimizer = build_optimizer(parameter_groups(model, 1e-3, 1.0, 0.2, "standard"))
    set_learning_rate(optimizer, 1.0)
    watch = Watch(torch.zeros(()), caption_ids, print, config.nonfinite_allowed)
    return Learner(run, model, distribute(run, model), optimizer, watch)


def caption_ids(rows):
    return [f"caption{row}" for row in rows]


def batch(length=6):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 40000, (PAIRS, length), generator=generator)
    tokens[:, -1] = 49407
    pixels = (PAIRS * FRAMES, 3, 96, 96)
    return PairBatch(
        tokens_BL=tokens,
        frames_NCHW=torch.randint(0, 256, pixels, generator=generator, dtype=torch.uint8),
        mask_UF=torch.ones(PAIRS, FRAMES, dtype=torch.bool),
        clip_B=torch.arange(PAIRS),
        video_B=torch.arange(PAIRS),
        caption_B=torch.arange(10, 10 + PAIRS),
        frames_of_clip=[FRAMES] * PAIRS,
    )


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_a_step_changes_every_trained_weight():
    it = learner()
    before = weights(it.model)
    observed = train_step(it, batch(), 0)
    it.watch.flush()
    assert all(math.isfinite(value) for value in observed.numbers().values())
    for name, p in it.model.named_parameters():
        # ψ's key bias has gradient 0 (softmax is blind to it), and a bias does not decay
        if name != "psi.key.bias":
            assert torch.equal(p, before[name]) != p.requires_grad, name


@pytest.mark.parametrize("chunk_size", [0, 3])
def test_a_gradient_that_is_not_finite_updates_nothing_and_names_the_captions(chunk_size):
    it = learner(chunk_size=chunk_size)
    good = batch()
    train_step(it, good, 0)
    before = weights(it.model)
    with torch.no_grad():
        it.model.clip.text_projection[0, 0] = math.nan
    train_step(it, good, 1)
    with pytest.raises(UserError, match=r"step 2: .*not finite") as error:
        train_step(it, good, 2)
    assert "caption10" in str(error.value)
    after = weights(it.model)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["clip.text_projection"]


def test_the_last_step_of_an_epoch_is_looked_at_as_well():
    it = learner()
    with torch.no_grad():
        it.model.psi.mean.bias[0] = math.inf
    train_step(it, batch(), 7)
    with pytest.raises(UserError, match=r"step 8: .*not finite"):
        it.watch.flush()
    it.watch.flush()


def test_no_more_is_updated_once_a_step_was_not_finite():
    """Steps that were handed to the device before the host noticed must not count."""
    it = learner()
    broken, fine = batch(), batch()
    with torch.no_grad():
        it.model.clip.logit_scale.fill_(math.nan)
    train_step(it, broken, 0)
    with torch.no_grad():
        it.model.clip.logit_scale.fill_(2.0)
    before = weights(it.model)
    with pytest.raises(UserError, match="step 1: "):
        train_step(it, fine, 1)
    it.optimizer.step()
    after = weights(it.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


class Waiting(TorchDispatchMode):
    """Notes the operations whose result the host needs: on a GPU each would wait for it."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "item", "unique", "equal")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__.rstrip("0123456789_")
        by_mask = name.startswith("index") and any(
            place is not None and place.dtype == torch.bool
            for given in args
            if isinstance(given, (list, tuple))
            for place in given
        )
        if name in self.FORBIDDEN or by_mask:
            self.seen.append(name)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "settings", [{}, {"chunk_size": 3}, {"correct": "video", "context": "words"}]
)
def test_a_step_never_asks_the_device_for_a_number(settings):
    it = learner(**settings)
    train_step(it, batch(), 0)
    with Waiting() as waiting:
        train_step(it, batch(), 1)
    assert waiting.seen == []
    with Waiting() as waiting:
        values_A = torch.arange(3.0)
        values_A[values_A > 1].sum().item()
    assert waiting.seen == ["index", "_local_scalar_dense"]


def test_a_number_of_broken_updates_may_be_left_out(capsys):
    it, twin = learner(on_nonfinite="skip:1"), learner()
    for one in (it, twin):
        train_step(one, batch(), 0)
    break_for_a_step(it, 1)
    for one in (it, twin):
        train_step(one, batch(), 2)
        one.watch.flush()
    assert it.watch.skipped == 1
    printed = capsys.readouterr().out
    assert printed.count("warning: 1 of 1 left out: step 2: ") == 1
    assert "caption10" in printed
    ours, theirs = weights(it.model), weights(twin.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    break_for_a_step(it, 3)
    with pytest.raises(UserError, match="step 4: "):
        it.watch.flush()


def break_for_a_step(it, step):
    """A step whose loss is not finite, with the weights as they were around it."""
    scale = it.model.clip.logit_scale
    before = scale.detach().clone()
    with torch.no_grad():
        scale.fill_(math.nan)
    train_step(it, batch(), step)
    with torch.no_grad():
        scale.copy_(before)


def test_chunks_are_refused_where_items_of_a_batch_see_each_other():
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32}
    resnet = open_clip.CLIP(128, vision, TINY["text_cfg"])
    backbone = Backbone(resnet, 128, 64, (0.5,) * 3, (0.5,) * 3, tokenize=None)
    model = GARE(backbone, ModelSettings(num_hidden_layers=1))
    refuse_chunks(model, 0)
    with pytest.raises(UserError, match=r"--chunk_size 8: .*BatchNorm2d"):
        refuse_chunks(model, 8)
    refuse_chunks(learner().model, 8)


def test_compiled_towers_give_the_same_gradient_for_every_length(monkeypatch):
    """Two lengths of captions and two numbers of frames."""
    torch._dynamo.reset()
    for tower in ("text_cfg", "vision_cfg"):
        # every layer is compiled anew
        monkeypatch.setitem(TINY[tower], "layers", 1)

    def results(compiled):
        model = build_model(learner(compile=compiled, agg_module="None").run, None)
        outcomes = []
        for length, frames in ((6, 2), (9, 1)):
            pairs = batch(length)
            pixels = pairs.frames_NCHW[: PAIRS * frames]
            text, video, _ = model.encode(pairs.tokens_BL, pixels, pairs.mask_UF[:, :frames])
            (text.text_AD @ video.frames_BFD.flatten(0, 1).T).square().mean().backward()
            outcomes += [p.grad.clone() for p in model.parameters() if p.grad is not None]
            model.zero_grad()
        return set(model.state_dict()), outcomes

    (plain_names, plain), (compiled_names, compiled) = results(False), results(True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert plain_names == compiled_names
    for one, other in zip(plain, compiled, strict=True):
        assert (one - other).norm() <= 1e-4 * one.norm()


def test_the_norms_of_the_parts_are_measured():
    it = learner()
    found = train_step(it, batch(), 0).numbers()
    parts = [found[f"grad_norm/{name}"] for name in ("clip", "temporal", "psi")]
    assert math.hypot(*parts) == pytest.approx(found["grad_norm"], rel=1e-6)
    assert {"delta/norm", "delta/norm_sd"} <= found.keys()
    assert not any(name.startswith("positive/") for name in found)


def test_geometry_is_measured_when_asked_for_and_changes_nothing():
    plain, watched = learner(), learner(log_increment=True)
    train_step(plain, batch(), 0)
    found = train_step(watched, batch(), 0).numbers()
    assert {"positive/angle_gap", "negative/distance_corrected"} <= found.keys()
    for name, weight in plain.model.named_parameters():
        assert torch.equal(weight, watched.model.get_parameter(name)), name


def test_the_baseline_has_geometry_without_increments():
    found = train_step(learner(increment="none", log_increment=True), batch(), 0).numbers()
    assert "positive/cosine" in found
    assert not any("delta" in name or "angle" in name for name in found)
