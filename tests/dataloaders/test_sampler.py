from itertools import chain

import numpy as np
import pytest

from tvr.dataloaders.sampler import Key, RankSampler, global_batches
from tvr.utils.errors import UserError


def test_every_index_at_most_once_and_the_rest_dropped():
    batches = global_batches(50, 12, seed=1, epoch=0)
    assert batches.shape == (4, 12)
    assert len(set(batches.ravel())) == 48
    assert batches.min() >= 0
    assert batches.max() < 50


def test_order_depends_on_seed_and_epoch():
    first = global_batches(50, 12, 1, 0)
    assert np.array_equal(first, global_batches(50, 12, 1, 0))
    assert not np.array_equal(first, global_batches(50, 12, 1, 1))
    assert not np.array_equal(first, global_batches(50, 12, 2, 0))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_together_see_the_batches_of_one_process(world_size):
    joined, lengths = together(np.arange(50), world_size, range(5, 8))
    expected = [
        [Key(epoch, i, i) for i in row]
        for epoch in (5, 6, 7)
        for row in global_batches(50, 12, 1, epoch).tolist()
    ]
    assert joined == expected
    assert lengths == [12] * world_size


def together(video_of_caption, world_size, epochs):
    """The keys of all ranks put together, and how many batches each rank announces."""
    ranks = [
        RankSampler(video_of_caption, 12 // world_size, r, world_size, 1, epochs)
        for r in range(world_size)
    ]
    joined = [list(chain(*shares)) for shares in zip(*ranks, strict=True)]
    return joined, [len(rank) for rank in ranks]


@pytest.mark.parametrize("world_size", [1, 3])
def test_captions_of_one_video_are_augmented_alike_in_a_batch(world_size):
    video_of_caption = [caption // 5 for caption in range(50)]
    joined, _ = together(video_of_caption, world_size, range(2))
    shared = 0
    for batch in joined:
        first = {}
        for key in batch:
            assert key.drawn_by == first.setdefault(video_of_caption[key.caption], key.caption)
            shared += key.drawn_by != key.caption
    assert shared


def test_less_than_one_batch():
    with pytest.raises(UserError, match=r"--batch_size 12: .* only 11 captions"):
        RankSampler(range(11), 6, 0, 2, 1, range(1))
