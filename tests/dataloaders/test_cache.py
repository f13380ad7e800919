"""What the frame cache serves, and when it decodes: real videos, no file of the cache is harmed."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from caches import SETTINGS, lines, served, spoil
from clips import make_clip

from tvr.dataloaders import cache_store
from tvr.dataloaders.datasets import ClipDataset, PairDataset, clip_loader, pair_loader
from tvr.dataloaders.records import Caption, Clip, Split
from tvr.dataloaders.sampler import RankSampler
from tvr.dataloaders.transforms import resize_and_crop
from tvr.dataloaders.workers import checked
from tvr.utils.errors import UserError

LENGTHS = (2, 9, 30)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return [make_clip(folder / f"v{n}.mp4", n, size=(48, 64)) for n in LENGTHS]


@pytest.fixture
def clips(originals, tmp_path):
    """Three clips of 1, 3 and 4 frames, and a segment of the last; they may be changed."""
    (tmp_path / "videos").mkdir()
    paths = [Path(shutil.copy2(path, tmp_path / "videos")) for path in originals]
    return [*(Clip(path.stem, path) for path in paths), Clip("part", paths[2], 5.0, 7.0)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def split_of(clips):
    captions = [Caption(f"{c.video_id}#{k}", c.video_id, "a") for c in clips for k in range(3)]
    return Split("toy train", clips, captions)


def tokenize(texts):
    return torch.zeros(len(texts), 4, dtype=torch.int64)


@pytest.mark.parametrize("decoder", ["decord", "opencv"])
@pytest.mark.parametrize("max_frames", [1, 4, 12])
def test_served_frames_are_those_of_live_decoding(clips, folder, decoder, max_frames):
    live = replace(SETTINGS, decoder=decoder, max_frames=max_frames)
    expected = [live.read(clip) for clip in clips]
    filling = live.cached(folder)
    first = [filling.read(clip) for clip in clips]
    for clip in clips:
        spoil(clip.path)
    with pytest.raises(UserError):
        live.read(clips[0])
    second = [live.cached(folder).read(clip) for clip in clips]
    for wanted, decoded, found in zip(expected, first, second, strict=True):
        assert torch.equal(wanted, decoded)
        assert torch.equal(wanted, found)
        assert wanted.dtype == found.dtype == torch.uint8
    assert len(lines(folder)) == 4


def test_served_frames_may_be_changed_by_who_gets_them(clips, folder):
    cached = SETTINGS.cached(folder)
    expected = SETTINGS.read(clips[1])
    cached.read(clips[1])
    cached.read(clips[1]).zero_()
    assert torch.equal(cached.read(clips[1]), expected)


@pytest.mark.parametrize(
    "change", [{"framerate": 2.0}, {"max_frames": 3}, {"resolution": 16}, {"decoder": "opencv"}]
)
def test_other_settings_are_decoded_for_themselves(clips, folder, change):
    SETTINGS.cached(folder).read(clips[2])
    other = replace(SETTINGS, **change)
    cached = other.cached(folder)
    assert "0 clips with these settings, 1 entries with others" in cached.cache.describe()
    assert torch.equal(cached.read(clips[2]), other.read(clips[2]))
    assert len(lines(folder)) == 2
    for settings in (SETTINGS, other):
        assert torch.equal(served(folder, [clips[2]], settings)[0], settings.read(clips[2]))


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (cache_store, "PIXELS", 0),
        (cache_store, "_version", lambda package: "0"),
        (cache_store.cv2, "__version__", "0"),
        (cache_store.platform, "machine", lambda: "another"),
    ],
)
def test_entries_of_another_machine_do_not_match(clips, folder, monkeypatch, owner, name, value):
    SETTINGS.cached(folder).read(clips[0])
    with monkeypatch.context() as other:
        other.setattr(owner, name, value)
        assert served(folder, [clips[0]]) == [None]
    assert served(folder, [clips[0]])[0] is not None


def test_code_that_changes_pixels_raises_the_version():
    """Where this fails, `PIXELS` in cache_store.py is to be raised along with these numbers."""
    y, x = torch.meshgrid(torch.arange(90), torch.arange(120), indexing="ij")
    picture_CHW = torch.stack([x * y % 251, 7 * x % 256, 5 * y % 253]).to(torch.uint8)
    pixels = resize_and_crop(picture_CHW[None], 64).to(torch.int64)
    weights = torch.arange(1, pixels.numel() + 1).view_as(pixels)
    assert (cache_store.PIXELS, int((pixels * weights).sum())) == (2, 9258618619)


def test_a_replaced_file_is_decoded_anew(clips, folder):
    cached = SETTINGS.cached(folder)
    old = cached.read(clips[1])
    shutil.copy(clips[2].path, clips[1].path)
    new = cached.read(clips[1])
    assert torch.equal(new, SETTINGS.read(clips[2]))
    assert not torch.equal(new, old)


def test_a_file_of_another_size_is_decoded_anew(clips, folder):
    """The time is the same, as it may be where files are unpacked from an archive."""
    cached = SETTINGS.cached(folder)
    cached.read(clips[1])
    stat = clips[1].path.stat()
    shutil.copy(clips[2].path, clips[1].path)
    os.utime(clips[1].path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert torch.equal(cached.read(clips[1]), SETTINGS.read(clips[2]))


def test_a_file_of_another_time_is_decoded_anew(clips, folder):
    """The size is the same, as it may be where a few bytes were changed."""
    cached = SETTINGS.cached(folder)
    cached.read(clips[1])
    stat = clips[1].path.stat()
    spoil(clips[1].path)
    os.utime(clips[1].path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(UserError, match=r"v9\.mp4: "):
        cached.read(clips[1])


def test_a_file_of_the_same_name_elsewhere_is_another_one(clips, folder, tmp_path):
    cached = SETTINGS.cached(folder)
    cached.read(clips[1])
    elsewhere = tmp_path / "elsewhere" / clips[1].path.name
    elsewhere.parent.mkdir()
    shutil.copy2(clips[1].path, elsewhere)
    spoil(elsewhere)
    with pytest.raises(UserError, match=r"elsewhere/v9\.mp4: "):
        cached.read(Clip("v9", elsewhere))


def test_a_file_is_the_same_by_whatever_way_it_is_reached(clips, folder, tmp_path, monkeypatch):
    SETTINGS.cached(folder).read(clips[1])
    (tmp_path / "link").symlink_to(clips[1].path.parent)
    monkeypatch.chdir(tmp_path)
    ways = (tmp_path / "link/v9.mp4", clips[1].path.relative_to(tmp_path))
    assert None not in served(folder, [Clip("v9", way) for way in ways])


def test_names_that_are_not_utf8(clips, folder):
    path = clips[1].path.rename(os.fsdecode(os.fsencode(clips[1].path.parent) + b"/\xff\n.mp4"))
    SETTINGS.cached(folder).read(Clip("odd", path))
    assert torch.equal(served(folder, [Clip("odd", path)])[0], SETTINGS.read(Clip("odd", path)))


def test_a_file_that_changes_while_it_is_decoded_is_not_kept(clips, folder):
    cache = SETTINGS.cached(folder).cache

    def decode(clip):
        fresh = SETTINGS.fresh(clip)
        shutil.copy(clips[2].path, clip.path)
        return fresh

    with pytest.raises(UserError, match=r"v9\.mp4: the video file changed"):
        cache.fill(clips[1], decode)
    shutil.copy(clips[0].path, clips[1].path)
    cache.read(clips[1], decode)
    assert lines(folder) == []
    assert torch.equal(SETTINGS.cached(folder).read(clips[1]), SETTINGS.read(clips[2]))


def test_what_cannot_be_read_is_an_error_every_time(clips, folder):
    spoil(clips[0].path)
    clips[1].path.unlink()
    for _ in range(2):
        cached = SETTINGS.cached(folder)
        with pytest.raises(UserError, match=r"v2\.mp4: the video file holds no video"):
            cached.read(clips[0])
        with pytest.raises(UserError, match=r"v9\.mp4: the video file is not there"):
            cached.read(clips[1])
    assert lines(folder) == []


def epoch(dataset, workers):
    sampler = RankSampler(dataset.video_of_caption, 4, 0, 1, 5, range(1))
    return list(checked(pair_loader(dataset, sampler, workers, False)))


def same(first, second) -> bool:
    pairs = zip(first.tensors(), second.tensors(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_share_it(clips, folder, workers):
    """Three captions a clip: what one process has decoded the others are served."""
    split = split_of(clips)
    expected = epoch(PairDataset(split, SETTINGS, tokenize, None, 5), 0)
    cached = PairDataset(split, SETTINGS.cached(folder), tokenize, None, 5)
    for _ in range(2):
        found = epoch(cached, workers)
        assert all(same(a, b) for a, b in zip(expected, found, strict=True))
        # the second time from the cache alone, filled by processes that have ended
        for clip in clips:
            spoil(clip.path)
    assert all(frames is not None for frames in served(folder, clips))


def test_a_process_does_not_write_what_the_one_before_the_fork_does(clips, folder):
    """Parent and children have written, and go on: each to files of its own."""
    cached = SETTINGS.cached(folder)
    expected = [SETTINGS.read(clip) for clip in clips]
    cached.read(clips[0])
    list(checked(clip_loader(ClipDataset(split_of(clips[1:2]), cached), [[0]], 1, False)))
    cached.read(clips[2])
    list(checked(clip_loader(ClipDataset(split_of(clips[3:]), cached), [[0]], 1, False)))
    assert len(list(folder.glob("*.frames"))) == 3
    for wanted, found in zip(expected, served(folder, clips), strict=True):
        assert torch.equal(wanted, found)


def test_a_spawned_process_gets_it(clips, folder):
    expected = SETTINGS.read(clips[0]), SETTINGS.read(clips[1])
    cached = SETTINGS.cached(folder)
    cached.read(clips[0])
    spoil(clips[0].path)
    cached.read(clips[0])  # and has the file mapped
    loader = clip_loader(ClipDataset(split_of(clips[:2]), cached), [[0], [1]], 1, False)
    loader.multiprocessing_context = "spawn"
    for wanted, batch in zip(expected, checked(loader), strict=True):
        assert torch.equal(batch.frames_NCHW, wanted)
    assert len(lines(folder)) == 2


def test_news_say_what_was_added(clips, folder):
    cached = SETTINGS.cached(folder)
    assert cached.cache.news() == ([], [])
    list(checked(clip_loader(ClipDataset(split_of(clips), cached), [[0, 1], [2]], 2, False)))
    assert cached.cache.news() == ([f"frame cache {folder}: 3 entries added"], [])
    assert cached.cache.news() == ([], [])
    assert "3 clips with these settings; 0.0 MB" in cached.cache.describe()
