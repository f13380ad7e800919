import pytest
import torch
from clips import make_clip

from tvr.dataloaders.augment import RAND_AUGMENT
from tvr.dataloaders.batches import ClipBatch, PairBatch
from tvr.dataloaders.datasets import (
    ClipDataset,
    FrameSettings,
    PairDataset,
    clip_loader,
    pair_loader,
)
from tvr.dataloaders.records import Caption, Clip, Split
from tvr.dataloaders.sampler import Key, RankSampler
from tvr.dataloaders.workers import checked
from tvr.utils.errors import UserError

SETTINGS = FrameSettings(framerate=1.0, max_frames=4, resolution=32, decoder="decord")
LENGTHS = (2, 9, 30)


END = 1000


def tokenize(texts: list[str]) -> torch.Tensor:
    tokens = torch.zeros(len(texts), 12, dtype=torch.long)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text) + 1] = torch.tensor([*map(ord, text), END])
    return tokens


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


def epoch_of(split, rank=0, world_size=1, epoch=0, workers=0, augment=RAND_AUGMENT, seed=5, **how):
    dataset = PairDataset(split, SETTINGS, tokenize, augment, seed, **how)
    share = 4 // world_size
    epochs = range(epoch, epoch + 1)
    sampler = RankSampler(dataset.video_of_caption, share, rank, world_size, seed, epochs)
    loader = pair_loader(dataset, sampler, workers, False)
    assert len(loader) == 2
    return list(checked(loader))


def same(first, second) -> bool:
    pairs = zip(first.tensors(), second.tensors(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def clip_of(batch, row):
    """The frames of one caption of a batch."""
    clips = batch.frames_NCHW.split(batch.frames_of_clip)
    return clips[batch.clip_B[row]]


def test_pair_batch(split):
    batches = epoch_of(split, augment=None)
    assert len(batches) == 2
    for batch in batches:
        assert isinstance(batch, PairBatch)
        assert batch.frames_NCHW.dtype == torch.uint8
        assert batch.mask_UF.dtype == torch.bool
        assert {t.dtype for t in (batch.tokens_BL, batch.video_B, batch.caption_B)} == {torch.int64}
        # three captions a clip, in the order of the clips
        assert torch.equal(batch.video_B, batch.caption_B // 3)
        assert batch.mask_UF.sum(1).tolist() == batch.frames_of_clip
        for row, video in enumerate(batch.video_B):
            assert torch.equal(clip_of(batch, row), SETTINGS.read(split.clips[video]))
        texts = [split.captions[i].text for i in batch.caption_B]
        assert torch.equal(batch.tokens_BL, tokenize(texts)[:, : batch.tokens_BL.shape[1]])
    captions = torch.cat([batch.caption_B for batch in batches]).tolist()
    assert len(set(captions)) == 8


def test_a_video_of_several_captions_is_there_once(split):
    batches = epoch_of(split)
    for batch in batches:
        assert len(batch.frames_of_clip) == len(set(batch.video_B.tolist()))
        assert len(batch.frames_NCHW) == sum(batch.frames_of_clip)
    assert any(len(batch.frames_of_clip) < len(batch.video_B) for batch in batches)


def test_tokens_end_with_the_longest_caption(split):
    keys = [Key(0, caption, caption) for caption in (0, 8)]  # texts of 4 and 5 letters
    cut = PairDataset(split, SETTINGS, tokenize, None, 5).__getitems__(keys).tokens_BL
    whole = PairDataset(split, SETTINGS, tokenize, None, 5, trim=False).__getitems__(keys).tokens_BL
    assert whole.shape == (2, 12)
    assert torch.equal(cut, whole[:, :6])
    assert (cut[1] == END).nonzero().item() == 5


def test_the_same_whatever_the_workers(split):
    alone = epoch_of(split)
    for workers in (1, 2):
        others = epoch_of(split, workers=workers)
        assert all(same(a, b) for a, b in zip(alone, others, strict=True))


def test_ranks_together_are_one_process(split):
    alone = epoch_of(split)
    ranks = [epoch_of(split, rank, 2) for rank in range(2)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert torch.equal(torch.cat([share.caption_B for share in shares]), batch.caption_B)
        rows = [(share, row) for share in shares for row in range(2)]
        for row, (share, at) in enumerate(rows):
            assert torch.equal(clip_of(share, at), clip_of(batch, row))


def test_augmentation_is_decided_by_seed_epoch_and_index(split):
    def drawn(epoch, augment=RAND_AUGMENT, seed=5):
        dataset = PairDataset(split, SETTINGS, tokenize, augment, seed)
        return dataset.__getitems__([Key(epoch, 8, 8)]).frames_NCHW

    draws = [drawn(epoch) for epoch in range(8)]
    assert torch.equal(draws[3], drawn(3))
    assert any(not torch.equal(draw, drawn(0, augment=None)) for draw in draws)
    assert any(not torch.equal(draw, draws[0]) for draw in draws)
    assert any(not torch.equal(drawn(e, seed=6), draws[e]) for e in range(8))


def test_augmentation_may_be_left_for_later(split):
    now, later = epoch_of(split), epoch_of(split, augment_later=True)
    plain = epoch_of(split, augment=None)
    for done, waiting, without in zip(now, later, plain, strict=True):
        assert torch.equal(waiting.frames_NCHW, without.frames_NCHW)
        assert same(waiting.augmented(), done)
        assert waiting.augmented().augmentation is None


@pytest.mark.parametrize("size", [1, 3, 4])
def test_chunks_put_together_are_the_batch(split, size):
    for batch in epoch_of(split):
        chunks = list(batch.chunks(size))
        assert len(chunks) == min(-(-4 // size), len(batch.frames_of_clip))
        for name in ("tokens_BL", "frames_NCHW", "mask_UF"):
            joined = torch.cat([getattr(chunk, name) for chunk in chunks])
            assert torch.equal(joined, getattr(batch, name))
        for chunk in chunks:
            assert len(chunk.frames_NCHW) == chunk.mask_UF.sum() == sum(chunk.frames_of_clip)
            assert min(len(chunk.tokens_BL), len(chunk.mask_UF)) >= 1


def test_loaders_leave_the_global_generator_alone(split):
    state = torch.get_rng_state()
    epoch_of(split)
    list(checked(clip_loader(ClipDataset(split, SETTINGS), [[0]], 0, False)))
    assert torch.equal(torch.get_rng_state(), state)


def test_clip_batches_as_given(split):
    loader = clip_loader(ClipDataset(split, SETTINGS), [[2, 0], [1]], 2, False)
    batches = list(checked(loader))
    assert [batch.video_B.tolist() for batch in batches] == [[2, 0], [1]]
    assert [batch.mask_UF.sum(1).tolist() for batch in batches] == [[4, 1], [3]]
    for batch in batches:
        assert isinstance(batch, ClipBatch)
        clips = batch.frames_NCHW.split(batch.mask_UF.sum(1).tolist())
        for frames_FCHW, video in zip(clips, batch.video_B, strict=True):
            assert torch.equal(frames_FCHW, SETTINGS.read(split.clips[video]))


def test_moves_between_devices(split):
    batch = epoch_of(split)[0]
    clips = ClipBatch(batch.frames_NCHW, batch.mask_UF, batch.video_B)
    for moved in (batch.to("meta"), clips.to("meta", non_blocking=True)):
        assert {tensor.device.type for tensor in moved.tensors()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_pinned_by_the_loader(split):
    loader = clip_loader(ClipDataset(split, SETTINGS), [[0, 1]], 1, True)
    assert all(tensor.is_pinned() for tensor in next(checked(loader)).tensors())


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
