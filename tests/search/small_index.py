"""Small real indexes: a model of random weights, short clips, and what an index holds."""

import logging
import os
from pathlib import Path

import torch
from clips import make_clip

from tvr.checkpoint import save_checkpoint
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings
from tvr.search.indexing import Indexer
from tvr.search.model import open_model
from tvr.search.store import Store

LOG = logging.getLogger("tests")
FRAMES = 3


def write_checkpoint(path, seed=0, **settings):
    """A tiny model whose every weight matters, with the settings that it was trained with."""
    torch.manual_seed(seed)
    settings = {"base_encoder": "tiny", "num_hidden_layers": 1, "temp": 3.0, **settings}
    model = GARE(build_backbone("tiny"), ModelSettings(**settings))
    for parameter in model.psi.parameters() if model.psi is not None else ():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    save_checkpoint(path, model, config={"max_words": 16, "max_frames": FRAMES})
    return path


def opened(checkpoint, workers=0, **given):
    return open_model(str(checkpoint), given, "cpu", LOG, workers=workers, batch_size_val=2)


def clip(path, seconds=2, **options):
    """A clip at 3 frames a second; clips of other lengths are other pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_clip(path, 3 * seconds, size=(64, 96), **options)


def folder_of_clips(folder):
    """Seven clips in two folders; two of them have the same name."""
    for i in range(6):
        clip(folder / f"{i}.mp4", seconds=i + 1)
    clip(folder / "more" / "0.mkv", seconds=4)
    return folder


def update(videos, index, model, per_shard=3):
    return Indexer(videos, index, model, per_shard).run(LOG)


def held(index):
    """What the index holds of each path."""
    store = Store.open(index)
    found = {}
    for row, video in enumerate(store.videos):
        features = store.features([row])
        mean_D = store.vectors.reconstruct(row)
        found[video.file.path] = (features, mean_D, store.preview(row), video.seconds)
    assert len(found) == len(store.videos)
    return found


def paths(index):
    return sorted(held(index))


def copy(video, *names):
    """Copies under names given as bytes."""
    for name in names:
        target = Path(os.fsdecode(os.path.join(os.fsencode(video.parent), name)))
        target.write_bytes(video.read_bytes())


def same(one, other, tolerance=0.0):
    """Whether two indexes hold the same, whatever their files are."""
    first, second = held(one), held(other)
    assert sorted(first) == sorted(second)
    for path, (features, mean_D, preview, seconds) in first.items():
        theirs = second[path]
        assert torch.equal(features.mask_BF, theirs[0].mask_BF)
        torch.testing.assert_close(
            features.frames_BFD, theirs[0].frames_BFD, atol=tolerance, rtol=0
        )
        assert abs(mean_D - theirs[1]).max() <= tolerance
        assert (preview, seconds) == theirs[2:]
    return True
