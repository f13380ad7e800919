"""Files cut off or changed at random places: what is read of them is right, or refused."""

import shutil

import pytest
import torch
from caches import served
from clips import make_clip
from small_index import folder_of_clips, opened, same, update, write_checkpoint

from tvr.checkpoint import read_checkpoint, read_state
from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.records import Clip
from tvr.utils.errors import UserError

SETTINGS = FrameSettings(framerate=1.0, max_frames=4, resolution=32, decoder="decord")


def damage(path, chance):
    """Cuts a file off, or changes a bit, a byte or a block of it; says which."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(("cut off", "a bit", "a byte", "a block", "zeros"))
    # every other place is near an end, where headers and tables are
    near = min(len(content), 2048)
    place = chance.choice((chance.randrange(len(content)), chance.randrange(near), -1))
    place = len(content) - 1 - chance.randrange(near) if place < 0 else place
    if kind == "cut off":
        del content[place:]
    elif kind == "a bit":
        content[place] ^= 1 << chance.randrange(8)
    elif kind == "a byte":
        content[place] = chance.randrange(256)
    else:
        length = min(chance.randrange(1, 5000), len(content) - place)
        block = bytes(length) if kind == "zeros" else chance.randbytes(length)
        content[place : place + length] = block
    path.write_bytes(content)
    return kind


def equal(one, other):
    """Whether nested containers hold the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_states_and_checkpoints(tmp_path, trials):
    small = {"a": torch.randn(40, 30), "b.c": torch.arange(7)}
    moments = [{"step": torch.tensor(3.0), "exp_avg": torch.randn(40, 30)} for _ in range(20)]
    facts = {"config": {"lr": 1e-3}, "circumstances": {}, "data": "0f", "moments": moments}
    content = {"format": 1, "model": small, "settings": {}, **facts, "position": {"step": 3}}
    whole, damaged = tmp_path / "whole.pt", tmp_path / "damaged.pt"
    torch.save(content, whole)
    assert equal(read_state(whole), content)
    for trial in trials("saved state, damage", short=100, long=2000):
        shutil.copy(whole, damaged)
        kind = damage(damaged, trial.chance)
        read = trial.chance.choice((read_checkpoint, read_state))
        try:
            # what is not refused may only have changed between the values
            if not equal(read(damaged), content):
                trial.lost.append(f"{kind}: another value was read")
            trial.interrupted.append("without effect")
        except UserError:
            trial.interrupted.append(f"{kind} refused")
        except Exception as error:
            trial.lost.append(f"{kind}: {error!r}")


def test_frame_cache(tmp_path, trials):
    clips = [Clip(str(i), make_clip(tmp_path / f"{i}.mp4", 3 * i, size=(48, 64))) for i in (1, 2)]
    clips += [Clip(str(i), make_clip(tmp_path / f"{i}.mp4", 3 * i, size=(48, 64))) for i in (3, 4)]
    live = [SETTINGS.read(clip) for clip in clips]
    cached = SETTINGS.cached(tmp_path / "whole")
    for clip_, frames_FCHW in zip(clips, live, strict=True):
        assert torch.equal(cached.read(clip_), frames_FCHW)
    for trial in trials("frame cache, damage", short=50, long=1000):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / str(trial.number))
        files = sorted((*folder.glob("*.frames"), *folder.glob("*.index")))
        kind = damage(trial.chance.choice(files), trial.chance)
        found = served(folder, clips, SETTINGS)
        left = [f is None for f in found]
        trial.interrupted.append(f"{kind} noticed" if any(left) else f"{kind} without effect")
        pairs = zip(found, live, strict=True)
        if not all(f is None or torch.equal(f, frames_FCHW) for f, frames_FCHW in pairs):
            trial.lost.append(f"{kind}: other frames were served")
        again = SETTINGS.cached(folder)
        if not all(torch.equal(again.read(c), f) for c, f in zip(clips, live, strict=True)):
            trial.lost.append(f"{kind}: other frames were served after repair")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Videos, a model, and their index."""
    folder = tmp_path_factory.mktemp("indexed")
    videos = folder_of_clips(folder / "videos")
    model = opened(write_checkpoint(folder / "model.pt"))
    update(videos, folder / "index", model)
    return videos, model, folder / "index"


def test_index(indexed, tmp_path, trials):
    videos, model, whole = indexed
    for trial in trials("index, damage", short=15, long=300):
        folder = shutil.copytree(whole, tmp_path / str(trial.number))
        files = sorted(path for path in folder.iterdir() if path.suffix not in (".csv", ".lock"))
        path = trial.chance.choice(files)
        kind = f"{path.name.partition('-')[0]}: {damage(path, trial.chance)}"
        try:
            same(folder, whole)
            trial.interrupted.append("without effect")
        except UserError:
            trial.interrupted.append("refused")
        except Exception as error:
            trial.lost.append(f"{kind}: {error!r}")
        try:
            update(videos, folder, model)
            same(folder, whole)
        except UserError as error:
            # a digit may have changed to another version's, of which nothing is overwritten
            if "index version" not in str(error):
                trial.lost.append(f"{kind}: after indexing again: {error}")
        except Exception as error:
            trial.lost.append(f"{kind}: after indexing again: {error!r}")
        shutil.rmtree(folder)
