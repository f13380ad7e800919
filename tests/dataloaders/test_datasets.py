import pytest
import torch
from clips import make_clip

from tvr.dataloaders.datasets import (
    ClipBatch,
    ClipDataset,
    FrameSettings,
    PairBatch,
    PairDataset,
    clip_loader,
    train_loader,
)
from tvr.dataloaders.records import Caption, Clip, Split
from tvr.dataloaders.transforms import RAND_AUGMENT
from tvr.dataloaders.workers import checked
from tvr.utils.errors import UserError

SETTINGS = FrameSettings(framerate=1.0, max_frames=4, resolution=32, decoder="decord")
LENGTHS = (2, 9, 30)


def tokenize(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[ord(letter) for letter in text.ljust(8)] for text in texts])


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Three clips of 1, 3 and 10 sampled frames, with three captions each."""
    folder = tmp_path_factory.mktemp("clips")
    clips = [Clip(f"v{n}", make_clip(folder / f"v{n}.mp4", n, size=(48, 64))) for n in LENGTHS]
    captions = [
        Caption(f"{c.video_id}#{k}", c.video_id, f"{c.video_id}-{k}")
        for c in clips
        for k in range(3)
    ]
    return Split("toy train", clips, captions)


def epoch_of(split, rank=0, world_size=1, epoch=0, workers=0, augment=RAND_AUGMENT, seed=5):
    dataset = PairDataset(split, SETTINGS, tokenize, augment, seed)
    loader = train_loader(dataset, 4 // world_size, rank, world_size, seed, epoch, workers, False)
    assert len(loader) == 2
    return list(checked(loader))


def fields(batch):
    return list(vars(batch).values())


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(fields(first), fields(second), strict=True))


def test_pair_batch(split):
    batches = epoch_of(split, augment=None)
    assert len(batches) == 2
    for batch in batches:
        assert isinstance(batch, PairBatch)
        assert batch.frames_BFCHW.shape == (4, 4, 3, 32, 32)
        assert batch.frames_BFCHW.dtype == torch.uint8
        assert batch.frame_mask_BF.dtype == torch.bool
        assert {t.dtype for t in (batch.tokens_BL, batch.video_B, batch.caption_B)} == {torch.int64}
        # three captions a clip, in the order of the clips
        assert torch.equal(batch.video_B, batch.caption_B // 3)
        assert batch.frame_mask_BF.sum(1).tolist() == [(1, 3, 4)[v] for v in batch.video_B]
        assert (batch.frames_BFCHW[~batch.frame_mask_BF] == 0).all()
        assert (batch.frames_BFCHW[batch.frame_mask_BF].flatten(1).amax(1) > 0).all()
        texts = [split.captions[i].text for i in batch.caption_B]
        assert torch.equal(batch.tokens_BL, tokenize(texts))
    captions = torch.cat([batch.caption_B for batch in batches]).tolist()
    assert len(set(captions)) == 8


def test_the_same_whatever_the_workers(split):
    alone = epoch_of(split)
    for workers in (1, 2):
        others = epoch_of(split, workers=workers)
        assert all(same(a, b) for a, b in zip(alone, others, strict=True))


def test_ranks_together_are_one_process(split):
    alone = epoch_of(split)
    ranks = [epoch_of(split, rank, 2) for rank in range(2)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        joined = [torch.cat(parts) for parts in zip(*map(fields, shares), strict=True)]
        assert same(batch, PairBatch(*joined))


def test_augmentation_is_decided_by_seed_epoch_and_index(split):
    dataset = PairDataset(split, SETTINGS, tokenize, RAND_AUGMENT, 5)
    plain = PairDataset(split, SETTINGS, tokenize, None, 5)[0, 8][1]
    draws = [dataset[epoch, 8][1] for epoch in range(8)]
    assert torch.equal(draws[3], dataset[3, 8][1])
    assert any(not torch.equal(draw, plain) for draw in draws)
    assert any(not torch.equal(draw, draws[0]) for draw in draws)
    reseeded = PairDataset(split, SETTINGS, tokenize, RAND_AUGMENT, 6)
    assert any(not torch.equal(reseeded[e, 8][1], draws[e]) for e in range(8))


def test_loaders_leave_the_global_generator_alone(split):
    state = torch.get_rng_state()
    epoch_of(split)
    list(checked(clip_loader(ClipDataset(split, SETTINGS), [[0]], 0, False)))
    assert torch.equal(torch.get_rng_state(), state)


def test_clip_batches_as_given(split):
    loader = clip_loader(ClipDataset(split, SETTINGS), [[2, 0], [1]], 2, False)
    batches = list(checked(loader))
    assert [batch.video_B.tolist() for batch in batches] == [[2, 0], [1]]
    assert [batch.frame_mask_BF.sum(1).tolist() for batch in batches] == [[4, 1], [3]]
    for batch in batches:
        assert isinstance(batch, ClipBatch)
        for frames_FCHW, mask_F, video in zip(*fields(batch), strict=True):
            assert torch.equal(frames_FCHW[mask_F], SETTINGS.read(split.clips[video]))


def test_moves_between_devices(split):
    batch = epoch_of(split)[0]
    clips = ClipBatch(batch.frames_BFCHW, batch.frame_mask_BF, batch.video_B)
    for moved in (batch.to("meta"), clips.to("meta", non_blocking=True)):
        assert {tensor.device.type for tensor in fields(moved)} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_pinned_by_the_loader(split):
    loader = clip_loader(ClipDataset(split, SETTINGS), [[0, 1]], 1, True)
    assert all(tensor.is_pinned() for tensor in fields(next(checked(loader))))


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_video_is_a_users_error(split, tmp_path, workers):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(split.clips[2].path.read_bytes()[:-500])
    clips = [*split.clips[:2], Clip("v30", broken)]
    damaged = Split("toy train", clips, split.captions)
    with pytest.raises(UserError, match=r"broken\.mp4: .* is cut off") as error:
        epoch_of(damaged, workers=workers)
    assert "Traceback" not in str(error.value)
    with pytest.raises(UserError, match=r"broken\.mp4: .* is cut off") as error:
        list(checked(clip_loader(ClipDataset(damaged, SETTINGS), [[0, 1], [2]], workers, False)))
    assert "Traceback" not in str(error.value)


def test_too_few_captions(split):
    dataset = PairDataset(split, SETTINGS, tokenize, None, 5)
    with pytest.raises(UserError, match=r"--batch_size 10: .*9 captions"):
        train_loader(dataset, 5, 0, 2, 5, 0, 0, False)
