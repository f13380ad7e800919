"""A process that indexes, to be killed: VIDEOS INDEX CHECKPOINT, two videos a shard."""

import logging
import sys
from pathlib import Path

from tvr.search.indexing import Indexer
from tvr.search.model import open_model

if __name__ == "__main__":
    videos, index, checkpoint = sys.argv[1:]
    log = logging.getLogger("tests")
    model = open_model(checkpoint, {}, "cpu", log, workers=1, batch_size_val=2)
    Indexer(Path(videos), Path(index), model, per_shard=2).run(log)
