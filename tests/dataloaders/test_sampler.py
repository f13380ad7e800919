from itertools import chain

import numpy as np
import pytest

from tvr.dataloaders.sampler import RankSampler, global_batches
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
    expected = [[(5, i) for i in row] for row in global_batches(50, 12, 1, 5).tolist()]
    ranks = [RankSampler(50, 12 // world_size, r, world_size, 1, 5) for r in range(world_size)]
    joined = [list(chain(*shares)) for shares in zip(*ranks, strict=True)]
    assert joined == expected
    assert [len(rank) for rank in ranks] == [4] * world_size


def test_less_than_one_batch():
    with pytest.raises(UserError, match=r"--batch_size 12: .* only 11 captions"):
        RankSampler(11, 6, 0, 2, 1, 0)
