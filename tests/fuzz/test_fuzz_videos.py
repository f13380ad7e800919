"""Damaged videos, read with either decoder in a process that a crash of theirs may end."""

import importlib
from contextlib import suppress

import pytest
from clips import H264, make_clip
from hostile import damaged
from hypothesis import given
from hypothesis import strategies as st

from tvr.dataloaders.frames import DECODERS, read_frames

VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
KINDS = {"a.mp4": H264, "b.mkv": H264, "c.avi": ("-c:v", "mpeg4"), "d.webm": VP8}


def read(folder, name=None, content=b"", decoder="opencv"):
    if name is None:
        # its first import changes PATH, which no video may
        with suppress(ImportError):
            importlib.import_module("decord")
        return
    path = folder / name
    path.write_bytes(content)
    frames_FHWC = read_frames(path, 1.0, 3, decoder=decoder)
    assert 1 <= len(frames_FHWC) <= 3
    assert frames_FHWC.shape[3] == 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Small clips of several kinds, by name."""
    folder = tmp_path_factory.mktemp("made")
    for name, encode in KINDS.items():
        make_clip(folder / name, 4, "2", (48, 64), encode)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", params=DECODERS)
def reader(request, child):
    return child(f"video: {request.param}", read)


@given(data=st.data())
def test_videos_are_read_or_refused(reader, made, data):
    name = data.draw(st.sampled_from(sorted(made)))
    reader.judge(name, data.draw(damaged(made[name])), reader.name.split(": ")[1])
