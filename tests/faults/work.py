"""What the trials' processes do, beside training."""

import logging

from small_index import opened

from tvr.search.indexing import Indexer


def index(videos, folder, checkpoint):
    """Index the videos with a tiny model, two in a shard; a process of its own decodes."""
    model = opened(checkpoint, workers=1)
    Indexer(videos, folder, model, per_shard=2).run(logging.getLogger("tests"))
