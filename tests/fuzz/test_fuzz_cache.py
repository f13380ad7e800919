"""A frame cache whose files somebody else wrote, their checksums right or wrong."""

from pathlib import Path
from zlib import crc32

import pytest
import torch
from child import filled
from hostile import damaged
from hypothesis import given
from hypothesis import strategies as st

from tvr.dataloaders.cache_store import FrameCache, Fresh
from tvr.dataloaders.records import Clip

FRAMES_FCHW = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
DECODED_FCHW = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
NUMBERS = tuple(str(n).encode() for n in (0, 1, 95, 96, 97, 9999, 10**14, 10**15 - 1))


def opened(folder):
    return FrameCache(folder, 1.0, 2, 4, "opencv")


def made_up(folder):
    """A clip, and the files of a cache that has it, by name."""
    video, cache = folder / "0.mp4", folder / "cache"
    video.touch()
    opened(cache).read(Clip("0", video), lambda clip: Fresh(FRAMES_FCHW))
    return video, {path.name: path.read_bytes() for path in cache.iterdir()}


def read(folder, video=None, files=None):
    """Serve the clip: the frames that are kept, or others if they cannot be."""
    if files is None:
        return
    frames = opened(filled(folder / "cache", files))
    served_FCHW = frames.read(Clip("0", video), lambda clip: Fresh(DECODED_FCHW))
    assert any(torch.equal(served_FCHW, known) for known in (FRAMES_FCHW, DECODED_FCHW))
    assert frames.describe()
    frames.news()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def reader(child):
    return child("frame cache", read)


@st.composite
def lines(draw, content):
    """The index with another entry, whose own checksum is right."""
    header, line, _ = content.split(b"\n")
    key, offset, frames, crc, replaces, _ = line.split()
    offset, frames = draw(st.sampled_from((offset, *NUMBERS))), draw(st.sampled_from(NUMBERS))
    line = b" ".join((key, offset, frames[:4], crc, replaces))
    return b"%b\n%b %08x\n" % (header, line, crc32(line))


def test_a_whole_cache_serves_what_was_kept(made, tmp_path):
    video, files = made
    assert sorted(Path(name).suffix for name in files) == ["", ".frames", ".index"]
    cache = opened(filled(tmp_path / "cache", files))
    assert torch.equal(cache.read(Clip("0", video), lambda clip: None), FRAMES_FCHW)


@given(data=st.data())
def test_caches_serve_what_was_kept_or_decode_anew(reader, made, data):
    video, files = made
    name = data.draw(st.sampled_from(sorted(files)))
    ways = [damaged(files[name])] + [lines(files[name])] * name.endswith(".index")
    reader.judge(video, {**files, name: data.draw(st.one_of(ways))})
