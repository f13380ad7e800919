import pickle
import random

import numpy as np
import pytest
import torch
from clips import pictures
from PIL import Image
from pil_augment import PilRandAugment
from timm.data import auto_augment
from torch._subclasses.fake_tensor import FakeTensorMode

from tvr.dataloaders import augment
from tvr.dataloaders.augment import RAND_AUGMENT, RandAugment, apply
from tvr.utils.errors import UserError

CONFIGS = [
    RAND_AUGMENT,
    "rand-m9-n2",
    "rand-m10-n3-p1-inc1",
    "rand-m25-n3-mmax30-mstd3",
    "rand-m9-n3-mstd101-inc1",
    "rand-m7-n4-mstd1-tweights",
    "rand-m7-n2-mstd1-t3a",
    "rand-m7-n3-mstd1-t3aw",
]


def frames(n, side):
    return torch.from_numpy(pictures(n, side, side)).permute(0, 3, 1, 2).contiguous()


class Spy:
    """Writes down what timm calls on an image, with which argument and which interpolation."""

    def __init__(self, transform, monkeypatch):
        self.seen = []
        for op in transform.ops:
            op.aug_fn = self._watched(op.aug_fn)
        self._interpolation = auto_augment._interpolation
        monkeypatch.setattr(auto_augment, "_interpolation", self._interpolates)

    def _watched(self, function):
        def call(image, *argument, **drawing):
            self.seen.append((function.__name__, float(*argument), 0))
            return function(image, *argument, **drawing)

        return call

    def _interpolates(self, drawing):
        chosen = self._interpolation(drawing)
        name, argument, _ = self.seen.pop()
        self.seen.append((name, argument, {Image.BILINEAR: 2, Image.BICUBIC: 4}[chosen]))
        return chosen


@pytest.mark.parametrize("config", CONFIGS)
def test_plans_are_what_timm_does_to_an_image(config, monkeypatch):
    reference = PilRandAugment(config)
    ours = RandAugment(config)
    spy = Spy(reference.transform, monkeypatch)
    still = frames(1, 16)
    drawn = set()
    for seed in range(400):
        spy.seen.clear()
        reference(still, seed)
        plan = ours.draw(seed)
        assert list(plan) == spy.seen
        drawn |= {step.operation for step in plan}
    assert drawn == {auto_augment.NAME_TO_OP[op.name].__name__ for op in reference.transform.ops}


def test_plans_of_the_paper_setting():
    plans = [RandAugment("rand-m7-n4-mstd0.5-inc1").draw(seed) for seed in range(300)]
    lengths = [len(plan) for plan in plans]
    # four are drawn, and each is applied with probability 0.5
    assert max(lengths) == 4
    assert min(lengths) == 0
    assert 1.8 < np.mean(lengths) < 2.2
    degrees = [abs(s.argument) for plan in plans for s in plan if s.operation == "rotate"]
    assert 19.5 < np.mean(degrees) < 22.5  # magnitude 7 of 10, of 30 degrees


def test_plans_are_small_and_travel():
    plan = RandAugment("rand-m7-n4-p1-mstd0.5-inc1").draw(3)
    assert len(plan) == 4
    pickled = pickle.dumps(plan)
    assert pickle.loads(pickled) == plan
    assert len(pickled) < 400


def test_whole_chains_equal_pillows_for_the_paper_setting():
    reference, ours = PilRandAugment(RAND_AUGMENT), RandAugment(RAND_AUGMENT)
    frames_NCHW = frames(2, 96)
    for seed in range(200):
        result = apply(frames_NCHW, [ours.draw(seed)], [2])
        assert torch.equal(result, reference(frames_NCHW, seed)), seed


@pytest.mark.parametrize("config", CONFIGS[1:])
def test_whole_chains_stay_close_to_pillows(config):
    """A round argument makes one level's difference, which equalize or solarize may magnify."""
    reference, ours = PilRandAugment(config), RandAugment(config)
    frames_NCHW = frames(2, 48)
    levels = []
    for seed in range(60):
        result = apply(frames_NCHW, [ours.draw(seed)], [2])
        levels.append((result.int() - reference(frames_NCHW, seed).int()).abs().double().mean())
    assert max(levels) < 0.1
    assert np.mean(levels) < 0.005


def batch(clips, side=48):
    """Frames and plans of that many clips of 1 to 4 frames, and their numbers of frames."""
    counts = [1 + clip % 4 for clip in range(clips)]
    ours = [RandAugment(config) for config in CONFIGS]
    plans = [ours[clip % len(ours)].draw(clip) for clip in range(clips)]
    return frames(sum(counts), side), plans, counts


def test_a_batch_equals_its_clips_one_at_a_time():
    frames_NCHW, plans, counts = batch(64)
    result = apply(frames_NCHW, plans, counts)
    pieces = zip(frames_NCHW.split(counts), plans, counts, strict=True)
    expected = [apply(piece, [plan], [count]) for piece, plan, count in pieces]
    assert torch.equal(result, torch.cat(expected))


@pytest.mark.parametrize("most", [5, 1000])
def test_frames_of_many_clips_in_one_call_equal_clips_one_at_a_time(most):
    """What a GPU does, on a CPU."""
    frames_NCHW, plans, counts = batch(64)
    shares = augment._shares(plans, counts)
    parts = [part for share in shares for part in augment._of_all_clips(share, most)]
    assert max(len(part.frames) for part in parts) <= most
    together = augment._apply_parts(frames_NCHW, parts)
    assert torch.equal(together, apply(frames_NCHW, plans, counts))


def test_calls_depend_on_kinds_of_operations_and_not_on_clips():
    config = RandAugment("rand-m7-n2-p1-mstd0.5-inc1")
    plans = [config.draw(seed) for seed in range(2000)]
    numbers = {}
    for clips in (1000, 2000):
        shares = augment._shares(plans[:clips], [1] * clips)
        numbers[clips] = sum(len(augment._of_all_clips(share, 10**6)) for share in shares)
    # 10 of colours and 5 of geometry with two interpolations each, twice
    assert numbers == {1000: 40, 2000: 40}


def test_frames_are_neither_changed_nor_returned():
    frames_NCHW, plans, counts = batch(8)
    before = frames_NCHW.clone()
    apply(frames_NCHW, plans, counts)
    unchanged = apply(frames_NCHW, [()] * 8, counts)
    assert torch.equal(frames_NCHW, before)
    assert torch.equal(unchanged, before)
    assert unchanged.data_ptr() != frames_NCHW.data_ptr()


def test_frames_in_another_memory_order_give_the_same():
    frames_NCHW, plans, counts = batch(24)
    expected = apply(frames_NCHW, plans, counts)
    channels_last = frames_NCHW.to(memory_format=torch.channels_last)
    assert torch.equal(apply(channels_last, plans, counts), expected)


def test_one_draw_for_all_frames():
    still_NCHW = frames(1, 64).expand(5, -1, -1, -1)
    ours = RandAugment(RAND_AUGMENT)
    results = [apply(still_NCHW, [ours.draw(seed)], [5]) for seed in range(12)]
    for result in results:
        assert (result == result[:1]).all()
    # with probability 1/16 nothing is applied: most draws must show
    assert sum(not torch.equal(result, still_NCHW) for result in results) >= 8


def test_decided_by_the_seed_alone():
    frames_NCHW = frames(2, 64)
    ours = RandAugment(RAND_AUGMENT)
    results = [apply(frames_NCHW, [ours.draw(seed)], [2]) for seed in range(8)]
    random.seed(3)
    np.random.seed(3)
    for seed, result in enumerate(results):
        assert torch.equal(apply(frames_NCHW, [RandAugment(RAND_AUGMENT).draw(seed)], [2]), result)
    assert len({result.numpy().tobytes() for result in results}) >= 5


def test_global_generators_are_left_alone():
    def numbers():
        return random.random(), np.random.rand(), torch.rand(())

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = numbers()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    apply(frames(3, 32), [RandAugment(RAND_AUGMENT).draw(7)], [3])
    assert numbers() == expected


@pytest.mark.parametrize("config", ["augment", "rand-x7", "rand-mmany7"])
def test_config_that_timm_does_not_know(config):
    with pytest.raises(UserError, match=config):
        RandAugment(config)


def test_operation_that_is_not_written_for_tensors(monkeypatch):
    # no list of this timm has one; another version's may
    monkeypatch.setitem(auto_augment._RAND_WEIGHTED_0, "GaussianBlurRand", 1)
    with pytest.raises(UserError, match=r"rand-m7-tweights.*GaussianBlurRand"):
        RandAugment("rand-m7-tweights")


def test_no_step_needs_to_know_a_value():
    """A GPU is not waited for: tensors without values, which refuse to tell one, will do."""
    frames_NCHW, plans, counts = batch(64)
    shares = augment._shares(plans, counts)
    parts = [part for share in shares for part in augment._of_all_clips(share, 1000)]
    with FakeTensorMode():
        result = augment._apply_parts(torch.empty(frames_NCHW.shape, dtype=torch.uint8), parts)
    assert result.shape == frames_NCHW.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_nothing_waits_and_the_result_is_the_same():
    frames_NCHW, plans, counts = batch(64, side=96)
    expected = apply(frames_NCHW, plans, counts)
    there = frames_NCHW.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = apply(there, plans, counts)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    levels = (result.cpu().int() - expected.int()).abs()
    # sines and fused multiplications may differ in the last bit of a double
    assert (levels > 0).double().mean() < 1e-4
